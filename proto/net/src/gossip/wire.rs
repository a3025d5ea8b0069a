//! chitchat's wire format, read and written by ourselves.
//!
//! A peer's bytes never reach chitchat: they are read here, judged by the filter, and what is left is
//! written afresh for chitchat to read. So no two readers can see one message two ways, and the
//! assertions a remote can trip in chitchat are out of reach. What this fleet does not use (deletion,
//! garbage collection, bare version jumps) is malformed here.
//!
//! Format, integers little endian: magic `u16`, version 0, type; `Syn`: digest, cluster id; `SynAck`:
//! digest, delta; `Ack`: delta; `BadCluster`. Digest: count `u16`, then incarnation, heartbeat, last
//! garbage collection, highest version. Delta: blocks, each with kind and length `u16` (1: zstd, 2:
//! plain), ended by kind 0; together they hold operations: 0 node, 1 key and value, 2 set version.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use proto::HostId;

/// Longest message read or sent, in bytes: chitchat keeps each half below 64 KiB.
pub(super) const MESSAGE_BYTES_MAX: usize = 160 << 10;
/// Incarnations in one message: each host of a full fleet may start three times within the ten minutes
/// that its dead lives are remembered, as when all daemons are upgraded at once. With addresses of IPv6
/// such a digest has 52 kB, and a thousand make chitchat go mute.
pub(super) const NODES_MAX: usize = 800;
/// Keys of one incarnation.
pub(super) const KEYS_MAX: usize = 48;
/// A delta unpacked, in bytes. Signatures do not compress, so an honest one stays far below.
const DELTA_BYTES_MAX: usize = 2 << 20;
/// Longest block of a delta, in bytes.
const BLOCK_BYTES_MAX: usize = u16::MAX as usize;

const MAGIC: u16 = 45_139;
const VERSION: u8 = 0;

/// What no honest member sends: it runs the same checks on everything it passes on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Violation {
    #[error("malformed gossip: {0}")]
    Malformed(&'static str),
    #[error("gossip of {got} bytes, at most {max} are read")]
    TooLong { got: usize, max: usize },
    #[error("gossip names {got} incarnations, at most {NODES_MAX} are read")]
    TooManyNodes { got: usize },
    #[error("gossip gives {host} more than {KEYS_MAX} keys")]
    TooManyKeys { host: HostId },
    #[error("gossip deletes something, which this fleet never does: {0}")]
    Deletes(&'static str),
    #[error("gossip is for another fleet")]
    OtherFleet,
    #[error("gossip has a key or value that nobody may write, of {host}")]
    Value { host: HostId },
    #[error("gossip has a value that {host} did not sign")]
    Signature { host: HostId },
}

use Violation::Malformed;

/// One life of a member: from start to end of its daemon.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Incarnation {
    pub(super) host: HostId,
    /// Start of that life, milliseconds since 1970 by the member's own clock; only ever rises.
    pub(super) generation: u64,
    /// Where it wants to be reached.
    pub(super) addr: SocketAddr,
}

/// What a member has heard of an incarnation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Heard {
    pub(super) who: Incarnation,
    pub(super) heartbeat: u64,
    pub(super) version: u64,
}

/// A key, its signed value, and the version that the value got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Written {
    pub(super) key: String,
    pub(super) text: String,
    pub(super) version: u64,
}

/// News of an incarnation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct News {
    pub(super) who: Incarnation,
    /// The receiver must have everything up to this version.
    pub(super) after: u64,
    /// In order of version.
    pub(super) values: Vec<Written>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Message {
    Syn { fleet: String, digest: Vec<Heard> },
    SynAck { digest: Vec<Heard>, delta: Vec<News> },
    Ack { delta: Vec<News> },
    BadCluster,
}

/// Reads a message; allocates no more than the limits above allow.
pub(super) fn decode(bytes: &[u8]) -> Result<Message, Violation> {
    if bytes.len() > MESSAGE_BYTES_MAX {
        return Err(Violation::TooLong { got: bytes.len(), max: MESSAGE_BYTES_MAX });
    }
    let mut reader = Reader(bytes);
    if reader.u16()? != MAGIC || reader.u8()? != VERSION {
        return Err(Malformed("not chitchat, version 0"));
    }
    let message = match reader.u8()? {
        0 => {
            let digest = reader.digest()?;
            Message::Syn { digest, fleet: reader.text()?.to_owned() }
        }
        1 => {
            let digest = reader.digest()?;
            Message::SynAck { digest, delta: reader.delta()? }
        }
        2 => Message::Ack { delta: reader.delta()? },
        3 => Message::BadCluster,
        _ => return Err(Malformed("unknown type")),
    };
    match reader.0.is_empty() {
        true => Ok(message),
        false => Err(Malformed("bytes left over")),
    }
}

/// The one form in which chitchat gets to see a message.
pub(super) fn encode(message: &Message) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend(MAGIC.to_le_bytes());
    out.push(VERSION);
    match message {
        Message::Syn { fleet, digest } => {
            out.push(0);
            put_digest(&mut out, digest);
            put_text(&mut out, fleet);
        }
        Message::SynAck { digest, delta } => {
            out.push(1);
            put_digest(&mut out, digest);
            put_delta(&mut out, delta);
        }
        Message::Ack { delta } => {
            out.push(2);
            put_delta(&mut out, delta);
        }
        Message::BadCluster => out.push(3),
    }
    out
}

/// How many incarnations the digest of a message names that this side is about to send.
pub(super) fn digest_len(message: &[u8]) -> usize {
    match message {
        [_, _, _, 0 | 1, low, high, ..] => u16::from_le_bytes([*low, *high]).into(),
        _ => 0,
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], Violation> {
        let (head, rest) = self.0.split_at_checked(count).ok_or(Malformed("cut off"))?;
        self.0 = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Violation> {
        let (head, rest) = self.0.split_first_chunk().ok_or(Malformed("cut off"))?;
        self.0 = rest;
        Ok(*head)
    }

    fn u8(&mut self) -> Result<u8, Violation> {
        Ok(self.array::<1>()?[0])
    }

    fn u16(&mut self) -> Result<u16, Violation> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    fn u64(&mut self) -> Result<u64, Violation> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    fn text(&mut self) -> Result<&'a str, Violation> {
        let count = self.u16()?.into();
        std::str::from_utf8(self.take(count)?).map_err(|_| Malformed("not UTF-8"))
    }

    fn incarnation(&mut self) -> Result<Incarnation, Violation> {
        let host = self.text()?.parse().map_err(|_| Malformed("not a host id"))?;
        let generation = self.u64()?;
        let ip = match self.u8()? {
            4 => IpAddr::from(self.array::<4>()?),
            6 => IpAddr::from(self.array::<16>()?),
            _ => return Err(Malformed("unknown address family")),
        };
        Ok(Incarnation { host, generation, addr: SocketAddr::new(ip, self.u16()?) })
    }

    fn digest(&mut self) -> Result<Vec<Heard>, Violation> {
        let count = usize::from(self.u16()?);
        if count > NODES_MAX {
            return Err(Violation::TooManyNodes { got: count });
        }
        let mut digest = Vec::with_capacity(count);
        let mut seen = BTreeSet::new();
        for _ in 0..count {
            let who = self.incarnation()?;
            let heartbeat = self.u64()?;
            if self.u64()? != 0 {
                return Err(Violation::Deletes("garbage collection in a digest"));
            }
            let version = self.u64()?;
            if !seen.insert(who.clone()) {
                return Err(Malformed("an incarnation stands twice"));
            }
            digest.push(Heard { who, heartbeat, version });
        }
        Ok(digest)
    }

    fn delta(&mut self) -> Result<Vec<News>, Violation> {
        let unpacked = self.blocks()?;
        let mut reader = Reader(&unpacked);
        let mut delta: Vec<News> = Vec::new();
        let mut seen = BTreeSet::new();
        while !reader.0.is_empty() {
            match reader.u8()? {
                0 => {
                    let news = reader.node()?;
                    if !seen.insert(news.who.clone()) {
                        return Err(Malformed("an incarnation stands twice"));
                    }
                    delta.push(news);
                    if delta.len() > NODES_MAX {
                        return Err(Violation::TooManyNodes { got: delta.len() });
                    }
                }
                1 => {
                    let news = delta.last_mut().ok_or(Malformed("a value of nobody"))?;
                    let written = reader.written()?;
                    if written.version <= news.values.last().map_or(0, |last| last.version) {
                        return Err(Malformed("versions must rise"));
                    }
                    if news.values.len() == KEYS_MAX {
                        return Err(Violation::TooManyKeys { host: news.who.host.clone() });
                    }
                    news.values.push(written);
                }
                2 => return Err(Violation::Deletes("a version without a value")),
                _ => return Err(Malformed("unknown operation")),
            }
        }
        Ok(delta)
    }

    fn node(&mut self) -> Result<News, Violation> {
        let who = self.incarnation()?;
        if self.u64()? != 0 {
            return Err(Violation::Deletes("garbage collection in a delta"));
        }
        Ok(News { who, after: self.u64()?, values: Vec::new() })
    }

    fn written(&mut self) -> Result<Written, Violation> {
        let (key, text) = (self.text()?.to_owned(), self.text()?.to_owned());
        let version = self.u64()?;
        match self.u8()? {
            0 => Ok(Written { key, text, version }),
            _ => Err(Violation::Deletes("a tombstone")),
        }
    }

    fn blocks(&mut self) -> Result<Vec<u8>, Violation> {
        let mut unpacked = Vec::new();
        loop {
            let kind = self.u8()?;
            if kind == 0 {
                return Ok(unpacked);
            }
            let count = self.u16()?.into();
            let block = self.take(count)?;
            match kind {
                1 => {
                    let block = zstd::bulk::decompress(block, BLOCK_BYTES_MAX)
                        .map_err(|_| Malformed("a block does not unpack"))?;
                    unpacked.extend_from_slice(&block);
                }
                2 => unpacked.extend_from_slice(block),
                _ => return Err(Malformed("unknown kind of block")),
            }
            if unpacked.len() > DELTA_BYTES_MAX {
                return Err(Violation::TooLong { got: unpacked.len(), max: DELTA_BYTES_MAX });
            }
        }
    }
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    let length = u16::try_from(text.len()).expect("it was read with a length of 16 bits");
    out.extend(length.to_le_bytes());
    out.extend(text.as_bytes());
}

fn put_incarnation(out: &mut Vec<u8>, who: &Incarnation) {
    put_text(out, who.host.as_str());
    out.extend(who.generation.to_le_bytes());
    match who.addr.ip() {
        IpAddr::V4(ip) => {
            out.push(4);
            out.extend(ip.octets());
        }
        IpAddr::V6(ip) => {
            out.push(6);
            out.extend(ip.octets());
        }
    }
    out.extend(who.addr.port().to_le_bytes());
}

fn put_digest(out: &mut Vec<u8>, digest: &[Heard]) {
    let count = u16::try_from(digest.len()).expect("at most NODES_MAX were read");
    out.extend(count.to_le_bytes());
    for Heard { who, heartbeat, version } in digest {
        put_incarnation(out, who);
        out.extend(heartbeat.to_le_bytes());
        out.extend(0u64.to_le_bytes());
        out.extend(version.to_le_bytes());
    }
}

fn put_delta(out: &mut Vec<u8>, delta: &[News]) {
    let mut plain = Vec::new();
    for News { who, after, values } in delta {
        plain.push(0);
        put_incarnation(&mut plain, who);
        plain.extend(0u64.to_le_bytes());
        plain.extend(after.to_le_bytes());
        for Written { key, text, version } in values {
            plain.push(1);
            put_text(&mut plain, key);
            put_text(&mut plain, text);
            plain.extend(version.to_le_bytes());
            plain.push(0);
        }
    }
    for block in plain.chunks(BLOCK_BYTES_MAX) {
        out.push(2);
        out.extend(u16::try_from(block.len()).expect("a chunk is no longer").to_le_bytes());
        out.extend(block);
    }
    out.push(0);
}
