//! Checks of `answer()` for any datagram or message, over UDP and over TCP.

use std::cell::RefCell;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use cloudmap_dns::dns::transfer::{Outgoing, Request};
use cloudmap_dns::dns::{Limits, Transport, UDP_OCTETS_MAX, Verdict, View, Worker, answer};

use super::message::{HEADER_OCTETS, Message, u16_at};
use super::world::World;

const QR: u16 = 0x8000;
const OPCODE: u16 = 0x7800;
const TC: u16 = 0x0200;
const RD: u16 = 0x0100;
/// Flags that this server never sets: RA, Z and AD.
const NEVER: u16 = 0x00e0;
const FORMERR: u16 = 1;
const NOTIMP: u16 = 4;
/// The largest reply without EDNS, in octets (RFC 1035 §4.2.1).
const PLAIN_OCTETS_MAX: usize = 512;

thread_local! {
    static ANSWERING: RefCell<(World, Worker)> = RefCell::new({
        let world = World::new();
        let worker = Worker::new(world.common.clone());
        (world, worker)
    });
}

pub fn check(query: &[u8]) {
    ANSWERING.with_borrow_mut(|(world, worker)| {
        let over_udp = limits(Transport::Udp, Ipv4Addr::LOCALHOST.into());
        exchange(world, worker, query, &over_udp, usize::from(UDP_OCTETS_MAX));
        let over_tcp = Transport::Tcp { idle_timeout: Duration::from_secs(30) };
        let over_tcp = limits(over_tcp, Ipv6Addr::LOCALHOST.into());
        exchange(world, worker, query, &over_tcp, usize::from(u16::MAX));
    });
}

fn limits(transport: Transport, client: IpAddr) -> Limits {
    Limits { transport, client, now_seconds: 1_700_000_000 }
}

fn exchange(world: &World, worker: &mut Worker, query: &[u8], limits: &Limits, octets_max: usize) {
    let directory = world.snapshot.view();
    let view = View { directory: &directory, generation: 7, is_stale: false };
    let mut out = vec![0; octets_max];
    let is_query = query.len() >= HEADER_OCTETS && query[2] & 0x80 == 0;
    match answer(&view, query, limits, worker, &mut out) {
        Verdict::Drop => assert!(!is_query, "a query is dropped"),
        Verdict::Reply(reply) => {
            assert!(is_query, "a reply to a message that is not a query");
            let message = check_reply(query, &out[..reply.len], limits);
            assert_eq!(message.code(), reply.code.0);
            assert_eq!(message.flags() & TC != 0, reply.is_truncated);
        }
        Verdict::Transfer => {
            let client = SocketAddr::new(limits.client, 53_000);
            if limits.transport == Transport::Udp {
                let reply = world.transfers.over_udp(query, client, &mut out).expect("a refusal has room");
                check_reply(query, &out[..reply.len], limits);
                return;
            }
            let request = Request::read(query).expect("a query for a transfer can be read");
            match world.runtime.block_on(world.transfers.begin(request, client)) {
                Outgoing::Message(response) => {
                    check_reply(query, &response.octets, limits);
                }
                Outgoing::Zone(_) => panic!("a client that is not allowed gets a zone"),
            }
        }
    }
}

fn check_reply<'r>(query: &[u8], reply: &'r [u8], limits: &Limits) -> Message<'r> {
    let message = Message::read(reply).unwrap_or_else(|error| panic!("{error} in the reply {reply:02x?}"));
    let asked = hickory_proto::op::Message::from_vec(query).ok();
    let edns = asked.as_ref().and_then(|asked| asked.edns.as_ref());
    if limits.transport == Transport::Udp {
        let largest = match (&asked, edns) {
            (Some(_), Some(edns)) => usize::from(edns.max_payload().clamp(512, UDP_OCTETS_MAX)),
            (Some(_), None) => PLAIN_OCTETS_MAX,
            // The query's size limit is unknown if hickory cannot read it.
            (None, _) => usize::from(UDP_OCTETS_MAX),
        };
        assert!(reply.len() <= largest, "{} octets, more than {largest}", reply.len());
    }
    assert_eq!(u16_at(reply, 0), u16_at(query, 0), "the id");
    let (flags, asked_flags) = (message.flags(), u16_at(query, 2).unwrap_or_default());
    assert_eq!(flags & QR, QR);
    assert_eq!(flags & OPCODE, asked_flags & OPCODE);
    assert_eq!(flags & NEVER, 0, "{flags:#06x}");
    match message.question {
        Some(question) => {
            let echoed = query.get(HEADER_OCTETS..HEADER_OCTETS + question.len());
            assert_eq!(echoed, Some(question), "the question");
            assert_eq!(flags & RD, asked_flags & RD);
        }
        None => assert!(message.records[..2] == [0, 0], "records without a question"),
    }
    if let Some((size, ttl, _)) = message.opt {
        assert_eq!(size, UDP_OCTETS_MAX);
        // The version is 0, and no flag but DO is set.
        assert_eq!(ttl & 0x00ff_7fff, 0);
        assert_ne!(
            u16_at(query, 10),
            Some(0),
            "an OPT record in a reply to a query without additional records"
        );
    }
    if asked.is_some() && !matches!(message.code(), FORMERR | NOTIMP) {
        assert_eq!(message.opt.is_some(), edns.is_some(), "an OPT record answers an OPT record");
    }
    if flags & TC != 0 && message.records[0] > 0 {
        assert_eq!(message.records[2], 0, "additional records go first");
    }
    let options = message.options().unwrap_or_else(|error| panic!("{error} in the reply"));
    let mut codes: Vec<_> = options.iter().map(|(code, _)| *code).collect();
    codes.sort_unstable();
    assert!(codes.windows(2).all(|pair| pair[0] != pair[1]), "an option twice");
    let read = hickory_proto::op::Message::from_vec(reply);
    let read = read.unwrap_or_else(|error| panic!("hickory cannot read the reply: {error}: {reply:02x?}"));
    let counts = [read.answers.len(), read.authorities.len(), read.additionals.len()];
    assert_eq!(counts, message.records);
    message
}
