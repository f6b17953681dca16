//! The answer: from the bytes of a query to the bytes of its reply.
//!
//! One function for every transport: no I/O, no allocation, no lock, no panic. It knows no socket and no other DNS
//! library. It writes the smallest correct answer: positive answers have no authority section, every owner that the message
//! already contains is a compression pointer, and records that do not fit are left out as RFC 2181 §9 requires: additional
//! records first and without TC, then with TC the last records of the answer. Clients that ignore TC use the records before
//! those.

#![forbid(unsafe_code)]

use std::fmt::Write;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::wire::{Class, ExtendedError, Flags, HEADER_OCTETS, Header, Opcode, Rcode};
use crate::zone::{Choice, Directory, LeafType, Prefetch, QueryName, RecordType};

use super::cookie::{Checked, CookieSecrets, Cookies};
use super::draft::Draft;
use super::options::{Options, SERVER_ID_OCTETS_MAX};
use super::query::{self, Edns, Malformed, Query, Question, question};
use super::reply::{PLAIN_UDP_OCTETS_MAX, Reply, TCP_OCTETS_MAX, udp_octets_max};
use super::resolve::{Ending, Scratch, resolve_in, responsible};
use super::sections::{Fit, Sections};
use super::short_path;
use super::writer::{CompressionTable, Writer};

/// Data that a worker uses to answer a batch of queries: the directory of all zones, and the number of the newest change,
/// which NSID reports. If the data may be outdated because its source is unavailable, `is_stale` is true, and replies report
/// it (RFC 8914 §4.4 and §4.20).
#[derive(Clone, Copy)]
#[expect(missing_docs, reason = "the type's document explains the fields")]
pub struct View<'v> {
    pub directory: &'v Directory,
    pub generation: u64,
    pub is_stale: bool,
}

/// Transport of a query, which limits the length of its reply and decides which EDNS options have a meaning. Replies over
/// UDP are limited to the size that the client offers, at most 1,232 bytes. A connection of TCP or TLS without a query for
/// `idle_timeout` is closed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(missing_docs, reason = "the type's document explains the other variants")]
pub enum Transport {
    Udp,
    Tcp {
        idle_timeout: Duration,
    },
    Tls {
        idle_timeout: Duration,
    },
    /// An encrypted stream of its own for each query: HTTPS (RFC 8484) and QUIC (RFC 9250).
    Exchange,
}

impl Transport {
    fn idle_timeout(self) -> Option<Duration> {
        match self {
            Transport::Tcp { idle_timeout } | Transport::Tls { idle_timeout } => Some(idle_timeout),
            Transport::Udp | Transport::Exchange => None,
        }
    }

    fn is_encrypted(self) -> bool {
        match self {
            Transport::Tls { .. } | Transport::Exchange => true,
            Transport::Udp | Transport::Tcp { .. } => false,
        }
    }

    fn has_transfers(self) -> bool {
        match self {
            Transport::Tcp { .. } | Transport::Tls { .. } => true,
            Transport::Udp | Transport::Exchange => false,
        }
    }
}

/// Transport, source address and time of a query, which its answer depends on. Server cookies are made for the address and
/// contain the time, in seconds since 1970, modulo 2^32 (RFC 9018 §4).
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "the type's document explains the fields")]
pub struct Limits {
    pub transport: Transport,
    pub client: IpAddr,
    pub now_seconds: u32,
}

impl Limits {
    fn octets_max(&self, edns: Option<&Edns<'_>>) -> usize {
        let octets_max = match self.transport {
            Transport::Udp => udp_octets_max(edns.map(|edns| edns.udp_octets_max)),
            Transport::Tcp { .. } | Transport::Tls { .. } | Transport::Exchange => TCP_OCTETS_MAX,
        };
        octets_max.into()
    }
}

/// Outcome of [`answer()`]: the reply in the buffer has to be sent; no reply may be sent, because the message is not a
/// query; or the query is for the transfer of a zone, and [`super::Transfers`] replies.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(missing_docs, reason = "the type's document explains the variants")]
pub enum Verdict {
    Reply(Reply),
    Drop,
    Transfer,
}

/// Settings and state that all workers of a server share.
pub struct Common {
    server_id: Box<str>,
    secrets: CookieSecrets,
    stale_flag: OnceLock<Arc<AtomicBool>>,
}

impl Common {
    /// NSID (RFC 5001) and `hostname.bind` report `server_id`, of which at most 64 bytes are used.
    pub fn new(server_id: &str, secrets: CookieSecrets) -> Arc<Common> {
        let limit = server_id.len().min(SERVER_ID_OCTETS_MAX);
        let end = (0..=limit).rev().find(|end| server_id.is_char_boundary(*end)).unwrap_or(0);
        Arc::new(Common { server_id: server_id[..end].into(), secrets, stale_flag: OnceLock::new() })
    }

    /// Replies report stale data while `flag` is set. Only the first call has an effect.
    pub fn set_stale_flag(&self, flag: Arc<AtomicBool>) {
        let _ = self.stale_flag.set(flag);
    }

    fn is_stale(&self) -> bool {
        self.stale_flag.get().is_some_and(|flag| flag.load(Ordering::Relaxed))
    }

    /// The server's id as NSID reports it, cut to its longest length.
    pub fn server_id(&self) -> &str {
        &self.server_id
    }
}

/// Random numbers, cookie secrets and buffers that one worker keeps from query to query. Other workers never write to them.
pub struct Worker {
    common: Arc<Common>,
    random: fastrand::Rng,
    cookies: Cookies,
    question: QueryName,
    scratch: Scratch,
    compression: CompressionTable,
    uses_short_path: bool,
}

impl Worker {
    /// Creates a worker with a random number generator of its own, seeded by the system.
    pub fn new(common: Arc<Common>) -> Worker {
        Worker {
            cookies: Cookies::new(&common.secrets),
            common,
            random: fastrand::Rng::new(),
            question: QueryName::default(),
            scratch: Scratch::default(),
            compression: CompressionTable::default(),
            uses_short_path: true,
        }
    }

    /// Makes the worker answer every query on the general path, for tests and benches that compare the two paths.
    pub fn without_short_path(self) -> Worker {
        Worker { uses_short_path: false, ..self }
    }

    /// Value for [`View::is_stale`]: true while the flag of [`Common::set_stale_flag`] is set.
    pub fn is_stale(&self) -> bool {
        self.common.is_stale()
    }

    /// Seeds the random number generator: two workers with one seed draw identical instances.
    pub fn seed(&mut self, seed: u64) {
        self.random.seed(seed);
    }
}

/// Answers one query into `out`, which has to hold [`UDP_OCTETS_MAX`](super::UDP_OCTETS_MAX) bytes for UDP and
/// [`TCP_OCTETS_MAX`] for other transports; a shorter buffer makes replies shorter.
pub fn answer(
    view: &View<'_>,
    query: &[u8],
    limits: &Limits,
    worker: &mut Worker,
    out: &mut [u8],
) -> Verdict {
    // The arguments are moved to memory, so that the short path need not keep them in registers for the general path.
    let call = Call { view, query, limits, worker, out };
    if !call.view.is_stale && call.worker.uses_short_path {
        let Worker { question, random, .. } = &mut *call.worker;
        let is_udp = limits.transport == Transport::Udp;
        if let Some(reply) = short_path::try_answer(view.directory, query, is_udp, question, random, call.out)
        {
            return Verdict::Reply(reply);
        }
    }
    answer_any(call)
}

pub(super) struct Call<'a, 'v> {
    pub(super) view: &'a View<'v>,
    pub(super) query: &'a [u8],
    pub(super) limits: &'a Limits,
    pub(super) worker: &'a mut Worker,
    pub(super) out: &'a mut [u8],
}

/// General path for any query. It is kept out of line, so that the short path does not pay for its stack frame.
#[inline(never)]
pub(super) fn answer_any(call: Call<'_, '_>) -> Verdict {
    let Call { view, query: message, limits, worker, out } = call;
    let Some(header) = Header::read(message) else { return Verdict::Drop };
    if header.flags.has(Flags::QR) || out.len() < usize::from(PLAIN_UDP_OCTETS_MAX) {
        return Verdict::Drop;
    }
    let mut draft = Draft::new(&header);
    let opcode = header.flags.opcode();
    if !matches!(opcode, Opcode::QUERY | Opcode::NOTIFY | Opcode::UPDATE) {
        return Draft::of_unknown_opcode(&header).without_records(Rcode::NOTIMP, &[], out);
    }
    let Query { question, edns, signature } = match query::read(message, &header, &mut worker.question) {
        Ok(query) => query,
        Err(Malformed { question }) => {
            return draft.without_records(Rcode::FORMERR, octets_of(message, question), out);
        }
    };
    let mut options = Options::default();
    if let Some(edns) = &edns {
        draft.code = read_options(edns, view, limits, worker, &mut options);
    }
    draft.rtype = question.map_or(RecordType(0), |question| question.rtype);
    let limit = out.len().min(limits.octets_max(edns.as_ref()));
    let end = limit - edns.map_or(0, |_| options.octets());
    let asked = octets_of(message, question);
    let writer = Writer::new(&mut out[..limit], end, &worker.question, asked, &mut worker.compression);
    if draft.code != Rcode::NOERROR {
        return draft.finish(writer, edns, &options);
    }
    if let Some(signature) = signature {
        return draft.finish_unsigned(writer, edns, &options, &signature);
    }
    let Some(question) = question else {
        // A client may ask for a cookie without a question (RFC 7873 §5.4).
        let is_for_cookie = opcode == Opcode::QUERY && options.cookie.is_some();
        draft.code = if is_for_cookie { Rcode::NOERROR } else { Rcode::FORMERR };
        return draft.finish(writer, edns, &options);
    };
    match kind(opcode, question, limits.transport, &worker.question) {
        Kind::Lookup => {}
        Kind::Transfer => return Verdict::Transfer,
        Kind::Identity => {
            let writer = draft.identity(writer, &worker.question, &worker.common.server_id);
            return draft.finish(writer, edns, &options);
        }
        Kind::Refused(code, error) => {
            draft.code = code;
            draft.explanation = error.map(|error| (error, None));
            return draft.finish(writer, edns, &options);
        }
    }
    let mut sections = Sections::new(writer);
    let choice = Choice::Draw(&mut worker.random);
    let (name, scratch) = (&worker.question, &mut worker.scratch);
    let ending = match responsible(view.directory, name, question.rtype) {
        None => Ending::NotAuthoritative,
        Some(zone) => {
            draft.zone = Some(zone.lasting_number());
            resolve_in(view.directory, zone, name, question.rtype, scratch, choice, &mut sections)
        }
    };
    let Sections { mut writer, fit, .. } = sections;
    if fit == Fit::Cut {
        writer.remove_uncounted();
    }
    draft.end(ending, fit, view.is_stale);
    draft.finish(writer, edns, &options)
}

/// Reads the options of a query and fills in those of the reply. Returns the response code that follows from them.
fn read_options(
    edns: &Edns<'_>,
    view: &View<'_>,
    limits: &Limits,
    worker: &mut Worker,
    options: &mut Options,
) -> Rcode {
    let mut code = Rcode::NOERROR;
    if edns.version > 0 {
        code = Rcode::BADVERS;
    } else if let Some(cookie) = edns.cookie {
        match worker.cookies.check(cookie, limits.client, limits.now_seconds) {
            Checked::Malformed => code = Rcode::FORMERR,
            Checked::New(cookie) => options.cookie = Some(cookie),
            Checked::Good(cookie) => {
                options.cookie = Some(cookie);
                options.is_cookie_good = true;
            }
        }
    }
    if edns.wants_server_id {
        let _ = write!(options.server_id, "{} {}", worker.common.server_id, view.generation);
    }
    if let (Some(idle_timeout), true) = (limits.transport.idle_timeout(), edns.wants_keepalive) {
        options.keepalive = Some(u16::try_from(idle_timeout.as_millis() / 100).unwrap_or(u16::MAX));
    }
    options.is_padded = edns.wants_padding && limits.transport.is_encrypted();
    code
}

/// Smallest number of names with which prefetch pays: fewer fit into the first-level caches (benches/README.md).
const PREFETCH_NAMES_MIN: usize = 256;

/// Loads the memory that the lookups of these queries will read into the CPU's cache. The queries have to be answered from
/// this view next for it to be of use; no answer depends on it.
pub fn prefetch<'q>(view: &View<'_>, queries: impl Iterator<Item = &'q [u8]>) {
    if view.directory.name_count() < PREFETCH_NAMES_MIN {
        return;
    }
    let mut list = Prefetch::default();
    for query in queries {
        let Some((name_octets, rtype)) = question(query) else { continue };
        list.add(&query[HEADER_OCTETS..], name_octets, LeafType::of(rtype));
        if list.is_full() {
            view.directory.prefetch(&mut list);
        }
    }
    view.directory.prefetch(&mut list);
}

fn octets_of(query: &[u8], question: Option<Question>) -> &[u8] {
    question.and_then(|question| query.get(HEADER_OCTETS..question.end)).unwrap_or_default()
}

enum Kind {
    Lookup,
    Transfer,
    Identity,
    Refused(Rcode, Option<ExtendedError>),
}

/// Types of records that exist in messages only, so that no query can ask for them: reserved, OPT, TKEY, TSIG (RFC 6895
/// §3.1).
const NOT_FOR_QUERIES: [u16; 4] = [0, 41, 249, 250];
/// Mailbox query types of RFC 1035 §3.2.3 that no server implements: MAILB, MAILA.
const OBSOLETE_QUERIES: [u16; 2] = [253, 254];

fn kind(opcode: Opcode, question: Question, transport: Transport, name: &QueryName) -> Kind {
    let Question { rtype, class, .. } = question;
    let is_usual = rtype.0 < 128 && rtype != RecordType::OPT && rtype.0 != 0;
    if opcode == Opcode::QUERY && class == Class::IN && is_usual {
        return Kind::Lookup;
    }
    match (opcode, class, rtype) {
        // This server is no secondary, so no primary may notify it, and dynamic updates are not supported.
        (Opcode::NOTIFY, ..) => Kind::Refused(Rcode::NOTAUTH, None),
        (Opcode::UPDATE, ..) => Kind::Refused(Rcode::REFUSED, None),
        (_, Class::CHAOS, RecordType::TXT | RecordType::ANY) if name.label_count() == 2 => Kind::Identity,
        (_, class, _) if class != Class::IN => Kind::Refused(Rcode::REFUSED, None),
        (_, _, RecordType::AXFR) if transport.has_transfers() => Kind::Transfer,
        // IXFR may come over UDP (RFC 1995 §2), AXFR may not (RFC 5936 §4.2).
        (_, _, RecordType::IXFR) if transport.has_transfers() || transport == Transport::Udp => {
            Kind::Transfer
        }
        (_, _, RecordType::AXFR | RecordType::IXFR) => {
            Kind::Refused(Rcode::REFUSED, Some(ExtendedError::PROHIBITED))
        }
        (_, _, RecordType(number)) if NOT_FOR_QUERIES.contains(&number) => {
            Kind::Refused(Rcode::FORMERR, None)
        }
        (_, _, RecordType(number)) if OBSOLETE_QUERIES.contains(&number) => {
            Kind::Refused(Rcode::NOTIMP, None)
        }
        _ => Kind::Lookup,
    }
}
