//! How long it is after a request that failed before the next one.

use std::time::Duration;

use kube::runtime::utils::Backoff;

/// The first pause after an error, in milliseconds; each one after it is twice as long.
const PAUSE_MS_MIN: u64 = 200;
/// The longest pause, in milliseconds.
const PAUSE_MS_MAX: u64 = 5_000;

/// Pauses between attempts.
#[derive(Clone, Debug)]
pub(super) struct RetryBackoff {
    next_ms: u64,
}

impl Default for RetryBackoff {
    fn default() -> RetryBackoff {
        RetryBackoff { next_ms: PAUSE_MS_MIN }
    }
}

impl Iterator for RetryBackoff {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let ms = self.next_ms;
        self.next_ms = (ms * 2).min(PAUSE_MS_MAX);
        // Replicas that lost the API server together do not come back together.
        Some(Duration::from_millis(ms + fastrand::u64(..=ms / 2)))
    }
}

impl Backoff for RetryBackoff {
    fn reset(&mut self) {
        *self = RetryBackoff::default();
    }
}
