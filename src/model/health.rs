//! The three views of an instance's health: the status that the API returns, the one that a client reported, and the
//! readiness of the pod behind it.

use serde::{Deserialize, Serialize};

/// The health status that the API returns for an instance; DNS answers follow it.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum HealthStatus {
    /// The instance is in DNS answers and in the default result of DiscoverInstances.
    Healthy,
    /// The instance is left out of DNS answers, unless fail-open applies.
    Unhealthy,
    /// The service has no health check, or the first check of the instance has not finished.
    Unknown,
}

impl HealthStatus {
    /// The status as the API writes it, such as `HEALTHY`.
    pub fn as_str(self) -> &'static str {
        match self {
            HealthStatus::Healthy => "HEALTHY",
            HealthStatus::Unhealthy => "UNHEALTHY",
            HealthStatus::Unknown => "UNKNOWN",
        }
    }
}

/// Health status that a client reported with UpdateInstanceCustomHealthStatus, or set at registration with the attribute
/// AWS_INIT_HEALTH_STATUS.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the variants are the API's own words")]
pub enum CustomHealthStatus {
    Healthy,
    Unhealthy,
}

/// Readiness of the pod behind a watched instance, taken from the pod's status in Kubernetes.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[expect(missing_docs, reason = "`Ready` is the condition's name in Kubernetes")]
pub enum Readiness {
    Ready,
    /// The pod has not been ready yet, because its first readiness check has not succeeded.
    NeverReady,
    /// The pod was ready before and is not now, or one of its containers ended.
    NotReady,
}

impl From<CustomHealthStatus> for HealthStatus {
    fn from(status: CustomHealthStatus) -> HealthStatus {
        match status {
            CustomHealthStatus::Healthy => HealthStatus::Healthy,
            CustomHealthStatus::Unhealthy => HealthStatus::Unhealthy,
        }
    }
}
