//! Comparison of `answer()` with a renderer on hickory's messages: their decoded replies to equal queries are equal.
//!
//! A grammar makes queries from the names of a directory that has every kind of record, and mutates one in eight. Both
//! sides draw with one seed, so that their selections are equal too. The renderer leaves some rules of header, EDNS and
//! format to hickory's parser; these are checked with `oracle/message.rs`, a reader that follows the RFCs literally.
//!
//! Hickory does not decide the following cases:
//!
//! | limit of hickory | comparison |
//! | --- | --- |
//! | its parser refuses queries over records or options that an answer does not depend on (data of rare types, ECS) | the header and the question with a plain OPT |
//! | its parser accepts queries that RFC 1035, 6891 and 9619 call malformed (two questions, OPT elsewhere, compressed question) | FORMERR, as the literal reader decides |
//! | the renderer has no COOKIE, NSID and keepalive | the options alone, by their own rules |
//! | its encoder writes names in data uncompressed, so its replies are larger | the renderer's reply without a length limit, of which the reply has as many records as fit |
//!
//! `CLOUDMAP_DNS_ORACLE_QUERIES` sets the number of queries.

#![expect(clippy::unwrap_used, reason = "a panic is a failed test")]

#[path = "oracle/grammar.rs"]
mod grammar;
#[path = "oracle/message.rs"]
mod message;
#[path = "oracle/renderer.rs"]
mod renderer;
#[path = "oracle/world.rs"]
mod world;

use std::collections::BTreeMap;
use std::time::Duration;

use cloudmap_dns::dns::{Common, CookieSecrets, Limits, Transport, Verdict, View, Worker, answer};

use grammar::Grammar;
use message::{Message, OPT, Record, TSIG};
use renderer::Renderer;
use world::World;

const QUERIES: u64 = 200_000;
const SEED: u64 = 0x5eed_0010;
const IDLE: Duration = Duration::from_secs(30);

const QR: u16 = 0x8000;
const AA: u16 = 0x0400;
const TC: u16 = 0x0200;
const RD: u16 = 0x0100;
const CD: u16 = 0x0010;
const COOKIE: u16 = 10;
/// Options that the renderer does not know: NSID, COOKIE, keepalive.
const NOT_RENDERED: [u16; 3] = [3, COOKIE, 11];

/// The two sides of the comparison, and the number of queries that were compared in each way.
struct Oracle {
    world: World,
    worker: Worker,
    renderer: Renderer,
    out: Vec<u8>,
    seen: BTreeMap<String, u64>,
}

impl Oracle {
    fn new() -> Oracle {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let world = runtime.block_on(World::new("oracle"));
        let common = Common::new("oracle", CookieSecrets::new(&[[7; 16]]).unwrap());
        let renderer = Renderer { server_id: "oracle", seed: SEED };
        let (worker, out) = (Worker::new(common), vec![0; 65_535]);
        Oracle { world, worker, renderer, out, seen: BTreeMap::new() }
    }

    fn count(&mut self, what: impl Into<String>) {
        *self.seen.entry(what.into()).or_default() += 1;
    }

    fn rendered(&self, query: &[u8], transport: Transport) -> Option<Vec<u8>> {
        self.renderer.reply(&self.world.snapshot, query, transport)
    }

    fn check(&mut self, query: &[u8], transport: Transport) {
        self.worker.seed(SEED);
        let limits = Limits { transport, client: "198.51.100.7".parse().unwrap(), now_seconds: 1_000_000 };
        let directory = self.world.snapshot.view();
        let view = View { directory: &directory, generation: 7, is_stale: false };
        let verdict = answer(&view, query, &limits, &mut self.worker, &mut self.out);
        drop(directory);
        let is_query = query.len() >= 12 && query[2] & 0x80 == 0;
        let reply = match verdict {
            Verdict::Drop => {
                assert!(!is_query, "every query is answered");
                return self.count("dropped");
            }
            Verdict::Transfer => {
                assert!(is_transfer(query, transport), "only queries for transfers are transfers");
                return self.count("transfer");
            }
            Verdict::Reply(reply) => reply,
        };
        assert!(is_query, "only queries are answered");
        let octets = self.out[..reply.len].to_vec();
        let ours = message::read(&octets).unwrap_or_else(|error| panic!("{}: {octets:02x?}", error.what));
        assert_eq!(ours.trailing, 0);
        assert_eq!((reply.code.0, reply.is_truncated), (ours.code(), ours.has(TC)));
        check_header(query, &ours);
        // A trailing octet is ignored, and makes the query take the general path instead of the short one.
        self.worker.seed(SEED);
        let longer = [query, &[0]].concat();
        let directory = self.world.snapshot.view();
        let view = View { directory: &directory, generation: 7, is_stale: false };
        let verdict = answer(&view, &longer, &limits, &mut self.worker, &mut self.out);
        drop(directory);
        if message::read(query).is_ok() {
            assert_eq!(verdict, Verdict::Reply(reply), "the short and the general path give equal replies");
            assert_eq!(self.out[..reply.len], octets, "the short and the general path give equal replies");
        }
        let request = match message::read(query) {
            _ if !matches!(query[2] >> 3 & 0xf, 0 | 4 | 5) => {
                assert_eq!(ours.code(), 4, "NOTIMP for an unknown opcode");
                return self.count("opcode");
            }
            Ok(request) => request,
            Err(malformed) => {
                assert_eq!((ours.code(), &ours.question), (1, &malformed.question), "FORMERR");
                return self.count(format!("malformed {}", malformed.what));
            }
        };
        if is_signed(&request) && ours.code() == 1 {
            // RFC 8945 §5.2: the TSIG record is misplaced or malformed.
            assert_eq!(records(&ours), 0);
            return self.count("signed, and malformed");
        }
        check_edns(&request, &ours, transport);
        assert!(octets.len() <= limit(&request, transport), "the reply is within its length limit");
        assert_eq!(ours.question, request.question, "the question is echoed octet by octet");
        self.compare(&request, &ours, octets.len(), transport);
    }

    fn compare(&mut self, request: &Message, ours: &Message, len: usize, transport: Transport) {
        if request.opt.as_ref().is_some_and(|opt| opt.version > 0) {
            assert_eq!((ours.code(), records(ours)), (16, 0), "BADVERS");
            return self.count("version");
        }
        if is_cookie_malformed(request) {
            assert_eq!((ours.code(), records(ours)), (1, 0), "a cookie of a wrong length");
            return self.count("malformed cookie");
        }
        if is_signed(request) {
            // RFC 8945 §5.2.1.
            assert!(ours.code() == 9 && records(ours) <= 1, "no key is known");
            return self.count("signed");
        }
        if request.question.is_empty() {
            let may_ask_cookie = request.opcode() == 0 && cookie(request).is_some();
            assert_eq!((ours.code(), records(ours)), (u16::from(!may_ask_cookie), 0));
            return self.count("no question");
        }
        // Records and options that hickory's parser may refuse make no difference to the answer, so they are removed.
        let plain = plain_query(request);
        let theirs = self.rendered(&plain, transport).expect("the renderer answers a plain query");
        let mut theirs = message::read(&theirs).unwrap_or_else(|error| panic!("renderer: {}", error.what));
        let is_same =
            |one: &Message, other: &Message| is_same_answer(one, other) && one.has(TC) == other.has(TC);
        if !is_same(ours, &theirs) && matches!(transport, Transport::Udp) {
            // The renderer's replies are larger: render without a limit first, and then select the records that fit.
            let full = self.rendered(&plain, Transport::Tcp { idle_timeout: IDLE }).unwrap();
            theirs = message::read(&full).unwrap();
            self.count(format!(
                "sized {}{}",
                if ours.has(TC) { "TC" } else { "" },
                if records(ours) > 0 { "+" } else { "" }
            ));
            assert_eq!((ours.code(), ours.has(AA)), (theirs.code(), theirs.has(AA)));
            let all = |message: &Message, section: usize| keys(&message.sections[section]);
            let (part, whole) = (before_additional(ours), before_additional(&theirs));
            if let Some(next) = whole.get(part.len()) {
                assert!(ours.has(TC) && ours.sections[2].is_empty(), "records are missing");
                assert_eq!(part, whole[..part.len()], "the first records, in their order");
                let octets = next.owner.len() + 10 + next.rdata.len();
                assert!(len + octets > limit(request, transport), "TC without need");
            } else {
                assert_eq!((all(ours, 0), all(ours, 1)), (all(&theirs, 0), all(&theirs, 1)));
                let (part, whole) = (all(ours, 2), all(&theirs, 2));
                assert!(
                    part.iter().all(|key| whole.contains(key)),
                    "additional records that the renderer does not have"
                );
                let missing: Vec<_> = whole.iter().filter(|key| !part.contains(key)).collect();
                let is_referral = !ours.has(AA) && ours.sections[0].is_empty();
                // RFC 9471 §3: a referral without some of its glue addresses is truncated.
                assert_eq!(ours.has(TC), !missing.is_empty() && is_referral || ours.has(TC) && !ours.has(AA));
                for record in &missing {
                    let is_same =
                        |other: &&&Record| (&other.owner, other.rtype) == (&record.owner, record.rtype);
                    let octets: usize =
                        missing.iter().filter(is_same).map(|record| 12 + record.rdata.len()).sum();
                    assert!(
                        len + octets > limit(request, transport) || is_referral,
                        "an additional record that fits is missing"
                    );
                }
            }
            return;
        }
        assert!(
            is_same(ours, &theirs),
            "question {:02x?}\nours\n{}theirs\n{}",
            request.question,
            shown(ours),
            shown(&theirs)
        );
        check_options(ours, &theirs);
        self.count(format!("compared, code {}{}", ours.code(), if ours.has(TC) { ", TC" } else { "" }));
    }
}

fn is_signed(request: &Message) -> bool {
    request.sections.iter().flatten().any(|record| record.rtype == TSIG)
}

/// True for a query whose reply may have many messages; over UDP only IXFR is such a query.
fn is_transfer(query: &[u8], transport: Transport) -> bool {
    let Ok(request) = message::read(query) else { return false };
    let is_kind = match request.kind() {
        Some((251, 1)) => true,
        Some((252, 1)) => matches!(transport, Transport::Tcp { .. }),
        _ => false,
    };
    is_kind && request.opcode() == 0
}

/// RFC 1035 §4.1.1, RFC 4035 §3.1.6, RFC 6895 §2.1: fields of the header that are copied from the query, and fields that
/// are zero.
fn check_header(query: &[u8], ours: &Message) {
    let flags = u16::from_be_bytes([query[2], query[3]]);
    assert_eq!(ours.id, [query[0], query[1]]);
    let is_known = matches!(flags >> 11 & 0xf, 0 | 4 | 5);
    let copied = if is_known { 0x7800 | RD | CD } else { 0x7800 };
    assert_eq!(ours.flags & !(AA | TC | 0xf), QR | flags & copied);
}

/// RFC 6891 §6.1.1: a reply has an OPT record if its query has one. RFC 5001, 7828, 7873: options are sent to clients that
/// request them.
fn check_edns(request: &Message, ours: &Message, transport: Transport) {
    assert_eq!(request.opt.is_some(), ours.opt.is_some(), "OPT in the reply if it is in the query");
    let (Some(request_opt), Some(opt)) = (&request.opt, &ours.opt) else { return };
    assert_eq!((opt.size, opt.version, opt.flags), (1232, 0, request_opt.flags & 0x8000));
    let requests = |code: u16| request_opt.options.iter().any(|(other, _)| *other == code);
    let sent = |code: u16| opt.options.iter().filter(|(other, _)| *other == code).count();
    assert_eq!(sent(3), usize::from(requests(3)), "NSID");
    assert_eq!(
        sent(11),
        usize::from(requests(11) && matches!(transport, Transport::Tcp { .. })),
        "keepalive"
    );
    assert_eq!(sent(COOKIE), usize::from(requests(COOKIE) && !is_cookie_malformed(request)), "COOKIE");
    if let (Some(theirs), Some(own)) = (cookie(request), cookie(ours)) {
        assert_eq!((own.len(), &own[..8]), (24, &theirs[..8]), "the client's cookie and ours");
    }
    assert!(
        opt.options.iter().all(|(code, _)| NOT_RENDERED.contains(code) || *code == 15),
        "options of the query are not echoed"
    );
}

fn cookie(message: &Message) -> Option<&[u8]> {
    let options = message.opt.iter().flat_map(|opt| &opt.options);
    options.filter(|(code, _)| *code == COOKIE).map(|(_, data)| &data[..]).next()
}

/// RFC 7873 §5.2.2.
fn is_cookie_malformed(message: &Message) -> bool {
    cookie(message).is_some_and(|data| !matches!(data.len(), 8 | 16..=40))
}

/// Extended errors are equal (RFC 8914), if the reply has room for them.
fn check_options(ours: &Message, theirs: &Message) {
    let of = |message: &Message| -> Vec<(u16, Vec<u8>)> {
        let options = message.opt.iter().flat_map(|opt| &opt.options);
        options.filter(|(code, _)| !NOT_RENDERED.contains(code)).cloned().collect()
    };
    let (ours, theirs) = (of(ours), of(theirs));
    assert!(ours == theirs || ours.is_empty(), "{ours:?} {theirs:?}");
}

/// Length limit of a reply in octets (RFC 1035 §4.2.1, RFC 6891 §6.2.3, and this server's own limit).
fn limit(request: &Message, transport: Transport) -> usize {
    match (transport, &request.opt) {
        (Transport::Tcp { .. } | Transport::Tls { .. } | Transport::Exchange, _) => 65_535,
        (Transport::Udp, None) => 512,
        (Transport::Udp, Some(opt)) => usize::from(opt.size.clamp(512, 1232)),
    }
}

/// A query with the header and question of another, and an OPT record with its size and DO bit.
fn plain_query(request: &Message) -> Vec<u8> {
    let mut query = request.id.to_vec();
    query.extend_from_slice(&request.flags.to_be_bytes());
    query.extend_from_slice(&[0, 1, 0, 0, 0, 0, 0, u8::from(request.opt.is_some())]);
    query.extend_from_slice(&request.question);
    if let Some(opt) = &request.opt {
        query.extend_from_slice(&[0, 0, OPT as u8]);
        query.extend_from_slice(&opt.size.to_be_bytes());
        query.extend_from_slice(&[0, 0, (opt.flags >> 8) as u8 & 0x80, 0, 0, 0]);
    }
    query
}

fn records(message: &Message) -> usize {
    message.sections.iter().map(Vec::len).sum()
}

fn before_additional(message: &Message) -> Vec<Record> {
    message.sections[..2].iter().flatten().map(lower).collect()
}

/// Records in a comparable form: owners in lower case, in any order (RFC 2181 §5, RFC 4343).
fn keys(section: &[Record]) -> Vec<Record> {
    let mut keys: Vec<Record> = section.iter().map(lower).collect();
    keys.sort();
    keys
}

fn lower(record: &Record) -> Record {
    Record { owner: record.owner.to_ascii_lowercase(), ..record.clone() }
}

fn is_same_answer(one: &Message, other: &Message) -> bool {
    one.code() == other.code()
        && one.has(AA) == other.has(AA)
        && one.sections.iter().zip(&other.sections).all(|(one, other)| keys(one) == keys(other))
}

fn shown(message: &Message) -> String {
    let mut text = format!("flags {:04x}, code {}\n", message.flags, message.code());
    for (name, section) in ["answer", "authority", "additional"].iter().zip(&message.sections) {
        for Record { owner, rtype, class, ttl, rdata } in section {
            let owner = String::from_utf8_lossy(owner);
            text.push_str(&format!("{name} {owner:?} {ttl} {class} {rtype} {rdata:02x?}\n"));
        }
    }
    text
}

#[test]
fn answers_are_those_of_the_independent_renderer() {
    let queries = std::env::var("CLOUDMAP_DNS_ORACLE_QUERIES").map_or(QUERIES, |text| text.parse().unwrap());
    let mut oracle = Oracle::new();
    let mut grammar = Grammar::new(&oracle.world.snapshot.view(), SEED);
    for number in 0..queries {
        let query = grammar.query();
        let transport = if number % 4 == 0 { Transport::Tcp { idle_timeout: IDLE } } else { Transport::Udp };
        let checked =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| oracle.check(&query, transport)));
        if let Err(panic) = checked {
            eprintln!("query {number}, {transport:?}: {query:02x?}");
            std::panic::resume_unwind(panic);
        }
    }
    for (what, count) in &oracle.seen {
        println!("{count:>9} {what}");
    }
    for code in [0, 3, 5, 6, 9] {
        let what = format!("compared, code {code}");
        assert!(oracle.seen.contains_key(&what), "no reply with code {code}");
    }
    assert!(oracle.seen.contains_key("compared, code 0, TC"), "no truncated reply");
}
