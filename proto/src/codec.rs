//! Frames, in two forms. On a stream a frame is preceded by its length as four big-endian bytes. The
//! protocols' ALPN names carry their versions.
//!
//! **Join, gossip, swarm**: one version byte, then bincode. The only file that names bincode. Never for
//! anything that is stored or signed: bincode has no evolution and is unmaintained (RUSTSEC-2025-0141).
//! A change of such a message is another version of its protocol; the byte guards against a mix-up
//! inside one.
//!
//! **Control**: JSON, so that members and `swell` of neighbouring versions talk: a field that the reader
//! does not know is passed over, one that the writer did not know has its default.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Version of the encoding.
const VERSION: u8 = 1;
/// Longest frame, in bytes, that any protocol uses.
pub const FRAME_BYTES_MAX: usize = 16 << 20;

/// Why bytes are no frame, or a value fits in none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    #[error("frame of {got} bytes, at most {max} are allowed")]
    TooLong { got: usize, max: usize },
    #[error("encoding version {got}, this version speaks {VERSION}")]
    Version { got: u8 },
    #[error("empty frame")]
    Empty,
    #[error("malformed frame: {0}")]
    Malformed(String),
}

fn config() -> impl bincode::config::Config {
    bincode::config::standard().with_limit::<FRAME_BYTES_MAX>()
}

/// The frame of `value`, at most `bytes_max` bytes.
///
/// # Errors
///
/// [`CodecError::TooLong`], or [`CodecError::Malformed`] for a type that cannot be encoded.
pub fn encode<T: Serialize>(value: &T, bytes_max: usize) -> Result<Vec<u8>, CodecError> {
    let mut frame = vec![VERSION];
    bincode::serde::encode_into_std_write(value, &mut frame, config())
        .map_err(|error| CodecError::Malformed(error.to_string()))?;
    match frame.len() {
        got if got > bytes_max => Err(CodecError::TooLong { got, max: bytes_max }),
        _ => Ok(frame),
    }
}

/// The value in `frame`, which must be used up.
///
/// # Errors
///
/// [`CodecError`]: too long (seen first), another version, malformed, bytes left over.
pub fn decode<T: DeserializeOwned>(frame: &[u8], bytes_max: usize) -> Result<T, CodecError> {
    if frame.len() > bytes_max {
        return Err(CodecError::TooLong { got: frame.len(), max: bytes_max });
    }
    let (version, body) = frame.split_first().ok_or(CodecError::Empty)?;
    if *version != VERSION {
        return Err(CodecError::Version { got: *version });
    }
    let (value, used) = bincode::serde::decode_from_slice(body, config())
        .map_err(|error| CodecError::Malformed(error.to_string()))?;
    if used != body.len() {
        return Err(CodecError::Malformed(format!("{} bytes left over", body.len() - used)));
    }
    Ok(value)
}

/// The frame of a control message, at most `bytes_max` bytes.
///
/// # Errors
///
/// As [`encode`].
pub fn encode_json<T: Serialize>(value: &T, bytes_max: usize) -> Result<Vec<u8>, CodecError> {
    let frame =
        serde_json::to_vec(value).map_err(|error| CodecError::Malformed(error.to_string()))?;
    match frame.len() {
        got if got > bytes_max => Err(CodecError::TooLong { got, max: bytes_max }),
        _ => Ok(frame),
    }
}

/// The control message in `frame`, which must be used up.
///
/// # Errors
///
/// As [`decode`].
pub fn decode_json<T: DeserializeOwned>(frame: &[u8], bytes_max: usize) -> Result<T, CodecError> {
    match frame.len() {
        0 => Err(CodecError::Empty),
        got if got > bytes_max => Err(CodecError::TooLong { got, max: bytes_max }),
        _ => serde_json::from_slice(frame)
            .map_err(|error| CodecError::Malformed(shortened(&error.to_string()))),
    }
}

/// An error that names what it found, which may be long and is the sender's.
fn shortened(error: &str) -> String {
    const CHARS: usize = 200;
    match error.char_indices().nth(CHARS) {
        Some((end, _)) => format!("{}...", &error[..end]),
        None => error.to_owned(),
    }
}
