//! The shortest way to an answer: what services are nearly always asked for, and nothing else.
//!
//! A query without options for A, AAAA or SRV, of a name that is a service's own, or of none at all, in a zone without
//! cuts: its reply is written in one pass, with each length known before. For everything else, and whenever there is any
//! doubt, [`direct`] says nothing, and [`super::answer()`] goes the whole way. Both give the same octets for the same
//! random numbers.

#![forbid(unsafe_code)]

use crate::zone::{
    Directory, Leaf, LeafGuard, Plain, QueryName, RecordType, Zone,
    leaf::{Drawn, HostRef, MULTIVALUE_RECORDS_MAX},
};

use super::query::HEADER_OCTETS;
use super::reply::{OPT_OCTETS, PLAIN_UDP_OCTETS_MAX, Reply, UDP_OCTETS_MAX};
use super::writer::{POINTED_OCTETS, pointed};

/// Octets of type and class in a question.
const QUESTION_FIXED_OCTETS: usize = 4;
/// Octets of an A record whose owner is a pointer, and of such an AAAA record.
const A_OCTETS: usize = POINTED_OCTETS + 4;
const AAAA_OCTETS: usize = POINTED_OCTETS + 16;
/// Octets of priority, weight and port (RFC 2782), and of such an SRV record before its target.
const SRV_NUMBERS_OCTETS: usize = 6;
const SRV_OCTETS: usize = POINTED_OCTETS + SRV_NUMBERS_OCTETS;
/// Octets of a name that are copied whole, because that costs less than to count them.
const BLOCK_OCTETS: usize = 64;
/// Room for an SRV record of two such blocks.
const ROOM_OCTETS: usize = SRV_OCTETS + 2 * BLOCK_OCTETS;
/// Where the question's name is, as a compression pointer.
const QUESTION_POINTER: u16 = 0xc000 | HEADER_OCTETS as u16;
/// NXDOMAIN (RFC 1035 §4.1.1).
const NXDOMAIN: u32 = 3;

/// The counts of a header (RFC 1035 §4.1.1): one question alone, or with one additional record.
const ONE_QUESTION: u64 = 1 << 48;
const ONE_QUESTION_AND_ADDITIONAL: u64 = ONE_QUESTION | 1;
/// Type and class IN of a question.
const A_IN: u32 = (RecordType::A.0 as u32) << 16 | 1;
const AAAA_IN: u32 = (RecordType::AAAA.0 as u32) << 16 | 1;
const SRV_IN: u32 = (RecordType::SRV.0 as u32) << 16 | 1;

/// Header bits in the first four octets as one number (RFC 1035 §4.1.1).
mod flag {
    pub(super) const QR: u32 = 0x8000;
    pub(super) const OPCODE: u32 = 0x7800;
    pub(super) const AA: u32 = 0x0400;
    /// What a reply does not take over from its query: all flags and the code, but for RD and CD.
    pub(super) const NOT_KEPT: u32 = 0xfeef;
}

/// A query as it usually is.
struct Asked {
    /// The first four octets of the reply, with the code still 0.
    head: u32,
    rtype: RecordType,
    /// Where the question ends.
    end: usize,
    /// Whether there is an OPT record, and whether it has the DO bit.
    opt: Option<u8>,
    /// Where the reply has to end.
    limit: usize,
}

/// Answers a usual query, or says nothing. `name` becomes the name asked for, or any other.
#[inline]
pub(super) fn direct(
    directory: &Directory,
    query: &[u8],
    is_udp: bool,
    name: &mut QueryName,
    random: &mut fastrand::Rng,
    out: &mut [u8],
) -> Option<Reply> {
    let asked = read(query, is_udp, name, out.len())?;
    let body = &mut out[..asked.limit];
    copy(query.get(HEADER_OCTETS..asked.end)?, body.get_mut(HEADER_OCTETS..asked.end)?);
    let (counts, code, at) = match directory.plain(name)? {
        Plain::Service { zone, apex_skipped, cell } => {
            let leaf = cell.load();
            match leaf.plain_set(asked.rtype)? {
                Some(set) => {
                    let drawn = leaf.draw_set(set, random);
                    let (additionals, at) = records(&leaf, &drawn, name, asked.end, body)?;
                    ([drawn.len() as u64, 0, additionals], 0, at)
                }
                None => ([0, 1, 0], 0, no_data(directory, &leaf, zone, apex_skipped, name, asked.end, body)?),
            }
        }
        Plain::NoName { zone, apex_skipped } => {
            ([0, 1, 0], NXDOMAIN, negative(zone, apex_skipped, name, asked.end, body)?)
        }
    };
    let [answers, authorities, mut additionals] = counts;
    let mut len = at;
    if let Some(dnssec_ok) = asked.opt {
        let [size0, size1] = UDP_OCTETS_MAX.to_be_bytes();
        let opt = [0, 0, RecordType::OPT.0 as u8, size0, size1, 0, 0, dnssec_ok, 0, 0, 0];
        *body.get_mut(at..)?.first_chunk_mut::<OPT_OCTETS>()? = opt;
        len += OPT_OCTETS;
        additionals += 1;
    }
    let first = u64::from(asked.head | code) << 32 | 1 << 16 | answers;
    let second = (authorities << 16 | additionals) as u32;
    let header = body.first_chunk_mut::<HEADER_OCTETS>()?;
    *header.first_chunk_mut()? = first.to_be_bytes();
    *header.last_chunk_mut()? = second.to_be_bytes();
    Some(Reply { len, code: code as u16, is_truncated: false, has_good_cookie: false })
}

/// Reads a query that is as usual to its last octet.
#[inline]
fn read(query: &[u8], is_udp: bool, name: &mut QueryName, room: usize) -> Option<Asked> {
    let (head, counts) = query.first_chunk::<HEADER_OCTETS>()?.split_first_chunk::<4>()?;
    let head = u32::from_be_bytes(*head);
    let has_opt = match u64::from_be_bytes(*counts.first_chunk()?) {
        ONE_QUESTION => false,
        ONE_QUESTION_AND_ADDITIONAL => true,
        _ => return None,
    };
    if head & (flag::QR | flag::OPCODE) != 0 {
        return None;
    }
    name.set(&query[HEADER_OCTETS..]).ok()?;
    let at = HEADER_OCTETS + name.as_wire().len();
    let end = at + QUESTION_FIXED_OCTETS;
    let (fixed, rest) = query.get(at..)?.split_first_chunk::<QUESTION_FIXED_OCTETS>()?;
    let fixed = u32::from_be_bytes(*fixed);
    let rtype = match fixed {
        A_IN => RecordType::A,
        AAAA_IN => RecordType::AAAA,
        SRV_IN => RecordType::SRV,
        _ => return None,
    };
    let (size, opt) = if has_opt {
        // Root, type, size; extended code, version, flags; no options.
        let octets: &[u8; OPT_OCTETS] = rest.try_into().ok()?;
        let (first, last) =
            (u64::from_be_bytes(*octets.first_chunk()?), u32::from_be_bytes(*octets.last_chunk()?));
        if first & 0xffff_ff00_0000_ff00 != 0x0000_2900_0000_0000 || last & 0xffff != 0 {
            return None;
        }
        let size = (first >> 24) as u16;
        (size.clamp(PLAIN_UDP_OCTETS_MAX, UDP_OCTETS_MAX), Some(first as u8 & 0x80))
    } else if rest.is_empty() {
        (PLAIN_UDP_OCTETS_MAX, None)
    } else {
        return None;
    };
    let limit = if is_udp { room.min(size.into()) } else { room };
    let head = head & !flag::NOT_KEPT | flag::QR | flag::AA;
    Some(Asked { head, rtype, end, opt, limit })
}

/// Writes the records that were drawn, and tells how many additional ones, and where they end.
#[inline]
fn records(
    leaf: &Leaf,
    drawn: &Drawn<'_>,
    name: &QueryName,
    at: usize,
    out: &mut [u8],
) -> Option<(u64, usize)> {
    let count = drawn.len();
    match drawn.rtype {
        RecordType::A => {
            let end = at + A_OCTETS * count;
            let head = u128::from_be_bytes(padded(pointed(QUESTION_POINTER, RecordType::A, drawn.ttl, 4)));
            let room = out.get_mut(at..end + OPT_OCTETS)?.as_chunks_mut::<A_OCTETS>().0;
            for (record, address) in room.iter_mut().zip(drawn.ipv4s()) {
                *record = (head | u128::from(address)).to_be_bytes();
            }
            Some((0, end))
        }
        RecordType::AAAA => {
            let end = at + AAAA_OCTETS * count;
            let head = pointed(QUESTION_POINTER, RecordType::AAAA, drawn.ttl, 16);
            let room = out.get_mut(at..end + OPT_OCTETS)?.as_chunks_mut::<AAAA_OCTETS>().0;
            for (record, octets) in room.iter_mut().zip(drawn.hosts().filter_map(HostRef::ipv6)) {
                let (owner, data) = record.split_at_mut(POINTED_OCTETS);
                owner.copy_from_slice(&head);
                data.copy_from_slice(&octets);
            }
            Some((0, end))
        }
        _ => services(leaf, drawn, name, at, out),
    }
}

/// SRV records, their targets uncompressed (RFC 2782), and all addresses of all targets.
fn services(
    leaf: &Leaf,
    drawn: &Drawn<'_>,
    name: &QueryName,
    start: usize,
    out: &mut [u8],
) -> Option<(u64, usize)> {
    let service = name.as_wire();
    let mut pointers = [0u16; MULTIVALUE_RECORDS_MAX];
    let mut at = start;
    let priority_and_weight = 0x0001_0001;
    let fixed = u128::from_be_bytes(padded(pointed(QUESTION_POINTER, RecordType::SRV, drawn.ttl, 0)));
    let service_block = name.block::<BLOCK_OCTETS>().filter(|_| service.len() <= BLOCK_OCTETS);
    for (host, pointer) in drawn.hosts().zip(&mut pointers) {
        let labels = host.labels();
        let len = SRV_NUMBERS_OCTETS + labels.len() + service.len();
        let head = (fixed | (len as u128) << 32 | priority_and_weight).to_be_bytes();
        let port = host.port().to_be_bytes();
        *pointer = 0xc000 | (at + SRV_OCTETS) as u16;
        let room = out.get_mut(at..)?;
        match (service_block, room.first_chunk_mut::<ROOM_OCTETS>()) {
            // What is copied too much is written over by what follows.
            (Some(service), Some(room)) if labels.len() <= BLOCK_OCTETS => {
                *room.first_chunk_mut()? = head;
                *room[head.len()..].first_chunk_mut()? = port;
                copy(labels, &mut room[SRV_OCTETS..SRV_OCTETS + labels.len()]);
                *room[SRV_OCTETS + labels.len()..].first_chunk_mut::<BLOCK_OCTETS>()? = *service;
            }
            _ => {
                let mut rest = room.get_mut(..POINTED_OCTETS + len)?;
                for part in [&head[..], &port, labels, service] {
                    let (first, last) = rest.split_at_mut(part.len());
                    first.copy_from_slice(part);
                    rest = last;
                }
            }
        }
        at += POINTED_OCTETS + len;
    }
    let (ttl, mut count) = (leaf.instance_ttl(), 0);
    let head = u128::from_be_bytes(padded(pointed(0, RecordType::A, ttl, 4)));
    for (host, pointer) in drawn.hosts().zip(pointers) {
        if let Some(octets) = host.ipv4() {
            let record = head | u128::from(pointer) << 112 | u128::from(u32::from_be_bytes(octets));
            *out.get_mut(at..)?.first_chunk_mut::<A_OCTETS>()? = record.to_be_bytes();
            (at, count) = (at + A_OCTETS, count + 1);
        }
        if let Some(octets) = host.ipv6() {
            let room = out.get_mut(at..at + AAAA_OCTETS)?;
            let (owner, data) = room.split_at_mut(POINTED_OCTETS);
            owner.copy_from_slice(&pointed(pointer, RecordType::AAAA, ttl, 16));
            data.copy_from_slice(&octets);
            (at, count) = (at + AAAA_OCTETS, count + 1);
        }
    }
    // Addresses that have no room are left out one by one: that is not for here, nor is a target that no pointer reaches.
    (at + OPT_OCTETS <= out.len() && at < 0x4000).then_some((count, at))
}

/// A service without records of the type.
fn no_data(
    directory: &Directory,
    leaf: &LeafGuard,
    zone: &Zone,
    apex_skipped: usize,
    name: &QueryName,
    at: usize,
    out: &mut [u8],
) -> Option<usize> {
    // Where health withholds all instances, the reply says so. A service's name may be that of another's instance.
    if leaf.tally().served == 0 && leaf.tally().instances > 0 || directory.has_names_below_services() {
        return None;
    }
    negative(zone, apex_skipped, name, at, out)
}

/// Writes the SOA of a negative answer, and tells where it ends.
#[inline]
fn negative(zone: &Zone, apex_skipped: usize, name: &QueryName, at: usize, out: &mut [u8]) -> Option<usize> {
    let soa = zone.soa()?;
    let apex_at = (HEADER_OCTETS + name.start(apex_skipped)) as u16;
    let end = at + POINTED_OCTETS + soa.rdata_len();
    let (head, rdata) = out.get_mut(at..end + OPT_OCTETS)?.split_at_mut(POINTED_OCTETS);
    head.copy_from_slice(&pointed(0xc000 | apex_at, RecordType::SOA, soa.ttl, soa.rdata_len()));
    soa.write(apex_at, zone.serial(), rdata)?;
    Some(end)
}

/// The octets of a record before its data, and room for four more.
#[inline]
fn padded(head: [u8; POINTED_OCTETS]) -> [u8; 16] {
    let mut octets = [0; 16];
    octets[..POINTED_OCTETS].copy_from_slice(&head);
    octets
}

/// Copies octets to a place of the same length. Names are short: two copies that overlap cost less than a call.
#[inline(always)]
fn copy(from: &[u8], to: &mut [u8]) {
    match from.len() {
        33..=64 => copy_ends::<32>(from, to),
        16..=32 => copy_ends::<16>(from, to),
        8..16 => copy_ends::<8>(from, to),
        4..8 => copy_ends::<4>(from, to),
        _ => to.copy_from_slice(from),
    }
}

/// Copies the first and the last `N` octets.
#[inline(always)]
fn copy_ends<const N: usize>(from: &[u8], to: &mut [u8]) {
    if let (Some(from), Some(to)) = (from.first_chunk::<N>(), to.first_chunk_mut::<N>()) {
        *to = *from;
    }
    if let (Some(from), Some(to)) = (from.last_chunk::<N>(), to.last_chunk_mut::<N>()) {
        *to = *from;
    }
}
