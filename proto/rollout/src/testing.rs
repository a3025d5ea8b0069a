//! Rollouts and receipts for this crate's tests.

use ed25519_dalek::SigningKey;
use proto::receipt::{Cause, Receipt, State};
use proto::statement::{CohortHost, Direction, OnFailure, RULES, Rollout, Target, Wave};
use proto::{Digest, HostId, KeyId, PublicKey, UnixTime};

/// The key of the host with this rank.
pub(crate) fn signing_key(rank: usize) -> SigningKey {
    SigningKey::from_bytes(Digest::of(format!("host {rank}").as_bytes()).as_bytes())
}

pub(crate) fn host_id(rank: usize) -> HostId {
    HostId::of(&PublicKey::of(&signing_key(rank)))
}

pub(crate) fn release(name: &str) -> Digest {
    Digest::of(format!("release {name}").as_bytes())
}

pub(crate) fn rollout_id(epoch: u64) -> Digest {
    Digest::of(format!("rollout {epoch}").as_bytes())
}

/// A wave of so many hosts in all, its wait, and its budgets.
pub(crate) const fn wave(hosts: u32, wait_s: u32, failed_max: u32, unreachable_max: u32) -> Wave {
    Wave { hosts, wait_s, failed_max, unreachable_max }
}

/// `web` in production from release `a` to release `b`, one zone, all may be stopped at once.
pub(crate) fn rollout(waves: &[Wave]) -> Rollout {
    let hosts = waves.last().map_or(0, |wave| wave.hosts as usize);
    let target = |name: &str| Target { release: release(name), version: name.parse().unwrap() };
    let member = |rank| CohortHost {
        id: host_id(rank),
        key: PublicKey::of(&signing_key(rank)),
        zone: "z".parse().unwrap(),
    };
    Rollout {
        fleet: "test".parse().unwrap(),
        service: "web".parse().unwrap(),
        env: "production".parse().unwrap(),
        epoch: 1,
        previous: None,
        from: Some(target("a")),
        to: target("b"),
        direction: Direction::Forward,
        rules: RULES,
        cohort: (0..hosts).map(member).collect(),
        waves: waves.to_vec(),
        max_unavailable: 1_000,
        in_flight_max: None,
        windows: Vec::new(),
        limits: None,
        retry: false,
        adopt: false,
        on_failure: OnFailure::Rollback,
        approvals: 0,
        created: UnixTime(0),
        expires: UnixTime(1_000_000),
        author: KeyId::of(&PublicKey::of(&signing_key(0))),
        reason: String::new(),
        critical: Vec::new(),
    }
}

/// What the host with this rank says in the first rollout.
pub(crate) fn receipt(rank: usize, sequence: u64, state: State, cause: Option<Cause>) -> Receipt {
    Receipt {
        rollout: rollout_id(1),
        host: host_id(rank),
        sequence,
        attempt: 1,
        state,
        cause,
        note: String::new(),
    }
}
