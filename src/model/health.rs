//! The three views of an instance's health: the status that the API returns, the one that a client reported, and the
//! readiness of the pod behind it.

use serde::{Deserialize, Serialize};

/// Health status that the API returns for an instance. DNS answers and the default result of DiscoverInstances contain
/// healthy instances, and unhealthy ones only if fail-open applies. The status is unknown if the service has no health
/// check, or the first check of the instance has not finished.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[expect(missing_docs, reason = "the type's document explains the variants")]
pub enum HealthStatus {
    Healthy,
    Unhealthy,
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

/// Readiness of the pod behind a watched instance, taken from the pod's status in Kubernetes. `NeverReady` means that its
/// first readiness check has not succeeded yet; `NotReady`, that it was ready before, or that one of its containers ended.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[expect(missing_docs, reason = "`Ready` is the condition's name in Kubernetes")]
pub enum Readiness {
    Ready,
    NeverReady,
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
