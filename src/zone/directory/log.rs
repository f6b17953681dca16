//! Storage of leaves: an append-only log in chunks, which readers use without reference counts.
//!
//! A cell contains the number of its service's newest leaf in the log. The writer stores a new leaf in the next free slot,
//! which no reader has accessed before, and then stores the slot's number in the cell. A slot is written once. A reader
//! therefore needs only the cell, the chunk and the slot, and no reference count, hazard pointer or guard. It borrows the
//! leaf from the version of the directory that it reads.
//!
//! Outdated leaves are freed chunk by chunk. With each change, the writer appends a few of the leaves that are still in use in
//! the oldest chunk again, until the next version of the directory no longer needs that chunk. The writer frees the chunk with
//! the last version that contains it. `LogWriter` documents how much memory outdated leaves take.
//!
//! [`DirectoryWriter`](super::DirectoryWriter) appends to the log, and lookups read it.
//!
//! # Memory ordering
//!
//! The writer stores the slot, the chunk, and the link to the next table, and the cell last. A reader acquires each of them
//! in the opposite order: the cell by its atomic, the others by their [`OnceLock`]s. A reader that loads a number from a cell
//! therefore finds the leaf, either in the table of its directory or in a later table that is linked from it. The cell of a
//! node that only older versions contain keeps its number, and the tables of those versions keep the chunk.

use std::collections::VecDeque;

use super::sync::{Arc, AtomicU64, OnceLock, Ordering};

/// The number of a value in the log: values are counted from 0 in the order in which they were appended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LogNumber(u64);

/// Atomic cell with the number of the newest value of one owner, or with no number.
#[derive(Debug)]
pub struct LogCell(AtomicU64);

type Chunk<T, const SLOTS: usize> = Arc<[OnceLock<T>; SLOTS]>;

/// Table of the chunks that one version of the directory needs, with free entries for later chunks. `SLOTS` is the number of
/// values in a chunk; `first_chunk` is the number of the chunk at the start of the table. A table that is full, or has too
/// many outdated chunks, is replaced and links to its replacement.
pub struct Log<T, const SLOTS: usize> {
    first_chunk: u64,
    chunks: Box<[OnceLock<Chunk<T, SLOTS>>]>,
    next_table: OnceLock<Arc<Log<T, SLOTS>>>,
}

/// Reference to a value that keeps its chunk allocated.
pub struct Held<T, const SLOTS: usize> {
    chunk: Chunk<T, SLOTS>,
    number: LogNumber,
}

/// The writing side of a log.
///
/// Outdated values take at most a quarter of the memory of the live ones and two chunks in addition; while a value changes all
/// the time, half of that memory in place of a quarter.
///
/// `oldest` is the number of the oldest value that may be live, `next` that of the next value, and `live` counts the values
/// to which a cell of the next version refers. `chunks` begins with the chunk of `oldest`.
pub(crate) struct LogWriter<T, const SLOTS: usize> {
    log: Arc<Log<T, SLOTS>>,
    chunks: VecDeque<ChunkState>,
    oldest: u64,
    next: u64,
    live: u64,
}

#[derive(Default)]
struct ChunkState {
    owners: Vec<u64>,
    live: Vec<bool>,
}

/// Free entries of a new table for later chunks: this many, or half the number of its chunks if that is more.
const FREE_CHUNKS_MIN: usize = 8;
/// A table is replaced when more than one in this many of its chunks are outdated.
const OUTDATED_CHUNKS_PART: usize = 64;
/// Limits of one call of [`LogWriter::clean`], which bound the additional work of a change: values that it appends again, and
/// values that it examines.
const MOVES_MAX: usize = 4;
const EXAMINED_MAX: usize = 64;

const NO_NUMBER: LogNumber = LogNumber(u64::MAX);

impl LogCell {
    pub(crate) fn new(number: Option<LogNumber>) -> LogCell {
        LogCell(AtomicU64::new(number.unwrap_or(NO_NUMBER).0))
    }

    #[inline(always)]
    fn load(&self) -> LogNumber {
        LogNumber(self.0.load(Ordering::Acquire))
    }

    /// The number that was stored last, if there is one.
    pub fn number(&self) -> Option<LogNumber> {
        Some(self.load()).filter(|number| *number != NO_NUMBER)
    }

    pub(crate) fn set(&self, number: LogNumber) {
        self.0.store(number.0, Ordering::Release);
    }
}

impl<T, const SLOTS: usize> Default for Log<T, SLOTS> {
    fn default() -> Log<T, SLOTS> {
        Log::new(0, [], 0)
    }
}

impl<T, const SLOTS: usize> Log<T, SLOTS> {
    fn new(
        first_chunk: u64,
        chunks: impl IntoIterator<Item = Chunk<T, SLOTS>>,
        free: usize,
    ) -> Log<T, SLOTS> {
        let chunks = chunks.into_iter().map(OnceLock::from);
        let chunks = chunks.chain(std::iter::repeat_with(OnceLock::new).take(free)).collect();
        Log { first_chunk, chunks, next_table: OnceLock::new() }
    }

    /// The newest value of a cell, if there is one. The cell must be of a version of the directory that has this table.
    #[inline(always)]
    pub fn get(&self, cell: &LogCell) -> Option<&T> {
        let number = cell.load();
        match self.chunk(number) {
            Some(chunk) => chunk[slot::<SLOTS>(number)].get(),
            None => self.get_from_later_table(number),
        }
    }

    #[cold]
    fn get_from_later_table(&self, number: LogNumber) -> Option<&T> {
        self.later_chunk(number)?[slot::<SLOTS>(number)].get()
    }

    /// Reference to the value with this number; `None` if its chunk was freed.
    pub fn hold(&self, number: LogNumber) -> Option<Held<T, SLOTS>> {
        let chunk = self.chunk(number).or_else(|| self.later_chunk(number))?;
        Some(Held { chunk: chunk.clone(), number })
    }

    #[inline(always)]
    fn chunk(&self, number: LogNumber) -> Option<&Chunk<T, SLOTS>> {
        let at = (number.0 / SLOTS as u64).wrapping_sub(self.first_chunk);
        self.chunks.get(at as usize)?.get()
    }

    fn later_chunk(&self, number: LogNumber) -> Option<&Chunk<T, SLOTS>> {
        let mut later = std::iter::successors(self.next_table.get(), |log| log.next_table.get());
        later.find_map(|log| log.chunk(number))
    }
}

#[inline(always)]
fn slot<const SLOTS: usize>(number: LogNumber) -> usize {
    (number.0 % SLOTS as u64) as usize
}

impl<T, const SLOTS: usize> Held<T, SLOTS> {
    /// Returns `None` only if nothing was appended under the number.
    pub fn get(&self) -> Option<&T> {
        self.chunk[slot::<SLOTS>(self.number)].get()
    }

    /// The number under which the value was appended to the log.
    pub fn number(&self) -> LogNumber {
        self.number
    }
}

impl<T: Clone, const SLOTS: usize> LogWriter<T, SLOTS> {
    pub(crate) fn new() -> LogWriter<T, SLOTS> {
        LogWriter { log: Arc::default(), chunks: VecDeque::new(), oldest: 0, next: 0, live: 0 }
    }

    /// The table that the next version of the directory must contain. [`LogWriter::push`] and [`LogWriter::clean`] may replace
    /// it.
    pub(crate) fn log(&self) -> &Arc<Log<T, SLOTS>> {
        &self.log
    }

    /// Appends a value of `owner` and returns its number, which the caller stores in the owner's cell.
    pub(crate) fn push(&mut self, value: T, owner: u64) -> LogNumber {
        let number = LogNumber(self.next);
        let slot = slot::<SLOTS>(number);
        if slot == 0 {
            self.add_chunk();
        }
        let is_new = self.log.chunk(number).is_some_and(|chunk| chunk[slot].set(value).is_ok());
        debug_assert!(is_new, "the slot exists, and was not written before");
        if let Some(state) = self.chunks.back_mut() {
            state.owners.push(owner);
            state.live.push(true);
        }
        self.next += 1;
        self.live += 1;
        number
    }

    /// Marks a value as outdated: no cell of the next version refers to it.
    pub(crate) fn retire(&mut self, number: LogNumber) {
        let chunk = number.0 / SLOTS as u64 - self.oldest / SLOTS as u64;
        let state = self.chunks.get_mut(chunk as usize);
        if let Some(live) = state.and_then(|state| state.live.get_mut(slot::<SLOTS>(number))) {
            self.live -= u64::from(std::mem::take(live));
        }
    }

    /// Moves a few values out of the oldest chunk if too many values are outdated. `moved` is called with the owner, the old
    /// number and the new number of each, and must replace the old number in the owner's cell.
    pub(crate) fn clean(&mut self, mut moved: impl FnMut(u64, LogNumber, LogNumber)) {
        let mut moves = 0;
        for _ in 0..EXAMINED_MAX {
            let used = self.next - self.oldest;
            if moves == MOVES_MAX || used <= self.live + self.live / 4 + 2 * SLOTS as u64 {
                break;
            }
            let old = LogNumber(self.oldest);
            let slot = slot::<SLOTS>(old);
            let state = self.chunks.front().map(|state| (state.owners[slot], state.live[slot]));
            if let Some((owner, true)) = state
                && let Some(value) = self.log.chunk(old).and_then(|chunk| chunk[slot].get()).cloned()
            {
                self.retire(old);
                moved(owner, old, self.push(value, owner));
                moves += 1;
            }
            self.oldest += 1;
            if slot + 1 == SLOTS {
                self.chunks.pop_front();
                let outdated = self.oldest / SLOTS as u64 - self.log.first_chunk;
                if outdated as usize > self.chunks.len() / OUTDATED_CHUNKS_PART {
                    self.replace_table();
                }
            }
        }
    }

    fn add_chunk(&mut self) {
        self.chunks.push_back(ChunkState::default());
        let number = self.next / SLOTS as u64;
        if (number - self.log.first_chunk) as usize >= self.log.chunks.len() {
            self.replace_table();
        }
        let at = (number - self.log.first_chunk) as usize;
        let chunk = Arc::new(std::array::from_fn(|_| OnceLock::new()));
        let is_new = self.log.chunks[at].set(chunk).is_ok();
        debug_assert!(is_new, "a chunk is stored once");
    }

    fn replace_table(&mut self) {
        let first_chunk = self.oldest / SLOTS as u64;
        let chunks = self.log.chunks.iter().skip((first_chunk - self.log.first_chunk) as usize);
        let chunks: Vec<_> = chunks.filter_map(|chunk| chunk.get().cloned()).collect();
        let free = FREE_CHUNKS_MIN.max(chunks.len() / 2);
        let next = Arc::new(Log::new(first_chunk, chunks, free));
        let is_new = self.log.next_table.set(next.clone()).is_ok();
        debug_assert!(is_new, "a table is replaced once");
        self.log = next;
    }
}
