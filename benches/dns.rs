//! CPU time per query over UDP of this server and of every installed peer, in many short alternating rounds.
//!
//! The servers share CPU 0 and are idle unless it is their turn; the load has CPU 1. A round sends one kind of query to one
//! server and divides the CPU time of all its processes by the number of replies. Results are compared as ratios within a
//! round, because both servers then ran on the same machine within the same second.

mod null;
mod peers;
mod table;

pub(crate) use null::{ARGUMENT as NULL_RESPONDER, serve as be_null_responder};

use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::time::Duration;

use crate::support::process::{CpuTime, ProcessTree, pin};
use crate::support::udp_load::{Generator, ReplyCheck};
use crate::support::workload::{self, Kind, OtherSections, QUERY_BYTES_MAX, Workload};
use crate::support::world::{self, Size};
use crate::support::{Scratch, Server, median, number_option};

pub(crate) use null::NullResponder;
use peers::Peer;
use table::{Row, print_rows};

/// Number of queries in flight: as many short datagrams as fit into a socket buffer of the kernel's default size.
const WINDOW: usize = 128;
/// Milliseconds of load before the CPU time is measured, so that caches are warm and threads are awake.
const WARM_UP_MS: u64 = 10;

struct ComparedServer {
    name: &'static str,
    address: SocketAddr,
    tree: ProcessTree,
    check: ReplyCheck,
    kinds: &'static [Kind],
    size: Size,
    /// The server's process is killed when its guard is dropped. `None` if the caller owns the process.
    _process: Option<Process>,
}

type Process = Box<dyn std::any::Any>;

#[derive(Default)]
struct Measured {
    rounds: Vec<f64>,
    cpu: CpuTime,
    answered: u64,
    lost: u64,
    seconds: f64,
}

/// Compares this server with the peers and the null responder, with a zone of 1,000 services.
pub(crate) fn run() {
    pin(1);
    let scratch = Scratch::new("dns");
    let [server, batched] =
        ["auto", "batched"].map(|udp_loop| Server::start_with_one_worker(&scratch, world::SMALL, udp_loop));
    let mut compared = vec![own(&server, "cloudmap-dns", world::SMALL)];
    let mut of_batched = vec![own(&batched, "cloudmap-dns", world::SMALL)];
    let zone = world::namespace_name(0);
    let zone_file = server.zone_file(&zone);
    for peer in Peer::ALL {
        let Some(program) = peer.program() else {
            println!("{}: not compared, its program is not installed (see benches/peers)", peer.title());
            continue;
        };
        println!("{}: {}", peer.title(), peer.version(&program));
        compared.push(start_peer(peer, &program, &zone, &zone_file, &scratch.0));
    }
    let replies: Vec<_> = Kind::ALL.into_iter().map(|kind| check_all(&compared, kind)).collect();
    for (kind, reply) in Kind::ALL.into_iter().zip(replies) {
        for (compared, udp_loop, what) in [
            (&mut compared, "auto", "as each is set up by itself"),
            (&mut of_batched, "batched", "each reply handed over by itself (--udp-loop batched)"),
        ] {
            compared.push(start_null(&reply, udp_loop));
            compare(compared, kind, what);
            compared.pop();
        }
    }
}

/// Compares this server with 1,000,000 instances in 125,000 services to itself with 1,000 services.
pub(crate) fn run_at_scale() {
    pin(1);
    let scratch = Scratch::new("dns-scale");
    let servers = [("125,000 services", world::WHOLE), ("1,000 services", world::SMALL)]
        .map(|(name, size)| (Server::start_with_one_worker(&scratch, size, "batched"), name, size));
    let compared: Vec<_> = servers.iter().map(|(server, name, size)| own(server, name, *size)).collect();
    for kind in Kind::ALL {
        check_all(&compared, kind);
        compare(&compared, kind, "--udp-loop batched");
    }
}

fn own(server: &Server, name: &'static str, size: Size) -> ComparedServer {
    ComparedServer {
        name,
        address: server.dns,
        tree: ProcessTree::of(server.id()),
        check: ReplyCheck::Answer,
        kinds: &Kind::ALL,
        size,
        _process: None,
    }
}

/// Checks every record that the compared servers answer for one kind of query, and returns the first server's reply.
fn check_all(compared: &[ComparedServer], kind: Kind) -> Vec<u8> {
    let mut first = None;
    for server in compared.iter().filter(|server| server.kinds.contains(&kind)) {
        let (reply, other) = all_answers(server, kind);
        println!(
            "{}, {}: every answer is right; {} bytes, {} authority, {} additional records{}",
            server.name,
            kind.title(),
            other.bytes,
            other.authorities,
            other.additionals,
            if other.has_opt { "" } else { ", no OPT record" },
        );
        first.get_or_insert(reply);
    }
    first.expect("this server has all kinds")
}

fn compare(compared: &[ComparedServer], kind: Kind, what: &str) {
    let taking_part: Vec<_> = compared.iter().filter(|server| server.kinds.contains(&kind)).collect();
    let (rounds, round_ms) = (number_option("rounds", 30), number_option("round-ms", 150));
    let measured = alternate(&taking_part, kind, rounds, Duration::from_millis(round_ms));
    println!("\n{}, {what}: {rounds} rounds of {round_ms} ms each, {WINDOW} queries in flight", kind.title());
    print_rows(&rows(&taking_part, &measured));
}

fn start_peer(peer: Peer, program: &Path, zone: &str, zone_file: &str, scratch: &Path) -> ComparedServer {
    let running = peer.start(program, zone, zone_file, &scratch.join(format!("{peer:?}")));
    ComparedServer {
        name: peer.title(),
        address: running.address,
        tree: running.tree(),
        check: ReplyCheck::Answer,
        kinds: if peer == Peer::NsdFull { &[Kind::Srv] } else { &Kind::ALL },
        size: world::SMALL,
        _process: Some(Box::new(running)),
    }
}

fn start_null(reply: &[u8], udp_loop: &str) -> ComparedServer {
    let null = NullResponder::start(reply, udp_loop);
    ComparedServer {
        name: "null responder",
        address: null.address,
        tree: null.tree(),
        check: ReplyCheck::IdOnly,
        kinds: &Kind::ALL,
        size: world::SMALL,
        _process: Some(Box::new(null)),
    }
}

/// Asks for every service once and compares every record. Returns the first reply and a summary of its other sections.
fn all_answers(server: &ComparedServer, kind: Kind) -> (Vec<u8>, OtherSections) {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a UDP socket");
    socket.connect(server.address).expect("the DNS address");
    socket.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
    let mut workload = Workload::new(kind, server.size);
    let mut first = None;
    for service in 0..server.size.services() {
        let mut query = [0; QUERY_BYTES_MAX];
        let query = &mut query[..workload.query_bytes()];
        workload.write_for(service, service as u16, query);
        socket.send(query).expect("the query is sent");
        let mut reply = [0; 4096];
        let len = socket.recv(&mut reply).expect("a reply");
        let other = workload::check(kind, query, &reply[..len]);
        let other = other.unwrap_or_else(|wrong| panic!("{}, {}: {wrong}", server.name, kind.title()));
        first.get_or_insert((reply[..len].to_vec(), other));
    }
    first.expect("there are services")
}

/// Runs the rounds. Every server has a turn in each round, and the order rotates so that none is always first.
fn alternate(compared: &[&ComparedServer], kind: Kind, rounds: u64, time: Duration) -> Vec<Measured> {
    let mut measured: Vec<Measured> = compared.iter().map(|_| Measured::default()).collect();
    let mut generators: Vec<_> = compared.iter().map(|server| Generator::new(server.address)).collect();
    let mut workloads: Vec<_> = compared.iter().map(|server| Workload::new(kind, server.size)).collect();
    for round in 0..rounds as usize {
        for turn in 0..compared.len() {
            let at = (round + turn) % compared.len();
            let (server, generator) = (compared[at], &mut generators[at]);
            let workload = &mut workloads[at];
            generator.run(workload, WINDOW, Duration::from_millis(WARM_UP_MS), server.check);
            let before = server.tree.cpu_time();
            let outcome = generator.run(workload, WINDOW, time, server.check);
            let cpu = server.tree.cpu_time() - before;
            assert!(outcome.answered > 0, "{} does not answer", server.name);
            let measured = &mut measured[at];
            measured.rounds.push(cpu.total_ns as f64 / outcome.answered as f64);
            measured.cpu += cpu;
            measured.answered += outcome.answered;
            measured.lost += outcome.lost;
            measured.seconds += outcome.seconds;
        }
    }
    measured
}

fn rows(compared: &[&ComparedServer], measured: &[Measured]) -> Vec<Row> {
    let ours = &measured[0];
    let rows = compared.iter().zip(measured).map(|(server, measured)| {
        let ticks = (measured.cpu.user_ticks + measured.cpu.system_ticks).max(1) as f64;
        let ratios = ours.rounds.iter().zip(&measured.rounds).map(|(ours, its)| ours / its).collect();
        Row {
            name: server.name,
            cpu_ns: median(&measured.rounds),
            user_part: measured.cpu.user_ticks as f64 / ticks,
            ratios,
            busy: measured.cpu.total_ns as f64 / 1e9 / measured.seconds,
            answered: measured.answered,
            lost: measured.lost,
        }
    });
    rows.collect()
}
