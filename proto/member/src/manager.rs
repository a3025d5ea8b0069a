//! What the service manager is told: that the daemon serves, how it is, that it still turns, that it
//! stops. systemd reads it (`Type=notify`, sd_notify(3)); without a manager nothing is said.
//!
//! The watchdog is fed only once every part that has to turn has turned since the last time. One that
//! hangs starves it, and the manager starts the daemon anew; the services go on.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use proto::report::{FleetReport, RolloutPhase};
use proto::wire::{ControlReply, ControlRequest};
use sd_notify::NotifyState;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::View;

/// How often the manager is told how the daemon is, at least.
const TELL_EVERY: Duration = Duration::from_secs(15);

/// The parts of a daemon that have to turn. Cheap to clone; all clones are one.
#[derive(Clone, Default)]
pub struct Pulse {
    /// Whether each has turned since all of them last had.
    turned: Arc<Mutex<BTreeMap<&'static str, bool>>>,
}

/// One part of a [`Pulse`]; nobody waits for it any more once it is dropped.
pub struct Beat {
    pulse: Pulse,
    name: &'static str,
}

// --- impl Pulse ---

impl Pulse {
    /// A part that turns every few seconds from now on.
    pub fn part(&self, name: &'static str) -> Beat {
        self.turned().insert(name, true);
        Beat { pulse: self.clone(), name }
    }

    /// The parts that have not turned since there was none of them.
    fn hanging(&self) -> Vec<&'static str> {
        let mut parts = self.turned();
        let hanging: Vec<_> =
            parts.iter().filter(|(_, turned)| !**turned).map(|(name, _)| *name).collect();
        if hanging.is_empty() {
            parts.values_mut().for_each(|turned| *turned = false);
        }
        hanging
    }

    fn turned(&self) -> MutexGuard<'_, BTreeMap<&'static str, bool>> {
        self.turned.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// --- impl Beat ---

impl Beat {
    /// Says that the part has turned once more.
    pub fn turn(&self) {
        self.pulse.turned().insert(self.name, true);
    }
}

impl Drop for Beat {
    fn drop(&mut self) {
        self.pulse.turned().remove(self.name);
    }
}

/// Tells the manager that the daemon serves, which it must by now, and how it is, until `stop`; then
/// that it stops. Where no manager asked to be told, only waits for `stop`.
pub async fn tell(view: View, pulse: Pulse, stop: CancellationToken) {
    if std::env::var_os("NOTIFY_SOCKET").is_none() {
        return stop.cancelled().await;
    }
    let watchdog = sd_notify::watchdog_enabled();
    // Four times in the watchdog's time: it has to miss several before it bites.
    let every = watchdog.map_or(TELL_EVERY, |limit| TELL_EVERY.min(limit / 4));
    say(&[NotifyState::Ready]);
    loop {
        let viewed = view.clone();
        let reply = tokio::task::spawn_blocking(move || viewed.answer(&ControlRequest::Fleet));
        if let Ok(Some(ControlReply::Fleet(report))) = reply.await {
            say(&[NotifyState::Status(&status(&report))]);
        }
        let hanging = pulse.hanging();
        if !hanging.is_empty() {
            warn!(parts = hanging.join(", "), "hangs: the service manager may start this anew");
        } else if watchdog.is_some() {
            say(&[NotifyState::Watchdog]);
        }
        tokio::select! {
            () = stop.cancelled() => return say(&[NotifyState::Stopping]),
            () = tokio::time::sleep(every) => {}
        }
    }
}

fn say(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        warn!(%error, "the service manager cannot be told");
    }
}

/// One line for `systemctl status`.
fn status(report: &FleetReport) -> String {
    let known = report.hosts.iter().filter(|host| host.removed.is_none());
    let (heard, hosts) =
        known.fold((0, 0), |(heard, hosts), host| (heard + u32::from(host.alive), hosts + 1));
    let open = report.rollouts.iter().filter(|one| match one.phase {
        RolloutPhase::Pending | RolloutPhase::Running | RolloutPhase::Paused => true,
        RolloutPhase::Halted
        | RolloutPhase::Aborted
        | RolloutPhase::Complete
        | RolloutPhase::Superseded
        | RolloutPhase::Expired => false,
    });
    format!(
        "fleet {}: {heard} of {hosts} hosts heard, coordinator {}, {} rollouts open",
        report.fleet,
        if report.coordinator_alive { "heard" } else { "silent" },
        open.count(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_that_hangs_is_named_for_as_long_as_it_hangs() {
        let pulse = Pulse::default();
        assert!(pulse.hanging().is_empty(), "no part, no wait");
        let (rollouts, view) = (pulse.part("rollouts"), pulse.part("view"));
        assert!(pulse.hanging().is_empty(), "both have only begun");
        assert_eq!(pulse.hanging(), ["rollouts", "view"]);
        view.turn();
        assert_eq!(pulse.hanging(), ["rollouts"]);
        assert_eq!(pulse.hanging(), ["rollouts"], "it does not pass by itself");
        rollouts.turn();
        assert!(pulse.hanging().is_empty(), "each has turned, whenever that was");
        assert_eq!(pulse.hanging(), ["rollouts", "view"], "and has to again");
        drop(rollouts);
        view.turn();
        assert!(pulse.hanging().is_empty(), "a part that ended keeps nobody waiting");
    }
}
