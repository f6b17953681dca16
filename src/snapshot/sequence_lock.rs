//! Sequence lock (seqlock) of the snapshot, for readers that need contents and serials between two changes.
//!
//! A change publishes leaf by leaf, then the directory, then the serials. A query may read in the middle of a change and is
//! correct all the same, because it reads one name. A transfer reads many names and must not do so, because a secondary
//! would keep contents under a serial that they never had. Queries do not use this module.
//!
//! The counter is odd while a change is in progress. Contents that were read while it had one even value are consistent: if
//! an acquire load of a leaf or directory had seen data of a change, the reader would also see the odd count that precedes
//! it. If changes follow each other too closely for that, the reader takes the lock, and the next change waits for it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

const ATTEMPTS_MAX: usize = 5;
/// Longest time in milliseconds that a reader waits until all serials are durable. Writing them takes a few milliseconds.
const SERIALS_WAIT_MS_MAX: u64 = 5_000;
const SERIALS_CHECK_MS: u64 = 5;

/// Sequence lock of one snapshot.
///
/// - `changes` is twice the number of changes, plus one while a change is in progress
/// - `writer` is held by a change, and by a reader whose attempts between changes have failed
/// - `waiting_reader` is held by the one reader that may wait for `writer`, so that a waiting change has to let at most one
///   reader pass
/// - `has_pending_serials` is true while contents of a zone file are published without their serial, which is not durable
///   yet
#[derive(Default)]
pub(super) struct SequenceLock {
    changes: AtomicU64,
    writer: Mutex<()>,
    waiting_reader: Mutex<()>,
    has_pending_serials: AtomicBool,
}

/// A change in progress; dropping it ends the change.
pub(super) struct Change<'l> {
    lock: &'l SequenceLock,
    _writer: MutexGuard<'l, ()>,
}

impl Drop for Change<'_> {
    fn drop(&mut self) {
        self.lock.changes.fetch_add(1, Ordering::Release);
    }
}

impl SequenceLock {
    pub(super) fn change(&self) -> Change<'_> {
        let writer = self.lock_writer();
        self.changes.fetch_add(1, Ordering::Relaxed);
        // A reader that sees any data of this change also sees the odd count.
        fence(Ordering::Release);
        Change { lock: self, _writer: writer }
    }

    pub(super) fn set_pending_serials(&self, has_pending: bool) {
        self.has_pending_serials.store(has_pending, Ordering::Release);
    }

    /// Calls `read` between two changes, repeatedly if a change interferes or serials are not durable yet, and returns its
    /// last result.
    pub(super) fn read<T>(&self, mut read: impl FnMut() -> T) -> T {
        let end = Instant::now() + Duration::from_millis(SERIALS_WAIT_MS_MAX);
        loop {
            let (contents, has_all_serials) = self.read_between_changes(&mut read);
            if has_all_serials || Instant::now() >= end {
                return contents;
            }
            while self.has_pending_serials.load(Ordering::Acquire) && Instant::now() < end {
                thread::sleep(Duration::from_millis(SERIALS_CHECK_MS));
            }
        }
    }

    /// Returns consistent contents, and true if all serials were published when they were read.
    fn read_between_changes<T>(&self, read: &mut impl FnMut() -> T) -> (T, bool) {
        for _ in 0..ATTEMPTS_MAX {
            let before = self.changes.load(Ordering::Acquire);
            if !before.is_multiple_of(2) {
                drop(self.lock_writer());
                continue;
            }
            let contents = read();
            let has_all_serials = !self.has_pending_serials.load(Ordering::Acquire);
            fence(Ordering::Acquire);
            if self.changes.load(Ordering::Relaxed) == before {
                return (contents, has_all_serials);
            }
        }
        let _waiting = self.waiting_reader.lock().unwrap_or_else(PoisonError::into_inner);
        let _writer = self.lock_writer();
        (read(), !self.has_pending_serials.load(Ordering::Acquire))
    }

    fn lock_writer(&self) -> MutexGuard<'_, ()> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn reader_never_sees_the_middle_of_a_change() {
        let lock = Arc::new(SequenceLock::default());
        let cells: Arc<[AtomicU64; 64]> = Arc::new(std::array::from_fn(|_| AtomicU64::new(0)));
        let ended = Arc::new(AtomicBool::new(false));
        let writer = {
            let (lock, cells, ended) = (lock.clone(), cells.clone(), ended.clone());
            thread::spawn(move || {
                let mut number = 0;
                while !ended.load(Ordering::Relaxed) {
                    number += 1;
                    let _change = lock.change();
                    cells.iter().for_each(|cell| cell.store(number, Ordering::Release));
                }
                number
            })
        };
        let mut last = 0;
        for _ in 0..2_000 {
            let seen: Vec<u64> =
                lock.read(|| cells.iter().map(|cell| cell.load(Ordering::Acquire)).collect());
            assert!(seen.iter().all(|number| *number == seen[0]), "{seen:?}");
            assert!(seen[0] >= last);
            last = seen[0];
        }
        ended.store(true, Ordering::Relaxed);
        assert!(writer.join().unwrap() >= last);
    }
}
