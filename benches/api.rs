//! Throughput of the real program's API over HTTP: durable registrations, and discovery.

use crate::support::{Scratch, Server, load};

const SECONDS: f64 = 5.0;
const ROUNDS: usize = 3;

pub(crate) fn run() {
    register();
    discover();
}

fn service(server: &Server) -> String {
    let mut http = server.connect();
    http.done("CreatePrivateDnsNamespace", r#"{"Name":"bench.local","Vpc":"vpc-1"}"#);
    let namespaces = http.done("ListNamespaces", "{}");
    let namespace = namespaces["Namespaces"][0]["Id"].as_str().expect("an id");
    let body = format!(
        r#"{{"Name":"web","NamespaceId":"{namespace}","DnsConfig":{{"DnsRecords":[{{"Type":"A","TTL":60}}]}}}}"#
    );
    http.done("CreateService", &body)["Service"]["Id"].as_str().expect("an id").to_string()
}

/// Measures registrations by 64 clients. Each client registers its own eight instances over and over with a new attribute,
/// so that every request is a change that has to be stored.
fn register() {
    for round in 1..=ROUNDS {
        let scratch = Scratch::new("register");
        let server = Server::start(&scratch.0, "embedded", None, &[]);
        let service = service(&server);
        let (count, seconds) = load(64, SECONDS, |client, go_on| {
            let mut http = server.connect();
            let mut count = 0;
            while go_on() {
                let body = format!(
                    r#"{{"ServiceId":"{service}","InstanceId":"i-{client}-{}","CreatorRequestId":"{client}-{count}","Attributes":{{"AWS_INSTANCE_IPV4":"10.0.{client}.{}","n":"{count}"}}}}"#,
                    count % 8,
                    count % 8,
                );
                http.done("RegisterInstance", &body);
                count += 1;
            }
            count
        });
        println!(
            "RegisterInstance, durable, 64 clients, server and clients on the same {} CPUs: round {round}: {:.0}/s",
            std::thread::available_parallelism().map_or(0, usize::from),
            count as f64 / seconds,
        );
    }
}

/// Measures discovery of a service with eight healthy instances over 16 connections, with the server on CPU 0 and the
/// clients on CPU 1.
fn discover() {
    let scratch = Scratch::new("discover");
    let server = Server::start(&scratch.0, "memory", Some("0"), &[]);
    let service = service(&server);
    let mut http = server.connect();
    for instance in 0..8 {
        let body = format!(
            r#"{{"ServiceId":"{service}","InstanceId":"i-{instance}","Attributes":{{"AWS_INSTANCE_IPV4":"10.0.0.{instance}","AWS_INSTANCE_PORT":"8080","stage":"blue"}}}}"#
        );
        http.done("RegisterInstance", &body);
    }
    // Pin this process, and so every client thread, to a CPU that the server does not use.
    let pinned = std::process::Command::new("taskset")
        .args(["-a", "-cp", "1", &std::process::id().to_string()])
        .output();
    assert!(pinned.is_ok_and(|output| output.status.success()), "taskset pins the clients (util-linux)");
    for round in 1..=ROUNDS {
        let before = server.cpu_seconds();
        let (count, seconds) = load(16, SECONDS, |_, go_on| {
            let mut http = server.connect();
            let mut count = 0;
            while go_on() {
                let (status, _) =
                    http.call("DiscoverInstances", r#"{"NamespaceName":"bench.local","ServiceName":"web"}"#);
                assert_eq!(status, 200);
                count += 1;
            }
            count
        });
        let cpu = server.cpu_seconds() - before;
        println!(
            "DiscoverInstances, 8 instances, 16 connections, server on one CPU, clients on another: round {round}: \
             {:.0}/s; {:.1} us of server CPU each, which is {:.0}/s for one CPU",
            count as f64 / seconds,
            cpu * 1e6 / count as f64,
            count as f64 / cpu,
        );
    }
}
