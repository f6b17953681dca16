//! Settings of CoreDNS's configuration: its ConfigMap, the address to forward to, and the zones.

use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

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

    pub(super) fn now(&self) -> BTreeSet<String> {
        (self.0)()
    }
}

impl fmt::Debug for ServedZones {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServedZones(..)")
    }
}
