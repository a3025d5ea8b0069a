//! What pages prepare for people to sign with their own key (R3): directives that let a rollout go on.
//!
//! A draft is a payload without a signature, so it is worth nothing until its author has signed it;
//! `swell sign DIGEST` shows it again in words, signs it and hands it in. Drafts are kept in memory alone,
//! a few hundred for a day: after a restart somebody prepares it again.

use std::num::NonZeroUsize;
use std::sync::{Mutex, PoisonError};

use lru::LruCache;
use member::clock;
use proto::id::Digest;
use proto::report::{RolloutPhase, RolloutReport};
use proto::statement::{Action, COUNTER_MAX, Directive, Payload as _, UnixTime};
use proto::wire::{ControlReply, Refused, RefusedKind};

use crate::access::Visitor;
use crate::acts::{checked_reason, no};
use crate::desk::Desk;

/// Drafts that are kept; the oldest give way.
const DRAFTS_MAX: NonZeroUsize = NonZeroUsize::new(256).expect("not zero");
/// For how long, in seconds.
const KEPT_S: u64 = 86_400;

/// The drafts, by the digest of what is to be signed.
#[derive(Debug)]
pub struct Drafts(Mutex<LruCache<Digest, Draft>>);

#[derive(Debug, Clone)]
struct Draft {
    made: UnixTime,
    envelope: Vec<u8>,
}

impl Default for Drafts {
    fn default() -> Self {
        Self(Mutex::new(LruCache::new(DRAFTS_MAX)))
    }
}

impl Drafts {
    fn keep(&self, id: Digest, envelope: Vec<u8>, made: UnixTime) {
        let mut drafts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        drafts.put(id, Draft { made, envelope });
    }

    fn get(&self, id: &Digest, now: UnixTime) -> Option<Vec<u8>> {
        let drafts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let draft = drafts.peek(id).filter(|draft| now < draft.made.plus_s(KEPT_S))?;
        Some(draft.envelope.clone())
    }
}

impl Desk {
    /// Prepares a resume or a promote of an open rollout for `visitor` to sign with the key that it
    /// signed in by; gives the digest of the payload.
    ///
    /// # Errors
    ///
    /// [`Refused`]: there is nothing to let go on, this key may not, or no reason is given.
    pub async fn prepare(
        &self,
        visitor: &Visitor,
        rollout: &Digest,
        action: Action,
        reason: &str,
    ) -> Result<Digest, Refused> {
        let report = self.report(rollout).await?;
        if !visitor.acts_in(&report.env) {
            return Err(no(
                RefusedKind::Forbidden,
                format!("{visitor} may not let rollouts go on in {}", report.env),
                "sign in by swell login --role operator",
            ));
        }
        let wave = wave_of(&report, action)?;
        let chain = self.member.ledger.chain();
        let sequence = chain.directive(rollout).map_or(0, |(_, held)| held.sequence) + 1;
        let now = clock::unix();
        let directive = Directive {
            fleet: chain.fleet().clone(),
            rollout: *rollout,
            sequence: sequence.min(COUNTER_MAX),
            action,
            wave,
            host: None,
            author: visitor.access.key.clone(),
            created: now,
            reason: checked_reason(reason)?,
            critical: Vec::new(),
        };
        let envelope = directive.envelope();
        self.drafts.keep(envelope.id(), envelope.to_bytes(), now);
        Ok(envelope.id())
    }

    /// A draft, for whoever is to sign it.
    ///
    /// # Errors
    ///
    /// [`Refused`]: there is none with this digest, any more.
    pub fn draft(&self, id: &Digest) -> Result<ControlReply, Refused> {
        let envelope = self.drafts.get(id, clock::unix()).ok_or_else(|| {
            no(
                RefusedKind::NotFound,
                format!("nothing was prepared with the digest {id}, or it is older than a day"),
                "prepare it again on the page of the rollout",
            )
        })?;
        Ok(ControlReply::Statement { envelope })
    }
}

/// The wave that a promote opens, 0 first; none for a resume.
///
/// # Errors
///
/// [`Refused`]: as it stands it cannot be let go on so.
pub(crate) fn wave_of(report: &RolloutReport, action: Action) -> Result<Option<u32>, Refused> {
    let id = report.id;
    let not_now = |why: &str| no(RefusedKind::Conflict, format!("rollout {id} {why}"), "");
    match (action, report.phase) {
        (Action::Resume, RolloutPhase::Paused) => Ok(None),
        (Action::Resume, _) => Err(not_now("is not paused")),
        (Action::Promote, RolloutPhase::Running) => {
            let closed = report.first_closed();
            closed.map(Some).ok_or_else(|| not_now("has all its waves open already"))
        }
        (Action::Promote, _) => Err(not_now("does not run")),
        (Action::Skip | Action::Pause | Action::Abort, _) => {
            Err(not_now("is not changed so by a draft"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_draft_is_there_for_a_day_and_the_oldest_give_way() {
        let (drafts, first) = (Drafts::default(), Digest::of(b"first"));
        drafts.keep(first, vec![1], UnixTime(100));
        assert_eq!(drafts.get(&first, UnixTime(100 + KEPT_S - 1)), Some(vec![1]));
        assert_eq!(drafts.get(&first, UnixTime(100 + KEPT_S)), None);
        for number in 0..256_u32 {
            drafts.keep(Digest::of(&number.to_be_bytes()), vec![2], UnixTime(101));
        }
        assert_eq!(drafts.get(&first, UnixTime(102)), None);
    }
}
