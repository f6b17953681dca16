//! `arc_swap`'s cell on a heap of numbered places.

use std::sync::Mutex;

use shuttle::sync::atomic::{AtomicUsize, Ordering::SeqCst};

/// Places on the heap; one that was freed is the next to be given out, if it is the lowest.
const PLACES: usize = 24;
/// No debt, and no address: places count from 1.
const NONE: usize = 0;
/// The control of a helping slot in which nothing goes on.
const IDLE: usize = 0;
/// Fast slots of a thread. `arc_swap` has eight; with one, the second guard at a time takes the helping slot.
const FAST_SLOTS: usize = 1;

/// The memory. What is in it is no step of the schedule; the reference counts are.
pub(crate) struct Heap<T> {
    values: Mutex<Vec<Option<T>>>,
    counts: Vec<AtomicUsize>,
}

impl<T: Clone> Heap<T> {
    pub(crate) fn new() -> Heap<T> {
        Heap {
            values: Mutex::new((0..PLACES).map(|_| None).collect()),
            counts: (0..PLACES).map(|_| AtomicUsize::new(0)).collect(),
        }
    }

    /// A new version, counted once, built before anybody can see where it is.
    pub(crate) fn allocate(&self, value: T) -> usize {
        let mut values = self.values.lock().unwrap();
        let place = (1..PLACES).find(|place| values[*place].is_none()).unwrap();
        values[place] = Some(value);
        drop(values);
        self.counts[place].store(1, SeqCst);
        place
    }

    /// What is at a place; nothing there is a read of memory that was freed.
    pub(crate) fn value(&self, place: usize) -> T {
        self.values.lock().unwrap()[place].clone().expect("read after it was freed")
    }

    pub(crate) fn count(&self, place: usize) -> usize {
        self.counts[place].load(SeqCst)
    }

    pub(crate) fn places_in_use(&self) -> usize {
        self.values.lock().unwrap().iter().flatten().count()
    }

    fn count_up(&self, place: usize) {
        self.value(place);
        self.counts[place].fetch_add(1, SeqCst);
    }

    /// Gives a reference back. Whoever gives the last one back frees; that is always the writer, thread 0.
    pub(crate) fn release(&self, place: usize, thread: usize) {
        if self.counts[place].fetch_sub(1, SeqCst) == 1 {
            assert_eq!(thread, 0, "a reader frees");
            assert!(self.values.lock().unwrap()[place].take().is_some(), "freed twice");
        }
    }
}

/// One thread's debts.
#[derive(Default)]
pub(crate) struct Node {
    fast: [AtomicUsize; FAST_SLOTS],
    helping: AtomicUsize,
    /// [`IDLE`], a generation (odd), or a replacement: its place times two.
    control: AtomicUsize,
    /// The cell that is being read, as an address.
    active: AtomicUsize,
    generation: Mutex<usize>,
}

/// A version that is borrowed: owed in a slot, or counted.
#[must_use]
pub(crate) struct Guard<'n> {
    debt: Option<&'n AtomicUsize>,
    place: usize,
}

impl Guard<'_> {
    pub(crate) fn place(&self) -> usize {
        self.place
    }
}

/// Takes a debt back. False when somebody has paid it.
fn settle(debt: &AtomicUsize, place: usize) -> bool {
    debt.compare_exchange(place, NONE, SeqCst, SeqCst).is_ok()
}

fn address(cell: &AtomicUsize) -> usize {
    std::ptr::from_ref(cell).addr()
}

/// `ArcSwapAny::load` with `HybridStrategy`.
pub(crate) fn load<'n, T: Clone>(heap: &Heap<T>, node: &'n Node, cell: &AtomicUsize) -> Guard<'n> {
    attempt(node, cell).unwrap_or_else(|| fallback(heap, node, cell))
}

/// `HybridProtection::attempt`.
fn attempt<'n>(node: &'n Node, cell: &AtomicUsize) -> Option<Guard<'n>> {
    let place = cell.load(SeqCst);
    // Only the thread itself fills its slots, so looking for a free one is no race.
    let debt = node.fast.iter().find(|slot| slot.load(SeqCst) == NONE)?;
    debt.swap(place, SeqCst);
    if cell.load(SeqCst) == place {
        return Some(Guard { debt: Some(debt), place });
    }
    match settle(debt, place) {
        true => None,
        // It was paid: the reference is taken to be ours.
        false => Some(Guard { debt: None, place }),
    }
}

/// `HybridProtection::fallback`.
fn fallback<'n, T: Clone>(heap: &Heap<T>, node: &'n Node, cell: &AtomicUsize) -> Guard<'n> {
    let generation = {
        let mut generation = node.generation.lock().unwrap();
        *generation += 2;
        *generation | 1
    };
    node.active.store(address(cell), SeqCst);
    node.control.swap(generation, SeqCst);
    let place = cell.load(SeqCst);
    node.helping.swap(place, SeqCst);
    let control = node.control.swap(IDLE, SeqCst);
    if control == generation {
        return counted(heap, Guard { debt: Some(&node.helping), place });
    }
    if !settle(&node.helping, place) {
        heap.release(place, usize::MAX);
    }
    Guard { debt: None, place: control / 2 }
}

/// `HybridProtection::into_inner`: a reference of one's own instead of a debt.
fn counted<'n, T: Clone>(heap: &Heap<T>, mut guard: Guard<'n>) -> Guard<'n> {
    if let Some(debt) = guard.debt.take() {
        heap.count_up(guard.place);
        if !settle(debt, guard.place) {
            heap.release(guard.place, usize::MAX);
        }
    }
    guard
}

/// `HybridProtection::drop`.
pub(crate) fn let_go<T: Clone>(heap: &Heap<T>, guard: Guard<'_>, thread: usize) {
    let is_counted = guard.debt.is_none_or(|debt| !settle(debt, guard.place));
    if is_counted {
        heap.release(guard.place, thread);
    }
}

/// `ArcSwapAny::swap`: the new version in, then every debt on the old one paid.
pub(crate) fn swap<T: Clone>(
    heap: &Heap<T>,
    nodes: &[Node],
    writer: usize,
    cell: &AtomicUsize,
    new: usize,
) -> usize {
    let old = cell.swap(new, SeqCst);
    // One count ahead, to be put into a debt.
    heap.count_up(old);
    for (at, node) in nodes.iter().enumerate() {
        if at != writer {
            help(heap, &nodes[writer], node, cell);
        }
        for slot in node.fast.iter().chain([&node.helping]) {
            if settle(slot, old) {
                heap.count_up(old);
            }
        }
    }
    heap.release(old, writer);
    old
}

/// `helping::Slots::help`: a reader that is in between is given what it is about to load.
fn help<T: Clone>(heap: &Heap<T>, own: &Node, who: &Node, cell: &AtomicUsize) {
    let mut control = who.control.load(SeqCst);
    while control & 1 == 1 {
        if who.active.load(SeqCst) != address(cell) {
            let again = who.control.load(SeqCst);
            if again == control {
                return;
            }
            control = again;
            continue;
        }
        let replacement = counted(heap, load(heap, own, cell)).place;
        match who.control.compare_exchange(control, replacement * 2, SeqCst, SeqCst) {
            Ok(_) => return,
            Err(other) => {
                heap.release(replacement, 0);
                control = other;
            }
        }
    }
}
