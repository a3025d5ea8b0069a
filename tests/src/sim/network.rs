//! Gossip: each host pushes what it thinks another lacks, now and then, over links that are poor.

use proto::certificate::Claim;
use proto::statement::{Action, Directive};
use rollout::host::{Host, Input};

use super::world::{Event, Word, World};

/// Between two rounds of one host, in milliseconds.
const ROUND_MS: u64 = 1_000;
/// Hosts it talks to in a round.
const FANOUT: usize = 2;

impl World {
    pub(super) fn gossip(&mut self, host: usize) {
        let jitter = self.rng.below(ROUND_MS / 5);
        self.push_in(ROUND_MS + jitter, Event::Gossip { host });
        if !self.nodes[host].is_up() {
            return;
        }
        for _ in 0..FANOUT {
            let to = self.rng.place(self.nodes.len());
            if to == host || self.is_cut(host, to) || self.loses() {
                continue;
            }
            let copies = 1 + u32::from(!self.healed && self.rng.permille(self.scenario.doubled));
            for _ in 0..copies {
                self.send(host, to);
            }
        }
    }

    fn loses(&mut self) -> bool {
        !self.healed && self.rng.permille(self.scenario.lost)
    }

    fn is_cut(&self, from: usize, to: usize) -> bool {
        let cut = |(start, end, one_way): &(u64, u64, bool)| {
            (*start..*end).contains(&(self.now / 1_000)) && (!one_way || self.sides[from])
        };
        !self.healed && self.sides[from] != self.sides[to] && self.scenario.cuts.iter().any(cut)
    }

    /// What the other lacks now, under way for some time: it may be old when it arrives.
    fn send(&mut self, from: usize, to: usize) {
        let (mine, theirs) = (&self.nodes[from], &self.nodes[to]);
        let words = mine.holds & !theirs.holds;
        let mut versions = Vec::new();
        if mine.digest != theirs.digest {
            for (host, (mine, theirs)) in mine.heard.iter().zip(&theirs.heard).enumerate() {
                if mine.version > theirs.version {
                    versions.push((u32::try_from(host).expect("few hosts"), mine.version));
                }
            }
        }
        if words == 0 && versions.is_empty() {
            return;
        }
        let slow = self.rng.permille(50);
        let delay_ms = self.rng.between(2, if slow { 8_000 } else { 250 });
        self.push_in(delay_ms, Event::Message { to, versions, words });
    }

    pub(super) fn receive(&mut self, to: usize, versions: &[(u32, u32)], words: u64) {
        for &(host, version) in versions {
            if !self.nodes[to].is_up() {
                return;
            }
            let (host, now) = (host as usize, self.now);
            let about = self.nodes[host].signed[version as usize - 1].rollout;
            let news = self.nodes[to].hear(host, version, Some(about), now);
            // Old receipts reach the machine, too: it must know by itself that they are old.
            if news || self.rng.permille(100) {
                let receipt = self.nodes[host].signed[version as usize - 1].clone();
                self.give(to, Input::Receipt(receipt));
            }
        }
        for bit in 0..self.words.len() {
            if words & (1 << bit) != 0 && self.nodes[to].is_up() {
                let news = self.nodes[to].holds & (1 << bit) == 0;
                self.nodes[to].holds |= 1 << bit;
                if news || self.rng.permille(100) {
                    self.tell(to, bit);
                }
            }
        }
    }

    /// A host makes or takes in something that is to spread. What was said before is not said twice.
    pub(super) fn say(&mut self, host: usize, word: Word) {
        let said = |other: &Word| match (&word, other) {
            (
                Word::Certificate { rollout, claim },
                Word::Certificate { rollout: other, claim: same },
            ) => rollout == other && claim == same,
            _ => false,
        };
        let bit = self.words.iter().position(said).unwrap_or(self.words.len());
        if bit == self.words.len() {
            assert!(bit < 64, "{} too many statements", self.place());
            self.words.push(word);
        }
        self.nodes[host].holds |= 1 << bit;
    }

    /// Gives the machine a statement or certificate that its host holds. What needs a rollout that
    /// is not there yet is told again with the rollout, as a store of statements does.
    pub(super) fn tell(&mut self, host: usize, bit: usize) {
        match self.words[bit].clone() {
            Word::Rollout { id, rollout } => {
                self.checks.took(host, id, self.now);
                self.give(host, Input::Rollout { id, rollout });
                let node = &mut self.nodes[host];
                let follows = node.machine.as_ref().and_then(Host::rollout) == Some(id);
                if follows && node.listens_for != Some(id) {
                    node.listen(id, self.now);
                    self.tell_again(host, id);
                }
            }
            Word::Directive(Directive { action: Action::Skip, .. })
            | Word::Freeze(_)
            | Word::Revocation(_) => self.tell_orders(host),
            Word::Directive(directive) => {
                self.checks.obeys(host, &directive);
                self.give(host, Input::Directive(directive));
            }
            Word::Certificate { rollout, claim } => {
                self.give(host, Input::Certificate { rollout, claim });
                if claim == Claim::Halt && self.rng.permille(100) {
                    self.give(host, Input::Certificate { rollout, claim });
                }
            }
        }
    }

    fn tell_again(&mut self, host: usize, id: proto::Digest) {
        for other in 0..self.nodes.len() {
            let heard = self.nodes[host].heard[other];
            let Some(last) = heard.version.checked_sub(1) else { continue };
            let receipt = self.nodes[other].signed[last as usize].clone();
            if receipt.rollout == id && other != host {
                let heard = &mut self.nodes[host].heard[other];
                (heard.told, heard.times) = (heard.version, 1);
                self.give(host, Input::Receipt(receipt));
            }
        }
        for bit in 0..self.words.len() {
            let about = match &self.words[bit] {
                Word::Rollout { .. } => false,
                Word::Freeze(_) | Word::Revocation(_) => true,
                Word::Directive(directive) => directive.rollout == id,
                Word::Certificate { rollout, .. } => *rollout == id,
            };
            if about && self.nodes[host].holds & (1 << bit) != 0 {
                self.tell(host, bit);
            }
        }
    }
}
