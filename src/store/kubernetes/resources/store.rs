//! The kind CloudMapStore: numbers and settings that all servers of a Kubernetes namespace share.

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

/// Settings that apply to all objects of the Kubernetes namespace.
#[derive(Clone, CustomResource, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[kube(
    group = "cloudmap-dns.io",
    version = "v1alpha1",
    kind = "CloudMapStore",
    namespaced,
    derive = "PartialEq",
    doc = "Settings and numbers for all objects of a Kubernetes namespace; `cloudmap-dns import` and the servers write it.",
    printcolumn(name = "Offset", type_ = "integer", json_path = ".spec.numberOffset")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.numberOffset >= oldSelf.numberOffset").message("numberOffset cannot go back"))]
pub struct StoreSpec {
    /// Offset that is added to every resourceVersion, so that numbers continue from those of an imported store.
    #[schemars(range(min = 0, max = 4_503_599_627_370_496i64))]
    pub number_offset: i64,
}
