//! Response rate limiting: a limit on the replies that each client network gets over UDP per second.
//!
//! Source addresses of UDP can be forged, so a server can be made to send its replies to a victim. A limit on the
//! replies to each network makes that useless. It is off by default, and each worker applies it separately, because workers
//! share no state. Every n-th reply over the limit is sent empty and truncated, so that a real client in the victim's
//! network retries over TCP, whose source addresses can't be forged. Clients with a valid cookie (RFC 7873) have proved
//! their address and are not limited. Loopback clients are limited like all others.
//!
//! Each network has a token bucket in a table of fixed size, a set-associative cache. Its hash has a random key, so that an
//! attacker cannot know which networks share a set. If a set is full, a new network replaces the one with the most tokens,
//! which is the least suspicious.
//!
//! Used by the UDP workers.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;

use super::reply::UDP_OCTETS_MAX;
use crate::wire::{Flags, HEADER_OCTETS, Header, QUESTION_FIXED_OCTETS};

/// Prefix length of an IPv4 network, all of whose addresses share one limit.
pub const IPV4_PREFIX_BITS: u32 = 24;
/// Prefix length of an IPv6 network: an allocation of the size that one customer usually gets (RFC 6177).
pub const IPV6_PREFIX_BITS: u32 = 56;
/// Number of networks that a worker tracks at a time, at 16 bytes each.
pub const NETWORKS_MAX: usize = SETS * WAYS;

const WAYS: usize = 4;
const SETS: usize = 1 << 14;
/// Tokens are counted in thousandths, so that a rate per second equals the number of thousandths per millisecond.
const TOKEN: u64 = 1000;

const DNSSEC_OK: u8 = 0x80;
/// An OPT record without options: root, type 41, this server's size, no extended code, version 0, no flags, no data
/// (RFC 6891 §6.1.2).
const OPT: [u8; 11] = [0, 0, 41, (UDP_OCTETS_MAX >> 8) as u8, UDP_OCTETS_MAX as u8, 0, 0, 0, 0, 0, 0];

/// Number of responses per second from one worker to one network, at least 1, which is also the length of a permitted burst.
/// Of the responses over the limit, one in `slip` is sent, empty and truncated; with 0, none is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(missing_docs, reason = "the type's document explains the fields")]
pub struct RateLimit {
    pub responses_per_second: u32,
    pub slip: u32,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(missing_docs, reason = "the other variants say what happens to the reply")]
pub enum Ruling {
    Send,
    Drop,
    /// The reply is sent empty and truncated, as [`slip`] makes it.
    Slip,
}

/// Rate limiter of one worker.
pub struct RateLimiter {
    limit: RateLimit,
    hash: RandomState,
    sets: Box<[Set]>,
}

/// Buckets of the networks whose hashes select this set. They fill one cache line.
#[derive(Clone, Copy, Default)]
#[repr(align(64))]
struct Set([Bucket; WAYS]);

/// Token bucket of one network. The tag has the upper bits of the network's hash, and is 0 in a free bucket. The tokens are
/// counted in thousandths, as of `at_ms`, a time in milliseconds modulo 2^32. `limited` counts the responses over the limit.
#[derive(Clone, Copy, Default)]
struct Bucket {
    tag: u32,
    tokens: u32,
    at_ms: u32,
    limited: u32,
}

impl RateLimiter {
    /// Creates a limiter without any known network; a network begins with a full bucket.
    pub fn new(limit: RateLimit) -> RateLimiter {
        let sets = vec![Set::default(); SETS].into_boxed_slice();
        RateLimiter { limit, hash: RandomState::new(), sets }
    }

    /// Decides on a reply to `client`. `now_ms` is the time in milliseconds modulo 2^32. If the clock goes back, all buckets
    /// become full, because the difference wraps.
    pub fn rule(&mut self, client: IpAddr, now_ms: u32) -> Ruling {
        let RateLimit { responses_per_second, slip } = self.limit;
        let full = bucket_size(responses_per_second);
        let hash = self.hash.hash_one(network(client));
        let tag = (hash >> 32) as u32 | 1;
        let Set(set) = &mut self.sets[hash as usize % SETS];
        for bucket in set.iter_mut() {
            bucket.fill(now_ms, responses_per_second);
        }
        let known = set.iter().position(|bucket| bucket.tag == tag);
        let (most, _) = set.iter().enumerate().fold((0, 0), |(most, tokens), (at, bucket)| {
            let free = if bucket.tag == 0 { u64::MAX } else { u64::from(bucket.tokens) };
            if free > tokens { (at, free) } else { (most, tokens) }
        });
        let bucket = &mut set[known.unwrap_or(most)];
        if known.is_none() {
            *bucket = Bucket { tag, tokens: full, at_ms: now_ms, limited: 0 };
        }
        match bucket.tokens.checked_sub(TOKEN as u32) {
            Some(left) => {
                bucket.tokens = left;
                Ruling::Send
            }
            None => {
                bucket.limited = bucket.limited.wrapping_add(1);
                if slip > 0 && bucket.limited.is_multiple_of(slip) { Ruling::Slip } else { Ruling::Drop }
            }
        }
    }
}

impl Bucket {
    fn fill(&mut self, now_ms: u32, per_second: u32) {
        let gained = u64::from(now_ms.wrapping_sub(self.at_ms)) * u64::from(per_second);
        let full = u64::from(bucket_size(per_second));
        self.tokens = (u64::from(self.tokens) + gained).min(full) as u32;
        self.at_ms = now_ms;
    }
}

/// Makes the reply in `out` an empty truncated one: header and question, with TC, and an OPT record if the query has one
/// behind its question. Returns the new length in bytes.
pub fn slip(query: &[u8], out: &mut [u8], reply_len: usize) -> usize {
    let end = question_end(&out[..reply_len]).unwrap_or(HEADER_OCTETS.min(out.len()));
    let Some(header) = Header::read(out) else { return end };
    let has_question = end > HEADER_OCTETS;
    let mut header = Header {
        id: header.id,
        flags: header.flags.with(Flags::TC),
        questions: has_question.into(),
        ..Header::default()
    };
    let end = match (query.get(end..end + OPT.len()), out.get_mut(end..end + OPT.len())) {
        (Some([0, 0, 41, _, _, _, _, flags, ..]), Some(opt)) if has_question => {
            opt.copy_from_slice(&OPT);
            // A reply copies the DO bit of its query (RFC 3225 §3).
            opt[7] = flags & DNSSEC_OK;
            header.additionals = 1;
            end + OPT.len()
        }
        _ => end,
    };
    out[..HEADER_OCTETS].copy_from_slice(&header.to_wire());
    end
}

/// End of the question in a reply of this server, which is the end of the header if there is none.
fn question_end(reply: &[u8]) -> Option<usize> {
    let mut at = HEADER_OCTETS;
    if reply.get(4..6)? == [0, 0] {
        return Some(at);
    }
    loop {
        match usize::from(*reply.get(at)?) {
            0 => break,
            length => at += 1 + length,
        }
    }
    let end = at + 1 + QUESTION_FIXED_OCTETS;
    (end <= reply.len()).then_some(end)
}

/// Capacity of a bucket in thousandths: the tokens of one second.
fn bucket_size(per_second: u32) -> u32 {
    u32::try_from(u64::from(per_second) * TOKEN).unwrap_or(u32::MAX)
}

fn network(client: IpAddr) -> (bool, u64) {
    match client {
        IpAddr::V4(client) => (false, u64::from(client.to_bits() >> (32 - IPV4_PREFIX_BITS))),
        IpAddr::V6(client) => (true, (client.to_bits() >> (128 - IPV6_PREFIX_BITS)) as u64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: RateLimit = RateLimit { responses_per_second: 10, slip: 2 };

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn rulings(limiter: &mut RateLimiter, client: &str, now_ms: u32, count: usize) -> Vec<Ruling> {
        (0..count).map(|_| limiter.rule(ip(client), now_ms)).collect()
    }

    fn sent(limiter: &mut RateLimiter, client: &str, now_ms: u32, count: usize) -> usize {
        rulings(limiter, client, now_ms, count).into_iter().filter(|ruling| *ruling == Ruling::Send).count()
    }

    #[test]
    fn a_network_gets_its_number_of_responses_in_each_second() {
        let mut limiter = RateLimiter::new(LIMIT);
        assert_eq!(sent(&mut limiter, "192.0.2.1", 5_000, 100), 10);
        assert_eq!(sent(&mut limiter, "192.0.2.1", 5_099, 100), 0);
        assert_eq!(sent(&mut limiter, "192.0.2.1", 5_100, 100), 1);
        assert_eq!(sent(&mut limiter, "192.0.2.1", 5_600, 100), 5);
        assert_eq!(sent(&mut limiter, "192.0.2.1", 60_000, 100), 10);
        let total: usize = (0..10_000).map(|ms| sent(&mut limiter, "192.0.2.1", 60_001 + ms, 3)).sum();
        assert_eq!(total, 100);
    }

    #[test]
    fn every_nth_response_over_the_limit_is_slipped() {
        for (slip, expected) in [
            (0, [Ruling::Drop, Ruling::Drop, Ruling::Drop, Ruling::Drop]),
            (1, [Ruling::Slip, Ruling::Slip, Ruling::Slip, Ruling::Slip]),
            (2, [Ruling::Drop, Ruling::Slip, Ruling::Drop, Ruling::Slip]),
            (3, [Ruling::Drop, Ruling::Drop, Ruling::Slip, Ruling::Drop]),
        ] {
            let mut limiter = RateLimiter::new(RateLimit { slip, ..LIMIT });
            assert_eq!(sent(&mut limiter, "2001:db8::1", 0, 10), 10);
            assert_eq!(rulings(&mut limiter, "2001:db8::1", 0, 4), expected);
        }
    }

    #[test]
    fn networks_are_24_bits_of_ipv4_and_56_of_ipv6() {
        let mut limiter = RateLimiter::new(LIMIT);
        for (one, same, other) in [
            ("192.0.2.1", "192.0.2.255", "192.0.3.1"),
            ("2001:db8:0:aa00::1", "2001:db8:0:aaff:ffff::1", "2001:db8:0:ab00::1"),
        ] {
            assert_eq!(sent(&mut limiter, one, 0, 10), 10);
            assert_eq!(sent(&mut limiter, same, 0, 10), 0);
            assert_eq!(sent(&mut limiter, other, 0, 10), 10);
        }
    }

    #[test]
    fn clock_that_wraps_or_goes_back_does_not_limit_a_network_permanently() {
        let mut limiter = RateLimiter::new(LIMIT);
        assert_eq!(sent(&mut limiter, "192.0.2.1", u32::MAX - 50, 100), 10);
        assert_eq!(sent(&mut limiter, "192.0.2.1", 49, 100), 1);
        assert_eq!(sent(&mut limiter, "192.0.2.1", u32::MAX - 1_000_000, 100), 10);
        assert_eq!(sent(&mut limiter, "192.0.2.1", u32::MAX - 999_900, 100), 1);
    }

    /// A flood of new networks may evict limited ones from the table, but not one that is limited during the flood.
    #[test]
    fn a_flood_of_other_networks_does_not_lift_the_limit_of_a_network() {
        let mut limiter = RateLimiter::new(LIMIT);
        assert_eq!(sent(&mut limiter, "192.0.2.1", 0, 20), 10);
        for network in 0..4 * NETWORKS_MAX as u32 {
            let other = IpAddr::V6((u128::from(network) << 72 | 1 << 127).into());
            assert_eq!(limiter.rule(other, 0), Ruling::Send);
        }
        assert_eq!(sent(&mut limiter, "192.0.2.1", 0, 20), 0);
    }

    fn reply() -> Vec<u8> {
        let mut reply = b"\x12\x34\x85\x00\0\x01\0\x01\0\0\0\x01\x03web\x03svc\0\0\x01\0\x01".to_vec();
        reply.extend(b"\xc0\x0c\0\x01\0\x01\0\0\0\x0a\0\x04\x0a\0\0\x01");
        reply.extend(OPT);
        reply
    }

    fn query(additional: &[u8]) -> Vec<u8> {
        let header = [0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, u8::from(!additional.is_empty())];
        [&header[..], b"\x03web\x03svc\0\0\x01\0\x01", additional].concat()
    }

    #[test]
    fn slipped_reply_is_truncated_and_empty() {
        let opt_with_do = [0, 0, 41, 0x10, 0, 0, 0, 0x80, 0, 0, 0];
        let header = |additionals| [0x12, 0x34, 0x87, 0, 0, 1, 0, 0, 0, 0, 0, additionals];
        for (additional, expected) in [
            (&[][..], [&header(0)[..], &query(&[])[12..]].concat()),
            (
                &opt_with_do,
                [&header(1)[..], &query(&[])[12..], &[0, 0, 41, 4, 0xd0, 0, 0, 0x80, 0, 0, 0]].concat(),
            ),
        ] {
            let mut out = reply();
            let reply_len = out.len();
            out.resize(usize::from(UDP_OCTETS_MAX), 0xff);
            let len = slip(&query(additional), &mut out, reply_len);
            assert_eq!(out[..len], expected);
        }
    }

    #[test]
    fn slipped_reply_without_a_question_is_a_header() {
        let mut out = [0x12, 0x34, 0x80, 1, 0, 0, 0, 0, 0, 0, 0, 1, 9, 9, 9];
        assert_eq!(slip(&query(&[]), &mut out, 15), 12);
        assert_eq!(out[..12], [0x12, 0x34, 0x82, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
    }
}
