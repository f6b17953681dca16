//! The stored signals about an instance's health, as parts of statuses and specs.
//!
//! Fields that are not set are written as null, because a merge patch of a status removes them by that.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::instance::CustomHealthWord;

/// Signals about the health of an instance that are stored with it.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct SignalFields {
    /// The source and time of the health that a client of the Cloud Map API reported last.
    #[schemars(with = "ReportFields")]
    pub report: Option<ReportFields>,
    /// Reports of a health status that do not count yet.
    #[schemars(with = "PendingFields")]
    pub pending: Option<PendingFields>,
    /// Reports of other systems, one of each, and the result of active health checks.
    #[schemars(length(max = 17))]
    pub sources: Vec<SourceFields>,
    /// The order that keeps the instance out of all answers.
    #[schemars(with = "MaintenanceFields")]
    pub maintenance: Option<MaintenanceFields>,
    /// The time of the last report of an instance that has to report regularly, in milliseconds since 1970.
    #[schemars(with = "i64")]
    pub alive_date_ms: Option<i64>,
    /// The time at which such an instance was found not to have reported in time, in milliseconds since 1970.
    #[schemars(with = "i64")]
    pub missed_date_ms: Option<i64>,
    /// The readiness of a pod that has lasted for long enough.
    #[schemars(with = "ConfirmedFields")]
    pub confirmed: Option<ConfirmedFields>,
}

/// The source and time of a health status that a client reported.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ReportFields {
    /// The client that reported the health status.
    #[serde(default)]
    #[schemars(length(max = 256))]
    pub reporter: String,
    /// The time of the report, in milliseconds since 1970.
    pub report_date_ms: i64,
}

/// Reports of a health status that have to be repeated, or to last, before they count.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PendingFields {
    /// The health status that was reported.
    pub status: CustomHealthWord,
    /// The client that sent the first of them.
    #[serde(default)]
    #[schemars(length(max = 256))]
    pub reporter: String,
    /// The time of the first of them, in milliseconds since 1970.
    pub report_date_ms: i64,
    /// The number of such reports in a row.
    pub count: u8,
}

/// The report of a system that is not a client of the Cloud Map API.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SourceFields {
    /// The name of the system, or of its rule.
    #[schemars(length(min = 1, max = 128))]
    pub source: String,
    /// The health status that it reported.
    pub status: CustomHealthWord,
    /// The reason that it gave.
    #[serde(default)]
    #[schemars(length(max = 256))]
    pub reason: String,
    /// The client that sent the report.
    #[serde(default)]
    #[schemars(length(max = 256))]
    pub reporter: String,
    /// The time since which it reports this status, in milliseconds since 1970.
    pub report_date_ms: i64,
    /// The time at which the report is withdrawn, in milliseconds since 1970.
    #[serde(default)]
    #[schemars(with = "i64")]
    pub valid_until_ms: Option<i64>,
}

/// An operator's order to keep an instance out of all answers.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MaintenanceFields {
    /// The operator's reason; empty if none was given.
    #[serde(default)]
    #[schemars(length(max = 256))]
    pub reason: String,
    /// The client that gave the order.
    #[serde(default)]
    #[schemars(length(max = 256))]
    pub operator: String,
    /// The time of the order, in milliseconds since 1970.
    pub since_date_ms: i64,
}

/// The readiness of a pod that has lasted for long enough.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ConfirmedFields {
    /// True if the pod was ready.
    pub ready: bool,
    /// The time at which this readiness began, in seconds since 1970.
    pub since_date_s: i64,
}
