//! A server with admin endpoints, and its zone files.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::Command as Process;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Instant;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use cloudmap_dns::admin::{Admin, Readiness, serve};
use cloudmap_dns::exposition::Collect;
use cloudmap_dns::model::{
    CustomHealthStatus, DnsRecord, DnsRecordType, NamespaceKind, RoutingPolicy, Tags,
    service::CustomHealthCheck,
};
use cloudmap_dns::registry::{
    Change, Command, Group, Registry, Reply, Settings, Store, StoreError, Verdict, WriterThread,
    command::CreateDnsConfig, command::CreateService,
};
use cloudmap_dns::snapshot::{self, Snapshot, ZoneFiles};

/// A zone file with additional records for the namespace's zone.
const OVERLAY: &str = "\
$TTL 300
www     CNAME backend
out     CNAME www.example.com.
web-9.backend A 10.8.8.8
loop    CNAME pool
pool    CNAME loop
nowhere CNAME missing
*.wild  A 10.9.9.9
a.deep  TXT \"x\"
";

/// A zone file that is a zone of its own, and the parent of [`CHILD`].
const STATIC: &str = "\
$TTL 1h
@    SOA ns hostmaster 7 1h 10m 1w 5m
@    NS ns
ns   A 10.0.0.53
sub  NS ns.sub
ns.sub A 10.0.1.53
old  DNAME new
host.new A 10.0.2.1
child NS ns.child
ns.child A 10.0.1.54
$GENERATE 1-40 link$ CNAME link${1}
";

const CHILD: &str = "\
@  3600 SOA ns hostmaster 1 1h 10m 1w 5m
@  3600 NS ns
ns 3600 A 10.0.1.54
";

/// A store that fails, as on a full disk, while the flag is set.
struct Disk(Arc<AtomicBool>);

impl Store for Disk {
    fn load(&mut self, _sink: &mut dyn FnMut(Change)) -> Result<(), StoreError> {
        Ok(())
    }

    fn commit(&mut self, batch: &[Group]) -> Result<Vec<Verdict>, StoreError> {
        if self.0.load(Ordering::SeqCst) {
            return Err(StoreError { what: "the disk is full".into(), source: None });
        }
        Ok(vec![Verdict::Accepted; batch.len()])
    }
}

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) registry: Registry,
    pub(crate) readiness: Readiness,
    pub(crate) disk_is_full: Arc<AtomicBool>,
    pub(crate) directory: PathBuf,
    pub(crate) stop: watch::Sender<bool>,
    pub(crate) served: Option<JoinHandle<io::Result<()>>>,
    _writer: WriterThread,
}

impl Drop for Server {
    fn drop(&mut self) {
        // A directory that could not be removed is below the directory for temporary files.
        let _ = fs::remove_dir_all(&self.directory);
    }
}

impl Server {
    pub(crate) async fn start(collectors: Vec<Arc<dyn Collect + Send + Sync>>) -> Server {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let directory =
            std::env::temp_dir().join(format!("cloudmap-dns-admin-{}-{number}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("production.local.zone"), OVERLAY).unwrap();
        fs::write(directory.join("static.test.zone"), STATIC).unwrap();
        fs::write(directory.join("child.static.test.zone"), CHILD).unwrap();
        fs::write(directory.join("broken.test.zone"), "@ SOA x\n").unwrap();

        let settings = Settings::default();
        let (snapshot, publisher) = Snapshot::new(snapshot::Settings {
            health: settings.health,
            negative_ttl_seconds: 5,
            name_server_addresses: vec!["192.0.2.53".parse().unwrap(), "2001:db8::53".parse().unwrap()],
        });
        let disk_is_full = Arc::new(AtomicBool::new(false));
        let store = Disk(disk_is_full.clone());
        let (registry, writer) =
            Registry::start(settings, Box::new(store), Box::new(publisher.clone())).unwrap();
        let namespace = Command::CreateNamespace {
            name: "production.local".into(),
            kind: NamespaceKind::DnsPrivate { vpc: "vpc-1".into() },
            creator_request_id: None,
            description: None,
            soa_ttl: None,
            tags: Tags::new(),
        };
        registry.submit(namespace).await.unwrap();
        let zone_files = ZoneFiles::follow(&directory, publisher).unwrap();
        let readiness = Readiness::default();
        let admin = Admin {
            is_store_shared: false,
            registry: registry.clone(),
            snapshot,
            zone_files: Some(Arc::new(zone_files)),
            pods: None,
            shadow: None,
            cluster_writer: None,
            readiness: readiness.clone(),
            collectors,
            started: Instant::now(),
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, mut stopped) = watch::channel(false);
        let shutdown = async move {
            // The sender is dropped when the test ends, which stops the server too.
            let _ = stopped.changed().await;
        };
        let served = Some(tokio::spawn(serve(listener, admin, shutdown)));
        Server { address, registry, readiness, disk_is_full, directory, stop, served, _writer: writer }
    }

    pub(crate) async fn service(
        &self,
        name: &str,
        records: &[DnsRecordType],
        routing: RoutingPolicy,
    ) -> String {
        let namespace =
            self.registry.state().namespace_by_zone("production.local").unwrap().namespace.id.clone();
        let records: Vec<_> = records.iter().map(|rtype| DnsRecord { rtype: *rtype, ttl: 60 }).collect();
        let create = CreateService {
            name: name.into(),
            namespace: Some(namespace.to_string()),
            api_only: records.is_empty(),
            dns: (!records.is_empty()).then(|| CreateDnsConfig {
                routing: Some(routing),
                records,
                ..CreateDnsConfig::default()
            }),
            custom_health_check: Some(CustomHealthCheck { failure_threshold: None }),
            ..CreateService::default()
        };
        let reply = self.registry.submit(Command::CreateService(Box::new(create))).await.unwrap();
        let Reply::Service(service) = reply else { panic!("a service is returned") };
        service.service.id.to_string()
    }

    pub(crate) async fn register(&self, service: &str, instance: &str, attributes: &[(&str, &str)]) {
        let attributes: BTreeMap<String, String> =
            attributes.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
        let command = Command::RegisterInstance {
            service: service.into(),
            instance: instance.into(),
            creator_request_id: None,
            attributes,
        };
        self.registry.submit(command).await.unwrap();
    }

    pub(crate) async fn report(&self, service: &str, instance: &str, status: CustomHealthStatus) {
        let (service, instance) = (service.into(), instance.into());
        self.registry
            .submit(Command::UpdateCustomHealth { service, instance, status, reporter: "a test".into() })
            .await
            .unwrap();
    }

    /// Creates the service of most tests, with a healthy instance, an unhealthy one and one without an address.
    pub(crate) async fn backend(&self) -> String {
        let types = [DnsRecordType::A, DnsRecordType::Srv];
        let service = self.service("backend", &types, RoutingPolicy::Multivalue).await;
        let address = |ipv4| [("AWS_INSTANCE_IPV4", ipv4), ("AWS_INSTANCE_PORT", "8080")];
        self.register(&service, "web-1", &address("10.0.0.11")).await;
        self.register(&service, "web-2", &address("10.0.0.12")).await;
        self.register(&service, "web-3", &[("stage", "blue")]).await;
        self.report(&service, "web-1", CustomHealthStatus::Healthy).await;
        self.report(&service, "web-2", CustomHealthStatus::Unhealthy).await;
        service
    }

    pub(crate) async fn get(&self, path: &str) -> (u16, String) {
        let (status, _, body) = self.request("GET", path).await;
        (status, body)
    }

    pub(crate) async fn text(&self, path: &str) -> String {
        let (status, body) = self.get(path).await;
        assert_eq!(status, 200, "{path}: {body}");
        body
    }

    /// Sends a request and returns status, head in lower case, and body.
    pub(crate) async fn request(&self, method: &str, path: &str) -> (u16, String, String) {
        let (address, method, path) = (self.address, method.to_string(), path.to_string());
        let exchange = move || {
            let mut stream = TcpStream::connect(address).unwrap();
            write!(stream, "{method} {path} HTTP/1.0\r\nHost: test\r\n\r\n").unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            let (head, body) = answer.split_once("\r\n\r\n").unwrap();
            let status = head.split(' ').nth(1).unwrap().parse().unwrap();
            (status, head.to_ascii_lowercase(), body.to_string())
        };
        tokio::task::spawn_blocking(exchange).await.unwrap()
    }

    pub(crate) async fn checked_zone(&self, name: &str) -> String {
        let text = self.text(&format!("/zone?name={name}")).await;
        let file = self.directory.join("exported");
        fs::write(&file, &text).unwrap();
        let output = Process::new("named-checkzone").arg(name).arg(&file).output().unwrap_or_else(|error| {
            panic!(
                "named-checkzone can't be run ({error}); install bind9utils (Debian) or bind-tools (Alpine)"
            )
        });
        let said =
            String::from_utf8_lossy(&output.stdout).to_string() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "named-checkzone says\n{said}\nof\n{text}");
        text
    }
}
