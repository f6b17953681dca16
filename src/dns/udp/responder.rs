//! The responder that answers DNS queries from the snapshot and applies the rate limit.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use super::super::answer::{Common, Limits, Transport, Verdict, View, Worker, answer, prefetch};
use super::super::metrics::{Counted, DnsMetrics, Event, WorkerMetrics};
use super::super::rate_limit::{RateLimiter, Ruling, slip};
use super::super::transfer::Transfers;
use super::{Batch, Respond, Sent};
use crate::snapshot::Snapshot;
use crate::wire::Rcode;

/// Answers from the newest snapshot, of which each batch uses one version.
pub struct DnsResponder {
    snapshot: Arc<Snapshot>,
    worker: Worker,
    rate_limiter: Option<RateLimiter>,
    metrics: WorkerMetrics,
    transfers: Arc<Transfers>,
    batch_received: Now,
}

impl DnsResponder {
    /// Creates the responder of one thread; without a rate limiter, all replies are sent.
    pub fn new(
        snapshot: Arc<Snapshot>,
        common: Arc<Common>,
        rate_limiter: Option<RateLimiter>,
        metrics: &Arc<DnsMetrics>,
        transfers: Arc<Transfers>,
    ) -> DnsResponder {
        let metrics = metrics.worker(Counted::Udp);
        let (worker, batch_received) = (Worker::new(common), Now::default());
        DnsResponder { snapshot, worker, rate_limiter, metrics, transfers, batch_received }
    }
}

/// Decision of the rate limiter. Clients with a valid cookie have proved their address and are not limited.
#[inline]
fn rule(limiter: &mut Option<RateLimiter>, client: IpAddr, has_good_cookie: bool, now: &Now) -> Ruling {
    match limiter {
        Some(limiter) if !has_good_cookie => limiter.rule(client, now.milliseconds()),
        _ => Ruling::Send,
    }
}

impl Respond for DnsResponder {
    fn respond(&mut self, batch: &mut Batch) {
        let now = Now::read();
        let DnsResponder { snapshot, worker, rate_limiter, metrics, transfers, batch_received } = self;
        *batch_received = now;
        // The generation is read before the directory, so that a reply's data is at least as new as the generation in NSID.
        let generation = snapshot.generation();
        let directory = snapshot.view();
        let view = View { directory: &directory, generation, is_stale: worker.is_stale() };
        metrics.count(Event::Batch);
        // Prefetch overlaps the cache misses of several queries, so that it does not help a single one.
        if batch.received > 1 {
            prefetch(&view, batch.queries());
        }
        for mut exchange in batch.exchanges() {
            let client = exchange.client.ip();
            let limits = Limits { transport: Transport::Udp, client, now_seconds: now.seconds() };
            let reply = match answer(&view, exchange.query, &limits, worker, exchange.out) {
                Verdict::Reply(reply) => Some(reply),
                Verdict::Transfer => transfers.over_udp(exchange.query, exchange.client, exchange.out),
                Verdict::Drop => None,
            };
            let Some(mut reply) = reply else {
                metrics.count(Event::Ignored);
                continue;
            };
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
    }

    fn sent(&mut self, sent: &Sent) {
        self.metrics.count_many(Event::SendError, sent.errors);
        self.metrics.count_many(Event::Ignored, sent.ignored);
        self.metrics.record_many(Rcode::FORMERR, sent.too_long);
        self.metrics.publish_batch(Now::read().since(self.batch_received));
    }

    fn receive_failed(&mut self, error: std::io::Error) {
        tracing::debug!(%error, "receiving a query failed");
        self.metrics.count(Event::ReceiveError);
        self.metrics.publish();
    }
}

/// Time of day, since 1970.
#[derive(Clone, Copy, Default)]
struct Now(Duration);

impl Now {
    fn read() -> Now {
        Now(UNIX_EPOCH.elapsed().unwrap_or_default())
    }

    fn seconds(self) -> u32 {
        self.0.as_secs() as u32
    }

    fn milliseconds(self) -> u32 {
        self.0.as_millis() as u32
    }

    /// Time that has passed since an earlier one; zero if the clock was set back meanwhile.
    fn since(self, earlier: Now) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}
