//! Settings: one table of what can be set, and where it comes from.
//!
//! The table below is the only place that knows a setting's flag, environment variable, file key, default, limits and
//! meaning. [`Config`], the command line (see [`crate::cli`]), the settings file and [`settings_reference`] are all
//! made from it. `cli` calls [`load()`]; everything else is handed the finished [`Config`], which is plain data.
//!
//! It promises: a flag is stronger than a variable, a variable than the file, the file than the default; every value
//! of every source is checked, also one that a stronger source covers; nothing unknown is passed over; and all errors
//! are reported at once, each with its place and with what would be right.

mod file;
mod given;
mod load;
mod nearest;
mod place;
mod reference;
mod rule;
mod setting;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

pub use load::{CONFIG_FLAG, CONFIG_MEANING, FILE_BYTES_MAX, Sources, load};
pub use place::{Place, WrongSetting, WrongSettings};
pub use reference::settings_reference;
pub use setting::{Setting, VARIABLE_PREFIX};

pub use crate::registry::UnknownHealth;

use rule::Choice;
use setting::settings;

settings! {
    "Addresses" {
        /// Where DNS queries are answered, over UDP and TCP.
        dns: Vec<SocketAddr> = vec![loopback(5300)],
            "dns", "dns", rule::addresses();
        /// Where the Cloud Map API is served over HTTP.
        api: SocketAddr = loopback(5301),
            "api", "api", rule::address();
        /// Where metrics, readiness, explain and zone contents are served over HTTP.
        admin: SocketAddr = loopback(5302),
            "admin", "admin", rule::address();
    }
    "Data" {
        /// Directory of the embedded store, made when it is missing.
        data_dir: PathBuf = PathBuf::from(".cloudmap-dns"),
            "data-dir", "data-dir", rule::path();
        /// Where namespaces, services and instances are kept: on disk, in Kubernetes custom resources, or in memory until the server stops.
        store: StoreKind = StoreKind::Embedded,
            "store", "store", rule::choice();
        /// Kubernetes namespace of the custom resources; if not given, that of this server's pod, outside of a cluster cloudmap-dns.
        store_namespace: Option<String> = None,
            "store-namespace", "store-namespace", rule::optional_kubernetes_namespace();
        /// Directory of zone files to serve beside Cloud Map's names; if not given, the directory zones where it exists.
        zones: Option<PathBuf> = None,
            "zones", "zones", rule::optional_path();
    }
    "AWS" {
        /// Region in ids and ARNs.
        region: String = "us-east-1".to_string(),
            "region", "region", rule::region();
        /// Account in ids and ARNs, exactly 12 digits.
        account_id: String = "000000000000".to_string(),
            "account-id", "account-id", rule::account();
        /// Whether API input that AWS refuses is refused too, or stored as far as it makes sense.
        validation: Validation = Validation::Lenient,
            "validation", "validation", rule::choice();
    }
    "Log" {
        /// Form of the log lines; auto is text.
        log_format: LogFormat = LogFormat::Auto,
            "log-format", "log.format", rule::choice();
        /// What is logged: a level, or target=level directives separated by commas.
        log_level: String = "info".to_string(),
            "log-level", "log.level", rule::log_directives();
    }
    "Health" {
        /// Answers with unhealthy instances when a service has no others.
        fail_open: bool = false,
            "fail-open", "health.fail-open", rule::boolean();
        /// Answers with instances whose health is not known yet, such as pods that were never ready: always, while their service has no healthy instance, or never.
        unknown: UnknownHealth = UnknownHealth::Fallback,
            "unknown", "health.unknown", rule::choice();
    }
    "Answers" {
        /// Addresses of the zones' own name server records; if not given, those of this host's interfaces.
        ns_addresses: Vec<IpAddr> = Vec::new(),
            "ns-address", "ns-address", rule::hosts();
        /// How long resolvers may remember that a Cloud Map name does not exist.
        negative_ttl_seconds: u32 = 5,
            "negative-ttl", "negative-ttl", rule::number(0..=2_147_483_647, "seconds");
    }
    "DNS" {
        /// What the server calls itself to those who ask (NSID, id.server); if not given, its host name.
        server_id: Option<String> = None,
            "server-id", "server-id", rule::optional_server_id();
        /// Secrets that sign DNS cookies, the newest first: equal ones for servers behind one address; if not given, one of its own.
        cookie_secrets: Vec<CookieSecret> = Vec::new(),
            "cookie-secret", "cookie-secret", rule::cookie_secrets();
    }
    "UDP" {
        /// How many threads answer UDP on each address; 0 is one for each CPU that the process may use.
        workers: usize = 0,
            "workers", "udp.workers", rule::count(0..=1_024, "threads");
        /// Which system calls answer UDP: those of Linux for many datagrams at once, with responses of one length to one client handed over together (`UDP_SEGMENT`); the same without that; or those that every system has.
        udp_loop: UdpLoop = UdpLoop::Auto,
            "udp-loop", "udp.loop", rule::choice();
        /// How many responses a network (IPv4 /24, IPv6 /56) without a DNS cookie gets over UDP from each thread; 0 is no limit.
        rate_limit_per_second: u32 = 0,
            "rate-limit-per-second", "rate-limit.per-second", rule::number(0..=1_000_000, "responses");
        /// Every how many-th response over that limit is sent empty and truncated, so that clients come by TCP; 0 is none.
        rate_limit_slip: u32 = 2,
            "rate-limit-slip", "rate-limit.slip", rule::number(0..=100, "responses");
    }
    "Transfers" {
        /// Networks of clients that may transfer whole zones (AXFR), such as 10.0.0.0/8.
        transfer_allow: Vec<IpNet> = loopback_networks(),
            "transfer-allow", "transfer-allow", rule::networks();
        /// Secondary servers that are told when a zone has changed (NOTIFY); allow them to transfer it too.
        notify: Vec<SocketAddr> = Vec::new(),
            "notify", "notify", rule::servers();
    }
    "Kubernetes" {
        /// The kubeconfig of the cluster whose task pods become instances; if not given, the cluster around this process.
        kubeconfig: Option<PathBuf> = None,
            "kubeconfig", "kubeconfig", rule::optional_file();
        /// What the id of a pod's instance is: the ECS task's id, where the pod has one, or the pod's name.
        instance_id: InstanceId = InstanceId::Task,
            "instance-id", "instance-id", rule::choice();
        /// Whether each service is mirrored as a headless Service with EndpointSlices; if not given, on inside a cluster.
        mirror: Option<Switch> = None,
            "mirror", "mirror", rule::optional_choice();
        /// Writes an Endpoints object for each mirrored Service too: KECS's tools read that kind, and Kubernetes has deprecated it since 1.33.
        mirror_endpoints: Switch = Switch::On,
            "mirror-endpoints", "mirror-endpoints", rule::choice();
        /// Whether the namespaces and services of KECS's own Cloud Map API are served here too, read-only; its alias Services tell them.
        shadow: Switch = Switch::Off,
            "shadow", "shadow", rule::choice();
        /// How the cluster's CoreDNS learns which zones to forward: not at all, by a key of its ConfigMap coredns-custom (k3s), or by a block in its Corefile (kubeadm).
        coredns: CoreDns = CoreDns::Off,
            "coredns", "coredns", rule::choice();
        /// Where CoreDNS forwards to; if not given, the address of this server's own Service.
        coredns_forward: Option<SocketAddr> = None,
            "coredns-forward", "coredns-forward", rule::optional_server();
        /// The name of that Service, in the Kubernetes namespace that the server runs in.
        coredns_service: String = "cloudmap".to_string(),
            "coredns-service", "coredns-service", rule::service_name();
    }
    "Quotas" {
        /// How many namespaces there may be.
        max_namespaces: usize = 10_000,
            "max-namespaces", "quotas.max-namespaces", rule::count(1..=1_000_000, "namespaces");
        /// How many services there may be in all namespaces.
        max_services: usize = 1_000_000,
            "max-services", "quotas.max-services", rule::count(1..=10_000_000, "services");
        /// How many instances one service may have.
        max_instances_per_service: usize = 1_000,
            "max-instances-per-service", "quotas.max-instances-per-service", rule::count(1..=1_000_000, "instances");
        /// How many instances there may be in all services.
        max_instances: usize = 4_000_000,
            "max-instances", "quotas.max-instances", rule::count(1..=100_000_000, "instances");
        /// How many attributes one instance may have.
        max_attributes_per_instance: usize = 30,
            "max-attributes-per-instance", "quotas.max-attributes-per-instance", rule::count(1..=1_000, "attributes");
        /// How many tags one namespace or service may have.
        max_tags_per_resource: usize = 50,
            "max-tags-per-resource", "quotas.max-tags-per-resource", rule::count(1..=1_000, "tags");
        /// How many attributes one service may have.
        max_service_attributes: usize = 30,
            "max-service-attributes", "quotas.max-service-attributes", rule::count(1..=1_000, "attributes");
        /// How many finished operations are remembered; those of the last 15 minutes up to ten times as many.
        operations_retained: usize = 10_000,
            "operations-retained", "quotas.operations-retained", rule::count(1..=10_000_000, "operations");
    }
    "Limits" {
        /// How long the body of an API request may be.
        api_body_bytes_max: usize = 1_048_576,
            "api-body-bytes-max", "limits.api-body-bytes-max", rule::number(1_024..=67_108_864, "bytes");
        /// How many API connections there may be at a time.
        api_connections_max: usize = 4_096,
            "api-connections-max", "limits.api-connections-max", rule::count(1..=1_000_000, "connections");
        /// How long an API request may take.
        api_request_timeout_ms: u64 = 30_000,
            "api-request-timeout-ms", "limits.api-request-timeout-ms", rule::number(100..=600_000, "milliseconds");
        /// How long a DNS connection over TCP may stay without a query.
        tcp_idle_timeout_ms: u64 = 30_000,
            "tcp-idle-timeout-ms", "limits.tcp-idle-timeout-ms", rule::number(100..=600_000, "milliseconds");
        /// How many DNS connections over TCP there may be at a time; for another, the one idle longest is closed.
        tcp_connections_max: usize = 16_384,
            "tcp-connections-max", "limits.tcp-connections-max", rule::count(1..=1_000_000, "connections");
        /// How many of them one address may have at a time; for another, the one of it idle longest is closed.
        tcp_connections_per_client_max: usize = 1_024,
            "tcp-connections-per-client-max", "limits.tcp-connections-per-client-max", rule::count(1..=1_000_000, "connections");
    }
}

/// A secret that signs DNS cookies (RFC 9018 §4.4).
#[derive(Clone, Copy, Eq, Hash, PartialEq)]
pub struct CookieSecret(pub [u8; 16]);

impl fmt::Display for CookieSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|octet| write!(f, "{octet:02x}"))
    }
}

/// Nothing of it: settings are logged.
impl fmt::Debug for CookieSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CookieSecret(..)")
    }
}

/// Where namespaces, services and instances are kept.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum StoreKind {
    /// In one file of the data directory; survives every kind of stop.
    Embedded,
    /// In custom resources of a Kubernetes cluster, for several servers at a time.
    Kubernetes,
    /// In memory, gone when the server stops.
    Memory,
}

/// What happens to API input that AWS would refuse.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Validation {
    /// It is stored, logged with what AWS would have said, and published as far as it makes sense in DNS.
    Lenient,
    /// It is refused as AWS refuses it.
    Strict,
}

/// The form of log lines.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LogFormat {
    /// Left to the program, which writes text.
    Auto,
    /// Lines for people.
    Text,
    /// One JSON object on each line.
    Json,
}

/// Which system calls answer UDP.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum UdpLoop {
    /// Those for many datagrams at once, on Linux, and responses of one length to one client handed over together.
    Auto,
    /// Those for many datagrams at once, on Linux.
    Batched,
    /// Those that every system has.
    Portable,
}

/// What the id of a pod's instance is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum InstanceId {
    /// The ECS task's id, as on AWS; the pod's name where the pod has none.
    Task,
    /// The pod's name.
    Pod,
}

/// Whether something is done.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Switch {
    /// It is.
    On,
    /// It is not.
    Off,
}

/// How CoreDNS learns which zones to forward.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CoreDns {
    /// Not at all.
    Off,
    /// By a key of the ConfigMap `kube-system/coredns-custom`.
    Custom,
    /// By a block in the ConfigMap `kube-system/coredns`.
    Corefile,
}

impl Choice for StoreKind {
    const WORDS: &'static [(&'static str, StoreKind)] = &[
        ("embedded", StoreKind::Embedded),
        ("kubernetes", StoreKind::Kubernetes),
        ("memory", StoreKind::Memory),
    ];
}

impl Choice for Validation {
    const WORDS: &'static [(&'static str, Validation)] =
        &[("lenient", Validation::Lenient), ("strict", Validation::Strict)];
}

impl Choice for LogFormat {
    const WORDS: &'static [(&'static str, LogFormat)] =
        &[("auto", LogFormat::Auto), ("text", LogFormat::Text), ("json", LogFormat::Json)];
}

impl Choice for UdpLoop {
    const WORDS: &'static [(&'static str, UdpLoop)] =
        &[("auto", UdpLoop::Auto), ("batched", UdpLoop::Batched), ("portable", UdpLoop::Portable)];
}

impl Choice for InstanceId {
    const WORDS: &'static [(&'static str, InstanceId)] =
        &[("task", InstanceId::Task), ("pod", InstanceId::Pod)];
}

impl Choice for Switch {
    const WORDS: &'static [(&'static str, Switch)] = &[("on", Switch::On), ("off", Switch::Off)];
}

impl Choice for CoreDns {
    const WORDS: &'static [(&'static str, CoreDns)] =
        &[("off", CoreDns::Off), ("custom", CoreDns::Custom), ("corefile", CoreDns::Corefile)];
}

impl Choice for UnknownHealth {
    const WORDS: &'static [(&'static str, UnknownHealth)] = UnknownHealth::WORDS;
}

fn loopback_networks() -> Vec<IpNet> {
    // Host networks of these lengths are always valid.
    let v4 = Ipv4Net::new(Ipv4Addr::new(127, 0, 0, 0), 8).map(IpNet::V4);
    let v6 = Ipv6Net::new(Ipv6Addr::LOCALHOST, 128).map(IpNet::V6);
    [v4, v6].into_iter().flatten().collect()
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

#[cfg(test)]
pub(crate) mod tests;
