//! The entries that tests run, for libFuzzer.

#[path = "../../../proto/tests/hostile/entries.rs"]
pub mod entries;
#[path = "../../tests/hostile/entries.rs"]
pub mod outer;
