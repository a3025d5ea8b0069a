//! What people are told, against a small fleet of which everything is known.

use ed25519_dalek::SigningKey;
use proto::certificate::Certificate;
use proto::dsse::Envelope;
use proto::key::PublicKey;
use proto::receipt::{Receipt, State};
use proto::record::{
    AllowedRecord, FetchRecord, FetchSources, HostRecord, Lie, ProgressRecord, Stall, StallRecord,
    progress_key, receipt_key, to_text,
};
use proto::report::{FetchesReport, Fitness, HostReport, RolloutPhase};
use proto::statement::{
    ArtifactRef, CohortHost, Direction, Directive, Freeze, Health, Host, KeyEntry, Limits,
    OnFailure, Payload, Policy, Release, Revocation, Role, RoleKeys, Root, Run, Source, Target,
    UnixTime, Wave,
};
use proto::trust::verify;
use proto::wire::{ControlReply, RefusedKind, RolloutQuery, ScopeHost};
use proto::{KeyId, Name, Scope};

use super::*;
use crate::Now;

mod expiry;
mod kept;
mod others;
mod pooled;
mod serving;
mod stopped;

const NOW: UnixTime = UnixTime(1_000_000);
const HOSTS: u8 = 3;

fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

fn public(seed: u8) -> PublicKey {
    PublicKey::of(&key(seed))
}

fn host_id(host: u8) -> HostId {
    HostId::of(&public(host))
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn scope() -> Scope {
    Scope { service: "web".parse().unwrap(), env: "staging".parse().unwrap() }
}

const ROOT: u8 = 100;
const CI: u8 = 101;
const ADMIT: u8 = 102;
const ADA: u8 = 103;
const CA: u8 = 104;

fn root(approvals_min: u8) -> Root {
    let env: proto::Env = "staging".parse().unwrap();
    let roles = [
        (Role::Root, ROOT, "ada"),
        (Role::Publish, CI, "ci"),
        (Role::Admit, ADMIT, "coordinator"),
        (Role::Deploy(env.clone()), ADA, "ada"),
        (Role::HostCa, CA, "coordinator"),
    ];
    let id = |seed| KeyId::of(&public(seed));
    Root {
        fleet: "test".parse().unwrap(),
        version: 1,
        expires: NOW.plus_s(1_000_000),
        keys: roles
            .iter()
            .map(|(_, seed, owner)| {
                (id(*seed), KeyEntry { key: public(*seed), owner: name(owner) })
            })
            .collect(),
        roles: roles
            .iter()
            .map(|(role, seed, _)| (role.clone(), RoleKeys { keys: vec![id(*seed)], threshold: 1 }))
            .collect(),
        environments: BTreeMap::from([(env, Policy { approvals_min, ..Policy::default() })]),
        critical: Vec::new(),
    }
}

/// A fleet of three hosts, and what one member knows of it.
struct World {
    chain: Chain,
    envelopes: BTreeMap<Digest, Vec<u8>>,
    hosts: Vec<Host>,
    members: BTreeMap<HostId, Seen>,
    observer: Observer,
    pending: Vec<Pending>,
    /// What the requests of the rollouts signed from now on are held against.
    limits: Option<Limits>,
    /// How long the hosts of each wave of these bake.
    bake_s: u32,
    now_ms: u64,
    /// What the member's wall clock says.
    clock: UnixTime,
}

impl World {
    fn new(approvals_min: u8) -> Self {
        let mut envelope = root(approvals_min).envelope();
        envelope.sign(&key(ROOT));
        let chain = Chain::genesis(&envelope.to_bytes(), envelope.id()).unwrap();
        let mut world = Self {
            chain,
            envelopes: BTreeMap::new(),
            hosts: Vec::new(),
            members: BTreeMap::new(),
            observer: Observer::default(),
            pending: Vec::new(),
            limits: None,
            bake_s: 0,
            now_ms: 5_000,
            clock: NOW,
        };
        for host in 1..=HOSTS {
            let labels = BTreeMap::from([(name("env"), name("staging"))]);
            world.hosts.push(Host {
                fleet: "test".parse().unwrap(),
                id: host_id(host),
                key: public(host),
                name: name(&format!("host-{host}")),
                labels,
                issued: NOW,
                critical: Vec::new(),
            });
            let record = HostRecord {
                coordinator: false,
                version: name("0.1.0"),
                at: UnixTime(0),
                heads: Digest::of(b""),
            };
            world.members.insert(
                host_id(host),
                Seen {
                    address: format!("127.0.0.{host}:7070"),
                    alive: true,
                    twin: None,
                    values: BTreeMap::from([(record::HOST.to_owned(), to_text(&record))]),
                },
            );
        }
        world
    }

    fn learn(&mut self, mut envelope: Envelope, signers: &[u8]) -> Digest {
        signers.iter().for_each(|seed| envelope.sign(&key(*seed)));
        let bytes = envelope.to_bytes();
        let verified = verify(&self.chain, &bytes, NOW).unwrap();
        if let proto::trust::Standing::Pending { missing } = &verified.standing {
            let proto::statement::Statement::Rollout(rollout) = verified.statement.clone() else {
                panic!("only rollouts are pending here")
            };
            self.pending.push(Pending { id: verified.id, rollout, missing: missing.clone() });
        }
        self.chain.learn(&verified);
        self.envelopes.insert(verified.id, bytes);
        verified.id
    }

    fn release(&mut self, version: &str) -> Target {
        let artifact = ArtifactRef {
            id: Digest::of(version.as_bytes()),
            manifest_bytes: 1,
            bytes: 1,
            raw_bytes: 1,
        };
        let release = Release {
            fleet: "test".parse().unwrap(),
            service: "web".parse().unwrap(),
            version: version.parse().unwrap(),
            artifact,
            source: Source::default(),
            created: NOW,
            run: Run { start: "true".into(), stop: "true".into(), timeout_s: 1, ..Run::default() },
            health: Health::default(),
            critical: Vec::new(),
        };
        let id = self.learn(release.envelope(), &[CI, ADMIT]);
        Target { release: id, version: release.version }
    }

    fn deploy(&mut self, from: Option<&Target>, to: &Target) -> Digest {
        self.deploy_to(1..=HOSTS, from, to)
    }

    fn deploy_to(
        &mut self,
        hosts: std::ops::RangeInclusive<u8>,
        from: Option<&Target>,
        to: &Target,
    ) -> Digest {
        let head = self.chain.head(&scope()).copied();
        let epoch = head.map_or(0, |head| head.epoch) + 1;
        let member = |host| {
            let (id, zone) = (host_id(host), "default".parse().unwrap());
            CohortHost { id, key: public(host), zone }
        };
        let wait_s = self.bake_s;
        let wave = |hosts| Wave { hosts, wait_s, failed_max: 0, unreachable_max: 0 };
        let mut rollout = Rollout {
            fleet: "test".parse().unwrap(),
            service: scope().service,
            env: scope().env,
            epoch,
            previous: head.map(|head| head.rollout),
            from: from.cloned(),
            to: to.clone(),
            direction: Direction::Forward,
            rules: proto::statement::RULES,
            waves: vec![wave(1), wave(u32::try_from(hosts.len()).unwrap())],
            cohort: hosts.map(member).collect(),
            max_unavailable: 1,
            in_flight_max: None,
            windows: Vec::new(),
            limits: self.limits.clone(),
            retry: false,
            adopt: false,
            on_failure: OnFailure::Rollback,
            approvals: 0,
            created: NOW.plus_s(epoch),
            expires: NOW.plus_s(100_000),
            author: KeyId::of(&public(ADA)),
            reason: "because".to_owned(),
            critical: Vec::new(),
        };
        rollout.critical = rollout.careful_fields();
        self.learn(rollout.envelope(), &[ADA])
    }

    fn direct(&mut self, rollout: Digest, sequence: u64, action: Action) {
        let directive = Directive {
            fleet: "test".parse().unwrap(),
            rollout,
            sequence,
            action,
            wave: None,
            host: None,
            author: KeyId::of(&public(ADA)),
            created: NOW,
            reason: String::new(),
            critical: Vec::new(),
        };
        self.learn(directive.envelope(), &[ADA]);
    }

    fn says(&mut self, host: u8, key: String, value: String) {
        self.members.get_mut(&host_id(host)).unwrap().values.insert(key, value);
    }

    /// Its `agent.toml` allows these alone.
    fn allows(&mut self, host: u8, services: &[&str]) {
        let services = services.iter().map(|service| service.parse().unwrap()).collect();
        let word = to_text(&AllowedRecord { services });
        self.says(host, record::ALLOWED.to_owned(), word);
    }

    fn receipt(&mut self, host: u8, slot: usize, rollout: Digest, state: State) -> SignedReceipt {
        let receipt = Receipt {
            rollout,
            host: host_id(host),
            sequence: state as u64 + 1,
            attempt: 1,
            state,
            cause: None,
            note: format!("host {host} says {}", state.name()),
        };
        let signed = receipt.sign(&key(host));
        self.says(host, receipt_key(slot), signed.to_text());
        signed
    }

    /// Every host commits, and the certificate of it is held.
    fn complete(&mut self, rollout: Digest) {
        let receipts =
            (1..=HOSTS).map(|host| self.receipt(host, 0, rollout, State::Committed)).collect();
        let certificate =
            Certificate { rollout, claim: Claim::Complete, receipts, excuses: Vec::new() };
        let signed = self.chain.rollout(&rollout).unwrap();
        certificate.verify(rollout, signed, &BTreeMap::new()).unwrap();
        self.observe();
        self.observer.certify(self.now_ms, &self.chain, &certificate);
    }

    fn observe(&mut self) {
        let key_of =
            |id: &HostId| self.hosts.iter().find(|host| host.id == *id).map(|host| host.key);
        self.observer.observe(self.now_ms, &self.chain, &self.members, &key_of);
    }

    fn look<T>(&self, ask: impl FnOnce(&Outlook<'_>) -> T) -> T {
        let seen_by = name("host-1");
        ask(&Outlook {
            seen_by: &seen_by,
            now: Now { boot_ms: self.now_ms, unix: self.clock },
            chain: &self.chain,
            observer: &self.observer,
            members: &self.members,
            hosts: &self.hosts,
            pending: &self.pending,
            statement: &|id| self.envelopes.get(id).cloned(),
            host_statement: &|id| Some(id.as_str().as_bytes().to_vec()),
        })
    }

    #[expect(clippy::redundant_closure_for_method_calls, reason = "the path is of one lifetime")]
    fn report(&self) -> proto::report::FleetReport {
        self.look(|outlook| outlook.fleet_report())
    }

    fn phase(&self, rollout: &Digest) -> RolloutPhase {
        self.look(|outlook| outlook.rollout_report(rollout)).unwrap().phase
    }
}

fn fleet_of_two_releases() -> (World, [Target; 2], [Digest; 2]) {
    let mut world = World::new(0);
    let one = world.release("1");
    let first = world.deploy(None, &one);
    world.complete(first);
    let two = world.release("2");
    let second = world.deploy(Some(&one), &two);
    world.observe();
    (world, [one, two], [first, second])
}

#[test]
fn the_fleet_is_told_host_by_host() {
    let (mut world, _, [_, second]) = fleet_of_two_releases();
    world.receipt(1, 1, second, State::Baking);
    world.receipt(2, 1, second, State::Staged);
    world.members.get_mut(&host_id(3)).unwrap().alive = false;
    world.observe();
    let report = world.report();
    assert_eq!((report.fleet.as_str(), report.seen_by.as_str()), ("test", "host-1"));
    assert!(!report.coordinator_alive);
    let told: Vec<_> = report
        .hosts
        .iter()
        .map(|host| {
            let service = &host.services[0];
            let version = service.version.as_ref().map(proto::Version::as_str);
            (host.name.as_str(), host.alive, version, service.state)
        })
        .collect();
    assert_eq!(
        told,
        [
            ("host-1", true, Some("2"), State::Baking),
            ("host-2", true, Some("1"), State::Staged),
            // It has not spoken of the second rollout: what it said of the first still stands.
            ("host-3", false, Some("1"), State::Committed),
        ]
    );
    assert_eq!(report.hosts[0].labels, ["env=staging"]);
    assert_eq!(report.hosts[0].agent_version, Some(name("0.1.0")));
    assert_eq!(report.hosts[0].address.as_deref(), Some("127.0.0.1:7070"));
    let ids: Vec<_> = report.rollouts.iter().map(|rollout| rollout.id).collect();
    assert_eq!(ids, [second], "the newest of each scope");

    let (address, values) = ("127.0.0.9:7070".to_owned(), BTreeMap::new());
    let coordinator = Seen { address, alive: true, twin: None, values };
    world.members.insert(HostId::of(&public(ADMIT)), coordinator);
    assert!(world.report().coordinator_alive);
}

/// One that is in no cohort follows once the rollout is complete, and tells how it fares.
#[test]
fn a_host_outside_the_cohort_is_told_too() {
    let mut world = World::new(0);
    let one = world.release("1");
    let first = world.deploy_to(1..=2, None, &one);
    let fetching = world.receipt(3, 0, first, State::Fetching);
    let services = |world: &World| world.report().hosts[2].services.clone();
    world.observe();
    let told = services(&world);
    assert_eq!((told.len(), told[0].state, &told[0].version), (1, State::Fetching, &None));
    assert_eq!(told[0].note, "host 3 says fetching");
    world.says(3, receipt_key(0), fetching.to_text().replace("fetching", "committed"));
    world.observe();
    assert_eq!(services(&world), [], "not by its own signature");
}

#[test]
fn only_a_hosts_own_signature_moves_it() {
    let (mut world, _, [_, second]) = fleet_of_two_releases();
    let signed = world.receipt(2, 1, second, State::Committed);
    world.members.get_mut(&host_id(2)).unwrap().values.clear();
    // Relayed by another member: still host 2's own word.
    world.says(1, receipt_key(2), signed.to_text());
    let forged = signed.to_text().replace("committed", "reverted");
    world.says(3, receipt_key(1), forged);
    world.says(3, receipt_key(2), "no receipt".to_owned());
    world.observe();
    let report = world.look(|outlook| outlook.rollout_report(&second)).unwrap();
    let states: Vec<_> = report.hosts.iter().map(|host| host.state).collect();
    assert_eq!(states, [None, Some(State::Committed), None]);
    assert_eq!(report.hosts[1].note, "host 2 says committed");
}

#[test]
fn a_rollout_is_told_from_receipts_progress_and_directives() {
    let (mut world, [_, two], [first, second]) = fleet_of_two_releases();
    assert_eq!(world.phase(&first), RolloutPhase::Complete);
    let artifact = world.chain.release(&two.release).unwrap().artifact.id;
    let other = ProgressRecord { artifact: Digest::of(b"other"), pieces: 1, of: 1, fetch: None };
    let held = ProgressRecord { artifact, pieces: 3, of: 7, fetch: None };
    world.says(2, progress_key(0), to_text(&other));
    world.says(2, progress_key(1), to_text(&held));
    world.observe();
    let report = world.look(|outlook| outlook.rollout_report(&second)).unwrap();
    let pieces: Vec<_> = report.hosts.iter().map(|host| (host.pieces, host.of)).collect();
    assert_eq!(pieces, [(0, 0), (3, 7), (0, 0)]);
    assert_eq!((report.phase, report.author.as_str()), (RolloutPhase::Running, "ada"));
    world.direct(second, 1, Action::Pause);
    assert_eq!(world.phase(&second), RolloutPhase::Paused);
    world.direct(second, 2, Action::Abort);
    assert_eq!(world.phase(&second), RolloutPhase::Aborted);
}

/// What hosts say of their fetches is told host by host and added up; who is silent fetches no more, as
/// far as anybody knows, and who lied to whom stays to be seen.
#[test]
fn r26_fetches_are_told_with_their_sums_and_liars_by_name() {
    let (mut world, [_, two], [_, second]) = fleet_of_two_releases();
    let artifact = world.chain.release(&two.release).unwrap().artifact;
    let said = FetchRecord {
        running: true,
        bytes: 30,
        bytes_per_s: 5,
        peers: 2,
        from: FetchSources { origin: 10, peers: 20, ..FetchSources::default() },
        still_s: 3,
        stall: Some(StallRecord { why: Stall::NoHolder, pieces: 4 }),
        banned: [(host_id(3), Lie::WrongBytes), (host_id(ADMIT), Lie::NotThere)].into(),
    };
    let says = |world: &mut World, host, pieces, fetch: &FetchRecord| {
        let (artifact, fetch) = (artifact.id, Some(fetch.clone()));
        let record = ProgressRecord { artifact, pieces, of: 7, fetch };
        world.says(host, progress_key(0), to_text(&record));
    };
    says(&mut world, 1, 3, &said);
    says(&mut world, 2, 3, &FetchRecord { stall: None, still_s: 0, bytes: 1, ..said.clone() });
    says(&mut world, 3, 7, &FetchRecord { running: false, banned: [].into(), ..said });
    let report = |world: &World| world.look(|outlook| outlook.rollout_report(&second)).unwrap();
    let told = report(&world);
    let sums = FetchesReport {
        whole: 1,
        running: 2,
        stalled: 1,
        bytes: 31,
        of_bytes: 2 * artifact.bytes,
        bytes_per_s: 10,
    };
    assert_eq!(told.fetches, sums);
    let one = told.hosts[0].fetch.clone().unwrap();
    assert_eq!((one.running, one.bytes, one.of_bytes, one.peers), (true, 30, artifact.bytes, 2));
    assert_eq!((one.bytes_per_s, one.still_s, one.from.peers), (5, 3, 20));
    let mut dropped: Vec<_> = one.dropped.iter().map(|one| (one.name.as_str(), one.why)).collect();
    dropped.sort();
    assert_eq!(dropped, [("coordinator", Lie::NotThere), ("host-3", Lie::WrongBytes)]);
    let three = told.hosts[2].fetch.clone().unwrap();
    assert_eq!((three.running, three.bytes_per_s, three.stall), (false, 0, None));

    world.members.get_mut(&host_id(1)).unwrap().alive = false;
    let told = report(&world);
    let silent = told.hosts[0].fetch.clone().unwrap();
    assert_eq!((silent.running, silent.bytes, silent.bytes_per_s, silent.peers), (false, 30, 0, 0));
    assert_eq!((silent.stall, silent.dropped.len()), (None, 2));
    assert_eq!((told.fetches.running, told.fetches.bytes_per_s), (1, 5));
    let json = serde_json::to_value(&told).unwrap();
    assert_eq!(json["hosts"][1]["fetch"]["from"]["origin"], 10);
}

#[test]
fn r18_paused_time_is_not_held_time() {
    let (mut world, _, [_, second]) = fleet_of_two_releases();
    let held_ms = |world: &World| world.observer.followed[&second].held_ms;
    let pass = |world: &mut World, ms| {
        world.now_ms += ms;
        world.observe();
    };
    pass(&mut world, 1_000);
    assert_eq!(held_ms(&world), 1_000);
    world.direct(second, 1, Action::Pause);
    pass(&mut world, 10_000);
    assert_eq!(held_ms(&world), 1_000);
    world.direct(second, 2, Action::Resume);
    pass(&mut world, 500);
    assert_eq!(held_ms(&world), 1_500);
}

/// For people who ask how long a rollout took: the proof's arrival, the abort, the expiry, the next.
#[test]
fn the_history_knows_when_each_rollout_ended() {
    let (mut world, [_, two], [first, second]) = fleet_of_two_releases();
    let ended = |world: &World, id: Digest| {
        world.look(|outlook| outlook.rollout_report(&id).unwrap().ended)
    };
    assert_eq!((ended(&world, first), ended(&world, second)), (None, None), "nobody said when");
    world.observer.note_proof(first, Claim::Complete, NOW.plus_s(60));
    assert_eq!(ended(&world, first), Some(NOW.plus_s(60)));
    let history = |world: &World| {
        let facts = world.look(|outlook| outlook.scope_facts(&scope()));
        facts.history.into_iter().map(|(id, _)| id).collect::<Vec<_>>()
    };
    assert_eq!(history(&world), [second, first], "one that goes on, too");
    let three = world.release("3");
    let third = world.deploy(Some(&two), &three);
    assert_eq!(ended(&world, second), Some(NOW.plus_s(3)), "when the third was signed");
    assert_eq!((ended(&world, third), history(&world)), (None, vec![third, second, first]));
    world.direct(third, 1, Action::Abort);
    assert_eq!(ended(&world, third), Some(NOW));
}

/// By the newest word of each host in the scope, its word on a rollout of which it was left out
/// with it: so a host that could not go back is fit again once it followed the next release.
#[test]
fn r13_the_last_word_of_a_host_says_whether_it_is_fit() {
    let (mut world, [_, two], [_, second]) = fleet_of_two_releases();
    let fitness = |world: &mut World| {
        world.observe();
        let facts = world.look(|outlook| outlook.scope_facts(&scope()));
        facts.hosts.iter().map(|host| host.fitness).collect::<Vec<_>>()
    };
    use Fitness::{Duplicate, Fit, HalfWay, RevertFailed, Silent};
    world.receipt(1, 0, second, State::RevertFailed);
    world.receipt(2, 0, second, State::Activating);
    world.receipt(3, 0, second, State::Reverted);
    assert_eq!(fitness(&mut world), [RevertFailed, Fit, Fit]);
    for host in 1..=HOSTS {
        world.members.get_mut(&host_id(host)).unwrap().alive = false;
    }
    assert_eq!(fitness(&mut world), [Silent, HalfWay, Silent]);
    // Whoever is forgotten by gossip has still said it.
    world.members.remove(&host_id(2));
    assert_eq!(fitness(&mut world), [Silent, HalfWay, Silent]);

    // The next rollout leaves the first host out; that one follows it, by itself.
    world.members.get_mut(&host_id(1)).unwrap().alive = true;
    let three = world.release("3.0.0");
    let third = world.deploy_to(2..=HOSTS, Some(&two), &three);
    assert_eq!(fitness(&mut world)[0], RevertFailed);
    world.receipt(1, 0, third, State::Committed);
    assert_eq!(fitness(&mut world)[0], Fit);
    world.members.get_mut(&host_id(1)).unwrap().twin = Some("10.0.0.9:7400".to_owned());
    assert_eq!(fitness(&mut world)[0], Duplicate);
    assert_eq!(world.report().hosts[0].twin.as_deref(), Some("10.0.0.9:7400"));
}

#[test]
fn a_scope_tells_what_a_plan_needs() {
    let (mut world, [one, two], [first, second]) = fleet_of_two_releases();
    let unproven = world.observer.unproven(&world.chain);
    let halt_or_second = [(second, Claim::Halt), (second, Claim::Complete), (first, Claim::Halt)];
    assert_eq!(unproven, halt_or_second, "all but what a certificate proved");
    let facts = world.look(|outlook| outlook.scope_facts(&scope()));
    assert_eq!(facts.rollout.as_ref(), Some(&world.envelopes[&second]));
    assert_eq!(facts.report.as_ref().map(|report| report.id), Some(second));
    assert_eq!(facts.stable.as_ref(), Some(&world.envelopes[&one.release]), "the last complete");
    assert_eq!(facts.history, [(second, two.version.clone()), (first, one.version.clone())]);
    assert_eq!(facts.directive_sequence, 0);
    let hosts: Vec<_> = facts.hosts.iter().map(|host| host.fitness).collect();
    assert_eq!(hosts, [Fitness::Fit; 3]);

    world.direct(second, 7, Action::Pause);
    world.complete(second);
    world.hosts[0].labels.clear();
    world.members.remove(&host_id(2));
    let facts = world.look(|outlook| outlook.scope_facts(&scope()));
    assert_eq!(facts.stable.as_ref(), Some(&world.envelopes[&two.release]));
    assert_eq!(facts.history, [(second, two.version), (first, one.version)]);
    assert_eq!(facts.directive_sequence, 7);
    let aborted = second;
    let third = host_id(3).as_str().as_bytes().to_vec();
    let second = host_id(2).as_str().as_bytes().to_vec();
    let serves = || Some("2".parse().unwrap());
    let hosts = [(second, Fitness::Silent), (third, Fitness::Fit)]
        .map(|(envelope, fitness)| ScopeHost { envelope, fitness, serves: serves() });
    assert_eq!(facts.hosts, hosts, "those of the environment");

    // Stopped after it was complete: it was taken back everywhere, and is no way back for others.
    world.direct(aborted, 8, Action::Abort);
    let facts = world.look(|outlook| outlook.scope_facts(&scope()));
    assert_eq!(facts.stable.as_ref(), Some(&world.envelopes[&one.release]));
    let report = facts.report.unwrap();
    assert_eq!(report.phase, RolloutPhase::Aborted);
    assert!(report.why.contains("(by "), "who aborted it: {}", report.why);

    let nothing = Scope { service: "other".parse().unwrap(), ..scope() };
    let facts = world.look(|outlook| outlook.scope_facts(&nothing));
    assert_eq!((facts.rollout, facts.stable, facts.history), (None, None, Vec::new()));
    assert_eq!(facts.hosts.len(), 2, "a first deployment needs hosts, too");
}

/// R6, R9: who was skipped, held or removed is told as such, and a freeze of the whole environment.
#[test]
fn r6_skips_holds_removals_and_freezes_are_told() {
    let (mut world, _, [_, newest]) = fleet_of_two_releases();
    let author = KeyId::of(&public(ADA));
    let (fleet, reason): (proto::FleetId, _) = ("test".parse().unwrap(), String::new());
    let freeze = |host: Option<u8>, until: UnixTime| Freeze {
        fleet: fleet.clone(),
        env: scope().env,
        host: host.map(host_id),
        sequence: 1,
        until,
        author: author.clone(),
        created: NOW,
        reason: reason.clone(),
        critical: Vec::new(),
    };
    let skip = Directive {
        fleet: fleet.clone(),
        rollout: newest,
        sequence: 1,
        action: Action::Skip,
        wave: None,
        host: Some(host_id(1)),
        author: author.clone(),
        created: NOW,
        reason: reason.clone(),
        critical: Vec::new(),
    };
    let removal = Revocation {
        fleet: fleet.clone(),
        env: scope().env,
        host: host_id(3),
        author: author.clone(),
        created: NOW,
        reason: reason.clone(),
        critical: Vec::new(),
    };
    world.learn(skip.envelope(), &[ADA]);
    world.learn(removal.envelope(), &[ADA]);
    world.learn(freeze(Some(2), NOW.plus_s(60)).envelope(), &[ADA]);
    world.observe();
    let report = world.report();
    let held = |host: &HostReport| host.held.as_ref().map(|freeze| freeze.until);
    let told: Vec<_> =
        report.hosts.iter().map(|host| (held(host), host.removed.is_some())).collect();
    assert_eq!(told, [(None, false), (Some(NOW.plus_s(60)), false), (None, true)]);
    let [canary, rest] = &report.rollouts[0].waves[..] else { panic!("{:?}", report.rollouts) };
    assert_eq!((canary.skipped, rest.skipped), (1, 1));
    let skipped: Vec<_> = report.rollouts[0].hosts.iter().map(|host| host.skipped).collect();
    assert_eq!(skipped, [true, false, true]);

    world.learn(freeze(None, NOW.plus_s(3_600)).envelope(), &[ADA]);
    let report = world.report();
    let why = "held: frozen until 1970-01-12 14:46:40 UTC, or until an operator unfreezes it";
    assert_eq!(report.rollouts[0].why, why);
}

#[test]
fn rollouts_are_found_as_people_name_them() {
    let (mut world, _, [first, second]) = fleet_of_two_releases();
    let ask = |world: &World, query: &RolloutQuery| {
        world.look(|outlook| outlook.find_rollout(query)).map_err(|refused| refused.kind)
    };
    let id = |digits: &str| RolloutQuery::Id(digits.to_owned());
    let (long, short) = (format!("{first:#}"), format!("{second}"));
    let nowhere = RolloutQuery::Scope(Scope { env: "void".parse().unwrap(), ..scope() });
    let cases = [
        ("in full", id(&long), Ok(first)),
        ("by its start", id(&short), Ok(second)),
        ("four digits", id(&long[..4]), Ok(first)),
        ("three digits", id(&long[..3]), Err(RefusedKind::Invalid)),
        ("upper case", id("ABCD"), Err(RefusedKind::Invalid)),
        ("too long", id(&format!("{long}0")), Err(RefusedKind::Invalid)),
        ("unknown", id("0123456789"), Err(RefusedKind::NotFound)),
        ("of a scope", RolloutQuery::Scope(scope()), Ok(second)),
        ("of no scope", nowhere, Err(RefusedKind::NotFound)),
        ("the latest", RolloutQuery::Latest, Ok(second)),
    ];
    for (case, query, found) in cases {
        assert_eq!(ask(&world, &query), found, "{case}");
    }
    // A second one with the same digits in front.
    let rollout = world.chain.rollout(&first).unwrap().clone();
    let mut bytes = *first.as_bytes();
    bytes[31] ^= 1;
    let twin = Digest::from_computed(bytes);
    world.pending.push(Pending { id: twin, rollout, missing: String::new() });
    assert_eq!(ask(&world, &id(&long[..12])), Err(RefusedKind::Invalid), "ambiguous");
    assert_eq!(ask(&world, &id(&long)), Ok(first), "in full it is not");
    let empty = World::new(0);
    assert_eq!(ask(&empty, &RolloutQuery::Latest), Err(RefusedKind::NotFound));
}

#[test]
fn a_rollout_that_lacks_signatures_is_found_and_says_so() {
    let mut world = World::new(1);
    let one = world.release("1");
    let waiting = world.deploy(None, &one);
    world.observe();
    for query in [RolloutQuery::Scope(scope()), RolloutQuery::Latest] {
        assert_eq!(world.look(|outlook| outlook.find_rollout(&query)), Ok(waiting));
    }
    let report = world.look(|outlook| outlook.rollout_report(&waiting)).unwrap();
    assert_eq!(report.phase, RolloutPhase::Pending);
    assert!(report.why.contains("0 of 1 approvals"), "{}", report.why);
    assert_eq!(world.look(|outlook| outlook.scope_facts(&scope())).rollout, None, "no effect yet");
    let fleet = world.report();
    assert!(fleet.rollouts.is_empty(), "it is not in force");
    assert_eq!(fleet.pending.iter().map(|one| one.id).collect::<Vec<_>>(), [waiting]);
    world.clock = report.expires;
    assert!(world.report().pending.is_empty(), "signatures come too late");
}

#[test]
fn replaced_rollouts_are_followed_up_to_a_number() {
    let mut world = World::new(0);
    let targets = [world.release("1"), world.release("2")];
    let mut rollouts = Vec::new();
    for epoch in 0..REPLACED_MAX + 9 {
        let from = epoch.checked_sub(1).map(|before| &targets[before % 2]);
        rollouts.push(world.deploy(from.cloned().as_ref(), &targets[epoch % 2]));
        world.complete(*rollouts.last().unwrap());
    }
    assert_eq!(world.observer.followed.len(), REPLACED_MAX + 1);
    let followed = |id: &Digest| world.observer.followed.contains_key(id);
    assert!(rollouts[..8].iter().all(|id| !followed(id)) && rollouts[8..].iter().all(followed));
    // What was proven of the others is still known.
    let facts = world.look(|outlook| outlook.scope_facts(&scope()));
    assert_eq!(facts.history.len(), rollouts.len());
    assert_eq!(world.phase(&rollouts[0]), RolloutPhase::Complete);
}

#[test]
fn every_request_that_only_reads_is_answered_and_no_other() {
    let (world, [one, _], [first, _]) = fleet_of_two_releases();
    let (service, version) = (scope().service, one.version.clone());
    let missing = "9".parse().unwrap();
    let requests = [
        ControlRequest::Fleet,
        ControlRequest::Rollout(RolloutQuery::Latest),
        ControlRequest::Statement { id: first },
        ControlRequest::Statement { id: Digest::of(b"") },
        ControlRequest::Release { service: service.clone(), version },
        ControlRequest::Release { service: service.clone(), version: missing },
        ControlRequest::Releases { service: service.clone() },
        ControlRequest::Scope(scope()),
        ControlRequest::Submit { envelope: Vec::new() },
        ControlRequest::Publish { release: Vec::new(), manifest: Vec::new() },
        ControlRequest::Renew,
        ControlRequest::TokenCreate { uses: 1, ttl_s: 1, labels: Vec::new() },
        ControlRequest::TokenList,
        ControlRequest::TokenRevoke { token: String::new() },
        ControlRequest::Host { id: host_id(1) },
        ControlRequest::Disk { dry_run: true },
        ControlRequest::Evidence { service, rollout: first, before: None },
        ControlRequest::NotifyList,
        ControlRequest::NotifyTest { receiver: "ops".parse().unwrap() },
    ];
    let told: Vec<_> = requests
        .iter()
        .map(|request| {
            let answer = world.look(|outlook| outlook.answer(request));
            assert_eq!(answer.is_some(), only_reads(request), "{request:?}");
            match answer {
                None => "none",
                Some(ControlReply::Fleet(_)) => "fleet",
                Some(ControlReply::Rollout(_)) => "rollout",
                Some(ControlReply::Statement { .. }) => "statement",
                Some(ControlReply::Releases(_)) => "releases",
                Some(ControlReply::Scope(_)) => "scope",
                Some(ControlReply::Refused(_)) => "refused",
                Some(other) => panic!("{other:?}"),
            }
        })
        .collect();
    let expected = "fleet rollout statement refused statement refused releases scope \
                    none none none none none none statement none none none none";
    assert_eq!(told.join(" "), expected);
}
