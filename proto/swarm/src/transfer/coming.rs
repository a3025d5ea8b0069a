//! Pieces on their way to this member, passed on while they come (R26).
//!
//! What a fetch has of a piece is verified slice by slice ([`proto::slices`]); so others are told of the
//! piece once the first of them is here, and get each as it comes. Nothing of it is on disk before it is
//! whole. Where it comes no more, those to whom it is being given are told by the end of their stream, and
//! who asks for it from then on hears that it is busy here.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use proto::Digest;
use proto::slices::{SLICE_BYTES, Slices};
use tokio::sync::watch;

use crate::bits::Bits;

/// What comes to this member, of all its fetches. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Comings(Arc<Mutex<BTreeMap<Digest, OfArtifact>>>);

struct OfArtifact {
    /// Pieces of which others were told while they came, ever.
    begun: watch::Sender<Arc<Bits>>,
    flows: BTreeMap<u32, Flow>,
}

impl OfArtifact {
    /// Whether anybody who was told of what has begun is still there, or it comes yet.
    fn is_of_use(&self) -> bool {
        self.begun.receiver_count() > 0 || !self.flows.is_empty()
    }
}

/// A piece that comes, for whom it is given to.
#[derive(Clone)]
pub(crate) struct Flow {
    pub(crate) slices: Arc<Slices>,
    /// What there is of it, verified; closed where no more is to come.
    content: watch::Receiver<Vec<u8>>,
}

impl Flow {
    /// Bytes from `at` on, at most `most` and at least one: what there is, or comes next, a few slices at
    /// a time since they are copied. None: no more is to come.
    pub(crate) async fn after(&mut self, at: usize, most: usize) -> Option<Vec<u8>> {
        const COPIED_BYTES_MAX: usize = 4 * SLICE_BYTES;
        let most = most.min(COPIED_BYTES_MAX);
        let more = |content: &Vec<u8>| content.len() > at;
        let content = self.content.wait_for(more).await.ok()?;
        Some(content[at..content.len().min(at.saturating_add(most))].to_vec())
    }
}

impl Comings {
    /// Pieces of an artifact of so many, of which others may be told while they come, and what that
    /// becomes.
    pub(crate) fn begun(&self, artifact: &Digest, pieces: u32) -> watch::Receiver<Arc<Bits>> {
        Self::entry(&mut self.lock(), artifact, pieces).begun.subscribe()
    }

    /// The piece, if it comes.
    pub(crate) fn flow(&self, artifact: &Digest, piece: u32) -> Option<Flow> {
        self.lock().get(artifact)?.flows.get(&piece).cloned()
    }

    /// Whether somebody may have been told of the piece while it came.
    pub(crate) fn has_begun(&self, artifact: &Digest, piece: u32) -> bool {
        self.lock().get(artifact).is_some_and(|of| of.begun.borrow().contains(piece))
    }

    fn entry<'a>(
        all: &'a mut BTreeMap<Digest, OfArtifact>,
        artifact: &Digest,
        pieces: u32,
    ) -> &'a mut OfArtifact {
        all.retain(|_, of| of.is_of_use());
        all.entry(*artifact).or_insert_with(|| OfArtifact {
            begun: watch::Sender::new(Arc::new(Bits::none(pieces))),
            flows: BTreeMap::new(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Digest, OfArtifact>> {
        // Changed by single inserts and removes: a panic elsewhere leaves it whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A piece that comes, for whoever fetches it. Dropped, it comes no more.
pub(crate) struct Passage {
    comings: Comings,
    artifact: Digest,
    /// The piece, and how many there are.
    piece: u32,
    pieces: u32,
    slices: Arc<Slices>,
    content: watch::Sender<Vec<u8>>,
    open: bool,
}

impl Passage {
    /// Nobody is told of it yet.
    pub(crate) fn new(
        comings: &Comings,
        artifact: Digest,
        (piece, pieces): (u32, u32),
        slices: Slices,
    ) -> Self {
        let content = watch::Sender::new(Vec::with_capacity(slices.bytes()));
        let (comings, slices) = (comings.clone(), Arc::new(slices));
        Self { comings, artifact, piece, pieces, slices, content, open: false }
    }

    /// What there is of it.
    pub(crate) fn bytes(&self) -> usize {
        self.content.borrow().len()
    }

    /// The next slice; whether it is that.
    pub(crate) fn add(&self, slice: &[u8]) -> bool {
        let index = self.bytes() / SLICE_BYTES;
        let good = self.slices.is_slice(index, slice);
        if good {
            self.content.send_modify(|content| content.extend_from_slice(slice));
        }
        good
    }

    /// From now on others are told of it, and given it; unless it comes from somebody else already.
    pub(crate) fn open(&mut self) {
        if self.open {
            return;
        }
        let mut all = self.comings.lock();
        let of = Comings::entry(&mut all, &self.artifact, self.pieces);
        if of.flows.contains_key(&self.piece) {
            return;
        }
        let (slices, content) = (self.slices.clone(), self.content.subscribe());
        of.flows.insert(self.piece, Flow { slices, content });
        self.open = true;
        of.begun.send_if_modified(|begun| {
            !begun.contains(self.piece) && Arc::make_mut(begun).insert(self.piece)
        });
    }

    /// All that has come.
    pub(crate) fn content(&self) -> watch::Ref<'_, Vec<u8>> {
        self.content.borrow()
    }
}

impl Drop for Passage {
    fn drop(&mut self) {
        if self.open
            && let Some(of) = self.comings.lock().get_mut(&self.artifact)
        {
            of.flows.remove(&self.piece);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PIECES: u32 = 9;

    fn artifact() -> Digest {
        Digest::of(b"artifact")
    }

    /// Of three slices, the last one short.
    fn content() -> Vec<u8> {
        (0..2 * SLICE_BYTES + 100).map(|number| (number % 251) as u8).collect()
    }

    fn passage(comings: &Comings, piece: u32) -> Passage {
        let slices = Slices::of(&content()).unwrap();
        Passage::new(comings, artifact(), (piece, PIECES), slices)
    }

    #[tokio::test]
    async fn r26_what_comes_is_passed_on_slice_by_slice_and_nothing_that_is_not_verified() {
        let (comings, content) = (Comings::default(), content());
        let mut passage = passage(&comings, 3);
        let mut told = comings.begun(&artifact(), PIECES);
        assert!(passage.add(&content[..SLICE_BYTES]));
        assert!(comings.flow(&artifact(), 3).is_none(), "nobody is told yet");
        passage.open();
        assert!(told.has_changed().unwrap() && told.borrow_and_update().contains(3));
        let mut flow = comings.flow(&artifact(), 3).unwrap();
        assert_eq!(flow.after(0, 10).await.unwrap(), content[..10]);
        assert_eq!(flow.after(10, usize::MAX).await.unwrap(), content[10..SLICE_BYTES]);
        let mut wrong = content[SLICE_BYTES..2 * SLICE_BYTES].to_vec();
        wrong[0] ^= 1;
        assert!(!passage.add(&wrong) && !passage.add(&content[..SLICE_BYTES]));
        assert_eq!(passage.bytes(), SLICE_BYTES, "what is wrong is not kept");
        let (next, ()) = tokio::join!(flow.after(SLICE_BYTES, usize::MAX), async {
            assert!(passage.add(&content[SLICE_BYTES..2 * SLICE_BYTES]));
        });
        assert_eq!(next.unwrap(), content[SLICE_BYTES..2 * SLICE_BYTES]);
        assert!(passage.add(&content[2 * SLICE_BYTES..]));
        assert_eq!(*passage.content(), content);
        drop(passage);
        // Who was given it gets the rest of what had come.
        assert_eq!(flow.after(2 * SLICE_BYTES, usize::MAX).await.unwrap().len(), 100);
        assert_eq!(flow.after(content.len(), 1).await, None);
    }

    #[tokio::test]
    async fn what_comes_no_more_is_remembered_for_those_who_were_told() {
        let comings = Comings::default();
        let mut one = passage(&comings, 3);
        let told = comings.begun(&artifact(), PIECES);
        assert!(one.add(&content()[..SLICE_BYTES]));
        one.open();
        let mut flow = comings.flow(&artifact(), 3).unwrap();
        let mut other = passage(&comings, 3);
        assert!(other.add(&content()[..SLICE_BYTES]));
        other.open();
        drop(other);
        assert!(comings.flow(&artifact(), 3).is_some(), "it comes once, and still does");
        drop(one);
        assert!(comings.flow(&artifact(), 3).is_none());
        assert_eq!(flow.after(SLICE_BYTES, 1).await, None);
        assert!(comings.has_begun(&artifact(), 3) && !comings.has_begun(&artifact(), 4));
        drop(told);
        drop(comings.begun(&Digest::of(b"another"), PIECES));
        assert!(!comings.has_begun(&artifact(), 3), "nobody knows of it any more");
    }
}
