//! The kind CloudMapNamespace. Name and type cannot be changed, because the id follows from them.

use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::condition::Condition;

/// Settings of the namespace, as CreateHttpNamespace, CreatePrivateDnsNamespace or CreatePublicDnsNamespace takes them.
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
    /// The name that DiscoverInstances takes, which is also the zone's name in a DNS namespace.
    #[schemars(length(min = 1, max = 1024), regex(pattern = "^[!-~]+$"))]
    pub name: String,
    /// The type of the namespace; DNS_PRIVATE and DNS_PUBLIC namespaces have a zone.
    #[serde(rename = "type")]
    pub kind: NamespaceType,
    /// The VPC of a DNS_PRIVATE namespace; it is stored and has no effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub vpc: Option<String>,
    /// A description for people; it has no effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub description: Option<String>,
    /// Properties that only DNS namespaces have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub properties: Option<NamespaceProperties>,
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
pub enum NamespaceType {
    #[serde(rename = "HTTP")]
    Http,
    #[serde(rename = "DNS_PRIVATE")]
    DnsPrivate,
    #[serde(rename = "DNS_PUBLIC")]
    DnsPublic,
}
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NamespaceProperties {
    pub dns_properties: DnsProperties,
}

/// Properties of the zone of a DNS namespace.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DnsProperties {
    pub soa: Soa,
}

/// Properties of the SOA record of the zone.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct Soa {
    /// TTL of negative answers in resolvers' caches, in seconds (RFC 2308).
    #[schemars(range(min = 0, max = 2_147_483_647))]
    pub ttl: u32,
}

/// The state of the namespace, which the servers write.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NamespaceStatus {
    /// The id of the namespace in the Cloud Map API.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The number of the resource's creation, by which lists are ordered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<i64>,
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
