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
mod cluster_domain;
mod corefile;
pub(super) mod maps;
mod plan;
mod reconciler;
mod settings;
mod status;

pub(super) use reconciler::CoreDns;
pub use settings::{CoreDnsMode, Forward, ServedZones};
pub use status::CoreDnsStatus;
