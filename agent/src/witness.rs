//! What this host remembers of the coordinator's audit record, so that nobody rewrites it unseen (R30).
//!
//! It hears where the record ends by gossip, keeps that on disk, and says so, in the log, to the fleet and
//! to whoever asks, when it is told something that cannot be if the record only grows. Nothing else
//! depends on it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use member::{Membership, chain, clock};
use net::Member;
use proto::HostId;
use proto::audit::{Memory, News, Told};
use proto::checkup::{Finding, Topic};
use proto::record::{self, AuditRecord};
use proto::statement::Role;
use tokio::task::spawn_blocking;
use tokio::time::interval;
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use crate::home::Home;

/// How often it is looked at where nothing changes: what may be an old word has to stand for a while.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// What is remembered. Cheap to clone: all clones are one.
#[derive(Clone)]
pub(crate) struct Witness {
    home: Home,
    memory: Arc<Mutex<Memory>>,
}

impl Witness {
    /// With what was remembered before. A file that does not read is put aside, and that is said.
    pub(crate) fn open(home: Home) -> Self {
        let memory = home.audit().unwrap_or_else(|error| {
            error!(error = chain(&error), "what this host remembered of the audit record is lost");
            if let Err(error) = home.put_audit_aside() {
                warn!(error = chain(&error), "the file that does not read stays where it is");
            }
            Memory::default()
        });
        Self { home, memory: Arc::new(Mutex::new(memory)) }
    }

    pub(crate) fn memory(&self) -> Memory {
        self.lock().clone()
    }

    /// What there is to say of it.
    pub(crate) fn finding(&self) -> Finding {
        finding(&self.lock())
    }

    /// Listens until `stop`.
    pub(crate) async fn run(self, member: Membership, stop: CancellationToken) {
        let mut members = member.gossip.members();
        let mut look = interval(LOOK_EVERY);
        // Whether the disk has it, and whether it is time to try that again.
        let (mut kept, mut due) = (true, false);
        self.speak(&member);
        loop {
            if let Some(told) = told(&member) {
                let news = self.lock().see(&told, clock::boot_ms(), clock::unix());
                if let Some(news) = &news {
                    tell(news, &told);
                    self.speak(&member);
                }
                if news.is_some() || (due && !kept) {
                    kept = self.keep(kept).await;
                }
            }
            due = tokio::select! {
                () = stop.cancelled() => return,
                changed = members.changed() => match changed {
                    Ok(()) => false,
                    Err(_) => return,
                },
                _ = look.tick() => true,
            };
        }
    }

    /// Tells the fleet, if there is something that must not be.
    fn speak(&self, member: &Membership) {
        let Some(rift) = self.lock().rifts.last().copied() else { return };
        let word = record::to_text(&AuditRecord { told: None, rift: Some(rift) });
        if let Err(error) = member.gossip.set(record::AUDIT, &word) {
            error!(%error, "the fleet is not told that the audit record is not what it was");
        }
    }

    /// Whether it is on disk now; that it is not is said once, if it was before.
    async fn keep(&self, before: bool) -> bool {
        let (home, memory) = (self.home.clone(), self.memory());
        let error = match spawn_blocking(move || home.save_audit(&memory)).await {
            Ok(Ok(())) => return true,
            Ok(Err(error)) => chain(&error),
            Err(error) => chain(&error),
        };
        if before {
            warn!(error, "what is heard of the audit record is not remembered over a restart yet");
        }
        false
    }

    fn lock(&self) -> MutexGuard<'_, Memory> {
        // Each change is one call that leaves it whole.
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a coordinator that is heard tells of its record.
fn told(member: &Membership) -> Option<Told> {
    let chain = member.ledger.chain();
    let is_one =
        |id: &HostId| chain.root().keys_of(&Role::Admit).any(|(_, key)| HostId::of(key) == *id);
    told_by(&member.gossip.members().borrow(), is_one)
}

/// Of these members one that is heard and is a coordinator: whatever a host tells of the record is not its to
/// tell.
fn told_by(members: &[Member], is_coordinator: impl Fn(&HostId) -> bool) -> Option<Told> {
    let one = members.iter().find(|one| one.alive && is_coordinator(&one.host))?;
    record::from_text::<AuditRecord>(one.values.get(record::AUDIT)?)?.told
}

fn tell(news: &News, told: &Told) {
    let Told { origin, head } = told;
    match news {
        News::Grew => {}
        News::Recovered => warn!(
            record = %origin.record, since = %origin.since, entries = head.length,
            "the coordinator has a new audit record, begun by a recovery"
        ),
        News::Rift(rift) => error!(record = %rift.record, "{rift}"),
    }
}

fn finding(memory: &Memory) -> Finding {
    if let Some(rift) = memory.rifts.last() {
        let next = "`swell audit --verify` says what is known; whoever knows why, as after a backup \
                    that was put back, removes audit.json in the agent's state directory and restarts it";
        let what = format!("{rift}; noticed on {} UTC", rift.at);
        return Finding::wrong(Topic::Database, what, next);
    }
    let Some(newest) = memory.records.last() else {
        return Finding::good(Topic::Database, "no audit record was heard of yet");
    };
    let before = match memory.records.len() {
        1 => String::new(),
        _ => format!(", begun anew by a recovery on {} UTC", newest.origin.since),
    };
    let what = format!(
        "the audit record has only grown, to {} entries, as far as was heard{before}",
        newest.newest().length
    );
    Finding::good(Topic::Database, what)
}

#[cfg(test)]
mod tests {
    use proto::audit::{Head, Origin};
    use proto::checkup::Grade;
    use proto::{Digest, UnixTime};

    use super::*;

    fn told(length: u64, branch: &str) -> Told {
        let hash = Digest::of(format!("{length}{branch}").as_bytes());
        let origin = Origin { record: Digest::of(b"first"), since: UnixTime(1), recovered: false };
        Told { origin, head: Head { length, hash } }
    }

    #[test]
    fn r30_only_a_coordinator_that_is_heard_tells_of_the_record() {
        let says = |letter: &str, alive, length| Member {
            host: letter.repeat(12).parse().unwrap(),
            address: "127.0.0.1:7070".parse().unwrap(),
            generation: 1,
            alive,
            twin: None,
            values: [(
                record::AUDIT.to_owned(),
                record::to_text(&AuditRecord { told: Some(told(length, "")), rift: None }),
            )]
            .into(),
        };
        let (host, away, here) = (says("a", true, 3), says("b", false, 4), says("c", true, 5));
        let coordinators = [away.host.clone(), here.host.clone()];
        let is_one = |id: &HostId| coordinators.contains(id);
        assert_eq!(told_by(&[host.clone(), away.clone()], is_one), None);
        assert_eq!(told_by(&[host, away, here], is_one), Some(told(5, "")));
    }

    #[test]
    fn r30_what_is_remembered_outlives_the_agent_and_a_file_that_does_not_read() {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::new(directory.path());
        let witness = Witness::open(home.clone());
        assert_eq!(witness.memory(), Memory::default());
        witness.lock().see(&told(7, ""), 0, UnixTime(9));
        home.save_audit(&witness.memory()).unwrap();
        let again = Witness::open(home.clone());
        assert_eq!(again.memory(), witness.memory());
        assert!(matches!(again.lock().see(&told(7, "eve"), 0, UnixTime(9)), Some(News::Rift(_))));
        assert_eq!(again.finding().grade, Grade::Wrong);
        assert_eq!(witness.finding().grade, Grade::Good);

        std::fs::write(directory.path().join("audit.json"), "{").unwrap();
        assert_eq!(Witness::open(home.clone()).memory(), Memory::default());
        assert_eq!(std::fs::read(directory.path().join("audit.json.damaged")).unwrap(), b"{");
    }
}
