//! Numbers and lists of the index, for metrics and readiness.

use std::sync::Arc;

use crate::model::ServiceId;

/// Numbers of pods, instances and claims, for metrics and readiness.
///
/// `pods` have annotations that name a Cloud Map service, or try to; those of `malformed_pods` could not be read.
/// Instances are pending while the registry does not have their service, refused if the registry rejected them, and
/// queued while their changes wait to be sent. Conflicting claims are those of pods to an instance id that another
/// pod has.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[expect(missing_docs, reason = "the type's document explains the fields")]
pub struct Counts {
    pub pods: usize,
    pub malformed_pods: usize,
    pub pending_instances: usize,
    pub refused_instances: usize,
    pub conflicting_claims: usize,
    pub queued_instances: usize,
}

/// Service that pods name and that the registry does not have, with the number of instances that these pods would
/// be. `pods` are the names of the first few of them, as `namespace/name`.
#[derive(Clone, Debug, Eq, PartialEq)]
#[expect(missing_docs, reason = "the type's document explains the fields")]
pub struct PendingService {
    pub service: ServiceId,
    pub instances: usize,
    pub pods: Box<[Arc<str>]>,
}
