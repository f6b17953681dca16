//! A model of publishing and freeing: one writer, readers, many orders of their steps.
//!
//! What is the product's own: the log of leaves, `src/zone/directory/log.rs`, compiled here with the scheduler's atomics.
//! What is modelled: the directory's cell. `arc_swap` works on raw pointers, which the scheduler cannot see, so
//! `publish_model/cell.rs` follows its algorithm (1.9, the default strategy) step by step on a heap of numbered places,
//! which gives a place that was freed to whoever allocates next. It has the fast slots with their two reads of the cell,
//! the helping slot with its generations and replacements, and the swap that pays all debts. Left out: the list of nodes
//! grows by itself (here each thread has its node from the start), the envelope around a replacement (it is there for
//! alignment), and generations that wrap round. What is trusted: that `arc_swap` does what its source says, with `SeqCst`
//! where the steps below are; the model knows sequential consistency alone, and takes the processor's word for it.
//!
//! The writer does what the compiler does: it appends leaves, moves some, swaps the directory when a service comes or the
//! log's table changes, stores the zone's serial, frees, and acknowledges.

#![expect(clippy::unwrap_used, reason = "a test ends where something is wrong")]

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
/// Leaves of a chunk: few, so that there are many chunks.
const SLOTS: usize = 2;

/// A version of the directory.
#[derive(Clone)]
struct Directory {
    version: usize,
    /// How many of the services it has.
    services: usize,
    leaves: Arc<Log<Leaf, SLOTS>>,
}

#[derive(Clone, Copy)]
struct Leaf {
    service: usize,
    version: usize,
}

/// What the process consists of. Threads are 0, the writer, and readers from 1 on; each has its node.
struct World {
    heap: Heap<Directory>,
    nodes: Vec<Node>,
    directory: AtomicUsize,
    /// What the nodes of the directory, which all versions share, have of the services.
    cells: [LogCell; SERVICES],
    log: Mutex<LogWriter<Leaf, SLOTS>>,
    serial: AtomicUsize,
    acknowledged: AtomicUsize,
}

impl World {
    /// The directory has one service at first.
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

    /// Publishes the versions from 2 to `last`: each is a leaf of the service that `service_of` says; the second version
    /// also brings the second service. How often the log got another table.
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
                assert_eq!(cell.number(), Some(old), "what is moved is the newest");
                cell.set(new);
            });
            let has_other_table = !Arc::ptr_eq(&table, log.log());
            if has_other_table || version == 2 {
                table = log.log().clone();
                tables += usize::from(has_other_table);
                let directory = Directory { version, services: SERVICES, leaves: table.clone() };
                retired.push(self.swap(directory));
            }
            self.serial.store(version, Ordering::SeqCst);
            self.free(&mut retired);
            self.acknowledged.store(version, Ordering::SeqCst);
        }
        // Readers end, so some later publication finds that nothing is in use.
        while !retired.is_empty() {
            thread::yield_now();
            self.free(&mut retired);
        }
        tables
    }

    fn swap(&self, directory: Directory) -> usize {
        cell::swap(&self.heap, &self.nodes, 0, &self.directory, self.heap.allocate(directory))
    }

    /// Frees versions that nobody else has a reference to.
    fn free(&self, retired: &mut Vec<usize>) {
        retired.retain(|place| {
            let is_last = self.heap.count(*place) == 1;
            if is_last {
                self.heap.release(*place, 0);
            }
            !is_last
        });
    }

    /// Reads as queries do: pins the directory, finds leaves; more than once, to see that nothing goes backwards.
    fn read(&self, thread: usize, views: usize, service_of: fn(usize) -> usize) {
        let (mut directory_seen, mut leaves_seen) = (1, [1; SERVICES]);
        for _ in 0..views {
            let acknowledged = self.acknowledged.load(Ordering::SeqCst);
            let serial = self.serial.load(Ordering::SeqCst);
            let promised = acknowledged.max(serial);
            let view = cell::load(&self.heap, &self.nodes[thread], &self.directory);
            let directory = self.heap.value(view.place());
            assert!(directory.version >= directory_seen, "an older directory after a newer one");
            assert!(directory.services == 2 || promised < 2, "an acknowledged service is missing");
            directory_seen = directory.version;
            for (service, cell) in self.cells.iter().enumerate().take(directory.services) {
                let leaf = directory.leaves.get(cell).expect("there is a leaf for each number in a cell");
                assert_eq!(leaf.service, service, "a foreign leaf");
                assert!(leaf.version >= leaves_seen[service], "an older leaf after a newer one");
                let newest = (2..=promised).filter(|version| service_of(*version) == service).max();
                assert!(leaf.version >= newest.unwrap_or(1), "not what was acknowledged");
                leaves_seen[service] = leaf.version;
            }
            drop(directory);
            cell::let_go(&self.heap, view, thread);
        }
    }
}

/// Runs one writer and some readers to their ends; what is left on the heap is what the directory's cell holds.
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
    assert_eq!((world.heap.places_in_use(), world.heap.count(held)), (1, 1), "all that was retired is freed");
}

fn check(scheduler: impl Scheduler + 'static, model: impl Fn() + Send + Sync + 'static) {
    let mut config = Config::new();
    config.failure_persistence = FailurePersistence::None;
    Runner::new(scheduler, config).run(model);
}

#[test]
fn readers_see_whole_and_never_older_versions_and_free_nothing() {
    // Both change in turns, or one of them stays where it is and has to be moved.
    let services: [fn(usize) -> usize; 2] = [|version| version % 2, |version| usize::from(version == 2)];
    for (at, service_of) in services.into_iter().enumerate() {
        let model = |readers, views, versions| move || run(readers, views, versions, service_of);
        let seed = 0x5eed_0001 + at as u64;
        check(RandomScheduler::new_from_seed(seed, 30_000), model(2, 3, 14));
        check(PctScheduler::new_from_seed(seed, 4, 60_000), model(1, 3, 14));
        check(PctScheduler::new_from_seed(seed, 6, 60_000), model(3, 1, 12));
    }
}

/// Why the directory's is the only `arc_swap` cell of the process: a reader that is held up between its two reads takes the
/// payment of somebody else's debt for its own, and has what another cell held.
#[test]
#[should_panic(expected = "a foreign value")]
fn a_second_cell_would_not_do() {
    check(PctScheduler::new_from_seed(0x5eed_0004, 4, 400_000), || {
        let heap = Arc::new(Heap::new());
        let nodes: Arc<[Node; 2]> = Arc::default();
        let cells = Arc::new([0, 1].map(|cell| AtomicUsize::new(heap.allocate(cell))));
        let reader = {
            let (heap, nodes, cells) = (heap.clone(), nodes.clone(), cells.clone());
            thread::spawn(move || {
                for (at, cell) in cells.iter().enumerate() {
                    let guard = cell::load(&heap, &nodes[1], cell);
                    assert_eq!(heap.value(guard.place()), at, "a foreign value");
                    cell::let_go(&heap, guard, 1);
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
