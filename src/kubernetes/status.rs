//! State of the pod watch, for metrics, readiness and explain.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::exposition::{Collect, Exposition};
use crate::model::ServiceId;

use super::follow::Staleness;
use super::index::{Contradictions, Counts, PendingService};

pub(super) const PENDING_SERVICES_LISTED_MAX: usize = 1_000;

/// State of the pod watch. The watch writes it; metrics, readiness, explain and the answers of DNS read it.
/// `last_event_ms` is the time of the last event in milliseconds since `started`; 0 before the first event.
#[derive(Debug)]
pub struct WatchStatus {
    cluster: String,
    staleness: Staleness,
    started: Instant,
    has_synced: AtomicBool,
    pub(super) events: AtomicU64,
    pub(super) lists: AtomicU64,
    pub(super) errors: AtomicU64,
    pub(super) malformed: AtomicU64,
    last_event_ms: AtomicU64,
    detail: Mutex<Detail>,
}

#[derive(Debug, Default)]
struct Detail {
    counts: Counts,
    pending: Arc<[PendingService]>,
    contradictions: Arc<Contradictions>,
}

/// Counters of the watch since the start, for metrics.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(missing_docs, reason = "each is named by the metric that it is for")]
pub struct WatchTotals {
    pub events: u64,
    pub lists: u64,
    pub errors: u64,
    pub malformed: u64,
}

impl WatchStatus {
    pub(super) fn new(cluster: String) -> WatchStatus {
        let status = WatchStatus {
            cluster,
            staleness: Staleness::default(),
            started: Instant::now(),
            has_synced: AtomicBool::new(false),
            events: AtomicU64::new(0),
            lists: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            malformed: AtomicU64::new(0),
            last_event_ms: AtomicU64::new(0),
            detail: Mutex::default(),
        };
        status.set_stale(Some("the pods were not listed yet".into()));
        status
    }

    /// True while answers for pods may be stale: the API server is away, a list is being read, or the registry has not
    /// caught up yet.
    pub fn is_stale(&self) -> bool {
        self.staleness.is_stale()
    }

    /// Flag behind [`WatchStatus::is_stale`], for code that reads it for each query.
    pub fn stale_flag(&self) -> Arc<AtomicBool> {
        self.staleness.flag()
    }

    /// True once the registry has had all pods of the first lists. Before that, a pod that it lacks is not known to be
    /// gone.
    pub fn has_synced(&self) -> bool {
        self.has_synced.load(Ordering::Relaxed)
    }

    pub(super) fn set_synced(&self) {
        self.has_synced.store(true, Ordering::Relaxed);
    }

    /// Sentence about the state of the watch, for readiness.
    pub fn line(&self) -> String {
        let (pods, cluster) = (self.counts().pods, &self.cluster);
        match self.staleness.stale() {
            None => format!("watching {pods} pods of {cluster}"),
            Some(stale) => format!(
                "stale since {} seconds ({}); {pods} pods of {cluster} are answered from their last known state",
                stale.seconds(),
                stale.why.unwrap_or_default(),
            ),
        }
    }

    /// Numbers of pods, and of their instances that are pending, refused or queued.
    pub fn counts(&self) -> Counts {
        self.lock().counts
    }

    /// Services that pods name and that are not registered, with the pods that wait for each. Only the first thousand
    /// in order of their ids are listed.
    pub fn pending(&self) -> Arc<[PendingService]> {
        self.lock().pending.clone()
    }

    /// Counters since the start of the process.
    pub fn totals(&self) -> WatchTotals {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        WatchTotals {
            events: load(&self.events),
            lists: load(&self.lists),
            errors: load(&self.errors),
            malformed: load(&self.malformed),
        }
    }

    /// Time since the last event in seconds; `None` before the first event.
    pub fn last_event_age_s(&self) -> Option<f64> {
        let at_ms = self.last_event_ms.load(Ordering::Relaxed);
        (at_ms > 0).then(|| self.started.elapsed().as_secs_f64() - at_ms as f64 / 1e3)
    }

    pub(super) fn record_event(&self) {
        self.events.fetch_add(1, Ordering::Relaxed);
        let at_ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last_event_ms.store(at_ms.max(1), Ordering::Relaxed);
    }

    /// Sets the reason why answers may be stale, or `None` if they are current. Returns true if this changed between
    /// stale and current.
    pub(super) fn set_stale(&self, why: Option<String>) -> bool {
        self.staleness.set(why)
    }

    /// Contradiction in the annotation of a pod (`namespace/name`) about this service, if there is one.
    pub fn remark(&self, pod: &str, service: &ServiceId) -> Option<Arc<str>> {
        let contradictions = self.lock().contradictions.clone();
        contradictions.get(&(pod.into(), service.clone())).cloned()
    }

    pub(super) fn set_counts(
        &self,
        counts: Counts,
        pending: Vec<PendingService>,
        contradictions: Arc<Contradictions>,
    ) {
        let mut detail = self.lock();
        detail.counts = counts;
        detail.contradictions = contradictions;
        if *detail.pending != *pending {
            detail.pending = pending.into();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Detail> {
        self.detail.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Collect for WatchStatus {
    fn collect(&self, out: &mut Exposition) {
        let (counts, totals) = (self.counts(), self.totals());
        out.gauge("kubernetes_watch_stale", "1 if answers for pods may be outdated, otherwise 0.")
            .sample(&[], self.is_stale());
        for (name, help, value) in [
            ("kubernetes_pods", "Pods with an annotation that names Cloud Map services.", counts.pods),
            (
                "kubernetes_malformed_pods",
                "Pods with a Cloud Map annotation that can't be read.",
                counts.malformed_pods,
            ),
            (
                "kubernetes_pending_instances",
                "Instances of pods whose service does not exist.",
                counts.pending_instances,
            ),
            (
                "kubernetes_refused_instances",
                "Instances of pods that the registry refuses because of a quota or rule.",
                counts.refused_instances,
            ),
            (
                "kubernetes_conflicting_claims",
                "Pods that claim an instance id that another pod has.",
                counts.conflicting_claims,
            ),
            (
                "kubernetes_queued_instances",
                "Instances of pods with a change that has not been submitted to the registry yet.",
                counts.queued_instances,
            ),
        ] {
            out.gauge(name, help).sample(&[], value);
        }
        for (name, help, value) in [
            (
                "kubernetes_events_total",
                "Events of all watches of pods, including those of lists.",
                totals.events,
            ),
            ("kubernetes_lists_total", "Complete lists of pods.", totals.lists),
            ("kubernetes_watch_errors_total", "Errors of lists and watches of pods.", totals.errors),
            (
                "kubernetes_malformed_annotations_total",
                "Annotations of pods that could not be read, each counted once.",
                totals.malformed,
            ),
        ] {
            out.counter(name, help).sample(&[], value);
        }
        if let Some(seconds) = self.last_event_age_s() {
            out.gauge(
                "kubernetes_last_event_age_seconds",
                "Seconds since the last event of a watch of pods.",
            )
            .sample(&[], seconds);
        }
    }
}
