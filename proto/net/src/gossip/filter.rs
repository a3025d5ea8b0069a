//! What of a peer's gossip chitchat gets to see (R11).
//!
//! Bare chitchat dies of one packet, and lets anybody write anybody's values. So every message is
//! judged first. Three outcomes:
//!
//! - A **violation**: no honest member sends that, since it judges what it passes on by the same
//!   rules. The whole message is dropped and its sender is told and hung up on.
//! - **Left out**: what an honest member may send and this one cannot use: of members it does not
//!   know yet (it asks for them), of those that were removed, from clocks that are ahead (of this one and of the others'), implausible
//!   heartbeats, echoes of its own state. The rest of the message counts.
//! - **Passed**, written afresh.
//!
//! An incarnation counts only once its host signed something in it: digests are not signed, and
//! anyone could otherwise fill everybody's memory with incarnations that never were. How many a host
//! may start is bounded too.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;
use std::time::Duration;

use lru::LruCache;
use proto::{FleetId, HostId, PublicKey};
use tokio::time::Instant;
use tracing::warn;

use super::calendar::Calendar;
use super::value;
use super::wire::{
    Heard, Incarnation, KEYS_MAX, Message, NODES_MAX, News, Violation, Written, decode, encode,
};
use crate::directory::Directory;
use crate::quota::{Quota, Quotas};

/// Verified signatures that are remembered: every value of a full cell, and some.
const VERIFIED_MAX: NonZeroUsize = NonZeroUsize::new(16_384).expect("not zero");
/// How far a member's clock may be ahead, of this one's or of the others', in milliseconds.
const AHEAD_MS_MAX: u64 = 300_000;
/// Heartbeats of a member per gossip interval: its ticks and the messages it handles, about ten.
const HEARTBEATS_PER_INTERVAL: u64 = 200;
/// Heartbeats anyone may have, however young.
const HEARTBEATS_FREE: u64 = 10_000;
/// New incarnations of a host: enough for a daemon that is restarted again and again.
const RESTARTS: Quota = Quota { burst: 8, period: Duration::from_secs(30) };
/// Hosts whose restarts are counted.
const RESTARTED_MAX: NonZeroUsize = NonZeroUsize::new(1_024).expect("not zero");
/// An incarnation that chitchat does not hold is forgotten after so long.
const FORGET_AFTER: Duration = Duration::from_secs(60);

/// What is left of a message.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Passed {
    /// For chitchat.
    pub(super) message: Vec<u8>,
    /// Members named in it that the directory does not know.
    pub(super) unknown: BTreeSet<HostId>,
    /// Generation of a life of this very host, at its address and signed with its key, that is younger
    /// than the present one: an earlier one, whose clock was ahead of today's.
    pub(super) younger_self: Option<u64>,
    /// Incarnations left out, for whatever reason.
    pub(super) left_out: usize,
}

/// The state of the judgement. Its owner is the one member that judges.
pub(super) struct Filter {
    fleet: FleetId,
    me: Incarnation,
    directory: Directory,
    interval: Duration,
    verified: LruCache<[u8; 32], ()>,
    lives: BTreeMap<Incarnation, Life>,
    restarts: Quotas<HostId>,
    calendar: Calendar,
    /// The time by the others' clocks, once it is asked for while a message is judged.
    others_ms: OnceCell<u64>,
}

/// An incarnation whose host signed something in it.
struct Life {
    keys: BTreeSet<String>,
    seen: Instant,
}

impl Filter {
    pub(super) fn new(
        fleet: FleetId,
        me: Incarnation,
        directory: Directory,
        interval: Duration,
    ) -> Self {
        Self {
            fleet,
            me,
            directory,
            interval,
            verified: LruCache::new(VERIFIED_MAX),
            lives: BTreeMap::new(),
            restarts: Quotas::new(RESTARTS, RESTARTED_MAX),
            calendar: Calendar::default(),
            others_ms: OnceCell::new(),
        }
    }

    /// This member starts a new life.
    pub(super) fn reborn(&mut self, generation: u64) {
        self.me.generation = generation;
    }

    /// Forgets incarnations that chitchat does not hold any more.
    pub(super) fn retain(&mut self, held: &BTreeSet<Incarnation>, now: Instant) {
        self.lives
            .retain(|who, life| held.contains(who) || now.duration_since(life.seen) < FORGET_AFTER);
    }

    /// Judges a message. `unix_ms` is this member's clock, `now` its monotonic one.
    pub(super) fn judge(
        &mut self,
        bytes: &[u8],
        unix_ms: u64,
        now: Instant,
    ) -> Result<Passed, Violation> {
        self.others_ms.take();
        let mut passed = Passed::default();
        let message = match decode(bytes)? {
            Message::Syn { fleet, digest } => {
                if fleet != self.fleet.as_str() {
                    return Err(Violation::OtherFleet);
                }
                Message::Syn { fleet, digest: self.digest(digest, unix_ms, &mut passed) }
            }
            Message::SynAck { digest, delta } => {
                // The delta first: what is signed in it vouches for what the digest names.
                let delta = self.delta(delta, unix_ms, now, &mut passed)?;
                Message::SynAck { digest: self.digest(digest, unix_ms, &mut passed), delta }
            }
            Message::Ack { delta } => {
                Message::Ack { delta: self.delta(delta, unix_ms, now, &mut passed)? }
            }
            // Of a member of this fleet this is a mistake; chitchat only logs it.
            Message::BadCluster => return Err(Violation::OtherFleet),
        };
        passed.message = encode(&message);
        Ok(passed)
    }

    fn digest(&self, digest: Vec<Heard>, unix_ms: u64, passed: &mut Passed) -> Vec<Heard> {
        let named = digest.len();
        let kept: Vec<_> = digest
            .into_iter()
            .filter(|heard| {
                let who = &heard.who;
                *who == self.me
                    || self.knows(who, passed).is_some()
                        && self.plausible(heard, unix_ms)
                        && self.lives.contains_key(who)
            })
            .collect();
        passed.left_out += named - kept.len();
        kept
    }

    fn delta(
        &mut self,
        delta: Vec<News>,
        unix_ms: u64,
        now: Instant,
        passed: &mut Passed,
    ) -> Result<Vec<News>, Violation> {
        let named = delta.len();
        let mut kept = Vec::with_capacity(named);
        for news in delta {
            let Some(key) = self.knows(&news.who, passed) else { continue };
            for written in &news.values {
                self.verify(&key, &news.who, written)?;
            }
            kept.push(news);
        }
        // Only now: what all of them say of the time may be needed for each.
        kept.retain(|news| self.counts(news, unix_ms, now, passed));
        passed.left_out += named - kept.len();
        Ok(kept)
    }

    /// The key of a member, or a note that somebody has to be asked for it; none for one that was
    /// removed.
    fn knows(&self, who: &Incarnation, passed: &mut Passed) -> Option<PublicKey> {
        if self.directory.is_removed(&who.host) {
            return None;
        }
        let key = self.directory.key_of(&who.host);
        if key.is_none() {
            passed.unknown.insert(who.host.clone());
        }
        key
    }

    /// A heartbeat moves by one per tick and per message handled. Too high a one would make its
    /// owner look dead, since its real ones would never count again.
    fn plausible(&self, heard: &Heard, unix_ms: u64) -> bool {
        self.at_some_time(unix_ms, |now_ms| {
            let latest = now_ms.saturating_add(AHEAD_MS_MAX);
            let Some(age_ms) = latest.checked_sub(heard.who.generation) else { return false };
            let interval_ms = u64::try_from(self.interval.as_millis()).unwrap_or(u64::MAX).max(1);
            let beats = (age_ms / interval_ms + 1).saturating_mul(HEARTBEATS_PER_INTERVAL);
            heard.heartbeat <= beats.saturating_add(HEARTBEATS_FREE)
        })
    }

    /// Whether it holds by this member's clock, or else by those of the others.
    fn at_some_time(&self, unix_ms: u64, holds: impl Fn(u64) -> bool) -> bool {
        // The others are asked last and once: they are many, and a clock is seldom wrong.
        let ask = || self.calendar.at_least_ms(&self.directory, &self.me.host);
        holds(unix_ms) || holds(*self.others_ms.get_or_init(ask))
    }

    fn verify(
        &mut self,
        key: &PublicKey,
        who: &Incarnation,
        written: &Written,
    ) -> Result<(), Violation> {
        let host = || who.host.clone();
        let Written { key: name, text, version } = written;
        if !value::is_key(name) {
            return Err(Violation::Value { host: host() });
        }
        let (signature, value) =
            value::split(text).ok_or_else(|| Violation::Value { host: host() })?;
        let message = value::message(&self.fleet, who, name, *version, value);
        // Bound to all that is signed, to the signature and to the key: an insider who can make two
        // of these collide can also forge the signature.
        let mut hasher = blake3::Hasher::new();
        hasher.update(key.as_bytes()).update(&signature.to_bytes()).update(&message);
        let seen = *hasher.finalize().as_bytes();
        if self.verified.get(&seen).is_some() {
            return Ok(());
        }
        if !key.verifies(&message, &signature) {
            return Err(Violation::Signature { host: host() });
        }
        self.calendar.hear(&who.host, name, value);
        self.verified.put(seen, ());
        Ok(())
    }

    /// Whether verified news is of use: of a life that may be, and not of this one.
    fn counts(&mut self, news: &News, unix_ms: u64, now: Instant, passed: &mut Passed) -> bool {
        let News { who, values, .. } = news;
        let may_be = |now_ms: u64| who.generation <= now_ms.saturating_add(AHEAD_MS_MAX);
        if *who == self.me || !self.at_some_time(unix_ms, may_be) {
            return false;
        }
        let names = values.iter().map(|written| written.key.clone());
        if let Some(life) = self.lives.get_mut(who) {
            life.seen = now;
            let mut keys = life.keys.clone();
            keys.extend(names);
            if keys.len() > KEYS_MAX {
                // Its relays may each have seen few enough, so this convicts nobody but the author.
                warn!(host = %who.host, "too many gossip keys; its news is left out");
                return false;
            }
            life.keys = keys;
        } else if values.is_empty()
            || self.lives.len() >= NODES_MAX - 1
            || !self.restarts.take(who.host.clone(), now)
        {
            return false;
        } else {
            self.lives.insert(who.clone(), Life { keys: names.collect(), seen: now });
        }
        let here = who.host == self.me.host && who.addr == self.me.addr;
        if here && who.generation > self.me.generation && !values.is_empty() {
            passed.younger_self = passed.younger_self.max(Some(who.generation));
        }
        true
    }
}
