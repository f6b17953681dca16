//! The explanation of a service: its settings, and a verdict on each of its instances.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use jiff::Timestamp;

use crate::model::{
    CustomHealthStatus, DnsRecordType, EpochMs, HealthStatus, Instance, Readiness, Report, RoutingPolicy,
    Service, ServiceId, Signals,
    instance::{AWS_ALIAS_DNS_NAME, AWS_INSTANCE_CNAME},
};
use crate::registry::health::{
    Answering, CauseKind, HealthOf, HealthSettings, MinimumHealthy, Reason, Shortage, UnknownHealth,
    invalid_policies,
};
use crate::registry::names::{InstanceNames, Loss, ServiceNames};
use crate::registry::{ServiceState, State};

use super::more_line;

const INSTANCES_LISTED_MAX: usize = 1_000;
/// Widest column in characters; longer values are not cut, but shift the rest of their line.
const COLUMN_CHARACTERS_MAX: usize = 48;

/// Looks up the remark that the watch of pods has about a pod (`namespace/name`) as an instance of a service.
pub(super) type PodRemark<'a> = &'a dyn Fn(&str, &ServiceId) -> Option<Arc<str>>;

pub(super) fn describe(
    registry: &State,
    state: &ServiceState,
    defaults: &HealthSettings,
    pod_remark: PodRemark<'_>,
) -> String {
    let service = &*state.service;
    let verdicts = Verdicts { registry, service, pod_remark, answering: defaults.answering(state) };
    let origin = if service.origin.is_shadowed() { ", shadowed: KECS's own, read-only here" } else { "" };
    let mut text = format!("service   {} ({}){origin}\n", shown(&service.name), service.id);
    if let Some(dns) = &service.dns {
        let routing = match dns.routing {
            RoutingPolicy::Multivalue => {
                let most = verdicts.answering.settings().answer_max;
                format!("MULTIVALUE: an answer has up to {most} instances")
            }
            RoutingPolicy::Weighted => "WEIGHTED: an answer has one instance".to_string(),
        };
        let records =
            dns.records.iter().map(|record| format!("{} with TTL {}", record.rtype.as_str(), record.ttl));
        let records: Vec<_> = records.collect();
        text.push_str(&format!("routing   {routing}\nrecords   {}\n", records.join(", ")));
        if state.is_settling() {
            let seconds = verdicts.answering.settings().settling_ttl.ms() / 1_000;
            text.push_str(&format!("ttl       at most {seconds} s while the service settles\n"));
        }
    }
    text.push_str(&format!(
        "health    {}; {}\n",
        check_text(service),
        settings_text(verdicts.answering.settings())
    ));
    for (key, value, valid) in invalid_policies(&service.attributes) {
        let (key, value) = (shown(key), shown(value));
        text.push_str(&format!(
            "          the service attribute {key} counts as unset: its value '{value}' is not {valid}\n"
        ));
    }
    let instances = state.instances();
    text.push_str(&format!(
        "instances {}, of which health lets {} through\n",
        instances.len(),
        instances.iter().filter(|instance| verdicts.answering.answers(instance)).count()
    ));
    text.push_str(&verdicts.lines(instances, ServiceNames::new(registry, state)));
    text.push_str(&more_line("  ", instances.len(), INSTANCES_LISTED_MAX));
    text
}

pub(super) fn outside_dns_line(state: &ServiceState) -> String {
    let (name, id) = (shown(&state.service.name), &state.service.id);
    if state.service.api_only {
        format!("{name} ({id}) has such a name, but is of type HTTP, which is not in DNS")
    } else {
        format!("{name} ({id}) has such a name, but no DNS records")
    }
}

struct Verdicts<'s> {
    registry: &'s State,
    service: &'s Service,
    pod_remark: PodRemark<'s>,
    answering: Answering<'s>,
}

impl Verdicts<'_> {
    fn lines<'i>(&self, instances: &'i [Instance], mut names: Option<ServiceNames<'i>>) -> String {
        // Instances with equal records share one record in the answer. The map has the first instance of each record.
        let mut seen: HashMap<String, &str> = HashMap::new();
        let rows: Vec<([String; 4], String)> = instances
            .iter()
            .take(INSTANCES_LISTED_MAX)
            .map(|instance| {
                let status = self.answering.health().status_of(instance).as_str().to_string();
                let found = names.as_mut().map(|names| names.of(instance));
                let mut verdict = self.verdict(instance, found.as_ref(), &mut seen);
                let mut signals = self.registry.signals(&self.service.id, instance);
                // A report is the usual source of an API instance's health. It has a line of its own.
                let report = signals.report.take_if(|_| !instance.is_watched());
                let report = report.map(|report| report_text(&report)).unwrap_or_default();
                verdict.push_str(&signals_text(&signals));
                for remark in self.name_remarks(found.as_ref()).chain(self.pod_remark(instance)) {
                    verdict.push_str("; ");
                    verdict.push_str(&remark);
                }
                ([shown(instance.id()), addresses(instance), status, verdict], report)
            })
            .collect();
        let width = |column: usize| {
            let widths = rows.iter().map(|(row, _)| row[column].chars().count());
            widths.max().unwrap_or(0).min(COLUMN_CHARACTERS_MAX)
        };
        let (id, address, status) = (width(0), width(1), width(2));
        let line = |(row, report): &([String; 4], String)| {
            let own = format!("  {:id$}  {:address$}  {:status$}  {}\n", row[0], row[1], row[2], row[3]);
            if report.is_empty() { own } else { format!("{own}  {:id$}  {report}\n", "") }
        };
        rows.iter().map(line).collect()
    }

    /// Remarks about an instance whose SRV record points to another name than that of its id, or whose id has no name of
    /// its own.
    fn name_remarks(&self, names: Option<&InstanceNames<'_>>) -> impl Iterator<Item = String> {
        let loss = names.and_then(|names| names.loss.as_ref()).map(|loss| match loss {
            Loss::Case => {
                "its id differs from another one only in case, so the name of its id is not its own".into()
            }
            Loss::Taken(claimant) => {
                format!("the name of its id belongs to {}", shown(&claimant.to_string()))
            }
        });
        let is_derived = |names: &&InstanceNames<'_>| names.own != names.target.as_deref();
        let target = names.filter(is_derived).and_then(|names| names.target.as_deref());
        let target = target.filter(|_| self.service.ttl_of(DnsRecordType::Srv).is_some());
        loss.into_iter().chain(target.map(|label| format!("its SRV record points to {label}")))
    }

    fn pod_remark(&self, instance: &Instance) -> Option<String> {
        let remark = (self.pod_remark)(instance.pod()?, &self.service.id)?;
        Some(shown(&remark))
    }

    fn verdict<'i>(
        &self,
        instance: &'i Instance,
        names: Option<&InstanceNames<'_>>,
        seen: &mut HashMap<String, &'i str>,
    ) -> String {
        let reason = self.answering.reason(instance);
        let pod = self.pod_text(instance);
        let why = match reason {
            Reason::Unhealthy if self.is_said_elsewhere(instance) => Some(self.cause_text(instance)),
            Reason::Unhealthy if instance.custom_health() == Some(CustomHealthStatus::Unhealthy) => {
                Some(format!(": custom health status UNHEALTHY{pod}"))
            }
            Reason::Unhealthy => Some(pod.clone()),
            Reason::UnknownBesideHealthy => {
                Some(format!("{}, and another instance is healthy", self.unknown_text(instance)))
            }
            Reason::UnknownWithheld => Some(format!("{}, which is withheld", self.unknown_text(instance))),
            Reason::NoWeight => Some(": its weight is 0".into()),
            Reason::Maintenance => Some(self.cause_text(instance)),
            Reason::Healthy
            | Reason::Unwatched
            | Reason::UnknownServed
            | Reason::UnknownFallback
            | Reason::Shortage => None,
        };
        if let Some(why) = why {
            return format!("not served{why}");
        }
        let types = self.service.dns.iter().flat_map(|dns| &dns.records).map(|record| record.rtype);
        let (mut remarks, mut records) = (Vec::new(), 0);
        for rtype in types {
            match self.record_key(instance, names, rtype) {
                Err(missing) => remarks.push(format!("{missing}: no {} record", rtype.as_str())),
                Ok(key) => {
                    records += 1;
                    let first = *seen.entry(format!("{} {key}", rtype.as_str())).or_insert(instance.id());
                    if first != instance.id() {
                        let (rtype, first) = (rtype.as_str(), shown(first));
                        remarks.push(format!(
                            "its {rtype} record is equal to that of {first}, and answered once"
                        ));
                    }
                }
            }
        }
        let note = match reason {
            Reason::Shortage => self.shortage_text(),
            Reason::UnknownFallback => format!("{}, and no instance is healthy", self.unknown_text(instance)),
            _ if instance.is_watched() => pod,
            Reason::Healthy if instance.sources_health().is_some() => self.cause_text(instance),
            Reason::Healthy if instance.custom_health().is_none() => " (no health was reported yet)".into(),
            Reason::UnknownServed => " (unknown health is served)".into(),
            _ => String::new(),
        };
        match (records, remarks.is_empty()) {
            (0, false) => format!("not served: {}", remarks.join("; ")),
            (_, false) => format!("served{note}; {}", remarks.join("; ")),
            (_, true) => format!("served{note}"),
        }
    }

    /// True if the instance is UNHEALTHY by another signal than readiness and the report of an AWS client.
    fn is_said_elsewhere(&self, instance: &Instance) -> bool {
        let signals = self.registry.signals(&self.service.id, instance);
        let kind = self.answering.health().cause_of(instance, &signals).kind;
        matches!(kind, CauseKind::Heartbeat | CauseKind::Check)
            || instance.sources_health() == Some(CustomHealthStatus::Unhealthy) && kind == CauseKind::Report
    }

    fn cause_text(&self, instance: &Instance) -> String {
        let signals = self.registry.signals(&self.service.id, instance);
        format!(": {}", shown(&self.answering.health().cause_of(instance, &signals).text))
    }

    /// Text with the reason for which the health of an instance is not known.
    fn unknown_text(&self, instance: &Instance) -> String {
        if instance.is_watched() { self.pod_text(instance) } else { self.cause_text(instance) }
    }

    fn pod_text(&self, instance: &Instance) -> String {
        let health = self.answering.health();
        let Some(predicate) = health.readiness_predicate(instance) else { return String::new() };
        let why = instance.pod_details().not_ready.map(|why| format!(" ({})", shown(&why)));
        let why = why.filter(|_| health.readiness(instance) == Some(Readiness::NotReady)).unwrap_or_default();
        let (subject, pod) = (health.readiness_subject(), shown(instance.pod().unwrap_or_default()));
        format!(": {subject} {pod} {predicate}{why}")
    }

    fn shortage_text(&self) -> String {
        match (self.answering.settings().minimum_healthy, self.answering.shortage()) {
            (MinimumHealthy::FAIL_OPEN, _) => " (fail-open: no instance is healthy)".into(),
            (minimum, Some(Shortage { healthy, eligible })) => {
                format!(" (minimum-healthy {minimum}: {healthy} of {eligible} instances healthy)")
            }
            (_, None) => String::new(),
        }
    }

    /// A text that is equal for instances whose records of the type are equal. The error says why the instance has no such
    /// record.
    fn record_key(
        &self,
        instance: &Instance,
        names: Option<&InstanceNames<'_>>,
        rtype: DnsRecordType,
    ) -> Result<String, &'static str> {
        let is_cname = self.service.ttl_of(DnsRecordType::Cname).is_some();
        let alias = instance.attribute(AWS_ALIAS_DNS_NAME).filter(|_| !is_cname);
        let has_address = instance.ipv4().is_some() || instance.ipv6().is_some();
        match rtype {
            DnsRecordType::A | DnsRecordType::Aaaa if alias.is_some() && !has_address => {
                Ok(format!("alias {}", instance.id()))
            }
            DnsRecordType::A => {
                instance.ipv4().map(|address| address.to_string()).ok_or("no AWS_INSTANCE_IPV4")
            }
            DnsRecordType::Aaaa => {
                instance.ipv6().map(|address| address.to_string()).ok_or("no AWS_INSTANCE_IPV6")
            }
            DnsRecordType::Srv => {
                let target = names
                    .and_then(|names| names.target.as_deref())
                    .ok_or("no name is left for its target")?;
                let port = instance.port().ok_or("no AWS_INSTANCE_PORT")?;
                if !has_address {
                    return Err("no AWS_INSTANCE_IPV4 and no AWS_INSTANCE_IPV6");
                }
                Ok(format!("{port} {}", target.to_ascii_lowercase()))
            }
            DnsRecordType::Cname => instance
                .attribute(AWS_INSTANCE_CNAME)
                .map(|target| target.strip_suffix('.').unwrap_or(target).to_ascii_lowercase())
                .ok_or("no AWS_INSTANCE_CNAME"),
        }
    }
}

fn at(ms: EpochMs) -> String {
    Timestamp::from_millisecond(ms).map_or_else(|_| "-".into(), |at| at.to_string())
}

fn report_text(report: &Report) -> String {
    let status = HealthStatus::from(report.status).as_str();
    format!("{status} reported by {} on {}", shown(&report.reporter), at(report.reported_ms))
}

/// The stored signals, each with its source and time.
fn signals_text(signals: &Signals) -> String {
    let mut text = String::new();
    if let Some(report) = &signals.report {
        text.push_str(&format!("; {}", report_text(report)));
    }
    for source in &signals.sources {
        let status = HealthStatus::from(source.status).as_str();
        let until = source.valid_until_ms.map(|until| format!(" until {}", at(until))).unwrap_or_default();
        let (source, since) = (shown(&source.source), at(source.reported_ms));
        text.push_str(&format!("; {status} reported by {source} on {since}{until}"));
    }
    if let Some(pending) = &signals.pending {
        let status = HealthStatus::from(pending.report.status).as_str();
        let count = if pending.count == 1 { "once".into() } else { format!("{} times", pending.count) };
        let since = at(pending.report.reported_ms);
        text.push_str(&format!("; {status} reported {count} since {since}, not in force yet"));
    }
    if let Some(alive) = signals.alive_ms {
        text.push_str(&format!("; last heartbeat on {}", at(alive)));
    }
    if let Some(maintenance) = &signals.maintenance {
        text.push_str(&format!(
            "; maintenance ordered by {} on {}",
            shown(&maintenance.operator),
            at(maintenance.since_ms)
        ));
    }
    text
}

/// The addresses of an instance with its port, followed by the target of its CNAME record or alias; `-` without either.
fn addresses(instance: &Instance) -> String {
    let with_port = |address: std::net::IpAddr| match instance.port() {
        Some(port) => SocketAddr::new(address, port).to_string(),
        None => address.to_string(),
    };
    let addresses = [instance.ipv4().map(Into::into), instance.ipv6().map(Into::into)];
    let mut words: Vec<String> = addresses.into_iter().flatten().map(with_port).collect();
    let names =
        [AWS_INSTANCE_CNAME, AWS_ALIAS_DNS_NAME].into_iter().filter_map(|key| instance.attribute(key));
    words.extend(names.map(shown));
    if words.is_empty() {
        words.push("-".into());
    }
    words.join(" ")
}

fn check_text(service: &Service) -> String {
    match (&service.health_check, &service.custom_health_check) {
        (Some(check), _) => {
            let path = check.resource_path.as_deref().map(|path| format!(" {}", shown(path)));
            format!("{} health check{}", check.check_type.as_str(), path.unwrap_or_default())
        }
        (None, Some(_)) => "custom health check".into(),
        (None, None) => "no health check: every instance is served, pods by their readiness".into(),
    }
}

fn settings_text(health: HealthSettings) -> String {
    let minimum = match health.minimum_healthy {
        MinimumHealthy::Count(0) => "fail-open off".to_string(),
        MinimumHealthy::FAIL_OPEN => "fail-open on".to_string(),
        minimum => format!("minimum-healthy {minimum}"),
    };
    let unknown = match health.unknown {
        UnknownHealth::Serve => "served",
        UnknownHealth::Fallback => "a fallback",
        UnknownHealth::Withhold => "withheld",
    };
    let of = match health.health_of {
        HealthOf::Pod => "",
        HealthOf::Container => "; readiness is that of the container",
    };
    format!("{minimum}; unknown health is {unknown}{of}")
}

fn shown(text: &str) -> String {
    text.escape_debug().to_string()
}
