//! The end of the pages' certificate, where it is the operator's own: the coordinator's is made anew in time.

use serde::{Deserialize, Serialize};

use super::{Look, words};
use crate::web::Certificate;

/// How long before its end it is told of, in seconds: 14 days.
pub(crate) const TOLD_S: u64 = 14 * 86_400;

/// The certificate that was told of; empty: none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct CertificateTold(String);

impl CertificateTold {
    /// Each is told once.
    pub(super) fn follow(&mut self, certificate: Option<&Certificate>, look: &mut Look<'_>) {
        let now = look.now.unix;
        let ends = |one: &&Certificate| !one.is_own && now.plus_s(TOLD_S) >= one.expires;
        let Some(certificate) = certificate.filter(ends) else { return };
        if self.0 != certificate.fingerprint {
            self.0.clone_from(&certificate.fingerprint);
            look.events.push(words::certificate(certificate, now));
        }
    }
}
