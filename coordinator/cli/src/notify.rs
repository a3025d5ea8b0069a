//! `swell notify`: who is told of what happens.

use proto::wire::{ControlReply, ControlRequest};

use crate::args::NotifyCommand;
use crate::client::Client;
use crate::failure::{Exit, Failure};
use crate::render::{notify, plain};
use crate::{home, output};

/// 1 where a receiver did not take its test.
///
/// # Errors
///
/// What the coordinator refused, or that it cannot be reached.
pub(crate) async fn run(client: &Client, command: NotifyCommand) -> Result<Exit, Failure> {
    match command {
        NotifyCommand::List(args) => {
            let what = "list the receivers";
            let answer = client.ask(what, &ControlRequest::NotifyList).await?;
            let ControlReply::Receivers(receivers) = answer else {
                return Err(client.unexpected(what).into());
            };
            output::print(args.json, &receivers, || notify::receivers(&receivers, home::now()));
            Ok(Exit::Done)
        }
        NotifyCommand::Test { receiver } => {
            let what = "test the receiver";
            let request = ControlRequest::NotifyTest { receiver: receiver.clone() };
            let ControlReply::Notified { taken, answer } = client.ask(what, &request).await? else {
                return Err(client.unexpected(what).into());
            };
            if taken {
                output::write(&format!("{receiver}: {}\n", plain(&answer)));
                return Ok(Exit::Done);
            }
            eprintln!("swell: {receiver} did not take the test message: {}", plain(&answer));
            Ok(Exit::Error)
        }
    }
}
