use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::exposition::{Collect, Exposition};
use crate::kubernetes::follow::{Stale, Staleness};
use crate::model::ServiceId;

/// Limit of the refused services, and of the other missing things, in the status line.
pub(super) const LISTED_MAX: usize = 10;
pub(super) const REFUSED_KEPT_MAX: usize = 1_000;

/// State of the shadow of KECS's registry. The shadow's task writes it; metrics, readiness and explain read it.
#[derive(Debug, Default)]
pub struct ShadowStatus {
    pub(super) errors: AtomicU64,
    staleness: Staleness,
    detail: Mutex<Detail>,
}

#[derive(Debug, Default)]
struct Detail {
    counts: ShadowCounts,
    refused: Vec<RefusedService>,
    /// Sentences about other things of KECS's that are missing here, at most [`LISTED_MAX`].
    missing: Vec<String>,
}

/// Service of KECS's own registry that this registry refuses, with the reason. `name` is its name in DNS, in lower
/// case and without a final dot; `service` is the id that KECS gave it, and that its pods name.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
#[expect(missing_docs, reason = "the type's document explains the fields")]
pub struct RefusedService {
    pub name: String,
    pub service: ServiceId,
    pub why: String,
}

/// Numbers of services that are shadowed and of those that the registry refuses; of aliases that are malformed, because they
/// lack a name or an id, and of those beyond the limit of the index; and of other things of KECS's that are missing here or
/// in DNS, as far as the cluster shows them.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct ShadowCounts {
    pub services: usize,
    pub refused: usize,
    pub malformed: usize,
    pub left_out: usize,
    pub missing: usize,
}

impl ShadowStatus {
    /// True while the services may be stale: the API server is away, a list is being read, or the registry has not
    /// caught up yet.
    pub fn is_stale(&self) -> bool {
        self.staleness.is_stale()
    }

    /// Numbers of shadowed, refused and missing services.
    pub fn counts(&self) -> ShadowCounts {
        self.lock().counts
    }

    /// Errors of lists and watches since the start.
    pub fn errors(&self) -> u64 {
        self.errors.load(Ordering::Relaxed)
    }

    /// Refused services of this name, which is in lower case and without a final dot.
    pub fn refused(&self, name: &str) -> Vec<RefusedService> {
        self.lock().refused.iter().filter(|one| one.name == name).cloned().collect()
    }

    /// Sentence about the state, for readiness.
    pub fn line(&self) -> String {
        let detail = self.lock();
        let ShadowCounts { services, refused, malformed, left_out, missing } = detail.counts;
        let mut line = format!("{services} services of KECS's own registry are shadowed");
        for (count, what) in [
            (refused, "can't be"),
            (malformed, "alias Services lack a name or an id"),
            (left_out, "alias Services have no room"),
        ] {
            if count > 0 {
                line.push_str(&format!("; {count} {what}"));
            }
        }
        for RefusedService { name, why, .. } in detail.refused.iter().take(LISTED_MAX) {
            line.push_str(&format!("; {name}: {why}"));
        }
        for what in &detail.missing {
            line.push_str(&format!("; {what}"));
        }
        if missing > detail.missing.len() {
            line.push_str(&format!("; {} more are not here", missing - detail.missing.len()));
        }
        match self.staleness.stale() {
            None => {}
            Some(Stale { why: Some(why), .. }) => line.push_str(&format!("; this may be old: {why}")),
            Some(Stale { why: None, .. }) => line.push_str("; nothing was read yet"),
        }
        line
    }

    /// Sets the reason why the services may be stale, or `None` if they are current. Returns true if this changed
    /// between stale and current.
    pub(super) fn set_stale(&self, why: Option<String>) -> bool {
        self.staleness.set(why)
    }

    pub(super) fn set_counts(
        &self,
        counts: ShadowCounts,
        refused: Vec<RefusedService>,
        missing: Vec<String>,
    ) {
        let mut detail = self.lock();
        detail.counts = counts;
        detail.refused = refused;
        detail.missing = missing;
    }

    fn lock(&self) -> MutexGuard<'_, Detail> {
        self.detail.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Collect for ShadowStatus {
    fn collect(&self, out: &mut Exposition) {
        let counts = self.counts();
        out.gauge(
            "kubernetes_shadow_stale",
            "1 if the shadow of KECS's registry may be outdated, otherwise 0.",
        )
        .sample(&[], self.is_stale());
        for (name, help, value) in [
            (
                "kubernetes_shadowed_services",
                "Services of KECS's own registry that are served here.",
                counts.services,
            ),
            (
                "kubernetes_shadow_refused_services",
                "Services of KECS's own registry that are not served here because of their name or id.",
                counts.refused,
            ),
            (
                "kubernetes_shadow_malformed_aliases",
                "KECS's alias Services that lack a name or an id.",
                counts.malformed,
            ),
            (
                "kubernetes_shadow_left_out_aliases",
                "KECS's alias Services that are ignored because a limit is reached.",
                counts.left_out,
            ),
            (
                "kubernetes_shadow_missing",
                "Other objects of KECS's registry that are missing here or in DNS, as far as the cluster shows them.",
                counts.missing,
            ),
        ] {
            out.gauge(name, help).sample(&[], value);
        }
        out.counter(
            "kubernetes_shadow_watch_errors_total",
            "Errors of lists and watches of KECS's alias Services.",
        )
        .sample(&[], self.errors());
    }
}
