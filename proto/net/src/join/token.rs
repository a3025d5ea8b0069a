//! The text an operator carries from the coordinator to a new host.
//!
//! `gsw1_`, then base64url without padding of: address family (4 or 6), address, port (big endian),
//! coordinator's key (32 bytes), root's digest (32), token (8), secret (16), and the first four bytes
//! of the BLAKE3 of all that, so that a slip of the hand is told from a wrong key. One form only.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use proto::{Digest, PublicKey};

/// What every token of this form starts with.
const PREFIX: &str = "gsw1_";
/// Bytes of the sum at the end.
const SUM_BYTES: usize = 4;
/// Longest text that is looked at, in bytes; an IPv6 token has 154.
const TEXT_BYTES_MAX: usize = 160;

/// All that a host needs to join: where, whom to trust, and the right to.
///
/// [`Display`](fmt::Display) is the text form and shows the secret; `Debug` does not.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// Where the coordinator answers.
    pub coordinator: SocketAddr,
    /// The key by which it is proven.
    pub key: PublicKey,
    /// Id of the first root of the fleet.
    pub root: Digest,
    /// Which token, in the coordinator's records.
    pub token: [u8; 8],
    pub secret: [u8; 16],
}

/// A text that is no token. It does not quote the text, which may be most of a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParseTokenError {
    #[error("a join token starts with `{PREFIX}`")]
    Prefix,
    #[error("the join token is cut off, too long, or mistyped")]
    Form,
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = Vec::with_capacity(112);
        match self.coordinator.ip() {
            IpAddr::V4(ip) => {
                bytes.push(4);
                bytes.extend(ip.octets());
            }
            IpAddr::V6(ip) => {
                bytes.push(6);
                bytes.extend(ip.octets());
            }
        }
        bytes.extend(self.coordinator.port().to_be_bytes());
        bytes.extend(self.key.as_bytes());
        bytes.extend(self.root.as_bytes());
        bytes.extend(self.token);
        bytes.extend(self.secret);
        let sum = sum(&bytes);
        bytes.extend(sum);
        write!(f, "{PREFIX}{}", URL_SAFE_NO_PAD.encode(&bytes))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { coordinator, key, root, token, secret: _ } = self;
        write!(f, "Token({token:02x?} of {key} at {coordinator}, root {root})")
    }
}

impl FromStr for Token {
    type Err = ParseTokenError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let body = text.strip_prefix(PREFIX).ok_or(ParseTokenError::Prefix)?;
        if text.len() > TEXT_BYTES_MAX {
            return Err(ParseTokenError::Form);
        }
        let bytes = URL_SAFE_NO_PAD.decode(body).map_err(|_| ParseTokenError::Form)?;
        parse(&bytes).ok_or(ParseTokenError::Form)
    }
}

fn parse(bytes: &[u8]) -> Option<Token> {
    let (mut rest, given) = bytes.split_last_chunk::<SUM_BYTES>()?;
    if sum(rest) != *given {
        return None;
    }
    let [family] = take(&mut rest)?;
    let ip = match family {
        4 => IpAddr::from(take::<4>(&mut rest)?),
        6 => IpAddr::from(take::<16>(&mut rest)?),
        _ => return None,
    };
    let port = u16::from_be_bytes(take(&mut rest)?);
    let token = Token {
        coordinator: SocketAddr::new(ip, port),
        key: PublicKey::from_bytes(&take(&mut rest)?)?,
        root: Digest::from_computed(take(&mut rest)?),
        token: take(&mut rest)?,
        secret: take(&mut rest)?,
    };
    rest.is_empty().then_some(token)
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (head, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*head)
}

fn sum(bytes: &[u8]) -> [u8; SUM_BYTES] {
    let mut sum = [0; SUM_BYTES];
    sum.copy_from_slice(&blake3::hash(bytes).as_bytes()[..SUM_BYTES]);
    sum
}
