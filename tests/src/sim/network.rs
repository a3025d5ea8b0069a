//! Gossip: each host pushes what it thinks another lacks, now and then, over links that are poor.

use super::driver::Given;
use super::scenario::{Between, Cut};
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

    pub(super) fn is_cut(&self, from: usize, to: usize) -> bool {
        let now_s = self.now / 1_000;
        let cut = |cut: &Cut| {
            (cut.from_s..cut.until_s).contains(&now_s)
                && match cut.between {
                    Between::Halves => self.sides[from] != self.sides[to],
                    Between::OneWay => self.sides[from] && !self.sides[to],
                    Between::Zone(zone) => {
                        (self.zone_of(from) == zone) != (self.zone_of(to) == zone)
                    }
                }
        };
        !self.healed && self.scenario.cuts.iter().any(cut)
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
        let poor = !self.healed && (self.nodes[from].slow_link || self.nodes[to].slow_link);
        let delay_ms = match self.rng.permille(50) {
            _ if poor => self.rng.between(500, 20_000),
            true => self.rng.between(2, 8_000),
            false => self.rng.between(2, 250),
        };
        self.push_in(delay_ms, Event::Message { to, versions, words });
    }

    pub(super) fn receive(&mut self, to: usize, versions: &[(u32, u32)], words: u64) {
        for &(host, version) in versions {
            if !self.nodes[to].is_up() {
                return;
            }
            let of = host as usize;
            if self.has_cut_off(to, of) {
                continue;
            }
            // Old receipts reach the machine, too: it must know by itself that they are old.
            if self.nodes[to].hear(of, version) || self.rng.permille(100) {
                self.give(to, Given::Receipt { of, version });
            }
        }
        for bit in 0..self.words.len() {
            if words & (1 << bit) != 0 && self.nodes[to].is_up() {
                let news = self.nodes[to].holds & (1 << bit) == 0;
                self.nodes[to].holds |= 1 << bit;
                if news || self.rng.permille(100) {
                    self.give(to, Given::Word { bit });
                }
            }
        }
    }

    /// A host has signed a receipt: it knows of it, and so will those it talks to.
    pub(super) fn hear_own(&mut self, host: usize) {
        let version = u32::try_from(self.nodes[host].signed.len()).expect("few receipts");
        self.nodes[host].hear(host, version);
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

    /// What is held about a rollout is told once more when the host begins to follow it, as a store
    /// of statements does.
    pub(super) fn tell_again(&mut self, host: usize, id: proto::Digest) {
        for of in 0..self.nodes.len() {
            let version = self.nodes[host].heard[of].version;
            if version > 0 && of != host && self.nodes[of].shown(version, host).rollout == id {
                self.nodes[host].inbox.push_back(Given::Receipt { of, version });
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
                self.nodes[host].inbox.push_back(Given::Word { bit });
            }
        }
    }
}
