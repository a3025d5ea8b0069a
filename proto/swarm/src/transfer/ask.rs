//! One question on a stream of its own, and its answer: bounded in size before anything is
//! allocated, and in time.

use std::net::SocketAddr;
use std::time::Duration;

use net::frame::{self, FrameError};
use net::{CloseCode, ConnectError, Connection, ConnectionLost, Pool, RecvStream, SendStream};
use proto::artifact::Piece;
use proto::patch::{PATCHES_MAX, PatchOffer};
use proto::slices::{SLICE_BYTES, SUMS_BYTES_MAX, Slices};
use proto::wire::{
    Found, Have, INDEX_BYTES_MAX, INDEX_PAGE_MAX, PATCHES_BYTES_MAX, Part, SWARM_REQUEST_BYTES_MAX,
    SwarmRequest, Wanted,
};
use proto::{Digest, HostId};
use tokio::time::Instant;

use super::coming::{Comings, Passage};
use super::{ANSWER_TIMEOUT, HAVE_BYTES_MAX, ROOTS_BYTES_MAX, list_timeout};
use crate::plan::{ASK_MS_MAX, PROGRESS_BYTES, What, comes_soon};

/// How often it is told that bytes come: rarely beside the deadline that this moves.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// Longest wait for any part of a piece: whoever asked gives it up long before, unless it knows that the
/// line is that slow.
const PATIENCE: Duration = Duration::from_millis(ASK_MS_MAX);

/// How long the end of a stream is waited for once all its bytes are here.
const END_WITHIN: Duration = Duration::from_secs(2);

/// A member and where it is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Source {
    pub(crate) host: HostId,
    pub(crate) address: SocketAddr,
}

/// Why there is no answer, or none to go by.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AskError {
    #[error("cannot reach it")]
    Connect(#[from] ConnectError),
    #[error("the connection is lost")]
    Lost(#[from] ConnectionLost),
    #[error("it does not answer as agreed")]
    Frame(#[from] FrameError),
    #[error("it answers with {got} bytes, at most {max} are read")]
    TooLong { got: u64, max: u64 },
    #[error("it answers with other content than asked for")]
    OtherContent,
    #[error("it lists more than {max} ids, or one twice")]
    BadIndex { max: usize },
}

impl AskError {
    /// Whether the peer could not be spoken to at all, as opposed to one question that failed.
    pub(crate) fn is_unreachable(&self) -> bool {
        match self {
            Self::Connect(_) | Self::Lost(_) => true,
            Self::Frame(error) => error.is_lost(),
            _ => false,
        }
    }

    /// Whether the answer did not come in time.
    pub(crate) fn is_late(&self) -> bool {
        matches!(self, Self::Frame(FrameError::Timeout { .. }))
    }
}

/// What an answerer has to say to a question for content.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Content(Vec<u8>),
    No,
    Busy,
}

/// What an answerer has to say to a question for a piece.
pub(crate) enum PieceAnswer {
    Piece(u32, Content),
    No,
    Busy,
}

/// The bytes of a piece.
pub(crate) enum Content {
    /// Of which none is verified.
    Whole(Vec<u8>),
    /// All of them verified; others are being given them for as long as this is kept.
    Passage(Passage),
}

/// What comes of an answer before its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Coming {
    /// The bytes of this piece follow.
    Begun { piece: u32, round_trip_ms: u64 },
    /// At least [`PROGRESS_BYTES`] more of them have come; told once in [`TELL_EVERY`].
    More,
}

/// Asks for content of at most `bytes_max` bytes.
pub(crate) async fn content(
    pool: &Pool,
    of: &Source,
    request: &SwarmRequest,
    bytes_max: u64,
) -> Result<Answer, AskError> {
    let connection = pool.get(of.host.clone(), of.address).await?;
    let (mut send, mut recv) = on(&connection, request).await?;
    // Nothing more to say; an error shows in the answer.
    let _ = send.finish();
    let found = frame::recv(&mut recv, 64, ANSWER_TIMEOUT);
    match answered(&connection, ANSWER_TIMEOUT, found).await? {
        Found::No => Ok(Answer::No),
        Found::Busy => Ok(Answer::Busy),
        Found::Picked { .. } => Err(AskError::OtherContent),
        Found::Yes { bytes } if bytes > bytes_max => {
            Err(AskError::TooLong { got: bytes, max: bytes_max })
        }
        Found::Yes { bytes } => {
            let count = usize::try_from(bytes)
                .map_err(|_| AskError::TooLong { got: bytes, max: bytes_max })?;
            // Not all at once: somebody may say so and send nothing.
            let mut content = Vec::new();
            while content.len() < count {
                let more = (count - content.len()).min(PROGRESS_BYTES);
                let more = frame::recv_bytes(&mut recv, more, ANSWER_TIMEOUT);
                content.append(&mut answered(&connection, ANSWER_TIMEOUT, more).await?);
            }
            Ok(Answer::Content(content))
        }
    }
}

/// A piece that is asked for, or one of several.
pub(crate) struct Wish<'a> {
    pub(crate) artifact: Digest,
    /// How many there are.
    pub(crate) pieces: u32,
    pub(crate) what: &'a What,
    /// Length and digest of a piece; none of what is no piece.
    pub(crate) piece_of: &'a (dyn Fn(u32) -> Option<Piece> + Sync),
    /// What comes faster than that, in ms, is passed on while it comes.
    pub(crate) slow_ms: u64,
    pub(crate) comings: &'a Comings,
}

/// Asks for a piece. `comes` hears of what comes, and may make it wait.
pub(crate) async fn piece<F: Future<Output = ()>>(
    pool: &Pool,
    of: &Source,
    wish: &Wish<'_>,
    mut comes: impl FnMut(Coming) -> F,
) -> Result<PieceAnswer, AskError> {
    let connection = pool.get(of.host.clone(), of.address).await?;
    match sliced(&connection, wish, &mut comes).await {
        // It is of an earlier version.
        Err(AskError::Frame(FrameError::Ended)) => unsliced(&connection, wish, &mut comes).await,
        answer => answer,
    }
}

/// The same of who can prove each slice of it.
async fn sliced<F: Future<Output = ()>>(
    connection: &Connection,
    wish: &Wish<'_>,
    comes: &mut impl FnMut(Coming) -> F,
) -> Result<PieceAnswer, AskError> {
    let of = match wish.what.clone() {
        What::Piece(index) => Wanted::Piece(index),
        What::New(pieces) => Wanted::New(pieces),
    };
    let request = SwarmRequest::Sliced { artifact: wish.artifact, of };
    let (mut recv, index, piece) = match begin(connection, wish, &request).await? {
        Begun::Comes(recv, index, piece) => (recv, index, piece),
        Begun::Not(answer) => return Ok(answer),
    };
    let sums = frame::recv(&mut recv, SUMS_BYTES_MAX, PATIENCE);
    let sums = answered(connection, PATIENCE, sums).await?;
    let slices = Slices::of_piece(&piece, sums).ok_or(AskError::OtherContent)?;
    let (bytes, place) = (slices.bytes(), (index, wish.pieces));
    let mut passage = Passage::new(wish.comings, wish.artifact, place, slices);
    let mut telling = Telling::begin(connection, index, comes).await;
    let begun = Instant::now();
    while passage.bytes() < bytes {
        let slice = (bytes - passage.bytes()).min(SLICE_BYTES);
        let slice = frame::recv_bytes(&mut recv, slice, PATIENCE);
        if !passage.add(&answered(connection, PATIENCE, slice).await?) {
            return Err(AskError::OtherContent);
        }
        let so_far_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        if comes_soon(so_far_ms, passage.bytes(), bytes, wish.slow_ms) {
            passage.open();
        }
        telling.more(comes).await;
    }
    read_to_end(recv);
    Ok(PieceAnswer::Piece(index, Content::Passage(passage)))
}

/// The same of who gives a piece as a whole.
async fn unsliced<F: Future<Output = ()>>(
    connection: &Connection,
    wish: &Wish<'_>,
    comes: &mut impl FnMut(Coming) -> F,
) -> Result<PieceAnswer, AskError> {
    let artifact = wish.artifact;
    let request = match wish.what.clone() {
        What::Piece(index) => SwarmRequest::Piece { artifact, index },
        What::New(pieces) => SwarmRequest::New { artifact, pieces },
    };
    let (mut recv, index, piece) = match begin(connection, wish, &request).await? {
        Begun::Comes(recv, index, piece) => (recv, index, piece),
        Begun::Not(answer) => return Ok(answer),
    };
    let bytes = usize::try_from(piece.bytes).unwrap_or(usize::MAX);
    let mut telling = Telling::begin(connection, index, comes).await;
    let mut content = Vec::with_capacity(bytes);
    while content.len() < bytes {
        let more = (bytes - content.len()).min(PROGRESS_BYTES);
        let more = frame::recv_bytes(&mut recv, more, PATIENCE);
        content.append(&mut answered(connection, PATIENCE, more).await?);
        telling.more(comes).await;
    }
    read_to_end(recv);
    Ok(PieceAnswer::Piece(index, Content::Whole(content)))
}

/// How an answer to a question for a piece begins.
enum Begun {
    /// With this piece, whose bytes follow.
    Comes(RecvStream, u32, Piece),
    Not(PieceAnswer),
}

async fn begin(
    connection: &Connection,
    wish: &Wish<'_>,
    request: &SwarmRequest,
) -> Result<Begun, AskError> {
    let (mut send, mut recv) = on(connection, request).await?;
    // Nothing more to say; an error shows in the answer.
    let _ = send.finish();
    let found = frame::recv(&mut recv, 64, PATIENCE);
    let (index, bytes) = match (answered(connection, PATIENCE, found).await?, wish.what) {
        (Found::No, _) => return Ok(Begun::Not(PieceAnswer::No)),
        (Found::Busy, _) => return Ok(Begun::Not(PieceAnswer::Busy)),
        (Found::Yes { bytes }, What::Piece(piece)) => (*piece, bytes),
        (Found::Picked { piece, bytes }, What::New(named)) if named.contains(&piece) => {
            (piece, bytes)
        }
        _ => return Err(AskError::OtherContent),
    };
    match (wish.piece_of)(index) {
        Some(piece) if u64::from(piece.bytes) == bytes => Ok(Begun::Comes(recv, index, piece)),
        _ => Err(AskError::OtherContent),
    }
}

/// Tells of what comes, now and then.
struct Telling {
    next: Instant,
}

impl Telling {
    async fn begin<F: Future<Output = ()>>(
        connection: &Connection,
        piece: u32,
        comes: &mut impl FnMut(Coming) -> F,
    ) -> Self {
        comes(Coming::Begun { piece, round_trip_ms: connection.round_trip_ms() }).await;
        Self { next: Instant::now() + TELL_EVERY }
    }

    async fn more<F: Future<Output = ()>>(&mut self, comes: &mut impl FnMut(Coming) -> F) {
        if Instant::now() >= self.next {
            comes(Coming::More).await;
            self.next = Instant::now() + TELL_EVERY;
        }
    }
}

/// To the end of the stream, or the giver would not know that all of it has arrived. That comes behind
/// what others are sent meanwhile, and the piece need not wait for it.
fn read_to_end(mut recv: RecvStream) {
    tokio::spawn(async move { tokio::time::timeout(END_WITHIN, recv.read(&mut [0])).await });
}

/// Asks for the roots after a version.
pub(crate) async fn roots(pool: &Pool, of: &Source, after: u32) -> Result<Vec<Vec<u8>>, AskError> {
    let connection = pool.get(of.host.clone(), of.address).await?;
    let (mut send, mut recv) = on(&connection, &SwarmRequest::Roots { after }).await?;
    let _ = send.finish();
    let within = list_timeout(ROOTS_BYTES_MAX);
    let roots = frame::recv(&mut recv, ROOTS_BYTES_MAX, within);
    Ok(answered(&connection, within, roots).await?)
}

/// Asks for the patches to an artifact that a member holds.
pub(crate) async fn patches(
    pool: &Pool,
    of: &Source,
    artifact: Digest,
) -> Result<Vec<PatchOffer>, AskError> {
    let connection = pool.get(of.host.clone(), of.address).await?;
    let (mut send, mut recv) = on(&connection, &SwarmRequest::Patches { artifact }).await?;
    let _ = send.finish();
    let offers = frame::recv(&mut recv, PATCHES_BYTES_MAX, ANSWER_TIMEOUT);
    let offers: Vec<PatchOffer> = answered(&connection, ANSWER_TIMEOUT, offers).await?;
    match offers.len() > PATCHES_MAX {
        true => Err(AskError::OtherContent),
        false => Ok(offers),
    }
}

/// Asks for the ids of all that a member holds of `part`, page by page: at most `ids_max`.
pub(crate) async fn ids(
    pool: &Pool,
    of: &Source,
    part: Part,
    ids_max: usize,
) -> Result<Vec<Digest>, AskError> {
    let mut ids: Vec<Digest> = Vec::new();
    loop {
        let connection = pool.get(of.host.clone(), of.address).await?;
        let request = SwarmRequest::Index { part, after: ids.last().copied() };
        let (mut send, mut recv) = on(&connection, &request).await?;
        let _ = send.finish();
        let within = list_timeout(INDEX_BYTES_MAX);
        let page = frame::recv(&mut recv, INDEX_BYTES_MAX, within);
        let page: Vec<Digest> = answered(&connection, within, page).await?;
        let is_last = page.len() < INDEX_PAGE_MAX;
        // In order and without end would be one way to keep the asker busy for ever.
        let rises = ids.last().into_iter().chain(&page).is_sorted_by(|one, next| one < next);
        if !rises || ids.len() + page.len() > ids_max {
            return Err(AskError::BadIndex { max: ids_max });
        }
        ids.extend(page);
        if is_last {
            return Ok(ids);
        }
    }
}

/// A subscription to what a member holds of an artifact; ends when it is dropped.
pub(crate) struct Holdings {
    /// Kept open: its end is the asker's way to end the subscription.
    _send: SendStream,
    recv: RecvStream,
    connection: Connection,
}

impl Holdings {
    pub(crate) async fn ask(pool: &Pool, of: &Source, artifact: Digest) -> Result<Self, AskError> {
        let connection = pool.get(of.host.clone(), of.address).await?;
        let (send, recv) = on(&connection, &SwarmRequest::Have { artifact }).await?;
        Ok(Self { _send: send, recv, connection })
    }

    /// The next bitmap; `None` when there will be no more.
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<u8>>, AskError> {
        // As long as a connection may be idle: the answerer speaks when there is something new.
        let within = Duration::from_secs(300);
        match frame::recv::<Have>(&mut self.recv, HAVE_BYTES_MAX, within).await {
            Ok(have) => Ok(Some(have.bitmap)),
            Err(FrameError::Ended) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Waits until the connection is gone.
    pub(crate) async fn lost(&self) -> ConnectionLost {
        self.connection.closed().await
    }
}

/// Waits for a part of an answer, or for a question to be sent, for so long in all.
///
/// Of a peer that is gone, or as good as gone, nothing comes at all for [`ANSWER_TIMEOUT`]: its connection
/// is closed, so that the next question dials anew instead of being fed to the dead one until it idles
/// out. Where others of its answers come meanwhile the line is slow, and they are not cut for this one.
async fn answered<T>(
    connection: &Connection,
    within: Duration,
    part: impl Future<Output = Result<T, FrameError>>,
) -> Result<T, FrameError> {
    let late = FrameError::Timeout { within_ms: within.as_millis() };
    let end = Instant::now() + within;
    tokio::pin!(part);
    loop {
        let (now, heard) = (Instant::now(), connection.heard());
        let look_at = (now + ANSWER_TIMEOUT).min(end);
        // It may say itself that it is late.
        match tokio::time::timeout_at(look_at, &mut part).await {
            Ok(Err(FrameError::Timeout { .. })) | Err(_) => {}
            Ok(done) => return done,
        }
        if connection.heard() == heard {
            connection.close(CloseCode::Unresponsive, "no answer in time");
            return Err(late);
        }
        if Instant::now() >= end {
            return Err(late);
        }
    }
}

async fn on(
    connection: &Connection,
    request: &SwarmRequest,
) -> Result<(SendStream, RecvStream), AskError> {
    let opened = tokio::time::timeout(ANSWER_TIMEOUT, connection.open_bi());
    let opened = async {
        let within_ms = ANSWER_TIMEOUT.as_millis();
        opened.await.map_err(|_| FrameError::Timeout { within_ms })
    };
    let (mut send, recv) = answered(connection, ANSWER_TIMEOUT, opened).await??;
    let sent = frame::send(&mut send, request, SWARM_REQUEST_BYTES_MAX, ANSWER_TIMEOUT);
    answered(connection, ANSWER_TIMEOUT, sent).await?;
    Ok((send, recv))
}
