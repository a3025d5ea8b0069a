//! `swell doctor`: what is wrong, and what to do: here, at the coordinator, on the hosts.
//!
//! Every host is asked for itself, at the address it advertises, so what it takes for an operator to
//! reach it is tried, too. Who it is was proven by TLS; what it finds is its own word.

use std::collections::BTreeMap;
use std::error::Error as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use durable::SecretError;
use ed25519_dalek::SigningKey;
use net::Expect;
use proto::checkup::{self, Finding, Grade, Topic};
use proto::id::HostId;
use proto::key::{SECRET_BYTES_MAX, secret_from_text};
use proto::report::{FleetReport, HostReport};
use proto::wire::RefusedKind;
use serde::Serialize;
use tokio::time;

use crate::args::DoctorArgs;
use crate::client::{self, Client, ClientError, Member};
use crate::each::{ASKED_AT_ONCE_MAX, each};
use crate::failure::{Exit, Failure};
use crate::home::{self, Home};
use crate::host;
use crate::output;
use crate::render::doctor;

/// Longest wait for a member to let this side in.
const LET_IN_WITHIN: Duration = Duration::from_secs(5);
/// Longest wait for what it finds: it tries its disks.
const ANSWER_WITHIN: Duration = Duration::from_secs(15);

/// What was found; `swell doctor --json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Checkups {
    /// On the machine of whoever asks.
    pub(crate) here: Vec<Finding>,
    /// None: nobody was asked, since nothing here lets anybody in.
    pub(crate) coordinator: Option<Checkup>,
    pub(crate) hosts: Vec<Checkup>,
}

/// What one member finds about itself, or what is found about reaching it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Checkup {
    /// None: somebody was asked by an address that no host is known to have.
    pub(crate) host: Option<HostId>,
    pub(crate) name: String,
    pub(crate) address: Option<String>,
    pub(crate) grade: Grade,
    pub(crate) findings: Vec<Finding>,
}

impl Checkup {
    fn new(host: Option<HostId>, name: &str, address: Option<String>, found: Vec<Finding>) -> Self {
        // Whoever answered may be anything: what it says is bounded here once more.
        let findings = checkup::bounded(found);
        let grade = Grade::worst_of(&findings);
        Self { host, name: name.to_owned(), address, grade, findings }
    }
}

impl Checkups {
    /// The worst there is, here and anywhere.
    pub(crate) fn grade(&self) -> Grade {
        let members = self.coordinator.iter().chain(&self.hosts).map(|one| one.grade);
        members.fold(Grade::worst_of(&self.here), Grade::max)
    }
}

/// # Errors
///
/// A host that is named is not known, or a name is that of several.
pub(crate) async fn run(
    dir: PathBuf,
    via: Option<&str>,
    args: DoctorArgs,
) -> Result<Exit, Failure> {
    let DoctorArgs { hosts, verbose, json } = args;
    let (here, opened) = look_here(dir);
    let mut found = Checkups { here, coordinator: None, hosts: Vec::new() };
    if let Some((home, key)) = opened {
        ask_around(&home, &key, via, &hosts, &mut found).await?;
    }
    output::print(json, &found, || doctor::text(&found, verbose));
    Ok(if found.grade() == Grade::Wrong { Exit::Error } else { Exit::Done })
}

// --- here ---

/// The operator's own files; and with what to ask the others, where there is that.
fn look_here(dir: PathBuf) -> (Vec<Finding>, Option<(Arc<Home>, SigningKey)>) {
    let home = match Home::open(dir) {
        Ok(home) => home,
        Err(error) => return (vec![of_failure(Topic::Config, error)], None),
    };
    let mut findings = vec![
        Finding::good(Topic::Config, format!("this is fleet {}", home.operator.fleet)),
        checkup::root(&home.root, home::now()),
    ];
    findings.extend(own_keys(&home));
    match home.any_key("be let in") {
        Ok(key) => (findings, Some((Arc::new(home), key))),
        Err(error) => {
            // One that is there and cannot be used has been told already.
            if !findings.iter().any(|one| one.topic == Topic::Keys && one.grade == Grade::Wrong) {
                findings.push(of_failure(Topic::Keys, error));
            }
            (findings, None)
        }
    }
}

fn of_failure(topic: Topic, error: impl Into<Failure>) -> Finding {
    let (what, next) = error.into().in_parts();
    let or_else = match topic {
        Topic::Answer => "look who is at that address; swell hosts shows where each host is",
        _ => "mend or replace that file",
    };
    Finding::wrong(topic, what, next.unwrap_or_else(|| or_else.to_owned()))
}

/// The key files that are there: each its owner's alone, and none that belongs elsewhere.
fn own_keys(home: &Home) -> Vec<Finding> {
    let keys = &home.operator.keys;
    let used = [&keys.operator, &keys.publisher].map(|file| (file.as_path(), None));
    let elsewhere = [
        (keys.root.as_path(), "take it offline: whoever has it can do everything"),
        (
            Path::new("coordinator/admit.key"),
            "it is the coordinator's: copy it there, remove it here",
        ),
        (
            Path::new("coordinator/host-ca.key"),
            "it is the coordinator's: copy it there, remove it here",
        ),
    ];
    let elsewhere = elsewhere.map(|(file, why)| (file, Some(why)));
    let all = used.into_iter().chain(elsewhere);
    all.filter_map(|(file, elsewhere)| own_key(&home.dir.join(file), elsewhere)).collect()
}

/// A key file, if it is there; `elsewhere`: why it should not be.
fn own_key(path: &Path, elsewhere: Option<&str>) -> Option<Finding> {
    let shown = path.display();
    let found = match durable::read_secret(path, SECRET_BYTES_MAX) {
        Err(SecretError::Read { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
            return None;
        }
        Err(SecretError::Open { mode, .. }) => Finding::wrong(
            Topic::Keys,
            format!("others than its owner may use {shown} (mode {mode:04o})"),
            format!("chmod 600 {shown}; whoever may have read it has the key: make a new one then"),
        ),
        Err(error) => {
            let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
            let what = format!("{error}{cause}");
            Finding::wrong(Topic::Keys, what, "it must be yours, and a file: put it back")
        }
        Ok(text) if secret_from_text(&text).is_none() => {
            Finding::wrong(Topic::Keys, format!("{shown} holds no key"), "put the key file back")
        }
        Ok(_) => match elsewhere {
            Some(why) => Finding::doubt(Topic::Keys, format!("{shown} is on this machine"), why),
            None => Finding::good(Topic::Keys, format!("{shown} is its owner's alone")),
        },
    };
    Some(found)
}

// --- the others ---

async fn ask_around(
    home: &Arc<Home>,
    key: &SigningKey,
    via: Option<&str>,
    named: &[String],
    found: &mut Checkups,
) -> Result<(), Failure> {
    let first = client::member(home, via)?;
    let (findings, fleet) = ask_for_fleet(home, key, &first).await;
    found.coordinator = Some(match via {
        None => {
            let address = Some(first.address.to_string());
            Checkup::new(None, "the coordinator", address, findings)
        }
        Some(_) => {
            // The list of hosts has that host, too; only where there is no list must it be told of here.
            if fleet.is_none() {
                found.here.extend(findings);
            }
            // Who knows the others is somebody else; that the coordinator is gone is wrong all the same.
            let coordinator = client::coordinator(home);
            let name = coordinator.name.clone();
            ask_host(home, key, Patient { host: None, name, member: Some(coordinator) }).await
        }
    });
    let fleet = match fleet {
        Some(fleet) => {
            home.remember_hosts(&fleet);
            Some(fleet)
        }
        None => home.remembered_hosts().inspect(|fleet| {
            found.here.push(Finding::doubt(
                Topic::Hosts,
                format!("the list of hosts is the one of {} UTC", fleet.at),
                "`swell doctor --via HOST` asks a host for a newer one",
            ));
        }),
    };
    let hosts = fleet.map(|fleet| fleet.hosts).unwrap_or_default();
    found.hosts = ask_hosts(home, key, chosen(&hosts, named)?).await;
    Ok(())
}

/// What this member finds, and the hosts it knows.
async fn ask_for_fleet(
    home: &Home,
    key: &SigningKey,
    member: &Member,
) -> (Vec<Finding>, Option<FleetReport>) {
    let client = match reach(home, key, member.clone()).await {
        Ok(client) => client,
        Err(finding) => return (vec![finding], None),
    };
    let mut findings = look_over(&client).await;
    let fleet = client.fleet(ANSWER_WITHIN).await;
    client.close().await;
    let fleet = fleet.map_err(|error| findings.push(of_failure(Topic::Answer, error))).ok();
    (findings, fleet)
}

/// Whom to ask, and the words for whoever has no address.
struct Patient {
    host: Option<HostId>,
    name: String,
    member: Option<Member>,
}

/// The hosts that were named, by a name, id or address; all that were not removed if none was.
///
/// # Errors
///
/// There is no such host, or several.
fn chosen(hosts: &[HostReport], named: &[String]) -> Result<Vec<Patient>, Failure> {
    let of_host = |host: &HostReport, name: String| Patient {
        host: Some(host.id.clone()),
        name,
        member: client::of_host(host),
    };
    let mut called = BTreeMap::<_, u32>::new();
    hosts.iter().for_each(|host| *called.entry(&host.name).or_default() += 1);
    let name = |host: &HostReport| match called[&host.name] {
        1 => host.name.to_string(),
        _ => format!("{} ({})", host.name, host.id),
    };
    if named.is_empty() {
        let present = hosts.iter().filter(|host| host.removed.is_none());
        return Ok(present.map(|host| of_host(host, name(host))).collect());
    }
    let one = |word: &String| {
        if let Some(host) = hosts.iter().find(|host| has_address(host, word)) {
            return Ok(of_host(host, name(host)));
        }
        match word.parse::<SocketAddr>() {
            Ok(address) => {
                let member = Member { name: word.clone(), address, expect: Expect::AnyMember };
                Ok(Patient { host: None, name: word.clone(), member: Some(member) })
            }
            Err(_) => {
                let host = host::one_of(hosts, word, |host| (&host.id, &host.name))?;
                Ok(of_host(host, name(host)))
            }
        }
    };
    named.iter().map(one).collect()
}

/// Whether a host is at `IP:PORT`, or at `IP` whatever its port.
fn has_address(host: &HostReport, word: &str) -> bool {
    let address = host.address.as_ref().and_then(|address| address.parse::<SocketAddr>().ok());
    address.is_some_and(|at| at.to_string() == word || at.ip().to_string() == word)
}

/// Asks them, many at a time; in their order.
async fn ask_hosts(home: &Arc<Home>, key: &SigningKey, hosts: Vec<Patient>) -> Vec<Checkup> {
    each(ASKED_AT_ONCE_MAX, hosts, |patient| {
        let (home, key) = (home.clone(), key.clone());
        async move { ask_host(&home, &key, patient).await }
    })
    .await
}

async fn ask_host(home: &Home, key: &SigningKey, patient: Patient) -> Checkup {
    let Patient { host, name, member } = patient;
    let Some(member) = member else {
        let finding = Finding::wrong(
            Topic::Answer,
            "was never heard, so its address is not known",
            format!(
                "there: systemctl status groundswell-agent; gone for good? swell host remove {name}"
            ),
        );
        return Checkup::new(host, &name, None, vec![finding]);
    };
    let address = Some(member.address.to_string());
    let findings = match reach(home, key, member).await {
        Ok(client) => {
            let findings = look_over(&client).await;
            client.close().await;
            findings
        }
        Err(finding) => vec![finding],
    };
    Checkup::new(host, &name, address, findings)
}

/// A connection, or why there is none.
async fn reach(home: &Home, key: &SigningKey, member: Member) -> Result<Client, Finding> {
    let silent = silent(&member);
    match time::timeout(LET_IN_WITHIN, Client::connect(home, key, member)).await {
        Ok(Ok(client)) => Ok(client),
        Ok(Err(error)) if !error.is_unreachable() => Err(of_failure(Topic::Answer, error)),
        Ok(Err(_)) | Err(_) => Err(silent),
    }
}

fn silent(member: &Member) -> Finding {
    let (address, port) = (member.address, member.address.port());
    let (daemon, meanwhile) = match member.expect {
        Expect::Coordinator => ("coordinator", "; meanwhile any host knows the others: --via HOST"),
        _ => ("agent", ""),
    };
    Finding::wrong(
        Topic::Answer,
        format!("does not answer at {address} within {} s", LET_IN_WITHIN.as_secs()),
        format!(
            "UDP {port} must be open both ways; there: systemctl status groundswell-{daemon}, and \
             swell-{daemon} doctor{meanwhile}"
        ),
    )
}

/// What a member that let this side in finds about itself.
async fn look_over(client: &Client) -> Vec<Finding> {
    match client.checkup(ANSWER_WITHIN).await {
        Ok(findings) => findings,
        Err(ClientError::Refused { refused, .. }) if refused.kind == RefusedKind::Busy => {
            vec![Finding::doubt(Topic::Answer, refused.reason, refused.next)]
        }
        Err(error @ ClientError::Refused { .. }) => vec![of_failure(Topic::Answer, error)],
        Err(_) => {
            let limit_s = ANSWER_WITHIN.as_secs();
            vec![Finding::doubt(
                Topic::Answer,
                format!("lets swell in, and gives no answer that can be read within {limit_s} s"),
                "a version that has no doctor yet? Upgrade it, or run its own `doctor` there",
            )]
        }
    }
}

#[cfg(test)]
mod tests {
    use proto::report::RolloutPhase;

    use super::*;
    use crate::render::sample;

    fn hosts() -> Vec<HostReport> {
        sample::fleet(sample::rollout(RolloutPhase::Running, Vec::new())).hosts
    }

    fn names(hosts: &[HostReport], named: &[&str]) -> Vec<String> {
        let named: Vec<_> = named.iter().map(|name| (*name).to_owned()).collect();
        let chosen = chosen(hosts, &named).map_err(|error| error.to_string()).unwrap();
        chosen.into_iter().map(|patient| patient.name).collect()
    }

    #[test]
    fn hosts_are_meant_by_name_id_or_address() {
        let mut hosts = hosts();
        assert_eq!(names(&hosts, &[]), ["n1", "n2"]);
        for word in ["n1", "aaaaaaaaaaaa", "192.0.2.11:7070", "192.0.2.11"] {
            assert_eq!(names(&hosts, &[word]), ["n1"], "{word}");
        }
        assert_eq!(names(&hosts, &["n2", "192.0.2.99:1"]), ["n2", "192.0.2.99:1"]);
        let unknown = chosen(&hosts, &["n3".to_owned()]).err().unwrap();
        assert_eq!(unknown.exit(), Exit::Usage);
        hosts[1].name = hosts[0].name.clone();
        assert_eq!(names(&hosts, &[]), ["n1 (aaaaaaaaaaaa)", "n1 (bbbbbbbbbbbb)"]);
    }

    #[test]
    fn hosts_that_were_removed_are_not_asked() {
        let mut hosts = hosts();
        hosts[0].removed = Some(proto::report::RemovalReport {
            statement: None,
            by: "ada".parse().unwrap(),
            created: proto::UnixTime(1),
            reason: "sold".to_owned(),
        });
        assert_eq!(names(&hosts, &[]), ["n2"]);
    }

    #[test]
    fn who_does_not_answer_is_told_what_to_look_at() {
        let address = "10.0.0.7:7071".parse().unwrap();
        let mut member = Member { name: "n1".to_owned(), address, expect: Expect::AnyMember };
        let found = silent(&member);
        assert_eq!(found.what, "does not answer at 10.0.0.7:7071 within 5 s");
        for part in ["UDP 7071", "systemctl status groundswell-agent", "swell-agent doctor"] {
            assert!(found.next.contains(part), "{found}");
        }
        member.expect = Expect::Coordinator;
        let found = silent(&member);
        for part in ["groundswell-coordinator", "swell-coordinator doctor", "--via HOST"] {
            assert!(found.next.contains(part), "{found}");
        }
    }
}
