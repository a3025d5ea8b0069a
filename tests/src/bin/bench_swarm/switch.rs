//! The switch of long lines: a TAP device in each host's namespace, and one thread that carries frames
//! between them as [`Wire`] says. For kernels without netem; how fast hosts send is limited in their
//! namespaces, as on a short line.

use std::io::{self, ErrorKind};
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::setpriority_process;
use rustix::time::{ClockId, clock_gettime};
use tappers::{Interface, Tap};

use crate::wire::Wire;

/// Longest wait for frames: then it looks whether it shall end.
const WAIT: Duration = Duration::from_millis(50);
/// Frames that are taken from a host before others have their turn.
const TURN: usize = 64;
/// More than a frame has.
const FRAME_BYTES_MAX: usize = 2_048;
/// The switch is no part of what is measured: it comes first where cores are short.
const PRIORITY: i32 = -20;

/// A switch that runs until it is dropped; its devices are gone then.
pub(crate) struct Switch {
    seen: Arc<Seen>,
    thread: Option<JoinHandle<()>>,
}

/// What the thread tells.
struct Seen {
    stop: AtomicBool,
    /// By host, in bytes of frames.
    sent_bytes: Vec<AtomicU64>,
    /// What the thread has cost, in microseconds.
    cpu_us: AtomicU64,
}

/// Makes a device; it is gone when that is dropped.
pub(crate) fn tap(name: &str) -> Result<Tap> {
    let made = Interface::new(name).and_then(Tap::new_named).and_then(|mut tap| {
        tap.set_nonblocking(true)?;
        Ok(tap)
    });
    made.with_context(|| format!("cannot make TAP device {name}: is there a /dev/net/tun?"))
}

impl Switch {
    /// Begins to carry frames between devices, one a host.
    pub(crate) fn start(taps: Vec<Tap>, wire: Wire) -> Result<Self> {
        let sent_bytes = taps.iter().map(|_| AtomicU64::new(0)).collect();
        let (stop, cpu_us) = (AtomicBool::new(false), AtomicU64::new(0));
        let seen = Arc::new(Seen { stop, sent_bytes, cpu_us });
        let told = seen.clone();
        let carry = move || {
            if let Err(error) = carry(&taps, wire, &told) {
                eprintln!("bench-swarm: the switch ended: {error}");
            }
        };
        let thread = std::thread::Builder::new().name("switch".to_owned()).spawn(carry)?;
        Ok(Self { seen, thread: Some(thread) })
    }

    /// What a host has sent so far, in bytes of frames.
    pub(crate) fn sent_bytes(&self, host: usize) -> u64 {
        self.seen.sent_bytes[host].load(Ordering::Relaxed)
    }

    /// What it has cost so far, in seconds of a core.
    pub(crate) fn cpu_s(&self) -> f64 {
        self.seen.cpu_us.load(Ordering::Relaxed) as f64 / 1e6
    }

    /// Whether it still carries frames.
    pub(crate) fn works(&self) -> bool {
        self.thread.as_ref().is_some_and(|thread| !thread.is_finished())
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        self.seen.stop.store(true, Ordering::Relaxed);
        // It said itself why it ended, if it did.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn carry(taps: &[Tap], mut wire: Wire, seen: &Seen) -> io::Result<()> {
    setpriority_process(None, PRIORITY)?;
    let begun = Instant::now();
    let mut buffer = [0; FRAME_BYTES_MAX];
    while !seen.stop.load(Ordering::Relaxed) {
        while let Some((host, frame)) = wire.due(begun.elapsed()) {
            // A device that is not up takes nothing, as a host that is off.
            let _ = taps[host].send(&frame);
        }
        let wait = wire.next().map_or(WAIT, |due| due.saturating_sub(begun.elapsed()).min(WAIT));
        for host in wait_for(taps, wait)? {
            for _ in 0..TURN {
                let Some(bytes) = receive(&taps[host], &mut buffer)? else { break };
                seen.sent_bytes[host].fetch_add(bytes as u64, Ordering::Relaxed);
                wire.take(begun.elapsed(), host, &buffer[..bytes]);
            }
        }
        let cpu = clock_gettime(ClockId::ThreadCPUTime);
        seen.cpu_us.store((cpu.tv_sec * 1_000_000 + cpu.tv_nsec / 1_000) as u64, Ordering::Relaxed);
    }
    Ok(())
}

/// Waits until a host has sent something, or so long; tells the hosts that have.
fn wait_for(taps: &[Tap], wait: Duration) -> io::Result<Vec<usize>> {
    let mut polled: Vec<PollFd<'_>> =
        taps.iter().map(|tap| PollFd::from_borrowed_fd(tap.as_fd(), PollFlags::IN)).collect();
    let wait = Timespec::try_from(wait).map_err(io::Error::other)?;
    match poll(&mut polled, Some(&wait)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => {}
        Err(error) => return Err(error.into()),
    }
    let sent =
        |(host, polled): (usize, &PollFd<'_>)| (!polled.revents().is_empty()).then_some(host);
    Ok(polled.iter().enumerate().filter_map(sent).collect())
}

/// The next frame that a host has sent, if there is one, and its bytes.
fn receive(tap: &Tap, buffer: &mut [u8]) -> io::Result<Option<usize>> {
    match tap.recv(buffer) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}
