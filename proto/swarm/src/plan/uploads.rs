//! Whom to give what next.

use std::collections::BTreeMap;

use proto::Digest;

use super::{
    UPLOAD_SLOW_MS, UPLOADS_AT_ONCE, UPLOADS_MAX, UPLOADS_PER_PEER_MAX, WAITING_MAX,
    WAITING_PER_PEER_MAX,
};
use crate::bits::Bits;

/// Artifacts of which it is remembered what was given; more than a member holds.
const ARTIFACTS_MAX: usize = 64;

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
}

#[derive(Debug)]
struct Waiting<P> {
    peer: P,
    artifact: Digest,
    /// One: that one. Several: whichever was given to nobody, the first of those.
    pieces: Vec<u32>,
    new: bool,
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
/// Of those that wait, first come those whose asker is given nothing now, then the piece that was given
/// least: what nobody else has can be passed on by others as soon as it is out. Who has many asks waiting
/// is no better off.
#[derive(Debug)]
pub struct Uploads<P> {
    next: u64,
    waiting: BTreeMap<Ticket, Waiting<P>>,
    running: BTreeMap<Ticket, Running<P>>,
    /// How often each piece was given, by artifact.
    given: BTreeMap<Digest, Vec<u32>>,
}

impl<P> Default for Uploads<P> {
    fn default() -> Self {
        let (waiting, running, given) = Default::default();
        Self { next: 0, waiting, running, given }
    }
}

impl<P: Ord + Clone> Uploads<P> {
    /// `peer` asks for a piece of which it is known that it is one of the artifact. None: too many wait.
    pub fn ask(&mut self, peer: P, artifact: Digest, piece: u32) -> Option<Ticket> {
        self.enter(Waiting { peer, artifact, pieces: vec![piece], new: false })
    }

    /// `peer` asks for one of `pieces` that was given to nobody. None: too many wait.
    pub fn ask_new(&mut self, peer: P, artifact: Digest, pieces: Vec<u32>) -> Option<Ticket> {
        self.enter(Waiting { peer, artifact, pieces, new: true })
    }

    fn enter(&mut self, ask: Waiting<P>) -> Option<Ticket> {
        let own = self.waiting.values().filter(|waiting| waiting.peer == ask.peer).count();
        if self.waiting.len() >= WAITING_MAX || own >= WAITING_PER_PEER_MAX {
            return None;
        }
        let ticket = Ticket(self.next);
        self.next += 1;
        self.waiting.insert(ticket, ask);
        Some(ticket)
    }

    /// The next ask whose turn has come, if there is a place for it; to be called until there is none.
    /// `here`: what this member holds of an artifact.
    pub fn turn(
        &mut self,
        now_ms: u64,
        here: impl Fn(&Digest) -> Option<Bits>,
    ) -> Option<(Ticket, Given)> {
        // Who takes and does not read must not keep the others waiting.
        let soon_done =
            |running: &&Running<P>| running.since_ms.saturating_add(UPLOAD_SLOW_MS) > now_ms;
        if self.running.values().filter(soon_done).count() >= UPLOADS_AT_ONCE
            || self.running.len() >= UPLOADS_MAX
        {
            return None;
        }
        let place = |(ticket, waiting): (&Ticket, &Waiting<P>)| {
            let own = self.running.values().filter(|running| running.peer == waiting.peer).count();
            (own < UPLOADS_PER_PEER_MAX).then(|| (own, self.times_given(waiting), *ticket))
        };
        let (.., ticket) = self.waiting.iter().filter_map(place).min()?;
        let Waiting { peer, artifact, pieces, new } = self.waiting.remove(&ticket)?;
        let piece = match new {
            false => pieces.first().copied(),
            true => {
                let here = here(&artifact);
                let held = |piece: &u32| here.as_ref().is_some_and(|here| here.contains(*piece));
                pieces.into_iter().filter(held).find(|piece| self.times(&artifact, *piece) == 0)
            }
        };
        let Some(piece) = piece else { return Some((ticket, Given::NothingNew)) };
        self.count(&artifact, piece, true);
        self.running.insert(ticket, Running { peer, artifact, piece, since_ms: now_ms });
        Some((ticket, Given::Piece(piece)))
    }

    /// An ask is over, whether it waited or ran: `delivered`, the asker has all of it.
    pub fn ended(&mut self, ticket: Ticket, delivered: bool) {
        self.waiting.remove(&ticket);
        if let Some(Running { artifact, piece, .. }) = self.running.remove(&ticket)
            && !delivered
        {
            self.count(&artifact, piece, false);
        }
    }

    /// How often what is waited for was given. Something new: never, or the answer is short.
    fn times_given(&self, waiting: &Waiting<P>) -> u32 {
        match waiting.pieces[..] {
            [piece] if !waiting.new => self.times(&waiting.artifact, piece),
            _ => 0,
        }
    }

    fn times(&self, artifact: &Digest, piece: u32) -> u32 {
        let given = self.given.get(artifact).and_then(|given| given.get(piece as usize));
        given.copied().unwrap_or_default()
    }

    fn count(&mut self, artifact: &Digest, piece: u32, more: bool) {
        if self.given.len() >= ARTIFACTS_MAX && !self.given.contains_key(artifact) {
            // Those in use come back at once, and then only the order of the next pieces suffers.
            self.given.clear();
        }
        let given = self.given.entry(*artifact).or_default();
        let at = piece as usize;
        if given.len() <= at {
            given.resize(at + 1, 0);
        }
        given[at] = if more { given[at].saturating_add(1) } else { given[at].saturating_sub(1) };
    }
}
