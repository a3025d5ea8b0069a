//! Every change of state that there is, in one table: the core checks each change against it, a test
//! the drawing in the docs, and the simulation counts which ones it took.

use proto::receipt::State;
use proto::receipt::State::{
    Activating, Baking, Committed, Fetching, Pending, RevertFailed, Reverted, Staged,
};

/// A legal change of state within one rollout, and what leads to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transition {
    pub from: State,
    pub to: State,
    pub when: &'static str,
}

const fn row(from: State, to: State, when: &'static str) -> Transition {
    Transition { from, to, when }
}

/// All of them. A state that is not named as `to` of a row cannot be reached from that of its `from`;
/// a newer rollout starts at pending, whatever came before.
pub const TRANSITIONS: &[Transition] = &[
    row(Pending, Fetching, "a release is missing on this disk"),
    row(Pending, Staged, "both releases are on this disk"),
    row(Pending, Baking, "`to` runs here already, not proven"),
    row(Pending, Committed, "`to` runs here already, proven"),
    row(Pending, Reverted, "halt, abort: it never started, or `to` ran here already"),
    row(Pending, RevertFailed, "the same, and the way back failed"),
    row(Fetching, Pending, "an older rollout was stopped, whose release still serves"),
    row(Fetching, Fetching, "the fetch failed; again, slower"),
    row(Fetching, Staged, "both releases are on this disk"),
    row(Fetching, Baking, "an older rollout's step brought `to`, not proven"),
    row(Fetching, Committed, "an older rollout's step brought `to`, proven"),
    row(Fetching, Reverted, "halt, abort: it never started, or `to` ran here already"),
    row(Fetching, RevertFailed, "the same, and the way back failed"),
    row(Staged, Pending, "an older rollout's step took the way back away, or it was stopped"),
    row(Staged, Activating, "gate open, slot free"),
    row(Staged, Baking, "an older rollout's step brought `to`, not proven"),
    row(Staged, Committed, "an older rollout's step brought `to`, proven"),
    row(Staged, Reverted, "halt, abort: it never started, or `to` ran here already"),
    row(Staged, RevertFailed, "the same, and the way back failed"),
    row(Activating, Baking, "`to` serves"),
    row(Activating, Reverted, "failed, went back"),
    row(Activating, RevertFailed, "failed, and the way back failed"),
    row(Baking, Committed, "the bake passed"),
    row(Baking, Reverted, "failed, or halt, abort"),
    row(Baking, RevertFailed, "the same, and the way back failed"),
    row(Committed, Reverted, "halt, abort"),
    row(Committed, RevertFailed, "the same, and the way back failed"),
    row(Reverted, Pending, "retry in the lane"),
    row(RevertFailed, Reverted, "went back at last"),
    row(RevertFailed, RevertFailed, "the way back failed again"),
];

/// The place of a change of state in [`TRANSITIONS`]; none: there is no such change.
pub fn transition(from: State, to: State) -> Option<usize> {
    TRANSITIONS.iter().position(|row| (row.from, row.to) == (from, to))
}

/// Which changes of state were made, each once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Taken(u64);

impl Taken {
    /// Adds a change of state, which must be in the table.
    pub(super) fn add(&mut self, from: State, to: State) {
        let place = transition(from, to);
        debug_assert!(place.is_some(), "{} -> {} is not in the table", from.name(), to.name());
        self.0 |= place.map_or(0, |place| 1 << place);
    }

    /// Adds what another one has.
    pub const fn join(&mut self, other: Self) {
        self.0 |= other.0;
    }

    /// How many different ones.
    pub const fn count(self) -> usize {
        self.0.count_ones() as usize
    }

    /// Those of the table that are missing.
    pub fn missing(self) -> impl Iterator<Item = &'static Transition> {
        let untaken = move |place: &usize| self.0 & (1 << place) == 0;
        (0..TRANSITIONS.len()).filter(untaken).map(|place| &TRANSITIONS[place])
    }
}

#[cfg(test)]
mod test {
    use super::*;

    /// R18: the states and what leads from one to the next stand in the docs as they are in the code.
    #[test]
    fn r18_the_diagram_in_the_docs_is_the_table_in_the_code() {
        let docs = include_str!("../host.rs").lines().map_while(|line| line.strip_prefix("//!"));
        let (drawing, tables): (Vec<_>, Vec<_>) = docs.partition(|line| !line.starts_with(" |"));
        let start = tables.iter().position(|line| *line == " | from | to | when |").unwrap();
        let rows: Vec<Vec<&str>> = tables[start + 2..]
            .iter()
            .take_while(|line| !line.starts_with(" | state |"))
            .map(|line| line.trim_matches([' ', '|']).split(" | ").collect())
            .collect();
        let table = TRANSITIONS.iter().map(|row| vec![row.from.name(), row.to.name(), row.when]);
        assert_eq!(rows, table.collect::<Vec<_>>());
        for Transition { from, to, .. } in TRANSITIONS {
            for state in [from, to] {
                let drawn = |line: &&&str| line.contains(&format!("{state:?}"));
                assert!(drawing.iter().any(|line| drawn(&line)), "{state:?} is not in the drawing");
            }
        }
    }
}
