//! Messages of the `join`, `swarm` and `control` protocols: what travels in [`crate::codec`] frames,
//! those of `control` as JSON.
//!
//! Each request opens a bidirectional stream of its own; the first frame on it is the request, and
//! what follows stands at the request.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::access::{AccessKind, AccessReport, AccessRole};
use crate::audit::{Entry, Head, Memory};
use crate::certificate::Claim;
use crate::checkup::Finding;
use crate::codec::CodecError;
use crate::dora::DoraReport;
use crate::evidence::{EVIDENCE_BYTES_MAX, Evidence};
use crate::id::{Digest, Env, FleetId, HostId, Name, Scope, Service, Version};
use crate::key::{PublicKey, Signature};
use crate::report::{DiskReport, EventReport, Fitness, FleetReport, FreezeReport, RolloutReport};
use crate::statement::UnixTime;

/// Longest frame of the join protocol, in bytes: its sender may be anybody.
pub const JOIN_REQUEST_BYTES_MAX: usize = 1_024;
/// Longest answer to a join, in bytes.
pub const JOIN_REPLY_BYTES_MAX: usize = 1 << 20;
/// Longest swarm request, in bytes: the longest there is has some 200.
pub const SWARM_REQUEST_BYTES_MAX: usize = 256;
/// Pieces that one [`SwarmRequest::New`] names.
pub const NEW_PIECES_MAX: usize = 32;
/// Ids in one answer to [`SwarmRequest::Index`].
pub const INDEX_PAGE_MAX: usize = 4_096;
/// Longest such answer, in bytes.
pub const INDEX_BYTES_MAX: usize = INDEX_PAGE_MAX * 66;
/// Longest answer to [`SwarmRequest::Patches`], in bytes.
pub const PATCHES_BYTES_MAX: usize = 2_048;
/// Longest control frame, in bytes: the manifest of a release with very many files, in base64.
pub const CONTROL_BYTES_MAX: usize = 24 << 20;
/// Events in one answer: an event has a few KiB at most, so they fit a frame.
pub const EVENTS_MAX: u32 = 1_000;
/// Longest answer that carries evidence, in bytes: there is a path beside it.
pub const EVIDENCE_REPLY_BYTES_MAX: usize = EVIDENCE_BYTES_MAX + (8 << 10);

// --- join ---

/// `gsw-join/1`: a host that has nothing but a token. Answered by one [`JoinReply`]. `Debug` does not
/// show the secret.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinRequest {
    /// Which token: the public half of it, by which the coordinator finds it.
    pub token: [u8; 8],
    /// The other half, known to whoever was given the token; the coordinator keeps its digest.
    pub secret: [u8; 16],
    pub key: PublicKey,
    /// Name for people.
    pub name: Name,
    /// By `key`, over [`join_proof`]: whoever joins holds the key.
    pub proof: Signature,
}

impl fmt::Debug for JoinRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { token, secret: _, key, name, proof: _ } = self;
        write!(f, "JoinRequest({name}, key {key}, token {token:02x?})")
    }
}

/// What a joining host signs to prove that it holds its key.
pub fn join_proof(token: &[u8; 8], key: &PublicKey) -> Vec<u8> {
    let mut message = b"groundswell join 1\0".to_vec();
    message.extend_from_slice(token);
    message.extend_from_slice(key.as_bytes());
    message
}

/// The answer to a [`JoinRequest`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum JoinReply {
    Welcome {
        fleet: FleetId,
        /// Envelopes of all roots, from version 1.
        roots: Vec<Vec<u8>>,
        /// Envelope of the new host statement.
        host: Vec<u8>,
        /// X.509, DER.
        certificate: Vec<u8>,
        /// Addresses of members to gossip with first, `ip:port`.
        seeds: Vec<String>,
    },
    Refused {
        reason: String,
    },
}

// --- swarm ---

/// `gsw-swarm/1`: content by digest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum SwarmRequest {
    /// An envelope by statement id. Answer: [`Found`], then the bytes.
    Statement { id: Digest },
    /// Envelopes of all roots after this version. Answer: one frame, `Vec<Vec<u8>>`.
    Roots { after: u32 },
    /// The host statement of a host. Answer: [`Found`], then the envelope.
    Host { id: HostId },
    /// A manifest, a certificate or a shelf, by the digest of its bytes. Answer: [`Found`], then the
    /// bytes.
    Blob { id: Digest },
    /// Which pieces the answerer holds: frames of [`Have`], the first one at once, further ones
    /// whenever there are more, until the asker ends the stream or all pieces are there. An empty bitmap
    /// of an artifact that has pieces: none yet, it is not known there.
    Have { artifact: Digest },
    /// One piece. Answer: [`Found`], then the bytes.
    Piece { artifact: Digest, index: u32 },
    /// Whatever certificate the answerer holds for this claim. Answer: [`Found`], then the bytes.
    Certificate { rollout: Digest, claim: Claim },
    /// Ids of all that the answerer holds of one part, smallest first, those after `after` (none:
    /// from the first one on). Answer: one frame, `Vec<Digest>`, of at most [`INDEX_PAGE_MAX`]; fewer
    /// are the last. What comes in between two pages may be missed, nothing comes twice.
    Index { part: Part, after: Option<Digest> },
    /// One of these pieces that the answerer has given to nobody yet, the first of those; at most
    /// [`NEW_PIECES_MAX`]. Answer: [`Found::Picked`], then the bytes; [`Found::No`] if there is none.
    /// Who does not know this question, being of an earlier version, ends the stream.
    New { artifact: Digest, pieces: Vec<u32> },
    /// The patches to an artifact that are whole here. Answer: one frame, `Vec<PatchOffer>`, of at most
    /// [`PATCHES_MAX`](crate::patch::PATCHES_MAX). An earlier version ends the stream, as above.
    Patches { artifact: Digest },
    /// A piece, as [`Self::Piece`], or one of several, as [`Self::New`], in slices. Answer: [`Found`] as to
    /// those; then a frame, `Vec<Sum>`, with the [sums](crate::slices::Slices::sums) of its slices; then
    /// the bytes, which may be coming to the answerer, too: where they come there no more it ends the
    /// stream before their end. An earlier version ends it at once, as above.
    Sliced { artifact: Digest, of: Wanted },
}

/// Which piece is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Wanted {
    Piece(u32),
    /// Any that was given to nobody; at most [`NEW_PIECES_MAX`].
    New(Vec<u32>),
}

/// What an index lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Part {
    /// Statements that have an effect, of every kind; content is [`SwarmRequest::Statement`].
    Statements,
    /// Statements below their threshold; content as above.
    Pending,
    /// Certificates; content is [`SwarmRequest::Blob`].
    Certificates,
}

/// Whether the answerer has what was asked for; the bytes follow without a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Found {
    Yes {
        bytes: u64,
    },
    /// It has not, now.
    No,
    /// It has too many askers: ask somebody else, or later.
    Busy,
    /// Of the pieces that were named, this one: only where it is a new one that is asked for.
    Picked {
        piece: u32,
        bytes: u64,
    },
}

/// All pieces the answerer holds at this time, one bit each, piece 0 in the lowest bit of byte 0.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Have {
    pub bitmap: Vec<u8>,
}

// --- control ---

/// `gsw-control/3`: people, CI and daemons to the coordinator or, where it can, to any agent.
/// Each is answered by one [`ControlReply`], uploads by two.
///
/// Both travel as JSON, so that one version talks with the next. What comes later is a new field that
/// has a default, or a new request, which an older member refuses in words; a new variant stands only
/// in answers to who has asked for it by something new. Whatever else changes is another version of
/// the protocol.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ControlRequest {
    /// What the member sees of the fleet.
    Fleet,
    /// A rollout by the start of its id (4 hex digits or more), or the newest of a scope.
    Rollout(RolloutQuery),
    /// An envelope by statement id.
    Statement {
        id: Digest,
    },
    /// The release statement of a version.
    Release {
        service: Service,
        version: Version,
    },
    /// The versions of a service, newest first.
    Releases {
        service: Service,
    },
    /// Everything a plan needs about a scope.
    Scope(Scope),
    /// A signed statement to take in and pass on: rollout, directive, freeze or revocation.
    Submit {
        #[serde(with = "base64_text")]
        envelope: Vec<u8>,
    },
    /// A release signed by its publisher, and its manifest. The answer says which pieces to
    /// upload; they follow in that order as raw bytes; then comes the second answer. Coordinator.
    Publish {
        #[serde(with = "base64_text")]
        release: Vec<u8>,
        #[serde(with = "base64_text")]
        manifest: Vec<u8>,
    },
    /// A new certificate for the host that asks. Coordinator.
    Renew,
    /// Coordinator, and the same for those below.
    TokenCreate {
        uses: u32,
        ttl_s: u64,
        labels: Vec<(Name, Name)>,
    },
    TokenList,
    TokenRevoke {
        token: String,
    },
    /// The newest statement of a host.
    Host {
        id: HostId,
    },
    /// What lies on the disk of the host that is asked; unless `dry_run`, it clears away first what it
    /// would clear away by itself after its next rollout. Hosts, each about itself.
    Disk {
        dry_run: bool,
    },
    /// What the member finds when it looks itself over. For people.
    Checkup,
    /// What the host that is asked has kept of an attempt of its in a rollout: of the last one, or of the
    /// last one before number `before`. (A host that does not know `before` tells of the last one.) For
    /// people who may deploy or approve. Hosts, each about itself.
    Evidence {
        service: Service,
        rollout: Digest,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        before: Option<u64>,
    },
    /// A link to the coordinator's pages, or a token for its HTTP interface, for whoever asks.
    /// Coordinator, and the same for those below. `ttl_s`: of the token, or of the session that comes of
    /// the link.
    AccessCreate {
        kind: AccessKind,
        role: AccessRole,
        ttl_s: u64,
    },
    AccessList,
    AccessRevoke {
        id: String,
    },
    /// What a page has prepared for somebody to sign: an envelope without signatures. Answer:
    /// [`ControlReply::Statement`].
    Draft {
        id: Digest,
    },
    /// The newest events in question. For people. Coordinator, and the same for those below.
    Events(Box<EventsQuery>),
    /// The measures of the last `days` days, 1 to [`DORA_DAYS_MAX`](crate::dora::DORA_DAYS_MAX). For
    /// people.
    Dora {
        scope: Scope,
        days: u32,
    },
    /// Entries of the audit record. For people. Coordinator.
    Audit(Box<AuditQuery>),
    /// What the host that is asked remembers of the audit record. Hosts.
    AuditMemory,
    /// Who is told of what happens, and how that goes. Coordinator, and the same for the next.
    NotifyList,
    /// A message to one receiver that says that it is a test.
    NotifyTest {
        receiver: Name,
    },
}

/// Which events; what is none fits any. Older coordinators know the first four only, and pass over the
/// others: whoever asks for those looks whether the answer fits.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventsQuery {
    /// Only those before this number.
    pub before: Option<u64>,
    /// At most so many, and at most [`EVENTS_MAX`].
    pub limit: u32,
    pub service: Option<Service>,
    pub env: Option<Env>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<RolloutQuery>,
    /// A name or an id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// As events have it: `wave-opened`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Not before this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<UnixTime>,
}

impl EventsQuery {
    /// Whether every event fits.
    pub fn is_of_all(&self) -> bool {
        *self == Self { limit: self.limit, ..Self::default() }
    }
}

/// Which entries of the audit record; what is none fits any.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditQuery {
    /// From the end back, and not from the first entry on.
    pub newest_first: bool,
    /// Only those beyond this number, in that order; none: from the end, or from the first one on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub beyond: Option<u64>,
    /// At most so many, and at most [`PAGE_MAX`](crate::audit::PAGE_MAX).
    pub limit: u32,
    /// All of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actor: Option<String>,
    /// All of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<String>,
    /// Some of the subject, or of what is told of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// Not before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<UnixTime>,
}

/// Some entries of the audit record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditPage {
    pub entries: Vec<Entry>,
    /// [`AuditQuery::beyond`] of the next page, which may be empty and still not the last: a page is what
    /// is found in a bounded time. None: this was the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<u64>,
    /// Where the record ended when this was read.
    pub head: Head,
}

/// Which rollout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum RolloutQuery {
    Id(String),
    Scope(Scope),
    /// The newest of all.
    Latest,
}

/// The answer to a [`ControlRequest`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ControlReply {
    Fleet(Box<FleetReport>),
    Rollout(Box<RolloutReport>),
    Statement {
        #[serde(with = "base64_text")]
        envelope: Vec<u8>,
    },
    Releases(Vec<(Version, Digest)>),
    Scope(Box<ScopeFacts>),
    /// Taken in. `effective`: nothing is missing. `superseded_by`: it is a rollout and came too late,
    /// this newer one is in force. `note`: what else there is to know, approvals missing for instance.
    Submitted {
        id: Digest,
        effective: bool,
        superseded_by: Option<Digest>,
        note: String,
    },
    /// Upload these pieces.
    Send {
        pieces: Vec<u32>,
    },
    Published {
        id: Digest,
    },
    Certificate {
        #[serde(with = "base64_text")]
        der: Vec<u8>,
    },
    /// A new token, shown this once.
    Token {
        text: String,
    },
    Tokens(Vec<TokenReport>),
    Done,
    Refused(Refused),
    Disk(Box<DiskReport>),
    /// [Bounded](crate::checkup::bounded), the worst first.
    Checkup(Vec<Finding>),
    /// In [bounds](crate::evidence::Evidence::bounded); none: nothing was kept. `path`: where it lies on
    /// that host, or would.
    Evidence {
        kept: Option<Box<Evidence>>,
        path: String,
    },
    /// A new link or token, shown this once. `url`: of the pages. `fingerprint`: SHA-256 of the
    /// certificate there, as browsers show it; empty while there is none.
    Access {
        id: String,
        text: String,
        expires: UnixTime,
        url: String,
        fingerprint: String,
    },
    AccessList(Vec<AccessReport>),
    /// The newest first; [`EVENTS_MAX`] at most.
    Events(Vec<EventReport>),
    Dora(Box<DoraReport>),
    Audit(Box<AuditPage>),
    /// [In bounds](Memory::bounded).
    AuditMemory(Box<Memory>),
    /// In the order of the configuration.
    Receivers(Vec<ReceiverReport>),
    /// Whether a test message was taken, and the answer in words.
    Notified {
        taken: bool,
        answer: String,
    },
}

/// Why a request was not done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// For scripts: what kind of no this is.
    pub kind: RefusedKind,
    /// For people: the step, the thing, the cause.
    pub reason: String,
    /// For people: what to do next; may be empty.
    pub next: String,
}

impl Refused {
    /// The answer to a request that this version cannot read; a newer one may have asked.
    pub fn not_understood(error: &CodecError) -> Self {
        Self {
            kind: RefusedKind::Invalid,
            reason: format!("this member does not understand the request: {error}"),
            next: "if it is older than what asks it, upgrade it".to_owned(),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RefusedKind {
    /// This key may not.
    Forbidden,
    NotFound,
    /// The request or what it carries is wrong.
    Invalid,
    /// It clashes with what is there: a version that exists, an epoch that is taken.
    Conflict,
    /// This member cannot do it; the coordinator can.
    NotHere,
    /// Try again later.
    Busy,
}

/// What a plan needs about a scope, as the answerer sees it. All envelopes: the asker verifies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScopeFacts {
    /// The newest effective rollout.
    #[serde(with = "base64_text::option", default)]
    pub rollout: Option<Vec<u8>>,
    /// Where it stands.
    pub report: Option<RolloutReport>,
    /// The release of the last complete rollout.
    #[serde(with = "base64_text::option", default)]
    pub stable: Option<Vec<u8>>,
    /// The hosts of the scope's environment.
    pub hosts: Vec<ScopeHost>,
    /// The highest sequence of a directive about the newest rollout; 0: none.
    pub directive_sequence: u64,
    /// Ids of the effective rollouts of this scope, newest first, with the version each is to bring.
    pub history: Vec<(Digest, Version)>,
    /// Forward rollouts of this scope that were halted or aborted, newest first, with the release each
    /// was to bring: hosts start that one in a retry only.
    pub stopped: Vec<(Digest, Digest)>,
    /// What is in force in the environment: its freeze, and its hosts' holds.
    pub freezes: Vec<FreezeReport>,
    /// Scopes of the fleet that have a rollout; there is room for [`crate::record::SLOTS`].
    pub scopes: u32,
}

/// What a plan needs about a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScopeHost {
    /// Its statement.
    #[serde(with = "base64_text")]
    pub envelope: Vec<u8>,
    /// Whether it may take part in the next rollout.
    #[serde(flatten, with = "fitness_told")]
    pub fitness: Fitness,
    /// The version that it serves. None: that is not known; older members do not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serves: Option<Version>,
}

/// A token, without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenReport {
    pub token: String,
    pub uses_left: u32,
    pub expires: UnixTime,
    pub revoked: bool,
    pub labels: Vec<(Name, Name)>,
    pub created_by: Name,
}

/// A receiver of notifications, without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceiverReport {
    pub name: Name,
    /// `slack`, `pagerduty`, `webhook`.
    pub kind: String,
    /// Scheme and host of where it goes; empty where the URL is a secret.
    pub to: String,
    /// The kinds of events it is told of.
    pub events: Vec<String>,
    /// Of these alone; empty: of any.
    pub services: Vec<Service>,
    pub envs: Vec<Env>,
    /// Messages: which wait, were taken, were given up.
    pub waiting: u64,
    pub delivered: u64,
    pub dropped: u64,
    /// When the last one was taken.
    pub last: Option<UnixTime>,
    /// Why the newest attempt failed; none: it did not.
    pub fault: Option<String>,
    /// When one that failed is tried again.
    pub next_try: Option<UnixTime>,
}

/// [`Fitness::NotAllowed`] is younger than this answer, and a `swell` that does not know the word could
/// not read it: so it travels beside one that leaves the host out, too, whatever the direction.
mod fitness_told {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::Fitness;

    #[derive(Serialize, Deserialize)]
    struct Told {
        fitness: Fitness,
        #[serde(default)]
        not_allowed: bool,
    }

    pub(super) fn serialize<S: Serializer>(
        fitness: &Fitness,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let not_allowed = *fitness == Fitness::NotAllowed;
        let fitness = if not_allowed { Fitness::Silent } else { *fitness };
        Told { fitness, not_allowed }.serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Fitness, D::Error> {
        let Told { fitness, not_allowed } = Told::deserialize(deserializer)?;
        Ok(if not_allowed { Fitness::NotAllowed } else { fitness })
    }
}

/// Bytes in JSON: base64.
mod base64_text {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<u8>, D::Error> {
        decode(&String::deserialize(deserializer)?)
    }

    fn decode<E: serde::de::Error>(text: &str) -> Result<Vec<u8>, E> {
        STANDARD.decode(text).map_err(|error| E::custom(format_args!("bytes in base64: {error}")))
    }

    /// The same of what may not be there.
    pub(super) mod option {
        use base64::Engine as _;

        use super::{Deserialize, Deserializer, STANDARD, Serializer, decode};

        pub(in super::super) fn serialize<S: Serializer>(
            bytes: &Option<Vec<u8>>,
            serializer: S,
        ) -> Result<S::Ok, S::Error> {
            match bytes {
                Some(bytes) => serializer.serialize_some(&STANDARD.encode(bytes)),
                None => serializer.serialize_none(),
            }
        }

        pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
            deserializer: D,
        ) -> Result<Option<Vec<u8>>, D::Error> {
            let text = Option::<String>::deserialize(deserializer)?;
            text.map(|text| decode(&text)).transpose()
        }
    }
}
