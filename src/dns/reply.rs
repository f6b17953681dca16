//! Replies: how long they may be, and what is told of one.

use crate::wire::Rcode;

/// The largest UDP reply, and what the OPT record says that we take, in octets (DNS flag day 2020).
pub const UDP_OCTETS_MAX: u16 = 1232;
/// The largest UDP reply to a client without EDNS, in octets (RFC 1035 §4.2.1).
pub const PLAIN_UDP_OCTETS_MAX: u16 = 512;
/// The largest TCP reply in octets (RFC 1035 §4.2.2).
pub const TCP_OCTETS_MAX: u16 = u16::MAX;
/// Octets of an OPT record without options (RFC 6891 §6.1.2).
pub(super) const OPT_OCTETS: usize = 11;

/// How long a UDP reply may be, in octets, to a client that says this of itself (RFC 6891 §6.2.3), or has no EDNS.
#[inline]
pub(super) fn udp_octets_max(offered: Option<u16>) -> u16 {
    offered.map_or(PLAIN_UDP_OCTETS_MAX, |offered| offered.clamp(PLAIN_UDP_OCTETS_MAX, UDP_OCTETS_MAX))
}

/// A reply in the buffer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Reply {
    /// Its length in octets.
    pub len: usize,
    /// Response code, the extended ones of EDNS included.
    pub code: Rcode,
    /// Whether TC is set.
    pub is_truncated: bool,
    /// Whether the client has shown that it receives what is sent to its address: a cookie of ours that is good.
    pub has_good_cookie: bool,
}
