//! Members that learn the same statements hold the same chain, in whatever order they came.

use proto::statement::{Action, Direction, OnFailure, Payload, Rollout, Root};
use proto::trust::{Chain, Head, Refusal, Standing, WhyNot, verify, verify_by_root};
use proto::{Digest, UnixTime};

use crate::fleet::*;

/// Takes the statements in the order given, each as soon as what it needs is there. Refusals for
/// good are fine: what is weaker than what is known is refused.
fn learn_all(mut chain: Chain, statements: &[Vec<u8>]) -> Chain {
    let mut waiting: Vec<_> = statements.iter().collect();
    loop {
        let before = waiting.len();
        waiting.retain(|bytes| match verify(&chain, bytes, NOW) {
            Ok(verified) => {
                assert_eq!(verified.standing, Standing::Effective);
                chain.learn(&verified);
                // Twice is once.
                assert!(!chain.learn(&verified));
                false
            }
            Err(Refusal::Needs(_)) => true,
            Err(
                Refusal::DirectiveTooOld { .. } | Refusal::Aborted | Refusal::FreezeTooOld { .. },
            ) => false,
            Err(refusal) => panic!("{refusal}"),
        });
        if waiting.is_empty() {
            return chain;
        }
        assert!(waiting.len() < before, "nothing is left that can be taken");
    }
}

/// All orders of `items` (Heap's algorithm).
fn permutations<T: Clone>(items: &[T]) -> Vec<Vec<T>> {
    fn go<T: Clone>(size: usize, items: &mut Vec<T>, out: &mut Vec<Vec<T>>) {
        if size <= 1 {
            out.push(items.clone());
            return;
        }
        for index in 0..size {
            go(size - 1, items, out);
            items.swap(if size.is_multiple_of(2) { index } else { 0 }, size - 1);
        }
    }
    let mut out = Vec::new();
    go(items.len(), &mut items.to_vec(), &mut out);
    out
}

pub(crate) fn assert_order_does_not_matter(
    name: &str,
    chain: &Chain,
    statements: &[Vec<u8>],
) -> Chain {
    let expected = learn_all(chain.clone(), statements);
    for order in permutations(statements) {
        assert_eq!(learn_all(chain.clone(), &order), expected, "{name}");
    }
    expected
}

#[test]
fn permutations_are_all_of_them() {
    let all: std::collections::BTreeSet<_> = permutations(&[1, 2, 3, 4]).into_iter().collect();
    assert_eq!(all.len(), 24);
}

#[test]
fn order_of_learning_a_life_of_a_scope() {
    let (first, second) = (rollout(), next(&rollout(), "2"));
    let back = Rollout { created: NOW.plus_s(9), ..undo(&second, COORDINATOR) };
    let release = |version| signed(&release(version), &[CI, COORDINATOR]);
    let statements = [
        release("2"),
        signed(&first, &[ANNA]),
        signed(&second, &[ANNA]),
        signed(&back, &[COORDINATOR]),
        signed(&directive(&second, 3, Action::Resume, ANNA), &[ANNA]),
        signed(&directive(&second, 3, Action::Pause, BERT), &[BERT]),
    ];
    let mut start = chain_of(&root());
    take(&mut start, &release("1")).unwrap();
    let chain = assert_order_does_not_matter("a life", &start, &statements);
    let head = Head { epoch: 3, rollout: back.envelope().id(), conflict: None };
    assert_eq!(chain.heads().collect::<Vec<_>>(), [(&back.scope(), &head)]);
    assert_eq!(chain.now_floor(), NOW.plus_s(9));
    let ids: Vec<_> = chain.history(&back.scope()).into_iter().map(|(id, _)| id).collect();
    assert_eq!(ids, [&back, &second, &first].map(|rollout| rollout.envelope().id()));
    let (_, held) = chain.directive(&second.envelope().id()).unwrap();
    assert_eq!(held.action, Action::Pause);
    assert_eq!(chain.releases_of(&parsed("web")).len(), 2);
}

#[test]
fn order_of_learning_directives() {
    let first = rollout();
    use Action::{Abort, Pause, Promote, Resume};
    let send = |(sequence, action, author)| {
        signed(&directive(&first, sequence, action, author), &[author])
    };
    let rows = [
        (4, Promote, ANNA),
        (4, Promote, BERT),
        (4, Resume, ANNA),
        (2, Pause, ANNA),
        (1, Abort, ANNA),
        (1, Abort, COORDINATOR),
    ];
    let statements = rows.map(send);
    let chain = chain_with(&root(), &[&first]);
    let id = first.envelope().id();
    let without_abort = assert_order_does_not_matter("directives", &chain, &statements[..4]);
    let (_, held) = without_abort.directive(&id).unwrap();
    assert_eq!((held.sequence, held.action), (4, Promote), "promote is stronger than resume");
    let chain = assert_order_does_not_matter("with aborts", &chain, &statements);
    assert_eq!(chain.directive(&id).unwrap().1.action, Abort);
}

/// Two sides of a partition deploy twice each; then they meet.
#[test]
fn r5_a_healed_partition_is_one_conflict_for_all() {
    let first = rollout();
    let variant = |previous: &Rollout, version: &str, on_failure| Rollout {
        on_failure,
        ..next(previous, version)
    };
    let (left, right) =
        (variant(&first, "2", OnFailure::Rollback), variant(&first, "2", OnFailure::Pause));
    let (left_2, right_2) = (variant(&left, "3", OnFailure::Pause), next(&right, "3"));
    let sent = [&left, &right, &left_2, &right_2].map(|rollout| signed(rollout, &[ANNA]));
    let start = chain_with(&root(), &[&first]);
    let chain = assert_order_does_not_matter("a healed partition", &start, &sent);

    let ids = [&left_2, &right_2].map(|rollout| rollout.envelope().id());
    let head = *chain.head(&first.scope()).unwrap();
    let (low, high) = (ids[0].min(ids[1]), ids[0].max(ids[1]));
    assert_eq!(head, Head { epoch: 3, rollout: low, conflict: Some(high) });
    assert_eq!(chain.may_start(NOW, &low), Err(WhyNot::Conflict { with: high }));
    assert_eq!(chain.may_start(NOW, &high), Err(WhyNot::Conflict { with: low }));
    let left_id = left.envelope().id();
    assert_eq!(chain.may_start(NOW, &left_id), Err(WhyNot::Superseded { by: low }));

    // Any valid next epoch ends it, whichever side it follows.
    for (name, side) in [("left", &left_2), ("right", &right_2)] {
        let mut chain = chain.clone();
        let end = next(side, "1");
        take(&mut chain, &signed(&end, &[BERT, ANNA])).unwrap();
        let id = end.envelope().id();
        assert_eq!(chain.head(&first.scope()).unwrap().conflict, None, "{name}");
        assert_eq!(chain.may_start(NOW, &id), Ok(()), "{name}");
    }
}

#[test]
fn r5_three_rollouts_of_one_epoch() {
    let first = rollout();
    let rivals: Vec<_> =
        ["a", "b", "c"].map(|reason| Rollout { reason: reason.into(), ..next(&first, "2") }).into();
    let sent: Vec<_> = rivals.iter().map(|rollout| signed(rollout, &[ANNA])).collect();
    let chain = assert_order_does_not_matter("three", &chain_with(&root(), &[&first]), &sent);
    let mut ids: Vec<_> = rivals.iter().map(|rollout| rollout.envelope().id()).collect();
    ids.sort();
    let head = chain.head(&first.scope()).unwrap();
    assert_eq!((head.rollout, head.conflict), (ids[0], Some(ids[1])));
    for id in &ids {
        let why = chain.may_start(NOW, id);
        assert!(matches!(why, Err(WhyNot::Conflict { .. })), "{why:?}");
    }
}

/// Two firsts of a scope are a conflict like any other.
#[test]
fn r5_two_first_rollouts() {
    let rivals = [rollout(), Rollout { reason: "me, too".to_owned(), ..rollout() }];
    let sent: Vec<_> = rivals.iter().map(|rollout| signed(rollout, &[ANNA])).collect();
    let chain = assert_order_does_not_matter("firsts", &chain_with(&root(), &[]), &sent);
    assert!(chain.head(&rollout().scope()).unwrap().conflict.is_some());
}

#[test]
fn scopes_do_not_touch_each_other() {
    let production = rollout();
    let staging = Rollout {
        env: parsed("staging"),
        author: key_id(DIRK),
        to: target("2"),
        ..production.clone()
    };
    let mut chain = chain_with(&root(), &[&production]);
    take(&mut chain, &signed(&staging, &[DIRK])).unwrap();
    assert_eq!(chain.heads().count(), 2);
    assert!(chain.heads().all(|(_, head)| head.conflict.is_none()));
    assert_eq!(chain.history(&staging.scope()).len(), 1);
}

#[test]
fn needs_are_named_one_at_a_time_and_satisfied() {
    let (first, second) = (rollout(), next(&rollout(), "2"));
    let mut chain = chain_of(&root());
    let sent = signed(&second, &[ANNA]);
    let needs = |chain: &Chain| match verify(chain, &sent, NOW) {
        Err(Refusal::Needs(id)) => id,
        other => panic!("{other:?}"),
    };
    assert_eq!(needs(&chain), target("2").release);
    take(&mut chain, &signed(&release("2"), &[CI, COORDINATOR])).unwrap();
    assert_eq!(needs(&chain), target("1").release);
    take(&mut chain, &signed(&release("1"), &[CI, COORDINATOR])).unwrap();
    assert_eq!(needs(&chain), first.envelope().id());
    take(&mut chain, &signed(&first, &[ANNA])).unwrap();
    assert!(take(&mut chain, &sent).is_ok());
}

/// A release that is only half signed is not there.
#[test]
fn r3_a_pending_release_cannot_be_rolled_out() {
    let mut chain = chain_of(&root());
    take(&mut chain, &signed(&release("1"), &[CI])).unwrap();
    let refused = verify(&chain, &signed(&rollout(), &[ANNA]), NOW);
    assert_eq!(refused, Err(Refusal::Needs(target("1").release)));
}

/// Removing a key takes nothing back that it had signed, and nothing new of it is taken.
#[test]
fn r7_keys_that_went() {
    let (first, second) = (rollout(), next(&rollout(), "2"));
    let mut chain = chain_with(&root(), &[&first]);
    let mut without_anna = Root { version: 2, ..root() };
    without_anna.roles.insert(parsed("deploy:production"), holders(1, &[BERT]));
    take(&mut chain, &signed(&without_anna, &[ROOT])).unwrap();

    let id = first.envelope().id();
    assert_eq!(chain.head(&first.scope()).unwrap().rollout, id);
    assert_eq!(chain.may_start(NOW, &id), Ok(()));
    check_rows(&[
        ("a new one of hers", outcome(&chain, &signed(&second, &[ANNA])), "may not"),
        (
            "one of his, after hers",
            outcome(&chain, &signed(&Rollout { author: key_id(BERT), ..second }, &[BERT])),
            "effective",
        ),
    ]);

    // Started again, the member reads what it kept by the root it was kept under.
    let kept = signed(&first, &[ANNA]);
    let mut restarted = chain_with(&root(), &[]);
    take(&mut restarted, &signed(&without_anna, &[ROOT])).unwrap();
    assert!(verify(&restarted, &kept, NOW).is_err());
    let verified = verify_by_root(&restarted, &kept, 1, NOW).unwrap();
    assert!(restarted.learn(&verified));
    assert_eq!(restarted, chain);
    assert_eq!(verify_by_root(&restarted, &kept, 3, NOW), Err(Refusal::NoSuchRoot(3)));
}

#[test]
fn roots_are_kept_and_found() {
    let mut chain = chain_of(&root());
    let first = chain.root_id();
    let second = Root { version: 2, expires: NOW, ..root() };
    take(&mut chain, &signed(&second, &[ROOT])).unwrap();
    assert_eq!(chain.root_id(), second.envelope().id());
    assert_eq!(chain.root_of(1), Some((first, &root())));
    assert_eq!(chain.root_of(2), Some((chain.root_id(), &second)));
    assert_eq!((chain.root_of(0), chain.root_of(3)), (None, None));
    assert_eq!(chain.fleet(), &root().fleet);
}

#[test]
fn r20_rules_of_a_later_version_wait() {
    let later = Rollout { rules: 2, ..rollout() };
    let chain = chain_with(&root(), &[&later]);
    assert_eq!(
        chain.may_start(NOW, &later.envelope().id()),
        Err(WhyNot::Rules { needs: 2 }),
        "it verifies, and starts nowhere"
    );
}

#[test]
fn nothing_known_starts_nothing() {
    let chain = chain_of(&root());
    let id = Digest::of(b"?");
    assert_eq!(chain.may_start(NOW, &id), Err(WhyNot::Unknown(id)));
    assert_eq!(chain.now_floor(), UnixTime(0));
    assert_eq!(rollout().direction, Direction::Forward);
}
