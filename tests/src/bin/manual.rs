//! Writes the manual and the shell completions of the three programs, from what they themselves parse.
//! They are made here, so that no program carries them: `scripts/package` runs this.
//!
//! ```text
//! manual DIR     DIR/man/*.1, and DIR/completions/ for bash, zsh and fish
//! ```

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use clap::{Command, CommandFactory as _};
use clap_complete::{Shell, generate_to};

fn main() -> Result<()> {
    let directory = std::env::args_os().nth(1).context("usage: manual DIR")?;
    let directory = Path::new(&directory);
    let programs = [
        swell::command(),
        agent::arguments::Arguments::command(),
        coordinator::arguments::Arguments::command(),
    ];
    for program in programs {
        write(program, directory).context("cannot write the manual")?;
    }
    Ok(())
}

fn write(mut program: Command, directory: &Path) -> Result<()> {
    let (man, completions) = (directory.join("man"), directory.join("completions"));
    fs::create_dir_all(&man)?;
    clap_mangen::generate_to(program.clone(), &man)?;
    let name = program.get_name().to_owned();
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        let of_shell = completions.join(shell.to_string());
        fs::create_dir_all(&of_shell)?;
        generate_to(shell, &mut program, &name, &of_shell)?;
    }
    Ok(())
}
