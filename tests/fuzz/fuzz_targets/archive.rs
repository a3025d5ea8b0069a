//! libFuzzer's way into `outer::archive`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    fuzz::outer::archive(bytes);
});
