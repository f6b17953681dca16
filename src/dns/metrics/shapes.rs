//! Histograms of queries and replies: lengths, times and record types.
//!
//! One worker adds to each of them, with plain loads and stores of its own cache lines. So a query costs a table look-up and an
//! addition for each histogram, and a batch no copy.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use super::super::reply::{Reply, UDP_OCTETS_MAX};
use crate::zone::RecordType;

/// Upper bounds of lengths in bytes, which are those of CoreDNS.
pub(super) const SIZE_BOUNDS: [u16; 13] =
    [100, 200, 300, 400, 511, 1_023, 2_047, 4_095, 8_291, 16_000, 32_000, 48_000, 64_000];
/// Upper bounds of times in microseconds.
pub(super) const TIME_BOUNDS_US: [u64; 12] =
    [5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 20_000, 100_000];
/// Record types with a count of their own.
pub(super) const TYPES: [(RecordType, &str); 12] = [
    (RecordType::A, "A"),
    (RecordType::AAAA, "AAAA"),
    (RecordType::SRV, "SRV"),
    (RecordType::CNAME, "CNAME"),
    (RecordType::SOA, "SOA"),
    (RecordType::NS, "NS"),
    (RecordType::PTR, "PTR"),
    (RecordType::TXT, "TXT"),
    (RecordType::MX, "MX"),
    (RecordType::HTTPS, "HTTPS"),
    (RecordType::IXFR, "IXFR"),
    (RecordType::ANY, "ANY"),
];

/// Place in [`TYPES`] of each type below 256, or behind its end.
const TYPE_PLACES: [u8; 256] = {
    let mut places = [TYPES.len() as u8; 256];
    let mut at = 0;
    while at < TYPES.len() {
        places[TYPES[at].0.0 as usize] = at as u8;
        at += 1;
    }
    places
};

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

/// Numbers of replies by length and type, and of queries by time. The last number of each is that of all others.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Shapes {
    sizes: [u64; SIZE_BOUNDS.len() + 1],
    types: [u64; TYPES.len() + 1],
    times: [u64; TIME_BOUNDS_US.len() + 1],
    bytes: u64,
    nanoseconds: u64,
}

/// [`Shapes`] that one worker writes, and that scrapes read.
#[derive(Debug, Default)]
pub(super) struct SharedShapes {
    sizes: [AtomicU64; SIZE_BOUNDS.len() + 1],
    types: [AtomicU64; TYPES.len() + 1],
    times: [AtomicU64; TIME_BOUNDS_US.len() + 1],
    bytes: AtomicU64,
    nanoseconds: AtomicU64,
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
        let place = TYPE_PLACES.get(usize::from(reply.rtype.0)).copied().unwrap_or(TYPES.len() as u8);
        if let (Some(size), Some(rtype)) = (self.sizes.get(size), self.types.get(usize::from(place))) {
            add(size, 1);
            add(rtype, 1);
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
            types: self.types.each_ref().map(load),
            times: self.times.each_ref().map(load),
            bytes: load(&self.bytes),
            nanoseconds: load(&self.nanoseconds),
        }
    }
}

impl Shapes {
    pub(super) fn add(&mut self, other: &Shapes) {
        fn sum<const LEN: usize>(numbers: &mut [u64; LEN], other: &[u64; LEN]) {
            numbers.iter_mut().zip(other).for_each(|(number, other)| *number += other);
        }
        sum(&mut self.sizes, &other.sizes);
        sum(&mut self.types, &other.types);
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

    pub(super) fn of_type(&self, place: usize) -> u64 {
        self.types.get(place).copied().unwrap_or(0)
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

    #[test]
    fn replies_are_counted_by_length_type_and_time() {
        let shared = SharedShapes::default();
        for (len, rtype) in [
            (0, RecordType(0)),
            (100, RecordType::A),
            (101, RecordType::SRV),
            (511, RecordType::A),
            (512, RecordType::ANY),
            (1_232, RecordType(255)),
            (64_000, RecordType(65_280)),
            (65_535, RecordType(3)),
        ] {
            let code = Rcode::NOERROR;
            shared.record(&Reply { len, code, rtype, is_truncated: false, has_good_cookie: false });
        }
        shared.time(3, Duration::from_micros(5));
        shared.time(2, Duration::from_secs(1));
        let mut shapes = shared.load();
        shapes.add(&shared.load());
        assert_eq!(shapes.sizes(), (&[4, 2, 0, 0, 2, 2, 2, 0, 0, 0, 0, 0, 2][..], 2));
        assert_eq!(shapes.times(), (&[6, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0][..], 4));
        let types: Vec<u64> = (0..=TYPES.len()).map(|place| shapes.of_type(place)).collect();
        assert_eq!(types, [4, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 4, 6]);
        assert_eq!(shapes.bytes(), 2 * (100 + 101 + 511 + 512 + 1_232 + 64_000 + 65_535));
        assert!((shapes.seconds() - 4.000_03).abs() < 1e-9);
    }
}
