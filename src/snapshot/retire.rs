//! Retirement: when a version that was replaced is freed, and by whom.
//!
//! A reader must not free, and nothing may be freed while a reader still looks at it. Two rules see to both; a version
//! that was swapped out of its cell is freed by the writer, when
//!
//! 1. every section that was open when it was replaced has ended, and
//! 2. the writer's is the only reference.
//!
//! The second rule alone is not enough. `arc_swap` reads a pointer, notes it as a debt, and reads the cell again; when
//! the cell has changed in between and its debt was paid, it takes the payment for its own. If what the pointer stood for
//! was freed before the debt was noted, and the same address came to another cell and was swapped out of that one before
//! the debt was looked at, the payment was for that other value, and the reader gets it: the leaf of another service, or
//! what is no leaf at all. So no address may come back while a reader may be between its two reads. [`Sections`] tell:
//! whoever loads from a cell does so inside a section, and the first rule keeps all addresses that can be on its mind
//! from being used again. For the same reason no other `arc_swap` cell may be in the process, unless what is swapped out
//! of it is retired here too.
//!
//! Why the first rule holds. A section counts itself on one of a few counters before its first load, and all of it
//! is `SeqCst`: the count, the loads and swaps of `arc_swap`, and the writer's look at the counter. When the writer looks
//! at a counter after the swap and it is zero, then a section that counts itself there later loads after the swap and
//! finds the new version; and one that had counted itself earlier has ended, with what it read, because the decrement
//! releases and the look acquires. So it is enough that each counter was zero at some moment after the swap, not that all
//! were at the same. There are two counters for each place, and new sections use one of them at a time, so that the
//! other one comes to zero however busy the readers are.
//!
//! Who calls it: [`super::Snapshot::view`] opens sections; the compiler retires and collects.

use super::atomic::{AtomicUsize, Ordering};

/// The sections that are open now, counted at `PLACES` places so that readers don't write to the same line of memory.
pub(crate) struct Sections<const PLACES: usize> {
    /// Which of the two counters of each place new sections use: 0 or 1. Only the writer changes it.
    phase: AtomicUsize,
    places: [Place; PLACES],
}

/// Two counters in a cache line of their own; two lines, because processors fetch lines in pairs.
#[repr(align(128))]
struct Place {
    open: [AtomicUsize; 2],
}

/// A time in which a reader loads from cells. It ends when this is dropped.
pub(crate) struct Section<'s> {
    open: &'s AtomicUsize,
}

impl<const PLACES: usize> Sections<PLACES> {
    /// No section is open.
    pub(crate) fn new() -> Sections<PLACES> {
        let place = |_| Place { open: [AtomicUsize::new(0), AtomicUsize::new(0)] };
        Sections { phase: AtomicUsize::new(0), places: std::array::from_fn(place) }
    }

    /// Opens a section; readers with different numbers are counted at different places. It never waits.
    pub(crate) fn open(&self, reader: usize) -> Section<'_> {
        let phase = self.phase.load(Ordering::SeqCst);
        let open = &self.places[reader % PLACES].open[phase & 1];
        open.fetch_add(1, Ordering::SeqCst);
        Section { open }
    }

    /// Takes the counters that are zero now out of `unseen`. True when none is left.
    fn see(&self, unseen: &mut [[bool; 2]; PLACES]) -> bool {
        for (place, unseen) in self.places.iter().zip(unseen.iter_mut()) {
            for (open, unseen) in place.open.iter().zip(unseen) {
                *unseen = *unseen && open.load(Ordering::SeqCst) > 0;
            }
        }
        let is_unseen = |phase: usize| unseen.iter().any(|place| place[phase]);
        let phase = self.phase.load(Ordering::Relaxed) & 1;
        if is_unseen(phase) && !is_unseen(1 - phase) {
            // What is left is in use: from now on only its open sections keep it from zero.
            self.phase.store(1 - phase, Ordering::SeqCst);
        }
        !is_unseen(0) && !is_unseen(1)
    }
}

impl Drop for Section<'_> {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Ordering::Release);
    }
}

/// Versions that were replaced and are not freed yet. The writer's own.
pub(crate) struct Retired<T, const PLACES: usize> {
    /// Replaced after the versions in `waiting`.
    fresh: Vec<T>,
    /// Replaced before all of the counters in `unseen` were still to be seen at zero.
    waiting: Vec<T>,
    unseen: [[bool; 2]; PLACES],
    /// Of no open section any more; a reader may have kept a reference.
    kept: Vec<T>,
}

impl<T, const PLACES: usize> Retired<T, PLACES> {
    /// Nothing is retired.
    pub(crate) fn new() -> Retired<T, PLACES> {
        let unseen = [[false; 2]; PLACES];
        Retired { fresh: Vec::new(), waiting: Vec::new(), unseen, kept: Vec::new() }
    }

    /// Takes a version that has just been swapped out of its cell.
    pub(crate) fn push(&mut self, version: T) {
        self.fresh.push(version);
    }

    /// Frees what may be freed. `is_last` says whether a version has no other reference. It never waits: what is in use
    /// is left to a later call, and with no reader about nothing is left.
    pub(crate) fn collect(&mut self, sections: &Sections<PLACES>, is_last: impl Fn(&T) -> bool) {
        loop {
            if self.waiting.is_empty() {
                if self.fresh.is_empty() {
                    break;
                }
                std::mem::swap(&mut self.waiting, &mut self.fresh);
                self.unseen = [[true; 2]; PLACES];
            }
            if !sections.see(&mut self.unseen) {
                break;
            }
            self.kept.append(&mut self.waiting);
        }
        self.kept.retain(|version| !is_last(version));
    }
}
