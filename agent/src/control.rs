//! What an agent answers to people (`swell --via HOST`): what it sees, what lies on its disk, and
//! statements to pass on.
//!
//! Whoever may connect may ask, but for a checkup, which is for people: it writes to the disk; and for
//! evidence, which is for people who may deploy or approve in its environment: it is what the service
//! said. A statement that is handed in counts by its own signatures, so it does not matter who brings it.
//! Old releases are cleared away for anybody whose key is in the root: it removes only what the agent
//! would remove by itself. Other members may look.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use member::{Membership, View};
use net::frame::{self, FrameError};
use net::{Connection, Handler, Peer, Places, RecvStream, SendStream};
use proto::statement::{Role, RoleKeys};
use proto::wire::{CONTROL_BYTES_MAX, ControlReply, ControlRequest, Refused, RefusedKind};
use proto::{Env, KeyId};
use rollout::fleet::refused;
use swarm::Ledger;
use swarm::ledger::AdmitError;
use tokio::task::{JoinSet, spawn_blocking};
use tracing::{info, warn};

use crate::checkup::Checkup;
use crate::config::Config;
use crate::evidence::Drawer;
use crate::home::Home;
use crate::rollouts::Storage;
use crate::witness::Witness;

/// Requests of people under way, over all connections, and of one key of theirs: whoever asks and
/// reads no answer keeps no operator out.
const PEOPLE_MAX: usize = 8;
const PER_PERSON_MAX: usize = 4;
/// Requests of other members, which have places of their own: stolen hosts keep no operator out
/// either.
const MEMBERS_MAX: usize = 8;
const PER_MEMBER_MAX: usize = 2;
/// How long a request may take to arrive, and its answer to be taken.
const WITHIN: Duration = Duration::from_secs(30);

/// The handler of `gsw-control/3` on an agent.
pub(crate) struct Control {
    desk: Arc<Desk>,
    turns: Turns,
}

/// What lies on this host's disk.
#[derive(Clone)]
pub(crate) struct Cellar {
    pub(crate) storage: Storage,
    pub(crate) config: Arc<Config>,
    pub(crate) home: Home,
    /// The environment of this host; none: it is in none.
    pub(crate) env: Option<Env>,
}

/// Who holds which role, as the root in force says.
type Roles = BTreeMap<Role, RoleKeys>;

/// What answers are made from.
struct Desk {
    ledger: Ledger,
    view: View,
    cellar: Cellar,
    checkup: Checkup,
    witness: Witness,
}

impl Control {
    pub(crate) fn new(
        member: &Membership,
        view: View,
        cellar: Cellar,
        checkup: Checkup,
        witness: Witness,
    ) -> Arc<Self> {
        let ledger = member.ledger.clone();
        let desk = Arc::new(Desk { ledger, view, cellar, checkup, witness });
        Arc::new(Self { desk, turns: Turns::new() })
    }
}

/// Places of those that ask, people apart from members.
struct Turns {
    people: Places,
    members: Places,
}

impl Turns {
    fn new() -> Self {
        Self {
            people: Places::new(PEOPLE_MAX, PER_PERSON_MAX),
            members: Places::new(MEMBERS_MAX, PER_MEMBER_MAX),
        }
    }

    fn of(&self, peer: &Peer) -> &Places {
        match peer {
            Peer::Person(_) => &self.people,
            Peer::Host(_) | Peer::Coordinator(_) | Peer::Anonymous => &self.members,
        }
    }
}

#[async_trait]
impl Handler for Control {
    async fn connection(&self, connection: Connection) {
        let mut requests = JoinSet::new();
        while let Ok((send, recv)) = connection.accept_bi().await {
            while requests.try_join_next().is_some() {}
            let turn = self.turns.of(connection.peer()).take(connection.peer()).await;
            let (desk, peer) = (self.desk.clone(), connection.peer().clone());
            requests.spawn(async move {
                serve(desk, &peer, send, recv).await;
                drop(turn);
            });
        }
    }
}

async fn serve(desk: Arc<Desk>, peer: &Peer, mut send: SendStream, mut recv: RecvStream) {
    let reply = match frame::recv_json(&mut recv, CONTROL_BYTES_MAX, WITHIN).await {
        Ok(request) => reply(desk, peer, request).await,
        Err(FrameError::Codec(error)) => ControlReply::Refused(Refused::not_understood(&error)),
        Err(error) => return warn!(%peer, %error, "a request that cannot be read"),
    };
    if let Err(error) = frame::send_json(&mut send, &reply, CONTROL_BYTES_MAX, WITHIN).await {
        warn!(%peer, %error, "an answer is not taken");
    }
    // The other side closes once it has read it all.
    let _ = tokio::time::timeout(WITHIN, send.stopped()).await;
}

async fn reply(desk: Arc<Desk>, peer: &Peer, request: ControlRequest) -> ControlReply {
    if let ControlRequest::Submit { .. } = &request {
        info!(%peer, "a statement is handed in");
    }
    let env = desk.cellar.env.as_ref();
    let refused = refuse(&desk.ledger.chain().root().roles, env, peer, &request);
    match (refused, request) {
        (Some(refused), _) => refused,
        (None, ControlRequest::Disk { dry_run }) => disk(&desk, peer, dry_run).await,
        (None, request) => {
            spawn_blocking(move || answer(&desk, request)).await.unwrap_or_else(|error| {
                warn!(%peer, %error, "answering failed");
                refusal(RefusedKind::Busy, "this agent cannot answer now", "its log says why")
            })
        }
    }
}

/// What lies on the disk; for people, once what nothing needs is gone.
async fn disk(desk: &Desk, peer: &Peer, dry_run: bool) -> ControlReply {
    if !dry_run {
        info!(%peer, "old releases are to be cleared away now");
    }
    let Cellar { storage, config, home, .. } = &desk.cellar;
    let directories = vec![config.service_root.clone(), home.store()];
    let report = storage.report(desk.ledger.clone(), config.keep_releases, directories, dry_run);
    ControlReply::Disk(Box::new(report.await))
}

/// What `peer` may not ask. People are those whose key is in the root: nobody else is let in as one.
fn refuse(
    roles: &Roles,
    env: Option<&Env>,
    peer: &Peer,
    request: &ControlRequest,
) -> Option<ControlReply> {
    let (reason, next) = match (peer, request) {
        (Peer::Person(person), ControlRequest::Evidence { .. }) if operates(roles, env, person) => {
            return None;
        }
        (_, ControlRequest::Evidence { .. }) => (
            "evidence is for operators",
            "this needs a key that may deploy or approve in this environment",
        ),
        (Peer::Person(_), _) => return None,
        (_, ControlRequest::Checkup) => {
            ("a checkup is for people", "this needs a key with a role in the root")
        }
        (_, ControlRequest::Disk { dry_run: false }) => {
            ("only people have old releases cleared away", "a member may look: with --dry-run")
        }
        _ => return None,
    };
    Some(refusal(RefusedKind::Forbidden, reason, next))
}

/// Whether a key is an operator's of this environment: CI's and the coordinator's are not, nor those of
/// another one.
fn operates(roles: &Roles, env: Option<&Env>, person: &KeyId) -> bool {
    let operator = |role: &Role| match role {
        Role::Root | Role::Emergency => true,
        Role::Deploy(of) | Role::Approve(of) => Some(of) == env,
        _ => false,
    };
    roles.iter().any(|(role, holders)| operator(role) && holders.keys.contains(person))
}

/// Answers one request. Blocks on the disk.
fn answer(desk: &Desk, request: ControlRequest) -> ControlReply {
    if let Some(reply) = desk.view.answer(&request) {
        return reply;
    }
    match request {
        ControlRequest::Submit { envelope } => submit(&desk.ledger, &envelope),
        ControlRequest::Evidence { service, rollout, before } => {
            let drawer = Drawer::new(&desk.cellar.home.evidence(), &service);
            match drawer.find(&rollout, before) {
                Some((path, evidence)) => ControlReply::Evidence {
                    kept: Some(Box::new(evidence.bounded())),
                    path: path.display().to_string(),
                },
                None => {
                    let path = drawer.path().display().to_string();
                    ControlReply::Evidence { kept: None, path }
                }
            }
        }
        ControlRequest::Checkup => match desk.checkup.findings() {
            Some(findings) => ControlReply::Checkup(findings),
            None => refusal(
                RefusedKind::Busy,
                "others are having this host looked over",
                "try again in a moment; if it stays so, a disk hangs there",
            ),
        },
        ControlRequest::AuditMemory => ControlReply::AuditMemory(Box::new(desk.witness.memory())),
        _ => refusal(
            RefusedKind::NotHere,
            "this is an agent: publishing, tokens, certificates, events and the audit record are the \
             coordinator's",
            "ask the coordinator, without --via",
        ),
    }
}

/// Takes in a statement.
fn submit(ledger: &Ledger, envelope: &[u8]) -> ControlReply {
    if let Some(refused) = member::refuse_submitted(ledger, envelope) {
        return ControlReply::Refused(refused);
    }
    match ledger.admit(envelope) {
        Ok(admitted) => member::reply_to_admitted(admitted),
        Err(AdmitError::Refused(reason)) => ControlReply::Refused(refused(&reason)),
        Err(AdmitError::Store(error)) => {
            warn!(%error, "a statement cannot be kept");
            refusal(RefusedKind::Busy, "this agent cannot keep it now", "its log says why")
        }
    }
}

fn refusal(kind: RefusedKind, reason: &str, next: &str) -> ControlReply {
    ControlReply::Refused(Refused { kind, reason: reason.to_owned(), next: next.to_owned() })
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::SigningKey;
    use proto::HostId;
    use proto::key::PublicKey;

    use super::*;

    fn env() -> Env {
        "production".parse().unwrap()
    }

    #[test]
    fn r29_only_people_have_a_disk_cleared() {
        let key = PublicKey::of(&SigningKey::from_bytes(&[1; 32]));
        let refused = |peer: &Peer, dry_run| {
            refuse(&Roles::new(), Some(&env()), peer, &ControlRequest::Disk { dry_run }).is_some()
        };
        let person = Peer::Person(KeyId::of(&key));
        assert!(!refused(&person, true) && !refused(&person, false));
        for other in [Peer::Host(HostId::of(&key)), Peer::Anonymous] {
            assert!(!refused(&other, true) && refused(&other, false), "{other}");
        }
    }

    #[test]
    fn r4_stolen_hosts_however_many_leave_people_their_turns() {
        let key = |seed: u8| PublicKey::of(&SigningKey::from_bytes(&[seed; 32]));
        let turns = Turns::new();
        let take = |peer: Peer| turns.of(&peer).try_take(&peer);
        let host = |seed: u8| Peer::Host(HostId::of(&key(seed)));
        // Each asks until it gets no more turns.
        let mut held = Vec::new();
        for seed in 1..=20 {
            held.extend(std::iter::from_fn(|| take(host(seed))));
        }
        assert_eq!(held.len(), MEMBERS_MAX);
        let person = || take(Peer::Person(KeyId::of(&key(30))));
        let own: Vec<_> = std::iter::from_fn(person).collect();
        assert_eq!(own.len(), PER_PERSON_MAX);
        assert!(take(Peer::Person(KeyId::of(&key(31)))).is_some());
    }

    #[test]
    fn r4_hosts_cannot_have_a_host_look_itself_over() {
        let key = PublicKey::of(&SigningKey::from_bytes(&[1; 32]));
        let host = Peer::Host(HostId::of(&key));
        let refuse = |peer, request| refuse(&Roles::new(), Some(&env()), peer, &request);
        assert!(refuse(&host, ControlRequest::Checkup).is_some());
        assert_eq!(refuse(&host, ControlRequest::Fleet), None);
        assert_eq!(refuse(&Peer::Person(KeyId::of(&key)), ControlRequest::Checkup), None);
    }

    #[test]
    fn r4_what_a_service_said_is_for_operators_alone() {
        let keys =
            [1, 2, 3, 4, 5, 6, 7].map(|seed| PublicKey::of(&SigningKey::from_bytes(&[seed; 32])));
        let roles = [
            "deploy:production",
            "approve:production",
            "emergency",
            "deploy:staging",
            "approve:staging",
            "publish",
            "admit",
        ];
        let holders = |key: &PublicKey| RoleKeys { keys: vec![KeyId::of(key)], threshold: 1 };
        let roles: Roles = roles
            .iter()
            .zip(&keys)
            .map(|(role, key)| (role.parse().unwrap(), holders(key)))
            .collect();
        let (service, rollout) = ("web".parse().unwrap(), proto::Digest::of(b"rollout"));
        let request = ControlRequest::Evidence { service, rollout, before: None };
        let may = |peer: &Peer| refuse(&roles, Some(&env()), peer, &request).is_none();
        assert_eq!(
            keys.each_ref().map(|key| may(&Peer::Person(KeyId::of(key)))),
            [true, true, true, false, false, false, false]
        );
        let own = &keys[0];
        for other in
            [Peer::Host(HostId::of(own)), Peer::Coordinator(HostId::of(own)), Peer::Anonymous]
        {
            assert!(!may(&other), "{other}");
        }
    }
}
