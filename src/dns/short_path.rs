//! The short path: replies to the most frequent queries, at a fraction of the cost of the general path.
//!
//! This module is optional: without it, [`super::answer()`] gives every query an identical reply on the general path, only
//! slower. A test compares the replies of both paths byte by byte for equal random numbers.
//!
//! It handles queries for A, AAAA or SRV without EDNS options whose name is a service's own or does not exist, in a zone
//! without cuts. It writes such a reply in one pass, because each length is known in advance. For every other query, and
//! whenever there is any doubt, [`try_answer`] returns `None`.

#![forbid(unsafe_code)]

use crate::wire::{Flags, HEADER_OCTETS, Pointer, QUESTION_FIXED_OCTETS, Rcode};
use crate::zone::{
    Directory, FastLookup, Leaf, LeafType, Node, QueryName, RecordType, Zone,
    leaf::{Host, MULTIVALUE_RECORDS_MAX, SetRef, UniformHosts},
    name::NAME_OCTETS_MAX,
    negative,
    short::{self, copy},
};

use super::place::{ReplyPlace, TYPES};
use super::reply::{OPT_OCTETS, PLAIN_UDP_OCTETS_MAX, Reply, UDP_OCTETS_MAX, udp_octets_max};
use super::writer::{POINTED_OCTETS, pointed};

/// Lengths in bytes of A and AAAA records whose owner is a compression pointer.
const A_OCTETS: usize = POINTED_OCTETS + 4;
const AAAA_OCTETS: usize = POINTED_OCTETS + 16;
/// Lengths in bytes of priority, weight and port (RFC 2782), and of an SRV record up to its target.
const SRV_NUMBERS_OCTETS: usize = 6;
const SRV_OCTETS: usize = POINTED_OCTETS + SRV_NUMBERS_OCTETS;

/// The four counts of a header (RFC 1035 §4.1.1), for one question without or with one additional record.
const ONE_QUESTION: u64 = u64::from_le_bytes([0, 1, 0, 0, 0, 0, 0, 0]);
const ONE_QUESTION_AND_ADDITIONAL: u64 = u64::from_le_bytes([0, 1, 0, 0, 0, 0, 0, 1]);
const A_IN: u32 = in_class_in(FastType::A);
const AAAA_IN: u32 = in_class_in(FastType::Aaaa);
const SRV_IN: u32 = in_class_in(FastType::Srv);

const fn in_class_in(rtype: FastType) -> u32 {
    u32::from_le_bytes([0, rtype.leaf_type().record_type().0 as u8, 0, 1])
}

/// The first eight bytes of an OPT record without options (root, type, size, extended code, version, flags), and the mask
/// of the bits that a query must have: any size and either DO bit are accepted.
const OPT: u64 = u64::from_le_bytes([0, 0, RecordType::OPT.0 as u8, 0, 0, 0, 0, 0]);
const OPT_FIXED: u64 = u64::from_le_bytes([0xff, 0xff, 0xff, 0, 0, 0, 0xff, 0]);
const DNSSEC_OK: u32 = 0x80;
const OWN_OPT: u64 = OPT | (UDP_OCTETS_MAX.swap_bytes() as u64) << 24;

/// Flags in a header's first four bytes as one little-endian number (RFC 1035 §4.1.1).
mod flag {
    use super::Flags;

    const fn bits(flags: Flags) -> u32 {
        let [high, low] = flags.0.to_be_bytes();
        u32::from_le_bytes([0, 0, high, low])
    }
    pub(super) const QR: u32 = bits(Flags::QR);
    pub(super) const OPCODE: u32 = bits(Flags::OPCODE);
    pub(super) const AA: u32 = bits(Flags::AA);
    /// Flags and response code that a reply does not copy from its query: all but RD and CD.
    pub(super) const NOT_REPEATED: u32 = bits(Flags(!Flags::RD.with(Flags::CD).0));
}

/// The types of a leaf's records that this module can write, by their indexes in [`TYPES`].
#[derive(Clone, Copy)]
#[repr(u8)]
enum FastType {
    A = 0,
    Aaaa = 1,
    Srv = 2,
}

const _: () = {
    assert!(TYPES[FastType::A as usize].0.0 == RecordType::A.0);
    assert!(TYPES[FastType::Aaaa as usize].0.0 == RecordType::AAAA.0);
    assert!(TYPES[FastType::Srv as usize].0.0 == RecordType::SRV.0);
};

impl FastType {
    const fn leaf_type(self) -> LeafType {
        match self {
            FastType::A => LeafType::A,
            FastType::Aaaa => LeafType::Aaaa,
            FastType::Srv => LeafType::Srv,
        }
    }
}

/// A query that this module can answer, as [`read`] found it: the first four bytes of the reply's header, with the response
/// code still 0; the last four bytes of the query's header, 0 except for the count of an OPT record, which the reply has
/// too; the type and the end of the question; and the last four bytes of the OPT record, 0 except for the DO bit.
struct CommonQuery {
    head: u32,
    counts: u32,
    rtype: FastType,
    end: usize,
    opt: u32,
}

/// Counts and total length in bytes of the records that were written behind the question.
struct ReplyRecords {
    answers: u8,
    authorities: u8,
    additionals: u8,
    len: u16,
}

const QUESTION_END_MAX: usize = HEADER_OCTETS + NAME_OCTETS_MAX + QUESTION_FIXED_OCTETS;
/// Bytes that are free for records behind the longest question in a message of 512 bytes, which every client accepts. The
/// records of every reply fit, except SRV records.
const SHORT_OCTETS: usize = PLAIN_UDP_OCTETS_MAX as usize - QUESTION_END_MAX - OPT_OCTETS;
const _: () = assert!(A_OCTETS * MULTIVALUE_RECORDS_MAX <= SHORT_OCTETS);
const _: () = assert!(AAAA_OCTETS * MULTIVALUE_RECORDS_MAX <= SHORT_OCTETS);
const _: () = assert!(negative::WRITTEN_OCTETS <= SHORT_OCTETS);

/// Answers a query that this module handles; `None` leaves it to the general path. `name` is scratch space that may be set
/// to the name of the query.
#[inline(always)]
pub(super) fn try_answer(
    directory: &Directory,
    query: &[u8],
    is_udp: bool,
    name: &mut QueryName,
    random: &mut fastrand::Rng,
    out: &mut [u8],
) -> Option<Reply> {
    let parsed = read(query)?;
    let end = parsed.end;
    let short = out.first_chunk_mut::<{ PLAIN_UDP_OCTETS_MAX as usize }>()?;
    copy(&query[..end], &mut short[..end]);
    let name_len = end.checked_sub(HEADER_OCTETS + QUESTION_FIXED_OCTETS)?;
    match directory.fast_lookup(&query[HEADER_OCTETS..], name_len, name)? {
        FastLookup::Service { node } => {
            let leaf = directory.leaf(node)?;
            match leaf.fast_set(parsed.rtype.leaf_type())? {
                Some(set) => match parsed.rtype {
                    FastType::A => {
                        let records = ipv4s(leaf, set, random, &mut short[end..])?;
                        finish(&parsed, node, Rcode::NOERROR, records, query.len(), short)
                    }
                    FastType::Aaaa => {
                        let records = ipv6s(leaf, set, random, &mut short[end..])?;
                        finish(&parsed, node, Rcode::NOERROR, records, query.len(), short)
                    }
                    FastType::Srv => {
                        let out = if is_udp {
                            out.get_mut(..parsed.udp_octets_max(query).min(out.len()))?
                        } else {
                            out
                        };
                        // If the drawn records do not fit, the general path has to draw the same ones: a new draw would
                        // favour instances with short names.
                        let before = random.clone();
                        let Some(records) = services(leaf, set, random, node, end, out.get_mut(end..)?)
                        else {
                            *random = before;
                            return None;
                        };
                        finish(&parsed, node, Rcode::NOERROR, records, query.len(), out)
                    }
                },
                // If health withholds all instances, the reply has an extended error; and a service's name may also be
                // the name of another service's instance. The general path handles both.
                None if leaf.withholds_all() || directory.has_names_below_services() => None,
                None => {
                    let records = no_records(directory.zone_of_node(node)?, end, &mut short[end..])?;
                    finish(&parsed, node, Rcode::NOERROR, records, query.len(), short)
                }
            }
        }
        FastLookup::NoName { closest } => {
            let records = no_records(directory.zone_of_node(closest)?, end, &mut short[end..])?;
            finish(&parsed, closest, Rcode::NXDOMAIN, records, query.len(), short)
        }
    }
}

/// Writes the header and the OPT record. A reply is as long as its query plus its records, because it repeats the question
/// and has an OPT record without options if the query has one.
#[inline(always)]
fn finish(
    parsed: &CommonQuery,
    node: &Node,
    code: Rcode,
    records: ReplyRecords,
    query_len: usize,
    out: &mut [u8],
) -> Option<Reply> {
    let records_len = usize::from(records.len);
    // The OPT record is written even if the query has none: then it lies behind the reply's end.
    let opt = out.get_mut(parsed.end + records_len..)?.first_chunk_mut::<OPT_OCTETS>()?;
    // The two parts overlap in the byte with the DO bit.
    *opt.last_chunk_mut()? = parsed.opt.to_le_bytes();
    *opt.first_chunk_mut()? = (OWN_OPT | u64::from(parsed.opt) << 56).to_le_bytes();
    let first = u64::from(parsed.head) | u64::from(code.0) << 24 | 1 << 40 | u64::from(records.answers) << 56;
    let second = parsed.counts + (u32::from(records.authorities) << 8 | u32::from(records.additionals) << 24);
    let header = out.first_chunk_mut::<HEADER_OCTETS>()?;
    *header.first_chunk_mut()? = first.to_le_bytes();
    *header.last_chunk_mut()? = second.to_le_bytes();
    let len = query_len + records_len;
    let place = ReplyPlace::at(node.lasting_zone(), parsed.rtype as u8, code);
    Some(Reply { len, code, place, is_truncated: false, has_good_cookie: false })
}

/// Reads a query that has nothing but a question and possibly an OPT record without options. The question is assumed to fill
/// the bytes up to the OPT record; the lookup of its name verifies this later.
#[inline(always)]
fn read(query: &[u8]) -> Option<CommonQuery> {
    let (head, counts) = query.first_chunk::<HEADER_OCTETS>()?.split_first_chunk::<4>()?;
    let head = u32::from_le_bytes(*head);
    if head & (flag::QR | flag::OPCODE) != 0 {
        return None;
    }
    let counts = u64::from_le_bytes(*counts.first_chunk()?);
    let (end, opt) = match counts {
        ONE_QUESTION => (query.len(), 0),
        ONE_QUESTION_AND_ADDITIONAL => {
            let (rest, opt) = query.split_last_chunk::<OPT_OCTETS>()?;
            let first = u64::from_le_bytes(*opt.first_chunk()?);
            let last = u32::from_le_bytes(*opt.last_chunk()?);
            if first & OPT_FIXED != OPT || last & !DNSSEC_OK != 0 {
                return None;
            }
            (rest.len(), last)
        }
        _ => return None,
    };
    if end > QUESTION_END_MAX {
        return None;
    }
    let rtype = match u32::from_le_bytes(*query[..end].last_chunk::<QUESTION_FIXED_OCTETS>()?) {
        A_IN => FastType::A,
        AAAA_IN => FastType::Aaaa,
        SRV_IN => FastType::Srv,
        _ => return None,
    };
    let counts = (counts >> u32::BITS) as u32;
    Some(CommonQuery { head: head & !flag::NOT_REPEATED | flag::QR | flag::AA, counts, rtype, end, opt })
}

impl CommonQuery {
    fn udp_octets_max(&self, query: &[u8]) -> usize {
        let offered = query.get(self.end + 3..).and_then(|rest| rest.first_chunk());
        udp_octets_max(offered.map(|offered| u16::from_be_bytes(*offered))).into()
    }
}

/// Draws and writes A records. `room` must have [`SHORT_OCTETS`] bytes.
#[inline(always)]
fn ipv4s(leaf: &Leaf, set: SetRef, random: &mut fastrand::Rng, room: &mut [u8]) -> Option<ReplyRecords> {
    let (addresses, count) = leaf.draw_ipv4s(set, random);
    let fixed = head(Pointer::QUESTION, LeafType::A, set.ttl, 4);
    // Always eight records are written, which fit: a fixed number costs less than a loop that depends on the count.
    let records = room.first_chunk_mut::<{ A_OCTETS * MULTIVALUE_RECORDS_MAX }>()?;
    for (record, address) in records.as_chunks_mut::<A_OCTETS>().0.iter_mut().zip(addresses) {
        *record = a_record(fixed, address);
    }
    Some(ReplyRecords::of_answers(count, A_OCTETS * count, 0))
}

#[inline(never)]
fn ipv6s(leaf: &Leaf, set: SetRef, random: &mut fastrand::Rng, room: &mut [u8]) -> Option<ReplyRecords> {
    let (indexes, count) = leaf.draw_hosts(set, random);
    for (record, index) in room.as_chunks_mut::<AAAA_OCTETS>().0.iter_mut().zip(&indexes[..count]) {
        put_aaaa(Pointer::QUESTION, set.ttl, leaf.host(*index).ipv6()?, record);
    }
    Some(ReplyRecords::of_answers(count, AAAA_OCTETS * count, 0))
}

/// Draws and writes SRV records and their additional records. `None` if they leave no room for an OPT record.
#[inline(always)]
fn services(
    leaf: &Leaf,
    set: SetRef,
    random: &mut fastrand::Rng,
    node: &Node,
    at: usize,
    room: &mut [u8],
) -> Option<ReplyRecords> {
    let (indexes, count) = leaf.draw_hosts(set, random);
    let services = Services { ttl: set.ttl, indexes: &indexes[..count], service: node.name(), at };
    let (len, additionals) = match leaf.uniform_hosts() {
        Some(hosts) => services.write_uniform(&hosts, room)?,
        None => services.write(leaf, room)?,
    };
    Some(ReplyRecords::of_answers(count, len, additionals))
}

impl ReplyRecords {
    #[inline(always)]
    fn of_answers(count: usize, len: usize, additionals: u8) -> ReplyRecords {
        ReplyRecords { answers: count as u8, authorities: 0, additionals, len: len as u16 }
    }
}

/// SRV records that were drawn, with uncompressed targets (RFC 2782), and all addresses of their targets, with an equal TTL.
/// `indexes` are those of the hosts, `service` is the service's name, and `at` the offset of the first record in the reply.
struct Services<'a> {
    ttl: u32,
    indexes: &'a [u32],
    service: &'a [u8],
    at: usize,
}

impl Services<'_> {
    /// Writes the records of hosts whose names have one length, so that all SRV records have one length too. Returns their
    /// length and the number of additional records.
    #[inline(never)]
    fn write_uniform(&self, hosts: &UniformHosts<'_>, room: &mut [u8]) -> Option<(usize, u8)> {
        let Services { ttl, indexes, service, at } = *self;
        let UniformHosts { ipv4s, labels, labels_octets, port } = *hosts;
        let data_len = SRV_NUMBERS_OCTETS + labels_octets + service.len();
        let record_octets = POINTED_OCTETS + data_len;
        let services_octets = record_octets * indexes.len();
        let len = services_octets + A_OCTETS * indexes.len();
        if len + OPT_OCTETS > room.len() || at + len >= Pointer::OFFSETS_END {
            return None;
        }
        let (services, addresses) = room.split_at_mut(services_octets);
        let mut fixed = [0; SRV_OCTETS];
        let head_and_numbers = head(Pointer::QUESTION, LeafType::Srv, ttl, data_len) | PRIORITY_AND_WEIGHT;
        *fixed.first_chunk_mut()? = head_and_numbers.to_le_bytes();
        *fixed.last_chunk_mut()? = port;
        let records = services.chunks_exact_mut(record_octets).zip(indexes);
        let targets = Targets { labels, labels_octets, service };
        // Ids of 32 to 47 bytes (task ids, UUIDs) and services' names of common lengths have a copy with fixed bounds.
        match (labels_octets, service.len()) {
            (33..=48, 16..=32) => {
                for (record, index) in records {
                    let (numbers, target) = record.split_first_chunk_mut()?;
                    *numbers = fixed;
                    targets.write(*index, target, short::copy_ends::<32, 16>, short::copy_ends::<16, 16>)?;
                }
            }
            _ => {
                for (record, index) in records {
                    let (numbers, target) = record.split_first_chunk_mut()?;
                    *numbers = fixed;
                    targets.write(*index, target, copy, copy)?;
                }
            }
        }
        let fixed = head(NO_OWNER, LeafType::A, ttl, 4);
        let mut target = (at + SRV_OCTETS) as u16;
        for (record, index) in addresses.as_chunks_mut::<A_OCTETS>().0.iter_mut().zip(indexes) {
            *record = a_record(with_owner(fixed, target), *ipv4s.get(*index as usize)?);
            target += record_octets as u16;
        }
        Some((len, indexes.len() as u8))
    }

    /// Writes the records of any hosts, with names of different lengths, IPv6 addresses or ports of their own.
    #[inline(never)]
    fn write(&self, leaf: &Leaf, room: &mut [u8]) -> Option<(usize, u8)> {
        let Services { ttl, indexes, service, at } = *self;
        let mut targets = [0u16; MULTIVALUE_RECORDS_MAX];
        let mut len = 0;
        let fixed = head(Pointer::QUESTION, LeafType::Srv, ttl, 0);
        for (index, target) in indexes.iter().zip(&mut targets) {
            let host = leaf.host(*index);
            let labels = host.labels();
            let data_len = SRV_NUMBERS_OCTETS + labels.len() + service.len();
            let head = fixed | u128::from((data_len as u16).swap_bytes()) << 80 | PRIORITY_AND_WEIGHT;
            *target = (at + len + SRV_OCTETS) as u16;
            let record = room.get_mut(len..len + POINTED_OCTETS + data_len)?;
            let (numbers, name) = record.split_first_chunk_mut::<SRV_OCTETS>()?;
            *numbers.first_chunk_mut()? = head.to_le_bytes();
            *numbers.last_chunk_mut()? = host.port()?.to_be_bytes();
            let (first, last) = name.split_at_mut_checked(labels.len())?;
            copy(labels, first);
            copy(service, last);
            len += POINTED_OCTETS + data_len;
        }
        let mut count = 0;
        let fixed = head(NO_OWNER, LeafType::A, ttl, 4);
        for (index, target) in indexes.iter().zip(targets) {
            let host = leaf.host(*index);
            if let Some(octets) = host.ipv4() {
                let record = a_record(with_owner(fixed, target), octets);
                *room.get_mut(len..)?.first_chunk_mut()? = record;
                (len, count) = (len + A_OCTETS, count + 1);
            }
            if let Some(octets) = host.ipv6() {
                put_aaaa(Pointer::to_near(target), ttl, octets, room.get_mut(len..)?.first_chunk_mut()?);
                (len, count) = (len + AAAA_OCTETS, count + 1);
            }
        }
        // The general path leaves out addresses that do not fit one by one, and handles targets beyond a pointer's reach.
        (len + OPT_OCTETS <= room.len() && at + len < Pointer::OFFSETS_END).then_some((len, count))
    }
}

/// Names of the instances of [`UniformHosts`], of which each has `labels_octets` bytes of `labels` before the service's
/// name.
struct Targets<'a> {
    labels: &'a [u8],
    labels_octets: usize,
    service: &'a [u8],
}

impl Targets<'_> {
    #[inline(always)]
    fn write(
        &self,
        index: u32,
        target: &mut [u8],
        copy_labels: impl Fn(&[u8], &mut [u8]),
        copy_service: impl Fn(&[u8], &mut [u8]),
    ) -> Option<()> {
        let (first, last) = target.split_at_mut_checked(self.labels_octets)?;
        let start = self.labels_octets * index as usize;
        copy_labels(self.labels.get(start..start + self.labels_octets)?, first);
        copy_service(self.service, last);
        Some(())
    }
}

/// Priority and weight of an SRV record, which are both 1, at their position behind the bytes of [`head`].
const PRIORITY_AND_WEIGHT: u128 = u128::from_le_bytes([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1]);

fn put_aaaa(owner: Pointer, ttl: u32, address: [u8; 16], record: &mut [u8; AAAA_OCTETS]) {
    let (head, data) = record.split_at_mut(POINTED_OCTETS);
    head.copy_from_slice(&pointed(owner, LeafType::Aaaa.record_type(), ttl, 16));
    data.copy_from_slice(&address);
}

/// Writes the authority section of a negative answer, which is the zone's SOA (RFC 2308 §3).
#[inline(always)]
fn no_records(zone: &Zone, end: usize, room: &mut [u8]) -> Option<ReplyRecords> {
    let apex_at = (end - QUESTION_FIXED_OCTETS - zone.apex.as_wire().len()) as u16;
    let len = zone.soa()?.write_record(Pointer::to_near(apex_at), zone.serial(), room)?;
    Some(ReplyRecords { answers: 0, authorities: 1, additionals: 0, len: len as u16 })
}

/// The bytes of [`pointed`] as a little-endian number, with zeros in the four upper bytes.
#[inline(always)]
fn head(owner: Pointer, rtype: LeafType, ttl: u32, len: usize) -> u128 {
    let mut octets = [0; 16];
    octets[..POINTED_OCTETS].copy_from_slice(&pointed(owner, rtype.record_type(), ttl, len));
    u128::from_le_bytes(octets)
}

/// Pointer to offset 0, for a head whose owner [`with_owner`] sets later.
const NO_OWNER: Pointer = Pointer::to_near(0);

/// Sets the owner of a head with [`NO_OWNER`] to the name at this offset of the message.
#[inline(always)]
fn with_owner(head: u128, offset: u16) -> u128 {
    head | u128::from(offset.swap_bytes())
}

#[inline(always)]
fn a_record(head: u128, address: [u8; 4]) -> [u8; A_OCTETS] {
    (head | u128::from(u32::from_le_bytes(address)) << 96).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};
    use std::sync::Arc;

    use super::super::answer::{Call, Common, Limits, Transport, Verdict, View, Worker, answer_any};
    use super::super::cookie::CookieSecrets;
    use super::super::query::question;
    use super::super::reply::TCP_OCTETS_MAX;
    use super::{HEADER_OCTETS, Rcode, try_answer};
    use crate::zone::{
        DirectoryWriter, HostSource, Leaf, LeafSource, LeafType, Name, Prefetch, QueryName, RecordType,
        Rrset, Selection,
    };

    const LABELS: [&str; 9] =
        ["a", "web", "api-1", "svc", "local", "test", "*", "i-1", "a-long-label-of-a-service"];
    const APEXES: [&str; 6] = ["local", "svc.local", "a.svc.local", "web.a.svc.local", "test", "."];

    fn pick<'a>(random: &mut fastrand::Rng, items: &[&'a str]) -> &'a str {
        items[random.usize(..items.len())]
    }

    fn below(random: &mut fastrand::Rng, above: &Name, labels: usize) -> Name {
        let mut name = above.clone();
        for _ in 0..=random.usize(..labels) {
            name = name.child(pick(random, &LABELS).as_bytes()).unwrap();
        }
        name
    }

    fn rrset(rtype: RecordType, data: &[u8]) -> Rrset {
        Rrset::new(rtype, 60, [data]).unwrap()
    }

    fn leaf(random: &mut fastrand::Rng) -> Leaf {
        let is_alike = random.bool();
        let count = [0, 1, 2, 3, 7, 8, 9, 16, 17, 40][random.usize(..10)];
        let host = |random: &mut fastrand::Rng, at: u32| {
            let label = if is_alike {
                format!("i-{at:04}")
            } else {
                format!("I-{}", "x".repeat(random.usize(..50)) + &at.to_string())
            };
            let mut labels = vec![label.len() as u8];
            labels.extend_from_slice(label.as_bytes());
            let other = |random: &mut fastrand::Rng| !is_alike && random.u8(..4) == 0;
            let (ipv4, ipv6) = (!other(random), other(random));
            HostSource {
                labels,
                own_labels: if other(random) { format!("\x03_{at:02}").into_bytes() } else { Vec::new() },
                ipv4: ipv4.then(|| Ipv4Addr::from_bits(0x0a00_0000 + at)),
                ipv6: ipv6.then(|| Ipv6Addr::from_bits(at.into())),
                port: (!other(random)).then(|| if other(random) { at as u16 } else { 80 }),
                target: (other(random) && other(random)).then(|| "elsewhere.test".parse().unwrap()),
                served: !other(random),
                is_unhealthy: other(random) && other(random),
                rank: if other(random) { random.u8(..3) } else { 0 },
                weight: if other(random) { random.u8(..) } else { 1 },
            }
        };
        let records = LeafType::ALL;
        Leaf::new(LeafSource {
            records: records.into_iter().filter(|_| random.u8(..3) > 0).map(|rtype| (rtype, 30)).collect(),
            ttl_max: (random.u8(..4) == 0).then(|| random.u32(..60)),
            selection: if random.u8(..4) == 0 { Selection::One } else { Selection::Multivalue },
            records_max: if random.u8(..4) == 0 { random.u8(1..65) } else { 8 },
            hosts: (0..count).map(|at| host(random, at)).collect(),
        })
    }

    /// Nested zones with services, and sometimes with records that only the general path handles, such as zone cuts.
    fn directory(random: &mut fastrand::Rng) -> DirectoryWriter {
        let mut directory = DirectoryWriter::default();
        let is_unusual = random.bool();
        let chance = |random: &mut fastrand::Rng| is_unusual && random.u8(..4) == 0;
        for apex in APEXES {
            if random.bool() {
                continue;
            }
            let apex: Name = apex.parse().unwrap();
            let has_cuts = chance(random);
            directory.put_zone(&apex, Arc::new(7.into()), has_cuts);
            let server =
                if random.bool() { apex.child(b"ns").unwrap() } else { "ns.elsewhere".parse().unwrap() };
            let above = if random.bool() { &apex } else { &server };
            let mailbox = below(random, above, 3);
            let numbers = [1u32, 7200, 900, 1_209_600, 5].map(u32::to_be_bytes).concat();
            let soa = [server.as_wire(), mailbox.as_wire(), &numbers].concat();
            directory.set_rrsets(&apex, &apex, vec![rrset(RecordType::SOA, &soa)]);
            for _ in 0..random.usize(..12) {
                let name = below(random, &apex, if is_unusual { 3 } else { 1 });
                directory.set_leaf(&apex, &name, Some(leaf(random)));
                if name != apex && chance(random) {
                    let at_cut = has_cuts && chance(random);
                    let (rtype, data) = if at_cut {
                        (RecordType::NS, server.as_wire())
                    } else {
                        (RecordType::TXT, &b"\x01x"[..])
                    };
                    directory.set_rrsets(&apex, &name, vec![rrset(rtype, data)]);
                }
            }
        }
        directory
    }

    fn query(random: &mut fastrand::Rng) -> Vec<u8> {
        let mut query = random.u16(..).to_be_bytes().to_vec();
        query.extend_from_slice(&[[0, 1, 0x80, 0x02][random.usize(..4)], [0, 0x10, 0x20][random.usize(..3)]]);
        let has_opt = random.bool();
        query.extend_from_slice(&[0, 1, 0, 0, 0, 0, 0, has_opt.into()]);
        let apex: Name = pick(random, &APEXES).parse().unwrap();
        let mut name = below(random, &apex, 3).as_wire().to_vec();
        if random.u8(..8) == 0 {
            name.make_ascii_uppercase();
        }
        query.extend_from_slice(&name);
        let rtype = [1, 1, 28, 33, 33, 16][random.usize(..6)];
        query.extend_from_slice(&[0, rtype, 0, 1]);
        if has_opt {
            let sizes: [u16; 5] = [0, 512, 700, 1232, 4096];
            let [size0, size1] = sizes[random.usize(..5)].to_be_bytes();
            query.extend_from_slice(&[0, 0, 41, size0, size1, 0, 0, random.u8(..2) << 7, 0, 0, 0]);
        }
        if random.u8(..16) == 0 {
            let at = random.usize(..query.len());
            query[at] ^= 1 << random.u8(..8);
        }
        query
    }

    #[test]
    fn short_path_and_general_path_give_identical_replies() {
        let mut random = fastrand::Rng::with_seed(0x5eed);
        let common = Common::new("test", CookieSecrets::new(&[[7; 16]]).unwrap());
        let mut worker = Worker::new(common);
        let mut outs = [0, 0xff].map(|octet| vec![octet; usize::from(TCP_OCTETS_MAX)]);
        let mut answered = [0; 4];
        for _ in 0..3_000 {
            let directory = directory(&mut random);
            let mut list = Prefetch::default();
            let view = View { directory: &directory, generation: 1, is_stale: false };
            for _ in 0..200 {
                let query = query(&mut random);
                if let Some((name_octets, rtype)) = question(&query) {
                    list.add(&query[HEADER_OCTETS..], name_octets, LeafType::of(rtype));
                }
                if list.is_full() {
                    directory.prefetch(&mut list);
                }
                let idle_timeout = std::time::Duration::from_secs(30);
                let transport = if random.bool() { Transport::Udp } else { Transport::Tcp { idle_timeout } };
                let limits = Limits { transport, client: Ipv4Addr::LOCALHOST.into(), now_seconds: 0 };
                let seed = random.u64(..);
                let [one, other] = &mut outs;
                let (mut same, mut name) = (fastrand::Rng::with_seed(seed), QueryName::default());
                let is_udp = transport == Transport::Udp;
                let Some(reply) = try_answer(&directory, &query, is_udp, &mut name, &mut same, one) else {
                    continue;
                };
                worker.seed(seed);
                let verdict = answer_any(Call {
                    view: &view,
                    query: &query,
                    limits: &limits,
                    worker: &mut worker,
                    out: other,
                });
                assert_eq!(Verdict::Reply(reply), verdict, "{query:02x?}");
                assert_eq!(one[..reply.len], other[..reply.len], "{query:02x?}");
                let kind = [one[7] > 0 && one[11] > 1, one[7] > 0, reply.code == Rcode::NXDOMAIN, true];
                answered[kind.into_iter().position(|is| is).unwrap_or_default()] += 1;
            }
        }
        assert!(answered.iter().all(|count| *count > 1_000), "{answered:?}");
    }
}
