//! What a service counts of its own requests, read off its Prometheus page (the soft signals of R24).
//!
//! A page is asked for once a second, like a health check; one that does not come, is too long, breaks
//! off or misses the counters says nothing, and after a while there is no count any more. Nothing is
//! failed by that: which verdict an uncounted service can get is the core's to say. A page that was cut
//! off must not be taken for a whole one: errors that are missing once and there again would count as
//! new ones. So its last line must end, as the format asks.

pub(crate) mod exposition;
mod window;

use std::time::Duration;

use hyper::Uri;
use proto::selector::Selector;
use proto::statement::Health;

use super::{UrlError, get, url};
use crate::services::Variables;
pub use window::{Reading, Window};

/// Buckets of a histogram that are read; with more of them latencies are not counted.
const BUCKETS_MAX: usize = proto::record::BUCKETS_MAX;

/// Longest page that is read, in bytes.
const PAGE_BYTES_MAX: usize = 1 << 20;
/// Longest wait for a page: the next one is due.
const PAGE_TIMEOUT: Duration = Duration::from_secs(1);

/// Which counters of a page to read.
#[derive(Debug, Clone)]
pub struct Counters {
    pub requests: Selector,
    pub errors: Selector,
    /// A histogram, in seconds.
    pub latency: Selector,
}

/// The page of a service.
#[derive(Debug, Clone)]
pub struct Page {
    uri: Uri,
    counters: Counters,
    window: Duration,
}

impl Page {
    /// The page of a release on a host with these variables; none where the release has none.
    ///
    /// # Errors
    ///
    /// [`UrlError`], as of the health check.
    pub fn new(health: &Health, variables: &Variables) -> Result<Option<Self>, UrlError> {
        let Health { metrics, requests, errors, latency, window_s, .. } = health;
        let counters = [requests, errors, latency].map(|text| Selector::parse(text).ok());
        // A release with a selector that does not read is no statement: it never gets here.
        let ([Some(requests), Some(errors), Some(latency)], Some(metrics)) = (counters, metrics)
        else {
            return Ok(None);
        };
        Ok(Some(Self {
            uri: url::fill_in("metrics", metrics, variables)?,
            counters: Counters { requests, errors, latency },
            window: Duration::from_secs((*window_s).into()),
        }))
    }

    /// How far back requests count.
    pub fn window(&self) -> Duration {
        self.window
    }

    /// What it says now; none: it does not come, not in time, not whole, or without the counters.
    /// Bytes that are no text, in somebody's label say, spoil no other line.
    pub async fn read(&self) -> Option<Reading> {
        let page = tokio::time::timeout(PAGE_TIMEOUT, get(&self.uri, PAGE_BYTES_MAX)).await;
        let page = page.ok()?.ok().filter(|page| page.ends_with(b"\n"))?;
        self.counters.read(&String::from_utf8_lossy(&page))
    }
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

#[cfg(test)]
mod tests;
