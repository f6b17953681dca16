use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use super::plan::Plan;

/// State of CoreDNS's configuration. The leader writes it; metrics, readiness and explain read it.
#[derive(Debug, Default)]
pub struct CoreDnsStatus {
    pub(super) writes: AtomicU64,
    pub(super) errors: AtomicU64,
    detail: Mutex<Detail>,
}

/// Values that change together, and the counters of writes and of failed requests since the start. On a server that is
/// not the leader, all but the counters are empty. The zones are those of the last plan, and `unavailable` is the
/// reason why it can't be written now.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Detail {
    pub writes: u64,
    pub errors: u64,
    pub forwarded: usize,
    pub clashes: BTreeMap<String, String>,
    pub guarded: BTreeMap<String, String>,
    pub left_out: usize,
    pub unavailable: Option<String>,
}

impl CoreDnsStatus {
    /// Snapshot of all values, including the counters.
    pub fn detail(&self) -> Detail {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let detail = self.detail.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Detail { writes: load(&self.writes), errors: load(&self.errors), ..detail }
    }

    /// Sentence about the state, for readiness.
    pub fn line(&self) -> String {
        let detail = self.detail();
        let mut line = format!("CoreDNS is configured to forward {} zones", detail.forwarded);
        for (zone, location) in &detail.clashes {
            line.push_str(&format!("; not {zone}, which {location} has a block for"));
        }
        for (zone, why) in &detail.guarded {
            line.push_str(&format!("; not {zone}: {why}"));
        }
        if detail.left_out > 0 {
            line.push_str(&format!("; {} zones have no room in the ConfigMap", detail.left_out));
        }
        if let Some(why) = detail.unavailable {
            line.push_str(&format!("; changes can't be written: {why}"));
        }
        line
    }

    /// Sets the planned configuration. If it can't be written, [`CoreDnsStatus::set_unavailable`] has the reason.
    pub(super) fn set_plan(&self, plan: &Plan) {
        let mut detail = self.detail.lock().unwrap_or_else(PoisonError::into_inner);
        detail.forwarded = plan.forwarded;
        detail.clashes.clone_from(&plan.clashes);
        detail.guarded.clone_from(&plan.guarded);
        detail.left_out = plan.left_out;
    }

    pub(super) fn set_unavailable(&self, why: Option<String>) {
        self.detail.lock().unwrap_or_else(PoisonError::into_inner).unavailable = why;
    }

    pub(super) fn clear(&self) {
        *self.detail.lock().unwrap_or_else(PoisonError::into_inner) = Detail::default();
    }
}
