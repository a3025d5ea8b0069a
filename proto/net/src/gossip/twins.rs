//! Whether another machine speaks with this member's key (R9).
//!
//! Heartbeats are not signed, and what an earlier life of this member said is repeated by others long
//! after it: neither makes a twin, or anyone could keep a host from its work. A twin signs something
//! new while this member lives. Its heartbeats only tell, sooner than its silence would, that it is
//! gone.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::Instant;

use super::wire::Incarnation;

/// Who has signed nothing new for so long is no twin, whatever heartbeats come: members sign their
/// record anew every 30 s.
pub(super) const SILENT_AFTER: Duration = Duration::from_secs(90);

/// What lives at other addresses say with this member's key.
#[derive(Default)]
pub(super) struct Twins(BTreeMap<Incarnation, Voice>);

struct Voice {
    values: BTreeMap<String, String>,
    /// When it last signed something that an earlier life of this member cannot have signed.
    spoke: Option<Instant>,
}

impl Twins {
    /// Takes in all that such a life says now; `younger`: it began after this member did.
    ///
    /// Of an older one the first words may be from before. Values come in pieces, too, so only one
    /// that takes the place of another is new.
    pub(super) fn hear(
        &mut self,
        who: &Incarnation,
        younger: bool,
        values: &BTreeMap<String, String>,
        now: Instant,
    ) {
        let spoke = match self.0.get(who) {
            None => younger.then_some(now),
            Some(known) => {
                let replaced =
                    |(key, old): (&String, &String)| values.get(key).is_some_and(|new| new != old);
                known.values.iter().any(replaced).then_some(now).or(known.spoke)
            }
        };
        self.0.insert(who.clone(), Voice { values: values.clone(), spoke });
    }

    /// Forgets all but these lives.
    pub(super) fn retain(&mut self, held: &BTreeSet<Incarnation>) {
        self.0.retain(|who, _| held.contains(who));
    }

    /// Where a twin lives, of those addresses from which heartbeats come.
    pub(super) fn home(&self, alive: &BTreeSet<SocketAddr>, now: Instant) -> Option<SocketAddr> {
        let speaks = |voice: &Voice| {
            voice.spoke.is_some_and(|spoke| now.duration_since(spoke) < SILENT_AFTER)
        };
        let mut twins =
            self.0.iter().filter(|(who, voice)| alive.contains(&who.addr) && speaks(voice));
        twins.next().map(|(who, _)| who.addr)
    }
}
