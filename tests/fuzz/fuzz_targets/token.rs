//! libFuzzer's way into `outer::token`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    fuzz::outer::token(bytes);
});
