//! A check that is a command: run again and again, for as long as one answer may take.
//!
//! Unlike the commands of an activation it is nothing that has to come to an end: one that takes too
//! long, or is not wanted any more, is killed with its process group. What it says goes to no log; the
//! last line is told where it says no.

use std::path::PathBuf;
use std::process::ExitStatus;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;
use tokio::process::{Child, Command};

use crate::services::{Mask, last_line_of, shell};

/// Of what it says, the last so many bytes are looked at.
const SAID_BYTES_MAX: usize = 4 << 10;

/// Once it has ended, so much of what is still unread is read: what a pipe holds.
const DRAINED_BYTES_MAX: usize = 64 << 10;

/// What to run, and how.
#[derive(Clone, PartialEq, Eq)]
pub struct Script {
    /// For `/bin/sh -c`.
    pub text: String,
    pub directory: PathBuf,
    /// All of its environment.
    pub variables: Vec<(String, String)>,
    /// User and group to run as, and no other group; none: those of the agent.
    pub user: Option<(u32, u32)>,
    /// Of what it says, what must not be told.
    pub mask: Mask,
}

impl std::fmt::Debug for Script {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // No values of variables: they may be secrets.
        f.debug_struct("Script").field("text", &self.text).finish_non_exhaustive()
    }
}

/// Killed with its process group, unless it has ended.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Not waited for yet, so the id still is this child's and its group's.
        let id = self.0.id().and_then(|id| Pid::from_raw(id.try_into().ok()?));
        if let Some(group) = id {
            // No such group: it is gone.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

impl Script {
    /// Runs it once. `Err`: in few words, why it says no.
    pub(super) async fn run(&self) -> Result<(), String> {
        let failed = |error: std::io::Error| format!("cannot be run: {error}");
        let (mut running, mut output) = self.spawn().map_err(failed)?;
        let (mut said, mut read, mut open) = (Vec::new(), [0; 1_024], true);
        let status = loop {
            // By turns: what is left behind and always has something to say must not hide the end.
            tokio::select! {
                length = output.read(&mut read), if open => {
                    match length {
                        Ok(0) | Err(_) => open = false,
                        Ok(length) => keep(&mut said, &read[..length]),
                    }
                }
                ended = running.0.wait() => break ended.map_err(failed)?,
            }
        };
        // What is left behind may go on writing as fast as it is read.
        for _ in 0..DRAINED_BYTES_MAX / read.len() {
            let Ok(length @ 1..) = output.try_read(&mut read) else { break };
            keep(&mut said, &read[..length]);
        }
        match status.success() {
            true => Ok(()),
            false => Err(self.mask.hide(&no(status, &last_line_of(&said)))),
        }
    }

    fn spawn(&self) -> std::io::Result<(Running, pipe::Receiver)> {
        let (read, write) = std::io::pipe()?;
        let mut command = shell(&self.text, &self.directory, &self.variables, self.user);
        command.stdout(write.try_clone()?).stderr(write);
        let child = Command::from(command).spawn()?;
        Ok((Running(child), pipe::Receiver::from_owned_fd(read.into())?))
    }
}

fn keep(said: &mut Vec<u8>, more: &[u8]) {
    said.extend(more);
    said.drain(..said.len().saturating_sub(SAID_BYTES_MAX));
}

fn no(status: ExitStatus, last: &str) -> String {
    let ended = match status.code() {
        Some(code) => format!("exited {code}"),
        None => "was killed".to_owned(),
    };
    match last {
        "" => ended,
        last => format!("{ended}: {last}"),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use super::*;
    use crate::services::Variables;

    fn script(directory: &Path, text: &str) -> Script {
        let secret = Variables::from([("SECRET", "hunter2hunter2")]);
        Script {
            text: text.to_owned(),
            directory: directory.to_owned(),
            variables: vec![
                ("PATH".to_owned(), "/usr/bin:/bin".to_owned()),
                ("SECRET".to_owned(), "hunter2hunter2".to_owned()),
            ],
            user: None,
            mask: Mask::new(&secret),
        }
    }

    #[tokio::test]
    async fn exit_0_is_well_and_all_else_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let cases = [
            ("true", Ok(())),
            ("test \"$PWD\" -ef . && test -z \"$HOME\"", Ok(())),
            ("exit 3", Err("exited 3")),
            ("exit 75", Err("exited 75")),
            ("echo queue; echo 'is full' >&2; exit 1", Err("exited 1: is full")),
            ("echo key $SECRET; exit 1", Err("exited 1: key ***")),
            ("kill -9 $$", Err("was killed")),
            ("yes | head -c 1000000; echo end; exit 1", Err("exited 1: end")),
            // What is left behind keeps nobody waiting.
            ("sleep 600 & echo $! > left; echo no; exit 1", Err("exited 1: no")),
            ("echo y; yes & echo $! > noisy; exit 1", Err("exited 1: y")),
        ];
        for (text, expected) in cases {
            let answer = script(directory.path(), text).run().await;
            assert_eq!(answer, expected.map_err(str::to_owned), "{text}");
        }
        for left in ["left", "noisy"] {
            let left = std::fs::read_to_string(directory.path().join(left)).unwrap();
            // One that writes to nobody has ended by itself.
            std::process::Command::new("kill").arg(left.trim()).status().unwrap();
        }
        let nowhere = script(&directory.path().join("missing"), "true").run().await;
        assert!(nowhere.unwrap_err().starts_with("cannot be run: "));
    }

    #[tokio::test]
    async fn r23_one_that_is_not_waited_for_is_killed_with_its_group() {
        let directory = tempfile::tempdir().unwrap();
        let pids = directory.path().join("pids");
        let text = "sleep 600 & echo $! > pids.new; mv pids.new pids; wait";
        let script = script(directory.path(), text);
        let begun = async {
            while !pids.exists() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::select! {
            answer = script.run() => panic!("{answer:?}"),
            () = begun => {}
        }
        let pid = std::fs::read_to_string(&pids).unwrap();
        let proc = format!("/proc/{}/stat", pid.trim());
        // A zombie that nobody has collected yet is dead, too.
        let lives = || std::fs::read_to_string(&proc).is_ok_and(|stat| !stat.contains(") Z "));
        let gone = async {
            while lives() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), gone).await.expect("its child is killed");
    }
}
