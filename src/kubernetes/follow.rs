//! Following one kind of object: a list, then a watch from that list on, in a stream that never ends.
//!
//! `kube`'s watcher lists, watches, and lists again when the API server has lost the place of a watch. Here come the
//! backoff, the length of one watch, the silence after which a watch is replaced, and the reason why the objects may be
//! outdated. Whoever follows a kind reads the events, and says with [`Follower::list_ended`] if it accepts a list.
//!
//! # Staleness
//!
//! A watch lasts 30 seconds and is then renewed from its last resourceVersion, so that a healthy API server answers at
//! least that often. After 43 seconds without an answer the watch counts as dead, whatever the state of its
//! connection: it is stale, and restarts with a list. An error makes it stale at once. Failed requests are retried
//! after a delay that doubles up to 10 seconds, with jitter. Objects are removed only if the API server says so, or if a
//! complete list that is accepted lacks them.

mod answers;
mod list;
mod staleness;

use std::fmt::Debug;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::stream::{self, Stream, StreamExt as _};
use k8s_openapi::NamespaceResourceScope;
use kube::runtime::utils::StreamBackoff;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::backoff::Backoff;
use super::client::error_text;
pub(crate) use answers::ObservedClient;
pub use list::ListEnd;
pub(crate) use list::ListTracker;
pub(super) use staleness::{Stale, Staleness};

/// Duration of one watch request, in seconds. The client then starts the next one at the last resourceVersion, so that
/// a healthy API server answers at least this often.
const WATCH_SECONDS: u32 = 30;
/// Longest silence of the API server before a watch counts as dead.
const SILENCE_MAX: Duration = Duration::from_secs(43);
/// Time after the first answer since an error after which a resumed watch counts as current. The missed events follow
/// that answer at once, but nothing marks their end.
const RESUMED: Duration = Duration::from_millis(1_000);
/// Delay between a suspect list and the second list, which is accepted.
const RELIST_DELAY: Duration = Duration::from_millis(2_000);

pub(crate) type WatchResult<K> = Result<Event<K>, watcher::Error>;
type WatchStream<K> = Pin<Box<dyn Stream<Item = WatchResult<K>> + Send>>;

pub(crate) trait Followed:
    Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned + Send + 'static
{
}

impl<K> Followed for K where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + DeserializeOwned
        + Send
        + 'static
{
}

/// Stream of the events of one kind. It keeps the reason why the objects may be outdated. Without a `namespace`,
/// the objects of all are followed. `read_ahead` is the number of events that are read and decoded while earlier
/// ones are applied; with 0, each is read when it is requested. `is_listing` is true while a list is being read,
/// and before the first one is accepted.
pub(crate) struct Follower<K> {
    client: ObservedClient,
    namespace: Option<Box<str>>,
    config: watcher::Config,
    read_ahead: usize,
    stream: WatchStream<K>,
    is_listing: bool,
    failure: Option<WatchFailure>,
    relist_at: Option<Instant>,
    restarted: Instant,
}

struct WatchFailure {
    why: String,
    /// Number of answers when the error occurred, and the time at which a later answer was noticed.
    answers: u64,
    answered: Option<Instant>,
}

impl<K: Followed> Follower<K> {
    /// Follows the objects of a Kubernetes namespace, or of all, that match the configuration's selectors.
    pub(crate) fn new(
        client: &ObservedClient,
        namespace: Option<&str>,
        config: watcher::Config,
    ) -> Follower<K> {
        let mut follower = Follower {
            client: client.clone(),
            namespace: namespace.map(Into::into),
            config: config.timeout(WATCH_SECONDS),
            read_ahead: 0,
            stream: stream::pending().boxed(),
            is_listing: true,
            failure: None,
            relist_at: None,
            restarted: Instant::now(),
        };
        follower.restart();
        follower
    }

    /// Reads and decodes up to this number of events while earlier ones are applied.
    pub(crate) fn reading_ahead(mut self, events_max: usize) -> Follower<K> {
        self.read_ahead = events_max;
        self.restart();
        self
    }

    pub(crate) fn is_listing(&self) -> bool {
        self.is_listing
    }

    /// Error of the watch that is not known to be over.
    pub(crate) fn failure(&self) -> Option<&str> {
        self.failure.as_ref().map(|failure| failure.why.as_str())
    }

    pub(crate) fn log_failure(&self) {
        let selector = self.config.label_selector.as_deref();
        tracing::debug!(selector, error = self.failure(), "a watch had an error");
    }

    /// Ends a list after [`Event::InitDone`]. A suspect list is requested again after a while; `objects` names in the log
    /// what it lacks.
    pub(crate) fn list_ended(&mut self, end: ListEnd, objects: &str) {
        match end {
            ListEnd::Accepted => {
                self.is_listing = false;
                self.failure = None;
            }
            ListEnd::Suspect { missing, listed } => {
                tracing::warn!(
                    selector = self.config.label_selector.as_deref(),
                    missing,
                    listed,
                    "a list of {objects} lacks most of those that are known; they are kept until a second list lacks them \
                     too"
                );
                self.stream = stream::pending().boxed();
                self.relist_at = Some(Instant::now() + RELIST_DELAY);
            }
        }
    }

    /// Lists again if the API server is silent for too long, or if a second list is due. It must be called from time to
    /// time.
    pub(crate) fn restart_if_due(&mut self) {
        let now = Instant::now();
        let is_due = match self.relist_at {
            Some(at) => now >= at,
            None => now.duration_since(self.client.last_answer().max(self.restarted)) > SILENCE_MAX,
        };
        if is_due {
            self.restart();
        }
    }

    /// Reason why the objects, which are named by `plural`, may be stale; `None` if they are current.
    pub(crate) fn stale(&mut self, plural: &str) -> Option<String> {
        if !self.is_recovered() {
            return self.failure().map(str::to_string);
        }
        if self.relist_at.is_some() {
            return Some(format!(
                "a list of {plural} lacks most of those that are known, and is requested again"
            ));
        }
        if self.is_listing {
            return Some(format!("the {plural} are being listed"));
        }
        let quiet = self.client.last_answer().elapsed();
        (quiet > SILENCE_MAX)
            .then(|| format!("the API server has not answered for {} seconds", quiet.as_secs()))
    }

    /// True if there is no error, or the API server has answered since and the events that were missed have arrived.
    pub(crate) fn is_recovered(&mut self) -> bool {
        let Some(failure) = &mut self.failure else { return true };
        if failure.answered.is_none() && self.client.answers() != failure.answers {
            failure.answered = Some(Instant::now());
        }
        let is_over = failure.answered.is_some_and(|at| at.elapsed() >= RESUMED);
        if is_over && !self.is_listing {
            self.failure = None;
        }
        self.failure.is_none()
    }

    fn restart(&mut self) {
        let client = self.client.client();
        let api = match &self.namespace {
            Some(namespace) => Api::namespaced(client, namespace),
            None => Api::all(client),
        };
        let watch = watcher(api, self.config.clone());
        let stream = StreamBackoff::new(watch, Backoff::default()).boxed();
        self.stream = if self.read_ahead > 0 { read_by_task(stream, self.read_ahead) } else { stream };
        self.is_listing = true;
        self.relist_at = None;
        self.restarted = Instant::now();
    }

    fn observe(&mut self, item: &WatchResult<K>) {
        match item {
            Ok(event) => {
                self.client.heard();
                self.is_listing |= matches!(event, Event::Init);
            }
            Err(error) => {
                let (why, answers) = (error_text(error), self.client.answers());
                self.failure = Some(WatchFailure { why, answers, answered: None });
            }
        }
    }
}

impl<K> Unpin for Follower<K> {}

impl<K: Followed> Stream for Follower<K> {
    type Item = WatchResult<K>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<WatchResult<K>>> {
        let follower = self.get_mut();
        loop {
            if let Some(item) = ready!(follower.stream.poll_next_unpin(context)) {
                follower.observe(&item);
                return Poll::Ready(Some(item));
            }
            // kube documents no end of the stream; a new watch keeps the followers independent of that.
            follower.restart();
        }
    }
}

/// Reads a stream in a task of its own, so that the next page of a list is read and decoded while the objects of the
/// current one are applied.
fn read_by_task<K: Followed>(mut stream: WatchStream<K>, events_max: usize) -> WatchStream<K> {
    let (sender, receiver) = mpsc::channel(events_max);
    let mut reader = JoinSet::new();
    reader.spawn(async move {
        while let Some(event) = stream.next().await
            && sender.send(event).await.is_ok()
        {}
    });
    // The reader ends when the stream that holds it is dropped.
    stream::unfold((receiver, reader), |(mut receiver, reader)| async {
        let event = receiver.recv().await?;
        Some((event, (receiver, reader)))
    })
    .boxed()
}
