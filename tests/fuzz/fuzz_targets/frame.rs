//! libFuzzer's way into `entries::frame`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::entries::frame(bytes));
