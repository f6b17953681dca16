//! The DNS server: sockets for UDP and TCP on every address and for the encrypted transports, and the tasks that serve them.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, UdpSocket};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio_rustls::TlsAcceptor;

use crate::snapshot::Snapshot;

use super::answer::Common;
use super::metrics::{Counted, DnsMetrics};
use super::notify;
use super::quic::QuicServer;
use super::rate_limit::{RateLimit, RateLimiter};
use super::tcp::{StreamProtocol, TcpGauge, TcpLimits, TcpServer, WorkerPool};
use super::tls::Certificate;
use super::transfer::Transfers;
use super::udp::{DnsResponder, UdpLoop, UdpSockets, UdpWorkers};

const TCP_BACKLOG: i32 = 1024;
/// Smallest idle timeout of a QUIC connection in milliseconds, because its handshake counts as idle time too.
const QUIC_IDLE_MS_MIN: u64 = 5_000;
/// Attempts to find a port that is free for both UDP and TCP, for addresses with port 0.
const PORT_ATTEMPTS_MAX: usize = 32;

/// The UDP sockets and the TCP listener of one address, all bound to the port in `address`.
#[expect(missing_docs, reason = "the type's document explains the field")]
pub struct BoundSockets {
    udp: UdpSockets,
    tcp: TcpListener,
    pub address: SocketAddr,
}

impl BoundSockets {
    /// Binds UDP, with a socket for each of `workers`, and TCP to one address and port. Port 0 takes one that is free for
    /// both.
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
        // An IPv6 socket that also accepts IPv4 would take the port from the IPv4 wildcard address.
        socket.set_only_v6(true)?;
    }
    // A restarted server could otherwise not bind while old connections are in TIME_WAIT.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(TCP_BACKLOG)?;
    Ok(socket)
}

/// Bound sockets of the encrypted transports. Port 0 takes a free port.
#[derive(Default)]
pub struct EncryptedSockets {
    tls: Vec<TcpListener>,
    https: Vec<TcpListener>,
    quic: Vec<UdpSocket>,
}

impl EncryptedSockets {
    /// Binds a socket for DNS over TLS, and returns its address.
    ///
    /// # Errors
    ///
    /// Those of the system.
    pub fn bind_tls(&mut self, address: SocketAddr) -> io::Result<SocketAddr> {
        self.tls.push(TcpListener::from_std(listen(address)?.into())?);
        bound(self.tls.last().map(TcpListener::local_addr))
    }

    /// Binds a socket for DNS over HTTPS, and returns its address.
    ///
    /// # Errors
    ///
    /// Those of the system.
    pub fn bind_https(&mut self, address: SocketAddr) -> io::Result<SocketAddr> {
        self.https.push(TcpListener::from_std(listen(address)?.into())?);
        bound(self.https.last().map(TcpListener::local_addr))
    }

    /// Binds a socket for DNS over QUIC, and returns its address.
    ///
    /// # Errors
    ///
    /// Those of the system.
    pub fn bind_quic(&mut self, address: SocketAddr) -> io::Result<SocketAddr> {
        let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_nonblocking(true)?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        socket.bind(&address.into())?;
        self.quic.push(UdpSocket::from_std(socket.into())?);
        bound(self.quic.last().map(UdpSocket::local_addr))
    }
}

fn bound(address: Option<io::Result<SocketAddr>>) -> io::Result<SocketAddr> {
    address.unwrap_or_else(|| Err(io::ErrorKind::AddrNotAvailable.into()))
}

/// The encrypted transports: their sockets, and the certificate that all of them present and that follows its files.
#[expect(missing_docs, reason = "the type's document explains the fields")]
pub struct Encrypted {
    pub sockets: EncryptedSockets,
    pub certificate: Arc<Certificate>,
}

/// Settings of the DNS server: the limit on replies to each network over UDP, if any; the limits on connections of TCP, TLS
/// and HTTPS; the networks of clients that may transfer zones; and the secondaries to which NOTIFY is sent when a zone
/// changes.
#[expect(missing_docs, reason = "the type's document explains the fields")]
pub struct DnsSettings {
    pub rate_limit: Option<RateLimit>,
    pub tcp: TcpLimits,
    pub transfer_allow: Vec<IpNet>,
    pub notify: Vec<SocketAddr>,
}

/// A running DNS server on all transports.
pub struct DnsServer {
    udp: UdpWorkers,
    tcp: TcpServer,
    quic: Option<QuicServer>,
    notifier: Option<JoinHandle<()>>,
}

impl DnsServer {
    /// Starts answering from the snapshot on bound sockets.
    ///
    /// # Errors
    ///
    /// Those of the system when it can't start a thread, and those of the TLS library when it can't use the certificate.
    pub fn start(
        sockets: Vec<BoundSockets>,
        encrypted: Option<Encrypted>,
        snapshot: Arc<Snapshot>,
        common: Arc<Common>,
        metrics: Arc<DnsMetrics>,
        settings: DnsSettings,
    ) -> io::Result<DnsServer> {
        let DnsSettings { rate_limit, tcp, transfer_allow, notify } = settings;
        let from: Vec<IpAddr> = sockets.iter().map(|sockets| sockets.address.ip()).collect();
        let (udp, mut listeners): (Vec<_>, Vec<_>) =
            sockets.into_iter().map(|sockets| (sockets.udp, (sockets.tcp, StreamProtocol::Plain))).unzip();
        let mut quic = None;
        if let Some(Encrypted { sockets, certificate }) = encrypted {
            let acceptor = |protocols: &[&[u8]]| {
                let config = certificate.config(protocols).map_err(io::Error::other)?;
                io::Result::Ok(TlsAcceptor::from(Arc::new(config)))
            };
            let (tls, https) = (acceptor(&[b"dot"])?, acceptor(&[b"h2", b"http/1.1"])?);
            let with = |protocol: StreamProtocol| move |listener| (listener, protocol.clone());
            listeners.extend(sockets.tls.into_iter().map(with(StreamProtocol::Tls(tls))));
            listeners.extend(sockets.https.into_iter().map(with(StreamProtocol::Https(https))));
            if !sockets.quic.is_empty() {
                let workers = WorkerPool::new(common.clone(), metrics.clone(), Counted::Quic);
                let idle = tcp.idle_timeout.max(Duration::from_millis(QUIC_IDLE_MS_MIN));
                quic = Some(QuicServer::start(sockets.quic, &certificate, idle, snapshot.clone(), workers)?);
            }
        }
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
        Ok(DnsServer { udp, tcp, quic, notifier })
    }

    /// Source of the numbers of connections of TCP, TLS and HTTPS, for metrics.
    pub fn tcp_gauge(&self) -> TcpGauge {
        self.tcp.gauge()
    }

    /// Stops receiving queries and accepting connections, after the queries received so far are answered.
    pub async fn stop(self) {
        if let Some(notifier) = self.notifier {
            notifier.abort();
        }
        // Joining threads blocks, which only the runtime's blocking pool may do.
        let workers = spawn_blocking(|| self.udp.stop()).await;
        self.tcp.stop().await;
        if let Some(quic) = self.quic {
            quic.stop().await;
        }
        if workers.is_err() {
            tracing::error!("stopping DNS over UDP failed");
        }
    }
}
