//! Exponential backoff with jitter, for repeated requests and watches.

use std::time::Duration;

use kube::runtime::utils::Backoff;

/// The first delay after an error, in milliseconds, before jitter; it doubles with each further error.
const BACKOFF_MS_MIN: u64 = 200;
const BACKOFF_MS_MAX: u64 = 5_000;

#[derive(Clone, Debug)]
pub(super) struct RetryBackoff {
    next_ms: u64,
}

impl Default for RetryBackoff {
    fn default() -> RetryBackoff {
        RetryBackoff { next_ms: BACKOFF_MS_MIN }
    }
}

impl Iterator for RetryBackoff {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let ms = self.next_ms;
        self.next_ms = (ms * 2).min(BACKOFF_MS_MAX);
        // Up to half of the delay as jitter, so that replicas that lost the API server together do not retry together.
        Some(Duration::from_millis(ms + fastrand::u64(..=ms / 2)))
    }
}

impl Backoff for RetryBackoff {
    fn reset(&mut self) {
        *self = RetryBackoff::default();
    }
}
