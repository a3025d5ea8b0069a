//! Fetching the statements and certificates that members announce (R11).
//!
//! Announcements are hints: what comes is judged by the [`Ledger`] alone. Of an announcement that is
//! older than what is here nothing follows, as its member sees ours. A member that announces what
//! it has not, what does not verify, or what is true and changes nothing here, costs a request now and
//! then: one at a time, a pause after each failure, and a longer one each time the same item fails. Who
//! does not answer soon goes on being asked, and somebody else is, too.
//!
//! What no scope's record names stands on a shelf, announced by its digest: a shelf that is not this
//! member's own is read once, and what is missing here is fetched from those who announce it.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use net::{Member, Pool};
use proto::certificate::{CERTIFICATE_BYTES_MAX, Certificate, CertificateError, Claim};
use proto::dsse::Envelope;
use proto::record::{
    ROOT, RootRecord, SHELF, SHELF_BYTES_MAX, SLOTS, ScopeRecord, Shelf, ShelfRecord, from_text,
    scope_key,
};
use proto::statement::ENVELOPE_BYTES_MAX;
use proto::trust::{Chain, Refusal, Standing};
use proto::wire::SwarmRequest;
use proto::{Digest, HostId};
use rand::seq::IndexedRandom;
use tokio::task::JoinSet;
use tokio::time::{self, Instant};
use tracing::{debug, warn};

use crate::ledger::{AdmitError, CertifyError, Ledger};
use crate::transfer::ask::{self, Answer, AskError, Source};
use crate::{Hearsay, blocking};

/// Items fetched at a time, each of another member.
const FETCHES_MAX: usize = 8;
/// How long one member is asked for an item before a second one is, too.
const PATIENCE: Duration = Duration::from_secs(2);
/// Statements that may each need the next: more than a scope sees epochs.
const DEPTH_MAX: usize = 10_000;
/// Envelopes kept while what they need is fetched, in bytes; beyond, they are fetched again.
const KEPT_BYTES_MAX: usize = 8 << 20;
/// First pause after a failure; doubled with each in a row.
const REST: Duration = Duration::from_secs(1);
/// Longest such pause for a member that cannot be reached.
const REST_MAX: Duration = Duration::from_secs(30);
/// Longest such pause for one item of one member: it does not verify here, or is not there.
const ITEM_REST_MAX: Duration = Duration::from_secs(300);
/// Pause of a member after any failure.
pub(crate) const BREATH: Duration = Duration::from_millis(250);
/// Items that are paused at a time.
const ITEMS_MAX: usize = 4_096;
/// Items of one shelf that are wanted at a time: what a liar can keep this member busy with.
const MISSING_MAX: usize = 256;
/// How often it is looked again when nothing happens.
const REVIEW_EVERY: Duration = Duration::from_secs(1);

/// Something announced that is not here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Want {
    /// All roots up to this version.
    Roots(u32),
    Statement(Digest),
    /// Without an id, whichever the member holds.
    Certificate {
        rollout: Digest,
        claim: Claim,
        id: Option<Digest>,
    },
    /// A list of statements and certificates.
    Shelf(Digest),
}

/// Why something a member says it holds did not come.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SyncError {
    #[error(transparent)]
    Ask(#[from] AskError),
    #[error("the member says that it has it, and has not")]
    NotThere,
    #[error("the member is busy")]
    Busy,
    /// True, and of no use here; it would be asked for again at once.
    #[error("what came was taken in before, or something newer has replaced it")]
    NoNews,
    #[error(transparent)]
    Admit(#[from] AdmitError),
    #[error(transparent)]
    Certify(#[from] CertifyError),
    #[error("statement {id} is below its threshold with what the member holds: {missing}")]
    Pending { id: Digest, missing: String },
    #[error("statements need each other in a circle, or more than {DEPTH_MAX} deep")]
    TooDeep,
}

/// Runs for ever.
pub(crate) async fn run(ledger: &Ledger, pool: &Pool, hearsay: &Hearsay) {
    let mut members = hearsay.members.clone();
    let mut events = ledger.events();
    let mut fetching = JoinSet::new();
    let mut pauses = Pauses::default();
    let mut shelves = Shelves::default();
    let mut under_way: BTreeMap<(Want, HostId), Instant> = BTreeMap::new();
    let mut members_end = false;
    loop {
        let now = Instant::now();
        let known = members.borrow_and_update().clone();
        events.mark_unchanged();
        pauses.forget_all_but(&known);
        let heard = Heard::of(&known, &hearsay.me);
        shelves.review(&heard.shelves, ledger, &pauses, now);
        for (want, sources) in heard.wants(ledger, &shelves) {
            let lately = |((busy, _), since): (&(Want, HostId), &Instant)| {
                *busy == want && now < *since + PATIENCE
            };
            if fetching.len() >= FETCHES_MAX || under_way.iter().any(lately) {
                continue;
            }
            let free = |source: &&Source| {
                pauses.may_ask(&source.host, want, now)
                    && !under_way.keys().any(|(_, busy)| *busy == source.host)
            };
            let free: Vec<_> = sources.iter().filter(free).collect();
            let Some(source) = free.choose(&mut rand::rng()).map(|source| Source::clone(source))
            else {
                continue;
            };
            under_way.insert((want, source.host.clone()), now);
            let (ledger, pool) = (ledger.clone(), pool.clone());
            fetching.spawn(async move {
                let outcome = obtain(&ledger, &pool, &source, want).await;
                (want, source.host, outcome)
            });
        }
        let wake = pauses.next(now).map_or(REVIEW_EVERY, |at| at - now).min(REVIEW_EVERY);
        tokio::select! {
            Some(done) = fetching.join_next() => match done {
                Ok((want, member, outcome)) => {
                    under_way.remove(&(want, member.clone()));
                    let outcome = match (want, outcome) {
                        (Want::Shelf(id), Ok(Some(shelf))) => {
                            let sources = heard.shelves.get(&id).map_or(&[][..], Vec::as_slice);
                            let rests = |want| pauses.rests(sources, want, Instant::now());
                            let kept = shelves.keep(id, &shelf, ledger, rests);
                            kept.then_some(()).ok_or(SyncError::NoNews)
                        }
                        (_, Ok(_)) if is_missing(&want, ledger) => Err(SyncError::NoNews),
                        (_, outcome) => outcome.map(drop),
                    };
                    pauses.note(member, want, outcome);
                }
                Err(error) => {
                    // A bug in one fetch must not end all: what it was about is tried again.
                    warn!(%error, "a fetch failed");
                    fetching.abort_all();
                    while fetching.join_next().await.is_some() {}
                    under_way.clear();
                }
            },
            changed = members.changed(), if !members_end => members_end = changed.is_err(),
            Ok(()) = events.changed() => {}
            () = time::sleep(wake) => {}
        }
    }
}

/// What other live members announce, with those who do. Members that agree say the same in the same
/// words, so each wording is read once.
#[derive(Default)]
struct Heard<'a> {
    roots: BTreeMap<&'a str, Vec<Source>>,
    scopes: BTreeMap<&'a str, Vec<Source>>,
    shelves: BTreeMap<Digest, Vec<Source>>,
}

impl<'a> Heard<'a> {
    fn of(members: &'a [Member], me: &HostId) -> Self {
        let mut heard = Self::default();
        for member in members.iter().filter(|member| member.alive && member.host != *me) {
            let source = Source { host: member.host.clone(), address: member.address };
            if let Some(text) = member.values.get(ROOT) {
                heard.roots.entry(text).or_default().push(source.clone());
            }
            for text in (0..SLOTS).filter_map(|slot| member.values.get(&scope_key(slot))) {
                heard.scopes.entry(text).or_default().push(source.clone());
            }
            let shelf = member.values.get(SHELF).and_then(|text| from_text::<ShelfRecord>(text));
            if let Some(ShelfRecord { shelf, .. }) = shelf {
                heard.shelves.entry(shelf).or_default().push(source);
            }
        }
        heard
    }

    /// What is announced and not here.
    fn wants(&self, ledger: &Ledger, shelves: &Shelves) -> BTreeMap<Want, Vec<Source>> {
        let chain = ledger.chain();
        let mut wants: BTreeMap<Want, Vec<Source>> = BTreeMap::new();
        for (text, sources) in &self.roots {
            let version = from_text::<RootRecord>(text).map_or(0, |record| record.version);
            if version > chain.root().version {
                wants.entry(Want::Roots(version)).or_default().extend(sources.iter().cloned());
            }
        }
        for (text, sources) in &self.scopes {
            let Some(record) = from_text::<ScopeRecord>(text) else { continue };
            for want in wants_of(&record, &chain, ledger) {
                wants.entry(want).or_default().extend(sources.iter().cloned());
            }
        }
        let own = ledger.shelf().shelf;
        for (id, sources) in self.shelves.iter().filter(|(id, _)| **id != own) {
            for want in shelves.wants_of(id, &chain) {
                wants.entry(want).or_default().extend(sources.iter().cloned());
            }
        }
        wants
    }
}

fn wants_of(record: &ScopeRecord, chain: &Chain, ledger: &Ledger) -> Vec<Want> {
    let rollout = record.rollout;
    if chain.head(&record.scope).is_some_and(|head| head.epoch > record.epoch) {
        return Vec::new();
    }
    if chain.rollout(&rollout).is_none() {
        // What is here and no rollout is a lie about what it is.
        let unknown = !ledger.is_effective(&rollout);
        return Vec::from_iter(unknown.then_some(Want::Statement(rollout)));
    }
    let directive = record.directive.filter(|id| !ledger.is_effective(id)).map(Want::Statement);
    let claims = [(Claim::Halt, record.halt), (Claim::Complete, record.complete)];
    let certificates = claims.into_iter().filter_map(|(claim, id)| {
        let id = id.filter(|_| ledger.certificate(&rollout, claim).is_none())?;
        Some(Want::Certificate { rollout, claim, id: Some(id) })
    });
    directive.into_iter().chain(certificates).collect()
}

// --- shelves ---

/// The shelves of others that were read, for as long as somebody announces them: no more than there
/// are members.
#[derive(Default)]
struct Shelves(BTreeMap<Digest, Missing>);

/// What stands on a shelf and is not here.
struct Missing {
    /// At most [`MISSING_MAX`].
    items: BTreeSet<Want>,
    /// There was more: the shelf is read again once these came or rest.
    more: bool,
}

impl Shelves {
    /// Keeps what is missing of a shelf, first what does not rest. Not, if there is more than is kept
    /// and all that is kept would rest: then it is to be read again later.
    fn keep(
        &mut self,
        id: Digest,
        shelf: &Shelf,
        ledger: &Ledger,
        rests: impl Fn(Want) -> bool,
    ) -> bool {
        let statements = shelf.statements.iter().copied().map(Want::Statement);
        let certificates = shelf.certificates.iter();
        let certificates = certificates.map(|(rollout, claim)| Want::Certificate {
            rollout: *rollout,
            claim: *claim,
            id: None,
        });
        let missing = statements.chain(certificates).filter(|want| is_missing(want, ledger));
        let (resting, fresh): (Vec<_>, Vec<_>) = missing.partition(|want| rests(*want));
        let more = fresh.len() + resting.len() > MISSING_MAX;
        if more && fresh.is_empty() {
            return false;
        }
        let items = fresh.into_iter().chain(resting).take(MISSING_MAX).collect();
        self.0.insert(id, Missing { items, more });
        true
    }

    /// Forgets what came, and shelves of which nobody speaks any more, or of which there is more to
    /// read: nothing that does not come may stand before it for ever.
    fn review(
        &mut self,
        announced: &BTreeMap<Digest, Vec<Source>>,
        ledger: &Ledger,
        pauses: &Pauses,
        now: Instant,
    ) {
        self.0.retain(|id, missing| {
            let Some(sources) = announced.get(id) else { return false };
            missing.items.retain(|want| is_missing(want, ledger));
            let rest = || missing.items.iter().all(|want| pauses.rests(sources, *want, now));
            !(missing.more && rest())
        });
    }

    /// What to fetch because of this shelf: itself, or what is missing of it.
    fn wants_of(&self, id: &Digest, chain: &Chain) -> Vec<Want> {
        let Some(missing) = self.0.get(id) else { return vec![Want::Shelf(*id)] };
        // A certificate of a rollout that is not here yet cannot be judged.
        let can_be_judged = |want: &&Want| match want {
            Want::Certificate { rollout, .. } => chain.rollout(rollout).is_some(),
            Want::Roots(_) | Want::Statement(_) | Want::Shelf(_) => true,
        };
        missing.items.iter().filter(can_be_judged).copied().collect()
    }
}

/// Whether what was announced would be news.
fn is_missing(want: &Want, ledger: &Ledger) -> bool {
    match want {
        Want::Statement(id) => !ledger.is_effective(id),
        Want::Certificate { rollout, claim, .. } => ledger.wants_proof(rollout, *claim),
        Want::Roots(version) => ledger.chain().root().version < *version,
        // It is read, not kept.
        Want::Shelf(_) => false,
    }
}

// --- one item ---

/// Fetches and takes in; of a shelf, which changes nothing here, returns what stands on it.
async fn obtain(
    ledger: &Ledger,
    pool: &Pool,
    from: &Source,
    want: Want,
) -> Result<Option<Shelf>, SyncError> {
    match want {
        Want::Roots(version) => obtain_roots(ledger, pool, from, version).await?,
        Want::Statement(id) => obtain_statement(ledger, pool, from, id, None).await?,
        Want::Certificate { rollout, claim, id } => {
            let bytes = match id {
                Some(id) => certificate_named(pool, from, id).await?,
                None => {
                    let request = SwarmRequest::Certificate { rollout, claim };
                    content(pool, from, &request, CERTIFICATE_BYTES_MAX).await?
                }
            };
            let found = Certificate::parse(&bytes).map(|found| (found.rollout, found.claim));
            if found != Ok((rollout, claim)) {
                return Err(AskError::OtherContent.into());
            }
            take_certificate(ledger, pool, from, bytes).await?;
        }
        Want::Shelf(id) => {
            let bytes = content(pool, from, &SwarmRequest::Blob { id }, SHELF_BYTES_MAX).await?;
            let shelf = Some(bytes).filter(|bytes| Digest::of(bytes) == id);
            let shelf = shelf.and_then(|bytes| Shelf::parse(&bytes));
            return Ok(Some(shelf.ok_or(AskError::OtherContent)?));
        }
    }
    Ok(None)
}

/// Takes a certificate in; the statements that it needs are fetched first, each of them once.
async fn take_certificate(
    ledger: &Ledger,
    pool: &Pool,
    from: &Source,
    bytes: Vec<u8>,
) -> Result<(), SyncError> {
    let bytes = Arc::new(bytes);
    let mut fetched = BTreeSet::new();
    loop {
        let (judge, judged) = (ledger.clone(), bytes.clone());
        match blocking(move || judge.certify(&judged)).await {
            Err(CertifyError::Refused(CertificateError::NeedsExcuse(id))) if fetched.insert(id) => {
                obtain_statement(ledger, pool, from, id, None).await?;
            }
            certified => return Ok(certified.map(drop)?),
        }
    }
}

/// Fetches a certificate by the digest of its bytes.
pub(crate) async fn obtain_certificate(
    ledger: &Ledger,
    pool: &Pool,
    from: &Source,
    id: Digest,
) -> Result<(), SyncError> {
    let bytes = certificate_named(pool, from, id).await?;
    take_certificate(ledger, pool, from, bytes).await
}

/// The bytes with this digest, of whatever they are a certificate.
async fn certificate_named(pool: &Pool, from: &Source, id: Digest) -> Result<Vec<u8>, SyncError> {
    let request = SwarmRequest::Blob { id };
    let bytes = content(pool, from, &request, CERTIFICATE_BYTES_MAX).await?;
    match Digest::of(&bytes) == id {
        true => Ok(bytes),
        false => Err(AskError::OtherContent.into()),
    }
}

async fn obtain_roots(
    ledger: &Ledger,
    pool: &Pool,
    from: &Source,
    version: u32,
) -> Result<(), SyncError> {
    loop {
        let held = ledger.chain().root().version;
        if held >= version {
            return Ok(());
        }
        for envelope in ask::roots(pool, from, held).await? {
            let ledger = ledger.clone();
            blocking(move || ledger.admit(&envelope)).await?;
        }
        // Each round must bring the next version, or there is none.
        if ledger.chain().root().version == held {
            return Err(SyncError::NotThere);
        }
    }
}

/// Fetches a statement, unless its envelope is `fetched` already, and, before it, what it needs. Each
/// that is asked for was named by one that carries a signature of a known key, so a liar cannot make
/// up a long way.
pub(crate) async fn obtain_statement(
    ledger: &Ledger,
    pool: &Pool,
    from: &Source,
    id: Digest,
    fetched: Option<Vec<u8>>,
) -> Result<(), SyncError> {
    let mut way = vec![id];
    let mut kept: BTreeMap<Digest, Vec<u8>> =
        fetched.map(|envelope| (id, envelope)).into_iter().collect();
    while let Some(id) = way.last().copied() {
        let envelope = match kept.remove(&id) {
            Some(envelope) => envelope,
            None => statement(pool, from, id).await?,
        };
        let (judge, judged) = (ledger.clone(), envelope.clone());
        match blocking(move || judge.admit(&judged)).await {
            Ok(admitted) => match admitted.standing {
                Standing::Effective => drop(way.pop()),
                Standing::Pending { missing } => return Err(SyncError::Pending { id, missing }),
            },
            Err(error) => {
                let Some(needs) = error.needs() else { return Err(error.into()) };
                if way.contains(&needs) || way.len() >= DEPTH_MAX {
                    return Err(SyncError::TooDeep);
                }
                let held: usize = kept.values().map(Vec::len).sum();
                if held + envelope.len() <= KEPT_BYTES_MAX {
                    kept.insert(id, envelope);
                }
                way.push(needs);
            }
        }
    }
    Ok(())
}

/// The envelope of a statement, not verified.
pub(crate) async fn statement(
    pool: &Pool,
    from: &Source,
    id: Digest,
) -> Result<Vec<u8>, SyncError> {
    let request = SwarmRequest::Statement { id };
    let envelope = content(pool, from, &request, ENVELOPE_BYTES_MAX).await?;
    let parsed = Envelope::parse(&envelope, ENVELOPE_BYTES_MAX);
    match parsed.is_ok_and(|parsed| parsed.id() == id) {
        true => Ok(envelope),
        false => Err(AskError::OtherContent.into()),
    }
}

async fn content(
    pool: &Pool,
    from: &Source,
    request: &SwarmRequest,
    bytes_max: usize,
) -> Result<Vec<u8>, SyncError> {
    match ask::content(pool, from, request, bytes_max as u64).await? {
        Answer::Content(bytes) => Ok(bytes),
        Answer::No => Err(SyncError::NotThere),
        Answer::Busy => Err(SyncError::Busy),
    }
}

// --- pauses ---

/// Whom not to ask, and what not to ask of whom, for a while.
#[derive(Default)]
struct Pauses {
    /// By member and item: a member may for ever announce what is refused here.
    items: BTreeMap<(HostId, Want), Pause>,
    members: BTreeMap<HostId, Pause>,
}

struct Pause {
    until: Instant,
    failures: u32,
}

impl Pauses {
    fn may_ask(&self, member: &HostId, want: Want, now: Instant) -> bool {
        let over = |pause: &Pause| pause.until <= now;
        self.members.get(member).is_none_or(over)
            && self.items.get(&(member.clone(), want)).is_none_or(over)
    }

    /// Whether an item did not come lately from any of these.
    fn rests(&self, sources: &[Source], want: Want, now: Instant) -> bool {
        let rests = |source: &Source| {
            let pause = self.items.get(&(source.host.clone(), want));
            pause.is_some_and(|pause| pause.until > now)
        };
        sources.iter().all(rests)
    }

    fn note(&mut self, member: HostId, want: Want, outcome: Result<(), SyncError>) {
        let item = (member.clone(), want);
        let Err(error) = outcome else {
            debug!(%member, ?want, "fetched what was announced");
            self.items.remove(&item);
            self.members.remove(&member);
            return;
        };
        let unreachable = matches!(&error, SyncError::Ask(error) if error.is_unreachable());
        let cause: &(dyn Error + 'static) = &error;
        debug!(%member, ?want, cause, "what is announced did not come");
        if self.is_news(want, &error) {
            warn!(
                %error,
                "members know of a statement that is signed and cannot be read here: if they are of \
                 a later version, upgrade this one"
            );
        }
        let now = Instant::now();
        if unreachable {
            rest(self.members.entry(member), REST_MAX, now);
            return;
        }
        // Whatever it thinks of next to announce has to wait, too, if only a moment.
        self.members.insert(member, Pause { until: now + BREATH, failures: 0 });
        if self.items.len() >= ITEMS_MAX && !self.items.contains_key(&item) {
            let soonest = self.items.iter().min_by_key(|(_, pause)| pause.until);
            let soonest = soonest.map(|(item, _)| item.clone());
            soonest.and_then(|item| self.items.remove(&item));
        }
        let longest = if matches!(error, SyncError::Busy) { REST } else { ITEM_REST_MAX };
        rest(self.items.entry(item), longest, now);
    }

    /// Whether this is to be told to people, once: a version that does not know how a release wants to
    /// be run takes no part in its rollouts, and nothing else would say why (R20).
    fn is_news(&self, want: Want, error: &SyncError) -> bool {
        matches!(error, SyncError::Admit(AdmitError::Refused(Refusal::Statement(_))))
            && !self.items.keys().any(|(_, item)| *item == want)
    }

    fn next(&self, now: Instant) -> Option<Instant> {
        let pauses = self.members.values().chain(self.items.values());
        pauses.map(|pause| pause.until).filter(|until| *until > now).min()
    }

    /// Bounds the lists by the members that gossip lets in.
    fn forget_all_but(&mut self, members: &[Member]) {
        let known: BTreeSet<&HostId> = members.iter().map(|member| &member.host).collect();
        self.members.retain(|member, _| known.contains(member));
        self.items.retain(|(member, _), _| known.contains(member));
    }
}

/// Lengthens a pause, or starts one.
fn rest<K: Ord>(pause: Entry<'_, K, Pause>, longest: Duration, now: Instant) {
    let pause = pause.or_insert(Pause { until: now, failures: 0 });
    pause.until = now + REST.saturating_mul(1 << pause.failures.min(10)).min(longest);
    pause.failures += 1;
}

#[cfg(test)]
mod test {
    use std::path::Path;

    use durable::SimDisk;
    use proto::statement::{Kind, StatementError};

    use super::*;
    use crate::tests::hub::open;
    use crate::tests::kit::host_id;

    #[test]
    fn r20_what_cannot_be_read_here_is_told_once() {
        let want = Want::Statement(Digest::of(b"release"));
        let unread = || {
            let why = "unknown field `reload`".to_owned();
            let error = StatementError::Malformed { kind: Kind::Release, why };
            SyncError::Admit(AdmitError::Refused(Refusal::Statement(error)))
        };
        let mut pauses = Pauses::default();
        assert!(pauses.is_news(want, &unread()));
        assert!(!pauses.is_news(want, &SyncError::NotThere), "it may still come");
        pauses.note(host_id("one"), want, Err(unread()));
        assert!(!pauses.is_news(want, &unread()), "whoever announces it");
        assert!(pauses.is_news(Want::Statement(Digest::of(b"another")), &unread()));
    }

    /// What never comes keeps nobody from the rest of a long shelf, nor has it read again and again.
    #[test]
    fn r11_a_long_shelf_is_read_on_though_some_of_it_never_comes() {
        let ledger = open(Arc::new(SimDisk::new()), Path::new("/state"));
        let one = Source { host: host_id("one"), address: "127.0.0.1:9".parse().unwrap() };
        let id = Digest::of(b"shelf");
        let announced = BTreeMap::from([(id, vec![one.clone()])]);
        let numbers = (0..MISSING_MAX as u64 + 1).map(|n| Digest::of(&n.to_be_bytes()));
        let statements: Vec<_> = BTreeSet::from_iter(numbers).into_iter().collect();
        let last = Want::Statement(statements[MISSING_MAX]);
        let shelf = Shelf { statements, certificates: vec![] };
        let (mut shelves, mut pauses) = (Shelves::default(), Pauses::default());
        let now = Instant::now();
        let chain = ledger.chain();
        let keep = |shelves: &mut Shelves, pauses: &Pauses| {
            shelves.keep(id, &shelf, &ledger, |want| pauses.rests(&announced[&id], want, now))
        };
        assert!(keep(&mut shelves, &pauses));
        let wants = shelves.wants_of(&id, &chain);
        assert!(wants.len() == MISSING_MAX && !wants.contains(&last));
        for want in &wants {
            assert_eq!(shelves.wants_of(&id, &chain), wants, "one may still come");
            pauses.note(one.host.clone(), *want, Err(SyncError::NotThere));
            shelves.review(&announced, &ledger, &pauses, now);
        }
        assert_eq!(shelves.wants_of(&id, &chain), [Want::Shelf(id)]);
        assert!(keep(&mut shelves, &pauses));
        shelves.review(&announced, &ledger, &pauses, now);
        assert!(shelves.wants_of(&id, &chain).contains(&last), "it has its turn");
        pauses.note(one.host.clone(), last, Err(SyncError::NotThere));
        shelves.review(&announced, &ledger, &pauses, now);
        assert!(!keep(&mut shelves, &pauses), "all of it rests, and so does the shelf");
        assert_eq!(shelves.wants_of(&id, &chain), [Want::Shelf(id)]);
    }
}
