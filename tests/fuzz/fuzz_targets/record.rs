//! libFuzzer's way into `entries::record`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::entries::record(bytes));
