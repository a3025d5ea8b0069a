//! One simulated host: its clock, its disk, its service, and what it has heard.

use std::collections::VecDeque;

use proto::receipt::Receipt;
use proto::{Digest, HostId, UnixTime};
use rollout::Now;
use rollout::host::{Effect, Host, Input};

use super::driver::Given;
use super::requests::Counts;
use super::scenario::Lie;

/// The wall clock when a simulation starts.
pub(super) const EPOCH_S: u64 = 1_800_000_000;

/// An activation that has not passed its bake, as the journal on disk says.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Journal {
    pub(crate) attempt: u64,
    pub(crate) from: Option<Digest>,
    pub(crate) to: Digest,
}

/// The service of a host, as it really is: the machine only hears of it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Service {
    pub(crate) current: Option<Digest>,
    pub(crate) up: bool,
    pub(crate) journal: Option<Journal>,
    /// How the last activation ended, if not well: asked for again, it is answered again.
    pub(crate) ended: Option<(Journal, Input)>,
    /// When what was started last turns unhealthy, if it does.
    pub(crate) sick_at: Option<u64>,
    /// Ways back that failed in a row, as far as the record can tell.
    pub(crate) stuck: u32,
    /// It served since, which no record says yet.
    pub(crate) freed: bool,
    /// The rollout for which it was stopped on purpose, until it serves again.
    pub(crate) stopped_for: Option<Digest>,
}

/// The latest receipt of another host, as this one holds it.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Heard {
    /// How many of that host's receipts there were when this one was signed; 0: none.
    pub(super) version: u32,
    /// The same for the last one that is about the rollout it listens for.
    pub(super) told: u32,
    /// When something newer than the first came, or else when the host began to listen, by its own
    /// clock; and how often anything came since then.
    pub(super) at_ms: u64,
    pub(super) times: u8,
}

pub(super) struct Node {
    pub(super) id: HostId,
    /// It has no machine and says what it likes.
    pub(super) lie: Option<Lie>,
    /// None: the agent is down.
    pub(super) machine: Option<Host>,
    /// The last persisted record.
    pub(super) record: Vec<u8>,
    /// Rises with every crash: what was under way then is lost.
    pub(super) incarnation: u32,
    /// When the machine wants to be called, in simulated time.
    pub(super) wake_at: Option<u64>,
    /// Effects to be done, in order; the one that takes its time now; inputs that came meanwhile.
    pub(super) todo: VecDeque<Effect>,
    pub(super) doing: Option<Effect>,
    pub(super) inbox: VecDeque<Given>,
    pub(super) slow_link: bool,
    pub(super) slow_disk: bool,

    /// Simulated time at which its boot clock showed 0, how fast it runs, how wrong its wall is.
    pub(super) booted_at: u64,
    pub(super) ppm: u64,
    pub(super) skew_s: i64,

    /// The statements and certificates it holds, one bit each; they survive a crash.
    pub(super) holds: u64,
    /// Those its machine was told of since its start.
    pub(super) knows: u64,
    /// A clone of it is heard; and whether its machine was told so since its start.
    pub(super) twin: bool,
    pub(super) knows_twin: bool,
    pub(super) heard: Vec<Heard>,
    /// The rollout it has listened for since its start.
    pub(super) listens_for: Option<Digest>,
    /// Equal for equal knowledge of receipts (up to chance).
    pub(super) digest: u64,
    /// All receipts it ever signed.
    pub(super) signed: Vec<Receipt>,
    /// What a liar tells the other half of the fleet instead; else empty.
    pub(super) to_others: Vec<Receipt>,
    pub(super) service: Service,
    pub(super) counts: Counts,
}

impl Node {
    /// Its boot clock.
    pub(super) fn boot_ms(&self, now: u64) -> u64 {
        now.saturating_sub(self.booted_at) * self.ppm / 1_000_000
    }

    /// The first simulated time at which its boot clock shows `boot_ms`.
    pub(super) fn when(&self, boot_ms: u64) -> u64 {
        self.booted_at + (boot_ms * 1_000_000).div_ceil(self.ppm)
    }

    pub(super) fn now(&self, now: u64) -> Now {
        let unix = UnixTime((EPOCH_S + now / 1_000).saturating_add_signed(self.skew_s));
        Now { boot_ms: self.boot_ms(now), unix }
    }

    /// Forgets what it heard; what it signed itself it knows.
    pub(super) fn forget(&mut self, own: usize) {
        self.heard.fill(Heard::default());
        self.counts.forget();
        self.listens_for = None;
        (self.knows, self.knows_twin) = (0, false);
        self.digest = 0;
        let version = u32::try_from(self.signed.len()).expect("few receipts");
        self.hear(own, version);
    }

    /// For its machine: whether a clone of it is heard.
    pub(super) fn twin_told(&self) -> Given {
        let address = self.twin.then(|| ([10, 0, 0, 9], 7400).into());
        Given::Input(Input::Twin { address })
    }

    /// Takes a version of another host's receipts, if it is newer.
    pub(super) fn hear(&mut self, host: usize, version: u32) -> bool {
        let heard = &mut self.heard[host];
        if version <= heard.version {
            return false;
        }
        let term = |version| super::rng::mix((host as u64) << 32 | u64::from(version));
        self.digest = self.digest.wrapping_sub(term(heard.version)).wrapping_add(term(version));
        heard.version = version;
        true
    }

    /// Its machine is told of a version about this rollout. A receipt about another rollout than the
    /// one it listens for is no sign of life in that.
    pub(super) fn told(&mut self, of: usize, version: u32, about: Digest, now: u64) {
        let boot_ms = self.boot_ms(now);
        let heard = &mut self.heard[of];
        if version > heard.told && self.listens_for == Some(about) {
            heard.at_ms = if heard.times > 0 { boot_ms } else { heard.at_ms };
            (heard.told, heard.times) = (version, heard.times.saturating_add(1));
        }
    }

    /// Begins to listen anew: what it holds of others may be old.
    pub(super) fn listen(&mut self, rollout: Digest, now: u64) {
        let boot_ms = self.boot_ms(now);
        self.listens_for = Some(rollout);
        for heard in &mut self.heard {
            (heard.told, heard.at_ms, heard.times) = (0, boot_ms, 0);
        }
    }

    /// Whether it takes part in gossip.
    pub(super) fn is_up(&self) -> bool {
        self.machine.is_some() || self.lie.is_some()
    }

    /// A receipt it signed, as one of the others gets to see it.
    pub(super) fn shown(&self, version: u32, other: usize) -> &Receipt {
        let signed =
            if other % 2 == 1 && self.lie.is_some() { &self.to_others } else { &self.signed };
        &signed[version as usize - 1]
    }
}
