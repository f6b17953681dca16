//! Prometheus' text format, version 0.0.4.
//!
//! A module with metrics implements [`Collect`] beside its counters, so that a metric is defined in one file, and writes them
//! into the [`Exposition`] of a scrape. The text is always
//! well-formed: each name occurs once, with one HELP and one TYPE line, and label values are escaped.

mod histogram;

use std::collections::HashSet;
use std::fmt::Write as _;

pub use histogram::Histogram;

/// Prefix of all metric names, except for those that Prometheus defines for every process.
const PREFIX: &str = "cloudmap_dns_";

/// A source of metrics, such as the counters of one module.
pub trait Collect {
    /// Writes the current values. It is called for each scrape on a blocking thread, and must not wait for anything.
    fn collect(&self, out: &mut Exposition);
}

/// The text of one scrape, to which each [`Collect`] adds its metrics.
#[derive(Debug, Default)]
pub struct Exposition {
    text: String,
    names: HashSet<String>,
}

/// A metric family: all samples of one name, which differ in their labels. The samples of a repeated name are dropped,
/// because Prometheus rejects a scrape with a name twice.
#[derive(Debug)]
pub struct Family<'e> {
    text: Option<&'e mut String>,
    name: String,
}

/// Value of a sample: a count or flag, which stays exact because it is not converted to a float, or a quantity such as
/// seconds, which may also be NaN or infinite.
#[derive(Clone, Copy, Debug, PartialEq)]
#[expect(missing_docs, reason = "the type's document explains the variants")]
pub enum Value {
    Integer(u64),
    Real(f64),
}

impl Exposition {
    /// Starts a counter, which only grows until the process ends. `name` lacks the prefix `cloudmap_dns_`, and ends in
    /// `_total`.
    pub fn counter(&mut self, name: &str, help: &str) -> Family<'_> {
        self.family(&format!("{PREFIX}{name}"), "counter", help)
    }

    /// Starts a gauge, which may grow and shrink. `name` lacks the prefix `cloudmap_dns_`.
    pub fn gauge(&mut self, name: &str, help: &str) -> Family<'_> {
        self.family(&format!("{PREFIX}{name}"), "gauge", help)
    }

    /// Starts a histogram. `name` lacks the prefix `cloudmap_dns_`.
    pub fn histogram(&mut self, name: &str, help: &str) -> Family<'_> {
        self.family(&format!("{PREFIX}{name}"), "histogram", help)
    }

    /// Starts a family whose full name is given, for the metrics that Prometheus defines for every process.
    pub(crate) fn family(&mut self, name: &str, kind: &str, help: &str) -> Family<'_> {
        debug_assert!(is_name(name), "{name} can't be the name of a metric");
        debug_assert_eq!(kind == "counter", name.ends_with("_total"), "{name}: counters end in _total");
        let is_new = self.names.insert(name.into());
        debug_assert!(is_new, "{name} is there twice");
        if !is_new {
            return Family { text: None, name: name.into() };
        }
        let help = help.replace('\\', r"\\").replace('\n', r"\n");
        self.text.push_str(&format!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
        Family { text: Some(&mut self.text), name: name.into() }
    }

    /// Returns the body of the response to the scrape.
    pub fn into_text(self) -> String {
        self.text
    }
}

impl Family<'_> {
    /// Adds a sample with the given labels. Their values may be any text, because they are escaped here.
    pub fn sample(&mut self, labels: &[(&str, &str)], value: impl Into<Value>) -> &mut Self {
        self.write("", labels, value.into())
    }

    /// Adds the samples of a histogram: the numbers of observations up to each bound and above those below it, of those above
    /// the last bound, and the sum of all.
    pub fn histogram(
        &mut self,
        labels: &[(&str, &str)],
        bounds: &[f64],
        counts: &[u64],
        larger: u64,
        sum: f64,
    ) -> &mut Self {
        let mut total = 0;
        for (bound, count) in bounds.iter().zip(counts) {
            total += count;
            let bound = bound.to_string();
            self.write("_bucket", &[labels, &[("le", bound.as_str())]].concat(), Value::Integer(total));
        }
        total += larger;
        self.write("_bucket", &[labels, &[("le", "+Inf")]].concat(), Value::Integer(total));
        self.write("_sum", labels, Value::Real(sum));
        self.write("_count", labels, Value::Integer(total))
    }

    fn write(&mut self, suffix: &str, labels: &[(&str, &str)], value: Value) -> &mut Self {
        let Some(text) = &mut self.text else { return self };
        text.push_str(&self.name);
        text.push_str(suffix);
        for (at, (label, value)) in labels.iter().enumerate() {
            debug_assert!(is_name(label) && !label.contains(':'), "{label} can't be the name of a label");
            text.push_str(if at == 0 { "{" } else { "," });
            let value = value.replace('\\', r"\\").replace('"', r#"\""#).replace('\n', r"\n");
            text.push_str(&format!("{label}=\"{value}\""));
        }
        if !labels.is_empty() {
            text.push('}');
        }
        // Writing to a String cannot fail.
        match value {
            Value::Integer(value) => writeln!(text, " {value}"),
            Value::Real(value) if value.is_nan() => writeln!(text, " NaN"),
            Value::Real(value) if value.is_infinite() => {
                writeln!(text, " {}Inf", if value > 0.0 { '+' } else { '-' })
            }
            Value::Real(value) => writeln!(text, " {value}"),
        }
        .unwrap_or_default();
        self
    }
}

impl From<u64> for Value {
    fn from(value: u64) -> Value {
        Value::Integer(value)
    }
}

impl From<usize> for Value {
    fn from(value: usize) -> Value {
        Value::Integer(value as u64)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Value {
        Value::Integer(value.into())
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Value {
        Value::Real(value)
    }
}

fn is_name(name: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_alphabetic() || matches!(byte, b'_' | b':');
    name.bytes().next().is_some_and(is_letter)
        && name.bytes().all(|byte| is_letter(byte) || byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_and_samples_are_escaped_for_prometheus() {
        let mut out = Exposition::default();
        out.counter("queries_total", "Queries\nby \\ outcome.")
            .sample(&[("transport", "udp"), ("rcode", "NOERROR")], 12u64)
            .sample(&[("transport", "a\"b\\c\nd"), ("rcode", "é")], 0u64);
        out.gauge("uptime_seconds", "Seconds.").sample(&[], 1.5);
        out.gauge("odd", "Odd.").sample(&[], f64::NAN).sample(&[("a", "")], f64::NEG_INFINITY);
        out.family("process_open_fds", "gauge", "Files.").sample(&[], true);
        assert_eq!(
            out.into_text(),
            "# HELP cloudmap_dns_queries_total Queries\\nby \\\\ outcome.\n\
             # TYPE cloudmap_dns_queries_total counter\n\
             cloudmap_dns_queries_total{transport=\"udp\",rcode=\"NOERROR\"} 12\n\
             cloudmap_dns_queries_total{transport=\"a\\\"b\\\\c\\nd\",rcode=\"é\"} 0\n\
             # HELP cloudmap_dns_uptime_seconds Seconds.\n\
             # TYPE cloudmap_dns_uptime_seconds gauge\n\
             cloudmap_dns_uptime_seconds 1.5\n\
             # HELP cloudmap_dns_odd Odd.\n\
             # TYPE cloudmap_dns_odd gauge\n\
             cloudmap_dns_odd NaN\n\
             cloudmap_dns_odd{a=\"\"} -Inf\n\
             # HELP process_open_fds Files.\n\
             # TYPE process_open_fds gauge\n\
             process_open_fds 1\n"
        );
    }

    #[test]
    fn buckets_of_histograms_add_up() {
        let seconds = Histogram::new([0.5, 1.0]);
        for ms in [500, 501, 1_000, 7_000] {
            seconds.observe(std::time::Duration::from_millis(ms));
        }
        let mut out = Exposition::default();
        seconds.collect(&[("source", "api")], &mut out.histogram("served_seconds", "Seconds."));
        assert_eq!(
            out.into_text(),
            "# HELP cloudmap_dns_served_seconds Seconds.\n\
             # TYPE cloudmap_dns_served_seconds histogram\n\
             cloudmap_dns_served_seconds_bucket{source=\"api\",le=\"0.5\"} 1\n\
             cloudmap_dns_served_seconds_bucket{source=\"api\",le=\"1\"} 3\n\
             cloudmap_dns_served_seconds_bucket{source=\"api\",le=\"+Inf\"} 4\n\
             cloudmap_dns_served_seconds_sum{source=\"api\"} 9.001\n\
             cloudmap_dns_served_seconds_count{source=\"api\"} 4\n"
        );
    }
}
