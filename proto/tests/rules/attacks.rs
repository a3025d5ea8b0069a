//! A table per attack, by the names they have in the literature on update systems.

use proto::UnixTime;
use proto::dsse::SIGNATURES_MAX;
use proto::statement::{
    Action, Direction, ENVELOPE_BYTES_MAX, Kind, Payload, Root, SMALL_ENVELOPE_BYTES_MAX,
};
use proto::trust::{Chain, Refusal, WhyNot, verify};

use crate::fleet::*;

#[test]
fn r5_rollback_attack_an_older_rollout_replayed_changes_nothing() {
    let first = rollout();
    let second = next(&first, "2");
    let mut chain = chain_with(&root(), &[&first, &second]);
    let before = chain.clone();
    let head = second.envelope().id();

    let replayed = take(&mut chain, &signed(&first, &[ANNA])).unwrap();
    assert_eq!(replayed.superseded_by, Some(head));
    assert_eq!(chain, before);
    assert_eq!(
        chain.may_start(NOW, &replayed.id),
        Err(WhyNot::Superseded { by: head }),
        "it may not start"
    );

    // One that was never seen before, and is as old.
    let other = proto::statement::Rollout { to: target("3"), ..first };
    let late = take(&mut chain, &signed(&other, &[ANNA])).unwrap();
    assert_eq!(late.superseded_by, Some(head));
    assert_eq!(chain.head(&other.scope()), before.head(&other.scope()));
    assert!(chain.may_start(NOW, &late.id).is_err());
}

#[test]
fn r2_rollback_attack_roots_go_forward_only() {
    let first = root();
    let mut second = Root { version: 2, ..first.clone() };
    second.roles.insert(parsed("root"), holders(1, &[ROOT_2]));
    let mut chain = chain_of(&first);
    take(&mut chain, &signed(&second, &[ROOT, ROOT_2])).unwrap();
    assert_eq!(chain.root(), &second);

    take(&mut chain, &signed(&first, &[ROOT])).unwrap();
    assert_eq!(chain.root(), &second, "the first one replayed is known, and stays behind");
    let rows = |version| Root { version, expires: NOW, ..second.clone() };
    check_rows(&[
        (
            "another first",
            outcome(&chain, &signed(&rows(1), &[ROOT, ROOT_2])),
            "version 1 is already",
        ),
        (
            "another second",
            outcome(&chain, &signed(&rows(2), &[ROOT, ROOT_2])),
            "version 2 is already",
        ),
        (
            "the third, by keys that went",
            outcome(&chain, &signed(&rows(3), &[ROOT])),
            "may not sign",
        ),
        ("the third", outcome(&chain, &signed(&rows(3), &[ROOT_2])), "effective"),
        (
            "one too far",
            outcome(&chain, &signed(&rows(4), &[ROOT_2])),
            "holds 2 and takes only the next",
        ),
        (
            "far too far",
            outcome(&chain, &signed(&rows(u32::MAX), &[ROOT_2])),
            "takes only the next",
        ),
        ("none at all", outcome(&chain, &signed(&rows(0), &[ROOT_2])), "must be 1 or more"),
    ]);
}

/// Whoever withholds what is new can hold a host where it is, and what it holds expires: it starts
/// nothing from then on. What runs is nobody's business here.
#[test]
fn r7_freeze_attack_what_is_old_expires() {
    let first = rollout();
    let second = next(&first, "2");
    let back = undo(&second, ANNA);
    let root = Root { expires: NOW.plus_s(7_200), ..root() };
    let (first_id, second_id, back_id) =
        (first.envelope().id(), second.envelope().id(), back.envelope().id());

    let chain = chain_with(&root, &[&first]);
    let at = |seconds| chain.may_start(NOW.plus_s(seconds), &first_id);
    assert_eq!(at(0), Ok(()));
    assert_eq!(at(3_599), Ok(()));
    assert_eq!(at(3_600), Err(WhyNot::Expired), "the rollout's own expiry");
    assert_eq!(at(7_200), Err(WhyNot::RootExpired { version: 1 }));
    assert_eq!(chain.may_start(NOW, &second_id), Err(WhyNot::Unknown(second_id)));

    // Expired ones still verify, since a host that comes late needs the standing intent.
    assert!(verify(&chain, &signed(&second, &[ANNA]), NOW.plus_s(1_000_000)).is_ok());

    // The way back does not expire.
    let chain = chain_with(&root, &[&first, &second, &back]);
    assert_eq!(chain.may_start(NOW.plus_s(1_000_000), &back_id), Ok(()));
}

#[test]
fn r8_a_clock_that_is_behind_does_not_lift_an_expiry() {
    let first = rollout();
    let later = proto::statement::Rollout {
        created: NOW.plus_s(3_700),
        expires: NOW.plus_s(3_700),
        ..next(&first, "2")
    };
    let chain = chain_with(&root(), &[&first, &later]);
    assert_eq!(chain.now_floor(), NOW.plus_s(3_700));
    assert_eq!(chain.may_start(UnixTime(0), &later.envelope().id()), Err(WhyNot::Expired));
}

/// R3: the coordinator makes hosts by itself, each as late as is taken: no freeze ends by that.
#[test]
fn r3_the_coordinator_does_not_move_the_time() {
    let mut chain = chain_with(&root(), &[&rollout()]);
    for _ in 0..3 {
        let issued = chain.now_floor().plus_s(86_400);
        let late = proto::statement::Host { issued, ..host(HOSTS) };
        take(&mut chain, &signed(&late, &[HOST_CA])).unwrap();
    }
    assert_eq!(chain.now_floor(), NOW);
}

/// R3: nor does it pause for ever.
#[test]
fn r3_people_can_always_go_past_the_coordinator() {
    let first = rollout();
    let mut chain = chain_with(&root(), &[&first]);
    let highest = proto::statement::COORDINATOR_SEQUENCE_MAX;
    let pause =
        |sequence| signed(&directive(&first, sequence, Action::Pause, COORDINATOR), &[COORDINATOR]);
    let resume = signed(&directive(&first, highest + 1, Action::Resume, ANNA), &[ANNA]);
    check_rows(&[
        ("the highest", outcome(&chain, &pause(highest)), "effective"),
        ("one more", outcome(&chain, &pause(highest + 1)), "people can always go past it"),
    ]);
    take(&mut chain, &pause(highest)).unwrap();
    assert_eq!(outcome(&chain, &resume), "effective");
}

#[test]
fn r8_fast_forward_attack_on_time() {
    let chain = chain_of(&root());
    let made = |seconds| {
        let host = proto::statement::Host { issued: NOW.plus_s(seconds), ..host(HOSTS) };
        outcome(&chain, &signed(&host, &[HOST_CA]))
    };
    check_rows(&[
        ("a day ahead", made(86_400), "effective"),
        ("a second more", made(86_401), "more than a day after"),
        ("the end of time", made(u64::MAX - NOW.0), "more than a day after"),
    ]);
}

#[test]
fn r5_fast_forward_attack_on_epochs() {
    let first = rollout();
    let chain = chain_with(&root(), &[&first]);
    let at = |epoch, author: u8, by: &[u8]| {
        let bent = proto::statement::Rollout { epoch, author: key_id(author), ..next(&first, "2") };
        outcome(&chain, &signed(&bent, by))
    };
    check_rows(&[
        ("the next", at(2, ANNA, &[ANNA]), "effective"),
        ("one skipped", at(3, ANNA, &[ANNA]), "epoch 3: after previous comes 2"),
        ("the highest", at(1 << 53, ANNA, &[ANNA]), "after previous comes 2"),
        ("beyond counting", at(u64::MAX, ANNA, &[ANNA]), "must be 1 to"),
        ("the same again", at(1, ANNA, &[ANNA]), "none with epoch 1"),
        ("none", at(0, ANNA, &[ANNA]), "must be 1 to"),
        ("an emergency's jump", at(1_001, EMMA, &[EMMA]), "effective"),
        ("one that is too far", at(1_002, EMMA, &[EMMA]), "by at most 1000"),
        ("a jump for others", at(3, ANNA, &[ANNA, EMMA]), "effective"),
    ]);

    let orphan = proto::statement::Rollout {
        previous: Some(proto::Digest::of(b"nothing")),
        ..next(&first, "2")
    };
    let needs = verify(&chain, &signed(&orphan, &[ANNA]), NOW).unwrap_err();
    assert_eq!(needs, Refusal::Needs(proto::Digest::of(b"nothing")));
}

/// Nor back: who follows the newest is newer than it, whoever signs.
#[test]
fn r5_no_epoch_is_older_than_the_one_it_follows() {
    let first = rollout();
    let second = next(&first, "2");
    let third = next(&second, "3");
    let chain = chain_with(&root(), &[&first, &second, &third]);
    let at = |epoch, author: u8, by: &[u8]| {
        let bent = proto::statement::Rollout { epoch, author: key_id(author), ..next(&third, "2") };
        outcome(&chain, &signed(&bent, by))
    };
    check_rows(&[
        ("the next", at(4, ANNA, &[ANNA]), "effective"),
        ("the same", at(3, ANNA, &[ANNA]), "epoch 3: after previous comes 4"),
        ("an older one", at(2, ANNA, &[ANNA]), "epoch 2: after previous comes 4"),
        ("an emergency's", at(2, EMMA, &[EMMA]), "epoch 2: after previous comes 4"),
        ("with an emergency's key", at(2, ANNA, &[ANNA, EMMA]), "after previous comes 4"),
    ]);
}

#[test]
fn mix_and_match_attack_a_rollout_of_pieces_that_do_not_fit() {
    let first = rollout();
    let mut chain = chain_with(&root(), &[&first]);
    let other = proto::statement::Release { service: parsed("shop"), ..release("2") };
    let other_id = other.envelope().id();
    take(&mut chain, &signed(&other, &[CI, COORDINATOR])).unwrap();
    let of_other = proto::statement::Target { release: other_id, version: parsed("2") };
    let misnamed = proto::statement::Target { version: parsed("9"), ..target("2") };
    let good = next(&first, "2");

    let to = |to: &proto::statement::Target| proto::statement::Rollout {
        to: to.clone(),
        ..good.clone()
    };
    let from = proto::statement::Rollout { from: Some(of_other.clone()), ..good.clone() };
    let staging =
        proto::statement::Rollout { env: parsed("staging"), author: key_id(DIRK), ..good.clone() };
    let mut swapped = good.clone();
    swapped.cohort[0].key = public(STRANGER);
    check_rows(&[
        ("all fits", outcome(&chain, &signed(&good, &[ANNA])), "effective"),
        ("to another service", outcome(&chain, &signed(&to(&of_other), &[ANNA])), "is of shop"),
        ("from another service", outcome(&chain, &signed(&from, &[ANNA])), "is of shop"),
        (
            "another version's name",
            outcome(&chain, &signed(&to(&misnamed), &[ANNA])),
            "is version 2",
        ),
        (
            "after one of another scope",
            outcome(&chain, &signed(&staging, &[DIRK])),
            "rollout of web/production",
        ),
        (
            "a host with another's key",
            outcome(&chain, &signed(&swapped, &[ANNA])),
            "not the id of its key",
        ),
        (
            "a release nobody has",
            outcome(&chain, &signed(&next(&first, "7"), &[ANNA])),
            "needs statement",
        ),
    ]);
}

#[test]
fn endless_data_attack_is_seen_before_anything_is_parsed() {
    let chain = chain_of(&root());
    let long = proto::statement::Release { critical: vec!["x".repeat(100_000)], ..release("1") };
    let half_open = [b"{\"payloadType\":\"".as_slice(), &vec![b'a'; ENVELOPE_BYTES_MAX]].concat();
    let deep = [b"{\"payload\":".as_slice(), &vec![b'['; 100_000]].concat();
    let many = |count: usize| {
        let entry = |index| format!(r#"{{"keyid":"{index:016x}","sig":"{}"}}"#, "A".repeat(86));
        let signatures: Vec<_> = (0..count).map(entry).collect();
        let kind = Kind::Host.payload_type();
        let list = signatures.join(",");
        format!(r#"{{"payloadType":"{kind}","payload":"","signatures":[{list}]}}"#).into_bytes()
    };
    check_rows(&[
        (
            "too long for any",
            outcome(&chain, &vec![b' '; ENVELOPE_BYTES_MAX + 1]),
            "at most 2097152",
        ),
        ("a string without end", outcome(&chain, &half_open), "at most 2097152"),
        (
            "too long for its kind",
            outcome(&chain, &signed(&long, &[CI])),
            &format!("at most {SMALL_ENVELOPE_BYTES_MAX}"),
        ),
        ("lists in lists", outcome(&chain, &deep), "not an envelope"),
        (
            "as many signatures as may be",
            outcome(&chain, &many(SIGNATURES_MAX)),
            "no key of this fleet",
        ),
        ("one more", outcome(&chain, &many(SIGNATURES_MAX + 1)), "17 signatures"),
        ("nothing", outcome(&chain, b""), "not an envelope"),
    ]);
}

#[test]
fn wrong_scope_a_key_of_staging_signs_for_production() {
    let first = rollout();
    let chain = chain_with(&root(), &[&first]);
    let by_dirk = proto::statement::Rollout { author: key_id(DIRK), ..next(&first, "2") };
    check_rows(&[
        ("alone", outcome(&chain, &signed(&by_dirk, &[DIRK])), "(dirk) may not sign this rollout"),
        (
            "beside Anna, as author",
            outcome(&chain, &signed(&by_dirk, &[DIRK, ANNA])),
            "may not be the author",
        ),
        (
            "a directive",
            outcome(&chain, &signed(&directive(&first, 1, Action::Pause, DIRK), &[DIRK])),
            "(dirk) may not sign this directive",
        ),
    ]);
}

#[test]
fn r6_replayed_directives() {
    let first = rollout();
    let mut chain = chain_with(&root(), &[&first]);
    let send = |chain: &mut Chain, sequence, action| {
        let bytes = signed(&directive(&first, sequence, action, ANNA), &[ANNA]);
        let outcome = outcome(chain, &bytes);
        take(chain, &bytes).ok();
        let (_, held) = chain.directive(&first.envelope().id()).unwrap();
        (outcome, held.sequence, held.action)
    };
    use Action::{Abort, Pause, Promote, Resume};
    let too_old = "is in force";
    for (name, sequence, action, expected, in_force) in [
        ("the first", 1, Pause, "effective", (1, Pause)),
        ("the same again", 1, Pause, "effective", (1, Pause)),
        ("resume of the same sequence loses", 1, Resume, too_old, (1, Pause)),
        ("promote of the same sequence loses", 1, Promote, too_old, (1, Pause)),
        ("a newer one", 5, Resume, "effective", (5, Resume)),
        ("the old pause replayed", 1, Pause, too_old, (5, Resume)),
        ("pause wins the tie", 5, Pause, "effective", (5, Pause)),
        ("the newest", 9, Resume, "effective", (9, Resume)),
        ("abort latches, whatever its sequence", 2, Abort, "effective", (2, Abort)),
        ("and is not resumed", 10, Resume, "aborted", (2, Abort)),
        ("not by the highest either", 1 << 53, Promote, "aborted", (2, Abort)),
    ] {
        let (outcome, held_sequence, held_action) = send(&mut chain, sequence, action);
        assert!(outcome.contains(expected), "{name}: {outcome}");
        assert_eq!((held_sequence, held_action), in_force, "{name}");
    }
}

#[test]
fn directives_that_do_not_fit() {
    let first = rollout();
    let chain = chain_with(&root(), &[&first]);
    let unknown = directive(&next(&first, "2"), 1, Action::Pause, ANNA);
    let needs = verify(&chain, &signed(&unknown, &[ANNA]), NOW).unwrap_err();
    assert_eq!(needs, Refusal::Needs(next(&first, "2").envelope().id()));
    let promote =
        |wave| proto::statement::Directive { wave, ..directive(&first, 1, Action::Promote, ANNA) };
    check_rows(&[
        (
            "a stranger makes nobody fetch",
            outcome(&chain, &signed(&unknown, &[STRANGER])),
            "no key of this fleet",
        ),
        ("CI makes nobody fetch", outcome(&chain, &signed(&unknown, &[CI])), "may not sign"),
        ("a wave", outcome(&chain, &signed(&promote(Some(1)), &[ANNA])), "effective"),
        (
            "a wave too many",
            outcome(&chain, &signed(&promote(Some(2)), &[ANNA])),
            "the rollout has 2",
        ),
        ("no wave", outcome(&chain, &signed(&promote(None), &[ANNA])), "given with promote"),
    ]);
}

#[test]
fn r3_second_digest_for_a_version() {
    let mut chain = chain_with(&root(), &[]);
    let again = proto::statement::Release { created: NOW.plus_s(1), ..release("1") };
    check_rows(&[
        (
            "the first again",
            outcome(&chain, &signed(&release("1"), &[CI, COORDINATOR])),
            "effective",
        ),
        (
            "another",
            outcome(&chain, &signed(&again, &[CI, COORDINATOR])),
            "publish under a new version",
        ),
        (
            "another, half signed",
            outcome(&chain, &signed(&again, &[CI])),
            "publish under a new version",
        ),
    ]);
    let shop = proto::statement::Release { service: parsed("shop"), ..again };
    take(&mut chain, &signed(&shop, &[CI, COORDINATOR])).unwrap();
    assert!(
        chain.release_of(&parsed("shop"), &parsed("1")).is_some(),
        "versions are a service's own"
    );
}

#[test]
fn r3_author_approving_himself() {
    let mut root = root();
    policy_of_production(&mut root).approvals_min = 1;
    root.roles.insert(parsed("approve:production"), holders(1, &[ANNA, BERT, CLEO, ANNA_TOO]));
    let chain = chain_with(&root, &[]);
    let by = |keys: &[u8]| outcome(&chain, &signed(&rollout(), keys));
    let missing = "pending: 0 of 1 approvals";
    check_rows(&[
        ("the author alone, who holds the role", by(&[ANNA]), missing),
        ("with a second key of hers", by(&[ANNA, ANNA_TOO]), missing),
        ("another who deploys and approves", by(&[ANNA, BERT]), "effective"),
        ("one who approves", by(&[ANNA, CLEO]), "effective"),
        ("one who does not", by(&[ANNA, EMMA]), missing),
        ("the coordinator", by(&[ANNA, COORDINATOR]), missing),
        ("an approval without the author", by(&[CLEO]), "has not signed it"),
    ]);
}

#[test]
fn r3_nobody_gets_around_approvals_by_going_back() {
    let mut root = root();
    policy_of_production(&mut root).approvals_min = 1;
    let (first, second) = (rollout(), next(&rollout(), "2"));
    let chain = chain_with(&root, &[&first, &second]);
    let back = undo(&second, ANNA);
    let bent = |to: &str, from: &str| proto::statement::Rollout {
        to: target(to),
        from: Some(target(from)),
        ..back.clone()
    };
    let out_of_nothing = proto::statement::Rollout { direction: Direction::Rollback, ..rollout() };
    check_rows(&[
        ("back, without approval", outcome(&chain, &signed(&back, &[ANNA])), "effective"),
        ("forward needs one", outcome(&chain, &signed(&next(&second, "3"), &[ANNA])), "pending"),
        (
            "back to where nobody was",
            outcome(&chain, &signed(&bent("3", "2"), &[ANNA])),
            "was never rolled out",
        ),
        (
            "back, and on failure to there",
            outcome(&chain, &signed(&bent("1", "3"), &[ANNA])),
            "was never rolled out",
        ),
        (
            "back as the first",
            outcome(&chain, &signed(&out_of_nothing, &[ANNA])),
            "was never rolled out",
        ),
    ]);
}

/// A rollback bakes nowhere: what was stopped at its first host must not be everywhere at once.
#[test]
fn r12_going_back_leads_only_to_what_came_to_its_end() {
    let first = rollout();
    let (second, third) = (next(&first, "2"), next(&next(&first, "2"), "3"));
    let back = |newest: &proto::statement::Rollout, to: &str| {
        let back = undo(newest, ANNA);
        let from = match back.from == Some(target(to)) {
            true => newest.from.clone(),
            false => back.from.clone(),
        };
        signed(&proto::statement::Rollout { to: target(to), from, ..back }, &[ANNA])
    };
    let (one, two) = (chain_with(&root(), &[&first, &second]), {
        chain_with(&root(), &[&first, &second, &third])
    });
    let undone = undo(&second, ANNA);
    let after_undo = chain_with(&root(), &[&first, &second, &undone]);
    check_rows(&[
        ("to what it came from", outcome(&one, &back(&second, "1")), "effective"),
        ("further back", outcome(&two, &back(&third, "1")), "effective"),
        ("to what the last one leads to", outcome(&one, &back(&second, "2")), "no rollout forward"),
        ("to what the last one came from", outcome(&two, &back(&third, "2")), "effective"),
        (
            "to what a rollback took away",
            outcome(&after_undo, &back(&undone, "2")),
            "no rollout forward",
        ),
    ]);
}

/// What a scope came from counts as a place where it was, though no rollout led there.
#[test]
fn r12_going_back_to_what_ran_before_the_first_rollout() {
    let adopting =
        proto::statement::Rollout { from: Some(target("1")), to: target("2"), ..rollout() };
    let chain = chain_with(&root(), &[&adopting]);
    assert_eq!(outcome(&chain, &signed(&undo(&adopting, ANNA), &[ANNA])), "effective");
}

#[test]
fn values_out_of_range() {
    let chain = chain_with(&root(), &[&rollout()]);
    let bent = |bend: &dyn Fn(&mut proto::statement::Rollout)| {
        let mut bent = next(&rollout(), "2");
        bend(&mut bent);
        outcome(&chain, &signed(&bent, &[ANNA]))
    };
    let abort = proto::statement::Directive {
        reason: "\u{1b}]0;gotcha\u{7}".to_owned(),
        ..directive(&rollout(), 1, Action::Abort, ANNA)
    };
    let eager = {
        let mut root = Root { version: 2, ..root() };
        policy_of_production(&mut root).approvals_min = 9;
        root
    };
    check_rows(&[
        ("untouched", bent(&|_| {}), "effective"),
        ("nobody", bent(&|rollout| rollout.cohort.clear()), "cohort = 0 hosts: must be 1 to 10000"),
        (
            "a host twice",
            bent(&|rollout| rollout.cohort[1] = rollout.cohort[0].clone()),
            "a host stands twice",
        ),
        ("no waves", bent(&|rollout| rollout.waves.clear()), "waves reach 0 of 4 hosts"),
        (
            "waves that stop short",
            bent(&|rollout| rollout.waves.truncate(1)),
            "waves reach 1 of 4 hosts",
        ),
        ("an empty wave", bent(&|rollout| rollout.waves[1].hosts = 1), "must rise"),
        ("a wave beyond", bent(&|rollout| rollout.waves[1].hosts = 5), "waves reach 5 of 4 hosts"),
        ("nobody may be down", bent(&|rollout| rollout.max_unavailable = 0), "max_unavailable = 0"),
        ("more approvals than fit", bent(&|rollout| rollout.approvals = 9), "must be 0 to 8"),
        ("nowhere to go", bent(&|rollout| rollout.to = target("1")), "the same release"),
        ("a reason in two lines", bent(&|rollout| rollout.reason = "a\nb".into()), "one line"),
        (
            "a reason without end",
            bent(&|rollout| rollout.reason = "a".repeat(501)),
            "0 to 500 bytes",
        ),
        ("a terminal's commands", outcome(&chain, &signed(&abort, &[ANNA])), "one line"),
        ("a policy nobody can meet", outcome(&chain, &signed(&eager, &[ROOT])), "must be 0 to 8"),
    ]);
}

/// Each batch of a rolling rollout is a stage, and bakes.
#[test]
fn r2_policy_and_rolling_rollouts() {
    let mut root = root();
    let policy = policy_of_production(&mut root);
    (policy.stages_min, policy.bake_s_min) = (3, 120);
    let first = rollout();
    let rolling = |hosts: u8, batch: u32, wait_s: u32| {
        let wave = proto::statement::Wave {
            hosts: u32::from(hosts),
            wait_s,
            failed_max: 0,
            unreachable_max: 0,
        };
        let (cohort, waves) = (cohort(hosts), vec![wave]);
        let (in_flight_max, critical) = (Some(batch), vec!["in_flight_max".to_owned()]);
        let rollout =
            proto::statement::Rollout { cohort, waves, in_flight_max, critical, ..first.clone() };
        outcome(&chain_with(&root, &[]), &signed(&rollout, &[ANNA]))
    };
    check_rows(&[
        ("three batches of a hundred, each bakes", rolling(100, 49, 40), "effective"),
        ("two batches of a hundred", rolling(100, 50, 60), "2 stage(s): the policy"),
        ("three batches bake too short", rolling(100, 49, 39), "waits of 117 s in all"),
        ("a batch of all four", rolling(4, 4, 120), "1 stage(s): the policy"),
    ]);
}

#[test]
fn r2_policy_of_an_environment() {
    let mut root = root();
    let policy = policy_of_production(&mut root);
    (policy.stages_min, policy.bake_s_min) = (3, 120);
    let (first, second) = (rollout(), next(&rollout(), "2"));
    use Direction::{Forward, Rollback};
    let judged = |hosts: u8, waves: &[(u32, u32)], direction| {
        let wave = |(hosts, wait_s): &(u32, u32)| proto::statement::Wave {
            hosts: *hosts,
            wait_s: *wait_s,
            failed_max: 0,
            unreachable_max: 0,
        };
        let bent = proto::statement::Rollout {
            cohort: cohort(hosts),
            waves: waves.iter().map(wave).collect(),
            ..first.clone()
        };
        let chain = chain_with(&root, &[]);
        match direction {
            Forward => outcome(&chain, &signed(&bent, &[ANNA])),
            Rollback => {
                let mut chain = chain;
                let whole = proto::statement::Rollout {
                    waves: [(1, 120), (4, 0)].iter().map(wave).collect(),
                    ..first.clone()
                };
                let second = proto::statement::Rollout {
                    previous: Some(whole.envelope().id()),
                    waves: whole.waves.clone(),
                    ..second.clone()
                };
                for rollout in [&whole, &second] {
                    take(&mut chain, &signed(rollout, &[ANNA])).unwrap();
                }
                let back = undo(&second, ANNA);
                let back =
                    proto::statement::Rollout { cohort: bent.cohort, waves: bent.waves, ..back };
                outcome(&chain, &signed(&back, &[ANNA]))
            }
        }
    };
    check_rows(&[
        (
            "two waves of four hosts: one was merged",
            judged(4, &[(1, 120), (4, 0)], Forward),
            "effective",
        ),
        ("all at once", judged(4, &[(4, 120)], Forward), "asks for 2 or more"),
        ("the only host", judged(1, &[(1, 120)], Forward), "effective"),
        ("two of a hundred", judged(100, &[(1, 120), (100, 0)], Forward), "asks for 3 or more"),
        ("three of a hundred", judged(100, &[(1, 60), (5, 60), (100, 0)], Forward), "effective"),
        ("too short a bake", judged(4, &[(1, 119), (4, 0)], Forward), "asks for 120 s"),
        ("back all at once, without a bake", judged(4, &[(4, 0)], Rollback), "effective"),
    ]);
}
