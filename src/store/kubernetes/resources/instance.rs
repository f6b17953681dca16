//! The kind CloudMapInstance. Most instances have no status, because each write of one costs as much as a registration.

use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::condition::Condition;
use super::signals::SignalFields;

/// Settings of the instance, as RegisterInstance takes them.
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
    doc = "An instance of a Cloud Map service, with its addresses, port and custom attributes.",
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
    /// The id of the instance, which is unique in its service.
    #[schemars(length(min = 1, max = 64), regex(pattern = "^[0-9a-zA-Z_/:.@-]+$"))]
    pub instance_id: String,
    /// The id of the service of the instance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub service_id: Option<String>,
    /// The name of the service of the instance, instead of its id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 127))]
    pub service_name: Option<String>,
    /// The name of the namespace of that service; only with serviceName.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub namespace_name: Option<String>,
    /// Attributes of the instance: addresses and port (`AWS_INSTANCE_IPV4`, ...) and custom attributes.
    #[serde(default)]
    #[schemars(length(max = 1100))]
    pub attributes: BTreeMap<String, String>,
    /// The CreatorRequestId of the last RegisterInstance request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub creator_request_id: Option<String>,
}

/// The state of the instance, which the servers write only if there is something to report.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct InstanceStatus {
    /// The health that was last reported for the instance: `HEALTHY` or `UNHEALTHY`.
    // The schema of an `Option` of an enum would list null as a value, which kubectl reports as an invalid definition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "CustomHealthWord")]
    pub custom_health_status: Option<CustomHealthWord>,
    /// The sources of the instance's health, and orders about it; only if there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "SignalFields")]
    pub signals: Option<SignalFields>,
    /// The number of the last change of the spec, if something else of the object was written afterwards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<i64>,
    /// The generation of the spec to which this status belongs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The condition `Accepted`; only if the object is or was rejected, or does not get its DNS name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum CustomHealthWord {
    Healthy,
    Unhealthy,
}
