//! The picker itself; its rules stand in the parent module.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use proto::HostId;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};

use super::{
    ASK_MS, ASK_MS_MAX, ASKS_MAX, BUSY_MS, BUSY_MS_MAX, DENIALS_MAX, ENDGAME_AFTER_MS,
    ENDGAME_PIECES, ORIGIN_PIPELINE, PIPELINE, SLOW_MS,
};
use crate::bits::Bits;

/// Ask this peer for this piece.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ask {
    pub peer: HostId,
    pub piece: u32,
}

/// Why nothing is being asked although pieces are missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stall {
    /// Nobody is connected that announces the artifact.
    NoPeers { missing: u32 },
    /// The peers there are do not hold it, and the origin is not among them.
    NoHolder { piece: u32, without: u32, peers: u32 },
    /// Peers hold it and all asked for a pause.
    Busy { missing: u32 },
}

impl fmt::Display for Stall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoPeers { missing } => {
                write!(f, "no member that holds it is connected, {missing} pieces missing")
            }
            Self::NoHolder { piece, without: 1, peers } => {
                write!(f, "no member holds piece {piece}, {peers} asked")
            }
            Self::NoHolder { piece, without, peers } => {
                let others = without - 1;
                write!(f, "no member holds piece {piece} nor {others} others, {peers} asked")
            }
            Self::Busy { missing } => {
                write!(f, "all members that hold the {missing} missing pieces are busy")
            }
        }
    }
}

#[derive(Debug)]
struct Peer {
    origin: bool,
    holds: Bits,
    /// Wanted pieces among `holds`: spares the search when there are none.
    useful: u32,
    open: u32,
    /// Deadlines missed since the last piece.
    late: u32,
    /// "Busy" since the last piece.
    busy: u32,
    /// Pieces announced and not there.
    denials: u32,
    idle_until_ms: u64,
    /// This fetcher's own order among equally busy peers, so that not everybody starts with one.
    tie: u32,
}

#[derive(Debug, Clone)]
struct Open {
    peer: HostId,
    since_ms: u64,
    deadline_ms: u64,
}

/// Decides what to ask of whom for one artifact.
///
/// Invariant: every piece is verified, wanted (missing and asked of nobody) or open (asked of one
/// peer, of two in the endgame), and exactly one of these.
#[derive(Debug)]
pub struct Picker {
    here: Bits,
    chance: StdRng,
    /// This fetcher's own order among equally rare pieces.
    ties: Vec<u32>,
    /// Connected peers that hold a piece, the origin not counted.
    holders: Vec<u32>,
    /// (holders, tie, piece): rarest first.
    wanted: BTreeSet<(u32, u32, u32)>,
    open: BTreeMap<u32, Vec<Open>>,
    peers: BTreeMap<HostId, Peer>,
    banned: BTreeSet<HostId>,
}

impl Picker {
    /// A picker for the pieces that are not `here` yet. `seed` sets its order of ties; hosts that
    /// fetch together must have different ones.
    pub fn new(here: Bits, seed: u64) -> Self {
        let mut ties: Vec<u32> = (0..here.len()).collect();
        let mut chance = StdRng::seed_from_u64(seed);
        ties.shuffle(&mut chance);
        let all = Bits::all(here.len());
        let wanted = all.without(&here).map(|piece| (0, ties[piece as usize], piece)).collect();
        let holders = vec![0; ties.len()];
        let (open, peers, banned) = Default::default();
        Self { here, chance, ties, holders, wanted, open, peers, banned }
    }

    pub fn is_complete(&self) -> bool {
        self.here.is_all()
    }

    /// The verified pieces.
    pub fn here(&self) -> &Bits {
        &self.here
    }

    /// Pieces not verified yet.
    pub fn missing(&self) -> u32 {
        self.here.len() - self.here.count()
    }

    /// Whether the peer sent wrong bytes or announced what it has not.
    pub fn is_banned(&self, peer: &HostId) -> bool {
        self.banned.contains(peer)
    }

    pub fn peers(&self) -> impl Iterator<Item = &HostId> {
        self.peers.keys()
    }

    /// Whether the peer is asked for something now or could be: if not, its place may go to
    /// somebody else.
    pub fn is_useful(&self, peer: &HostId) -> bool {
        self.peers.get(peer).is_some_and(|peer| peer.open > 0 || peer.useful > 0)
    }

    /// A peer is connected and holds nothing yet as far as is known. Ignored if it is banned.
    pub fn connected(&mut self, peer: HostId, origin: bool) {
        if self.banned.contains(&peer) || self.peers.contains_key(&peer) {
            return;
        }
        let holds = Bits::none(self.here.len());
        let peer_state = Peer {
            origin,
            holds,
            useful: 0,
            open: 0,
            late: 0,
            busy: 0,
            denials: 0,
            idle_until_ms: 0,
            tie: self.chance.next_u32(),
        };
        self.peers.insert(peer, peer_state);
    }

    /// A peer is gone: what was asked of it is wanted again. Returns the pieces it was asked for.
    pub fn disconnected(&mut self, peer: &HostId) -> Vec<u32> {
        let pieces: Vec<u32> = self
            .open
            .iter()
            .filter(|(_, asks)| asks.iter().any(|ask| ask.peer == *peer))
            .map(|(piece, _)| *piece)
            .collect();
        for piece in &pieces {
            self.close(*piece, peer);
        }
        if let Some(gone) = self.peers.remove(peer)
            && !gone.origin
        {
            let held: Vec<u32> = gone.holds.iter().collect();
            held.into_iter().for_each(|piece| self.count_holder(piece, false));
        }
        pieces
    }

    /// What a peer says it holds now; additions only, since verified pieces do not go away.
    pub fn holds(&mut self, peer: &HostId, now: &Bits) {
        let Some(known) = self.peers.get_mut(peer) else { return };
        if now.len() != known.holds.len() {
            return;
        }
        let new: Vec<u32> = now.without(&known.holds).collect();
        let origin = known.origin;
        for piece in &new {
            known.holds.insert(*piece);
        }
        for piece in new {
            let wanted = self.is_wanted(piece);
            if !origin {
                self.count_holder(piece, true);
            }
            let known = self.peers.get_mut(peer).expect("looked up above");
            known.useful += u32::from(wanted);
        }
    }

    /// All that should be asked now, in order. Each ask counts as made.
    pub fn asks(&mut self, now_ms: u64) -> Vec<Ask> {
        let mut asks = Vec::new();
        // One each in turn, so that a full pipeline to the first peer starves nobody; peers
        // before the origin, so that it gets what they cannot give.
        for origin in [false, true] {
            loop {
                let before = asks.len();
                let peers = self.peers.iter().filter(|(_, peer)| peer.origin == origin);
                // Those that let a deadline pass come last, or they would sit on what others have.
                let turn =
                    |(id, peer): (&HostId, &Peer)| ((peer.late, peer.open, peer.tie), id.clone());
                let mut turns: Vec<_> = peers.map(turn).collect();
                turns.sort();
                for (_, peer) in turns {
                    if let Some(piece) = self.pick(&peer, now_ms) {
                        self.ask(&peer, piece, now_ms);
                        asks.push(Ask { peer, piece });
                    }
                }
                if asks.len() == before {
                    break;
                }
            }
        }
        asks
    }

    /// A piece has come from `peer`, was right, and is stored. Returns the asks it makes
    /// superfluous, to be cancelled. A piece that comes after its ask was given up counts, too.
    pub fn verified(&mut self, peer: &HostId, piece: u32) -> Vec<Ask> {
        if let Some(peer) = self.peers.get_mut(peer) {
            (peer.late, peer.busy, peer.idle_until_ms) = (0, 0, 0);
        }
        let asks = self.open.remove(&piece).unwrap_or_default();
        for ask in &asks {
            self.released(&ask.peer);
        }
        self.unwant(piece);
        if piece < self.here.len() {
            self.here.insert(piece);
        }
        let others = asks.into_iter().filter(|ask| ask.peer != *peer);
        others.map(|ask| Ask { peer: ask.peer, piece }).collect()
    }

    /// `peer` sent bytes that are not the piece: it is banned. Returns what else it was asked for.
    pub fn wrong(&mut self, peer: &HostId) -> Vec<u32> {
        self.banned.insert(peer.clone());
        self.disconnected(peer)
    }

    /// `peer` is busy: it gets a pause.
    pub fn busy(&mut self, peer: &HostId, piece: u32, now_ms: u64) {
        self.close(piece, peer);
        if let Some(peer) = self.peers.get_mut(peer) {
            let pause_ms = BUSY_MS.saturating_mul(1 << peer.busy.min(10)).min(BUSY_MS_MAX);
            peer.busy += 1;
            peer.idle_until_ms = now_ms.saturating_add(pause_ms);
        }
    }

    /// `peer` has not got a piece that it announced. Returns whether that happened too often: it is
    /// then to be banned ([`Self::wrong`]).
    pub fn denied(&mut self, peer: &HostId, piece: u32) -> bool {
        self.close(piece, peer);
        let wanted = self.is_wanted(piece);
        let Some(known) = self.peers.get_mut(peer) else { return false };
        known.denials += 1;
        let liar = known.denials > DENIALS_MAX;
        if known.holds.remove(piece) {
            known.useful -= u32::from(wanted);
            if !known.origin {
                self.count_holder(piece, false);
            }
        }
        liar
    }

    /// An ask ended without an answer (a stream reset, not a lost connection): the piece is wanted
    /// again, and the peer gets a pause.
    pub fn failed(&mut self, peer: &HostId, piece: u32, now_ms: u64) {
        self.busy(peer, piece, now_ms);
    }

    /// Gives up the asks whose deadline has passed; they are to be cancelled.
    pub fn expire(&mut self, now_ms: u64) -> Vec<Ask> {
        let late = |(piece, asks): (&u32, &Vec<Open>)| {
            let late = asks.iter().filter(|ask| ask.deadline_ms <= now_ms);
            late.map(|ask| Ask { peer: ask.peer.clone(), piece: *piece }).collect::<Vec<_>>()
        };
        let expired: Vec<Ask> = self.open.iter().flat_map(late).collect();
        let mut late: BTreeSet<&HostId> = BTreeSet::new();
        for ask in &expired {
            self.close(ask.piece, &ask.peer);
            // Several asks that are late together are one sign of slowness.
            if late.insert(&ask.peer)
                && let Some(peer) = self.peers.get_mut(&ask.peer)
            {
                peer.late += 1;
            }
        }
        expired
    }

    /// When to call [`Self::expire`] and [`Self::asks`] next, if nothing happens before.
    pub fn next_ms(&self, now_ms: u64) -> Option<u64> {
        let asks = self.open.values().flatten();
        let asks = asks.flat_map(|ask| {
            let after = |wait_ms| ask.since_ms.saturating_add(wait_ms);
            [ask.deadline_ms, after(ENDGAME_AFTER_MS), after(SLOW_MS)]
        });
        let pauses = self.peers.values().map(|peer| peer.idle_until_ms);
        asks.chain(pauses).filter(|at_ms| *at_ms > now_ms).min()
    }

    /// Why nothing is being asked, if pieces are missing and nothing is.
    pub fn stall(&self) -> Option<Stall> {
        let missing = self.missing();
        if missing == 0 || !self.open.is_empty() {
            return None;
        }
        if self.peers.is_empty() {
            return Some(Stall::NoPeers { missing });
        }
        let held = |piece: u32| self.peers.values().any(|peer| peer.holds.contains(piece));
        let mut without = self.wanted.iter().map(|key| key.2).filter(|piece| !held(*piece));
        match without.next() {
            Some(piece) => {
                let without = 1 + u32::try_from(without.count()).unwrap_or(u32::MAX - 1);
                let peers = u32::try_from(self.peers.len()).unwrap_or(u32::MAX);
                Some(Stall::NoHolder { piece, without, peers })
            }
            None => Some(Stall::Busy { missing }),
        }
    }

    // --- picking ---

    fn pick(&self, id: &HostId, now_ms: u64) -> Option<u32> {
        let peer = &self.peers[id];
        let open: usize = self.open.values().map(Vec::len).sum();
        if open >= ASKS_MAX as usize || peer.open >= peer.pipeline() || peer.idle_until_ms > now_ms
        {
            return None;
        }
        let piece = match (peer.useful, peer.origin) {
            (0, _) => None,
            (_, false) => {
                self.wanted.iter().map(|key| key.2).find(|piece| peer.holds.contains(*piece))
            }
            (_, true) => self.pick_of_origin(peer, now_ms),
        };
        piece.or_else(|| self.pick_in_endgame(id, peer, now_ms))
    }

    /// A piece nobody else holds; else one whose every holder is paused or slow.
    fn pick_of_origin(&self, origin: &Peer, now_ms: u64) -> Option<u32> {
        let asks = self.open.values().flatten();
        let stuck: BTreeSet<&HostId> = asks
            .filter(|ask| ask.since_ms.saturating_add(SLOW_MS) <= now_ms)
            .map(|ask| &ask.peer)
            .collect();
        let willing = |(id, peer): &(&HostId, &Peer)| {
            !peer.origin && peer.late == 0 && peer.idle_until_ms <= now_ms && !stuck.contains(id)
        };
        let willing: Vec<&Peer> = self.peers.iter().filter(willing).map(|(_, peer)| peer).collect();
        let others = self.peers.values().filter(|peer| !peer.origin).count();
        self.wanted
            .iter()
            // Rarest first: with every peer willing, the first piece that somebody holds ends it.
            .take_while(|(holders, ..)| *holders == 0 || willing.len() < others)
            .map(|key| key.2)
            .find(|piece| {
                origin.holds.contains(*piece)
                    && !willing.iter().any(|peer| peer.holds.contains(*piece))
            })
    }

    /// One of the last pieces, asked of somebody else a while ago.
    fn pick_in_endgame(&self, id: &HostId, peer: &Peer, now_ms: u64) -> Option<u32> {
        if self.missing() > ENDGAME_PIECES {
            return None;
        }
        let slow = |asks: &[Open]| match asks {
            [only] => only.peer != *id && only.since_ms.saturating_add(ENDGAME_AFTER_MS) <= now_ms,
            _ => false,
        };
        let mut open = self.open.iter();
        open.find(|(piece, asks)| peer.holds.contains(**piece) && slow(asks))
            .map(|(piece, _)| *piece)
    }

    fn ask(&mut self, id: &HostId, piece: u32, now_ms: u64) {
        self.unwant(piece);
        let peer = self.peers.get_mut(id).expect("only connected peers are picked");
        peer.open += 1;
        let wait_ms = ASK_MS.saturating_mul(1 << peer.late.min(10)).min(ASK_MS_MAX);
        let deadline_ms = now_ms.saturating_add(wait_ms);
        let ask = Open { peer: id.clone(), since_ms: now_ms, deadline_ms };
        self.open.entry(piece).or_default().push(ask);
    }

    // --- bookkeeping ---

    /// Ends the ask of `piece` of `peer`, if there is one; without another one it is wanted again.
    fn close(&mut self, piece: u32, peer: &HostId) {
        let Some(asks) = self.open.get_mut(&piece) else { return };
        let before = asks.len();
        asks.retain(|ask| ask.peer != *peer);
        let (closed, none_left) = (asks.len() < before, asks.is_empty());
        if closed {
            self.released(peer);
        }
        if none_left {
            self.open.remove(&piece);
            self.want(piece);
        }
    }

    fn released(&mut self, peer: &HostId) {
        if let Some(peer) = self.peers.get_mut(peer) {
            peer.open = peer.open.saturating_sub(1);
        }
    }

    fn is_wanted(&self, piece: u32) -> bool {
        piece < self.here.len() && !self.here.contains(piece) && !self.open.contains_key(&piece)
    }

    fn key(&self, piece: u32) -> (u32, u32, u32) {
        (self.holders[piece as usize], self.ties[piece as usize], piece)
    }

    fn want(&mut self, piece: u32) {
        if self.wanted.insert(self.key(piece)) {
            let holding = self.peers.values_mut().filter(|peer| peer.holds.contains(piece));
            holding.for_each(|peer| peer.useful += 1);
        }
    }

    fn unwant(&mut self, piece: u32) {
        if piece < self.here.len() && self.wanted.remove(&self.key(piece)) {
            let holding = self.peers.values_mut().filter(|peer| peer.holds.contains(piece));
            holding.for_each(|peer| peer.useful -= 1);
        }
    }

    /// One more or one fewer peer holds `piece`: its place in the order changes.
    fn count_holder(&mut self, piece: u32, more: bool) {
        let wanted = self.wanted.remove(&self.key(piece));
        let holders = &mut self.holders[piece as usize];
        *holders = if more { *holders + 1 } else { *holders - 1 };
        if wanted {
            self.wanted.insert(self.key(piece));
        }
    }
}

impl Peer {
    fn pipeline(&self) -> u32 {
        match self {
            Self { late: 1.., .. } => 1,
            Self { origin: true, .. } => ORIGIN_PIPELINE,
            Self { origin: false, .. } => PIPELINE,
        }
    }
}
