//! libFuzzer's way into `entries::unit`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::entries::unit(bytes));
