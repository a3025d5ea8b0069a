//! R4: what a thief can do with one key, and what he cannot. A row per thing he may try.
//!
//! Production asks for two of two to deploy and one approval, as a fleet that fears thieves would;
//! staging for one.

use proto::statement::{Action, Direction, Host, Payload, Release, Rollout, Root};
use proto::trust::Chain;

use crate::fleet::*;

fn careful_root() -> Root {
    let mut root = root();
    root.roles.insert(parsed("deploy:production"), holders(2, &[ANNA, BERT]));
    root.roles.insert(parsed("root"), holders(2, &[ROOT, ROOT_2, ROOT_3]));
    policy_of_production(&mut root).approvals_min = 1;
    root
}

/// Version 1, then 2, and 3 is published.
fn careful_chain() -> (Chain, Rollout) {
    let (first, second) = (rollout(), next(&rollout(), "2"));
    (chain_with(&careful_root(), &[&first, &second]), second)
}

/// What comes of each kind of statement that a thief makes and signs with `stolen` alone.
fn tries(stolen: u8) -> Vec<(&'static str, String)> {
    let (chain, second) = careful_chain();
    let third = Rollout { author: key_id(stolen), ..next(&second, "3") };
    let to_staging =
        Rollout { env: parsed("staging"), epoch: 1, previous: None, from: None, ..third.clone() };
    let back = undo(&second, stolen);
    let back_as_forward = Rollout { direction: Direction::Forward, ..back.clone() };
    let as_anna = Rollout { author: key_id(ANNA), ..third.clone() };
    let new = Release { created: NOW, ..release("4") };
    let again = Release { created: NOW.plus_s(1), ..release("1") };
    let mut lax = Root { version: 2, ..careful_root() };
    lax.roles.insert(parsed("deploy:production"), holders(1, &[stolen]));
    let outcome = |bytes: Vec<u8>| outcome(&chain, &bytes);
    let direct = |action| outcome(signed(&directive(&second, 1, action, stolen), &[stolen]));
    // A new key under the old id does not parse; a new host is all there is to make.
    let new_host = Host { issued: NOW, ..host(HOSTS + 50) };
    let mut impostor = host(HOSTS);
    impostor.key = public(STRANGER);
    vec![
        ("publish a new version", outcome(signed(&new, &[stolen]))),
        ("publish an old version anew", outcome(signed(&again, &[stolen]))),
        ("deploy to production", outcome(signed(&third, &[stolen]))),
        ("deploy to staging", outcome(signed(&to_staging, &[stolen]))),
        ("deploy in Anna's name", outcome(signed(&as_anna, &[stolen]))),
        ("go back", outcome(signed(&back, &[stolen]))),
        ("go back as if forward", outcome(signed(&back_as_forward, &[stolen]))),
        ("pause", direct(Action::Pause)),
        ("resume", direct(Action::Resume)),
        ("promote", direct(Action::Promote)),
        ("abort", direct(Action::Abort)),
        ("mint a host", outcome(signed(&new_host, &[stolen]))),
        ("speak for a host", outcome(signed(&impostor, &[stolen]))),
        ("change the root", outcome(signed(&lax, &[stolen]))),
    ]
}

/// `can`: these have an effect at once; `half`: these wait for others, without effect. The rest is
/// refused.
fn check(name: &str, stolen: u8, can: &[&str], half: &[&str]) {
    for (what, outcome) in tries(stolen) {
        let expected = if can.contains(&what) {
            "effective"
        } else if half.contains(&what) {
            "pending"
        } else {
            "refused"
        };
        assert!(outcome.starts_with(expected), "{name}: {what}: {outcome}, expected {expected}");
    }
}

#[test]
fn r4_stolen_keys() {
    check("CI", CI, &[], &["publish a new version"]);
    check("coordinator", COORDINATOR, &["go back", "pause", "abort"], &["publish a new version"]);
    check("host CA", HOST_CA, &["mint a host"], &[]);
    let directs = ["deploy to production", "go back", "go back as if forward"];
    let half = [&directs[..], &["pause", "resume", "promote", "abort"]].concat();
    check("one operator of two", ANNA, &[], &[&half[..], &["deploy in Anna's name"]].concat());
    check("one approver", CLEO, &[], &[]);
    check("the operator of staging", DIRK, &["deploy to staging"], &[]);
    check("a host", HOSTS, &[], &[]);
    check("one root key of three", ROOT, &[], &["change the root"]);
    check("no key at all", STRANGER, &[], &[]);
}

/// "Its role at threshold 1": where one suffices, one thief suffices; the table in the README says
/// so. Approvals still hold him.
#[test]
fn r4_one_operator_at_threshold_1() {
    let chain = chain_with(&root(), &[&rollout()]);
    let next = next(&rollout(), "2");
    assert_eq!(outcome(&chain, &signed(&next, &[ANNA])), "effective");

    let mut root = root();
    policy_of_production(&mut root).approvals_min = 1;
    let chain = chain_with(&root, &[&rollout()]);
    assert!(outcome(&chain, &signed(&next, &[ANNA])).starts_with("pending"));
}

/// The coordinator may take one step back and not use that to go forward again.
#[test]
fn r4_the_coordinator_goes_back_one_release_and_no_further() {
    let (chain, second) = careful_chain();
    let back = undo(&second, COORDINATOR);
    let once = |chain: &Chain| {
        let mut chain = chain.clone();
        take(&mut chain, &signed(&back, &[COORDINATOR])).unwrap();
        chain
    };
    let again = undo(&back, COORDINATOR);
    let further = Rollout { to: target("3"), ..back.clone() };
    let from_elsewhere = Rollout { from: Some(target("3")), ..back.clone() };
    let as_first = Rollout { previous: second.previous, epoch: second.epoch, ..back.clone() };
    let jump = Rollout { epoch: back.epoch + 1, ..back.clone() };
    let only = |rollout: &Rollout| signed(rollout, &[COORDINATOR]);
    let third = next(&second, "3");
    let longer = chain_with(&careful_root(), &[&rollout(), &second, &third]);
    let past = Rollout { from: Some(target("1")), ..undo(&third, COORDINATOR) };
    let mut forbids = careful_root();
    policy_of_production(&mut forbids).coordinator_may_roll_back = false;
    let forbidden = chain_with(&forbids, &[&rollout(), &second]);
    check_rows(&[
        ("the last rollout", outcome(&chain, &only(&back)), "effective"),
        ("undoing what it undid", outcome(&once(&chain), &only(&again)), "no rollout forward"),
        ("to another release", outcome(&chain, &only(&further)), "was never rolled out"),
        ("with another way back", outcome(&chain, &only(&from_elsewhere)), "was never rolled out"),
        ("the rollout before", outcome(&chain, &only(&as_first)), "was never rolled out"),
        ("a jump of epochs", outcome(&chain, &only(&jump)), "after previous comes 3"),
        (
            "a jump that an emergency's key signs, too",
            outcome(&chain, &signed(&jump, &[COORDINATOR, EMMA])),
            "after previous comes 3",
        ),
        (
            "with a way back that leads past the last rollout",
            outcome(&longer, &only(&past)),
            "only to where the last rollout came from",
        ),
        ("where policy forbids", outcome(&forbidden, &only(&back)), "does not let the coordinator"),
    ]);
}

/// The coordinator holds the host CA and can make statements for keys it has; the receipts that
/// count are under the keys of the cohort, which it cannot change.
#[test]
fn r4_the_coordinator_does_not_speak_for_a_host() {
    let impostor = public(STRANGER);
    let rollout = rollout();
    assert!(rollout.cohort.iter().all(|member| member.key != impostor));
    assert_eq!(rollout.rank_of(&proto::HostId::of(&impostor)), None);
    let mut bent = rollout.clone();
    bent.cohort[0].key = impostor;
    bent.cohort[0].id = proto::HostId::of(&impostor);
    assert_ne!(bent.envelope().id(), rollout.envelope().id(), "another cohort is another rollout");
    let chain = chain_with(&root(), &[]);
    assert!(outcome(&chain, &signed(&bent, &[COORDINATOR])).starts_with("refused"));
}
