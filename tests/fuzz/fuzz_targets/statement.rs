//! libFuzzer's way into `entries::statement`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::entries::statement(bytes));
