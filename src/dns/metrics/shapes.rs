//! Histograms of replies' lengths and times, and numbers of replies by zone, record type and response code.
//!
//! One worker adds to each of them, with plain loads and stores of its own cache lines. So a query costs a table look-up and an
//! addition for each histogram, and a batch no copy.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use super::super::place::ReplyPlace;
use super::super::reply::{Reply, UDP_OCTETS_MAX};

/// Upper bounds of lengths in bytes, which are those of CoreDNS.
pub(super) const SIZE_BOUNDS: [u16; 13] =
    [100, 200, 300, 400, 511, 1_023, 2_047, 4_095, 8_291, 16_000, 32_000, 48_000, 64_000];
/// Upper bounds of times in microseconds.
pub(super) const TIME_BOUNDS_US: [u64; 12] =
    [5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 20_000, 100_000];
/// Place in [`SIZE_BOUNDS`] of each length that a reply over UDP has.
const SIZE_PLACES: [u8; UDP_OCTETS_MAX as usize + 1] = {
    let mut places = [0; UDP_OCTETS_MAX as usize + 1];
    let mut len = 0;
    while len < places.len() {
        let mut place = 0;
        while SIZE_BOUNDS[place] < len as u16 {
            place += 1;
        }
        places[len] = place as u8;
        len += 1;
    }
    places
};

/// Numbers of replies by length, and by zone, type and response code, and of queries by time. The last number of each is that
/// of all others.
#[derive(Clone, Debug)]
pub(super) struct Shapes {
    sizes: [u64; SIZE_BOUNDS.len() + 1],
    replies: Box<[u64]>,
    times: [u64; TIME_BOUNDS_US.len() + 1],
    bytes: u64,
    nanoseconds: u64,
}

impl Default for Shapes {
    fn default() -> Shapes {
        let (sizes, times) = ([0; SIZE_BOUNDS.len() + 1], [0; TIME_BOUNDS_US.len() + 1]);
        Shapes { sizes, replies: [0; ReplyPlace::COUNT].into(), times, bytes: 0, nanoseconds: 0 }
    }
}

/// [`Shapes`] that one worker writes, and that scrapes read.
#[derive(Debug)]
pub(super) struct SharedShapes {
    sizes: [AtomicU64; SIZE_BOUNDS.len() + 1],
    replies: [AtomicU64; ReplyPlace::COUNT],
    times: [AtomicU64; TIME_BOUNDS_US.len() + 1],
    bytes: AtomicU64,
    nanoseconds: AtomicU64,
}

impl Default for SharedShapes {
    fn default() -> SharedShapes {
        SharedShapes {
            sizes: Default::default(),
            replies: [const { AtomicU64::new(0) }; ReplyPlace::COUNT],
            times: Default::default(),
            bytes: AtomicU64::new(0),
            nanoseconds: AtomicU64::new(0),
        }
    }
}

/// Adds to a number that no other thread writes, which needs no locked instruction.
#[inline(always)]
fn add(number: &AtomicU64, more: u64) {
    number.store(number.load(Relaxed).wrapping_add(more), Relaxed);
}

impl SharedShapes {
    #[inline(always)]
    pub(super) fn record(&self, reply: &Reply) {
        let size = match SIZE_PLACES.get(reply.len) {
            Some(place) => usize::from(*place),
            None => SIZE_BOUNDS.partition_point(|bound| usize::from(*bound) < reply.len),
        };
        if let (Some(size), Some(replies)) = (self.sizes.get(size), self.replies.get(reply.place.index())) {
            add(size, 1);
            add(replies, 1);
        }
        add(&self.bytes, reply.len as u64);
    }

    /// Counts this time for several queries.
    pub(super) fn time(&self, queries: u64, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let place = TIME_BOUNDS_US.partition_point(|bound| *bound < us);
        if let Some(time) = self.times.get(place) {
            add(time, queries);
        }
        let ns = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        add(&self.nanoseconds, ns.wrapping_mul(queries));
    }

    pub(super) fn load(&self) -> Shapes {
        let load = |number: &AtomicU64| number.load(Relaxed);
        Shapes {
            sizes: self.sizes.each_ref().map(load),
            replies: self.replies.iter().map(load).collect(),
            times: self.times.each_ref().map(load),
            bytes: load(&self.bytes),
            nanoseconds: load(&self.nanoseconds),
        }
    }
}

impl Shapes {
    pub(super) fn add(&mut self, other: &Shapes) {
        fn sum(numbers: &mut [u64], other: &[u64]) {
            numbers.iter_mut().zip(other).for_each(|(number, other)| *number += other);
        }
        sum(&mut self.sizes, &other.sizes);
        sum(&mut self.replies, &other.replies);
        sum(&mut self.times, &other.times);
        self.bytes += other.bytes;
        self.nanoseconds += other.nanoseconds;
    }

    /// Numbers of replies up to each of [`SIZE_BOUNDS`], and of longer ones.
    pub(super) fn sizes(&self) -> (&[u64], u64) {
        self.sizes.split_last().map_or((&[], 0), |(larger, counts)| (counts, *larger))
    }

    /// Numbers of queries up to each of [`TIME_BOUNDS_US`], and of those that took longer.
    pub(super) fn times(&self) -> (&[u64], u64) {
        self.times.split_last().map_or((&[], 0), |(larger, counts)| (counts, *larger))
    }

    /// Numbers of replies that are not 0, by their index among the [`ReplyPlace`]s.
    pub(super) fn replies(&self) -> impl Iterator<Item = (usize, u64)> {
        self.replies.iter().copied().enumerate().filter(|(_, count)| *count > 0)
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn seconds(&self) -> f64 {
        self.nanoseconds as f64 / 1e9
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Rcode;
    use crate::zone::RecordType;

    #[test]
    fn replies_are_counted_by_length_place_and_time() {
        let shared = SharedShapes::default();
        let (code, place) = (Rcode::NOERROR, ReplyPlace::of(Some(3), RecordType::A, Rcode::NOERROR));
        for len in [0, 100, 101, 511, 512, 1_232, 64_000, 65_535] {
            shared.record(&Reply { len, code, place, is_truncated: false, has_good_cookie: false });
        }
        shared.time(3, Duration::from_micros(5));
        shared.time(2, Duration::from_secs(1));
        let mut shapes = shared.load();
        shapes.add(&shared.load());
        assert_eq!(shapes.sizes(), (&[4, 2, 0, 0, 2, 2, 2, 0, 0, 0, 0, 0, 2][..], 2));
        assert_eq!(shapes.times(), (&[6, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0][..], 4));
        assert_eq!(shapes.replies().collect::<Vec<_>>(), [(place.index(), 16)]);
        assert_eq!(shapes.bytes(), 2 * (100 + 101 + 511 + 512 + 1_232 + 64_000 + 65_535));
        assert!((shapes.seconds() - 4.000_03).abs() < 1e-9);
    }
}
