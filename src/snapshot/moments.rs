//! Moments: the states of the snapshot between two changes, in which contents and serials belong together.
//!
//! A change publishes leaf by leaf, then the directory, then the serials. A query may meet the middle of it and is right
//! all the same, because it reads one name. A transfer reads many names and must not meet it: a secondary would keep
//! contents under a serial that they never had. Queries do not use this module.
//!
//! The counter is odd while a change is under way. Contents that were read while it had one even value are of one moment:
//! the acquire loads of leaves and directory see what the change released, and with it the odd count before. A zone that
//! changes all the time has no long moments; then the next change waits for the one who reads.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Attempts to read between two changes before the next change has to wait.
const ATTEMPTS_MAX: usize = 5;
/// The longest time that a reader waits until the serials of zone files are durable, in milliseconds; writing one takes a
/// few milliseconds.
const SETTLED_MS_MAX: u64 = 5_000;
/// Interval between looks at whether they are, in milliseconds.
const SETTLED_LOOK_MS: u64 = 5;

/// The moments of one snapshot.
#[derive(Default)]
pub(super) struct Moments {
    changes: AtomicU64,
    /// Held by a change, and by a reader that found no time between changes.
    turn: Mutex<()>,
    /// Held by the reader that waits for its turn, so that readers don't take turns while a change waits.
    patient: Mutex<()>,
    /// True while the contents of some zone file are published and their serial is not, because it is not durable yet.
    is_unsettled: AtomicBool,
}

/// A change under way; dropping it ends the change.
pub(super) struct Change<'m> {
    moments: &'m Moments,
    _turn: MutexGuard<'m, ()>,
}

impl Drop for Change<'_> {
    fn drop(&mut self) {
        self.moments.changes.fetch_add(1, Ordering::Release);
    }
}

impl Moments {
    /// Begins a change of what is published.
    pub(super) fn change(&self) -> Change<'_> {
        let turn = self.turn();
        self.changes.fetch_add(1, Ordering::Relaxed);
        // Whoever sees anything of the change sees the odd count.
        fence(Ordering::Release);
        Change { moments: self, _turn: turn }
    }

    /// Says whether some serial is still to be made durable before it is published.
    pub(super) fn set_unsettled(&self, is_unsettled: bool) {
        self.is_unsettled.store(is_unsettled, Ordering::Release);
    }

    /// The contents that `read` takes, all of one moment.
    pub(super) fn read<T>(&self, mut read: impl FnMut() -> T) -> T {
        let end = Instant::now() + Duration::from_millis(SETTLED_MS_MAX);
        loop {
            let (contents, is_settled) = self.read_moment(&mut read);
            if is_settled || Instant::now() >= end {
                return contents;
            }
            while self.is_unsettled.load(Ordering::Acquire) && Instant::now() < end {
                thread::sleep(Duration::from_millis(SETTLED_LOOK_MS));
            }
        }
    }

    /// The contents of one moment, and whether all serials were published then.
    fn read_moment<T>(&self, read: &mut impl FnMut() -> T) -> (T, bool) {
        for _ in 0..ATTEMPTS_MAX {
            let before = self.changes.load(Ordering::Acquire);
            if !before.is_multiple_of(2) {
                drop(self.turn());
                continue;
            }
            let contents = read();
            let is_settled = !self.is_unsettled.load(Ordering::Acquire);
            fence(Ordering::Acquire);
            if self.changes.load(Ordering::Relaxed) == before {
                return (contents, is_settled);
            }
        }
        let _one = self.patient.lock().unwrap_or_else(PoisonError::into_inner);
        let _turn = self.turn();
        (read(), !self.is_unsettled.load(Ordering::Acquire))
    }

    fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn a_reader_never_sees_the_middle_of_a_change() {
        let moments = Arc::new(Moments::default());
        let cells: Arc<[AtomicU64; 64]> = Arc::new(std::array::from_fn(|_| AtomicU64::new(0)));
        let ended = Arc::new(AtomicBool::new(false));
        let writer = {
            let (moments, cells, ended) = (moments.clone(), cells.clone(), ended.clone());
            thread::spawn(move || {
                let mut number = 0;
                while !ended.load(Ordering::Relaxed) {
                    number += 1;
                    let _change = moments.change();
                    cells.iter().for_each(|cell| cell.store(number, Ordering::Release));
                }
                number
            })
        };
        let mut last = 0;
        for _ in 0..2_000 {
            let seen: Vec<u64> =
                moments.read(|| cells.iter().map(|cell| cell.load(Ordering::Acquire)).collect());
            assert!(seen.iter().all(|number| *number == seen[0]), "{seen:?}");
            assert!(seen[0] >= last);
            last = seen[0];
        }
        ended.store(true, Ordering::Relaxed);
        assert!(writer.join().unwrap() >= last);
    }
}
