//! Behaviour under more queries than the server can answer: it keeps answering, its memory does not grow, and it recovers at
//! once.
//!
//! The server has CPU 0, the load CPU 1. Each round has three parts of one second. First the load keeps the server busy
//! without losing a reply, which measures its capacity at that time. Then queries are sent at twice that rate, or as fast as
//! the load can, whether or not they are answered. Then the first part is repeated. The null responder has a turn in each
//! round too: its losses are those of the kernel and of the load.
//!
//! Both hand each reply to the kernel as a datagram of its own (`--udp-loop batched`). The third target is the server with
//! its default loop, which hands over many replies together (`UDP_SEGMENT`): it answers more than this load can send, so
//! that twice as many queries do not overload it. At the end the overload lasts for a minute, to measure the server's memory.

use std::net::SocketAddr;
use std::time::Duration;

use crate::dns::NullResponder;
use crate::support::process::{CpuTime, ProcessTree, pin};
use crate::support::udp_load::{Generator, ReplyCheck};
use crate::support::workload::{Kind, Workload};
use crate::support::{Scratch, Server, at_percent, median, number_option, world};

const WINDOW: usize = 128;
/// Queries sent during an overload, as a multiple of those that the server can answer.
const OVERLOAD: f64 = 2.0;
/// Length of the replies of the server, and therefore of the null responder.
const REPLY_BYTES: usize = 185;

pub(crate) fn run() {
    pin(1);
    let (rounds, seconds) = (number_option("rounds", 30), number_option("seconds", 60));
    let null = NullResponder::start(&[0; REPLY_BYTES], "batched");
    let scratch = Scratch::new("overload");
    let servers =
        ["batched", "auto"].map(|udp_loop| Server::start_with_one_worker(&scratch, world::SMALL, udp_loop));
    let own = |name, at: usize| {
        let tree = ProcessTree::of(servers[at].id());
        Target::new(name, servers[at].dns, tree, [ReplyCheck::Answer, ReplyCheck::OwnQuestion])
    };
    let mut targets = [
        own("cloudmap-dns --udp-loop batched", 0),
        Target::new("null responder", null.address, null.tree(), [ReplyCheck::IdOnly; 2]),
        own("cloudmap-dns", 1),
    ];
    for round in 0..rounds as usize {
        for turn in 0..targets.len() {
            let at = (round + turn) % targets.len();
            targets[at].add_round();
        }
    }
    targets.iter().for_each(Target::print);
    targets[0].overload(seconds);
}

struct Target {
    name: &'static str,
    tree: ProcessTree,
    generator: Generator,
    workload: Workload,
    check: ReplyCheck,
    flood_check: ReplyCheck,
    rounds: Vec<Round>,
}

/// Rates in the second before an overload, in the second of it, and in the second after it.
struct Round {
    before: Rate,
    overloaded: Rate,
    after: Rate,
}

/// Replies and queries per second, and the CPU time of the server's process for each reply in microseconds.
#[derive(Clone, Copy)]
struct Rate {
    replied: f64,
    asked: f64,
    cpu_us: f64,
}

impl Target {
    fn new(name: &'static str, address: SocketAddr, tree: ProcessTree, checks: [ReplyCheck; 2]) -> Target {
        let [check, flood_check] = checks;
        Target {
            name,
            tree,
            generator: Generator::new(address),
            workload: Workload::new(Kind::A, world::SMALL),
            check,
            flood_check,
            rounds: Vec::new(),
        }
    }

    fn add_round(&mut self) {
        let before = self.capacity();
        let overloaded = self.flood(before.replied * OVERLOAD);
        // Discard the replies that still wait in sockets: they answer queries of the overload.
        self.generator.drain();
        let after = self.capacity();
        self.rounds.push(Round { before, overloaded, after });
    }

    fn capacity(&mut self) -> Rate {
        let cpu_before = self.tree.cpu_time();
        let outcome = self.generator.run(&mut self.workload, WINDOW, Duration::from_secs(1), self.check);
        assert_eq!(outcome.lost, 0, "nothing is lost without overload");
        self.rate(outcome.answered, outcome.sent, outcome.seconds, cpu_before)
    }

    fn flood(&mut self, queries_per_second: f64) -> Rate {
        let (read_before, cpu_before) = (datagrams_read(), self.tree.cpu_time());
        let second = Duration::from_secs(1);
        let outcome = self.generator.flood(&mut self.workload, queries_per_second, second, self.flood_check);
        // Nothing but the load and the server reads datagrams here, and the server answers each one that it reads.
        let replies = datagrams_read() - read_before - outcome.received;
        self.rate(replies, outcome.sent, outcome.seconds, cpu_before)
    }

    fn rate(&self, replies: u64, queries: u64, seconds: f64, cpu_before: CpuTime) -> Rate {
        let cpu = self.tree.cpu_time() - cpu_before;
        Rate {
            replied: replies as f64 / seconds,
            asked: queries as f64 / seconds,
            cpu_us: cpu.total_ns as f64 / 1e3 / replies as f64,
        }
    }

    fn print(&self) {
        let of_rounds = |value: fn(&Round) -> f64| -> Vec<f64> { self.rounds.iter().map(value).collect() };
        let percent = |value: fn(&Round) -> f64| {
            let values = of_rounds(value);
            let [middle, low, high] = [50.0, 10.0, 90.0].map(|at| at_percent(&values, at) * 100.0);
            format!("{middle:.1} % ({low:.1} to {high:.1})")
        };
        println!(
            "{}: {} rounds; {:.0} replies/s, {:.2} us of CPU each; with {:.2} times as many queries {} of the replies, {:.2} us \
             each; in the second after it nothing lost and {} of the replies",
            self.name,
            self.rounds.len(),
            median(&of_rounds(|round| round.before.replied)),
            median(&of_rounds(|round| round.before.cpu_us)),
            median(&of_rounds(|round| round.overloaded.asked / round.before.replied)),
            percent(|round| round.overloaded.replied / round.before.replied),
            median(&of_rounds(|round| round.overloaded.cpu_us)),
            percent(|round| round.after.replied / round.before.replied),
        );
    }

    fn overload(&mut self, seconds: u64) {
        let before = self.capacity();
        let resident_before = self.tree.resident_bytes();
        let mut resident_max = resident_before;
        for second in 1..=seconds {
            let rate = self.flood(before.replied * OVERLOAD);
            resident_max = resident_max.max(self.tree.resident_bytes());
            if second.is_multiple_of(10) || second == seconds {
                let Rate { asked, replied, .. } = rate;
                println!(
                    "{}: second {second}: {asked:.0} queries/s, {replied:.0} replies/s, all right",
                    self.name
                );
            }
        }
        self.generator.drain();
        let after = self.capacity();
        println!(
            "{}: {seconds} s of overload: resident {:.1} MiB before it, {} KiB more at most; nothing lost in the second after it, \
             {:.1} % of the replies before it",
            self.name,
            resident_before as f64 / 1048576.0,
            resident_max.saturating_sub(resident_before) / 1024,
            after.replied / before.replied * 100.0,
        );
    }
}

/// The number of UDP datagrams that were read in this network namespace: `InDatagrams` of RFC 4113.
fn datagrams_read() -> u64 {
    let text = std::fs::read_to_string("/proc/net/snmp").expect("the kernel's counts");
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("Udp: "));
    let (names, values) = (lines.next().expect("the names"), lines.next().expect("the counts"));
    let at = names.split(' ').position(|name| name == "InDatagrams").expect("the count of datagrams");
    values.split(' ').nth(at).and_then(|value| value.parse().ok()).expect("a number")
}
