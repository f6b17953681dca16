//! How it stands with CoreDNS, for whoever asks.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use super::plan::Wanted;

/// How it stands with CoreDNS. The leader writes it; everybody reads it.
#[derive(Debug, Default)]
pub struct CoreDnsStatus {
    pub(super) writes: AtomicU64,
    pub(super) errors: AtomicU64,
    detail: Mutex<Detail>,
}

/// What changes together. All but the first two numbers are 0 at a server that does not write.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Detail {
    /// How often the ConfigMap was written since the start.
    pub writes: u64,
    /// Requests that failed since the start.
    pub errors: u64,
    /// Zones that CoreDNS is told to forward.
    pub forwarded: usize,
    /// Zones that somebody else's block is for, and where it is.
    pub clashes: BTreeMap<String, String>,
    /// Zones that are never forwarded, and why.
    pub guarded: BTreeMap<String, String>,
    /// Zones that have no room in the ConfigMap.
    pub left_out: usize,
    /// Why CoreDNS can't be told just now.
    pub away: Option<String>,
}

impl CoreDnsStatus {
    /// All of it.
    pub fn detail(&self) -> Detail {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let detail = self.detail.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Detail { writes: load(&self.writes), errors: load(&self.errors), ..detail }
    }

    /// One line for people.
    pub fn line(&self) -> String {
        let detail = self.detail();
        let mut line = format!("CoreDNS is told to forward {} zones", detail.forwarded);
        for (zone, place) in &detail.clashes {
            line.push_str(&format!("; not {zone}, which {place} has a block for"));
        }
        for (zone, why) in &detail.guarded {
            line.push_str(&format!("; not {zone}: {why}"));
        }
        if detail.left_out > 0 {
            line.push_str(&format!("; {} zones have no room in the ConfigMap", detail.left_out));
        }
        if let Some(why) = detail.away {
            line.push_str(&format!("; it can't be told of changes: {why}"));
        }
        line
    }

    /// What is wanted; whether the cluster has it is said by [`CoreDnsStatus::set_away`].
    pub(super) fn set(&self, wanted: &Wanted) {
        let mut detail = self.detail.lock().unwrap_or_else(PoisonError::into_inner);
        detail.forwarded = wanted.forwarded;
        detail.clashes.clone_from(&wanted.clashes);
        detail.guarded.clone_from(&wanted.guarded);
        detail.left_out = wanted.left_out;
    }

    pub(super) fn set_away(&self, why: Option<String>) {
        self.detail.lock().unwrap_or_else(PoisonError::into_inner).away = why;
    }

    /// This process does not write any more.
    pub(super) fn rest(&self) {
        *self.detail.lock().unwrap_or_else(PoisonError::into_inner) = Detail::default();
    }
}
