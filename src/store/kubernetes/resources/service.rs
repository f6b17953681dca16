//! The kind CloudMapService. It refers to its namespace by id or by name, so that manifests need no ids.

use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::condition::Condition;
use crate::model::DnsRecordType;

/// Settings of the service, as CreateService takes them.
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
    /// The name of the service in its namespace.
    #[schemars(
        length(min = 1, max = 127),
        regex(
            pattern = "^(\\.|[a-zA-Z0-9_]([a-zA-Z0-9_-]{0,61}[a-zA-Z0-9_])?(\\.[a-zA-Z0-9_]([a-zA-Z0-9_-]{0,61}[a-zA-Z0-9_])?)*)$"
        )
    )]
    pub name: String,
    /// The id of the namespace of the service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub namespace_id: Option<String>,
    /// The name of the namespace of the service, instead of its id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub namespace_name: Option<String>,
    /// `HTTP` for a service that only DiscoverInstances finds, which is also the type of a service without dnsConfig.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    // Without null as a value, for the reason that InstanceStatus gives.
    #[schemars(with = "ServiceType")]
    pub kind: Option<ServiceType>,
    /// A description for people; it has no effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub description: Option<String>,
    /// The DNS records of the service's instances.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dns_config: Option<DnsConfigSpec>,
    /// The health check that Route 53 would run on AWS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health_check_config: Option<HealthCheckSpec>,
    /// If it is there, clients report the health of instances with UpdateInstanceCustomHealthStatus.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health_check_custom_config: Option<CustomHealthCheckSpec>,
    /// The attributes of the service, as UpdateServiceAttributes sets them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(length(max = 1000))]
    pub attributes: BTreeMap<String, String>,
    /// The tags of the resource, as TagResource sets them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(length(max = 1000))]
    pub tags: BTreeMap<String, String>,
    /// The CreatorRequestId of the request that created the resource, by which the servers recognise a repetition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub creator_request_id: Option<String>,
}
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum ServiceType {
    #[serde(rename = "HTTP")]
    Http,
    #[serde(rename = "DNS_HTTP")]
    DnsHttp,
}
#[derive(Clone, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.dnsRecords.all(one, self.dnsRecords.exists_one(other, other.type == one.type))").message("more than one record of the same type"))]
#[x_kube(validation = Rule::new("!has(self.routingPolicy) || self.routingPolicy != 'MULTIVALUE' || !self.dnsRecords.exists(record, record.type == 'CNAME')").message("with a CNAME record the routingPolicy must be WEIGHTED"))]
pub struct DnsConfigSpec {
    /// MULTIVALUE for up to eight instances in an answer, WEIGHTED for one; the default is MULTIVALUE.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    // Without null as a value, for the reason that InstanceStatus gives.
    #[schemars(with = "RoutingPolicyWord")]
    pub routing_policy: Option<RoutingPolicyWord>,
    /// The types and TTLs of the records that each instance gets.
    #[schemars(length(max = 4))]
    pub dns_records: Vec<DnsRecordSpec>,
}

/// The type and TTL of a record of each instance.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct DnsRecordSpec {
    /// The type of a DNS record.
    #[serde(rename = "type", with = "record_type")]
    #[schemars(schema_with = "record_type::schema")]
    pub kind: DnsRecordType,
    /// The TTL of the record, in seconds.
    #[schemars(range(min = 0, max = 2_147_483_647))]
    pub ttl: u32,
}
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum RoutingPolicyWord {
    Multivalue,
    Weighted,
}

/// Record types in objects have the words of the Cloud Map API.
mod record_type {
    use std::borrow::Cow;

    use schemars::{Schema, SchemaGenerator, json_schema};
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::model::DnsRecordType;

    pub(super) fn serialize<S: Serializer>(rtype: &DnsRecordType, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(rtype.as_str())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<DnsRecordType, D::Error> {
        let word = Cow::<str>::deserialize(deserializer)?;
        DnsRecordType::from_word(&word).ok_or_else(|| D::Error::unknown_variant(&word, DnsRecordType::WORDS))
    }

    pub(super) fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "enum": DnsRecordType::WORDS })
    }
}

#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HealthCheckSpec {
    #[serde(rename = "type")]
    pub kind: HealthCheckTypeWord,
    /// The path that the health check requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 255))]
    pub resource_path: Option<String>,
    /// Consecutive results of the health check that change the status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10))]
    pub failure_threshold: Option<u8>,
}

/// The protocol of a health check.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum HealthCheckTypeWord {
    Http,
    Https,
    Tcp,
}
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CustomHealthCheckSpec {
    /// Stored without effect, because AWS always uses 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10))]
    pub failure_threshold: Option<u8>,
}

/// The state of the service, which the servers write.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceStatus {
    /// The id of the service in the Cloud Map API.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The id of the namespace of the service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace_id: Option<String>,
    /// `DNS_HTTP` if instances are found in DNS and with DiscoverInstances, `HTTP` if only with the latter.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// The types of the records with their TTLs in seconds, such as `A/60,SRV/60`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub records: Option<String>,
    /// The DNS name of the service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Healthy instances of all, such as `3/4`, including the instances of pods, which are healthy while the pod is ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<String>,
    /// The number of the resource's creation, by which lists are ordered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<i64>,
    /// The number of the last change of the set of instances, which DiscoverInstancesRevision returns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instances_revision: Option<i64>,
    /// The time of creation in milliseconds since 1970, if it is before that of this object, as after an import.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub create_date_ms: Option<i64>,
    /// The generation of the spec to which this status belongs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The condition `Accepted`: `True` if the servers use the object, otherwise with the reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}
