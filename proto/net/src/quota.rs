//! How often something may happen: a burst, then one per period.

use std::hash::Hash;
use std::num::NonZeroUsize;
use std::time::Duration;

use lru::LruCache;
use tokio::time::Instant;

/// `burst` at once, then one each `period`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Quota {
    pub(crate) burst: u32,
    pub(crate) period: Duration,
}

/// How much of a quota is used up, as the time at which all of it will be free again.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Used {
    free_at: Option<Instant>,
}

impl Used {
    /// Takes one, if the quota allows it at `now`.
    pub(crate) fn take(&mut self, quota: Quota, now: Instant) -> bool {
        let free_at = self.free_at.map_or(now, |at| at.max(now));
        let allowed = free_at.duration_since(now) <= quota.period * quota.burst.saturating_sub(1);
        if allowed {
            self.free_at = Some(free_at + quota.period);
        }
        allowed
    }
}

/// A quota for each key, of which only the most recent are remembered.
#[derive(Debug)]
pub(crate) struct Quotas<K: Hash + Eq> {
    quota: Quota,
    used: LruCache<K, Used>,
}

impl<K: Hash + Eq> Quotas<K> {
    pub(crate) fn new(quota: Quota, keys_max: NonZeroUsize) -> Self {
        Self { quota, used: LruCache::new(keys_max) }
    }

    pub(crate) fn take(&mut self, key: K, now: Instant) -> bool {
        self.used.get_or_insert_mut(key, Used::default).take(self.quota, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_one_per_period() {
        let quota = Quota { burst: 3, period: Duration::from_secs(1) };
        let start = Instant::now();
        let mut quotas = Quotas::new(quota, NonZeroUsize::new(2).unwrap());
        let at = |ms| start + Duration::from_millis(ms);
        let cases = [
            ("first of the burst", 'a', 0, true),
            ("second", 'a', 0, true),
            ("third", 'a', 0, true),
            ("the burst is used up", 'a', 0, false),
            ("another key has its own", 'b', 0, true),
            ("not quite a period later", 'a', 999, false),
            ("a period later, one", 'a', 1_000, true),
            ("and no second one", 'a', 1_000, false),
            ("long after, a whole burst", 'a', 60_000, true),
        ];
        for (name, key, ms, allowed) in cases {
            assert_eq!(quotas.take(key, at(ms)), allowed, "{name}");
        }
        assert!(quotas.take('c', at(60_000)), "a third key displaces the oldest");
        assert!(quotas.used.len() <= 2);
    }
}
