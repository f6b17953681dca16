//! The kind CloudMapHealthReport, for instances that are pods and therefore have no object whose status could contain their
//! health.

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use super::instance::CustomHealthWord;
use super::signals::SignalFields;

/// The signals about an instance that is a pod: the report of UpdateInstanceCustomHealthStatus, those of
/// other systems, and maintenance.
#[derive(Clone, CustomResource, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[kube(
    group = "cloudmap-dns.io",
    version = "v1alpha1",
    kind = "CloudMapHealthReport",
    namespaced,
    derive = "PartialEq",
    shortname = "cmhr",
    category = "cloudmap",
    doc = "A health status that a client reported for the instance of a pod, or another signal about it; the servers write and remove these.",
    selectable = ".spec.serviceId",
    printcolumn(name = "Instance", type_ = "string", json_path = ".spec.instanceId"),
    printcolumn(name = "Status", type_ = "string", json_path = ".spec.status"),
    printcolumn(name = "Maintenance", type_ = "string", json_path = ".spec.signals.maintenance.reason"),
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
    /// The id of the instance in its service.
    #[schemars(length(min = 1, max = 64))]
    pub instance_id: String,
    /// The Kubernetes namespace and the name of the instance's pod, separated by a slash.
    #[schemars(length(max = 512))]
    pub pod: String,
    /// The uid of the pod. The report does not apply to a pod with another uid.
    #[schemars(length(min = 1, max = 64))]
    pub pod_uid: String,
    /// The health status that a client reported; only if one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "CustomHealthWord")]
    pub status: Option<CustomHealthWord>,
    /// The client that reported the health status.
    #[serde(default)]
    #[schemars(length(max = 256))]
    pub reporter: String,
    /// The time of the report, in milliseconds since 1970; 0 without one.
    #[serde(default)]
    pub report_date_ms: i64,
    /// The other signals about the pod's health, and orders about it; only if there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "SignalFields")]
    pub signals: Option<SignalFields>,
}
