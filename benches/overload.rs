//! More queries than the server can answer: it goes on answering, grows no memory, and is itself again at once.
//!
//! The server has CPU 0, the load CPU 1. First the load keeps the server busy without losing anything: the best it does.
//! Then queries come at twice that rate, whatever becomes of them, or as fast as the load can send; the output says how
//! many times it was.

use std::time::Duration;

use crate::support::process::{CpuTime, ProcessTree, pin};
use crate::support::udp_load::{Demand, Generator};
use crate::support::workload::{Kind, Workload};
use crate::support::{Scratch, Server, number_option, world};

const WINDOW: usize = 128;
const BEST_ROUNDS: usize = 5;
/// Offered queries for each that the server can answer.
const OVERLOAD: f64 = 2.0;

pub(crate) fn run() {
    pin(1);
    let scratch = Scratch::new("overload");
    world::write_store(world::SMALL, &scratch.0);
    let server = Server::start(&scratch.0, "embedded", Some("0"), &["--workers", "1"]);
    let mut workload = Workload::new(Kind::A, world::SMALL);
    let mut generator = Generator::new(server.dns);
    let mut second = |generator: &mut Generator| {
        let outcome = generator.run(&mut workload, WINDOW, Duration::from_secs(1), Demand::RightAnswer);
        assert_eq!(outcome.lost, 0, "nothing is lost without overload");
        outcome.answered as f64 / outcome.seconds
    };
    let tree = ProcessTree::of(server.id());
    let (cpu_before, replies_before) = (tree.cpu_time(), server.responses());
    let best = (0..BEST_ROUNDS).map(|_| second(&mut generator)).fold(0.0, f64::max);
    let resident_before = server.resident_octets();
    let cpu_us = |cpu: CpuTime, replies: u64| cpu.total_ns as f64 / 1e3 / replies as f64;
    println!(
        "best: {best:.0} replies/s, {:.2} us of CPU a reply; resident {:.1} MiB",
        cpu_us(tree.cpu_time() - cpu_before, server.responses() - replies_before),
        resident_before as f64 / 1048576.0
    );

    let seconds = number_option("seconds", 60);
    let mut flood = Workload::new(Kind::A, world::SMALL);
    let (mut worst, mut total, mut resident_max) = (f64::INFINITY, 0.0, 0);
    let mut sent_before = server.responses();
    let (cpu_before, replies_before) = (tree.cpu_time(), sent_before);
    for second in 1..=seconds {
        let outcome = generator.flood(&mut flood, best * OVERLOAD, Duration::from_secs(1));
        let sent = server.responses();
        let rate = (sent - sent_before) as f64 / outcome.seconds;
        let received = outcome.answered as f64 / outcome.seconds;
        sent_before = sent;
        worst = worst.min(rate);
        total += rate;
        resident_max = resident_max.max(server.resident_octets());
        if second % 10 == 0 || second == seconds {
            println!(
                "second {second}: {:.0} queries/s, {:.2} times the best; {rate:.0} replies/s, {received:.0} of them \
                 received, all right; resident {:.1} MiB",
                outcome.sent as f64 / outcome.seconds,
                outcome.sent as f64 / outcome.seconds / best,
                server.resident_octets() as f64 / 1048576.0,
            );
        }
    }
    let cpu = tree.cpu_time() - cpu_before;
    println!("under overload: {:.2} us of CPU a reply", cpu_us(cpu, server.responses() - replies_before));
    // What still waits in sockets is of the overload.
    generator.forget();
    let after = second(&mut generator);
    println!(
        "overload of {seconds} s: all of it had {:.1} % of the best, the worst second {:.1} %; resident grew by {} KiB at most; the second \
         after it lost nothing and had {:.1} % of the best",
        total / seconds as f64 / best * 100.0,
        worst / best * 100.0,
        resident_max.saturating_sub(resident_before) / 1024,
        after / best * 100.0,
    );
}
