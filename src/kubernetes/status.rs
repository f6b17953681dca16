//! How the watch stands, for whoever asks.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::model::ServiceId;

use super::index::{Contradictions, Counts, Waiting};

/// Services that are listed as pending.
pub(super) const PENDING_SERVICES_LISTED_MAX: usize = 1_000;

/// How the watch of pods stands. The watch writes it; everybody reads it.
#[derive(Debug)]
pub struct WatchStatus {
    cluster: String,
    is_stale: Arc<AtomicBool>,
    started: Instant,
    /// Whether all pods of the first complete lists were told to the registry.
    is_settled: AtomicBool,
    pub(super) events: AtomicU64,
    pub(super) lists: AtomicU64,
    pub(super) errors: AtomicU64,
    pub(super) malformed: AtomicU64,
    /// Milliseconds from the start to the last event; 0 before there was one.
    last_event_ms: AtomicU64,
    detail: Mutex<Detail>,
}

/// What changes together.
#[derive(Debug, Default)]
struct Detail {
    counts: Counts,
    pending: Arc<[Waiting]>,
    contradictions: Arc<Contradictions>,
    /// Why what is answered may be old, and since when, in seconds since 1970.
    stale: Option<(u64, String)>,
}

/// Numbers of the watch, for metrics.
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
            is_stale: Arc::new(AtomicBool::new(true)),
            started: Instant::now(),
            is_settled: AtomicBool::new(false),
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

    /// Whether what is answered for pods may be old: the API server is away, or a list is under way.
    pub fn is_stale(&self) -> bool {
        self.is_stale.load(Ordering::Relaxed)
    }

    /// The same, for those who ask often.
    pub fn stale_flag(&self) -> Arc<AtomicBool> {
        self.is_stale.clone()
    }

    /// Whether the registry has known all pods once: before, those of them that are missing are not known to be gone.
    pub fn is_settled(&self) -> bool {
        self.is_settled.load(Ordering::Relaxed)
    }

    pub(super) fn settled(&self) {
        self.is_settled.store(true, Ordering::Relaxed);
    }

    /// One line for people: how the watch stands.
    pub fn line(&self) -> String {
        let detail = self.lock();
        let cluster = &self.cluster;
        match &detail.stale {
            None => format!("watching {} pods of {cluster}", detail.counts.pods),
            Some((since, why)) => format!(
                "stale since {} seconds ({why}); {} pods of {cluster} are answered as they were last known",
                now_s().saturating_sub(*since),
                detail.counts.pods
            ),
        }
    }

    /// How many pods there are, and how many wait.
    pub fn counts(&self) -> Counts {
        self.lock().counts
    }

    /// The services that pods name and that are not registered, with the pods that wait for each; the first thousand of
    /// them in order of their ids.
    pub fn pending(&self) -> Arc<[Waiting]> {
        self.lock().pending.clone()
    }

    /// What was counted since the start.
    pub fn totals(&self) -> WatchTotals {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        WatchTotals {
            events: load(&self.events),
            lists: load(&self.lists),
            errors: load(&self.errors),
            malformed: load(&self.malformed),
        }
    }

    /// Seconds since the last event; nothing before the first.
    pub fn last_event_age_s(&self) -> Option<f64> {
        let at_ms = self.last_event_ms.load(Ordering::Relaxed);
        (at_ms > 0).then(|| self.started.elapsed().as_secs_f64() - at_ms as f64 / 1e3)
    }

    pub(super) fn event(&self) {
        self.events.fetch_add(1, Ordering::Relaxed);
        let at_ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last_event_ms.store(at_ms.max(1), Ordering::Relaxed);
    }

    /// Says why what is answered may be old, or that it is not. Returns whether that is new.
    pub(super) fn set_stale(&self, why: Option<String>) -> bool {
        let mut detail = self.lock();
        self.is_stale.store(why.is_some(), Ordering::Relaxed);
        let is_new = detail.stale.is_some() != why.is_some();
        let since = detail.stale.as_ref().map_or_else(now_s, |(since, _)| *since);
        detail.stale = why.map(|why| (since, why));
        is_new
    }

    /// Contradiction in the annotation of a pod (`namespace/name`) about this service, if there is one.
    pub fn remark(&self, pod: &str, service: &ServiceId) -> Option<Arc<str>> {
        let contradictions = self.lock().contradictions.clone();
        contradictions.get(&(pod.into(), service.clone())).cloned()
    }

    pub(super) fn set_counts(
        &self,
        counts: Counts,
        pending: Vec<Waiting>,
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

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
