//! Who may ask for what: decided by the identity that TLS proved and the roles of the root.
//!
//! This only opens the door. Whether a statement has an effect is decided by its own signatures, by
//! every member alone ([`proto::trust`]); a key that may knock here gains nothing by it.

use net::Peer;
use proto::id::{HostId, KeyId, Name};
use proto::statement::{Role, Root};
use proto::wire::{ControlRequest, Refused, RefusedKind};

/// Who asks, as the audit record names them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asker {
    /// A key in the root, and its owner.
    Person {
        key: KeyId,
        owner: Name,
    },
    Host(HostId),
}

impl std::fmt::Display for Asker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Person { owner, .. } => write!(f, "{owner}"),
            Self::Host(host) => write!(f, "host {host}"),
        }
    }
}

/// What a request needs of its asker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Needs {
    /// Reading: any role, or a host.
    Read,
    /// Reading that no host has a use for.
    ReadByPeople,
    /// Handing in what is signed: any role, or a host.
    Submit,
    Publish,
    Tokens,
    /// A host, for itself.
    Renew,
    /// What goes out to receivers.
    Notify,
}

const fn needs(request: &ControlRequest) -> Needs {
    match request {
        ControlRequest::Fleet
        | ControlRequest::Scope(_)
        | ControlRequest::Statement { .. }
        | ControlRequest::Host { .. }
        | ControlRequest::Disk { .. }
        | ControlRequest::Release { .. } => Needs::Read,
        ControlRequest::Rollout(_)
        | ControlRequest::Releases { .. }
        | ControlRequest::Checkup
        | ControlRequest::Evidence { .. }
        | ControlRequest::AccessCreate { .. }
        | ControlRequest::Draft { .. }
        | ControlRequest::Events(_)
        | ControlRequest::Dora { .. }
        | ControlRequest::Audit(_)
        | ControlRequest::AuditMemory => Needs::ReadByPeople,
        ControlRequest::Submit { .. } => Needs::Submit,
        ControlRequest::Publish { .. } => Needs::Publish,
        ControlRequest::Renew => Needs::Renew,
        ControlRequest::TokenCreate { .. }
        | ControlRequest::TokenList
        | ControlRequest::TokenRevoke { .. }
        | ControlRequest::AccessList
        | ControlRequest::AccessRevoke { .. } => Needs::Tokens,
        ControlRequest::NotifyList | ControlRequest::NotifyTest { .. } => Needs::Notify,
    }
}

/// Lets `peer` ask `request`, and says who it is.
///
/// # Errors
///
/// [`RefusedKind::Forbidden`], with the roles that may.
pub fn allow(root: &Root, peer: &Peer, request: &ControlRequest) -> Result<Asker, Refused> {
    let needs = needs(request);
    match peer {
        Peer::Person(key) => person(root, key, needs),
        Peer::Host(host) => match needs {
            Needs::Read | Needs::Submit | Needs::Renew => Ok(Asker::Host(host.clone())),
            Needs::ReadByPeople | Needs::Publish | Needs::Tokens | Needs::Notify => {
                Err(forbidden(&format!("host {host}"), needs))
            }
        },
        Peer::Coordinator(_) => Err(forbidden("the coordinator's own key", needs)),
        Peer::Anonymous => Err(forbidden("an unknown key", needs)),
    }
}

fn person(root: &Root, key: &KeyId, needs: Needs) -> Result<Asker, Refused> {
    let Some(entry) = root.keys.get(key) else {
        return Err(forbidden(&format!("key {key}, which is not in the root,"), needs));
    };
    let roles: Vec<_> = root.roles_of(key).collect();
    let may = match needs {
        Needs::Read | Needs::ReadByPeople | Needs::Submit => !roles.is_empty(),
        Needs::Publish => roles.iter().any(|role| matches!(role, Role::Publish | Role::Root)),
        Needs::Tokens | Needs::Notify => {
            roles.iter().any(|role| matches!(role, Role::Deploy(_) | Role::Emergency | Role::Root))
        }
        Needs::Renew => false,
    };
    match may {
        true => Ok(Asker::Person { key: key.clone(), owner: entry.owner.clone() }),
        false => Err(forbidden(&format!("key {key} ({})", entry.owner), needs)),
    }
}

fn forbidden(who: &str, needs: Needs) -> Refused {
    let (what, whose) = match needs {
        Needs::Read | Needs::ReadByPeople => ("ask this", "a key with a role in the root"),
        Needs::Submit => ("hand in statements", "a key with a role in the root, or a host"),
        Needs::Publish => ("publish", "a key with the role publish"),
        Needs::Tokens => {
            ("make, see or revoke tokens", "a key with the role deploy:ENV, emergency or root")
        }
        Needs::Renew => ("renew a certificate", "a host, for itself"),
        Needs::Notify => {
            ("see or test who is notified", "a key with the role deploy:ENV, emergency or root")
        }
    };
    Refused {
        kind: RefusedKind::Forbidden,
        reason: format!("{who} may not {what}"),
        next: format!("this needs {whose}"),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeMap;

    use ed25519_dalek::SigningKey;
    use proto::id::Digest;
    use proto::key::PublicKey;
    use proto::statement::{KeyEntry, Policy, RoleKeys, UnixTime};
    use proto::wire::RolloutQuery;

    use super::*;

    /// The roles of a root, and who holds each.
    pub(crate) const PEOPLE: [(&str, &str); 7] = [
        ("root", "root"),
        ("publish", "ci"),
        ("admit", "coordinator"),
        ("deploy:staging", "dora"),
        ("approve:staging", "abe"),
        ("emergency", "emma"),
        ("", "idle"),
    ];

    /// The key of one of them.
    pub(crate) fn key(place: usize) -> PublicKey {
        PublicKey::of(&SigningKey::from_bytes(&[u8::try_from(place).unwrap() + 1; 32]))
    }

    pub(crate) fn root() -> Root {
        let mut root = Root {
            fleet: "test".parse().unwrap(),
            version: 1,
            expires: UnixTime(1),
            keys: BTreeMap::new(),
            roles: BTreeMap::new(),
            environments: BTreeMap::from([("staging".parse().unwrap(), Policy::default())]),
            critical: Vec::new(),
        };
        for (place, (role, owner)) in PEOPLE.into_iter().enumerate() {
            let (key, owner) = (key(place), owner.parse().unwrap());
            root.keys.insert(KeyId::of(&key), KeyEntry { key, owner });
            if !role.is_empty() {
                let keys = RoleKeys { keys: vec![KeyId::of(&key)], threshold: 1 };
                root.roles.insert(role.parse().unwrap(), keys);
            }
        }
        root
    }

    #[test]
    fn r4_who_may_ask_for_what() {
        let root = root();
        let host = Peer::Host(HostId::of(&key(20)));
        let stranger = Peer::Person(KeyId::of(&key(21)));
        let coordinator = Peer::Coordinator(HostId::of(&key(2)));
        let mut peers: Vec<_> = PEOPLE
            .into_iter()
            .enumerate()
            .map(|(place, (_, owner))| (owner, Peer::Person(KeyId::of(&key(place)))))
            .collect();
        peers.extend([
            ("host", host),
            ("stranger", stranger),
            ("itself", coordinator),
            ("anonymous", Peer::Anonymous),
        ]);
        let people = "root ci coordinator dora abe emma";
        let everyone = "root ci coordinator dora abe emma host";
        let scope =
            proto::Scope { service: "web".parse().unwrap(), env: "staging".parse().unwrap() };
        let (service, version) = (scope.service.clone(), "1".parse().unwrap());
        let cases = [
            (ControlRequest::Fleet, everyone),
            (ControlRequest::Scope(scope.clone()), everyone),
            (ControlRequest::Statement { id: Digest::of(b"") }, everyone),
            (ControlRequest::Host { id: HostId::of(&key(20)) }, everyone),
            (ControlRequest::Release { service: service.clone(), version }, everyone),
            (ControlRequest::Rollout(RolloutQuery::Latest), people),
            (ControlRequest::Releases { service: service.clone() }, people),
            (ControlRequest::Evidence { service, rollout: Digest::of(b""), before: None }, people),
            (ControlRequest::Checkup, people),
            (ControlRequest::Events(Box::default()), people),
            (ControlRequest::Dora { scope, days: 90 }, people),
            (ControlRequest::Audit(Box::default()), people),
            (ControlRequest::AuditMemory, people),
            (ControlRequest::Submit { envelope: Vec::new() }, everyone),
            (ControlRequest::Publish { release: Vec::new(), manifest: Vec::new() }, "root ci"),
            (ControlRequest::Renew, "host"),
            (
                ControlRequest::TokenCreate { uses: 1, ttl_s: 60, labels: Vec::new() },
                "root dora emma",
            ),
            (ControlRequest::TokenList, "root dora emma"),
            (ControlRequest::TokenRevoke { token: String::new() }, "root dora emma"),
            (
                ControlRequest::AccessCreate {
                    kind: proto::access::AccessKind::Link,
                    role: proto::access::AccessRole::Viewer,
                    ttl_s: 300,
                },
                people,
            ),
            (ControlRequest::Draft { id: Digest::of(b"") }, people),
            (ControlRequest::AccessList, "root dora emma"),
            (ControlRequest::AccessRevoke { id: String::new() }, "root dora emma"),
            (ControlRequest::NotifyList, "root dora emma"),
            (ControlRequest::NotifyTest { receiver: "ops".parse().unwrap() }, "root dora emma"),
        ];
        for (request, may) in cases {
            let allowed: Vec<_> = peers
                .iter()
                .filter(|(_, peer)| allow(&root, peer, &request).is_ok())
                .map(|(who, _)| *who)
                .collect();
            assert_eq!(allowed.join(" "), may, "{request:?}");
        }
    }

    #[test]
    fn a_refusal_names_the_key_and_what_it_lacks() {
        let ci = Peer::Person(KeyId::of(&key(1)));
        let refused = allow(&root(), &ci, &ControlRequest::TokenList).unwrap_err();
        assert_eq!(refused.kind, RefusedKind::Forbidden);
        assert_eq!(
            refused.reason,
            format!("key {} (ci) may not make, see or revoke tokens", KeyId::of(&key(1)))
        );
        assert_eq!(refused.next, "this needs a key with the role deploy:ENV, emergency or root");
    }
}
