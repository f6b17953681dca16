//! Settings of CoreDNS's configuration: its ConfigMap, the address to forward to, and the zones.

use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

/// ConfigMap that the server blocks are written to: `Custom` is the key `cloudmap-dns.server` of
/// `kube-system/coredns-custom`, and `Corefile` a marked block in the key `Corefile` of `kube-system/coredns`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(missing_docs, reason = "the type's document explains the variants")]
pub enum CoreDnsMode {
    Custom,
    Corefile,
}

/// Address that CoreDNS forwards queries to: a fixed one from the settings, or the cluster IP of a Service in the
/// Kubernetes namespace that the server runs in, with its port `dns`.
#[derive(Clone, Debug, Eq, PartialEq)]
#[expect(missing_docs, reason = "the type's document explains the variants")]
pub enum Forward {
    Address(SocketAddr),
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
