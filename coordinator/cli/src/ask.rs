//! The one question this command asks: may it go on?

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use crate::failure::{Advise, Exit};

/// Why nothing was done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AskError {
    #[error("cannot ask whether to {what}: this is no terminal")]
    NoTerminal { what: String },
    #[error("did not {what}: the answer was no")]
    No { what: String },
    #[error("cannot read the answer whether to {what}")]
    Read {
        what: String,
        #[source]
        source: io::Error,
    },
}

impl Advise for AskError {
    fn exit(&self) -> Exit {
        match self {
            Self::NoTerminal { .. } => Exit::Usage,
            Self::No { .. } | Self::Read { .. } => Exit::Error,
        }
    }

    fn next(&self) -> Option<String> {
        match self {
            Self::NoTerminal { .. } => Some("add --yes to go on without being asked".to_owned()),
            Self::No { .. } | Self::Read { .. } => None,
        }
    }
}

/// Whether a question could be asked at all.
pub(crate) fn possible() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// Asks on the terminal whether to do `what`; with `yes` it does not ask.
///
/// # Errors
///
/// [`AskError`]: there is no terminal, or the answer is anything but `y` or `yes`.
pub(crate) fn confirm(what: &str, yes: bool) -> Result<(), AskError> {
    if yes {
        return Ok(());
    }
    let what = what.to_owned();
    let question = format!("{}? [y/N] ", capitalized(&what));
    match agrees(&answer(&what, &question)?) {
        true => Ok(()),
        false => Err(AskError::No { what }),
    }
}

/// Asks on the terminal for the name of what cannot be undone; with `yes` it does not ask.
///
/// # Errors
///
/// As [`confirm`]: there is no terminal, or something else was typed.
pub(crate) fn confirm_by_name(what: &str, name: &str, yes: bool) -> Result<(), AskError> {
    if yes {
        return Ok(());
    }
    let what = what.to_owned();
    let question = format!("{}? Type {name} to go on: ", capitalized(&what));
    match answer(&what, &question)?.trim() == name {
        true => Ok(()),
        false => Err(AskError::No { what }),
    }
}

fn answer(what: &str, question: &str) -> Result<String, AskError> {
    let what = what.to_owned();
    if !possible() {
        return Err(AskError::NoTerminal { what });
    }
    let mut answer = String::new();
    let read =
        write!(io::stderr(), "{question}").and_then(|()| io::stdin().lock().read_line(&mut answer));
    match read {
        Err(source) => Err(AskError::Read { what, source }),
        Ok(_) => Ok(answer),
    }
}

fn capitalized(what: &str) -> String {
    let mut characters = what.chars();
    let first = characters.next().map(|first| first.to_ascii_uppercase());
    first.into_iter().chain(characters).collect()
}

fn agrees(answer: &str) -> bool {
    matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_yes_is_yes() {
        for (answer, expected) in
            [("y\n", true), ("YES\n", true), ("\n", false), ("n\n", false), ("yep\n", false)]
        {
            assert_eq!(agrees(answer), expected, "{answer:?}");
        }
    }
}
