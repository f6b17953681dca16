//! Parser of queries: header, question, EDNS options and TSIG record.

use crate::wire::{Class, HEADER_OCTETS, Header, Pointer, QUESTION_FIXED_OCTETS, option};
use crate::zone::{Name, QueryName, RecordType, leaf::SOA_NUMBERS_OCTETS, name::NAME_OCTETS_MAX};

/// Type of the record that signs a message with a shared key (RFC 8945 §4.1).
pub(super) const TSIG: RecordType = RecordType(250);

/// The parts of a well-formed query that its answer depends on, except its name.
pub(super) struct Query<'q> {
    /// `None` for a query without a question, which can only request a cookie (RFC 7873 §5.4).
    pub(super) question: Option<Question>,
    pub(super) edns: Option<Edns<'q>>,
    pub(super) signature: Option<Tsig<'q>>,
}

#[derive(Clone, Copy)]
pub(super) struct Question {
    pub(super) rtype: RecordType,
    pub(super) class: Class,
    pub(super) end: usize,
}

/// The OPT record of a query (RFC 6891 §6.1).
#[derive(Clone, Copy, Default)]
pub(super) struct Edns<'q> {
    pub(super) udp_octets_max: u16,
    pub(super) version: u8,
    pub(super) is_dnssec_ok: bool,
    /// Data of the first COOKIE option; further ones are ignored.
    pub(super) cookie: Option<&'q [u8]>,
    pub(super) wants_server_id: bool,
    pub(super) wants_keepalive: bool,
    pub(super) wants_padding: bool,
}

/// Fields of a query's TSIG record that its reply repeats (RFC 8945 §4.2): the key's name is at `key_at` of the message,
/// and `time` is the time of signing with the permitted clock error, in seconds.
#[derive(Clone, Copy)]
pub(super) struct Tsig<'q> {
    message: &'q [u8],
    key_at: usize,
    pub(super) algorithm: &'q [u8],
    pub(super) time: &'q [u8; 8],
    pub(super) original_id: [u8; 2],
}

impl<'q> Tsig<'q> {
    /// Reads the record. `None` if it is malformed or not the last one of the message (RFC 8945 §5.2).
    fn read(message: &'q [u8], key_at: usize, record: &Record<'q>, is_last: bool) -> Option<Tsig<'q>> {
        let (algorithm, rest) = record.rdata.split_at_checked(Name::wire_len(record.rdata).ok()?)?;
        let (time, rest) = rest.split_first_chunk::<8>()?;
        let (mac_len, rest) = rest.split_first_chunk::<2>()?;
        let rest = rest.get(usize::from(u16::from_be_bytes(*mac_len))..)?;
        let (&[id0, id1, _, _, other0, other1], other) = rest.split_first_chunk::<6>()?;
        let is_whole = other.len() == usize::from(u16::from_be_bytes([other0, other1]));
        let is_right = is_last && is_whole && record.class == Class::ANY && record.ttl == [0; 4];
        is_right.then_some(Tsig { message, key_at, algorithm, time, original_id: [id0, id1] })
    }

    /// The labels of the key's name, each with its length byte, the root being the last. This cannot loop: the pointers were
    /// checked to lead back when the record was read.
    pub(super) fn key(&self) -> impl Iterator<Item = &'q [u8]> {
        let (message, mut at) = (self.message, Some(self.key_at));
        std::iter::from_fn(move || {
            let mut start = at?;
            while let Some(pointer) =
                message.get(start..)?.first_chunk().and_then(|octets| Pointer::read(*octets))
            {
                start = pointer.offset();
            }
            let len = usize::from(*message.get(start)?);
            at = (len > 0).then_some(start + 1 + len);
            message.get(start..start + 1 + len)
        })
    }
}

/// A query that violates the message format. The question is known if the error is behind it.
pub(super) struct Malformed {
    pub(super) question: Option<Question>,
}

pub(super) fn read<'q>(
    message: &'q [u8],
    header: &Header,
    name: &mut QueryName,
) -> Result<Query<'q>, Malformed> {
    let (question, mut at) = match header.questions {
        0 => {
            let _ = name.set(&[0]);
            (None, HEADER_OCTETS)
        }
        1 => {
            let question = read_question(message, name).ok_or(Malformed { question: None })?;
            (Some(question), question.end)
        }
        // A query has no more than one question (RFC 9619 §4).
        _ => return Err(Malformed { question: None }),
    };
    let mut query = Query { question, edns: None, signature: None };
    let before = u32::from(header.answers) + u32::from(header.authorities);
    let additional = u32::from(header.additionals);
    if before + additional == 0 {
        return Ok(query);
    }
    let malformed = Malformed { question };
    for number in 0..before + additional {
        let Some(record) = Record::read(message, at) else { return Err(malformed) };
        let start = std::mem::replace(&mut at, record.end);
        if record.rtype == RecordType::OPT {
            let is_misplaced = number < before || !record.is_owner_root || query.edns.is_some();
            let edns = if is_misplaced { None } else { read_edns(&record) };
            query.edns = Some(edns.ok_or(Malformed { question })?);
        } else if record.rtype == TSIG {
            let is_last = number >= before && number + 1 == before + additional;
            let signature = Tsig::read(message, start, &record, is_last);
            query.signature = Some(signature.ok_or(Malformed { question })?);
        } else if !record.is_well_formed(message) {
            return Err(malformed);
        }
    }
    Ok(query)
}

/// Serial of the first SOA in the authority section: the version of the zone that the client of an IXFR query has (RFC 1995
/// §3). `None` for a query without such a record.
pub(super) fn authority_serial(message: &[u8], header: &Header, question: Question) -> Option<u32> {
    let mut at = question.end;
    for number in 0..u32::from(header.answers) + u32::from(header.authorities) {
        let record = Record::read(message, at)?;
        let is_authority = number >= u32::from(header.answers);
        if is_authority && record.rtype == RecordType::SOA && record.is_well_formed(message) {
            let numbers = record.rdata.get(record.rdata.len().checked_sub(SOA_NUMBERS_OCTETS)?..)?;
            return numbers.first_chunk().map(|serial| u32::from_be_bytes(*serial));
        }
        at = record.end;
    }
    None
}

/// Length in bytes of the name behind a query's header, and the type of the question, for prefetch.
#[inline]
pub(super) fn question(query: &[u8]) -> Option<(usize, RecordType)> {
    let behind = query.get(HEADER_OCTETS..)?;
    let name_octets = Name::wire_len(behind).ok()?;
    let rtype = behind[name_octets..].first_chunk()?;
    Some((name_octets, RecordType(u16::from_be_bytes(*rtype))))
}

/// Smallest TTL in the answer and authority sections of a reply: the time in seconds for which a cache may keep the reply.
/// `None` for a reply without records in these sections.
pub(super) fn ttl_min(reply: &[u8]) -> Option<u32> {
    let header = Header::read(reply)?;
    let mut at = HEADER_OCTETS;
    if header.questions > 0 {
        at += Name::wire_len(reply.get(at..)?).ok()? + QUESTION_FIXED_OCTETS;
    }
    let mut smallest = None;
    for _ in 0..u32::from(header.answers) + u32::from(header.authorities) {
        let record = Record::read(reply, at)?;
        let ttl = u32::from_be_bytes(record.ttl);
        smallest = Some(smallest.map_or(ttl, |smallest: u32| smallest.min(ttl)));
        at = record.end;
    }
    smallest
}

fn read_question(message: &[u8], name: &mut QueryName) -> Option<Question> {
    // The name may not be compressed: a pointer could only lead into the header, which is all that precedes the name.
    name.set(message.get(HEADER_OCTETS..)?).ok()?;
    let at = HEADER_OCTETS + name.as_wire().len();
    let [t0, t1, c0, c1] = *message.get(at..)?.first_chunk::<QUESTION_FIXED_OCTETS>()?;
    Some(Question {
        rtype: RecordType(u16::from_be_bytes([t0, t1])),
        class: Class(u16::from_be_bytes([c0, c1])),
        end: at + QUESTION_FIXED_OCTETS,
    })
}

struct Record<'q> {
    is_owner_root: bool,
    rtype: RecordType,
    class: Class,
    ttl: [u8; 4],
    rdata: &'q [u8],
    end: usize,
}

impl<'q> Record<'q> {
    fn read(message: &'q [u8], at: usize) -> Option<Record<'q>> {
        let is_owner_root = message.get(at) == Some(&0);
        let fixed = if is_owner_root { at + 1 } else { name_end(message, at)? };
        let [t0, t1, c0, c1, ttl0, ttl1, ttl2, ttl3, len0, len1] = *message.get(fixed..)?.first_chunk()?;
        let end = fixed + 10 + usize::from(u16::from_be_bytes([len0, len1]));
        Some(Record {
            is_owner_root,
            rtype: RecordType(u16::from_be_bytes([t0, t1])),
            class: Class(u16::from_be_bytes([c0, c1])),
            ttl: [ttl0, ttl1, ttl2, ttl3],
            rdata: message.get(fixed + 10..end)?,
            end,
        })
    }

    /// True if the data has the format of its type. Only types that occur in queries and that all servers know are checked
    /// (RFC 1035 §3.3 and §3.4, RFC 2782, 3596, 6672). Records of other classes than IN pass, because those of updates may
    /// have no data (RFC 2136 §2.4 and §2.5).
    fn is_well_formed(&self, message: &[u8]) -> bool {
        let (before, names, after) = match self.rtype {
            _ if self.class != Class::IN => return true,
            RecordType::A => (4, 0, 0),
            RecordType::AAAA => (16, 0, 0),
            RecordType::NS | RecordType::CNAME | RecordType::PTR | RecordType::DNAME => (0, 1, 0),
            RecordType::MX => (2, 1, 0),
            RecordType::SRV => (6, 1, 0),
            RecordType::SOA => (0, 2, SOA_NUMBERS_OCTETS),
            RecordType::TXT => return is_strings(self.rdata),
            // These types are valid in questions only (RFC 6895 §3.1).
            RecordType(251..=255) => return false,
            _ => return true,
        };
        let start = self.end - self.rdata.len() + before;
        (0..names).try_fold(start, |at, _| name_end(message, at)).is_some_and(|at| at + after == self.end)
    }
}

/// True if the data consists of one or more character strings (RFC 1035 §3.3.14).
fn is_strings(mut octets: &[u8]) -> bool {
    while let [len, rest @ ..] = octets {
        match rest.get(usize::from(*len)..) {
            Some([]) => return true,
            Some(next) => octets = next,
            None => return false,
        }
    }
    false
}

/// End of the name at `start`. `None` if a pointer does not lead back, so that it could form a loop, or if the name is too
/// long (RFC 1035 §4.1.4).
fn name_end(message: &[u8], start: usize) -> Option<usize> {
    let (mut at, mut lowest, mut octets, mut end) = (start, start, 0, None);
    loop {
        match *message.get(at)? {
            0 => break,
            len @ 1..=63 => {
                octets += 1 + len as usize;
                at += 1 + len as usize;
            }
            high @ Pointer::FIRST_OCTET_MIN.. => {
                let target = Pointer::read([high, *message.get(at + 1)?])?.offset();
                end = end.or(Some(at + 2));
                if target >= lowest {
                    return None;
                }
                (at, lowest) = (target, target);
            }
            _ => return None,
        }
        if octets >= NAME_OCTETS_MAX {
            return None;
        }
    }
    end.or(Some(at + 1))
}

/// Reads an OPT record (RFC 6891 §6.1.2). `None` if an option extends beyond the record.
fn read_edns<'q>(record: &Record<'q>) -> Option<Edns<'q>> {
    let [_, version, flags, _] = record.ttl;
    let mut edns =
        Edns { udp_octets_max: record.class.0, version, is_dnssec_ok: flags & 0x80 != 0, ..Edns::default() };
    // The options of other EDNS versions have no known meaning.
    let mut rest = if version == 0 { record.rdata } else { &[] };
    while !rest.is_empty() {
        let [c0, c1, len0, len1] = *rest.first_chunk()?;
        let len = usize::from(u16::from_be_bytes([len0, len1]));
        let data = rest.get(4..4 + len)?;
        match u16::from_be_bytes([c0, c1]) {
            option::COOKIE if edns.cookie.is_none() => edns.cookie = Some(data),
            option::NSID => edns.wants_server_id = true,
            option::TCP_KEEPALIVE => edns.wants_keepalive = true,
            option::PADDING => edns.wants_padding = true,
            _ => {}
        }
        rest = &rest[4 + len..];
    }
    Some(edns)
}
