//! What a simulated fleet goes through: drawn from the seed, or written down by a test.

use proto::Digest;
use proto::statement::{Direction, OnFailure, Share, Window};
use rollout::plan::Stage;

use super::rng::Rng;

/// How a release behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quality {
    Good,
    /// Never gets ready, on any host.
    BadAtOnce,
    /// Serves, and turns unhealthy within the bake of the canaries, on every host.
    BadInBake,
    /// Serves, and turns unhealthy at any time, also after the bake, on every host.
    BadLate,
    /// Never gets ready on this many hosts of a thousand, serves well on the others.
    BadOn(u64),
    /// Never gets ready in this zone, serves well in the others.
    BadInZone(usize),
    /// Serves, until more than this many hosts of a thousand run it: then it fails on all of them.
    BadUnderLoad(u64),
}

impl Quality {
    /// Whether a release of this quality does not get ready on a host: the same on every try.
    pub(crate) fn never_ready(self, seed: u64, host: usize, zone: usize) -> bool {
        match self {
            Self::Good | Self::BadInBake | Self::BadLate | Self::BadUnderLoad(_) => false,
            Self::BadAtOnce => true,
            Self::BadOn(permille) => super::rng::mix(seed ^ (host as u64) << 20) % 1_000 < permille,
            Self::BadInZone(bad) => zone == bad,
        }
    }

    /// In how many milliseconds one that serves turns unhealthy, if time alone does that. `canary_ms`:
    /// the bake of the first wave.
    pub(crate) fn turns_bad_ms(self, rng: &mut Rng, canary_ms: u64) -> Option<u64> {
        match self {
            Self::Good | Self::BadAtOnce | Self::BadOn(_) | Self::BadInZone(_) => None,
            Self::BadUnderLoad(_) => None,
            Self::BadInBake => Some(rng.below(canary_ms * 9 / 10)),
            Self::BadLate => Some(rng.below(canary_ms * 3)),
        }
    }
}

/// Links that carry nothing for a while, in seconds since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut {
    pub from_s: u64,
    pub until_s: u64,
    pub between: Between,
}

/// Where a cut goes through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Between {
    /// Two halves, drawn by chance.
    Halves,
    /// The same, in one direction: one half is heard and hears nothing.
    OneWay,
    /// A zone and the rest.
    Zone(usize),
}

/// A time in which nothing gets ready in a zone, whatever release: what it leans on is down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outage {
    pub from_s: u64,
    pub until_s: u64,
    pub zone: usize,
}

/// What services are asked, and how much of it fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    /// Requests a second on each host; none: the service sleeps.
    pub rate: u64,
    /// Of a thousand requests, on any release.
    pub errors: u64,
    /// So many more on the first release of the scenario that is deployed, while more than `above`
    /// hosts of a thousand run it.
    pub worse: u64,
    pub above: u64,
    /// From and until when (seconds) so many more fail on every release.
    pub outage: Option<(u64, u64, u64)>,
}

impl Load {
    /// What may lie between the shares of errors of two releases, of a thousand.
    pub const ABOVE_PERMILLE: u32 = 10;
    /// A busy service and a release that is no worse.
    pub const WELL: Self = Self { rate: 50, errors: 2, worse: 0, above: 0, outage: None };
}

/// What a host that holds its own key and keeps no rule says: all of it well-formed and signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lie {
    /// It has committed, at once.
    Commits,
    /// The release failed here, at once.
    Fails,
    /// It is activating, for ever.
    Stalls,
    /// Nothing.
    Silent,
    /// To one half of the fleet that it committed, to the other that it failed.
    Equivocates,
    /// Something else every time.
    Babbles,
}

/// What an operator does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deed {
    Pause,
    Resume,
    Abort,
    /// Opens this wave, 0 first.
    Promote(u32),
    /// Replaces the rollout that runs by one of a new, good release.
    Deploy,
    /// Takes the last rollout's `to` back to its `from`, once it is complete.
    RollBack,
    /// A second operator signs another rollout of the same epoch.
    Clash,
    /// Brings the release of the last rollout once more, if that was stopped.
    Retry,
    /// The same, by somebody who does not know that it was stopped and signs no retry.
    Unaware,
    /// Nobody waits for this host of the last rollout any more.
    Skip(usize),
    /// Nothing new starts for so many seconds.
    Freeze(u64),
    Unfreeze,
    /// Nothing new starts on this host for so many seconds.
    Hold(usize, u64),
    /// This host is no longer one of the environment.
    Remove(usize),
    /// Another machine speaks with this host's key for so many seconds.
    Twin(usize, u64),
    /// It does no more.
    Alone(usize),
    /// Replaces the rollout that runs by another one of the same release.
    Again,
    /// Aborts the rollout that runs, if it has come to no end by then.
    GiveUp,
}

/// Everything that is decided before the first event.
#[derive(Debug, Clone)]
pub struct Scenario {
    pub seed: u64,
    /// In the cohort.
    pub hosts: usize,
    /// Hosts of the environment that were silent at plan time.
    pub outside: usize,
    pub zones: usize,
    pub stages: Vec<Stage>,
    pub max_unavailable: Share,
    /// Hosts under way at once in a rolling rollout; none: by stages.
    pub rolling: Option<Share>,
    pub windows: Vec<Window>,
    pub on_failure: OnFailure,
    /// Whether the scope ran nothing before.
    pub first: bool,
    pub quality: Quality,
    /// None: requests are not counted, checks alone decide.
    pub load: Option<Load>,
    /// When (seconds), and what.
    pub deeds: Vec<(u64, Deed)>,
    /// Messages lost and delivered twice, of a thousand.
    pub lost: u64,
    pub doubled: u64,
    pub cuts: Vec<Cut>,
    pub outages: Vec<Outage>,
    /// Hosts whose links are slow, and whose disks are, of a thousand.
    pub slow_links: u64,
    pub slow_disks: u64,
    /// How often a wall clock jumps, over the whole run.
    pub clock_steps: u64,
    /// When the first rollout expires, in seconds of a right wall clock.
    pub expires_s: Option<u64>,
    /// Hosts that lie, and how.
    pub liars: Vec<(usize, Lie)>,
    /// Crashes over the whole run, of agents and of machines.
    pub crashes: u64,
    /// Effect lists that a crash interrupts, of a thousand.
    pub interrupted: u64,
    /// Fetches and activations that fail for a reason of the host, of a thousand.
    pub host_faults: u64,
    /// When everything heals, in seconds.
    pub heals_s: u64,
}

impl Scenario {
    /// A fleet without faults that takes a good release by canary.
    pub fn calm(seed: u64, hosts: usize) -> Self {
        Self {
            seed,
            hosts,
            outside: 0,
            zones: 3,
            stages: vec![Stage::new(2.0, 20), Stage::new(25.0, 10), Stage::new(100.0, 5)],
            max_unavailable: Share::Percent(25.0),
            rolling: None,
            windows: Vec::new(),
            on_failure: OnFailure::Rollback,
            first: false,
            quality: Quality::Good,
            load: None,
            deeds: Vec::new(),
            lost: 0,
            doubled: 0,
            cuts: Vec::new(),
            outages: Vec::new(),
            slow_links: 0,
            slow_disks: 0,
            clock_steps: 0,
            expires_s: None,
            liars: Vec::new(),
            crashes: 0,
            interrupted: 0,
            host_faults: 0,
            heals_s: 1,
        }
    }

    /// A fleet that suffers: everything drawn from the seed.
    pub fn drawn(seed: u64, hosts: usize) -> Self {
        let mut rng = Rng::new(seed ^ 0x5eed);
        let zones = 1 + rng.place(4);
        let heals_s = rng.between(120, 900);
        let quality = quality(&mut rng, zones);
        let expires_s = rng.permille(100).then(|| rng.between(20, heals_s));
        let liars = liars(&mut rng, hosts);
        let rarely = |rng: &mut Rng, permille| if rng.permille(300) { permille } else { 0 };
        Self {
            seed,
            hosts,
            outside: rng.place(hosts / 8 + 1),
            zones,
            stages: stages(&mut rng),
            max_unavailable: Share::Percent([10.0, 25.0, 50.0, 100.0][rng.place(4)]),
            rolling: None,
            windows: Vec::new(),
            on_failure: match rng.permille(800) {
                true => OnFailure::Rollback,
                false => OnFailure::Pause,
            },
            first: rng.permille(200),
            quality,
            load: None,
            deeds: deeds(&mut rng, heals_s, expires_s.is_some(), &liars),
            lost: rng.below(400),
            doubled: rng.below(200),
            cuts: cuts(&mut rng, zones, heals_s),
            outages: outages(&mut rng, zones, heals_s),
            slow_links: rarely(&mut rng, 100),
            slow_disks: rarely(&mut rng, 200),
            clock_steps: rarely(&mut rng, hosts as u64 / 4 + 2),
            expires_s,
            liars,
            crashes: match rng.permille(600) {
                true => rng.below(hosts as u64 / 2 + 2),
                false => 0,
            },
            interrupted: if rng.permille(400) { rng.between(1, 10) } else { 0 },
            host_faults: if rng.permille(400) { rng.between(1, 40) } else { 0 },
            heals_s,
        }
    }

    /// The same, where people also skip, freeze, hold, remove, clone and retry, in rolling rollouts and
    /// in windows.
    pub fn ordered(seed: u64, hosts: usize) -> Self {
        let mut rng = Rng::new(seed ^ 0x0bde7);
        let mut scenario = Self::drawn(seed, hosts);
        let heals_s = scenario.heals_s;
        // Freezes and windows end by themselves; who gives up lets them.
        scenario.deeds.retain(|(_, deed)| *deed != Deed::GiveUp);
        scenario.deeds.push((heals_s + 9_000, Deed::GiveUp));
        for _ in 0..1 + rng.below(4) {
            let at = rng.below(heals_s);
            let (host, for_s) = (rng.place(hosts), rng.between(10, 900));
            scenario.deeds.push(match rng.below(8) {
                0 | 1 => (at, Deed::Skip(host)),
                2 => (at, Deed::Freeze(for_s)),
                3 => (at, Deed::Unfreeze),
                4 => (at, Deed::Hold(host, for_s)),
                5 => (at, Deed::Remove(host)),
                6 => (heals_s + at, Deed::Unaware),
                _ => (heals_s + at, Deed::Retry),
            });
        }
        if rng.permille(400) {
            let batches = [Share::Count(1), Share::Count(3), Share::Percent(10.0)];
            scenario.rolling = Some(batches[rng.place(3)]);
        }
        if rng.permille(300) {
            // A simulation starts on a Friday at 08:00, and clocks are up to an hour off.
            let windows = ["fri 08:03-09:00", "fri 09:30-10:05", "fri 10:20-24:00"];
            scenario.windows = windows.iter().map(|text| text.parse().expect("a window")).collect();
        }
        if rng.permille(300) {
            let twin = Deed::Twin(rng.place(hosts), rng.between(10, 900));
            scenario.deeds.push((rng.below(heals_s), twin));
        }
        scenario.deeds.sort_by_key(|(at, _)| *at);
        scenario
    }

    /// Services that count their requests: they sleep or are busy, an outage may make some of all fail,
    /// and the release may be worse, too, once many hosts run it.
    pub fn counted(seed: u64, hosts: usize) -> Self {
        let mut rng = Rng::new(seed ^ 0xc0de);
        let drawn = Self::drawn(seed, hosts);
        let outage = rng.permille(500).then(|| {
            let from_s = rng.below(drawn.heals_s);
            (from_s, from_s + rng.between(5, 240), rng.between(50, 1_000))
        });
        let load = Load {
            rate: [0, 2, 20, 50][rng.place(4)],
            errors: rng.below(8),
            worse: if rng.permille(400) { rng.between(20, 300) } else { 0 },
            above: rng.below(600),
            outage,
        };
        Self { load: Some(load), ..drawn }
    }

    /// Operators who deploy again, abort and roll back while steps of the rollout before are under
    /// way, hosts that take their time with them, and budgets that let most of it pass.
    pub fn hasty(seed: u64, hosts: usize) -> Self {
        let mut rng = Rng::new(seed ^ 0x4a57e);
        let mut deeds = Vec::new();
        let mut at = 0;
        for _ in 0..rng.between(1, 4) {
            at += rng.between(1, 15);
            let deed = match rng.below(6) {
                0 | 1 => Deed::Again,
                2 => Deed::Abort,
                3 => Deed::Deploy,
                _ => Deed::RollBack,
            };
            deeds.push((at, deed));
            if deed == Deed::RollBack && rng.permille(500) {
                deeds.push((at + rng.between(5, 60), Deed::Abort));
            }
        }
        if seed % 8 >= 6 {
            // The same release once more while the first step to it is under way, and away with it.
            let at = rng.between(4, 14);
            deeds = vec![(at, Deed::Again), (at + rng.below(4), Deed::Abort)];
        }
        deeds.sort_by_key(|(at, _)| *at);
        let drawn = Self::drawn(seed, hosts);
        deeds.push((drawn.heals_s + 600, Deed::GiveUp));
        let most = Some(Share::Percent(60.0));
        let wait_s = u32::try_from(rng.below(10)).expect("below 10");
        let stage = Stage { failed_max: most, unreachable_max: most, ..Stage::new(100.0, wait_s) };
        Self {
            stages: vec![stage],
            max_unavailable: Share::Percent(100.0),
            slow_disks: 700,
            outside: hosts,
            deeds,
            expires_s: None,
            liars: Vec::new(),
            // Ways back that fail are what newer rollouts find under way.
            host_faults: if rng.permille(500) { rng.between(100, 500) } else { drawn.host_faults },
            ..drawn
        }
    }

    /// The release with this number; 0 is what the scope ran before.
    pub fn release(&self, number: u64) -> Digest {
        Digest::of(format!("release {number} of {}", self.seed).as_bytes())
    }
}

fn stages(rng: &mut Rng) -> Vec<Stage> {
    let wait = |rng: &mut Rng| u32::try_from(rng.below(40)).expect("below 40");
    let mut weights = vec![1.0, 5.0, 10.0, 25.0, 50.0, 100.0];
    while weights.len() > 4 {
        weights.remove(rng.place(weights.len() - 1));
    }
    let mut stages: Vec<_> = weights.into_iter().map(|w| Stage::new(w, 1 + wait(rng))).collect();
    for stage in &mut stages {
        if rng.permille(300) {
            stage.failed_max = Some(Share::Percent(rng.below(20) as f64));
        }
        if rng.permille(300) {
            stage.unreachable_max = Some(Share::Percent(rng.below(30) as f64));
        }
    }
    stages
}

fn quality(rng: &mut Rng, zones: usize) -> Quality {
    match rng.below(9) {
        0 => Quality::BadAtOnce,
        1 => Quality::BadInBake,
        2 => Quality::BadLate,
        3 => Quality::BadOn(rng.between(5, 300)),
        4 => Quality::BadInZone(rng.place(zones)),
        5 => Quality::BadUnderLoad(rng.between(50, 800)),
        _ => Quality::Good,
    }
}

fn cuts(rng: &mut Rng, zones: usize, heals_s: u64) -> Vec<Cut> {
    let mut cuts = Vec::new();
    for _ in 0..rng.below(4) {
        let from_s = rng.below(heals_s);
        let until_s = from_s + rng.between(5, 300);
        let between = match rng.below(3) {
            0 => Between::Halves,
            1 => Between::OneWay,
            _ => Between::Zone(rng.place(zones)),
        };
        cuts.push(Cut { from_s, until_s, between });
    }
    cuts
}

fn outages(rng: &mut Rng, zones: usize, heals_s: u64) -> Vec<Outage> {
    let mut outages = Vec::new();
    for _ in 0..rng.below(6).saturating_sub(3) {
        let from_s = rng.below(heals_s);
        let until_s = from_s + rng.between(2, 200);
        outages.push(Outage { from_s, until_s, zone: rng.place(zones) });
    }
    outages
}

/// Up to one host in a hundred; at least one in small fleets, where there are any.
fn liars(rng: &mut Rng, hosts: usize) -> Vec<(usize, Lie)> {
    if hosts < 3 || !rng.permille(250) {
        return Vec::new();
    }
    let lie = |rng: &mut Rng| match rng.below(6) {
        0 => Lie::Commits,
        1 => Lie::Fails,
        2 => Lie::Stalls,
        3 => Lie::Silent,
        4 => Lie::Equivocates,
        _ => Lie::Babbles,
    };
    (0..1 + rng.place(hosts / 100 + 1)).map(|_| (rng.place(hosts), lie(rng))).collect()
}

fn deeds(rng: &mut Rng, heals_s: u64, expires: bool, liars: &[(usize, Lie)]) -> Vec<(u64, Deed)> {
    let mut deeds = Vec::new();
    if rng.permille(300) {
        let at = rng.below(heals_s);
        deeds.push((at, Deed::Pause));
        deeds.push((at + rng.between(5, 200), Deed::Resume));
    }
    if rng.permille(200) {
        let wave = u32::try_from(rng.below(4)).expect("below 4");
        deeds.push((rng.below(heals_s), Deed::Promote(wave)));
    }
    match rng.below(11) {
        0 => deeds.push((rng.below(heals_s), Deed::Abort)),
        1 | 2 => deeds.push((rng.below(heals_s), Deed::Deploy)),
        3 => {
            let at = rng.below(heals_s / 2);
            deeds.extend([(at, Deed::Clash), (at + rng.between(20, 200), Deed::Deploy)]);
        }
        4 => deeds.push((rng.between(heals_s / 2, heals_s + 300), Deed::RollBack)),
        5 => deeds.push((rng.below(heals_s / 2), Deed::Again)),
        _ => {}
    }
    if expires {
        // What has expired is held until somebody deploys again.
        deeds.push((heals_s + 30, Deed::Deploy));
    }
    // One host that lies holds a rollout up for as long as people let it.
    deeds.extend(liars.iter().map(|(host, _)| (heals_s + 300, Deed::Skip(*host))));
    // Then those that catch up wait for it, until it is gone.
    deeds.extend(liars.iter().map(|(host, _)| (heals_s + 900, Deed::Remove(*host))));
    // So does one that could not go back.
    deeds.push((heals_s + 600, Deed::GiveUp));
    deeds.sort_by_key(|(at, _)| *at);
    deeds
}

/// The direction of a rollout that a deed starts.
pub(super) fn direction(deed: Deed) -> Direction {
    match deed {
        Deed::RollBack => Direction::Rollback,
        _ => Direction::Forward,
    }
}
