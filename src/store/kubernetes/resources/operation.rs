//! The kind CloudMapOperation: records of operations that no annotation can have, because their objects are deleted or were
//! not changed.

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

/// The operation, as GetOperation returns it.
#[derive(Clone, CustomResource, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[kube(
    group = "cloudmap-dns.io",
    version = "v1alpha1",
    kind = "CloudMapOperation",
    namespaced,
    derive = "PartialEq",
    shortname = "cmop",
    doc = "A finished operation of the Cloud Map API; the servers write and remove these.",
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
    /// The number of the change that the operation made; without it, the object's own resourceVersion is used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<i64>,
    /// The type of the operation, such as `CREATE_NAMESPACE`.
    #[serde(rename = "type")]
    #[schemars(length(max = 64))]
    pub kind: String,
    /// The result of the operation: `SUCCESS` or `FAIL`.
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
    /// The time in milliseconds since 1970.
    pub create_date_ms: i64,
    /// The time in milliseconds since 1970.
    pub update_date_ms: i64,
}
