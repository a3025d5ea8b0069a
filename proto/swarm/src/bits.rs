//! A set of pieces: one bit each, in the layout of [`proto::wire::Have`].

/// Which of `len` pieces; piece 0 is the lowest bit of byte 0.
///
/// Invariant: the bits beyond `len` are zero, and `ones` counts the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bits {
    bytes: Vec<u8>,
    len: u32,
    ones: u32,
}

impl Bits {
    /// None of `len` pieces.
    pub fn none(len: u32) -> Self {
        Self { bytes: vec![0; bytes_for(len)], len, ones: 0 }
    }

    /// All of `len` pieces.
    pub fn all(len: u32) -> Self {
        let mut bits = Self::none(len);
        for piece in 0..len {
            bits.insert(piece);
        }
        bits
    }

    /// The set a peer or a file says it is; `None` if it is not one of exactly `len` pieces.
    pub fn from_bytes(len: u32, bytes: &[u8]) -> Option<Self> {
        if bytes.len() != bytes_for(len) {
            return None;
        }
        let used = len % 8;
        if used != 0 && bytes.last().is_some_and(|last| last >> used != 0) {
            return None;
        }
        let ones = bytes.iter().map(|byte| byte.count_ones()).sum();
        Some(Self { bytes: bytes.to_vec(), len, ones })
    }

    /// The layout of [`proto::wire::Have`].
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub fn len(&self) -> u32 {
        self.len
    }

    /// Pieces in the set.
    pub fn count(&self) -> u32 {
        self.ones
    }

    pub fn is_empty(&self) -> bool {
        self.ones == 0
    }

    pub fn is_all(&self) -> bool {
        self.ones == self.len
    }

    /// Whether `piece` is in the set; false beyond its end.
    pub fn contains(&self, piece: u32) -> bool {
        piece < self.len && self.bytes[piece as usize / 8] >> (piece % 8) & 1 == 1
    }

    /// Adds `piece`, which must be below `len`; whether it is new.
    pub fn insert(&mut self, piece: u32) -> bool {
        debug_assert!(piece < self.len);
        let new = !self.contains(piece);
        self.bytes[piece as usize / 8] |= 1 << (piece % 8);
        self.ones += u32::from(new);
        new
    }

    /// Takes `piece` out; whether it was there.
    pub fn remove(&mut self, piece: u32) -> bool {
        let there = self.contains(piece);
        if there {
            self.bytes[piece as usize / 8] &= !(1 << (piece % 8));
            self.ones -= 1;
        }
        there
    }

    /// Adds all pieces of `other`, a set of as many pieces.
    pub fn add_all(&mut self, other: &Self) {
        for piece in other.iter() {
            self.insert(piece);
        }
    }

    /// The pieces in the set, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        (0..self.len).filter(|piece| self.contains(*piece))
    }

    /// The pieces that are in this set and not in `other`, a set of as many pieces, ascending.
    pub fn without<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = u32> + 'a {
        // Mostly there is nothing in a byte: this is done for every word of every peer.
        let bytes = (0_u32..).zip(self.bytes.iter().zip(&other.bytes));
        let left =
            bytes.map(|(at, (own, others))| (at, own & !others)).filter(|(_, left)| *left != 0);
        left.flat_map(|(at, left)| {
            (0..8).filter(move |bit| left >> bit & 1 == 1).map(move |bit| 8 * at + bit)
        })
    }
}

fn bytes_for(len: u32) -> usize {
    len.div_ceil(8) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_bitmap_of_the_right_length_is_read() {
        let cases: [(&str, u32, &[u8], Option<u32>); 7] = [
            ("no pieces", 0, &[], Some(0)),
            ("all of eight", 8, &[0xff], Some(8)),
            ("all of nine", 9, &[0xff, 1], Some(9)),
            ("a bit beyond the end", 9, &[0xff, 2], None),
            ("too short", 9, &[0xff], None),
            ("too long", 8, &[0xff, 0], None),
            ("empty for some", 3, &[], None),
        ];
        for (name, len, bytes, count) in cases {
            assert_eq!(Bits::from_bytes(len, bytes).map(|bits| bits.count()), count, "{name}");
        }
    }

    #[test]
    fn counts_what_it_holds() {
        let mut bits = Bits::none(10);
        assert!(bits.insert(9) && bits.insert(0) && !bits.insert(9));
        assert_eq!((bits.count(), bits.iter().collect::<Vec<_>>()), (2, vec![0, 9]));
        assert_eq!(bits.as_bytes(), &[1, 2]);
        assert!(bits.remove(0) && !bits.remove(0) && !bits.contains(10));
        assert_eq!(Bits::all(10).without(&bits).count(), 9);
        assert!(Bits::all(10).is_all() && Bits::none(0).is_all());
    }
}
