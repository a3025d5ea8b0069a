//! The envelope of a statement: DSSE v1 (<https://github.com/secure-systems-lab/dsse>), ed25519.
//!
//! What is signed is the pre-authentication encoding ([`pae`]) of the exact payload bytes received
//! and their type; nothing is ever re-serialized to be verified. A statement's id is the BLAKE3 of
//! that encoding, so it names payload and kind, and **not** the signatures: those are a set beside
//! it, merged by union, and an approval is one more member of the set (R1).

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::SigningKey;
use serde::{Deserialize, Serialize};

use crate::id::{Digest, KeyId};
use crate::key::{PublicKey, Signature};

/// Signatures an envelope may carry, one per key.
pub const SIGNATURES_MAX: usize = 16;

/// Why bytes are no envelope.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    #[error("{got} bytes, at most {max} are read")]
    TooLong { got: usize, max: usize },
    #[error("not an envelope: {0}")]
    Malformed(String),
    #[error("the payload is not base64")]
    Payload,
    #[error("{got} signatures, at most {SIGNATURES_MAX} are read")]
    TooManySignatures { got: usize },
    #[error("key {0} signs twice")]
    SignsTwice(KeyId),
    #[error("the envelopes have different payloads and cannot be merged")]
    NotTheSame,
}

/// A payload, its type, and a set of signatures, none of them verified yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    payload_type: String,
    payload: Vec<u8>,
    signatures: BTreeMap<KeyId, Signature>,
}

/// The JSON form, field names by the DSSE specification. A repeated or unknown field is an error.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Json {
    payload_type: String,
    payload: String,
    signatures: Vec<JsonSignature>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct JsonSignature {
    keyid: KeyId,
    sig: Signature,
}

impl Envelope {
    /// An envelope without signatures yet.
    pub fn new(payload_type: &str, payload: Vec<u8>) -> Self {
        Self { payload_type: payload_type.to_owned(), payload, signatures: BTreeMap::new() }
    }

    /// Reads an envelope of at most `bytes_max` bytes; verifies nothing.
    ///
    /// # Errors
    ///
    /// [`EnvelopeError`]: too long (seen before anything is parsed), malformed, a key signing twice.
    pub fn parse(bytes: &[u8], bytes_max: usize) -> Result<Self, EnvelopeError> {
        if bytes.len() > bytes_max {
            return Err(EnvelopeError::TooLong { got: bytes.len(), max: bytes_max });
        }
        let json: Json = serde_json::from_slice(bytes)
            .map_err(|error| EnvelopeError::Malformed(error.to_string()))?;
        if json.signatures.len() > SIGNATURES_MAX {
            return Err(EnvelopeError::TooManySignatures { got: json.signatures.len() });
        }
        let payload = STANDARD.decode(&json.payload).map_err(|_| EnvelopeError::Payload)?;
        let mut signatures = BTreeMap::new();
        for JsonSignature { keyid, sig } in json.signatures {
            if signatures.insert(keyid.clone(), sig).is_some() {
                return Err(EnvelopeError::SignsTwice(keyid));
            }
        }
        Ok(Self { payload_type: json.payload_type, payload, signatures })
    }

    /// The JSON form, as stored and sent.
    pub fn to_bytes(&self) -> Vec<u8> {
        let signatures = self
            .signatures
            .iter()
            .map(|(keyid, sig)| JsonSignature { keyid: keyid.clone(), sig: *sig })
            .collect();
        let json = Json {
            payload_type: self.payload_type.clone(),
            payload: STANDARD.encode(&self.payload),
            signatures,
        };
        serde_json::to_vec(&json).expect("strings and lists serialize")
    }

    pub fn payload_type(&self) -> &str {
        &self.payload_type
    }

    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    pub fn signatures(&self) -> &BTreeMap<KeyId, Signature> {
        &self.signatures
    }

    /// The statement's id: BLAKE3 of what is signed. Signatures do not change it.
    pub fn id(&self) -> Digest {
        Digest::of(&self.pae())
    }

    /// Adds the signature of `key`, replacing an earlier one of the same key.
    pub fn sign(&mut self, key: &SigningKey) {
        let signature = Signature::of(key, &self.pae());
        self.signatures.insert(KeyId::of(&PublicKey::of(key)), signature);
    }

    /// Whether `key` has signed this payload.
    pub fn signed_by(&self, key: &PublicKey) -> bool {
        self.signatures
            .get(&KeyId::of(key))
            .is_some_and(|signature| key.verifies(&self.pae(), signature))
    }

    /// Keeps only the signatures for which `keep` says so; used to drop those that do not verify
    /// before an envelope is stored or merged.
    pub fn retain_signatures(&mut self, mut keep: impl FnMut(&KeyId) -> bool) {
        self.signatures.retain(|key, _| keep(key));
    }

    /// Adds the signatures of `other`, an envelope of the same payload. Both sides must have been
    /// cut to verified signatures first, else a forged one could displace a good one.
    ///
    /// # Errors
    ///
    /// [`EnvelopeError::NotTheSame`] for another payload, or more than [`SIGNATURES_MAX`] signatures.
    pub fn merge(&mut self, other: &Self) -> Result<bool, EnvelopeError> {
        if (&self.payload_type, &self.payload) != (&other.payload_type, &other.payload) {
            return Err(EnvelopeError::NotTheSame);
        }
        let mut merged = self.signatures.clone();
        merged.extend(other.signatures.iter().map(|(key, sig)| (key.clone(), *sig)));
        if merged.len() > SIGNATURES_MAX {
            return Err(EnvelopeError::TooManySignatures { got: merged.len() });
        }
        let grown = merged.len() > self.signatures.len();
        self.signatures = merged;
        Ok(grown)
    }

    fn pae(&self) -> Vec<u8> {
        pae(&self.payload_type, &self.payload)
    }
}

/// DSSE's pre-authentication encoding: `DSSEv1 LEN(type) type LEN(payload) payload`, one space
/// between, lengths in decimal ASCII.
pub fn pae(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let mut message =
        format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len()).into_bytes();
    message.extend_from_slice(payload);
    message
}
