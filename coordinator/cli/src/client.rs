//! Talking to the coordinator or, with `--via HOST`, to any host: the control protocol.
//!
//! Whoever answers is proven by TLS to be a member of the fleet, and still only reports: what is
//! signed on the ground of an answer is verified first, in [`crate::knowledge`].

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use ed25519_dalek::SigningKey;
use net::certificate::CertificateError;
use net::endpoint::{ConnectError, NetError};
use net::frame::{self, FrameError};
use net::{Alpn, CloseCode, Connection, ConnectionLost, Directory, Endpoint, Expect, Identity};
use proto::checkup::{CHECKUP_BYTES_MAX, Finding};
use proto::evidence::Evidence;
use proto::id::{Digest, Scope, Service};
use proto::near;
use proto::report::{FleetReport, HostReport, RolloutReport};
use proto::wire::{
    CONTROL_BYTES_MAX, ControlReply, ControlRequest, EVIDENCE_REPLY_BYTES_MAX, Refused,
    RefusedKind, RolloutQuery, ScopeFacts,
};

use crate::failure::{Advise, Exit};
use crate::hint;
use crate::home::{Home, HomeError};
use crate::render::plain;

/// Longest wait for an answer; the member may have to read a whole history for it.
pub(crate) const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest wait for the answer to an upload, whose pieces the coordinator verifies and writes.
const UPLOAD_TIMEOUT: Duration = Duration::from_secs(120);

/// Whom to talk to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Member {
    /// `the coordinator`, a host's name, or the address itself.
    pub(crate) name: String,
    pub(crate) address: SocketAddr,
    pub(crate) expect: Expect,
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name == self.address.to_string() {
            true => write!(f, "{}", self.address),
            false => write!(f, "{} ({})", self.name, self.address),
        }
    }
}

impl Member {
    /// A text for somebody who spoke to it, with commands to type next.
    pub(crate) fn hint(&self, text: &str) -> String {
        let address = (self.expect != Expect::Coordinator).then(|| self.address.to_string());
        hint::via(address.as_deref(), text)
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    #[error(transparent)]
    Home(#[from] HomeError),
    #[error("cannot use the key to be let in")]
    Identity(#[source] CertificateError),
    #[error("cannot open a socket")]
    Bind(#[source] NetError),
    #[error("there is no host {via:?} among those last seen, and it is no IP:PORT")]
    NoSuchHost {
        via: String,
        /// Which may be meant.
        advice: String,
    },
    #[error("several hosts are called {via:?}: {}", ids.join(", "))]
    Ambiguous { via: String, ids: Vec<String> },
    #[error("host {via:?} was never heard, so its address is not known")]
    NoAddress { via: String },
    #[error("cannot reach {member}")]
    Connect {
        member: Box<Member>,
        #[source]
        source: Box<ConnectError>,
    },
    #[error("cannot {what}: lost {member}")]
    Lost {
        what: &'static str,
        member: Box<Member>,
        #[source]
        source: Box<ConnectionLost>,
    },
    #[error("cannot {what}: no answer from {member}")]
    Frame {
        what: &'static str,
        member: Box<Member>,
        #[source]
        source: Box<FrameError>,
    },
    #[error("cannot {what}: {member} gave an answer to something else")]
    Unexpected { what: &'static str, member: Box<Member> },
    #[error("cannot {what}: {}", plain(&refused.reason))]
    Refused { what: &'static str, refused: Box<Refused> },
    #[error("cannot {what}")]
    Piece { what: &'static str, source: std::io::Error },
}

impl ClientError {
    /// Whether somebody else may well answer.
    pub(crate) fn is_unreachable(&self) -> bool {
        match self {
            Self::Connect { source, .. } => !matches!(
                **source,
                ConnectError::WrongPeer { .. }
                    | ConnectError::Refused { code: CloseCode::Forbidden, .. }
            ),
            Self::Lost { .. } | Self::Frame { .. } => true,
            _ => false,
        }
    }

    fn is_about_the_coordinator(&self) -> bool {
        match self {
            Self::Connect { member, .. }
            | Self::Lost { member, .. }
            | Self::Frame { member, .. } => member.expect == Expect::Coordinator,
            _ => false,
        }
    }
}

impl Advise for ClientError {
    fn exit(&self) -> Exit {
        match self {
            _ if self.is_unreachable() => Exit::Unreachable,
            Self::Home(source) => source.exit(),
            Self::NoSuchHost { .. } | Self::Ambiguous { .. } => Exit::Usage,
            // What was named on the command line is not there.
            Self::Refused { refused, .. } if refused.kind == RefusedKind::NotFound => Exit::Usage,
            _ => Exit::Error,
        }
    }

    fn next(&self) -> Option<String> {
        match self {
            Self::Home(source) => source.next(),
            Self::NoSuchHost { advice, .. } => {
                Some(format!("{advice}; or give its IP:PORT: swell hosts shows and remembers them"))
            }
            Self::NoAddress { .. } => {
                Some("give its IP:PORT; swell hosts shows and remembers them".to_owned())
            }
            Self::Ambiguous { .. } => Some("give the id or IP:PORT".to_owned()),
            Self::Refused { refused, .. } if !refused.next.is_empty() => Some(plain(&refused.next)),
            Self::Refused { refused, .. } => match refused.kind {
                RefusedKind::NotHere => Some("ask the coordinator: leave out --via".to_owned()),
                RefusedKind::Busy => Some("try again in a moment".to_owned()),
                _ => None,
            },
            _ if self.is_unreachable() && self.is_about_the_coordinator() => Some(
                "see that it runs at that address and that its UDP port is open: swell doctor; the fleet \
                 goes on without it, and any host answers instead: --via HOST (a name, an id or IP:PORT)"
                    .to_owned(),
            ),
            _ if self.is_unreachable() => Some(
                "try another host by --via HOST, or the coordinator: leave out --via".to_owned(),
            ),
            _ => None,
        }
    }
}

/// The coordinator or, with `via`, the host it names.
///
/// # Errors
///
/// [`ClientError`]: no such host among those last seen.
pub(crate) fn member(home: &Home, via: Option<&str>) -> Result<Member, ClientError> {
    let Some(via) = via else { return Ok(coordinator(home)) };
    if let Ok(address) = via.parse() {
        return Ok(Member { name: via.to_owned(), address, expect: Expect::AnyMember });
    }
    let hosts = home.remembered_hosts().map(|report| report.hosts).unwrap_or_default();
    by_name(&hosts, via)
}

pub(crate) fn coordinator(home: &Home) -> Member {
    Member {
        name: "the coordinator".to_owned(),
        address: home.operator.coordinator,
        expect: Expect::Coordinator,
    }
}

fn by_name(hosts: &[HostReport], via: &str) -> Result<Member, ClientError> {
    let via = || via.to_owned();
    let called = |host: &&HostReport| host.id.as_str() == via() || host.name.as_str() == via();
    let found: Vec<_> = hosts.iter().filter(called).collect();
    match found[..] {
        [] => {
            let advice = near::advice(&via(), hosts.iter().map(|host| host.name.as_str()));
            Err(ClientError::NoSuchHost { via: via(), advice })
        }
        [host] => of_host(host).ok_or_else(|| ClientError::NoAddress { via: via() }),
        _ => {
            let ids = found.iter().map(|host| host.id.to_string()).collect();
            Err(ClientError::Ambiguous { via: via(), ids })
        }
    }
}

/// A host as somebody to talk to, if its address is known.
pub(crate) fn of_host(host: &HostReport) -> Option<Member> {
    let address = host.address.as_ref()?.parse().ok()?;
    Some(Member { name: host.name.to_string(), address, expect: Expect::Host(host.id.clone()) })
}

/// A connection to one member.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    connection: Connection,
    pub(crate) member: Member,
}

impl Client {
    /// Connects within 10 seconds, proving `key`.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub(crate) async fn connect(
        home: &Home,
        key: &SigningKey,
        member: Member,
    ) -> Result<Self, ClientError> {
        let identity = Identity::person(key.clone()).map_err(ClientError::Identity)?;
        let any: SocketAddr = match member.address {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        // Without a coordinator certificates are not renewed, and `swell` keeps no statements about
        // hosts. What it takes from them verifies by itself or is a report.
        let directory = Directory::of_the_bereft(home.root.clone());
        let endpoint = Endpoint::bind(any, identity, directory).map_err(ClientError::Bind)?;
        let dialled = endpoint.connect(Alpn::Control, member.address, member.expect.clone()).await;
        match dialled {
            Ok(connection) => Ok(Self { connection, member }),
            Err(source) => {
                Err(ClientError::Connect { member: Box::new(member), source: Box::new(source) })
            }
        }
    }

    /// Asks and waits for the answer; a refusal is an error. `what` follows `cannot`.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub(crate) async fn ask(
        &self,
        what: &'static str,
        request: &ControlRequest,
    ) -> Result<ControlReply, ClientError> {
        self.ask_within(what, request, ANSWER_TIMEOUT).await
    }

    /// As [`Self::ask`], with another patience.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub(crate) async fn ask_within(
        &self,
        what: &'static str,
        request: &ControlRequest,
        within: Duration,
    ) -> Result<ControlReply, ClientError> {
        self.exchange(what, request, within, CONTROL_BYTES_MAX).await
    }

    async fn exchange(
        &self,
        what: &'static str,
        request: &ControlRequest,
        within: Duration,
        answer_bytes_max: usize,
    ) -> Result<ControlReply, ClientError> {
        let (mut send, mut recv) =
            self.connection.open_bi().await.map_err(|source| self.lost(what, source))?;
        let torn = |source| self.torn(what, source);
        frame::send_json(&mut send, request, CONTROL_BYTES_MAX, within).await.map_err(torn)?;
        // Nothing follows; a stream that is closed already has its answer on the way.
        let _ = send.finish();
        let reply = frame::recv_json(&mut recv, answer_bytes_max, within).await.map_err(torn)?;
        refusal(what, reply)
    }

    /// Hands in a release: sends the pieces that are asked for, in the order they are asked for.
    /// `piece` gives a piece; `begin` is told how many come before the first one.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub(crate) async fn upload(
        &self,
        request: &ControlRequest,
        begin: impl FnOnce(&[u32]),
        mut piece: impl FnMut(u32) -> std::io::Result<Vec<u8>>,
    ) -> Result<Digest, ClientError> {
        let what = "publish";
        let (mut send, mut recv) =
            self.connection.open_bi().await.map_err(|source| self.lost(what, source))?;
        let torn = |source| self.torn(what, source);
        frame::send_json(&mut send, request, CONTROL_BYTES_MAX, ANSWER_TIMEOUT)
            .await
            .map_err(torn)?;
        let first =
            frame::recv_json(&mut recv, CONTROL_BYTES_MAX, ANSWER_TIMEOUT).await.map_err(torn)?;
        let ControlReply::Send { pieces } = refusal(what, first)? else {
            return Err(self.unexpected(what));
        };
        begin(&pieces);
        for index in pieces {
            let bytes = piece(index).map_err(|source| ClientError::Piece { what, source })?;
            let sent = frame::send_bytes(&mut send, &bytes, UPLOAD_TIMEOUT).await;
            if let Err(source) = sent {
                // Whoever stops reading has said why.
                let reply = frame::recv_json(&mut recv, CONTROL_BYTES_MAX, ANSWER_TIMEOUT).await;
                return Err(match reply.map(|reply| refusal(what, reply)) {
                    Ok(Err(refused)) => refused,
                    _ => torn(source),
                });
            }
        }
        let _ = send.finish();
        let second =
            frame::recv_json(&mut recv, CONTROL_BYTES_MAX, UPLOAD_TIMEOUT).await.map_err(torn)?;
        match refusal(what, second)? {
            ControlReply::Published { id } => Ok(id),
            _ => Err(self.unexpected(what)),
        }
    }

    /// Says goodbye, so that the member need not keep the connection until it idles out; what was
    /// answered is here already.
    pub(crate) async fn close(&self) {
        self.connection.close(CloseCode::Done, "done");
        // The goodbye is sent by a task that this woke; each turn lets it run once.
        for _ in 0..4 {
            tokio::task::yield_now().await;
        }
    }

    pub(crate) fn unexpected(&self, what: &'static str) -> ClientError {
        ClientError::Unexpected { what, member: Box::new(self.member.clone()) }
    }

    fn lost(&self, what: &'static str, source: ConnectionLost) -> ClientError {
        let member = Box::new(self.member.clone());
        ClientError::Lost { what, member, source: Box::new(source) }
    }

    fn torn(&self, what: &'static str, source: FrameError) -> ClientError {
        let member = Box::new(self.member.clone());
        ClientError::Frame { what, member, source: Box::new(source) }
    }

    // --- one question each ---

    /// # Errors
    ///
    /// [`ClientError`], as of all below.
    pub(crate) async fn fleet(&self, within: Duration) -> Result<FleetReport, ClientError> {
        let what = "ask for the fleet";
        match self.ask_within(what, &ControlRequest::Fleet, within).await? {
            ControlReply::Fleet(report) => Ok(*report),
            _ => Err(self.unexpected(what)),
        }
    }

    /// What the member finds about itself.
    pub(crate) async fn checkup(&self, within: Duration) -> Result<Vec<Finding>, ClientError> {
        let (what, request) = ("look it over", ControlRequest::Checkup);
        match self.exchange(what, &request, within, CHECKUP_BYTES_MAX).await? {
            ControlReply::Checkup(findings) => Ok(findings),
            _ => Err(self.unexpected(what)),
        }
    }

    /// What the host that answers has kept of its last attempt in a rollout, or of the last one before
    /// number `before`; and where that lies, or would.
    pub(crate) async fn evidence(
        &self,
        service: Service,
        rollout: Digest,
        before: Option<u64>,
        within: Duration,
    ) -> Result<(Option<Evidence>, String), ClientError> {
        let what = "ask for its logs";
        let request = ControlRequest::Evidence { service, rollout, before };
        match self.exchange(what, &request, within, EVIDENCE_REPLY_BYTES_MAX).await? {
            ControlReply::Evidence { kept, path } => Ok((kept.map(|evidence| *evidence), path)),
            _ => Err(self.unexpected(what)),
        }
    }

    pub(crate) async fn rollout(&self, query: RolloutQuery) -> Result<RolloutReport, ClientError> {
        self.rollout_within(query, ANSWER_TIMEOUT).await
    }

    pub(crate) async fn rollout_within(
        &self,
        query: RolloutQuery,
        within: Duration,
    ) -> Result<RolloutReport, ClientError> {
        let what = "ask for the rollout";
        match self.ask_within(what, &ControlRequest::Rollout(query), within).await? {
            ControlReply::Rollout(report) => Ok(*report),
            _ => Err(self.unexpected(what)),
        }
    }

    pub(crate) async fn scope(&self, scope: &Scope) -> Result<ScopeFacts, ClientError> {
        let what = "ask where the scope stands";
        match self.ask(what, &ControlRequest::Scope(scope.clone())).await? {
            ControlReply::Scope(facts) => Ok(*facts),
            _ => Err(self.unexpected(what)),
        }
    }

    /// The envelope that answers `request`: a statement or a release.
    pub(crate) async fn envelope(
        &self,
        what: &'static str,
        request: &ControlRequest,
    ) -> Result<Vec<u8>, ClientError> {
        match self.ask(what, request).await? {
            ControlReply::Statement { envelope } => Ok(envelope),
            _ => Err(self.unexpected(what)),
        }
    }
}

fn refusal(what: &'static str, reply: ControlReply) -> Result<ControlReply, ClientError> {
    match reply {
        ControlReply::Refused(refused) => {
            Err(ClientError::Refused { what, refused: Box::new(refused) })
        }
        reply => Ok(reply),
    }
}

#[cfg(test)]
mod tests {
    use proto::report::RolloutPhase;

    use super::*;
    use crate::failure::Failure;
    use crate::render::sample;

    fn hosts() -> Vec<HostReport> {
        sample::fleet(sample::rollout(RolloutPhase::Running, Vec::new())).hosts
    }

    #[test]
    fn a_host_is_found_by_its_name_or_id() {
        let mut hosts = hosts();
        for via in ["n1", "aaaaaaaaaaaa"] {
            let member = by_name(&hosts, via).unwrap();
            assert_eq!(member.to_string(), "n1 (192.0.2.11:7070)", "{via}");
            assert_eq!(member.expect, Expect::Host(sample::host_id(0)), "{via}");
        }
        assert!(matches!(by_name(&hosts, "n2"), Err(ClientError::NoAddress { .. })));
        assert!(matches!(by_name(&hosts, "n3"), Err(ClientError::NoSuchHost { .. })));
        hosts[1].name = hosts[0].name.clone();
        let error = by_name(&hosts, "n1").unwrap_err();
        let expected = "several hosts are called \"n1\": aaaaaaaaaaaa, bbbbbbbbbbbb";
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn an_unreachable_coordinator_ends_with_5_and_the_way_around_it() {
        let address: SocketAddr = "192.0.2.1:7070".parse().unwrap();
        let member =
            Member { name: "the coordinator".to_owned(), address, expect: Expect::Coordinator };
        let failure = Failure::from(ClientError::Connect {
            member: Box::new(member),
            source: Box::new(ConnectError::Timeout { addr: address }),
        });
        assert_eq!(failure.exit(), Exit::Unreachable);
        assert_eq!(
            failure.to_string(),
            "cannot reach the coordinator (192.0.2.1:7070): 192.0.2.1:7070 did not answer within \
             10 s\n  next: see that it runs at that address and that its UDP port is open: swell \
             doctor; the fleet goes on without it, and any host answers instead: --via HOST (a name, \
             an id or IP:PORT)"
        );
    }

    #[test]
    fn a_refusal_is_told_with_its_own_advice() {
        let refused = |kind, next: &str| {
            let refused =
                Refused { kind, reason: "epoch 3 is taken".to_owned(), next: next.into() };
            Failure::from(ClientError::Refused { what: "deploy", refused: Box::new(refused) })
        };
        let failure = refused(RefusedKind::Conflict, "deploy again");
        assert_eq!(failure.exit(), Exit::Error);
        assert_eq!(failure.to_string(), "cannot deploy: epoch 3 is taken\n  next: deploy again");
        let failure = refused(RefusedKind::NotHere, "");
        assert_eq!(failure.next(), Some("ask the coordinator: leave out --via"));
        assert_eq!(refused(RefusedKind::Forbidden, "").next(), None);
    }
}
