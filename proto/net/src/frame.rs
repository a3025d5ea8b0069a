//! Values and bytes on streams, bounded in size and in time.
//!
//! A frame is its length as four big-endian bytes, then [`proto::codec`]: JSON on `control`, bincode on
//! the others. A length beyond the bound is refused before anything is allocated for it.

use std::time::Duration;

use proto::codec::{self, CodecError};
use quinn::{ReadExactError, RecvStream, SendStream};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time;

/// Why a frame or bytes did not get through. The stream is of no use afterwards.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The peer ended the stream where the next frame would have started: no failure where the
    /// protocol lets it.
    #[error("the stream ended")]
    Ended,
    #[error("the stream ended inside a frame")]
    Torn,
    #[error("a frame of {got} bytes, at most {max} are allowed")]
    TooLong { got: usize, max: usize },
    #[error(transparent)]
    Codec(#[from] CodecError),
    #[error("cannot read from the stream")]
    Read(#[source] quinn::ReadError),
    #[error("cannot write to the stream")]
    Write(#[source] quinn::WriteError),
    #[error("nothing within {within_ms} ms")]
    Timeout { within_ms: u128 },
}

impl FrameError {
    /// Whether the whole connection is gone, and not this stream alone.
    pub const fn is_lost(&self) -> bool {
        use quinn::{ReadError, WriteError};
        matches!(
            self,
            Self::Read(ReadError::ConnectionLost(_)) | Self::Write(WriteError::ConnectionLost(_))
        )
    }
}

/// Sends one frame of at most `bytes_max` bytes, its length not counted.
///
/// # Errors
///
/// [`FrameError`]: too long, the stream or connection is gone, the peer does not take it in time.
pub async fn send<T: Serialize + Sync>(
    stream: &mut SendStream,
    value: &T,
    bytes_max: usize,
    within: Duration,
) -> Result<(), FrameError> {
    send_body(stream, &codec::encode(value, bytes_max)?, bytes_max, within).await
}

/// Receives one frame of at most `bytes_max` bytes, its length not counted.
///
/// # Errors
///
/// [`FrameError`]: too long (seen first), malformed, the stream ended or is gone, not in time.
pub async fn recv<T: DeserializeOwned>(
    stream: &mut RecvStream,
    bytes_max: usize,
    within: Duration,
) -> Result<T, FrameError> {
    let body = recv_body(stream, bytes_max, within).await?;
    Ok(codec::decode(&body, bytes_max)?)
}

/// As [`send`], a message of `control`.
///
/// # Errors
///
/// As [`send`].
pub async fn send_json<T: Serialize + Sync>(
    stream: &mut SendStream,
    value: &T,
    bytes_max: usize,
    within: Duration,
) -> Result<(), FrameError> {
    send_body(stream, &codec::encode_json(value, bytes_max)?, bytes_max, within).await
}

/// As [`recv`], a message of `control`.
///
/// # Errors
///
/// As [`recv`].
pub async fn recv_json<T: DeserializeOwned>(
    stream: &mut RecvStream,
    bytes_max: usize,
    within: Duration,
) -> Result<T, FrameError> {
    let body = recv_body(stream, bytes_max, within).await?;
    Ok(codec::decode_json(&body, bytes_max)?)
}

async fn send_body(
    stream: &mut SendStream,
    body: &[u8],
    bytes_max: usize,
    within: Duration,
) -> Result<(), FrameError> {
    let length = u32::try_from(body.len())
        .map_err(|_| FrameError::TooLong { got: body.len(), max: bytes_max })?;
    let mut frame = Vec::with_capacity(4 + body.len());
    frame.extend_from_slice(&length.to_be_bytes());
    frame.extend_from_slice(body);
    send_bytes(stream, &frame, within).await
}

async fn recv_body(
    stream: &mut RecvStream,
    bytes_max: usize,
    within: Duration,
) -> Result<Vec<u8>, FrameError> {
    timed(within, async {
        let mut length = [0; 4];
        stream.read_exact(&mut length).await.map_err(|error| match error {
            ReadExactError::FinishedEarly(0) => FrameError::Ended,
            ReadExactError::FinishedEarly(_) => FrameError::Torn,
            ReadExactError::ReadError(error) => FrameError::Read(error),
        })?;
        let length = u32::from_be_bytes(length) as usize;
        if length > bytes_max {
            return Err(FrameError::TooLong { got: length, max: bytes_max });
        }
        read_exactly(stream, length).await
    })
    .await
}

/// Sends bytes without a frame; the receiver knows how many there are.
///
/// # Errors
///
/// [`FrameError`]: the stream or connection is gone, the peer does not take them in time.
pub async fn send_bytes(
    stream: &mut SendStream,
    bytes: &[u8],
    within: Duration,
) -> Result<(), FrameError> {
    timed(within, async { stream.write_all(bytes).await.map_err(FrameError::Write) }).await
}

/// Receives exactly `count` bytes. The caller bounds `count`: it is allocated at once.
///
/// # Errors
///
/// [`FrameError`]: the stream ended or is gone, not in time.
pub async fn recv_bytes(
    stream: &mut RecvStream,
    count: usize,
    within: Duration,
) -> Result<Vec<u8>, FrameError> {
    timed(within, read_exactly(stream, count)).await
}

async fn read_exactly(stream: &mut RecvStream, count: usize) -> Result<Vec<u8>, FrameError> {
    let mut bytes = vec![0; count];
    stream.read_exact(&mut bytes).await.map_err(|error| match error {
        ReadExactError::FinishedEarly(_) => FrameError::Torn,
        ReadExactError::ReadError(error) => FrameError::Read(error),
    })?;
    Ok(bytes)
}

async fn timed<T>(
    within: Duration,
    step: impl Future<Output = Result<T, FrameError>>,
) -> Result<T, FrameError> {
    let late = |_| FrameError::Timeout { within_ms: within.as_millis() };
    time::timeout(within, step).await.map_err(late)?
}
