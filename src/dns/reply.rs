//! Length limits of replies, and the properties of a reply that transports count and rate limiting needs.

use super::place::ReplyPlace;
use crate::wire::Rcode;

/// Length limit of UDP replies in bytes, which is also the size that the OPT record offers for queries (DNS flag day 2020).
pub const UDP_OCTETS_MAX: u16 = 1232;
/// Length limit in bytes of a UDP reply to a client without EDNS (RFC 1035 §4.2.1).
pub const PLAIN_UDP_OCTETS_MAX: u16 = 512;
/// Length limit of TCP replies in bytes (RFC 1035 §4.2.2).
pub const TCP_OCTETS_MAX: u16 = u16::MAX;
/// Length in bytes of an OPT record without options (RFC 6891 §6.1.2).
pub(super) const OPT_OCTETS: usize = 11;

/// Length limit, in bytes, of a UDP reply to a client that offers this size (RFC 6891 §6.2.3), or has no EDNS.
#[inline]
pub(super) fn udp_octets_max(offered: Option<u16>) -> u16 {
    offered.map_or(PLAIN_UDP_OCTETS_MAX, |offered| offered.clamp(PLAIN_UDP_OCTETS_MAX, UDP_OCTETS_MAX))
}

/// Length in bytes, response code (with the upper bits that only EDNS can carry), place in the counts and TC flag of a reply in
/// the caller's buffer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(missing_docs, reason = "the type's document explains the other fields")]
pub struct Reply {
    pub len: usize,
    pub code: Rcode,
    pub place: ReplyPlace,
    pub is_truncated: bool,
    /// True if the query had a valid cookie, which proves that the client receives replies at its source address.
    pub has_good_cookie: bool,
}
