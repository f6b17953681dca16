//! DNS over TCP (RFC 7766), and the connections of DNS over TLS (RFC 7858) and HTTPS (RFC 8484).
//!
//! | RFC | what |
//! | --- | --- |
//! | 1035 §4.2.2 | each message has its length before it |
//! | 7766 §6.2.1.1, §7 | queries may follow each other without waiting; replies to those that came together leave together |
//! | 7766 §6.2.3 | an idle connection is closed; the longest idle one first when there are too many |
//! | 7766 §8 | a message may come in parts |
//! | 7828 | how long a connection may be idle is told by [`answer()`](super::answer::answer) |
//!
//! Connections are tasks of a small runtime apart from UDP's threads. One that waits costs its task and the kernel's
//! socket; buffers and workers belong to those that answer at the moment.
//!
//! Who calls it: [`super::server`].

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

use crate::snapshot::Snapshot;

use super::answer::{Common, Transport};
use super::https;
use super::metrics::{Counted, DnsMetrics};
use super::transfer::Transfers;

use connections::{ConnectionLimits, Connections};

pub(super) use connections::{ConnectionSlot, Phase as ConnectionPhase};
pub(super) use worker_pool::WorkerPool;

/// How long a new connection may take for its first query, in milliseconds.
const FIRST_QUERY_TIMEOUT_MS: u64 = 10_000;
/// How long a query that has begun may take to be complete, in milliseconds.
const PARTIAL_QUERY_TIMEOUT_MS: u64 = 10_000;
/// How long a client may take for the replies to one batch of queries, or for one message of a transfer, in milliseconds.
const WRITE_TIMEOUT_MS: u64 = 10_000;
/// Octets that all connections together may hold of queries that are not complete and of replies that were not taken.
/// One that would hold more is closed.
const HELD_OCTETS_MAX: usize = 128 << 20;
/// The pause after a connection could not be accepted, such as for want of file descriptors, in milliseconds.
const ACCEPT_PAUSE_MS: u64 = 50;
/// The least time between two warnings that connections could not be accepted, in milliseconds.
const ACCEPT_WARNING_MS: u64 = 10_000;
/// How long connections have to end when the server stops, in milliseconds.
const STOP_MS_MAX: u64 = 1_000;

/// What clients may use.
#[derive(Clone, Copy, Debug)]
pub struct TcpLimits {
    /// How long a connection may stay without a query.
    pub idle_timeout: Duration,
    /// Connections at a time. For another, the one that is idle longest is closed.
    pub connections_max: usize,
    /// Connections of one address at a time; the same holds.
    pub connections_per_client_max: usize,
}

/// Protocol of the connections that a listener accepts.
#[derive(Clone)]
pub enum StreamProtocol {
    /// Messages with their lengths before them (RFC 1035 §4.2.2).
    Plain,
    /// The same, encrypted (RFC 7858).
    Tls(TlsAcceptor),
    /// HTTP, encrypted (RFC 8484).
    Https(TlsAcceptor),
}

/// Worker pools of the transports.
struct Pools {
    tcp: WorkerPool,
    tls: WorkerPool,
    https: Arc<WorkerPool>,
}

/// State that all connections share.
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

/// The running server of all TCP addresses.
pub struct TcpServer {
    connections: Arc<Connections>,
    listeners: Vec<JoinHandle<()>>,
    stop: watch::Sender<bool>,
}

/// How many connections there are and were.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct TcpCounts {
    /// Open now.
    pub open: usize,
    /// Closed so far to make room for others.
    pub evicted: u64,
    /// Closed at once so far, because all others were being answered.
    pub refused: u64,
}

/// Tells how many connections there are.
#[derive(Clone)]
pub struct TcpGauge(Arc<Connections>);

impl TcpGauge {
    /// How many there are and were.
    pub fn counts(&self) -> TcpCounts {
        let (open, evicted, refused) = self.0.counts();
        TcpCounts { open, evicted, refused }
    }
}

impl TcpServer {
    /// Serves the snapshot on listeners that are bound. Needs a tokio runtime around it.
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

    /// What tells how many connections there are.
    pub fn gauge(&self) -> TcpGauge {
        TcpGauge(self.connections.clone())
    }

    /// Takes no more connections and ends those that there are.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        for listener in self.listeners {
            if let Err(error) = listener.await {
                tracing::error!(%error, "a DNS listener ended badly");
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
                // What is idle gives its file descriptor to who waits.
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
        // Replies are written as a whole. A connection whose peer is gone fails at the next read.
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

/// Makes a connection an encrypted one. `None` if the client takes too long, speaks no TLS, or has to make room meanwhile.
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

/// Whether an error of accepting is of the one connection that was to be accepted.
fn is_of_the_connection(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset)
}
