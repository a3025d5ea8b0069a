//! R24: what the requests of the hosts of earlier waves, pooled, let a wave do.

use proto::statement::Limits;

use super::*;
use crate::verdict::{Comparison, Counted, Signal};

fn comparison(bad: u64) -> Comparison {
    Comparison {
        signal: Signal::Errors,
        new: Counted { bad, of: 1_200 },
        control: Some(Counted { bad: 20, of: 10_000 }),
        above_ppm: 10_000,
        z_milli: 3_700,
    }
}

fn limits() -> Limits {
    Limits { errors_ppm: vec![10_000; 2], requests_min: 100, warmup_s: 0, p99_ratio_percent: None }
}

/// The canary has committed, and the second wave is asked for: alone, and once promoted.
#[test]
fn r24_the_policy_on_pooled_requests() {
    let fail = Verdict::Fail(comparison(36));
    let shared = Verdict::Shared { comparison: comparison(360), hosts: 3, of: 4 };
    let starved = Verdict::Starved { new: 3, needed: 100, worse: true };
    let quiet = Verdict::Quiet { new: 3, needed: 100 };
    let earned = "open: 1 of 1 hosts committed before it";
    let promoted = "open: promoted by an operator";
    let worse = "held: over all hosts that run it, worse: errors 3.00 % of 1200, old release 0.20 % of \
                 10000, at most 1 % above it (z 3.7); nothing new starts until all comparisons \
                 of 5 min pass, `swell abort` takes it back";
    let unclear = "held: over all hosts that run it, inconclusive: 3 of 100 requests reached the new \
                   release, and the old one has traffic; it is waited for 5 min at most, `swell \
                   promote` passes over it";
    let late = "held: over all hosts that run it, inconclusive: 3 of 100 requests";
    let rows = [
        ("not worse", Conclusion::Good(Verdict::Pass(comparison(1))), earned, promoted),
        ("quiet", Conclusion::Good(quiet), earned, promoted),
        ("not compared", Conclusion::Doubt(None), "held: the requests of the hosts", promoted),
        ("starved", Conclusion::Doubt(Some(starved)), unclear, promoted),
        (
            "shared",
            Conclusion::Doubt(Some(shared)),
            "held: over all hosts that run it, inc",
            promoted,
        ),
        ("worse", Conclusion::Worse(fail), worse, worse),
        ("starved for too long", Conclusion::Worse(starved), late, late),
    ];
    for (name, pooled, alone, with_promote) in rows {
        let mut case = case(&[wave(1, 10, 0, 0), wave(5, 0, 1, 1)], "cssss");
        case.rollout.limits = Some(limits());
        case.pooled = pooled;
        assert!(case.text(1).starts_with(alone), "{name}: {}", case.text(1));
        assert_eq!(case.text(0), "open: the first wave", "{name}");
        case.order = Some(Order { sequence: 1, action: Action::Promote, wave: Some(1) });
        assert!(case.text(1).starts_with(with_promote), "{name}, promoted: {}", case.text(1));
        // Nothing of this binds a way back, a complete rollout, or one that counts nothing.
        case.order = None;
        let rollback = Rollout { direction: Direction::Rollback, ..case.rollout.clone() };
        let uncounted = Rollout { limits: None, ..case.rollout.clone() };
        for rollout in [rollback, uncounted] {
            assert_eq!(Case { rollout, ..case.clone() }.text(1), earned, "{name}");
        }
        case.complete = true;
        assert!(case.text(1).starts_with("complete"), "{name}");
    }
}

/// What else keeps a wave closed is said first: the numbers of hosts that bake are no verdict yet.
#[test]
fn r24_the_pool_is_asked_last() {
    let mut case = case(&[wave(1, 10, 0, 0), wave(5, 0, 1, 1)], "bssss");
    case.rollout.limits = Some(limits());
    case.pooled = Conclusion::Worse(Verdict::Fail(comparison(36)));
    assert!(case.text(1).starts_with("waiting for wave 1"), "{}", case.text(1));
    case.seen[0] = sight('c');
    case.held_ms = 5_000;
    assert!(case.text(1).starts_with("waiting: the rollout is held"), "{}", case.text(1));
}
