//! Instructions and allocations of `answer()`, counted by valgrind, so that every machine and every run gives equal counts.
//!
//! `cargo bench --bench instructions` needs valgrind and the `gungraun-runner` of the version in Cargo.toml. Each count is
//! for 1,000 answers; divided by 1,000 it is the mean of one answer over 1,000 names. The bench fails when a count is more
//! than [`GROWTH_PERCENT_MAX`] above the one in `instructions.txt`, or when anything is allocated.

#![expect(missing_docs, reason = "gungraun's macros make public items")]

#[expect(dead_code, reason = "the other benches use the rest")]
mod support;

use std::hint::black_box;
use std::net::Ipv4Addr;
use std::sync::Arc;

use cloudmap_dns::dns::{
    Common, CookieSecrets, Limits, Transport, UDP_OCTETS_MAX, Verdict, View, Worker, answer,
};
use cloudmap_dns::registry::{Registry, Settings};
use cloudmap_dns::snapshot::Snapshot;
use gungraun::{
    Callgrind, Dhat, DhatMetric, EventKind, LibraryBenchmarkConfig, library_benchmark,
    library_benchmark_group, main,
};

use support::workload::{self, Kind, QUERY_BYTES_MAX, Workload};
use support::world;

/// Growth of a count over the baseline, in per cent, above which the bench fails.
const GROWTH_PERCENT_MAX: u64 = 3;
const ANSWERS: usize = 1_000;
const BASELINE: &str = include_str!("instructions.txt");

struct Ready {
    snapshot: Arc<Snapshot>,
    queries: Vec<Vec<u8>>,
    worker: Worker,
    out: Vec<u8>,
}

impl Ready {
    /// The general path, which answers what the short path does not.
    fn on_general_path(kind: Kind) -> Ready {
        let ready = Ready::new(kind);
        Ready { worker: ready.worker.without_short_path(), ..ready }
    }

    fn new(kind: Kind) -> Ready {
        let (snapshot, publisher) = Snapshot::new(world::snapshot_settings());
        let stored = world::Stored(world::SMALL);
        let (_, writer) = Registry::start(Settings::default(), Box::new(stored), Box::new(publisher))
            .expect("the world loads");
        writer.stop();
        let mut workload = Workload::new(kind, world::SMALL);
        let mut query = || {
            let mut query = [0; QUERY_BYTES_MAX];
            let query = &mut query[..workload.query_bytes()];
            workload.write(0x1234, query);
            query.to_vec()
        };
        let queries = std::iter::repeat_with(&mut query).take(ANSWERS).collect();
        let secrets = CookieSecrets::new(&[[7; 16]]).expect("secrets that are given");
        let mut worker = Worker::new(Common::new("bench", secrets));
        worker.seed(7);
        let mut ready = Ready { snapshot, queries, worker, out: vec![0; usize::from(UDP_OCTETS_MAX)] };
        // Answer all queries once before counting, so that lazy initialization is done and every answer was checked.
        ready.answer_all(|query, reply| {
            workload::check(kind, query, reply).expect("the right answer");
        });
        ready
    }

    fn answer_all(&mut self, mut use_reply: impl FnMut(&[u8], &[u8])) {
        let directory = self.snapshot.view();
        let view = View { directory: &directory, generation: self.snapshot.generation(), is_stale: false };
        let limits = Limits {
            transport: Transport::Udp,
            client: Ipv4Addr::LOCALHOST.into(),
            now_seconds: 1_700_000_000,
        };
        for query in &self.queries {
            let verdict = answer(&view, query, &limits, &mut self.worker, &mut self.out);
            let Verdict::Reply(reply) = verdict else { panic!("no reply: {verdict:?}") };
            use_reply(query, &self.out[..reply.len]);
        }
    }
}

fn config(kind: &str) -> LibraryBenchmarkConfig {
    let counted = |what: &str| BASELINE.lines().find_map(|line| line.strip_prefix(what)?.strip_prefix(' '));
    let mut config = LibraryBenchmarkConfig::default();
    let compiler =
        std::process::Command::new("rustc").arg("--version").output().expect("rustc prints its version");
    let is_same_compiler = counted("rustc")
        .is_some_and(|version| String::from_utf8_lossy(&compiler.stdout).split(' ').nth(1) == Some(version));
    if is_same_compiler {
        let baseline: u64 = counted(kind).and_then(|count| count.parse().ok()).expect("a baseline");
        let mut callgrind = Callgrind::default();
        callgrind.hard_limits([(EventKind::Ir, baseline * (100 + GROWTH_PERCENT_MAX) / 100)]);
        config.tool(callgrind);
    }
    let mut dhat = Dhat::default();
    dhat.hard_limits([(DhatMetric::TotalBlocks, 0)]);
    config.tool(dhat);
    config
}

#[library_benchmark]
#[bench::a_x8(args = (Kind::A), setup = Ready::new, config = config("A"))]
#[bench::srv_x8_with_additionals(args = (Kind::Srv), setup = Ready::new, config = config("Srv"))]
#[bench::no_name(args = (Kind::NoName), setup = Ready::new, config = config("NoName"))]
#[bench::no_data(args = (Kind::NoData), setup = Ready::new, config = config("NoData"))]
#[bench::general_a_x8(args = (Kind::A), setup = Ready::on_general_path, config = config("General-A"))]
#[bench::general_srv_x8(args = (Kind::Srv), setup = Ready::on_general_path, config = config("General-Srv"))]
#[bench::general_no_name(args = (Kind::NoName), setup = Ready::on_general_path, config = config("General-NoName"))]
#[bench::general_no_data(args = (Kind::NoData), setup = Ready::on_general_path, config = config("General-NoData"))]
fn answers_1000(mut ready: Ready) -> Ready {
    ready.answer_all(|_, reply| {
        black_box(reply);
    });
    ready
}

library_benchmark_group!(name = answers, benchmarks = answers_1000);
main!(library_benchmark_groups = answers);
