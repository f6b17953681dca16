//! Stored signals about the health of an instance, each with its source and its time.

use serde::{Deserialize, Serialize};

use super::{CustomHealthStatus, EpochMs, Readiness, Uid};

/// Longest description of the client that sent a signal, in bytes.
pub const REPORTER_BYTES_MAX: usize = 200;
/// Longest reason for a signal, in bytes.
pub const REASON_BYTES_MAX: usize = 200;
/// Longest name of a source of reports, in bytes.
pub const SOURCE_BYTES_MAX: usize = 100;
/// Sources of reports that an instance can have at a time, besides UpdateInstanceCustomHealthStatus.
pub const SOURCES_MAX: usize = 16;

/// Name of the source of the reports that follow from active health checks.
pub const CHECK_SOURCE: &str = "health check";

/// True for a text that can be the reason for a signal: at most [`REASON_BYTES_MAX`] bytes, and no control characters.
pub fn is_reason(text: &str) -> bool {
    text.len() <= REASON_BYTES_MAX && !text.chars().any(char::is_control)
}

/// The text with a space for each control character, cut at a character so that it has at most `bytes_max` bytes.
pub fn cut(text: &str, bytes_max: usize) -> String {
    let mut kept = String::new();
    for character in text.chars().map(|c| if c.is_control() { ' ' } else { c }) {
        if kept.len() + character.len_utf8() > bytes_max {
            break;
        }
        kept.push(character);
    }
    kept
}

/// Signals that are stored about one instance. The readiness of a pod is not among them, because Kubernetes keeps it.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct Signals {
    /// The report of UpdateInstanceCustomHealthStatus that counts.
    pub report: Option<Report>,
    /// A report of another status, which does not count yet.
    pub pending: Option<PendingReport>,
    /// Reports of other systems, one of each source, sorted by the names of the sources.
    pub sources: Vec<SourceReport>,
    /// The order that keeps the instance out of all answers.
    pub maintenance: Option<Maintenance>,
    /// Time of the last report, or of the registration, of an instance that is to report regularly.
    pub alive_ms: Option<EpochMs>,
    /// Time at which such an instance was found not to have reported in time.
    pub missed_ms: Option<EpochMs>,
    /// The readiness of a pod that was confirmed last, where readiness has to last for a time.
    pub confirmed: Option<ConfirmedReadiness>,
}

impl Signals {
    /// The result of active health checks, if it was stored.
    pub fn check(&self) -> Option<&SourceReport> {
        self.sources.iter().find(|source| source.is_check())
    }

    /// True if there is nothing to store.
    pub fn is_empty(&self) -> bool {
        *self == Signals::default()
    }

    /// Notes a report or a registration of an instance that is to report regularly.
    pub fn set_alive(&mut self, now_ms: EpochMs) {
        self.alive_ms = Some(now_ms);
        self.missed_ms = None;
    }

    /// The status that follows from the reports of all sources: UNHEALTHY if one of them does, else HEALTHY if one of them does.
    pub fn of_sources(&self) -> Option<CustomHealthStatus> {
        let says = |status| self.sources.iter().any(|source| source.status == status);
        [CustomHealthStatus::Unhealthy, CustomHealthStatus::Healthy].into_iter().find(|status| says(*status))
    }
}

/// The custom health status that a client reported last.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the names of the other fields say it all")]
pub struct Report {
    pub status: CustomHealthStatus,
    /// Description of the client that sent the report, for people; at most [`REPORTER_BYTES_MAX`] bytes.
    pub reporter: String,
    pub reported_ms: EpochMs,
}

/// Reports of a status that have to be repeated, or to last for a time, before they count.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct PendingReport {
    /// The first report of the row, whose time begins the wait.
    pub report: Report,
    /// Number of equal reports in a row.
    pub count: u8,
}

/// The report of a system that is not a client of the Cloud Map API.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the names of the other fields say it all")]
pub struct SourceReport {
    /// Name of the system, or of its rule; at most [`SOURCE_BYTES_MAX`] bytes.
    pub source: String,
    pub status: CustomHealthStatus,
    /// At most [`REASON_BYTES_MAX`] bytes, and empty if none was given.
    pub reason: String,
    pub reporter: String,
    pub reported_ms: EpochMs,
    /// Time at which the report is withdrawn; `None` if it counts until another one of this source.
    pub valid_until_ms: Option<EpochMs>,
}

impl SourceReport {
    /// True if the report is the result of active health checks.
    pub fn is_check(&self) -> bool {
        self.source == CHECK_SOURCE
    }
}

/// An operator's order to keep an instance out of all answers until it is lifted. The instance is UNHEALTHY meanwhile.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the names of the other fields say it all")]
pub struct Maintenance {
    /// The operator's reason, for people; at most [`REASON_BYTES_MAX`] bytes, and empty if none was given.
    pub reason: String,
    /// Description of the client that ordered it; at most [`REPORTER_BYTES_MAX`] bytes.
    pub operator: String,
    pub since_ms: EpochMs,
}

/// The readiness that a pod has had for long enough, and the time in seconds since 1970 at which it began.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the type's document explains the fields")]
pub struct ConfirmedReadiness {
    pub readiness: Readiness,
    pub changed_s: u32,
}

/// Stored signals about the instance of one pod.
///
/// They apply to this pod alone: a later pod of the same name, or of the same task, has another uid and starts without
/// signals. `pod` is the pod's Kubernetes namespace and name, with a slash between them.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the type's document explains the fields")]
pub struct PodSignals {
    pub pod: String,
    pub pod_uid: Uid,
    pub signals: Signals,
}
