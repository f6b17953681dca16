//! Workers and buffers that connections share. A connection borrows them while it answers, and has neither while it waits
//! for a query.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Instant, SystemTime};

use super::batch::Replies;
use crate::dns::answer::{Common, Limits, Transport, Verdict, View, Worker, answer};
use crate::dns::metrics::{Counted, DnsMetrics, Event, WorkerMetrics};
use crate::snapshot::Snapshot;

/// Length in bytes of the input buffer, which limits a single read from a connection.
const INPUT_BYTES: usize = 16 * 1024;

pub(in crate::dns) struct PooledWorker {
    pub(super) input: Box<[u8]>,
    pub(super) replies: Replies,
    pub(super) worker: Worker,
    pub(super) metrics: WorkerMetrics,
}

/// The idle workers of one transport. A worker is borrowed and returned without waiting in between, so that there are never
/// more workers than threads that answer at a time.
pub(in crate::dns) struct WorkerPool {
    common: Arc<Common>,
    metrics: Arc<DnsMetrics>,
    transport: Counted,
    free: Mutex<Vec<Box<PooledWorker>>>,
}

impl WorkerPool {
    pub(in crate::dns) fn new(
        common: Arc<Common>,
        metrics: Arc<DnsMetrics>,
        transport: Counted,
    ) -> WorkerPool {
        WorkerPool { common, metrics, transport, free: Mutex::default() }
    }

    pub(super) fn transport(&self) -> Counted {
        self.transport
    }

    pub(super) fn with_worker<R>(&self, work: impl FnOnce(&mut PooledWorker) -> R) -> R {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut worker = free.unwrap_or_else(|| Box::new(self.new_worker()));
        let result = work(&mut worker);
        self.free.lock().unwrap_or_else(PoisonError::into_inner).push(worker);
        result
    }

    /// Answers a query that arrived in a stream of its own. `None` for a message that is not a query and gets no reply.
    pub(in crate::dns) fn answer_one(
        &self,
        snapshot: &Snapshot,
        query: &[u8],
        client: IpAddr,
    ) -> Option<Vec<u8>> {
        self.with_worker(|PooledWorker { replies, worker, metrics, .. }| {
            replies.clear();
            let received = Instant::now();
            let out = replies.room()?;
            let directory = snapshot.view();
            let (generation, is_stale) = (snapshot.generation(), worker.is_stale());
            let view = View { directory: &directory, generation, is_stale };
            let limits = Limits { transport: Transport::Exchange, client, now_seconds: now_seconds() };
            let reply = match answer(&view, query, &limits, worker, out) {
                Verdict::Reply(reply) => {
                    metrics.record(&reply);
                    Some(out[..reply.len].to_vec())
                }
                // `Verdict::Transfer` does not occur, because transfers are refused on this transport.
                Verdict::Drop | Verdict::Transfer => {
                    metrics.count(Event::Ignored);
                    None
                }
            };
            metrics.publish_batch(received.elapsed());
            reply
        })
    }

    fn new_worker(&self) -> PooledWorker {
        PooledWorker {
            input: vec![0; INPUT_BYTES].into(),
            replies: Replies::new(),
            worker: Worker::new(self.common.clone()),
            metrics: self.metrics.worker(self.transport),
        }
    }
}

pub(super) fn now_seconds() -> u32 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    now.as_secs() as u32
}
