//! Reads of the real snapshot under change: a writer flips health as fast as it can, and readers send queries.
//!
//! Time is a count of events. Each instance has the times at which its last flips were sent and acknowledged. A reader
//! notes the time before its query and checks after it: every answered instance must have been healthy at some moment in
//! between. The second service has different addresses, so that the leaf of a wrong service would be noticed. Meanwhile
//! another thread reads whole zones, and checks that each serial belongs to one content.

#![expect(clippy::unwrap_used, reason = "a panic is a failed test")]

#[expect(dead_code, reason = "the static zones are for other tests")]
#[path = "oracle/world.rs"]
mod world;

#[path = "oracle/message.rs"]
#[expect(dead_code, reason = "the test reads answers alone")]
mod message;

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};

use cloudmap_dns::dns::{Common, CookieSecrets, Limits, Transport, Verdict, View, Worker, answer};
use cloudmap_dns::model::{CustomHealthStatus, DnsRecordType, RoutingPolicy};
use cloudmap_dns::registry::Registry;
use cloudmap_dns::snapshot::Snapshot;
use cloudmap_dns::zone::{Name, RecordType, Rrset, walk};

const SERVICES: [&str; 2] = ["web", "api"];
const INSTANCES: usize = 6;
const READERS: usize = 3;
const FLIPS: u64 = 60_000;

/// Times at which an instance's last flips to healthy (`up`) and to unhealthy (`down`) were sent and acknowledged (`done`).
#[derive(Default)]
struct Times {
    up_sent: AtomicU64,
    up_done: AtomicU64,
    down_sent: AtomicU64,
    down_done: AtomicU64,
}

struct Shared {
    clock: AtomicU64,
    times: [[Times; INSTANCES]; 2],
    is_over: AtomicBool,
}

impl Times {
    /// True if the instance was unhealthy from `begin` until now: the last flip to unhealthy was acknowledged before
    /// `begin`, and none to healthy was sent since.
    fn was_down(&self, begin: u64) -> bool {
        // The order of the loads matters: a flip between them makes the result false.
        let down_done = self.down_done.load(SeqCst);
        down_done > 0 && down_done <= begin && self.up_sent.load(SeqCst) < down_done
    }

    fn was_up(&self, begin: u64) -> bool {
        let up_done = self.up_done.load(SeqCst);
        up_done > 0 && up_done <= begin && self.down_sent.load(SeqCst) < up_done
    }
}

fn address(service: usize, instance: usize) -> [u8; 4] {
    [10, service as u8, 0, instance as u8]
}

async fn write(registry: &Registry, shared: &Shared) {
    let mut random = fastrand::Rng::with_seed(0x5eed_0020);
    let mut is_up = [[true; INSTANCES]; 2];
    let ids = SERVICES.map(|name| world::service_id(registry, "svc.local", name));
    for _ in 0..FLIPS {
        let (service, instance) = (random.usize(..2), random.usize(..INSTANCES));
        let (times, up) = (&shared.times[service][instance], &mut is_up[service][instance]);
        *up = !*up;
        let (sent, done, status) = if *up {
            (&times.up_sent, &times.up_done, CustomHealthStatus::Healthy)
        } else {
            (&times.down_sent, &times.down_done, CustomHealthStatus::Unhealthy)
        };
        sent.store(shared.clock.fetch_add(1, SeqCst) + 1, SeqCst);
        registry.submit(world::health(&ids[service], &format!("i-{instance}"), status)).await.unwrap();
        done.store(shared.clock.fetch_add(1, SeqCst) + 1, SeqCst);
    }
    shared.is_over.store(true, SeqCst);
}

fn read(snapshot: &Snapshot, shared: &Shared, seed: u64) -> u64 {
    let mut worker = Worker::new(Common::new("stress", CookieSecrets::new(&[[1; 16]]).unwrap()));
    worker.seed(seed);
    let limits = Limits { transport: Transport::Udp, client: "127.0.0.1".parse().unwrap(), now_seconds: 0 };
    let queries = SERVICES.map(|service| {
        let name: Name = format!("{service}.svc.local").parse().unwrap();
        [&[0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0], name.as_wire(), &[0, 1, 0, 1]].concat()
    });
    let mut out = vec![0; 1232];
    let mut asked = 0;
    while !shared.is_over.load(SeqCst) {
        let service = (asked % 2) as usize;
        let begin = shared.clock.load(SeqCst);
        // A status that is certain before the query and still certain after it was valid during the whole query.
        let certain =
            |of: fn(&Times, u64) -> bool| shared.times[service].each_ref().map(|times| of(times, begin));
        let (down, up) = (certain(Times::was_down), certain(Times::was_up));
        let view = snapshot.view();
        let view = View { directory: &view, generation: 0, is_stale: false };
        let Verdict::Reply(reply) = answer(&view, &queries[service], &limits, &mut worker, &mut out) else {
            panic!("a query is answered");
        };
        let message = message::read(&out[..reply.len]).unwrap();
        let (down_still, up_still) = (certain(Times::was_down), certain(Times::was_up));
        let [answers, ..] = &message.sections;
        for instance in 0..INSTANCES {
            let is_answered = answers.iter().any(|record| record.rdata == address(service, instance));
            assert!(!(is_answered && down[instance] && down_still[instance]), "unhealthy and answered");
            assert!(is_answered || !(up[instance] && up_still[instance]), "healthy and left out");
        }
        let is_own = |rdata: &[u8]| (0..INSTANCES).any(|instance| rdata == address(service, instance));
        assert!(answers.iter().all(|record| is_own(&record.rdata)), "another service's address");
        assert_eq!(message.flags & 0xf, 0, "the name exists, whatever the health");
        asked += 1;
    }
    asked
}

#[derive(Default)]
struct Records(BTreeSet<(String, RecordType, Vec<u8>)>);

impl walk::Sink for Records {
    type Error = Infallible;

    fn rrset(&mut self, owner: &Name, rrset: &Rrset) -> Result<(), Infallible> {
        if rrset.rtype != RecordType::SOA {
            let records = rrset.rdatas().map(|rdata| (owner.to_string(), rrset.rtype, rdata.to_vec()));
            self.0.extend(records);
        }
        Ok(())
    }
}

/// Reads whole zones as transfers do, until the writer is done. Returns the last serial.
fn transfer(snapshot: &Arc<Snapshot>, shared: &Shared) -> usize {
    let apex: Name = "svc.local".parse().unwrap();
    let mut contents: BTreeMap<u32, BTreeSet<_>> = BTreeMap::new();
    while !shared.is_over.load(SeqCst) {
        let version = snapshot.zone_version(&apex).unwrap();
        let mut records = Records::default();
        let Ok(()) = version.walk(&mut records);
        let serial = version.serial();
        assert!(contents.last_key_value().is_none_or(|(last, _)| *last <= serial));
        let known = contents.entry(serial).or_insert_with(|| records.0.clone());
        assert_eq!(*known, records.0, "one serial, {serial}, with two contents");
        // Forget the oldest contents: serials only grow, so that an old one is not seen again.
        while contents.len() > 8 {
            contents.pop_first();
        }
    }
    contents.last_key_value().map_or(0, |(serial, _)| *serial as usize)
}

#[test]
fn each_answer_was_true_at_some_moment_of_its_query() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let (snapshot, _publisher, registry, _writer) = world::start();
    runtime.block_on(async {
        registry.submit(world::namespace("svc.local")).await.unwrap();
        for (at, name) in SERVICES.into_iter().enumerate() {
            let types = [DnsRecordType::A];
            let create = world::service(&registry, "svc.local", name, RoutingPolicy::Multivalue, &types);
            registry.submit(create).await.unwrap();
            let id = world::service_id(&registry, "svc.local", name);
            for instance in 0..INSTANCES {
                let address = std::net::Ipv4Addr::from(address(at, instance)).to_string();
                let register =
                    world::instance(&id, &format!("i-{instance}"), &[("AWS_INSTANCE_IPV4", &address)]);
                registry.submit(register).await.unwrap();
            }
        }
    });
    let shared = Arc::new(Shared {
        clock: AtomicU64::new(1),
        times: Default::default(),
        is_over: AtomicBool::new(false),
    });
    let readers: Vec<_> = (0..READERS as u64)
        .map(|seed| {
            let (snapshot, shared) = (snapshot.clone(), shared.clone());
            std::thread::spawn(move || read(&snapshot, &shared, seed))
        })
        .collect();
    let transfers = {
        let (snapshot, shared) = (snapshot.clone(), shared.clone());
        std::thread::spawn(move || transfer(&snapshot, &shared))
    };
    let start = std::time::Instant::now();
    runtime.block_on(write(&registry, &shared));
    println!("{:.0} flips a second", FLIPS as f64 / start.elapsed().as_secs_f64());
    let asked: u64 = readers.into_iter().map(|reader| reader.join().unwrap()).sum();
    println!("{asked} queries");
    assert!(asked > 0 && transfers.join().unwrap() > 0);
}
