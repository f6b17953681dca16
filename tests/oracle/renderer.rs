//! A second renderer of replies, on hickory's messages. Only the resolution of a name is shared with the server, neither
//! the reader of queries nor the writer of replies.
//!
//! If a reply is too long, additional records are left out first, then the last records of the answer with TC set (RFC 2181
//! §9), never the OPT record.

use hickory_proto::op::{Edns, Metadata, OpCode, ResponseCode};
use hickory_proto::rr::rdata::opt::EdnsOption;
use hickory_proto::rr::rdata::{A, AAAA, CNAME, NULL, SRV, TXT};
use hickory_proto::rr::{self, DNSClass, RData, Record};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder, BinEncoder};
use hickory_server::net::xfer::Protocol;
use hickory_server::server::Request;
use hickory_server::zone_handler::MessageResponseBuilder;

use cloudmap_dns::dns::resolve::{Ending, Note, Owner, Scratch, Section, Sink, resolve};
use cloudmap_dns::dns::{Transport, UDP_OCTETS_MAX};
use cloudmap_dns::snapshot::Snapshot;
use cloudmap_dns::zone::leaf::Data;
use cloudmap_dns::zone::{Choice, Directory, Negative, QueryName, RecordSet, RecordType, Zone};

const EXTENDED_ERROR: u16 = 15;
const PLAIN_UDP_OCTETS_MAX: u16 = 512;

const VERSION: &str = concat!("cloudmap-dns ", env!("CARGO_PKG_VERSION"));

/// Extended error codes (RFC 8914 §4).
#[derive(Clone, Copy)]
enum ExtendedError {
    Other = 0,
    Prohibited = 18,
    NotAuthoritative = 20,
}

/// Renders replies from a snapshot. Each query is drawn as a worker with the seed draws it.
pub(crate) struct Renderer {
    pub(crate) server_id: &'static str,
    pub(crate) seed: u64,
}

impl Renderer {
    /// The reply to a query, without a length field. A query that hickory cannot read is a format error.
    pub(crate) fn reply(&self, snapshot: &Snapshot, query: &[u8], transport: Transport) -> Option<Vec<u8>> {
        let client = "198.51.100.7:53000".parse().ok()?;
        let is_udp = transport == Transport::Udp;
        let protocol = if is_udp { Protocol::Udp } else { Protocol::Tcp };
        let Ok(request) = Request::from_bytes(query.to_vec(), client, protocol) else {
            return query.first_chunk().map(|header| unreadable(*header));
        };
        let mut reply = self.reply_to(snapshot, &request);
        reply.fit(&request, if is_udp { udp_limit(&request) } else { u16::MAX });
        reply.encode(&request)
    }

    fn reply_to(&self, snapshot: &Snapshot, request: &Request) -> Reply {
        let mut reply = Reply::to(request);
        if let Some(edns) = &request.edns {
            if edns.version() > 0 {
                reply.refuse(ResponseCode::BADVERS);
                return reply;
            }
            let own = reply.edns.insert(Edns::new());
            own.set_max_payload(UDP_OCTETS_MAX).set_version(0).set_dnssec_ok(edns.flags().dnssec_ok);
        }
        match request.metadata.op_code {
            OpCode::Query => {}
            OpCode::Notify => {
                reply.refuse(ResponseCode::NotAuth);
                return reply;
            }
            OpCode::Update => {
                reply.refuse(ResponseCode::Refused);
                return reply;
            }
            _ => {
                reply.refuse(ResponseCode::NotImp);
                return reply;
            }
        }
        // The question is copied literally: its case is echoed, and owners that are equal to it become pointers to it.
        let question = match (request.queries.queries(), request.as_slice().get(12..).map(QueryName::read)) {
            ([query], Some(Ok(name))) => Some((query, name)),
            _ => None,
        };
        let Some((query, name)) = question else {
            reply.refuse(ResponseCode::FormErr);
            return reply;
        };
        if query.query_class() == DNSClass::CH
            && matches!(query.query_type(), rr::RecordType::TXT | rr::RecordType::ANY)
        {
            match self.identity(name.as_wire()) {
                Some(text) => reply.answer_text(query.original().name(), text),
                None => reply.refuse(ResponseCode::Refused),
            }
            return reply;
        }
        if query.query_class() != DNSClass::IN {
            reply.refuse(ResponseCode::Refused);
            return reply;
        }
        let rtype = RecordType(u16::from(query.query_type()));
        if matches!(rtype, RecordType::AXFR | RecordType::IXFR) {
            reply.refuse(ResponseCode::Refused);
            reply.explain(ExtendedError::Prohibited, "");
            return reply;
        }
        match rtype.0 {
            0 | 41 | 249 | 250 => {
                reply.refuse(ResponseCode::FormErr);
                return reply;
            }
            253 | 254 => {
                reply.refuse(ResponseCode::NotImp);
                return reply;
            }
            _ => {}
        }
        let view = snapshot.view();
        let mut random = fastrand::Rng::with_seed(self.seed);
        let mut sections = Sections {
            directory: &view,
            question: query.original().name().clone(),
            question_wire: name.clone(),
            reply: &mut reply,
        };
        let choice = Choice::Draw(&mut random);
        let ending = resolve(&view, &name, rtype, &mut Scratch::default(), choice, &mut sections);
        reply.end(ending);
        reply
    }

    /// Text that identifies the server (RFC 4892).
    fn identity(&self, name: &[u8]) -> Option<&str> {
        match name {
            b"\x07version\x04bind\0" | b"\x07version\x06server\0" => Some(VERSION),
            b"\x08hostname\x04bind\0" | b"\x02id\x06server\0" => Some(self.server_id),
            _ => None,
        }
    }
}

/// Length limit of UDP replies in octets: the size that the client offers, at least 512 (RFC 6891 §6.2.3) and at most this
/// server's limit.
fn udp_limit(request: &Request) -> u16 {
    match &request.edns {
        Some(edns) => edns.max_payload().clamp(PLAIN_UDP_OCTETS_MAX, UDP_OCTETS_MAX),
        None => PLAIN_UDP_OCTETS_MAX,
    }
}

struct Reply {
    metadata: Metadata,
    answers: Vec<Record>,
    authorities: Vec<Record>,
    additionals: Vec<Record>,
    edns: Option<Edns>,
    is_referral: bool,
}

impl Reply {
    fn to(request: &Request) -> Reply {
        Reply {
            metadata: Metadata::response_from_request(&request.metadata),
            answers: Vec::new(),
            authorities: Vec::new(),
            additionals: Vec::new(),
            edns: None,
            is_referral: false,
        }
    }

    fn refuse(&mut self, code: ResponseCode) {
        self.metadata.response_code = code;
        if code == ResponseCode::BADVERS {
            let mut edns = Edns::new();
            edns.set_max_payload(UDP_OCTETS_MAX).set_version(0).set_rcode_high(code.high());
            self.edns = Some(edns);
        }
    }

    fn explain(&mut self, error: ExtendedError, text: &str) {
        if let Some(edns) = &mut self.edns {
            let octets = [&(error as u16).to_be_bytes()[..], text.as_bytes()].concat();
            edns.options_mut().insert(EdnsOption::Unknown(EXTENDED_ERROR, octets));
        }
    }

    fn end(&mut self, ending: Ending) {
        self.metadata.authoritative = true;
        match ending {
            Ending::NoError { authoritative, note } => {
                self.metadata.authoritative = authoritative;
                match note {
                    Some(Note::Withheld(instances)) => {
                        let noun = if instances == 1 { "instance" } else { "instances" };
                        self.explain(ExtendedError::Other, &format!("{instances} {noun}, 0 healthy"));
                    }
                    Some(Note::UnhealthyInstance) => {
                        self.explain(ExtendedError::Other, "this instance is UNHEALTHY");
                    }
                    None => {}
                }
            }
            Ending::NoName => self.metadata.response_code = ResponseCode::NXDomain,
            Ending::NameTooLong => self.metadata.response_code = ResponseCode::YXDomain,
            Ending::NotAuthoritative => {
                self.metadata.authoritative = false;
                self.refuse(ResponseCode::Refused);
                self.explain(ExtendedError::NotAuthoritative, "");
            }
        }
    }

    fn answer_text(&mut self, owner: &rr::Name, text: &str) {
        let mut record = Record::from_rdata(owner.clone(), 0, RData::TXT(TXT::new(vec![text.into()])));
        record.dns_class = DNSClass::CH;
        self.answers.push(record);
        self.metadata.authoritative = true;
    }

    /// Shortens the reply to its limit: without some additional rrsets, or else with TC and as many other records as fit.
    fn fit(&mut self, request: &Request, limit: u16) {
        if self.octets(request) <= usize::from(limit) {
            return;
        }
        // A referral without all of its glue is truncated (RFC 9471).
        self.metadata.truncation = self.is_referral;
        while let Some(last) = self.additionals.pop() {
            let is_same =
                |other: &Record| other.name == last.name && other.record_type() == last.record_type();
            while self.additionals.last().is_some_and(is_same) {
                self.additionals.pop();
            }
            if self.octets(request) <= usize::from(limit) {
                return;
            }
        }
        self.metadata.truncation = true;
        let (answers, authorities) =
            (std::mem::take(&mut self.answers), std::mem::take(&mut self.authorities));
        let (mut fitting, mut too_many) = (0usize, answers.len() + authorities.len());
        loop {
            let records = fitting.midpoint(too_many);
            let in_answer = records.min(answers.len());
            self.answers = answers[..in_answer].to_vec();
            self.authorities = authorities[..records - in_answer].to_vec();
            if records == fitting {
                return;
            }
            if self.octets(request) <= usize::from(limit) {
                fitting = records;
            } else {
                too_many = records;
            }
        }
    }

    fn octets(&self, request: &Request) -> usize {
        self.encode(request).map_or(usize::MAX, |octets| octets.len())
    }

    fn encode(&self, request: &Request) -> Option<Vec<u8>> {
        let mut octets = Vec::with_capacity(1024);
        let mut encoder = BinEncoder::new(&mut octets);
        encoder.set_max_size(u16::MAX);
        let builder = MessageResponseBuilder::new(&request.queries, self.edns.as_ref());
        let message = builder.build(self.metadata, &self.answers, &self.authorities, &[], &self.additionals);
        message.destructive_emit(&mut encoder).ok()?;
        Some(octets)
    }
}

struct Sections<'a> {
    directory: &'a Directory,
    question: rr::Name,
    question_wire: QueryName,
    reply: &'a mut Reply,
}

impl Sections<'_> {
    /// An owner that is the question's name has the question's case.
    fn owner(&self, name: &[u8]) -> rr::Name {
        if name == self.question_wire.as_wire() { self.question.clone() } else { hickory_name(name) }
    }
}

impl Sink for Sections<'_> {
    fn records(&mut self, section: Section, owner: Owner<'_>, records: &RecordSet<'_>) {
        let name = self.owner(owner.as_wire());
        let part = match section {
            Section::Answer => &mut self.reply.answers,
            Section::Authority => &mut self.reply.authorities,
            Section::Additional => &mut self.reply.additionals,
        };
        self.reply.is_referral |= section == Section::Authority;
        records.each(|ttl, data| {
            part.push(Record::from_rdata(name.clone(), ttl, rdata(owner.as_wire(), data)));
            true
        });
    }

    fn targets(&mut self, owner: Owner<'_>, records: &RecordSet<'_>) {
        records.each_target(|_, labels, ttl, data| {
            let target = [labels, owner.as_wire()].concat();
            let record = Record::from_rdata(hickory_name(&target), ttl, rdata(&target, data));
            self.reply.additionals.push(record);
        });
    }

    fn negative(&mut self, zone: &Zone, owner: Owner<'_>, soa: &Negative) {
        let name = self.owner(owner.as_wire());
        let node = self.directory.node(zone, owner.name, owner.skipped);
        let rrset = node.and_then(|node| node.rrset(RecordType::SOA));
        for own in rrset.iter().flat_map(|rrset| rrset.rdatas()).take(1) {
            let data = Data::Soa { rdata: own, serial: zone.serial() };
            self.reply.authorities.push(Record::from_rdata(name.clone(), soa.ttl, rdata(&[], data)));
        }
    }
}

fn rdata(owner: &[u8], data: Data<'_>) -> RData {
    let stored = |rtype: RecordType, rdata: Vec<u8>| {
        let code = rr::RecordType::from(rtype.0);
        RData::Unknown { code, rdata: NULL::with(rdata) }
    };
    match data {
        Data::A(address) => RData::A(A(address.into())),
        Data::Aaaa(address) => RData::AAAA(AAAA(address.into())),
        Data::Srv { weight, port, labels } => {
            RData::SRV(SRV::new(1, weight, port, hickory_name(&[labels, owner].concat())))
        }
        Data::Cname(name) => RData::CNAME(CNAME(hickory_name(name))),
        Data::Stored { rtype, rdata } => stored(rtype, rdata.to_vec()),
        Data::Soa { rdata, serial } => stored(RecordType::SOA, with_serial(rdata, serial)),
        Data::Identity(text) => RData::TXT(TXT::new(vec![text.into()])),
    }
}

/// The SOA's data with another serial, which is the first of the five numbers at its end.
fn with_serial(rdata: &[u8], serial: u32) -> Vec<u8> {
    let mut rdata = rdata.to_vec();
    if let Some(at) = rdata.len().checked_sub(20) {
        rdata[at..at + 4].copy_from_slice(&serial.to_be_bytes());
    }
    rdata
}

fn hickory_name(wire: &[u8]) -> rr::Name {
    // Names of the server are valid, and hickory has equal limits.
    rr::Name::read(&mut BinDecoder::new(wire)).unwrap_or_default()
}

/// Reply to a message of which only the header can be read: id, opcode and RD of the query, and FORMERR.
fn unreadable([id0, id1, flags, ..]: [u8; 12]) -> Vec<u8> {
    const OPCODE_AND_RD: u8 = 0x79;
    const RESPONSE: u8 = 0x80;
    let mut reply = vec![id0, id1, RESPONSE | flags & OPCODE_AND_RD, 1];
    reply.resize(12, 0);
    reply
}
