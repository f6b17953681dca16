//! The custom resources: what an object of each kind holds, and what the API server checks by itself.
//!
//! `deploy/helm/cloudmap-dns/crds/` is made from these types, and a test keeps it equal. A spec holds what a user says,
//! under Cloud Map's names; a status holds what became of it. Numbers in a status are kept there because etcd's own
//! number of an object moves with every write.

// What the derives make has no documentation of its own.
#![expect(
    missing_docs,
    unreachable_pub,
    clippy::duplicated_attributes,
    reason = "what kube's derive makes has neither documentation nor our visibility, and its columns repeat their type"
)]

use std::collections::BTreeMap;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{CustomResource, CustomResourceExt, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The group of all kinds.
pub const GROUP: &str = "cloudmap-dns.io";

/// A Cloud Map namespace.
#[derive(Clone, CustomResource, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[kube(
    group = "cloudmap-dns.io",
    version = "v1alpha1",
    kind = "CloudMapNamespace",
    namespaced,
    status = "NamespaceStatus",
    derive = "PartialEq",
    shortname = "cmns",
    category = "cloudmap",
    doc = "A Cloud Map namespace: a zone, or a set of names that only DiscoverInstances finds.",
    selectable = ".spec.name",
    selectable = ".spec.type",
    printcolumn(name = "Name", type_ = "string", json_path = ".spec.name"),
    printcolumn(name = "Type", type_ = "string", json_path = ".spec.type"),
    printcolumn(
        name = "Accepted",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Accepted\")].status"
    ),
    printcolumn(name = "Id", type_ = "string", json_path = ".status.id"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(
        name = "Reason",
        type_ = "string",
        priority = 1,
        json_path = ".status.conditions[?(@.type==\"Accepted\")].reason"
    )
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.name == oldSelf.name && self.type == oldSelf.type").message("name and type cannot be changed"))]
#[x_kube(validation = Rule::new("self.type == 'DNS_PRIVATE' || !has(self.vpc)").message("vpc is for DNS_PRIVATE alone"))]
#[x_kube(validation = Rule::new("self.type != 'HTTP' || !has(self.properties)").message("properties are for DNS namespaces alone"))]
pub struct NamespaceSpec {
    /// The zone's name, or the name that DiscoverInstances takes.
    #[schemars(length(min = 1, max = 1024), regex(pattern = "^[!-~]+$"))]
    pub name: String,
    /// What kind of namespace it is.
    #[serde(rename = "type")]
    pub kind: NamespaceType,
    /// The VPC of a private namespace; opaque here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub vpc: Option<String>,
    /// Free text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub description: Option<String>,
    /// What is particular to DNS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub properties: Option<NamespaceProperties>,
    /// Its tags.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(length(max = 1000))]
    pub tags: BTreeMap<String, String>,
    /// The idempotency token of the creating request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub creator_request_id: Option<String>,
}

/// The types of a namespace.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum NamespaceType {
    #[serde(rename = "HTTP")]
    Http,
    #[serde(rename = "DNS_PRIVATE")]
    DnsPrivate,
    #[serde(rename = "DNS_PUBLIC")]
    DnsPublic,
}

/// Properties of a DNS namespace.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NamespaceProperties {
    pub dns_properties: DnsProperties,
}

/// DNS properties of a namespace.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DnsProperties {
    pub soa: Soa,
}

/// The SOA record of a namespace's zone.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct Soa {
    /// Seconds that resolvers keep a negative answer.
    #[schemars(range(min = 0, max = 2_147_483_647))]
    pub ttl: u32,
}

/// What became of a namespace.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NamespaceStatus {
    /// The namespace's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The number of its creation: its place in lists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<i64>,
    /// When it was created, in milliseconds since 1970, where that was before this object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub create_date_ms: Option<i64>,
    /// The generation of the spec that this is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Accepted`: whether it stands.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

/// A Cloud Map service.
#[derive(Clone, CustomResource, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[kube(
    group = "cloudmap-dns.io",
    version = "v1alpha1",
    kind = "CloudMapService",
    namespaced,
    status = "ServiceStatus",
    derive = "PartialEq",
    shortname = "cmsvc",
    category = "cloudmap",
    doc = "A Cloud Map service: a name in a namespace, and the records that each of its instances gets.",
    selectable = ".spec.namespaceId",
    selectable = ".spec.name",
    printcolumn(name = "Type", type_ = "string", json_path = ".status.type"),
    printcolumn(name = "Routing", type_ = "string", json_path = ".spec.dnsConfig.routingPolicy"),
    printcolumn(name = "Records", type_ = "string", json_path = ".status.records"),
    printcolumn(name = "Address", type_ = "string", json_path = ".status.address"),
    printcolumn(name = "Health", type_ = "string", json_path = ".status.health"),
    printcolumn(
        name = "Accepted",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Accepted\")].status"
    ),
    printcolumn(name = "Id", type_ = "string", json_path = ".status.id"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Namespace-Id", type_ = "string", priority = 1, json_path = ".status.namespaceId"),
    printcolumn(
        name = "Reason",
        type_ = "string",
        priority = 1,
        json_path = ".status.conditions[?(@.type==\"Accepted\")].reason"
    )
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.name == oldSelf.name").message("name cannot be changed"))]
#[x_kube(validation = Rule::new("has(self.namespaceId) != has(self.namespaceName)").message("exactly one of namespaceId and namespaceName is needed"))]
#[x_kube(validation = Rule::new("!(has(self.healthCheckConfig) && has(self.healthCheckCustomConfig))").message("healthCheckConfig or healthCheckCustomConfig, but not both"))]
#[x_kube(validation = Rule::new("!has(self.type) || self.type != 'HTTP' || !has(self.dnsConfig)").message("a service of type HTTP has no dnsConfig"))]
pub struct ServiceSpec {
    /// Its name in the namespace.
    #[schemars(
        length(min = 1, max = 127),
        regex(
            pattern = "^(\\.|[a-zA-Z0-9_]([a-zA-Z0-9_-]{0,61}[a-zA-Z0-9_])?(\\.[a-zA-Z0-9_]([a-zA-Z0-9_-]{0,61}[a-zA-Z0-9_])?)*)$"
        )
    )]
    pub name: String,
    /// The id of the namespace that it is in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub namespace_id: Option<String>,
    /// The name of the namespace that it is in, in place of its id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub namespace_name: Option<String>,
    /// `HTTP` for a service that only DiscoverInstances finds; what a service without dnsConfig is anyway.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    // As of the status of an instance.
    #[schemars(with = "ServiceType")]
    pub kind: Option<ServiceType>,
    /// Free text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub description: Option<String>,
    /// How it stands in DNS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dns_config: Option<DnsConfigSpec>,
    /// The check that AWS would run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health_check_config: Option<HealthCheckSpec>,
    /// That clients report health themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health_check_custom_config: Option<CustomHealthCheckSpec>,
    /// Its service attributes.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(length(max = 1000))]
    pub attributes: BTreeMap<String, String>,
    /// Its tags.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(length(max = 1000))]
    pub tags: BTreeMap<String, String>,
    /// The idempotency token of the creating request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub creator_request_id: Option<String>,
}

/// The types of a service that can be said.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum ServiceType {
    #[serde(rename = "HTTP")]
    Http,
    #[serde(rename = "DNS_HTTP")]
    DnsHttp,
}

/// DnsConfig of a service.
#[derive(Clone, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.dnsRecords.all(one, self.dnsRecords.exists_one(other, other.type == one.type))").message("more than one record of the same type"))]
#[x_kube(validation = Rule::new("!has(self.routingPolicy) || self.routingPolicy != 'MULTIVALUE' || !self.dnsRecords.exists(record, record.type == 'CNAME')").message("with a CNAME record the routingPolicy must be WEIGHTED"))]
pub struct DnsConfigSpec {
    /// How many instances an answer names: up to eight, or one. MULTIVALUE if it is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    // As of the status of an instance.
    #[schemars(with = "RoutingPolicyWord")]
    pub routing_policy: Option<RoutingPolicyWord>,
    /// The records that each instance gets.
    #[schemars(length(max = 4))]
    pub dns_records: Vec<DnsRecordSpec>,
}

/// A record of a service.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct DnsRecordSpec {
    #[serde(rename = "type")]
    pub kind: RecordTypeWord,
    /// Seconds.
    #[schemars(range(min = 0, max = 2_147_483_647))]
    pub ttl: u32,
}

/// The routing policies.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum RoutingPolicyWord {
    Multivalue,
    Weighted,
}

/// The record types.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum RecordTypeWord {
    Srv,
    A,
    Aaaa,
    Cname,
}

/// HealthCheckConfig of a service.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HealthCheckSpec {
    #[serde(rename = "type")]
    pub kind: HealthCheckTypeWord,
    /// The path to ask for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 255))]
    pub resource_path: Option<String>,
    /// Results in a row that change the status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10))]
    pub failure_threshold: Option<u8>,
}

/// The protocols of health checks.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum HealthCheckTypeWord {
    Http,
    Https,
    Tcp,
}

/// HealthCheckCustomConfig of a service.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CustomHealthCheckSpec {
    /// Without effect, as on AWS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10))]
    pub failure_threshold: Option<u8>,
}

/// What became of a service.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceStatus {
    /// The service's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Its namespace's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace_id: Option<String>,
    /// `DNS_HTTP` or `HTTP`.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// The records with their TTLs in seconds, such as `A/60,SRV/60`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub records: Option<String>,
    /// Its name in DNS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Instances of the service that are healthy, of how many, those of pods included; a pod is healthy once it is ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<String>,
    /// The number of its creation: its place in lists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<i64>,
    /// The number of the last change of its set of instances; what DiscoverInstancesRevision answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instances_revision: Option<i64>,
    /// When it was created, in milliseconds since 1970, where that was before this object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub create_date_ms: Option<i64>,
    /// The generation of the spec that this is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Accepted`: whether it stands.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

/// An instance of a Cloud Map service.
#[derive(Clone, CustomResource, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[kube(
    group = "cloudmap-dns.io",
    version = "v1alpha1",
    kind = "CloudMapInstance",
    namespaced,
    status = "InstanceStatus",
    derive = "PartialEq",
    shortname = "cmi",
    category = "cloudmap",
    doc = "An instance of a Cloud Map service: where it is, and what else is said of it.",
    selectable = ".spec.serviceId",
    selectable = ".spec.instanceId",
    printcolumn(name = "Instance", type_ = "string", json_path = ".spec.instanceId"),
    printcolumn(name = "IPv4", type_ = "string", json_path = ".spec.attributes.AWS_INSTANCE_IPV4"),
    printcolumn(name = "Port", type_ = "string", json_path = ".spec.attributes.AWS_INSTANCE_PORT"),
    printcolumn(name = "Health", type_ = "string", json_path = ".status.customHealthStatus"),
    printcolumn(
        name = "Refused",
        type_ = "string",
        json_path = ".status.conditions[?(@.status==\"False\")].reason"
    ),
    printcolumn(name = "Service-Id", type_ = "string", json_path = ".spec.serviceId"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(
        name = "IPv6",
        type_ = "string",
        priority = 1,
        json_path = ".spec.attributes.AWS_INSTANCE_IPV6"
    )
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.instanceId == oldSelf.instanceId").message("instanceId cannot be changed"))]
#[x_kube(validation = Rule::new("has(self.serviceId) ? !has(self.serviceName) && !has(self.namespaceName) : has(self.serviceName) && has(self.namespaceName)").message("either serviceId, or serviceName and namespaceName, are needed"))]
pub struct InstanceSpec {
    /// Unique in its service.
    #[schemars(length(min = 1, max = 64), regex(pattern = "^[0-9a-zA-Z_/:.@-]+$"))]
    pub instance_id: String,
    /// The id of its service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub service_id: Option<String>,
    /// The name of its service, in place of the id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 127))]
    pub service_name: Option<String>,
    /// The name of the namespace of the service named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub namespace_name: Option<String>,
    /// Where it is (`AWS_INSTANCE_IPV4`, ...) and what else is said of it.
    #[serde(default)]
    #[schemars(length(max = 1100))]
    pub attributes: BTreeMap<String, String>,
    /// The idempotency token of the registering request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub creator_request_id: Option<String>,
}

/// What became of an instance.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct InstanceStatus {
    /// What was last reported of its health: `HEALTHY` or `UNHEALTHY`.
    // The schema of an option would list null as a value, which kubectl takes for a broken definition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "CustomHealthWord")]
    pub custom_health_status: Option<CustomHealthWord>,
    /// The number of the last change of the spec, where the object was written since for other reasons.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<i64>,
    /// The generation of the spec that this is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Accepted`: whether it stands; only where it does not, or did not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

/// What clients report.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum CustomHealthWord {
    Healthy,
    Unhealthy,
}

/// An operation of the API that is done.
#[derive(Clone, CustomResource, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[kube(
    group = "cloudmap-dns.io",
    version = "v1alpha1",
    kind = "CloudMapOperation",
    namespaced,
    derive = "PartialEq",
    shortname = "cmop",
    doc = "An operation of the Cloud Map API that is done; the servers write and remove these.",
    selectable = ".spec.serviceId",
    selectable = ".spec.status",
    printcolumn(name = "Type", type_ = "string", json_path = ".spec.type"),
    printcolumn(name = "Status", type_ = "string", json_path = ".spec.status"),
    printcolumn(name = "Service-Id", type_ = "string", json_path = ".spec.serviceId"),
    printcolumn(name = "Instance", type_ = "string", json_path = ".spec.instanceId"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self == oldSelf").message("an operation cannot be changed"))]
pub struct OperationSpec {
    /// The number of the change that it made; the object's own number where it made none that has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<i64>,
    /// What was done: `CREATE_NAMESPACE`, ...
    #[serde(rename = "type")]
    #[schemars(length(max = 64))]
    pub kind: String,
    /// `SUCCESS` or `FAIL`.
    #[schemars(length(max = 16))]
    pub status: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub error_code: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub error_message: Option<String>,
    #[schemars(length(max = 64))]
    pub namespace_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub service_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub instance_id: Option<String>,
    /// In milliseconds since 1970.
    pub create_date_ms: i64,
    /// In milliseconds since 1970.
    pub update_date_ms: i64,
}

/// A health status that a client reported for the instance of a pod.
#[derive(Clone, CustomResource, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[kube(
    group = "cloudmap-dns.io",
    version = "v1alpha1",
    kind = "CloudMapHealthReport",
    namespaced,
    derive = "PartialEq",
    shortname = "cmhr",
    category = "cloudmap",
    doc = "A health status that a client reported for the instance of a pod; the servers write and remove these.",
    selectable = ".spec.serviceId",
    printcolumn(name = "Instance", type_ = "string", json_path = ".spec.instanceId"),
    printcolumn(name = "Status", type_ = "string", json_path = ".spec.status"),
    printcolumn(name = "Pod", type_ = "string", json_path = ".spec.pod"),
    printcolumn(name = "Reporter", type_ = "string", json_path = ".spec.reporter"),
    printcolumn(name = "Service-Id", type_ = "string", json_path = ".spec.serviceId"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.serviceId == oldSelf.serviceId && self.instanceId == oldSelf.instanceId").message("serviceId and instanceId cannot be changed"))]
pub struct HealthReportSpec {
    /// The id of the instance's service.
    #[schemars(length(min = 1, max = 64))]
    pub service_id: String,
    /// The instance's id.
    #[schemars(length(min = 1, max = 64))]
    pub instance_id: String,
    /// The Kubernetes namespace and the name of the pod that the instance is, separated by a slash.
    #[schemars(length(max = 512))]
    pub pod: String,
    /// The pod's uid. A pod of another uid has no part in the report.
    #[schemars(length(min = 1, max = 64))]
    pub pod_uid: String,
    /// The status that was reported.
    pub status: CustomHealthWord,
    /// The client that reported it.
    #[serde(default)]
    #[schemars(length(max = 256))]
    pub reporter: String,
    /// The time of the report, in milliseconds since 1970.
    pub report_date_ms: i64,
}

/// What holds for the store as a whole.
#[derive(Clone, CustomResource, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[kube(
    group = "cloudmap-dns.io",
    version = "v1alpha1",
    kind = "CloudMapStore",
    namespaced,
    derive = "PartialEq",
    doc = "What holds for all objects of a Kubernetes namespace; `cloudmap-dns import` writes it.",
    printcolumn(name = "Offset", type_ = "integer", json_path = ".spec.numberOffset")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.numberOffset >= oldSelf.numberOffset").message("numberOffset cannot go back"))]
pub struct StoreSpec {
    /// What is added to etcd's numbers, so that they follow those of a store that was imported.
    #[schemars(range(min = 0, max = 4_503_599_627_370_496i64))]
    pub number_offset: i64,
}

/// A condition as Kubernetes' own kinds have them.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// `Accepted`.
    #[serde(rename = "type")]
    pub kind: String,
    /// `True` or `False`.
    pub status: String,
    /// One word.
    pub reason: String,
    /// For people.
    pub message: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// When the status became what it is.
    #[schemars(extend("format" = "date-time"))]
    pub last_transition_time: String,
}

/// The definitions of all kinds, as an operator applies them, with the names of their files.
pub fn definitions() -> Vec<(&'static str, CustomResourceDefinition)> {
    vec![
        ("cloudmapnamespaces.yaml", CloudMapNamespace::crd()),
        ("cloudmapservices.yaml", CloudMapService::crd()),
        ("cloudmapinstances.yaml", CloudMapInstance::crd()),
        ("cloudmapoperations.yaml", CloudMapOperation::crd()),
        ("cloudmaphealthreports.yaml", CloudMapHealthReport::crd()),
        ("cloudmapstores.yaml", CloudMapStore::crd()),
    ]
}
