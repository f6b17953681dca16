//! One connection of the API: its requests one after the other, and what it is doing meanwhile.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use axum::Router;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::sleep;
use tower::ServiceExt;

use super::server::Limits;
use super::stream::Stream;

/// How long a connection may be idle between requests, or take for the headers of a request but the first.
const IDLE_TIMEOUT_MS: u64 = 60_000;

/// The least that HTTP/1 needs for headers.
const HEADER_BYTES_MIN: usize = 8 << 10;

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

    fn asked(&self) {
        self.busy.store(true, Relaxed);
        self.requests.fetch_add(1, Relaxed);
    }

    fn answered(&self) {
        self.answers.fetch_add(1, Relaxed);
    }
}

/// Serves the requests of one connection, one after the other.
pub(super) async fn connection(stream: TcpStream, router: Router, limits: Limits, activity: Arc<Activity>) {
    // A connection whose peer is gone fails at the next read.
    let _ = stream.set_nodelay(true);
    let stream = Stream::new(stream, Duration::from_millis(limits.write_stall_ms), activity.clone());
    let service = service_fn(|request: hyper::Request<Incoming>| {
        activity.asked();
        let answer = router.clone().oneshot(request);
        let activity = &activity;
        async move {
            let answer = answer.await;
            activity.answered();
            answer
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_millis(IDLE_TIMEOUT_MS))
        .max_buf_size(limits.header_bytes_max.max(HEADER_BYTES_MIN))
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    // A client that reads its answer ever so slowly would hold its slot for ever.
    let stalled_ms = IDLE_TIMEOUT_MS.saturating_add(limits.request_timeout_ms.saturating_mul(2));
    let mut wait = Duration::from_millis(limits.first_header_timeout_ms);
    let mut served = 0;
    loop {
        tokio::select! {
            result = connection.as_mut() => {
                if let Err(error) = result {
                    tracing::debug!(%error, "API: connection ended");
                }
                return;
            }
            () = activity.end.notified() => {
                if activity.idle().is_some() {
                    return;
                }
                connection.as_mut().graceful_shutdown();
            }
            () = sleep(wait) => {
                let requests = activity.requests.load(Relaxed);
                if served == requests {
                    tracing::debug!(requests, "API: connection stalled");
                    return;
                }
                served = requests;
                wait = Duration::from_millis(stalled_ms);
            }
        }
    }
}
