//! libFuzzer's way into `outer::env`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    fuzz::outer::env(bytes);
});
