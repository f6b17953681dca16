//! Queries for the world's names, and the check of their answers.
//!
//! All names of a kind have the same length, so that all replies of a kind have the same size and a query is a template with
//! a few digits filled in. The load generator then needs no memory that would evict the server's from a shared cache.

use std::collections::BTreeSet;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::Record;

use super::world::{self, Size};

/// Kinds of query. `A` and `Srv` are for a service with eight instances; a reply to the latter may have the addresses of
/// all targets in its additional section. `NoName` asks for a name that does not exist, a different one in each query, and
/// `NoData` for AAAA records of a service that has none.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    A,
    Srv,
    NoName,
    NoData,
}

impl Kind {
    pub(crate) const ALL: [Kind; 4] = [Kind::A, Kind::Srv, Kind::NoName, Kind::NoData];

    pub(crate) fn title(self) -> &'static str {
        match self {
            Kind::A => "A x8",
            Kind::Srv => "SRV x8 + additionals",
            Kind::NoName => "NXDOMAIN",
            Kind::NoData => "NODATA",
        }
    }

    fn rtype(self) -> u8 {
        match self {
            Kind::A | Kind::NoName => 1,
            Kind::Srv => 33,
            Kind::NoData => 28,
        }
    }

    /// The response code and the number of answer and authority records that a reply's header has to contain. `None` allows
    /// any number.
    fn header(self) -> (u8, u16, Option<u16>) {
        match self {
            // Some servers add the zone's NS records to an answer.
            Kind::A | Kind::Srv => (0, world::INSTANCES_PER_SERVICE as u16, None),
            Kind::NoName => (3, 0, Some(1)),
            Kind::NoData => (0, 0, Some(1)),
        }
    }
}

pub(crate) struct Workload {
    pub(crate) kind: Kind,
    size: Size,
    template: Vec<u8>,
    random: fastrand::Rng,
}

/// Offsets in a query of the service's four digits, of a missing name's eight letters, and of the namespace's two digits.
const SERVICE_AT: usize = 12 + 1 + 8;
const MISSING_AT: usize = 12 + 1 + 4;
const NAMESPACE_AT: usize = SERVICE_AT + 4 + 1 + 5;
pub(crate) const QUERY_BYTES_MAX: usize = 64;
const TAIL_BYTES: usize = 15;

impl Workload {
    pub(crate) fn new(kind: Kind, size: Size) -> Workload {
        let mut template = super::query(&format!("{}.{}", world::service_name(0), world::namespace_name(0)));
        if kind == Kind::NoName {
            template[12 + 1..][..4].copy_from_slice(b"none");
        }
        let rtype_at = template.len() - TAIL_BYTES + 1;
        template[rtype_at] = kind.rtype();
        assert!(template.len() <= QUERY_BYTES_MAX);
        Workload { kind, size, template, random: fastrand::Rng::with_seed(7) }
    }

    pub(crate) fn query_bytes(&self) -> usize {
        self.template.len()
    }

    pub(crate) fn write(&mut self, id: u16, out: &mut [u8]) {
        let service = self.random.usize(..self.size.services());
        self.write_for(service, id, out);
    }

    pub(crate) fn write_for(&mut self, service: usize, id: u16, out: &mut [u8]) {
        out.copy_from_slice(&self.template);
        out[..2].copy_from_slice(&id.to_be_bytes());
        let (namespace, service) =
            (service / self.size.services_per_namespace, service % self.size.services_per_namespace);
        match self.kind {
            Kind::NoName => {
                let mut rest = self.random.u32(..);
                for digit in &mut out[MISSING_AT..MISSING_AT + 8] {
                    *digit = b'a' + (rest & 15) as u8;
                    rest >>= 4;
                }
            }
            _ => digits(service, &mut out[SERVICE_AT..SERVICE_AT + 4]),
        }
        digits(namespace, &mut out[NAMESPACE_AT..NAMESPACE_AT + 2]);
    }
}

fn digits(mut number: usize, out: &mut [u8]) {
    for digit in out.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

/// True if a reply's header, counts and question are right. This check is cheap enough for every reply.
pub(crate) fn looks_right(kind: Kind, query: &[u8], reply: &[u8]) -> bool {
    let question_end = query.len() - TAIL_BYTES + 4;
    if reply.len() < question_end {
        return false;
    }
    let word = |at: usize| u16::from_be_bytes([reply[at], reply[at + 1]]);
    let (code, answers, authorities) = kind.header();
    // QR and AA are set; the opcode, TC and RD are not.
    reply[2] == 0x84
        && reply[3] & 0x0f == code
        && word(4) == 1
        && word(6) == answers
        && authorities.is_none_or(|count| word(8) == count)
        && reply[12..question_end] == query[12..question_end]
}

/// Size of a right reply, and the number of its records outside of the answer section.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct OtherSections {
    pub(crate) bytes: usize,
    pub(crate) authorities: usize,
    pub(crate) additionals: usize,
    pub(crate) has_opt: bool,
}

/// Decodes a reply and compares its records, as sets, with the world's.
pub(crate) fn check(kind: Kind, query: &[u8], reply: &[u8]) -> Result<OtherSections, String> {
    let message = Message::from_vec(reply).map_err(|error| format!("it does not decode: {error}"))?;
    let code = message.metadata.response_code;
    let right_code = if kind == Kind::NoName { ResponseCode::NXDomain } else { ResponseCode::NoError };
    if code != right_code || !message.metadata.authoritative || message.metadata.truncation {
        return Err(format!("wrong header: {:?}", message.metadata));
    }
    let (answers, targets) = expected(kind, query);
    compare("answers", &message.answers, &answers)?;
    // Additional records may be missing but not wrong. Some servers add the addresses of the zone's name servers.
    let additionals = text(&message.additionals);
    let is_wrong = |record: &&String| !targets.contains(*record) && !record.starts_with("ns.dns.");
    if let Some(wrong) = additionals.iter().find(is_wrong) {
        return Err(format!("additional record {wrong:?}"));
    }
    if answers.is_empty()
        && (message.authorities.len() != 1
            || !text(&message.authorities).iter().all(|record| record.contains(" SOA ")))
    {
        return Err(format!("no SOA record: {:?}", message.authorities));
    }
    Ok(OtherSections {
        bytes: reply.len(),
        authorities: message.authorities.len(),
        additionals: message.additionals.len(),
        has_opt: message.edns.is_some(),
    })
}

fn expected(kind: Kind, query: &[u8]) -> (BTreeSet<String>, BTreeSet<String>) {
    let number = |at: usize, len: usize| {
        std::str::from_utf8(&query[at..at + len])
            .ok()
            .and_then(|digits| digits.parse::<usize>().ok())
            .expect("digits")
    };
    if matches!(kind, Kind::NoName | Kind::NoData) {
        return Default::default();
    }
    let (namespace, service) = (number(NAMESPACE_AT, 2), number(SERVICE_AT, 4));
    let owner = format!("{}.{}.", world::service_name(service), world::namespace_name(namespace));
    let instances =
        (0..world::INSTANCES_PER_SERVICE).map(|at| world::instance_number(namespace, service, at));
    let mut answers = BTreeSet::new();
    let mut targets = BTreeSet::new();
    for instance in instances {
        let target = format!("{}.{owner}", world::instance_id(instance));
        let address = world::address(instance);
        match kind {
            Kind::A => answers.insert(format!("{owner} 60 IN A {address}")),
            _ => answers.insert(format!("{owner} 60 IN SRV 1 1 8080 {target}")),
        };
        targets.insert(format!("{target} 60 IN A {address}"));
    }
    (answers, targets)
}

fn text(records: &[Record]) -> BTreeSet<String> {
    records
        .iter()
        .map(|record| {
            record
                .to_string()
                .to_lowercase()
                .replace(" in a ", " IN A ")
                .replace(" in srv ", " IN SRV ")
                .replace(" in soa ", " IN SOA ")
        })
        .collect()
}

fn compare(what: &str, records: &[Record], right: &BTreeSet<String>) -> Result<(), String> {
    let found = text(records);
    if records.len() != right.len() || found != *right {
        return Err(format!("{what} are {found:?}, not {right:?}"));
    }
    Ok(())
}
