//! libFuzzer's way into `outer::patch`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    fuzz::outer::patch(bytes);
});
