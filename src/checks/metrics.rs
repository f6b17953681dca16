//! Counters of active health checks.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use crate::exposition::{Collect, Exposition};

/// Results of the checks that this server has made, and the number of instances that it checks.
#[derive(Debug, Default)]
pub struct CheckMetrics {
    passed: Results,
    failed: Results,
    instances: AtomicUsize,
}

#[derive(Debug, Default)]
struct Results {
    count: AtomicU64,
    microseconds: AtomicU64,
}

/// Sets the number of instances to 0 when this server stops to check.
pub(super) struct Reset<'m>(&'m CheckMetrics);

impl CheckMetrics {
    pub(super) fn count(&self, passed: bool, time: Duration) {
        let results = if passed { &self.passed } else { &self.failed };
        let microseconds = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        results.count.fetch_add(1, Ordering::Relaxed);
        results.microseconds.fetch_add(microseconds, Ordering::Relaxed);
    }

    pub(super) fn set_instances(&self, instances: usize) {
        self.instances.store(instances, Ordering::Relaxed);
    }

    pub(super) fn reset_on_drop(&self) -> Reset<'_> {
        Reset(self)
    }
}

impl Drop for Reset<'_> {
    fn drop(&mut self) {
        self.0.set_instances(0);
    }
}

impl Collect for CheckMetrics {
    fn collect(&self, out: &mut Exposition) {
        let results = [("passed", &self.passed), ("failed", &self.failed)];
        let mut family = out.counter("health_checks_total", "Active health checks, by their result.");
        for (result, counts) in results {
            family.sample(&[("result", result)], counts.count.load(Ordering::Relaxed));
        }
        let mut family = out
            .counter("health_check_seconds_total", "Time that active health checks took, by their result.");
        for (result, counts) in results {
            let microseconds = counts.microseconds.load(Ordering::Relaxed);
            family.sample(&[("result", result)], Duration::from_micros(microseconds).as_secs_f64());
        }
        out.gauge("health_checked_instances", "Instances that this server checks; 0 if another server does.")
            .sample(&[], self.instances.load(Ordering::Relaxed));
    }
}
