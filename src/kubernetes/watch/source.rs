//! One watch of a kind and a label selector: its stream of events, and the time at which the API server answered last.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::stream::{self, StreamExt as _};
use k8s_openapi::api::core::v1::Service;
use kube::runtime::watcher;
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use super::SILENT_MS_MAX;
use crate::kubernetes::client::{ClientError, Cluster};
use crate::kubernetes::events::{WatchStream, error_text, list_and_watch};
use crate::kubernetes::pod::Pod;

/// Objects in one page of a list. A page is in memory as a whole, at some nine kilobytes of text for each pod.
const PAGE_OBJECTS: u32 = 100;

const SILENT: Duration = Duration::from_millis(SILENT_MS_MAX);
/// Time after the first answer since an error after which a resumed watch counts as current. The missed events follow
/// that answer at once, but nothing marks their end.
const RESUMED: Duration = Duration::from_millis(1_000);

/// Kind of object that can be watched in all Kubernetes namespaces.
pub(in crate::kubernetes) trait Watched:
    Resource<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned + Send + 'static
{
    const PLURAL: &'static str;
}

impl Watched for Pod {
    const PLURAL: &'static str = "pods";
}

impl Watched for Service {
    const PLURAL: &'static str = "Services";
}

/// List and watch of the objects of one kind that match a selector, with a client of its own.
pub(in crate::kubernetes) struct WatchSource<K> {
    pub(in crate::kubernetes) selector: &'static str,
    pub(in crate::kubernetes) stream: WatchStream<K>,
    pub(in crate::kubernetes) liveness: Liveness,
    /// True while a list is being read, and before the first one.
    pub(in crate::kubernetes) is_listing: bool,
    client: Client,
    failure: Option<WatchError>,
    relist_at: Option<Instant>,
    restarted: Instant,
}

struct WatchError {
    why: String,
    /// Value of [`Liveness::answers`] when the error occurred, and the time at which a later answer was noticed.
    answers: u64,
    answered: Option<Instant>,
}

/// Time of the last sign of life of the API server, and the number of its successful responses. All clones share one
/// state.
#[derive(Clone)]
pub(in crate::kubernetes) struct Liveness {
    origin: Instant,
    at_ms: Arc<AtomicU64>,
    answers: Arc<AtomicU64>,
}

impl Liveness {
    fn new() -> Liveness {
        Liveness { origin: Instant::now(), at_ms: Arc::default(), answers: Arc::default() }
    }

    pub(in crate::kubernetes) fn touch(&self) {
        let at_ms = u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.at_ms.fetch_max(at_ms, Ordering::Relaxed);
    }

    fn answered(&self) {
        self.touch();
        self.answers.fetch_add(1, Ordering::Relaxed);
    }

    fn last(&self) -> Instant {
        self.origin + Duration::from_millis(self.at_ms.load(Ordering::Relaxed))
    }
}

impl<K: Watched> WatchSource<K> {
    pub(in crate::kubernetes) fn new(
        cluster: &Cluster,
        selector: &'static str,
    ) -> Result<WatchSource<K>, ClientError> {
        let liveness = Liveness::new();
        let listener = liveness.clone();
        let client = cluster.observed_client(move || listener.answered())?;
        let mut source = WatchSource {
            selector,
            stream: stream::pending().boxed(),
            liveness,
            is_listing: true,
            client,
            failure: None,
            relist_at: None,
            restarted: Instant::now(),
        };
        source.restart();
        Ok(source)
    }

    pub(in crate::kubernetes) fn restart(&mut self) {
        let config = watcher::Config::default().labels(self.selector).page_size(PAGE_OBJECTS);
        self.stream = list_and_watch(Api::<K>::all(self.client.clone()), config);
        self.is_listing = true;
        self.relist_at = None;
        self.restarted = Instant::now();
    }

    pub(in crate::kubernetes) fn failed(&mut self, error: &watcher::Error) {
        let why = error_text(error);
        tracing::debug!(selector = self.selector, error = why, "a watch had an error");
        self.failure =
            Some(WatchError { why, answers: self.liveness.answers.load(Ordering::Relaxed), answered: None });
    }

    pub(in crate::kubernetes) fn listed(&mut self) {
        self.is_listing = false;
        self.failure = None;
    }

    /// Stops the stream after a suspect list, until a second list is requested at `relist_at`.
    pub(in crate::kubernetes) fn schedule_relist(&mut self, relist_at: Instant) {
        self.stream = stream::pending().boxed();
        self.relist_at = Some(relist_at);
    }

    /// True if the watch must be restarted: the API server is silent for too long, or the second list is due.
    pub(in crate::kubernetes) fn is_due(&self, now: Instant) -> bool {
        match self.relist_at {
            Some(at) => now >= at,
            None => now.duration_since(self.liveness.last().max(self.restarted)) > SILENT,
        }
    }

    /// Reason why the objects may be stale; `None` if they are current.
    pub(in crate::kubernetes) fn stale(&mut self) -> Option<String> {
        if let Some(failure) = &mut self.failure {
            if failure.answered.is_none() && self.liveness.answers.load(Ordering::Relaxed) != failure.answers
            {
                failure.answered = Some(Instant::now());
            }
            let is_over = failure.answered.is_some_and(|at| at.elapsed() >= RESUMED);
            if !is_over || self.is_listing {
                return Some(failure.why.clone());
            }
            self.failure = None;
        }
        let quiet = self.liveness.last().elapsed();
        if self.relist_at.is_some() {
            let plural = K::PLURAL;
            return Some(format!(
                "a list of {plural} lacks most of those that are known, and is requested again"
            ));
        }
        if self.is_listing {
            return Some(format!("the {} are being listed", K::PLURAL));
        }
        (quiet > SILENT).then(|| format!("the API server has not answered for {} seconds", quiet.as_secs()))
    }
}
