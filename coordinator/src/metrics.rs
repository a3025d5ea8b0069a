//! The coordinator's own page of metrics: what it sees of the fleet, its records, itself.
//!
//! No label has more values than the fleet has scopes, [`SCOPES_MAX`] here at most, or than stand in this
//! file, or than receivers are configured: hosts are counted and never named.

use std::collections::BTreeMap;
use std::sync::Arc;

use member::metrics::{Common, Text};
use proto::id::Name;
use proto::receipt::State;
use proto::report::{FleetReport, RolloutPhase, RolloutReport};
use proto::statement::UnixTime;
use proto::wire::{ControlReply, ControlRequest, Part};

use crate::audit::{Known, Verified};
use crate::desk::Desk;
use crate::notify::Counts;
use crate::publish::UPLOADS_MAX;

/// Scopes that are told of; hosts have room for fewer.
const SCOPES_MAX: usize = 64;

/// Where the newest rollout of a scope can stand that is in force.
const PHASES: [(RolloutPhase, &str); 6] = [
    (RolloutPhase::Running, "running"),
    (RolloutPhase::Paused, "paused"),
    (RolloutPhase::Halted, "halted"),
    (RolloutPhase::Aborted, "aborted"),
    (RolloutPhase::Complete, "complete"),
    (RolloutPhase::Expired, "expired"),
];

/// All that a host of a rollout can be; none: it has said nothing of it.
const STATES: [Option<State>; 9] = [
    None,
    Some(State::Pending),
    Some(State::Fetching),
    Some(State::Staged),
    Some(State::Activating),
    Some(State::Baking),
    Some(State::Committed),
    Some(State::Reverted),
    Some(State::RevertFailed),
];

/// The page as things stand now. Blocks on `/proc` and on the disk for a moment.
pub(crate) fn page(desk: &Arc<Desk>) -> String {
    let ledger = &desk.member.ledger;
    let fleet = match desk.view.answer(&ControlRequest::Fleet) {
        Some(ControlReply::Fleet(fleet)) => Some(*fleet),
        _ => None,
    };
    let patches = ledger.store().patches();
    let certificate = desk.https_certificate.borrow().clone();
    Facts {
        common: Common::of(&desk.member),
        fleet,
        releases: ledger.chain().releases().count(),
        effective: ledger.ids(Part::Statements, None, usize::MAX).len(),
        pending: ledger.pending().len(),
        known: desk.record.borrow().clone(),
        uploads: UPLOADS_MAX.saturating_sub(desk.uploads.available_permits()),
        certificate_expires: certificate.map(|certificate| certificate.expires),
        patches: patches.iter().filter(|(_, patch)| ledger.store().has_whole(patch)).count(),
        looked: *desk.looked.borrow(),
        told: desk.notify.counts(),
    }
    .text()
}

/// What is told.
#[derive(Default)]
struct Facts {
    common: Common,
    fleet: Option<FleetReport>,
    releases: usize,
    /// Statements with an effect, and below their threshold.
    effective: usize,
    pending: usize,
    known: Known,
    uploads: usize,
    patches: usize,
    /// Of the pages; none: there are none.
    certificate_expires: Option<UnixTime>,
    /// When the chronicle last looked at the fleet and kept what it saw.
    looked: Option<UnixTime>,
    /// By receiver.
    told: BTreeMap<Name, Counts>,
}

impl Facts {
    fn text(&self) -> String {
        let mut page = Text::default();
        self.common.tell(&mut page, env!("CARGO_PKG_VERSION"));
        if let Some(fleet) = &self.fleet {
            hosts(&mut page, fleet);
            rollouts(&mut page, &fleet.rollouts[..fleet.rollouts.len().min(SCOPES_MAX)]);
        }
        if let Some(expires) = self.certificate_expires {
            let name = "swell_https_certificate_expiry_timestamp_seconds";
            page.gauge(name, "When the certificate of the pages ends, since 1970.");
            page.say(name, &[], expires.0);
        }
        self.records(&mut page);
        self.audit(&mut page);
        self.notifications(&mut page);
        page.into_page()
    }

    fn records(&self, page: &mut Text) {
        let name = "swell_statements";
        page.gauge(name, "Signed statements: with an effect, and with signatures missing.");
        page.say(name, &[("standing", "effective")], self.effective);
        page.say(name, &[("standing", "pending")], self.pending);
        for (name, help, count) in [
            ("swell_releases", "Versions of all services that were admitted.", self.releases),
            ("swell_publish_uploads", "Releases that are being handed in.", self.uploads),
            ("swell_patches", "Patches from one release to another that are whole.", self.patches),
        ] {
            page.gauge(name, help);
            page.say(name, &[], count);
        }
    }

    fn notifications(&self, page: &mut Text) {
        let name = "swell_events_last_look_timestamp_seconds";
        page.gauge(
            name,
            "When the fleet was last looked at for events, and what was new was kept.",
        );
        if let Some(looked) = self.looked {
            page.say(name, &[], looked.0);
        }
        let name = "swell_notify_deliveries_total";
        page.counter(
            name,
            "Notifications taken, given up, and put off because they were not taken.",
        );
        for (receiver, told) in &self.told {
            for (outcome, count) in
                [("delivered", told.delivered), ("dropped", told.dropped), ("failed", told.failed)]
            {
                let labels = [("receiver", receiver.as_str()), ("outcome", outcome)];
                page.say(name, &labels, count);
            }
        }
        let name = "swell_notify_mute";
        page.gauge(
            name,
            "1: the secret of the receiver cannot be used, so nothing would reach it.",
        );
        for (receiver, told) in &self.told {
            page.say(name, &[("receiver", receiver.as_str())], u8::from(told.is_mute));
        }
        let name = "swell_notify_waiting";
        page.gauge(name, "Notifications that wait for the receiver.");
        for (receiver, told) in &self.told {
            page.say(name, &[("receiver", receiver.as_str())], told.waiting);
        }
    }

    fn audit(&self, page: &mut Text) {
        let name = "swell_audit_entries";
        page.gauge(name, "Entries of the audit record: only a record that was cut has fewer.");
        page.say(name, &[], self.known.told.map_or(0, |told| told.head.length));
        let verified = match &self.known.verified {
            Verified::Pending => None,
            Verified::Sound(_) => Some(1),
            Verified::Broken(_) => Some(0),
        };
        if let Some(verified) = verified {
            let name = "swell_audit_verified";
            page.gauge(name, "1: read after the start, the audit record was what was written.");
            page.say(name, &[], verified);
        }
        if let Some(fleet) = &self.fleet {
            let name = "swell_audit_rifts";
            page.gauge(name, "Hosts that were told something of the audit record that cannot be.");
            page.say(name, &[], fleet.audit.rifts.len());
        }
    }
}

fn hosts(page: &mut Text, fleet: &FleetReport) {
    let present = fleet.hosts.iter().filter(|host| host.removed.is_none());
    let (alive, silent): (Vec<_>, Vec<_>) = present.partition(|host| host.alive);
    let name = "swell_hosts";
    page.gauge(name, "Hosts of the fleet that were not removed, by whether they are heard.");
    page.say(name, &[("state", "alive")], alive.len());
    page.say(name, &[("state", "silent")], silent.len());
    let drifted = alive.iter().filter(|host| host.services.iter().any(|one| one.drift.is_some()));
    let name = "swell_hosts_drifted";
    page.gauge(name, "Hosts that serve what was not released like that.");
    page.say(name, &[], drifted.count());
}

/// The newest rollout of each scope.
fn rollouts(page: &mut Text, rollouts: &[RolloutReport]) {
    let scope = |one: &RolloutReport| (one.service.to_string(), one.env.to_string());
    let name = "swell_rollout_phase";
    page.gauge(name, "1: where the newest rollout of the service in the environment stands.");
    for one in rollouts {
        let (service, env) = scope(one);
        for (phase, word) in PHASES {
            let labels = [("service", service.as_str()), ("env", &env), ("phase", word)];
            page.say(name, &labels, u8::from(phase == one.phase));
        }
    }
    let name = "swell_rollout_hosts";
    page.gauge(name, "Hosts of that rollout, by what they last said of it.");
    for one in rollouts {
        let (service, env) = scope(one);
        for state in STATES {
            let word = state.map_or("unheard", State::name);
            let count = one.hosts.iter().filter(|host| host.state == state).count();
            page.say(name, &[("service", &service), ("env", &env), ("state", word)], count);
        }
    }
    type Count = fn(&RolloutReport) -> usize;
    let counts: [(&str, &str, Count); 6] = [
        ("swell_rollout_waves", "Waves of that rollout.", |one| one.waves.len()),
        ("swell_rollout_waves_open", "Of these, open.", |one| {
            one.waves.iter().filter(|wave| wave.open).count()
        }),
        (
            "swell_rollout_held",
            "1: it stands still until somebody acts, or a host is heard.",
            |one| usize::from(one.held && one.held_until.is_none()),
        ),
        ("swell_rollout_waits", "1: it stands still until a time that is known.", |one| {
            usize::from(one.held_until.is_some())
        }),
        ("swell_rollout_hosts_fetching", "Hosts that fetch its artifact.", |one| {
            one.fetches.running as usize
        }),
        ("swell_rollout_hosts_stalled", "Of these, those that get nothing.", |one| {
            one.fetches.stalled as usize
        }),
    ];
    for (name, help, count) in counts {
        page.gauge(name, help);
        for one in rollouts {
            let (service, env) = scope(one);
            page.say(name, &[("service", &service), ("env", &env)], count(one));
        }
    }
}

#[cfg(test)]
mod tests;
