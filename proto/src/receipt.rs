//! A host's signed record of where it stands in one rollout.
//!
//! Self-contained and small (it travels as one gossip value): JSON and one ed25519 signature over
//! its DSSE encoding, verified under the key pinned in the rollout's cohort, never under a
//! certificate. The highest sequence of a host wins; a receipt is re-signed while a rollout is open,
//! so it also shows that the host is there (R16).

use ed25519_dalek::SigningKey;
use serde::{Deserialize, Serialize};

use crate::dsse::pae;
use crate::id::{Digest, HostId};
use crate::key::{PublicKey, Signature};

/// Payload type of a receipt.
pub const PAYLOAD_TYPE: &str = "application/vnd.groundswell.receipt+json";
/// Longest payload, in bytes.
pub const RECEIPT_BYTES_MAX: usize = 320;
/// Longest note, in bytes of its JSON form.
pub const NOTE_BYTES_MAX: usize = 96;

/// Where a host stands in a rollout. The order is that of the way forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Holds the rollout, has not got the artifact.
    Pending,
    Fetching,
    /// The artifact is verified on its disk.
    Staged,
    /// Draining, stopping, swapping, starting: the service may be down.
    Activating,
    /// Serves `to` and watches it.
    Baking,
    /// Its bake passed.
    Committed,
    /// Serves `from` again; `cause` says why.
    Reverted,
    /// Tried to go back and could not: a person is needed.
    RevertFailed,
}

impl State {
    /// Whether the service of this host serves (R15): nothing of it is stopped or half done.
    pub const fn is_settled(self) -> bool {
        matches!(self, Self::Baking | Self::Committed | Self::Reverted)
    }

    /// Whether `to` failed on this host.
    pub const fn is_failed(self) -> bool {
        matches!(self, Self::Reverted | Self::RevertFailed)
    }

    /// The name, as in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Fetching => "fetching",
            Self::Staged => "staged",
            Self::Activating => "activating",
            Self::Baking => "baking",
            Self::Committed => "committed",
            Self::Reverted => "reverted",
            Self::RevertFailed => "revert-failed",
        }
    }
}

/// Why a host went back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// The release failed here: counts against the budget.
    Release,
    /// The host failed: disk, fetch, a command that did not end. Counts against the budget, too.
    Host,
    /// The fleet went back (halt, abort): does not count.
    Fleet,
    /// It failed here after the rollout was complete: does not count, since a complete rollout is
    /// judged. Only hosts that hold the completion certificate say so.
    Late,
}

/// What a host says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Receipt {
    /// Id of the rollout statement.
    pub rollout: Digest,
    pub host: HostId,
    /// Rises with every receipt of this host in this rollout, also over restarts.
    pub sequence: u64,
    /// Which try of this host at this rollout, 1 first.
    pub attempt: u32,
    pub state: State,
    pub cause: Option<Cause>,
    /// The evidence in a line: `healthz answered 500 three times`. See [`note`].
    pub note: String,
}

/// A receipt, as text, and its host's signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedReceipt {
    payload: String,
    signature: Signature,
}

/// Why a receipt counts for nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReceiptError {
    #[error("receipt of {got} bytes, at most {RECEIPT_BYTES_MAX} are read")]
    TooLong { got: usize },
    #[error("malformed receipt: {0}")]
    Malformed(String),
    #[error("the receipt's signature is not of {0}'s key")]
    Signature(HostId),
}

impl Receipt {
    /// Signs it; the note must fit ([`note`] makes one that does).
    pub fn sign(&self, key: &SigningKey) -> SignedReceipt {
        debug_assert_eq!(self.host, HostId::of(&PublicKey::of(key)));
        let payload = serde_json::to_string(self).expect("receipts serialize");
        assert!(payload.len() <= RECEIPT_BYTES_MAX, "a receipt of {} bytes", payload.len());
        let signature = Signature::of(key, &pae(PAYLOAD_TYPE, payload.as_bytes()));
        SignedReceipt { payload, signature }
    }
}

impl SignedReceipt {
    /// The text form: signature, a space, payload.
    pub fn to_text(&self) -> String {
        format!("{} {}", self.signature, self.payload)
    }

    /// Reads the text form; verifies nothing.
    ///
    /// # Errors
    ///
    /// [`ReceiptError`] for anything else.
    pub fn from_text(text: &str) -> Result<Self, ReceiptError> {
        let (signature, payload) =
            text.split_once(' ').ok_or_else(|| ReceiptError::Malformed("no signature".into()))?;
        let signature = signature
            .parse()
            .map_err(|error: crate::id::ParseIdError| ReceiptError::Malformed(error.to_string()))?;
        Ok(Self { payload: payload.to_owned(), signature })
    }

    /// Whose receipt it says it is: to find the key to verify it with, and for nothing else.
    ///
    /// # Errors
    ///
    /// [`ReceiptError`]: too long or malformed.
    pub fn claimed_host(&self) -> Result<HostId, ReceiptError> {
        self.parse().map(|receipt| receipt.host)
    }

    /// Which rollout it says it is about: to find the cohort to verify it with, and for nothing else.
    ///
    /// # Errors
    ///
    /// [`ReceiptError`]: too long or malformed.
    pub fn claimed_rollout(&self) -> Result<Digest, ReceiptError> {
        self.parse().map(|receipt| receipt.rollout)
    }

    /// The receipt, if `key` signed it and it is of the host with that key.
    ///
    /// # Errors
    ///
    /// [`ReceiptError`]: too long (seen first), not signed by `key`, malformed.
    pub fn verify(&self, key: &PublicKey) -> Result<Receipt, ReceiptError> {
        let id = HostId::of(key);
        self.check_length()?;
        if !key.verifies(&pae(PAYLOAD_TYPE, self.payload.as_bytes()), &self.signature) {
            return Err(ReceiptError::Signature(id));
        }
        let receipt = self.parse()?;
        if receipt.host != id {
            return Err(ReceiptError::Signature(receipt.host));
        }
        Ok(receipt)
    }

    fn check_length(&self) -> Result<(), ReceiptError> {
        match self.payload.len() {
            got if got > RECEIPT_BYTES_MAX => Err(ReceiptError::TooLong { got }),
            _ => Ok(()),
        }
    }

    fn parse(&self) -> Result<Receipt, ReceiptError> {
        self.check_length()?;
        let receipt: Receipt = serde_json::from_str(&self.payload)
            .map_err(|error| ReceiptError::Malformed(error.to_string()))?;
        // It is shown on people's terminals, so what the host wrote must be what `note` makes.
        let plain = receipt.note.len() <= NOTE_BYTES_MAX && receipt.note.chars().all(is_plain);
        match (plain, receipt.sequence) {
            (false, _) => Err(ReceiptError::Malformed("the note is not plain".to_owned())),
            (true, 0) => Err(ReceiptError::Malformed("sequence 0: the first is 1".to_owned())),
            (true, _) => Ok(receipt),
        }
    }
}

/// `text` as a note: plain ASCII without quotes and backslashes, cut to [`NOTE_BYTES_MAX`].
pub fn note(text: &str) -> String {
    let plain = |c: char| match c {
        '"' => '\'',
        '\\' => '/',
        c if is_plain(c) => c,
        c if c.is_whitespace() => ' ',
        _ => '?',
    };
    text.trim().chars().map(plain).take(NOTE_BYTES_MAX).collect()
}

/// What JSON does not escape and a terminal does not obey.
fn is_plain(c: char) -> bool {
    c == ' ' || (c.is_ascii_graphic() && !matches!(c, '"' | '\\'))
}
