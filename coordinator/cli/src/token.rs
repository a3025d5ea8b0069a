//! `swell token`: what lets hosts join.

use std::io::{self, IsTerminal as _};

use proto::wire::{ControlReply, ControlRequest};
use serde::Serialize;

use crate::args::{TokenCommand, TokenCreateArgs};
use crate::client::{Client, ClientError};
use crate::failure::{Exit, Failure};
use crate::render::fleet;
use crate::{home, output};

/// `swell token create --json`.
#[derive(Serialize)]
struct Created<'a> {
    token: &'a str,
}

/// # Errors
///
/// What the coordinator refused, or that it cannot be reached.
pub(crate) async fn run(client: &Client, command: TokenCommand) -> Result<Exit, Failure> {
    match command {
        TokenCommand::Create(args) => create(client, args).await?,
        TokenCommand::List(args) => {
            let what = "list the tokens";
            let ControlReply::Tokens(tokens) = client.ask(what, &ControlRequest::TokenList).await?
            else {
                return Err(client.unexpected(what).into());
            };
            output::print(args.json, &tokens, || fleet::tokens(&tokens, home::now()));
        }
        TokenCommand::Revoke { id } => {
            let what = "revoke the token";
            let request = ControlRequest::TokenRevoke { token: id.clone() };
            let ControlReply::Done = client.ask(what, &request).await? else {
                return Err(client.unexpected(what).into());
            };
            println!("token {id} is revoked");
        }
    }
    Ok(Exit::Done)
}

async fn create(client: &Client, args: TokenCreateArgs) -> Result<(), ClientError> {
    let what = "create a token";
    let TokenCreateArgs { uses, ttl, labels, json } = args;
    let no_env = !labels.iter().any(|(key, _)| key.as_str() == "env");
    let request = ControlRequest::TokenCreate { uses, ttl_s: ttl.as_secs(), labels };
    let ControlReply::Token { text } = client.ask(what, &request).await? else {
        return Err(client.unexpected(what));
    };
    // The token alone on the standard output, so that it can be piped; all else beside it.
    output::print(json, &Created { token: &text }, || format!("{text}\n"));
    if no_env {
        eprintln!(
            "note: hosts that join with it belong to no environment: give --label env=ENV for that"
        );
    }
    if io::stderr().is_terminal() {
        eprintln!("next, on each host: swell-agent join TOKEN");
    }
    Ok(())
}
