//! libFuzzer's way into `outer::journal`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    fuzz::outer::journal(bytes);
});
