//! The settings of the server: a table that defines them, and their sources.
//!
//! The table below defines each setting once: its field, type, default, flag, file key, limits and help text. [`Config`],
//! the command line (see [`crate::cli`]), the reader of the settings file and [`settings_reference`] are generated from it.
//! `cli` calls [`load()`]; all other modules get the finished [`Config`], which is plain data.
//!
//! A flag overrides a variable, a variable overrides the file, and the file overrides the default. Every value of every
//! source is validated, also if it is overridden. Unknown settings are errors. All errors are reported at once, each with
//! its location and the expected value.

mod file;
mod load;
mod location;
mod nearest;
mod raw_value;
mod reference;
mod rule;
mod setting;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

pub use load::{CONFIG_FLAG, CONFIG_MEANING, FILE_BYTES_MAX, Sources, load};
pub use location::{Location, WrongSetting, WrongSettings};
pub use reference::settings_reference;
pub use setting::{Setting, VARIABLE_PREFIX};

pub use crate::registry::health::{Day, Hour, Threshold};
pub use crate::registry::{AnswerMax, HealthOf, MinimumHealthy, UnknownHealth};

use rule::Choice;
use setting::settings;

settings! {
    "Addresses" {
        /// Addresses of DNS over UDP and TCP.
        dns: Vec<SocketAddr> = vec![loopback(5300)],
            "dns", "dns", rule::addresses();
        /// Address of the Cloud Map API over HTTP.
        api: SocketAddr = loopback(5301),
            "api", "api", rule::address();
        /// Address of the admin port over HTTP: metrics, readiness, explain and zone contents.
        admin: SocketAddr = loopback(5302),
            "admin", "admin", rule::address();
    }
    "Encrypted DNS" {
        /// Addresses of DNS over TLS (RFC 7858).
        dot: Vec<SocketAddr> = Vec::new(),
            "dot", "encrypted.dot", rule::optional_addresses();
        /// Addresses of DNS over HTTPS (RFC 8484), with the path /dns-query.
        doh: Vec<SocketAddr> = Vec::new(),
            "doh", "encrypted.doh", rule::optional_addresses();
        /// Addresses of DNS over QUIC (RFC 9250).
        doq: Vec<SocketAddr> = Vec::new(),
            "doq", "encrypted.doq", rule::optional_addresses();
        /// PEM file of the certificate chain for these, the server's own certificate first; loaded again when it changes.
        tls_certificate: Option<PathBuf> = None,
            "tls-certificate", "encrypted.tls-certificate", rule::optional_file();
        /// PEM file of the certificate's private key; loaded again when it changes.
        tls_key: Option<PathBuf> = None,
            "tls-key", "encrypted.tls-key", rule::optional_file();
    }
    "Data" {
        /// Directory of the embedded store, made when it is missing.
        data_dir: PathBuf = PathBuf::from(".cloudmap-dns"),
            "data-dir", "data-dir", rule::path();
        /// Store of namespaces, services and instances: on disk, in Kubernetes custom resources, or in memory until the server stops.
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
        /// Treatment of API input that AWS refuses: stored as far as it makes sense, or refused too.
        validation: Validation = Validation::Lenient,
            "validation", "validation", rule::choice();
    }
    "Log" {
        /// Form of the log lines; auto is text.
        log_format: LogFormat = LogFormat::Auto,
            "log-format", "log.format", rule::choice();
        /// Lowest level of log events, or target=level directives separated by commas.
        log_level: String = "info".to_string(),
            "log-level", "log.level", rule::log_directives();
    }
    "Health" {
        /// Answers with unhealthy instances when a service has no others; another word for --minimum-healthy 1.
        fail_open: bool = false,
            "fail-open", "health.fail-open", rule::boolean();
        /// Number or share of a service's instances below which unhealthy ones are answered too, behind the healthy ones; 0 is never.
        minimum_healthy: MinimumHealthy = MinimumHealthy::default(),
            "minimum-healthy", "health.minimum-healthy", rule::policy("COUNT|PERCENT%");
        /// Answers with instances whose health is not known yet, such as pods that were never ready: always, while their service has no healthy instance, or never.
        unknown: UnknownHealth = UnknownHealth::Fallback,
            "unknown", "health.unknown", rule::choice();
        /// Readiness that decides the health of pods: of the pod, or of the container that the service registry names.
        health_of: HealthOf = HealthOf::Pod,
            "health-of", "health.health-of", rule::choice();
        /// Time after its start during which the readiness of a pod can't make it unhealthy, up to 1h.
        grace: Hour = Hour::default(),
            "grace", "health.grace", rule::policy("TIME");
        /// Number of reports in a row, or time such as 30s, before a reported status or a pod's readiness makes an instance healthy; for readiness a time only.
        up_after: Threshold = Threshold::default(),
            "up-after", "health.up-after", rule::policy("COUNT|TIME");
        /// Number of reports in a row, or time such as 30s, before a reported status or a pod's readiness makes an instance unhealthy; for readiness a time only.
        down_after: Threshold = Threshold::default(),
            "down-after", "health.down-after", rule::policy("COUNT|TIME");
        /// Time after its last report after which an instance of a service with a custom health check is unhealthy, up to 24h; 0s is never.
        heartbeat: Day = Day::default(),
            "heartbeat", "health.heartbeat", rule::policy("TIME");
        /// Time after its last report after which such an instance is deregistered, up to 24h; 0s is never.
        expire: Day = Day::default(),
            "expire", "health.expire", rule::policy("TIME");
        /// Time for which a reported status has to last before it counts, up to 1h; AWS waits 30s.
        custom_health_delay: Hour = Hour::default(),
            "custom-health-delay", "health.custom-health-delay", rule::policy("TIME");
        /// Largest TTL of a service's answers while the service settles after a change or has pods that are not ready yet, up to 1h; 0s is no limit.
        settling_ttl: Hour = Hour::default(),
            "settling-ttl", "health.settling-ttl", rule::policy("TIME");
        /// Networks whose instances are checked where their service has a HealthCheckConfig, such as 10.0.0.0/8; if not given, nothing is checked. Loopback and link-local addresses need a network of their own.
        checks_allow: Vec<IpNet> = Vec::new(),
            "checks-allow", "health.checks-allow", rule::networks();
        /// Time between two checks of an instance; AWS has 30 or 10.
        checks_interval_seconds: u32 = 30,
            "checks-interval", "health.checks-interval", rule::number(1..=3_600, "seconds");
        /// Takes reports of health from other systems, such as Alertmanager, as POST /health on the API's port.
        webhook: Switch = Switch::Off,
            "webhook", "health.webhook", rule::choice();
        /// Label of an alert with the name, full name, id or ARN of the instance's service.
        webhook_service_label: String = "cloudmap_service".to_string(),
            "webhook-service-label", "health.webhook-service-label", rule::label();
        /// Label of an alert with the id of the instance.
        webhook_instance_label: String = "cloudmap_instance".to_string(),
            "webhook-instance-label", "health.webhook-instance-label", rule::label();
        /// Label of an alert with the address of the instance, where it has no id; a port in it does not count.
        webhook_address_label: String = "instance".to_string(),
            "webhook-address-label", "health.webhook-address-label", rule::label();
    }
    "Answers" {
        /// Maximum number of records of an answer with the routing policy MULTIVALUE, as far as they fit; Cloud Map has 8.
        answer_max: AnswerMax = AnswerMax::default(),
            "answer-max", "answer-max", rule::number(1..=AnswerMax::MAX.into(), "records");
        /// Addresses of the zones' own name server records; if not given, those of --dns, and for a wildcard address those of this host's interfaces.
        ns_addresses: Vec<IpAddr> = Vec::new(),
            "ns-address", "ns-address", rule::hosts();
        /// Time that resolvers may cache the fact that a Cloud Map name does not exist.
        negative_ttl_seconds: u32 = 5,
            "negative-ttl", "negative-ttl", rule::number(0..=2_147_483_647, "seconds");
    }
    "DNS" {
        /// Name of the server in NSID and id.server; if not given, its host name.
        server_id: Option<String> = None,
            "server-id", "server-id", rule::optional_server_id();
        /// Secrets that sign DNS cookies, the newest first: equal ones for servers behind one address; if not given, one of its own.
        cookie_secrets: Vec<CookieSecret> = Vec::new(),
            "cookie-secret", "cookie-secret", rule::cookie_secrets();
    }
    "UDP" {
        /// Number of threads that answer UDP on each address; 0 is one for each CPU that the process may use.
        workers: usize = 0,
            "workers", "udp.workers", rule::count(0..=1_024, "threads");
        /// System calls for UDP: those of Linux for many datagrams at once, where responses of one length to one client are sent as one (`UDP_SEGMENT`); those without UDP_SEGMENT; or those that every system has.
        udp_loop: UdpLoop = UdpLoop::Auto,
            "udp-loop", "udp.loop", rule::choice();
        /// Maximum number of UDP responses to a network (IPv4 /24, IPv6 /56) without a DNS cookie, from each thread; 0 is no limit.
        rate_limit_per_second: u32 = 0,
            "rate-limit-per-second", "rate-limit.per-second", rule::number(0..=1_000_000, "responses");
        /// Share of the responses over that limit that are sent empty and truncated, so that clients retry over TCP: every n-th; 0 is none.
        rate_limit_slip: u32 = 2,
            "rate-limit-slip", "rate-limit.slip", rule::number(0..=100, "responses");
    }
    "Transfers" {
        /// Networks of clients that may transfer whole zones (AXFR), such as 10.0.0.0/8.
        transfer_allow: Vec<IpNet> = loopback_networks(),
            "transfer-allow", "transfer-allow", rule::networks();
        /// Secondary servers that get a NOTIFY when a zone changes; allow them to transfer it too.
        notify: Vec<SocketAddr> = Vec::new(),
            "notify", "notify", rule::servers();
    }
    "Kubernetes" {
        /// The kubeconfig of the cluster whose task pods become instances; if not given, the cluster around this process.
        kubeconfig: Option<PathBuf> = None,
            "kubeconfig", "kubeconfig", rule::optional_file();
        /// Source of the instance id of a pod: the ECS task's id, where the pod has one, or the pod's name.
        instance_id: InstanceId = InstanceId::Task,
            "instance-id", "instance-id", rule::choice();
        /// Mirrors each service as a Service with EndpointSlices: a headless one with on, one with a cluster IP and the instances' ports with clusterip; if not given, on inside a cluster.
        mirror: Option<Mirror> = None,
            "mirror", "mirror", rule::optional_choice();
        /// Writes an Endpoints object for each mirrored Service too: KECS's tools read that kind, and Kubernetes has deprecated it since 1.33.
        mirror_endpoints: Switch = Switch::On,
            "mirror-endpoints", "mirror-endpoints", rule::choice();
        /// Annotates pods that are being deleted, in maintenance or of weight 0 with the time from which no client holds them, cloudmap-dns.io/drained-at. The server's account has to patch pods.
        drain_annotation: Switch = Switch::Off,
            "drain-annotation", "drain-annotation", rule::choice();
        /// Serves the namespaces and services of KECS's own Cloud Map API too, read-only, as its alias Services define them.
        shadow: Switch = Switch::Off,
            "shadow", "shadow", rule::choice();
        /// Configuration of the cluster's CoreDNS, which forwards zones to this server: none, by a key of its ConfigMap coredns-custom (k3s), or by a block in its Corefile (kubeadm).
        coredns: CoreDns = CoreDns::Off,
            "coredns", "coredns", rule::choice();
        /// Address that CoreDNS forwards to; if not given, that of this server's own Service.
        coredns_forward: Option<SocketAddr> = None,
            "coredns-forward", "coredns-forward", rule::optional_server();
        /// Name of that Service, in the Kubernetes namespace that the server runs in.
        coredns_service: String = "cloudmap".to_string(),
            "coredns-service", "coredns-service", rule::service_name();
    }
    "Quotas" {
        /// Maximum number of namespaces.
        max_namespaces: usize = 10_000,
            "max-namespaces", "quotas.max-namespaces", rule::count(1..=1_000_000, "namespaces");
        /// Maximum number of services in all namespaces together.
        max_services: usize = 1_000_000,
            "max-services", "quotas.max-services", rule::count(1..=10_000_000, "services");
        /// Maximum number of instances of one service.
        max_instances_per_service: usize = 1_000,
            "max-instances-per-service", "quotas.max-instances-per-service", rule::count(1..=1_000_000, "instances");
        /// Maximum number of instances of all services together.
        max_instances: usize = 4_000_000,
            "max-instances", "quotas.max-instances", rule::count(1..=100_000_000, "instances");
        /// Maximum number of attributes of one instance.
        max_attributes_per_instance: usize = 30,
            "max-attributes-per-instance", "quotas.max-attributes-per-instance", rule::count(1..=1_000, "attributes");
        /// Maximum number of tags of one namespace or service.
        max_tags_per_resource: usize = 50,
            "max-tags-per-resource", "quotas.max-tags-per-resource", rule::count(1..=1_000, "tags");
        /// Maximum number of attributes of one service.
        max_service_attributes: usize = 30,
            "max-service-attributes", "quotas.max-service-attributes", rule::count(1..=1_000, "attributes");
        /// Number of finished operations that are kept; those of the last 15 minutes up to ten times as many.
        operations_retained: usize = 10_000,
            "operations-retained", "quotas.operations-retained", rule::count(1..=10_000_000, "operations");
    }
    "Limits" {
        /// Maximum length of the body of an API request.
        api_body_bytes_max: usize = 1_048_576,
            "api-body-bytes-max", "limits.api-body-bytes-max", rule::number(1_024..=67_108_864, "bytes");
        /// Maximum number of API connections at a time.
        api_connections_max: usize = 4_096,
            "api-connections-max", "limits.api-connections-max", rule::count(1..=1_000_000, "connections");
        /// Maximum number of services with metrics of their own, the oldest first.
        metrics_services: usize = 100,
            "metrics-services", "limits.metrics-services", rule::count(0..=100_000, "services");
        /// Exports the metrics of DNS under CoreDNS's names too, for its dashboards. A sum over both servers then has twice what CoreDNS forwards here.
        metrics_coredns: Switch = Switch::Off,
            "metrics-coredns", "metrics-coredns", rule::choice();
        /// Maximum duration of an API request.
        api_request_timeout_ms: u64 = 30_000,
            "api-request-timeout-ms", "limits.api-request-timeout-ms", rule::number(100..=600_000, "milliseconds");
        /// Time without a query after which a DNS connection over TCP is closed.
        tcp_idle_timeout_ms: u64 = 30_000,
            "tcp-idle-timeout-ms", "limits.tcp-idle-timeout-ms", rule::number(100..=600_000, "milliseconds");
        /// Maximum number of DNS connections over TCP at a time; for another one, the longest idle one is closed.
        tcp_connections_max: usize = 16_384,
            "tcp-connections-max", "limits.tcp-connections-max", rule::count(1..=1_000_000, "connections");
        /// Maximum number of DNS connections over TCP of one client address at a time; for another one, its longest idle one is closed.
        tcp_connections_per_client_max: usize = 1_024,
            "tcp-connections-per-client-max", "limits.tcp-connections-per-client-max", rule::count(1..=1_000_000, "connections");
    }
}

/// A secret that signs DNS cookies (RFC 9018 §4.4).
#[derive(Clone, Copy, Eq, Hash, PartialEq)]
pub struct CookieSecret(pub [u8; 16]);

impl fmt::Display for CookieSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Hides the secret, because settings may be logged.
impl fmt::Debug for CookieSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CookieSecret(..)")
    }
}

/// Store of namespaces, services and instances: a file in the data directory, which also survives crashes and power
/// failures; custom resources of a Kubernetes cluster, which several servers may share; or the memory of the process, whose
/// contents are lost when the server stops.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(missing_docs, reason = "the type's document explains the variants")]
pub enum StoreKind {
    Embedded,
    Kubernetes,
    Memory,
}

/// Treatment of API input that AWS would refuse. Lenient validation stores it, logs it with the error that AWS would
/// return, and publishes it in DNS as far as that is possible; strict validation refuses it with that error.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(missing_docs, reason = "the type's document explains the variants")]
pub enum Validation {
    Lenient,
    Strict,
}

/// Format of log lines: lines of text, in color if standard error is a terminal, or one JSON object on each line, for log
/// collectors. `Auto` is text, with a short summary in place of the first log lines if standard error is a terminal.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(missing_docs, reason = "the type's document explains the variants")]
pub enum LogFormat {
    Auto,
    Text,
    Json,
}

/// System calls by which UDP queries are received and answered.
///
/// `Auto` uses `recvmmsg` and `sendmmsg` on Linux, which gets responses of one length to one client in one buffer with
/// `UDP_SEGMENT`, and `Portable` on other systems. `Batched` does without `UDP_SEGMENT`: each response is sent as its own
/// datagram. `Portable` has one datagram for each call, which works on every system.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(missing_docs, reason = "the type's document explains the variants")]
pub enum UdpLoop {
    Auto,
    Batched,
    Portable,
}

/// Source of the instance id of a pod: the id of its ECS task, as on AWS, or its name if it has no task; or always its
/// name.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(missing_docs, reason = "the type's document explains the variants")]
pub enum InstanceId {
    Task,
    Pod,
}

/// The value of a setting that enables or disables something.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(missing_docs, reason = "the variants are the words of the setting")]
pub enum Switch {
    On,
    Off,
}

/// Form of the Services that the mirror writes: none; headless ones; or ones with a cluster IP and the ports of their instances.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(missing_docs, reason = "the type's document explains the variants")]
pub enum Mirror {
    Off,
    On,
    ClusterIp,
}

/// Way in which this server configures CoreDNS to forward zones to it: not at all; by a key of the ConfigMap
/// `kube-system/coredns-custom`, which CoreDNS imports in k3s; or by a block in the Corefile, in the ConfigMap
/// `kube-system/coredns`, as kubeadm installs it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(missing_docs, reason = "the type's document explains the variants")]
pub enum CoreDns {
    Off,
    Custom,
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

impl Choice for Mirror {
    const WORDS: &'static [(&'static str, Mirror)] =
        &[("on", Mirror::On), ("clusterip", Mirror::ClusterIp), ("off", Mirror::Off)];
}

impl Choice for CoreDns {
    const WORDS: &'static [(&'static str, CoreDns)] =
        &[("off", CoreDns::Off), ("custom", CoreDns::Custom), ("corefile", CoreDns::Corefile)];
}

impl Choice for HealthOf {
    const WORDS: &'static [(&'static str, HealthOf)] = HealthOf::WORDS;
}

impl Choice for UnknownHealth {
    const WORDS: &'static [(&'static str, UnknownHealth)] = UnknownHealth::WORDS;
}

fn loopback_networks() -> Vec<IpNet> {
    let v4 = Ipv4Net::new(Ipv4Addr::new(127, 0, 0, 0), 8).map(IpNet::V4);
    let v6 = Ipv6Net::new(Ipv6Addr::LOCALHOST, 128).map(IpNet::V6);
    [v4, v6].into_iter().flatten().collect()
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

#[cfg(test)]
pub(crate) mod tests;
