//! How a command ends: the exit codes, which are a contract, and what is said when it did not work.
//!
//! Every error names the step and the thing in its own text, its cause in `source`, and through
//! [`Advise`] what to do next.

use std::error::Error;
use std::fmt;
use std::process::{ExitCode, Termination};

use crate::client::Member;

/// Exit codes. 3 to 6 only from commands that waited; 4 also from one that signed what waits for more
/// signatures, and 5 from every one that reached nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    Done = 0,
    Error = 1,
    /// Wrong usage; also a question without a terminal and without `--yes`.
    Usage = 2,
    /// The rollout was taken back.
    RolledBack = 3,
    /// Waiting for approvals or for a time, paused, or held for another reason.
    Held = 4,
    /// A deadline passed while it went on, or what is needed cannot be reached.
    Unreachable = 5,
    /// Some host could not go back: a person is needed.
    RollbackFailed = 6,
    /// Ended by Ctrl-C while it watched, as shells tell it.
    Interrupted = 130,
}

impl Termination for Exit {
    fn report(self) -> ExitCode {
        ExitCode::from(self as u8)
    }
}

/// An error that knows how the command ends because of it, and what to do next.
pub(crate) trait Advise: Error {
    fn exit(&self) -> Exit {
        Exit::Error
    }

    /// One sentence, a command to paste where there is one.
    fn next(&self) -> Option<String> {
        None
    }
}

/// Any command's error.
#[derive(Debug)]
pub(crate) struct Failure {
    exit: Exit,
    next: Option<String>,
    error: Box<dyn Error + Send + Sync>,
}

impl Failure {
    pub(crate) fn exit(&self) -> Exit {
        self.exit
    }

    /// Of a command that only the coordinator answers: no host can stand in for it.
    pub(crate) fn of_the_coordinator_alone(self, via: Option<&str>) -> Self {
        let next = match via {
            _ if self.exit != Exit::Unreachable => self.next,
            Some(_) => Some("only the coordinator does this: leave out --via".to_owned()),
            None => Some("start the coordinator again; the fleet goes on without it".to_owned()),
        };
        Self { next, ..self }
    }

    /// Its advice, for somebody who spoke to this member.
    pub(crate) fn told_by(self, member: &Member) -> Self {
        let next = self.next.map(|next| member.hint(&next));
        Self { next, ..self }
    }

    #[cfg(test)]
    pub(crate) fn next(&self) -> Option<&str> {
        self.next.as_deref()
    }
}

impl<E: Advise + Send + Sync + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        Self { exit: error.exit(), next: error.next(), error: Box::new(error) }
    }
}

impl Failure {
    /// The error, its causes after colons; and what to do next.
    pub(crate) fn in_parts(self) -> (String, Option<String>) {
        (self.told(), self.next)
    }

    fn told(&self) -> String {
        let mut text = self.error.to_string();
        let mut source = self.error.source();
        while let Some(cause) = source {
            text.push_str(&format!(": {cause}"));
            source = cause.source();
        }
        text
    }
}

/// The error, its causes after colons, and what to do next on a line of its own.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.told())?;
        match &self.next {
            Some(next) => write!(f, "\n  next: {next}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot open the door")]
    struct Door(#[source] std::io::Error);

    impl Advise for Door {
        fn next(&self) -> Option<String> {
            Some("knock".to_owned())
        }
    }

    #[test]
    fn a_failure_names_the_step_the_cause_and_what_to_do() {
        let failure = Failure::from(Door(std::io::Error::other("it is locked")));
        assert_eq!(failure.to_string(), "cannot open the door: it is locked\n  next: knock");
        assert_eq!(failure.exit(), Exit::Error);
    }

    #[test]
    fn exit_codes_are_those_of_the_contract() {
        let codes = [
            (Exit::Done, 0),
            (Exit::Error, 1),
            (Exit::Usage, 2),
            (Exit::RolledBack, 3),
            (Exit::Held, 4),
            (Exit::Unreachable, 5),
            (Exit::RollbackFailed, 6),
        ];
        for (exit, code) in codes {
            assert_eq!(exit as u8, code, "{exit:?}");
        }
    }
}
