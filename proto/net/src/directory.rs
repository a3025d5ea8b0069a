//! Who the other side of a connection can be (R9).
//!
//! A [`Directory`] holds what verified statements say: the root's keys, the host statements, which
//! hosts were removed. TLS and the gossip filter read it; the daemon fills it. A change applies to new
//! connections; those of a host that is removed are closed at once.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use proto::statement::{Host, Role, Root};
use proto::{HostId, KeyId, PublicKey, UnixTime};
use tokio::sync::watch;
use tracing::{info, warn};

use crate::certificate::{self, CertificateError, Facts};

/// How far a certificate may start in the future of the reader's clock, of a host of which nothing
/// else is known, in seconds.
const NOT_BEFORE_TOLERANCE_S: u64 = 300;

/// Who is at the other end, proven by TLS.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Peer {
    Host(HostId),
    /// A key that holds `admit`; the id is [`HostId::of`] that key, its name in gossip.
    Coordinator(HostId),
    /// Any other key of the root: an operator, CI.
    Person(KeyId),
    /// Without a certificate: a host that wants to join.
    Anonymous,
}

impl Peer {
    /// The id of a member: host or coordinator.
    pub const fn member(&self) -> Option<&HostId> {
        match self {
            Self::Host(id) | Self::Coordinator(id) => Some(id),
            Self::Person(_) | Self::Anonymous => None,
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(id) => write!(f, "host {id}"),
            Self::Coordinator(id) => write!(f, "coordinator {id}"),
            Self::Person(key) => write!(f, "person {key}"),
            Self::Anonymous => f.write_str("anonymous"),
        }
    }
}

/// Whom a dialler expects to meet.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Expect {
    /// The member with this id: a host, or the coordinator under its id in gossip.
    Host(HostId),
    /// Any key that holds `admit`.
    Coordinator,
    /// Any host or coordinator.
    AnyMember,
    /// Exactly this key, whatever the directory says: the coordinator's, as a join token names it.
    Key(PublicKey),
}

impl From<HostId> for Expect {
    fn from(id: HostId) -> Self {
        Self::Host(id)
    }
}

impl fmt::Display for Expect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(id) => write!(f, "member {id}"),
            Self::Coordinator => f.write_str("the coordinator"),
            Self::AnyMember => f.write_str("a member of the fleet"),
            Self::Key(key) => write!(f, "key {}", KeyId::of(key)),
        }
    }
}

impl Expect {
    /// Whether `peer` is the one expected. A key is compared in the handshake, where it is known;
    /// of a [`Peer`] only its id is left.
    pub fn met_by(&self, peer: &Peer) -> bool {
        match self {
            Self::Host(id) => peer.member() == Some(id),
            Self::Coordinator => matches!(peer, Peer::Coordinator(_)),
            Self::AnyMember => peer.member().is_some(),
            Self::Key(key) => *peer == Peer::Coordinator(HostId::of(key)),
        }
    }
}

/// Why a certificate proves no identity that may be here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    #[error("the other side sent {got} certificates, exactly one is read")]
    Chain { got: usize },
    #[error("no root is known, nobody can be told from a stranger")]
    NoRoot,
    #[error("key {0} is not in the root, and no host CA of the root issued its certificate")]
    Stranger(KeyId),
    #[error(
        "the certificate of host {host} is not valid yet: from {not_before} on, now {now}, and no statement about that host is known"
    )]
    NotYetValid { host: HostId, not_before: u64, now: u64 },
    #[error(
        "the certificate of host {host} expired at {not_after}, now {now}, and no statement about that host is known"
    )]
    Expired { host: HostId, not_after: u64, now: u64 },
    #[error("the certificate of host {host} is for another key than the statement about that host")]
    OtherKey { host: HostId },
    #[error("host {host} was removed from the fleet: {why}")]
    Removed { host: HostId, why: String },
    #[error("it is {got}, not {expected}")]
    Unexpected { got: String, expected: String },
}

/// The root and the hosts this side knows; cheap to clone, shared by all clones.
#[derive(Clone, Default)]
pub struct Directory {
    known: Arc<RwLock<Known>>,
    /// Why which host was removed; grows only.
    removed: Arc<watch::Sender<BTreeMap<HostId, String>>>,
}

#[derive(Default)]
struct Known {
    root: Option<Root>,
    hosts: BTreeMap<HostId, Host>,
    /// Hosts whose certificate is out of its time and has been warned about: a subset of `hosts`.
    warned: BTreeSet<HostId>,
    /// See [`Directory::of_the_bereft`].
    expired_may_be_unknown: bool,
}

impl Directory {
    /// A directory of the keys in `root`, without hosts yet.
    pub fn new(root: Root) -> Self {
        let directory = Self::default();
        directory.set_root(root);
        directory
    }

    /// As [`Self::new`], for a side that holds no statements about hosts: a host is let in with
    /// an expired certificate though nothing is known about it. Only for a side that fetches what
    /// verifies by itself: after months without a coordinator there may be no other host left.
    pub fn of_the_bereft(root: Root) -> Self {
        let directory = Self::new(root);
        directory.write().expired_may_be_unknown = true;
        directory
    }

    /// A directory that knows nobody: for a host that has yet to join, which meets only
    /// [`Expect::Key`].
    pub fn empty() -> Self {
        Self::default()
    }

    /// Replaces the root. Connections that are open stay open.
    pub fn set_root(&self, root: Root) {
        self.write().root = Some(root);
    }

    /// Adds or replaces a host; its statement must have been verified.
    pub fn add_host(&self, host: Host) {
        self.write().hosts.insert(host.id.clone(), host);
    }

    /// Lets a host in nowhere any more and closes its connections: a verified statement removes it
    /// from the fleet. `why` is for people, on both sides.
    pub fn remove_host(&self, id: &HostId, why: &str) {
        let new = self.removed.send_if_modified(|removed| {
            let new = !removed.contains_key(id);
            if new {
                removed.insert(id.clone(), why.to_owned());
            }
            new
        });
        if new {
            info!(host = %id, why, "removed: this host is let in no more");
        }
    }

    /// Whether a host was removed.
    pub fn is_removed(&self, id: &HostId) -> bool {
        self.removed.borrow().contains_key(id)
    }

    /// Wakes whenever a host is removed.
    pub(crate) fn removals(&self) -> watch::Receiver<BTreeMap<HostId, String>> {
        self.removed.subscribe()
    }

    /// Waits until this peer is a host that was removed; never for anybody else.
    pub(crate) async fn until_removed(&self, peer: &Peer) -> IdentityError {
        let mut removed = self.removed.subscribe();
        let gone = async {
            let Peer::Host(host) = peer else { return None };
            let removed = removed.wait_for(|removed| removed.contains_key(host)).await.ok()?;
            let why = removed.get(host)?.clone();
            Some(IdentityError::Removed { host: host.clone(), why })
        };
        match gone.await {
            Some(error) => error,
            None => std::future::pending().await,
        }
    }

    pub fn root(&self) -> Option<Root> {
        self.read().root.clone()
    }

    pub fn host(&self, id: &HostId) -> Option<Host> {
        self.read().hosts.get(id).cloned()
    }

    /// How many hosts there are beside this one, without those that were removed.
    pub fn others(&self, me: &HostId) -> usize {
        let removed = self.removed.borrow();
        let known = self.read();
        known.hosts.keys().filter(|host| *host != me && !removed.contains_key(*host)).count()
    }

    /// Whether it is the name in gossip of a key that holds `admit`.
    pub(crate) fn is_coordinator(&self, id: &HostId) -> bool {
        let known = self.read();
        let root = known.root.as_ref();
        root.is_some_and(|root| root.keys_of(&Role::Admit).any(|(_, key)| HostId::of(key) == *id))
    }

    /// All hosts, by id.
    pub fn hosts(&self) -> Vec<Host> {
        self.read().hosts.values().cloned().collect()
    }

    /// The key of a member: of a host, or a key that holds `admit`.
    pub fn key_of(&self, id: &HostId) -> Option<PublicKey> {
        let known = self.read();
        if let Some(host) = known.hosts.get(id) {
            return Some(host.key);
        }
        let root = known.root.as_ref()?;
        root.keys_of(&Role::Admit).map(|(_, key)| *key).find(|key| HostId::of(key) == *id)
    }

    /// Who proves itself with these certificates; none: [`Peer::Anonymous`].
    ///
    /// The handshake has proven that the peer holds the key of the first one. Of a self-signed
    /// certificate nothing but the key counts.
    ///
    /// # Errors
    ///
    /// [`IdentityError`]: nobody this directory knows.
    pub fn identify(
        &self,
        chain: &[impl AsRef<[u8]>],
        now: UnixTime,
    ) -> Result<Peer, IdentityError> {
        let der = match chain {
            [] => return Ok(Peer::Anonymous),
            [der] => der.as_ref(),
            more => return Err(IdentityError::Chain { got: more.len() }),
        };
        let key = certificate::key_in(der)?;
        let known = self.read();
        let root = known.root.as_ref().ok_or(IdentityError::NoRoot)?;
        let id = KeyId::of(&key);
        if root.keys.get(&id).is_some_and(|entry| entry.key == key) {
            let coordinator = root.holds(&Role::Admit, &key);
            return Ok(match coordinator {
                true => Peer::Coordinator(HostId::of(&key)),
                false => Peer::Person(id),
            });
        }
        if !root.keys_of(&Role::HostCa).any(|(_, ca)| certificate::issued_by(der, ca)) {
            return Err(IdentityError::Stranger(id));
        }
        let facts = certificate::facts(der)?;
        if let Some(why) = self.removed.borrow().get(&facts.host) {
            return Err(IdentityError::Removed { host: facts.host, why: why.clone() });
        }
        let warn_once = known.judge_facts(&facts, now)?;
        drop(known);
        if warn_once && self.write().warned.insert(facts.host.clone()) {
            warn!(
                host = %facts.host,
                not_before = facts.not_before.0,
                not_after = facts.not_after.0,
                now = now.0,
                "certificate out of its time; still good because the host's statement is known"
            );
        }
        Ok(Peer::Host(facts.host))
    }

    /// As [`Self::identify`], for a dialler: the other side must have a certificate, and be the one
    /// expected.
    pub(crate) fn meet(
        &self,
        expect: &Expect,
        chain: &[impl AsRef<[u8]>],
        now: UnixTime,
    ) -> Result<Peer, IdentityError> {
        let unexpected =
            |got: String| IdentityError::Unexpected { got, expected: expect.to_string() };
        if let Expect::Key(expected) = expect {
            let [der] = chain else { return Err(IdentityError::Chain { got: chain.len() }) };
            let key = certificate::key_in(der.as_ref())?;
            return match key == *expected {
                true => Ok(Peer::Coordinator(HostId::of(&key))),
                false => Err(unexpected(format!("key {}", KeyId::of(&key)))),
            };
        }
        let peer = self.identify(chain, now)?;
        match expect.met_by(&peer) {
            true => Ok(peer),
            false => Err(unexpected(peer.to_string())),
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, Known> {
        // Every write is one assignment or insert, so a poisoned lock still guards whole values.
        self.known.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Known> {
        self.known.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    /// Whether the certificate's time is right, and its key the one the host's statement names, if
    /// that is known: an id is short, and whoever has the host CA could look for a second key with
    /// it. `Ok(true)`: its time is over, or by a clock that may have lost the time has not begun, but
    /// the statement vouches for the key, and nobody has been warned yet.
    fn judge_facts(&self, facts: &Facts, now: UnixTime) -> Result<bool, IdentityError> {
        let Facts { host, key, not_before, not_after } = facts;
        let known = self.hosts.get(host);
        if known.is_some_and(|known| known.key != *key) {
            return Err(IdentityError::OtherKey { host: host.clone() });
        }
        let not_yet = now.plus_s(NOT_BEFORE_TOLERANCE_S) < *not_before;
        if not_yet && known.is_none() {
            let (host, not_before) = (host.clone(), not_before.0);
            return Err(IdentityError::NotYetValid { host, not_before, now: now.0 });
        }
        if now <= *not_after && !not_yet {
            return Ok(false);
        }
        if known.is_none() && !self.expired_may_be_unknown {
            let (host, not_after) = (host.clone(), not_after.0);
            return Err(IdentityError::Expired { host, not_after, now: now.0 });
        }
        Ok(known.is_some() && !self.warned.contains(host))
    }
}
