//! A batch: queries that were received by one system call, and buffers for their replies.

use std::net::{IpAddr, SocketAddr};

use super::super::reply::UDP_OCTETS_MAX;
use crate::wire::{Flags, HEADER_OCTETS, Header, Rcode};

/// Length limit of a query in bytes, the payload size that RFC 6891 §6.2.5 proposes as a starting point. Longer datagrams
/// get FORMERR.
pub const QUERY_OCTETS_MAX: usize = 4096;
/// Limit on the datagrams that one system call receives.
pub const BATCH_QUERIES_MAX: usize = 64;

/// Distance in bytes from one buffer to the next, an odd number of cache lines. With a power of two, the first lines of all
/// buffers, which are the only ones that most queries and replies touch, would compete for few sets of the CPU's cache.
const QUERY_STRIDE_OCTETS: usize = QUERY_OCTETS_MAX + 64;
const REPLY_STRIDE_OCTETS: usize = (UDP_OCTETS_MAX as usize).next_multiple_of(128) + 64;

/// Local address to which a query was sent and from which its reply has to be sent, known for sockets that are bound to a
/// wildcard address. `interface` is the index that link-local addresses need, and 0 for all others.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LocalAddress {
    pub(super) ip: IpAddr,
    pub(super) interface: u32,
}

/// Queries that were received together, in the order of their arrival, and buffers for their replies. The memory is reused
/// for every batch.
pub struct Batch {
    pub(super) queries: Box<[[u8; QUERY_STRIDE_OCTETS]]>,
    pub(super) replies: Box<[[u8; REPLY_STRIDE_OCTETS]]>,
    pub(super) slots: Box<[Slot]>,
    pub(super) received: usize,
}

/// A received datagram. `reply_len` is 0 if no reply is sent, and `is_cut` is true if the datagram was longer than its
/// buffer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slot {
    pub(super) query_len: usize,
    pub(super) reply_len: usize,
    pub(super) client: SocketAddr,
    pub(super) local: Option<LocalAddress>,
    pub(super) is_cut: bool,
}

/// One query of a batch, and the buffer for its reply.
///
/// The query has at most [`QUERY_OCTETS_MAX`] bytes and need not be a DNS message. The port of the client's address is never
/// 0. `local` is the address to which the query was sent, if the socket has several. The buffer `out` has [`UDP_OCTETS_MAX`]
/// bytes with any content.
#[expect(missing_docs, reason = "the type's document explains the fields")]
pub struct Exchange<'b> {
    pub query: &'b [u8],
    pub client: SocketAddr,
    pub local: Option<LocalAddress>,
    pub out: &'b mut [u8],
    reply_len: &'b mut usize,
}

impl Exchange<'_> {
    /// Marks the first `len` bytes of `out` as the reply. Without this call, no reply is sent.
    pub fn reply(&mut self, len: usize) {
        *self.reply_len = len.min(self.out.len());
    }
}

/// Numbers of datagrams that are not offered to responders: those without a reply, and those that get FORMERR because they
/// are too long.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Refused {
    pub(super) ignored: u64,
    pub(super) too_long: u64,
}

impl Batch {
    pub(super) fn new(capacity: usize) -> Batch {
        let capacity = capacity.min(BATCH_QUERIES_MAX);
        let slot = Slot {
            query_len: 0,
            reply_len: 0,
            client: SocketAddr::from(([0, 0, 0, 0], 0)),
            local: None,
            is_cut: false,
        };
        Batch {
            queries: vec![[0; QUERY_STRIDE_OCTETS]; capacity].into_boxed_slice(),
            replies: vec![[0; REPLY_STRIDE_OCTETS]; capacity].into_boxed_slice(),
            slots: vec![slot; capacity].into_boxed_slice(),
            received: 0,
        }
    }

    /// The bytes of the queries that [`exchanges`](Self::exchanges) returns, in that order.
    pub fn queries(&self) -> impl Iterator<Item = &[u8]> {
        let received = self.slots.iter().zip(&self.queries).take(self.received);
        received.filter(|(slot, _)| slot.is_offered()).map(|(slot, query)| &query[..slot.query_len])
    }

    /// The queries with the buffers for their replies, in the order of their arrival.
    pub fn exchanges(&mut self) -> impl Iterator<Item = Exchange<'_>> {
        let octets = self.queries.iter().zip(&mut self.replies);
        let received = self.slots.iter_mut().zip(octets).take(self.received);
        received.filter(|(slot, _)| slot.is_offered()).map(|(slot, (query, out))| Exchange {
            query: &query[..slot.query_len],
            client: slot.client,
            local: slot.local,
            out: &mut out[..usize::from(UDP_OCTETS_MAX)],
            reply_len: &mut slot.reply_len,
        })
    }

    /// Handles the datagrams that are not offered to responders. The first bytes of a truncated datagram must not be taken
    /// for a query, and without a reply its sender would try again (RFC 8906 §3): so it gets a header with FORMERR.
    pub(super) fn refuse(&mut self) -> Refused {
        let mut refused = Refused::default();
        let octets = self.queries.iter().zip(&mut self.replies);
        for (slot, (query, out)) in self.slots.iter_mut().zip(octets).take(self.received) {
            if slot.is_offered() {
                continue;
            }
            let header = Header::read(query).unwrap_or_default();
            if slot.client.port() == 0 || header.flags.has(Flags::QR) {
                refused.ignored += 1;
                continue;
            }
            refused.too_long += 1;
            let repeated = header.flags.masked(Flags::OPCODE.with(Flags::RD));
            let flags = Flags::QR.with(repeated).with_rcode(Rcode::FORMERR);
            let reply = Header { id: header.id, flags, ..Header::default() };
            out[..HEADER_OCTETS].copy_from_slice(&reply.to_wire());
            slot.reply_len = HEADER_OCTETS;
        }
        refused
    }
}

impl Slot {
    /// A query from port 0 is forged, and a reply to it could not arrive.
    fn is_offered(&self) -> bool {
        self.client.port() != 0 && !self.is_cut
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(client: &str, query: &[u8], is_cut: bool) -> Batch {
        let mut batch = Batch::new(1);
        batch.received = 1;
        batch.queries[0][..query.len()].copy_from_slice(query);
        batch.slots[0].query_len = query.len();
        batch.slots[0].client = client.parse().unwrap();
        batch.slots[0].is_cut = is_cut;
        batch
    }

    #[test]
    fn only_whole_datagrams_from_real_ports_are_offered() {
        assert_eq!(received("192.0.2.1:1", &[0; 40], false).exchanges().count(), 1);
        assert_eq!(received("192.0.2.1:0", &[0; 40], false).exchanges().count(), 0);
        assert_eq!(received("192.0.2.1:1", &[0; 40], true).exchanges().count(), 0);
    }

    #[test]
    fn truncated_datagram_gets_formerr_with_its_id_and_opcode() {
        let mut batch = received("192.0.2.1:1", &[0x12, 0x34, 0x29, 0x10, 0, 1, 0, 2, 0, 3, 0, 4, 5], true);
        assert_eq!(batch.refuse(), Refused { ignored: 0, too_long: 1 });
        assert_eq!(
            batch.replies[0][..batch.slots[0].reply_len],
            [0x12, 0x34, 0xa9, 0x01, 0, 0, 0, 0, 0, 0, 0, 0]
        );
    }

    #[test]
    fn responses_and_datagrams_from_port_0_get_no_reply() {
        for (client, flags) in [("192.0.2.1:1", 0x80), ("192.0.2.1:0", 0)] {
            let mut batch = received(client, &[0x12, 0x34, flags, 0, 0, 1, 0, 0, 0, 0, 0, 0], true);
            assert_eq!(batch.refuse(), Refused { ignored: 1, too_long: 0 });
            assert_eq!(batch.slots[0].reply_len, 0);
        }
    }
}
