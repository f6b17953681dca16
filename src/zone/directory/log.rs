//! Where leaves are: a log that the writer appends to, in chunks, and that readers find their way in without counting
//! themselves anywhere.
//!
//! A cell has the number of its service's newest leaf in the log. The writer puts a leaf in the next slot, which nobody
//! has looked at before, and stores the slot's number in the cell. A slot that was written stays as it is. So a reader
//! needs no more than the cell, the chunk and the slot: no reference count, no debt, no guard. It borrows the leaf from
//! the version of the directory that it looks at.
//!
//! What nobody refers to any more goes chunk by chunk. The writer appends the leaves that are left in the oldest chunk
//! anew, a few with each change, and the next version of the directory does without that chunk. It is freed with the last
//! version that has it, by the writer. How much that is at a time, `LogWriter` says.
//!
//! # Memory ordering
//!
//! Each step is released by what a reader acquires before the next: the slot by its [`OnceLock`] and by the cell; the
//! chunk by its place's [`OnceLock`] and by the cell; newer chunks that the table at hand has no place for by the link to
//! the next table, and by the cell. All are stored before the cell is. So whoever loads a number finds its leaf: in the
//! table of the directory at hand, or in one of the tables that followed it, to which there are links. A cell of a node
//! that only older versions have keeps its number, and the tables of those versions the chunk.
//!
//! Who calls it: [`DirectoryWriter`](super::DirectoryWriter) appends, lookups read.

use std::collections::VecDeque;

use super::sync::{Arc, AtomicU64, OnceLock, Ordering};

/// The number of a value in the log.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LogNumber(u64);

/// Where the number of a newest value is found.
#[derive(Debug)]
pub struct LogCell(AtomicU64);

/// A chunk of the log.
type Chunk<T, const SLOTS: usize> = Arc<[OnceLock<T>; SLOTS]>;

/// The chunks that some version of the directory needs, and newer ones. `SLOTS` is how many values a chunk has room for.
pub struct Log<T, const SLOTS: usize> {
    /// The number of the first place's chunk.
    first: u64,
    places: Box<[OnceLock<Chunk<T, SLOTS>>]>,
    /// The table that followed this one.
    next: OnceLock<Arc<Log<T, SLOTS>>>,
}

/// A value that stays where it is as long as this does.
pub struct Held<T, const SLOTS: usize> {
    chunk: Chunk<T, SLOTS>,
    number: LogNumber,
}

/// The writing side of a log. What is of no use takes a quarter of the room that the values take, at most a half while
/// some value changes all the time, and two chunks.
pub(crate) struct LogWriter<T, const SLOTS: usize> {
    log: Arc<Log<T, SLOTS>>,
    /// The chunks that are in use, the oldest first.
    chunks: VecDeque<Written>,
    /// The number of the oldest value that may be of use.
    oldest: u64,
    /// The number of the next value.
    next: u64,
    /// How many values are of use.
    live: u64,
}

/// What the writer knows of a chunk's values.
#[derive(Default)]
struct Written {
    /// By slot: whose the value is.
    owners: Vec<u64>,
    /// By slot: whether it is of use.
    live: Vec<bool>,
}

/// Chunks that a new table has room for beyond those that there are: this many, or half of those.
const ROOM_CHUNKS_MIN: usize = 8;
/// The oldest chunks are left behind when they are more than one in so many.
const RENEWED_PART: usize = 64;
/// Values that are appended anew with one change, at most.
const MOVES_MAX: usize = 4;
/// Values that are looked at for it.
const LOOKS_MAX: usize = 64;

/// What a cell has that was never set.
const NO_NUMBER: LogNumber = LogNumber(u64::MAX);

impl LogCell {
    pub(crate) fn new(number: Option<LogNumber>) -> LogCell {
        LogCell(AtomicU64::new(number.unwrap_or(NO_NUMBER).0))
    }

    #[inline(always)]
    fn load(&self) -> LogNumber {
        LogNumber(self.0.load(Ordering::Acquire))
    }

    /// The number of the newest value, if there is one.
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
    fn new(first: u64, chunks: impl IntoIterator<Item = Chunk<T, SLOTS>>, room: usize) -> Log<T, SLOTS> {
        let chunks = chunks.into_iter().map(OnceLock::from);
        let places = chunks.chain(std::iter::repeat_with(OnceLock::new).take(room)).collect();
        Log { first, places, next: OnceLock::new() }
    }

    /// The newest value of a cell, if there is one: of a version of the directory that has this log.
    #[inline(always)]
    pub fn get(&self, cell: &LogCell) -> Option<&T> {
        let number = cell.load();
        match self.chunk(number) {
            Some(chunk) => chunk[slot::<SLOTS>(number)].get(),
            None => self.get_of_newer(number),
        }
    }

    #[cold]
    fn get_of_newer(&self, number: LogNumber) -> Option<&T> {
        self.newer_chunk(number)?[slot::<SLOTS>(number)].get()
    }

    /// Keeps the value with this number.
    pub fn hold(&self, number: LogNumber) -> Option<Held<T, SLOTS>> {
        let chunk = self.chunk(number).or_else(|| self.newer_chunk(number))?;
        Some(Held { chunk: chunk.clone(), number })
    }

    #[inline(always)]
    fn chunk(&self, number: LogNumber) -> Option<&Chunk<T, SLOTS>> {
        let place = (number.0 / SLOTS as u64).wrapping_sub(self.first);
        self.places.get(place as usize)?.get()
    }

    fn newer_chunk(&self, number: LogNumber) -> Option<&Chunk<T, SLOTS>> {
        let mut newer = std::iter::successors(self.next.get(), |log| log.next.get());
        newer.find_map(|log| log.chunk(number))
    }
}

#[inline(always)]
fn slot<const SLOTS: usize>(number: LogNumber) -> usize {
    (number.0 % SLOTS as u64) as usize
}

impl<T, const SLOTS: usize> Held<T, SLOTS> {
    /// The value.
    pub fn get(&self) -> Option<&T> {
        self.chunk[slot::<SLOTS>(self.number)].get()
    }

    /// Its number.
    pub fn number(&self) -> LogNumber {
        self.number
    }
}

impl<T: Clone, const SLOTS: usize> LogWriter<T, SLOTS> {
    pub(crate) fn new() -> LogWriter<T, SLOTS> {
        LogWriter { log: Arc::default(), chunks: VecDeque::new(), oldest: 0, next: 0, live: 0 }
    }

    /// What the next version of the directory has to have. It changes with [`LogWriter::push`] and [`LogWriter::clean`].
    pub(crate) fn log(&self) -> &Arc<Log<T, SLOTS>> {
        &self.log
    }

    /// Appends a value, which is found under the number from now on.
    pub(crate) fn push(&mut self, value: T, owner: u64) -> LogNumber {
        let number = LogNumber(self.next);
        let slot = slot::<SLOTS>(number);
        if slot == 0 {
            self.add_chunk();
        }
        let is_new = self.log.chunk(number).is_some_and(|chunk| chunk[slot].set(value).is_ok());
        debug_assert!(is_new, "a slot is there, and written once");
        if let Some(written) = self.chunks.back_mut() {
            written.owners.push(owner);
            written.live.push(true);
        }
        self.next += 1;
        self.live += 1;
        number
    }

    /// Nobody will look for this value in the next version.
    pub(crate) fn retire(&mut self, number: LogNumber) {
        let chunk = number.0 / SLOTS as u64 - self.oldest / SLOTS as u64;
        let written = self.chunks.get_mut(chunk as usize);
        if let Some(live) = written.and_then(|written| written.live.get_mut(slot::<SLOTS>(number))) {
            self.live -= u64::from(std::mem::take(live));
        }
    }

    /// Moves a few values out of the oldest chunk, when there is too much that is of no use. `moved` is told the owner, and
    /// the numbers before and after; it has to put the latter where the former was.
    pub(crate) fn clean(&mut self, mut moved: impl FnMut(u64, LogNumber, LogNumber)) {
        let mut moves = 0;
        for _ in 0..LOOKS_MAX {
            let used = self.next - self.oldest;
            if moves == MOVES_MAX || used <= self.live + self.live / 4 + 2 * SLOTS as u64 {
                break;
            }
            let old = LogNumber(self.oldest);
            let slot = slot::<SLOTS>(old);
            let written = self.chunks.front().map(|written| (written.owners[slot], written.live[slot]));
            if let Some((owner, true)) = written
                && let Some(value) = self.log.chunk(old).and_then(|chunk| chunk[slot].get()).cloned()
            {
                self.retire(old);
                moved(owner, old, self.push(value, owner));
                moves += 1;
            }
            self.oldest += 1;
            if slot + 1 == SLOTS {
                self.chunks.pop_front();
                let left = self.oldest / SLOTS as u64 - self.log.first;
                if left as usize > self.chunks.len() / RENEWED_PART {
                    self.renew();
                }
            }
        }
    }

    fn add_chunk(&mut self) {
        self.chunks.push_back(Written::default());
        let number = self.next / SLOTS as u64;
        if (number - self.log.first) as usize >= self.log.places.len() {
            self.renew();
        }
        let place = (number - self.log.first) as usize;
        let chunk = Arc::new(std::array::from_fn(|_| OnceLock::new()));
        let is_new = self.log.places[place].set(chunk).is_ok();
        debug_assert!(is_new, "a chunk is placed once");
    }

    /// Makes a table without the chunks that are of no use, and with room.
    fn renew(&mut self) {
        let first = self.oldest / SLOTS as u64;
        let chunks = self.log.places.iter().skip((first - self.log.first) as usize);
        let chunks: Vec<_> = chunks.filter_map(|place| place.get().cloned()).collect();
        let room = ROOM_CHUNKS_MIN.max(chunks.len() / 2);
        let next = Arc::new(Log::new(first, chunks, room));
        let is_new = self.log.next.set(next.clone()).is_ok();
        debug_assert!(is_new, "a table is followed by one");
        self.log = next;
    }
}
