//! What DNS and the API count, as metrics.

use std::sync::Arc;

use crate::admin::{Collect, Exposition};
use crate::api::ApiMetrics;
use crate::dns::DnsMetrics;

/// Response codes by number (RFC 1035 §4.1.1, RFC 2136 §2.2); what is not named here shows as its number.
const RESPONSE_CODES: [&str; 11] = [
    "NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED", "YXDOMAIN", "YXRRSET", "NXRRSET",
    "NOTAUTH", "NOTZONE",
];

/// The counters of DNS and of the API.
pub(super) struct Counters {
    pub(super) dns: Arc<DnsMetrics>,
    pub(super) api: Arc<ApiMetrics>,
}

impl Collect for Counters {
    fn collect(&self, out: &mut Exposition) {
        let (udp, tcp) = self.dns.queries();
        out.counter("dns_queries_total", "DNS queries received, by transport.")
            .sample(&[("transport", "udp")], udp)
            .sample(&[("transport", "tcp")], tcp);
        let mut family = out.counter("dns_responses_total", "DNS responses, by response code.");
        for (code, count) in self.dns.responses().enumerate().filter(|(_, count)| *count > 0) {
            let number = code.to_string();
            let name =
                RESPONSE_CODES.get(code).copied().unwrap_or(if code == 16 { "BADVERS" } else { &number });
            family.sample(&[("rcode", name)], count);
        }
        out.counter("dns_truncated_total", "DNS responses with TC set.").sample(&[], self.dns.truncated());
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
        out.counter("api_request_seconds_total", "Time of all API requests together.").sample(&[], seconds);
    }
}
