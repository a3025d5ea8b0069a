//! libFuzzer's way into `entries::manifest`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::entries::manifest(bytes));
