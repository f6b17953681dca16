//! How the shadow stands, for whoever asks.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Refused services that are listed, and what else is not here.
pub(super) const LISTED_MAX: usize = 10;

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
    /// The first of those that are refused, with the reasons.
    refused: Vec<String>,
    /// The first of what else KECS has made and what is not here, a sentence each.
    missing: Vec<String>,
    /// Why it may be old; nothing when it is not. Before the first list nobody has said.
    stale: Option<Option<String>>,
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
    /// What else KECS has made and what is not here, or not in DNS, as far as the cluster shows it.
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
        for what in detail.refused.iter().chain(&detail.missing) {
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

    pub(super) fn set_counts(&self, counts: Counts, refused: Vec<String>, missing: Vec<String>) {
        let mut detail = self.lock();
        detail.counts = counts;
        detail.refused = refused;
        detail.missing = missing;
    }

    fn lock(&self) -> MutexGuard<'_, Detail> {
        self.detail.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
