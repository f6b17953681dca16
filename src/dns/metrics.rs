//! Counters of queries and replies.
//!
//! Each worker counts in numbers of its own and publishes them once per batch with relaxed stores into a block that no other
//! thread writes and that shares no cache line with another block. So counting causes no contention, and a scrape, which
//! adds the blocks up, is at most a batch behind. Replies that no worker makes, such as those of transfers, are added to one
//! shared block.
//!
//! Used by the transports, which take a [`WorkerMetrics`] for each of their workers. [`DnsCollector`] exposes the numbers.

mod collector;
mod shapes;

pub use collector::DnsCollector;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::reply::Reply;
use crate::wire::Rcode;
use shapes::{Shapes, SharedShapes};

/// Response codes that have a count of their own: 0 to 15, and one for BADVERS and above (RFC 6895 §2.3).
pub const RESPONSE_CODES: usize = 17;

/// Event that is counted, beside the response codes of replies. Ignored messages are no queries and get no reply: they are
/// shorter than 12 bytes, responses, or sent from port 0. The events of the rate limit are queries without a reply, and
/// queries with an empty truncated response. Queries divided by batches is the mean length of a batch.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(missing_docs, reason = "the names of the other variants say what happened")]
pub enum Event {
    Query,
    Ignored,
    Truncated,
    RateLimitDropped,
    RateLimitSlipped,
    SendError,
    ReceiveError,
    Batch,
}

const EVENTS: usize = Event::Batch as usize + 1;

/// Numbers of events, and of responses by code.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Counts {
    events: [u64; EVENTS],
    responses: [u64; RESPONSE_CODES],
}

impl Counts {
    /// Number of events of this kind, over all workers that were added up.
    pub fn of(&self, event: Event) -> u64 {
        self.events[event as usize]
    }

    /// Numbers of responses by code, from NOERROR (0) on; the last element counts BADVERS (16) and above.
    pub fn responses(&self) -> [u64; RESPONSE_CODES] {
        self.responses
    }

    fn all(&self) -> impl Iterator<Item = u64> {
        self.events.into_iter().chain(self.responses)
    }

    fn all_mut(&mut self) -> impl Iterator<Item = &mut u64> {
        self.events.iter_mut().chain(&mut self.responses)
    }

    fn record(&mut self, code: Rcode, is_truncated: bool) {
        self.events[Event::Truncated as usize] += u64::from(is_truncated);
        self.record_many(code, 1);
    }

    fn record_many(&mut self, code: Rcode, times: u64) {
        self.events[Event::Query as usize] += times;
        self.responses[usize::from(code.0).min(RESPONSE_CODES - 1)] += times;
    }

    fn add(&mut self, other: &Counts) {
        self.all_mut().zip(other.all()).for_each(|(sum, count)| *sum += count);
    }
}

/// The published counts of one worker. The alignment is two cache lines, because some processors fetch lines in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Block {
    events: [AtomicU64; EVENTS],
    responses: [AtomicU64; RESPONSE_CODES],
    shapes: SharedShapes,
}

impl Block {
    fn all(&self) -> impl Iterator<Item = &AtomicU64> {
        self.events.iter().chain(&self.responses)
    }

    fn store(&self, counts: &Counts) {
        self.all().zip(counts.all()).for_each(|(shared, count)| shared.store(count, Ordering::Relaxed));
    }

    fn load(&self) -> Counts {
        let mut counts = Counts::default();
        counts.all_mut().zip(self.all()).for_each(|(count, shared)| *count = shared.load(Ordering::Relaxed));
        counts
    }

    fn add(&self, counts: &Counts) {
        for (shared, count) in self.all().zip(counts.all()).filter(|(_, count)| *count > 0) {
            shared.fetch_add(count, Ordering::Relaxed);
        }
    }
}

#[derive(Debug, Default)]
struct TransportMetrics {
    shared: Block,
    workers: Mutex<Workers>,
}

#[derive(Debug, Default)]
struct Workers {
    running: Vec<Arc<Block>>,
    /// Counts of ended workers, kept so that no counter ever decreases.
    ended: Counts,
    ended_shapes: Shapes,
}

impl TransportMetrics {
    fn workers(&self) -> MutexGuard<'_, Workers> {
        self.workers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn counts(&self) -> Counts {
        let workers = self.workers();
        let mut sum = workers.ended;
        sum.add(&self.shared.load());
        workers.running.iter().for_each(|block| sum.add(&block.load()));
        sum
    }

    fn shapes(&self) -> Shapes {
        let workers = self.workers();
        let mut sum = workers.ended_shapes.clone();
        workers.running.iter().for_each(|block| sum.add(&block.shapes.load()));
        sum
    }
}

/// Counts of queries and replies for each transport.
#[derive(Debug, Default)]
pub struct DnsMetrics([TransportMetrics; Counted::ALL.len()]);

/// Transport by which queries are counted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(missing_docs, reason = "the variants are the transports' names")]
pub enum Counted {
    Udp,
    Tcp,
    Tls,
    Https,
    Quic,
}

impl Counted {
    /// All transports, in the order in which metrics list them.
    pub const ALL: [Counted; 5] = [Counted::Udp, Counted::Tcp, Counted::Tls, Counted::Https, Counted::Quic];

    /// Value of the label `transport` in metrics.
    pub const fn label(self) -> &'static str {
        match self {
            Counted::Udp => "udp",
            Counted::Tcp => "tcp",
            Counted::Tls => "tls",
            Counted::Https => "https",
            Counted::Quic => "quic",
        }
    }
}

impl DnsMetrics {
    fn of(&self, transport: Counted) -> &TransportMetrics {
        &self.0[transport as usize]
    }

    /// Counts since the start, up to the last [`WorkerMetrics::publish`] of each worker.
    pub fn counts(&self, transport: Counted) -> Counts {
        self.of(transport).counts()
    }

    /// Registers a new worker of this transport.
    pub fn worker(self: &Arc<Self>, transport: Counted) -> WorkerMetrics {
        let block = Arc::new(Block::default());
        self.of(transport).workers().running.push(block.clone());
        WorkerMetrics { counts: Counts::default(), timed_queries: 0, block, transport, metrics: self.clone() }
    }

    /// Counts a query and its response that did not come from a worker.
    pub fn record(&self, transport: Counted, code: Rcode, is_truncated: bool) {
        let mut counts = Counts::default();
        counts.record(code, is_truncated);
        self.of(transport).shared.add(&counts);
    }

    /// Counts an event outside of any worker.
    pub fn count(&self, transport: Counted, event: Event) {
        self.of(transport).shared.events[event as usize].fetch_add(1, Ordering::Relaxed);
    }
}

/// The counts of one worker. [`publish`](Self::publish) makes them visible to [`DnsMetrics::counts`], which keeps them after
/// this value is dropped.
#[derive(Debug)]
pub struct WorkerMetrics {
    counts: Counts,
    /// Number of the queries whose time is counted.
    timed_queries: u64,
    block: Arc<Block>,
    transport: Counted,
    metrics: Arc<DnsMetrics>,
}

impl WorkerMetrics {
    /// Counts a query and its reply, by the reply's response code, type and length.
    #[inline]
    pub fn record(&mut self, reply: &Reply) {
        self.counts.record(reply.code, reply.is_truncated);
        self.block.shapes.record(reply);
    }

    /// Counts several queries whose replies all had this response code.
    #[inline]
    pub fn record_many(&mut self, code: Rcode, times: u64) {
        self.counts.record_many(code, times);
    }

    /// Counts one event of this kind.
    #[inline]
    pub fn count(&mut self, event: Event) {
        self.count_many(event, 1);
    }

    /// Counts several events of one kind.
    #[inline]
    pub fn count_many(&mut self, event: Event, times: u64) {
        self.counts.events[event as usize] += times;
    }

    /// Makes all counts so far visible to scrapes, with the time from the receipt of the batch to its last reply, which counts
    /// for each of its queries.
    #[inline]
    pub fn publish_batch(&mut self, took: Duration) {
        let queries = self.counts.of(Event::Query);
        self.block.shapes.time(queries - self.timed_queries, took);
        self.timed_queries = queries;
        self.publish();
    }

    /// Makes all counts so far visible to scrapes.
    #[inline]
    pub fn publish(&self) {
        self.block.store(&self.counts);
    }
}

impl Drop for WorkerMetrics {
    fn drop(&mut self) {
        let mut workers = self.metrics.of(self.transport).workers();
        workers.running.retain(|block| !Arc::ptr_eq(block, &self.block));
        workers.ended.add(&self.counts);
        workers.ended_shapes.add(&self.block.shapes.load());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::place::ReplyPlace;
    use crate::zone::RecordType;

    fn reply(code: u16, is_truncated: bool) -> Reply {
        let code = Rcode(code);
        let place = ReplyPlace::of(None, RecordType::A, code);
        Reply { len: 12, code, place, is_truncated, has_good_cookie: false }
    }

    #[test]
    fn counts_of_all_workers_are_added_up_when_published() {
        let metrics = Arc::new(DnsMetrics::default());
        let (mut one, mut two) = (metrics.worker(Counted::Udp), metrics.worker(Counted::Udp));
        one.record(&reply(3, false));
        one.count(Event::Batch);
        assert_eq!(metrics.counts(Counted::Udp), Counts::default());
        one.publish();
        two.record(&reply(3, true));
        two.record(&reply(23, false));
        two.publish();
        metrics.record(Counted::Udp, Rcode::NOERROR, true);
        let counts = metrics.counts(Counted::Udp);
        assert_eq!(
            (counts.of(Event::Query), counts.of(Event::Truncated), counts.of(Event::Batch)),
            (4, 2, 1)
        );
        assert_eq!(
            counts.responses().map(|count| count as u8),
            [1, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]
        );
        assert_eq!(metrics.counts(Counted::Tcp), Counts::default());
    }

    #[test]
    fn counts_outlive_their_worker() {
        let metrics = Arc::new(DnsMetrics::default());
        let mut worker = metrics.worker(Counted::Tcp);
        worker.record(&reply(5, false));
        worker.publish();
        worker.count(Event::Ignored);
        drop(worker);
        let counts = metrics.counts(Counted::Tcp);
        assert_eq!((counts.of(Event::Query), counts.of(Event::Ignored)), (1, 1));
        assert!(metrics.of(Counted::Tcp).workers().running.is_empty());
    }
}
