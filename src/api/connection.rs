//! One HTTP/1.1 connection of the API, which serves its requests one after the other.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::time::sleep;
use tower::ServiceExt;

use super::activity::Activity;
use super::caller::Peer;
use super::limits::Limits;
use super::stream::Stream;

/// Time that a connection may be idle between requests, or take to send the headers of a request after its first.
const IDLE_TIMEOUT_MS: u64 = 60_000;

/// Smallest read buffer that hyper accepts for HTTP/1; it panics on a smaller one.
const HEADER_BYTES_MIN: usize = 8 << 10;

pub(super) async fn serve_connection(
    stream: TcpStream,
    router: Router,
    limits: Limits,
    activity: Arc<Activity>,
) {
    // The error is ignored: a connection whose peer has gone fails at its next read.
    let _ = stream.set_nodelay(true);
    let peer = stream.peer_addr().ok().map(|address| Peer(address.ip()));
    let stream = Stream::new(stream, Duration::from_millis(limits.write_stall_ms), activity.clone());
    let service = service_fn(|mut request: hyper::Request<Incoming>| {
        activity.request_started();
        if let Some(peer) = peer {
            request.extensions_mut().insert(peer);
        }
        let answer = router.clone().oneshot(request);
        let activity = &activity;
        async move {
            let answer = answer.await;
            activity.answer_ready();
            answer
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_millis(IDLE_TIMEOUT_MS))
        .max_buf_size(limits.header_bytes_max.max(HEADER_BYTES_MIN))
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    // A connection without a new request in this time is closed, unless it waits for this server. Otherwise a client that
    // reads its answer a few bytes at a time would occupy a connection without end.
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
            () = activity.ended() => {
                if activity.idle_time().is_some() {
                    return;
                }
                connection.as_mut().graceful_shutdown();
            }
            () = sleep(wait) => {
                let requests = activity.requests();
                if served == requests && !activity.is_processing() {
                    tracing::debug!(requests, "API: connection stalled");
                    return;
                }
                served = requests;
                wait = Duration::from_millis(stalled_ms);
            }
        }
    }
}
