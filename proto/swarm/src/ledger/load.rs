//! What an earlier run has kept: judged again, in an order in which nothing is missing.

use std::error::Error;

use proto::certificate::{Certificate, CertificateError};
use proto::dsse::Envelope;
use proto::statement::{Action, ENVELOPE_BYTES_MAX, Kind, Statement};
use proto::trust::{Chain, Refusal, Standing, Verified, verify, verify_by_root};
use proto::{Digest, UnixTime};
use tracing::{info, warn};

use super::state::{Group, State};
use crate::store::{Sort, Store, StoreError};

/// Learns everything in the store.
pub(super) fn load(store: &Store, state: &mut State, now: UnixTime) -> Result<(), StoreError> {
    for id in in_order(store, Sort::Effective)? {
        let Some(bytes) = store.statement(Sort::Effective, &id)? else { continue };
        match judge_kept(&state.chain, &bytes, now) {
            Ok(verified) => learn_kept(state, &verified),
            Err(refusal) => warn!(statement = %id, %refusal, "a kept statement no longer counts"),
        }
    }
    for id in in_order(store, Sort::Pending)? {
        let Some(bytes) = store.statement(Sort::Pending, &id)? else { continue };
        match verify(&state.chain, &bytes, now) {
            Ok(verified) if !state.statements.contains(&id) => match verified.standing {
                Standing::Pending { .. } => {
                    let group = Group::of(&verified.statement, &state.chain);
                    state.keep_pending(group, &verified);
                }
                Standing::Effective => {
                    store.put_statement(Sort::Effective, &id, &bytes)?;
                    learn_kept(state, &verified);
                    store.remove_statement(Sort::Pending, &id)?;
                }
            },
            Ok(_) => store.remove_statement(Sort::Pending, &id)?,
            Err(refusal) => {
                info!(statement = %id, %refusal, "a pending statement is dropped");
                store.remove_statement(Sort::Pending, &id)?;
            }
        }
    }
    load_certificates(store, state)
}

/// The ids of what reads, so that each comes after what it needs; what does not is set aside.
fn in_order(store: &Store, sort: Sort) -> Result<Vec<Digest>, StoreError> {
    let mut order = Vec::new();
    for id in store.statements(sort)? {
        let Some(bytes) = store.statement(sort, &id)? else { continue };
        match read(&bytes, id) {
            Ok(statement) => order.push((place(&statement), id)),
            Err(why) => {
                warn!(statement = %id, %why, "a kept statement does not read and is set aside");
                store.set_aside_statement(sort, &id)?;
            }
        }
    }
    order.sort();
    Ok(order.into_iter().map(|(_, id)| id).collect())
}

/// Where a statement comes among others so that nothing is missing to it, and nothing stronger is
/// there before: kinds are ordered as they build on each other; an abort comes last in any case.
pub(crate) fn place(statement: &Statement) -> (Kind, u64, Option<Action>) {
    let (place, then) = match statement {
        Statement::Root(root) => (u64::from(root.version), None),
        Statement::Host(host) => (host.issued.0, None),
        Statement::Release(release) => (release.created.0, None),
        Statement::Rollout(rollout) => (rollout.epoch, None),
        Statement::Directive(directive) => (directive.sequence, Some(directive.action)),
        Statement::Freeze(freeze) => (freeze.sequence, None),
        Statement::Revocation(removal) => (removal.created.0, None),
    };
    (statement.kind(), place, then)
}

fn read(bytes: &[u8], id: Digest) -> Result<Statement, Box<dyn Error>> {
    let envelope = Envelope::parse(bytes, ENVELOPE_BYTES_MAX)?;
    if envelope.id() != id {
        return Err("it is another statement than its name says".into());
    }
    Ok(Statement::parse(&envelope)?)
}

/// Judges what this member itself has kept as effective: by the newest root under which it is, as
/// keys that are gone since have still signed what they signed.
fn judge_kept(chain: &Chain, bytes: &[u8], now: UnixTime) -> Result<Verified, Refusal> {
    let newest = verify(chain, bytes, now);
    if matches!(&newest, Ok(verified) if verified.standing == Standing::Effective) {
        return newest;
    }
    for version in (1..chain.root().version).rev() {
        match verify_by_root(chain, bytes, version, now) {
            Ok(verified) if verified.standing == Standing::Effective => return Ok(verified),
            Ok(_) | Err(_) => {}
        }
    }
    newest
}

fn learn_kept(state: &mut State, verified: &Verified) {
    if verified.standing != Standing::Effective {
        let statement = verified.id;
        warn!(%statement, "a kept statement has lost its threshold and has no effect");
        return;
    }
    if let Statement::Host(host) = &verified.statement
        && let Some((held, newest)) = state.hosts.get(&host.id)
        && (newest.issued, *held) > (host.issued, verified.id)
    {
        return;
    }
    state.learn(verified);
}

fn load_certificates(store: &Store, state: &mut State) -> Result<(), StoreError> {
    for id in store.blobs()? {
        let Some(bytes) = store.blob(&id)? else { continue };
        match judge_certificate(&bytes, &state.chain) {
            Ok((rollout, claim)) => {
                state.certificates.entry((rollout, claim)).or_insert(id);
            }
            Err(error) => warn!(certificate = %id, %error, "a kept certificate no longer counts"),
        }
    }
    Ok(())
}

fn judge_certificate(
    bytes: &[u8],
    chain: &Chain,
) -> Result<(Digest, proto::certificate::Claim), CertificateError> {
    let certificate = Certificate::parse(bytes)?;
    let id = certificate.rollout;
    let rollout = chain.rollout(&id).ok_or(CertificateError::OtherRollout(id))?;
    certificate.verify(id, rollout, &chain.excuses(&id))?;
    Ok((id, certificate.claim))
}
