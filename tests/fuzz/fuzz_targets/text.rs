//! libFuzzer's way into `entries::text`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::entries::text(bytes));
