//! DNS over TCP (RFC 7766), and the connections of DNS over TLS (RFC 7858) and HTTPS (RFC 8484).
//!
//! | RFC | what |
//! | --- | --- |
//! | 1035 §4.2.2 | each message is preceded by its length |
//! | 7766 §6.2.1.1, §7 | queries may be pipelined; replies to queries that were received together are written together |
//! | 7766 §6.2.3 | idle connections are closed, the one that is idle longest first when there are too many |
//! | 7766 §8 | a message may arrive in several segments |
//! | 7828 | [`answer()`](super::answer::answer) reports the idle timeout to clients that ask for it |
//!
//! Connections are tasks of a small runtime, separate from the threads of UDP. A waiting connection costs only its task and
//! the kernel's socket, because buffers and workers are borrowed for the time of an answer.
//!
//! Used by [`super::server`].

mod batch;
mod connection;
mod connections;
pub mod framer;
mod worker_pool;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, Instant};

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::exposition::{Collect, Exposition};
use crate::snapshot::Snapshot;

use super::answer::{Common, Transport};
use super::https;
use super::metrics::{Counted, DnsMetrics};
use super::transfer::Transfers;

use connections::{ConnectionLimits, Connections};

pub(super) use connections::{ConnectionSlot, Phase as ConnectionPhase};
pub(super) use worker_pool::WorkerPool;

/// Timeouts in milliseconds: for a TLS handshake and for the first query of a new connection, for the rest of a query after
/// its first bytes, and for writing the replies to one batch of queries or one message of a transfer.
const FIRST_QUERY_TIMEOUT_MS: u64 = 10_000;
const PARTIAL_QUERY_TIMEOUT_MS: u64 = 10_000;
const WRITE_TIMEOUT_MS: u64 = 10_000;
/// Limit in bytes on the memory of all connections together for incomplete queries and unsent replies. A connection that
/// would exceed it is closed.
const HELD_OCTETS_MAX: usize = 128 << 20;
/// Pause after a connection could not be accepted, for example for lack of file descriptors, and minimum interval between
/// two warnings about it, in milliseconds.
const ACCEPT_PAUSE_MS: u64 = 50;
const ACCEPT_WARNING_MS: u64 = 10_000;
/// Time that connections have to end when the server stops, in milliseconds.
const STOP_MS_MAX: u64 = 1_000;

/// Limits on the connections of clients. A connection without a query for `idle_timeout` is closed. When the number of all
/// connections, or of those from one client address, is at its limit, the one that is idle longest is closed for a new one.
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "the type's document explains the fields")]
pub struct TcpLimits {
    pub idle_timeout: Duration,
    pub connections_max: usize,
    pub connections_per_client_max: usize,
}

/// Protocol of the connections that a listener accepts: messages preceded by their lengths (RFC 1035 §4.2.2), such messages
/// over TLS (RFC 7858), or HTTP/1.1 and HTTP/2 over TLS (RFC 8484).
#[derive(Clone)]
#[expect(missing_docs, reason = "the type's document explains the variants")]
pub enum StreamProtocol {
    Plain,
    Tls(TlsAcceptor),
    Https(TlsAcceptor),
}

struct Pools {
    tcp: WorkerPool,
    tls: WorkerPool,
    https: Arc<WorkerPool>,
}

struct Service {
    snapshot: Arc<Snapshot>,
    transfers: Arc<Transfers>,
    pools: Pools,
    metrics: Arc<DnsMetrics>,
    timeouts: Timeouts,
    held_octets: AtomicUsize,
    held_octets_max: usize,
}

struct Timeouts {
    idle: Duration,
    first_query: Duration,
    partial: Duration,
    write: Duration,
}

impl Timeouts {
    fn new(idle: Duration) -> Timeouts {
        Timeouts {
            idle,
            first_query: Duration::from_millis(FIRST_QUERY_TIMEOUT_MS),
            partial: Duration::from_millis(PARTIAL_QUERY_TIMEOUT_MS),
            write: Duration::from_millis(WRITE_TIMEOUT_MS),
        }
    }
}

/// The running server of all listeners: TCP, TLS and HTTPS.
pub struct TcpServer {
    connections: Arc<Connections>,
    listeners: Vec<JoinHandle<()>>,
    stop: watch::Sender<bool>,
}

/// Number of open connections, and totals of those that were closed to make room for new ones (`evicted`), and of new ones
/// that were closed at once because all others were being answered (`refused`).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[expect(missing_docs, reason = "the type's document explains the fields")]
pub struct TcpCounts {
    pub open: usize,
    pub evicted: u64,
    pub refused: u64,
}

/// Source of [`TcpCounts`], which stays usable after the server is moved.
#[derive(Clone)]
pub struct TcpGauge(Arc<Connections>);

impl TcpGauge {
    #[expect(missing_docs, reason = "the name says what is returned")]
    pub fn counts(&self) -> TcpCounts {
        let (open, evicted, refused) = self.0.counts();
        TcpCounts { open, evicted, refused }
    }
}

impl Collect for TcpGauge {
    fn collect(&self, out: &mut Exposition) {
        let counts = self.counts();
        out.gauge("dns_tcp_connections", "Open DNS connections over TCP.").sample(&[], counts.open);
        out.counter(
            "dns_tcp_connections_closed_total",
            "DNS connections over TCP closed because of a limit: idle ones, or new ones.",
        )
        .sample(&[("which", "idle")], counts.evicted)
        .sample(&[("which", "new")], counts.refused);
    }
}

impl TcpServer {
    /// Starts answering from the snapshot on bound listeners. Must be called in a tokio runtime.
    pub fn start(
        listeners: Vec<(TcpListener, StreamProtocol)>,
        snapshot: Arc<Snapshot>,
        common: Arc<Common>,
        metrics: Arc<DnsMetrics>,
        transfers: Arc<Transfers>,
        limits: TcpLimits,
    ) -> TcpServer {
        let connections = Connections::new(ConnectionLimits {
            connections_max: limits.connections_max.max(1),
            per_client_max: limits.connections_per_client_max.max(1),
        });
        let pool = |transport| WorkerPool::new(common.clone(), metrics.clone(), transport);
        let pools =
            Pools { tcp: pool(Counted::Tcp), tls: pool(Counted::Tls), https: Arc::new(pool(Counted::Https)) };
        let service = Arc::new(Service {
            snapshot,
            transfers,
            pools,
            metrics,
            timeouts: Timeouts::new(limits.idle_timeout),
            held_octets: AtomicUsize::new(0),
            held_octets_max: HELD_OCTETS_MAX,
        });
        let (stop, stopped) = watch::channel(false);
        let accept = |(listener, protocol)| {
            tokio::spawn(accept(listener, protocol, service.clone(), connections.clone(), stopped.clone()))
        };
        let listeners = listeners.into_iter().map(accept).collect();
        TcpServer { connections, listeners, stop }
    }

    /// Source of the current numbers of connections.
    pub fn gauge(&self) -> TcpGauge {
        TcpGauge(self.connections.clone())
    }

    /// Stops accepting connections, closes all open ones, and waits up to a second for their end.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        for listener in self.listeners {
            if let Err(error) = listener.await {
                tracing::error!(%error, "a task that accepts DNS connections failed");
            }
        }
        if timeout(Duration::from_millis(STOP_MS_MAX), self.connections.close_all()).await.is_err() {
            tracing::warn!("DNS over TCP: not all connections ended in time");
        }
    }
}

async fn accept(
    listener: TcpListener,
    protocol: StreamProtocol,
    service: Arc<Service>,
    connections: Arc<Connections>,
    mut stopped: watch::Receiver<bool>,
) {
    let mut warned: Option<Instant> = None;
    loop {
        let accepted = tokio::select! {
            biased;
            _ = stopped.wait_for(|stopped| *stopped) => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, client)) => admit(stream, client, &protocol, &service, &connections),
            Err(error) if is_of_the_connection(&error) => {}
            Err(error) => {
                if warned.is_none_or(|at| at.elapsed() >= Duration::from_millis(ACCEPT_WARNING_MS)) {
                    tracing::warn!(%error, "DNS over TCP: connections could not be accepted");
                    warned = Some(Instant::now());
                }
                // If file descriptors are exhausted, closing an idle connection frees one for the client that waits.
                connections.evict_one();
                sleep(Duration::from_millis(ACCEPT_PAUSE_MS)).await;
            }
        }
    }
}

fn admit(
    stream: TcpStream,
    client: SocketAddr,
    protocol: &StreamProtocol,
    service: &Arc<Service>,
    connections: &Arc<Connections>,
) {
    if let Some(slot) = connections.admit(client.ip().to_canonical()) {
        // Replies are written as a whole, so Nagle's algorithm would only delay them. An error here is ignored, because the
        // next read of the connection reports it.
        let _ = stream.set_nodelay(true);
        let service = service.clone();
        match protocol.clone() {
            StreamProtocol::Plain => {
                let transport = Transport::Tcp { idle_timeout: service.timeouts.idle };
                tokio::spawn(connection::serve(stream, client, transport, service, slot));
            }
            StreamProtocol::Tls(acceptor) => {
                tokio::spawn(async move {
                    if let Some(stream) = handshake(stream, &acceptor, &service, &slot).await {
                        let transport = Transport::Tls { idle_timeout: service.timeouts.idle };
                        connection::serve(stream, client, transport, service, slot).await;
                    }
                });
            }
            StreamProtocol::Https(acceptor) => {
                tokio::spawn(async move {
                    if let Some(stream) = handshake(stream, &acceptor, &service, &slot).await {
                        let close_requested = slot.close_requested();
                        let (snapshot, pool) = (service.snapshot.clone(), service.pools.https.clone());
                        let idle = service.timeouts.idle;
                        let served = https::serve(stream, client.ip(), idle, slot, snapshot, pool);
                        tokio::select! {
                            biased;
                            () = close_requested => {}
                            () = served => {}
                        }
                    }
                });
            }
        }
    }
}

/// Performs the TLS handshake. `None` if it fails, takes too long, or if the connection is evicted meanwhile.
async fn handshake(
    stream: TcpStream,
    acceptor: &TlsAcceptor,
    service: &Service,
    slot: &ConnectionSlot,
) -> Option<TlsStream<TcpStream>> {
    tokio::select! {
        biased;
        () = slot.close_requested() => None,
        accepted = timeout(service.timeouts.first_query, acceptor.accept(stream)) => match accepted.ok()? {
            Ok(stream) => Some(stream),
            Err(error) => {
                tracing::debug!(%error, "DNS: a TLS handshake failed");
                None
            }
        },
    }
}

/// True if an error of `accept` concerns only the connection that was to be accepted, so that the listener can continue.
fn is_of_the_connection(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset)
}
