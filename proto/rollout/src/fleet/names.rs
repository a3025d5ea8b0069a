//! What people call things by, as far as a member knows of such a thing.
//!
//! A name that nobody knows, in a filter or in a question, would look as if nothing had happened: it is
//! refused, with what was likely meant.

use proto::near::advice;
use proto::trust::Chain;
use proto::wire::{Refused, RefusedKind};
use proto::{Env, Scope, Service};

/// That there is no such thing; `what`: a noun.
pub fn unknown<'a>(what: &str, given: &str, known: impl IntoIterator<Item = &'a str>) -> Refused {
    Refused {
        kind: RefusedKind::NotFound,
        reason: format!("there is no {what} {given:?} here"),
        next: advice(given, known),
    }
}

/// Whether an environment is one of the root's, or something was ever rolled out there.
///
/// # Errors
///
/// [`Refused`]: it is not.
pub fn known_env(chain: &Chain, env: &Env) -> Result<(), Refused> {
    let rolled_out = || chain.heads().map(|(scope, _)| &scope.env);
    let known = || chain.root().environments.keys().chain(rolled_out());
    match known().any(|one| one == env) {
        true => Ok(()),
        false => Err(unknown("environment", env.as_str(), known().map(Env::as_str))),
    }
}

/// Whether something was ever published of a service, or rolled out.
///
/// # Errors
///
/// [`Refused`]: nothing was, as far as this member knows.
pub fn known_service(chain: &Chain, service: &Service) -> Result<(), Refused> {
    let rolled_out = || chain.heads().map(|(scope, _)| &scope.service);
    let published = || chain.releases().map(|(_, release)| &release.service);
    let known = || published().chain(rolled_out());
    match known().any(|one| one == service) {
        true => Ok(()),
        false => Err(unknown("service", service.as_str(), known().map(Service::as_str))),
    }
}

/// Whether there is both the environment and the service.
///
/// # Errors
///
/// [`Refused`]: there is not.
pub fn known_scope(chain: &Chain, scope: &Scope) -> Result<(), Refused> {
    known_env(chain, &scope.env)?;
    known_service(chain, &scope.service)
}
