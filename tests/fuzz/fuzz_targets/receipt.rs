//! libFuzzer's way into `entries::receipt`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::entries::receipt(bytes));
