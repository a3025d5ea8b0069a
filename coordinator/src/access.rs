//! Who may use pages and the HTTP interface: links that are good once, sessions, tokens for scripts.
//!
//! A browser cannot hold a person's key, so `swell` vouches for it: asked with that key, the coordinator
//! makes an [`AccessKind::Link`]. Whoever opens it gets an [`AccessKind::Session`], and the link is gone. A
//! [`AccessKind::Token`] is for scripts. All three are a public id and a secret of 128 random bits, of which
//! only a hash is kept; all end by themselves, and none outlives the roles of the key behind it: these
//! are looked up in the root at each request. None of them can sign anything but what the coordinator
//! may sign alone (R3).

use std::fmt;
use std::str::FromStr;

use member::clock;
use proto::access::{AccessKind, AccessReport, AccessRole};
use proto::id::{Env, KeyId, Name};
use proto::statement::{Role, Root, UnixTime};
use proto::wire::{ControlReply, Refused, RefusedKind};
use tracing::info;

use crate::desk::{Desk, out_of_order};
use crate::token::{Secret, TokenId};

/// How long a link may wait to be opened, in seconds.
pub const LINK_S: u64 = 600;
/// Shortest and longest life of a session, in seconds: five minutes to seven days.
pub const SESSION_S: std::ops::RangeInclusive<u64> = 300..=7 * 86_400;
/// Likewise of a token: to 366 days.
pub const TOKEN_S: std::ops::RangeInclusive<u64> = 300..=366 * 86_400;

/// What is kept of a link, a session or a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    pub id: TokenId,
    pub kind: AccessKind,
    pub role: AccessRole,
    /// The key that vouched, and its owner then.
    pub key: KeyId,
    pub owner: Name,
    pub created: UnixTime,
    pub expires: UnixTime,
    /// Of a link: how long the session lasts that comes of it, in seconds.
    pub session_s: u64,
}

/// Whoever asks by HTTP, once it is known who that is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Visitor {
    pub access: Access,
    /// Environments in which its key may deploy; empty for who only looks.
    pub envs: Vec<Env>,
}

/// A secret with its id, as it stands in a link, a cookie or a header. `Debug` shows the id alone.
#[derive(Clone)]
pub struct Credential {
    pub id: TokenId,
    pub secret: Secret,
}

impl Credential {
    /// A new one.
    ///
    /// # Errors
    ///
    /// [`Refused`]: the system gives no random bytes.
    pub fn make() -> Result<Self, Refused> {
        let (mut id, mut secret) = ([0; 8], [0; 16]);
        getrandom::fill(&mut id)
            .and_then(|()| getrandom::fill(&mut secret))
            .map_err(|error| out_of_order("make a secret", &error))?;
        Ok(Self { id: TokenId::from_bytes(id), secret: Secret::from_bytes(secret) })
    }

    /// Its text form: 48 hex digits. Not `Display`, so that none gets into a log by chance.
    pub fn to_text(&self) -> String {
        let secret = u128::from_be_bytes(self.secret.to_bytes());
        format!("{}{secret:032x}", self.id)
    }
}

/// There is no credential of this form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not 48 hex digits")]
pub struct NoCredential;

impl FromStr for Credential {
    type Err = NoCredential;

    fn from_str(text: &str) -> Result<Self, NoCredential> {
        let lower_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if text.len() != 48 || !text.bytes().all(lower_hex) {
            return Err(NoCredential);
        }
        let (id, secret) = text.split_at(16);
        let id = TokenId::parse(id).ok_or(NoCredential)?;
        let secret = u128::from_str_radix(secret, 16).map_err(|_| NoCredential)?;
        Ok(Self { id, secret: Secret::from_bytes(secret.to_be_bytes()) })
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credential({})", self.id)
    }
}

impl Visitor {
    /// Whoever holds `access`, by the root of now; none once its key has lost the role.
    pub fn of(access: Access, root: &Root) -> Option<Self> {
        let roles: Vec<_> = root.roles_of(&access.key).collect();
        let deploys = |env: &&Env| {
            roles.contains(&&Role::Emergency) || roles.contains(&&Role::Deploy((*env).clone()))
        };
        let envs: Vec<_> = match access.role {
            AccessRole::Viewer => Vec::new(),
            AccessRole::Operator => root.environments.keys().filter(deploys).cloned().collect(),
        };
        let may = match access.role {
            AccessRole::Viewer => !roles.is_empty(),
            AccessRole::Operator => !envs.is_empty(),
        };
        may.then_some(Self { access, envs })
    }

    /// Whether it may have the coordinator act in this environment.
    pub fn acts_in(&self, env: &Env) -> bool {
        self.envs.contains(env)
    }
}

impl fmt::Display for Visitor {
    /// As the audit record names it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.access.owner)
    }
}

// --- what the coordinator does with them ---

impl Desk {
    /// Makes a link or a token for the owner of `key`. Its text is in the answer and nowhere else.
    ///
    /// # Errors
    ///
    /// [`Refused`]: the key may not, a life out of range, or the database failed.
    pub async fn access_create(
        &self,
        (key, owner): (KeyId, Name),
        kind: AccessKind,
        role: AccessRole,
        ttl_s: u64,
    ) -> Result<ControlReply, Refused> {
        let refuse =
            |kind, reason: String, next: &str| Err(Refused { kind, reason, next: next.to_owned() });
        let (range, life_s, session_s) = match kind {
            AccessKind::Link => (SESSION_S, LINK_S, ttl_s),
            AccessKind::Token => (TOKEN_S, ttl_s, 0),
            AccessKind::Session => {
                let reason = "a session comes of a link".to_owned();
                return refuse(RefusedKind::Invalid, reason, "ask for a link");
            }
        };
        if !range.contains(&ttl_s) {
            let (least, most) = (range.start(), range.end());
            let reason = format!("a life of {ttl_s} s: must be {least} to {most} s");
            return refuse(RefusedKind::Invalid, reason, "");
        }
        let now = clock::unix();
        let credential = Credential::make()?;
        let (id, created) = (credential.id, now);
        let expires = now.plus_s(life_s);
        let access = Access { id, kind, role, key, owner, created, expires, session_s };
        if Visitor::of(access.clone(), self.member.ledger.chain().root()).is_none() {
            let reason = format!("key {} ({}) may deploy nowhere", access.key, access.owner);
            return refuse(RefusedKind::Forbidden, reason, "ask for the role viewer");
        }
        let kept = self.store.access_create(&access, &credential.secret, now).await;
        if !kept.map_err(|error| out_of_order("keep who may enter", &error))? {
            let reason =
                format!("key {} has made very many links and tokens this hour", access.key);
            return refuse(RefusedKind::Busy, reason, "use one that is there, or wait an hour");
        }
        info!(id = %access.id, by = %access.owner, ?kind, ?role, "access given");
        let secret = credential.to_text();
        let url = self.https_url.clone();
        let text = match kind {
            AccessKind::Link => format!("{url}/enter?link={secret}"),
            AccessKind::Token | AccessKind::Session => secret,
        };
        let certificate = self.https_certificate.borrow().clone();
        let fingerprint = certificate.map_or(String::new(), |certificate| certificate.fingerprint);
        Ok(ControlReply::Access { id: id.to_string(), text, expires, url, fingerprint })
    }

    /// All that is good still, without secrets.
    ///
    /// # Errors
    ///
    /// [`Refused`]: the database failed.
    pub async fn access_list(&self) -> Result<ControlReply, Refused> {
        let list = self.store.access_list(clock::unix()).await;
        let list = list.map_err(|error| out_of_order("read who may enter", &error))?;
        let report = |access: Access| AccessReport {
            id: access.id.to_string(),
            kind: access.kind,
            role: access.role,
            owner: access.owner,
            created: access.created,
            expires: access.expires,
        };
        Ok(ControlReply::AccessList(list.into_iter().map(report).collect()))
    }

    /// Ends a link, a session or a token at once.
    ///
    /// # Errors
    ///
    /// [`Refused`]: there is none with this id, or the database failed.
    pub async fn access_revoke(&self, by: &Name, id: &str) -> Result<ControlReply, Refused> {
        let none = || Refused {
            kind: RefusedKind::NotFound,
            reason: format!("there is no link, session or token {id:?}"),
            next: "swell access list shows them".to_owned(),
        };
        let id = TokenId::parse(id).ok_or_else(none)?;
        let done = self.store.access_end(&id, by, clock::unix()).await;
        match done.map_err(|error| out_of_order("end it", &error))? {
            true => Ok(ControlReply::Done),
            false => Err(none()),
        }
    }

    /// Whoever holds this credential; none: nobody, any more.
    ///
    /// # Errors
    ///
    /// [`Refused`]: the database failed.
    pub async fn visitor(
        &self,
        credential: &Credential,
        kind: AccessKind,
    ) -> Result<Option<Visitor>, Refused> {
        let access = self.store.access_of(credential, kind, clock::unix()).await;
        let access = access.map_err(|error| out_of_order("look up who this is", &error))?;
        let chain = self.member.ledger.chain();
        Ok(access.and_then(|access| Visitor::of(access, chain.root())))
    }

    /// Uses a link up for a session; none: it is no link, or not any more.
    ///
    /// # Errors
    ///
    /// [`Refused`]: the database failed; the link is good still.
    pub async fn enter(&self, link: &Credential) -> Result<Option<(Credential, Access)>, Refused> {
        let session = Credential::make()?;
        let entered = self.store.access_enter(link, &session, clock::unix()).await;
        let entered = entered.map_err(|error| out_of_order("open the session", &error))?;
        Ok(entered.map(|access| (session, access)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authority::tests::{PEOPLE, key, root};

    #[test]
    fn r3_what_a_visitor_may_is_what_its_key_may_by_the_root_of_now() {
        use AccessRole::{Operator, Viewer};
        let access = |place: usize, role| Access {
            id: TokenId::from_bytes([1; 8]),
            kind: AccessKind::Token,
            role,
            key: KeyId::of(&key(place)),
            owner: "ada".parse().unwrap(),
            created: UnixTime(1),
            expires: UnixTime(2),
            session_s: 0,
        };
        let (root, staging) = (root(), "staging".parse().unwrap());
        let may = |root: &Root, role| {
            let visitors = (0..PEOPLE.len()).map(|place| Visitor::of(access(place, role), root));
            let acts = visitors.map(|visitor| visitor.map(|visitor| visitor.acts_in(&staging)));
            acts.collect::<Vec<_>>()
        };
        let looks = Some(false);
        assert_eq!(may(&root, Viewer), [looks, looks, looks, looks, looks, looks, None]);
        // Root, CI, the coordinator, who deploys, who approves, for emergencies, who has no role.
        let acts = [None, None, None, Some(true), None, Some(true), None];
        assert_eq!(may(&root, Operator), acts);
        let mut later = root.clone();
        later.roles.retain(|role, _| !matches!(role, Role::Deploy(_) | Role::Emergency));
        assert_eq!(may(&later, Operator), [None; 7], "it outlives no role");
    }

    #[test]
    fn credentials_are_read_as_they_are_written_and_never_shown() {
        let id = TokenId::from_bytes([0, 1, 2, 3, 4, 5, 6, 7]);
        let credential = Credential { id, secret: Secret::from_bytes([0xab; 16]) };
        let text = credential.to_text();
        let read: Credential = text.parse().unwrap();
        assert_eq!((read.id, read.secret.to_bytes()), (id, [0xab; 16]));
        assert_eq!(format!("{credential:?}"), "Credential(0001020304050607)");
        for bad in ["", &text[1..], &text.to_uppercase(), &format!("{text}0"), &"+".repeat(48)] {
            assert!(bad.parse::<Credential>().is_err(), "{bad:?}");
        }
    }
}
