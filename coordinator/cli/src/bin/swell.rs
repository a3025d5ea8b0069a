//! The command `swell`.

use std::process::ExitCode;

fn main() -> ExitCode {
    swell::main()
}
