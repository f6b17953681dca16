//! Commands of the registry: one for each write operation of the API, and those of the watches of a cluster.
//!
//! The API has already checked lengths, patterns and enums of the values. The writer checks everything that depends on the
//! state or on AWS's rules about combinations.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::model::{
    CustomHealthStatus, DnsRecord, EpochMs, HealthCheck, Instance, NamespaceId, NamespaceKind, OperationId,
    RoutingPolicy, ServiceId, Tags, Uid, service::CustomHealthCheck,
};

use super::{error::RegistryError, state::ServiceState};

/// A change that a client or a watch requests. Variants without a description are the API's operations of that name, where
/// the operations on namespaces have one variant for all kinds. A `String` named `namespace`, `service` or `resource` holds
/// an id or an ARN.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the variants and their fields are the API's operations and their members")]
pub enum Command {
    CreateNamespace {
        name: String,
        kind: NamespaceKind,
        creator_request_id: Option<String>,
        description: Option<String>,
        soa_ttl: Option<u32>,
        tags: Tags,
    },
    UpdateNamespace {
        namespace: String,
        /// Kind of namespace that the operation applies to: `HTTP`, `DNS_PRIVATE` or `DNS_PUBLIC`.
        kind: &'static str,
        updater_request_id: Option<String>,
        description: Option<String>,
        soa_ttl: Option<u32>,
    },
    DeleteNamespace {
        namespace: String,
    },
    CreateService(Box<CreateService>),
    UpdateService {
        service: String,
        description: Option<String>,
        /// `DnsConfig.DnsRecords` of the ServiceChange; `None` if it has no DnsConfig.
        dns_records: Option<Vec<DnsRecord>>,
        health_check: Option<HealthCheck>,
    },
    DeleteService {
        service: String,
    },
    RegisterInstance {
        service: String,
        instance: String,
        creator_request_id: Option<String>,
        attributes: BTreeMap<String, String>,
    },
    DeregisterInstance {
        service: String,
        instance: String,
    },
    /// UpdateInstanceCustomHealthStatus; for a pod it is stored as a report with the pod's uid.
    UpdateCustomHealth {
        service: String,
        instance: String,
        status: CustomHealthStatus,
        /// Access key id and address of the client, for `explain`.
        reporter: String,
    },
    TagResource {
        resource: String,
        tags: Tags,
    },
    UntagResource {
        resource: String,
        keys: Vec<String>,
    },
    UpdateServiceAttributes {
        service: String,
        attributes: BTreeMap<String, String>,
    },
    DeleteServiceAttributes {
        service: String,
        keys: Vec<String>,
    },
    /// Puts an instance into maintenance, or lifts it.
    SetMaintenance {
        service: String,
        instance: String,
        /// Reason of the operator, at most [`REASON_BYTES_MAX`](crate::model::signals::REASON_BYTES_MAX) bytes; `None`
        /// lifts the maintenance.
        reason: Option<String>,
        /// Address of the client, for `explain`.
        operator: String,
    },
    /// Sets or withdraws the report of a system that is not a client of the Cloud Map API.
    ReportHealth {
        service: String,
        instance: String,
        source: String,
        /// `None` withdraws the report of this source.
        report: Option<ExternalReport>,
    },
    /// Stores what time alone has changed about an instance (see [`crate::registry::health::Elapsed`]). Its caller is the one
    /// server that runs the timers.
    Elapse {
        service: ServiceId,
        instance: Box<str>,
    },
    /// Deletes the stored signals about a pod that does not exist any more.
    WithdrawSignals(PodGone),
    /// Replaces all shadowed resources by this complete list of another registry's services, the oldest first. They keep
    /// their ids, are read-only and are not stored. One that is refused does not affect the others: the reply lists the
    /// refusals.
    Shadow(Arc<[Shadowed]>),
    /// Applies observations of pods, in order, without storing them. One that is refused does not affect the others: the
    /// reply lists the refusals.
    Observe(Observed),
    /// Reports that a relist of pods has been applied. The single changes between the watch's interruption and the relist
    /// are unknown, so a shared store renumbers everything.
    Renumber,
}

/// Report of a system that is not a client of the Cloud Map API. The reason has at most
/// [`REASON_BYTES_MAX`](crate::model::signals::REASON_BYTES_MAX) bytes. It is withdrawn after `valid_ms`.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the type's document explains the fields")]
pub struct ExternalReport {
    pub status: CustomHealthStatus,
    pub reason: String,
    pub reporter: String,
    pub valid_ms: Option<EpochMs>,
}

/// Observations of pods in the order in which the pods changed, and the current numbers of services, each service once. A
/// store of one server does not use the numbers.
#[derive(Clone, Debug, Default)]
#[expect(missing_docs, reason = "the fields are explained by the type's document")]
pub struct Observed {
    pub observations: Vec<Observation>,
    pub numbers: Vec<PodNumbers>,
}

impl Observed {
    /// Returns true if there is neither an observation nor a number.
    pub fn is_empty(&self) -> bool {
        self.observations.is_empty() && self.numbers.is_empty()
    }
}

impl From<Vec<Observation>> for Observed {
    fn from(observations: Vec<Observation>) -> Observed {
        Observed { observations, numbers: Vec::new() }
    }
}

/// The cluster's numbers (`resourceVersion`) of the last changes of a service's pods, or 0 if there was none. The revision
/// is that of the set of instances and their attributes; `contents` includes changes of health.
#[derive(Clone, Debug, Eq, PartialEq)]
#[expect(missing_docs, reason = "the fields are explained by the type's document")]
pub struct PodNumbers {
    pub service: ServiceId,
    pub revision: u64,
    pub contents: u64,
}

/// A pod that does not exist any more, with the service and the id of the instance that it was. Signals about another pod
/// with this instance id are recognised by their uid, and kept.
#[derive(Clone, Debug, Eq, PartialEq)]
#[expect(missing_docs, reason = "the fields are explained by the type's document")]
pub struct PodGone {
    pub service: ServiceId,
    pub instance: Box<str>,
    pub pod_uid: Uid,
}

/// Kind of a namespace in the other registry, as in the API. KECS does not report the VPC of a private namespace.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
#[expect(missing_docs, reason = "the variants are the kinds of the API")]
pub enum ShadowedKind {
    Http,
    #[default]
    DnsPrivate,
    DnsPublic,
}

impl ShadowedKind {
    /// Returns true if the namespace has a zone in DNS.
    pub fn is_dns(self) -> bool {
        self != ShadowedKind::Http
    }
}

/// A service of another registry, with the namespace that contains it there. Both keep their ids in this registry. If
/// services disagree about the id or kind of a namespace, those of the oldest service apply. The name of the namespace is
/// also its zone, unless the kind is HTTP.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
#[expect(missing_docs, reason = "the fields are explained by the type's document")]
pub struct Shadowed {
    pub namespace: NamespaceId,
    pub namespace_name: String,
    pub namespace_kind: ShadowedKind,
    pub service: ServiceId,
    pub service_name: String,
    /// Time of its creation in the other registry, as far as it is known.
    pub created_ms: EpochMs,
}

/// Observed state of one pod that is, or was, an instance of one service.
#[derive(Clone, Debug, Eq, PartialEq)]
#[expect(missing_docs, reason = "the fields are explained by the type's document")]
pub struct Observation {
    pub service: ServiceId,
    pub seen: Seen,
}

/// State in which a pod was observed: it exists as a watched instance, or the pod that was the instance of this id does not
/// exist any more.
#[derive(Clone, Debug, Eq, PartialEq)]
#[expect(missing_docs, reason = "the variants are explained by the enum's document")]
pub enum Seen {
    Instance(Instance),
    Gone(Box<str>),
}

impl Seen {
    /// Id of the instance, whether the pod exists or not.
    pub fn id(&self) -> &str {
        match self {
            Seen::Instance(instance) => instance.id(),
            Seen::Gone(id) => id,
        }
    }
}

/// Input of CreateService, as the API has parsed it.
#[derive(Clone, Debug, Default)]
#[expect(missing_docs, reason = "the fields are the members of the API's operation")]
pub struct CreateService {
    pub name: String,
    pub namespace: Option<String>,
    pub creator_request_id: Option<String>,
    pub description: Option<String>,
    pub dns: Option<CreateDnsConfig>,
    pub health_check: Option<HealthCheck>,
    pub custom_health_check: Option<CustomHealthCheck>,
    pub tags: Tags,
    /// True if the request has `Type=HTTP`: the service is found by DiscoverInstances only.
    pub api_only: bool,
}

/// The member DnsConfig of a CreateService request.
#[derive(Clone, Debug, Default)]
#[expect(missing_docs, reason = "the fields are the members of the API's structure")]
pub struct CreateDnsConfig {
    /// Deprecated member for the namespace's id, and the only one that Terraform sends.
    pub namespace: Option<String>,
    pub routing: Option<RoutingPolicy>,
    pub records: Vec<DnsRecord>,
}

/// Successful result of a command. Observations and shadowed services are served except for the refusals that it contains.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the variants without a document are explained by that of the enum")]
pub enum Reply {
    /// The operation that the command started. It may have failed, which only GetOperation reports.
    Operation(OperationId),
    /// The service that was created now, or earlier by a request with the same CreatorRequestId.
    Service(Arc<ServiceState>),
    Done,
    Observed(Vec<Refusal>),
    Shadowed {
        /// Services that conflict with a stored resource or with an older service, are invalid, or exceed a quota.
        refused: Vec<Refusal>,
        /// False if this command only removed obsolete resources. The sender repeats it to add the rest.
        is_complete: bool,
    },
}

/// An item of [`Command::Observe`] or [`Command::Shadow`] that was refused, by its index in the command's list. A refused
/// pod is not an instance; an instance that the API registered under its id remains.
#[derive(Clone, Debug, Eq, PartialEq)]
#[expect(missing_docs, reason = "the fields are explained by the type's document")]
pub struct Refusal {
    pub at: usize,
    pub error: RegistryError,
}
