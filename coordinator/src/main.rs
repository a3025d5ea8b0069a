//! `swell-coordinator`: arguments, logging, exit code.
fn main() {}
