//! A model of publishing and freeing: one writer and several readers, whose steps a scheduler interleaves in many orders.
//!
//! The log of leaves is the product's own code, `src/zone/directory/log.rs`, compiled here with the scheduler's atomics.
//! The directory's cell is modelled. `arc_swap` works on raw pointers, which the scheduler cannot see, so
//! `publish_model/cell.rs` follows its algorithm (1.9, the default strategy) step by step on a heap of numbered blocks,
//! which reuses a freed block for the next allocation. The model has the fast slots with their two reads of the cell,
//! the helping slot with its generations and replacements, and the swap that pays all debts. It leaves out that the list of
//! nodes grows (here each thread has its node from the start), the envelope around a replacement (it exists for
//! alignment), and generations that wrap around. Two things are assumed and not checked: that `arc_swap` does what its source
//! says, and that the steps below are sequentially consistent on the processor, as their `SeqCst` demands.
//!
//! The writer has the steps of the compiler: it appends leaves, moves some, swaps the directory when a service is added or
//! the log's table changes, stores the zone's serial, frees old versions, and acknowledges.

#![expect(clippy::unwrap_used, reason = "a panic is a failed test")]

#[path = "publish_model/cell.rs"]
mod cell;
#[path = "../src/zone/directory/log.rs"]
pub mod log;
#[path = "publish_model/sync.rs"]
mod sync;

use std::sync::{Arc, Mutex};

use shuttle::scheduler::{PctScheduler, RandomScheduler, Scheduler};
use shuttle::sync::atomic::{AtomicUsize, Ordering};
use shuttle::{Config, FailurePersistence, Runner, thread};

use cell::{Heap, Node};
use log::{Log, LogCell, LogWriter};

const SERVICES: usize = 2;
/// Leaves in a chunk of the log, so few that a test fills many chunks.
const SLOTS: usize = 2;

#[derive(Clone)]
struct Directory {
    version: usize,
    services: usize,
    leaves: Arc<Log<Leaf, SLOTS>>,
}

#[derive(Clone, Copy)]
struct Leaf {
    service: usize,
    version: usize,
}

/// The state of the process. Thread 0 is the writer, threads from 1 on are readers, and each has its node.
struct World {
    heap: Heap<Directory>,
    nodes: Vec<Node>,
    directory: AtomicUsize,
    /// One cell for each service. In the product they are in the directory's nodes, which all versions share.
    cells: [LogCell; SERVICES],
    log: Mutex<LogWriter<Leaf, SLOTS>>,
    serial: AtomicUsize,
    acknowledged: AtomicUsize,
}

impl World {
    fn new(readers: usize) -> World {
        let mut log = LogWriter::new();
        let cells = [0, 1].map(|service| {
            let number = log.push(Leaf { service, version: 1 }, service as u64);
            LogCell::new(Some(number))
        });
        let heap = Heap::new();
        let first = Directory { version: 1, services: 1, leaves: log.log().clone() };
        let directory = AtomicUsize::new(heap.allocate(first));
        World {
            heap,
            nodes: (0..=readers).map(|_| Node::default()).collect(),
            directory,
            cells,
            log: Mutex::new(log),
            serial: AtomicUsize::new(1),
            acknowledged: AtomicUsize::new(1),
        }
    }

    /// Publishes the versions from 2 to `last`. Each is a new leaf of the service that `service_of` returns; version 2 also
    /// adds the second service. Returns how often the log got a new table.
    fn write(&self, last: usize, service_of: fn(usize) -> usize) -> usize {
        let mut log = self.log.lock().unwrap();
        let mut retired = Vec::new();
        let mut table = log.log().clone();
        let mut tables = 0;
        for version in 2..=last {
            let service = service_of(version);
            let old = self.cells[service].number().unwrap();
            let new = log.push(Leaf { service, version }, service as u64);
            self.cells[service].set(new);
            log.retire(old);
            log.clean(|owner, old, new| {
                let cell = &self.cells[owner as usize];
                assert_eq!(cell.number(), Some(old), "only the newest leaf is moved");
                cell.set(new);
            });
            let has_new_table = !Arc::ptr_eq(&table, log.log());
            if has_new_table || version == 2 {
                table = log.log().clone();
                tables += usize::from(has_new_table);
                let directory = Directory { version, services: SERVICES, leaves: table.clone() };
                retired.push(self.swap(directory));
            }
            self.serial.store(version, Ordering::SeqCst);
            self.free(&mut retired);
            self.acknowledged.store(version, Ordering::SeqCst);
        }
        // All readers end after some time, so that the last retired versions become free.
        while !retired.is_empty() {
            thread::yield_now();
            self.free(&mut retired);
        }
        tables
    }

    fn swap(&self, directory: Directory) -> usize {
        cell::swap(&self.heap, &self.nodes, 0, &self.directory, self.heap.allocate(directory))
    }

    fn free(&self, retired: &mut Vec<usize>) {
        retired.retain(|block| {
            let is_last = self.heap.count(*block) == 1;
            if is_last {
                self.heap.release(*block, 0);
            }
            !is_last
        });
    }

    /// Reads as a query does: pins the directory and finds leaves. It repeats that to check that no version goes backwards.
    fn read(&self, thread: usize, views: usize, service_of: fn(usize) -> usize) {
        let (mut directory_seen, mut leaves_seen) = (1, [1; SERVICES]);
        for _ in 0..views {
            let acknowledged = self.acknowledged.load(Ordering::SeqCst);
            let serial = self.serial.load(Ordering::SeqCst);
            let promised = acknowledged.max(serial);
            let view = cell::load(&self.heap, &self.nodes[thread], &self.directory);
            let directory = self.heap.value(view.block());
            assert!(directory.version >= directory_seen, "an older directory after a newer one");
            assert!(directory.services == 2 || promised < 2, "an acknowledged service is missing");
            directory_seen = directory.version;
            for (service, cell) in self.cells.iter().enumerate().take(directory.services) {
                let leaf = directory.leaves.get(cell).expect("each number in a cell has a leaf");
                assert_eq!(leaf.service, service, "a foreign leaf");
                assert!(leaf.version >= leaves_seen[service], "an older leaf after a newer one");
                let newest = (2..=promised).filter(|version| service_of(*version) == service).max();
                assert!(leaf.version >= newest.unwrap_or(1), "not what was acknowledged");
                leaves_seen[service] = leaf.version;
            }
            drop(directory);
            cell::drop_guard(&self.heap, view, thread);
        }
    }
}

/// Runs one writer and some readers to their ends. Only the directory in the cell may then be left on the heap.
fn run(readers: usize, views: usize, versions: usize, service_of: fn(usize) -> usize) {
    let world = Arc::new(World::new(readers));
    let readers: Vec<_> = (1..=readers)
        .map(|thread| {
            let world = world.clone();
            thread::spawn(move || world.read(thread, views, service_of))
        })
        .collect();
    let tables = world.write(versions, service_of);
    assert!(tables > 0 || versions < 12, "chunks were left behind");
    readers.into_iter().for_each(|reader| reader.join().unwrap());
    let held = world.directory.load(Ordering::SeqCst);
    assert_eq!((world.heap.blocks_in_use(), world.heap.count(held)), (1, 1), "all that was retired is freed");
}

fn check(scheduler: impl Scheduler + 'static, model: impl Fn() + Send + Sync + 'static) {
    let mut config = Config::new();
    config.failure_persistence = FailurePersistence::None;
    Runner::new(scheduler, config).run(model);
}

#[test]
fn readers_see_no_partial_or_older_version_and_never_free() {
    // Both services change in turns, or only one of them changes and the log has to move the other's leaf.
    let services: [fn(usize) -> usize; 2] = [|version| version % 2, |version| usize::from(version == 2)];
    for (at, service_of) in services.into_iter().enumerate() {
        let model = |readers, views, versions| move || run(readers, views, versions, service_of);
        let seed = 0x5eed_0001 + at as u64;
        check(RandomScheduler::new_from_seed(seed, 30_000), model(2, 3, 14));
        check(PctScheduler::new_from_seed(seed, 4, 60_000), model(1, 3, 14));
        check(PctScheduler::new_from_seed(seed, 6, 60_000), model(3, 1, 12));
    }
}

/// Shows why the process may have only one `arc_swap` cell, the directory's. A reader that is delayed between its two reads
/// mistakes the payment of an older debt for its own, and returns a value of the other cell.
#[test]
#[should_panic(expected = "a foreign value")]
fn two_cells_can_return_each_others_values() {
    check(PctScheduler::new_from_seed(0x5eed_0004, 4, 400_000), || {
        let heap = Arc::new(Heap::new());
        let nodes: Arc<[Node; 2]> = Arc::default();
        let cells = Arc::new([0, 1].map(|cell| AtomicUsize::new(heap.allocate(cell))));
        let reader = {
            let (heap, nodes, cells) = (heap.clone(), nodes.clone(), cells.clone());
            thread::spawn(move || {
                for (at, cell) in cells.iter().enumerate() {
                    let guard = cell::load(&heap, &nodes[1], cell);
                    assert_eq!(heap.value(guard.block()), at, "a foreign value");
                    cell::drop_guard(&heap, guard, 1);
                }
            })
        };
        for version in 0..5 {
            let at = version % 2;
            let old = cell::swap(&heap, &*nodes, 0, &cells[at], heap.allocate(at));
            if heap.count(old) == 1 {
                heap.release(old, 0);
            }
        }
        reader.join().unwrap();
    });
}
