//! The answer: from the octets of a query to the octets of its reply.
//!
//! One function for every transport: no I/O, no allocation, no lock, no panic. It knows no socket and no other DNS
//! library. What it writes is the smallest right answer: positive answers have no authority section, every owner that
//! the message has already is a pointer, and what does not fit is left out as RFC 2181 §9 says: additional records
//! first and without TC, then with TC the last records of the answer. Clients that ignore TC have the other ones.

#![forbid(unsafe_code)]

use std::fmt::Write;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::zone::{Ahead, Directory, QueryName, RecordType};

use super::cookie::{Checked, CookieSecrets, Cookies};
use super::direct::{direct, question};
use super::options::{Opt, Options, SERVER_ID_OCTETS_MAX, Text};
use super::query::{
    self, CLASS_IN, COOKIE, EXTENDED_ERROR, Edns, HEADER_OCTETS, Malformed, NSID, Query, Question,
    TCP_KEEPALIVE, TSIG, Tsig,
};
use super::reply::{OPT_OCTETS, PLAIN_UDP_OCTETS_MAX, Reply, TCP_OCTETS_MAX, UDP_OCTETS_MAX, udp_octets_max};
use super::resolve::{Ending, Scratch, resolve};
use super::sections::{Fit, Sections};
use super::writer::{Anchors, Writer};

/// What a worker answers a batch of queries from.
#[derive(Clone, Copy)]
pub struct View<'v> {
    /// All zones and names.
    pub directory: &'v Directory,
    /// The number of the newest change, for NSID.
    pub generation: u64,
    /// Whether what is known may be old, because what it comes from is away: replies say so (RFC 8914 §4.4 and §4.20).
    pub is_stale: bool,
}

/// How a query came.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Transport {
    /// In a datagram: replies are short.
    Udp,
    /// In a stream that is closed after this time without a query.
    Tcp {
        /// The time.
        idle_timeout: Duration,
    },
}

/// What an answer depends on beside the query and the view.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How the query came.
    pub transport: Transport,
    /// Where it came from; cookies are made for it (RFC 9018 §4).
    pub client: IpAddr,
    /// The time in seconds since 1970, modulo 2^32; cookies carry it (RFC 9018 §4.3).
    pub now_seconds: u32,
}

/// What becomes of a query.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// The reply is in the buffer.
    Reply(Reply),
    /// No reply may be sent: it is no query.
    Drop,
    /// The query is one of the few that have to wait, or are rare: [`super::Deferred`] replies.
    Defer,
}

/// What all workers have in common.
pub struct Common {
    server_id: Box<str>,
    secrets: CookieSecrets,
    stale: OnceLock<Arc<AtomicBool>>,
}

impl Common {
    /// `server_id` is what NSID tells (RFC 5001), before the generation.
    pub fn new(server_id: &str, secrets: CookieSecrets) -> Arc<Common> {
        let limit = server_id.len().min(SERVER_ID_OCTETS_MAX);
        let end = (0..=limit).rev().find(|end| server_id.is_char_boundary(*end)).unwrap_or(0);
        Arc::new(Common { server_id: server_id[..end].into(), secrets, stale: OnceLock::new() })
    }

    /// Whoever sets `flag` from now on says that what is known may be old. The first flag counts.
    pub fn tell_stale(&self, flag: Arc<AtomicBool>) {
        let _ = self.stale.set(flag);
    }

    fn is_stale(&self) -> bool {
        self.stale.get().is_some_and(|flag| flag.load(Ordering::Relaxed))
    }

    /// What the server calls itself.
    pub fn server_id(&self) -> &str {
        &self.server_id
    }
}

/// What one worker keeps from query to query. Nothing in it is written by other workers.
pub struct Worker {
    common: Arc<Common>,
    random: fastrand::Rng,
    cookies: Cookies,
    question: QueryName,
    scratch: Scratch,
    anchors: Anchors,
}

impl Worker {
    /// A worker with its own random numbers.
    pub fn new(common: Arc<Common>) -> Worker {
        Worker {
            cookies: Cookies::new(&common.secrets),
            common,
            random: fastrand::Rng::new(),
            question: QueryName::default(),
            scratch: Scratch::default(),
            anchors: Anchors::default(),
        }
    }

    /// Whether what is known may be old, for [`View`].
    pub fn is_stale(&self) -> bool {
        self.common.is_stale()
    }

    /// Draws from here on what any other worker draws with the same seed.
    pub fn seed(&mut self, seed: u64) {
        self.random.seed(seed);
    }
}

/// Response codes (RFC 6895 §2.3).
mod code {
    pub(super) const NOERROR: u16 = 0;
    pub(super) const FORMERR: u16 = 1;
    pub(super) const NXDOMAIN: u16 = 3;
    pub(super) const NOTIMP: u16 = 4;
    pub(super) const REFUSED: u16 = 5;
    pub(super) const YXDOMAIN: u16 = 6;
    pub(super) const NOTAUTH: u16 = 9;
    pub(super) const BADVERS: u16 = 16;
}

/// Header bits of the third and fourth octet as one number (RFC 1035 §4.1.1, RFC 4035 §3.1.6).
mod flag {
    pub(super) const QR: u16 = 0x8000;
    pub(super) const OPCODE: u16 = 0x7800;
    pub(super) const AA: u16 = 0x0400;
    pub(super) const TC: u16 = 0x0200;
    pub(super) const RD: u16 = 0x0100;
    pub(super) const CD: u16 = 0x0010;
}

const OPCODE_QUERY: u16 = 0;
const OPCODE_NOTIFY: u16 = 4;
const OPCODE_UPDATE: u16 = 5;
const CLASS_CHAOS: u16 = 3;
/// Types that only messages have, no query can ask for: OPT, TKEY, TSIG (RFC 6895 §3.1).
const NOT_FOR_QUERIES: [u16; 4] = [0, 41, 249, 250];
/// Mailbox types of RFC 1035 §3.2.3 that nobody implements: MAILB, MAILA.
const OBSOLETE_QUERIES: [u16; 2] = [253, 254];

/// Extended error codes (RFC 8914 §4).
#[derive(Clone, Copy)]
enum ExtendedError {
    Other = 0,
    StaleAnswer = 3,
    Prohibited = 18,
    StaleNoName = 19,
    NotAuthoritative = 20,
}

/// Answers one query into `out`, which has to hold [`UDP_OCTETS_MAX`] octets for UDP and [`TCP_OCTETS_MAX`] for TCP;
/// where it is shorter, replies are.
pub fn answer(
    view: &View<'_>,
    query: &[u8],
    limits: &Limits,
    worker: &mut Worker,
    out: &mut [u8],
) -> Verdict {
    let is_udp = limits.transport == Transport::Udp;
    // In memory, so that nothing is held in registers for the whole way.
    let call = Call { view, query, limits, worker, out };
    let reply = match view.is_stale {
        false => {
            let Worker { question, random, .. } = &mut *call.worker;
            direct(view.directory, query, is_udp, question, random, call.out)
        }
        true => None,
    };
    match reply {
        Some(reply) => Verdict::Reply(reply),
        None => answer_any(call),
    }
}

/// What [`answer()`] was called with.
pub(super) struct Call<'a, 'v> {
    pub(super) view: &'a View<'v>,
    pub(super) query: &'a [u8],
    pub(super) limits: &'a Limits,
    pub(super) worker: &'a mut Worker,
    pub(super) out: &'a mut [u8],
}

/// The whole way: any query. What is nearly always asked for does without its frame.
#[inline(never)]
pub(super) fn answer_any(call: Call<'_, '_>) -> Verdict {
    let Call { view, query, limits, worker, out } = call;
    let Some([id0, id1, flags0, flags1, ..]) = query.first_chunk::<HEADER_OCTETS>() else {
        return Verdict::Drop;
    };
    let flags = u16::from_be_bytes([*flags0, *flags1]);
    if flags & flag::QR != 0 || out.len() < usize::from(PLAIN_UDP_OCTETS_MAX) {
        return Verdict::Drop;
    }
    let mut reply = Draft {
        id: [*id0, *id1],
        flags: flag::QR | flags & (flag::OPCODE | flag::RD | flag::CD),
        code: code::NOERROR,
        explanation: None,
    };
    let opcode = (flags & flag::OPCODE) >> 11;
    if !matches!(opcode, OPCODE_QUERY | OPCODE_NOTIFY | OPCODE_UPDATE) {
        // The meaning of the flags, and of everything behind the header, is not known.
        reply.flags = flag::QR | flags & flag::OPCODE;
        return reply.bare(code::NOTIMP, &[], out);
    }
    let Query { question, edns, signature } = match query::read(query, &mut worker.question) {
        Ok(query) => query,
        Err(Malformed { question }) => return reply.bare(code::FORMERR, octets_of(query, question), out),
    };
    let mut options = Options::default();
    if let Some(edns) = &edns {
        if edns.version > 0 {
            reply.code = code::BADVERS;
        } else if let Some(option) = edns.cookie {
            match worker.cookies.check(option, limits.client, limits.now_seconds) {
                Checked::Malformed => reply.code = code::FORMERR,
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
        if let (Transport::Tcp { idle_timeout }, true) = (limits.transport, edns.wants_keepalive) {
            options.keepalive = Some(u16::try_from(idle_timeout.as_millis() / 100).unwrap_or(u16::MAX));
        }
    }
    let limit = match limits.transport {
        Transport::Udp => udp_octets_max(edns.as_ref().map(|edns| edns.udp_octets_max)),
        Transport::Tcp { .. } => TCP_OCTETS_MAX,
    };
    let limit = out.len().min(usize::from(limit));
    let end = limit - edns.map_or(0, |_| options.octets());
    let asked = octets_of(query, question);
    let writer = Writer::new(&mut out[..limit], end, &worker.question, asked, &mut worker.anchors);
    if reply.code != code::NOERROR {
        return reply.finish(writer, edns, &options);
    }
    if let Some(signature) = signature {
        // There are no keys.
        reply.code = code::NOTAUTH;
        return reply.finish_unsigned(writer, edns, &options, &signature);
    }
    let Some(question) = question else {
        // A cookie may be asked for alone (RFC 7873 §5.4).
        reply.code =
            if opcode == OPCODE_QUERY && options.cookie.is_some() { code::NOERROR } else { code::FORMERR };
        return reply.finish(writer, edns, &options);
    };
    match refusal(opcode, question, limits.transport, &worker.question) {
        Some(Refusal::Defer) => return Verdict::Defer,
        Some(Refusal::Code(code, error)) => {
            reply.code = code;
            reply.explanation = error.map(|error| (error, None));
            return reply.finish(writer, edns, &options);
        }
        None => {}
    }
    let mut sections = Sections {
        writer,
        rtype: question.rtype,
        random: &mut worker.random,
        fit: Fit::Whole,
        is_referral: false,
    };
    let ending =
        resolve(view.directory, &worker.question, question.rtype, &mut worker.scratch, &mut sections);
    let Sections { mut writer, fit, .. } = sections;
    if fit == Fit::Cut {
        writer.remove_uncounted();
    }
    reply.end(ending, fit);
    if view.is_stale && reply.explanation.is_none() {
        let error = if reply.code == code::NXDOMAIN {
            ExtendedError::StaleNoName
        } else {
            ExtendedError::StaleAnswer
        };
        reply.explanation = Some((error, None));
    }
    reply.finish(writer, edns, &options)
}

/// Names of a directory from which on queries are read ahead (benches/README.md): fewer are in the processor's own cache.
const AHEAD_NAMES_MIN: usize = 256;

/// Reads ahead what these queries will need, which will be answered from the same view next. It changes no answer.
pub fn read_ahead<'q>(view: &View<'_>, queries: impl Iterator<Item = &'q [u8]>) {
    if view.directory.name_count() < AHEAD_NAMES_MIN {
        return;
    }
    let mut ahead = Ahead::default();
    for query in queries {
        let Some((name_octets, rtype)) = question(query) else { continue };
        ahead.note(&query[HEADER_OCTETS..], name_octets, rtype);
        if ahead.is_full() {
            view.directory.read_ahead(&mut ahead);
        }
    }
    view.directory.read_ahead(&mut ahead);
}

/// The question's octets as they were sent.
fn octets_of(query: &[u8], question: Option<Question>) -> &[u8] {
    question.and_then(|question| query.get(HEADER_OCTETS..question.end)).unwrap_or_default()
}

/// What is not looked up.
enum Refusal {
    Defer,
    Code(u16, Option<ExtendedError>),
}

fn refusal(opcode: u16, question: Question, transport: Transport, name: &QueryName) -> Option<Refusal> {
    let Question { rtype, class, .. } = question;
    if opcode == OPCODE_QUERY && class == CLASS_IN && rtype.0 < 128 && rtype.0 != 41 && rtype.0 != 0 {
        return None;
    }
    Some(match (opcode, class, rtype) {
        // There is no primary that could notify us, and zones are changed otherwise.
        (OPCODE_NOTIFY, ..) => Refusal::Code(code::NOTAUTH, None),
        (OPCODE_UPDATE, ..) => Refusal::Code(code::REFUSED, None),
        // Servers tell of themselves under names of two labels (RFC 4892).
        (_, CLASS_CHAOS, RecordType::TXT | RecordType::ANY) if name.label_count() == 2 => Refusal::Defer,
        (_, class, _) if class != CLASS_IN => Refusal::Code(code::REFUSED, None),
        // RFC 5936 §4.2. IXFR may come over UDP (RFC 1995 §2).
        (_, _, RecordType::AXFR) if transport == Transport::Udp => {
            Refusal::Code(code::REFUSED, Some(ExtendedError::Prohibited))
        }
        (_, _, RecordType::AXFR | RecordType::IXFR) => Refusal::Defer,
        (_, _, RecordType(number)) if NOT_FOR_QUERIES.contains(&number) => Refusal::Code(code::FORMERR, None),
        (_, _, RecordType(number)) if OBSOLETE_QUERIES.contains(&number) => Refusal::Code(code::NOTIMP, None),
        _ => return None,
    })
}

/// The reply's header and what its OPT record says beside options.
struct Draft {
    id: [u8; 2],
    flags: u16,
    code: u16,
    explanation: Option<(ExtendedError, Option<u32>)>,
}

impl Draft {
    /// A reply of header and question alone.
    fn bare(mut self, code: u16, question: &[u8], out: &mut [u8]) -> Verdict {
        self.code = code;
        let len = HEADER_OCTETS + question.len();
        if let Some(room) = out.get_mut(HEADER_OCTETS..len) {
            room.copy_from_slice(question);
        }
        self.header(!question.is_empty(), [0; 3], out);
        Verdict::Reply(Reply { len, code, is_truncated: false, has_good_cookie: false })
    }

    fn end(&mut self, ending: Ending, fit: Fit) {
        match ending {
            Ending::NoError { authoritative, withheld } => {
                self.flags |= if authoritative { flag::AA } else { 0 };
                self.explanation = withheld.map(|instances| (ExtendedError::Other, Some(instances)));
            }
            Ending::NoName => {
                self.flags |= flag::AA;
                self.code = code::NXDOMAIN;
            }
            Ending::NameTooLong => {
                self.flags |= flag::AA;
                self.code = code::YXDOMAIN;
            }
            Ending::NotAuthoritative => {
                self.code = code::REFUSED;
                self.explanation = Some((ExtendedError::NotAuthoritative, None));
            }
        }
        if fit != Fit::Whole {
            self.flags |= flag::TC;
        }
    }

    /// Writes the OPT record, where the query had one, and the header.
    fn finish(self, writer: Writer<'_>, edns: Option<Edns<'_>>, options: &Options) -> Verdict {
        let mut counts = writer.counts();
        let has_question = writer.has_question();
        let (out, mut len) = writer.finish();
        if let Some(edns) = edns {
            len = self.opt(edns, options, out, len);
            counts[2] += 1;
        }
        let (code, is_truncated) = (self.code, self.flags & flag::TC != 0);
        self.header(has_question, counts, out);
        Verdict::Reply(Reply { len, code, is_truncated, has_good_cookie: options.is_cookie_good })
    }

    /// The same, and tells that the key is not known: a TSIG record without a signature (RFC 8945 §5.2.1 and §5.3.2), where
    /// there is room for it.
    #[cold]
    fn finish_unsigned(
        self,
        writer: Writer<'_>,
        edns: Option<Edns<'_>>,
        options: &Options,
        signature: &Tsig<'_>,
    ) -> Verdict {
        const CLASS_ANY_AND_TTL: [u8; 6] = [0, 255, 0, 0, 0, 0];
        const BADKEY: u16 = 17;
        let mut counts = writer.counts();
        let has_question = writer.has_question();
        let (out, at) = writer.finish();
        let mut len = edns.map_or(at, |edns| self.opt(edns, options, out, at));
        counts[2] += u16::from(edns.is_some());
        let mut record = Opt { out, at: len };
        signature.key().for_each(|label| record.put(label));
        record.put(&TSIG.to_be_bytes());
        record.put(&CLASS_ANY_AND_TTL);
        let data: [&[u8]; 6] = [
            signature.algorithm,
            signature.time,
            // No octets of a signature.
            &[0; 2],
            &signature.original_id,
            &BADKEY.to_be_bytes(),
            &[0; 2],
        ];
        let data_len: usize = data.iter().map(|part| part.len()).sum();
        record.put(&(data_len as u16).to_be_bytes());
        data.iter().for_each(|part| record.put(part));
        let wanted: usize = signature.key().map(<[u8]>::len).sum::<usize>() + 10 + data_len;
        let Opt { out, at } = record;
        if at == len + wanted {
            (len, counts[2]) = (at, counts[2] + 1);
        }
        let code = self.code;
        self.header(has_question, counts, out);
        Verdict::Reply(Reply { len, code, is_truncated: false, has_good_cookie: options.is_cookie_good })
    }

    fn header(&self, has_question: bool, [answers, authorities, additionals]: [u16; 3], out: &mut [u8]) {
        let fields = [self.flags | self.code & 0xf, has_question.into(), answers, authorities, additionals];
        if let Some(header) = out.first_chunk_mut::<HEADER_OCTETS>() {
            header[..2].copy_from_slice(&self.id);
            for (octets, field) in header[2..].as_chunks_mut::<2>().0.iter_mut().zip(fields) {
                *octets = field.to_be_bytes();
            }
        }
    }

    /// Writes the OPT record at `at`, and tells where it ends. Options that were announced have room; an extended error
    /// is left out where it has none.
    fn opt(&self, edns: Edns<'_>, options: &Options, out: &mut [u8], at: usize) -> usize {
        let [size0, size1] = UDP_OCTETS_MAX.to_be_bytes();
        let (high, dnssec_ok) = ((self.code >> 4) as u8, if edns.is_dnssec_ok { 0x80 } else { 0 });
        let fixed = [0, 0, RecordType::OPT.0 as u8, size0, size1, high, 0, dnssec_ok, 0, 0, 0];
        let mut opt = Opt { out, at };
        opt.put(&fixed);
        if let Some(cookie) = &options.cookie {
            opt.option(COOKIE, &[cookie]);
        }
        if !options.server_id.as_bytes().is_empty() {
            opt.option(NSID, &[options.server_id.as_bytes()]);
        }
        if let Some(timeout) = options.keepalive {
            opt.option(TCP_KEEPALIVE, &[&timeout.to_be_bytes()]);
        }
        if let Some((error, instances)) = self.explanation {
            let mut text = Text::default();
            if let Some(instances) = instances {
                let noun = if instances == 1 { "instance" } else { "instances" };
                let _ = write!(text, "{instances} {noun}, 0 healthy");
            }
            opt.option(EXTENDED_ERROR, &[&(error as u16).to_be_bytes(), text.as_bytes()]);
        }
        let Opt { out, at: end } = opt;
        if let Some(len) = out.get_mut(at + OPT_OCTETS - 2..at + OPT_OCTETS) {
            len.copy_from_slice(&((end - at - OPT_OCTETS) as u16).to_be_bytes());
        }
        end
    }
}
