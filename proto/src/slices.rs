//! The slices of a piece, each of which can be verified before the piece is whole (R26).
//!
//! BLAKE3 is a tree, and the digest of a piece its root: the slices are subtrees, all of one length but the
//! last. Who is told their sums sees at once whether these make the digest that was signed, and of each
//! slice that comes then whether it is right. So a piece is passed on while it comes, and nothing that is
//! not verified ever is; and the manifest need not know of slices.

use blake3::Hasher;
use blake3::hazmat::{
    HasherExt as _, Mode, left_subtree_len, merge_subtrees_non_root, merge_subtrees_root,
};

use crate::artifact::Piece;
use crate::id::Digest;

/// Length of a slice, in bytes; the last one of a piece may be shorter. A power of two, as subtrees are.
pub const SLICE_BYTES: usize = 32 << 10;
/// Slices of the longest piece there is.
pub const SLICES_MAX: usize = 33;
/// Longest frame of sums, in bytes.
pub const SUMS_BYTES_MAX: usize = 8 + SLICES_MAX * 32;

/// The chaining value of a slice; of the only one, the digest.
pub type Sum = [u8; 32];

/// The sums of a piece's slices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slices {
    /// Length of the piece; at least 1.
    bytes: usize,
    /// As many as that takes.
    sums: Vec<Sum>,
}

impl Slices {
    /// Of a piece that is here; none of nothing, which is no piece.
    pub fn of(content: &[u8]) -> Option<Self> {
        let bytes = content.len();
        let sum = |(index, slice): (usize, &[u8])| sum_of(index, slice, bytes);
        let sums: Vec<Sum> = content.chunks(SLICE_BYTES).enumerate().map(sum).collect();
        (bytes > 0).then_some(Self { bytes, sums })
    }

    /// Of a piece that is still to come, by what somebody says; none: that makes another piece.
    pub fn of_piece(piece: &Piece, sums: Vec<Sum>) -> Option<Self> {
        let bytes = usize::try_from(piece.bytes).ok()?;
        if bytes == 0 || sums.len() > SLICES_MAX || sums.len() != bytes.div_ceil(SLICE_BYTES) {
            return None;
        }
        let slices = Self { bytes, sums };
        (slices.digest() == piece.digest).then_some(slices)
    }

    /// Length of the piece.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn sums(&self) -> &[Sum] {
        &self.sums
    }

    /// Whether this is the slice with that number.
    pub fn is_slice(&self, index: usize, content: &[u8]) -> bool {
        let from = index.saturating_mul(SLICE_BYTES);
        let bytes = self.bytes.saturating_sub(from).min(SLICE_BYTES);
        content.len() == bytes
            && self.sums.get(index).is_some_and(|sum| *sum == sum_of(index, content, self.bytes))
    }

    /// The digest of the piece.
    pub fn digest(&self) -> Digest {
        Digest::from_computed(match self.sums.as_slice() {
            [only] => *only,
            sums => {
                let (left, right) = branches(self.bytes, sums);
                *merge_subtrees_root(&left, &right, Mode::Hash).as_bytes()
            }
        })
    }
}

/// `bytes`: of the whole piece.
fn sum_of(index: usize, slice: &[u8], bytes: usize) -> Sum {
    if bytes <= SLICE_BYTES {
        return *Digest::of(slice).as_bytes();
    }
    let mut hasher = Hasher::new();
    hasher.set_input_offset((index * SLICE_BYTES) as u64).update(slice);
    hasher.finalize_non_root()
}

/// Both halves of a tree over more than one slice, `bytes` in length.
fn branches(bytes: usize, sums: &[Sum]) -> (Sum, Sum) {
    let left = usize::try_from(left_subtree_len(bytes as u64)).unwrap_or(usize::MAX);
    let (on_left, on_right) = sums.split_at(left / SLICE_BYTES);
    (branch(left, on_left), branch(bytes - left, on_right))
}

fn branch(bytes: usize, sums: &[Sum]) -> Sum {
    match sums {
        [only] => *only,
        _ => {
            let (left, right) = branches(bytes, sums);
            merge_subtrees_non_root(&left, &right, Mode::Hash)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::artifact::PIECE_RAW_BYTES;

    fn noise(bytes: usize) -> Vec<u8> {
        let mut noise = vec![0; bytes];
        Hasher::new().update(b"slices").finalize_xof().fill(&mut noise);
        noise
    }

    fn piece(content: &[u8]) -> Piece {
        let bytes = u32::try_from(content.len()).unwrap();
        Piece { bytes, digest: Digest::of(content) }
    }

    #[test]
    fn r26_slices_make_the_digest_of_their_piece_whatever_its_length() {
        let frame_max = *PIECE_RAW_BYTES.end() as usize;
        let frame_max = frame_max + (frame_max >> 7) + 1_024;
        let near = |bytes: usize| [bytes - 1, bytes, bytes + 1];
        let lengths = [SLICE_BYTES, 2 * SLICE_BYTES, 3 * SLICE_BYTES, 8 * SLICE_BYTES, 1 << 20];
        let lengths = lengths.into_iter().flat_map(near).chain([1, 1_024, frame_max]);
        for bytes in lengths {
            let content = noise(bytes);
            let slices = Slices::of(&content).unwrap();
            assert_eq!(slices.digest(), Digest::of(&content), "{bytes} bytes");
            assert!(slices.sums().len() <= SLICES_MAX, "{bytes} bytes");
            let told = Slices::of_piece(&piece(&content), slices.sums().to_vec());
            assert_eq!(told, Some(slices), "{bytes} bytes");
        }
        assert_eq!(frame_max.div_ceil(SLICE_BYTES), SLICES_MAX);
        assert_eq!(Slices::of(&[]), None);
    }

    #[test]
    fn r26_sums_of_another_piece_are_refused_and_so_are_too_many() {
        let content = noise(5 * SLICE_BYTES + 7);
        let sums = Slices::of(&content).unwrap().sums().to_vec();
        let refused =
            |piece: &Piece, sums: &[Sum]| Slices::of_piece(piece, sums.to_vec()).is_none();
        assert!(refused(&piece(&content[1..]), &sums), "of another piece");
        assert!(refused(&Piece { bytes: 0, digest: Digest::of(b"") }, &[]), "of nothing");
        assert!(refused(&piece(&content), &sums[1..]), "too few");
        assert!(refused(&piece(&content), &[sums.clone(), sums.clone()].concat()), "too many");
        for index in 0..sums.len() {
            let mut other = sums.clone();
            other[index][31] ^= 1;
            assert!(refused(&piece(&content), &other), "sum {index} is another one");
        }
        let long = Piece { bytes: u32::MAX, digest: Digest::of(b"") };
        assert!(refused(&long, &vec![[0; 32]; u32::MAX as usize / SLICE_BYTES + 1]), "too long");
    }

    proptest! {
        /// Of a piece, the slices and nothing else: not one in the place of another, nor a longer or a
        /// shorter one, nor one with a bit turned.
        #[test]
        fn r26_only_the_slice_itself_is_the_slice(
            bytes in 1_usize..300_000,
            at: prop::sample::Index,
            bit: prop::sample::Index,
        ) {
            let content = noise(bytes);
            let slices = Slices::of(&content).unwrap();
            let parts: Vec<&[u8]> = content.chunks(SLICE_BYTES).collect();
            let index = at.index(parts.len());
            let part = parts[index];
            for number in 0..=parts.len() {
                prop_assert_eq!(slices.is_slice(number, part), number == index);
            }
            prop_assert!(!slices.is_slice(index, &part[1..]));
            prop_assert!(!slices.is_slice(index, &[part, &[0]].concat()));
            prop_assert!(!slices.is_slice(usize::MAX, part));
            let mut turned = part.to_vec();
            let bit = bit.index(8 * turned.len());
            turned[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(!slices.is_slice(index, &turned));
        }
    }
}
