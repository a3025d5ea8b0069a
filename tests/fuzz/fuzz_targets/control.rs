//! libFuzzer's way into `entries::control`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::entries::control(bytes));
