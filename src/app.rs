//! The whole server: builds all modules from a [`Config`], runs them, and stops them in order.
//!
//! `main` and the tests of the whole program use it. All sockets are bound and the store is opened before anything is
//! served, so that a used port or a locked store ends the start with a message and without side effects.

mod cluster;
mod encrypted;
mod files_limit;
mod health;
mod pods;
mod shadow;
mod storage;
mod transfer;

use std::io::{self, IsTerminal, Write};
use std::net::{IpAddr, SocketAddr};
use std::num::NonZero;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tracing_subscriber::EnvFilter;

use crate::admin::{self, Admin, Readiness};
use crate::api::{self, ApiMetrics};
use crate::config::{self, Config};
use crate::dns::{
    self, BoundSockets, CookieSecrets, DnsCollector, DnsMetrics, DnsServer, DnsSettings, TcpLimits,
};
use crate::exposition::Collect;
use crate::kubernetes::{Cluster, ClusterWriter, PodWatch, Servers, Shadow, host_name};
use crate::model::Identity;
use crate::registry::{
    self, Census, CheckedNetworks, HealthSettings, MinimumHealthy, OtherServers, Quotas, Registry,
    Validation, WriterThread,
};
use crate::snapshot::{self, Snapshot, ZoneFiles};
use crate::store::kubernetes::{ServiceCounts, StoreHealth};

pub use transfer::{export, import};

use health::HealthTasks;

/// Time in which all modules have to stop; those that still run are abandoned.
const STOP_MS_MAX: u64 = 5_000;
/// Default log levels of libraries, which the setting may override. The DNS and QUIC libraries would log every query, and warn
/// of what clients do wrong; the client of Kubernetes would repeat the errors of watches, which this program logs once.
const LIBRARY_LEVELS: &str = "hickory_server=error,hickory_net=error,hickory_proto=error,quinn=error,quinn_proto=error,\
                              h2=error,kube_client=error,kube_runtime=error";

/// Runs the server until SIGTERM or SIGINT. SIGHUP reloads the zone files.
pub fn run(config: Config) -> anyhow::Result<()> {
    start_logging(&config)?;
    // Only the threads of the runtime get a lower priority, not this one: the DNS workers are started from this thread and
    // inherit its priority.
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime =
        runtime.enable_all().on_thread_start(crate::priority::lower).build().context("cannot start")?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).context("cannot handle SIGTERM")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("cannot handle SIGINT")?;
        let mut hangup = signal(SignalKind::hangup()).context("cannot handle SIGHUP")?;
        let server = Server::start(&config).await?;
        // On a terminal, a short summary is printed in place of log events.
        let is_interactive = io::stderr().is_terminal() && config.log_format == config::LogFormat::Auto;
        if is_interactive {
            // The error is ignored, because the server does not need its terminal.
            let _ = io::stderr().write_all(server.summary().as_bytes());
        } else {
            server.announce();
        }
        loop {
            tokio::select! {
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                _ = hangup.recv() => server.reload(),
            }
        }
        tracing::info!("stopping");
        server.stop().await;
        tracing::info!("stopped");
        Ok(())
    })
}

/// Returns all errors of the zone files that `config` names, one on each line.
pub fn check_zones(config: &Config) -> Vec<String> {
    config.zones.as_deref().map(snapshot::check_directory).unwrap_or_default()
}

/// The addresses that the server listens on, with real ports where the settings have port 0: DNS, whose addresses are each
/// served over UDP and TCP; DNS over TLS, HTTPS and QUIC; the Cloud Map API over HTTP; and the HTTP port for operators
/// ([`crate::admin`]).
#[derive(Clone, Debug, Eq, PartialEq)]
#[expect(missing_docs, reason = "the type's document explains the fields")]
pub struct Bound {
    pub dns: Vec<SocketAddr>,
    pub dot: Vec<SocketAddr>,
    pub doh: Vec<SocketAddr>,
    pub doq: Vec<SocketAddr>,
    pub api: SocketAddr,
    pub admin: SocketAddr,
}

/// A running server. It has to be stopped with [`Server::stop`], which waits for running requests. `stored` describes the
/// place of the registry, for the summary on a terminal.
pub struct Server {
    bound: Bound,
    stored: String,
    dns: DnsServer,
    http: Vec<JoinHandle<()>>,
    stop: watch::Sender<bool>,
    zone_files: Option<Arc<ZoneFiles>>,
    followers: Followers,
    writer: WriterThread,
    /// The servers of a shared store.
    servers: Option<Arc<Servers>>,
}

type Collector = Arc<dyn Collect + Send + Sync>;

/// All sockets, bound before anything is loaded, so that a port in use ends the start at once.
struct Sockets {
    dns: Vec<BoundSockets>,
    encrypted: Option<dns::Encrypted>,
    api: TcpListener,
    admin: TcpListener,
    bound: Bound,
}

impl Sockets {
    fn bind(config: &Config) -> anyhow::Result<Sockets> {
        let (workers, udp_loop) = (workers(config), udp_loop(config));
        let dns = config.dns.iter().map(|address| {
            BoundSockets::bind(*address, workers, udp_loop)
                .with_context(|| in_use("--dns", *address, "UDP and TCP"))
        });
        let dns: Vec<_> = dns.collect::<anyhow::Result<_>>()?;
        let api = bind_tcp("--api", config.api)?;
        let admin = bind_tcp("--admin", config.admin)?;
        let mut bound = Bound {
            dns: dns.iter().map(|sockets| sockets.address).collect(),
            dot: Vec::new(),
            doh: Vec::new(),
            doq: Vec::new(),
            api: api.local_addr()?,
            admin: admin.local_addr()?,
        };
        let encrypted = encrypted::bind(config, &mut bound)?;
        Ok(Sockets { dns, encrypted, api, admin, bound })
    }
}

struct Data {
    registry: Registry,
    writer: WriterThread,
    snapshot: Arc<Snapshot>,
    zone_files: Option<Arc<ZoneFiles>>,
    counts: Option<ServiceCounts>,
    store_health: Option<StoreHealth>,
}

impl Data {
    fn load(
        config: &Config,
        cluster: Option<&Cluster>,
        bound: &Bound,
        readiness: &Readiness,
    ) -> anyhow::Result<Data> {
        let settings = registry_settings(config);
        let opened = storage::open(config, cluster, settings.clone())?;
        opened.watch(readiness);
        let store_health = opened.health();
        let (snapshot, publisher) = Snapshot::new(snapshot::Settings {
            health: settings.health,
            negative_ttl_seconds: config.negative_ttl_seconds,
            name_server_addresses: name_server_addresses(config, &bound.dns),
        });
        if config.store == config::StoreKind::Embedded {
            publisher.keep_serials(&config.data_dir);
        }
        if let Some(zone_files) = &opened.zone_files {
            publisher.share_serials(zone_files.clone());
        }
        let (registry, writer) = Registry::start(settings, opened.store, Box::new(publisher.clone()))?;
        let zone_files = match &config.zones {
            Some(directory) => Some(Arc::new(ZoneFiles::follow(directory, publisher)?)),
            None => {
                publisher.files_were_read();
                None
            }
        };
        Ok(Data { registry, writer, snapshot, zone_files, counts: opened.counts, store_health })
    }
}

#[derive(Default)]
struct Followers {
    pods: Option<PodWatch>,
    shadow: Option<Shadow>,
    cluster_writer: Option<ClusterWriter>,
    counts: Option<JoinHandle<()>>,
    /// The tasks of health of a store that no other server shares.
    own_health: Option<JoinHandle<()>>,
}

impl Followers {
    fn start(
        config: &Config,
        cluster: Option<&Cluster>,
        registry: &Registry,
        snapshot: &Arc<Snapshot>,
        counts: Option<ServiceCounts>,
        health: HealthTasks,
        servers: Option<&Arc<Servers>>,
    ) -> anyhow::Result<Followers> {
        let is_shared = config.store == config::StoreKind::Kubernetes;
        let own_health = (!is_shared).then(|| tokio::spawn(health.clone().run()));
        let Some(cluster) = cluster else {
            return Ok(Followers { own_health, ..Followers::default() });
        };
        let shadow = shadow::follow(cluster, config, registry)?;
        let pods = pods::watch(cluster, config, registry)?;
        let cluster_writer = cluster::write(cluster, config, registry, health, &pods, snapshot, servers)?;
        let counts = counts.map(|counts| tokio::spawn(counts.follow(registry.clone(), pods.status())));
        Ok(Followers { pods: Some(pods), shadow, cluster_writer, counts, own_health })
    }

    fn collectors(&self) -> Vec<Collector> {
        let pods = self.pods.as_ref().map(|pods| pods.status() as Collector);
        let shadow = self.shadow.as_ref().map(|shadow| shadow.status() as Collector);
        let writer = self.cluster_writer.as_ref().map(|writer| Arc::new(writer.status()) as Collector);
        [pods, shadow, writer].into_iter().flatten().collect()
    }

    /// Releases the leader lease first, so that another replica can take over while this one still stops.
    async fn stop(self) {
        if let Some(cluster_writer) = self.cluster_writer {
            cluster_writer.stop().await;
        }
        for task in [self.counts, self.own_health].into_iter().flatten() {
            task.abort();
        }
        if let Some(pods) = self.pods {
            pods.stop().await;
        }
        if let Some(shadow) = self.shadow {
            shadow.stop().await;
        }
    }
}

impl Server {
    /// Binds all sockets, loads the store and starts to serve. It must be called in a tokio runtime.
    pub async fn start(config: &Config) -> anyhow::Result<Server> {
        let connections_max = files_limit::connections(config);
        check_zone_directory(config)?;
        let readiness = Readiness::default();
        let loading = readiness.task("registry");
        let Sockets { dns, encrypted, api, admin, bound } = Sockets::bind(config)?;
        let cluster = cluster::find(config).await?;
        let server_id = server_id();
        let servers = cluster::servers(cluster.as_ref(), config, &server_id, reachable_address(bound.api))?;
        let data = Data::load(config, cluster.as_ref(), &bound, &readiness)?;
        let health = HealthTasks::new(config, &data.registry, connections_max.checks)?;
        let check_metrics = health.metrics();
        let (registry, snapshot) = (&data.registry, &data.snapshot);
        let followers = Followers::start(
            config,
            cluster.as_ref(),
            registry,
            snapshot,
            data.counts,
            health,
            servers.as_ref(),
        )?;
        loading.done();
        if let Some(servers) = &servers {
            servers.join().await;
        }

        let (stop, _) = watch::channel(false);
        let common = dns_common(config)?;
        if let Some(pods) = &followers.pods {
            common.set_stale_flag(pods.status().stale_flag());
        }
        let dns_metrics = Arc::new(DnsMetrics::default());
        let settings = dns_settings(config, connections_max.dns);
        let snapshot = data.snapshot.clone();
        let dns = DnsServer::start(dns, encrypted, snapshot, common, dns_metrics.clone(), settings)
            .context("cannot start the DNS workers")?;

        let api_metrics = Arc::new(ApiMetrics::default());
        let limits = api_limits(config, connections_max.api);
        let webhook = (config.webhook == config::Switch::On).then(|| api::AlertLabels {
            service: config.webhook_service_label.clone(),
            instance: config.webhook_instance_label.clone(),
            address: config.webhook_address_label.clone(),
        });
        let others = servers.clone().map(|servers| servers as Arc<dyn OtherServers>);
        let knows_pods = followers
            .pods
            .as_ref()
            .map(PodWatch::status)
            .map(|pods| Arc::new(move || pods.has_synced()) as Arc<dyn Fn() -> bool + Send + Sync>);
        let options = api::Options { limits, webhook, server_id, others, knows_pods };
        let api = api::serve(api, data.registry.clone(), options, api_metrics.clone(), stopped(&stop));
        let (history, served) = (data.registry.history().clone(), data.registry.served().clone());
        let census = Arc::new(Census::new(data.registry.clone(), config.metrics_services));
        let has_coredns_names = config.metrics_coredns == config::Switch::On;
        let dns_collector =
            Arc::new(DnsCollector::new(dns_metrics, data.snapshot.clone(), has_coredns_names));
        let mut collectors: Vec<Collector> = vec![
            dns_collector,
            Arc::new(dns.tcp_gauge()),
            api_metrics,
            census,
            history,
            served,
            check_metrics,
        ];
        collectors.extend(data.store_health.map(|health| Arc::new(health) as Collector));
        collectors.extend(followers.collectors());
        let state = Admin {
            registry: data.registry,
            is_store_shared: config.store == config::StoreKind::Kubernetes,
            snapshot: data.snapshot,
            zone_files: data.zone_files.clone(),
            pods: followers.pods.as_ref().map(PodWatch::status),
            shadow: followers.shadow.as_ref().map(Shadow::status),
            cluster_writer: followers.cluster_writer.as_ref().map(ClusterWriter::status),
            readiness,
            collectors,
            started: Instant::now(),
        };
        let stopped_admin = stopped(&stop);
        let admin = async move {
            if let Err(error) = admin::serve(admin, state, stopped_admin).await {
                tracing::error!(%error, "the admin port stopped");
            }
        };
        let http = vec![tokio::spawn(api), tokio::spawn(admin)];
        let stored = describe_store(config, cluster.as_ref());
        let (zone_files, writer) = (data.zone_files, data.writer);
        Ok(Server { bound, stored, dns, http, stop, zone_files, followers, writer, servers })
    }

    /// Returns the addresses that the server listens on.
    pub fn bound(&self) -> &Bound {
        &self.bound
    }

    /// Reads all zone files again, also unchanged ones. It does nothing without a directory of zone files.
    pub fn reload(&self) {
        tracing::info!("reading the zone files again");
        if let Some(files) = &self.zone_files {
            files.reload();
        }
    }

    /// Stops the server. The API finishes and stores its running changes, and DNS is stopped last.
    pub async fn stop(self) {
        let Server { dns, http, stop, zone_files, followers, writer, servers, .. } = self;
        stop.send_replace(true);
        let orderly = async {
            followers.stop().await;
            for task in http {
                if let Err(error) = task.await {
                    tracing::error!(%error, "an HTTP server panicked");
                }
            }
            // Joining threads blocks, which is allowed only on a blocking thread.
            let joined = tokio::task::spawn_blocking(move || {
                drop(zone_files);
                writer.stop();
            });
            if joined.await.is_err() {
                tracing::error!("the registry's writer panicked");
            }
            dns.stop().await;
        };
        if tokio::time::timeout(Duration::from_millis(STOP_MS_MAX), orderly).await.is_err() {
            tracing::warn!(milliseconds = STOP_MS_MAX, "not everything stopped in time");
        }
        if let Some(servers) = servers {
            servers.leave().await;
        }
    }

    fn announce(&self) {
        for address in &self.bound.dns {
            tracing::info!(service = "dns", %address, "listening");
        }
        for (service, addresses) in
            [("dot", &self.bound.dot), ("doh", &self.bound.doh), ("doq", &self.bound.doq)]
        {
            for address in addresses {
                tracing::info!(service, %address, "listening");
            }
        }
        tracing::info!(service = "api", address = %self.bound.api, "listening");
        tracing::info!(service = "admin", address = %self.bound.admin, "listening");
        tracing::info!("ready");
    }

    fn summary(&self) -> String {
        let dns: Vec<_> = self.bound.dns.iter().map(ToString::to_string).collect();
        let program = std::env::args().next().unwrap_or_else(|| env!("CARGO_PKG_NAME").into());
        format!(
            "cloudmap-dns {}\n  DNS    {} (UDP and TCP)\n  API    http://{}\n  admin  http://{}\n  data   {}\n\n\
             In another terminal:\n  eval \"$({program} env)\"\n  \
             aws servicediscovery create-private-dns-namespace --name production.local --vpc vpc-1\n",
            env!("CARGO_PKG_VERSION"),
            dns.join(", "),
            self.bound.api,
            self.bound.admin,
            self.stored,
        )
    }
}

fn start_logging(config: &Config) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(format!("{LIBRARY_LEVELS},{}", config.log_level))
        .context("--log-level is not valid")?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    match config.log_format {
        config::LogFormat::Json => builder.json().init(),
        config::LogFormat::Auto | config::LogFormat::Text => {
            builder.with_ansi(io::stderr().is_terminal()).init();
        }
    }
    Ok(())
}

fn registry_settings(config: &Config) -> registry::Settings {
    registry::Settings {
        identity: Identity {
            account_id: config.account_id.as_str().into(),
            region: config.region.as_str().into(),
        },
        validation: match config.validation {
            config::Validation::Lenient => Validation::Lenient,
            config::Validation::Strict => Validation::Strict,
        },
        quotas: Quotas {
            namespaces: config.max_namespaces,
            services: config.max_services,
            instances_per_service: config.max_instances_per_service,
            instances: config.max_instances,
            attributes_per_instance: config.max_attributes_per_instance,
            tags_per_resource: config.max_tags_per_resource,
            attributes_per_service: config.max_service_attributes,
        },
        operations_retained: config.operations_retained,
        health: HealthSettings {
            unknown: config.unknown,
            minimum_healthy: match config.minimum_healthy {
                MinimumHealthy::Count(0) if config.fail_open => MinimumHealthy::FAIL_OPEN,
                minimum => minimum,
            },
            answer_max: config.answer_max,
            health_of: config.health_of,
            grace: config.grace,
            up_after: config.up_after,
            down_after: config.down_after,
            heartbeat: config.heartbeat,
            expire: config.expire,
            custom_health_delay: config.custom_health_delay,
            settling_ttl: config.settling_ttl,
            checked: CheckedNetworks::new(config.checks_allow.clone()),
        },
    }
}

fn check_zone_directory(config: &Config) -> anyhow::Result<()> {
    match &config.zones {
        Some(directory) if !directory.is_dir() => anyhow::bail!(
            "--zones {}: there is no such directory; make it, or leave the setting out",
            directory.display()
        ),
        _ => Ok(()),
    }
}

fn api_limits(config: &Config, connections_max: usize) -> api::Limits {
    api::Limits {
        body_bytes_max: config.api_body_bytes_max,
        connections_max,
        request_timeout_ms: config.api_request_timeout_ms,
        ..api::Limits::default()
    }
}

fn describe_store(config: &Config, cluster: Option<&Cluster>) -> String {
    match config.store {
        config::StoreKind::Embedded => format!("in {}", config.data_dir.display()),
        config::StoreKind::Kubernetes => {
            let namespace = storage::namespace(config, cluster);
            format!("in custom resources, in the Kubernetes namespace {namespace}")
        }
        config::StoreKind::Memory => "in memory, until this program ends".into(),
    }
}

fn dns_common(config: &Config) -> anyhow::Result<Arc<dns::Common>> {
    let server_id = config.server_id.clone().unwrap_or_else(host_name);
    let secrets: Vec<_> = config.cookie_secrets.iter().map(|secret| secret.0).collect();
    let secrets = CookieSecrets::new(&secrets).context("cannot make a secret for DNS cookies")?;
    Ok(dns::Common::new(&server_id, secrets))
}

fn dns_settings(config: &Config, connections_max: usize) -> DnsSettings {
    let rate_limit = (config.rate_limit_per_second > 0).then_some(dns::RateLimit {
        responses_per_second: config.rate_limit_per_second,
        slip: config.rate_limit_slip,
    });
    DnsSettings {
        rate_limit,
        tcp: TcpLimits {
            idle_timeout: Duration::from_millis(config.tcp_idle_timeout_ms),
            connections_max,
            connections_per_client_max: config.tcp_connections_per_client_max,
        },
        transfer_allow: config.transfer_allow.clone(),
        notify: config.notify.clone(),
    }
}

fn udp_loop(config: &Config) -> dns::UdpLoop {
    match config.udp_loop {
        config::UdpLoop::Auto => dns::UdpLoop::Auto,
        config::UdpLoop::Batched => dns::UdpLoop::Batched,
        config::UdpLoop::Portable => dns::UdpLoop::Portable,
    }
}

/// Returns the number of UDP workers: that of the settings, or one for each CPU that the process may use. CPU affinity and
/// the cgroup's CPU quota are respected. A fractional quota is rounded down, because a thread for a fraction of a CPU would
/// be throttled while it answers queries.
fn workers(config: &Config) -> usize {
    match config.workers {
        0 => thread::available_parallelism().map_or(1, NonZero::get),
        workers => workers,
    }
}

/// Returns the addresses of the zones' name server: those of the settings, or those that DNS is bound to. A wildcard
/// address is replaced by the addresses of this host's interfaces.
fn name_server_addresses(config: &Config, bound: &[SocketAddr]) -> Vec<IpAddr> {
    if !config.ns_addresses.is_empty() {
        return config.ns_addresses.clone();
    }
    let mut addresses = Vec::new();
    for address in bound.iter().map(SocketAddr::ip) {
        if address.is_unspecified() {
            addresses.extend(interface_addresses().filter(|other| other.is_ipv4() == address.is_ipv4()));
        } else {
            addresses.push(address);
        }
    }
    addresses.sort();
    addresses.dedup();
    addresses
}

/// A name of this process that no other has.
fn server_id() -> String {
    format!("{}_{:016x}", host_name(), fastrand::u64(..))
}

/// Address at which other hosts reach a listener: its own, or the first one of this host's interfaces in place of a wildcard.
fn reachable_address(bound: SocketAddr) -> SocketAddr {
    let is_v4 = bound.is_ipv4();
    let other = || interface_addresses().min_by_key(|address| address.is_ipv4() != is_v4);
    match bound.ip().is_unspecified().then(other).flatten() {
        Some(address) => SocketAddr::new(address, bound.port()),
        None => bound,
    }
}

fn interface_addresses() -> impl Iterator<Item = IpAddr> {
    let interfaces = nix::ifaddrs::getifaddrs().into_iter().flatten();
    interfaces.filter_map(|interface| {
        let address = interface.address?;
        let v4 = address.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
        let v6 = address.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip()));
        v4.or(v6).filter(|address| !address.is_loopback() && !is_link_local(address))
    })
}

fn is_link_local(address: &IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

fn bind_tcp(flag: &str, address: SocketAddr) -> anyhow::Result<TcpListener> {
    let bind = || -> io::Result<TcpListener> {
        let listener = std::net::TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        TcpListener::from_std(listener)
    };
    bind().with_context(|| in_use(flag, address, "TCP"))
}

fn in_use(flag: &str, address: SocketAddr, protocol: &str) -> String {
    format!(
        "cannot listen on {address} ({protocol}); if another program uses port {}, stop it or choose another address \
         with {flag} ADDR:PORT",
        address.port()
    )
}

async fn wait_for(mut stopped: watch::Receiver<bool>) {
    // The sender is dropped only when the server stops.
    let _ = stopped.wait_for(|stop| *stop).await;
}

fn stopped(stop: &watch::Sender<bool>) -> impl Future<Output = ()> + Send + 'static {
    wait_for(stop.subscribe())
}
