//! The sockets of DNS: UDP and TCP on every address.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ipnet::IpNet;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, spawn_blocking};

use crate::snapshot::Snapshot;

use super::answer::Common;
use super::metrics::DnsMetrics;
use super::notify;
use super::rate_limit::{RateLimit, RateLimiter};
use super::tcp::{TcpGauge, TcpLimits, TcpServer};
use super::transfer::Transfers;
use super::udp::{DnsResponder, UdpLoop, UdpSockets, UdpWorkers};

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
pub struct DnsSettings {
    /// What a network may get over UDP; without limit if there is none.
    pub rate_limit: Option<RateLimit>,
    /// What clients may use of TCP.
    pub tcp: TcpLimits,
    /// Networks of clients that may transfer zones.
    pub transfer_allow: Vec<IpNet>,
    /// Who is told of changed zones.
    pub notify: Vec<SocketAddr>,
}

/// The running server.
pub struct DnsServer {
    udp: UdpWorkers,
    tcp: TcpServer,
    notifier: Option<JoinHandle<()>>,
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
        common: Arc<Common>,
        metrics: Arc<DnsMetrics>,
        settings: DnsSettings,
    ) -> io::Result<DnsServer> {
        let DnsSettings { rate_limit, tcp, transfer_allow, notify } = settings;
        let from: Vec<IpAddr> = sockets.iter().map(|sockets| sockets.address.ip()).collect();
        let (udp, listeners): (Vec<_>, Vec<_>) =
            sockets.into_iter().map(|sockets| (sockets.udp, sockets.tcp)).unzip();
        let transfers = Arc::new(Transfers::new(snapshot.clone(), transfer_allow));
        let tcp = TcpServer::start(
            listeners,
            snapshot.clone(),
            common.clone(),
            metrics.clone(),
            transfers.clone(),
            tcp,
        );
        let notifier =
            (!notify.is_empty()).then(|| tokio::spawn(notify::run(snapshot.clone(), notify, from)));
        let udp = UdpWorkers::start(udp, move || {
            let limiter = rate_limit.map(RateLimiter::new);
            DnsResponder::new(snapshot.clone(), common.clone(), limiter, &metrics, transfers.clone())
        })?;
        Ok(DnsServer { udp, tcp, notifier })
    }

    /// What tells how many TCP connections there are.
    pub fn tcp_gauge(&self) -> TcpGauge {
        self.tcp.gauge()
    }

    /// Stops taking queries and connections, and answers what was taken.
    pub async fn stop(self) {
        if let Some(notifier) = self.notifier {
            notifier.abort();
        }
        // Joining threads blocks; the runtime has a place for that.
        let workers = spawn_blocking(|| self.udp.stop()).await;
        self.tcp.stop().await;
        if workers.is_err() {
            tracing::error!("DNS over UDP ended badly");
        }
    }
}
