//! The picker itself; its rules stand in the parent module.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use proto::HostId;
use proto::wire::NEW_PIECES_MAX;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};

use super::{
    ASK_MS, ASK_MS_MAX, ASKS_MAX, ASKS_WANTED, BUSY_MS, BUSY_MS_MAX, DENIALS_MAX, DOUBLED_MAX,
    ENDGAME_PIECES, NOTHING_NEW_MS, NOTHING_NEW_MS_MAX, PIPELINE_MAX, STUCK_FACTOR, STUCK_MAX,
    STUCK_MS, STUCK_MS_MAX, STUCK_MS_MIN,
};
use crate::bits::Bits;

/// Names an ask of this fetch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AskId(u64);

/// Ask this peer for this.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    pub id: AskId,
    pub peer: HostId,
    pub what: What,
    /// How long it takes, in ms, until it counts as stuck: see [`super::comes_soon`].
    pub slow_ms: u64,
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    Piece(u32),
    /// One of these, whichever the peer has given to nobody; at most [`NEW_PIECES_MAX`].
    New(Vec<u32>),
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Piece(piece) => write!(f, "piece {piece}"),
            Self::New(named) => write!(f, "a new one of {} pieces", named.len()),
        }
    }
}

/// Why nothing is being asked although something is missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stall {
    /// Nobody gives the manifest: which pieces there are is not known yet.
    NoManifest,
    /// Nobody is connected that announces the artifact.
    NoPeers { missing: u32 },
    /// The peers there are do not hold it, and the origin is not among them.
    NoHolder { piece: u32, without: u32, peers: u32 },
    /// Peers hold it and all asked for a pause.
    Busy { missing: u32 },
    /// Another fetch of the artifact is under way, and this one has not begun.
    Waits,
}

impl fmt::Display for Stall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoManifest => f.write_str("no member that is connected gives the manifest"),
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
            Self::Waits => f.write_str("it waits for another fetch of the same artifact"),
        }
    }
}

#[derive(Debug)]
struct Peer {
    origin: bool,
    /// It gives new pieces when asked for them: not so one of an earlier version.
    gives_new: bool,
    holds: Bits,
    /// Wanted pieces among `holds`: spares the search when there are none.
    useful: u32,
    open: u32,
    /// Deadlines missed since the last piece.
    late: u32,
    /// "Busy" since the last piece.
    busy: u32,
    /// "Nothing new" since the last new piece, and since when.
    nothing_new: u32,
    nothing_new_since_ms: u64,
    new_idle_until_ms: u64,
    /// Pieces announced and not there.
    denials: u32,
    idle_until_ms: u64,
    /// Round trip and time from its first byte to its last of a piece, in ms; 0: not known.
    round_trip_ms: u64,
    piece_ms: u64,
    /// This fetcher's own order among equally busy peers, so that not everybody starts with one.
    tie: u32,
}

#[derive(Debug, Clone)]
struct Open {
    peer: HostId,
    /// None: whichever it gives.
    piece: Option<u32>,
    since_ms: u64,
    /// When its first bytes came.
    begun_ms: Option<u64>,
    deadline_ms: u64,
}

/// Decides what to ask of whom for one artifact.
///
/// Invariant: every piece is verified, wanted (missing and asked of nobody) or asked for (of one peer,
/// of others, too, where those are stuck), and exactly one of these. An ask for a new piece is of none until
/// it is known which comes.
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
    open: BTreeMap<AskId, Open>,
    /// The asks of each piece that is asked for.
    of_piece: BTreeMap<u32, Vec<AskId>>,
    next_id: u64,
    /// How long asks take, smoothed, in ms; none before the first piece.
    usual_ms: Option<u64>,
    peers: BTreeMap<HostId, Peer>,
    /// What is remembered of peers that are not connected: a new connection makes nobody better.
    gone: BTreeMap<HostId, Gone>,
    banned: BTreeSet<HostId>,
}

/// See [`Peer`].
#[derive(Debug, Default)]
struct Gone {
    late: u32,
    denials: u32,
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
        let (open, of_piece, next_id, usual_ms, peers, gone, banned) = Default::default();
        Self {
            here,
            chance,
            ties,
            holders,
            wanted,
            open,
            of_piece,
            next_id,
            usual_ms,
            peers,
            gone,
            banned,
        }
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

    // --- peers ---

    /// A peer is connected and holds nothing yet as far as is known. Ignored if it is banned.
    pub fn connected(&mut self, peer: HostId, origin: bool) {
        if self.banned.contains(&peer) || self.peers.contains_key(&peer) {
            return;
        }
        let known = self.gone.remove(&peer).unwrap_or_default();
        let peer_state = Peer {
            origin,
            gives_new: origin,
            holds: Bits::none(self.here.len()),
            useful: 0,
            open: 0,
            late: known.late,
            busy: 0,
            nothing_new: 0,
            nothing_new_since_ms: 0,
            new_idle_until_ms: 0,
            denials: known.denials,
            idle_until_ms: 0,
            round_trip_ms: 0,
            piece_ms: 0,
            tie: self.chance.next_u32(),
        };
        self.peers.insert(peer, peer_state);
    }

    /// A peer is gone: what was asked of it is wanted again. Returns what it was asked.
    pub fn disconnected(&mut self, peer: &HostId) -> Vec<AskId> {
        let of_it = self.open.iter().filter(|(_, ask)| ask.peer == *peer);
        let asks: Vec<AskId> = of_it.map(|(id, _)| *id).collect();
        for id in &asks {
            self.close(*id);
        }
        let Some(gone) = self.peers.remove(peer) else { return asks };
        let Peer { late, denials, .. } = gone;
        self.gone.insert(peer.clone(), Gone { late, denials });
        if !gone.origin {
            let held: Vec<u32> = gone.holds.iter().collect();
            held.into_iter().for_each(|piece| self.count_holder(piece, false));
        }
        asks
    }

    /// A peer says it holds these pieces. It may hold others of which it said so before.
    pub fn holds(&mut self, peer: &HostId, pieces: &Bits) {
        let Some(known) = self.peers.get(peer) else { return };
        if pieces.len() != self.here.len() {
            return;
        }
        let origin = known.origin;
        let new: Vec<u32> = pieces.without(&known.holds).collect();
        for piece in new {
            let wanted = self.is_wanted(piece);
            if let Some(peer) = self.peers.get_mut(peer) {
                peer.holds.insert(piece);
                peer.useful += u32::from(wanted);
            }
            if !origin {
                self.count_holder(piece, true);
            }
        }
    }

    // --- asks ---

    /// All that should be asked now, in order. Each ask counts as made.
    pub fn asks(&mut self, now_ms: u64) -> Vec<Ask> {
        self.asks_at_most(usize::MAX, now_ms)
    }

    /// The same, so many of them at most: where others have to wait for leave of this host's own.
    pub fn asks_at_most(&mut self, most: usize, now_ms: u64) -> Vec<Ask> {
        let mut asks = Vec::new();
        // One each in turn, so that a full pipeline to the first peer starves nobody; the origin
        // first: it is asked only for what peers do not give.
        for origin in [true, false] {
            loop {
                let before = asks.len();
                let has_room =
                    |peer: &Peer| peer.open < self.pipeline(peer) && peer.idle_until_ms <= now_ms;
                let peers = self.peers.iter();
                let peers = peers.filter(|(_, peer)| peer.origin == origin && has_room(peer));
                // Those that let a deadline pass come last, or they would sit on what others have.
                let turn =
                    |(id, peer): (&HostId, &Peer)| ((peer.late, peer.open, peer.tie), id.clone());
                let mut turns: Vec<_> = peers.map(turn).collect();
                turns.sort();
                for (_, peer) in turns {
                    if asks.len() == most {
                        return asks;
                    }
                    if let Some(what) = self.pick(&peer, now_ms) {
                        asks.push(self.ask(peer, what, now_ms));
                    }
                }
                if asks.len() == before {
                    break;
                }
            }
        }
        asks
    }

    /// Whether [`Self::asks`] would ask for anything now.
    pub fn would_ask(&self, now_ms: u64) -> bool {
        let has_room =
            |peer: &Peer| peer.open < self.pipeline(peer) && peer.idle_until_ms <= now_ms;
        let mut peers = self.peers.iter().filter(|(_, peer)| has_room(peer));
        peers.any(|(id, _)| self.pick(id, now_ms).is_some())
    }

    /// The first word of an answer has come, and its bytes follow: of this piece. `round_trip_ms`: to
    /// that peer and back. Returns the asks that it makes superfluous, to be cancelled: among them
    /// itself, if that piece is here, or comes from somebody else already.
    pub fn begun(&mut self, id: AskId, piece: u32, round_trip_ms: u64, now_ms: u64) -> Vec<AskId> {
        let Some(ask) = self.open.get(&id) else { return Vec::new() };
        let (named, peer) = (ask.piece, ask.peer.clone());
        let others = self.of_piece.get(&piece).cloned().unwrap_or_default();
        if named.is_none() {
            let flows = |other: &AskId| self.open[other].begun_ms.is_some();
            if self.here.contains(piece) || others.iter().any(flows) {
                self.close(id);
                return vec![id];
            }
            self.unwant(piece);
            self.of_piece.entry(piece).or_default().push(id);
        }
        let deadline_ms = self.deadline_ms(&peer, now_ms);
        if let Some(ask) = self.open.get_mut(&id) {
            (ask.piece, ask.begun_ms, ask.deadline_ms) = (Some(piece), Some(now_ms), deadline_ms);
        }
        if let Some(peer) = self.peers.get_mut(&peer) {
            peer.round_trip_ms = round_trip_ms;
            if named.is_none() {
                (peer.nothing_new, peer.new_idle_until_ms) = (0, 0);
            }
        }
        // Those that only wait cost nothing to take back.
        let waits = |other: &AskId| *other != id && self.open[other].begun_ms.is_none();
        let waiting: Vec<AskId> = others.into_iter().filter(waits).collect();
        for other in &waiting {
            self.close(*other);
        }
        waiting
    }

    /// More of an answer has come, [`super::PROGRESS_BYTES`] or more.
    pub fn comes(&mut self, id: AskId, now_ms: u64) {
        let Some(peer) = self.open.get(&id).map(|ask| ask.peer.clone()) else { return };
        let deadline_ms = self.deadline_ms(&peer, now_ms);
        if let Some(ask) = self.open.get_mut(&id) {
            ask.deadline_ms = deadline_ms;
        }
    }

    /// A piece has come from `peer`, was right, and is stored. Returns the asks it makes
    /// superfluous, to be cancelled. A piece that comes after its ask was given up counts, too.
    pub fn verified(&mut self, id: AskId, peer: &HostId, piece: u32, now_ms: u64) -> Vec<AskId> {
        if let Some(peer) = self.peers.get_mut(peer) {
            (peer.late, peer.busy, peer.idle_until_ms) = (0, 0, 0);
        }
        if let Some(ask) = self.close(id) {
            self.took(&ask, now_ms);
        }
        let others = self.of_piece.remove(&piece).unwrap_or_default();
        for other in &others {
            if let Some(ask) = self.open.remove(other) {
                self.released(&ask.peer);
            }
        }
        self.unwant(piece);
        if piece < self.here.len() {
            self.here.insert(piece);
        }
        others
    }

    /// `peer` sent bytes that are not the piece: it is banned. Returns what else it was asked.
    pub fn wrong(&mut self, peer: &HostId) -> Vec<AskId> {
        self.banned.insert(peer.clone());
        self.disconnected(peer)
    }

    /// The peer is busy: it gets a pause.
    pub fn busy(&mut self, id: AskId, now_ms: u64) {
        let Some(ask) = self.close(id) else { return };
        if let Some(peer) = self.peers.get_mut(&ask.peer) {
            // Several that hear so together are one sign.
            if peer.idle_until_ms <= now_ms {
                let pause_ms = BUSY_MS.saturating_mul(1 << peer.busy.min(10)).min(BUSY_MS_MAX);
                peer.busy += 1;
                peer.idle_until_ms = now_ms.saturating_add(pause_ms);
            }
        }
    }

    /// The peer has not got what it was asked for: a piece that it announced, or one that it gave to
    /// nobody. Returns whether the former happened too often: it is then to be banned ([`Self::wrong`]).
    pub fn denied(&mut self, id: AskId, now_ms: u64) -> bool {
        let Some(ask) = self.close(id) else { return false };
        let wanted = ask.piece.is_some_and(|piece| self.is_wanted(piece));
        let Some(known) = self.peers.get_mut(&ask.peer) else { return false };
        let Some(piece) = ask.piece else {
            if known.nothing_new == 0 {
                known.nothing_new_since_ms = now_ms;
            }
            if known.new_idle_until_ms <= now_ms {
                let pause_ms = NOTHING_NEW_MS.saturating_mul(1 << known.nothing_new.min(10));
                known.nothing_new += 1;
                known.new_idle_until_ms = now_ms.saturating_add(pause_ms.min(NOTHING_NEW_MS_MAX));
            }
            return false;
        };
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

    /// An ask ended without an answer (a stream reset, not a lost connection): what it was for is wanted
    /// again, and the peer gets a pause. One that was asked for something new may not know what that
    /// is: it is asked by name from then on.
    pub fn failed(&mut self, id: AskId, now_ms: u64) {
        let of_new = self.open.get(&id).filter(|ask| ask.piece.is_none());
        let Some(peer) = of_new.map(|ask| ask.peer.clone()) else { return self.busy(id, now_ms) };
        self.close(id);
        if let Some(peer) = self.peers.get_mut(&peer) {
            peer.gives_new = false;
        }
    }

    /// An answer did not come in time, or not to its end.
    pub fn late(&mut self, id: AskId) {
        if let Some(ask) = self.close(id)
            && let Some(peer) = self.peers.get_mut(&ask.peer)
        {
            peer.late += 1;
        }
    }

    /// Gives up the asks whose deadline has passed; they are to be cancelled.
    pub fn expire(&mut self, now_ms: u64) -> Vec<AskId> {
        let late = self.open.iter().filter(|(_, ask)| ask.deadline_ms <= now_ms);
        let expired: Vec<AskId> = late.map(|(id, _)| *id).collect();
        let mut late: BTreeSet<HostId> = BTreeSet::new();
        for id in &expired {
            // Several asks that are late together are one sign of slowness.
            match self.open.get(id).is_some_and(|ask| late.insert(ask.peer.clone())) {
                true => self.late(*id),
                false => drop(self.close(*id)),
            }
        }
        expired
    }

    /// When to call [`Self::expire`] and [`Self::asks`] next, if nothing happens before.
    pub fn next_ms(&self, now_ms: u64) -> Option<u64> {
        let (stuck_ms, sooner_ms) = (self.stuck_ms(), self.endgame_ms());
        let asks = self.open.values().flat_map(|ask| {
            let after = |wait_ms| ask.since_ms.saturating_add(wait_ms);
            [ask.deadline_ms, after(stuck_ms), after(sooner_ms)]
        });
        let pauses = self.peers.values().flat_map(|peer| {
            let by_name_ms = peer.nothing_new_since_ms.saturating_add(stuck_ms);
            let by_name_ms = if peer.nothing_new > 0 { by_name_ms } else { 0 };
            [peer.idle_until_ms, peer.new_idle_until_ms, by_name_ms]
        });
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

    fn pick(&self, id: &HostId, now_ms: u64) -> Option<What> {
        let peer = &self.peers[id];
        let stuck = self.open.values().filter(|ask| self.is_stuck(ask, now_ms)).count();
        if self.open.len() - stuck >= ASKS_MAX as usize
            || self.open.len() >= (ASKS_MAX + STUCK_MAX) as usize
        {
            return None;
        }
        let what = match (peer.useful, peer.origin) {
            (0, _) => None,
            (_, false) => self.rarest_of(peer).map(What::Piece),
            (_, true) => self.pick_of_origin(peer, now_ms),
        };
        what.or_else(|| self.pick_stuck(id, peer, now_ms).map(What::Piece))
    }

    fn rarest_of(&self, peer: &Peer) -> Option<u32> {
        let held = self.wanted.range((1, 0, 0)..);
        held.map(|key| key.2).find(|piece| peer.holds.contains(*piece))
    }

    /// Something new; else, a while after there was nothing new, what no peer holds all the same; else
    /// what peers hold of whom none is willing.
    fn pick_of_origin(&self, origin: &Peer, now_ms: u64) -> Option<What> {
        let of_nobody = self.wanted.iter().take_while(|(holders, ..)| *holders == 0);
        let of_nobody = of_nobody.map(|key| key.2).filter(|piece| origin.holds.contains(*piece));
        let mut named: Vec<u32> = of_nobody.take(NEW_PIECES_MAX).collect();
        if named.is_empty() {
            named = self.unwilling(origin, now_ms);
        }
        match named.first() {
            None => None,
            Some(_) if self.has_new(origin, now_ms) => {
                (origin.new_idle_until_ms <= now_ms).then_some(What::New(named))
            }
            Some(piece) => Some(What::Piece(*piece)),
        }
    }

    /// Whether the origin is asked for something new: until it has had nothing for a while, and nobody
    /// else gives anything.
    fn has_new(&self, origin: &Peer, now_ms: u64) -> bool {
        let gives_nothing = |ask: &Open| {
            self.is_stuck(ask, now_ms) || self.peers.get(&ask.peer).is_some_and(|peer| peer.origin)
        };
        let idle = || self.open.values().all(gives_nothing);
        let waits_ms = origin.nothing_new_since_ms.saturating_add(self.stuck_ms());
        origin.gives_new && (origin.nothing_new == 0 || waits_ms > now_ms || !idle())
    }

    /// The rarest pieces that peers hold of whom all are paused, late or stuck.
    fn unwilling(&self, origin: &Peer, now_ms: u64) -> Vec<u32> {
        let stuck = self.open.values().filter(|ask| self.is_stuck(ask, now_ms));
        let stuck: BTreeSet<&HostId> = stuck.map(|ask| &ask.peer).collect();
        let willing = |(id, peer): &(&HostId, &Peer)| {
            !peer.origin && peer.late == 0 && peer.idle_until_ms <= now_ms && !stuck.contains(id)
        };
        let willing: Vec<&Peer> = self.peers.iter().filter(willing).map(|(_, peer)| peer).collect();
        if willing.len() == self.peers.values().filter(|peer| !peer.origin).count() {
            return Vec::new();
        }
        let by_others = |piece: &u32| willing.iter().any(|peer| peer.holds.contains(*piece));
        let held = self.wanted.range((1, 0, 0)..).map(|key| key.2);
        let left = held.filter(|piece| origin.holds.contains(*piece) && !by_others(piece));
        left.take(NEW_PIECES_MAX).collect()
    }

    /// A piece all of whose asks are stuck at others, the one that is so for longest.
    fn pick_stuck(&self, id: &HostId, peer: &Peer, now_ms: u64) -> Option<u32> {
        let endgame = self.missing() <= ENDGAME_PIECES;
        let after_ms = if endgame { self.endgame_ms() } else { self.stuck_ms() };
        let flows = |asks: &[AskId]| asks.iter().any(|ask| self.open[ask].begun_ms.is_some());
        let doubled = self.of_piece.values().filter(|asks| asks.len() > 1 && flows(asks)).count();
        let may_be = |piece: u32, asks: &[AskId]| {
            let stuck =
                |ask: &Open| ask.peer != *id && ask.since_ms.saturating_add(after_ms) <= now_ms;
            peer.holds.contains(piece)
                && asks.iter().all(|ask| stuck(&self.open[ask]))
                && (doubled < DOUBLED_MAX as usize || !flows(asks))
        };
        let stuck = self.of_piece.iter().filter(|(piece, asks)| may_be(**piece, asks));
        stuck.min_by_key(|(piece, asks)| (asks.first(), **piece)).map(|(piece, _)| *piece)
    }

    fn ask(&mut self, peer: HostId, what: What, now_ms: u64) -> Ask {
        let id = AskId(self.next_id);
        self.next_id += 1;
        let piece = match &what {
            What::Piece(piece) => Some(*piece),
            What::New(_) => None,
        };
        if let Some(piece) = piece {
            self.unwant(piece);
            self.of_piece.entry(piece).or_default().push(id);
        }
        let deadline_ms = self.deadline_ms(&peer, now_ms);
        let open =
            Open { peer: peer.clone(), piece, since_ms: now_ms, begun_ms: None, deadline_ms };
        self.open.insert(id, open);
        self.peers.get_mut(&peer).expect("only connected peers are picked").open += 1;
        Ask { id, peer, what, slow_ms: self.stuck_ms() }
    }

    /// How many asks keep its line filled: as many as make up a handful with those of the others, and
    /// one more for each that would come in a round trip.
    fn pipeline(&self, peer: &Peer) -> u32 {
        if peer.late > 0 {
            return 1;
        }
        let peers = u32::try_from(self.peers.len()).unwrap_or(u32::MAX);
        let in_a_round_trip = match peer.piece_ms {
            0 => 0,
            piece_ms => u32::try_from(peer.round_trip_ms / piece_ms).unwrap_or(PIPELINE_MAX),
        };
        let share = (ASKS_WANTED / peers).max(1);
        share.saturating_add(in_a_round_trip).min(PIPELINE_MAX)
    }

    // --- time ---

    fn deadline_ms(&self, peer: &HostId, now_ms: u64) -> u64 {
        let late = self.peers.get(peer).map_or(0, |peer| peer.late);
        now_ms.saturating_add(ASK_MS.saturating_mul(1 << late.min(10)).min(ASK_MS_MAX))
    }

    /// How long an ask is open until it counts as stuck.
    fn stuck_ms(&self) -> u64 {
        let usual = |usual_ms| STUCK_FACTOR * usual_ms;
        self.usual_ms.map_or(STUCK_MS, usual).clamp(STUCK_MS_MIN, STUCK_MS_MAX)
    }

    /// The same for the last pieces.
    fn endgame_ms(&self) -> u64 {
        self.stuck_ms() / 2
    }

    fn is_stuck(&self, ask: &Open, now_ms: u64) -> bool {
        ask.since_ms.saturating_add(self.stuck_ms()) <= now_ms
    }

    /// A piece was answered: learns how long that takes.
    fn took(&mut self, ask: &Open, now_ms: u64) {
        let took_ms = now_ms.saturating_sub(ask.since_ms);
        self.usual_ms = Some(smoothed(self.usual_ms, took_ms));
        if let (Some(begun_ms), Some(peer)) = (ask.begun_ms, self.peers.get_mut(&ask.peer)) {
            let known_ms = Some(peer.piece_ms).filter(|known_ms| *known_ms > 0);
            peer.piece_ms = smoothed(known_ms, now_ms.saturating_sub(begun_ms).max(1));
        }
    }

    // --- bookkeeping ---

    /// Ends an ask, if it is open; its piece is wanted again unless it is asked of another one.
    fn close(&mut self, id: AskId) -> Option<Open> {
        let ask = self.open.remove(&id)?;
        self.released(&ask.peer);
        if let Some(piece) = ask.piece
            && let Some(asks) = self.of_piece.get_mut(&piece)
        {
            asks.retain(|other| *other != id);
            if asks.is_empty() {
                self.of_piece.remove(&piece);
                self.want(piece);
            }
        }
        Some(ask)
    }

    fn released(&mut self, peer: &HostId) {
        if let Some(peer) = self.peers.get_mut(peer) {
            peer.open = peer.open.saturating_sub(1);
        }
    }

    fn is_wanted(&self, piece: u32) -> bool {
        piece < self.here.len() && !self.here.contains(piece) && !self.of_piece.contains_key(&piece)
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

/// An eighth of what is new, as TCP smooths round trips (RFC 6298).
fn smoothed(known_ms: Option<u64>, now_ms: u64) -> u64 {
    known_ms.map_or(now_ms, |known_ms| (7 * known_ms + now_ms) / 8)
}
