//! A configuration file that is read anew while the daemon runs: at SIGHUP (`systemctl reload`).
//!
//! What changes at once are the ceilings of the swarm: who is called because a line is full cannot wait
//! for a restart, and nothing was decided by them that would have to be undone. Everything else in the
//! file counts from the next start.

use std::convert::Infallible;
use std::error::Error;

use swarm::Ceilings;
use tokio::signal::unix::Signal;
use tokio::task::spawn_blocking;
use tracing::{error, info, warn};

use crate::chain;

/// What a file says that was read anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reread {
    pub ceilings: Ceilings,
    /// It says something else of other things, too, than at the start.
    pub others_differ: bool,
}

/// At each signal reads the file, with `read`, which may block, and hands its ceilings on. Where the file
/// is bad nothing changes, and the log says what is wrong.
pub async fn on_hangup<E: Error + Send + 'static>(
    mut hangup: Signal,
    read: impl Fn() -> Result<Reread, E> + Clone + Send + 'static,
    mut apply: impl FnMut(Ceilings),
) -> Infallible {
    loop {
        if hangup.recv().await.is_none() {
            // The runtime ends.
            return std::future::pending().await;
        }
        match spawn_blocking(read.clone()).await {
            Ok(Ok(Reread { ceilings, others_differ })) => {
                apply(ceilings);
                info!(%ceilings, "the configuration was read anew");
                if others_differ {
                    warn!(
                        "it says something else of other things, too: that counts from the next start"
                    );
                }
            }
            Ok(Err(error)) => refused(&error),
            Err(error) => refused(&error),
        }
    }
}

fn refused(error: &dyn Error) {
    error!(
        error = chain(error),
        "the configuration cannot be read anew: the ceilings stay as they are; mend it and reload again"
    );
}
