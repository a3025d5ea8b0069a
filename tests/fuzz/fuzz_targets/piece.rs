//! libFuzzer's way into `outer::piece`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    fuzz::outer::piece(bytes);
});
