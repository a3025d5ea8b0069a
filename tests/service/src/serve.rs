//! The HTTP side.

use std::convert::Infallible;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::CONTENT_TYPE;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde::de::IntoDeserializer as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// How long the address may still be taken by the version before.
const BIND_LIMIT: Duration = Duration::from_secs(2);
/// How long answers under way may take once it is asked to stop.
const GRACE: Duration = Duration::from_secs(5);
/// How long a broken version looks well.
const BREAKS_AFTER: Duration = Duration::from_millis(500);
/// Of so many requests a flaky version answers one by 500; a strained one, under load.
const FLAKY_EVERY: u64 = 5;
const STRAINED_EVERY: u64 = 33;
/// Under load: so many requests within a second.
const LOAD_PER_S: u32 = 20;
/// How long a slow version takes for an answer; the others take no time.
const SLOW: Duration = Duration::from_millis(20);
/// Upper bounds of the buckets of latency but the last, in milliseconds.
const BOUNDS_MS: [u64; 5] = [5, 10, 25, 50, 100];
/// Connections served at once; more wait.
const CONNECTIONS_MAX: usize = 256;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Behaviour {
    Good,
    Broken,
    Flaky,
    Strained,
    Slow,
    Unready,
    Crash,
}

struct Demo {
    /// The answer to `/`.
    about: String,
    behaviour: Behaviour,
    since: Instant,
    counts: Mutex<Counts>,
}

/// Requests of `/`.
#[derive(Default)]
struct Counts {
    requests: u64,
    /// Those that were answered by 500.
    errors: u64,
    /// By how long their answers took, a bucket each.
    latency: [u64; BOUNDS_MS.len() + 1],
    latency_s: f64,
    /// When the second began that is counted now, how many came in it, and in the one before.
    second: Option<(Instant, u32, u32)>,
}

/// Serves until TERM or INT; calls `listening` once it can be reached.
#[tokio::main(flavor = "current_thread")]
pub(crate) async fn run(listening: fn()) -> Result<()> {
    let directory = release_directory()?;
    let behaviour = behaviour(&directory)?;
    if behaviour == Behaviour::Crash {
        bail!("this version crashes when it starts");
    }
    let listen = std::env::var("LISTEN").context("LISTEN is not set")?;
    let address: SocketAddr =
        listen.parse().with_context(|| format!("LISTEN={listen} is not IP:PORT"))?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for TERM")?;
    let listener = bind(address).await?;
    let about = about(&directory)?;
    let demo = Arc::new(Demo { about, behaviour, since: Instant::now(), counts: Mutex::default() });
    listening();
    let (stop, stopping) = watch::channel(false);
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            _ = terminate.recv() => break,
            _ = tokio::signal::ctrl_c() => break,
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            accepted = listener.accept(), if connections.len() < CONNECTIONS_MAX => {
                if let Ok((stream, _)) = accepted {
                    connections.spawn(serve(stream, demo.clone(), stopping.clone()));
                } else {
                    // Out of file descriptors, most likely: those in use come back.
                    sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }
    // Closed at once: a new connection belongs to the next version.
    drop(listener);
    let _ = stop.send(true);
    let rest = async { while connections.join_next().await.is_some() {} };
    if timeout(GRACE, rest).await.is_err() {
        eprintln!("answers under way took more than {} s", GRACE.as_secs());
    }
    Ok(())
}

/// Serves one connection to its end, or to the end of the answer under way once it is to stop.
async fn serve(stream: TcpStream, demo: Arc<Demo>, mut stopping: watch::Receiver<bool>) {
    let answer = service_fn(move |request| {
        let demo = demo.clone();
        async move { Ok::<_, Infallible>(demo.answer(&request).await) }
    });
    let connection =
        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answer);
    tokio::pin!(connection);
    // How a connection ends is the client's affair.
    tokio::select! {
        _ = connection.as_mut() => return,
        _ = stopping.wait_for(|stop| *stop) => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}

impl Demo {
    async fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        let asked = Instant::now();
        let path = request.uri().path();
        let fails = self.fails(path);
        if path == "/" {
            if self.behaviour == Behaviour::Slow {
                sleep(SLOW).await;
            }
            self.counts.lock().expect("never poisoned").add(asked.elapsed(), fails);
        }
        let (status, kind, body) = match path {
            _ if fails => (StatusCode::INTERNAL_SERVER_ERROR, "text/plain", "broken\n".to_owned()),
            "/" => (StatusCode::OK, "application/json", self.about.clone()),
            "/healthz" => (StatusCode::OK, "text/plain", "ok\n".to_owned()),
            "/metrics" => (StatusCode::OK, "text/plain; version=0.0.4", self.metrics()),
            _ => (StatusCode::NOT_FOUND, "text/plain", "not found\n".to_owned()),
        };
        Response::builder()
            .status(status)
            .header(CONTENT_TYPE, kind)
            .body(Full::new(body.into()))
            .expect("a status and a header that are well-formed")
    }

    /// Whether this request is one that is answered by 500.
    fn fails(&self, path: &str) -> bool {
        let (is_health, is_root) = (path == "/healthz", path == "/");
        match self.behaviour {
            Behaviour::Broken => (is_health || is_root) && self.since.elapsed() > BREAKS_AFTER,
            Behaviour::Unready => is_health,
            Behaviour::Flaky => is_root && self.is_every(FLAKY_EVERY, 0),
            Behaviour::Strained => is_root && self.is_every(STRAINED_EVERY, LOAD_PER_S),
            Behaviour::Good | Behaviour::Slow | Behaviour::Crash => false,
        }
    }

    /// Counts a request in; whether it is one of so many, and more than that came within a second.
    fn is_every(&self, every: u64, load: u32) -> bool {
        let mut counts = self.counts.lock().expect("never poisoned");
        let in_a_second = counts.in_a_second(Instant::now());
        (counts.requests + 1).is_multiple_of(every) && in_a_second > load
    }

    fn metrics(&self) -> String {
        self.counts.lock().expect("never poisoned").to_string()
    }
}

impl Counts {
    fn add(&mut self, took: Duration, failed: bool) {
        self.requests += 1;
        self.errors += u64::from(failed);
        let bucket = BOUNDS_MS.partition_point(|bound_ms| u128::from(*bound_ms) < took.as_millis());
        self.latency[bucket] += 1;
        self.latency_s += took.as_secs_f64();
    }

    /// How many came in the second of this one, with it, or in the one before if that were more.
    fn in_a_second(&mut self, now: Instant) -> u32 {
        let (began, so_far, before) = self.second.unwrap_or((now, 0, 0));
        let second = match (now - began).as_secs() {
            0 => (began, so_far + 1, before),
            1 => (now, 1, so_far),
            _ => (now, 1, 0),
        };
        self.second = Some(second);
        second.1.max(second.2)
    }
}

impl fmt::Display for Counts {
    /// In Prometheus text.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { requests, errors, latency, latency_s, .. } = self;
        let name = "http_request_duration_seconds";
        writeln!(f, "# TYPE http_requests_total counter")?;
        writeln!(f, "http_requests_total{{code=\"200\"}} {}", requests - errors)?;
        writeln!(f, "http_requests_total{{code=\"500\"}} {errors}")?;
        writeln!(f, "# TYPE {name} histogram")?;
        let mut so_far = 0;
        for (bound_ms, count) in BOUNDS_MS.iter().zip(latency) {
            so_far += count;
            let bound_s = Duration::from_millis(*bound_ms).as_secs_f64();
            writeln!(f, "{name}_bucket{{le=\"{bound_s}\"}} {so_far}")?;
        }
        writeln!(f, "{name}_bucket{{le=\"+Inf\"}} {requests}")?;
        writeln!(f, "{name}_sum {latency_s}\n{name}_count {requests}")
    }
}

async fn bind(address: SocketAddr) -> Result<TcpListener> {
    let end = Instant::now() + BIND_LIMIT;
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => return Ok(listener),
            Err(error) if Instant::now() >= end => {
                return Err(error).with_context(|| format!("cannot listen on {address}"));
            }
            Err(_) => sleep(Duration::from_millis(20)).await,
        }
    }
}

/// Where `VERSION` is: beside the program, or one directory above it.
fn release_directory() -> Result<PathBuf> {
    let program = std::env::current_exe().context("who am I?")?;
    let mut above = program.ancestors().skip(1).take(2);
    above
        .find(|directory| directory.join("VERSION").exists())
        .map(Path::to_owned)
        .with_context(|| format!("there is no VERSION beside {} or above", program.display()))
}

fn read(path: &Path) -> Result<String> {
    let text =
        std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(text.trim().to_owned())
}

fn behaviour(directory: &Path) -> Result<Behaviour> {
    let name = read(&directory.join("BEHAVIOUR"))?;
    let named: Result<_, serde::de::value::Error> =
        Behaviour::deserialize(name.as_str().into_deserializer());
    named.context("BEHAVIOUR")
}

/// Who answers, as JSON.
fn about(directory: &Path) -> Result<String> {
    let variable = |name| std::env::var(name).ok();
    let version = read(&directory.join("VERSION"))?;
    let service = variable("SWELL_SERVICE").unwrap_or_else(|| "demo".to_owned());
    let host = match variable("HOST") {
        Some(host) => host,
        None => read(Path::new("/proc/sys/kernel/hostname"))?,
    };
    let about = serde_json::json!({ "service": service, "version": version, "host": host });
    Ok(format!("{about}\n"))
}
