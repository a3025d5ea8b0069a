//! How much may be under way on a path: by CUBIC, which is told only of losses that a full queue can have
//! caused.
//!
//! CUBIC takes every loss for a full queue: with 0.5 % of losses on a path of 40 ms it falls from 73 to
//! 5 Mbit/s. A queue shows in round trips, and a queue too short for that shows in how much is lost. So
//! while round trips are short and little is lost, losses are repaired and change nothing else.
//!
//! quinn's BBR (0.11), which ignores losses altogether, is no help: where the connections to all peers of
//! a swarm share a line it allows ten times of what fits on it, and those in which it looks for the
//! shortest round trip starve.

use std::any::Any;
use std::sync::Arc;
use std::time::{Duration, Instant};

use quinn::congestion::{Controller, ControllerFactory, ControllerMetrics, CubicConfig};
use quinn_proto::RttEstimator;

/// Round trips vary by so much without any queue.
const JITTER: Duration = Duration::from_millis(1);
/// Round trips so many times as long as the shortest tell of a queue. The shortest that a connection has
/// seen may be of a line that was full already: with a factor of 3 such connections took from the others
/// of a swarm, and the last host was done 5 % later.
const QUEUE_FACTOR: u32 = 5;
/// One part of so many that is lost, of what was sent lately, tells of a queue, too, however short.
const LOST_PART: u64 = 25;
/// What "lately" is, in bytes: some hundred packets. More than that, and half of it is forgotten.
const LATELY_BYTES: u64 = 512 << 10;

/// Makes the controller of each path.
pub(crate) struct ByQueue;

impl ControllerFactory for ByQueue {
    fn build(self: Arc<Self>, now: Instant, current_mtu: u16) -> Box<dyn Controller> {
        let cubic = Arc::new(CubicConfig::default()).build(now, current_mtu);
        Box::new(Told { cubic, queues: false, lately: Lately::default() })
    }
}

/// CUBIC, and what decides of which losses it is told.
struct Told {
    cubic: Box<dyn Controller>,
    /// Round trips tell of a queue on the path.
    queues: bool,
    lately: Lately,
}

/// What became of what was sent lately, in bytes.
#[derive(Debug, Default, Clone, Copy)]
struct Lately {
    arrived: u64,
    lost: u64,
}

impl Lately {
    fn count(&mut self, arrived: u64, lost: u64) {
        self.arrived += arrived;
        self.lost += lost;
        if self.arrived + self.lost > LATELY_BYTES {
            self.arrived /= 2;
            self.lost /= 2;
        }
    }

    /// Whether more is lost than happens without a queue. A few packets of few are no sign.
    fn is_much_lost(&self) -> bool {
        self.lost * LOST_PART > (self.arrived + self.lost).max(LATELY_BYTES / 2)
    }
}

/// Whether round trips tell of a queue.
fn queues(now: Duration, shortest: Duration) -> bool {
    now > shortest * QUEUE_FACTOR + JITTER
}

impl Controller for Told {
    fn on_sent(&mut self, now: Instant, bytes: u64, last_packet_number: u64) {
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
        self.queues = queues(rtt.get(), rtt.min());
        self.lately.count(bytes, 0);
        self.cubic.on_ack(now, sent, bytes, app_limited, rtt);
    }

    fn on_end_acks(
        &mut self,
        now: Instant,
        in_flight: u64,
        app_limited: bool,
        largest_packet_num_acked: Option<u64>,
    ) {
        self.cubic.on_end_acks(now, in_flight, app_limited, largest_packet_num_acked);
    }

    fn on_congestion_event(
        &mut self,
        now: Instant,
        sent: Instant,
        is_persistent_congestion: bool,
        lost_bytes: u64,
    ) {
        self.lately.count(0, lost_bytes);
        // Nothing lost: a router has marked packets (ECN), because of its queue.
        let is_marked = lost_bytes == 0;
        if self.queues || self.lately.is_much_lost() || is_persistent_congestion || is_marked {
            self.cubic.on_congestion_event(now, sent, is_persistent_congestion, lost_bytes);
        }
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.cubic.on_mtu_update(new_mtu);
    }

    fn window(&self) -> u64 {
        self.cubic.window()
    }

    fn metrics(&self) -> ControllerMetrics {
        self.cubic.metrics()
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        let Self { cubic, queues, lately } = self;
        Box::new(Self { cubic: cubic.clone_box(), queues: *queues, lately: *lately })
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

    const PACKET: u64 = 1_200;

    #[test]
    fn a_queue_shows_in_round_trips() {
        let ms = |ms: u64| Duration::from_millis(ms);
        for (case, now, shortest, is_queue) in [
            ("a line at rest", ms(1), ms(1), false),
            ("a short line that varies", ms(2), ms(1), false),
            ("a short line that is full", ms(20), ms(1), true),
            ("a long line that varies", ms(60), ms(40), false),
            ("a long line that is shared", ms(100), ms(40), false),
            ("a long line that is full", ms(210), ms(40), true),
        ] {
            assert_eq!(queues(now, shortest), is_queue, "{case}");
        }
    }

    #[test]
    fn much_that_is_lost_shows_a_queue_too_short_for_round_trips() {
        for (case, of, is_much) in [
            ("none", None, false),
            ("one of two hundred", Some(200), false),
            ("one of fifty", Some(50), false),
            ("one of ten", Some(10), true),
        ] {
            let mut lately = Lately::default();
            for packet in 0..5_000 {
                let is_lost = of.is_some_and(|of| packet % of == 0);
                let (arrived, lost) = if is_lost { (0, PACKET) } else { (PACKET, 0) };
                lately.count(arrived, lost);
            }
            assert_eq!(lately.is_much_lost(), is_much, "{case}");
        }
        let mut at_the_start = Lately::default();
        at_the_start.count(PACKET, 3 * PACKET);
        assert!(!at_the_start.is_much_lost(), "three of four");
    }

    /// What a path takes after a loss, in parts of what it took before.
    fn window_after_a_loss(queues: bool, lately: Lately, persistent: bool, bytes: u64) -> f64 {
        let now = Instant::now();
        let cubic = Arc::new(CubicConfig::default()).build(now, 1_200);
        let mut path = Told { cubic, queues, lately };
        let before = path.window();
        path.on_congestion_event(now, now, persistent, bytes);
        path.window() as f64 / before as f64
    }

    #[test]
    fn only_a_loss_that_a_queue_can_have_caused_makes_a_window_smaller() {
        let (few, many) = (Lately::default(), Lately { arrived: 9 << 15, lost: 1 << 15 });
        let after = window_after_a_loss;
        assert!((after(false, few, false, PACKET) - 1.0).abs() < 0.01, "one by chance");
        assert!(after(true, few, false, PACKET) < 0.8, "round trips tell of a queue");
        assert!(after(false, many, false, PACKET) < 0.8, "much is lost");
        assert!(after(false, few, true, PACKET) < 0.8, "nothing arrives any more");
        assert!(after(false, few, false, 0) < 0.8, "a router says so");
    }
}
