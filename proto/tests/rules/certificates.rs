//! R14, R17: what receipts prove, and what they do not, whoever puts them together.

use std::collections::{BTreeMap, BTreeSet};

use proto::certificate::{
    CERTIFICATE_BYTES_MAX, Certificate, CertificateError, Claim, counts_as_failed, failed_below,
    proves, proves_halt_beside,
};
use proto::receipt::{Cause, Receipt, SignedReceipt, State, note};
use proto::statement::{COHORT_MAX, Payload, Rollout, Wave};
use proto::{Digest, HostId};

use crate::fleet::*;

/// Ten hosts: one, then four, then all. Budgets: none, 1, 2; unreachable: none, 0, 2.
fn ten() -> Rollout {
    let wave = |hosts, failed_max, unreachable_max| Wave {
        hosts,
        wait_s: 60,
        failed_max,
        unreachable_max,
    };
    Rollout {
        cohort: cohort(10),
        waves: vec![wave(1, 0, 0), wave(5, 1, 0), wave(10, 2, 2)],
        ..rollout()
    }
}

fn receipt(place: u8, state: State, cause: Option<Cause>) -> Receipt {
    Receipt {
        rollout: ten().envelope().id(),
        host: HostId::of(&public(HOSTS + place)),
        sequence: 1,
        attempt: 1,
        state,
        cause,
        note: String::new(),
    }
}

/// A letter per host: `c`ommitted, `r`everted for the release, `h` for the host, `f`leet went back,
/// `x` could not go back, `b`aking, `l`ate failure, `.` not heard.
fn receipts(view: &str) -> BTreeMap<HostId, Receipt> {
    let stand = |letter| match letter {
        'c' => Some((State::Committed, None)),
        'r' => Some((State::Reverted, Some(Cause::Release))),
        'h' => Some((State::Reverted, Some(Cause::Host))),
        'f' => Some((State::Reverted, Some(Cause::Fleet))),
        'x' => Some((State::RevertFailed, Some(Cause::Release))),
        'b' => Some((State::Baking, None)),
        'l' => Some((State::Reverted, Some(Cause::Late))),
        '.' => None,
        other => panic!("{other}"),
    };
    let heard = (0..).zip(view.chars()).filter_map(|(place, letter)| {
        stand(letter).map(|(state, cause)| (place, receipt(place, state, cause)))
    });
    by_host(heard)
}

#[test]
fn r14_what_a_view_proves() {
    const NOTHING: (bool, bool) = (false, false);
    const HALT: (bool, bool) = (true, false);
    const COMPLETE: (bool, bool) = (false, true);
    for (name, view, expected) in [
        ("nothing heard", "..........", NOTHING),
        ("all well", "cccccccccc", COMPLETE),
        ("one bakes, two may be missing", "cccccccccb", COMPLETE),
        ("two missing", "cccccccc..", COMPLETE),
        ("three missing", "ccccccc...", NOTHING),
        ("the canary failed", "r.........", HALT),
        ("the canary failed for its disk", "h.........", HALT),
        ("the canary could not go back", "x.........", HALT),
        ("the canary went back with the fleet", "f.........", NOTHING),
        ("the canary failed when all was done", "lccccccccc", COMPLETE),
        ("one of the second wave: in budget", "cr........", NOTHING),
        ("two of the second wave: over it", "crr.......", HALT),
        ("three of the third wave: over budget", "cccccrrr..", HALT),
        ("budgets count all waves up to it", "crcccrrccc", HALT),
        ("two in all, in budget, and the rest well", "crcccrcccc", COMPLETE),
        ("failed and missing at once", "crcccrcc..", COMPLETE),
        ("all went back together", "ffffffffff", NOTHING),
        ("one bakes, three missing", "cccccc...b", NOTHING),
    ] {
        let receipts = receipts(view);
        let proven = (
            proves(Claim::Halt, &ten(), &receipts, &BTreeSet::new()),
            proves(Claim::Complete, &ten(), &receipts, &BTreeSet::new()),
        );
        assert_eq!(proven, expected, "{name}: {view}");
    }
}

#[test]
fn r14_more_than_half_of_a_wave_halts_whatever_the_budget() {
    let mut generous = ten();
    for wave in &mut generous.waves {
        wave.failed_max = 10;
    }
    for (name, view, halts) in [
        ("the only host of its wave", "r.........", true),
        ("two of four", "crr.......", false),
        ("three of four", "crrr......", true),
        ("two of five", "cccccrr...", false),
        ("three of five", "cccccrrr..", true),
        ("four, half of each wave", "crrccrrccc", false),
        ("three that went with the fleet", "cfff......", false),
    ] {
        assert_eq!(
            proves(Claim::Halt, &generous, &receipts(view), &BTreeSet::new()),
            halts,
            "{name}: {view}"
        );
    }
}

/// R4: one host weighs no more once all is done.
#[test]
fn r4_beside_a_completion_only_hosts_that_had_not_committed_prove_a_halt() {
    for (name, complete, halt, halts) in [
        ("the canary fails weeks later", "cccccccccc", "r.........", false),
        ("and more hosts with it", "cccccccccc", "rrrrrrrrrr", false),
        ("two that were missing", "cccccccc..", "........rr", false),
        ("two that were missing, and the canary", "cccccccc..", "r.......rr", false),
        ("one in budget then, two that were missing", "crcccccc..", ".r......rr", true),
        ("one that baked, and those in budget", "crcccrcccb", ".r...r...r", true),
        ("those in budget alone", "crcccrcccc", ".r...r....", false),
    ] {
        let (complete, halt) = (receipts(complete), receipts(halt));
        assert!(proves(Claim::Complete, &ten(), &complete, &BTreeSet::new()), "{name}");
        assert_eq!(proves_halt_beside(&ten(), &halt, &complete), halts, "{name}");
    }
}

#[test]
fn a_rollout_that_nobody_serves_is_not_complete() {
    let mut hopeless = ten();
    hopeless.waves = vec![Wave { hosts: 10, wait_s: 0, failed_max: 10, unreachable_max: 10 }];
    assert!(!proves(Claim::Complete, &hopeless, &receipts(".........."), &BTreeSet::new()));
    assert!(!proves(Claim::Complete, &hopeless, &receipts("bbbbbbbbbb"), &BTreeSet::new()));
    assert!(proves(Claim::Complete, &hopeless, &receipts("c........."), &BTreeSet::new()));
}

#[test]
fn failures_are_counted_up_to_a_rank() {
    let receipts = receipts("rchfx.....");
    let counts = [0, 1, 2, 3, 4, 5, 10, 99].map(|ranks| failed_below(&ten(), &receipts, ranks));
    assert_eq!(counts, [0, 1, 1, 2, 2, 3, 3, 3]);
    assert!(!counts_as_failed(&receipt(0, State::Reverted, Some(Cause::Fleet))));
    assert!(!counts_as_failed(&receipt(0, State::RevertFailed, Some(Cause::Fleet))));
    assert!(counts_as_failed(&receipt(0, State::Reverted, None)), "without a cause it counts");
}

fn certificate(claim: Claim, view: &str) -> Certificate {
    let rollout = ten();
    let receipts = receipts(view);
    let signed = (0..10).filter_map(|place| {
        let id = HostId::of(&public(HOSTS + place));
        receipts.get(&id).map(|receipt| receipt.sign(&key(HOSTS + place)))
    });
    Certificate {
        rollout: rollout.envelope().id(),
        claim,
        receipts: signed.collect(),
        excuses: Vec::new(),
    }
}

fn judged(certificate: &Certificate) -> String {
    let rollout = ten();
    let bytes = certificate.to_bytes();
    let parsed = Certificate::parse(&bytes).unwrap();
    assert_eq!((&parsed, parsed.to_bytes()), (certificate, bytes));
    match parsed.verify(rollout.envelope().id(), &rollout, &BTreeMap::new()) {
        Ok(receipts) => format!("proven by {}", receipts.len()),
        Err(error) => error.to_string(),
    }
}

#[test]
fn r17_certificates_prove_themselves() {
    let bend = |bend: &dyn Fn(&mut Vec<SignedReceipt>)| {
        let mut bent = certificate(Claim::Halt, "crr.......");
        bend(&mut bent.receipts);
        judged(&bent)
    };
    let foreign = "not of a host of the cohort, or stands twice";
    let stranger = Receipt {
        host: HostId::of(&public(STRANGER)),
        ..receipt(0, State::Reverted, Some(Cause::Release))
    };
    let other_rollout = Receipt {
        rollout: Digest::of(b"another"),
        ..receipt(1, State::Reverted, Some(Cause::Release))
    };
    let failed = receipt(3, State::Reverted, Some(Cause::Release)).sign(&key(HOSTS + 3)).to_text();
    let forged = failed.replace("reverted", "committed");
    check_rows(&[
        ("halt", judged(&certificate(Claim::Halt, "crr.......")), "proven by 3"),
        ("complete", judged(&certificate(Claim::Complete, "cccccccc..")), "proven by 8"),
        ("halt that is none", judged(&certificate(Claim::Halt, "cr........")), "do not prove Halt"),
        (
            "complete that is not",
            judged(&certificate(Claim::Complete, "ccccccc...")),
            "do not prove Complete",
        ),
        (
            "complete and over budget",
            judged(&certificate(Claim::Complete, "crrccccccc")),
            "do not prove Complete",
        ),
        ("no receipts", bend(&|receipts| receipts.clear()), "do not prove Halt"),
        ("one twice", bend(&|receipts| receipts.push(receipts[1].clone())), foreign),
        ("a stranger's", bend(&|receipts| receipts.push(stranger.sign(&key(STRANGER)))), foreign),
        (
            "of another rollout",
            bend(&|receipts| receipts[1] = other_rollout.sign(&key(HOSTS + 1))),
            foreign,
        ),
        (
            "a state bent",
            bend(&|receipts| receipts.push(SignedReceipt::from_text(&forged).unwrap())),
            foreign,
        ),
        (
            "more than the cohort",
            bend(&|receipts| *receipts = vec![receipts[0].clone(); 11]),
            foreign,
        ),
    ]);
    let id = Digest::of(b"another");
    assert_eq!(
        certificate(Claim::Halt, "crr.......").verify(id, &ten(), &BTreeMap::new()),
        Err(CertificateError::OtherRollout(ten().envelope().id()))
    );
}

/// R9: a removal excuses a host from what it owes and takes back nothing that it has said, so that
/// members count alike whether they have heard of the removal or not.
#[test]
fn r9_what_a_host_said_before_it_was_removed_stands() {
    let removed = HostId::of(&public(HOSTS));
    let excuses = BTreeMap::from([(Digest::of(b"its removal"), removed.clone())]);
    let halt = certificate(Claim::Halt, "r.........");
    let heard_of_it = halt.verify(halt.rollout, &ten(), &excuses);
    assert_eq!(heard_of_it, halt.verify(halt.rollout, &ten(), &BTreeMap::new()));
    assert_eq!(heard_of_it.map(|receipts| receipts.len()), Ok(1));
    let excused = BTreeSet::from([removed]);
    let proven = |claim, view| proves(claim, &ten(), &receipts(view), &excused);
    assert!(proven(Claim::Halt, "r........."));
    assert!(!proven(Claim::Complete, "rccccccccc"), "it failed");
    assert!(proven(Claim::Complete, "cccccccccc"), "it committed");
    assert!(proven(Claim::Complete, "...ccccccc"), "it is not waited for, and two may be silent");
}

#[test]
fn r17_the_largest_cohort_fits_in_a_certificate() {
    let longest = Receipt {
        sequence: u64::MAX,
        attempt: u32::MAX,
        note: note(&"w".repeat(500)),
        ..receipt(0, State::RevertFailed, Some(Cause::Release))
    };
    let one = Certificate {
        rollout: longest.rollout,
        claim: Claim::Complete,
        receipts: vec![longest.sign(&key(HOSTS))],
        excuses: Vec::new(),
    };
    let each = one.to_bytes().len();
    assert!(each * COHORT_MAX <= CERTIFICATE_BYTES_MAX, "{each} bytes each");
    let long = vec![b' '; CERTIFICATE_BYTES_MAX + 1];
    assert_eq!(
        Certificate::parse(&long),
        Err(CertificateError::TooLong { got: CERTIFICATE_BYTES_MAX + 1 })
    );
}
