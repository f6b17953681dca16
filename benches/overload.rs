//! More queries than the server can answer: it goes on answering, grows no memory, and is itself again at once.
//!
//! The server has CPU 0, the load CPU 1. First the load keeps the server busy without losing anything: the best it does.
//! Then queries come at twice that rate, whatever becomes of them, or as fast as the load can send; the output says how
//! many times it was. The null responder goes first, in the same way: what it loses is the kernel's and the load's.

use std::net::SocketAddr;
use std::time::Duration;

use crate::dns::NullResponder;
use crate::support::process::{CpuTime, ProcessTree, pin};
use crate::support::udp_load::{Demand, Generator};
use crate::support::workload::{Kind, Workload};
use crate::support::{Scratch, Server, number_option, world};

const WINDOW: usize = 128;
const BEST_ROUNDS: usize = 5;
/// Offered queries for each that the server can answer.
const OVERLOAD: f64 = 2.0;
/// Octets of the null responder's reply, which is as long as the server's.
const REPLY_OCTETS: usize = 185;

pub(crate) fn run() {
    pin(1);
    let seconds = number_option("seconds", 60);
    let null = NullResponder::start(&[0; REPLY_OCTETS]);
    let target = Target {
        name: "null responder",
        address: null.address,
        tree: null.tree(),
        demand: Demand::SameId,
        flood_demand: Demand::SameId,
    };
    target.measure(seconds);
    drop(null);

    let scratch = Scratch::new("overload");
    world::write_store(world::SMALL, &scratch.0);
    let server = Server::start(&scratch.0, "embedded", Some("0"), &["--workers", "1"]);
    let target = Target {
        name: "cloudmap-dns",
        address: server.dns,
        tree: ProcessTree::of(server.id()),
        demand: Demand::RightAnswer,
        flood_demand: Demand::RightToItself,
    };
    target.measure(seconds);
}

/// Who is asked.
struct Target {
    name: &'static str,
    address: SocketAddr,
    tree: ProcessTree,
    demand: Demand,
    flood_demand: Demand,
}

impl Target {
    fn measure(&self, seconds: u64) {
        let mut workload = Workload::new(Kind::A, world::SMALL);
        let mut generator = Generator::new(self.address);
        let mut second = |generator: &mut Generator| {
            let outcome = generator.run(&mut workload, WINDOW, Duration::from_secs(1), self.demand);
            assert_eq!(outcome.lost, 0, "nothing is lost without overload");
            (outcome.answered, outcome.answered as f64 / outcome.seconds)
        };
        let cpu_before = self.tree.cpu_time();
        let rounds: Vec<(u64, f64)> = (0..BEST_ROUNDS).map(|_| second(&mut generator)).collect();
        let cpu = self.tree.cpu_time() - cpu_before;
        let best = rounds.iter().fold(0.0, |best: f64, (_, rate)| best.max(*rate));
        let resident_before = self.tree.resident_octets();
        let cpu_us = |cpu: CpuTime, replies: u64| cpu.total_ns as f64 / 1e3 / replies as f64;
        println!(
            "{}: best: {best:.0} replies/s, {:.2} us of CPU a reply; resident {:.1} MiB",
            self.name,
            cpu_us(cpu, rounds.iter().map(|(answered, _)| answered).sum()),
            resident_before as f64 / 1048576.0
        );

        let mut flood = Workload::new(Kind::A, world::SMALL);
        let (mut worst, mut total, mut resident_max, mut replies) = (f64::INFINITY, 0.0, 0, 0);
        let cpu_before = self.tree.cpu_time();
        for second in 1..=seconds {
            let read_before = datagrams_read();
            let outcome =
                generator.flood(&mut flood, best * OVERLOAD, Duration::from_secs(1), self.flood_demand);
            // What was read and is not the load's is the server's: nobody else reads datagrams here, and it answers each.
            let sent = datagrams_read() - read_before - outcome.received;
            let (rate, received) = (sent as f64 / outcome.seconds, outcome.answered as f64 / outcome.seconds);
            replies += sent;
            worst = worst.min(rate);
            total += rate;
            resident_max = resident_max.max(self.tree.resident_octets());
            if second % 10 == 0 || second == seconds {
                println!(
                    "second {second}: {:.0} queries/s, {:.2} times the best; {rate:.0} replies/s, {received:.0} of them \
                     received, all right; resident {:.1} MiB",
                    outcome.sent as f64 / outcome.seconds,
                    outcome.sent as f64 / outcome.seconds / best,
                    self.tree.resident_octets() as f64 / 1048576.0,
                );
            }
        }
        let cpu = self.tree.cpu_time() - cpu_before;
        println!("under overload: {:.2} us of CPU a reply", cpu_us(cpu, replies));
        // What still waits in sockets is of the overload.
        generator.forget();
        let (_, after) = second(&mut generator);
        println!(
            "overload of {seconds} s: all of it had {:.1} % of the best, the worst second {:.1} %; resident grew by {} KiB \
             at most; the second after it lost nothing and had {:.1} % of the best",
            total / seconds as f64 / best * 100.0,
            worst / best * 100.0,
            resident_max.saturating_sub(resident_before) / 1024,
            after / best * 100.0,
        );
    }
}

/// Datagrams that were read in this network namespace: `InDatagrams` of RFC 4113.
fn datagrams_read() -> u64 {
    let text = std::fs::read_to_string("/proc/net/snmp").expect("the kernel's counts");
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("Udp: "));
    let (names, values) = (lines.next().expect("the names"), lines.next().expect("the counts"));
    let at = names.split(' ').position(|name| name == "InDatagrams").expect("the count of datagrams");
    values.split(' ').nth(at).and_then(|value| value.parse().ok()).expect("a number")
}
