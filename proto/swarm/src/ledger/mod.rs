//! The statements and certificates a member counts on: verified, on disk, and then learned.
//!
//! All changes go through [`Ledger::admit`] and [`Ledger::certify`], one at a time: verify, merge
//! signatures with what is here, write, learn, wake the readers. A statement therefore has an
//! effect only once it would survive a power cut. Both block on the disk and belong in
//! `spawn_blocking`; reading never waits for a writer.

pub(crate) mod load;
mod shelf;
mod state;

use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use proto::certificate::{Certificate, CertificateError, Claim, proves_halt_beside};
use proto::dsse::{Envelope, EnvelopeError};
use proto::receipt::Receipt;
use proto::record::ShelfRecord;
use proto::statement::{Host, Rollout, Statement};
use proto::trust::{Chain, Refusal, Standing, Verified, verify};
use proto::wire::Part;
use proto::{Digest, HostId, Scope, UnixTime};
use tokio::sync::watch;
use tracing::{info, warn};

use crate::store::{Sort, Store, StoreError};
pub use shelf::STOPPED_MAX;
use shelf::Shelves;
pub use state::Pending;
use state::{Group, State};

/// Statements kept below their threshold, per scope, service or kind (R1).
pub const PENDING_MAX: usize = 8;
/// The time by which what this member has kept is judged: nothing is from the future then. Each
/// statement was judged by the clock of the day it came. A machine that comes up with a clock that
/// has lost its time must still know who it is and what it holds (R8, R19).
const KEPT: UnixTime = UnixTime(u64::MAX);

/// Why a ledger cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("root version 1 ({0}) is neither in the store nor given: join again")]
    NoGenesis(Digest),
    #[error("root version 1 is refused")]
    Genesis(#[source] Refusal),
    #[error("the store does not work")]
    Store(#[from] StoreError),
}

/// Why a statement was not taken in; nothing has changed.
#[derive(Debug, thiserror::Error)]
pub enum AdmitError {
    #[error("{0}")]
    Refused(#[from] Refusal),
    /// It is verified and not kept: it has no effect.
    #[error("the statement cannot be kept")]
    Store(#[from] StoreError),
}

impl AdmitError {
    /// The statement to admit first, if that is all that is missing.
    pub fn needs(&self) -> Option<Digest> {
        match self {
            Self::Refused(Refusal::Needs(id)) => Some(*id),
            Self::Refused(_) | Self::Store(_) => None,
        }
    }
}

/// Why a certificate was not taken in; nothing has changed.
#[derive(Debug, thiserror::Error)]
pub enum CertifyError {
    /// Admit that rollout first, then try again.
    #[error("its rollout {0} is not known here")]
    NeedsRollout(Digest),
    /// It may be true, and nobody asks any more.
    #[error("a newer rollout has replaced {0}: how far that came says nothing any more")]
    Replaced(Digest),
    #[error("{0}")]
    Refused(#[from] CertificateError),
    #[error("the certificate cannot be kept")]
    Store(#[from] StoreError),
}

impl CertifyError {
    /// Whether it is refused for what was proven before, so that to ask again leads nowhere.
    pub const fn is_final(&self) -> bool {
        matches!(self, Self::Refused(CertificateError::AfterCompletion))
    }
}

/// What became of a statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admitted {
    pub id: Digest,
    pub statement: Statement,
    pub standing: Standing,
    /// Whether it, or a signature on it, was not here before.
    pub new: bool,
    /// See [`Verified::superseded_by`].
    pub superseded_by: Option<Digest>,
}

/// The statements and certificates of a member. Cheap to clone; all clones are one ledger.
#[derive(Clone)]
pub struct Ledger(Arc<Inner>);

struct Inner {
    store: Store,
    clock: fn() -> UnixTime,
    /// Held by whoever changes something, over its disk writes.
    changing: Mutex<()>,
    /// Held for lookups and the moment of a change, never over the disk.
    state: Mutex<State>,
    shelves: Mutex<Shelves>,
    changed: watch::Sender<u64>,
}

impl Ledger {
    /// Opens the ledger of the fleet whose first root has the id `pinned`, with everything the
    /// store holds. `genesis`: that root's envelope, needed where the store has not got it.
    ///
    /// Statements that do not read are set aside with a warning, those that no longer count are
    /// passed over.
    ///
    /// # Errors
    ///
    /// [`OpenError`].
    pub fn open(
        store: Store,
        pinned: Digest,
        genesis: Option<&[u8]>,
        clock: fn() -> UnixTime,
    ) -> Result<Self, OpenError> {
        let stored = store.statement(Sort::Effective, &pinned)?;
        let genesis = match (stored, genesis) {
            (Some(stored), _) => stored,
            (None, Some(given)) => {
                Chain::genesis(given, pinned).map_err(OpenError::Genesis)?;
                store.put_statement(Sort::Effective, &pinned, given)?;
                given.to_vec()
            }
            (None, None) => return Err(OpenError::NoGenesis(pinned)),
        };
        let chain = Chain::genesis(&genesis, pinned).map_err(OpenError::Genesis)?;
        let mut state = State::new(chain, pinned);
        load::load(&store, &mut state, KEPT)?;
        let (changing, state, shelves) = (Mutex::default(), Mutex::new(state), Mutex::default());
        let changed = watch::Sender::new(0);
        let ledger = Self(Arc::new(Inner { store, clock, changing, state, shelves, changed }));
        ledger.judge_pending();
        ledger.drop_stale_waves();
        Ok(ledger)
    }

    /// Takes in the envelope of a statement from anywhere. Blocks on the disk.
    ///
    /// Signatures are merged with those here, both cut to verified ones. Admitting a statement
    /// again changes nothing. What it makes effective among the pending ones is learned, too.
    ///
    /// # Errors
    ///
    /// [`AdmitError`]; with [`AdmitError::needs`], admit that statement and try again.
    pub fn admit(&self, bytes: &[u8]) -> Result<Admitted, AdmitError> {
        self.admit_at(bytes, (self.0.clock)())
    }

    /// As [`Self::admit`], for what this member has kept elsewhere since it was given it: the roots
    /// and the host statement of its joining. None of that is from the future, whatever the clock
    /// says now.
    ///
    /// # Errors
    ///
    /// [`AdmitError`].
    pub fn admit_kept(&self, bytes: &[u8]) -> Result<Admitted, AdmitError> {
        self.admit_at(bytes, KEPT)
    }

    fn admit_at(&self, bytes: &[u8], now: UnixTime) -> Result<Admitted, AdmitError> {
        let _turn = self.change();
        let verified = verify(&self.chain(), bytes, now)?;
        let admitted = self.take_in(verified)?;
        if admitted.new {
            if admitted.standing == Standing::Effective {
                self.judge_pending();
                self.drop_stale_waves();
            }
            self.0.changed.send_modify(|changes| *changes += 1);
        }
        Ok(admitted)
    }

    /// Takes in a certificate from anywhere, or assembled here. Blocks on the disk.
    ///
    /// One certificate is kept per rollout and claim, the first: returns its id, which need not be
    /// that of these bytes. Of waves only the highest is kept, and none once the rollout is complete or
    /// replaced. Once it is complete, a halt needs failures of hosts that had not committed
    /// ([`proves_halt_beside`]); one that came before stays.
    ///
    /// # Errors
    ///
    /// [`CertifyError`].
    pub fn certify(&self, bytes: &[u8]) -> Result<Digest, CertifyError> {
        let certificate = Certificate::parse(bytes)?;
        let Certificate { rollout: id, claim, .. } = certificate;
        let _turn = self.change();
        if let Some(known) = self.proof_of(&id, claim) {
            return Ok(known);
        }
        let chain = self.chain();
        let rollout = chain.rollout(&id).ok_or(CertifyError::NeedsRollout(id))?;
        // What would be dropped at once is not written, and wakes nobody.
        if matches!(claim, Claim::Wave(_)) && self.state().is_replaced(&id) {
            return Err(CertifyError::Replaced(id));
        }
        let receipts = certificate.verify(id, rollout, &chain.excuses(&id))?;
        if claim == Claim::Halt {
            self.judge_late_halt(id, rollout, receipts)?;
        }
        let digest = self.0.store.put_blob(bytes)?;
        info!(rollout = %id, ?claim, certificate = %digest, "certificate taken in");
        self.state().certificates.insert((id, claim), digest);
        self.drop_stale_waves();
        self.0.changed.send_modify(|changes| *changes += 1);
        Ok(digest)
    }

    // --- reading ---

    /// What is verified, as of now.
    pub fn chain(&self) -> Arc<Chain> {
        self.state().chain.clone()
    }

    /// Wakes after every change; readers then read anew. The value counts changes.
    pub fn events(&self) -> watch::Receiver<u64> {
        self.0.changed.subscribe()
    }

    /// Whether a statement is here, with or without effect.
    pub fn knows(&self, id: &Digest) -> bool {
        let state = self.state();
        state.statements.contains(id) || state.pending.values().flatten().any(|held| held.id == *id)
    }

    /// Whether a statement is here and has an effect.
    pub fn is_effective(&self, id: &Digest) -> bool {
        self.state().statements.contains(id)
    }

    /// The envelope of a statement that is here, with or without effect. Blocks on the disk.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`].
    pub fn statement(&self, id: &Digest) -> Result<Option<Vec<u8>>, StoreError> {
        match self.0.store.statement(Sort::Effective, id)? {
            Some(envelope) => Ok(Some(envelope)),
            None => self.0.store.statement(Sort::Pending, id),
        }
    }

    /// The envelopes of all roots after version `after`, in order: 0 for all. Blocks on the disk.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`].
    pub fn roots(&self, after: u32) -> Result<Vec<Vec<u8>>, StoreError> {
        let chain = self.chain();
        let newer = after.saturating_add(1)..=chain.root().version;
        let ids = newer.filter_map(|version| chain.root_of(version)).map(|(id, _)| id);
        let mut envelopes = Vec::new();
        for id in ids {
            envelopes.extend(self.statement(&id)?);
        }
        Ok(envelopes)
    }

    /// Ids of what is here of one part, smallest first: at most `count` of those after `after`.
    pub fn ids(&self, part: Part, after: Option<Digest>, count: usize) -> Vec<Digest> {
        let state = self.state();
        let others: BTreeSet<Digest>;
        let ids = match part {
            Part::Statements => &state.statements,
            Part::Pending => {
                others = state.pending.values().flatten().map(|held| held.id).collect();
                &others
            }
            Part::Certificates => {
                others = state.certificates.values().copied().collect();
                &others
            }
        };
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        ids.range((from, Bound::Unbounded)).take(count).copied().collect()
    }

    /// The newest statement of each host, by id.
    pub fn hosts(&self) -> Vec<Host> {
        self.state().hosts.values().map(|(_, host)| host.clone()).collect()
    }

    /// The newest statement of a host.
    pub fn host(&self, id: &HostId) -> Option<Host> {
        self.state().hosts.get(id).map(|(_, host)| host.clone())
    }

    /// The envelope of the newest statement of a host. Blocks on the disk.
    pub fn host_envelope(&self, id: &HostId) -> Option<Vec<u8>> {
        let statement = self.state().hosts.get(id).map(|(statement, _)| *statement)?;
        self.statement(&statement).unwrap_or_else(|error| {
            warn!(host = %id, %error, "a host statement cannot be read");
            None
        })
    }

    /// The id of the certificate that proves this claim about a rollout; its bytes are
    /// [`Store::blob`].
    pub fn certificate(&self, rollout: &Digest, claim: Claim) -> Option<Digest> {
        self.state().certificates.get(&(*rollout, claim)).copied()
    }

    /// The id of a certificate that proves this claim about a rollout, or more: a higher wave, or
    /// the end, proves a wave.
    pub fn proof_of(&self, rollout: &Digest, claim: Claim) -> Option<Digest> {
        let state = self.state();
        let held = |claim| state.certificates.get(&(*rollout, claim)).copied();
        match claim {
            Claim::Halt | Claim::Complete => held(claim),
            Claim::Wave(wave) => held(Claim::Complete).or_else(|| {
                let newest = state.newest_wave(rollout).filter(|newest| *newest >= wave)?;
                held(Claim::Wave(newest))
            }),
        }
    }

    /// Whether a certificate of this claim, if there is one, would be taken in: it proves what nothing
    /// here proves, and somebody still asks.
    pub(crate) fn wants_proof(&self, rollout: &Digest, claim: Claim) -> bool {
        let moot = matches!(claim, Claim::Wave(_)) && self.state().is_replaced(rollout);
        !moot && self.proof_of(rollout, claim).is_none()
    }

    /// The highest wave of a rollout that is proven by a certificate here, 0 first.
    pub fn newest_wave(&self, rollout: &Digest) -> Option<u32> {
        self.state().newest_wave(rollout)
    }

    /// The rollouts of a scope that are known to be halted or aborted, newest first; the newest
    /// [`STOPPED_MAX`].
    pub fn stopped(&self, scope: &Scope) -> Vec<Digest> {
        self.state().stopped(scope)
    }

    /// What is told of beside the heads of the scopes, as of now: announced in gossip, and found by
    /// [`Self::shelf_bytes`].
    pub fn shelf(&self) -> ShelfRecord {
        let changes = *self.0.changed.borrow();
        self.shelves().record(changes, || self.state().shelf())
    }

    /// A shelf that was announced lately, by the digest of its bytes.
    pub fn shelf_bytes(&self, id: &Digest) -> Option<Arc<Vec<u8>>> {
        self.shelves().find(id)
    }

    /// The statements below their threshold, oldest first per scope.
    pub fn pending(&self) -> Vec<Pending> {
        self.state().pending.values().flatten().cloned().collect()
    }

    pub fn store(&self) -> &Store {
        &self.0.store
    }

    // --- changing ---

    /// Judges a halt that comes after the completion of its rollout.
    fn judge_late_halt(
        &self,
        id: Digest,
        rollout: &Rollout,
        halt: Vec<Receipt>,
    ) -> Result<(), CertifyError> {
        let Some(complete) = self.certificate(&id, Claim::Complete) else { return Ok(()) };
        // One that rotted proves nothing any more.
        let Some(bytes) = self.0.store.blob(&complete)? else { return Ok(()) };
        let complete = Certificate::parse(&bytes)?;
        let complete = complete.verify(id, rollout, &self.chain().excuses(&id))?;
        let by_host = |receipts: Vec<Receipt>| {
            receipts.into_iter().map(|receipt| (receipt.host.clone(), receipt)).collect()
        };
        match proves_halt_beside(rollout, &by_host(halt), &by_host(complete)) {
            true => Ok(()),
            false => Err(CertificateError::AfterCompletion.into()),
        }
    }

    fn take_in(&self, incoming: Verified) -> Result<Admitted, AdmitError> {
        let id = incoming.id;
        let known = self.state().statements.contains(&id);
        let Some(verified) = self.merged(incoming.clone(), known)? else {
            let Verified { statement, superseded_by, .. } = incoming;
            let standing = self.standing_of(&id, known, incoming.standing);
            return Ok(Admitted { id, statement, standing, new: false, superseded_by });
        };
        let new = match verified.standing {
            Standing::Effective => self.learn(&verified)?,
            Standing::Pending { .. } => {
                self.keep_pending(&verified)?;
                true
            }
        };
        let Verified { statement, standing, superseded_by, .. } = verified;
        let kind = statement.kind().name();
        info!(statement = %id, kind, ?standing, "statement taken in");
        Ok(Admitted { id, statement, standing, new, superseded_by })
    }

    /// The statement with the signatures that are here, too; `None` if there is nothing new to it.
    fn merged(&self, incoming: Verified, known: bool) -> Result<Option<Verified>, AdmitError> {
        let id = incoming.id;
        let sort = if known { Sort::Effective } else { Sort::Pending };
        let Some(stored) = self.0.store.statement(sort, &id)? else { return Ok(Some(incoming)) };
        let stored = Envelope::parse(&stored, usize::MAX);
        let Some(mut union) = stored.ok().filter(|stored| stored.id() == id) else {
            warn!(statement = %id, "a statement has changed on disk and is written anew");
            return Ok(Some(incoming));
        };
        // What is here was verified when it came; perhaps by keys that are gone since, and then
        // those signatures are what its effect rests on: they stay.
        match union.merge(&incoming.envelope) {
            Ok(true) => {}
            Ok(false) => return Ok(None),
            Err(EnvelopeError::TooManySignatures { .. }) if known => return Ok(None),
            Err(error) => return Err(Refusal::from(error).into()),
        }
        if known {
            return Ok(Some(Verified { envelope: union, ..incoming }));
        }
        Ok(Some(verify(&self.chain(), &union.to_bytes(), KEPT)?))
    }

    fn standing_of(&self, id: &Digest, known: bool, judged: Standing) -> Standing {
        if known {
            return Standing::Effective;
        }
        let state = self.state();
        let held = state.pending.values().flatten().find(|held| held.id == *id);
        held.map_or(judged, |held| Standing::Pending { missing: held.missing.clone() })
    }

    /// Writes an effective statement, then counts on it. Whether that changed anything: an older
    /// statement of a host does not.
    fn learn(&self, verified: &Verified) -> Result<bool, StoreError> {
        let replaced = match &verified.statement {
            Statement::Host(host) => match self.state().hosts.get(&host.id) {
                Some((held, newest)) if (newest.issued, *held) > (host.issued, verified.id) => {
                    return Ok(false);
                }
                Some((held, _)) => Some(*held).filter(|held| *held != verified.id),
                None => None,
            },
            _ => None,
        };
        let store = &self.0.store;
        store.put_statement(Sort::Effective, &verified.id, &verified.envelope.to_bytes())?;
        let was_pending = self.state().learn(verified);
        if was_pending && let Err(error) = store.remove_statement(Sort::Pending, &verified.id) {
            // Judged again at the next start, and found known.
            warn!(statement = %verified.id, %error, "a pending statement is not removed");
        }
        if let Some(old) = replaced {
            self.state().statements.remove(&old);
            if let Err(error) = store.remove_statement(Sort::Effective, &old) {
                warn!(statement = %old, %error, "a replaced host statement is not removed");
            }
        }
        Ok(true)
    }

    fn keep_pending(&self, verified: &Verified) -> Result<(), StoreError> {
        let group = Group::of(&verified.statement, &self.chain());
        let store = &self.0.store;
        let oldest = self.state().oldest_pending_if_full(&group, &verified.id);
        if let Some(oldest) = oldest {
            warn!(statement = %oldest, "too many pending statements: the oldest is dropped");
            store.remove_statement(Sort::Pending, &oldest)?;
            self.state().forget_pending(&oldest);
        }
        store.put_statement(Sort::Pending, &verified.id, &verified.envelope.to_bytes())?;
        self.state().keep_pending(group, verified);
        Ok(())
    }

    /// Judges what is pending anew, until nothing more becomes effective.
    fn judge_pending(&self) {
        while self.judge_pending_once() {}
    }

    fn judge_pending_once(&self) -> bool {
        let mut changed = false;
        for Pending { id, .. } in self.pending() {
            let Ok(Some(envelope)) = self.0.store.statement(Sort::Pending, &id) else { continue };
            let judged = verify(&self.chain(), &envelope, KEPT);
            let outcome = match judged {
                Ok(verified) if verified.standing == Standing::Effective => {
                    changed = true;
                    self.learn(&verified).map(drop)
                }
                Ok(_) | Err(Refusal::Needs(_)) => Ok(()),
                Err(refusal) => {
                    info!(statement = %id, %refusal, "a pending statement is dropped");
                    self.state().forget_pending(&id);
                    self.0.store.remove_statement(Sort::Pending, &id)
                }
            };
            if let Err(error) = outcome {
                warn!(statement = %id, %error, "a pending statement stays as it is");
                return false;
            }
        }
        changed
    }

    /// Forgets certificates of waves that say nothing any more: one is as long as the cohort.
    fn drop_stale_waves(&self) {
        let stale = self.state().stale_waves();
        for key in stale {
            let Some(id) = self.state().certificates.remove(&key) else { continue };
            if let Err(error) = self.0.store.remove_blob(&id) {
                // Found stale again at the next start.
                warn!(certificate = %id, %error, "the certificate of a wave is not removed");
            }
        }
    }

    fn shelves(&self) -> MutexGuard<'_, Shelves> {
        self.0.shelves.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self) -> MutexGuard<'_, ()> {
        self.0.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change is made after all that can fail: a panic elsewhere leaves it whole.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
