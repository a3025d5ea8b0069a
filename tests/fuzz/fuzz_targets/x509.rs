//! libFuzzer's way into `outer::x509`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    fuzz::outer::x509(bytes);
});
