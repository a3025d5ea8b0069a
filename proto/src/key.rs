//! Public keys and detached signatures: ed25519, strict verification.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::{Signer as _, SigningKey, VerifyingKey};

use crate::id::{ParseIdError, serde_as_text};

/// An ed25519 public key that is a valid, not small-order point.
///
/// Text form: 43 characters of base64url.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PublicKey(VerifyingKey);

impl PublicKey {
    /// The key in `bytes`, or `None` if they are no usable key.
    pub fn from_bytes(bytes: &[u8; 32]) -> Option<Self> {
        VerifyingKey::from_bytes(bytes).ok().filter(|key| !key.is_weak()).map(Self)
    }

    pub fn of(key: &SigningKey) -> Self {
        Self(key.verifying_key())
    }

    pub fn as_bytes(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }

    /// Whether `signature` over `message` is this key's; strict, so a signature has one form only.
    pub fn verifies(&self, message: &[u8], signature: &Signature) -> bool {
        self.0.verify_strict(message, &signature.0).is_ok()
    }
}

impl Ord for PublicKey {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.as_bytes().cmp(other.as_bytes())
    }
}

impl PartialOrd for PublicKey {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(self.as_bytes()))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl FromStr for PublicKey {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        decode_exactly(text)
            .and_then(|bytes| Self::from_bytes(&bytes))
            .ok_or_else(|| ParseIdError::new("public key", "an ed25519 key in base64url", text))
    }
}

serde_as_text!(PublicKey, |key| key.to_string());

/// A detached ed25519 signature; text form: 86 characters of base64url.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Signature(ed25519_dalek::Signature);

impl Signature {
    pub fn of(key: &SigningKey, message: &[u8]) -> Self {
        Self(key.sign(message))
    }

    pub fn from_bytes(bytes: &[u8; 64]) -> Self {
        Self(ed25519_dalek::Signature::from_bytes(bytes))
    }

    pub fn to_bytes(self) -> [u8; 64] {
        self.0.to_bytes()
    }
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(self.to_bytes()))
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl FromStr for Signature {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        decode_exactly(text)
            .map(|bytes| Self::from_bytes(&bytes))
            .ok_or_else(|| ParseIdError::new("signature", "64 bytes in base64url", text))
    }
}

serde_as_text!(Signature, |signature| signature.to_string());

/// Longest key file, in bytes.
pub const SECRET_BYTES_MAX: u64 = 256;
/// What a key file starts with, so that people and scanners know one when they see it.
const SECRET_PREFIX: &str = "gsw-secret-1 ";

/// The content of a key file: one line, prefix and the 32 secret bytes in base64url.
pub fn secret_to_text(key: &SigningKey) -> String {
    format!("{SECRET_PREFIX}{}\n", URL_SAFE_NO_PAD.encode(key.as_bytes()))
}

/// The key in the content of a key file, `None` for anything else: no error quotes a secret.
pub fn secret_from_text(text: &[u8]) -> Option<SigningKey> {
    let text = std::str::from_utf8(text).ok()?.trim_end();
    let bytes = decode_exactly::<32>(text.strip_prefix(SECRET_PREFIX)?)?;
    Some(SigningKey::from_bytes(&bytes))
}

fn decode_exactly<const N: usize>(text: &str) -> Option<[u8; N]> {
    let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
    <[u8; N]>::try_from(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_files_hold_one_line_that_is_read_back_and_nothing_else_is() {
        let key = SigningKey::from_bytes(&[7; 32]);
        let text = secret_to_text(&key);
        assert_eq!(text, "gsw-secret-1 BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc\n");
        assert!(text.len() as u64 <= SECRET_BYTES_MAX);
        assert_eq!(secret_from_text(text.as_bytes()), Some(key));
        for bad in ["", "gsw-secret-1 ", "BwcH", &text[..40], &text.replace("-1 ", "-2 ")] {
            assert_eq!(secret_from_text(bad.as_bytes()), None, "{bad:?}");
        }
    }
}
