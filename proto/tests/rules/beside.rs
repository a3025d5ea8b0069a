//! What stands beside rollouts: skips, freezes, removals. Who may sign them, and what comes of them
//! in whatever order they are learned.

use std::collections::{BTreeMap, BTreeSet};

use proto::certificate::{Certificate, CertificateError, Claim};
use proto::receipt::{Receipt, State};
use proto::statement::{
    Action, Direction, Directive, FREEZE_S_MAX, Freeze, Payload, Revocation, Rollout,
};
use proto::trust::{Chain, Refusal, verify};
use proto::{Digest, HostId, UnixTime};

use crate::fleet::*;

const HOUR_S: u64 = 3_600;

fn host_id(place: u8) -> HostId {
    HostId::of(&public(HOSTS + place))
}

fn skip(of: &Rollout, place: u8, author: u8) -> Directive {
    Directive { host: Some(host_id(place)), ..directive(of, 1, Action::Skip, author) }
}

/// Production, for an hour.
pub(crate) fn freeze(sequence: u64, author: u8) -> Freeze {
    Freeze {
        fleet: root().fleet,
        env: parsed("production"),
        host: None,
        sequence,
        until: NOW.plus_s(HOUR_S),
        author: key_id(author),
        created: NOW,
        reason: String::new(),
        critical: Vec::new(),
    }
}

fn lift(sequence: u64, author: u8) -> Freeze {
    Freeze { until: NOW, ..freeze(sequence, author) }
}

pub(crate) fn removal(place: u8, author: u8) -> Revocation {
    Revocation {
        fleet: root().fleet,
        env: parsed("production"),
        host: host_id(place),
        author: key_id(author),
        created: NOW,
        reason: "sold".to_owned(),
        critical: Vec::new(),
    }
}

fn frozen_until(chain: &Chain, place: u8) -> Option<UnixTime> {
    chain.frozen_until(&parsed("production"), &host_id(place))
}

// --- who may ---

#[test]
fn r6_who_may_skip_a_host() {
    let first = rollout();
    let chain = chain_with(&root(), &[&first]);
    let by = |author: u8| outcome(&chain, &signed(&skip(&first, 1, author), &[author]));
    let bent = |bend: &dyn Fn(&mut Directive)| {
        let mut bent = skip(&first, 1, ANNA);
        bend(&mut bent);
        outcome(&chain, &signed(&bent, &[ANNA]))
    };
    check_rows(&[
        ("who deploys there", by(ANNA), "effective"),
        ("the emergency", by(EMMA), "effective"),
        ("who deploys elsewhere", by(DIRK), "may not sign"),
        ("who approves", by(CLEO), "may not sign"),
        ("CI", by(CI), "may not sign"),
        ("the coordinator: it would make the fleet less careful", by(COORDINATOR), "may not sign"),
        ("a stranger", by(STRANGER), "no key of this fleet"),
        ("a host of another cohort", bent(&|d| d.host = Some(host_id(9))), "not in the cohort"),
        ("nobody", bent(&|d| d.host = None), "given with skip"),
        ("a pause of one host", bent(&|d| d.action = Action::Pause), "given with skip"),
        ("a wave", bent(&|d| d.wave = Some(0)), "given with promote"),
    ]);
    let unknown = skip(&next(&first, "2"), 1, ANNA);
    let needs = verify(&chain, &signed(&unknown, &[ANNA]), NOW);
    assert_eq!(needs, Err(Refusal::Needs(next(&first, "2").envelope().id())));
}

/// Where the time of a statement is acted on it is not believed; an abort and a removal are.
#[test]
fn r8_a_host_without_the_time_takes_what_stops_it() {
    let first = rollout();
    let chain = chain_with(&root(), &[&first]);
    let created = NOW.plus_s(72 * HOUR_S);
    let abort = Directive { created, ..directive(&first, 1, Action::Abort, ANNA) };
    let removal = Revocation { created, ..removal(1, ANNA) };
    let freeze = Freeze { created, until: created.plus_s(HOUR_S), ..freeze(1, ANNA) };
    check_rows(&[
        ("an abort", outcome(&chain, &signed(&abort, &[ANNA])), "effective"),
        ("a removal", outcome(&chain, &signed(&removal, &[ANNA])), "effective"),
        ("a freeze", outcome(&chain, &signed(&freeze, &[ANNA])), "more than a day after"),
    ]);
}

#[test]
fn r3_who_may_freeze() {
    let chain = chain_with(&root(), &[]);
    let by = |freeze: &Freeze, author: u8| outcome(&chain, &signed(freeze, &[author]));
    let lasts =
        |seconds: u64, author: u8| Freeze { until: NOW.plus_s(seconds), ..freeze(1, author) };
    let held = |author: u8| Freeze { host: Some(host_id(1)), ..freeze(1, author) };
    let day = 24 * HOUR_S;
    check_rows(&[
        ("who deploys there", by(&freeze(1, ANNA), ANNA), "effective"),
        ("one host of it", by(&held(ANNA), ANNA), "effective"),
        ("the emergency", by(&freeze(1, EMMA), EMMA), "effective"),
        ("who deploys elsewhere", by(&freeze(1, DIRK), DIRK), "may not sign"),
        ("CI", by(&freeze(1, CI), CI), "may not sign"),
        ("a stranger", by(&freeze(1, STRANGER), STRANGER), "no key of this fleet"),
        ("in another's name", by(&freeze(1, ANNA), BERT), "has not signed it"),
        ("people, as long as there is", by(&lasts(FREEZE_S_MAX, ANNA), ANNA), "effective"),
        ("and longer", by(&lasts(FREEZE_S_MAX + 1, ANNA), ANNA), "until - created"),
        ("the coordinator, a day", by(&lasts(day, COORDINATOR), COORDINATOR), "effective"),
        ("and longer", by(&lasts(day + 1, COORDINATOR), COORDINATOR), "the coordinator alone"),
        ("it lifts nothing", by(&lift(9, COORDINATOR), COORDINATOR), "and lift nothing"),
        (
            "a place that is not there",
            by(&Freeze { env: parsed("moon"), ..freeze(1, EMMA) }, EMMA),
            "no environment moon",
        ),
        ("sequence 0", by(&freeze(0, ANNA), ANNA), "sequence"),
    ]);
}

#[test]
fn r9_who_may_remove_a_host() {
    let chain = chain_with(&root(), &[]);
    let by = |author: u8| outcome(&chain, &signed(&removal(1, author), &[author]));
    check_rows(&[
        ("who deploys there", by(ANNA), "effective"),
        ("the emergency", by(EMMA), "effective"),
        ("who deploys elsewhere", by(DIRK), "may not sign"),
        ("the coordinator, with all its keys", by(COORDINATOR), "may not sign"),
        ("the host CA", by(HOST_CA), "may not sign"),
        ("a stranger", by(STRANGER), "no key of this fleet"),
    ]);
}

/// Where two must sign, one freezes, skips and removes nothing yet.
#[test]
fn r1_below_the_threshold_they_wait() {
    let mut root = root();
    root.roles.insert(parsed("deploy:production"), holders(2, &[ANNA, BERT]));
    let first = rollout();
    let chain = chain_with(&root, &[&first]);
    let (skip, freeze, removal) = (skip(&first, 1, ANNA), freeze(1, ANNA), removal(1, ANNA));
    let all = |by: &[u8]| [signed(&skip, by), signed(&freeze, by), signed(&removal, by)];
    for bytes in all(&[ANNA]) {
        assert!(
            outcome(&chain, &bytes).starts_with("pending: 1 of 2"),
            "{}",
            outcome(&chain, &bytes)
        );
    }
    for bytes in all(&[ANNA, BERT]) {
        assert_eq!(outcome(&chain, &bytes), "effective");
    }
}

// --- what comes of them ---

#[test]
fn r6_skips_stand_beside_the_directive_in_force() {
    let first = rollout();
    let mut chain = chain_with(&root(), &[&first]);
    let id = first.envelope().id();
    take(&mut chain, &signed(&directive(&first, 5, Action::Pause, ANNA), &[ANNA])).unwrap();
    for place in [1, 3] {
        take(&mut chain, &signed(&skip(&first, place, BERT), &[BERT])).unwrap();
    }
    assert_eq!(chain.directive(&id).unwrap().1.action, Action::Pause);
    let excused: BTreeSet<_> = chain.excuses(&id).into_values().collect();
    assert_eq!(excused, BTreeSet::from([host_id(1), host_id(3)]));
    // After an abort, too, and of another rollout it says nothing.
    take(&mut chain, &signed(&directive(&first, 6, Action::Abort, ANNA), &[ANNA])).unwrap();
    take(&mut chain, &signed(&skip(&first, 2, BERT), &[BERT])).unwrap();
    assert_eq!(chain.excuses(&id).len(), 3);
    assert!(chain.excuses(&Digest::of(b"another")).is_empty());
}

#[test]
fn r9_a_removal_excuses_the_host_in_its_environment_alone() {
    let production = rollout();
    let staging = Rollout { env: parsed("staging"), author: key_id(DIRK), ..production.clone() };
    let mut chain = chain_with(&root(), &[&production]);
    take(&mut chain, &signed(&staging, &[DIRK])).unwrap();
    take(&mut chain, &signed(&removal(2, ANNA), &[ANNA])).unwrap();
    let excused = |rollout: &Rollout| chain.excuses(&rollout.envelope().id());
    assert_eq!(excused(&production).into_values().collect::<Vec<_>>(), [host_id(2)]);
    assert!(excused(&staging).is_empty(), "Anna has no say there");
    assert!(chain.revocation(&host_id(2), &parsed("production")).is_some());
    assert!(chain.revocation(&host_id(2), &parsed("staging")).is_none());
    assert!(chain.revocation(&host_id(1), &parsed("production")).is_none());
}

#[test]
fn r6_the_newest_freeze_of_people_counts_and_the_coordinator_only_adds() {
    let at = |hours: u64| Some(NOW.plus_s(hours * HOUR_S));
    let send = |chain: &mut Chain, freeze: Freeze, author: u8| {
        take(chain, &signed(&freeze, &[author])).map(drop)
    };
    let of = |sequence, hours: u64, author| Freeze {
        until: NOW.plus_s(hours * HOUR_S),
        ..freeze(sequence, author)
    };
    let mut chain = chain_with(&root(), &[]);
    assert_eq!(frozen_until(&chain, 0), None);
    send(&mut chain, of(1, 10, ANNA), ANNA).unwrap();
    assert_eq!(frozen_until(&chain, 0), at(10));
    // A stolen coordinator can make it longer for a while, not shorter.
    send(&mut chain, of(7, 2, COORDINATOR), COORDINATOR).unwrap();
    assert_eq!(frozen_until(&chain, 0), at(10));
    send(&mut chain, of(8, 20, COORDINATOR), COORDINATOR).unwrap();
    assert_eq!(frozen_until(&chain, 0), at(20));
    // People end both with the sequence they see, and replaying the old ones does not help.
    send(&mut chain, lift(8, BERT), BERT).unwrap();
    assert_eq!(frozen_until(&chain, 0), Some(NOW));
    for (old, author) in [(of(1, 10, ANNA), ANNA), (of(7, 2, COORDINATOR), COORDINATOR)] {
        let refused = send(&mut chain, old, author).unwrap_err();
        assert!(matches!(refused, Refusal::FreezeTooOld { .. }), "{refused}");
    }
    // One host longer than all of them.
    let held = Freeze { host: Some(host_id(3)), ..of(1, 30, ANNA) };
    send(&mut chain, held, ANNA).unwrap();
    assert_eq!((frozen_until(&chain, 3), frozen_until(&chain, 2)), (at(30), Some(NOW)));
    assert_eq!(chain.freezes().count(), 2);
}

#[test]
fn order_of_learning_what_stands_beside() {
    let first = rollout();
    let again = Revocation { reason: "again".to_owned(), ..removal(1, ANNA) };
    let statements = [
        signed(&freeze(3, ANNA), &[ANNA]),
        signed(&lift(4, BERT), &[BERT]),
        signed(&freeze(6, COORDINATOR), &[COORDINATOR]),
        signed(&skip(&first, 1, ANNA), &[ANNA]),
        signed(&removal(1, ANNA), &[ANNA]),
        signed(&Freeze { reason: "again".to_owned(), ..freeze(3, ANNA) }, &[ANNA]),
        signed(&again, &[ANNA]),
    ];
    let chain = chain_with(&root(), &[&first]);
    let end = crate::learning::assert_order_does_not_matter("beside", &chain, &statements);
    assert_eq!(frozen_until(&end, 0), Some(NOW.plus_s(HOUR_S)), "the coordinator's");
    assert_eq!(end.newest_freezes().count(), 2, "what was replaced is told nobody");
    assert_eq!(end.excuses(&first.envelope().id()).len(), 3);
    let removals = [removal(1, ANNA), again].map(|removal| removal.envelope().id());
    assert_eq!(end.revoked(), removals.into_iter().min().into_iter().collect(), "one says it all");
}

// --- certificates ---

fn receipts(states: &[(u8, State)]) -> Vec<proto::receipt::SignedReceipt> {
    let receipt = |(place, state): &(u8, State)| {
        let receipt = Receipt {
            rollout: rollout().envelope().id(),
            host: host_id(*place),
            sequence: 1,
            attempt: 1,
            state: *state,
            cause: None,
            note: String::new(),
        };
        receipt.sign(&key(HOSTS + place))
    };
    states.iter().map(receipt).collect()
}

/// Four hosts in waves of one and three, and no budget for silence: the last one is dead.
#[test]
fn r17_a_certificate_without_an_excused_host_needs_the_excuse() {
    let first = rollout();
    let id = first.envelope().id();
    let mut chain = chain_with(&root(), &[&first]);
    let by_anna = skip(&first, 3, ANNA);
    let statement = by_anna.envelope().id();
    let committed = |places: &[u8]| {
        receipts(&places.iter().map(|place| (*place, State::Committed)).collect::<Vec<_>>())
    };
    let certificate = |excuses: Vec<Digest>| Certificate {
        rollout: id,
        claim: Claim::Complete,
        receipts: committed(&[0, 1, 2]),
        excuses,
    };
    let judge = |chain: &Chain, one: &Certificate| {
        one.verify(id, &first, &chain.excuses(&id)).map(|receipts| receipts.len())
    };
    let not_proven = Err(CertificateError::NotProven(Claim::Complete));
    assert_eq!(judge(&chain, &certificate(Vec::new())), not_proven);
    let needs = Err(CertificateError::NeedsExcuse(statement));
    assert_eq!(judge(&chain, &certificate(vec![statement])), needs);
    take(&mut chain, &signed(&by_anna, &[ANNA])).unwrap();
    assert_eq!(judge(&chain, &certificate(vec![statement])), Ok(3));
    assert_eq!(judge(&chain, &certificate(Vec::new())), not_proven, "it must be named");
    let crowd = certificate(vec![statement; 5]);
    assert_eq!(judge(&chain, &crowd), Err(CertificateError::Foreign), "more than there are hosts");
    // Nobody is excused so far that nobody serves it.
    let alone = Certificate { receipts: Vec::new(), ..certificate(vec![statement]) };
    assert_eq!(judge(&chain, &alone), not_proven);
}

#[test]
fn r17_a_wave_is_proven_by_its_hosts_and_those_before() {
    let first = rollout();
    let id = first.envelope().id();
    let judge = |wave: u32, states: &[(u8, State)]| {
        let (claim, receipts) = (Claim::Wave(wave), receipts(states));
        let certificate = Certificate { rollout: id, claim, receipts, excuses: Vec::new() };
        certificate.verify(id, &first, &BTreeMap::new()).is_ok()
    };
    use State::{Baking, Committed};
    assert!(judge(0, &[(0, Committed)]));
    assert!(!judge(0, &[(0, Baking)]));
    assert!(!judge(0, &[(1, Committed)]), "another wave's host");
    assert!(!judge(1, &[(1, Committed), (2, Committed), (3, Committed)]), "the first is missing");
    assert!(judge(1, &[(0, Committed), (1, Committed), (2, Committed), (3, Committed)]));
    assert!(
        !judge(2, &[(0, Committed), (1, Committed), (2, Committed), (3, Committed)]),
        "no wave"
    );
}

// --- rollouts that are more careful ---

#[test]
fn r1_what_makes_a_rollout_more_careful_must_be_called_critical() {
    let chain = chain_with(&root(), &[]);
    let bent = |bend: &dyn Fn(&mut Rollout), critical: &[&str]| {
        let mut bent = rollout();
        bend(&mut bent);
        bent.critical = critical.iter().map(|name| (*name).to_owned()).collect();
        outcome(&chain, &signed(&bent, &[ANNA]))
    };
    let windows = |rollout: &mut Rollout| rollout.windows = vec![parsed("mon-fri 09:00-17:00")];
    let rolling = |rollout: &mut Rollout| rollout.in_flight_max = Some(2);
    let adopt = |rollout: &mut Rollout| rollout.adopt = true;
    check_rows(&[
        ("windows", bent(&windows, &["windows"]), "effective"),
        ("windows, not called so", bent(&windows, &[]), "windows: must be called critical"),
        ("rolling", bent(&rolling, &["in_flight_max"]), "effective"),
        ("rolling, not called so", bent(&rolling, &[]), "in_flight_max: must be called"),
        ("adoption", bent(&adopt, &["adopt"]), "effective"),
        // One that does not know the word would stop what runs.
        ("adoption, not called so", bent(&adopt, &[]), "adopt: must be called"),
        (
            "adoption of what somebody deployed",
            bent(&|r| (r.adopt, r.from) = (true, Some(r.to.clone())), &["adopt"]),
            "adopt: only forward, and where nothing was before",
        ),
        (
            "adoption back",
            bent(&|r| (r.adopt, r.direction) = (true, Direction::Rollback), &["adopt"]),
            "adopt: only forward, and where nothing was before",
        ),
        (
            "nothing in flight",
            bent(&|r| r.in_flight_max = Some(0), &["in_flight_max"]),
            "must be 1",
        ),
        (
            "too many windows",
            bent(&|r| r.windows = vec![parsed("mon 09:00-10:00"); 17], &["windows"]),
            "windows = 17",
        ),
    ]);
}
