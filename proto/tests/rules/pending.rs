//! Thresholds: below them a statement waits, without effect, and signatures add up by union.

use proptest::prelude::*;
use proto::dsse::{Envelope, EnvelopeError};
use proto::statement::{Action, ENVELOPE_BYTES_MAX, Payload, Rollout, Root};
use proto::trust::{Refusal, Standing, verify};

use crate::fleet::*;

fn two_of_three() -> Root {
    let mut root = root();
    root.roles.insert(parsed("deploy:production"), holders(2, &[ANNA, BERT, CLEO]));
    root
}

/// The union of what two members hold of one statement.
fn union(one: &[u8], other: &[u8]) -> Vec<u8> {
    let mut merged = Envelope::parse(one, ENVELOPE_BYTES_MAX).unwrap();
    merged.merge(&Envelope::parse(other, ENVELOPE_BYTES_MAX).unwrap()).unwrap();
    merged.to_bytes()
}

#[test]
fn r1_two_of_three_wait_for_each_other() {
    let chain = chain_with(&two_of_three(), &[]);
    let rollout = rollout();
    let (by_anna, by_both) = (signed(&rollout, &[ANNA]), signed(&rollout, &[ANNA, CLEO]));
    check_rows(&[
        ("one", outcome(&chain, &by_anna), "pending: 1 of 2 signatures of deploy:production"),
        (
            "one, and a forger",
            outcome(&chain, &signed(&rollout, &[ANNA, STRANGER])),
            "pending: 1 of 2",
        ),
        (
            "one, and one who may not",
            outcome(&chain, &signed(&rollout, &[ANNA, CI])),
            "pending: 1 of 2",
        ),
        ("two", outcome(&chain, &by_both), "effective"),
        ("three", outcome(&chain, &signed(&rollout, &[ANNA, BERT, CLEO])), "effective"),
        (
            "two without the author",
            outcome(&chain, &signed(&rollout, &[BERT, CLEO])),
            "has not signed it",
        ),
        ("an emergency instead", outcome(&chain, &signed(&rollout, &[ANNA, EMMA])), "effective"),
    ]);

    // Each of two members holds one signature; neither has both until they merge.
    let one = verify(&chain, &by_anna, NOW).unwrap();
    let other = verify(&chain, &signed(&rollout, &[ANNA, BERT, STRANGER]), NOW).unwrap();
    assert_eq!(one.id, other.id, "signatures do not change the id");
    let merged = union(&one.envelope.to_bytes(), &other.envelope.to_bytes());
    assert_eq!(outcome(&chain, &merged), "effective");
}

#[test]
fn r1_pending_has_no_effect() {
    let mut chain = chain_with(&two_of_three(), &[]);
    let before = chain.clone();
    let verified = take(&mut chain, &signed(&rollout(), &[ANNA])).unwrap();
    assert!(matches!(verified.standing, Standing::Pending { .. }));
    assert_eq!(chain, before);
    assert!(!chain.learn(&verified));
}

#[test]
fn r3_a_release_needs_its_publisher_and_the_coordinator() {
    let mut root = root();
    root.roles.insert(parsed("publish"), holders(2, &[CI, ANNA]));
    let chain = chain_of(&root);
    let by = |keys: &[u8]| outcome(&chain, &signed(&release("1"), keys));
    check_rows(&[
        ("CI", by(&[CI]), "pending: 1 of 2 signatures of publish, 0 of 1 signatures of admit"),
        ("the coordinator", by(&[COORDINATOR]), "pending: 0 of 2 signatures of publish"),
        ("both, below threshold", by(&[CI, COORDINATOR]), "pending: 1 of 2 signatures of publish"),
        (
            "all publishers, and no coordinator",
            by(&[CI, ANNA]),
            "pending: 0 of 1 signatures of admit",
        ),
        ("all", by(&[CI, ANNA, COORDINATOR]), "effective"),
    ]);
}

#[test]
fn r2_a_root_needs_the_thresholds_of_both() {
    let mut first = root();
    first.roles.insert(parsed("root"), holders(2, &[ROOT, ROOT_2]));
    let mut second = Root { version: 2, ..first.clone() };
    second.roles.insert(parsed("root"), holders(2, &[ROOT_2, ROOT_3]));
    let chain = chain_of(&first);
    let by = |keys: &[u8]| outcome(&chain, &signed(&second, keys));
    check_rows(&[
        ("all three", by(&[ROOT, ROOT_2, ROOT_3]), "effective"),
        ("the old ones", by(&[ROOT, ROOT_2]), "pending: 1 of 2 signatures of root as of version 2"),
        (
            "the new ones",
            by(&[ROOT_2, ROOT_3]),
            "pending: 1 of 2 signatures of root as of version 1",
        ),
        (
            "one old",
            by(&[ROOT]),
            "pending: 1 of 2 signatures of root as of version 1, no signature",
        ),
        ("one new, whom nobody knows yet", by(&[ROOT_3]), "refused"),
        ("others", by(&[ANNA, EMMA]), "refused"),
    ]);
}

#[test]
fn r3_approvals_add_up() {
    let mut root = root();
    policy_of_production(&mut root).approvals_min = 1;
    let chain = chain_with(&root, &[]);
    let stricter = Rollout { approvals: 2, ..rollout() };
    let laxer = Rollout { approvals: 0, ..rollout() };
    check_rows(&[
        ("policy asks for one", outcome(&chain, &signed(&laxer, &[ANNA])), "0 of 1 approvals"),
        ("and gets it", outcome(&chain, &signed(&laxer, &[ANNA, CLEO])), "effective"),
        (
            "the rollout asks for two",
            outcome(&chain, &signed(&stricter, &[ANNA, CLEO])),
            "1 of 2 approvals",
        ),
        ("and gets them", outcome(&chain, &signed(&stricter, &[ANNA, BERT, CLEO])), "effective"),
    ]);
}

#[test]
fn r5_a_pending_rollout_that_lost_the_race() {
    let root = two_of_three();
    let first = rollout();
    let chain = chain_with(&root, &[&first]);
    let rival = Rollout { reason: "mine".to_owned(), ..first.clone() };
    let text = outcome(&chain, &signed(&rival, &[ANNA]));
    assert!(text.contains("superseded: epoch 1") && text.contains("deploy again"), "{text}");

    // What is effective already stays so, when somebody sends it with fewer signatures.
    assert_eq!(outcome(&chain, &signed(&first, &[ANNA])), "effective");
}

#[test]
fn directives_have_thresholds_too() {
    let first = rollout();
    let chain = chain_with(&two_of_three(), &[&first]);
    let pause = directive(&first, 1, Action::Pause, ANNA);
    let abort = directive(&first, 1, Action::Abort, COORDINATOR);
    let resume = directive(&first, 1, Action::Resume, COORDINATOR);
    check_rows(&[
        ("one of two", outcome(&chain, &signed(&pause, &[ANNA])), "pending: 1 of 2"),
        ("two", outcome(&chain, &signed(&pause, &[ANNA, BERT])), "effective"),
        ("an emergency", outcome(&chain, &signed(&pause, &[ANNA, EMMA])), "effective"),
        (
            "an abort by the coordinator",
            outcome(&chain, &signed(&abort, &[COORDINATOR])),
            "effective",
        ),
        ("its resume", outcome(&chain, &signed(&resume, &[COORDINATOR])), "may not sign"),
        (
            "its resume with a person's name to it",
            outcome(&chain, &signed(&resume, &[COORDINATOR, ANNA])),
            "may not be the author",
        ),
    ]);
}

/// What is kept of an envelope are signatures that verify and that this statement may count.
#[test]
fn r1_other_signatures_are_dropped() {
    let chain = chain_with(&two_of_three(), &[&rollout()]);
    let mut next_root = Root { version: 2, ..two_of_three() };
    next_root.roles.insert(parsed("root"), holders(1, &[ROOT_2]));
    let everyone = [CI, COORDINATOR, HOST_CA, ANNA, CLEO, DIRK, EMMA, ROOT, ROOT_2, STRANGER];
    let second = next(&rollout(), "2");
    let back = Rollout { from: Some(target("1")), to: target("2"), ..undo(&second, ANNA) };
    let pause = directive(&rollout(), 1, Action::Pause, ANNA);
    let resume = directive(&rollout(), 1, Action::Resume, ANNA);
    for (name, bytes, expected) in [
        ("root", signed(&next_root, &everyone), &[ROOT, ROOT_2][..]),
        ("root known", signed(&two_of_three(), &everyone), &[ROOT]),
        ("host", signed(&host(HOSTS), &everyone), &[HOST_CA]),
        ("release", signed(&release("4"), &everyone), &[CI, COORDINATOR]),
        ("rollout", signed(&second, &everyone), &[ANNA, CLEO, EMMA]),
        ("pause", signed(&pause, &everyone), &[COORDINATOR, ANNA, CLEO, EMMA]),
        ("resume", signed(&resume, &everyone), &[ANNA, CLEO, EMMA]),
    ] {
        let verified = verify(&chain, &bytes, NOW).unwrap();
        let kept: Vec<_> = verified.envelope.signatures().keys().cloned().collect();
        let mut expected: Vec<_> = expected.iter().map(|seed| key_id(*seed)).collect();
        expected.sort();
        assert_eq!(kept, expected, "{name}");
    }

    // A forged one does not displace a good one, since it is gone before they merge.
    let good = signed(&second, &[ANNA, CLEO]);
    let forged = {
        let other = signed(&back, &[CLEO]);
        let text = String::from_utf8(good.clone()).unwrap();
        let signature = |bytes: &[u8]| {
            let envelope = Envelope::parse(bytes, ENVELOPE_BYTES_MAX).unwrap();
            envelope.signatures()[&key_id(CLEO)].to_string()
        };
        text.replace(&signature(&good), &signature(&other)).into_bytes()
    };
    let kept = verify(&chain, &forged, NOW).unwrap().envelope.to_bytes();
    assert_eq!(kept, signed(&second, &[ANNA]));
    assert_eq!(union(&good, &kept), good);
}

#[test]
fn r5_an_emergency_has_a_threshold_for_its_jumps() {
    let mut root = root();
    root.roles.insert(parsed("emergency"), holders(2, &[EMMA, BERT]));
    let first = rollout();
    let chain = chain_with(&root, &[&first]);
    let jump = Rollout { epoch: 100, author: key_id(EMMA), ..next(&first, "2") };
    let waits = "pending: 1 of 2 signatures of emergency";
    check_rows(&[
        ("one of two", outcome(&chain, &signed(&jump, &[EMMA])), waits),
        ("one, and those who deploy", outcome(&chain, &signed(&jump, &[EMMA, ANNA])), waits),
        ("both", outcome(&chain, &signed(&jump, &[EMMA, BERT])), "effective"),
    ]);
}

/// Strangers cannot fill the place where statements wait.
#[test]
fn r1_nothing_waits_without_a_key_that_fits() {
    let chain = chain_with(&two_of_three(), &[&rollout()]);
    let second = next(&rollout(), "2");
    for (name, by) in [("nobody", &[][..]), ("strangers", &[STRANGER, HOSTS]), ("CI", &[CI])] {
        let refused = verify(&chain, &signed(&second, by), NOW).unwrap_err();
        let expected = matches!(refused, Refusal::NotSigned { .. } | Refusal::NotThisRole { .. });
        assert!(expected, "{name}: {refused}");
    }
}

#[test]
fn envelopes_of_two_statements_do_not_merge() {
    let parse = |bytes: &[u8]| Envelope::parse(bytes, ENVELOPE_BYTES_MAX).unwrap();
    let mut one = parse(&signed(&release("1"), &[CI]));
    let other = parse(&signed(&release("2"), &[COORDINATOR]));
    assert_eq!(one.merge(&other), Err(EnvelopeError::NotTheSame));
    let retyped = Envelope::new("application/octet-stream", one.payload().to_vec());
    assert_eq!(one.merge(&retyped), Err(EnvelopeError::NotTheSame));
    assert_ne!(retyped.id(), release("1").envelope().id(), "the id names the kind, too");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// However signatures come together, the same ones make the same envelope, and verifying drops
    /// none that counts.
    #[test]
    fn r1_union_of_signatures_commutes(
        one in prop::collection::btree_set(0u8..12, 0..6),
        other in prop::collection::btree_set(0u8..12, 0..6),
    ) {
        let chain = chain_with(&two_of_three(), &[]);
        let seeds = [ANNA, BERT, CLEO, ANNA_TOO, EMMA, CI, COORDINATOR, DIRK, ROOT, STRANGER, HOSTS, HOST_CA];
        let by = |places: &std::collections::BTreeSet<u8>| {
            let by: Vec<_> = places.iter().map(|place| seeds[usize::from(*place)]).collect();
            signed(&rollout(), &by)
        };
        let (a, b) = (by(&one), by(&other));
        let all = by(&(&one | &other));
        prop_assert_eq!(union(&a, &b), union(&b, &a));
        prop_assert_eq!(&union(&a, &b), &all);
        prop_assert_eq!(union(&a, &a), a.clone());
        prop_assert_eq!(outcome(&chain, &union(&a, &b)), outcome(&chain, &all));

        // Merging what was verified comes to the same as verifying what was merged.
        if let (Ok(a), Ok(b)) = (verify(&chain, &a, NOW), verify(&chain, &b, NOW)) {
            let kept = union(&a.envelope.to_bytes(), &b.envelope.to_bytes());
            prop_assert_eq!(verify(&chain, &kept, NOW), verify(&chain, &all, NOW));
        }
    }
}
