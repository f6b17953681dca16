//! The metrics of DNS and of the API, made from their counters.

use std::sync::Arc;

use crate::admin::{Collect, Exposition};
use crate::api::ApiMetrics;
use crate::dns::metrics::{Counted, Event, RESPONSE_CODES};
use crate::dns::{DnsMetrics, TcpGauge};
use crate::wire::Rcode;

pub(super) struct Counters {
    pub(super) dns: Arc<DnsMetrics>,
    pub(super) tcp: TcpGauge,
    pub(super) api: Arc<ApiMetrics>,
}

impl Collect for Counters {
    fn collect(&self, out: &mut Exposition) {
        self.dns(out);
        self.tcp(out);
        let mut family = out.counter("api_requests_total", "API requests, by operation and outcome.");
        let unrouted = [("unknown", self.api.unrouted())];
        let operations = self.api.operations().map(|(action, outcomes)| (action.as_str(), outcomes));
        for (operation, outcomes) in operations.chain(unrouted) {
            let counts = [
                ("ok", outcomes.ok),
                ("client_error", outcomes.client_errors),
                ("server_error", outcomes.server_errors),
            ];
            for (outcome, count) in counts.into_iter().filter(|(_, count)| *count > 0) {
                family.sample(&[("operation", operation), ("outcome", outcome)], count);
            }
        }
        let seconds = self.api.duration_us_total() as f64 / 1e6;
        out.counter("api_request_seconds_total", "Total time of all API requests, in seconds.")
            .sample(&[], seconds);
    }
}

impl Counters {
    fn tcp(&self, out: &mut Exposition) {
        let counts = self.tcp.counts();
        out.gauge("dns_tcp_connections", "Open DNS connections over TCP.").sample(&[], counts.open);
        out.counter(
            "dns_tcp_connections_closed_total",
            "DNS connections over TCP closed because of a limit: idle ones, or new ones.",
        )
        .sample(&[("which", "idle")], counts.evicted)
        .sample(&[("which", "new")], counts.refused);
    }

    fn dns(&self, out: &mut Exposition) {
        let all = Counted::ALL.map(|transport| (transport, self.dns.counts(transport)));
        let total = |event| all.iter().map(|(_, counts)| counts.of(event)).sum::<u64>();
        for (name, help, event) in [
            ("dns_queries_total", "DNS queries received, by transport.", Event::Query),
            (
                "dns_ignored_total",
                "Messages that are not queries and get no response, by transport.",
                Event::Ignored,
            ),
            (
                "dns_send_errors_total",
                "DNS responses that could not be sent, by transport.",
                Event::SendError,
            ),
        ] {
            let mut family = out.counter(name, help);
            for (transport, counts) in &all {
                family.sample(&[("transport", transport.label())], counts.of(event));
            }
        }
        let mut family = out.counter("dns_responses_total", "DNS responses, by response code.");
        for code in 0..RESPONSE_CODES {
            let count: u64 = all.iter().map(|(_, counts)| counts.responses()[code]).sum();
            if count == 0 {
                continue;
            }
            family.sample(&[("rcode", &Rcode(code as u16).to_string())], count);
        }
        out.counter(
            "dns_truncated_total",
            "DNS responses with TC set, because records had no room or because of the rate limit.",
        )
        .sample(&[], total(Event::Truncated));
        out.counter(
            "dns_rate_limited_total",
            "UDP queries over the rate limit of their network, by outcome.",
        )
        .sample(&[("outcome", "dropped")], total(Event::RateLimitDropped))
        .sample(&[("outcome", "slipped")], total(Event::RateLimitSlipped));
        out.counter("dns_udp_batches_total", "Batches of UDP queries received.")
            .sample(&[], total(Event::Batch));
        out.counter("dns_udp_receive_errors_total", "Errors on receiving from UDP sockets.")
            .sample(&[], total(Event::ReceiveError));
    }
}
