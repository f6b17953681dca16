//! The HTTP server of the admin port: accepts connections up to a limit, and shuts down.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tower::ServiceExt;

use super::{Admin, route};

/// Connections at a time; further ones wait in the backlog of the listener.
const CONNECTIONS_MAX: usize = 256;
/// Time that a connection may be idle, or take to send the headers of a request. It is short, because idle connections
/// could otherwise exhaust the limit and lock out probes.
const HEADER_TIMEOUT_MS: u64 = 10_000;
const HEADER_BYTES_MAX: usize = 16 << 10;
/// Longest life of a connection, which also ends connections whose clients do not read their responses.
const CONNECTION_AGE_MS: u64 = 300_000;
const DRAIN_TIMEOUT_MS: u64 = 2_000;
/// Pause after `accept` failed. It fails again at once while the process has no free file descriptors.
const ACCEPT_PAUSE_MS: u64 = 50;

/// Serves the admin port until `shutdown` completes. Then it accepts no more connections, and gives running requests two
/// seconds to finish.
///
/// # Errors
///
/// Returns no error at present: an error of a connection is logged, and ends only that connection.
pub async fn serve(
    listener: TcpListener,
    admin: Admin,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let router = route::router(Arc::new(admin));
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let (stop, stopped) = watch::channel(());
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut shutdown => break,
            accepted = accept(&listener, &slots) => accepted,
        };
        while connections.try_join_next().is_some() {}
        match accepted {
            Ok((stream, slot)) => {
                let connection = connection(stream, router.clone(), stopped.clone());
                connections.spawn(async move {
                    connection.await;
                    drop(slot);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "admin: a connection could not be accepted");
                sleep(Duration::from_millis(ACCEPT_PAUSE_MS)).await;
            }
        }
    }
    drop(listener);
    drop(stop);
    let drained = async { while connections.join_next().await.is_some() {} };
    if timeout(Duration::from_millis(DRAIN_TIMEOUT_MS), drained).await.is_err() {
        tracing::warn!(
            connections = connections.len(),
            "admin: requests did not finish before the shutdown and were cut off"
        );
    }
    Ok(())
}

/// Waits for a free slot and then for the next connection, so that further clients stay in the backlog.
async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> io::Result<(TcpStream, OwnedSemaphorePermit)> {
    let slot = slots.clone().acquire_owned().await.map_err(io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    Ok((stream, slot))
}

/// Serves one connection until its client closes it, it reaches its maximum age, or the server stops.
async fn connection(stream: TcpStream, router: Router, mut stopped: watch::Receiver<()>) {
    // The error is ignored: a connection whose peer has gone fails at its next read.
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request: Request<Incoming>| router.clone().oneshot(request));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_millis(HEADER_TIMEOUT_MS))
        .max_buf_size(HEADER_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    tokio::select! {
        result = connection.as_mut() => {
            if let Err(error) = result {
                tracing::debug!(%error, "admin: connection ended");
            }
            return;
        }
        // Completes when the server drops the sender, which it does to stop.
        _ = stopped.changed() => {}
        () = sleep(Duration::from_millis(CONNECTION_AGE_MS)) => {}
    }
    connection.as_mut().graceful_shutdown();
    let ended = timeout(Duration::from_millis(DRAIN_TIMEOUT_MS), connection).await;
    if ended.is_err() {
        tracing::debug!("admin: connection cut off");
    }
}
