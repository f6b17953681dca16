//! The port for operators, asked over HTTP as curl and Prometheus do.

#![expect(clippy::unwrap_used, reason = "a test ends where something is wrong")]

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::Command as Process;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Instant;

use cloudmap_dns::admin::{Admin, Collect, Exposition, Readiness, serve};
use cloudmap_dns::model::{
    CustomHealthStatus, DnsRecord, DnsRecordType, NamespaceKind, RoutingPolicy, Tags,
    service::CustomHealthCheck,
};
use cloudmap_dns::registry::{
    Change, Command, Group, Registry, Reply, Settings, Store, StoreError, Verdict, WriterThread,
    command::CreateDnsConfig, command::CreateService,
};
use cloudmap_dns::snapshot::{self, Snapshot, ZoneFiles};

/// A zone file that adds to the namespace's zone.
const OVERLAY: &str = "\
$TTL 300
www     CNAME backend
out     CNAME www.example.com.
loop    CNAME pool
pool    CNAME loop
nowhere CNAME missing
*.wild  A 10.9.9.9
a.deep  TXT \"x\"
";

/// A zone of its own.
const STATIC: &str = "\
$TTL 1h
@    SOA ns hostmaster 7 1h 10m 1w 5m
@    NS ns
ns   A 10.0.0.53
sub  NS ns.sub
ns.sub A 10.0.1.53
old  DNAME new
host.new A 10.0.2.1
";

/// A store whose disk can be full.
struct Disk(Arc<AtomicBool>);

impl Store for Disk {
    fn load(&mut self, _sink: &mut dyn FnMut(Change)) -> Result<(), StoreError> {
        Ok(())
    }

    fn commit(&mut self, batch: &[Group]) -> Result<Vec<Verdict>, StoreError> {
        match self.0.load(Ordering::SeqCst) {
            true => Err(StoreError { what: "the disk is full".into(), source: None }),
            false => Ok(vec![Verdict::Accepted; batch.len()]),
        }
    }
}

struct Queries;

impl Collect for Queries {
    fn collect(&self, out: &mut Exposition) {
        out.counter("queries_total", "Queries.").sample(&[("transport", "udp")], 3u64);
    }
}

/// Panics when it is asked.
struct Broken;

impl Collect for Broken {
    fn collect(&self, _out: &mut Exposition) {
        panic!("a test of what a panic does");
    }
}

/// A server with a namespace, services and zone files. Dropping it removes its files.
struct Server {
    address: SocketAddr,
    registry: Registry,
    readiness: Readiness,
    disk_is_full: Arc<AtomicBool>,
    directory: PathBuf,
    _writer: WriterThread,
}

impl Drop for Server {
    fn drop(&mut self) {
        // What stays behind is in the directory for temporary files.
        let _ = fs::remove_dir_all(&self.directory);
    }
}

impl Server {
    async fn start(collectors: Vec<Arc<dyn Collect + Send + Sync>>) -> Server {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let directory =
            std::env::temp_dir().join(format!("cloudmap-dns-admin-{}-{number}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("production.local.zone"), OVERLAY).unwrap();
        fs::write(directory.join("static.test.zone"), STATIC).unwrap();
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
            registry: registry.clone(),
            snapshot,
            zone_files: Some(Arc::new(zone_files)),
            readiness: readiness.clone(),
            collectors,
            started: Instant::now(),
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(serve(listener, admin, std::future::pending()));
        Server { address, registry, readiness, disk_is_full, directory, _writer: writer }
    }

    async fn service(&self, name: &str, records: &[DnsRecordType], routing: RoutingPolicy) -> String {
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

    async fn register(&self, service: &str, instance: &str, attributes: &[(&str, &str)]) {
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

    async fn report(&self, service: &str, instance: &str, status: CustomHealthStatus) {
        let (service, instance) = (service.into(), instance.into());
        self.registry.submit(Command::UpdateCustomHealth { service, instance, status }).await.unwrap();
    }

    /// The service of most tests: one healthy instance, one unhealthy, one without an address.
    async fn backend(&self) -> String {
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

    async fn get(&self, path: &str) -> (u16, String) {
        let (status, _, body) = self.request("GET", path).await;
        (status, body)
    }

    /// The body, when the status is 200.
    async fn text(&self, path: &str) -> String {
        let (status, body) = self.get(path).await;
        assert_eq!(status, 200, "{path}: {body}");
        body
    }

    /// Status, head and body.
    async fn request(&self, method: &str, path: &str) -> (u16, String, String) {
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

    /// The live zone, after named-checkzone found nothing wrong with it.
    async fn checked_zone(&self, name: &str) -> String {
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

/// The text has these pieces, one after the other.
#[track_caller]
fn assert_in_order(text: &str, pieces: &[&str]) {
    let mut rest = text;
    for piece in pieces {
        let Some((_, after)) = rest.split_once(piece) else {
            panic!("`{piece}` is not in its place in\n{text}")
        };
        rest = after;
    }
}

#[tokio::test]
async fn probes_say_what_is_missing() {
    let server = Server::start(Vec::new()).await;
    assert_eq!(server.get("/livez").await, (200, "ok\n".into()));
    assert_eq!(server.get("/readyz").await, (200, "ok\n".into()));
    let sockets = server.readiness.task("sockets");
    assert_eq!(server.get("/readyz").await, (503, "not ready\nsockets: pending\n".into()));
    sockets.failing("port 53 is in use");
    assert_eq!(server.get("/readyz?verbose").await.1, "not ready\nsockets: port 53 is in use\nstore: ok\n");
    sockets.done();
    assert_eq!(server.text("/readyz?verbose").await, "ok\nsockets: ok\nstore: ok\n");
}

#[tokio::test]
async fn a_store_that_fails_makes_the_server_unready_and_says_that_dns_answers() {
    let server = Server::start(Vec::new()).await;
    let service = server.backend().await;
    server.disk_is_full.store(true, Ordering::SeqCst);
    let command = Command::DeregisterInstance { service, instance: "web-1".into() };
    server.registry.submit(command).await.unwrap_err();
    let (status, body) = server.get("/readyz").await;
    assert_eq!(status, 503);
    assert!(body.contains("the disk is full") && body.contains("DNS still answers"), "{body}");
    assert_eq!(server.get("/livez").await.0, 200);
    let metrics = server.text("/metrics").await;
    assert_in_order(&metrics, &["\ncloudmap_dns_ready 0\n", "\ncloudmap_dns_store_failed 1\n"]);
}

#[tokio::test]
async fn metrics_count_what_there_is_and_what_others_hand_in() {
    let server = Server::start(vec![Arc::new(Queries)]).await;
    server.backend().await;
    let (status, head, body) = server.request("GET", "/metrics").await;
    assert_eq!(status, 200);
    assert!(head.contains("content-type: text/plain; version=0.0.4"), "{head}");
    let file = |name: &str| server.directory.join(name).display().to_string();
    let ok = |name: &str, zone: &str, value: u8| {
        format!("cloudmap_dns_zone_file_ok{{file=\"{}\",zone=\"{zone}\"}} {value}", file(name))
    };
    for line in [
        &*format!("cloudmap_dns_build_info{{version=\"{}\"}} 1", env!("CARGO_PKG_VERSION")),
        "# TYPE cloudmap_dns_namespaces gauge",
        "cloudmap_dns_namespaces 1",
        "cloudmap_dns_services 1",
        "cloudmap_dns_instances 3",
        "cloudmap_dns_operations 4",
        "cloudmap_dns_zones 2",
        "cloudmap_dns_store_failed 0",
        "cloudmap_dns_zone_file_errors 1",
        &ok("broken.test.zone", "broken.test.", 0),
        &ok("static.test.zone", "static.test.", 1),
        "# TYPE cloudmap_dns_queries_total counter",
        "cloudmap_dns_queries_total{transport=\"udp\"} 3",
        "# TYPE process_resident_memory_bytes gauge",
    ] {
        assert!(body.lines().any(|found| found == line), "{line} is not in\n{body}");
    }
}

#[tokio::test]
async fn other_paths_and_methods_and_panics_get_answers() {
    let server = Server::start(vec![Arc::new(Broken)]).await;
    let (status, body) = server.get("/metric").await;
    assert_eq!(status, 404);
    assert_in_order(&body, &["/metric", "/livez", "/readyz", "/metrics", "/explain", "/zone"]);
    let (status, head, _) = server.request("POST", "/zone?name=production.local").await;
    assert_eq!(status, 405);
    assert!(head.contains("content-type: text/plain; charset=utf-8"), "{head}");
    assert_eq!(server.get("/metrics").await.0, 500);
    assert_eq!(server.get("/livez").await.0, 200);
    assert_eq!(server.get("/explain").await.0, 400);
    let (status, body) = server.get("/explain?name=a&type=NOPE").await;
    assert_eq!(status, 400);
    assert!(body.contains("`NOPE` is no record type"), "{body}");
    let (status, body) = server.get("/zone?name=backend.production.local").await;
    assert_eq!(status, 404);
    assert_eq!(
        body,
        "there is no zone backend.production.local.; the name is in the zone production.local.\n"
    );
    assert_eq!(server.get("/zone?name=example.com").await.0, 404);
}

#[tokio::test]
async fn every_instance_gets_its_verdict() {
    let server = Server::start(Vec::new()).await;
    let id = server.backend().await;
    let text = server.text("/explain?name=Backend.production.local&type=A").await;
    assert_in_order(
        &text,
        &[
            "Backend.production.local. A\n",
            "zone      production.local., serial ",
            "kind      Cloud Map namespace ns-",
            ", DNS_PRIVATE\n",
            "production.local.zone: served\n",
            "lookup\n  1   Backend.production.local.: a service with 1 A record to answer\n",
            &format!("service   backend ({id})\n"),
            "routing   MULTIVALUE",
            "records   A with TTL 60, SRV with TTL 60\n",
            "health    custom health check; fail-open off; unknown health is served\n",
            "instances 3, of which health lets 2 through\n",
            "  web-1  10.0.0.11:8080  HEALTHY    served\n",
            "  web-2  10.0.0.12:8080  UNHEALTHY  not served: custom health status UNHEALTHY\n",
            "  web-3  -               HEALTHY    not served: no AWS_INSTANCE_IPV4: no A record; no AWS_INSTANCE_PORT: no SRV record\n",
            "answer    NOERROR\n",
            "  Backend.production.local. 60 IN A 10.0.0.11\n",
        ],
    );
    let srv = server.text("/explain?name=backend.production.local&type=SRV").await;
    assert_in_order(
        &srv,
        &[
            "  backend.production.local. 60 IN SRV 1 1 8080 web-1.backend.production.local.\n",
            "additional\n  web-1.backend.production.local. 60 IN A 10.0.0.11\n",
        ],
    );
    let named = server.text("/explain?name=web-2.backend.production.local").await;
    assert_in_order(&named, &["an instance of the service backend.production.local.", "60 IN A 10.0.0.12\n"]);
}

#[tokio::test]
async fn fail_open_is_named_where_it_is_why_an_instance_is_served() {
    let server = Server::start(Vec::new()).await;
    let id = server.backend().await;
    server.report(&id, "web-1", CustomHealthStatus::Unhealthy).await;
    server.report(&id, "web-3", CustomHealthStatus::Unhealthy).await;
    let text = server.text("/explain?name=backend.production.local").await;
    assert_in_order(
        &text,
        &[
            "a service with nothing to answer: of 3 instances, health lets 0 through\n",
            "answer    NOERROR without records of the type (NODATA)\n",
            "authority\n  production.local. 5 IN SOA ns.dns.production.local. ",
        ],
    );
    let attributes = BTreeMap::from([("fail-open".into(), "true".into())]);
    let service = id.clone();
    server.registry.submit(Command::UpdateServiceAttributes { service, attributes }).await.unwrap();
    let text = server.text("/explain?name=backend.production.local").await;
    assert_in_order(
        &text,
        &[
            "fail-open on",
            "instances 3, of which health lets 3 through\n",
            "web-1  10.0.0.11:8080  UNHEALTHY  served (fail-open: no instance is healthy)\n",
            "IN A 10.0.0.11\n",
        ],
    );
}

#[tokio::test]
async fn canonical_names_are_followed_within_the_zone() {
    let server = Server::start(Vec::new()).await;
    server.backend().await;
    let explain = async |name: &str| server.text(&format!("/explain?name={name}")).await;
    assert_in_order(
        &explain("www.production.local").await,
        &[
            "1   www.production.local.: a CNAME record, to backend.production.local.\n",
            "2   backend.production.local.: a service with 1 A record",
            "service   backend",
            "  www.production.local. 300 IN CNAME backend.production.local.\n",
            "  backend.production.local. 60 IN A 10.0.0.11\n",
        ],
    );
    assert_in_order(
        &explain("out.production.local").await,
        &["www.example.com. is in no zone here: the answer ends here\n", "answer    NOERROR\n"],
    );
    let text = explain("loop.production.local").await;
    assert_in_order(&text, &["3   loop.production.local. was there before, a loop", "answer    NOERROR\n"]);
    let text = explain("nowhere.production.local").await;
    assert_in_order(&text, &["missing.production.local.: does not exist", "answer    NXDOMAIN\n", "IN SOA"]);
    let text = explain("x.wild.production.local").await;
    assert_in_order(
        &text,
        &["by the wildcard *.wild.production.local.", "x.wild.production.local. 300 IN A 10.9.9.9"],
    );
    assert_in_order(
        &explain("deep.production.local").await,
        &["exists only because there are names below it"],
    );
    assert_in_order(
        &explain("host.old.static.test").await,
        &[
            "kind      zone file\n",
            "the DNAME at old.static.test., to host.new.static.test.\n",
            "  old.static.test. 3600 IN DNAME new.static.test.\n",
            "  host.new.static.test. 3600 IN A 10.0.2.1\n",
        ],
    );
    assert_in_order(
        &explain("x.sub.static.test").await,
        &[
            "a referral to the name servers of sub.static.test.",
            "authority\n  sub.static.test.",
            "10.0.1.53\n",
        ],
    );
    let text = explain("www.example.com").await;
    assert_in_order(&text, &["zone      none", "production.local., static.test.\n", "answer    REFUSED\n"]);
}

#[tokio::test]
async fn a_service_outside_dns_and_long_lists_are_said_so() {
    let server = Server::start(Vec::new()).await;
    server.service("jobs", &[], RoutingPolicy::Multivalue).await;
    let text = server.text("/explain?name=jobs.production.local").await;
    assert_in_order(&text, &["is of type HTTP, which is not in DNS\n", "answer    NXDOMAIN\n"]);
    let many = server.service("many", &[DnsRecordType::A], RoutingPolicy::Multivalue).await;
    for at in 0..1_000 {
        let address = format!("10.1.{}.{}", at / 250, at % 250);
        server.register(&many, &format!("i{at:04}"), &[("AWS_INSTANCE_IPV4", &address)]).await;
    }
    let text = server.text("/explain?name=many.production.local").await;
    assert_in_order(&text, &["up to 8 of 1000, drawn for each query:\n", "10.1.3.249\n"]);
    let zone = server.checked_zone("production.local").await;
    assert_eq!(zone.lines().filter(|line| line.starts_with("many.")).count(), 1_000);
}

#[tokio::test]
async fn the_zone_is_a_master_file_of_all_that_is_served() {
    let server = Server::start(Vec::new()).await;
    server.backend().await;
    // Ids that are no host names, and two that are one name.
    let odd = server.service("odd", &[DnsRecordType::A, DnsRecordType::Srv], RoutingPolicy::Multivalue).await;
    let address = |ipv4| [("AWS_INSTANCE_IPV4", ipv4), ("AWS_INSTANCE_PORT", "1")];
    for (instance, ipv4) in [("a@b:c", "10.0.1.1"), ("x.y", "10.0.1.2"), ("Q", "10.0.1.3"), ("q", "10.0.1.4")]
    {
        server.register(&odd, instance, &address(ipv4)).await;
    }
    let lb = server.service("lb", &[DnsRecordType::A], RoutingPolicy::Weighted).await;
    server.register(&lb, "one", &[("AWS_ALIAS_DNS_NAME", "lb-1.example.com")]).await;
    server.register(&lb, "two", &[("AWS_ALIAS_DNS_NAME", "lb-2.example.com")]).await;
    let named = server.service("named", &[DnsRecordType::Cname], RoutingPolicy::Weighted).await;
    server.register(&named, "one", &[("AWS_INSTANCE_CNAME", "a.example.com")]).await;
    let apex = server.service(".", &[DnsRecordType::A], RoutingPolicy::Multivalue).await;
    server.register(&apex, "root", &[("AWS_INSTANCE_IPV4", "10.0.3.1")]).await;

    let text = server.checked_zone("production.local").await;
    let serial = server.registry.state().sequence();
    let soa = format!(
        "production.local.\t5\tIN\tSOA\tns.dns.production.local. hostmaster.production.local. {serial} 7200 900 1209600 5"
    );
    for line in [
        &*soa,
        "production.local.\t60\tIN\tNS\tns.dns.production.local.",
        "production.local.\t60\tIN\tA\t10.0.3.1",
        "root.production.local.\t60\tIN\tA\t10.0.3.1",
        "ns.dns.production.local.\t60\tIN\tA\t192.0.2.53",
        "ns.dns.production.local.\t60\tIN\tAAAA\t2001:db8::53",
        "www.production.local.\t300\tIN\tCNAME\tbackend.production.local.",
        "backend.production.local.\t60\tIN\tA\t10.0.0.11",
        "backend.production.local.\t60\tIN\tSRV\t1 1 8080 web-1.backend.production.local.",
        "web-2.backend.production.local.\t60\tIN\tA\t10.0.0.12",
        r"a\@b:c.odd.production.local.	60	IN	A	10.0.1.1",
        "x.y.odd.production.local.\t60\tIN\tA\t10.0.1.2",
        "lb.production.local.\t60\tIN\tCNAME\tlb-1.example.com.",
        "named.production.local.\t60\tIN\tCNAME\ta.example.com.",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
    assert!(!text.contains("\nbackend.production.local.\t60\tIN\tA\t10.0.0.12"), "{text}");
    assert!(text.contains("\n; lb.production.local. 60 IN CNAME lb-2.example.com. ; "), "{text}");
    let same_name = text
        .lines()
        .filter(|line| line.to_ascii_lowercase().starts_with("q.odd.production.local.\t60\tin\ta\t"));
    assert_eq!(same_name.count(), 2, "{text}");

    let text = server.checked_zone("static.test").await;
    assert!(
        text.contains("static.test.\t3600\tIN\tSOA\tns.static.test. hostmaster.static.test. 7 "),
        "{text}"
    );
    assert!(text.contains("ns.sub.static.test.\t3600\tIN\tA\t10.0.1.53"), "{text}");
}
