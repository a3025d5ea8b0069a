//! Joining: a server with a token becomes a host of its fleet (R9).
//!
//! The key is made here and stays here. The coordinator is proven by the key in the token before
//! anything is sent to it, and everything it answers is verified under the root that the token names
//! before any of it is kept. A join that is cut off anywhere is simply done again, with the same key.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use std::io::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use ed25519_dalek::SigningKey;
use net::join::Token;
use net::{Directory, Endpoint, Identity};
use proto::key::Signature;
use proto::statement::{Host, Statement};
use proto::trust::{Chain, Standing, verify};
use proto::wire::{JoinReply, JoinRequest, join_proof};
use proto::{PublicKey, UnixTime};

use crate::config::{Config, DEFAULT_STATE_DIR};
use crate::home::{Home, Joined};
use member::clock;

/// What a coordinator's welcome comes to once it is verified.
struct Welcome {
    joined: Joined,
    host: Host,
    certificate: Vec<u8>,
    seeds: Vec<SocketAddr>,
}

/// Joins the fleet of `token`.
///
/// # Errors
///
/// A chain for people: joined already, bad token, coordinator out of reach, refused (with its
/// reason), or an answer that does not verify. Nothing but the key is kept then.
pub async fn join(config: &Config, token: &str) -> Result<()> {
    let token: Token = token.parse().context("the token cannot be read")?;
    let home = Home::new(&config.state_dir);
    home.make()?;
    let key = home.key_for_join()?;
    let reply = ask(config, &token, &key)
        .await
        .with_context(|| format!("cannot join through the coordinator at {}", token.coordinator))?;
    let welcome = check(reply, &token, PublicKey::of(&key), clock::unix())?;
    home.save(&welcome.joined, &welcome.certificate, &welcome.seeds)?;
    let labels = &welcome.host.labels;
    let labels: String = labels.iter().map(|(key, value)| format!(" {key}={value}")).collect();
    let host = &welcome.host;
    let joined = format!("joined fleet {} as host {} ({}){labels}", host.fleet, host.id, host.name);
    let next = match config.state_dir == Path::new(DEFAULT_STATE_DIR) {
        true => {
            "systemctl start groundswell-agent (without its package: swell-agent run)".to_owned()
        }
        false => format!(
            "swell-agent run; the package's units start nothing but what is in {DEFAULT_STATE_DIR}: for {} \
             change their StateDirectory and ConditionPathExists (systemctl edit)",
            config.state_dir.display()
        ),
    };
    // It has joined, whether anybody is left to read that or not.
    let _ = writeln!(std::io::stdout(), "{joined}\nnext: {next}");
    Ok(())
}

async fn ask(config: &Config, token: &Token, key: &SigningKey) -> Result<JoinReply> {
    let request = JoinRequest {
        token: token.token,
        secret: token.secret,
        key: PublicKey::of(key),
        name: config.name.clone(),
        proof: Signature::of(key, &join_proof(&token.token, &PublicKey::of(key))),
    };
    let any: SocketAddr = match token.coordinator {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let endpoint = Endpoint::bind(any, Identity::anonymous(), Directory::empty())?;
    Ok(net::join::ask(&endpoint, token.coordinator, token.key, &request).await?)
}

/// Verifies every part of a welcome.
fn check(reply: JoinReply, token: &Token, key: PublicKey, now: UnixTime) -> Result<Welcome> {
    let (roots, host, certificate, seeds) = match reply {
        JoinReply::Welcome { fleet: _, roots, host, certificate, seeds } => {
            (roots, host, certificate, seeds)
        }
        JoinReply::Refused { reason } => bail!("the coordinator refuses: {reason}"),
    };
    let first = roots.first().context("the coordinator sent no root")?;
    let mut chain =
        Chain::genesis(first, token.root).context("the coordinator's root is not the token's")?;
    for root in &roots[1..] {
        let verified = verify(&chain, root, now).context("a later root does not verify")?;
        chain.learn(&verified);
    }
    let verified = verify(&chain, &host, now).context("the host statement does not verify")?;
    let (Statement::Host(statement), Standing::Effective) = (verified.statement, verified.standing)
    else {
        bail!("the coordinator sent something else than a host statement");
    };
    ensure!(statement.key == key, "the host statement is about another key");
    let facts = net::certificate::facts(&certificate).context("the certificate")?;
    ensure!(facts.key == key && facts.host == statement.id, "the certificate is of another host");
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).context("envelopes are text");
    let roots = roots.iter().map(|root| text(root)).collect::<Result<_>>()?;
    let mut seeds: Vec<SocketAddr> = seeds.iter().filter_map(|seed| seed.parse().ok()).collect();
    seeds.insert(0, token.coordinator);
    seeds.dedup();
    let joined = Joined { root: token.root, roots, host: text(&host)? };
    Ok(Welcome { joined, host: statement, certificate, seeds })
}
