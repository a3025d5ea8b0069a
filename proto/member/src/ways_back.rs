//! Which artifacts go before all others on the wire: those to which a way back leads (R29).
//!
//! Every member works it out of the same signed statements. So giver and asker agree without a word, and
//! nobody can claim that what it wants is a rollback.
//!
//! The patches to such an artifact go with it: by one the way back takes less than by its pieces, which are
//! fetched beside installed files otherwise. They are told by their names in a member's own store, so that
//! again it is no word of the asker's that counts. What a liar gains who offers something else under such a
//! name is that it goes before other content of his own, for the little while in which it is fetched and found out.

use std::collections::BTreeSet;

use proto::Digest;
use proto::certificate::Claim;
use proto::statement::{Direction, Rollout};
use swarm::{Ledger, Swarm};
use tokio_util::sync::CancellationToken;

/// Tells the swarm what goes first, whenever that changes, until `stop`.
pub(crate) async fn keep(swarm: &Swarm, ledger: &Ledger, stop: CancellationToken) {
    let (mut events, mut kept) = (ledger.events(), ledger.store().changes());
    let mut told = BTreeSet::new();
    loop {
        let now = first(ledger);
        if now != told {
            swarm.set_first(now.clone());
            told = now;
        }
        tokio::select! {
            () = stop.cancelled() => return,
            changed = events.changed() => if changed.is_err() { return },
            changed = kept.changed() => if changed.is_err() { return },
        }
    }
}

/// The artifacts to which a way back leads, and the patches to these that are here or have been begun.
fn first(ledger: &Ledger) -> BTreeSet<Digest> {
    let mut first = ways_back(ledger);
    let patches = ledger.store().patches().into_iter().filter(|(name, _)| first.contains(&name.to));
    let patches: Vec<_> = patches.map(|(_, patch)| patch).collect();
    first.extend(patches);
    first
}

/// The artifacts to which the newest rollout of each scope goes back, or would.
fn ways_back(ledger: &Ledger) -> BTreeSet<Digest> {
    let chain = ledger.chain();
    let of_scope = |(scope, head): (_, &proto::trust::Head)| {
        let rollout = chain.rollout(&head.rollout)?;
        let stopped = ledger.stopped(scope).contains(&head.rollout);
        let complete = ledger.certificate(&head.rollout, Claim::Complete).is_some();
        let release = chain.release(&leads_back_to(rollout, stopped, complete)?)?;
        Some(release.artifact.id)
    };
    chain.heads().filter_map(of_scope).collect()
}

/// The release that hosts go back to by this rollout, or would if it failed; none: it is over, or there is
/// nothing to go back to. `stopped`: halted or aborted.
fn leads_back_to(rollout: &Rollout, stopped: bool, complete: bool) -> Option<Digest> {
    match (stopped, complete, rollout.direction) {
        (false, true, _) => None,
        (false, false, Direction::Rollback) => Some(rollout.to.release),
        (true, ..) | (false, false, Direction::Forward) => {
            rollout.from.as_ref().map(|from| from.release)
        }
    }
}

#[cfg(test)]
mod test {
    use std::path::Path;
    use std::sync::Arc;

    use durable::SimDisk;
    use ed25519_dalek::SigningKey;
    use proto::artifact::{Entry, FORMAT, Manifest, PIECE_RAW_BYTES, What};
    use proto::patch::PatchName;
    use proto::statement::{
        Action, ArtifactRef, CohortHost, Directive, Health, KeyEntry, OnFailure, Payload, Policy,
        RULES, Release, Role, RoleKeys, Root, Run, Source, Target, Wave,
    };
    use proto::{Env, HostId, KeyId, PublicKey, UnixTime};
    use swarm::Store;

    use super::*;
    use crate::clock;

    /// Of people, and of the coordinator.
    fn keys() -> [SigningKey; 2] {
        [[7; 32], [8; 32]].map(|seed| SigningKey::from_bytes(&seed))
    }

    fn env() -> Env {
        "prod".parse().unwrap()
    }

    fn root() -> Root {
        let [ours, coordinator] = keys().map(|key| PublicKey::of(&key));
        let entry = |key: PublicKey, owner: &str| {
            (KeyId::of(&key), KeyEntry { key, owner: owner.parse().unwrap() })
        };
        let held = |role, key| (role, RoleKeys { keys: [KeyId::of(key)].into(), threshold: 1 });
        let own = [Role::Root, Role::Publish, Role::HostCa, Role::Deploy(env())];
        let own = own.map(|role| held(role, &ours)).into_iter();
        Root {
            fleet: "test-00000000".parse().unwrap(),
            version: 1,
            expires: UnixTime(1 << 40),
            roles: own.chain([held(Role::Admit, &coordinator)]).collect(),
            keys: [entry(ours, "ada"), entry(coordinator, "coordinator")].into(),
            environments: [(env(), Policy::default())].into(),
            critical: vec![],
        }
    }

    /// Its artifact has the version for its name.
    fn release(version: &str) -> Release {
        let id = Digest::of(version.as_bytes());
        let artifact = ArtifactRef { id, manifest_bytes: 1, bytes: 1, raw_bytes: 1 };
        let (start, stop) = ("true".to_owned(), "true".to_owned());
        Release {
            fleet: root().fleet,
            service: "web".parse().unwrap(),
            version: version.parse().unwrap(),
            artifact,
            source: Source::default(),
            created: UnixTime(1),
            run: Run { start, stop, timeout_s: 1, ..Run::default() },
            health: Health::default(),
            critical: vec![],
        }
    }

    fn target(version: &str) -> Target {
        Target { release: release(version).envelope().id(), version: version.parse().unwrap() }
    }

    /// From 1 to 2, the first of its scope.
    fn rollout(direction: Direction) -> Rollout {
        let key = PublicKey::of(&keys()[0]);
        let zone = "default".parse().unwrap();
        Rollout {
            fleet: root().fleet,
            service: "web".parse().unwrap(),
            env: env(),
            epoch: 1,
            previous: None,
            from: Some(target("1")),
            to: target("2"),
            direction,
            rules: RULES,
            cohort: vec![CohortHost { id: HostId::of(&key), key, zone }],
            waves: vec![Wave { hosts: 1, wait_s: 0, failed_max: 0, unreachable_max: 0 }],
            max_unavailable: 1,
            in_flight_max: None,
            windows: Vec::new(),
            retry: false,
            adopt: false,
            limits: None,
            on_failure: OnFailure::Rollback,
            approvals: 0,
            created: UnixTime(1),
            expires: UnixTime(1 << 40),
            author: KeyId::of(&key),
            reason: String::new(),
            critical: Vec::new(),
        }
    }

    fn signed<P: Payload>(payload: &P, signers: &[SigningKey]) -> Vec<u8> {
        let mut envelope = payload.envelope();
        signers.iter().for_each(|key| envelope.sign(key));
        envelope.to_bytes()
    }

    fn patches_to_it_go_with_it(ledger: &Ledger) {
        let [one, two] = [b"1", b"2"].map(|version| Digest::of(version));
        let begin = |from, to| {
            let what = What::File { bytes: 0, digest: Digest::of(b""), executable: false };
            let entries = vec![Entry { path: PatchName { from, to }.to_string(), what }];
            let (piece_raw_bytes, pieces) = (*PIECE_RAW_BYTES.start(), Vec::new());
            let bytes = Manifest { format: FORMAT, entries, piece_raw_bytes, pieces }.to_bytes();
            let id = Digest::of(&bytes);
            ledger.store().begin(&id, &bytes).unwrap();
            id
        };
        let (back, _forth) = (begin(two, one), begin(one, two));
        assert_eq!(first(ledger), [one, back].into());
    }

    /// Of signed statements alone, and of what they come to.
    #[test]
    fn r29_the_artifact_of_the_way_back_goes_first_from_the_rollout_on() {
        let [ours, coordinator] = keys();
        let store = Store::open(Arc::new(SimDisk::new()), Path::new("/state")).unwrap();
        let genesis = signed(&root(), std::slice::from_ref(&ours));
        let id = root().envelope().id();
        let ledger = Ledger::open(store, id, Some(&genesis), clock::unix).unwrap();
        for version in ["1", "2"] {
            let both = [ours.clone(), coordinator.clone()];
            ledger.admit(&signed(&release(version), &both)).unwrap();
        }
        assert_eq!(ways_back(&ledger), [].into());
        let rollout = rollout(Direction::Forward);
        ledger.admit(&signed(&rollout, &[])).unwrap_err();
        assert_eq!(ways_back(&ledger), [].into(), "nobody has signed it");
        ledger.admit(&signed(&rollout, std::slice::from_ref(&ours))).unwrap();
        let back = [Digest::of(b"1")];
        assert_eq!(ways_back(&ledger), back.into());
        patches_to_it_go_with_it(&ledger);
        let abort = Directive {
            fleet: root().fleet,
            rollout: rollout.envelope().id(),
            sequence: 1,
            action: Action::Abort,
            wave: None,
            host: None,
            author: rollout.author,
            created: UnixTime(2),
            reason: String::new(),
            critical: vec![],
        };
        ledger.admit(&signed(&abort, &[ours])).unwrap();
        assert_eq!(ways_back(&ledger), back.into());
    }

    #[test]
    fn r29_what_leads_back() {
        let forward = rollout(Direction::Forward);
        let back = rollout(Direction::Rollback);
        let (from, to) = (forward.from.as_ref().map(|from| from.release), Some(back.to.release));
        let first = Rollout { from: None, ..forward.clone() };
        let cases = [
            ("a rollout that is open", &forward, false, false, from),
            ("one that was stopped", &forward, true, false, from),
            ("that is complete", &forward, false, true, None),
            ("that was complete, and was aborted then", &forward, true, true, from),
            ("a rollback that is open", &back, false, false, to),
            ("that is complete", &back, false, true, None),
            ("that was stopped", &back, true, false, from),
            ("a first deployment", &first, true, false, None),
        ];
        for (case, rollout, stopped, complete, expected) in cases {
            assert_eq!(leads_back_to(rollout, stopped, complete), expected, "{case}");
        }
    }
}
