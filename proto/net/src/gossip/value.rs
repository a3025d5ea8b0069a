//! A value as it is gossiped: the author's signature, then what it says.
//!
//! The signature binds fleet, host, generation, address, key and chitchat's version, so a value can
//! be neither moved to another key, life or address, nor replayed as a newer one.

use std::net::{IpAddr, SocketAddr};

use ed25519_dalek::SigningKey;
use proto::key::Signature;
use proto::record::VALUE_BYTES_MAX;
use proto::{FleetId, HostId};

use super::wire::Incarnation;

/// Length of a signature's text form.
const SIGNATURE_BYTES: usize = 86;
/// Longest value with its signature, in bytes.
pub(super) const SIGNED_BYTES_MAX: usize = 512;
/// Longest key, in bytes.
pub(super) const KEY_BYTES_MAX: usize = 16;

/// Whether `key` may be the name of a value.
pub(super) fn is_key(key: &str) -> bool {
    let allowed = |byte: u8| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'/' | b'_' | b'-')
    };
    (1..=KEY_BYTES_MAX).contains(&key.len()) && key.bytes().all(allowed)
}

/// What an author signs.
pub(super) fn message(
    fleet: &FleetId,
    who: &Incarnation,
    key: &str,
    version: u64,
    value: &str,
) -> Vec<u8> {
    let Incarnation { host, generation, addr } = who;
    let mut message = b"groundswell gossip 1\0".to_vec();
    for text in [fleet.as_str(), HostId::as_str(host), key] {
        // All three are checked to be short.
        message.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
        message.extend(text.as_bytes());
    }
    message.extend(generation.to_be_bytes());
    put_addr(&mut message, *addr);
    message.extend(version.to_be_bytes());
    message.extend(value.as_bytes());
    message
}

fn put_addr(message: &mut Vec<u8>, addr: SocketAddr) {
    let octets = match addr.ip() {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
        IpAddr::V6(ip) => ip.octets(),
    };
    message.push(if addr.is_ipv4() { 4 } else { 6 });
    message.extend(octets);
    message.extend(addr.port().to_be_bytes());
}

/// The text that is gossiped for `value`.
pub(super) fn sign(
    signer: &SigningKey,
    fleet: &FleetId,
    who: &Incarnation,
    key: &str,
    version: u64,
    value: &str,
) -> String {
    let signature = Signature::of(signer, &message(fleet, who, key, version, value));
    format!("{signature}{value}")
}

/// The signature and the value in a gossiped text, not verified; `None`: it has not the form.
pub(super) fn split(text: &str) -> Option<(Signature, &str)> {
    let (signature, value) = text.split_at_checked(SIGNATURE_BYTES)?;
    if value.len() > VALUE_BYTES_MAX || text.len() > SIGNED_BYTES_MAX {
        return None;
    }
    Some((signature.parse().ok()?, value))
}
