//! How the shadow stands, for whoever asks.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::model::ServiceId;

/// Refused services that are listed, and what else is not here.
pub(super) const LISTED_MAX: usize = 10;
/// Refused services that are kept for whoever asks about a name.
pub(super) const REFUSED_KEPT_MAX: usize = 1_000;

/// How the shadow of KECS's registry stands. Its task writes it; everybody reads it.
#[derive(Debug, Default)]
pub struct ShadowStatus {
    pub(super) errors: AtomicU64,
    detail: Mutex<Detail>,
}

/// What changes together.
#[derive(Debug, Default)]
struct Detail {
    counts: Counts,
    /// The first of those that are refused, in order of their names.
    refused: Vec<Refused>,
    /// Sentences about other things of KECS's that are not here, at most [`LISTED_MAX`].
    missing: Vec<String>,
    /// Why it may be old; nothing when it is not. Before the first list nobody has said.
    stale: Option<Option<String>>,
}

/// A service of KECS's own registry that can't be here.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Refused {
    /// Its name in DNS, in lower case and without a final dot.
    pub name: String,
    /// Id that KECS gave it, and that its pods name.
    pub service: ServiceId,
    /// The registry's reason to refuse it.
    pub why: String,
}

/// How many there are.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Counts {
    /// Services that are shadowed.
    pub services: usize,
    /// Services that can't be here: their names or ids are taken, or are none.
    pub refused: usize,
    /// Aliases that lack a name or an id.
    pub malformed: usize,
    /// Aliases that there was no room for.
    pub left_out: usize,
    /// Other things of KECS's that are not here or not in DNS, as far as the cluster shows them.
    pub missing: usize,
}

impl ShadowStatus {
    /// Whether what is shadowed may be old: the API server is away, or a list is under way.
    pub fn is_stale(&self) -> bool {
        !matches!(self.lock().stale, Some(None))
    }

    /// How many services there are.
    pub fn counts(&self) -> Counts {
        self.lock().counts
    }

    /// Errors of lists and watches since the start.
    pub fn errors(&self) -> u64 {
        self.errors.load(Ordering::Relaxed)
    }

    /// Refused services of this name, in lower case and without a final dot.
    pub fn refused(&self, name: &str) -> Vec<Refused> {
        self.lock().refused.iter().filter(|one| one.name == name).cloned().collect()
    }

    /// One line for people.
    pub fn line(&self) -> String {
        let detail = self.lock();
        let Counts { services, refused, malformed, left_out, missing } = detail.counts;
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
        for Refused { name, why, .. } in detail.refused.iter().take(LISTED_MAX) {
            line.push_str(&format!("; {name}: {why}"));
        }
        for what in &detail.missing {
            line.push_str(&format!("; {what}"));
        }
        if missing > detail.missing.len() {
            line.push_str(&format!("; {} more are not here", missing - detail.missing.len()));
        }
        match &detail.stale {
            Some(None) => {}
            Some(Some(why)) => line.push_str(&format!("; this may be old: {why}")),
            None => line.push_str("; nothing was read yet"),
        }
        line
    }

    /// Says why it may be old, or that it is not. Returns whether that is new.
    pub(super) fn set_stale(&self, why: Option<String>) -> bool {
        let mut detail = self.lock();
        let was_stale = !matches!(detail.stale, Some(None));
        let is_new = was_stale != why.is_some();
        detail.stale = Some(why);
        is_new
    }

    pub(super) fn set_counts(&self, counts: Counts, refused: Vec<Refused>, missing: Vec<String>) {
        let mut detail = self.lock();
        detail.counts = counts;
        detail.refused = refused;
        detail.missing = missing;
    }

    fn lock(&self) -> MutexGuard<'_, Detail> {
        self.detail.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
