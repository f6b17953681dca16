//! Outgoing zone transfers.
//!
//! | RFC | what |
//! | --- | --- |
//! | 5936 | AXFR: one version of a zone in as many messages as necessary, its SOA first and last |
//! | 1995 §2, §4 | IXFR: the SOA alone for a client that has the newest version, and over UDP; else the whole zone |
//! | 5936 §2.2.1 | NOTAUTH for a zone that this server does not have |
//! | 8914 | Prohibited for a client that is not allowed to transfer zones |
//!
//! [`ZoneVersion`] explains how all records of a transfer come from one version. A thread of the runtime's blocking pool
//! walks the version, and waits while two messages are unsent. So a transfer holds the memory of its version (two words for
//! each service) and 48 KiB, however large the zone is. A walk visits all names of all zones, which makes transfers of many
//! zones that change at once expensive.
//!
//! Used by connections of [`super::tcp`] and by the workers of [`super::udp`], for queries that
//! [`answer()`](super::answer::answer) recognises as transfers. `answer` refuses AXFR over UDP.

mod message;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;

use crate::snapshot::{Snapshot, ZoneVersion};
use crate::wire::{Class, ExtendedError, Flags, HEADER_OCTETS, Header, Opcode, Rcode};
use crate::zone::records::live_soa;
use crate::zone::serial::is_later;
use crate::zone::walk::Sink;
use crate::zone::{Name, QueryName, RecordType, Rrset};

use super::place::ReplyPlace;
use super::query;
use super::reply::{Reply, udp_octets_max};
use message::{Head, Message};

const TRANSFERS_MAX: usize = 16;
/// Time for which a transfer waits for another one to end before it is refused, in milliseconds.
const PERMIT_TIMEOUT_MS: u64 = 10_000;
const PARTS_WAITING_MAX: usize = 2;

/// Answers queries for AXFR and IXFR.
pub struct Transfers {
    snapshot: Arc<Snapshot>,
    allowed: Vec<IpNet>,
    permits: Arc<Semaphore>,
}

/// A well-formed query for a zone transfer.
#[derive(Debug, Eq, PartialEq)]
pub struct Request {
    head: Head,
    zone: Name,
    kind: TransferType,
    udp_octets_max: u16,
}

#[derive(Debug, Eq, PartialEq)]
enum TransferType {
    Whole,
    Newer(Option<u32>),
}

/// A reply that consists of one message, without a length field: its bytes, its response code, and its TC flag, which is set
/// if the reply did not fit into a UDP message.
#[expect(missing_docs, reason = "the type's document explains the fields")]
pub struct Response {
    pub octets: Vec<u8>,
    pub code: Rcode,
    pub is_truncated: bool,
}

/// Reply to a query for a transfer: one message, which is an error or the SOA alone, or the messages of a whole zone. If
/// the channel closes before a part that is the last one, the transfer has failed.
#[expect(missing_docs, reason = "the type's document explains the variants")]
pub enum Outgoing {
    Message(Response),
    Zone(mpsc::Receiver<Part>),
}

impl Outgoing {
    /// Response code of all messages of the reply.
    pub fn code(&self) -> Rcode {
        match self {
            Outgoing::Message(response) => response.code,
            Outgoing::Zone(_) => Rcode::NOERROR,
        }
    }
}

/// One message of a transfer, preceded by its length field. `is_last` is true for the last message of the zone.
#[expect(missing_docs, reason = "the type's document explains the fields")]
pub struct Part {
    pub octets: Vec<u8>,
    pub is_last: bool,
}

impl Request {
    /// Reads a query. `None` for a query that is not for a transfer, or is malformed.
    pub fn read(octets: &[u8]) -> Option<Request> {
        let header = Header::read(octets)?;
        let mut name = QueryName::default();
        let query = query::read(octets, &header, &mut name).ok()?;
        let (question, edns) = (query.question?, query.edns);
        let kind = match question.rtype {
            RecordType::AXFR => TransferType::Whole,
            RecordType::IXFR => TransferType::Newer(query::authority_serial(octets, &header, question)),
            _ => return None,
        };
        let head = Head {
            id: header.id,
            recursion_desired: header.flags.has(Flags::RD),
            question: octets.get(HEADER_OCTETS..question.end)?.into(),
            opt: edns.map(|edns| edns.is_dnssec_ok),
        };
        let zone = Name::from_wire(name.as_wire()).ok()?;
        let is_query = !header.flags.has(Flags::QR)
            && header.flags.opcode() == Opcode::QUERY
            && question.class == Class::IN
            && edns.is_none_or(|edns| edns.version == 0);
        let udp_octets_max = udp_octets_max(edns.map(|edns| edns.udp_octets_max));
        is_query.then_some(Request { head, zone, kind, udp_octets_max })
    }

    fn error(&self, code: Rcode, extended: Option<(ExtendedError, &'static str)>) -> Response {
        Response { octets: Message::error(&self.head, code, extended), code, is_truncated: false }
    }
}

impl Transfers {
    /// Permits clients in these networks to transfer the zones of the snapshot.
    pub fn new(snapshot: Arc<Snapshot>, allowed: Vec<IpNet>) -> Transfers {
        Transfers { snapshot, allowed, permits: Arc::new(Semaphore::new(TRANSFERS_MAX)) }
    }

    /// Starts to answer a query. Waits while 16 others are in progress, and refuses this one after 10
    /// seconds.
    pub async fn begin(&self, request: Request, client: SocketAddr) -> Outgoing {
        if !self.is_allowed(client) {
            tracing::info!(zone = %request.zone, %client, "transfer refused: not in --transfer-allow");
            return Outgoing::Message(request.error(Rcode::REFUSED, Some((ExtendedError::PROHIBITED, ""))));
        }
        if let Some(response) = self.short_answer(&request, false) {
            return Outgoing::Message(response);
        }
        let permit =
            timeout(Duration::from_millis(PERMIT_TIMEOUT_MS), self.permits.clone().acquire_owned()).await;
        let Ok(Ok(permit)) = permit else {
            tracing::warn!(zone = %request.zone, %client, "transfer refused: too many are in progress");
            return Outgoing::Message(
                request.error(Rcode::REFUSED, Some((ExtendedError::OTHER, "too many transfers"))),
            );
        };
        let (sender, parts) = mpsc::channel(PARTS_WAITING_MAX);
        let snapshot = self.snapshot.clone();
        tokio::task::spawn_blocking(move || {
            // If the zone was removed since, the channel closes without a last part, so that the transfer fails.
            if let Some(version) = snapshot.zone_version(&request.zone) {
                send(&version, &request.head, client, sender);
            }
            drop(permit);
        });
        Outgoing::Zone(parts)
    }

    /// Answers an IXFR query over UDP with the newest SOA, whatever version the client has. A client with an older version
    /// then retries over TCP (RFC 1995 §2). Refusals are not logged, since the client's address may be forged.
    ///
    /// The reply is written into `out`. `None` if the query is not for a transfer, or if the reply does not fit.
    pub fn over_udp(&self, query: &[u8], client: SocketAddr, out: &mut [u8]) -> Option<Reply> {
        let response = self.udp_response(&Request::read(query)?, client);
        let len = response.octets.len();
        out.get_mut(..len)?.copy_from_slice(&response.octets);
        let Response { code, is_truncated, .. } = response;
        let place = ReplyPlace::of(None, RecordType::IXFR, code);
        Some(Reply { len, code, place, is_truncated, has_good_cookie: false })
    }

    fn udp_response(&self, request: &Request, client: SocketAddr) -> Response {
        let answer = if self.is_allowed(client) { self.short_answer(request, true) } else { None };
        let response =
            answer.unwrap_or_else(|| request.error(Rcode::REFUSED, Some((ExtendedError::PROHIBITED, ""))));
        if response.octets.len() <= request.udp_octets_max.into() {
            return response;
        }
        Response { octets: Message::truncated(&request.head), is_truncated: true, ..response }
    }

    fn is_allowed(&self, client: SocketAddr) -> bool {
        let address = client.ip().to_canonical();
        self.allowed.iter().any(|network| network.contains(&address))
    }

    /// The reply if it is a single message: an error, or the newest SOA. `None` if the whole zone has to be sent.
    fn short_answer(&self, request: &Request, is_udp: bool) -> Option<Response> {
        let directory = self.snapshot.view();
        let Some(zone) = directory.zone(&request.zone) else {
            return Some(request.error(Rcode::NOTAUTH, Some((ExtendedError::NOT_AUTHORITATIVE, ""))));
        };
        let client_serial = match request.kind {
            TransferType::Whole => return None,
            TransferType::Newer(None) => {
                let extended = Some((ExtendedError::OTHER, "IXFR without a SOA"));
                return Some(request.error(Rcode::FORMERR, extended));
            }
            TransferType::Newer(Some(serial)) => serial,
        };
        let soa = live_soa(&directory, zone)?;
        let serial = soa.rdatas().next().and_then(serial_of)?;
        if is_later(serial, client_serial) && !is_udp {
            return None;
        }
        let mut message = Message::first(&request.head);
        push(&mut message, &zone.apex, &soa);
        let octets = message.end(request.head.opt, None).split_off(2);
        Some(Response { octets, code: Rcode::NOERROR, is_truncated: false })
    }
}

/// Serial in the data of a SOA record, which is the first of the five numbers at its end (RFC 1035 §3.3.13).
fn serial_of(rdata: &[u8]) -> Option<u32> {
    let numbers = rdata.get(rdata.len().checked_sub(20)?..)?;
    numbers.first_chunk::<4>().map(|serial| u32::from_be_bytes(*serial))
}

/// Sends a version of a zone, message by message. Blocks while the client does not receive them.
fn send(version: &ZoneVersion, head: &Head, client: SocketAddr, parts: mpsc::Sender<Part>) {
    let Some(soa) = version.soa() else { return };
    let mut zone =
        ZoneSender { version, head, parts, message: Message::first(head), is_first: true, records: 0 };
    let sent = (|| {
        zone.put(version.apex(), &soa)?;
        version.walk(&mut zone)?;
        zone.put(version.apex(), &soa)
    })();
    let records = zone.records;
    let sent = sent.and_then(|()| zone.flush(true));
    let (zone, serial) = (version.apex(), version.serial());
    match sent {
        Ok(()) => tracing::info!(%zone, serial, records, %client, "zone transferred"),
        Err(ClientGone) => {
            tracing::info!(%zone, serial, records, %client, "transfer ended early: the client closed the connection")
        }
    }
}

struct ClientGone;

struct ZoneSender<'v> {
    version: &'v ZoneVersion,
    head: &'v Head,
    parts: mpsc::Sender<Part>,
    message: Message,
    is_first: bool,
    records: usize,
}

impl ZoneSender<'_> {
    fn put(&mut self, owner: &Name, rrset: &Rrset) -> Result<(), ClientGone> {
        for rdata in rrset.rdatas() {
            if !self.message.push(owner, rrset.rtype, rrset.ttl, rdata) {
                self.flush(false)?;
                self.message.push(owner, rrset.rtype, rrset.ttl, rdata);
            }
            self.records += 1;
        }
        Ok(())
    }

    fn flush(&mut self, is_last: bool) -> Result<(), ClientGone> {
        let message = std::mem::replace(&mut self.message, Message::next(self.head));
        let opt = self.head.opt.filter(|_| std::mem::take(&mut self.is_first));
        let part = Part { octets: message.end(opt, None), is_last };
        self.parts.blocking_send(part).map_err(|_| ClientGone)
    }
}

impl Sink for ZoneSender<'_> {
    type Error = ClientGone;

    fn rrset(&mut self, owner: &Name, rrset: &Rrset) -> Result<(), ClientGone> {
        // `send` writes the SOA as the first and the last record, and it may be nowhere else (RFC 5936 §2.2).
        if rrset.rtype == RecordType::SOA && owner == self.version.apex() {
            return Ok(());
        }
        self.put(owner, rrset)
    }
}

fn push(message: &mut Message, owner: &Name, rrset: &Rrset) {
    rrset.rdatas().for_each(|rdata| {
        message.push(owner, rrset.rtype, rrset.ttl, rdata);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(rtype: u16, edns: bool) -> Vec<u8> {
        let mut octets = vec![0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, u8::from(edns)];
        octets.extend_from_slice(b"\x03SVC\x05local\0");
        octets.extend_from_slice(&rtype.to_be_bytes());
        octets.extend_from_slice(&[0, 1]);
        if edns {
            octets.extend_from_slice(&[0, 0, 41, 4, 208, 0, 0, 0x80, 0, 0, 0]);
        }
        octets
    }

    #[test]
    fn only_well_formed_queries_for_transfers_are_requests() {
        let request = Request::read(&query(252, true)).unwrap();
        assert_eq!((request.kind, request.head.opt, request.head.id), (TransferType::Whole, Some(true), 7));
        assert_eq!(request.zone, "svc.local".parse().unwrap());
        assert_eq!(*request.head.question, query(252, false)[12..]);
        assert_eq!(Request::read(&query(251, false)).unwrap().kind, TransferType::Newer(None));
        assert_eq!(Request::read(&query(1, true)), None);
        let mut response = query(252, false);
        response[2] |= 0x80;
        assert_eq!(Request::read(&response), None);
        let mut other_version = query(252, true);
        let at = other_version.len() - 5;
        other_version[at] = 1;
        assert_eq!(Request::read(&other_version), None);
        assert_eq!(Request::read(&query(252, false)[..20]), None);
    }

    #[test]
    fn ixfr_query_is_read_with_the_serial_of_its_soa() {
        let mut octets = query(251, false);
        octets[9] = 1;
        octets.extend_from_slice(b"\xc0\x0c\0\x06\0\x01\0\0\0\0\0\x16\0\0\0\0\0\x2a");
        octets.extend_from_slice(&[0; 16]);
        assert_eq!(Request::read(&octets).unwrap().kind, TransferType::Newer(Some(42)));
    }
}
