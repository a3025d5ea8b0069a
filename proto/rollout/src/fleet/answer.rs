//! Requests that only read, answered; refusals in the words of the wire.

use proto::trust::Refusal;
use proto::wire::{ControlReply, ControlRequest, Refused, RefusedKind};

use super::names;
use super::outlook::{Outlook, not_found};

impl Outlook<'_> {
    /// The answer to a request that [only reads](super::only_reads); none for any other.
    pub fn answer(&self, request: &ControlRequest) -> Option<ControlReply> {
        let answered = match request {
            ControlRequest::Fleet => Ok(ControlReply::Fleet(Box::new(self.fleet_report()))),
            ControlRequest::Rollout(query) => self.find_rollout(query).and_then(|id| {
                let report = self.rollout_report(&id);
                let report = report.ok_or_else(|| not_found(format!("no rollout {id}")))?;
                Ok(ControlReply::Rollout(Box::new(report)))
            }),
            ControlRequest::Statement { id } => match (self.statement)(id) {
                Some(envelope) => Ok(ControlReply::Statement { envelope }),
                None => Err(not_found(format!("no statement {id} is here"))),
            },
            ControlRequest::Release { service, version } => {
                let id = self.chain.release_of(service, version).map(|(id, _)| id);
                match id.and_then(|id| (self.statement)(&id)) {
                    Some(envelope) => Ok(ControlReply::Statement { envelope }),
                    None => Err(Refused {
                        next: format!("swell releases {service} shows what there is"),
                        ..not_found(format!("{service} {version} was not published"))
                    }),
                }
            }
            ControlRequest::Releases { service } => {
                names::known_service(self.chain, service).map(|()| {
                    let releases = self.chain.releases_of(service).into_iter();
                    let versions = releases.map(|(id, release)| (release.version.clone(), id));
                    ControlReply::Releases(versions.collect())
                })
            }
            ControlRequest::Scope(scope) => names::known_scope(self.chain, scope)
                .map(|()| ControlReply::Scope(Box::new(self.scope_facts(scope)))),
            ControlRequest::Host { id } => match (self.host_statement)(id) {
                Some(envelope) => Ok(ControlReply::Statement { envelope }),
                None => Err(not_found(format!("no statement about host {id} is here"))),
            },
            ControlRequest::Submit { .. }
            | ControlRequest::Publish { .. }
            | ControlRequest::Renew
            | ControlRequest::Checkup
            | ControlRequest::TokenCreate { .. }
            | ControlRequest::TokenList
            | ControlRequest::TokenRevoke { .. }
            | ControlRequest::AccessCreate { .. }
            | ControlRequest::AccessList
            | ControlRequest::AccessRevoke { .. }
            | ControlRequest::Draft { .. }
            | ControlRequest::Disk { .. }
            | ControlRequest::Evidence { .. }
            | ControlRequest::Events(_)
            | ControlRequest::Dora { .. } => return None,
            ControlRequest::Audit(_) | ControlRequest::AuditMemory => return None,
            ControlRequest::NotifyList | ControlRequest::NotifyTest { .. } => return None,
        };
        Some(answered.unwrap_or_else(ControlReply::Refused))
    }
}

/// Why a statement was not taken, as a member answers it.
pub fn refused(refusal: &Refusal) -> Refused {
    let kind = match refusal {
        Refusal::NotSigned { .. }
        | Refusal::NotThisRole { .. }
        | Refusal::AuthorNotSigned { .. }
        | Refusal::AuthorMayNot { .. }
        | Refusal::CoordinatorMayNotRollBack(_)
        | Refusal::CoordinatorNotBack
        | Refusal::CoordinatorFreeze => RefusedKind::Forbidden,
        Refusal::SecondDigest { .. }
        | Refusal::RootVersion { .. }
        | Refusal::RootFork { .. }
        | Refusal::EpochNotNext { .. }
        | Refusal::EpochTooOld { .. }
        | Refusal::DirectiveTooOld { .. }
        | Refusal::FreezeTooOld { .. }
        | Refusal::Aborted => RefusedKind::Conflict,
        Refusal::Needs(_) => RefusedKind::NotFound,
        _ => RefusedKind::Invalid,
    };
    // What to do next stands in the refusal's own text, behind its reason.
    Refused { kind, reason: refusal.to_string(), next: String::new() }
}
