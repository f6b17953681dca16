//! Time from the API's acknowledgement of a change to the first DNS answer over UDP, with 1,000,000 instances and other
//! changes under way.
//!
//! One thread sends the change, reads the acknowledgement and sends a query at once; its first answer has to show the change,
//! and an old answer ends the bench. An answer counts as arrived when the kernel has received it for the client (its receive
//! timestamp, SO_TIMESTAMPNS). The time at which the client's thread reads it is printed too; it is later, because the thread
//! shares the CPUs with everything else. The other changes are health flips over 64 connections, each at a fixed rate.
//! Server, changes and queries share all CPUs.

use std::io::IoSliceMut;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg, setsockopt, sockopt::ReceiveTimestampns};
use nix::sys::time::TimeSpec;

use crate::support::{Http, Scratch, Server, number_option, percentile, query, world};

const CONNECTIONS: u64 = 64;
/// The namespace whose services are watched; the other changes leave it alone.
const WATCHED: usize = world::NAMESPACES - 1;

pub(crate) fn run() {
    let scratch = Scratch::new("latency");
    world::write_store(world::WHOLE, &scratch.0);
    let server = Server::start(&scratch.0, "embedded", None, &[]);
    let seconds = number_option("seconds", 20);
    let rate = number_option("changes-per-second", 10_000);
    let (done, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        for connection in 0..CONNECTIONS {
            let (server, done, stop) = (&server, &done, &stop);
            scope.spawn(move || flip(server, connection, rate, done, stop));
        }
        // Count only the changes from here on: those that were done earlier belong to the ramp-up.
        let (begin, done_before) = (Instant::now(), done.load(Ordering::Relaxed));
        let watched = watch(&server, Duration::from_secs(seconds));
        let beside = (done.load(Ordering::Relaxed) - done_before) as f64 / begin.elapsed().as_secs_f64();
        stop.store(true, Ordering::Relaxed);
        print(watched, beside);
    });
}

/// Response times in the watched namespace: `changes` of the first query after each acknowledgement, and `round_trips` of a
/// second query without a change before it, which is the cost of a round trip on this machine.
#[derive(Default)]
struct Watched {
    changes: Vec<Answered>,
    round_trips: Vec<Answered>,
}

/// Response time of one query: until the kernel had `arrived` the reply for the client, and until its thread had `read` it.
struct Answered {
    arrived: Duration,
    read: Duration,
}

fn print(watched: Watched, beside: f64) {
    println!(
        "{} instances, {beside:.0} other changes/s over {CONNECTIONS} API connections; every first answer showed the change",
        world::INSTANCES
    );
    let what = [
        ("acknowledgement to the first answer", watched.changes),
        ("the same question without a change before it", watched.round_trips),
    ];
    let until = [
        ("", (|answered| answered.arrived) as fn(&Answered) -> Duration),
        (", until the client's thread reads it", |answered| answered.read),
    ];
    for ((what, answers), (until, duration)) in what.iter().flat_map(|what| until.map(|until| (what, until)))
    {
        let mut durations: Vec<Duration> = answers.iter().map(duration).collect();
        durations.sort();
        println!(
            "{what}{until}: p50 {:.1} us, p99 {:.1} us, max {:.1} us ({})",
            percentile(&durations, 50.0),
            percentile(&durations, 99.0),
            percentile(&durations, 100.0),
            durations.len(),
        );
    }
}

fn flip(server: &Server, connection: u64, rate: u64, done: &AtomicU64, stop: &AtomicBool) {
    let mut http = server.connect();
    let mut random = fastrand::Rng::with_seed(connection);
    let pause = Duration::from_secs_f64(CONNECTIONS as f64 / rate as f64);
    let mut next = Instant::now() + pause.mul_f64(connection as f64 / CONNECTIONS as f64);
    while !stop.load(Ordering::Relaxed) {
        // A change that is late is made without a pause, so that the rate is kept.
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
        next += pause;
        let (namespace, service) = (random.usize(..WATCHED), random.usize(..world::SERVICES_PER_NAMESPACE));
        let instance =
            world::instance_number(namespace, service, random.usize(..world::INSTANCES_PER_SERVICE));
        set_health(&mut http, namespace, service, instance, random.bool());
        done.fetch_add(1, Ordering::Relaxed);
    }
}

fn watch(server: &Server, time: Duration) -> Watched {
    let mut http = server.connect();
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a UDP socket");
    socket.connect(server.dns).expect("the DNS address");
    socket.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
    setsockopt(&socket, ReceiveTimestampns, &true).expect("timestamps");
    let mut random = fastrand::Rng::with_seed(7);
    let mut watched = Watched::default();
    let begin = Instant::now();
    while begin.elapsed() < time {
        let service = random.usize(..world::SERVICES_PER_NAMESPACE);
        let instance = world::instance_number(WATCHED, service, random.usize(..world::INSTANCES_PER_SERVICE));
        let question = query(&format!("{}.{}", world::service_name(service), world::namespace_name(WATCHED)));
        for step in 0..4 {
            let is_served = step % 2 == 1;
            match step {
                0 | 1 => set_health(&mut http, WATCHED, service, instance, is_served),
                2 => deregister(&mut http, service, instance),
                _ => register(&mut http, service, instance, watched.changes.len()),
            }
            let (answered, shows) = ask(&socket, &question, instance);
            assert_eq!(shows, is_served, "an old answer after the acknowledgement of step {step}");
            watched.changes.push(answered);
            watched.round_trips.push(ask(&socket, &question, instance).0);
        }
    }
    watched
}

/// Sends one query. Returns the response time, and true if the answer contains the instance.
fn ask(socket: &UdpSocket, question: &[u8], instance: u64) -> (Answered, bool) {
    let (begin, begin_by_clock) = (Instant::now(), SystemTime::now());
    socket.send(question).expect("the query is sent");
    let (mut reply, mut control) = ([0; 1232], nix::cmsg_space!(TimeSpec));
    let mut slices = [IoSliceMut::new(&mut reply)];
    let message = recvmsg::<()>(socket.as_raw_fd(), &mut slices, Some(&mut control), MsgFlags::empty());
    let message = message.expect("a reply");
    let read = begin.elapsed();
    let arrived = message.cmsgs().expect("room for it").find_map(|control| match control {
        ControlMessageOwned::ScmTimestampns(time) => Some(SystemTime::UNIX_EPOCH + Duration::from(time)),
        _ => None,
    });
    let arrived = arrived.and_then(|arrived| arrived.duration_since(begin_by_clock).ok());
    let (arrived, len) = (arrived.expect("a timestamp after the question"), message.bytes);
    let address = world::address(instance).octets();
    (Answered { arrived, read }, reply[..len].windows(4).any(|window| window == address))
}

fn set_health(http: &mut Http, namespace: usize, service: usize, instance: u64, is_healthy: bool) {
    let body = format!(
        r#"{{"ServiceId":"{}","InstanceId":"{}","Status":"{}"}}"#,
        world::service_id(namespace, service),
        world::instance_id(instance),
        if is_healthy { "HEALTHY" } else { "UNHEALTHY" },
    );
    let (status, text) = http.call("UpdateInstanceCustomHealthStatus", &body);
    assert_eq!(status, 200, "{text}");
}

fn deregister(http: &mut Http, service: usize, instance: u64) {
    let (service, instance) = (world::service_id(WATCHED, service), world::instance_id(instance));
    http.done("DeregisterInstance", &format!(r#"{{"ServiceId":"{service}","InstanceId":"{instance}"}}"#));
}

fn register(http: &mut Http, service: usize, instance: u64, request: usize) {
    let body = format!(
        r#"{{"ServiceId":"{}","InstanceId":"{}","CreatorRequestId":"bench-{request}","Attributes":{{"AWS_INSTANCE_IPV4":"{}","AWS_INSTANCE_PORT":"8080"}}}}"#,
        world::service_id(WATCHED, service),
        world::instance_id(instance),
        world::address(instance),
    );
    http.done("RegisterInstance", &body);
}
