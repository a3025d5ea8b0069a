//! The end of the pages' certificate, where it is the operator's own: the coordinator's is made anew in time.

use proto::statement::UnixTime;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::Look;
use crate::events::{Event, Kind};
use crate::web::Certificate;

/// How long before its end it is told of, in seconds: 14 days.
const TOLD_S: u64 = 14 * 86_400;

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
            look.events.push(told(certificate, now));
        }
    }
}

fn told(Certificate { fingerprint, expires, .. }: &Certificate, now: UnixTime) -> Event {
    let left_s = expires.0.saturating_sub(now.0);
    let when = match (left_s, left_s.div_ceil(86_400)) {
        (0, _) => "has expired".to_owned(),
        (_, 1) => "expires within a day".to_owned(),
        (_, days) => format!("expires in {days} days"),
    };
    Event {
        at: now,
        kind: Kind::CertificateExpiring,
        service: None,
        env: None,
        rollout: None,
        host: None,
        text: format!(
            "the certificate of the pages {when}, at {expires} UTC: browsers refuse them from then on; put \
             the next one where https_cert and https_key say"
        ),
        detail: json!({ "fingerprint": fingerprint, "expires": expires, "left_s": left_s }),
    }
}
