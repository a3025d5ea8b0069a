//! The ledger alone, on a disk that can lose power.

use std::path::Path;
use std::sync::Arc;

use durable::{Disk, SimDisk};
use proto::certificate::{CertificateError, Claim};
use proto::dsse::Envelope;
use proto::receipt::State;
use proto::statement::{Action, Role, Rollout};
use proto::trust::{Refusal, Standing};
use proto::{Digest, UnixTime};

use super::kit::*;
use crate::ledger::{AdmitError, CertifyError, Ledger, OpenError, PENDING_MAX};
use crate::store::{Sort, Store};

fn open(disk: &Arc<SimDisk>) -> Ledger {
    let store = Store::open(disk.clone(), Path::new("/state")).unwrap();
    let genesis = genesis();
    Ledger::open(store, genesis.id(), Some(&genesis.to_bytes()), now).unwrap()
}

fn fresh() -> Ledger {
    open(&Arc::default())
}

/// Admits what must be taken.
fn admit(ledger: &Ledger, envelope: &Envelope) -> Standing {
    ledger.admit(&envelope.to_bytes()).unwrap().standing
}

#[test]
fn a_statement_counts_once_it_is_on_disk_and_again_after_a_start() {
    let disk = Arc::default();
    let ledger = open(&disk);
    let mut events = ledger.events();
    let release = some_release("1");
    let rollout = signed(&rollout(1, None, &release, "1", 0), &["deploy"]);
    let stop = directive(rollout.id(), 1, Action::Pause);
    let needs = ledger.admit(&rollout.to_bytes()).unwrap_err().needs();
    assert_eq!(needs, Some(release.id()), "a rollout before its release");
    assert!(!events.has_changed().unwrap());
    for envelope in [&release, &rollout, &stop, &signed(&host("one", 5), &["host-ca"])] {
        assert_eq!(admit(&ledger, envelope), Standing::Effective);
        assert!(events.has_changed().unwrap());
        events.mark_unchanged();
        let again = ledger.admit(&envelope.to_bytes()).unwrap();
        assert_eq!((again.new, again.standing), (false, Standing::Effective));
        assert!(!events.has_changed().unwrap(), "nothing is new");
        assert_eq!(ledger.statement(&envelope.id()).unwrap(), Some(envelope.to_bytes()));
    }
    let found = open(&Arc::new(disk.after_power_cut(3)));
    assert_eq!(*found.chain(), *ledger.chain(), "all was synced before it was learned");
    assert_eq!(found.chain().directive(&rollout.id()).unwrap().0, stop.id());
    assert_eq!(found.host(&host_id("one")), Some(host("one", 5)));
}

/// A machine whose battery is empty comes up in 1970: it must know who it is and what it holds.
#[test]
fn r8_what_was_kept_counts_whatever_the_clock_says_at_the_next_start() {
    let (disk, now) = (Arc::default(), now());
    let ledger = open(&disk);
    let release = some_release("1");
    let late = signed(&host("one", now.0), &["host-ca"]);
    let rollout = signed(&rollout(1, None, &release, "1", 0), &["deploy"]);
    let second = super::kit::rollout(2, Some(rollout.id()), &release, "1", 1);
    let waiting = signed(&Rollout { created: now, ..second }, &["deploy"]);
    for envelope in [&release, &late, &rollout] {
        assert_eq!(admit(&ledger, envelope), Standing::Effective);
    }
    assert!(matches!(admit(&ledger, &waiting), Standing::Pending { .. }));

    let disk = Arc::new(disk.after_power_cut(4));
    let store = Store::open(disk, Path::new("/state")).unwrap();
    let found = Ledger::open(store, genesis().id(), None, || UnixTime(0)).unwrap();
    assert_eq!(*found.chain(), *ledger.chain());
    assert_eq!(found.host(&host_id("one")), Some(host("one", now.0)));
    assert_eq!(found.pending().len(), 1);

    // What arrives is judged by the clock and by the newest time known here.
    let later = signed(&host("two", now.0 + 3 * 86_400), &["host-ca"]).to_bytes();
    let refused = found.admit(&later).unwrap_err();
    assert!(matches!(refused, AdmitError::Refused(Refusal::FromTheFuture { .. })), "{refused}");
    assert_eq!(found.admit_kept(&later).unwrap().standing, Standing::Effective);
}

#[test]
fn r1_signatures_are_merged_and_a_pending_statement_takes_effect_with_the_last_one() {
    let disk = Arc::default();
    let ledger = open(&disk);
    let release = some_release("1");
    admit(&ledger, &release);
    let rollout = rollout(1, None, &release, "1", 1);
    let author = signed(&rollout, &["deploy"]);
    let approver = signed(&rollout, &["deploy", "approve"]);
    let stranger = signed(&rollout, &["deploy", "nobody"]);
    assert!(matches!(admit(&ledger, &author), Standing::Pending { .. }));
    let again = ledger.admit(&stranger.to_bytes()).unwrap();
    assert!(!again.new, "a signature that does not count is not news");
    assert!(ledger.knows(&author.id()) && !ledger.is_effective(&author.id()));
    assert_eq!(ledger.chain().head(&scope()), None);
    // A start between the two halves.
    let ledger = open(&Arc::new(disk.after_power_cut(9)));
    assert_eq!(ledger.pending().len(), 1);
    assert_eq!(admit(&ledger, &approver), Standing::Effective);
    assert_eq!(ledger.chain().head(&scope()).unwrap().rollout, author.id());
    assert!(ledger.pending().is_empty());
    // One more approval is one more signature, and the author's alone does not take it away.
    assert!(ledger.admit(&signed(&rollout, &["deploy", "second"]).to_bytes()).unwrap().new);
    assert!(!ledger.admit(&author.to_bytes()).unwrap().new);
    let kept = ledger.statement(&author.id()).unwrap().unwrap();
    assert_eq!(Envelope::parse(&kept, 1 << 20).unwrap().signatures().len(), 3);
}

#[test]
fn r1_pending_statements_are_bounded_and_judged_again() {
    let ledger = fresh();
    let release = some_release("1");
    admit(&ledger, &release);
    let mut first = None;
    for number in 0..=PENDING_MAX {
        let mut rollout = rollout(1, None, &release, "1", 1);
        rollout.reason = format!("plan {number}");
        let pending = signed(&rollout, &["deploy"]);
        first.get_or_insert(pending.id());
        assert!(matches!(admit(&ledger, &pending), Standing::Pending { .. }));
    }
    assert_eq!(ledger.pending().len(), PENDING_MAX);
    assert!(!ledger.knows(&first.unwrap()), "the oldest made room");
    let store = ledger.store();
    assert_eq!(store.statements(Sort::Pending).unwrap().len(), PENDING_MAX);
    // Once another one is the head, those that waited for approval of its epoch are too late.
    let quick = signed(&rollout(1, None, &release, "1", 0), &["deploy"]);
    assert_eq!(admit(&ledger, &quick), Standing::Effective);
    assert!(ledger.pending().is_empty());
    assert!(store.statements(Sort::Pending).unwrap().is_empty());
}

#[test]
fn the_newest_statement_of_a_host_wins_in_any_order() {
    for order in [[1, 2, 3], [3, 1, 2], [2, 3, 1]] {
        let disk = Arc::default();
        let ledger = open(&disk);
        for issued_s in order {
            admit(&ledger, &signed(&host("one", issued_s), &["host-ca"]));
        }
        let newest = signed(&host("one", 3), &["host-ca"]);
        for ledger in [&ledger, &open(&disk)] {
            assert_eq!(ledger.hosts(), [host("one", 3)], "{order:?}");
            assert_eq!(ledger.host_envelope(&host_id("one")), Some(newest.to_bytes()));
        }
        // The genesis and one host.
        assert_eq!(ledger.store().statements(Sort::Effective).unwrap().len(), 2, "{order:?}");
    }
}

#[test]
fn r2_roots_come_in_order_and_what_old_keys_signed_still_counts_after_a_start() {
    let disk = Arc::default();
    let ledger = open(&disk);
    let release = some_release("1");
    admit(&ledger, &release);
    // From version 2 on, the publisher of the release is none any more.
    let later = |version: u32| {
        let mut later = root(version, 1 << 40);
        later.roles.get_mut(&Role::Publish).unwrap().keys = vec![key_id("second")];
        signed(&later, &["root"])
    };
    let (second, third) = (later(2), later(3));
    assert!(ledger.admit(&third.to_bytes()).is_err(), "version 2 is missing");
    for next in [&second, &third] {
        assert_eq!(admit(&ledger, next), Standing::Effective);
    }
    let found = open(&disk);
    assert_eq!(found.chain().root().version, 3);
    assert!(found.chain().release(&release.id()).is_some());
    assert_eq!(found.roots(1).unwrap(), [second.to_bytes(), third.to_bytes()]);
    assert_eq!(found.roots(0).unwrap().len(), 3);
    assert!(found.roots(3).unwrap().is_empty() && found.roots(u32::MAX).unwrap().is_empty());
}

#[test]
fn r17_certificates_are_verified_and_kept_once_per_claim() {
    let disk = Arc::default();
    let ledger = open(&disk);
    let release = some_release("1");
    let rollout = signed(&rollout(1, None, &release, "1", 0), &["deploy"]);
    let id = rollout.id();
    let certify =
        |certificate: &proto::certificate::Certificate| ledger.certify(&certificate.to_bytes());
    let done = certificate(id, Claim::Complete, State::Committed, "");
    assert!(matches!(certify(&done), Err(CertifyError::NeedsRollout(needs)) if needs == id));
    admit(&ledger, &release);
    admit(&ledger, &rollout);
    let unproven = certificate(id, Claim::Halt, State::Committed, "");
    assert!(matches!(certify(&unproven), Err(CertifyError::Refused(_))));
    let digest = certify(&done).unwrap();
    assert_eq!(digest, Digest::of(&done.to_bytes()));
    let other = certificate(id, Claim::Complete, State::Committed, "said otherwise");
    assert_eq!(certify(&other).unwrap(), digest, "the first one stays");
    assert_eq!(ledger.store().blobs().unwrap(), [digest]);
    let found = open(&Arc::new(disk.after_power_cut(1)));
    assert_eq!(found.certificate(&id, Claim::Complete), Some(digest));
    assert_eq!(found.certificate(&id, Claim::Halt), None);
}

#[test]
fn what_does_not_read_is_set_aside_and_the_rest_still_counts() {
    let disk: Arc<SimDisk> = Arc::default();
    let ledger = open(&disk);
    let (one, two) = (some_release("1"), some_release("2"));
    admit(&ledger, &one);
    admit(&ledger, &two);
    let path = |name: String| Path::new("/state/statements").join(name);
    disk.write_at(&path(format!("{:#}.json", one.id())), 0, b"garbage").unwrap();
    let found = open(&disk);
    assert!(found.chain().release(&one.id()).is_none());
    assert!(found.chain().release(&two.id()).is_some());
    let bad = disk.kind(&path(format!("{:#}.json.bad", one.id()))).unwrap();
    assert!(bad.is_some(), "a person can look at it");
    assert_eq!(admit(&found, &one), Standing::Effective, "and it can come again");
}

#[test]
fn nothing_is_learned_when_it_cannot_be_kept() {
    let disk: Arc<SimDisk> = Arc::default();
    let ledger = open(&disk);
    let before = ledger.chain();
    disk.fail_at(disk.steps());
    let error = ledger.admit(&some_release("1").to_bytes()).unwrap_err();
    assert!(matches!(error, AdmitError::Store(_)), "{error}");
    assert_eq!(*ledger.chain(), *before);
}

/// R1: the power is cut before every step of admitting; what is found is a ledger that has some of
/// the statements, in order, and takes the rest.
#[test]
fn r1_power_cut_at_every_step_of_admitting() {
    let release = some_release("1");
    let rollout = rollout(1, None, &release, "1", 1);
    let envelopes = [
        release.clone(),
        signed(&rollout, &["deploy"]),
        signed(&rollout, &["deploy", "approve"]),
        directive(signed(&rollout, &[]).id(), 1, Action::Abort),
        signed(&host("one", 1), &["host-ca"]),
        signed(&host("one", 2), &["host-ca"]),
    ];
    let live = |disk: &Arc<SimDisk>| {
        let ledger = open(disk);
        let base = disk.steps();
        (envelopes.iter().try_for_each(|e| ledger.admit(&e.to_bytes()).map(drop)), base)
    };
    let whole = Arc::new(SimDisk::new());
    let (outcome, base) = live(&whole);
    outcome.unwrap();
    let wanted = open(&whole).chain();
    for step in base..=whole.steps() {
        for seed in 0..10 {
            let disk = Arc::new(SimDisk::new());
            disk.fail_at(step);
            let _cut = live(&disk);
            let found = open(&Arc::new(disk.after_power_cut(seed)));
            for envelope in &envelopes {
                admit(&found, envelope);
            }
            assert_eq!(*found.chain(), *wanted, "cut before step {step}, seed {seed}");
            assert_eq!(found.hosts(), [host("one", 2)]);
        }
    }
}

#[test]
fn a_ledger_needs_its_genesis_and_no_other() {
    let store = || Store::open(Arc::new(SimDisk::new()), Path::new("/state")).unwrap();
    let pinned = genesis().id();
    assert!(matches!(Ledger::open(store(), pinned, None, now), Err(OpenError::NoGenesis(_))));
    let other = signed(&root(1, 7), &["root"]).to_bytes();
    let error = Ledger::open(store(), pinned, Some(&other), now).err().unwrap();
    assert!(matches!(error, OpenError::Genesis(Refusal::GenesisPin { .. })), "{error}");
}

/// R4, R17: whoever fails once all is done takes nobody back; what was stopped before stays so.
#[test]
fn r4_a_halt_that_comes_after_the_completion_needs_hosts_that_had_not_committed() {
    let release = some_release("1");
    let rollout = signed(&rollout(1, None, &release, "1", 0), &["deploy"]);
    let id = rollout.id();
    let halt = certificate(id, Claim::Halt, State::Reverted, "").to_bytes();
    let complete = certificate(id, Claim::Complete, State::Committed, "").to_bytes();
    let started = || {
        let disk = Arc::default();
        let ledger = open(&disk);
        admit(&ledger, &release);
        admit(&ledger, &rollout);
        (disk, ledger)
    };
    let (_, ledger) = started();
    ledger.certify(&complete).unwrap();
    let changes = *ledger.events().borrow();
    let refused = ledger.certify(&halt);
    let late = CertificateError::AfterCompletion;
    assert!(matches!(&refused, Err(CertifyError::Refused(error)) if *error == late), "{refused:?}");
    assert!(refused.unwrap_err().is_final(), "nobody need ask again");
    assert_eq!(ledger.store().blobs().unwrap(), [Digest::of(&complete)], "and it is not kept");
    assert_eq!(*ledger.events().borrow(), changes);

    let (disk, ledger) = started();
    ledger.certify(&halt).unwrap();
    ledger.certify(&complete).unwrap();
    let both = |ledger: &Ledger| {
        [Claim::Halt, Claim::Complete].map(|claim| ledger.certificate(&id, claim).is_some())
    };
    assert_eq!(both(&ledger), [true, true]);
    drop(ledger);
    assert_eq!(both(&open(&disk)), [true, true], "nor does a start forget the halt");
}
