//! hickory-server's request handler: checks a query, resolves it, and builds the reply.
//!
//! No other file knows hickory-server. Replies are never larger than the client and [`UDP_OCTETS_MAX`] allow: additional
//! records are left out first, then the last records of the answer with TC set (RFC 2181 §9), never the OPT record.

use std::sync::Arc;

use hickory_proto::op::{Edns, Metadata, OpCode, ResponseCode};
use hickory_proto::rr::rdata::NULL;
use hickory_proto::rr::rdata::opt::EdnsOption;
use hickory_proto::rr::{self, DNSClass, RData, Record};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder, BinEncoder};
use hickory_server::net::runtime::Time;
use hickory_server::net::xfer::Protocol;
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::zone_handler::MessageResponseBuilder;

use crate::snapshot::Snapshot;
use crate::zone::{Directory, Negative, QueryName, RecordType, Records, Rrset, Zone, leaf::HostRef};

use super::answer::Common;
use super::metrics::{Counted, DnsMetrics};
use super::reply::{PLAIN_UDP_OCTETS_MAX, UDP_OCTETS_MAX};
use super::resolve::{Ending, Owner, Scratch, Sink, resolve};

/// The OPT option of extended errors (RFC 8914 §2).
const EXTENDED_ERROR: u16 = 15;

/// What version.bind and version.server tell.
const VERSION: &str = concat!("cloudmap-dns ", env!("CARGO_PKG_VERSION"));

/// Extended error codes (RFC 8914 §4).
#[derive(Clone, Copy)]
enum ExtendedError {
    Other = 0,
    Prohibited = 18,
    NotAuthoritative = 20,
}

/// Answers requests from the newest snapshot.
pub struct Handler {
    snapshot: Arc<Snapshot>,
    metrics: Arc<DnsMetrics>,
    common: Arc<Common>,
    seed: Option<u64>,
}

impl Handler {
    /// A handler that answers from `snapshot`.
    pub fn new(snapshot: Arc<Snapshot>, metrics: Arc<DnsMetrics>, common: Arc<Common>) -> Handler {
        Handler { snapshot, metrics, common, seed: None }
    }

    /// The same, drawing for every request what a [`Worker`](super::Worker) with this seed draws.
    pub fn with_seed(self, seed: u64) -> Handler {
        Handler { seed: Some(seed), ..self }
    }

    /// The reply to a request, built without waiting for anything.
    fn reply(&self, request: &Request) -> Reply {
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
        // The question's own octets: its case is echoed, and an owner equal to it is compressed to it.
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
            match self.of_itself(name.as_wire()) {
                Some(text) => reply.tell(query.original().name(), text),
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
        let view = self.snapshot.view();
        let mut section = Sections {
            directory: &view,
            question: query.original().name().clone(),
            question_wire: name.clone(),
            rtype,
            random: self.seed.map_or_else(fastrand::Rng::new, fastrand::Rng::with_seed),
            reply: &mut reply,
        };
        let ending = resolve(&view, &name, rtype, &mut Scratch::default(), &mut section);
        reply.end(ending);
        reply
    }

    /// What a server tells of itself (RFC 4892).
    fn of_itself(&self, name: &[u8]) -> Option<&str> {
        match name {
            b"\x07version\x04bind\0" | b"\x07version\x06server\0" => Some(VERSION),
            b"\x08hostname\x04bind\0" | b"\x02id\x06server\0" => Some(self.common.server_id()),
            _ => None,
        }
    }
}

#[async_trait::async_trait]
impl RequestHandler for Handler {
    async fn handle_request<R: ResponseHandler, T: Time>(
        &self,
        request: &Request,
        mut response_handle: R,
    ) -> ResponseInfo {
        let is_udp = request.protocol() == Protocol::Udp;
        let mut reply = self.reply(request);
        reply.fit(request, if is_udp { udp_limit(request) } else { u16::MAX });
        let metadata = reply.metadata;
        let transport = if is_udp { Counted::Udp } else { Counted::Tcp };
        self.metrics.record(transport, metadata.response_code.into(), metadata.truncation);
        match response_handle.send_response(reply.message(request)).await {
            Ok(info) => info,
            Err(error) => {
                // The client went away, or its queue is full: both are its own affair.
                tracing::debug!(%error, client = %request.src(), "reply not sent");
                ResponseInfo::from(hickory_proto::op::Header { metadata, counts: Default::default() })
            }
        }
    }
}

/// The most that may be sent by UDP, in octets: what the client takes, from 512 (RFC 6891 §6.2.3), at most ours.
fn udp_limit(request: &Request) -> u16 {
    match &request.edns {
        Some(edns) => edns.max_payload().clamp(PLAIN_UDP_OCTETS_MAX, UDP_OCTETS_MAX),
        None => PLAIN_UDP_OCTETS_MAX,
    }
}

/// A reply under construction.
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
            Ending::NoError { authoritative, withheld } => {
                self.metadata.authoritative = authoritative;
                if let Some(instances) = withheld {
                    let noun = if instances == 1 { "instance" } else { "instances" };
                    self.explain(ExtendedError::Other, &format!("{instances} {noun}, 0 healthy"));
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

    /// Answers with a text of class CHAOS.
    fn tell(&mut self, owner: &rr::Name, text: &str) {
        let octets = [&[text.len() as u8], text.as_bytes()].concat();
        let mut record = record(owner, RecordType::TXT, 0, octets);
        record.dns_class = DNSClass::CH;
        self.answers.push(record);
        self.metadata.authoritative = true;
    }

    /// Makes the reply fit: with fewer additional rrsets, or else with TC and as many other records as have room.
    fn fit(&mut self, request: &Request, limit: u16) {
        if self.octets(request) <= usize::from(limit) {
            return;
        }
        // Glue is not optional (RFC 9471): without all of it the referral is truncated.
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
            match self.octets(request) <= usize::from(limit) {
                true => fitting = records,
                false => too_many = records,
            }
        }
    }

    fn octets(&self, request: &Request) -> usize {
        let mut octets = Vec::with_capacity(1024);
        let mut encoder = BinEncoder::new(&mut octets);
        encoder.set_max_size(u16::MAX);
        match self.message(request).destructive_emit(&mut encoder) {
            Ok(_) => octets.len(),
            Err(_) => usize::MAX,
        }
    }

    fn message<'a>(
        &'a self,
        request: &'a Request,
    ) -> hickory_server::zone_handler::MessageResponse<
        'a,
        'a,
        impl Iterator<Item = &'a Record> + Send + 'a,
        impl Iterator<Item = &'a Record> + Send + 'a,
        impl Iterator<Item = &'a Record> + Send + 'a,
        impl Iterator<Item = &'a Record> + Send + 'a,
    > {
        let builder = MessageResponseBuilder::new(&request.queries, self.edns.as_ref());
        builder.build(self.metadata, &self.answers, &self.authorities, &[], &self.additionals)
    }
}

/// Makes hickory's records of what a resolution finds.
struct Sections<'a> {
    directory: &'a Directory,
    question: rr::Name,
    question_wire: QueryName,
    rtype: RecordType,
    random: fastrand::Rng,
    reply: &'a mut Reply,
}

impl Sections<'_> {
    /// The owner's name; in the question's case where it is the question.
    fn owner(&self, name: &[u8]) -> rr::Name {
        match name == self.question_wire.as_wire() {
            true => self.question.clone(),
            false => hickory_name(name),
        }
    }

    /// An rrset's records; which comes first is left to chance. The SOA has the zone's serial.
    fn records(&mut self, zone: Option<&Zone>, owner: &rr::Name, rrset: &Rrset) -> Vec<Record> {
        let mut records: Vec<_> = rrset
            .rdatas()
            .map(|rdata| match (rrset.rtype, zone) {
                (RecordType::SOA, Some(zone)) => with_serial(rdata, zone.serial()),
                _ => rdata.to_vec(),
            })
            .map(|rdata| record(owner, rrset.rtype, rrset.ttl, rdata))
            .collect();
        if records.len() > 1 {
            let first = self.random.usize(..records.len());
            records.rotate_left(first);
        }
        records
    }

    fn addresses(&self, owner: &rr::Name, host: HostRef<'_>, rtype: RecordType, ttl: u32) -> Vec<Record> {
        let wants = |wanted| rtype == wanted || rtype == RecordType::ANY;
        let ipv4 = host.ipv4().filter(|_| wants(RecordType::A));
        let ipv6 = host.ipv6().filter(|_| wants(RecordType::AAAA));
        let a = ipv4.map(|address| record(owner, RecordType::A, ttl, address.to_vec()));
        let aaaa = ipv6.map(|address| record(owner, RecordType::AAAA, ttl, address.to_vec()));
        a.into_iter().chain(aaaa).collect()
    }

    /// The records of one owner, what they point to beside them, and the target when they are an alias.
    fn expand(&mut self, zone: Option<&Zone>, name: &[u8], records: &Records<'_>) -> Expanded {
        let owner = self.owner(name);
        let mut expanded = Expanded::default();
        match records {
            Records::Rrset(rrset) => {
                if rrset.rtype == RecordType::CNAME {
                    expanded.target = rrset.rdatas().next().map(<[u8]>::to_vec);
                }
                expanded.records = self.records(zone, &owner, rrset);
            }
            // One rrset is enough for ANY (RFC 8482 §4.1).
            Records::Any(node) => {
                if let Some(rrset) = node.rrsets().first() {
                    expanded.records = self.records(zone, &owner, rrset);
                }
            }
            Records::Leaf(leaf, rtype) => {
                let drawn = leaf.draw(*rtype, &mut self.random);
                for host in drawn.hosts() {
                    let rdata = match drawn.rtype {
                        RecordType::SRV => {
                            let target = [host.labels(), name].concat();
                            let instance = hickory_name(&target);
                            let ttl = leaf.instance_ttl();
                            expanded.additionals.extend(self.addresses(
                                &instance,
                                host,
                                RecordType::ANY,
                                ttl,
                            ));
                            [&[0, 1, 0, 1][..], &host.port().to_be_bytes(), &target].concat()
                        }
                        // A name has one canonical name (RFC 2181 §10.1).
                        RecordType::CNAME => match host.target() {
                            Some(target) if expanded.target.is_none() => {
                                expanded.target = Some(target.as_wire().to_vec());
                                target.as_wire().to_vec()
                            }
                            _ => continue,
                        },
                        RecordType::A => host.ipv4().map(|octets| octets.to_vec()).unwrap_or_default(),
                        _ => host.ipv6().map(|octets| octets.to_vec()).unwrap_or_default(),
                    };
                    expanded.records.push(record(&owner, drawn.rtype, drawn.ttl, rdata));
                }
            }
            Records::Instance { leaf, rtype, prefix_len } => {
                for host in leaf.named(&name[..*prefix_len]) {
                    expanded.records.extend(self.addresses(&owner, host, *rtype, leaf.instance_ttl()));
                }
                // No record is in a reply twice (RFC 2181 §5): ids may differ in case alone.
                let all = std::mem::take(&mut expanded.records);
                for record in all {
                    if !expanded.records.contains(&record) {
                        expanded.records.push(record);
                    }
                }
            }
        }
        expanded
    }
}

#[derive(Default)]
struct Expanded {
    records: Vec<Record>,
    additionals: Vec<Record>,
    target: Option<Vec<u8>>,
}

impl Sink for Sections<'_> {
    fn answer(
        &mut self,
        zone: &Zone,
        owner: Owner<'_>,
        records: &Records<'_>,
        target: &mut QueryName,
    ) -> bool {
        let expanded = self.expand(Some(zone), owner.as_wire(), records);
        self.reply.answers.extend(expanded.records);
        self.reply.additionals.extend(expanded.additionals);
        let is_alias = expanded.target.is_some_and(|wire| target.set(&wire).is_ok());
        is_alias && !matches!(self.rtype, RecordType::CNAME | RecordType::ANY)
    }

    fn synthesized(&mut self, owner: Owner<'_>, target: &[u8], ttl: u32) {
        let owner = self.owner(owner.as_wire());
        self.reply.answers.push(record(&owner, RecordType::CNAME, ttl, target.to_vec()));
    }

    fn negative(&mut self, zone: &Zone, owner: Owner<'_>, soa: &Negative) {
        let name = self.owner(owner.as_wire());
        let rrset = self.directory.node(zone, owner.name, owner.skipped);
        let rrset = rrset.and_then(|node| node.rrset(RecordType::SOA));
        let rdatas = rrset.iter().flat_map(|rrset| rrset.rdatas()).take(1);
        let rdatas = rdatas.map(|rdata| with_serial(rdata, zone.serial()));
        let records = rdatas.map(|rdata| record(&name, RecordType::SOA, soa.ttl, rdata));
        self.reply.authorities.extend(records);
    }

    fn referral(&mut self, owner: Owner<'_>, ns: &Rrset) {
        let owner = self.owner(owner.as_wire());
        let records = self.records(None, &owner, ns);
        self.reply.authorities.extend(records);
        self.reply.is_referral = true;
    }

    fn additional(&mut self, owner: &QueryName, records: &Records<'_>) {
        let expanded = self.expand(None, owner.as_wire(), records);
        // An alias is no address.
        let addresses = expanded.records.into_iter().filter(|record| record.record_type().is_ip_addr());
        self.reply.additionals.extend(addresses);
    }
}

/// The SOA's data with another serial: it stands before the last four of its five numbers.
fn with_serial(rdata: &[u8], serial: u32) -> Vec<u8> {
    let mut rdata = rdata.to_vec();
    if let Some(at) = rdata.len().checked_sub(20) {
        rdata[at..at + 4].copy_from_slice(&serial.to_be_bytes());
    }
    rdata
}

/// A record of octets that are in wire form already.
fn record(owner: &rr::Name, rtype: RecordType, ttl: u32, rdata: Vec<u8>) -> Record {
    let code = rr::RecordType::from(rtype.0);
    Record::from_rdata(owner.clone(), ttl, RData::Unknown { code, rdata: NULL::with(rdata) })
}

fn hickory_name(wire: &[u8]) -> rr::Name {
    // Names of ours are valid; hickory knows the same limits.
    rr::Name::read(&mut BinDecoder::new(wire)).unwrap_or_default()
}
