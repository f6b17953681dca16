//! The metrics of queries and replies under this server's names, and where a setting asks for it under those of CoreDNS.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::shapes::{SIZE_BOUNDS, Shapes, TIME_BOUNDS_US};
use super::{Counted, Counts, DnsMetrics, Event, RESPONSE_CODES};
use crate::dns::place::{CODES, NO_ZONE, ReplyPlace, TYPES};
use crate::exposition::{Collect, Exposition, Family};
use crate::snapshot::Snapshot;
use crate::wire::Rcode;
use crate::zone::directory::LASTING_NUMBERS;

/// Label of zones without a number that lasts.
const OTHER: &str = "other";
/// Label of replies without a zone, which is CoreDNS's. It cannot be the name of a zone, because it has no dot at its end.
const DROPPED: &str = "dropped";

/// Source of the metrics of queries and replies.
///
/// A zone has a label of its own if it is one of the first hundred since the start, and was there at a scrape; a zone that was
/// deleted keeps it. So the number of series stays below a limit, whatever clients of the API create.
pub struct DnsCollector {
    metrics: Arc<DnsMetrics>,
    snapshot: Arc<Snapshot>,
    /// True if the metrics have CoreDNS's names too.
    has_coredns_names: bool,
    /// Names of zones by their numbers.
    zones: Mutex<BTreeMap<usize, String>>,
}

/// Everything that one scrape shows.
struct Scrape {
    counts: [(Counted, Counts); Counted::ALL.len()],
    shapes: [(Counted, Shapes); Counted::ALL.len()],
    zones: BTreeMap<usize, String>,
}

impl DnsCollector {
    /// Collects these numbers, with the names of the snapshot's zones.
    pub fn new(metrics: Arc<DnsMetrics>, snapshot: Arc<Snapshot>, has_coredns_names: bool) -> DnsCollector {
        DnsCollector { metrics, snapshot, has_coredns_names, zones: Mutex::default() }
    }

    fn zones(&self) -> BTreeMap<usize, String> {
        let mut zones = self.zones.lock().unwrap_or_else(PoisonError::into_inner);
        let view = self.snapshot.view();
        for zone in view.zones().filter(|zone| zone.lasting_number() < LASTING_NUMBERS) {
            zones.entry(zone.lasting_number().into()).or_insert_with(|| zone.apex.to_string());
        }
        zones.clone()
    }
}

impl Collect for DnsCollector {
    fn collect(&self, out: &mut Exposition) {
        let scrape = Scrape {
            counts: Counted::ALL.map(|transport| (transport, self.metrics.counts(transport))),
            shapes: Counted::ALL.map(|transport| (transport, self.metrics.of(transport).shapes())),
            zones: self.zones(),
        };
        scrape.counters(out);
        scrape.histograms(out);
        scrape.by_zone(out);
        if self.has_coredns_names {
            scrape.as_coredns(out);
        }
    }
}

impl Scrape {
    fn counters(&self, out: &mut Exposition) {
        let total = |event| self.counts.iter().map(|(_, counts)| counts.of(event)).sum::<u64>();
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
            for (transport, counts) in &self.counts {
                family.sample(&[("transport", transport.label())], counts.of(event));
            }
        }
        let mut family = out.counter("dns_responses_total", "DNS responses, by response code.");
        for code in 0..RESPONSE_CODES {
            let count: u64 = self.counts.iter().map(|(_, counts)| counts.responses()[code]).sum();
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

    fn histograms(&self, out: &mut Exposition) {
        let help = "Length of DNS responses without those of transfers, in bytes, by transport.";
        let mut family = out.histogram("dns_response_size_bytes", help);
        for (transport, shapes) in &self.shapes {
            let labels = [("transport", transport.label())];
            add_sizes(&mut family, &labels, shapes);
        }
        let help = "Time from the receipt of a query to its response, in seconds, by transport. The queries that were received \
                    together have the time of the last one.";
        let mut family = out.histogram("dns_query_seconds", help);
        for (transport, shapes) in &self.shapes {
            let labels = [("transport", transport.label())];
            add_times(&mut family, &labels, shapes);
        }
    }

    fn by_zone(&self, out: &mut Exposition) {
        let (mut types, mut codes) = (BTreeMap::<_, u64>::new(), BTreeMap::<_, u64>::new());
        for (place, count) in self.shapes.iter().flat_map(|(_, shapes)| shapes.replies()) {
            let (zone, rtype, code) = ReplyPlace::parts(place);
            *types.entry((self.zone(zone), type_name(rtype))).or_default() += count;
            *codes.entry((self.zone(zone), code_name(code))).or_default() += count;
        }
        let help = "DNS queries that were answered, by zone and record type.";
        let mut family = out.counter("dns_queries_by_type_total", help);
        for ((zone, name), count) in types {
            family.sample(&[("zone", zone), ("type", name)], count);
        }
        let mut family = out.counter("dns_zone_responses_total", "DNS responses, by zone and response code.");
        for ((zone, name), count) in codes {
            family.sample(&[("zone", zone), ("rcode", &name)], count);
        }
    }

    /// Exports the numbers under the names of CoreDNS's plugin `prometheus`. The label `family` is missing, histograms have no label
    /// `zone`, and times have the label `proto` in addition.
    fn as_coredns(&self, out: &mut Exposition) {
        let (mut types, mut codes) = (BTreeMap::<_, u64>::new(), BTreeMap::<_, u64>::new());
        for (transport, shapes) in &self.shapes {
            let (server, proto) = coredns_labels(*transport);
            for (place, count) in shapes.replies() {
                let (zone, rtype, code) = ReplyPlace::parts(place);
                let zone = self.zone(zone);
                *types.entry((server, zone, proto, type_name(rtype))).or_default() += count;
                *codes.entry((server, zone, code_name(code))).or_default() += count;
            }
        }
        let mut family = out.family(
            "coredns_dns_requests_total",
            "counter",
            "DNS queries that were answered, under CoreDNS's name.",
        );
        for ((server, zone, proto, name), count) in types {
            let labels = [("server", server), ("zone", zone), ("view", ""), ("proto", proto), ("type", name)];
            family.sample(&labels, count);
        }
        let mut family =
            out.family("coredns_dns_responses_total", "counter", "DNS responses, under CoreDNS's name.");
        for ((server, zone, name), count) in codes {
            let labels = [
                ("server", server),
                ("zone", zone),
                ("view", ""),
                ("rcode", name.as_str()),
                ("plugin", env!("CARGO_PKG_NAME")),
            ];
            family.sample(&labels, count);
        }
        let help = "Length of DNS responses in bytes, under CoreDNS's name.";
        let mut family = out.family("coredns_dns_response_size_bytes", "histogram", help);
        for (transport, shapes) in &self.shapes {
            let (server, proto) = coredns_labels(*transport);
            add_sizes(&mut family, &[("server", server), ("view", ""), ("proto", proto)], shapes);
        }
        let help = "Time from the receipt of a query to its response, in seconds, under CoreDNS's name.";
        let mut family = out.family("coredns_dns_request_duration_seconds", "histogram", help);
        for (transport, shapes) in &self.shapes {
            let (server, proto) = coredns_labels(*transport);
            add_times(&mut family, &[("server", server), ("view", ""), ("proto", proto)], shapes);
        }
    }

    /// Label of the zone with this number, or of what is behind the zones.
    fn zone(&self, number: usize) -> &str {
        match self.zones.get(&number) {
            Some(name) => name,
            None if number == NO_ZONE => DROPPED,
            None => OTHER,
        }
    }
}

/// Adds the histogram of the lengths of replies, in bytes.
fn add_sizes(family: &mut Family<'_>, labels: &[(&str, &str)], shapes: &Shapes) {
    let (counts, larger) = shapes.sizes();
    family.histogram(labels, &SIZE_BOUNDS.map(f64::from), counts, larger, shapes.bytes() as f64);
}

/// Adds the histogram of the times of queries, in seconds.
fn add_times(family: &mut Family<'_>, labels: &[(&str, &str)], shapes: &Shapes) {
    let (counts, larger) = shapes.times();
    let bounds = TIME_BOUNDS_US.map(|us| us as f64 / 1e6);
    family.histogram(labels, &bounds, counts, larger, shapes.seconds());
}

fn type_name(place: usize) -> &'static str {
    TYPES.get(place).map_or(OTHER, |(_, name)| *name)
}

fn code_name(code: usize) -> String {
    if code < CODES { Rcode(code as u16).to_string() } else { OTHER.into() }
}

/// Labels `server`, without an address, and `proto` that CoreDNS has for a transport.
fn coredns_labels(transport: Counted) -> (&'static str, &'static str) {
    match transport {
        Counted::Udp => ("dns://", "udp"),
        Counted::Tcp => ("dns://", "tcp"),
        Counted::Tls => ("tls://", "tcp"),
        Counted::Https => ("https://", "tcp"),
        Counted::Quic => ("quic://", "udp"),
    }
}
