//! Numbers and lists of the index, for metrics and readiness.

use std::sync::Arc;

use crate::model::ServiceId;

/// Numbers of pods, instances and claims, for metrics and readiness.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Counts {
    /// Pods whose annotations name a Cloud Map service, or try to.
    pub pods: usize,
    /// Pods with an annotation that could not be read.
    pub malformed_pods: usize,
    /// Instances of services that the registry does not have.
    pub pending_instances: usize,
    /// Instances that the registry refused.
    pub refused_instances: usize,
    /// Pods that claim an instance id that another pod has.
    pub conflicting_claims: usize,
    /// Instances whose changes are queued for the registry.
    pub queued_instances: usize,
}

/// Service that pods name and that the registry does not have.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PendingService {
    /// Id of the service, as the annotations name it.
    pub service: ServiceId,
    /// Number of instances that the service would have of these pods.
    pub instances: usize,
    /// Names of the first few of these pods, as `namespace/name`.
    pub pods: Box<[Arc<str>]>,
}
