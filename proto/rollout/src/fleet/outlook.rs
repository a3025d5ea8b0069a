//! What one member sees, put together for people.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use proto::certificate::Claim;
use proto::receipt::{Receipt, State};
use proto::record::{
    self, AllowedRecord, AuditRecord, DriftRecord, FETCH_BANNED_MAX, FetchRecord, HostRecord,
    ProgressRecord,
};
use proto::report::{
    AuditReport, DriftReport, DroppedReport, ElsewhereReport, FetchReport, Fitness, FleetReport,
    FreezeReport, HostReport, LatencyReport, RemovalReport, RiftReport, RolloutPhase,
    RolloutReport, ServiceReport, SkipReport,
};
use proto::statement::{Action, ArtifactRef, Direction, Freeze, Host, Release, Role, Rollout};
use proto::trust::Chain;
use proto::wire::{Refused, RefusedKind, RolloutQuery, ScopeFacts, ScopeHost};
use proto::{Digest, Env, HostId, KeyId, Name, Scope, Service, UnixTime, Version};

use super::{Observer, Seen, names};
use crate::Now;
use crate::gate::{Expiry, Order};
use crate::receipts::Receipts;
use crate::report::{self, HostFacts, View};
use crate::verdict::{self, Conclusion, Counted, Signal, Tallies};

/// Rollouts of a scope that its history tells of at most.
const HISTORY_MAX: usize = 1_000;
/// Fewest digits by which a rollout can be named.
const PREFIX_MIN: usize = 4;

/// A rollout that lacks signatures: no member's chain holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pending {
    pub id: Digest,
    pub rollout: Rollout,
    /// What is missing, for people.
    pub missing: String,
}

/// What can be said of a host without reading its receipts: cheap enough to be asked all the time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Presence {
    pub id: HostId,
    pub name: Name,
    pub env: Option<Env>,
    /// Heard of lately.
    pub alive: bool,
    /// It is no longer one of the fleet.
    pub removed: bool,
    /// Services that are not what was released any more, as the host says itself.
    pub drift: Vec<(Service, DriftReport)>,
}

/// All that a member's answers depend on.
#[derive(Clone, Copy)]
pub struct Outlook<'a> {
    /// Name of the member that answers.
    pub seen_by: &'a Name,
    pub now: Now,
    pub chain: &'a Chain,
    pub observer: &'a Observer,
    /// Everybody in gossip, the member itself with them.
    pub members: &'a BTreeMap<HostId, Seen>,
    /// Verified host statements.
    pub hosts: &'a [Host],
    pub pending: &'a [Pending],
    /// The envelope of a statement, by id.
    pub statement: &'a dyn Fn(&Digest) -> Option<Vec<u8>>,
    /// The envelope of a host's statement.
    pub host_statement: &'a dyn Fn(&HostId) -> Option<Vec<u8>>,
}

impl Outlook<'_> {
    /// The whole fleet: every host with what it serves, the newest rollout of each scope.
    pub fn fleet_report(&self) -> FleetReport {
        let root = self.chain.root();
        let coordinator = |(_, key): (_, &proto::PublicKey)| self.is_alive(&HostId::of(key));
        let mut hosts: Vec<_> = self.hosts.iter().map(|host| self.host_report(host)).collect();
        hosts.sort_by(|one, other| (&one.name, &one.id).cmp(&(&other.name, &other.id)));
        let heads = self.chain.heads();
        FleetReport {
            fleet: self.chain.fleet().clone(),
            seen_by: self.seen_by.clone(),
            at: self.now.unix,
            root_version: root.version,
            coordinator_alive: root.keys_of(&Role::Admit).any(coordinator),
            hosts,
            rollouts: heads.filter_map(|(_, head)| self.rollout_report(&head.rollout)).collect(),
            pending: self.waiting().filter_map(|id| self.rollout_report(&id)).collect(),
            freezes: self.freezes().collect(),
            skips: self.skips(),
            audit: self.audit(),
        }
    }

    /// Rollouts that lack signatures, and would be in force with them.
    fn waiting(&self) -> impl Iterator<Item = Digest> {
        let may_begin = |one: &&Pending| {
            let Rollout { epoch, expires, .. } = one.rollout;
            let head = self.chain.head(&one.rollout.scope());
            head.is_none_or(|head| head.epoch < epoch) && self.time() < expires
        };
        self.pending.iter().filter(may_begin).map(|one| one.id)
    }

    /// Every host of which there is a statement.
    pub fn presence(&self) -> Vec<Presence> {
        let presence = |host: &Host| {
            let env = host.env();
            let removal = env.as_ref().and_then(|env| self.chain.revocation(&host.id, env));
            let drift = self.drifts_of(&host.id).map(|said| {
                let DriftRecord { service, release, found, first, .. } = said;
                (service, DriftReport { release, found, first })
            });
            Presence {
                id: host.id.clone(),
                name: host.name.clone(),
                alive: self.is_alive(&host.id),
                removed: removal.is_some(),
                drift: drift.collect(),
                env,
            }
        };
        self.hosts.iter().map(presence).collect()
    }

    /// What members say of the audit record.
    fn audit(&self) -> AuditReport {
        let said = |id: &HostId| {
            record::from_text::<AuditRecord>(self.members.get(id)?.values.get(record::AUDIT)?)
        };
        let rift = |host: &Host| {
            let (host, name, rift) = (host.id.clone(), host.name.clone(), said(&host.id)?.rift?);
            Some(RiftReport { host, name, rift })
        };
        let present = self.hosts.iter().filter(|host| self.chain.removal(host).is_none());
        let mut rifts: Vec<_> = present.filter_map(rift).collect();
        rifts.sort_by(|one, other| (&one.name, &one.host).cmp(&(&other.name, &other.host)));
        let coordinators = self.chain.root().keys_of(&Role::Admit).map(|(_, key)| HostId::of(key));
        let mut told = coordinators.filter_map(|id| said(&id)?.told);
        AuditReport { told: told.next(), rifts }
    }

    /// Where a rollout stands; none if it is not known here.
    pub fn rollout_report(&self, id: &Digest) -> Option<RolloutReport> {
        let pending = self.pending.iter().find(|pending| pending.id == *id);
        let rollout = self.chain.rollout(id);
        let rollout = rollout.or_else(|| pending.map(|pending| &pending.rollout))?;
        let followed = self.observer.followed.get(id);
        // One that nobody follows has no receipts here, and none is waited for.
        let none = || Receipts::new(*id, rollout.clone().into(), self.now.boot_ms);
        let unfollowed = followed.is_none().then(none);
        let receipts = followed.map(|followed| &followed.receipts).or(unfollowed.as_ref())?;
        let head = self.chain.head(&rollout.scope());
        let artifact = self.chain.release(&rollout.to.release).map(|release| release.artifact);
        let author = self.name_of_key(&rollout.author);
        let excused = self.chain.excuses(id).into_values().collect();
        let frozen = self.chain.freeze(&rollout.env, None);
        let names: BTreeMap<_, _> = self.hosts.iter().map(|host| (&host.id, &host.name)).collect();
        let tallies = self.tallies(rollout);
        let facts_of = |host: &HostId| {
            let name = |host: &HostId| names.get(host).copied();
            self.host_facts(host, &name, artifact, rollout, tallies.as_ref())
        };
        let pooled =
            |wave| followed.map_or(Conclusion::Doubt(None), |followed| followed.pooled(wave));
        let baked_ms = |host: &HostId| followed.and_then(|followed| followed.baked_ms(host));
        let superseded = head.is_some_and(|head| head.epoch > rollout.epoch);
        let mut report = report::rollout_report(&View {
            receipts,
            now: Now { unix: self.time(), ..self.now },
            held_ms: followed.map_or(0, |followed| followed.held_ms),
            pending: pending.map(|pending| pending.missing.as_str()),
            order: self.order(id),
            halted: self.observer.claimed(id, Claim::Halt),
            complete: self.observer.claimed(id, Claim::Complete),
            excused: &excused,
            expiry: self.expiry(rollout),
            frozen_until: frozen.map(|(_, freeze)| freeze.until),
            conflict: head.is_some_and(|head| head.conflict.is_some()),
            superseded,
            author: &author,
            facts_of: &facts_of,
            baked_ms: &baked_ms,
            latency: tallies.as_ref().and_then(|tallies| latency(tallies, rollout)),
            pooled: &pooled,
        });
        report.ended = self.ended(id, rollout, report.phase);
        if matches!(report.phase, RolloutPhase::Paused | RolloutPhase::Aborted) {
            report.why.push_str(&self.by_whom(id));
        }
        if let Some((back, from)) = report.back.as_mut().zip(rollout.from.as_ref())
            && !superseded
        {
            let scope = rollout.scope();
            report::name_others((back, &report.hosts[..]), &from.version, self.serve(&scope));
        }
        if let Some(words) = report::back_words(&report) {
            report.why = format!("{}; {words}", report.why);
        }
        Some(report)
    }

    /// The hosts of a scope that are heard, each with the version that it serves, as far as that is known.
    fn serve(&self, scope: &Scope) -> impl Iterator<Item = ElsewhereReport> {
        let there = self.hosts.iter().filter(|host| {
            let removed = self.chain.revocation(&host.id, &scope.env).is_some();
            host.env().as_ref() == Some(&scope.env) && self.is_alive(&host.id) && !removed
        });
        there.filter_map(|host| {
            let version = self.version_on(host, &scope.service)?;
            Some(ElsewhereReport { host: host.id.clone(), name: host.name.clone(), version })
        })
    }

    /// What a host serves of a service.
    fn version_on(&self, host: &Host, service: &Service) -> Option<Version> {
        let mut services = self.services_on(host).into_iter();
        services.find(|one| one.service == *service)?.version
    }

    /// What the hosts of its cohort that are heard say they counted, where its requests are counted.
    fn tallies(&self, rollout: &Rollout) -> Option<Tallies> {
        rollout.limits.as_ref()?;
        let members =
            rollout.cohort.iter().filter_map(|host| Some((&host.id, self.members.get(&host.id)?)));
        let live = members.filter(|(_, seen)| seen.alive).map(|(host, seen)| (host, &seen.values));
        Some(Tallies::read(live))
    }

    /// When it came to this end: for people, who ask how long it took.
    fn ended(&self, id: &Digest, rollout: &Rollout, phase: RolloutPhase) -> Option<UnixTime> {
        let proven = |claim| self.observer.proven.get(&(*id, claim)).copied();
        match phase {
            RolloutPhase::Pending | RolloutPhase::Running | RolloutPhase::Paused => None,
            RolloutPhase::Halted => proven(Claim::Halt),
            RolloutPhase::Complete => proven(Claim::Complete),
            RolloutPhase::Aborted => self.chain.directive(id).map(|(_, abort)| abort.created),
            RolloutPhase::Expired => Some(self.expiry(rollout).at()),
            RolloutPhase::Superseded => {
                let line = self.chain.history(&rollout.scope());
                let next = line.into_iter().find(|(_, next)| next.previous == Some(*id));
                next.map(|(_, next)| next.created)
            }
        }
    }

    /// Who gave the directive in force, and the reason given.
    fn by_whom(&self, rollout: &Digest) -> String {
        let Some((_, directive)) = self.chain.directive(rollout) else { return String::new() };
        let who = self.name_of_key(&directive.author);
        match directive.reason.as_str() {
            "" => format!(" (by {who})"),
            reason => format!(" (by {who}: {reason})"),
        }
    }

    /// The rollout a person means.
    ///
    /// # Errors
    ///
    /// [`Refused`]: none or several have that id, or the scope has none.
    pub fn find_rollout(&self, query: &RolloutQuery) -> Result<Digest, Refused> {
        let found = match query {
            RolloutQuery::Id(prefix) => return self.find_by_prefix(prefix),
            RolloutQuery::Scope(scope) => self.newest(|candidate| candidate == scope),
            RolloutQuery::Latest => self.newest(|_| true),
        };
        found.ok_or_else(|| match query {
            RolloutQuery::Scope(scope) => names::known_scope(self.chain, scope)
                .map_or_else(|unknown| unknown, |()| not_found(format!("{scope} has no rollout"))),
            RolloutQuery::Id(_) | RolloutQuery::Latest => {
                not_found("there is no rollout yet".to_owned())
            }
        })
    }

    /// Everything a plan needs about a scope.
    pub fn scope_facts(&self, scope: &Scope) -> ScopeFacts {
        let head = self.chain.head(scope);
        let history = self.chain.history(scope);
        let complete = |id: &Digest| self.observer.claimed(id, Claim::Complete);
        let stopped = |id: &Digest| {
            let abort = self.order(id).is_some_and(|order| order.action == Action::Abort);
            abort || self.observer.claimed(id, Claim::Halt)
        };
        // What was stopped after it was complete was taken back everywhere.
        let stable = history.iter().find(|(id, _)| complete(id) && !stopped(id));
        let hosts = self.hosts.iter().filter(|host| {
            let removed = self.chain.revocation(&host.id, &scope.env).is_some();
            host.env().as_ref() == Some(&scope.env) && !removed
        });
        let scope_host = |host: &Host| {
            let envelope = (self.host_statement)(&host.id)?;
            let serves = self.version_on(host, &scope.service);
            Some(ScopeHost { envelope, fitness: self.fitness(scope, host), serves })
        };
        let directive = head.and_then(|head| self.chain.directive(&head.rollout));
        ScopeFacts {
            rollout: head.and_then(|head| (self.statement)(&head.rollout)),
            report: head.and_then(|head| self.rollout_report(&head.rollout)),
            stable: stable.and_then(|(_, rollout)| (self.statement)(&rollout.to.release)),
            hosts: hosts.filter_map(scope_host).collect(),
            directive_sequence: directive.map_or(0, |(_, directive)| directive.sequence),
            history: history
                .iter()
                .take(HISTORY_MAX)
                .map(|(id, rollout)| (*id, rollout.to.version.clone()))
                .collect(),
            stopped: history
                .iter()
                .filter(|(id, rollout)| rollout.direction == Direction::Forward && stopped(id))
                .take(HISTORY_MAX)
                .map(|(id, rollout)| (*id, rollout.to.release))
                .collect(),
            freezes: self
                .freezes()
                .filter(|freeze| freeze.in_force && freeze.env == scope.env)
                .collect(),
            scopes: u32::try_from(self.chain.heads().count()).unwrap_or(u32::MAX),
        }
    }

    // --- freezes, skips ---

    /// The newest of each target and side.
    pub fn freezes(&self) -> impl Iterator<Item = FreezeReport> {
        self.chain.newest_freezes().map(|(id, freeze)| self.freeze_report(id, freeze))
    }

    fn freeze_report(&self, id: Digest, freeze: &Freeze) -> FreezeReport {
        let counts = self.chain.freeze(&freeze.env, freeze.host.as_ref());
        FreezeReport {
            statement: id,
            env: freeze.env.clone(),
            host: freeze.host.clone(),
            in_force: self.time() < freeze.until
                && counts.is_some_and(|(counting, _)| counting == id),
            until: freeze.until,
            by: self.name_of_key(&freeze.author),
            created: freeze.created,
            reason: freeze.reason.clone(),
        }
    }

    /// Of the newest rollout of each scope.
    fn skips(&self) -> Vec<SkipReport> {
        let mut skips = Vec::new();
        for (_, head) in self.chain.heads() {
            let rollout = head.rollout;
            let hosts: BTreeSet<_> = self.chain.excuses(&rollout).into_values().collect();
            skips.extend(hosts.into_iter().map(|host| SkipReport { rollout, host }));
        }
        skips
    }

    // --- rollouts ---

    /// The wall clock, as far as hosts believe theirs: they go by it.
    fn time(&self) -> UnixTime {
        self.chain.believed(self.now.unix)
    }

    fn expiry(&self, rollout: &Rollout) -> Expiry {
        Expiry::of(rollout, self.chain.root())
    }

    fn order(&self, rollout: &Digest) -> Option<Order> {
        let (_, directive) = self.chain.directive(rollout)?;
        let (sequence, action, wave) = (directive.sequence, directive.action, directive.wave);
        Some(Order { sequence, action, wave })
    }

    /// The newest rollout of the scopes that fit; one that waits for signatures is newer than the
    /// one it would replace.
    fn newest(&self, fits: impl Fn(&Scope) -> bool) -> Option<Digest> {
        let effective = self
            .chain
            .heads()
            .filter(|(scope, _)| fits(scope))
            .filter_map(|(_, head)| Some((self.chain.rollout(&head.rollout)?, head.rollout)));
        let pending = self.pending.iter().map(|pending| (&pending.rollout, pending.id));
        let pending = pending.filter(|(rollout, _)| fits(&rollout.scope()));
        let newest = effective.chain(pending).max_by_key(|(rollout, id)| (rollout.created, *id));
        newest.map(|(_, id)| id)
    }

    fn find_by_prefix(&self, prefix: &str) -> Result<Digest, Refused> {
        let hex = prefix.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if !hex || !(PREFIX_MIN..=64).contains(&prefix.len()) {
            return Err(Refused {
                kind: RefusedKind::Invalid,
                reason: format!("a rollout is named by {PREFIX_MIN} to 64 hex digits"),
                next: String::new(),
            });
        }
        let scopes = self.chain.heads().map(|(scope, _)| scope);
        let known = scopes.flat_map(|scope| self.chain.history(scope)).map(|(id, _)| id);
        let mut fitting: Vec<_> = known
            .chain(self.pending.iter().map(|pending| pending.id))
            .filter(|id| format!("{id:#}").starts_with(prefix))
            .collect();
        fitting.sort_unstable();
        fitting.dedup();
        match fitting[..] {
            [id] => Ok(id),
            [] => Err(not_found(format!("no rollout has an id that starts with {prefix}"))),
            [one, other, ..] => Err(Refused {
                kind: RefusedKind::Invalid,
                reason: format!("{prefix} may be {one} or {other}"),
                next: "give more digits".to_owned(),
            }),
        }
    }

    // --- hosts ---

    fn is_alive(&self, host: &HostId) -> bool {
        self.members.get(host).is_some_and(|seen| seen.alive)
    }

    fn fitness(&self, scope: &Scope, host: &Host) -> Fitness {
        if self.members.get(&host.id).is_some_and(|seen| seen.alive && seen.twin.is_some()) {
            return Fitness::Duplicate;
        }
        match (self.is_alive(&host.id), self.last_word(scope, host)) {
            // Before what a rollback takes in: its agent would not take up that one either.
            (true, _) if !self.is_allowed(&host.id, &scope.service) => Fitness::NotAllowed,
            (true, Some(State::RevertFailed)) => Fitness::RevertFailed,
            (true, _) if self.is_held(scope, host) => Fitness::Held,
            (true, _) => Fitness::Fit,
            (false, Some(State::Activating)) => Fitness::HalfWay,
            (false, _) => Fitness::Silent,
        }
    }

    /// Whether a host's `agent.toml` allows the service, as the host says.
    fn is_allowed(&self, host: &HostId, service: &Service) -> bool {
        let said = self.members.get(host).and_then(|seen| seen.values.get(record::ALLOWED));
        let said = said.and_then(|text| record::from_text::<AllowedRecord>(text));
        said.is_none_or(|allowed| allowed.services.contains(service))
    }

    /// Whether nothing may start on this one host of the environment now.
    fn is_held(&self, scope: &Scope, host: &Host) -> bool {
        let hold = self.chain.freeze(&scope.env, Some(&host.id));
        hold.is_some_and(|(_, freeze)| self.time() < freeze.until)
    }

    /// The state in the newest receipt of a host in a scope.
    fn last_word(&self, scope: &Scope, host: &Host) -> Option<State> {
        let words = self.words(host);
        let own = words.iter().filter(|(rollout, _)| rollout.scope() == *scope);
        own.max_by_key(|(rollout, said)| (rollout.epoch, said.sequence)).map(|(_, said)| said.state)
    }

    /// Whether a service of a host that could not go back in the rollout with this epoch is well: by what
    /// the host has signed about a later one, or says now of that one. What a proof has of that one may be
    /// older than the failure.
    pub fn is_well(&self, host: &HostId, scope: &Scope, stuck: u64) -> bool {
        let Some(host) = self.hosts.iter().find(|one| one.id == *host) else { return false };
        let later = self.words(host).into_iter().filter(|(rollout, _)| rollout.epoch > stuck);
        let now = self.words_now(host).into_iter().filter(|(rollout, _)| rollout.epoch >= stuck);
        let own = later.chain(now).filter(|(rollout, _)| rollout.scope() == *scope);
        let newest = own.max_by_key(|(rollout, said)| (rollout.epoch, said.sequence));
        newest.is_some_and(|(_, said)| match said.state {
            State::Committed => true,
            State::Reverted if report::has_begun(&said) => true,
            State::Activating | State::Baking | State::RevertFailed => false,
            _ => self.serves(&host.id, &scope.service).is_some(),
        })
    }

    /// The epoch of the newest rollout of a scope, if this host was skipped in it.
    pub fn skipped_in(&self, host: &HostId, scope: &Scope) -> Option<u64> {
        let head = self.chain.head(scope)?;
        let excused = self.chain.excuses(&head.rollout).into_values().any(|one| one == *host);
        let removed = self.chain.revocation(host, &scope.env).is_some();
        (excused && !removed).then_some(head.epoch)
    }

    /// What a host has said of each rollout. One that was left out of a cohort follows once the rollout
    /// is complete: what it says then counts for nothing there, and yet it tells how the host is.
    fn words(&self, host: &Host) -> Vec<(&Rollout, Receipt)> {
        let followed = self.observer.followed.values().map(|followed| &followed.receipts);
        let counted = followed.filter_map(|receipts| receipts.latest(&host.id).cloned());
        let known = |receipt: Receipt| Some((self.chain.rollout(&receipt.rollout)?, receipt));
        counted.filter_map(known).chain(self.words_now(host)).collect()
    }

    /// What it says now, in gossip.
    fn words_now(&self, host: &Host) -> Vec<(&Rollout, Receipt)> {
        let known =
            |receipt: &Receipt| Some((self.chain.rollout(&receipt.rollout)?, receipt.clone()));
        self.observer.words_of(&host.id).filter_map(known).collect()
    }

    /// The owner of a key, or the key itself once the root has forgotten it.
    pub fn name_of_key(&self, key: &KeyId) -> Name {
        let entry = self.chain.root().keys.get(key);
        entry.map_or_else(|| as_name(key.as_str()), |entry| entry.owner.clone())
    }

    /// Of a member that is no host that is known here: the coordinator, or its id.
    fn name_of_stranger(&self, id: &HostId) -> Name {
        let root = self.chain.root();
        let coordinator = { root.keys_of(&Role::Admit) }.any(|(_, key)| HostId::of(key) == *id);
        as_name(if coordinator { "coordinator" } else { id.as_str() })
    }

    fn host_report(&self, host: &Host) -> HostReport {
        let seen = self.members.get(&host.id);
        let value = |key: &str| seen.and_then(|seen| seen.values.get(key));
        let record = value(record::HOST).and_then(|text| record::from_text::<HostRecord>(text));
        let held = host.env().and_then(|env| {
            let (id, freeze) = self.chain.freeze(&env, Some(&host.id))?;
            Some(self.freeze_report(id, freeze)).filter(|freeze| freeze.in_force)
        });
        HostReport {
            id: host.id.clone(),
            name: host.name.clone(),
            env: host.env(),
            zone: host.zone(),
            labels: host.labels.iter().map(|(key, value)| format!("{key}={value}")).collect(),
            address: seen.map(|seen| seen.address.clone()),
            twin: seen.and_then(|seen| seen.twin.clone()),
            alive: seen.is_some_and(|seen| seen.alive),
            agent_version: record.map(|record| record.version),
            services: self.services_on(host),
            held,
            removed: host.env().and_then(|env| self.removal_report(&host.id, &env)),
        }
    }

    fn removal_report(&self, host: &HostId, env: &Env) -> Option<RemovalReport> {
        let (id, removal) = self.chain.revocation(host, env)?;
        Some(RemovalReport {
            statement: Some(id),
            by: self.name_of_key(&removal.author),
            created: removal.created,
            reason: removal.reason.clone(),
        })
    }

    /// By the newest word on each service of the host's environment.
    fn services_on(&self, host: &Host) -> Vec<ServiceReport> {
        let mut words = self.words(host);
        words.sort_by_key(|(rollout, said)| Reverse((rollout.epoch, said.sequence)));
        let mut services: BTreeMap<&Service, Vec<(&Rollout, Receipt)>> = BTreeMap::new();
        for (rollout, said) in words {
            services.entry(&rollout.service).or_default().push((rollout, said));
        }
        let now = self.words_now(host);
        let report = |(service, words): (&Service, Vec<(&Rollout, Receipt)>)| {
            let (rollout, said) = words.first()?;
            let allowed = self.is_allowed(&host.id, service);
            // One that is not allowed is spoken of as long as it is there: it may have been removed.
            let is_gone = !allowed && now.iter().all(|(rollout, _)| rollout.service != *service);
            let own = || self.serves(&host.id, service).map(|release| &release.version);
            let serves = serving(&host.id, &words, &own).filter(|_| !is_gone);
            Some(ServiceReport {
                service: service.clone(),
                version: serves.cloned(),
                state: said.state,
                note: said.note.clone(),
                to: Some(rollout.to.version.clone()),
                drift: self.drift_of(&host.id, service),
                allowed,
            })
        };
        services.into_iter().filter_map(report).collect()
    }

    /// What a host serves, as it says itself.
    fn served_by(&self, host: &HostId) -> impl Iterator<Item = DriftRecord> {
        let values = self.members.get(host).map(|seen| &seen.values);
        let texts =
            (0..record::SLOTS).filter_map(move |slot| values?.get(&record::drift_key(slot)));
        texts.filter_map(|text| record::from_text::<DriftRecord>(text))
    }

    /// The release of a service that serves on a host and that no step is about to replace, as it says
    /// itself; none: nothing, or it does not tell.
    fn serves(&self, host: &HostId, service: &Service) -> Option<&Release> {
        let said = self.served_by(host).find(|said| said.serves && said.service == *service)?;
        self.chain.release(&said.release)
    }

    /// How what a host serves differs from what was released, as it says itself.
    fn drifts_of(&self, host: &HostId) -> impl Iterator<Item = DriftRecord> {
        self.served_by(host).filter(|said| said.found > 0)
    }

    /// The same of one service.
    fn drift_of(&self, host: &HostId, service: &Service) -> Option<DriftReport> {
        let DriftRecord { release, found, first, .. } =
            self.drifts_of(host).find(|drift| drift.service == *service)?;
        Some(DriftReport { release, found, first })
    }

    fn host_facts<'h>(
        &self,
        id: &HostId,
        name: &dyn Fn(&HostId) -> Option<&'h Name>,
        artifact: Option<ArtifactRef>,
        rollout: &Rollout,
        tallies: Option<&Tallies>,
    ) -> HostFacts {
        let seen = self.members.get(id);
        let alive = seen.is_some_and(|seen| seen.alive);
        let name_of = |id: &HostId| name(id).cloned().unwrap_or_else(|| self.name_of_stranger(id));
        let slots = (0..record::SLOTS).map(record::progress_key);
        let records = slots.filter_map(|key| seen?.values.get(&key));
        let mut records = records.filter_map(|text| record::from_text::<ProgressRecord>(text));
        let held =
            records.find(|record| artifact.is_some_and(|artifact| artifact.id == record.artifact));
        let fetch = artifact.zip(held.as_ref().and_then(|held| held.fetch.clone()));
        HostFacts {
            name: name_of(id),
            alive,
            pieces: held.as_ref().map_or(0, |held| held.pieces),
            of: held.as_ref().map_or(0, |held| held.of),
            fetch: fetch.map(|(artifact, said)| fetch_report(said, &artifact, alive, &name_of)),
            counted: tallies.and_then(|tallies| counted(tallies, id, rollout)),
            drift: self.drift_of(id, &rollout.service),
            allowed: self.is_allowed(id, &rollout.service),
        }
    }
}

/// What a host says of its fetch; of one that is silent, where it stood.
fn fetch_report(
    said: FetchRecord,
    artifact: &ArtifactRef,
    alive: bool,
    name_of: &dyn Fn(&HostId) -> Name,
) -> FetchReport {
    let running = said.running && alive;
    let now = |number| if running { number } else { 0 };
    let dropped = said.banned.into_iter().take(FETCH_BANNED_MAX);
    FetchReport {
        running,
        bytes: said.bytes,
        of_bytes: artifact.bytes,
        bytes_per_s: if running { said.bytes_per_s } else { 0 },
        peers: now(said.peers.into()),
        from: said.from,
        still_s: now(said.still_s),
        stall: said.stall.filter(|_| running),
        dropped: dropped
            .map(|(host, why)| DroppedReport { name: name_of(&host), host, why })
            .collect(),
    }
}

/// Errors of what a host says it counted on either side of a rollout.
fn counted(tallies: &Tallies, host: &HostId, rollout: &Rollout) -> Option<Counted> {
    let from = rollout.from.as_ref().map(|from| from.release);
    let mut sides = [Some(rollout.to.release), from].into_iter().flatten();
    Some(sides.find_map(|release| tallies.of(host, release))?.bad(Signal::Errors))
}

/// How long answers take on either side of it.
fn latency(tallies: &Tallies, rollout: &Rollout) -> Option<LatencyReport> {
    let (new_p99_ms, control_p99_ms) = verdict::p99s_ms(rollout, tallies);
    let said = new_p99_ms.is_some() || control_p99_ms.is_some();
    said.then_some(LatencyReport { new_p99_ms, control_p99_ms })
}

/// What a host serves of a service, by its words, newest first; none: nothing, or it is not known. `own`:
/// what it says itself that serves there.
fn serving<'a>(
    host: &HostId,
    words: &[(&'a Rollout, Receipt)],
    own: &dyn Fn() -> Option<&'a Version>,
) -> Option<&'a Version> {
    let (newest, said) = words.first()?;
    // A rollout that it has not begun leaves it where it was: it may have come there in one whose cohort
    // it is not in, and of which no receipt of it is left.
    if !report::has_begun(said)
        && let Some(version) = own()
    {
        return Some(version);
    }
    let brought = match words.iter().find(|(_, said)| report::has_begun(said)) {
        Some((rollout, said)) => match said.state {
            State::Baking | State::Committed => Some(&rollout.to),
            State::Reverted => rollout.from.as_ref(),
            _ => None,
        },
        // Whether one outside the cohort runs what the others came from is not known.
        None => newest.rank_of(host).and(newest.from.as_ref()),
    };
    brought.map(|target| &target.version)
}

fn as_name(id: &str) -> Name {
    id.parse().expect("ids of keys and hosts are letters and digits")
}

pub(super) fn not_found(reason: String) -> Refused {
    Refused { kind: RefusedKind::NotFound, reason, next: String::new() }
}
