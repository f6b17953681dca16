//! A batch: queries that were received together, with room for their replies.

use std::net::{IpAddr, SocketAddr};

use super::super::reply::UDP_OCTETS_MAX;
use crate::wire::{Flags, HEADER_OCTETS, Header, Rcode};

/// The largest datagram that is read whole, in octets: what a sender may expect of a peer (RFC 6891 §6.2.5). Longer
/// ones are refused.
pub const QUERY_OCTETS_MAX: usize = 4096;
/// Datagrams that are received by one system call.
pub const BATCH_QUERIES_MAX: usize = 64;

/// From one buffer to the next, in octets: an odd number of cache lines. At a power of two the first lines of all
/// buffers, the only ones that most queries and replies touch, would compete for the same few places of the cache.
const QUERY_STRIDE_OCTETS: usize = QUERY_OCTETS_MAX + 64;
const REPLY_STRIDE_OCTETS: usize = (UDP_OCTETS_MAX as usize).next_multiple_of(128) + 64;

/// The address of this host that a query came to, and that its reply has to come from. Known where a socket has more
/// than one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LocalAddress {
    pub(super) ip: IpAddr,
    /// The interface's index, where the address means nothing without it (link-local ones); else 0.
    pub(super) interface: u32,
}

/// Queries that were received together, in the order they came, with room for their replies. It is used again and
/// again without a new allocation.
pub struct Batch {
    pub(super) queries: Box<[[u8; QUERY_STRIDE_OCTETS]]>,
    pub(super) replies: Box<[[u8; REPLY_STRIDE_OCTETS]]>,
    pub(super) slots: Box<[Slot]>,
    /// How many were received.
    pub(super) received: usize,
}

/// What is known of one datagram beside its octets.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slot {
    pub(super) query_len: usize,
    /// 0: nothing is sent.
    pub(super) reply_len: usize,
    pub(super) client: SocketAddr,
    pub(super) local: Option<LocalAddress>,
    /// It was longer than the buffer.
    pub(super) is_cut: bool,
}

/// One query of a batch, and room for its reply.
pub struct Exchange<'b> {
    /// The query as it came: any octets, at most [`QUERY_OCTETS_MAX`].
    pub query: &'b [u8],
    /// Where it came from; never port 0.
    pub client: SocketAddr,
    /// Where it came to, if the socket has several addresses.
    pub local: Option<LocalAddress>,
    /// The place for the reply: [`UDP_OCTETS_MAX`] octets with any content.
    pub out: &'b mut [u8],
    reply_len: &'b mut usize,
}

impl Exchange<'_> {
    /// Has the first `len` octets of `out` sent to the client. Nothing is sent for an exchange without this call.
    pub fn reply(&mut self, len: usize) {
        *self.reply_len = len.min(self.out.len());
    }
}

/// What the transport answers itself, without asking anyone.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Refused {
    /// Those that get no reply.
    pub(super) ignored: u64,
    /// Those that get FORMERR because they are too long.
    pub(super) too_long: u64,
}

impl Batch {
    /// Room for `capacity` queries, at most [`BATCH_QUERIES_MAX`].
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

    /// The octets of the queries alone, in the same order.
    pub fn queries(&self) -> impl Iterator<Item = &[u8]> {
        let received = self.slots.iter().zip(&self.queries).take(self.received);
        received.filter(|(slot, _)| slot.is_offered()).map(|(slot, query)| &query[..slot.query_len])
    }

    /// The queries, each with room for its reply. Responders may go through them several times: the order stays.
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

    /// Answers what no responder is to see. A datagram that was cut off must not be taken for what its first octets
    /// say, and silence would have its sender try again (RFC 8906 §3): it gets FORMERR, which is a header alone.
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
    /// Whether responders see it. A reply to port 0 cannot arrive, and its query was forged.
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
    fn datagram_that_was_cut_off_gets_formerr_with_its_id_and_opcode() {
        let mut batch = received("192.0.2.1:1", &[0x12, 0x34, 0x29, 0x10, 0, 1, 0, 2, 0, 3, 0, 4, 5], true);
        assert_eq!(batch.refuse(), Refused { ignored: 0, too_long: 1 });
        assert_eq!(
            batch.replies[0][..batch.slots[0].reply_len],
            [0x12, 0x34, 0xa9, 0x01, 0, 0, 0, 0, 0, 0, 0, 0]
        );
    }

    #[test]
    fn responses_and_senders_without_a_port_get_nothing() {
        for (client, flags) in [("192.0.2.1:1", 0x80), ("192.0.2.1:0", 0)] {
            let mut batch = received(client, &[0x12, 0x34, flags, 0, 0, 1, 0, 0, 0, 0, 0, 0], true);
            assert_eq!(batch.refuse(), Refused { ignored: 1, too_long: 0 });
            assert_eq!(batch.slots[0].reply_len, 0);
        }
    }
}
