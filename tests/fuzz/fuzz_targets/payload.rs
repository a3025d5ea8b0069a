//! libFuzzer's way into `entries::payload`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::entries::payload(bytes));
