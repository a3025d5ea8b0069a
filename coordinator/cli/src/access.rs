//! `swell login` and `swell access`: what lets people and scripts in by HTTPS.

use std::io::{self, IsTerminal as _};

use proto::access::{AccessKind, AccessReport, AccessRole};
use proto::wire::{ControlReply, ControlRequest};
use serde::Serialize;

use crate::args::{AccessCommand, AccessTokenArgs, LoginArgs};
use crate::client::Client;
use crate::failure::{Exit, Failure};
use crate::{home, output};

/// What `--json` prints of a new link or token.
#[derive(Serialize)]
struct Given {
    id: String,
    #[serde(flatten)]
    what: What,
    expires: proto::UnixTime,
    url: String,
    fingerprint: String,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
enum What {
    Link(String),
    Token(String),
}

/// # Errors
///
/// What the coordinator refused, or that it cannot be reached.
pub(crate) async fn login(client: &Client, args: LoginArgs) -> Result<Exit, Failure> {
    let LoginArgs { role, lasts, json } = args;
    let given = create(client, AccessKind::Link, role.into(), lasts.as_secs()).await?;
    let What::Link(link) = &given.what else { return Err(client.unexpected("sign in").into()) };
    output::print(json, &given, || format!("{link}\n"));
    if !json {
        eprintln!("good once, for ten minutes; the session it opens ends by itself");
        if !given.fingerprint.is_empty() {
            eprintln!(
                "where the browser does not know the certificate, its SHA-256 must be\n  {}",
                given.fingerprint
            );
        }
    }
    Ok(Exit::Done)
}

/// # Errors
///
/// As [`login`].
pub(crate) async fn run(client: &Client, command: AccessCommand) -> Result<Exit, Failure> {
    match command {
        AccessCommand::Token(AccessTokenArgs { role, ttl, json }) => {
            let given = create(client, AccessKind::Token, role.into(), ttl.as_secs()).await?;
            let What::Token(token) = &given.what else {
                return Err(client.unexpected("make a token").into());
            };
            output::print(json, &given, || format!("{token}\n"));
            if io::stderr().is_terminal() && !json {
                let url = &given.url;
                eprintln!("for scripts: curl -H 'Authorization: Bearer TOKEN' {url}/api/v1/fleet");
            }
        }
        AccessCommand::List(args) => {
            let what = "list who may enter";
            let ControlReply::AccessList(list) =
                client.ask(what, &ControlRequest::AccessList).await?
            else {
                return Err(client.unexpected(what).into());
            };
            output::print(args.json, &list, || table(&list));
        }
        AccessCommand::Revoke { id } => {
            let what = "end it";
            let request = ControlRequest::AccessRevoke { id: id.clone() };
            let ControlReply::Done = client.ask(what, &request).await? else {
                return Err(client.unexpected(what).into());
            };
            println!("{id} is good for nothing any more");
        }
    }
    Ok(Exit::Done)
}

async fn create(
    client: &Client,
    kind: AccessKind,
    role: AccessRole,
    ttl_s: u64,
) -> Result<Given, Failure> {
    let what = "let you in";
    let request = ControlRequest::AccessCreate { kind, role, ttl_s };
    let ControlReply::Access { id, text, expires, url, fingerprint } =
        client.ask(what, &request).await?
    else {
        return Err(client.unexpected(what).into());
    };
    let what = match kind {
        AccessKind::Link => What::Link(text),
        AccessKind::Token | AccessKind::Session => What::Token(text),
    };
    Ok(Given { id, what, expires, url, fingerprint })
}

fn table(list: &[AccessReport]) -> String {
    if list.is_empty() {
        return "nobody may enter; swell login makes a link\n".to_owned();
    }
    let now = home::now();
    let line = |access: &AccessReport| {
        let AccessReport { id, kind, role, owner, expires, .. } = access;
        let left_s = expires.0.saturating_sub(now.0);
        let (kind, role) = (kind.name(), role.name());
        format!("{id}  {kind:<7}  {role:<8}  {owner}, for {} more minutes\n", left_s.div_ceil(60))
    };
    list.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_tells_what_each_is_and_how_long_it_is_good() {
        let now = home::now();
        let access = AccessReport {
            id: "0001020304050607".to_owned(),
            kind: AccessKind::Session,
            role: AccessRole::Operator,
            owner: "ada".parse().unwrap(),
            created: now,
            expires: now.plus_s(600),
        };
        let told = table(&[access]);
        assert_eq!(told, "0001020304050607  session  operator  ada, for 10 more minutes\n");
        assert!(table(&[]).contains("swell login"));
    }
}
