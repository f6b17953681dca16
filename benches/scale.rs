//! Memory, publication of one change, and start of a server with 1,000,000 instances in 125,000 services.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::support::{Scratch, Server, percentile, world};
use cloudmap_dns::model::CustomHealthStatus;
use cloudmap_dns::registry::{Command, Event, Publish, Registry, Settings, State};
use cloudmap_dns::snapshot::{Publisher, Snapshot};

pub(crate) fn run() {
    memory();
    flip();
    start();
}

/// Measures the memory of the directory and its leaves, which DNS answers from, after the registry that built them is freed.
fn memory() {
    let before = crate::ALLOCATOR.stats();
    let (snapshot, publisher) = Snapshot::new(world::snapshot_settings());
    let stored = world::Stored(world::WHOLE);
    let (registry, writer) =
        Registry::start(Settings::default(), Box::new(stored), Box::new(publisher)).expect("the world loads");
    writer.stop();
    drop(registry);
    let grown = crate::ALLOCATOR.stats() - before;
    let bytes = grown.bytes_allocated - grown.bytes_deallocated;
    let blocks = grown.allocations - grown.deallocations;
    drop(snapshot);
    println!(
        "hot memory of {0} instances in {1} services: {bytes} bytes in {blocks} blocks, {2:.1} bytes and {3:.2} blocks an \
         instance",
        world::INSTANCES,
        world::WHOLE.services(),
        bytes as f64 / world::INSTANCES as f64,
        blocks as f64 / world::INSTANCES as f64,
    );
}

struct Timed {
    publisher: Publisher,
    durations: Arc<Mutex<Vec<Duration>>>,
}

impl Publish for Timed {
    fn publish(&mut self, state: &State, events: &[Event]) {
        let start = Instant::now();
        self.publisher.publish(state, events);
        self.durations.lock().expect("no panic").push(start.elapsed());
    }
}

fn flip() {
    let (_snapshot, publisher) = Snapshot::new(world::snapshot_settings());
    let durations = Arc::new(Mutex::new(Vec::new()));
    let timed = Timed { publisher, durations: durations.clone() };
    let (registry, writer) =
        Registry::start(Settings::default(), Box::new(world::Stored(world::WHOLE)), Box::new(timed))
            .expect("the world loads");
    assert_eq!(registry.state().instance_count(), world::INSTANCES);
    durations.lock().expect("no panic").clear();
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let mut random = fastrand::Rng::with_seed(7);
    let mut round_trips = Vec::new();
    for flip in 0..100_000 {
        let (namespace, service) =
            (random.usize(..world::NAMESPACES), random.usize(..world::SERVICES_PER_NAMESPACE));
        let number = world::instance_number(namespace, service, random.usize(..world::INSTANCES_PER_SERVICE));
        let status = match flip % 2 {
            0 => CustomHealthStatus::Unhealthy,
            _ => CustomHealthStatus::Healthy,
        };
        let command = Command::UpdateCustomHealth {
            service: world::service_id(namespace, service).to_string(),
            instance: world::instance_id(number),
            status,
            reporter: String::new(),
        };
        let start = Instant::now();
        runtime.block_on(registry.submit(command)).expect("the flip is accepted");
        round_trips.push(start.elapsed());
    }
    let mut durations = durations.lock().expect("no panic").clone();
    for (what, sorted) in [("publish", &mut durations), ("command to acknowledgement", &mut round_trips)] {
        sorted.sort();
        println!(
            "health flip among {} instances: {what}: p50 {:.1} us, p99 {:.1} us, max {:.1} us ({} flips)",
            world::INSTANCES,
            percentile(sorted, 50.0),
            percentile(sorted, 99.0),
            percentile(sorted, 100.0),
            sorted.len(),
        );
    }
    writer.stop();
}

/// Measures the real program with a store of 1,000,000 instances: the time to the first right answer, and memory.
fn start() {
    let scratch = Scratch::new("start");
    let empty = Server::start(&scratch.0.join("empty"), "embedded", None, &[]);
    let empty_bytes = empty.resident_bytes();
    drop(empty);

    let data = scratch.0.join("full");
    let begin = Instant::now();
    world::write_store(world::WHOLE, &data);
    println!("store of {} instances written in {:.1} s", world::INSTANCES, begin.elapsed().as_secs_f64());

    // The server is killed after each start, so that the later ones open a store that was not closed.
    for round in 1..=3 {
        let begin = Instant::now();
        let server = Server::start(&data, "embedded", None, &[]);
        let answer = server.ask(&format!("{}.{}", world::service_name(7), world::namespace_name(3)));
        let elapsed = begin.elapsed();
        let expected: Vec<_> = (0..world::INSTANCES_PER_SERVICE)
            .map(|at| world::address(world::instance_number(3, 7, at)).octets())
            .collect();
        let mut sorted = answer;
        sorted.sort();
        assert_eq!(sorted, expected, "the first answer is right");
        let bytes = server.resident_bytes();
        println!(
            "start with {} instances: {:.2} s to the first right answer (round {round}{}); resident {:.1} MiB, empty \
             {:.1} MiB: {:.0} bytes an instance",
            world::INSTANCES,
            elapsed.as_secs_f64(),
            if round == 1 { "" } else { ", after kill -9" },
            bytes as f64 / 1048576.0,
            empty_bytes as f64 / 1048576.0,
            (bytes - empty_bytes) as f64 / world::INSTANCES as f64,
        );
        if round > 1 {
            continue;
        }
        // Change something, so that the store that is killed next differs from the one that was closed.
        let service = world::service_id(0, 0);
        let body = format!(
            r#"{{"ServiceId":"{service}","InstanceId":"{}","Status":"UNHEALTHY"}}"#,
            world::instance_id(0)
        );
        server.connect().done("UpdateInstanceCustomHealthStatus", &body);
    }
}
