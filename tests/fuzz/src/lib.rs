//! The entries that proto's own tests run, for libFuzzer.

#[path = "../../../proto/tests/hostile/entries.rs"]
pub mod entries;
