//! The mirror: Cloud Map's services as headless Services with EndpointSlices and Endpoints, for those who look at the
//! cluster.
//!
//! For each service of a DNS namespace there is a Service `sd-<service>` in the Kubernetes namespace that KECS would use,
//! with KECS's labels and annotations, and EndpointSlices with the addresses of its instances. An endpoint is ready when
//! DNS answers its instance, fail-open included; serving is the same, and terminating is never true: a pod that is
//! asked to end is no instance any more. What has no address (CNAME,
//! aliases) is in no slice, and neither is an address that only means something on one host.
//!
//! An Endpoints object has the addresses of all slices of a Service, at most 1,000, because KECS and its tools read that
//! kind. Kubernetes deprecated it in 1.33, so a setting turns it off. The label `skip-mirror` keeps the cluster from making
//! slices of it that would repeat ours. An account that may not list Endpoints, such as one from before they were written,
//! gets the rest of the mirror.
//!
//! Objects that are ours have our labels; others are never touched, and one that has a name that we need is a clash: it is
//! reported and looked at again every 15 seconds. Until it is gone, there are no addresses of that service either. What has no
//! service any more is deleted. Kubernetes namespaces that are missing are made, and stay.
//!
//! Only the leader writes, and only what differs, no more than 50 times in a second. Changes wait a tenth of a second for
//! others of the same service. Nothing here is waited for by anybody: DNS and the API don't know of it.

mod desired;
mod known;
mod names;
mod object;
mod status;
mod term;
#[cfg(test)]
mod tests;
mod writer;

use std::sync::Arc;

use kube::Client;
use tokio::sync::watch;

use crate::registry::Registry;

use super::leader::Leadership;
use super::status::WatchStatus;
pub use status::MirrorStatus;
use term::Term;

/// Whose an object is.
pub(super) const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// Us.
pub(super) const OWNER: &str = env!("CARGO_PKG_NAME");
/// Which of us: the Kubernetes namespace that the server runs in.
const INSTALLATION: &str = "cloudmap-dns.io/installation";
/// Of which Service an EndpointSlice is.
const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// Who writes an EndpointSlice, for Kubernetes' own controllers.
const SLICE_MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
pub(super) const SERVICE_ID: &str = "kecs.io/service-id";
pub(super) const NAMESPACE_ID: &str = "kecs.io/namespace-id";
const SERVICE_ARN: &str = "kecs.io/service-arn";
/// Label that keeps Kubernetes from making EndpointSlices of an Endpoints object.
const SKIP_MIRROR: &str = "endpointslice.kubernetes.io/skip-mirror";
/// Annotation of an Endpoints object that has not all addresses of its Service.
const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";
/// Value of [`OVER_CAPACITY`] where addresses were left out.
const TRUNCATED: &str = "truncated";
/// The labels that the mirror writes.
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
/// The annotations that the mirror writes.
const ANNOTATION_KEYS: [&str; 4] = [SERVICE_ID, NAMESPACE_ID, SERVICE_ARN, OVER_CAPACITY];
/// The one port of a Service, as KECS has it; slices and Endpoints have the instances' own under the same name.
const PORT_NAME: &str = "http";
const SERVICE_PORT: u16 = 80;
const TCP: &str = "TCP";
const HEADLESS: &str = "None";

/// The mirror of a registry in a cluster.
pub(super) struct Mirror {
    pub(super) client: Client,
    pub(super) registry: Registry,
    pub(super) leadership: Leadership,
    /// True if Endpoints objects are written too.
    pub(super) endpoints: bool,
    /// The Kubernetes namespace that the server runs in.
    pub(super) installation: String,
    /// Nothing is written before all pods are known: addresses of those that are not would be taken away.
    pub(super) pods: Arc<WatchStatus>,
    pub(super) status: Arc<MirrorStatus>,
}

impl Mirror {
    /// Mirrors whenever this process is the one that writes, until it is told to stop.
    pub(super) async fn run(self, mut stopped: watch::Receiver<bool>) {
        let stop = async move {
            // A sender that is gone is a stop too.
            let _ = stopped.wait_for(|stop| *stop).await;
        };
        let terms = async {
            loop {
                self.leadership.gained().await;
                tokio::select! {
                    () = Term::new(&self).run() => {}
                    () = self.leadership.lost() => {}
                }
                self.status.rest();
            }
        };
        tokio::select! {
            () = stop => {}
            () = terms => {}
        }
    }
}
