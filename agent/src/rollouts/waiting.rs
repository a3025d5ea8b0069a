//! Effects on their way: those that the record must come before wait until it is durable.
//!
//! The core says each thing once. Where the record cannot be written, on a full disk say, nothing
//! is lost here: it is tried again at the next tick. A way back alone does not wait for it. What
//! fills the disk may be the very release that must go, and the journal of the activation, which is
//! as good as a record here, is not waited for either.

use rollout::host::Effect;

/// Effects not carried out yet, in order; a commit comes before the record, the others after it.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    effects: Vec<Effect>,
    /// The record has changed since it was durable.
    pub(super) unsaved: bool,
}

impl Waiting {
    /// Takes effects in, behind those that wait.
    pub(super) fn add(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            self.effects.retain(|earlier| !replaces(&effect, earlier));
            match effect {
                Effect::Persist => self.unsaved = true,
                effect => self.effects.push(effect),
            }
        }
    }

    /// The attempts to commit, which the record may only call so afterwards.
    pub(super) fn commits(&self) -> Vec<u64> {
        let attempt = |effect: &Effect| match effect {
            Effect::Commit { attempt } => Some(*attempt),
            _ => None,
        };
        self.effects.iter().filter_map(attempt).collect()
    }

    /// What does not wait for the record.
    pub(super) fn take_way_back(&mut self) -> Option<Effect> {
        let is_back = |effect: &Effect| matches!(effect, Effect::Revert { .. });
        let place = self.effects.iter().position(is_back)?;
        Some(self.effects.remove(place))
    }

    /// Everything, once the record is durable.
    pub(super) fn take_all(&mut self) -> Vec<Effect> {
        self.unsaved = false;
        std::mem::take(&mut self.effects)
    }
}

/// Whether a later effect leaves nothing of an earlier one to be done.
fn replaces(later: &Effect, earlier: &Effect) -> bool {
    use Effect::{Activate, Certify, Commit, Fetch, Publish, Revert};
    match (later, earlier) {
        // One receipt in force, one release fetched, one step under way.
        (Publish(_), Publish(_)) | (Fetch { .. }, Fetch { .. }) => true,
        (Activate { .. } | Revert { .. }, Activate { .. } | Revert { .. } | Commit { .. }) => true,
        (Certify { .. } | Commit { .. }, earlier) => later == earlier,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use proto::Digest;
    use proto::receipt::{Receipt, State};

    use super::*;

    fn publish(sequence: u64, state: State) -> Effect {
        Effect::Publish(Receipt {
            rollout: Digest::of(b"rollout"),
            host: "aaaaaaaaaaaa".parse().unwrap(),
            sequence,
            attempt: 1,
            state,
            cause: None,
            note: String::new(),
        })
    }

    fn revert(attempt: u64) -> Effect {
        Effect::Revert { attempt, to: Some(Digest::of(b"from")) }
    }

    #[test]
    fn nothing_is_lost_while_the_record_cannot_be_written() {
        let mut waiting = Waiting::default();
        let to = Digest::of(b"to");
        let activate = Effect::Activate { attempt: 1, from: None, to, adopt: false };
        waiting.add(vec![Effect::Persist, publish(1, State::Activating), activate.clone()]);
        // It failed; half a minute later the host signs again.
        waiting.add(Vec::new());
        waiting.add(vec![Effect::Persist, publish(2, State::Activating)]);
        assert!(waiting.unsaved);
        assert_eq!(waiting.take_way_back(), None, "an activation waits");
        assert_eq!(waiting.take_all(), [activate, publish(2, State::Activating)]);
        assert!(!waiting.unsaved);
        assert_eq!(waiting.take_all(), []);
    }

    #[test]
    fn a_way_back_does_not_wait_and_is_gone_once() {
        let mut waiting = Waiting::default();
        waiting.add(vec![Effect::Persist, publish(3, State::Baking), revert(2)]);
        assert_eq!(waiting.take_way_back(), Some(revert(2)));
        assert_eq!(waiting.take_way_back(), None);
        assert!(waiting.unsaved);
        assert_eq!(waiting.take_all(), [publish(3, State::Baking)]);
    }

    #[test]
    fn a_commit_comes_before_the_record_and_not_after_a_later_step() {
        let mut waiting = Waiting::default();
        waiting.add(vec![Effect::Commit { attempt: 1 }, Effect::Persist]);
        waiting.add(vec![Effect::Commit { attempt: 1 }, Effect::Persist]);
        assert_eq!(waiting.commits(), [1]);
        waiting.add(vec![Effect::Persist, revert(2)]);
        assert_eq!(waiting.commits(), [0; 0]);
        assert_eq!(waiting.take_all(), [revert(2)]);
    }
}
