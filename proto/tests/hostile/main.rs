//! Bytes from anybody: nothing panics, and nothing that was bent counts.

#![expect(clippy::unwrap_used, reason = "the helpers of tests are tests")]

#[expect(unreachable_pub, reason = "tests/fuzz calls them from outside")]
mod entries;

use std::path::PathBuf;

use entries::{CHAIN, ENTRIES, NOW, records_read, statements};
use proptest::prelude::*;
use proto::Digest;
use proto::dsse::Envelope;
use proto::statement::{ENVELOPE_BYTES_MAX, Kind, Share, Statement};
use proto::trust::verify;

/// Mutated samples per entry.
const TRIES: u64 = 2_000;

/// The samples of an entry, those that libFuzzer starts from.
fn corpus(name: &str) -> Vec<Vec<u8>> {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/fuzz/corpus").join(name);
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

#[test]
fn samples_and_what_is_bent_from_them_do_not_panic() {
    for (name, entry) in ENTRIES {
        let corpus = corpus(name);
        for sample in &corpus {
            entry(sample);
        }
        for round in 0..TRIES {
            let mut dice = Dice(round);
            let sample = &corpus[dice.below(corpus.len())];
            let other = &corpus[dice.below(corpus.len())];
            entry(&bend(sample, other, &mut dice));
        }
    }
}

#[test]
fn samples_are_read() {
    // A corpus of what is refused at the first byte would prove nothing.
    for sample in corpus("statement") {
        assert!(verify(&CHAIN, &sample, NOW).is_ok());
    }
    for sample in corpus("manifest") {
        assert!(proto::artifact::Manifest::parse(&sample).is_ok());
    }
    for sample in corpus("certificate") {
        assert!(proto::certificate::Certificate::parse(&sample).is_ok());
    }
    for sample in corpus("record") {
        assert_eq!(records_read(&sample), 1, "{}", String::from_utf8_lossy(&sample));
    }
    for sample in corpus("payload") {
        let kind = Kind::ALL[usize::from(sample[0])];
        let envelope = Envelope::new(kind.payload_type(), sample[1..].to_vec());
        let text = String::from_utf8_lossy(&sample[1..]);
        assert!(Statement::parse(&envelope).is_ok(), "{text}");
    }
}

/// The envelope of these bytes with another payload, and the same signatures.
fn with_payload(bytes: &[u8], payload: &[u8]) -> Vec<u8> {
    let envelope = Envelope::parse(bytes, ENVELOPE_BYTES_MAX).unwrap();
    let old = Envelope::new(envelope.payload_type(), envelope.payload().to_vec()).to_bytes();
    let new = Envelope::new(envelope.payload_type(), payload.to_vec()).to_bytes();
    let unsigned = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap().replace("[]}", "");
    let text = std::str::from_utf8(bytes).unwrap();
    let signatures = text.strip_prefix(&unsigned(old)).unwrap();
    format!("{}{signatures}", unsigned(new)).into_bytes()
}

/// Every bit of what is short; of what is longer one bit of each byte, another one in each.
fn bits(bytes: usize) -> impl Iterator<Item = usize> {
    let step = if bytes < 500 { 1 } else { 9 };
    (0..bytes * 8).step_by(step)
}

#[test]
fn any_bit_of_a_payload_flipped_is_refused() {
    for (id, bytes) in statements() {
        assert_eq!(verify(&CHAIN, bytes, NOW).unwrap().id, id);
        let envelope = Envelope::parse(bytes, ENVELOPE_BYTES_MAX).unwrap();
        assert_eq!(with_payload(bytes, envelope.payload()), bytes);
        for bit in bits(envelope.payload().len()) {
            let mut payload = envelope.payload().to_vec();
            payload[bit / 8] ^= 1 << (bit % 8);
            let verified = verify(&CHAIN, &with_payload(bytes, &payload), NOW);
            assert!(verified.is_err(), "bit {bit} of {id}");
        }
    }
}

/// Wherever an envelope is bent, what is taken is the statement that was signed.
#[test]
fn any_bit_of_an_envelope_flipped_makes_no_other_statement() {
    for (id, bytes) in statements() {
        for bit in bits(bytes.len()) {
            let mut bent = bytes.to_vec();
            bent[bit / 8] ^= 1 << (bit % 8);
            if let Ok(verified) = verify(&CHAIN, &bent, NOW) {
                assert_eq!(verified.id, id, "bit {bit}");
            }
        }
    }
}

#[test]
fn shares_as_people_write_them() {
    let (count, percent) = (|n| Some(Share::Count(n)), |p| Some(Share::Percent(p)));
    for (text, expected) in [
        ("3", count(3)),
        ("0", count(0)),
        ("10%", percent(10.0)),
        ("2.5 %", percent(2.5)),
        ("100%", percent(100.0)),
        ("-0%", percent(0.0)),
        ("101%", None),
        ("-1", None),
        ("-1%", None),
        ("NaN%", None),
        ("inf%", None),
        ("%", None),
        ("", None),
        ("4294967296", None),
        ("1.5", None),
    ] {
        assert_eq!(text.parse::<Share>().ok(), expected, "{text:?}");
    }
    assert_eq!("-0%".parse::<Share>().unwrap().to_string(), "0%");
    for (share, of, expected) in [
        (Share::Percent(2.0), 1_000, 20),
        (Share::Percent(2.0), 49, 0),
        (Share::Percent(29.0), 100, 29),
        (Share::Percent(100.0), u32::MAX, u32::MAX),
        (Share::Count(7), 3, 7),
    ] {
        assert_eq!(share.of(of), expected, "{share} of {of}");
    }
    for (json, expected) in [
        ("3", "Ok(Count(3))"),
        ("\"10%\"", "Ok(Percent(10.0))"),
        ("-1", "expected a number such as 3"),
        ("1.5", "expected a number such as 3"),
        ("4294967296", "expected a number such as 3"),
        ("\"lots\"", "share must be"),
    ] {
        let read = format!("{:?}", serde_json::from_str::<Share>(json));
        assert!(read.contains(expected), "{json}: {read}");
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_do_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        for (_, entry) in ENTRIES {
            entry(&bytes);
        }
        let chain = proto::trust::Chain::genesis(&bytes, Digest::of(&bytes));
        prop_assert!(chain.is_err());
    }

    #[test]
    fn arbitrary_texts_do_not_panic(text in "\\PC{0,80}|[-a-z0-9.%:+ ]{0,70}") {
        for (_, entry) in ENTRIES {
            entry(text.as_bytes());
        }
    }
}
