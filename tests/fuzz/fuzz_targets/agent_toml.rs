//! libFuzzer's way into `outer::agent_toml`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    fuzz::outer::agent_toml(bytes);
});
