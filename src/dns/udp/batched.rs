//! The loop of a worker on Linux: one `recvmmsg` for a batch of queries, one `sendmmsg` for their replies.
//!
//! Three properties of nix's wrappers determine its structure. First, all messages of one `sendmmsg` share their control
//! messages. So on a wildcard socket there is one call for each local address that the batch was sent to, usually one.
//! Second, the lengths in the headers are not reset between calls. That is harmless, because a socket has one family, so
//! that all addresses have one length and all control messages too; headers for receiving are never used for sending, and
//! runs of replies have headers of their own. Third, buffers are passed in arrays that live for one call, which are on the
//! stack.
//!
//! A query that arrives alone finds cold caches, so the code behind receiving touches only as many slots as there are
//! replies.

use std::io::{IoSlice, IoSliceMut};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arrayvec::ArrayVec;
use nix::cmsg_space;
use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, MultiHeaders, SockaddrIn, SockaddrIn6, SockaddrLike,
    getsockopt, recvmmsg, sendmmsg, sockopt::UdpGsoSegment,
};

use super::batch::{BATCH_QUERIES_MAX, Batch, LocalAddress, QUERY_OCTETS_MAX};
use super::{RECEIVE_RETRY_MS, Respond, Sent, UdpLoop};

const REQUESTED_MIN: usize = 8;
/// Smallest number of replies that form a run: each run costs a system call of its own.
const RUN_REPLIES_MIN: usize = 4;
/// Length limit of a run in bytes, which is that of a UDP datagram, rounded down.
const RUN_OCTETS_MAX: usize = 65_000;

/// Address family: types of socket addresses and of the control message with the local address.
trait Family {
    type Address: SockaddrLike + Copy + Into<SocketAddr>;
    type Source;

    /// `None` for an address of the other family, which does not occur on a socket of this family.
    fn address(of: SocketAddr) -> Option<Self::Address>;
    fn local(message: ControlMessageOwned) -> Option<LocalAddress>;
    fn source(local: LocalAddress) -> Option<Self::Source>;
    fn control(source: &Self::Source) -> ControlMessage<'_>;
    fn space() -> Vec<u8>;
}

struct V4;
struct V6;

impl Family for V4 {
    type Address = SockaddrIn;
    type Source = libc::in_pktinfo;

    fn address(of: SocketAddr) -> Option<SockaddrIn> {
        match of {
            SocketAddr::V4(address) => Some(address.into()),
            SocketAddr::V6(_) => None,
        }
    }

    fn local(message: ControlMessageOwned) -> Option<LocalAddress> {
        match message {
            // For a query to a broadcast or multicast address, `ipi_spec_dst` is the address to reply from (ip(7)).
            ControlMessageOwned::Ipv4PacketInfo(info) => {
                Some(LocalAddress { ip: IpAddr::from(info.ipi_spec_dst.s_addr.to_ne_bytes()), interface: 0 })
            }
            _ => None,
        }
    }

    fn source(local: LocalAddress) -> Option<libc::in_pktinfo> {
        match local.ip {
            IpAddr::V4(ip) => Some(libc::in_pktinfo {
                // The routing table chooses the interface, which may differ from the one that received the query.
                ipi_ifindex: 0,
                ipi_spec_dst: libc::in_addr { s_addr: u32::from_ne_bytes(ip.octets()) },
                ipi_addr: libc::in_addr { s_addr: 0 },
            }),
            IpAddr::V6(_) => None,
        }
    }

    fn control(source: &libc::in_pktinfo) -> ControlMessage<'_> {
        ControlMessage::Ipv4PacketInfo(source)
    }

    fn space() -> Vec<u8> {
        cmsg_space!(libc::in_pktinfo)
    }
}

impl Family for V6 {
    type Address = SockaddrIn6;
    type Source = libc::in6_pktinfo;

    fn address(of: SocketAddr) -> Option<SockaddrIn6> {
        match of {
            SocketAddr::V6(address) => Some(address.into()),
            SocketAddr::V4(_) => None,
        }
    }

    fn local(message: ControlMessageOwned) -> Option<LocalAddress> {
        let ControlMessageOwned::Ipv6PacketInfo(info) = message else { return None };
        let ip = std::net::Ipv6Addr::from(info.ipi6_addr.s6_addr);
        // Nothing can be sent from a multicast address, so the system chooses the source address.
        (!ip.is_multicast()).then(|| LocalAddress {
            ip: ip.into(),
            interface: if ip.is_unicast_link_local() { info.ipi6_ifindex } else { 0 },
        })
    }

    fn source(local: LocalAddress) -> Option<libc::in6_pktinfo> {
        match local.ip {
            IpAddr::V6(ip) => Some(libc::in6_pktinfo {
                ipi6_addr: libc::in6_addr { s6_addr: ip.octets() },
                ipi6_ifindex: local.interface,
            }),
            IpAddr::V4(_) => None,
        }
    }

    fn control(source: &libc::in6_pktinfo) -> ControlMessage<'_> {
        ControlMessage::Ipv6PacketInfo(source)
    }

    fn space() -> Vec<u8> {
        cmsg_space!(libc::in6_pktinfo)
    }
}

/// Answers queries until `stop` is set. `address` is the address that the socket is bound to.
pub(super) fn serve(
    socket: &UdpSocket,
    address: SocketAddr,
    udp_loop: UdpLoop,
    respond: &mut impl Respond,
    stop: &AtomicBool,
) {
    match address {
        SocketAddr::V4(_) => Loop::<V4>::new(socket, address, udp_loop).run(respond, stop),
        SocketAddr::V6(_) => Loop::<V6>::new(socket, address, udp_loop).run(respond, stop),
    }
}

struct Loop<'s, F: Family> {
    socket: &'s UdpSocket,
    is_wildcard: bool,
    batch: Batch,
    /// Number of datagrams to request next: twice the last number received, because requesting more costs time.
    requested: usize,
    receive: MultiHeaders<F::Address>,
    send: SendHeaders<F>,
    /// Headers for replies with a control message that sets the local address.
    send_from: SendHeaders<F>,
}

struct SendHeaders<F: Family> {
    each: MultiHeaders<F::Address>,
    run: Option<MultiHeaders<F::Address>>,
}

impl<F: Family> SendHeaders<F> {
    fn new(control: Vec<u8>, has_runs: bool) -> Self {
        let of_run = || MultiHeaders::preallocate(1, Some([&control[..], &cmsg_space!(u16)].concat()));
        let run = has_runs.then(of_run);
        let control = Some(control).filter(|control| !control.is_empty());
        SendHeaders { each: MultiHeaders::preallocate(BATCH_QUERIES_MAX, control), run }
    }
}

impl<'s, F: Family> Loop<'s, F> {
    fn new(socket: &'s UdpSocket, address: SocketAddr, udp_loop: UdpLoop) -> Self {
        let is_wildcard = address.ip().is_unspecified();
        // A system without `UDP_SEGMENT` would send a run as one datagram.
        let has_runs = udp_loop == UdpLoop::Auto && getsockopt(socket, UdpGsoSegment).is_ok();
        Loop {
            socket,
            is_wildcard,
            batch: Batch::new(BATCH_QUERIES_MAX),
            requested: BATCH_QUERIES_MAX,
            receive: receive_headers::<F>(is_wildcard),
            send: SendHeaders::new(Vec::new(), has_runs),
            send_from: SendHeaders::new(F::space(), has_runs),
        }
    }

    fn run(&mut self, respond: &mut impl Respond, stop: &AtomicBool) {
        while !stop.load(Ordering::Relaxed) {
            match self.receive() {
                Ok(()) => {}
                // After the receive timeout or a signal, `stop` is checked.
                Err(Errno::EAGAIN | Errno::EINTR) => continue,
                Err(error) => {
                    respond.receive_failed(error.into());
                    // A pause, so that a persistent error does not cause a busy loop.
                    std::thread::sleep(Duration::from_millis(RECEIVE_RETRY_MS));
                    continue;
                }
            }
            respond.respond(&mut self.batch);
            let refused = self.batch.refuse();
            let mut sent = Sent { ignored: refused.ignored, too_long: refused.too_long, ..Sent::default() };
            self.send(&mut sent);
            respond.sent(&sent);
        }
    }

    fn receive(&mut self) -> Result<(), Errno> {
        let Batch { queries, slots, received, .. } = &mut self.batch;
        *received = 0;
        let mut buffers = queries.iter_mut();
        let mut slices: [_; BATCH_QUERIES_MAX] = std::array::from_fn(|_| {
            let buffer = buffers.next().map_or(&mut [][..], |buffer| &mut buffer[..QUERY_OCTETS_MAX]);
            [IoSliceMut::new(buffer)]
        });
        let flags = MsgFlags::MSG_WAITFORONE;
        let slices = slices.iter_mut().take(self.requested);
        let messages = recvmmsg(self.socket.as_raw_fd(), &mut self.receive, slices, flags, None)?;
        let mut lacks_local = false;
        for (slot, message) in slots.iter_mut().zip(messages) {
            slot.query_len = message.bytes.min(QUERY_OCTETS_MAX);
            slot.reply_len = 0;
            slot.is_cut = message.flags.contains(MsgFlags::MSG_TRUNC);
            if let Some(client) = message.address {
                slot.client = client.into();
            }
            if self.is_wildcard {
                let control = message.cmsgs().ok().and_then(|mut control| control.next());
                lacks_local |= control.is_none();
                slot.local = control.and_then(F::local);
            }
            *received += 1;
        }
        self.requested = (2 * *received).clamp(REQUESTED_MIN, BATCH_QUERIES_MAX);
        if lacks_local {
            // The kernel has set the length of the control messages in the header to 0, and nix does not reset it.
            self.receive = receive_headers::<F>(self.is_wildcard);
        }
        Ok(())
    }

    /// Sends the replies of the batch: as one group, or on a wildcard socket one group for each local address.
    fn send(&mut self, sent: &mut Sent) {
        let slots = &self.batch.slots[..self.batch.received];
        let mut order = ArrayVec::<_, BATCH_QUERIES_MAX>::new();
        order.extend((0..slots.len()).filter(|at| slots[*at].reply_len > 0));
        let mut waiting = &mut order[..];
        while let Some(first) = waiting.first() {
            let local = slots[*first].local;
            let together = if self.is_wildcard {
                move_to_front(waiting, |at| slots[at].local == local)
            } else {
                waiting.len()
            };
            let (group, rest) = waiting.split_at_mut(together);
            let headers = if local.is_some() { &mut self.send_from } else { &mut self.send };
            send_group::<F>(self.socket, &self.batch, group, local, headers, sent);
            waiting = rest;
        }
    }
}

/// Sends the replies of `group`, all from one local address. A reply that the system refuses is counted and skipped.
///
/// A run of replies of one length to one client passes through the network stack as one datagram, which the system segments
/// as late as it can (`UDP_SEGMENT`, Linux 4.18). This makes a forwarder that sends all queries from one socket cheaper.
fn send_group<F: Family>(
    socket: &UdpSocket,
    batch: &Batch,
    group: &mut [usize],
    local: Option<LocalAddress>,
    headers: &mut SendHeaders<F>,
    sent: &mut Sent,
) {
    let source = local.and_then(F::source);
    let control = source.as_ref().map(F::control);
    // Replies that form no run, and those of a run that the system refused, are sent one by one.
    let left = match &mut headers.run {
        Some(headers) => {
            let (mut at, mut left) = (0, 0);
            while at < group.len() {
                let next = at + run_len(batch, &group[at..]);
                if next - at >= RUN_REPLIES_MIN
                    && send_run::<F>(socket, batch, &group[at..next], control, headers)
                {
                    sent.replies += (next - at) as u64;
                } else {
                    group.copy_within(at..next, left);
                    left += next - at;
                }
                at = next;
            }
            left
        }
        None => group.len(),
    };
    if left > 0 {
        send_each::<F>(socket, batch, &group[..left], control, &mut headers.each, sent);
    }
}

/// Length of the run at the start of the group: number of replies, at least one, of one length to one client.
fn run_len(batch: &Batch, group: &[usize]) -> usize {
    let Some(first) = group.first().map(|at| &batch.slots[*at]) else { return 1 };
    let is_like_first = |at: &&usize| {
        let slot = &batch.slots[**at];
        slot.reply_len == first.reply_len && slot.client == first.client
    };
    1 + group.iter().take(RUN_OCTETS_MAX / first.reply_len).skip(1).take_while(is_like_first).count()
}

/// Sends a run of replies as one datagram that the system segments. Returns true if the system accepted it.
fn send_run<F: Family>(
    socket: &UdpSocket,
    batch: &Batch,
    run: &[usize],
    control: Option<ControlMessage<'_>>,
    headers: &mut MultiHeaders<F::Address>,
) -> bool {
    let Some(first) = run.first().map(|at| &batch.slots[*at]) else { return false };
    let mut slices = ArrayVec::<_, BATCH_QUERIES_MAX>::new();
    slices.extend(run.iter().map(|at| IoSlice::new(&batch.replies[*at][..first.reply_len])));
    let octets = first.reply_len as u16;
    let cut = ControlMessage::UdpGsoSegments(&octets);
    let controls = [control.unwrap_or(cut), cut];
    let controls = &controls[usize::from(control.is_none())..];
    let (slices, address) = ([&slices[..]], [F::address(first.client)]);
    let flags = MsgFlags::MSG_DONTWAIT;
    let result = sendmmsg(socket.as_raw_fd(), headers, &slices, address, controls, flags);
    result.is_ok_and(|messages| messages.count() == 1)
}

/// Sends each reply as a datagram of its own, with as few calls of `sendmmsg` as possible.
fn send_each<F: Family>(
    socket: &UdpSocket,
    batch: &Batch,
    group: &[usize],
    control: Option<ControlMessage<'_>>,
    headers: &mut MultiHeaders<F::Address>,
    sent: &mut Sent,
) {
    let mut slices = ArrayVec::<_, BATCH_QUERIES_MAX>::new();
    let mut addresses = ArrayVec::<_, BATCH_QUERIES_MAX>::new();
    for at in group {
        let slot = &batch.slots[*at];
        slices.push([IoSlice::new(&batch.replies[*at][..slot.reply_len])]);
        addresses.push(F::address(slot.client));
    }
    let mut done = 0;
    let mut is_second_attempt = false;
    while done < group.len() {
        let (slices, addresses) = (&slices[done..], &addresses[done..]);
        // A worker does not wait while the send buffer is full, because waiting queries would be lost instead.
        let flags = MsgFlags::MSG_DONTWAIT;
        match sendmmsg(socket.as_raw_fd(), headers, slices, addresses, control.as_slice(), flags) {
            // Counting the iterator's items is the only way to get the number of sent messages. Its addresses are
            // meaningless after sending.
            Ok(messages) => {
                let count = messages.count();
                sent.replies += count as u64;
                done += count;
                is_second_attempt = false;
                // This has never been seen, but without the check the loop would not end.
                if count == 0 {
                    break;
                }
            }
            Err(Errno::EINTR) => {}
            // The system reports an ICMP error of an earlier datagram, and did not try to send this one.
            Err(Errno::ECONNREFUSED) if !is_second_attempt => is_second_attempt = true,
            Err(_) => {
                sent.errors += 1;
                done += 1;
                is_second_attempt = false;
            }
        }
    }
}

fn receive_headers<F: Family>(is_wildcard: bool) -> MultiHeaders<F::Address> {
    MultiHeaders::preallocate(BATCH_QUERIES_MAX, is_wildcard.then(F::space))
}

/// Moves the items for which `is_wanted` is true to the front, in their order, and returns their number.
fn move_to_front(items: &mut [usize], is_wanted: impl Fn(usize) -> bool) -> usize {
    let mut count = 0;
    for at in 0..items.len() {
        if is_wanted(items[at]) {
            items.swap(count, at);
            count += 1;
        }
    }
    count
}

#[cfg(test)]
mod tests {
    use nix::sys::socket::{setsockopt, sockopt::UdpGroSegment};

    use super::*;

    fn batch(replies: &[(&[u8], SocketAddr)]) -> Batch {
        let mut batch = Batch::new(BATCH_QUERIES_MAX);
        batch.received = replies.len();
        for (at, (reply, client)) in replies.iter().enumerate() {
            batch.replies[at][..reply.len()].copy_from_slice(reply);
            batch.slots[at].reply_len = reply.len();
            batch.slots[at].client = *client;
        }
        batch
    }

    #[test]
    fn reply_that_cannot_be_sent_does_not_prevent_others() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let good = client.local_addr().unwrap();
        // The system refuses broadcasts from a socket without SO_BROADCAST, and datagrams to port 0.
        let (broadcast, nowhere) = ("255.255.255.255:53".parse().unwrap(), "127.0.0.1:0".parse().unwrap());
        let order: [(&[u8], _); 7] = [
            (b"x", broadcast),
            (b"1", good),
            (b"2", good),
            (b"x", nowhere),
            (b"x", broadcast),
            (b"3", good),
            (b"x", nowhere),
        ];
        let sent = send::<V4>(&socket, UdpLoop::Auto, &order);
        assert_eq!(sent, Sent { replies: 3, errors: 4, ..Sent::default() });
        for expected in [b"1", b"2", b"3"] {
            let mut buffer = [0; 8];
            let len = client.recv(&mut buffer).unwrap();
            assert_eq!(&buffer[..len], expected);
        }
    }

    /// A client with receive offload (`UDP_GRO`), which receives a run as one datagram.
    fn coalescing_client(address: &str) -> UdpSocket {
        let client = UdpSocket::bind(address).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        setsockopt(&client, UdpGroSegment, &true).unwrap();
        client
    }

    fn send<F: Family>(socket: &UdpSocket, udp_loop: UdpLoop, replies: &[(&[u8], SocketAddr)]) -> Sent {
        let mut worker = Loop::<F>::new(socket, socket.local_addr().unwrap(), udp_loop);
        worker.batch = batch(replies);
        let mut sent = Sent::default();
        worker.send(&mut sent);
        sent
    }

    #[test]
    fn replies_of_one_length_to_one_client_are_sent_as_one_run() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let clients = [coalescing_client("127.0.0.1:0"), coalescing_client("127.0.0.1:0")];
        let [one, other] = [0, 1].map(|at: usize| clients[at].local_addr().unwrap());
        let replies: [(&[u8], _); 14] = [
            (b"few", one),
            (b"111", other),
            (b"222", other),
            (b"333", other),
            (b"444", other),
            (b"longer", other),
            (b"aaaa", one),
            (b"bbbb", one),
            (b"cccc", one),
            (b"dddd", one),
            (b"eeee", one),
            (b"555", other),
            (b"666", other),
            (b"777", other),
        ];
        for (udp_loop, of_one, of_other) in [
            (UdpLoop::Auto, &["aaaabbbbccccddddeeee", "few"][..], &["111222333444", "longer", "555"][..]),
            (UdpLoop::Batched, &["few", "aaaa", "bbbb", "cccc", "dddd", "eeee"], &["111", "222", "333"]),
        ] {
            assert_eq!(send::<V4>(&socket, udp_loop, &replies), Sent { replies: 14, ..Sent::default() });
            for (client, expected) in clients.iter().zip([of_one, of_other]) {
                let mut buffer = [0; 100];
                for expected in expected {
                    let len = client.recv(&mut buffer).unwrap();
                    assert_eq!(str::from_utf8(&buffer[..len]).unwrap(), *expected);
                }
                client.set_nonblocking(true).unwrap();
                while client.recv(&mut buffer).is_ok() {}
                client.set_nonblocking(false).unwrap();
            }
        }
    }

    #[test]
    fn run_that_cannot_be_sent_is_counted_reply_by_reply() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let (good, broadcast) = (client.local_addr().unwrap(), "255.255.255.255:53".parse().unwrap());
        let order: Vec<(&[u8], _)> =
            (0..12).map(|at| (&b"reply"[..], if at < 5 || at == 11 { broadcast } else { good })).collect();
        let sent = send::<V4>(&socket, UdpLoop::Auto, &order);
        assert_eq!(sent, Sent { replies: 6, errors: 6, ..Sent::default() });
        for _ in 0..6 {
            assert_eq!(client.recv(&mut [0; 8]).unwrap(), 5);
        }
    }

    #[test]
    fn run_is_no_longer_than_a_datagram() {
        let octets = vec![0; usize::from(crate::dns::reply::UDP_OCTETS_MAX)];
        let to = "127.0.0.1:53".parse().unwrap();
        let batch = batch(&[(&octets[..], to); BATCH_QUERIES_MAX]);
        let group: Vec<usize> = (0..BATCH_QUERIES_MAX).collect();
        assert_eq!(run_len(&batch, &group), RUN_OCTETS_MAX / octets.len());
        assert_eq!(run_len(&batch, &group[60..]), 4);
    }

    #[test]
    fn replies_are_grouped_by_their_local_address() {
        let mut items = [0, 1, 2, 3, 4, 5];
        assert_eq!(move_to_front(&mut items, |item| item % 2 == 1), 3);
        assert_eq!(items[..3], [1, 3, 5]);
        let (front, rest) = items.split_at_mut(3);
        assert_eq!(move_to_front(rest, |_| true), 3);
        assert_eq!(front.len(), 3);
        assert_eq!(move_to_front(&mut [], |_| true), 0);
    }
}
