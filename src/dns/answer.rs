//! The answer: from the octets of a query to the octets of its reply.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::zone::Directory;

/// What a worker answers a batch of queries from.
#[derive(Clone, Copy)]
pub struct View<'v> {
    /// All zones and names.
    pub directory: &'v Directory,
    /// The number of the newest change, for NSID.
    pub generation: u64,
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

/// A reply in the buffer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Reply {
    /// Its length in octets.
    pub len: usize,
    /// The response code, the extended ones of EDNS included.
    pub code: u16,
    /// Whether TC is set.
    pub is_truncated: bool,
    /// Whether the client has shown that it receives what is sent to its address: a cookie of ours that is good.
    pub has_good_cookie: bool,
}

/// What all workers have in common.
pub struct Common {
    server_id: Box<[u8]>,
}

impl Common {
    /// `server_id` is what NSID tells (RFC 5001), before the generation.
    pub fn new(server_id: &str) -> Arc<Common> {
        Arc::new(Common { server_id: server_id.as_bytes().into() })
    }
}

/// What one worker keeps from query to query. Nothing in it is written by other workers.
pub struct Worker {
    common: Arc<Common>,
    random: fastrand::Rng,
}

impl Worker {
    /// A worker with its own random numbers.
    pub fn new(common: Arc<Common>) -> Worker {
        Worker { common, random: fastrand::Rng::new() }
    }
}

/// Answers one query into `out`, which has to hold [`UDP_OCTETS_MAX`](super::UDP_OCTETS_MAX) octets for UDP and 65,535
/// for TCP.
pub fn answer(
    view: &View<'_>,
    query: &[u8],
    limits: &Limits,
    worker: &mut Worker,
    out: &mut [u8],
) -> Verdict {
    let _ = (view, query, limits, &mut worker.random, &worker.common.server_id, out);
    Verdict::Defer
}
