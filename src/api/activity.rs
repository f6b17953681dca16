//! What a connection of the API is doing.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

/// What a connection is doing. The connection writes it; who makes room for others reads it.
pub(super) struct Activity {
    opened: Instant,
    /// When the last octets of a request came or an answer was finished, in milliseconds since `opened`.
    active_ms: AtomicU64,
    /// Requests that began to be served.
    requests: AtomicU64,
    /// Requests whose answers were handed to the HTTP machinery.
    answers: AtomicU64,
    /// Whether an answer is on its way.
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

    /// How long the connection has waited for a request; nothing when it serves one.
    pub(super) fn idle(&self) -> Option<Duration> {
        let active = Duration::from_millis(self.active_ms.load(Relaxed));
        (!self.busy.load(Relaxed)).then(|| self.opened.elapsed().saturating_sub(active))
    }

    /// Waits until somebody wants the connection to end.
    pub(super) async fn ended(&self) {
        self.end.notified().await;
    }

    /// How many requests began to be served.
    pub(super) fn requests(&self) -> u64 {
        self.requests.load(Relaxed)
    }

    /// Ends the connection: now when it is idle, else after the answer that is on its way.
    pub(super) fn end(&self) {
        self.end.notify_one();
    }

    pub(super) fn received(&self) {
        self.active_ms.store(self.opened.elapsed().as_millis() as u64, Relaxed);
    }

    /// All that was to be written is written.
    pub(super) fn flushed(&self) {
        if self.busy.load(Relaxed) && self.answers.load(Relaxed) == self.requests.load(Relaxed) {
            self.received();
            self.busy.store(false, Relaxed);
        }
    }

    pub(super) fn asked(&self) {
        self.busy.store(true, Relaxed);
        self.requests.fetch_add(1, Relaxed);
    }

    pub(super) fn answered(&self) {
        self.answers.fetch_add(1, Relaxed);
    }
}
