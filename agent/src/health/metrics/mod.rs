//! What a service counts of its own requests, read off its Prometheus page (the soft signals of R24).
//!
//! A page is asked for once a second, like a health check; one that does not come, is too long or
//! misses the counters says nothing, and after a while there is no count any more. Nothing is failed by
//! that: which verdict an uncounted service can get is the core's to say.

mod exposition;
mod window;

pub use exposition::{Selector, SelectorError};
pub use window::{Reading, Window};

/// Buckets of a histogram that are read; with more of them latencies are not counted.
const BUCKETS_MAX: usize = 24;

/// Which counters of a page to read.
#[derive(Debug, Clone)]
pub struct Counters {
    pub requests: Selector,
    pub errors: Selector,
    /// A histogram, in seconds.
    pub latency: Selector,
}

impl Counters {
    /// What a page says; none where it has no counter of requests. Errors that were never counted are
    /// none: a service makes the series with its first one.
    pub fn read(&self, page: &str) -> Option<Reading> {
        Some(Reading {
            requests: exposition::sum(page, &self.requests)?,
            errors: exposition::sum(page, &self.errors).unwrap_or(0.0),
            buckets: exposition::buckets(page, &self.latency, BUCKETS_MAX),
        })
    }
}
