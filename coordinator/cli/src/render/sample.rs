//! Reports for tests: a small fleet and a rollout in it.

use proto::id::{Digest, HostId, Version};
use proto::receipt::{Cause, State};
use proto::report::{
    FleetReport, HostReport, RolloutPhase, RolloutReport, ServiceReport, StandingReport, WaveReport,
};
use proto::statement::{Direction, UnixTime};

pub(crate) const CREATED: UnixTime = UnixTime(1_800_000_000);

pub(crate) fn version(text: &str) -> Version {
    text.parse().unwrap()
}

/// `aaaaaaaaaaaa`, `bbbbbbbbbbbb` and so on.
pub(crate) fn host_id(index: usize) -> HostId {
    let letter = char::from(b'a' + u8::try_from(index).unwrap());
    letter.to_string().repeat(12).parse().unwrap()
}

/// A host of a rollout: name `n1` and so on, alive, all of 8 pieces once it is staged.
pub(crate) fn standing(index: usize, wave: u32, state: Option<State>) -> StandingReport {
    let staged = state.is_some_and(|state| state >= State::Staged);
    StandingReport {
        host: host_id(index),
        name: format!("n{}", index + 1).parse().unwrap(),
        wave,
        state,
        cause: None,
        note: String::new(),
        pieces: if staged { 8 } else { 0 },
        of: 8,
        alive: true,
    }
}

/// A rollout of `web` 1.2.0 -> 1.3.0 with the waves of `hosts` counted from them.
pub(crate) fn rollout(phase: RolloutPhase, hosts: Vec<StandingReport>) -> RolloutReport {
    let waves = hosts.iter().map(|host| host.wave + 1).max().unwrap_or(0);
    let wave = |wave: u32| {
        let own: Vec<_> = hosts.iter().filter(|host| host.wave == wave).collect();
        let count = |fits: &dyn Fn(&StandingReport) -> bool| {
            u32::try_from(own.iter().filter(|host| fits(host)).count()).unwrap()
        };
        let is = |state: State| count(&|host| host.state == Some(state));
        let failed = |host: &StandingReport| host.state.is_some_and(State::is_failed);
        WaveReport {
            hosts: count(&|_| true),
            open: count(&|host| host.state >= Some(State::Activating)) > 0,
            waiting: count(&|host| host.state < Some(State::Activating)),
            activating: is(State::Activating),
            baking: is(State::Baking),
            committed: is(State::Committed),
            failed: count(&|host| failed(host) && host.cause != Some(Cause::Fleet)),
            returned: count(&|host| failed(host) && host.cause == Some(Cause::Fleet)),
            unreachable: 0,
            wait_s: 300,
            failed_max: wave,
            unreachable_max: wave,
        }
    };
    RolloutReport {
        id: Digest::of(b"rollout"),
        service: "web".parse().unwrap(),
        env: "production".parse().unwrap(),
        epoch: 4,
        from: Some(version("1.2.0")),
        to: version("1.3.0"),
        direction: Direction::Forward,
        author: "ada".parse().unwrap(),
        reason: "weekly".to_owned(),
        created: CREATED,
        expires: CREATED.plus_s(86_400),
        phase,
        why: "wave 2 holds: 1 of 1 bake".to_owned(),
        self_supporting: true,
        waves: (0..waves).map(wave).collect(),
        hosts,
    }
}

/// A fleet of two hosts, the second one silent, with that rollout.
pub(crate) fn fleet(rollout: RolloutReport) -> FleetReport {
    let host = |index: usize, alive: bool| HostReport {
        id: host_id(index),
        name: format!("n{}", index + 1).parse().unwrap(),
        env: Some("production".parse().unwrap()),
        zone: "default".parse().unwrap(),
        labels: vec!["env=production".to_owned()],
        address: alive.then(|| format!("192.0.2.{}:7070", index + 11)),
        alive,
        agent_version: Some("0.1.0".parse().unwrap()),
        services: vec![ServiceReport {
            service: "web".parse().unwrap(),
            version: Some(version("1.2.0")),
            state: State::Committed,
            note: String::new(),
        }],
    };
    FleetReport {
        fleet: "shop-00000000".parse().unwrap(),
        seen_by: "coordinator".parse().unwrap(),
        at: CREATED,
        root_version: 1,
        coordinator_alive: true,
        hosts: vec![host(0, true), host(1, false)],
        rollouts: vec![rollout],
    }
}
