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

/// A change that a client or a watch requests. Variants without a description are the API's operations of that name. A
/// `String` named `namespace`, `service` or `resource` holds an id or an ARN.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the variants and their fields are the API's operations and their members")]
pub enum Command {
    /// CreateHttpNamespace, CreatePrivateDnsNamespace or CreatePublicDnsNamespace, according to `kind`.
    CreateNamespace {
        name: String,
        kind: NamespaceKind,
        creator_request_id: Option<String>,
        description: Option<String>,
        soa_ttl: Option<u32>,
        tags: Tags,
    },
    /// UpdateHttpNamespace, UpdatePrivateDnsNamespace or UpdatePublicDnsNamespace, according to `kind`.
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
        /// `DnsConfig.DnsRecords` of the ServiceChange; `None` leaves the records unchanged.
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
    /// Deletes the health report about a pod that does not exist any more.
    WithdrawReport(PodGone),
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

/// Observations of pods, and the numbers of their changes.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// Observations in the order in which the pods changed.
    pub observations: Vec<Observation>,
    /// Current numbers of services, each service once. A store of one server does not use them.
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

/// The cluster's numbers (`resourceVersion`) of the last changes of a service's pods; 0 if there was none.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PodNumbers {
    /// Service that the pods are instances of.
    pub service: ServiceId,
    /// Number of the last change of the set of instances or their attributes.
    pub revision: u64,
    /// Number of the last change of any kind, health included.
    pub contents: u64,
}

/// A pod that does not exist any more and was an instance of a service.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PodGone {
    /// Service that the pod was an instance of.
    pub service: ServiceId,
    /// Id that the instance had in that service.
    pub instance: Box<str>,
    /// Uid of the pod. A report about another pod with this instance id is kept.
    pub pod_uid: Uid,
}

/// Kind of a namespace in the other registry.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum ShadowedKind {
    /// Found by DiscoverInstances only; it has no zone in DNS.
    Http,
    /// Has a private zone in DNS. KECS does not report its VPC.
    #[default]
    DnsPrivate,
    /// Has a public zone in DNS, as a namespace of CreatePublicDnsNamespace.
    DnsPublic,
}

impl ShadowedKind {
    /// Returns true if the namespace has a zone in DNS.
    pub fn is_dns(self) -> bool {
        self != ShadowedKind::Http
    }
}

/// A service of another registry, with the namespace that contains it there.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Shadowed {
    /// Id of the namespace. If services disagree about it, the oldest service's id applies.
    pub namespace: NamespaceId,
    /// Name of the namespace, which is also its zone unless the kind is HTTP.
    pub namespace_name: String,
    /// Kind of the namespace. If services disagree about it, the oldest service's kind applies.
    pub namespace_kind: ShadowedKind,
    /// Id of the service, which it keeps in this registry.
    pub service: ServiceId,
    /// Name of the service within its namespace.
    pub service_name: String,
    /// Time of its creation in the other registry, as far as it is known.
    pub created_ms: EpochMs,
}

/// Observed state of one pod as an instance of one service.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Observation {
    /// Service that the pod is, or was, an instance of.
    pub service: ServiceId,
    /// State of the pod when it was observed.
    pub seen: Seen,
}

/// State in which a pod was observed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Seen {
    /// The pod exists, as this watched instance.
    Instance(Instance),
    /// The pod that was the instance of this id does not exist any more.
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

/// Successful result of a command.
#[derive(Clone, Debug)]
pub enum Reply {
    /// The operation that the command started. It may have failed, which only GetOperation reports.
    Operation(OperationId),
    /// The service that was created now, or earlier by a request with the same CreatorRequestId.
    Service(Arc<ServiceState>),
    /// The command succeeded and has no result.
    Done,
    /// All observations are served except these.
    Observed(Vec<Refusal>),
    /// The other registry's services are shadowed, with exceptions.
    Shadowed {
        /// Services that conflict with a stored resource or with an older service, are invalid, or exceed a quota.
        refused: Vec<Refusal>,
        /// False if this command only removed obsolete resources. The sender repeats it to add the rest.
        is_complete: bool,
    },
}

/// An item of [`Command::Observe`] or [`Command::Shadow`] that was refused. A refused pod is not an instance; an instance
/// that the API registered under its id stays.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Refusal {
    /// Index of the item in the command's list.
    pub at: usize,
    /// The reason, as an error of the API.
    pub error: RegistryError,
}
