//! Traffic to the demo service: one thread per host asks again and again and notes every answer.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Between two requests to one host.
const INTERVAL: Duration = Duration::from_millis(10);
/// Longest wait for one answer.
const TIMEOUT: Duration = Duration::from_secs(2);

/// One answer: when it was whole, from whom, and the version that answered; none: no good answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    pub at: Instant,
    pub host: Ipv4Addr,
    pub version: Option<String>,
}

/// Traffic that runs until it is dropped.
#[derive(Debug)]
pub struct Traffic {
    samples: Arc<Mutex<Vec<Sample>>>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Traffic {
    /// Asks port 8080 of each host.
    pub fn start(hosts: impl IntoIterator<Item = Ipv4Addr>) -> Self {
        let samples = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let threads = hosts
            .into_iter()
            .map(|host| {
                let (samples, stop) = (samples.clone(), stop.clone());
                std::thread::spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        let version = ask(host);
                        let sample = Sample { at: Instant::now(), host, version };
                        samples.lock().expect("no thread panics with it").push(sample);
                        std::thread::sleep(INTERVAL);
                    }
                })
            })
            .collect();
        Self { samples, stop, threads }
    }

    /// Every sample so far.
    pub fn samples(&self) -> Vec<Sample> {
        self.samples.lock().expect("no thread panics with it").clone()
    }

    /// What each host answered last, in the order of their addresses.
    pub fn latest(&self) -> std::collections::BTreeMap<Ipv4Addr, Option<String>> {
        self.samples().into_iter().map(|sample| (sample.host, sample.version)).collect()
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// The version that answers at `host`; none for anything but a good answer.
pub fn ask(host: Ipv4Addr) -> Option<String> {
    let address = SocketAddr::from((host, 8080));
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT).ok()?;
    stream.set_read_timeout(Some(TIMEOUT)).ok()?;
    stream.write_all(b"GET / HTTP/1.1\r\nhost: demo\r\nconnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.take(64 << 10).read_to_string(&mut answer).ok()?;
    if !answer.starts_with("HTTP/1.1 200") {
        return None;
    }
    let body = answer.split_once("\r\n\r\n")?.1;
    let value: serde_json::Value = serde_json::from_str(body).ok()?;
    Some(value["version"].as_str()?.to_owned())
}
