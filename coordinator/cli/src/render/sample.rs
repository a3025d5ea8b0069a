//! Reports and facts for tests: a small fleet and a rollout in it.

use std::collections::BTreeMap;

use ed25519_dalek::SigningKey;
use proto::id::{Digest, HostId, Version};
use proto::key::PublicKey;
use proto::receipt::{Cause, State};
use proto::record::FetchSources;
use proto::report::{
    BackReport, BackState, FetchReport, FetchesReport, Fitness, FleetReport, FreezeReport,
    HostReport, RolloutPhase, RolloutReport, ServiceReport, StandingReport, WaveReport,
};
use proto::statement::{
    ArtifactRef, Direction, Health, Host, OnFailure, RULES, Release, Rollout, Run, Source, Target,
    UnixTime,
};
use rollout::plan::Candidate;

use crate::knowledge::Facts;

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
        skipped: false,
        state,
        cause: None,
        note: String::new(),
        pieces: if staged { 8 } else { 0 },
        of: 8,
        fetch: None,
        counted: None,
        alive: true,
        drift: None,
        allowed: true,
    }
}

/// [`rollout`] in its second wave, on which one host has failed: the first `hosts`, 5 at most.
pub(crate) fn under_way(hosts: usize) -> RolloutReport {
    let mut failed = standing(1, 1, Some(State::Reverted));
    failed.cause = Some(Cause::Release);
    failed.note = "healthz answered 500 three times".to_owned();
    let all = vec![
        standing(0, 0, Some(State::Committed)),
        failed,
        standing(2, 1, Some(State::Baking)),
        standing(3, 1, None),
        standing(4, 2, None),
    ];
    rollout(RolloutPhase::Running, all.into_iter().take(hosts).collect())
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
            skipped: 0,
            unreachable: 0,
            wait_s: 300,
            bake: None,
            failed_max: wave,
            unreachable_max: wave,
            pooled: None,
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
        adopt: false,
        author: "ada".parse().unwrap(),
        reason: "weekly".to_owned(),
        created: CREATED,
        expires: CREATED.plus_s(86_400),
        phase,
        held: matches!(phase, RolloutPhase::Pending | RolloutPhase::Paused),
        held_until: None,
        ended: None,
        why: "wave 2 holds: 1 of 1 bake".to_owned(),
        back: None,
        self_supporting: true,
        waves: (0..waves).map(wave).collect(),
        latency: None,
        fetches: FetchesReport::default(),
        hosts,
    }
}

/// A way back of one host, come so far.
pub(crate) fn back(state: BackState) -> BackReport {
    BackReport { back: 1, ..BackReport::new(state) }
}

/// A fetch under way: 41 of 64 MiB, from five members.
pub(crate) fn fetch() -> FetchReport {
    FetchReport {
        running: true,
        bytes: 41 << 20,
        of_bytes: 64 << 20,
        bytes_per_s: 11 << 20,
        peers: 5,
        from: FetchSources { peers: 38 << 20, origin: 3 << 20, here: 0, patched: 0 },
        still_s: 0,
        stall: None,
        dropped: Vec::new(),
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
        twin: None,
        alive,
        agent_version: Some("0.1.0".parse().unwrap()),
        services: vec![ServiceReport {
            service: "web".parse().unwrap(),
            version: Some(version("1.2.0")),
            state: State::Committed,
            note: String::new(),
            to: Some(version("1.2.0")),
            drift: None,
            allowed: true,
        }],
        held: None,
        removed: None,
    };
    FleetReport {
        fleet: "shop-00000000".parse().unwrap(),
        seen_by: "coordinator".parse().unwrap(),
        at: CREATED,
        root_version: 1,
        coordinator_alive: true,
        hosts: vec![host(0, true), host(1, false)],
        rollouts: vec![rollout],
        pending: Vec::new(),
        freezes: Vec::new(),
        skips: Vec::new(),
        audit: Default::default(),
    }
}

/// A freeze of `production` that is in force for two hours, or the hold of a host there.
pub(crate) fn freeze(host: Option<HostId>) -> FreezeReport {
    FreezeReport {
        statement: Digest::of(b"freeze"),
        env: "production".parse().unwrap(),
        host,
        in_force: true,
        until: CREATED.plus_s(7_200),
        by: "ada".parse().unwrap(),
        created: CREATED,
        reason: "audit".to_owned(),
    }
}

// --- facts ---

/// The release of `web` with this version; 4 MiB to transfer.
pub(crate) fn release(text: &str) -> (Digest, Release) {
    let release = Release {
        fleet: "shop-00000000".parse().unwrap(),
        service: "web".parse().unwrap(),
        version: version(text),
        artifact: ArtifactRef {
            id: Digest::of(text.as_bytes()),
            manifest_bytes: 1_000,
            bytes: 4 << 20,
            raw_bytes: 12 << 20,
        },
        source: Source::default(),
        created: CREATED,
        run: Run { start: "a".into(), stop: "b".into(), timeout_s: 30, ..Run::default() },
        health: Health::default(),
        critical: Vec::new(),
    };
    (Digest::of(format!("release {text}").as_bytes()), release)
}

fn target(text: &str) -> Target {
    let (release, _) = release(text);
    Target { release, version: version(text) }
}

/// Hosts `n1`, `n2` and so on of `production`, the last one silent.
pub(crate) fn candidates(count: u8) -> Vec<Candidate> {
    let candidate = |seed: u8| {
        let key = PublicKey::of(&SigningKey::from_bytes(&[seed; 32]));
        let fitness = if seed == count { Fitness::Silent } else { Fitness::Fit };
        candidate(u32::from(seed), key, HostId::of(&key), "default", fitness)
    };
    (1..=count).map(candidate).collect()
}

/// So many hosts in so many zones, taking turns, the last one silent. Their keys are all one, so
/// that it takes no time; nobody looks at them.
pub(crate) fn many(count: u32, zones: u32) -> Vec<Candidate> {
    let key = PublicKey::of(&SigningKey::from_bytes(&[1; 32]));
    let candidate = |number: u32| {
        let fitness = if number == count { Fitness::Silent } else { Fitness::Fit };
        let letter =
            |digit: char| char::from(b'a' + u8::try_from(digit.to_digit(10).unwrap()).unwrap());
        let id = format!("{number:012}").chars().map(letter).collect::<String>().parse().unwrap();
        candidate(number, key, id, &format!("z{}", number % zones), fitness)
    };
    (1..=count).map(candidate).collect()
}

fn candidate(number: u32, key: PublicKey, id: HostId, zone: &str, fitness: Fitness) -> Candidate {
    let label = |text: &str| text.parse().unwrap();
    let labels = [("env", "production"), ("zone", zone)];
    Candidate {
        host: Host {
            fleet: "shop-00000000".parse().unwrap(),
            id,
            key,
            name: format!("n{number}").parse().unwrap(),
            labels: labels.map(|(key, value)| (label(key), label(value))).into(),
            issued: CREATED,
            critical: Vec::new(),
        },
        fitness,
    }
}

/// A scope whose newest rollout is epoch 4, from and to these versions, and has this phase.
pub(crate) fn facts(
    from: Option<&str>,
    to: &str,
    direction: Direction,
    phase: RolloutPhase,
) -> Facts {
    let id = Digest::of(b"newest");
    let newest = Rollout {
        fleet: "shop-00000000".parse().unwrap(),
        service: "web".parse().unwrap(),
        env: "production".parse().unwrap(),
        epoch: 4,
        previous: Some(Digest::of(b"before")),
        from: from.map(target),
        to: target(to),
        direction,
        rules: RULES,
        cohort: Vec::new(),
        waves: Vec::new(),
        max_unavailable: 1,
        in_flight_max: None,
        windows: Vec::new(),
        limits: None,
        retry: false,
        adopt: false,
        on_failure: OnFailure::Rollback,
        approvals: 0,
        created: CREATED,
        expires: CREATED.plus_s(86_400),
        author: "0000000000000000".parse().unwrap(),
        reason: String::new(),
        critical: Vec::new(),
    };
    let stable = if phase == RolloutPhase::Complete { Some(to) } else { from };
    Facts {
        head: Some((id, newest)),
        report: Some(RolloutReport { id, ..rollout(phase, Vec::new()) }),
        stable: stable.map(release),
        hosts: candidates(7),
        serves: BTreeMap::new(),
        directive_sequence: 0,
        stopped: Vec::new(),
        freezes: Vec::new(),
        scopes: 1,
    }
}
