//! R17: receipts are taken by key and sequence, and certificates prove by themselves.

use proto::receipt::{Cause, State};

use super::*;
use crate::UNHEARD_MS_MAX;
use crate::testing::{host_id, receipt, rollout, rollout_id, signing_key, wave};

const FAILED: (State, Option<Cause>) = (State::Reverted, Some(Cause::Release));

fn receipts(waves: &[proto::statement::Wave]) -> Receipts {
    Receipts::new(rollout_id(1), Arc::new(rollout(waves)), 0)
}

fn offer(receipts: &mut Receipts, now_ms: u64, rank: usize, sequence: u64, state: State) -> bool {
    let cause = state.is_failed().then_some(Cause::Release);
    let signed = receipt(rank, sequence, state, cause).sign(&signing_key(rank));
    receipts.offer(now_ms, signed).unwrap().is_some()
}

#[test]
fn only_the_cohort_is_heard_and_the_newest_wins() {
    let mut receipts = receipts(&[wave(2, 0, 0, 0)]);
    assert!(offer(&mut receipts, 1, 0, 5, State::Baking));
    assert!(!offer(&mut receipts, 2, 0, 5, State::Baking), "repeated");
    assert!(!offer(&mut receipts, 3, 0, 4, State::Staged), "older");
    assert_eq!(receipts.latest(&host_id(0)).unwrap().state, State::Baking);
    assert!(offer(&mut receipts, 4, 0, 6, State::Committed));

    let stranger = receipt(7, 1, State::Staged, None).sign(&signing_key(7));
    let refused = receipts.offer(5, stranger);
    assert_eq!(refused.unwrap_err(), OfferError::Foreign(host_id(7)));
    let mut other = receipt(1, 1, State::Staged, None);
    other.rollout = rollout_id(2);
    let refused = receipts.offer(5, other.sign(&signing_key(1)));
    assert_eq!(refused.unwrap_err(), OfferError::OtherRollout(rollout_id(2)));
    // Signed by another host of the cohort than the one it speaks of.
    let text = receipt(1, 1, State::Staged, None).sign(&signing_key(1)).to_text();
    let (_, payload) = text.split_once(' ').unwrap();
    let foreign = receipt(0, 9, State::Staged, None).sign(&signing_key(0)).to_text();
    let (signature, _) = foreign.split_once(' ').unwrap();
    let forged = SignedReceipt::from_text(&format!("{signature} {payload}")).unwrap();
    assert!(matches!(receipts.offer(5, forged), Err(OfferError::Receipt(_))));
    assert!(receipts.latest(&host_id(1)).is_none());
}

/// R16: silence is counted from the last news, and the first receipt is none.
#[test]
fn r16_heard() {
    let mut receipts = receipts(&[wave(2, 0, 0, 0)]);
    let heard = |receipts: &Receipts, now_ms| receipts.heard(&host_id(0), now_ms);
    assert_eq!(heard(&receipts, UNHEARD_MS_MAX), Heard::Unsure);
    assert_eq!(heard(&receipts, UNHEARD_MS_MAX + 1), Heard::Silent);
    offer(&mut receipts, 50_000, 0, 1, State::Staged);
    assert_eq!(heard(&receipts, 50_001), Heard::Unsure);
    assert_eq!(heard(&receipts, UNHEARD_MS_MAX + 1), Heard::Silent, "it may be of any age");
    offer(&mut receipts, 80_000, 0, 2, State::Staged);
    assert_eq!(heard(&receipts, 80_000 + UNHEARD_MS_MAX), Heard::Fresh);
    assert_eq!(heard(&receipts, 80_001 + UNHEARD_MS_MAX), Heard::Silent);
}

#[test]
fn r17_certificates_are_minimal_and_prove_themselves() {
    let waves = [wave(2, 0, 0, 0), wave(10, 0, 2, 1)];
    let mut receipts = receipts(&waves);
    assert_eq!(receipts.certificate(Claim::Halt, &BTreeMap::new()), None);
    for rank in 2..10 {
        offer(&mut receipts, 0, rank, 1, FAILED.0);
    }
    let certificate = receipts.certificate(Claim::Halt, &BTreeMap::new()).unwrap();
    assert_eq!(certificate.receipts.len(), 3, "one more than may fail, of eight");
    let verified = certificate.verify(rollout_id(1), receipts.rollout(), &BTreeMap::new()).unwrap();
    assert_eq!(verified.len(), 3);

    // A later try that goes well does not undo the proof.
    for rank in 2..10 {
        offer(&mut receipts, 0, rank, 2, State::Committed);
    }
    assert!(receipts.certificate(Claim::Halt, &BTreeMap::new()).is_some());
}

#[test]
fn r17_half_a_wave_proves_a_halt() {
    let mut receipts = receipts(&[wave(4, 0, 9, 9)]);
    for (rank, proven) in [(0, false), (1, false), (2, true)] {
        offer(&mut receipts, 0, rank, 1, FAILED.0);
        let certificate = receipts.certificate(Claim::Halt, &BTreeMap::new());
        assert_eq!(certificate.is_some(), proven, "{} failed", rank + 1);
    }
    let certificate = receipts.certificate(Claim::Halt, &BTreeMap::new()).unwrap();
    assert_eq!(certificate.receipts.len(), 3);
    assert!(certificate.verify(rollout_id(1), receipts.rollout(), &BTreeMap::new()).is_ok());
}

#[test]
fn r17_completion_needs_all_but_the_unreachable() {
    let mut receipts = receipts(&[wave(1, 0, 0, 0), wave(4, 0, 1, 1)]);
    let cases = [
        (0, State::Committed, false),
        (1, State::Committed, false),
        (2, State::Baking, false),
        (3, State::Committed, true),
    ];
    for (rank, state, proven) in cases {
        offer(&mut receipts, 0, rank, 1, state);
        let certificate = receipts.certificate(Claim::Complete, &BTreeMap::new());
        assert_eq!(certificate.is_some(), proven, "after rank {rank}");
    }
    let certificate = receipts.certificate(Claim::Complete, &BTreeMap::new()).unwrap();
    assert_eq!(certificate.receipts.len(), 3, "the one that bakes proves nothing");
    assert!(certificate.verify(rollout_id(1), receipts.rollout(), &BTreeMap::new()).is_ok());
}
