//! The sockets of DNS: UDP and TCP on every address. UDP has threads of its own, TCP is served by hickory-server.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hickory_server::Server;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, spawn_blocking};

use crate::snapshot::Snapshot;

use super::answer::Common;
use super::deferred::Deferred;
use super::handler::Handler;
use super::metrics::DnsMetrics;
use super::rate_limit::{RateLimit, RateLimiter};
use super::udp::{DEFERRED_QUERIES_MAX, DnsResponder, UdpLoop, UdpSockets, UdpWorkers, answer_deferred};

/// Replies that can wait for one TCP connection.
const TCP_REPLIES_MAX: usize = 128;
/// Connections that can wait to be accepted.
const TCP_BACKLOG: i32 = 1024;
/// Attempts to find a port that is free for UDP and TCP alike, when any port will do.
const PORT_ATTEMPTS_MAX: usize = 32;

/// The sockets of one address.
pub struct BoundSockets {
    udp: UdpSockets,
    tcp: TcpListener,
    /// Where both are.
    pub address: SocketAddr,
}

impl BoundSockets {
    /// Binds UDP, with a socket for each of `workers`, and TCP to the same address and port; port 0 takes one that is
    /// free for both.
    ///
    /// # Errors
    ///
    /// Those of the system; see [`UdpSockets::bind`].
    pub fn bind(address: SocketAddr, workers: usize, udp_loop: UdpLoop) -> io::Result<BoundSockets> {
        let mut failure = None;
        for _ in 0..PORT_ATTEMPTS_MAX {
            let udp = UdpSockets::bind(address, workers, udp_loop)?;
            match listen(udp.address) {
                Ok(tcp) => {
                    let address = udp.address;
                    return Ok(BoundSockets { udp, tcp: TcpListener::from_std(tcp.into())?, address });
                }
                Err(error) if address.port() == 0 => failure = Some(error),
                Err(error) => return Err(error),
            }
        }
        Err(failure.unwrap_or_else(|| io::Error::from(io::ErrorKind::AddrInUse)))
    }
}

fn listen(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    if address.is_ipv6() {
        // An IPv4 wildcard can be bound beside the IPv6 one.
        socket.set_only_v6(true)?;
    }
    // A restart need not wait for old connections to be forgotten.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(TCP_BACKLOG)?;
    Ok(socket)
}

/// How DNS is served.
#[derive(Clone, Copy, Debug)]
pub struct DnsSettings {
    /// A TCP connection is closed after this time without a query.
    pub tcp_idle: Duration,
    /// What a network may get over UDP; without limit if there is none.
    pub rate_limit: Option<RateLimit>,
}

/// The running server.
pub struct DnsServer {
    udp: UdpWorkers,
    deferred: JoinHandle<()>,
    tcp: Server<Handler>,
}

impl DnsServer {
    /// Serves the snapshot on sockets that are bound.
    ///
    /// # Errors
    ///
    /// Those of starting threads.
    pub fn start(
        sockets: Vec<BoundSockets>,
        snapshot: Arc<Snapshot>,
        metrics: Arc<DnsMetrics>,
        common: Arc<Common>,
        settings: DnsSettings,
    ) -> io::Result<DnsServer> {
        let handler = || Handler::new(snapshot.clone(), metrics.clone(), common.clone());
        let mut tcp = Server::new(handler());
        let mut udp = Vec::with_capacity(sockets.len());
        for sockets in sockets {
            udp.push(sockets.udp);
            tcp.register_listener(sockets.tcp, settings.tcp_idle, TCP_REPLIES_MAX);
        }
        let (sender, receiver) = mpsc::channel(DEFERRED_QUERIES_MAX);
        let deferred = Deferred::new(handler());
        let deferred = tokio::spawn(answer_deferred(receiver, deferred, metrics.clone()));
        let udp = UdpWorkers::start(udp, move |socket| {
            let limiter = settings.rate_limit.map(RateLimiter::new);
            let (snapshot, common, sender) = (snapshot.clone(), common.clone(), sender.clone());
            DnsResponder::new(snapshot, common, limiter, &metrics, sender, socket.clone())
        })?;
        Ok(DnsServer { udp, deferred, tcp })
    }

    /// Stops taking queries and connections, and answers what was taken.
    pub async fn stop(mut self) {
        // Joining threads blocks; the runtime has a place for that.
        let workers = spawn_blocking(|| self.udp.stop()).await;
        if let Err(error) = self.tcp.shutdown_gracefully().await {
            tracing::warn!(%error, "DNS over TCP did not stop cleanly");
        }
        // The workers are gone, so it has no more than what waits.
        if workers.and(self.deferred.await).is_err() {
            tracing::error!("DNS over UDP ended badly");
        }
    }
}
