//! A join token's two halves: the id, which may be shown, and the secret, which is kept as a hash.

use std::fmt;

use proto::id::Digest;

/// Which token. Shown as 16 hex digits; no secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct TokenId([u8; 8]);

/// What proves a token. Never logged, never stored.
#[derive(Clone, Copy)]
pub struct Secret([u8; 16]);

impl TokenId {
    pub const fn from_bytes(bytes: [u8; 8]) -> Self {
        Self(bytes)
    }

    pub const fn to_bytes(self) -> [u8; 8] {
        self.0
    }

    /// The id in its text form, `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let lower_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if text.len() != 16 || !text.bytes().all(lower_hex) {
            return None;
        }
        u64::from_str_radix(text, 16).ok().map(|bits| Self(bits.to_be_bytes()))
    }
}

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", u64::from_be_bytes(self.0))
    }
}

impl Secret {
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    pub const fn to_bytes(self) -> [u8; 16] {
        self.0
    }

    /// What is stored of it. One hash is enough: it is 128 random bits and nobody's password.
    pub fn hash(&self, token: &TokenId) -> Digest {
        Digest::from_computed(*self.blake3(token).as_bytes())
    }

    /// Whether `hash` is this secret's; takes the same time wherever they differ.
    pub fn is(&self, token: &TokenId, hash: &Digest) -> bool {
        self.blake3(token) == blake3::Hash::from_bytes(*hash.as_bytes())
    }

    fn blake3(self, token: &TokenId) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"groundswell token 1\0");
        hasher.update(&token.0);
        hasher.update(&self.0);
        hasher.finalize()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_as_they_are_shown() {
        let id = TokenId::from_bytes([0, 1, 2, 3, 0xfc, 0xfd, 0xfe, 0xff]);
        assert_eq!(id.to_string(), "00010203fcfdfeff");
        assert_eq!(TokenId::parse("00010203fcfdfeff"), Some(id));
        for bad in
            ["", "00010203fcfdfef", "00010203fcfdfefff", "00010203FCFDFEFF", "+0010203fcfdfeff"]
        {
            assert_eq!(TokenId::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_secret_is_known_by_its_hash_and_never_shown() {
        let (one, two) = (TokenId::from_bytes([1; 8]), TokenId::from_bytes([2; 8]));
        let secret = Secret::from_bytes([7; 16]);
        assert!(secret.is(&one, &secret.hash(&one)));
        assert!(!secret.is(&two, &secret.hash(&one)), "a hash is good for one token only");
        assert!(!Secret::from_bytes([8; 16]).is(&one, &secret.hash(&one)));
        assert_eq!(format!("{secret:?}"), "Secret(..)");
    }
}
