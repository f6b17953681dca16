//! The sockets of DNS: UDP and TCP on every address, served by hickory-server.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hickory_server::Server;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, UdpSocket};

use crate::snapshot::Snapshot;

use super::answer::Common;
use super::handler::Handler;
use super::metrics::DnsMetrics;

/// Replies that can wait for one TCP connection.
const TCP_REPLIES_MAX: usize = 128;
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

/// The running server.
pub struct DnsServer {
    server: Server<Handler>,
}

impl DnsServer {
    /// Serves the snapshot on sockets that are bound. A TCP connection is closed after `tcp_idle` without a query.
    pub fn start(
        sockets: Vec<BoundSockets>,
        snapshot: Arc<Snapshot>,
        metrics: Arc<DnsMetrics>,
        common: Arc<Common>,
        tcp_idle: Duration,
    ) -> DnsServer {
        let mut server = Server::new(Handler::new(snapshot, metrics, common));
        for sockets in sockets {
            server.register_socket(sockets.udp);
            server.register_listener(sockets.tcp, tcp_idle, TCP_REPLIES_MAX);
        }
        DnsServer { server }
    }

    /// Stops taking queries and connections.
    pub async fn stop(mut self) {
        if let Err(error) = self.server.shutdown_gracefully().await {
            tracing::warn!(%error, "DNS did not stop cleanly");
        }
    }
}
