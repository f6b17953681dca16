//! List-and-watch streams for one kind of object, the backoff between their retries, and one-line texts of their
//! errors.

use std::fmt::Debug;
use std::pin::Pin;
use std::time::Duration;

use futures_util::stream::{Stream, StreamExt as _};
use kube::runtime::utils::{Backoff, ResetTimerBackoff, StreamBackoff};
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;

/// Duration of one watch request, in seconds. The client then starts the next one at the last resourceVersion, so that
/// a healthy API server answers at least this often.
const WATCH_SECONDS: u32 = 30;
const BACKOFF_MS_MIN: u64 = 500;
const BACKOFF_MS_MAX: u64 = 10_000;
/// Time without an error after which the next delay is the shortest again, in milliseconds.
const BACKOFF_RESET_MS: u64 = 60_000;

pub(super) type WatchResult<K> = Result<Event<K>, watcher::Error>;
pub(super) type WatchStream<K> = Pin<Box<dyn Stream<Item = WatchResult<K>> + Send>>;

/// Lists and then watches a kind of object, in a stream that never ends: after [`WATCH_SECONDS`] the watch is renewed
/// from its last resourceVersion, and after an error it is retried with a [`JitteredBackoff`].
pub(super) fn list_and_watch<K>(api: Api<K>, config: watcher::Config) -> WatchStream<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let reset = Duration::from_millis(BACKOFF_RESET_MS);
    let backoff = ResetTimerBackoff::new(JitteredBackoff::default(), reset);
    StreamBackoff::new(watcher(api, config.timeout(WATCH_SECONDS)), backoff).boxed()
}

/// Text of an error and its causes in one line. A cause whose text is contained already is left out, because some
/// errors repeat their source.
pub(crate) fn error_text(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

/// Exponential backoff with jitter: delays double from [`BACKOFF_MS_MIN`] to [`BACKOFF_MS_MAX`], and each is drawn
/// from its upper half, so that many servers that lost one API server do not return to it at once.
#[derive(Default)]
pub(super) struct JitteredBackoff {
    errors: u32,
}

impl Iterator for JitteredBackoff {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let whole_ms = BACKOFF_MS_MIN.saturating_mul(1 << self.errors.min(16)).min(BACKOFF_MS_MAX);
        self.errors = self.errors.saturating_add(1);
        Some(Duration::from_millis(fastrand::u64(whole_ms / 2..=whole_ms)))
    }
}

impl Backoff for JitteredBackoff {
    fn reset(&mut self) {
        self.errors = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_longest_and_reset() {
        let mut backoff = JitteredBackoff::default();
        for whole_ms in [500, 1_000, 2_000, 4_000, 8_000, 10_000, 10_000] {
            let found = backoff.next().unwrap().as_millis();
            assert!((whole_ms / 2..=whole_ms).contains(&found), "{found} of {whole_ms}");
        }
        backoff.reset();
        assert!(backoff.next().unwrap().as_millis() <= 500);
    }
}
