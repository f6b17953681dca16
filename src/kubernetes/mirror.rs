//! Mirror of Cloud Map's services as headless Services with EndpointSlices and Endpoints, for tools that read the
//! cluster.
//!
//! Each service of a DNS namespace has a Service `sd-<service>` in the Kubernetes namespace that KECS would use, with
//! KECS's labels and annotations, and EndpointSlices with the addresses of its instances. An endpoint is ready, and
//! serving, if DNS answers its instance, fail-open included. It is never terminating, because a pod that is being
//! deleted is not an instance any more. Instances without an address (CNAME, aliases) are in no slice, and neither are
//! addresses that are valid on one host only.
//!
//! An Endpoints object has the addresses of all slices of a Service, at most 1,000, because KECS and its tools read
//! that kind. Kubernetes deprecated it in 1.33, so a setting turns it off. The label `skip-mirror` keeps the cluster
//! from making slices of it that would repeat ours. If the account may not list Endpoints, such as one from before
//! they were written, the rest of the mirror is written all the same.
//!
//! Our objects have our labels; others are never changed. An object of somebody else that has a name that the mirror
//! needs is a clash: it is reported and checked again every 15 seconds, and until it is gone, no addresses of that
//! service are written. Objects whose service is gone are deleted. Missing Kubernetes namespaces are created, and
//! never deleted.
//!
//! Only the leader writes, only differences, and at most 50 times a second. Changes wait a tenth of a second for
//! others of the same service. DNS and the API never wait for the mirror.

mod cache;
mod desired;
mod names;
mod object;
mod reconciler;
mod status;
#[cfg(test)]
mod tests;
mod writer;

use std::sync::Arc;

use kube::Client;
use tokio::sync::watch;

use crate::registry::Registry;

use super::leader::Leadership;
use super::status::WatchStatus;
use reconciler::MirrorReconciler;
pub use status::MirrorStatus;

/// Label with the owner of an object, which is [`OWNER`] for ours.
pub(super) const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
pub(super) const OWNER: &str = env!("CARGO_PKG_NAME");
/// Label with the Kubernetes namespace that the server runs in, which distinguishes several installations in one
/// cluster.
const INSTALLATION: &str = "cloudmap-dns.io/installation";
const SERVICE_NAME: &str = "kubernetes.io/service-name";
const SLICE_MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
pub(super) const SERVICE_ID: &str = "kecs.io/service-id";
pub(super) const NAMESPACE_ID: &str = "kecs.io/namespace-id";
const SERVICE_ARN: &str = "kecs.io/service-arn";
/// Label that keeps Kubernetes from making EndpointSlices of an Endpoints object.
const SKIP_MIRROR: &str = "endpointslice.kubernetes.io/skip-mirror";
/// Annotation of an Endpoints object that lacks addresses of its Service, with the value [`TRUNCATED`].
const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";
const TRUNCATED: &str = "truncated";
const LABEL_KEYS: [&str; 8] = [
    "kecs.io/service-discovery",
    "kecs.io/namespace",
    "kecs.io/service",
    MANAGED_BY,
    INSTALLATION,
    SERVICE_NAME,
    SLICE_MANAGED_BY,
    SKIP_MIRROR,
];
const ANNOTATION_KEYS: [&str; 4] = [SERVICE_ID, NAMESPACE_ID, SERVICE_ARN, OVER_CAPACITY];
/// Name of the only port of a Service, as KECS has it. The ports of slices and Endpoints, which are the instances'
/// own, have this name too.
const PORT_NAME: &str = "http";
const SERVICE_PORT: u16 = 80;
const TCP: &str = "TCP";
const HEADLESS: &str = "None";

/// Task that mirrors the registry in the cluster while this process is the leader.
pub(super) struct Mirror {
    pub(super) client: Client,
    pub(super) registry: Registry,
    pub(super) leadership: Leadership,
    pub(super) endpoints: bool,
    pub(super) installation: String,
    /// State of the pod watch. Nothing is written before all pods are known, because the addresses of the others would
    /// be removed.
    pub(super) pods: Arc<WatchStatus>,
    pub(super) status: Arc<MirrorStatus>,
}

impl Mirror {
    /// Writes whenever this process is the leader, until it is `stopped`.
    pub(super) async fn run(self, mut stopped: watch::Receiver<bool>) {
        let stop = async move {
            let _ = stopped.wait_for(|stop| *stop).await;
        };
        let reconciled = async {
            loop {
                self.leadership.gained().await;
                tokio::select! {
                    () = MirrorReconciler::new(&self).run() => {}
                    () = self.leadership.lost() => {}
                }
                self.status.clear();
            }
        };
        tokio::select! {
            () = stop => {}
            () = reconciled => {}
        }
    }
}
