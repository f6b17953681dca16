//! CoreDNS: which zones it forwards to us.
//!
//! CoreDNS takes server blocks from a ConfigMap and looks for changes by itself, so nothing is ever restarted. We keep one
//! key of `kube-system/coredns-custom` (k3s), or one marked block in the Corefile of `kube-system/coredns` (kubeadm): a
//! server block for each zone that is served, which forwards to us and caches nothing. Everything else there belongs to
//! others and stays as it is.
//!
//! Two blocks for one zone are an error to CoreDNS. So a zone that somebody else has a block for (KECS writes its own) is a
//! clash: it is left out of ours, reported, and put in when the other block goes. Zones that would take names from the
//! cluster itself are never forwarded. What somebody deletes or changes of ours is back within seconds.
//!
//! Only the leader writes, once in a second at most, and never over a change that it has not seen (`resourceVersion`).

pub(super) mod blocks;
mod corefile;
pub(super) mod maps;
mod plan;
mod status;
mod term;

use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use kube::Client;
use tokio::sync::watch;

use crate::registry::Registry;

use super::leader::Leadership;
pub use status::CoreDnsStatus;
use term::Term;

/// Where CoreDNS has its ConfigMaps.
const NAMESPACE: &str = "kube-system";
/// The ConfigMap whose keys k3s's CoreDNS imports.
const CUSTOM: &str = "coredns-custom";
/// Our key of it.
const CUSTOM_KEY: &str = "cloudmap-dns.server";
/// The ConfigMap with the main Corefile.
const MAIN: &str = "coredns";
/// The main Corefile's key.
const COREFILE_KEY: &str = "Corefile";
/// Where a container reads which domain its cluster has.
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// How CoreDNS is told.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CoreDnsMode {
    /// By the key `cloudmap-dns.server` of the ConfigMap `kube-system/coredns-custom`.
    Custom,
    /// By a block in the ConfigMap `kube-system/coredns`, key `Corefile`.
    Corefile,
}

/// Where CoreDNS forwards to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Forward {
    /// This address.
    Address(SocketAddr),
    /// The cluster address of this Service, which is in the Kubernetes namespace that the server runs in; its port `dns`.
    Service(String),
}

/// Tells which zones are served: in lower case, without a final dot. It is asked about once in a second.
#[derive(Clone)]
pub struct ServedZones(Arc<dyn Fn() -> BTreeSet<String> + Send + Sync>);

impl ServedZones {
    /// Those that the function says.
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

/// Keeps CoreDNS's ConfigMap.
pub(super) struct CoreDns {
    pub(super) client: Client,
    pub(super) registry: Registry,
    pub(super) leadership: Leadership,
    pub(super) mode: CoreDnsMode,
    pub(super) forward: Forward,
    pub(super) zones: ServedZones,
    /// The Kubernetes namespace that the server runs in.
    pub(super) own_namespace: String,
    pub(super) status: Arc<CoreDnsStatus>,
}

impl CoreDns {
    /// Keeps it whenever this process is the one that writes, until it is told to stop.
    pub(super) async fn run(self, mut stopped: watch::Receiver<bool>) {
        let stop = async move {
            // A sender that is gone is a stop too.
            let _ = stopped.wait_for(|stop| *stop).await;
        };
        // A short file, once: no reason to leave this thread.
        let resolv_conf = std::fs::read_to_string(RESOLV_CONF).unwrap_or_default();
        let cluster_domain = cluster_domain(&resolv_conf);
        let terms = async {
            loop {
                self.leadership.gained().await;
                tokio::select! {
                    () = Term::new(&self, cluster_domain.clone()).run() => {}
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

/// The domain of the cluster that a container's resolver searches: `svc.<domain>` is one of what it appends.
fn cluster_domain(resolv_conf: &str) -> Option<String> {
    let lines = resolv_conf.lines().filter_map(|line| line.trim().strip_prefix("search"));
    let mut words = lines.flat_map(str::split_whitespace);
    words.find_map(|word| word.strip_prefix("svc.")).map(corefile::plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cluster_s_domain_is_what_its_containers_search() {
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
