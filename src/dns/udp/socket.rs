//! The UDP sockets of one address.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

use super::UdpLoop;

/// The receive and send buffers that are asked for, in octets: the only queue before a query is read.
const SOCKET_BUFFER_OCTETS: usize = 4 * 1024 * 1024;
/// How long a worker waits for a query before it looks whether it has to stop, in milliseconds.
const RECEIVE_TIMEOUT_MS: u64 = 250;

/// The bound sockets of one address: one for each worker, among which the kernel spreads the clients.
pub struct UdpSockets {
    pub(super) sockets: Vec<Arc<UdpSocket>>,
    pub(super) udp_loop: UdpLoop,
    /// Where they are.
    pub address: SocketAddr,
}

impl UdpSockets {
    /// Binds a socket for each of `workers`; port 0 takes one that is free. With the portable loop they share one
    /// socket.
    ///
    /// # Errors
    ///
    /// Those of the system; `AddrInUse` also when the port is shared by other programs (or another server of this
    /// kind) that let others join them.
    pub fn bind(address: SocketAddr, workers: usize, udp_loop: UdpLoop) -> io::Result<UdpSockets> {
        // The first is bound as one that shares with nobody, and becomes one that shares when it has the port: so only
        // sockets of this process join it, and a port that others have among themselves is in use for it.
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
        // An IPv4 wildcard can be bound beside the IPv6 one.
        socket.set_only_v6(true)?;
    }
    // The kernel may grant less.
    socket.set_recv_buffer_size(SOCKET_BUFFER_OCTETS)?;
    socket.set_send_buffer_size(SOCKET_BUFFER_OCTETS)?;
    socket.set_read_timeout(Some(Duration::from_millis(RECEIVE_TIMEOUT_MS)))?;
    Ok(socket)
}

/// Has each datagram carry the address it came to, on a socket that has several.
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
