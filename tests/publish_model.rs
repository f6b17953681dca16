//! A model of publishing and retiring: one writer, readers, two levels, many orders of their steps.
//!
//! What is the product's own: `Sections` and `Retired` of `src/snapshot/retire.rs`, compiled here with the scheduler's
//! atomics. What is modelled: the cells. `arc_swap` works on raw pointers, which the scheduler cannot see, so
//! `publish_model/cell.rs` follows its algorithm (1.9, the default strategy) step by step on a heap of numbered places,
//! which gives a place that was freed to whoever allocates next. It has the fast slots with their two reads of the cell,
//! the helping slot with its generations and replacements, and the swap that pays all debts. Left out: the list of nodes
//! grows by itself (here each thread has its node from the start), the envelope around a replacement (it is there for
//! alignment), and generations that wrap round. What is trusted: that `arc_swap` does what its source says, with `SeqCst`
//! where the steps below are; the model knows sequential consistency alone, and takes the processor's word for it.
//!
//! The writer does what the compiler does: it swaps leaves, swaps the directory when a service comes, stores the zone's
//! serial, collects, and acknowledges.

#![expect(clippy::unwrap_used, reason = "a test ends where something is wrong")]

#[path = "publish_model/cell.rs"]
mod cell;
#[path = "../src/snapshot/retire.rs"]
mod retire;

use std::sync::Arc;

use shuttle::scheduler::{DfsScheduler, PctScheduler, RandomScheduler, Scheduler};
use shuttle::sync::atomic::{self, AtomicUsize, Ordering};
use shuttle::{Config, FailurePersistence, Runner, thread};

use cell::{Heap, Node, Value};
use retire::{Retired, Sections};

/// Cells of the model: the directory's, and those of two services.
const DIRECTORY: usize = 0;
const SERVICES: [usize; 2] = [1, 2];

/// What the process consists of. Threads are 0, the writer, and readers from 1 on; each has its node.
struct World {
    heap: Heap,
    nodes: Vec<Node>,
    cells: [AtomicUsize; 3],
    sections: Sections<1>,
    serial: AtomicUsize,
    acknowledged: AtomicUsize,
}

/// Whether the writer keeps what sections that are open may have in mind, or looks at the reference count alone.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Rule {
    SectionsAndCount,
    CountAlone,
}

impl World {
    /// The directory has one service at first.
    fn new(readers: usize) -> World {
        let heap = Heap::new();
        let first = |cell, services| AtomicUsize::new(heap.allocate(Value { cell, version: 1, services }));
        let cells = [first(DIRECTORY, 1), first(SERVICES[0], 0), first(SERVICES[1], 0)];
        World {
            heap,
            nodes: (0..=readers).map(|_| Node::default()).collect(),
            cells,
            sections: Sections::new(),
            serial: AtomicUsize::new(1),
            acknowledged: AtomicUsize::new(1),
        }
    }

    /// Publishes the versions from 2 to `last`: each is a leaf of one service or the other; the second version also brings
    /// the second service.
    fn write(&self, last: usize, rule: Rule) {
        let mut retired = Retired::<usize, 1>::new();
        for version in 2..=last {
            let cell = SERVICES[version % 2];
            retired.push(self.swap(Value { cell, version, services: 0 }));
            if version == 2 {
                retired.push(self.swap(Value { cell: DIRECTORY, version, services: 2 }));
            }
            self.serial.store(version, Ordering::SeqCst);
            self.collect(&mut retired, rule);
            self.acknowledged.store(version, Ordering::SeqCst);
        }
        // Sections end, so some later publication finds that nothing is in use.
        while self.heap.places_in_use() > self.cells.len() {
            thread::yield_now();
            self.collect(&mut retired, rule);
        }
    }

    fn swap(&self, value: Value) -> usize {
        let cell = &self.cells[value.cell];
        cell::swap(&self.heap, &self.nodes, 0, cell, self.heap.allocate(value))
    }

    fn collect(&self, retired: &mut Retired<usize, 1>, rule: Rule) {
        let is_last = |place: &usize| {
            let is_last = self.heap.count(*place) == 1;
            if is_last {
                self.heap.release(*place, 0);
            }
            is_last
        };
        match rule {
            Rule::SectionsAndCount => retired.collect(&self.sections, is_last),
            Rule::CountAlone => retired.collect(&Sections::new(), is_last),
        }
    }

    /// Reads as queries do: pins the directory, loads leaves; twice, to see that nothing goes backwards.
    fn read(&self, thread: usize, views: usize) {
        let (mut directory_seen, mut leaves_seen) = (1, [1; 2]);
        for _ in 0..views {
            let acknowledged = self.acknowledged.load(Ordering::SeqCst);
            let serial = self.serial.load(Ordering::SeqCst);
            let promised = acknowledged.max(serial);
            let section = self.sections.open(thread);
            let view = cell::load(&self.heap, &self.nodes[thread], &self.cells[DIRECTORY]);
            let directory = self.heap.value(view.place());
            assert_eq!(directory.cell, DIRECTORY, "a foreign value for a directory");
            assert!(directory.version >= directory_seen, "an older directory after a newer one");
            assert!(directory.services == 2 || promised < 2, "an acknowledged service is missing");
            directory_seen = directory.version;
            for (at, cell) in SERVICES.into_iter().enumerate().take(directory.services) {
                let guard = cell::load(&self.heap, &self.nodes[thread], &self.cells[cell]);
                let leaf = self.heap.value(guard.place());
                assert_eq!(leaf.cell, cell, "a foreign value for a leaf");
                assert!(leaf.version >= leaves_seen[at], "an older leaf after a newer one");
                let newest = (2..=promised).filter(|version| SERVICES[version % 2] == cell).max();
                assert!(leaf.version >= newest.unwrap_or(1), "not what was acknowledged");
                leaves_seen[at] = leaf.version;
                cell::let_go(&self.heap, guard, thread);
            }
            cell::let_go(&self.heap, view, thread);
            drop(section);
        }
    }
}

/// Runs one writer and some readers to their ends; what is left on the heap is what the cells hold.
fn run(readers: usize, views: usize, versions: usize, rule: Rule) {
    let world = Arc::new(World::new(readers));
    let readers: Vec<_> = (1..=readers)
        .map(|thread| {
            let world = world.clone();
            thread::spawn(move || world.read(thread, views))
        })
        .collect();
    world.write(versions, rule);
    readers.into_iter().for_each(|reader| reader.join().unwrap());
    let held: Vec<usize> = world.cells.iter().map(|cell| cell.load(Ordering::SeqCst)).collect();
    assert_eq!(world.heap.places_in_use(), held.len(), "everything that was retired is freed");
    assert!(held.iter().all(|place| world.heap.count(*place) == 1));
}

fn check(scheduler: impl Scheduler + 'static, model: impl Fn() + Send + Sync + 'static) {
    let mut config = Config::new();
    config.failure_persistence = FailurePersistence::None;
    Runner::new(scheduler, config).run(model);
}

#[test]
fn readers_see_whole_and_never_older_versions_and_free_nothing() {
    let model = |readers, views, versions| move || run(readers, views, versions, Rule::SectionsAndCount);
    check(RandomScheduler::new_from_seed(0x5eed_0001, 20_000), model(2, 2, 5));
    check(PctScheduler::new_from_seed(0x5eed_0002, 4, 60_000), model(1, 2, 6));
    check(PctScheduler::new_from_seed(0x5eed_0003, 6, 30_000), model(3, 1, 4));
}

/// Why there are sections: with the reference count alone, a reader that is held up between its two reads takes the
/// payment of somebody else's debt for its own.
#[test]
#[should_panic(expected = "a foreign value")]
fn the_count_alone_would_not_do() {
    check(PctScheduler::new_from_seed(0x5eed_0004, 4, 400_000), || run(1, 2, 6, Rule::CountAlone));
}

/// Sections and retirement alone, in every order that there is: the cell is a number, and what a reader finds in it is
/// there until its section ends.
#[test]
fn nothing_is_freed_in_a_section_in_any_order() {
    check(DfsScheduler::new(None, false), || {
        let sections = Arc::new(Sections::<1>::new());
        let cell = Arc::new(AtomicUsize::new(0));
        // Not the scheduler's: looking at it is no step of its own.
        let freed = Arc::new(std::sync::Mutex::new([false; 3]));
        let reader = {
            let (sections, cell, freed) = (sections.clone(), cell.clone(), freed.clone());
            thread::spawn(move || {
                let section = sections.open(0);
                let version = cell.load(Ordering::SeqCst);
                thread::yield_now();
                assert!(!freed.lock().unwrap()[version], "freed in a section");
                drop(section);
            })
        };
        let mut retired = Retired::<usize, 1>::new();
        let free = |version: &usize| {
            freed.lock().unwrap()[*version] = true;
            true
        };
        for version in 1..3 {
            retired.push(cell.swap(version, Ordering::SeqCst));
            retired.collect(&sections, free);
        }
        reader.join().unwrap();
        retired.collect(&sections, free);
        assert_eq!(*freed.lock().unwrap(), [true, true, false], "what is retired is freed");
    });
}
