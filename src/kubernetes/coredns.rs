//! Configuration of CoreDNS: the zones that it forwards to this server.
//!
//! CoreDNS imports server blocks from a ConfigMap and checks it for changes, so that nothing is restarted. This
//! module keeps one key of `kube-system/coredns-custom` (k3s), or one marked block in the Corefile of
//! `kube-system/coredns` (kubeadm): a server block for each served zone, which forwards to this server and caches
//! nothing. All other content belongs to others and is not changed.
//!
//! Two blocks for one zone are an error in CoreDNS. A zone for which another author has a block (KECS writes its own)
//! is therefore a clash: it is left out and reported, and it is added when the other block is gone. Zones that would
//! take names from the cluster itself are never forwarded. If others delete or change our text, it is restored within
//! seconds.
//!
//! Only the leader writes, at most once a second, and never over a change that it has not seen (`resourceVersion`).

pub(super) mod blocks;
mod corefile;
pub(super) mod maps;
mod plan;
mod reconciler;
mod status;

use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use kube::Client;
use tokio::sync::watch;

use crate::registry::Registry;

use super::leader::Leadership;
use reconciler::CoreDnsReconciler;
pub use status::CoreDnsStatus;

/// ConfigMaps of CoreDNS, and our key in the one whose keys the CoreDNS of k3s imports. The other one has the main
/// Corefile.
const NAMESPACE: &str = "kube-system";
const CUSTOM: &str = "coredns-custom";
const CUSTOM_KEY: &str = "cloudmap-dns.server";
const MAIN: &str = "coredns";
const COREFILE_KEY: &str = "Corefile";
/// Resolver configuration, which shows the domain of the container's cluster.
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// ConfigMap that the server blocks are written to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CoreDnsMode {
    /// The key `cloudmap-dns.server` of the ConfigMap `kube-system/coredns-custom`.
    Custom,
    /// A marked block in the ConfigMap `kube-system/coredns`, key `Corefile`.
    Corefile,
}

/// Address that CoreDNS forwards queries to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Forward {
    /// A fixed address, from the settings.
    Address(SocketAddr),
    /// The cluster IP of this Service, which is in the Kubernetes namespace that the server runs in, and its port
    /// `dns`.
    Service(String),
}

/// Function that returns the served zones, in lower case and without a final dot. It is called about once a second.
#[derive(Clone)]
pub struct ServedZones(Arc<dyn Fn() -> BTreeSet<String> + Send + Sync>);

impl ServedZones {
    /// Wraps a function that returns the served zones.
    pub fn new(zones: impl Fn() -> BTreeSet<String> + Send + Sync + 'static) -> ServedZones {
        ServedZones(Arc::new(zones))
    }

    fn now(&self) -> BTreeSet<String> {
        (self.0)()
    }
}

impl fmt::Debug for ServedZones {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServedZones(..)")
    }
}

/// Task that keeps the served zones in CoreDNS's ConfigMap while this process is the leader.
pub(super) struct CoreDns {
    pub(super) client: Client,
    pub(super) registry: Registry,
    pub(super) leadership: Leadership,
    pub(super) mode: CoreDnsMode,
    pub(super) forward: Forward,
    pub(super) zones: ServedZones,
    pub(super) own_namespace: String,
    pub(super) status: Arc<CoreDnsStatus>,
}

impl CoreDns {
    /// Writes whenever this process is the leader, until it is `stopped`.
    pub(super) async fn run(self, mut stopped: watch::Receiver<bool>) {
        let stop = async move {
            let _ = stopped.wait_for(|stop| *stop).await;
        };
        // The file is short and read only once, so that blocking the thread is harmless.
        let resolv_conf = std::fs::read_to_string(RESOLV_CONF).unwrap_or_default();
        let cluster_domain = cluster_domain(&resolv_conf);
        let reconciled = async {
            loop {
                self.leadership.gained().await;
                tokio::select! {
                    () = CoreDnsReconciler::new(&self, cluster_domain.clone()).run() => {}
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

/// Domain of the cluster from a container's resolver configuration, whose search list contains `svc.<domain>`.
fn cluster_domain(resolv_conf: &str) -> Option<String> {
    let lines = resolv_conf.lines().filter_map(|line| line.trim().strip_prefix("search"));
    let mut words = lines.flat_map(str::split_whitespace);
    words.find_map(|word| word.strip_prefix("svc.")).map(corefile::normalized)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cluster_domain_is_read_from_the_search_list() {
        for (text, expected) in [
            (
                "search shop.svc.corp.example svc.corp.example corp.example\nnameserver 10.43.0.10\n",
                Some("corp.example"),
            ),
            ("nameserver 10.0.0.1\nsearch svc.Cluster.Local.\n", Some("cluster.local")),
            ("search example.org\n", None),
            ("", None),
        ] {
            assert_eq!(cluster_domain(text).as_deref(), expected, "{text}");
        }
    }
}
