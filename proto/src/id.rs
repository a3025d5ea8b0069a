//! Ids and names: made one way, shown two ways, parsed strictly.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::key::PublicKey;

/// A received text that is not the id or name it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} must be {form}, got {got:?}")]
pub struct ParseIdError {
    what: &'static str,
    form: &'static str,
    got: String,
}

impl ParseIdError {
    pub(crate) fn new(what: &'static str, form: &'static str, got: &str) -> Self {
        // Received text is quoted in errors, so it is cut: an error is no way to fill a log.
        Self { what, form, got: got.chars().take(80).collect() }
    }
}

/// BLAKE3 of some bytes: of a statement's payload, an artifact's manifest, a piece, a file.
///
/// Shown as its first 12 hex digits for people (`{}`) and in full for machines (`{:#}`, serde).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }

    /// Wraps a digest that was computed elsewhere, incrementally for instance.
    pub const fn from_computed(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = if f.alternate() { 32 } else { 6 };
        self.0[..shown].iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl FromStr for Digest {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        hex::<32>(text)
            .map(Self)
            .ok_or_else(|| ParseIdError::new("digest", "64 lower-case hex digits", text))
    }
}

fn hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let lower_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    if text.len() != 2 * N || !text.bytes().all(lower_hex) {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}

/// Serde through the text form, so that a value that arrives is always checked.
macro_rules! serde_as_text {
    ($name:ident, $text:expr) => {
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let text: fn(&$name) -> String = $text;
                serializer.serialize_str(&text(self))
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                <String as serde::Deserialize>::deserialize(deserializer)?
                    .parse()
                    .map_err(serde::de::Error::custom)
            }
        }
    };
}
pub(crate) use serde_as_text;

serde_as_text!(Digest, |digest| format!("{digest:#}"));

/// For descriptions of interfaces: a string of this form.
#[cfg(feature = "openapi")]
macro_rules! schema_as_text {
    ($name:ident, $form:literal, $pattern:literal, $example:literal) => {
        impl utoipa::ToSchema for $name {}

        impl utoipa::PartialSchema for $name {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
                utoipa::openapi::ObjectBuilder::new()
                    .schema_type(utoipa::openapi::schema::Type::String)
                    .description(Some($form))
                    .pattern(Some($pattern))
                    .examples([$example])
                    .into()
            }
        }
    };
}

#[cfg(feature = "openapi")]
schema_as_text!(
    Digest,
    "BLAKE3, 64 lower-case hex digits",
    "^[0-9a-f]{64}$",
    "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
);

/// A checked piece of text: what it may hold is fixed when it is parsed.
macro_rules! text_newtype {
    (
        $(#[$doc:meta])* $name:ident, $what:literal, $form:literal, $ok:expr,
        ($pattern:literal, $example:literal)
    ) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                let ok: fn(&str) -> bool = $ok;
                if ok(text) {
                    Ok(Self(text.to_owned()))
                } else {
                    Err(ParseIdError::new($what, $form, text))
                }
            }
        }

        serde_as_text!($name, |name| name.0.clone());

        #[cfg(feature = "openapi")]
        schema_as_text!($name, $form, $pattern, $example);
    };
}

/// Lower-case letters, digits and inner hyphens; `len_max` bytes at most.
fn is_name(text: &str, len_max: usize) -> bool {
    let edge = |byte: Option<&u8>| {
        byte.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
    };
    let bytes = text.as_bytes();
    bytes.len() <= len_max
        && edge(bytes.first())
        && edge(bytes.last())
        && bytes.iter().all(|byte| edge(Some(byte)) || *byte == b'-')
}

text_newtype!(
    /// Which fleet a statement is for: the name given at `swell init` and eight random hex digits,
    /// so that a key used in two fleets does not carry statements from one to the other.
    FleetId,
    "fleet id",
    "1 to 49 of a-z, 0-9 and inner hyphens",
    |text| is_name(text, 49),
    ("^[a-z0-9]([a-z0-9-]{0,47}[a-z0-9])?$", "acme-1f2e3d4c")
);
text_newtype!(
    /// A service: `web`. Also the name of its directory under `/srv`.
    Service,
    "service name",
    "1 to 32 of a-z, 0-9 and inner hyphens",
    |text| is_name(text, 32),
    ("^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$", "web")
);
text_newtype!(
    /// An environment: `staging`, `production`; the hosts whose label `env` says so.
    Env,
    "environment name",
    "1 to 32 of a-z, 0-9 and inner hyphens",
    |text| is_name(text, 32),
    ("^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$", "production")
);
text_newtype!(
    /// What may fail together: a rack, a room, a data centre.
    Zone,
    "zone name",
    "1 to 16 of a-z, 0-9 and inner hyphens",
    |text| is_name(text, 16),
    ("^[a-z0-9]([a-z0-9-]{0,14}[a-z0-9])?$", "rack-1")
);
text_newtype!(
    /// A label's key or value, a key's owner, a host's name for people.
    Name,
    "name",
    "1 to 63 of A-Z, a-z, 0-9, `.`, `_`, `-`, starting with a letter or digit",
    |text| {
        (1..=63).contains(&text.len())
            && text.as_bytes()[0].is_ascii_alphanumeric()
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
    },
    ("^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$", "web-1.example.com")
);
text_newtype!(
    /// A release's version, chosen by its publisher; also the name of a directory.
    Version,
    "version",
    "1 to 64 of A-Z, a-z, 0-9, `.`, `_`, `+`, `-`, starting with a letter or digit",
    |text| {
        (1..=64).contains(&text.len())
            && text.as_bytes()[0].is_ascii_alphanumeric()
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._+-".contains(&byte))
    },
    ("^[A-Za-z0-9][A-Za-z0-9._+-]{0,63}$", "1.4.0")
);
text_newtype!(
    /// A host: 12 base32 digits of the BLAKE3 of its public key (60 bits).
    ///
    /// Short enough for gossip, and not a proof: what counts is the full key pinned in a signed
    /// cohort or host statement.
    HostId,
    "host id",
    "12 of a-z and 2-7",
    |text| {
        text.len() == 12
            && text.bytes().all(|byte| byte.is_ascii_lowercase() || (b'2'..=b'7').contains(&byte))
    },
    ("^[a-z2-7]{12}$", "k3vxq2m5n7ad")
);
text_newtype!(
    /// A person's or daemon's key in `root`: 16 hex digits of the BLAKE3 of the public key.
    KeyId,
    "key id",
    "16 lower-case hex digits",
    |text| hex::<8>(text).is_some(),
    ("^[0-9a-f]{16}$", "5d1c0a77e2b94f63")
);

impl HostId {
    /// The id of the host that holds `key`.
    pub fn of(key: &PublicKey) -> Self {
        const BASE32: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
        let hash = blake3::hash(key.as_bytes());
        let mut bits = [0; 8];
        bits.copy_from_slice(&hash.as_bytes()[..8]);
        let bits = u64::from_be_bytes(bits);
        let digit = |place: u32| char::from(BASE32[(bits >> (59 - 5 * place)) as usize & 31]);
        Self((0..12).map(digit).collect())
    }
}

impl KeyId {
    /// The id of `key`.
    pub fn of(key: &PublicKey) -> Self {
        Self(blake3::hash(key.as_bytes()).to_hex()[..16].to_owned())
    }
}

/// A service in an environment: what rollouts are counted in.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Scope {
    pub service: Service,
    pub env: Env,
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}/{}", self.service, self.env))
    }
}
