//! libFuzzer's way into `outer::coordinator_toml`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    fuzz::outer::coordinator_toml(bytes);
});
