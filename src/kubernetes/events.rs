//! List-and-watch streams for one kind of object, and one-line texts of their errors.

use std::fmt::Debug;
use std::pin::Pin;

use futures_util::stream::{Stream, StreamExt as _};
use kube::runtime::utils::StreamBackoff;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;

use super::backoff::Backoff;

/// Duration of one watch request, in seconds. The client then starts the next one at the last resourceVersion, so that
/// a healthy API server answers at least this often.
const WATCH_SECONDS: u32 = 30;

pub(super) type WatchResult<K> = Result<Event<K>, watcher::Error>;
pub(super) type WatchStream<K> = Pin<Box<dyn Stream<Item = WatchResult<K>> + Send>>;

/// Lists and then watches a kind of object, in a stream that never ends: after [`WATCH_SECONDS`] the watch is renewed
/// from its last resourceVersion, and after an error it is retried with a [`Backoff`].
pub(super) fn list_and_watch<K>(api: Api<K>, config: watcher::Config) -> WatchStream<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
{
    StreamBackoff::new(watcher(api, config.timeout(WATCH_SECONDS)), Backoff::default()).boxed()
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
