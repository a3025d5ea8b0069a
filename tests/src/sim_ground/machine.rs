//! A simulated machine: its clocks, and the service on it. Both outlive the agent.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use net::clock::{self, Reading};
use proto::{Digest, UnixTime};
use tokio::runtime::{self, Handle};
use tokio::time::Instant;

/// When every simulation begins, by clocks that are right.
pub(crate) const BEGIN: UnixTime = UnixTime(1_800_000_000);
/// What a machine's boot clock shows first, in milliseconds: machines did not boot together.
const BOOT_MS: u64 = 10_000;

/// One machine.
#[derive(Debug, Default)]
pub(crate) struct Machine {
    /// How far its wall clock is ahead, in milliseconds.
    skew_ms: AtomicI64,
    /// When it booted, in milliseconds of simulated time.
    booted_ms: AtomicU64,
    boots: AtomicU64,
    short_of_memory: AtomicBool,
    /// The release whose service runs.
    running: Mutex<Option<Digest>>,
}

impl Machine {
    pub(crate) fn set_skew_ms(&self, skew_ms: i64) {
        self.skew_ms.store(skew_ms, Relaxed);
    }

    /// Its clock has lost the time.
    pub(crate) fn believe_in_1970(&self) {
        self.set_skew_ms(-i64::try_from(BEGIN.0 * 1_000).expect("fits"));
    }

    pub(crate) fn set_short_of_memory(&self, short: bool) {
        self.short_of_memory.store(short, Relaxed);
    }

    pub(crate) fn is_short_of_memory(&self) -> bool {
        self.short_of_memory.load(Relaxed)
    }

    /// The power fails and comes back: nothing runs, and the boot clock starts anew.
    pub(crate) fn reboot(&self, sim_ms: u64) {
        self.booted_ms.store(sim_ms, Relaxed);
        self.boots.fetch_add(1, Relaxed);
        self.run(None);
    }

    pub(crate) fn boot_id(&self) -> String {
        format!("boot {}", self.boots.load(Relaxed))
    }

    pub(crate) fn running(&self) -> Option<Digest> {
        *self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn run(&self, release: Option<Digest>) {
        *self.running.lock().unwrap_or_else(PoisonError::into_inner) = release;
    }

    fn read(&self, sim_ms: u64) -> Reading {
        let wall_ms = BEGIN.0 * 1_000 + sim_ms;
        Reading {
            unix_ms: wall_ms.saturating_add_signed(self.skew_ms.load(Relaxed)),
            boot_ms: BOOT_MS + sim_ms.saturating_sub(self.booted_ms.load(Relaxed)),
        }
    }
}

/// A life of a process on a machine: which runtime it is, and what time it was when it began.
struct Life {
    machine: Arc<Machine>,
    began_ms: u64,
    began: Instant,
}

/// Every life of every simulation of this process. A runtime's id is never given again.
static LIVES: Mutex<Option<HashMap<runtime::Id, Life>>> = Mutex::new(None);

/// What the runtime of the caller does is done on `machine` from now on, threads that block for it
/// with it. `sim_ms`: the simulated time, in milliseconds.
pub(crate) fn inhabit(machine: Arc<Machine>, sim_ms: u64) {
    clock::simulate(read);
    let life = Life { machine, began_ms: sim_ms, began: Instant::now() };
    let mut lives = LIVES.lock().unwrap_or_else(PoisonError::into_inner);
    lives.get_or_insert_default().insert(Handle::current().id(), life);
}

/// Forgets the lives on these machines: their simulation is over.
pub(crate) fn forget(machines: &[Arc<Machine>]) {
    let mut lives = LIVES.lock().unwrap_or_else(PoisonError::into_inner);
    let of_these = |life: &Life| machines.iter().any(|one| Arc::ptr_eq(one, &life.machine));
    lives.get_or_insert_default().retain(|_, life| !of_these(life));
}

fn read() -> Option<Reading> {
    let runtime = Handle::try_current().ok()?.id();
    let lives = LIVES.lock().unwrap_or_else(PoisonError::into_inner);
    let life = lives.as_ref()?.get(&runtime)?;
    Some(life.machine.read(life.began_ms + ms(life.began.elapsed())))
}

pub(crate) fn ms(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_millis()).expect("a simulation ends before that")
}
