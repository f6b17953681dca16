//! The state of one API connection, by which the server finds idle connections.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

/// Activity of one connection. The connection's task writes it, and the accept loop reads it to find the
/// longest-idle connection.
///
/// `active_ms` is the time of the last received bytes or of the last finished answer, in milliseconds since
/// `opened`. `answers` counts the requests whose answers were handed to hyper, which may still be writing them.
/// `busy` is true from the headers of a request until its answer has been written.
pub(super) struct Activity {
    opened: Instant,
    active_ms: AtomicU64,
    requests: AtomicU64,
    answers: AtomicU64,
    busy: AtomicBool,
    end: Notify,
}

impl Activity {
    pub(super) fn new() -> Activity {
        Activity {
            opened: Instant::now(),
            active_ms: AtomicU64::new(0),
            requests: AtomicU64::new(0),
            answers: AtomicU64::new(0),
            busy: AtomicBool::new(false),
            end: Notify::new(),
        }
    }

    /// Time that the connection has waited for its next request; `None` while it serves a request.
    pub(super) fn idle_time(&self) -> Option<Duration> {
        let active = Duration::from_millis(self.active_ms.load(Relaxed));
        (!self.busy.load(Relaxed)).then(|| self.opened.elapsed().saturating_sub(active))
    }

    pub(super) async fn ended(&self) {
        self.end.notified().await;
    }

    pub(super) fn requests(&self) -> u64 {
        self.requests.load(Relaxed)
    }

    /// Asks the connection to close: at once if it is idle, otherwise after its current answer.
    pub(super) fn end(&self) {
        self.end.notify_one();
    }

    pub(super) fn received(&self) {
        self.active_ms.store(self.opened.elapsed().as_millis() as u64, Relaxed);
    }

    /// Called when the write buffer is empty. The connection is idle again if every request has got its answer.
    pub(super) fn flushed(&self) {
        if self.busy.load(Relaxed) && self.answers.load(Relaxed) == self.requests.load(Relaxed) {
            self.received();
            self.busy.store(false, Relaxed);
        }
    }

    pub(super) fn request_started(&self) {
        self.busy.store(true, Relaxed);
        self.requests.fetch_add(1, Relaxed);
    }

    /// True while a request is processed whose answer is not ready.
    pub(super) fn is_processing(&self) -> bool {
        self.answers.load(Relaxed) != self.requests.load(Relaxed)
    }

    pub(super) fn answer_ready(&self) {
        self.answers.fetch_add(1, Relaxed);
    }
}
