//! Cost of reading a pod and of keeping it in the index, measured in this process: time, bytes and allocated blocks.

use std::time::{Duration, Instant};

use cloudmap_dns::kubernetes::index::Index;
use cloudmap_dns::kubernetes::pod::{InstanceIdSource, ParsedPod, Pod, PodRules};
use cloudmap_dns::registry::Seen;

use crate::support::world;

use super::fleet::{Fleet, PODS};

const BATCH_OBSERVATIONS: usize = 1_000;

pub(crate) fn run() {
    let fleet = Fleet::new();
    let rules = PodRules { instance_id: InstanceIdSource::Task, identity: world::identity() };
    let before = crate::ALLOCATOR.stats();
    let mut index = Index::default();
    let mut parts = [Duration::ZERO; 3];
    let mut parse_blocks = 0;
    index.list_begins(0);
    for object in fleet.objects() {
        let mut at = Instant::now();
        let mut step = |part: usize| {
            let now = Instant::now();
            parts[part] += now - at;
            at = now;
        };
        let blocks = crate::ALLOCATOR.stats().allocations;
        let pod: Pod = serde_json::from_slice(&object).expect("a pod");
        parse_blocks += crate::ALLOCATOR.stats().allocations - blocks;
        step(0);
        let parsed = ParsedPod::of(&pod, &rules).expect("a pod with a name");
        drop(pod);
        step(1);
        index.upsert(0, parsed);
        step(2);
    }
    index.list_ends(0);
    index.look_up(true, |_| Some(1));
    let (mut reported, mut bytes) = (0, 0);
    loop {
        let batch = index.next_batch(BATCH_OBSERVATIONS);
        if batch.is_empty() {
            break;
        }
        reported += batch.observations.len();
        bytes +=
            batch.observations.iter().map(|observation| instance_bytes(&observation.seen)).sum::<usize>();
        index.accepted(&batch, &[]);
    }
    assert_eq!(reported, PODS, "every pod is reported");
    let grown = crate::ALLOCATOR.stats() - before;
    let per_pod = |number: usize| number as f64 / PODS as f64;
    let us = |part: usize| parts[part].as_nanos() as f64 / 1e3 / PODS as f64;
    println!(
        "in this process, a pod: parsed in {:.2} us with {:.0} allocations, read in {:.2} us, put into the index in {:.2} us",
        us(0),
        per_pod(parse_blocks),
        us(1),
        us(2),
    );
    println!(
        "the index: {:.0} bytes in {:.2} blocks a pod; {:.0} bytes of them are its instance, which is shared with the registry",
        per_pod(grown.bytes_allocated - grown.bytes_deallocated),
        per_pod(grown.allocations - grown.deallocations),
        per_pod(bytes),
    );
}

fn instance_bytes(seen: &Seen) -> usize {
    match seen {
        // The instance is in an `Arc`, whose two counters are part of the allocation.
        Seen::Instance(instance) => instance.as_bytes().len() + 2 * size_of::<usize>(),
        Seen::Gone(_) => 0,
    }
}
