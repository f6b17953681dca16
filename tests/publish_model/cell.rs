//! The algorithm of an `arc_swap` cell, on a heap of numbered blocks. `load` is `ArcSwapAny::load` with `HybridStrategy`;
//! `attempt`, `fallback` and `drop_guard` are the methods of `HybridProtection` (the last is its `drop`).

use std::sync::Mutex;

use shuttle::sync::atomic::{AtomicUsize, Ordering::SeqCst};

/// Size of the heap. The lowest free block is allocated first, so that freed blocks are soon reused.
const BLOCKS: usize = 24;
/// A slot without a debt. Blocks are numbered from 1.
const NONE: usize = 0;
const IDLE: usize = 0;
/// Fast slots of a thread, of which `arc_swap` has eight; with one, a second guard at a time has to use the helping slot.
const FAST_SLOTS: usize = 1;

/// The memory. Reads of values are not steps of the schedule; those of the reference counts are.
pub(crate) struct Heap<T> {
    values: Mutex<Vec<Option<T>>>,
    counts: Vec<AtomicUsize>,
}

impl<T: Clone> Heap<T> {
    pub(crate) fn new() -> Heap<T> {
        Heap {
            values: Mutex::new((0..BLOCKS).map(|_| None).collect()),
            counts: (0..BLOCKS).map(|_| AtomicUsize::new(0)).collect(),
        }
    }

    /// Allocates a block for a value, with a reference count of one. No other thread knows the block yet.
    pub(crate) fn allocate(&self, value: T) -> usize {
        let mut values = self.values.lock().unwrap();
        let block = (1..BLOCKS).find(|block| values[*block].is_none()).unwrap();
        values[block] = Some(value);
        drop(values);
        self.counts[block].store(1, SeqCst);
        block
    }

    /// The value in a block. An empty block means that a thread reads memory that was freed.
    pub(crate) fn value(&self, block: usize) -> T {
        self.values.lock().unwrap()[block].clone().expect("read after it was freed")
    }

    pub(crate) fn count(&self, block: usize) -> usize {
        self.counts[block].load(SeqCst)
    }

    pub(crate) fn blocks_in_use(&self) -> usize {
        self.values.lock().unwrap().iter().flatten().count()
    }

    fn count_up(&self, block: usize) {
        self.value(block);
        self.counts[block].fetch_add(1, SeqCst);
    }

    /// Drops a reference and frees the block with the last one. Only the writer, thread 0, may drop the last one.
    pub(crate) fn release(&self, block: usize, thread: usize) {
        if self.counts[block].fetch_sub(1, SeqCst) == 1 {
            assert_eq!(thread, 0, "a reader frees");
            assert!(self.values.lock().unwrap()[block].take().is_some(), "freed twice");
        }
    }
}

/// The debts of one thread, with the state of its helping slot. `active` is the address of the cell that it reads.
/// `control` is [`IDLE`], a generation (odd), or a replacement (its block times two).
#[derive(Default)]
pub(crate) struct Node {
    fast: [AtomicUsize; FAST_SLOTS],
    helping: AtomicUsize,
    control: AtomicUsize,
    active: AtomicUsize,
    generation: Mutex<usize>,
}

/// A borrowed value: `debt` is the slot in which the reference is owed, or `None` if it is counted.
#[must_use]
pub(crate) struct Guard<'n> {
    debt: Option<&'n AtomicUsize>,
    block: usize,
}

impl Guard<'_> {
    pub(crate) fn block(&self) -> usize {
        self.block
    }
}

/// Clears a debt (`Debt::pay`). Returns false if another thread has already paid it.
fn pay(debt: &AtomicUsize, block: usize) -> bool {
    debt.compare_exchange(block, NONE, SeqCst, SeqCst).is_ok()
}

fn address(cell: &AtomicUsize) -> usize {
    std::ptr::from_ref(cell).addr()
}

pub(crate) fn load<'n, T: Clone>(heap: &Heap<T>, node: &'n Node, cell: &AtomicUsize) -> Guard<'n> {
    attempt(node, cell).unwrap_or_else(|| fallback(heap, node, cell))
}

fn attempt<'n>(node: &'n Node, cell: &AtomicUsize) -> Option<Guard<'n>> {
    let block = cell.load(SeqCst);
    // Only the thread itself fills its slots, so the search for a free one is not a race.
    let debt = node.fast.iter().find(|slot| slot.load(SeqCst) == NONE)?;
    debt.swap(block, SeqCst);
    if cell.load(SeqCst) == block {
        return Some(Guard { debt: Some(debt), block });
    }
    // If a writer has paid the debt, the count of its payment is this guard's.
    if pay(debt, block) { None } else { Some(Guard { debt: None, block }) }
}

fn fallback<'n, T: Clone>(heap: &Heap<T>, node: &'n Node, cell: &AtomicUsize) -> Guard<'n> {
    let generation = {
        let mut generation = node.generation.lock().unwrap();
        *generation += 2;
        *generation | 1
    };
    node.active.store(address(cell), SeqCst);
    node.control.swap(generation, SeqCst);
    let block = cell.load(SeqCst);
    node.helping.swap(block, SeqCst);
    let control = node.control.swap(IDLE, SeqCst);
    if control == generation {
        return counted(heap, Guard { debt: Some(&node.helping), block });
    }
    if !pay(&node.helping, block) {
        heap.release(block, usize::MAX);
    }
    Guard { debt: None, block: control / 2 }
}

/// Replaces the debt of a guard by a counted reference (`HybridProtection::into_inner`).
fn counted<'n, T: Clone>(heap: &Heap<T>, mut guard: Guard<'n>) -> Guard<'n> {
    if let Some(debt) = guard.debt.take() {
        heap.count_up(guard.block);
        if !pay(debt, guard.block) {
            heap.release(guard.block, usize::MAX);
        }
    }
    guard
}

pub(crate) fn drop_guard<T: Clone>(heap: &Heap<T>, guard: Guard<'_>, thread: usize) {
    let is_counted = guard.debt.is_none_or(|debt| !pay(debt, guard.block));
    if is_counted {
        heap.release(guard.block, thread);
    }
}

/// Stores the new block and then pays every debt for the old one (`ArcSwapAny::swap`). The caller has to release the old one.
pub(crate) fn swap<T: Clone>(
    heap: &Heap<T>,
    nodes: &[Node],
    writer: usize,
    cell: &AtomicUsize,
    new: usize,
) -> usize {
    let old = cell.swap(new, SeqCst);
    // Count one reference in advance, which pays the next debt.
    heap.count_up(old);
    for (at, node) in nodes.iter().enumerate() {
        if at != writer {
            help(heap, &nodes[writer], node, cell);
        }
        for slot in node.fast.iter().chain([&node.helping]) {
            if pay(slot, old) {
                heap.count_up(old);
            }
        }
    }
    heap.release(old, writer);
    old
}

/// Gives a reader that is in the middle of a load a counted replacement of the value (`helping::Slots::help`).
fn help<T: Clone>(heap: &Heap<T>, own: &Node, reader: &Node, cell: &AtomicUsize) {
    let mut control = reader.control.load(SeqCst);
    while control & 1 == 1 {
        if reader.active.load(SeqCst) != address(cell) {
            let again = reader.control.load(SeqCst);
            if again == control {
                return;
            }
            control = again;
            continue;
        }
        let replacement = counted(heap, load(heap, own, cell)).block;
        match reader.control.compare_exchange(control, replacement * 2, SeqCst, SeqCst) {
            Ok(_) => return,
            Err(other) => {
                heap.release(replacement, 0);
                control = other;
            }
        }
    }
}
