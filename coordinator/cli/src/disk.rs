//! `host gc`: what lies on a host's disk, why it stays, and clearing the rest away now.

use std::time::Duration;

use ed25519_dalek::SigningKey;
use proto::id::{HostId, Name};
use proto::report::DiskReport;
use proto::wire::{ControlReply, ControlRequest};

use crate::args::GcArgs;
use crate::client::{self, ANSWER_TIMEOUT, Client};
use crate::failure::{Advise, Exit, Failure};
use crate::home::Home;
use crate::{host, output, render};

/// How long a host may take: it waits for its turn, and removes trees of many files.
const PATIENCE: Duration = Duration::from_secs(120);

/// A host that cannot be asked itself.
#[derive(Debug, thiserror::Error)]
#[error("host {name} ({id}) was never heard, so its address is not known")]
struct NoAddress {
    name: Name,
    id: HostId,
}

impl Advise for NoAddress {
    fn exit(&self) -> Exit {
        Exit::Unreachable
    }

    fn next(&self) -> Option<String> {
        Some("swell hosts shows who is heard; start its agent".to_owned())
    }
}

/// Asks the host itself: nobody else knows its disk.
///
/// # Errors
///
/// There is no such host, or it does not answer.
pub(crate) async fn gc(
    home: &Home,
    client: &Client,
    key: &SigningKey,
    args: GcArgs,
) -> Result<Exit, Failure> {
    let fleet = client.fleet(ANSWER_TIMEOUT).await?;
    home.remember_hosts(&fleet);
    let host = host::one_of(&fleet.hosts, &args.host, |host| (&host.id, &host.name))?;
    let (name, id) = (host.name.clone(), host.id.clone());
    let Some(member) = client::of_host(host) else {
        return Err(NoAddress { name, id }.into());
    };
    let direct = Client::connect(home, key, member).await?;
    let report = ask(&direct, args.dry_run).await;
    direct.close().await;
    let report = report?;
    output::print(args.json, &report, || render::disk::disk(&name, &report));
    // What was asked for was not done everywhere: a script must see that.
    let kept = report.services.iter().any(|service| !service.note.is_empty());
    Ok(if kept { Exit::Error } else { Exit::Done })
}

async fn ask(direct: &Client, dry_run: bool) -> Result<DiskReport, Failure> {
    let what = "ask what lies on its disk";
    match direct.ask_within(what, &ControlRequest::Disk { dry_run }, PATIENCE).await? {
        ControlReply::Disk(report) => Ok(*report),
        _ => Err(direct.unexpected(what).into()),
    }
}
