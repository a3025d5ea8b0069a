//! Samples from others' bytes, and what is bent from them: what every test of hostile bytes feeds to
//! its entries, the same in every run.

use std::path::PathBuf;

/// Reads any bytes.
type Entry<T> = fn(&[u8]) -> T;

/// Gives each entry all of its samples, and so many that are bent from them.
pub(crate) fn feed<T>(entries: &[(&str, Entry<T>)], tries: u64) {
    for (name, entry) in entries {
        let corpus = corpus(name);
        for sample in &corpus {
            entry(sample);
        }
        for round in 0..tries {
            let mut dice = Dice(round);
            let sample = &corpus[dice.below(corpus.len())];
            let other = &corpus[dice.below(corpus.len())];
            entry(&bend(sample, other, &mut dice));
        }
    }
}

/// The samples of an entry, those that libFuzzer starts from.
pub(crate) fn corpus(name: &str) -> Vec<Vec<u8>> {
    // Of this file's own crate, or of another one that includes it.
    let above = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let mut all = above.ancestors().map(|directory| directory.join("tests/fuzz/corpus"));
    let dir = all.find(|dir| dir.exists()).expect("the samples").join(name);
    let mut files: Vec<_> = dir.read_dir().unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty(), "{name} has no samples");
    files.into_iter().map(|file| std::fs::read(file).unwrap()).collect()
}

/// A sequence that looks random and is the same in every run (splitmix64).
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % end.max(1) as u64).unwrap()
    }

    /// A place to cut, any of `0..=len`.
    fn cut(&mut self, bytes: &[u8]) -> usize {
        self.below(bytes.len() + 1)
    }
}

/// Bends a sample in one to four places; `other` is there to take pieces from.
fn bend(sample: &[u8], other: &[u8], dice: &mut Dice) -> Vec<u8> {
    const WORDS: [&[u8]; 12] = [
        b"-1",
        b"18446744073709551615",
        b"9007199254740993",
        b"1e999",
        b"null",
        b"\"\"",
        b"[]",
        b"{}",
        b"\\u0000",
        b"\xff\xff\xff\xff",
        b"../",
        b"\xed\xa0\x80",
    ];
    let mut bytes = sample.to_vec();
    for _ in 0..=dice.below(3) {
        let (at, end) = (dice.cut(&bytes), dice.cut(&bytes));
        let (at, end) = (at.min(end), at.max(end));
        match dice.below(6) {
            0 if at < bytes.len() => bytes[at] ^= 1 << dice.below(8),
            1 => bytes.truncate(end),
            2 => drop(bytes.drain(at..end.min(at + 40))),
            3 => {
                let piece = bytes[at..end.min(at + 200)].to_vec();
                bytes.splice(end..end, piece);
            }
            4 => {
                let (from, to) = (dice.cut(other), dice.cut(other));
                let piece = other[from.min(to)..from.max(to)].to_vec();
                bytes.splice(at..end, piece);
            }
            _ => {
                let word = WORDS[dice.below(WORDS.len())];
                bytes.splice(at..(at + word.len()).min(bytes.len()), word.iter().copied());
            }
        }
    }
    bytes
}
