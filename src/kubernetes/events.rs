//! Lists and watches: the events of one kind of object, asked for again and again, and what is said of their errors.

use std::fmt::Debug;
use std::pin::Pin;
use std::time::Duration;

use futures_util::stream::{Stream, StreamExt as _};
use kube::runtime::utils::{Backoff, ResetTimerBackoff, StreamBackoff};
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;

/// How long one watch lasts before it is asked for again, in seconds.
const WATCH_SECONDS: u32 = 30;
/// The delay before the first repetition, in milliseconds.
const BACKOFF_MS_MIN: u64 = 500;
/// The longest delay before a repetition, in milliseconds.
const BACKOFF_MS_MAX: u64 = 10_000;
/// How long without an error makes the next delay the shortest again, in milliseconds.
const BACKOFF_RESET_MS: u64 = 60_000;

pub(super) type Item<K> = Result<Event<K>, watcher::Error>;
pub(super) type Items<K> = Pin<Box<dyn Stream<Item = Item<K>> + Send>>;

/// A list and a watch that never end: each watch lasts [`WATCH_SECONDS`], and after an error there is a [`Delay`].
pub(super) fn events<K>(api: Api<K>, config: watcher::Config) -> Items<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let reset = Duration::from_millis(BACKOFF_RESET_MS);
    let backoff = ResetTimerBackoff::new(Delay::default(), reset);
    StreamBackoff::new(watcher(api, config.timeout(WATCH_SECONDS)), backoff).boxed()
}

/// An error and its causes in one line.
pub(crate) fn told(error: &dyn std::error::Error) -> String {
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

/// Delays that double, each somewhere between half and all of itself: many servers that lost one API server don't come
/// back to it at once.
#[derive(Default)]
pub(super) struct Delay {
    errors: u32,
}

impl Iterator for Delay {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let whole_ms = BACKOFF_MS_MIN.saturating_mul(1 << self.errors.min(16)).min(BACKOFF_MS_MAX);
        self.errors = self.errors.saturating_add(1);
        Some(Duration::from_millis(fastrand::u64(whole_ms / 2..=whole_ms)))
    }
}

impl Backoff for Delay {
    fn reset(&mut self) {
        self.errors = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_longest_and_start_over() {
        let mut delay = Delay::default();
        for whole_ms in [500, 1_000, 2_000, 4_000, 8_000, 10_000, 10_000] {
            let found = delay.next().unwrap().as_millis();
            assert!((whole_ms / 2..=whole_ms).contains(&found), "{found} of {whole_ms}");
        }
        delay.reset();
        assert!(delay.next().unwrap().as_millis() <= 500);
    }
}
