//! Time from a pod's watch event to the first DNS answer over UDP with 100,000 pods of KECS tasks, and the memory of a pod.
//!
//! The real program watches an API server that the bench implements: it serves lists and watches over HTTP, and its pods
//! are those that benches/pods/record got from a real API server, with names, ids and addresses of their own. The server
//! has CPU 0, the bench CPU 1.
//!
//! An event's time begins before the event is written to the socket, so before the server can have read it, and ends with
//! the first reply that shows it, to a client that never stops asking. While no event is pending, the client repeats its
//! last query, so that a reply that falls back to an older state is detected. A wrong reply ends the bench.

mod api_server;
mod fleet;
mod index;
mod recording;
mod task;

use std::collections::VecDeque;
use std::net::UdpSocket;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::support::process::{ProcessTree, pin};
use crate::support::{Scratch, Server, addresses, number_option, percentile, query, world};

use api_server::{ApiServer, Watch};
use fleet::{Fleet, PODS, PodChange, SERVICES, SIZE};

/// Seconds after a list within which DNS has to answer all pods.
const LISTED_SECONDS_MAX: u64 = 300;
const METRICS_MS: u64 = 100;
/// Limit of events without an answer; more of them mean that the server cannot follow the rate.
const PENDING_MAX: usize = 5_000;
/// Number of changes in the burst, which is sent as fast as the server reads its watch.
const BURST_CHANGES: usize = 20_000;

pub(crate) fn run() {
    pin(1);
    index::run();
    let scratch = Scratch::new("pods");
    let mut api_server = ApiServer::bind(Fleet::new());
    let kubeconfig = write_kubeconfig(&scratch, &api_server);
    let kubeconfig = kubeconfig.to_str().expect("a path that is text");
    let options = ["--workers", "1", "--kubeconfig", kubeconfig, "--mirror", "off", "--coredns", "off"];
    let server = Server::start(&scratch.0, "memory", Some("0"), &options);
    create_services(&server);
    let mut bench =
        Bench { server: &server, resolver: Resolver::new(&server), tree: ProcessTree::of(server.id()) };

    let before = server.resident_bytes();
    server.reset_peak();
    println!(
        "{PODS} pods of {} bytes of JSON in {SERVICES} services",
        api_server.fleet().objects().next().map_or(0, |object| object.len())
    );
    let (begin, cpu) = (Instant::now(), bench.cpu_ns());
    api_server.open();
    let mut watch = api_server.watch();
    bench.wait_for_answer(SERVICES - 1, &api_server, begin);
    report_list("first list", begin, bench.cpu_ns() - cpu);
    bench.wait_for_metrics(1, PODS);
    bench.check_all(&api_server);
    let resident = server.resident_bytes();
    println!(
        "resident: {:.1} MiB without pods, {:.1} MiB with them: {:.0} bytes a pod; {:.1} MiB at most while they were listed",
        mib(before),
        mib(resident),
        (resident - before) as f64 / PODS as f64,
        mib(server.peak_bytes()),
    );

    let rate = number_option("events-per-second", 1_000);
    let seconds = number_option("seconds", 20);
    let mut replayed = Replayed::default();
    watch = bench.replay(&api_server, watch, rate, (rate * seconds) as usize, &mut replayed);
    println!("{rate} events/s; every reply was right");
    replayed.print();
    watch = bench.burst(&api_server, watch);

    server.reset_peak();
    let (begin, cpu) = (Instant::now(), bench.cpu_ns());
    watch.expire();
    let pods = api_server.fleet().len();
    bench.wait_for_metrics(2, pods);
    report_list("list after 410 Gone, nothing changed", begin, bench.cpu_ns() - cpu);
    bench.check_all(&api_server);
    println!(
        "resident: {:.1} MiB, {:.1} MiB at most while they were listed",
        mib(server.resident_bytes()),
        mib(server.peak_bytes())
    );
}

fn report_list(what: &str, begin: Instant, cpu_ns: u64) {
    println!(
        "{what}: answered in {:.2} s, with {:.2} s of the server's CPU: {:.1} us a pod",
        begin.elapsed().as_secs_f64(),
        cpu_ns as f64 / 1e9,
        cpu_ns as f64 / 1e3 / PODS as f64,
    );
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / 1048576.0
}

fn write_kubeconfig(scratch: &Scratch, api_server: &ApiServer) -> PathBuf {
    let path = scratch.0.join("kubeconfig");
    let kubeconfig = serde_json::json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "bench",
        "clusters": [{"name": "bench", "cluster": {"server": format!("http://{}", api_server.address)}}],
        "users": [{"name": "bench", "user": {}}],
        "contexts": [{"name": "bench", "context": {"cluster": "bench", "user": "bench"}}],
    });
    std::fs::write(&path, kubeconfig.to_string()).expect("the kubeconfig is written");
    path
}

fn create_services(server: &Server) {
    let mut http = server.connect();
    for namespace in 0..SIZE.namespaces {
        let name = world::namespace_name(namespace);
        http.done("CreatePrivateDnsNamespace", &format!(r#"{{"Name":"{name}","Vpc":"vpc-12345678"}}"#));
        let id = world::identity().namespace_id("DNS_PRIVATE", &name);
        for service in 0..SIZE.services_per_namespace {
            let body = format!(
                r#"{{"Name":"{}","NamespaceId":"{id}","DnsConfig":{{"DnsRecords":[{{"Type":"A","TTL":60}},{{"Type":"SRV","TTL":60}}]}},"HealthCheckCustomConfig":{{"FailureThreshold":1}}}}"#,
                world::service_name(service),
            );
            let made = http.done("CreateService", &body);
            assert_eq!(made["Service"]["Id"], world::service_id(namespace, service).as_str());
        }
    }
}

struct Resolver {
    socket: UdpSocket,
    reply: [u8; 1232],
}

impl Resolver {
    fn new(server: &Server) -> Resolver {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a UDP socket");
        socket.connect(server.dns).expect("the DNS address");
        socket.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
        Resolver { socket, reply: [0; 1232] }
    }

    fn ask(&mut self, question: &[u8]) -> Vec<[u8; 4]> {
        self.socket.send(question).expect("a query is sent");
        let len = self.socket.recv(&mut self.reply).expect("a reply");
        let mut found = addresses(&self.reply[..len]);
        found.sort_unstable();
        found
    }
}

/// Response times of events, from before an event is written to the first reply that shows it, and of `round_trips`: queries
/// while no event is pending, which measure the cost of a query alone.
#[derive(Default)]
struct Replayed {
    events: Vec<(PodChange, Duration)>,
    round_trips: Vec<Duration>,
}

impl Replayed {
    fn print(&self) {
        let of = |kind: PodChange| self.events.iter().filter(move |(of, _)| *of == kind);
        let all = self.events.iter().map(|(_, duration)| *duration).collect();
        let rows =
            PodChange::ALL.map(|kind| (kind.title(), of(kind).map(|(_, duration)| *duration).collect()));
        let rows = rows.into_iter().chain([
            ("all events to their first reply", all),
            ("a query with no event pending", self.round_trips.clone()),
        ]);
        println!(
            "| {:31} | {:>8} | {:>8} | {:>8} | {:>9} | {:>7} |",
            "", "p50 us", "p90 us", "p99 us", "max us", "count"
        );
        println!("| {0:-<31} | {0:-<8} | {0:-<8} | {0:-<8} | {0:-<9} | {0:-<7} |", "-");
        for (what, durations) in rows {
            let mut durations: Vec<Duration> = durations;
            if durations.is_empty() {
                continue;
            }
            durations.sort_unstable();
            let at = |percent| percentile(&durations, percent);
            println!(
                "| {what:31} | {:8.1} | {:8.1} | {:8.1} | {:9.1} | {:7} |",
                at(50.0),
                at(90.0),
                at(99.0),
                at(100.0),
                durations.len(),
            );
        }
    }
}

/// An event that no reply has shown yet, with the right replies from before it and after it.
struct Pending {
    kind: PodChange,
    written: Instant,
    question: Vec<u8>,
    before: Vec<[u8; 4]>,
    after: Vec<[u8; 4]>,
}

struct Bench<'s> {
    server: &'s Server,
    resolver: Resolver,
    tree: ProcessTree,
}

impl Bench<'_> {
    fn cpu_ns(&self) -> u64 {
        self.tree.cpu_time().total_ns
    }

    /// Sends so many events at this rate per second, and sends queries for them all the time.
    fn replay(
        &mut self,
        api_server: &ApiServer,
        mut watch: Watch,
        rate: u64,
        count: usize,
        replayed: &mut Replayed,
    ) -> Watch {
        let pause = Duration::from_secs_f64(1.0 / rate as f64);
        let mut next = Instant::now();
        let mut last = (query(&fleet::service_name(0)), api_server.fleet().addresses(0));
        let mut pending = VecDeque::<Pending>::new();
        let mut event = Vec::new();
        let mut sent = 0;
        while sent < count || !pending.is_empty() {
            if sent < count && Instant::now() >= next {
                if watch.is_over() {
                    watch.end();
                    watch = api_server.watch();
                }
                event.clear();
                let changed = api_server.fleet().change(&mut event);
                let question = query(&fleet::service_name(changed.service));
                let written = Instant::now();
                watch.send(&event);
                let (kind, before, after) = (changed.kind, changed.before, changed.after);
                pending.push_back(Pending { kind, written, question, before, after });
                assert!(pending.len() <= PENDING_MAX, "the server can't follow {rate} events/s");
                sent += 1;
                next += pause;
            }
            let Some(waiting) = pending.pop_front() else {
                let begin = Instant::now();
                let found = self.resolver.ask(&last.0);
                replayed.round_trips.push(begin.elapsed());
                assert_eq!(found, last.1, "a reply that was right before");
                continue;
            };
            let found = self.resolver.ask(&waiting.question);
            if found == waiting.after {
                replayed.events.push((waiting.kind, waiting.written.elapsed()));
                last = (waiting.question, waiting.after);
            } else {
                assert_eq!(found, waiting.before, "a reply after {:?} was sent", waiting.kind);
                pending.push_back(waiting);
            }
        }
        watch
    }

    /// Sends events as fast as the server reads them, and measures the time until the last of them is answered.
    fn burst(&mut self, api_server: &ApiServer, mut watch: Watch) -> Watch {
        let mut events = Vec::new();
        let mut fleet = api_server.fleet();
        let mut last = None;
        let ends: Vec<usize> = (0..BURST_CHANGES)
            .map(|_| {
                last = Some(fleet.change(&mut events));
                events.len()
            })
            .collect();
        drop(fleet);
        let (begin, cpu) = (Instant::now(), self.cpu_ns());
        let mut start = 0;
        for end in ends {
            watch.send(&events[start..end]);
            start = end;
        }
        let last = last.expect("an event");
        self.wait_for_answer(last.service, api_server, begin);
        let (elapsed, cpu_ns) = (begin.elapsed(), self.cpu_ns() - cpu);
        self.check_all(api_server);
        println!(
            "{BURST_CHANGES} events at once: answered in {:.3} s, {:.0} events/s, {:.1} us of CPU each",
            elapsed.as_secs_f64(),
            BURST_CHANGES as f64 / elapsed.as_secs_f64(),
            cpu_ns as f64 / 1e3 / BURST_CHANGES as f64,
        );
        watch
    }

    fn wait_for_answer(&mut self, service: usize, api_server: &ApiServer, begin: Instant) {
        let (question, right) = (query(&fleet::service_name(service)), api_server.fleet().addresses(service));
        while self.resolver.ask(&question) != right {
            assert!(begin.elapsed().as_secs() < LISTED_SECONDS_MAX, "the pods are not answered");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Waits until the metrics report this many lists of these pods, and an empty queue: every pod is in the registry.
    fn wait_for_metrics(&self, lists: usize, pods: usize) {
        let begin = Instant::now();
        let wanted = [
            ("kubernetes_pods", pods),
            ("kubernetes_queued_instances", 0),
            ("kubernetes_pending_instances", 0),
            ("kubernetes_watch_stale", 0),
            // The server has two selectors. Both are listed at the start, and only that of these pods is listed again.
            ("kubernetes_lists_total", lists + 1),
            ("instances", pods),
        ];
        let right = |metrics: &str| {
            wanted.iter().all(|(name, value)| metrics.contains(&format!("\ncloudmap_dns_{name} {value}\n")))
        };
        loop {
            let metrics = self.server.metrics();
            if right(&metrics) {
                return;
            }
            assert!(
                begin.elapsed().as_secs() < LISTED_SECONDS_MAX,
                "the metrics do not become {wanted:?}:\n{metrics}"
            );
            std::thread::sleep(Duration::from_millis(METRICS_MS));
        }
    }

    fn check_all(&mut self, api_server: &ApiServer) {
        let fleet = api_server.fleet();
        for service in 0..SERVICES {
            let found = self.resolver.ask(&query(&fleet::service_name(service)));
            assert_eq!(found, fleet.addresses(service), "the reply for service {service}");
        }
    }
}
