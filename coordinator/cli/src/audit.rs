//! `swell audit`: who did what when and why; whether that is what was written; and all of it in a file.
//!
//! The chain is verified here, and held against what hosts remember, each asked for itself where it answered
//! before or is said to be: the coordinator has no say in it but to name further hosts.

mod judge;

use std::collections::BTreeSet;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ed25519_dalek::SigningKey;
use net::Expect;
use proto::audit::{AuditFault, Entry, Head, Memory, PAGE_MAX};
use proto::id::{HostId, Name};
use proto::report::FleetReport;
use proto::wire::{AuditPage, AuditQuery, ControlReply, ControlRequest};
use tempfile::NamedTempFile;
use tokio::time;

pub(crate) use judge::{Before, Fault, Verdict, Without};
use judge::{Walk, Witness, judge};

use crate::args::AuditArgs;
use crate::client::{ANSWER_TIMEOUT, Client, ClientError, Member};
use crate::each::{ASKED_AT_ONCE_MAX, each};
use crate::failure::{Advise, Exit, Failure};
use crate::home::Home;
use crate::knowledge::Knowledge;
use crate::output;
use crate::render::audit as render;
use crate::witnesses::{Known, Witnesses};

/// Entries shown where nothing else was said.
const SHOWN: u32 = 20;
/// Longest wait for a host to let this side in, and for what it remembers.
const LET_IN_WITHIN: Duration = Duration::from_secs(5);
const ANSWER_WITHIN: Duration = Duration::from_secs(15);

/// Why the record was not written to a file.
#[derive(Debug, thiserror::Error)]
enum ExportError {
    #[error("cannot write {}", path.display())]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("what the coordinator gave is not what was written, and stands in no file: {0}")]
    Fault(AuditFault),
}

impl Advise for ExportError {
    fn next(&self) -> Option<String> {
        match self {
            Self::Write { .. } => None,
            Self::Fault(_) => {
                Some("swell audit --verify says what hosts remember of it".to_owned())
            }
        }
    }
}

/// # Errors
///
/// That the coordinator cannot be reached or refuses, or that a file cannot be written.
pub(crate) async fn run(
    home: Arc<Home>,
    key: &SigningKey,
    client: &Client,
    args: AuditArgs,
) -> Result<Exit, Failure> {
    if args.verify {
        return verify(&home, key, client, &args).await;
    }
    let form = if args.csv { Form::Csv } else { Form::Json };
    match &args.export {
        Some(path) => export(client, &args, form, path).await,
        None if args.json || args.csv => print(client, &args, form).await,
        None => show(client, &args).await,
    }
}

// --- reading ---

fn query(args: &AuditArgs, newest_first: bool) -> AuditQuery {
    AuditQuery {
        newest_first,
        beyond: args.before.filter(|_| newest_first),
        limit: PAGE_MAX,
        actor: args.actor.clone(),
        action: args.action.clone(),
        subject: args.subject.clone(),
        since: args.since,
    }
}

async fn page(client: &Client, query: &AuditQuery) -> Result<AuditPage, ClientError> {
    let what = "read the audit record";
    match client.ask(what, &ControlRequest::Audit(Box::new(query.clone()))).await? {
        ControlReply::Audit(page) => Ok(*page),
        _ => Err(client.unexpected(what)),
    }
}

/// The newest entries in question, the newest first, and from where there may be more.
async fn newest(
    client: &Client,
    args: &AuditArgs,
    limit: u32,
) -> Result<(Vec<Entry>, Option<u64>), ClientError> {
    let mut query = query(args, true);
    let mut entries = Vec::new();
    let limit = limit as usize;
    loop {
        query.limit = u32::try_from(limit - entries.len()).unwrap_or(PAGE_MAX).min(PAGE_MAX);
        let AuditPage { entries: more, next, .. } = page(client, &query).await?;
        entries.extend(more);
        entries.truncate(limit);
        // A page that leads back would be read for ever.
        let goes_on = next.filter(|next| query.beyond.is_none_or(|beyond| *next < beyond));
        if goes_on.is_none() || entries.len() == limit {
            return Ok((entries, goes_on));
        }
        query.beyond = goes_on;
    }
}

/// Gives all entries in question to `take`, the oldest first, until it wants no more; where the record
/// ended at the last page, if that was reached.
async fn all<E: From<ClientError>>(
    client: &Client,
    mut query: AuditQuery,
    mut take: impl FnMut(&Entry) -> Result<bool, E>,
) -> Result<Option<Head>, E> {
    loop {
        let AuditPage { entries, next, head } = page(client, &query).await?;
        for entry in &entries {
            if !take(entry)? {
                return Ok(None);
            }
        }
        let goes_on = next.filter(|next| *next > query.beyond.unwrap_or(0));
        if goes_on.is_none() {
            return Ok(Some(head));
        }
        query.beyond = goes_on;
    }
}

async fn show(client: &Client, args: &AuditArgs) -> Result<Exit, Failure> {
    let (entries, more) = newest(client, args, args.limit.unwrap_or(SHOWN)).await?;
    output::write(&render::entries(&entries));
    if let Some(beyond) = more {
        eprintln!("older ones: the same with --before {beyond}");
    }
    Ok(Exit::Done)
}

// --- for scripts ---

#[derive(Clone, Copy)]
enum Form {
    Json,
    Csv,
}

impl Form {
    const fn head(self) -> &'static str {
        match self {
            Self::Json => "",
            Self::Csv => render::CSV_HEAD,
        }
    }

    fn line(self, entry: &Entry) -> String {
        match self {
            Self::Json => serde_json::to_string(entry).expect("entries serialize") + "\n",
            Self::Csv => render::csv(entry),
        }
    }
}

/// The oldest first; all, unless only the newest or those before one are wanted.
async fn print(client: &Client, args: &AuditArgs, form: Form) -> Result<Exit, Failure> {
    output::write(form.head());
    if args.limit.is_some() || args.before.is_some() {
        let (entries, _) = newest(client, args, args.limit.unwrap_or(u32::MAX)).await?;
        entries.iter().rev().for_each(|entry| output::write(&form.line(entry)));
        return Ok(Exit::Done);
    }
    let take = |entry: &Entry| {
        output::write(&form.line(entry));
        Ok::<_, ClientError>(true)
    };
    all(client, query(args, false), take).await?;
    Ok(Exit::Done)
}

/// All in question into a file, which is there whole or not at all. Of a whole record the chain is followed on
/// the way; nobody is asked about it.
async fn export(
    client: &Client,
    args: &AuditArgs,
    form: Form,
    path: &Path,
) -> Result<Exit, Failure> {
    let failed = |source| ExportError::Write { path: path.to_owned(), source };
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let file = NamedTempFile::new_in(parent.unwrap_or(Path::new("."))).map_err(failed)?;
    let mut out = io::BufWriter::new(file);
    out.write_all(form.head().as_bytes()).map_err(failed)?;
    let query = query(args, false);
    let whole = query == AuditQuery { limit: query.limit, ..AuditQuery::default() };
    let (mut count, mut walk) = (0_u64, Walk::new(&[]));
    let take = |entry: &Entry| {
        count += 1;
        out.write_all(form.line(entry).as_bytes()).map_err(failed)?;
        Ok::<_, Failure>(!whole || walk.take(entry))
    };
    let named = all(client, query, take).await?;
    if let Some(named) = named.filter(|_| whole) {
        walk.end(named);
    }
    if let Some(fault) = walk.fault() {
        return Err(ExportError::Fault(fault.clone()).into());
    }
    let file = out.into_inner().map_err(|error| failed(error.into_error()))?;
    file.as_file().sync_all().map_err(failed)?;
    file.persist(path).map_err(|error| failed(error.error))?;
    let stands = if whole { ", its chain stands" } else { "" };
    eprintln!("{count} entries in {}{stands}", path.display());
    Ok(Exit::Done)
}

// --- verifying ---

async fn verify(
    home: &Arc<Home>,
    key: &SigningKey,
    client: &Client,
    args: &AuditArgs,
) -> Result<Exit, Failure> {
    let fleet = client.fleet(ANSWER_TIMEOUT).await?;
    home.remember_hosts(&fleet);
    let mut known = home.witnesses();
    // Where nothing can be remembered, as for CI.
    known.take_in(&fleet.hosts);
    for host in removed(home, client, &fleet, &known).await? {
        known.removed(&host);
    }
    let answers = each(ASKED_AT_ONCE_MAX, asked(&known), |host| {
        let (home, key) = (home.clone(), key.clone());
        async move {
            let answer = ask(&home, &key, &host).await;
            (host, answer)
        }
    })
    .await;
    let mut witnesses = Vec::new();
    for (host, answer) in answers {
        if let Ok((address, _)) = &answer {
            known.answered(&host.id, address);
        }
        let memory = answer.map(|(_, memory)| memory.bounded());
        witnesses.push(Witness { name: host.label, is_host: true, memory });
    }
    home.remember_witnesses(&known);
    witnesses.extend(gossiped(&fleet));
    let mut walk = Walk::new(&witnesses);
    let query = AuditQuery { limit: PAGE_MAX, ..AuditQuery::default() };
    let named = all(client, query, |entry| Ok::<_, ClientError>(walk.take(entry))).await?;
    if let Some(named) = named {
        walk.end(named);
    }
    let verdict = judge(&walk, &witnesses, args.recovered.as_deref());
    output::print(args.json, &verdict, || render::verdict(&verdict));
    Ok(if verdict.sound { Exit::Done } else { Exit::Error })
}

/// Of the hosts that the coordinator calls removed those of which it has shown the statement that does it.
async fn removed(
    home: &Home,
    client: &Client,
    fleet: &FleetReport,
    known: &Witnesses,
) -> Result<Vec<HostId>, Failure> {
    let mut knowledge = Knowledge::new(client, home.chain()?);
    let mut removed = Vec::new();
    let present: BTreeSet<_> = known.present().map(|(id, _)| id).collect();
    for host in fleet.hosts.iter().filter(|host| present.contains(&host.id)) {
        let Some(statement) = host.removed.as_ref().and_then(|removal| removal.statement) else {
            continue;
        };
        // Whatever is wrong with it: the host is asked.
        if knowledge.is_removed(&host.id, statement).await.unwrap_or(false) {
            removed.push(host.id.clone());
        }
    }
    Ok(removed)
}

/// A host to ask, under a name that no other has.
struct Asked {
    id: HostId,
    label: String,
    name: Name,
    addresses: Vec<String>,
}

fn asked(known: &Witnesses) -> Vec<Asked> {
    let called = |name| known.present().filter(|(_, host)| host.name == name).count();
    let asked = |(id, host): (&HostId, &Known)| Asked {
        id: id.clone(),
        label: match called(host.name.clone()) {
            1 => host.name.to_string(),
            _ => format!("{} ({id})", host.name),
        },
        name: host.name.clone(),
        addresses: host.addresses.clone(),
    };
    let mut asked: Vec<_> = known.present().map(asked).collect();
    asked.sort_by(|one, other| one.label.cmp(&other.label));
    asked
}

/// Where a host answered, and what it remembers; or why that is not known, for people.
async fn ask(home: &Home, key: &SigningKey, asked: &Asked) -> Result<(String, Memory), String> {
    let mut why = "was never heard, so its address is not known".to_owned();
    for address in &asked.addresses {
        match ask_at(home, key, asked, address).await {
            Ok(memory) => return Ok((address.clone(), memory)),
            Err(error) => why = error,
        }
    }
    Err(why)
}

async fn ask_at(
    home: &Home,
    key: &SigningKey,
    asked: &Asked,
    address: &str,
) -> Result<Memory, String> {
    let told = |error| Failure::from(error).in_parts().0;
    let member = Member {
        name: asked.name.to_string(),
        address: address.parse().map_err(|_| format!("{address} is no address"))?,
        expect: Expect::Host(asked.id.clone()),
    };
    let connecting = time::timeout(LET_IN_WITHIN, Client::connect(home, key, member));
    let silent = |_| format!("does not answer within {} s", LET_IN_WITHIN.as_secs());
    let client = connecting.await.map_err(silent)?.map_err(told)?;
    let what = "ask what it remembers of the audit record";
    let answer = client.ask_within(what, &ControlRequest::AuditMemory, ANSWER_WITHIN).await;
    client.close().await;
    match answer.map_err(told)? {
        ControlReply::AuditMemory(memory) => Ok(*memory),
        _ => Err(told(client.unexpected(what))),
    }
}

/// What the coordinator has just told the fleet. It can speak against the record, and not for it: both come
/// from the coordinator.
fn gossiped(fleet: &FleetReport) -> Option<Witness> {
    let told = fleet.audit.told?;
    let mut memory = Memory::default();
    memory.see(&told, 0, fleet.at);
    let name = "the coordinator's own gossip".to_owned();
    Some(Witness { name, is_host: false, memory: Ok(memory) })
}
