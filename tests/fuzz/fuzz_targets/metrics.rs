//! libFuzzer's way into `outer::metrics`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    fuzz::outer::metrics(bytes);
});
