//! A histogram that several threads add to.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use super::Family;

/// Numbers of durations by buckets, whose upper bounds are in seconds, in ascending order. There is one bucket more for all
/// larger durations.
#[derive(Debug)]
pub struct Histogram<const BOUNDS: usize> {
    bounds_s: [f64; BOUNDS],
    counts: [AtomicU64; BOUNDS],
    larger: AtomicU64,
    sum_us: AtomicU64,
}

impl<const BOUNDS: usize> Histogram<BOUNDS> {
    /// An empty histogram with these upper bounds.
    pub fn new(bounds_s: [f64; BOUNDS]) -> Histogram<BOUNDS> {
        let counts = std::array::from_fn(|_| AtomicU64::new(0));
        Histogram { bounds_s, counts, larger: AtomicU64::new(0), sum_us: AtomicU64::new(0) }
    }

    /// Counts a duration in the first bucket whose bound is not smaller.
    pub fn observe(&self, duration: Duration) {
        let seconds = duration.as_secs_f64();
        let at = self.bounds_s.partition_point(|bound| *bound < seconds);
        self.counts.get(at).unwrap_or(&self.larger).fetch_add(1, Relaxed);
        self.sum_us.fetch_add(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX), Relaxed);
    }

    /// Adds the histogram to a family.
    pub fn collect(&self, labels: &[(&str, &str)], family: &mut Family<'_>) {
        let counts: Vec<u64> = self.counts.iter().map(|count| count.load(Relaxed)).collect();
        let larger = self.larger.load(Relaxed);
        family.histogram(labels, &self.bounds_s, &counts, larger, self.sum_us.load(Relaxed) as f64 / 1e6);
    }
}
