//! Bytes from anybody, outside `proto`: nothing panics, and what is refused leaves nothing behind.

#![expect(clippy::unwrap_used, reason = "helpers of tests are not recognised as such")]

#[path = "../../../proto/tests/hostile/bend.rs"]
mod bend;
#[expect(unreachable_pub, reason = "tests/fuzz calls them from outside")]
mod entries;

use bend::{corpus, feed};
use entries::ENTRIES;

/// Mutated samples per entry.
const TRIES: u64 = 1_000;

#[test]
fn samples_and_what_is_bent_from_them_do_not_panic() {
    feed(&ENTRIES, TRIES);
}

#[test]
fn samples_are_read() {
    // A corpus of what is refused at the first byte would prove nothing.
    for (name, entry) in ENTRIES {
        for sample in corpus(name) {
            assert!(entry(&sample), "{name}: {}", String::from_utf8_lossy(&sample));
        }
    }
}
