//! Time per answer with and without the short path and the prefetch, measured in one process and one run.
//!
//! Queries are for random services of a directory, in batches, as a worker receives them under load. The variants answer
//! the batches in turn, so that a slow moment of the machine affects all of them.

use std::hint::black_box;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cloudmap_dns::dns::{
    Common, CookieSecrets, Limits, Transport, UDP_OCTETS_MAX, Verdict, View, Worker, answer, prefetch,
};
use cloudmap_dns::registry::{Registry, Settings};
use cloudmap_dns::snapshot::Snapshot;

use crate::support::workload::{Kind, QUERY_BYTES_MAX, Workload};
use crate::support::world::{self, Size};

const ROUNDS: usize = 40;
const BATCH_QUERIES: usize = 32;
const BATCHES: usize = 500;

#[derive(Clone, Copy)]
struct Variant {
    title: &'static str,
    has_short_path: bool,
    prefetches: bool,
}

const VARIANTS: [Variant; 3] = [
    Variant { title: "all", has_short_path: true, prefetches: true },
    Variant { title: "without prefetch", has_short_path: true, prefetches: false },
    Variant { title: "without the short path", has_short_path: false, prefetches: true },
];

pub(crate) fn run() {
    println!("| services | query | {} |", VARIANTS.map(|variant| variant.title).join(" | "));
    println!("| --- | --- |{}", " --- |".repeat(VARIANTS.len()));
    for size in [world::SMALL, world::WHOLE] {
        let (snapshot, publisher) = Snapshot::new(world::snapshot_settings());
        let stored = world::Stored(size);
        let (_, writer) = Registry::start(Settings::default(), Box::new(stored), Box::new(publisher))
            .expect("the world loads");
        writer.stop();
        for kind in Kind::ALL {
            measure(&snapshot, kind, size);
        }
    }
}

fn measure(snapshot: &Arc<Snapshot>, kind: Kind, size: Size) {
    let mut workload = Workload::new(kind, size);
    let mut query = || {
        let mut query = [0; QUERY_BYTES_MAX];
        let query = &mut query[..workload.query_bytes()];
        workload.write(0x1234, query);
        query.to_vec()
    };
    let queries: Vec<Vec<u8>> = std::iter::repeat_with(&mut query).take(BATCH_QUERIES * BATCHES).collect();
    let mut workers = VARIANTS.map(|variant| {
        let secrets = CookieSecrets::new(&[[7; 16]]).expect("secrets that are given");
        let worker = Worker::new(Common::new("bench", secrets));
        if variant.has_short_path { worker } else { worker.without_short_path() }
    });
    let mut times: [Vec<Duration>; VARIANTS.len()] = Default::default();
    let mut out = vec![0; usize::from(UDP_OCTETS_MAX)];
    for round in 0..ROUNDS {
        for turn in 0..VARIANTS.len() {
            let at = (round + turn) % VARIANTS.len();
            let start = Instant::now();
            for batch in queries.chunks(BATCH_QUERIES) {
                answer_batch(snapshot, batch, VARIANTS[at].prefetches, &mut workers[at], &mut out);
            }
            times[at].push(start.elapsed());
        }
    }
    let medians = times.map(|mut times| {
        times.sort_unstable();
        times[times.len() / 2].as_nanos() as f64 / queries.len() as f64
    });
    let cells = medians.map(|median| format!("{median:.0} ns ({:.2})", median / medians[0]));
    println!("| {} | {} | {} |", size.services(), kind.title(), cells.join(" | "));
}

fn answer_batch(
    snapshot: &Snapshot,
    batch: &[Vec<u8>],
    prefetches: bool,
    worker: &mut Worker,
    out: &mut [u8],
) {
    let directory = snapshot.view();
    let view = View { directory: &directory, generation: snapshot.generation(), is_stale: false };
    let limits =
        Limits { transport: Transport::Udp, client: Ipv4Addr::LOCALHOST.into(), now_seconds: 1_700_000_000 };
    if prefetches {
        prefetch(&view, batch.iter().map(Vec::as_slice));
    }
    for query in batch {
        let verdict = answer(&view, query, &limits, worker, out);
        let Verdict::Reply(reply) = verdict else { panic!("no reply: {verdict:?}") };
        black_box(&out[..reply.len]);
    }
}
