//! How much may be under way on a path: by CUBIC, and by BBR where nothing queues.
//!
//! Each has a weakness that the other has not. CUBIC takes every loss for a full queue: with 0.5 % of
//! losses on a path of 40 ms it falls from 73 to 5 Mbit/s, and BBR stays at 73. quinn's BBR (0.11)
//! multiplies by the shortest round trip that there ever was: where connections share a queue, as those
//! to all peers of a swarm do, that is a few packets, and those that shrink to it starve: eight hosts on
//! lines of 100 Mbit/s left a third of them idle.
//!
//! A queue shows in round trips. So while those are longer than the shortest by a quarter, CUBIC alone
//! counts, and else the larger of the two.
//!
//! BBR is told of an acknowledgement as a whole. quinn tells a controller of each packet in it, all at
//! the same time, and its BBR takes the bytes of the first for all that came since the one before.

use std::any::Any;
use std::sync::Arc;
use std::time::{Duration, Instant};

use quinn::congestion::{BbrConfig, Controller, ControllerFactory, ControllerMetrics, CubicConfig};
use quinn_proto::RttEstimator;

/// Round trips vary by so much without any queue.
const JITTER: Duration = Duration::from_millis(1);

/// Makes the controller of each path.
pub(crate) struct ByQueue;

impl ControllerFactory for ByQueue {
    fn build(self: Arc<Self>, now: Instant, current_mtu: u16) -> Box<dyn Controller> {
        let bbr = Arc::new(BbrConfig::default()).build(now, current_mtu);
        let cubic = Arc::new(CubicConfig::default()).build(now, current_mtu);
        Box::new(Both { bbr, cubic, acked: None, queues: false })
    }
}

struct Both {
    bbr: Box<dyn Controller>,
    cubic: Box<dyn Controller>,
    /// What the acknowledgement that is being read has told so far.
    acked: Option<Acked>,
    /// Something queues on the path.
    queues: bool,
}

/// What one acknowledgement tells of all its packets.
#[derive(Clone, Copy)]
struct Acked {
    /// When the last of them was sent.
    sent: Instant,
    bytes: u64,
    app_limited: bool,
    rtt: RttEstimator,
}

/// Whether round trips tell of a queue.
fn queues(now: Duration, shortest: Duration) -> bool {
    now > shortest + shortest / 4 + JITTER
}

impl Controller for Both {
    fn on_sent(&mut self, now: Instant, bytes: u64, last_packet_number: u64) {
        self.bbr.on_sent(now, bytes, last_packet_number);
        self.cubic.on_sent(now, bytes, last_packet_number);
    }

    fn on_ack(
        &mut self,
        now: Instant,
        sent: Instant,
        bytes: u64,
        app_limited: bool,
        rtt: &RttEstimator,
    ) {
        self.cubic.on_ack(now, sent, bytes, app_limited, rtt);
        let before = self.acked.map_or(0, |acked| acked.bytes);
        self.acked = Some(Acked { sent, bytes: before + bytes, app_limited, rtt: *rtt });
    }

    fn on_end_acks(
        &mut self,
        now: Instant,
        in_flight: u64,
        app_limited: bool,
        largest_packet_num_acked: Option<u64>,
    ) {
        if let Some(acked) = self.acked.take() {
            self.queues = queues(acked.rtt.get(), acked.rtt.min());
            self.bbr.on_ack(now, acked.sent, acked.bytes, acked.app_limited, &acked.rtt);
        }
        self.bbr.on_end_acks(now, in_flight, app_limited, largest_packet_num_acked);
        self.cubic.on_end_acks(now, in_flight, app_limited, largest_packet_num_acked);
    }

    fn on_congestion_event(
        &mut self,
        now: Instant,
        sent: Instant,
        is_persistent_congestion: bool,
        lost_bytes: u64,
    ) {
        self.bbr.on_congestion_event(now, sent, is_persistent_congestion, lost_bytes);
        self.cubic.on_congestion_event(now, sent, is_persistent_congestion, lost_bytes);
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.bbr.on_mtu_update(new_mtu);
        self.cubic.on_mtu_update(new_mtu);
    }

    fn window(&self) -> u64 {
        let cubic = self.cubic.window();
        if self.queues { cubic } else { cubic.max(self.bbr.window()) }
    }

    fn metrics(&self) -> ControllerMetrics {
        let mut metrics = ControllerMetrics::default();
        metrics.congestion_window = self.window();
        metrics
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        let (bbr, cubic) = (self.bbr.clone_box(), self.cubic.clone_box());
        Box::new(Self { bbr, cubic, acked: self.acked, queues: self.queues })
    }

    fn initial_window(&self) -> u64 {
        self.cubic.initial_window()
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_shows_in_round_trips() {
        let ms = |ms: u64| Duration::from_millis(ms);
        for (case, now, shortest, is_queue) in [
            ("a line at rest", ms(1), ms(1), false),
            ("a short line that varies", ms(2), ms(1), false),
            ("a short line that is full", ms(20), ms(1), true),
            ("a long line that varies", ms(48), ms(40), false),
            ("a long line that is full", ms(60), ms(40), true),
        ] {
            assert_eq!(queues(now, shortest), is_queue, "{case}");
        }
    }

    #[test]
    fn the_larger_window_counts_where_nothing_queues() {
        let at = Instant::now();
        let mut both = Both {
            bbr: Arc::new(BbrConfig::default()).build(at, 1_200),
            cubic: Arc::new(CubicConfig::default()).build(at, 1_200),
            acked: None,
            queues: false,
        };
        let (bbr, cubic) = (both.bbr.window(), both.cubic.window());
        assert!(bbr > cubic, "{bbr} {cubic}");
        assert_eq!(both.window(), bbr);
        both.queues = true;
        assert_eq!(both.window(), cubic);
    }
}
