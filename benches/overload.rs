//! More queries than the server can answer: it goes on answering, grows no memory, and is itself again at once.
//!
//! The server has CPU 0, the load CPU 1. In each of many rounds the load keeps the server busy for a second without losing
//! anything, which is the best that it can do at that time; then queries come at twice that rate, whatever becomes of
//! them, or as fast as the load can send; then it is as before. The null responder has its turn in each round too: what it
//! loses is the kernel's and the load's.
//!
//! Both hand over each reply by itself. A server that hands over many together answers more than this load can send: it has
//! its turn as a third, and twice as many queries are no overload for it. At the end the overload goes on for a minute, for
//! the server's memory.

use std::net::SocketAddr;
use std::time::Duration;

use crate::dns::NullResponder;
use crate::support::process::{CpuTime, ProcessTree, pin};
use crate::support::udp_load::{Demand, Generator};
use crate::support::workload::{Kind, Workload};
use crate::support::{Scratch, Server, at_percent, median, number_option, world};

const WINDOW: usize = 128;
/// Offered queries for each that the server can answer.
const OVERLOAD: f64 = 2.0;
/// Octets of the null responder's reply, which is as long as the server's.
const REPLY_OCTETS: usize = 185;

pub(crate) fn run() {
    pin(1);
    let (rounds, seconds) = (number_option("rounds", 30), number_option("seconds", 60));
    let null = NullResponder::start(&[0; REPLY_OCTETS], "batched");
    let scratch = Scratch::new("overload");
    let servers =
        ["batched", "auto"].map(|udp_loop| Server::start_with_one_worker(&scratch, world::SMALL, udp_loop));
    let own = |name, at: usize| {
        let tree = ProcessTree::of(servers[at].id());
        Target::new(name, servers[at].dns, tree, [Demand::RightAnswer, Demand::RightToItself])
    };
    let mut targets = [
        own("cloudmap-dns --udp-loop batched", 0),
        Target::new("null responder", null.address, null.tree(), [Demand::SameId; 2]),
        own("cloudmap-dns", 1),
    ];
    for round in 0..rounds as usize {
        for turn in 0..targets.len() {
            let at = (round + turn) % targets.len();
            targets[at].add_round();
        }
    }
    targets.iter().for_each(Target::print);
    targets[0].go_on(seconds);
}

/// Who is asked.
struct Target {
    name: &'static str,
    tree: ProcessTree,
    generator: Generator,
    workload: Workload,
    demand: Demand,
    demand_of_flood: Demand,
    rounds: Vec<Round>,
}

/// A second before the overload, one with it, and one after it.
struct Round {
    before: Rate,
    overloaded: Rate,
    after: Rate,
}

#[derive(Clone, Copy)]
struct Rate {
    /// Replies per second.
    replied: f64,
    /// Queries per second.
    asked: f64,
    /// Microseconds of CPU time of the server's process for each reply.
    cpu_us: f64,
}

impl Target {
    fn new(name: &'static str, address: SocketAddr, tree: ProcessTree, demands: [Demand; 2]) -> Target {
        let [demand, demand_of_flood] = demands;
        Target {
            name,
            tree,
            generator: Generator::new(address),
            workload: Workload::new(Kind::A, world::SMALL),
            demand,
            demand_of_flood,
            rounds: Vec::new(),
        }
    }

    fn add_round(&mut self) {
        let before = self.best();
        let overloaded = self.flood(before.replied * OVERLOAD);
        // What still waits in sockets is of the overload.
        self.generator.forget();
        let after = self.best();
        self.rounds.push(Round { before, overloaded, after });
    }

    /// A second without overload.
    fn best(&mut self) -> Rate {
        let cpu_before = self.tree.cpu_time();
        let outcome = self.generator.run(&mut self.workload, WINDOW, Duration::from_secs(1), self.demand);
        assert_eq!(outcome.lost, 0, "nothing is lost without overload");
        self.rate(outcome.answered, outcome.sent, outcome.seconds, cpu_before)
    }

    /// A second with so many queries.
    fn flood(&mut self, queries_per_second: f64) -> Rate {
        let (read_before, cpu_before) = (datagrams_read(), self.tree.cpu_time());
        let second = Duration::from_secs(1);
        let outcome =
            self.generator.flood(&mut self.workload, queries_per_second, second, self.demand_of_flood);
        // What was read and is not the load's is the server's: nobody else reads datagrams here, and it answers each.
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

    /// Overload without a pause.
    fn go_on(&mut self, seconds: u64) {
        let before = self.best();
        let resident_before = self.tree.resident_octets();
        let mut resident_max = resident_before;
        for second in 1..=seconds {
            let rate = self.flood(before.replied * OVERLOAD);
            resident_max = resident_max.max(self.tree.resident_octets());
            if second.is_multiple_of(10) || second == seconds {
                let Rate { asked, replied, .. } = rate;
                println!(
                    "{}: second {second}: {asked:.0} queries/s, {replied:.0} replies/s, all right",
                    self.name
                );
            }
        }
        self.generator.forget();
        let after = self.best();
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

/// Datagrams that were read in this network namespace: `InDatagrams` of RFC 4113.
fn datagrams_read() -> u64 {
    let text = std::fs::read_to_string("/proc/net/snmp").expect("the kernel's counts");
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("Udp: "));
    let (names, values) = (lines.next().expect("the names"), lines.next().expect("the counts"));
    let at = names.split(' ').position(|name| name == "InDatagrams").expect("the count of datagrams");
    values.split(' ').nth(at).and_then(|value| value.parse().ok()).expect("a number")
}
