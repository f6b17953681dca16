//! The admin endpoints, requested over HTTP as curl and Prometheus do.

#![expect(clippy::unwrap_used, reason = "a panic is a failed test")]

mod server;

use std::collections::BTreeMap;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use cloudmap_dns::exposition::{Collect, Exposition};
use cloudmap_dns::model::{CustomHealthStatus, DnsRecordType, RoutingPolicy};
use cloudmap_dns::registry::Command;

use server::Server;

struct Queries;

impl Collect for Queries {
    fn collect(&self, out: &mut Exposition) {
        out.counter("queries_total", "Queries.").sample(&[("transport", "udp")], 3u64);
    }
}

struct Broken;

impl Collect for Broken {
    fn collect(&self, _out: &mut Exposition) {
        panic!("a test of what a panic does");
    }
}

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
async fn readiness_probe_names_the_pending_tasks() {
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
async fn store_failure_makes_the_server_unready_while_dns_answers() {
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
async fn metrics_contain_the_counts_of_objects_and_those_of_collectors() {
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
        "cloudmap_dns_zones 3",
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
async fn unknown_paths_wrong_methods_and_panics_return_an_error_status() {
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
    let (status, body) = server.get("/zone?name=example.com").await;
    assert_eq!(status, 404);
    assert_eq!(
        body,
        "there is no zone example.com.; there is production.local., static.test., child.static.test.\n"
    );
}

#[tokio::test]
async fn explain_reports_for_each_instance_whether_it_is_served() {
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
            "health    custom health check; fail-open off; unknown health is a fallback\n",
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
    assert_in_order(&named, &["an instance of the service backend.production.local.", "5 IN A 10.0.0.12\n"]);
}

#[tokio::test]
async fn explain_names_fail_open_as_the_reason_for_a_served_instance() {
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
async fn explain_follows_cname_and_dname_within_the_zone() {
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
    // The parent zone answers DS at the apex of a zone, if it has the zone cut (RFC 4035 §3.1.4.1).
    let text = explain("child.static.test&type=DS").await;
    assert_in_order(&text, &["zone      static.test.", "no DS record; the name has NS", "(NODATA)\n"]);
    let text = explain("child.static.test&type=SOA").await;
    assert_in_order(&text, &["zone      child.static.test.", "IN SOA ns.child.static.test. "]);
    let text = explain("link1.static.test").await;
    assert_in_order(
        &text,
        &["  32  link32.", "  33  link33.static.test.: not followed after 32 names", "answer    NOERROR\n"],
    );
    let text = explain("www.example.com").await;
    assert_in_order(
        &text,
        &["zone      none", "production.local., static.test., child.static.test.\n", "answer    REFUSED\n"],
    );
}

#[tokio::test]
async fn explain_says_that_a_service_is_not_in_dns_and_that_answers_are_a_selection() {
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
async fn explain_says_that_a_weighted_answer_is_drawn() {
    let server = Server::start(Vec::new()).await;
    let weighted = server.service("weighted", &[DnsRecordType::A], RoutingPolicy::Weighted).await;
    server.register(&weighted, "one", &[("AWS_INSTANCE_IPV4", "10.0.4.1")]).await;
    server.register(&weighted, "same", &[("AWS_INSTANCE_IPV4", "10.0.4.1")]).await;
    server.register(&weighted, "two", &[("AWS_INSTANCE_IPV4", "10.0.4.2")]).await;
    server.register(&weighted, "alias", &[("AWS_ALIAS_DNS_NAME", "lb.example.com")]).await;
    let text = server.text("/explain?name=weighted.production.local").await;
    assert_in_order(
        &text,
        &[
            "routing   WEIGHTED",
            "  alias  lb.example.com  HEALTHY  served",
            "same   10.0.4.1        HEALTHY  served (no health was reported yet); its A record is equal to that of one, \
             and answered once\n",
            "1 of 3, drawn for each query:\n",
            "IN A 10.0.4.1\n",
            "IN A 10.0.4.2\n",
            "60 IN CNAME lb.example.com.\n",
        ],
    );
    let alias = server.service("alias", &[DnsRecordType::A], RoutingPolicy::Weighted).await;
    server.register(&alias, "backend", &[("AWS_ALIAS_DNS_NAME", "weighted.production.local")]).await;
    let text = server.text("/explain?name=alias.production.local").await;
    assert_in_order(
        &text,
        &[
            "the service's canonical name, to weighted.production.local.\n",
            "service   alias",
            "service   weighted",
        ],
    );
    let zone = server.checked_zone("production.local").await;
    assert!(zone.contains("\n; weighted.production.local. 60 IN CNAME lb.example.com. ; "), "{zone}");
}

#[tokio::test]
async fn zone_file_record_at_an_instance_name_is_shown_in_its_place() {
    let server = Server::start(Vec::new()).await;
    let backend = server.backend().await;
    let address = [("AWS_INSTANCE_IPV4", "10.0.0.19"), ("AWS_INSTANCE_PORT", "8080")];
    server.register(&backend, "web-9", &address).await;
    let text = server.text("/explain?name=web-9.backend.production.local").await;
    assert_in_order(&text, &["answer    NOERROR\n", "300 IN A 10.8.8.8\n"]);
    let zone = server.checked_zone("production.local").await;
    assert!(zone.contains("\nweb-9.backend.production.local.\t300\tIN\tA\t10.8.8.8\n"), "{zone}");
    assert!(zone.contains("\n; web-9.backend.production.local. 60 IN A 10.0.0.19 ; not answered"), "{zone}");
}

#[tokio::test]
async fn shutdown_does_not_wait_for_idle_connections() {
    let mut server = Server::start(Vec::new()).await;
    let _idle = TcpStream::connect(server.address).unwrap();
    assert_eq!(server.get("/livez").await.0, 200);
    server.stop.send(true).unwrap();
    let served = tokio::time::timeout(Duration::from_secs(10), server.served.take().unwrap()).await;
    served.unwrap().unwrap().unwrap();
    assert!(TcpStream::connect(server.address).is_err());
}

#[tokio::test]
async fn exported_zone_is_a_valid_master_file_of_all_records() {
    let server = Server::start(Vec::new()).await;
    server.backend().await;
    // An id that is not a host name, one with a dot, and two that are equal as DNS names.
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
    // The serial is the registry's sequence number, plus one for the zone file that was added.
    let serial = server.registry.state().sequence() + 1;
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
        "odd.production.local.\t60\tIN\tSRV\t1 1 1 a-b-c-wblup5a8zc.odd.production.local.",
        "a-b-c-wblup5a8zc.odd.production.local.\t60\tIN\tA\t10.0.1.1",
        "x.y.odd.production.local.\t60\tIN\tA\t10.0.1.2",
        "q.odd.production.local.\t60\tIN\tA\t10.0.1.4",
        "odd.production.local.\t60\tIN\tSRV\t1 1 1 q-at5yrxt1u0.odd.production.local.",
        "q-at5yrxt1u0.odd.production.local.\t60\tIN\tA\t10.0.1.3",
        "lb.production.local.\t60\tIN\tCNAME\tlb-1.example.com.",
        "named.production.local.\t60\tIN\tCNAME\ta.example.com.",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
    assert!(!text.contains("\nbackend.production.local.\t60\tIN\tA\t10.0.0.12"), "{text}");
    assert!(text.contains("\n; lb.production.local. 60 IN CNAME lb-2.example.com. ; "), "{text}");
    let text = server.checked_zone("static.test").await;
    assert!(
        text.contains("static.test.\t3600\tIN\tSOA\tns.static.test. hostmaster.static.test. 7 "),
        "{text}"
    );
    assert!(text.contains("ns.sub.static.test.\t3600\tIN\tA\t10.0.1.53"), "{text}");
}
