//! `answer()` against a renderer on hickory's messages: their decoded replies to the same queries are equal.
//!
//! Queries come of a grammar over the names of a directory that has something of everything, and one in eight is
//! mutated. Both draw with the same seed, so that selections are equal too. Header, EDNS and format rules, which the
//! renderer leaves in part to hickory's parser, are checked against `oracle/message.rs`, a reader by the letter of the RFCs.
//!
//! Where hickory cannot say what is right, with the reason:
//!
//! | limit | what is compared then |
//! | --- | --- |
//! | hickory's parser refuses queries over records or options that an answer does not depend on (data of rare types, ECS) | the same question, with a plain OPT |
//! | it takes queries that RFC 1035, 6891 and 9619 call malformed (two questions, OPT elsewhere, compressed question) | FORMERR, by our reader |
//! | the renderer knows no COOKIE, NSID and keepalive | the options alone, by their own rules |
//! | its encoder writes names in data uncompressed, so its replies are larger | with the renderer's reply without a limit: all of it that has room |
//!
//! `CLOUDMAP_DNS_ORACLE_QUERIES` sets the number of queries.

#![expect(clippy::unwrap_used, reason = "a test ends where something is wrong")]

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

/// Queries of a plain run of the tests.
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

/// Both sides of the comparison.
struct Oracle {
    world: World,
    worker: Worker,
    renderer: Renderer,
    out: Vec<u8>,
    /// How often each way of comparing was taken.
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
                assert!(!is_query, "a query is answered");
                return self.count("dropped");
            }
            Verdict::Transfer => {
                assert!(is_transfer(query, transport), "it asks for a transfer");
                return self.count("transfer");
            }
            Verdict::Reply(reply) => reply,
        };
        assert!(is_query, "what is no query is not answered");
        let octets = self.out[..reply.len].to_vec();
        let ours = message::read(&octets).unwrap_or_else(|error| panic!("{}: {octets:02x?}", error.what));
        assert_eq!(ours.trailing, 0);
        assert_eq!((reply.code.0, reply.is_truncated), (ours.code(), ours.has(TC)));
        check_header(query, &ours);
        // An octet that belongs to nothing is passed over, and keeps a query from the short way of the usual ones.
        self.worker.seed(SEED);
        let longer = [query, &[0]].concat();
        let directory = self.world.snapshot.view();
        let view = View { directory: &directory, generation: 7, is_stale: false };
        let verdict = answer(&view, &longer, &limits, &mut self.worker, &mut self.out);
        drop(directory);
        if message::read(query).is_ok() {
            assert_eq!(verdict, Verdict::Reply(reply), "both ways say the same");
            assert_eq!(self.out[..reply.len], octets, "both ways say the same");
        }
        let asked = match message::read(query) {
            _ if !matches!(query[2] >> 3 & 0xf, 0 | 4 | 5) => {
                assert_eq!(ours.code(), 4, "NOTIMP to an opcode that is not known");
                return self.count("opcode");
            }
            Ok(asked) => asked,
            Err(malformed) => {
                assert_eq!((ours.code(), &ours.question), (1, &malformed.question), "FORMERR");
                return self.count(format!("malformed {}", malformed.what));
            }
        };
        if is_signed(&asked) && ours.code() == 1 {
            // RFC 8945 §5.2: the record is not where and what it has to be.
            assert_eq!(records(&ours), 0);
            return self.count("signed, and malformed");
        }
        check_edns(&asked, &ours, transport);
        assert!(octets.len() <= limit(&asked, transport), "no longer than may be sent");
        assert_eq!(ours.question, asked.question, "the question is echoed octet by octet");
        self.compare(&asked, &ours, octets.len(), transport);
    }

    fn compare(&mut self, asked: &Message, ours: &Message, len: usize, transport: Transport) {
        if asked.opt.as_ref().is_some_and(|opt| opt.version > 0) {
            assert_eq!((ours.code(), records(ours)), (16, 0), "BADVERS");
            return self.count("version");
        }
        if is_cookie_malformed(asked) {
            assert_eq!((ours.code(), records(ours)), (1, 0), "a cookie of a wrong length");
            return self.count("malformed cookie");
        }
        if is_signed(asked) {
            // RFC 8945 §5.2.1.
            assert!(ours.code() == 9 && records(ours) <= 1, "no key is known");
            return self.count("signed");
        }
        if asked.question.is_empty() {
            let may_ask_cookie = asked.opcode() == 0 && cookie(asked).is_some();
            assert_eq!((ours.code(), records(ours)), (u16::from(!may_ask_cookie), 0));
            return self.count("no question");
        }
        // Without what hickory's parser may dislike; it makes no difference to the answer.
        let plain = plain_query(asked);
        let theirs = self.rendered(&plain, transport).expect("the renderer answers a plain query");
        let mut theirs = message::read(&theirs).unwrap_or_else(|error| panic!("renderer: {}", error.what));
        let is_same =
            |one: &Message, other: &Message| same_answer(one, other) && one.has(TC) == other.has(TC);
        if !is_same(ours, &theirs) && matches!(transport, Transport::Udp) {
            // Its replies are larger: what it says when there is room, and then what of that has room.
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
                assert!(len + octets > limit(asked, transport), "TC without need");
            } else {
                assert_eq!((all(ours, 0), all(ours, 1)), (all(&theirs, 0), all(&theirs, 1)));
                let (part, whole) = (all(ours, 2), all(&theirs, 2));
                assert!(part.iter().all(|key| whole.contains(key)), "additional records of one's own");
                let missing: Vec<_> = whole.iter().filter(|key| !part.contains(key)).collect();
                let is_referral = !ours.has(AA) && ours.sections[0].is_empty();
                // RFC 9471 §3: addresses that are missing from a referral are no small loss.
                assert_eq!(ours.has(TC), !missing.is_empty() && is_referral || ours.has(TC) && !ours.has(AA));
                for record in &missing {
                    let is_same =
                        |other: &&&Record| (&other.owner, other.rtype) == (&record.owner, record.rtype);
                    let octets: usize =
                        missing.iter().filter(is_same).map(|record| 12 + record.rdata.len()).sum();
                    assert!(len + octets > limit(asked, transport) || is_referral, "it has room");
                }
            }
            return;
        }
        assert!(
            is_same(ours, &theirs),
            "asked {:02x?}\nours\n{}theirs\n{}",
            asked.question,
            shown(ours),
            shown(&theirs)
        );
        check_options(ours, &theirs);
        self.count(format!("compared, code {}{}", ours.code(), if ours.has(TC) { ", TC" } else { "" }));
    }
}

fn is_signed(asked: &Message) -> bool {
    asked.sections.iter().flatten().any(|record| record.rtype == TSIG)
}

/// True for a query whose reply may have many messages; over UDP only IXFR is such a query.
fn is_transfer(query: &[u8], transport: Transport) -> bool {
    let Ok(asked) = message::read(query) else { return false };
    let is_kind = match asked.kind() {
        Some((251, 1)) => true,
        Some((252, 1)) => matches!(transport, Transport::Tcp { .. }),
        _ => false,
    };
    is_kind && asked.opcode() == 0
}

/// RFC 1035 §4.1.1, RFC 4035 §3.1.6, RFC 6895 §2.1: what of a header is copied, and what is zero.
fn check_header(query: &[u8], ours: &Message) {
    let flags = u16::from_be_bytes([query[2], query[3]]);
    assert_eq!(ours.id, [query[0], query[1]]);
    let is_known = matches!(flags >> 11 & 0xf, 0 | 4 | 5);
    let copied = if is_known { 0x7800 | RD | CD } else { 0x7800 };
    assert_eq!(ours.flags & !(AA | TC | 0xf), QR | flags & copied);
}

/// RFC 6891 §6.1.1: an OPT record for an OPT record. RFC 5001, 7828, 7873: options for those that ask.
fn check_edns(asked: &Message, ours: &Message, transport: Transport) {
    assert_eq!(asked.opt.is_some(), ours.opt.is_some(), "OPT in the reply where it was in the query");
    let (Some(asked_opt), Some(opt)) = (&asked.opt, &ours.opt) else { return };
    assert_eq!((opt.size, opt.version, opt.flags), (1232, 0, asked_opt.flags & 0x8000));
    let asks = |code: u16| asked_opt.options.iter().any(|(other, _)| *other == code);
    let told = |code: u16| opt.options.iter().filter(|(other, _)| *other == code).count();
    assert_eq!(told(3), usize::from(asks(3)), "NSID");
    assert_eq!(told(11), usize::from(asks(11) && matches!(transport, Transport::Tcp { .. })), "keepalive");
    assert_eq!(told(COOKIE), usize::from(asks(COOKIE) && !is_cookie_malformed(asked)), "COOKIE");
    if let (Some(theirs), Some(own)) = (cookie(asked), cookie(ours)) {
        assert_eq!((own.len(), &own[..8]), (24, &theirs[..8]), "the client's cookie and ours");
    }
    assert!(
        opt.options.iter().all(|(code, _)| NOT_RENDERED.contains(code) || *code == 15),
        "nothing is echoed"
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

/// The extended errors are the same (RFC 8914), where ours had room for them.
fn check_options(ours: &Message, theirs: &Message) {
    let of = |message: &Message| -> Vec<(u16, Vec<u8>)> {
        let options = message.opt.iter().flat_map(|opt| &opt.options);
        options.filter(|(code, _)| !NOT_RENDERED.contains(code)).cloned().collect()
    };
    let (ours, theirs) = (of(ours), of(theirs));
    assert!(ours == theirs || ours.is_empty(), "{ours:?} {theirs:?}");
}

/// The most octets that may be sent (RFC 1035 §4.2.1, RFC 6891 §6.2.3, and our own limit).
fn limit(asked: &Message, transport: Transport) -> usize {
    match (transport, &asked.opt) {
        (Transport::Tcp { .. } | Transport::Tls { .. } | Transport::Exchange, _) => 65_535,
        (Transport::Udp, None) => 512,
        (Transport::Udp, Some(opt)) => usize::from(opt.size.clamp(512, 1232)),
    }
}

/// The same header and question, and an OPT record that says the same of size and DO.
fn plain_query(asked: &Message) -> Vec<u8> {
    let mut query = asked.id.to_vec();
    query.extend_from_slice(&asked.flags.to_be_bytes());
    query.extend_from_slice(&[0, 1, 0, 0, 0, 0, 0, u8::from(asked.opt.is_some())]);
    query.extend_from_slice(&asked.question);
    if let Some(opt) = &asked.opt {
        query.extend_from_slice(&[0, 0, OPT as u8]);
        query.extend_from_slice(&opt.size.to_be_bytes());
        query.extend_from_slice(&[0, 0, (opt.flags >> 8) as u8 & 0x80, 0, 0, 0]);
    }
    query
}

fn records(message: &Message) -> usize {
    message.sections.iter().map(Vec::len).sum()
}

/// The records of the answer and the authority section as they are compared, in their order.
fn before_additional(message: &Message) -> Vec<Record> {
    message.sections[..2].iter().flatten().map(lower).collect()
}

/// Records as they are compared: owners in lower case, in any order (RFC 2181 §5, RFC 4343).
fn keys(section: &[Record]) -> Vec<Record> {
    let mut keys: Vec<Record> = section.iter().map(lower).collect();
    keys.sort();
    keys
}

fn lower(record: &Record) -> Record {
    Record { owner: record.owner.to_ascii_lowercase(), ..record.clone() }
}

fn same_answer(one: &Message, other: &Message) -> bool {
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
