//! What can be asked of the registry, one type for each write of the API, and what watchers of a cluster tell it.
//!
//! Values are as the API's constraints leave them: lengths, patterns and enums were checked. What
//! depends on state or on AWS's rules about combinations is checked by the writer.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::model::{
    CustomHealthStatus, DnsRecord, EpochMs, HealthCheck, Instance, NamespaceId, NamespaceKind, OperationId,
    RoutingPolicy, ServiceId, Tags, Uid, service::CustomHealthCheck,
};

use super::{error::RegistryError, state::ServiceState};

/// A change that a client asks for. A `String` named `namespace`, `service` or `resource` holds an id or an ARN.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the fields are the members of the API's operations")]
pub enum Command {
    /// CreateHttpNamespace, CreatePrivateDnsNamespace, CreatePublicDnsNamespace.
    CreateNamespace {
        name: String,
        kind: NamespaceKind,
        creator_request_id: Option<String>,
        description: Option<String>,
        soa_ttl: Option<u32>,
        tags: Tags,
    },
    /// UpdateHttpNamespace, UpdatePrivateDnsNamespace, UpdatePublicDnsNamespace.
    UpdateNamespace {
        namespace: String,
        /// The kind that the operation is for: `HTTP`, `DNS_PRIVATE` or `DNS_PUBLIC`.
        kind: &'static str,
        updater_request_id: Option<String>,
        description: Option<String>,
        soa_ttl: Option<u32>,
    },
    /// DeleteNamespace.
    DeleteNamespace { namespace: String },
    /// CreateService.
    CreateService(Box<CreateService>),
    /// UpdateService.
    UpdateService {
        service: String,
        description: Option<String>,
        /// DnsConfigChange.DnsRecords, when DnsConfig is given.
        dns_records: Option<Vec<DnsRecord>>,
        health_check: Option<HealthCheck>,
    },
    /// DeleteService.
    DeleteService { service: String },
    /// RegisterInstance.
    RegisterInstance {
        service: String,
        instance: String,
        creator_request_id: Option<String>,
        attributes: BTreeMap<String, String>,
    },
    /// DeregisterInstance.
    DeregisterInstance { service: String, instance: String },
    /// UpdateInstanceCustomHealthStatus.
    UpdateCustomHealth {
        service: String,
        instance: String,
        status: CustomHealthStatus,
        /// The client as `explain` shows it: access key id and address.
        reporter: String,
    },
    /// TagResource.
    TagResource { resource: String, tags: Tags },
    /// UntagResource.
    UntagResource { resource: String, keys: Vec<String> },
    /// UpdateServiceAttributes.
    UpdateServiceAttributes { service: String, attributes: BTreeMap<String, String> },
    /// DeleteServiceAttributes.
    DeleteServiceAttributes { service: String, keys: Vec<String> },
    /// Pods that don't exist any more: reports about the instances that they were are deleted.
    WithdrawReport(PodGone),
    /// What a registry elsewhere has: everything of it, the oldest first, in place of what was said before. It is made here
    /// under the ids that it has there, for reading alone, and nothing of it is stored. Each counts by itself: the reply
    /// names those that are refused.
    Shadow(Arc<[Shadowed]>),
    /// What was seen of pods, in order. Each counts by itself: the reply names those that are refused. Nothing of it is
    /// stored.
    Observe(Observed),
    /// Pods were listed anew, and what the list changed is observed: changes in between are not known one by one, so with a
    /// shared store all numbers grow.
    Renumber,
}

/// Observations of pods, and the numbers of their changes.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// In the order in which the pods changed.
    pub observations: Vec<Observation>,
    /// The numbers that services have by now, each once. With a store of one server they are not used.
    pub numbers: Vec<PodNumbers>,
}

impl Observed {
    /// Returns true if nothing was seen, and no number is another.
    pub fn is_empty(&self) -> bool {
        self.observations.is_empty() && self.numbers.is_empty()
    }
}

impl From<Vec<Observation>> for Observed {
    fn from(observations: Vec<Observation>) -> Observed {
        Observed { observations, numbers: Vec::new() }
    }
}

/// The numbers of the last changes of a service's pods, as the cluster has them (`resourceVersion`); 0 for none.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PodNumbers {
    /// The service that the pods are instances of.
    pub service: ServiceId,
    /// That of the last change of the set of instances or their attributes.
    pub revision: u64,
    /// That of the last change of any kind, health included.
    pub contents: u64,
}

/// A pod that does not exist any more, as the instance of a service that it was.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PodGone {
    /// The service that the pod was an instance of.
    pub service: ServiceId,
    /// The id that the pod had in that service.
    pub instance: Box<str>,
    /// The pod's uid. A report about another pod stays.
    pub pod_uid: Uid,
}

/// Kind of a namespace of a registry elsewhere.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum ShadowedKind {
    /// Discovered by DiscoverInstances alone, and not in DNS.
    Http,
    /// In DNS as a private zone; KECS does not say of which VPC.
    #[default]
    DnsPrivate,
    /// In DNS as a public zone.
    DnsPublic,
}

impl ShadowedKind {
    /// True if its names are in DNS.
    pub fn is_dns(self) -> bool {
        self != ShadowedKind::Http
    }
}

/// A service of a registry elsewhere, and the namespace that it is in there.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Shadowed {
    /// The namespace's id. Where services say two ids of one namespace, the oldest service's is taken.
    pub namespace: NamespaceId,
    /// The namespace's name: a zone, unless it is of kind HTTP.
    pub namespace_name: String,
    /// The namespace's kind. Where services say two kinds of one namespace, the oldest service's is taken.
    pub namespace_kind: ShadowedKind,
    /// The service's id.
    pub service: ServiceId,
    /// The service's name in its namespace.
    pub service_name: String,
    /// When it was made there, as far as is known.
    pub created_ms: EpochMs,
}

/// What was seen of one pod as an instance of one service.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Observation {
    /// The service.
    pub service: ServiceId,
    /// What was seen.
    pub seen: Seen,
}

/// What was seen of a pod.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Seen {
    /// It is there; the instance is a watched one.
    Instance(Instance),
    /// The instance of this id is not there any more.
    Gone(Box<str>),
}

impl Seen {
    /// The id of the instance.
    pub fn id(&self) -> &str {
        match self {
            Seen::Instance(instance) => instance.id(),
            Seen::Gone(id) => id,
        }
    }
}

/// CreateService.
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
    /// Type=HTTP was given.
    pub api_only: bool,
}

/// DnsConfig of CreateService.
#[derive(Clone, Debug, Default)]
#[expect(missing_docs, reason = "the fields are the members of the API's structure")]
pub struct CreateDnsConfig {
    /// The deprecated place of the namespace; Terraform uses only this one.
    pub namespace: Option<String>,
    pub routing: Option<RoutingPolicy>,
    pub records: Vec<DnsRecord>,
}

/// What a command that was carried out returns.
#[derive(Clone, Debug)]
pub enum Reply {
    /// The operation that did it; it may have failed, which only GetOperation tells.
    Operation(OperationId),
    /// The service that was created, or that a request with the same token created before.
    Service(Arc<ServiceState>),
    /// Done; there is nothing to say.
    Done,
    /// What was observed is served, but for these.
    Observed(Vec<Refusal>),
    /// What is elsewhere is shadowed, but for these.
    Shadowed {
        /// Those that can't be here.
        refused: Vec<Refusal>,
        /// False when only what had to go first has gone: the same command does the rest.
        is_complete: bool,
    },
}

/// An observation that the registry does not take: the instance is not there, or as the API registered it. Or a service of
/// a registry elsewhere that can't be here.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Refusal {
    /// Its place in the command.
    pub at: usize,
    /// Why.
    pub error: RegistryError,
}
