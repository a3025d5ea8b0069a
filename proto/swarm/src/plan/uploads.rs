//! Whom to give what next.

use std::collections::{BTreeMap, BTreeSet};

use proto::Digest;
use proto::artifact::PIECE_RAW_BYTES;

use super::{
    FIRST_COPIES_MAX, PASSED_ON_FACTOR, PASSED_ON_MS_MIN, Pause, UPLOAD_BYTES_PER_S_MIN,
    UPLOAD_SLOW_FACTOR, UPLOAD_SLOW_MS, UPLOAD_SLOW_MS_FIRST, UPLOAD_SLOW_MS_MAX, UPLOADS_AT_ONCE,
    UPLOADS_MAX, UPLOADS_PER_PEER_MAX, USUAL_BESIDE_FIRST, WAITING_MAX, WAITING_PER_PEER_MAX, What,
};
use crate::bits::Bits;

/// Artifacts of which it is remembered what was given; more than a member holds.
const ARTIFACTS_MAX: usize = 64;

/// How long nobody asked for an artifact, in ms, until it is forgotten what was given of it.
const ANEW_MS: u64 = 60_000;
/// How long an ask waits, in ms, until it comes before what was given less: so that what many have is not
/// kept waiting by ever more that is new.
const PATIENCE_MS: u64 = 1_000;

/// One ask, from its coming to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(u64);

/// An ask whose turn has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Given {
    /// This piece is to be given, and [`Uploads::ended`] called after it.
    Piece(u32),
    /// It was for something new, and all that it named has been given to somebody, or is not here. Its
    /// ticket has ended.
    NothingNew,
    /// Uploads rest. Its ticket has ended.
    Busy,
}

#[derive(Debug)]
struct Waiting<P> {
    peer: P,
    artifact: Digest,
    what: What,
    since_ms: u64,
}

/// What was given of an artifact.
#[derive(Debug, Default)]
struct Counts {
    of_piece: Vec<Times>,
    /// Pieces given to somebody.
    out: u32,
    /// When it was asked for last.
    asked_ms: u64,
    /// How many pieces it has; 0 before one was given.
    pieces: u32,
    /// How many turns it would have had, had it been waited for from the start.
    turns: u64,
}

/// How often a piece was given, and when it was last.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Times {
    times: u32,
    last_ms: u64,
}

#[derive(Debug)]
struct Running<P> {
    peer: P,
    artifact: Digest,
    piece: u32,
    since_ms: u64,
}

/// The asks at one member: a few are answered at a time, the others wait.
///
/// Of those that wait, artifacts come in turn. Of one artifact, first come those whose asker is given
/// nothing now, then the piece that was given least: what nobody else has can be passed on by others as
/// soon as it is out. Who has many asks waiting is no better off, and no artifact starves another one.
///
/// What goes first has its own places in the line and among those being given, whatever the others took
/// before; while it has any, the others have [`USUAL_BESIDE_FIRST`]. It is not concerned by a pause. Who
/// was given as much of it as makes [`FIRST_COPIES_MAX`] copies is one of the others from then on: nobody
/// keeps a giver from them by asking for it for ever.
#[derive(Debug)]
pub struct Uploads<P> {
    next: u64,
    waiting: BTreeMap<Ticket, Waiting<P>>,
    running: BTreeMap<Ticket, Running<P>>,
    given: BTreeMap<Digest, Counts>,
    /// How long it takes to give a piece, in ms: none before the first.
    usual_ms: Option<u64>,
    /// Its turns before that one, of the artifact that had the last.
    turn: u64,
    first: BTreeSet<Digest>,
    /// Pieces of those, by who was given them.
    had: BTreeMap<(Digest, P), u32>,
    /// Bytes per second in all; none: as many as the line carries.
    rate: Option<u64>,
    pause: Pause,
}

impl<P> Default for Uploads<P> {
    fn default() -> Self {
        let (waiting, running, given, first, had, pause) = Default::default();
        let (turn, rate, usual_ms) = (0, None, None);
        Self { next: 0, waiting, running, given, usual_ms, turn, first, had, rate, pause }
    }
}

impl<P: Ord + Clone> Uploads<P> {
    /// `peer` asks for something of an artifact that is known here; a piece that it names is known to be
    /// one of it. None: too many wait, or uploads rest.
    pub fn ask(&mut self, peer: P, artifact: Digest, what: What, now_ms: u64) -> Option<Ticket> {
        let is_first = self.goes_first(&peer, &artifact);
        let alike =
            |waiting: &&Waiting<P>| self.goes_first(&waiting.peer, &waiting.artifact) == is_first;
        let alike: Vec<_> = self.waiting.values().filter(alike).collect();
        let own = alike.iter().filter(|waiting| waiting.peer == peer).count();
        let rests = !is_first && self.pause.is_on(now_ms);
        if rests || alike.len() >= WAITING_MAX || own >= WAITING_PER_PEER_MAX {
            return None;
        }
        let turn = self.turn;
        let counts = self.counts(&artifact);
        // Nobody saves turns up.
        counts.turns = counts.turns.max(turn);
        if now_ms.saturating_sub(counts.asked_ms) > ANEW_MS {
            // Another time that it is brought to hosts: what some were given then is new to these.
            (counts.of_piece, counts.out) = Default::default();
        }
        counts.asked_ms = now_ms;
        let ticket = Ticket(self.next);
        self.next += 1;
        self.waiting.insert(ticket, Waiting { peer, artifact, what, since_ms: now_ms });
        Some(ticket)
    }

    /// The next ask whose turn has come, if there is a place for it; to be called until there is none.
    /// `here`: what this member holds of an artifact.
    pub fn turn(
        &mut self,
        now_ms: u64,
        here: impl Fn(&Digest) -> Option<Bits>,
    ) -> Option<(Ticket, Given)> {
        if let Some(ticket) = self.put_off(now_ms) {
            self.waiting.remove(&ticket);
            return Some((ticket, Given::Busy));
        }
        let ticket = self.next_turn(now_ms)?;
        let Waiting { peer, artifact, what, .. } = self.waiting.remove(&ticket)?;
        let turn = self.turn;
        let here = here(&artifact);
        let piece = match what {
            What::Piece(piece) => Some(piece),
            What::New(pieces) => {
                here.as_ref().and_then(|here| self.new_of(&artifact, &pieces, here, now_ms))
            }
        };
        let Some(piece) = piece else { return Some((ticket, Given::NothingNew)) };
        self.gave(&artifact, piece, now_ms);
        let counts = self.counts(&artifact);
        counts.pieces = here.map_or(counts.pieces, |here| here.len());
        (counts.turns, self.turn) = (counts.turns + 1, counts.turns.max(turn));
        if self.first.contains(&artifact) {
            *self.had.entry((artifact, peer.clone())).or_default() += 1;
        }
        self.running.insert(ticket, Running { peer, artifact, piece, since_ms: now_ms });
        Some((ticket, Given::Piece(piece)))
    }

    /// An ask is over, whether it waited or ran: `delivered`, the asker has all of it.
    pub fn ended(&mut self, ticket: Ticket, delivered: bool, now_ms: u64) {
        self.waiting.remove(&ticket);
        let Some(Running { artifact, piece, since_ms, .. }) = self.running.remove(&ticket) else {
            return;
        };
        match delivered {
            true => self.took(now_ms.saturating_sub(since_ms)),
            false => self.gave_not(&artifact, piece),
        }
    }

    /// How many asks wait, and how many are answered now.
    pub fn load(&self) -> (usize, usize) {
        (self.waiting.len(), self.running.len())
    }

    /// Learns how long it takes to give a piece: soon from quick ones, slowly from slow ones, which an
    /// asker can make as slow as it likes.
    fn took(&mut self, took_ms: u64) {
        self.usual_ms = Some(match self.usual_ms {
            Some(usual_ms) if took_ms < usual_ms => usual_ms.midpoint(took_ms),
            Some(usual_ms) => (7 * usual_ms + took_ms) / 8,
            None => took_ms,
        });
    }

    /// What goes first from now on, whatever waits or is given already.
    pub fn set_first(&mut self, first: BTreeSet<Digest>) {
        self.had.retain(|(artifact, _), _| first.contains(artifact));
        self.first = first;
    }

    /// Whether what is asked for by this ask, or is being given, goes first.
    pub fn is_first(&self, ticket: Ticket) -> bool {
        let waiting = self.waiting.get(&ticket).map(|one| (&one.peer, &one.artifact));
        let running = self.running.get(&ticket).map(|one| (&one.peer, &one.artifact));
        waiting.or(running).is_some_and(|(peer, artifact)| self.goes_first(peer, artifact))
    }

    fn goes_first(&self, peer: &P, artifact: &Digest) -> bool {
        let pieces = || self.given.get(artifact).map_or(0, |counts| counts.pieces);
        let had = || self.had.get(&(*artifact, peer.clone())).copied().unwrap_or_default();
        self.first.contains(artifact) && had() <= pieces().saturating_mul(FIRST_COPIES_MAX)
    }

    /// So many bytes per second are given from now on, in all; none: as many as the line carries. Where
    /// they are few, fewer pieces are given at a time.
    pub fn set_rate(&mut self, rate: Option<u64>) {
        self.rate = rate;
    }

    /// Whether this host's own service is in trouble from now on: all but what goes first hear that it is
    /// busy here, for as long as [`Pause`] lets them.
    pub fn set_trouble(&mut self, trouble: bool, now_ms: u64) {
        self.pause.set(trouble, now_ms);
    }

    /// Who waits in vain.
    fn put_off(&self, now_ms: u64) -> Option<Ticket> {
        let rests = self.pause.is_on(now_ms);
        let mut waiting = self.waiting.iter().filter(|_| rests);
        let usual = waiting.find(|(_, one)| !self.goes_first(&one.peer, &one.artifact));
        usual.map(|(ticket, _)| *ticket)
    }

    /// Who comes next, if there is a place.
    fn next_turn(&self, now_ms: u64) -> Option<Ticket> {
        let goes_first = |peer: &P, artifact: &Digest| self.goes_first(peer, artifact);
        // Who takes and does not read must not keep the others waiting.
        let slow_ms = self.slow_ms();
        let soon_done = |running: &Running<P>| running.since_ms.saturating_add(slow_ms) > now_ms;
        let given = |is_first: bool| {
            let running = self.running.values();
            let alike = running.filter(|one| goes_first(&one.peer, &one.artifact) == is_first);
            alike.fold((0, 0), |(all, soon), one| (all + 1, soon + usize::from(soon_done(one))))
        };
        let (first, usual) = (given(true), given(false));
        let mut waiting = self.waiting.values();
        let is_about = first.1 > 0 || waiting.any(|one| goes_first(&one.peer, &one.artifact));
        let beside = if is_about { USUAL_BESIDE_FIRST } else { UPLOADS_AT_ONCE };
        let has_room = |is_first: bool| {
            let ((all, soon), most) =
                if is_first { (first, UPLOADS_AT_ONCE) } else { (usual, beside) };
            all < UPLOADS_MAX && soon < most.min(self.at_once())
        };
        // Nor be given the room that it makes.
        let own_max = if self.running.len() < self.at_once() { UPLOADS_PER_PEER_MAX } else { 1 };
        let place = |(ticket, waiting): (&Ticket, &Waiting<P>)| {
            let Waiting { peer, artifact, .. } = waiting;
            let is_first = goes_first(peer, artifact);
            let own = self.running.values().filter(|running| {
                running.peer == *peer && goes_first(peer, &running.artifact) == is_first
            });
            let own = own.count();
            let waited = waiting.since_ms.saturating_add(PATIENCE_MS) <= now_ms;
            let times = if waited { 0 } else { self.times_given(waiting) };
            let turns = self.given.get(artifact).map_or(0, |counts| counts.turns);
            (own < own_max && has_room(is_first)).then_some((!is_first, turns, own, times, *ticket))
        };
        let (.., ticket) = self.waiting.iter().filter_map(place).min()?;
        Some(ticket)
    }

    /// How many of a kind are given at a time.
    fn at_once(&self) -> usize {
        let full = |rate: u64| usize::try_from(rate / UPLOAD_BYTES_PER_S_MIN).unwrap_or(usize::MAX);
        self.rate.map_or(UPLOADS_AT_ONCE, |rate| full(rate).clamp(1, UPLOADS_AT_ONCE))
    }

    /// From when on an upload makes room for another one, in ms after it began: what this host's own rate
    /// makes of it is not its taker's fault.
    fn slow_ms(&self) -> u64 {
        let usual = |usual_ms| UPLOAD_SLOW_FACTOR * usual_ms;
        let slow_ms = self.usual_ms.map_or(UPLOAD_SLOW_MS_FIRST, usual);
        let at_once = u64::try_from(self.at_once()).unwrap_or(u64::MAX);
        let own_bytes = at_once.saturating_mul((*PIECE_RAW_BYTES.end()).into());
        let own_ms = |rate: u64| own_bytes.saturating_mul(1_000) / rate.max(1);
        let own_ms = self.rate.map_or(0, own_ms);
        slow_ms.clamp(UPLOAD_SLOW_MS, UPLOAD_SLOW_MS_MAX).saturating_add(own_ms)
    }

    /// How often what is waited for was given. Something new: never, or the answer is short.
    fn times_given(&self, waiting: &Waiting<P>) -> u32 {
        match waiting.what {
            What::Piece(piece) => self.times(&waiting.artifact, piece).times,
            What::New(_) => 0,
        }
    }

    /// The first of those that are `here` that was given to nobody. Once all of it is out, what was given
    /// least, and not lately: nobody whom the asker knows has it, so who has it does not pass it on.
    fn new_of(&self, artifact: &Digest, named: &[u32], here: &Bits, now_ms: u64) -> Option<u32> {
        let held = || named.iter().copied().filter(|piece| here.contains(*piece));
        let new = held().find(|piece| self.times(artifact, *piece).times == 0);
        let is_out = self.given.get(artifact).is_some_and(|counts| counts.out >= here.len());
        if new.is_some() || !is_out {
            return new;
        }
        let usual_ms = self.usual_ms?;
        let wait_ms = usual_ms.saturating_mul(PASSED_ON_FACTOR).max(PASSED_ON_MS_MIN);
        let kept =
            |piece: &u32| self.times(artifact, *piece).last_ms.saturating_add(wait_ms) <= now_ms;
        held().filter(kept).min_by_key(|piece| self.times(artifact, *piece))
    }

    fn times(&self, artifact: &Digest, piece: u32) -> Times {
        let counts = self.given.get(artifact);
        counts.and_then(|counts| counts.of_piece.get(piece as usize)).copied().unwrap_or_default()
    }

    fn gave(&mut self, artifact: &Digest, piece: u32, now_ms: u64) {
        let counts = self.counts(artifact);
        let at = piece as usize;
        if counts.of_piece.len() <= at {
            counts.of_piece.resize(at + 1, Times::default());
        }
        let Times { times, .. } = counts.of_piece[at];
        counts.of_piece[at] = Times { times: times.saturating_add(1), last_ms: now_ms };
        counts.out += u32::from(times == 0);
    }

    fn gave_not(&mut self, artifact: &Digest, piece: u32) {
        let counts = self.counts(artifact);
        if let Some(of_piece) = counts.of_piece.get_mut(piece as usize) {
            counts.out -= u32::from(of_piece.times == 1);
            of_piece.times = of_piece.times.saturating_sub(1);
        }
    }

    fn counts(&mut self, artifact: &Digest) -> &mut Counts {
        if self.given.len() >= ARTIFACTS_MAX && !self.given.contains_key(artifact) {
            // Those in use come back at once, and then only the order of the next pieces suffers.
            self.given.clear();
        }
        let new = Counts { turns: self.turn, ..Counts::default() };
        self.given.entry(*artifact).or_insert(new)
    }
}
