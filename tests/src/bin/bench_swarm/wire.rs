//! What long lines do to frames between hosts, without any device: loss, delay, and the rate at which
//! the receiver's line brings them down. A frame is lost or not when it leaves the sender, is on its way
//! for the delay, then waits in the queue of the receiver's line; what does not fit there is dropped.
//!
//! Time is what has passed since the switch began.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng as _};

use crate::lan::QUEUE_KB;

/// The same frames are lost in every run, as far as hosts send the same.
const SEED: u64 = 5;
/// Frames up to this are never lost, in bytes: acknowledgements alone. What is lost is then as many per
/// cent of what is sent, whatever the tool's protocol does with acknowledgements.
const SPARED_BYTES: usize = 100;
/// Two addresses and a type.
const HEADER_BYTES: usize = 14;

/// What a path does to frames beside its rate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Distance {
    /// One way: a packet and its answer take twice that.
    pub(crate) delay_ms: usize,
    /// Share of the frames that are lost, each by itself, in per cent.
    pub(crate) loss_pct: f64,
}

impl fmt::Display for Distance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ms one way, {} % of frames lost", self.delay_ms, self.loss_pct)
    }
}

type Mac = [u8; 6];

/// All hosts' lines, and who is at which.
pub(crate) struct Wire {
    distance: Distance,
    random: StdRng,
    lines: Vec<Line>,
    hosts: HashMap<Mac, usize>,
}

/// A host's line down.
struct Line {
    bytes_per_s: f64,
    /// From when on it has nothing to bring.
    free: Duration,
    /// When each frame is through; rising.
    coming: VecDeque<(Duration, Box<[u8]>)>,
}

impl Wire {
    /// One line a host, of so many Mbit/s.
    pub(crate) fn new(distance: Distance, rates_mbit: impl Iterator<Item = usize>) -> Self {
        let line = |mbit: usize| Line {
            bytes_per_s: mbit as f64 * 1e6 / 8.0,
            free: Duration::ZERO,
            coming: VecDeque::new(),
        };
        let random = StdRng::seed_from_u64(SEED);
        Self { distance, random, lines: rates_mbit.map(line).collect(), hosts: HashMap::new() }
    }

    /// A host has sent a frame. Who is at a host is learnt from what comes from there; what is for all,
    /// or for nobody known, goes to all others.
    pub(crate) fn take(&mut self, now: Duration, from: usize, frame: &[u8]) {
        let Some((to, sender)) = addresses(frame) else { return };
        self.hosts.insert(sender, from);
        let loss = self.distance.loss_pct / 100.0;
        if frame.len() > SPARED_BYTES && self.random.random_bool(loss) {
            return;
        }
        let arrives = now + Duration::from_millis(self.distance.delay_ms as u64);
        let known = self.hosts.get(&to).copied();
        for (host, line) in self.lines.iter_mut().enumerate() {
            if host != from && known.is_none_or(|known| known == host) {
                line.put(arrives, frame);
            }
        }
    }

    /// A frame that is through, and its receiver.
    pub(crate) fn due(&mut self, now: Duration) -> Option<(usize, Box<[u8]>)> {
        let mut lines = self.lines.iter_mut().enumerate();
        lines.find_map(|(host, line)| {
            let (_, frame) = line.coming.pop_front_if(|(at, _)| *at <= now)?;
            Some((host, frame))
        })
    }

    /// When the next frame is through.
    pub(crate) fn next(&self) -> Option<Duration> {
        self.lines.iter().filter_map(|line| line.coming.front()).map(|(at, _)| *at).min()
    }
}

impl Line {
    fn put(&mut self, arrives: Duration, frame: &[u8]) {
        let starts = self.free.max(arrives);
        let queued_bytes = (starts - arrives).as_secs_f64() * self.bytes_per_s;
        if queued_bytes > (QUEUE_KB << 10) as f64 {
            return;
        }
        self.free = starts + Duration::from_secs_f64(frame.len() as f64 / self.bytes_per_s);
        self.coming.push_back((self.free, frame.into()));
    }
}

/// Receiver and sender of an Ethernet frame.
fn addresses(frame: &[u8]) -> Option<(Mac, Mac)> {
    if frame.len() < HEADER_BYTES {
        return None;
    }
    let (to, rest) = frame.split_first_chunk()?;
    Some((*to, *rest.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: u8 = 0xff;

    /// From one host to another, by the last byte of their addresses.
    fn frame(from: u8, to: u8, bytes: usize) -> Vec<u8> {
        let mut frame = vec![if to == ALL { ALL } else { 0 }; bytes];
        frame[5] = to;
        frame[6..12].copy_from_slice(&[0, 0, 0, 0, 0, from]);
        frame
    }

    /// Three hosts at 8 Mbit/s, a byte a microsecond, that know of each other.
    fn wire(delay_ms: usize, loss_pct: f64) -> Wire {
        let mut wire = Wire::new(Distance { delay_ms, loss_pct }, [8, 8, 8].into_iter());
        (0..3).for_each(|host| wire.take(Duration::ZERO, host, &frame(host as u8, ALL, 60)));
        while wire.due(Duration::from_secs(10)).is_some() {}
        wire
    }

    const START: Duration = Duration::from_secs(10);

    #[test]
    fn a_frame_is_through_after_the_delay_and_its_time_on_the_line() {
        let mut wire = wire(20, 0.0);
        wire.take(START, 0, &frame(0, 2, 1_000));
        wire.take(START, 1, &frame(1, 2, 500));
        let through = START + Duration::from_micros(21_000);
        assert_eq!(wire.next(), Some(through));
        assert_eq!(wire.due(through - Duration::from_micros(1)), None);
        assert_eq!(wire.due(through).map(|(host, frame)| (host, frame.len())), Some((2, 1_000)));
        assert_eq!(wire.next(), Some(through + Duration::from_micros(500)));
    }

    #[test]
    fn what_is_for_all_or_for_nobody_known_goes_to_all_others() {
        for to in [ALL, 77] {
            let mut wire = wire(0, 0.0);
            wire.take(START, 1, &frame(1, to, 64));
            let got: Vec<usize> =
                std::iter::from_fn(|| wire.due(START * 2)).map(|(host, _)| host).collect();
            assert_eq!(got, [0, 2], "{to}");
        }
    }

    #[test]
    fn so_many_per_cent_are_lost_and_no_short_ones() {
        for (bytes, least, most) in [(1_000, 9_900, 10_100), (SPARED_BYTES, 0, 0)] {
            let mut wire = wire(0, 5.0);
            let mut lost = 0;
            for sent in 0..200_000 {
                let now = START + Duration::from_millis(sent);
                wire.take(now, 0, &frame(0, 1, bytes));
                lost += usize::from(wire.due(now + Duration::from_millis(1)).is_none());
            }
            assert!((least..=most).contains(&lost), "{lost} of {bytes} bytes");
        }
    }

    #[test]
    fn what_does_not_fit_into_the_queue_of_a_line_is_dropped() {
        let mut wire = wire(20, 0.0);
        (0..1_000).for_each(|_| wire.take(START, 0, &frame(0, 1, 1_024)));
        let through = std::iter::from_fn(|| wire.due(START * 2)).count();
        // The queue, the frame that is on the line, and the one that sees the queue exactly full.
        assert!((QUEUE_KB..=QUEUE_KB + 2).contains(&through), "{through}");
    }
}
