//! 100,000 pods of KECS's tasks: from an event of their watch to the first answer over UDP, and what is kept of a pod.
//!
//! The real program watches an API server that is this bench: it lists and watches over HTTP as the real one does, and
//! its pods are those that benches/pods/record got from a real one, with names, ids and addresses of their own. The
//! server has CPU 0, the bench CPU 1.
//!
//! An event's time begins before it is written to the socket, which is before the server can have read it, and ends with
//! the first reply that shows it, to a client that never stops asking. What the client asks while nothing is to come is
//! the last question again, so a reply that goes back to what was before is seen. A wrong reply ends the bench.

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
use fleet::{Fleet, Kind, PODS, SERVICES, SIZE};

/// How long it may take until all pods are answered, in seconds.
const LISTED_SECONDS_MAX: u64 = 300;
/// Time between two looks at the metrics, in milliseconds.
const LOOK_MS: u64 = 100;
/// Changes that are not answered yet; with more, the rate is too high.
const PENDING_MAX: usize = 5_000;
/// Changes that are sent as fast as they are taken.
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
    make_services(&server);
    let mut bench =
        Bench { server: &server, resolver: Resolver::new(&server), tree: ProcessTree::of(server.id()) };

    let before = server.resident_octets();
    server.forget_peak();
    println!(
        "{PODS} pods of {} octets of JSON in {SERVICES} services",
        api_server.fleet().objects().next().map_or(0, |object| object.len())
    );
    let (begin, cpu) = (Instant::now(), bench.cpu_ns());
    api_server.open();
    let mut watch = api_server.watch();
    bench.until_right(SERVICES - 1, &api_server, begin);
    report_list("first list", begin, bench.cpu_ns() - cpu);
    bench.until_settled(1, PODS);
    bench.check_all(&api_server);
    let resident = server.resident_octets();
    println!(
        "resident: {:.1} MiB without pods, {:.1} MiB with them: {:.0} octets a pod; {:.1} MiB at most while they were listed",
        mib(before),
        mib(resident),
        (resident - before) as f64 / PODS as f64,
        mib(server.peak_octets()),
    );

    let rate = number_option("events-per-second", 1_000);
    let seconds = number_option("seconds", 20);
    let mut replayed = Replayed::default();
    watch = bench.replay(&api_server, watch, rate, (rate * seconds) as usize, &mut replayed);
    println!("{rate} events/s; every reply was right");
    replayed.print();
    watch = bench.burst(&api_server, watch);

    server.forget_peak();
    let (begin, cpu) = (Instant::now(), bench.cpu_ns());
    watch.expire();
    let pods = api_server.fleet().len();
    bench.until_settled(2, pods);
    report_list("list after 410 Gone, nothing changed", begin, bench.cpu_ns() - cpu);
    bench.check_all(&api_server);
    println!(
        "resident: {:.1} MiB, {:.1} MiB at most while they were listed",
        mib(server.resident_octets()),
        mib(server.peak_octets())
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

fn mib(octets: u64) -> f64 {
    octets as f64 / 1048576.0
}

/// Writes a kubeconfig for the API server; its path.
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

/// Makes the services that the pods name.
fn make_services(server: &Server) {
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

/// Asks one question at a time.
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

    /// The addresses of the reply, sorted.
    fn ask(&mut self, question: &[u8]) -> Vec<[u8; 4]> {
        self.socket.send(question).expect("a query is sent");
        let len = self.socket.recv(&mut self.reply).expect("a reply");
        let mut found = addresses(&self.reply[..len]);
        found.sort_unstable();
        found
    }
}

/// What was measured of events.
#[derive(Default)]
struct Replayed {
    /// From before the event is written to its first reply.
    events: Vec<(Kind, Duration)>,
    /// A question with nothing to come: what a round trip takes here.
    round_trips: Vec<Duration>,
}

impl Replayed {
    fn print(&self) {
        let of = |kind: Kind| self.events.iter().filter(move |(of, _)| *of == kind);
        let all = self.events.iter().map(|(_, duration)| *duration).collect();
        let rows = Kind::ALL.map(|kind| (kind.title(), of(kind).map(|(_, duration)| *duration).collect()));
        let rows = rows.into_iter().chain([
            ("all events to their first reply", all),
            ("a question with nothing to come", self.round_trips.clone()),
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

/// An event whose reply is to come.
struct Pending {
    kind: Kind,
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

    /// Sends so many events at this rate, and asks all the time.
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
                let happened = api_server.fleet().change(&mut event);
                let question = query(&fleet::service_name(happened.service));
                let written = Instant::now();
                watch.send(&event);
                let (kind, before, after) = (happened.kind, happened.before, happened.after);
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

    /// Sends events as fast as they are taken, and asks when all are sent.
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
        self.until_right(last.service, api_server, begin);
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

    /// Asks for a service until the reply is what it is to be.
    fn until_right(&mut self, service: usize, api_server: &ApiServer, begin: Instant) {
        let (question, right) = (query(&fleet::service_name(service)), api_server.fleet().addresses(service));
        while self.resolver.ask(&question) != right {
            assert!(begin.elapsed().as_secs() < LISTED_SECONDS_MAX, "the pods are not answered");
            // The server's CPU is for what it is to do meanwhile.
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Waits until the server says that it has heard this many lists of these pods, and told all of them.
    fn until_settled(&self, lists: usize, pods: usize) {
        let begin = Instant::now();
        let wanted = [
            ("kubernetes_pods", pods),
            ("kubernetes_queued_instances", 0),
            ("kubernetes_pending_instances", 0),
            ("kubernetes_watch_stale", 0),
            // One for each selector at the beginning; only one of them is listed again.
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
                "it does not settle: {wanted:?}\n{metrics}"
            );
            std::thread::sleep(Duration::from_millis(LOOK_MS));
        }
    }

    /// Compares the replies for all services.
    fn check_all(&mut self, api_server: &ApiServer) {
        let fleet = api_server.fleet();
        for service in 0..SERVICES {
            let found = self.resolver.ask(&query(&fleet::service_name(service)));
            assert_eq!(found, fleet.addresses(service), "the reply for service {service}");
        }
    }
}
