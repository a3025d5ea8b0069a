//! Places for what takes memory, a core or the line while it lasts: so many in all, and of these
//! nobody more than a share. So a peer that takes places and does nothing with them, on however many
//! connections, leaves the others theirs.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::directory::Peer;

/// Places, shared by all clones. `Who`: what those are told apart by who take them.
#[derive(Clone)]
pub struct Places<Who = Peer> {
    all: Arc<Semaphore>,
    each: usize,
    /// Of those who hold a place or wait for one.
    own: Arc<Mutex<BTreeMap<Who, Weak<Semaphore>>>>,
}

/// A place, given back on drop.
#[must_use]
pub struct Place {
    _own: OwnedSemaphorePermit,
    _all: OwnedSemaphorePermit,
}

impl<Who: Ord + Clone> Places<Who> {
    /// `all` places, at most `each` of them for one of those who take them.
    pub fn new(all: usize, each: usize) -> Self {
        Self { all: Arc::new(Semaphore::new(all)), each, own: Arc::default() }
    }

    /// A place for `who`, if one is free.
    pub fn try_take(&self, who: &Who) -> Option<Place> {
        let own = self.own(who).try_acquire_owned().ok()?;
        let all = self.all.clone().try_acquire_owned().ok()?;
        Some(Place { _own: own, _all: all })
    }

    /// A place for `who`, once one is free.
    pub async fn take(&self, who: &Who) -> Place {
        const NEVER: &str = "it is never closed";
        // Whoever waits for one of his own keeps nobody else waiting.
        let own = self.own(who).acquire_owned().await.expect(NEVER);
        let all = self.all.clone().acquire_owned().await.expect(NEVER);
        Place { _own: own, _all: all }
    }

    fn own(&self, who: &Who) -> Arc<Semaphore> {
        let mut own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = own.get(who).and_then(Weak::upgrade) {
            return known;
        }
        own.retain(|_, places| places.strong_count() > 0);
        let places = Arc::new(Semaphore::new(self.each));
        own.insert(who.clone(), Arc::downgrade(&places));
        places
    }
}

#[cfg(test)]
mod tests {
    use proto::{HostId, PublicKey};

    use super::*;
    use crate::common::key;

    #[test]
    fn nobody_gets_more_than_a_share_however_he_comes() {
        let [one, two, three] =
            ["one", "two", "three"].map(|name| Peer::Host(HostId::of(&PublicKey::of(&key(name)))));
        let places = Places::new(5, 2);
        let mut held: Vec<_> = (0..2).map(|_| places.try_take(&one).unwrap()).collect();
        assert!(places.clone().try_take(&one).is_none(), "its share is used up");
        held.extend((0..2).map(|_| places.try_take(&two).unwrap()));
        let last = places.try_take(&three).unwrap();
        assert!(places.try_take(&three).is_none(), "all are taken");
        drop(last);
        drop(held.remove(0));
        held.push(places.try_take(&one).unwrap());
        held.clear();
        assert!(places.try_take(&three).is_some());
        let known = places.own.lock().unwrap().len();
        assert_eq!(known, 1, "who holds nothing is not remembered");
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_a_place_of_his_own_holds_none_of_the_others() {
        let host = |name| Peer::Host(HostId::of(&PublicKey::of(&key(name))));
        let places = Places::new(2, 1);
        let held = places.take(&host("one")).await;
        let (again, one) = (places.clone(), host("one"));
        let waiting = tokio::spawn(async move { drop(again.take(&one).await) });
        tokio::task::yield_now().await;
        drop(places.take(&host("two")).await);
        assert!(!waiting.is_finished());
        drop(held);
        waiting.await.unwrap();
    }
}
