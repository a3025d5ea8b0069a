//! Hosts that lie: they sign whatever suits them about themselves, and nothing about others, since
//! they have no other host's key (R4). They keep no rule, so none is checked of them; what they may
//! do to the others is.

use proto::receipt::{Cause, Receipt, State};

use super::scenario::Lie;
use super::world::{Event, World};

const STATES: [State; 8] = [
    State::Pending,
    State::Fetching,
    State::Staged,
    State::Activating,
    State::Baking,
    State::Committed,
    State::Reverted,
    State::RevertFailed,
];
const CAUSES: [Option<Cause>; 5] =
    [None, Some(Cause::Release), Some(Cause::Host), Some(Cause::Fleet), Some(Cause::Late)];

impl World {
    /// A liar says something new about the newest rollout that it holds.
    pub(super) fn lie(&mut self, host: usize) {
        let Some(lie) = self.nodes[host].lie else { return };
        let pause_ms = self.rng.between(2_000, 20_000);
        self.push_in(pause_ms, Event::Lie { host });
        let held =
            |(bit, ..): &(usize, proto::Digest, u64)| self.nodes[host].holds & (1 << bit) != 0;
        let newest = self.held_rollouts().filter(held).max_by_key(|(_, _, epoch)| *epoch);
        let Some((_, rollout, _)) = newest else { return };
        let failed = (State::Reverted, Some(Cause::Release));
        let (said, to_others) = match lie {
            Lie::Commits => ((State::Committed, None), None),
            Lie::Fails => (failed, None),
            Lie::Stalls => ((State::Activating, None), None),
            Lie::Silent => return,
            Lie::Equivocates => ((State::Committed, None), Some(failed)),
            Lie::Babbles => {
                let state = STATES[self.rng.place(STATES.len())];
                ((state, CAUSES[self.rng.place(CAUSES.len())]), None)
            }
        };
        let node = &mut self.nodes[host];
        let sequence = 1 + node.signed.len() as u64;
        let id = node.id.clone();
        let receipt = |(state, cause)| Receipt {
            rollout,
            host: id.clone(),
            sequence,
            attempt: 1,
            state,
            cause,
            note: String::new(),
        };
        node.signed.push(receipt(said));
        node.to_others.push(receipt(to_others.unwrap_or(said)));
        self.hear_own(host);
    }
}
