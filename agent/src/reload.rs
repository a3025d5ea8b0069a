//! `agent.toml`, read anew while the agent runs.

use std::path::{Path, PathBuf};

use member::reload::{Reread, on_hangup};
use swarm::Ceilings;
use tokio::signal::unix::Signal;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::config::{Config, ConfigError};

/// Reads the file at `path` at each signal and tells the ceilings it has. `config`: what it said at the
/// start.
pub(crate) async fn follow(
    hangup: Signal,
    path: PathBuf,
    config: Config,
    told: watch::Sender<Ceilings>,
) -> std::convert::Infallible {
    let read = move || reread(&path, &config);
    let apply = |ceilings| {
        told.send_replace(ceilings);
    };
    on_hangup(hangup, read, apply).await
}

fn reread(path: &Path, config: &Config) -> Result<Reread, ConfigError> {
    let new = Config::load(path)?;
    let ceilings = new.ceilings;
    let others_differ = Config { ceilings, ..config.clone() } != new;
    Ok(Reread { ceilings, others_differ })
}

/// Keeps the swarm below the ceilings that are told, until `stop`.
pub(crate) async fn keep_ceilings(
    swarm: swarm::Swarm,
    mut told: watch::Receiver<Ceilings>,
    stop: CancellationToken,
) {
    loop {
        swarm.set_ceilings(*told.borrow_and_update());
        tokio::select! {
            () = stop.cancelled() => return,
            // Nobody reads it anew: they stay.
            changed = told.changed() => if changed.is_err() { return stop.cancelled().await },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::signal::unix::{SignalKind, signal};

    use super::*;

    const KEPT: &str = "bind = \"127.0.0.1:7070\"\nname = \"a\"\n";

    fn ceilings(up: Option<u64>, down: Option<u64>) -> Ceilings {
        let bytes = |mbit: u64| mbit * 125_000;
        Ceilings { up_bytes_per_s: up.map(bytes), down_bytes_per_s: down.map(bytes) }
    }

    #[test]
    fn r29_a_file_that_is_read_anew_changes_ceilings_or_says_what_is_wrong() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.toml");
        let write = |more: &str| std::fs::write(&path, format!("{KEPT}{more}")).unwrap();
        write("upload_mbit_max = 200\n");
        let config = Config::load(&path).unwrap();
        assert_eq!(config.ceilings, ceilings(Some(200), None));
        let cases = [
            ("", ceilings(None, None), false),
            ("upload_mbit_max = 1\ndownload_mbit_max = 2\n", ceilings(Some(1), Some(2)), false),
            ("upload_mbit_max = 200\nkeep_releases = 9\n", ceilings(Some(200), None), true),
        ];
        for (more, ceilings, others_differ) in cases {
            write(more);
            let reread = reread(&path, &config).unwrap();
            assert_eq!(reread, Reread { ceilings, others_differ }, "{more}");
        }
        write("upload_mbit_max = 0\nkeep_releases = 1\n");
        let told = reread(&path, &config).unwrap_err().to_string();
        assert!(told.contains("upload_mbit_max = 0: must be 1 to 100000"), "{told}");
        assert!(told.contains("keep_releases = 1"), "as at the start, all of it: {told}");
        std::fs::remove_file(&path).unwrap();
        assert!(reread(&path, &config).is_err());
    }

    #[tokio::test]
    async fn r29_at_a_signal_ceilings_change_and_a_bad_file_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.toml");
        let write = |more: &str| std::fs::write(&path, format!("{KEPT}{more}")).unwrap();
        write("");
        let config = Config::load(&path).unwrap();
        let (told, mut heard) = watch::channel(config.ceilings);
        let hangup = signal(SignalKind::hangup()).unwrap();
        let _following = tokio::spawn(follow(hangup, path.clone(), config, told));
        let hang_up = || {
            let own = rustix::process::getpid();
            rustix::process::kill_process(own, rustix::process::Signal::HUP).unwrap();
        };
        let mut next = async || {
            let changed = tokio::time::timeout(Duration::from_secs(60), heard.changed());
            changed.await.expect("a file that is good counts").unwrap();
            *heard.borrow_and_update()
        };
        write("upload_mbit_max = 8\n");
        hang_up();
        assert_eq!(next().await, ceilings(Some(8), None));
        write("upload_mbit_max = -1\ndownload_mbit_max = 3\n");
        hang_up();
        // Long enough for a file to be read: had it counted, this would be what is heard next.
        tokio::time::sleep(Duration::from_millis(500)).await;
        write("upload_mbit_max = 9\n");
        hang_up();
        assert_eq!(next().await, ceilings(Some(9), None));
    }
}
