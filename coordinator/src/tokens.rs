//! Making, listing and revoking join tokens (R9).

use std::collections::BTreeMap;

use member::clock;
use net::join::Token;
use proto::PublicKey;
use proto::id::{Env, Name, Zone};
use proto::statement::{check_label, within};
use proto::wire::{ControlReply, Refused, RefusedKind};
use rollout::fleet::names::known_env;
use tracing::info;

use crate::access::Credential;
use crate::desk::{Desk, out_of_order};
use crate::store::NewToken;
use crate::token::TokenId;

/// Hosts that may join with one token.
const USES_MAX: u32 = 10_000;
/// Shortest and longest life of a token, in seconds: a minute to 30 days.
const TTL_S: std::ops::RangeInclusive<u64> = 60..=30 * 86_400;
/// Labels of one host.
const LABELS_MAX: usize = 32;

impl Desk {
    /// Makes a token. Its text is in the answer and nowhere else.
    ///
    /// # Errors
    ///
    /// [`Refused`]: every bad value at once, or the database failed.
    pub async fn token_create(
        &self,
        by: Name,
        uses: u32,
        ttl_s: u64,
        labels: &[(Name, Name)],
    ) -> Result<ControlReply, Refused> {
        let problems = problems(uses, ttl_s, labels);
        if !problems.is_empty() {
            return Err(Refused {
                kind: RefusedKind::Invalid,
                reason: format!("no such token can be made: {}", problems.join("; ")),
                next: String::new(),
            });
        }
        // Labels are signed with each host, for good: one of another environment would be in none that there
        // is.
        let env = labels.iter().find(|(key, _)| key.as_str() == "env");
        if let Some(env) = env.and_then(|(_, env)| env.as_str().parse().ok()) {
            known_env(&self.member.ledger.chain(), &env)?;
        }
        let Credential { id, secret } = Credential::make()?;
        let now = clock::unix();
        let token = NewToken {
            id,
            secret,
            uses,
            expires: now.plus_s(ttl_s),
            labels: labels.iter().cloned().collect(),
            created_by: by,
        };
        self.store
            .token_create(&token, now)
            .await
            .map_err(|error| out_of_order("keep the token", &error))?;
        info!(token = %token.id, by = %token.created_by, uses, ttl_s, "token made");
        let key = PublicKey::of(&self.admit_key);
        let (coordinator, root) = (self.advertise, self.genesis);
        let text =
            Token { coordinator, key, root, token: id.to_bytes(), secret: secret.to_bytes() }
                .to_string();
        Ok(ControlReply::Token { text })
    }

    /// All tokens, without their secrets.
    ///
    /// # Errors
    ///
    /// [`Refused`]: the database failed.
    pub async fn token_list(&self) -> Result<ControlReply, Refused> {
        let tokens = self.store.tokens().await;
        tokens.map(ControlReply::Tokens).map_err(|error| out_of_order("read the tokens", &error))
    }

    /// Revokes a token: nobody joins with it any more, those who did stay.
    ///
    /// # Errors
    ///
    /// [`Refused`]: there is none with that id, or the database failed.
    pub async fn token_revoke(&self, by: &Name, token: &str) -> Result<ControlReply, Refused> {
        let unknown = || Refused {
            kind: RefusedKind::NotFound,
            reason: "there is no token with that id".to_owned(),
            next: "`swell token list` shows their ids, 16 hex digits each".to_owned(),
        };
        let id = TokenId::parse(token).ok_or_else(unknown)?;
        let revoked = self
            .store
            .token_revoke(&id, by, clock::unix())
            .await
            .map_err(|error| out_of_order("revoke the token", &error))?;
        match revoked {
            true => {
                info!(token = %id, %by, "token revoked");
                Ok(ControlReply::Done)
            }
            false => Err(unknown()),
        }
    }
}

fn problems(uses: u32, ttl_s: u64, labels: &[(Name, Name)]) -> Vec<String> {
    let mut problems = Vec::new();
    within("uses", uses, 1..=USES_MAX, "", &mut problems);
    within("ttl", ttl_s, TTL_S, " s", &mut problems);
    within("labels", labels.len(), 0..=LABELS_MAX, "", &mut problems);
    let map: BTreeMap<_, _> = labels.iter().cloned().collect();
    if map.len() != labels.len() {
        problems.push("labels: a key stands twice".to_owned());
    }
    problems.extend(check_label::<Env>(&map, "env").err());
    problems.extend(check_label::<Zone>(&map, "zone").err());
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_refused_for_all_that_is_wrong_with_it() {
        let label = |key: &str, value: &str| (key.parse().unwrap(), value.parse().unwrap());
        let good = [label("env", "staging"), label("zone", "r1"), label("Any.Thing", "X_1")];
        assert!(problems(1, 60, &good).is_empty());
        assert!(problems(USES_MAX, 30 * 86_400, &[]).is_empty());
        let bad = [label("env", "Staging"), label("zone", "far.away"), label("env", "x")];
        assert_eq!(problems(0, 59, &bad).len(), 4, "uses, ttl, twice, zone");
        let told = problems(10_001, 2_592_001, &[label("env", "Staging")]);
        assert_eq!(
            told,
            [
                "uses = 10001: must be 1 to 10000",
                "ttl = 2592001 s: must be 60 to 2592000 s",
                "labels.env: environment name must be 1 to 32 of a-z, 0-9 and inner hyphens, \
                 got \"Staging\"",
            ]
        );
    }
}
