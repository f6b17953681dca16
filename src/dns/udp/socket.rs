//! Binding of the UDP sockets of one address.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

use super::UdpLoop;

/// Requested size of a socket's receive and send buffers in bytes. They are the only queues of queries and replies.
const SOCKET_BUFFER_BYTES: usize = 4 * 1024 * 1024;
/// Receive timeout, after which a worker checks whether it has to stop, in milliseconds.
const RECEIVE_TIMEOUT_MS: u64 = 250;

/// The bound sockets of one address and port: one for each worker, among which the kernel spreads the clients.
#[expect(missing_docs, reason = "the type's document explains the field")]
pub struct UdpSockets {
    pub(super) sockets: Vec<Arc<UdpSocket>>,
    pub(super) udp_loop: UdpLoop,
    pub address: SocketAddr,
}

impl UdpSockets {
    /// Binds a socket for each of `workers`; port 0 takes a free port. With the portable loop, the workers share one socket.
    ///
    /// # Errors
    ///
    /// Those of the system. `AddrInUse` also if other programs, or another server of this kind, share the port with
    /// `SO_REUSEPORT`.
    pub fn bind(address: SocketAddr, workers: usize, udp_loop: UdpLoop) -> io::Result<UdpSockets> {
        // The first socket is bound without SO_REUSEPORT, which fails if another program uses the port, even a shared one.
        // It gets the option afterwards, so that the other sockets can join it.
        let first = socket(address)?;
        first.bind(&address.into())?;
        let address = first.local_addr()?.as_socket().unwrap_or(address);
        let mut sockets = vec![first];
        #[cfg(target_os = "linux")]
        if udp_loop.is_batched() && workers > 1 {
            sockets[0].set_reuse_port(true)?;
            for _ in 1..workers {
                let next = socket(address)?;
                next.set_reuse_port(true)?;
                next.bind(&address.into())?;
                sockets.push(next);
            }
        }
        if udp_loop.is_batched() {
            sockets.iter().try_for_each(|socket| learn_local_addresses(socket, address))?;
        }
        let mut shared: Vec<Arc<UdpSocket>> = Vec::with_capacity(workers.max(1));
        shared.extend(sockets.into_iter().map(|socket| Arc::new(UdpSocket::from(socket))));
        while shared.len() < workers {
            shared.push(shared[0].clone());
        }
        Ok(UdpSockets { sockets: shared, udp_loop, address })
    }
}

fn socket(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        // Without this, the IPv4 wildcard address could not be bound to this port too.
        socket.set_only_v6(true)?;
    }
    // The kernel may grant less (net.core.rmem_max, wmem_max).
    socket.set_recv_buffer_size(SOCKET_BUFFER_BYTES)?;
    socket.set_send_buffer_size(SOCKET_BUFFER_BYTES)?;
    socket.set_read_timeout(Some(Duration::from_millis(RECEIVE_TIMEOUT_MS)))?;
    Ok(socket)
}

/// Makes the system report the local address of each datagram, on a socket with a wildcard address.
#[cfg(target_os = "linux")]
fn learn_local_addresses(socket: &Socket, address: SocketAddr) -> io::Result<()> {
    use nix::sys::socket::{setsockopt, sockopt};
    match address {
        SocketAddr::V4(address) if address.ip().is_unspecified() => {
            setsockopt(socket, sockopt::Ipv4PacketInfo, &true)?;
        }
        SocketAddr::V6(address) if address.ip().is_unspecified() => {
            setsockopt(socket, sockopt::Ipv6RecvPacketInfo, &true)?;
        }
        _ => {}
    }
    Ok(())
}

#[cfg(not(target_os = "linux"))]
fn learn_local_addresses(_: &Socket, _: SocketAddr) -> io::Result<()> {
    Ok(())
}
