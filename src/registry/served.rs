//! Times from a change to its first answer, and numbers of reports, for metrics.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::exposition::{Collect, Exposition, Histogram};
use crate::model::signals::CHECK_SOURCE;

use super::command::Command;

/// Bounds of the time from a call of the API until its change is answered, in seconds.
const API_BOUNDS_S: [f64; 10] = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0, 5.0];
/// Bounds of the time from a condition of a pod, which Kubernetes gives in whole seconds.
const POD_BOUNDS_S: [f64; 7] = [1.0, 2.0, 3.0, 5.0, 10.0, 30.0, 60.0];

/// Values of the label `reporter`, in the order of [`Kind::Report`].
const REPORTERS: [&str; 4] = ["api", "webhook", "alertmanager", "check"];

/// Metrics of the changes that this server has made or applied.
#[derive(Debug)]
pub struct Served {
    api: Histogram<{ API_BOUNDS_S.len() }>,
    pods: Histogram<{ POD_BOUNDS_S.len() }>,
    reports: [AtomicU64; REPORTERS.len()],
}

impl Default for Served {
    fn default() -> Served {
        let (api, pods) = (Histogram::new(API_BOUNDS_S), Histogram::new(POD_BOUNDS_S));
        Served { api, pods, reports: Default::default() }
    }
}

/// Kind of a command in these metrics. Commands of the watches and the timers are none of the API's.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    Change,
    /// A report by the reporter at this index.
    Report(usize),
    Internal,
}

impl Kind {
    pub(super) fn of(command: &Command) -> Kind {
        match command {
            Command::UpdateCustomHealth { .. } => Kind::Report(0),
            Command::ReportHealth { source, .. } if source == CHECK_SOURCE => Kind::Report(3),
            Command::ReportHealth { source, .. } if source.starts_with("alertmanager ") => Kind::Report(2),
            Command::ReportHealth { .. } => Kind::Report(1),
            Command::Elapse { .. }
            | Command::WithdrawSignals(_)
            | Command::Shadow(_)
            | Command::Observe(_)
            | Command::Renumber => Kind::Internal,
            _ => Kind::Change,
        }
    }
}

impl Served {
    /// Counts a command that has been carried out this time after it was called.
    pub(super) fn carried_out(&self, kind: Kind, after: Duration) {
        if let Kind::Report(at) = kind {
            self.reports[at].fetch_add(1, Relaxed);
        }
        if kind != Kind::Internal {
            self.api.observe(after);
        }
    }

    /// Counts a pod whose readiness is answered this time after it changed.
    pub(super) fn pod_followed(&self, after: Duration) {
        self.pods.observe(after);
    }
}

impl Collect for Served {
    fn collect(&self, out: &mut Exposition) {
        let help = "Time until a change is answered by DNS: from the call of the API, or from the time of a pod's condition.";
        let mut family = out.histogram("served_seconds", help);
        self.api.collect(&[("source", "api")], &mut family);
        self.pods.collect(&[("source", "pod")], &mut family);
        let mut family = out.counter("health_reports_total", "Reports of health, by who reports.");
        for (reporter, count) in REPORTERS.into_iter().zip(&self.reports) {
            family.sample(&[("reporter", reporter)], count.load(Relaxed));
        }
    }
}
