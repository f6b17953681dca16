//! The responder that answers DNS queries, and the way of the few that are answered apart.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;

use tokio::sync::mpsc;

use super::super::answer::{Common, Limits, Transport, Verdict, View, Worker, answer, read_ahead};
use super::super::metrics::{Counted, DnsMetrics, Event, WorkerMetrics};
use super::super::rate_limit::{RateLimiter, Ruling, slip};
use super::super::tcp::Rare;
use super::super::transfer::Request;
use super::{Batch, Exchange, LocalAddress, Respond, Sent, send_one};
use crate::snapshot::Snapshot;

/// Deferred queries that can wait to be answered; more are dropped.
pub const DEFERRED_QUERIES_MAX: usize = 1024;

/// FORMERR (RFC 1035 §4.1.1).
const FORMERR: u16 = 1;

/// A query that is answered apart, and all that its reply needs.
pub struct DeferredQuery {
    octets: Vec<u8>,
    client: SocketAddr,
    local: Option<LocalAddress>,
    socket: Arc<UdpSocket>,
}

/// Answers from the newest snapshot, pinned once per batch.
pub struct DnsResponder {
    snapshot: Arc<Snapshot>,
    worker: Worker,
    rate_limiter: Option<RateLimiter>,
    metrics: WorkerMetrics,
    deferred: mpsc::Sender<DeferredQuery>,
    socket: Arc<UdpSocket>,
}

impl DnsResponder {
    /// A responder for one thread. What it defers is for [`answer_deferred`], which sends from `socket`.
    pub fn new(
        snapshot: Arc<Snapshot>,
        common: Arc<Common>,
        rate_limiter: Option<RateLimiter>,
        metrics: &Arc<DnsMetrics>,
        deferred: mpsc::Sender<DeferredQuery>,
        socket: Arc<UdpSocket>,
    ) -> DnsResponder {
        let metrics = metrics.worker(Counted::Udp);
        DnsResponder { snapshot, worker: Worker::new(common), rate_limiter, metrics, deferred, socket }
    }
}

/// Whether the client may have a reply. One that has shown its address may always.
#[inline]
fn rule(limiter: &mut Option<RateLimiter>, client: IpAddr, has_good_cookie: bool, now: &Now) -> Ruling {
    match limiter {
        Some(limiter) if !has_good_cookie => limiter.rule(client, now.milliseconds),
        _ => Ruling::Send,
    }
}

/// Hands a query over, if there is room: what is dropped is not copied. True when it was handed over.
fn defer(deferred: &mpsc::Sender<DeferredQuery>, exchange: &Exchange, socket: &Arc<UdpSocket>) -> bool {
    let Ok(permit) = deferred.try_reserve() else { return false };
    let (octets, socket) = (exchange.query.to_vec(), socket.clone());
    permit.send(DeferredQuery { octets, client: exchange.client, local: exchange.local, socket });
    true
}

impl Respond for DnsResponder {
    fn respond(&mut self, batch: &mut Batch) {
        let now = Now::read();
        // Before the directory: a reply's data is at least as new as the number that it tells.
        let DnsResponder { snapshot, worker, rate_limiter, metrics, deferred, socket } = self;
        let generation = snapshot.generation();
        let directory = snapshot.view();
        let view = View { directory: &directory, generation, is_stale: worker.is_stale() };
        metrics.count(Event::Batch);
        // Alone, a query has no other to wait beside.
        if batch.received > 1 {
            read_ahead(&view, batch.queries());
        }
        for mut exchange in batch.exchanges() {
            let client = exchange.client.ip();
            let limits = Limits { transport: Transport::Udp, client, now_seconds: now.seconds };
            match answer(&view, exchange.query, &limits, worker, exchange.out) {
                Verdict::Reply(mut reply) => {
                    match rule(rate_limiter, client, reply.has_good_cookie, &now) {
                        Ruling::Send => {}
                        Ruling::Slip => {
                            reply.len = slip(exchange.query, exchange.out, reply.len);
                            reply.is_truncated = true;
                            metrics.count(Event::RateLimitSlipped);
                        }
                        Ruling::Drop => {
                            metrics.count(Event::Query);
                            metrics.count(Event::RateLimitDropped);
                            continue;
                        }
                    }
                    metrics.record(&reply);
                    exchange.reply(reply.len);
                }
                Verdict::Drop => metrics.count(Event::Ignored),
                // There is no reply yet that could be truncated.
                Verdict::Defer if rule(rate_limiter, client, false, &now) != Ruling::Send => {
                    metrics.count(Event::Query);
                    metrics.count(Event::RateLimitDropped);
                }
                Verdict::Defer if defer(deferred, &exchange, socket) => metrics.count(Event::Deferred),
                Verdict::Defer => {
                    metrics.count(Event::Query);
                    metrics.count(Event::DeferredDropped);
                }
            }
        }
    }

    fn sent(&mut self, sent: &Sent) {
        self.metrics.count_many(Event::SendError, sent.errors);
        self.metrics.count_many(Event::Ignored, sent.ignored);
        self.metrics.record_many(FORMERR, sent.too_long);
        self.metrics.publish();
    }

    fn receive_failed(&mut self, error: std::io::Error) {
        tracing::debug!(%error, "receiving a query failed");
        self.metrics.count(Event::ReceiveError);
        self.metrics.publish();
    }
}

/// Answers what responders defer, one after the other, until all of them are gone.
pub async fn answer_deferred(
    mut queries: mpsc::Receiver<DeferredQuery>,
    rare: Rare,
    metrics: Arc<DnsMetrics>,
) {
    while let Some(DeferredQuery { octets, client, local, socket }) = queries.recv().await {
        let reply = match Request::read(&octets) {
            Some(request) => {
                let response = rare.transfers.over_udp(&request, client);
                metrics.record(Counted::Udp, response.code, response.is_truncated);
                response.octets
            }
            None => match rare.deferred.reply(octets, client, Transport::Udp).await {
                Some(reply) => reply,
                None => continue,
            },
        };
        if let Err(error) = send_one(&socket, &reply, client, local) {
            tracing::debug!(%error, %client, "reply not sent");
            metrics.count(Counted::Udp, Event::SendError);
        }
    }
}

/// The time of a batch: since 1970, modulo 2^32.
struct Now {
    seconds: u32,
    milliseconds: u32,
}

impl Now {
    /// Reads the clock that costs least; it is exact to a few milliseconds.
    #[cfg(target_os = "linux")]
    fn read() -> Now {
        use nix::time::{ClockId, clock_gettime};
        // It fails for clocks that don't exist.
        let time = clock_gettime(ClockId::CLOCK_REALTIME_COARSE).map(std::time::Duration::from);
        Now::new(time.unwrap_or_default())
    }

    #[cfg(not(target_os = "linux"))]
    fn read() -> Now {
        Now::new(std::time::UNIX_EPOCH.elapsed().unwrap_or_default())
    }

    fn new(time: std::time::Duration) -> Now {
        Now { seconds: time.as_secs() as u32, milliseconds: time.as_millis() as u32 }
    }
}
