//! What a simulated fleet goes through: drawn from the seed, or written down by a test.

use crate::sim::Rng;

/// What happens besides lost and late messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Story {
    /// Nothing.
    Calm,
    /// Some hosts are cut off from the others for a while, in the middle of the rollout.
    Partition,
    /// The coordinator's machine is gone from the start of the rollout, for good.
    CoordinatorGone,
    /// The agent of the canary is killed in its bake, and another one later; both come back.
    AgentsKilled,
    /// The canary's machine loses power in its bake, and comes back.
    PowerCut,
    /// The release never starts, or fails within the canary's bake.
    BadRelease,
    /// A member's certificate has expired, and its agent and the coordinator are started anew and
    /// gone. A stranger whose certificate has expired knocks; a newcomer with a good one joins.
    Certificates,
    /// A machine believes that it is 1970, until somebody mends that.
    LostClock,
    /// A machine that bakes the release goes down and comes back believing that it is 1970. Meanwhile
    /// the rollout is aborted.
    ClockLostLater,
    /// The root expires in the canary's bake, and is renewed later. No agent is started anew.
    RootRenewed,
    /// No host has memory left to start anything, for some time.
    ShortOfMemory,
    /// After the rollout a disk loses a part of the release that it left, which is the way back.
    Rot,
}

impl Story {
    pub const ALL: [Self; 12] = [
        Self::Calm,
        Self::Partition,
        Self::CoordinatorGone,
        Self::AgentsKilled,
        Self::PowerCut,
        Self::BadRelease,
        Self::Certificates,
        Self::LostClock,
        Self::ClockLostLater,
        Self::RootRenewed,
        Self::ShortOfMemory,
        Self::Rot,
    ];
}

/// Everything that is decided before the first step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scenario {
    pub seed: u64,
    pub story: Story,
    /// In the environment; 5 to 20.
    pub hosts: usize,
    pub zones: usize,
    /// Datagrams lost, of a thousand.
    pub lost_permille: u64,
    /// Longest way of a datagram, in milliseconds.
    pub latency_ms: u64,
}

impl Scenario {
    /// Story after story with the seed; size and network drawn from it.
    pub fn drawn(seed: u64) -> Self {
        let mut rng = Rng::new(seed ^ 0x7e70);
        let stories = Story::ALL.len() as u64;
        let story = Story::ALL[usize::try_from(seed % stories).expect("a place in a short list")];
        Self {
            seed,
            story,
            hosts: 5 + rng.place(16),
            zones: 1 + rng.place(3),
            lost_permille: rng.below(60),
            latency_ms: rng.between(2, 60),
        }
    }

    /// As drawn, but of this story and size.
    pub fn of(story: Story, hosts: usize, seed: u64) -> Self {
        Self { story, hosts, ..Self::drawn(seed) }
    }
}
