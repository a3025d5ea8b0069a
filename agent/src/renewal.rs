//! A new certificate before the old one runs out (R9).
//!
//! From a third of its life on, at a moment of the host's own, the coordinator is asked; as long as
//! it is not there, again and again. What comes is verified before it replaces what is there.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use ed25519_dalek::SigningKey;
use member::{Membership, clock};
use net::{Alpn, Expect, Identity, certificate, frame};
use proto::statement::Role;
use proto::wire::{CONTROL_BYTES_MAX, ControlReply, ControlRequest};
use proto::{HostId, PublicKey};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::home::Home;

/// How often it is looked whether the time has come.
const LOOK_EVERY: Duration = Duration::from_secs(3_600);
/// First pause after an attempt that failed; each further one is twice as long, up to the above.
const RETRY_AFTER: Duration = Duration::from_secs(5);
/// How long the coordinator may take for an answer.
const WITHIN: Duration = Duration::from_secs(20);

/// Renews until `stop`.
pub(crate) async fn run(home: Home, key: SigningKey, member: Membership, stop: CancellationToken) {
    let mut retry_after = RETRY_AFTER;
    loop {
        let pause = match renew_if_due(&home, &key, &member).await {
            Ok(()) => {
                retry_after = RETRY_AFTER;
                LOOK_EVERY
            }
            Err(error) => {
                let pause = retry_after;
                let (error, again_s) = (format!("{error:#}"), pause.as_secs());
                warn!(error, again_s, "the certificate is not renewed");
                retry_after = (2 * pause).min(LOOK_EVERY);
                pause
            }
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

async fn renew_if_due(home: &Home, key: &SigningKey, member: &Membership) -> Result<()> {
    let facts = certificate::facts(&home.certificate()?)?;
    if clock::unix() < certificate::renew_at(&facts) {
        return Ok(());
    }
    let der = ask(member).await.context("asking the coordinator")?;
    let new = certificate::facts(&der).context("the new certificate")?;
    ensure!(new.key == PublicKey::of(key), "the new certificate is of another key");
    ensure!(new.not_after > facts.not_after, "the new certificate ends no later");
    let identity = Identity::host(key.clone(), der.clone())?;
    home.save_certificate(&der)?;
    member.endpoint.set_identity(identity);
    info!(until = new.not_after.0, "the certificate is renewed");
    Ok(())
}

async fn ask(member: &Membership) -> Result<Vec<u8>> {
    let root = member.ledger.chain().root().clone();
    let coordinators: Vec<_> = root.keys_of(&Role::Admit).map(|(_, key)| HostId::of(key)).collect();
    let members = member.gossip.members().borrow().clone();
    let coordinator = members
        .iter()
        .find(|one| one.alive && coordinators.contains(&one.host))
        .context("it is not heard of")?;
    let connection =
        member.endpoint.connect(Alpn::Control, coordinator.address, Expect::Coordinator).await?;
    let (mut send, mut recv) = connection.open_bi().await?;
    frame::send_json(&mut send, &ControlRequest::Renew, CONTROL_BYTES_MAX, WITHIN).await?;
    let reply: ControlReply = frame::recv_json(&mut recv, CONTROL_BYTES_MAX, WITHIN).await?;
    match reply {
        ControlReply::Certificate { der } => Ok(der),
        ControlReply::Refused(refused) => bail!("refused: {}", refused.reason),
        _ => bail!("it answered something else"),
    }
}
