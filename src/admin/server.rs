//! The HTTP server under the admin port: connections, their limits, and the end.

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

/// Connections at a time; more wait to be accepted.
const CONNECTIONS_MAX: usize = 256;
/// How long a connection may be idle, or take for a request's headers. Short, so that idle ones can't keep probes out.
const HEADER_TIMEOUT_MS: u64 = 10_000;
/// Octets of a request's line and headers.
const HEADER_BYTES_MAX: usize = 16 << 10;
/// How old a connection may become. It ends what a client does that asks and never reads.
const CONNECTION_AGE_MS: u64 = 300_000;
/// How long requests that are under way at the end may take.
const DRAIN_TIMEOUT_MS: u64 = 2_000;
/// The pause after a connection could not be accepted, such as for want of file descriptors.
const ACCEPT_PAUSE_MS: u64 = 50;

/// Serves the admin port until `shutdown` ends; then takes no more connections, and gives requests that are under way
/// two seconds to finish.
///
/// # Errors
///
/// None that a running server has to end for: what goes wrong with a connection ends that connection.
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
        // The ones that ended meanwhile.
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
        tracing::warn!(connections = connections.len(), "admin: requests took too long and were cut off");
    }
    Ok(())
}

/// The next connection, once there is a slot for it.
async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> io::Result<(TcpStream, OwnedSemaphorePermit)> {
    let slot = slots.clone().acquire_owned().await.map_err(io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    Ok((stream, slot))
}

/// Serves the requests of one connection until it ends, is too old, or the server stops.
async fn connection(stream: TcpStream, router: Router, mut stopped: watch::Receiver<()>) {
    // A connection whose peer is gone fails at the next read.
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
        // The sender is gone when the server stops.
        _ = stopped.changed() => {}
        () = sleep(Duration::from_millis(CONNECTION_AGE_MS)) => {}
    }
    connection.as_mut().graceful_shutdown();
    let ended = timeout(Duration::from_millis(DRAIN_TIMEOUT_MS), connection).await;
    if ended.is_err() {
        tracing::debug!("admin: connection cut off");
    }
}
