//! What an agent finds when it looks itself over, and what can be found on its machine without it.
//!
//! Nothing is repaired and nothing is hashed: a look takes no longer than a few files. No text of a
//! key, a token or a variable of a service is in a finding.

use std::path::Path;

use durable::{Disk as _, Kind, RealDisk};
use member::checkup::{CHECKUPS_MAX, config_problems, key_file, port, running};
use member::{Membership, View, chain, clock};
use net::certificate::{self, Facts};
use proto::checkup::{self, Finding, Topic, bounded};
use proto::{Service, UnixTime};
use tokio::sync::Semaphore;

use crate::activate::{Journal, Paths, Step, activated, current, journals};
use crate::config::{Config, ConfigError};
use crate::home::{Home, HomeError, Joined};
use crate::witness::Witness;

/// A certificate that ends in fewer days is in doubt. From day 30 to 45 of 90 on the agent asks for a
/// new one, again and again: by now it has asked in vain for weeks.
const CERTIFICATE_DAYS_MIN: u64 = 20;
const DAY_S: u64 = 86_400;

/// Looks a running agent over.
pub(crate) struct Checkup {
    config: Config,
    member: Membership,
    view: View,
    witness: Witness,
    turns: Semaphore,
}

impl Checkup {
    pub(crate) fn new(config: Config, member: Membership, view: View, witness: Witness) -> Self {
        Self { config, member, view, witness, turns: Semaphore::new(CHECKUPS_MAX) }
    }

    /// What is found now; none: as many as may are looking already. Blocks on the disk.
    pub(crate) fn findings(&self) -> Option<Vec<Finding>> {
        let _turn = self.turns.try_acquire().ok()?;
        let mut findings = running(&self.member, &self.view);
        findings.push(self.witness.finding());
        findings.extend(on_disk(&self.config, clock::unix()));
        Some(bounded(findings))
    }
}

/// What is found on this machine, whether its agent runs or not.
pub fn of_machine(config: &Path, now: UnixTime) -> Vec<Finding> {
    let loaded = match Config::load(config) {
        Ok(loaded) => loaded,
        Err(error) => return bounded(problems(error)),
    };
    let what = format!("{} can be used", config.display());
    let mut findings = vec![Finding::good(Topic::Config, what)];
    findings.push(port(loaded.bind, "swell-agent", "groundswell-agent"));
    findings.extend(on_disk(&loaded, now));
    if let Ok(joined) = Home::new(&loaded.state_dir).joined() {
        findings.push(root(&joined, now));
    }
    bounded(findings)
}

fn problems(error: ConfigError) -> Vec<Finding> {
    let next = "mend the file: the agent does not start with it; its manual shows every key";
    match error {
        ConfigError::Bad { path, problems } => config_problems(&path, &problems, next),
        ConfigError::Read { path, source } => {
            config_problems(&path, &[format!("cannot be read: {source}")], next)
        }
        ConfigError::Malformed { path, why } => {
            config_problems(&path, &[format!("is not TOML: {why}")], next)
        }
    }
}

/// Files, directories and services.
fn on_disk(config: &Config, now: UnixTime) -> Vec<Finding> {
    let home = Home::new(&config.state_dir);
    let mut findings = vec![keys(&home)];
    if home.joined().is_ok() {
        findings.push(certificate_file(&home, now));
    }
    let directories = [&config.state_dir, &config.service_root];
    findings.extend(directories.map(|path| member::checkup::directory(path)));
    findings.extend(services(config, &home));
    findings
}

// --- who this host is ---

/// Whether this machine is a host, with a key that is its own and nobody else's.
fn keys(home: &Home) -> Finding {
    let Err(error) = home.key().and_then(|_| home.joined()) else {
        return Finding::good(Topic::Keys, "the host key is there, this machine's alone");
    };
    let wrong = |what: String, next: &str| Finding::wrong(Topic::Keys, what, next);
    match &error {
        HomeError::Key(error) => key_file(error),
        HomeError::NotJoined { path } => wrong(
            format!("this server has joined no fleet: {} is missing", path.display()),
            "`swell token create` makes a token, `swell-agent join TOKEN` joins",
        ),
        HomeError::Copied { dir } => wrong(
            "the host key was made on another machine: this disk is a copy".to_owned(),
            &format!(
                "stop the agent, move {} away and join as a new host; not a copy? Then look as the \
                 user who joined",
                dir.display()
            ),
        ),
        HomeError::Read { source, .. } if source.kind() == std::io::ErrorKind::PermissionDenied => {
            wrong(chain(&error), "run this as the agent's user, root")
        }
        _ => wrong(
            chain(&error),
            "mend that file, or move the state directory away and join as a new host",
        ),
    }
}

fn certificate_file(home: &Home, now: UnixTime) -> Finding {
    let facts = home
        .certificate()
        .map_err(|error| chain(&error))
        .and_then(|der| certificate::facts(&der).map_err(|error| chain(&error)));
    match facts {
        Ok(facts) => certificate(&facts, now),
        Err(what) => Finding::wrong(
            Topic::Certificate,
            format!("host.crt: {what}"),
            "the agent does not start without it: move the state directory away and join anew",
        ),
    }
}

fn certificate(facts: &Facts, now: UnixTime) -> Finding {
    let until = facts.not_after;
    if until <= now {
        return Finding::wrong(
            Topic::Certificate,
            format!(
                "the certificate has expired on {until} UTC: only who knows this host lets it in"
            ),
            "it is renewed as soon as the coordinator is heard: see to that, and to the clock",
        );
    }
    let days = (until.0 - now.0) / DAY_S;
    let what = format!("the certificate is good for {days} days, until {until} UTC");
    if now < facts.not_before {
        return Finding::wrong(
            Topic::Certificate,
            format!("the certificate is good from {} UTC on only", facts.not_before),
            "the clock is wrong: `timedatectl` shows whether a time service sets it",
        );
    }
    match days < CERTIFICATE_DAYS_MIN {
        true => Finding::doubt(
            Topic::Certificate,
            format!("{what}: renewing it has failed for weeks"),
            "`journalctl -u groundswell-agent | grep certificate` says why; only the coordinator renews",
        ),
        false => Finding::good(Topic::Certificate, what),
    }
}

/// The newest root that was there when the host joined.
fn root(joined: &Joined, now: UnixTime) -> Finding {
    match joined.roots.last().and_then(|envelope| checkup::root_in(envelope.as_bytes())) {
        Some(root) => checkup::root(&root, now),
        None => Finding::wrong(
            Topic::Root,
            "joined.json holds no root",
            "move the state directory away and join as a new host",
        ),
    }
}

// --- what is deployed ---

/// Every service that was ever activated here.
fn services(config: &Config, home: &Home) -> Vec<Finding> {
    let journals = journals(&home.services());
    let services = match activated(&home.services()) {
        Ok(services) => services,
        Err(error) => {
            let what = format!("cannot list {}: {error}", journals.display());
            return vec![Finding::wrong(
                Topic::Service,
                what,
                "run this as the agent's user, root",
            )];
        }
    };
    let look = |service: Service| {
        let journal = Journal::load(&RealDisk, &journals.join(format!("{service}.json")));
        let (paths, logs) = (Paths::new(&config.service_root, &service), home.services());
        match journal {
            Ok(journal) => {
                let step = journal.map(|journal| journal.step);
                let log = logs.join("logs").join(format!("{service}.log"));
                service_finding(&paths, step.as_ref(), &log)
            }
            Err(error) => Finding::wrong(
                Topic::Service,
                format!("{service}: {}", chain(&error)),
                "the agent leaves this service alone until then",
            ),
        }
    };
    services.into_iter().map(look).collect()
}

fn service_finding(paths: &Paths, step: Option<&Step>, log: &Path) -> Finding {
    let service = paths.service();
    if let Some(Step::RevertFailed { note, .. }) = step {
        return Finding::wrong(
            Topic::Service,
            format!("{service}: could not go back to what ran before: {note}"),
            format!(
                "{} has what its commands said; mend what keeps them from working, then `swell \
                 rollback {service}` again",
                log.display()
            ),
        );
    }
    let last = step.map_or("none", Step::name);
    let installed = match current(&RealDisk, paths) {
        Ok(Some(installed)) => installed,
        Ok(None) if matches!(step, Some(Step::Committed)) => {
            return Finding::wrong(
                Topic::Service,
                format!("{service}: {} is gone, though a release was committed", shown(paths)),
                format!("another rollout of {service} sets it anew"),
            );
        }
        Ok(None) => {
            let what = format!("{service}: nothing is deployed (last step: {last})");
            return Finding::good(Topic::Service, what);
        }
        Err(error) => {
            return Finding::wrong(
                Topic::Service,
                format!("{service}: {error}"),
                "look what moved it; another rollout of the service sets it anew",
            );
        }
    };
    let version = &installed.release.version;
    let whole = [paths.release(&installed.id), paths.manifest(&installed.id)]
        .map(|path| RealDisk.kind(&path).ok().flatten());
    match whole {
        [Some(Kind::Directory), Some(Kind::File { .. })] => Finding::good(
            Topic::Service,
            format!("{service}: `current` is {version}, whole at a glance (last step: {last})"),
        ),
        _ => Finding::wrong(
            Topic::Service,
            format!("{service}: `current` is {version}, and not all of it is in {}", shown(paths)),
            format!("deploy another version of {service}, or put its files back"),
        ),
    }
}

fn shown(paths: &Paths) -> String {
    paths.current().display().to_string()
}

#[cfg(test)]
mod tests;
