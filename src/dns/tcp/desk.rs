//! What answering takes: buffers and a worker. A connection has them while it answers, not while it waits.

use std::sync::{Arc, Mutex, PoisonError};

use super::batch::Replies;
use crate::dns::answer::{Common, Worker};
use crate::dns::metrics::{Counted, DnsMetrics, WorkerMetrics};

/// Octets that are read at a time.
const INPUT_OCTETS: usize = 16 * 1024;

/// Buffers and a worker.
pub(super) struct Desk {
    pub(super) input: Box<[u8]>,
    pub(super) replies: Replies,
    pub(super) worker: Worker,
    pub(super) metrics: WorkerMetrics,
}

/// The desks that nobody sits at. There are never more than threads that answered at the same time: a desk is taken and
/// given back without a wait between.
pub(super) struct Desks {
    common: Arc<Common>,
    metrics: Arc<DnsMetrics>,
    free: Mutex<Vec<Box<Desk>>>,
}

impl Desks {
    pub(super) fn new(common: Arc<Common>, metrics: Arc<DnsMetrics>) -> Desks {
        Desks { common, metrics, free: Mutex::default() }
    }

    /// Does something at a desk.
    pub(super) fn at_one<R>(&self, work: impl FnOnce(&mut Desk) -> R) -> R {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut desk = free.unwrap_or_else(|| Box::new(self.new_desk()));
        let result = work(&mut desk);
        self.free.lock().unwrap_or_else(PoisonError::into_inner).push(desk);
        result
    }

    fn new_desk(&self) -> Desk {
        Desk {
            input: vec![0; INPUT_OCTETS].into(),
            replies: Replies::new(),
            worker: Worker::new(self.common.clone()),
            metrics: self.metrics.worker(Counted::Tcp),
        }
    }
}
