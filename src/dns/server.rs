//! The sockets of DNS: UDP and TCP on every address.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use hickory_server::Server;
use ipnet::IpNet;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, UdpSocket};
use tokio::task::JoinHandle;

use crate::snapshot::Snapshot;

use super::answer::Common;
use super::deferred::Deferred;
use super::handler::Handler;
use super::metrics::DnsMetrics;
use super::notify;
use super::tcp::{Rare, TcpGauge, TcpLimits, TcpServer};
use super::transfer::Transfers;

/// The receive and send buffers that are asked for, in octets: the only queue before a query is read.
const SOCKET_BUFFER_OCTETS: usize = 4 * 1024 * 1024;
/// Connections that can wait to be accepted.
const TCP_BACKLOG: i32 = 1024;
/// Attempts to find a port that is free for UDP and TCP alike, when any port will do.
const PORT_ATTEMPTS_MAX: usize = 32;

/// The sockets of one address.
pub struct BoundSockets {
    udp: UdpSocket,
    tcp: TcpListener,
    /// Where both are.
    pub address: SocketAddr,
}

impl BoundSockets {
    /// Binds UDP and TCP to the same address and port; port 0 takes one that is free for both.
    pub fn bind(address: SocketAddr) -> io::Result<BoundSockets> {
        let mut failure = None;
        for _ in 0..PORT_ATTEMPTS_MAX {
            let udp = socket(address, Type::DGRAM, Protocol::UDP)?;
            let bound = udp.local_addr()?.as_socket().unwrap_or(address);
            match socket(bound, Type::STREAM, Protocol::TCP) {
                Ok(tcp) => {
                    tcp.listen(TCP_BACKLOG)?;
                    return Ok(BoundSockets {
                        udp: UdpSocket::from_std(udp.into())?,
                        tcp: TcpListener::from_std(tcp.into())?,
                        address: bound,
                    });
                }
                Err(error) if address.port() == 0 => failure = Some(error),
                Err(error) => return Err(error),
            }
        }
        Err(failure.unwrap_or_else(|| io::Error::from(io::ErrorKind::AddrInUse)))
    }
}

fn socket(address: SocketAddr, kind: Type, protocol: Protocol) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
    socket.set_nonblocking(true)?;
    if address.is_ipv6() {
        // An IPv4 wildcard can be bound beside the IPv6 one.
        socket.set_only_v6(true)?;
    }
    if kind == Type::STREAM {
        // A restart need not wait for old connections to be forgotten.
        socket.set_reuse_address(true)?;
    } else {
        // The kernel may grant less.
        socket.set_recv_buffer_size(SOCKET_BUFFER_OCTETS)?;
        socket.set_send_buffer_size(SOCKET_BUFFER_OCTETS)?;
    }
    socket.bind(&address.into())?;
    Ok(socket)
}

/// What the server is told about TCP and transfers.
pub struct DnsSettings {
    /// What clients may use of TCP.
    pub tcp: TcpLimits,
    /// Networks of clients that may transfer zones.
    pub transfer_allow: Vec<IpNet>,
    /// Who is told of changed zones.
    pub notify: Vec<SocketAddr>,
    /// What all workers have in common.
    pub common: Arc<Common>,
}

/// The running server.
pub struct DnsServer {
    server: Server<Handler>,
    tcp: TcpServer,
    notifier: Option<JoinHandle<()>>,
}

impl DnsServer {
    /// Serves the snapshot on sockets that are bound.
    pub fn start(
        sockets: Vec<BoundSockets>,
        snapshot: Arc<Snapshot>,
        metrics: Arc<DnsMetrics>,
        settings: DnsSettings,
    ) -> DnsServer {
        let DnsSettings { tcp, transfer_allow, notify, common } = settings;
        let from: Vec<IpAddr> = sockets.iter().map(|sockets| sockets.address.ip()).collect();
        let mut server = Server::new(Handler::new(snapshot.clone(), metrics.clone()));
        let mut listeners = Vec::new();
        for sockets in sockets {
            server.register_socket(sockets.udp);
            listeners.push(sockets.tcp);
        }
        let rare = Rare {
            deferred: Arc::new(Deferred::new(Handler::new(snapshot.clone(), metrics.clone()))),
            transfers: Transfers::new(snapshot.clone(), transfer_allow),
        };
        let tcp = TcpServer::start(listeners, snapshot.clone(), common, metrics, rare, tcp);
        let notifier = (!notify.is_empty()).then(|| tokio::spawn(notify::run(snapshot, notify, from)));
        DnsServer { server, tcp, notifier }
    }

    /// What tells how many TCP connections there are.
    pub fn tcp_gauge(&self) -> TcpGauge {
        self.tcp.gauge()
    }

    /// Stops taking queries and connections.
    pub async fn stop(mut self) {
        if let Some(notifier) = self.notifier {
            notifier.abort();
        }
        self.tcp.stop().await;
        if let Err(error) = self.server.shutdown_gracefully().await {
            tracing::warn!(%error, "DNS did not stop cleanly");
        }
    }
}
