//! libFuzzer's way into `entries::certificate`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::entries::certificate(bytes));
