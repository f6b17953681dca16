//! Prometheus' text format, version 0.0.4.
//!
//! Who calls it: whatever has something to count implements [`Collect`] and writes it into an [`Exposition`] when it is
//! asked. It promises well-formed text: one HELP and one TYPE line for each name, escaped labels, no name twice.

use std::collections::HashSet;
use std::fmt::Write as _;

/// What every name starts with, except those that Prometheus has a custom for.
const PREFIX: &str = "cloudmap_dns_";

/// Something that has metrics.
pub trait Collect {
    /// Writes them as they are now. Called for each scrape, off the asynchronous threads; it must not wait.
    fn collect(&self, out: &mut Exposition);
}

/// The metrics of one scrape.
#[derive(Debug, Default)]
pub struct Exposition {
    text: String,
    names: HashSet<String>,
}

/// All samples of one name.
#[derive(Debug)]
pub struct Family<'e> {
    /// Nothing when the name was there before: a scrape with a name twice would be refused as a whole.
    text: Option<&'e mut String>,
    name: String,
}

/// What a sample says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value {
    /// A count.
    Integer(u64),
    /// A quantity, such as seconds.
    Real(f64),
}

impl Exposition {
    /// A number that only grows until the process ends. `name` is without `cloudmap_dns_` and ends in `_total`.
    pub fn counter(&mut self, name: &str, help: &str) -> Family<'_> {
        self.family(&format!("{PREFIX}{name}"), "counter", help)
    }

    /// A number that goes up and down. `name` is without `cloudmap_dns_`.
    pub fn gauge(&mut self, name: &str, help: &str) -> Family<'_> {
        self.family(&format!("{PREFIX}{name}"), "gauge", help)
    }

    /// A family with the whole of its name.
    pub(super) fn family(&mut self, name: &str, kind: &str, help: &str) -> Family<'_> {
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

    /// The body of the answer to the scrape.
    pub fn into_text(self) -> String {
        self.text
    }
}

impl Family<'_> {
    /// Adds a sample. Label values may be any text.
    pub fn sample(&mut self, labels: &[(&str, &str)], value: impl Into<Value>) -> &mut Self {
        let Some(text) = &mut self.text else { return self };
        text.push_str(&self.name);
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
        match value.into() {
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

/// 0 and 1.
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
    let is_letter = |octet: u8| octet.is_ascii_alphabetic() || matches!(octet, b'_' | b':');
    name.bytes().next().is_some_and(is_letter)
        && name.bytes().all(|octet| is_letter(octet) || octet.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_and_samples_are_written_as_prometheus_reads_them() {
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
}
