//! Delays between repeated requests to the API server.

use std::time::Duration;

use backon::ExponentialBuilder;
use kube::runtime::utils::{Backoff as KubeBackoff, ResetTimerBackoff};
use kube::runtime::watcher::ExponentialBackoff;

/// Limits of the delay before its jitter, which adds up to as much again.
const DELAY_MS_MIN: u64 = 250;
const DELAY_MS_MAX: u64 = 5_000;
/// Time without an error after which the next delay is the shortest again, in milliseconds. A watch that has recovered
/// may deliver nothing for a long time, and then nothing else resets its delays.
const RESET_MS: u64 = 60_000;

/// Exponential backoff with jitter, for watches and for single requests. Jitter keeps many servers that lost one API
/// server from returning to it at once.
pub(crate) struct Backoff(ResetTimerBackoff<ExponentialBackoff>);

impl Backoff {
    pub(crate) fn delay(&mut self) -> Duration {
        self.next().unwrap_or(Duration::from_millis(DELAY_MS_MAX))
    }

    pub(crate) fn reset(&mut self) {
        self.0.reset();
    }
}

impl Default for Backoff {
    fn default() -> Backoff {
        let delays = ExponentialBuilder::new()
            .with_min_delay(Duration::from_millis(DELAY_MS_MIN))
            .with_max_delay(Duration::from_millis(DELAY_MS_MAX))
            .with_jitter()
            .without_max_times();
        Backoff(ResetTimerBackoff::new(delays.into(), Duration::from_millis(RESET_MS)))
    }
}

impl Iterator for Backoff {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        self.0.next()
    }
}

impl KubeBackoff for Backoff {
    fn reset(&mut self) {
        self.0.reset();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_longest_and_reset() {
        let mut backoff = Backoff::default();
        for whole_ms in [500, 1_000, 2_000, 4_000, 8_000, 10_000, 10_000] {
            let found = backoff.next().unwrap().as_millis();
            assert!((whole_ms / 2..=whole_ms).contains(&found), "{found} of {whole_ms}");
        }
        backoff.reset();
        assert!(backoff.next().unwrap().as_millis() <= 500);
    }
}
