//! AWS Cloud Map as plain data: ids, ARNs, namespaces, services, instances, attributes, health, operations.
//!
//! Everything else is built on these types; they do no I/O and know neither AWS's JSON nor DNS's wire form.
//! Sources: the Cloud Map API reference, version 2017-03-14.

pub mod health;
pub mod id;
pub mod instance;
pub mod namespace;
pub mod operation;
pub mod origin;
pub mod pod;
#[cfg(test)]
pub(crate) mod samples;
pub mod service;
pub mod signals;
mod uuid;

pub use health::{CustomHealthStatus, HealthStatus, Readiness};
pub use id::{Identity, NamespaceId, OperationId, ServiceId};
pub use instance::{Attributes, Instance, ObservedPod, PodDetails, PodTimes, ReadinessSince};
pub use namespace::{Namespace, NamespaceKind};
pub use operation::{Operation, OperationKey, OperationStatus, OperationTargets, OperationType};
pub use origin::Origin;
pub use pod::Uid;
pub use service::{
    DnsConfig, DnsRecord, DnsRecordType, HealthCheck, HealthCheckType, RoutingPolicy, Service,
};
pub use signals::{
    ConfirmedReadiness, Maintenance, PendingReport, PodSignals, Report, Signals, SourceReport,
};

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

/// Tags of a namespace or service: values by key.
pub type Tags = BTreeMap<String, String>;

/// A time in milliseconds since 1970-01-01T00:00:00Z.
pub type EpochMs = i64;

/// The wall-clock time; 0 if the clock is set before 1970.
pub fn now_ms() -> EpochMs {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| EpochMs::try_from(since.as_millis()).unwrap_or(EpochMs::MAX))
}
