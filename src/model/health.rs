//! Health of an instance.

use serde::{Deserialize, Serialize};

/// What an instance's health is known to be.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum HealthStatus {
    /// In DNS, and returned by DiscoverInstances by default.
    Healthy,
    /// Out of DNS, unless fail-open applies.
    Unhealthy,
    /// No check, or none that has finished.
    Unknown,
}

impl HealthStatus {
    /// The API's word.
    pub fn as_str(self) -> &'static str {
        match self {
            HealthStatus::Healthy => "HEALTHY",
            HealthStatus::Unhealthy => "UNHEALTHY",
            HealthStatus::Unknown => "UNKNOWN",
        }
    }
}

/// What a client says of an instance by UpdateInstanceCustomHealthStatus or AWS_INIT_HEALTH_STATUS.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
pub enum CustomHealthStatus {
    /// `HEALTHY`
    Healthy,
    /// `UNHEALTHY`
    Unhealthy,
}

/// What a pod's kubelet says of it: the signal of an instance that is watched.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Readiness {
    /// It is ready.
    Ready,
    /// It has not been ready yet: its first check has not finished.
    NeverReady,
    /// It was ready and is not now, or a container of it ended.
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
