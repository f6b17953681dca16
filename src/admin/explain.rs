//! The response of `/explain`: the answer to a query, and the reasons for it, as text for people.
//!
//! The answer comes from the DNS snapshot, and the verdicts on instances come from the registry. The two are read
//! separately, so that one may be slightly newer than the other while a change is being published.

mod service;
mod walk;

use std::collections::HashMap;
use std::sync::Arc;

use crate::kubernetes::{PendingService, RefusedService};
use crate::model::ServiceId;
use crate::registry::{Hold, ServiceState, State, departures::Leaving, state::zone_key};
use crate::zone::{Directory, Name, QueryName, RecordType, Zone};

use super::{Admin, dotted, history, namespace_line, namespace_of, waiting_text, zones_listed};
use walk::Walk;

/// Most records that are listed of each section of the answer.
const RECORDS_LISTED_MAX: usize = 1_000;
const FILE_REMARKS_LISTED_MAX: usize = 10;
const PENDING_LISTED_MAX: usize = 10;
const LEAVING_LISTED_MAX: usize = 100;

/// Explains the answer to a query for a name and type. The text ends with the answer itself.
pub(super) fn explain(admin: &Admin, name: &Name, rtype: RecordType) -> String {
    let directory = admin.snapshot.view();
    let state = admin.registry.state();
    let mut text = format!("{name} {rtype}\n\n");
    let Some(zone) = responsible(&directory, name, rtype) else {
        text.push_str(&refused(&directory, &state, name));
        text.push_str(&pending_lines(admin, &state, None, name));
        text.push_str("\nanswer    REFUSED\n");
        return text;
    };
    text.push_str(&format!("zone      {}, serial {}\n", zone.apex, zone.serial()));
    let namespace = namespace_of(&state, &zone.apex);
    match namespace {
        Some(namespace) => text.push_str(&format!("kind      {}\n", namespace_line(namespace))),
        None => text.push_str("kind      zone file\n"),
    }
    text.push_str(&file_lines(admin, &zone.apex));
    if let Some(pods) = admin.pods.as_ref().filter(|_| namespace.is_some()) {
        text.push_str(&format!("pods      {}\n", pods.line()));
    }
    text.push_str(&coredns_line(admin, &zone.apex));

    let walk = Walk::new(&directory, name, rtype);
    text.push_str("\nlookup\n");
    for (at, step) in walk.steps.iter().enumerate() {
        text.push_str(&format!("  {:<3} {step}\n", at + 1));
    }
    let pod_remark = |pod: &str, service: &ServiceId| admin.pods.as_ref()?.remark(pod, service);
    for owner in &walk.services {
        let found = namespace.and_then(|namespace| {
            let name = dotted(owner, zone.apex.label_count())?;
            state.service_in_dns(&namespace.namespace.id, &name)
        });
        text.push('\n');
        match found {
            Some(found) => {
                let health = &admin.registry.settings().health;
                text.push_str(&service::describe(&state, found, health, &pod_remark));
                text.push_str(&leaving_lines(admin, &found.service.id));
                text.push_str(&history_lines(admin, &found.service.id));
            }
            None => text.push_str(&format!("service   {owner} is changing at this moment; ask again\n")),
        }
    }
    if walk.services.is_empty()
        && let Some(found) = outside_dns(&state, zone, name)
    {
        text.push_str(&format!("\nservice   {}\n", service::outside_dns_line(found)));
    }
    if walk.services.is_empty() {
        text.push_str(&pending_lines(admin, &state, Some(zone), name));
    }
    text.push_str(&answer_text(&walk));
    text
}

/// The instances that have left this server's answers, and that clients may still hold; empty if there are none.
fn leaving_lines(admin: &Admin, service: &ServiceId) -> String {
    let mut leaving = admin.registry.departures().leaving(service);
    // One that was registered again is answered again.
    leaving
        .retain(|Leaving { instance, .. }| matches!(admin.registry.hold(service, instance), Hold::Left(_)));
    if leaving.is_empty() {
        return String::new();
    }
    let line = |Leaving { instance, held }: &Leaving| {
        let seconds = held.as_millis().div_ceil(1_000);
        format!("  {}: clients may hold it for {seconds} more seconds\n", instance.escape_debug())
    };
    let lines: String = leaving.iter().take(LEAVING_LISTED_MAX).map(line).collect();
    format!("left\n{lines}{}", more_line("  ", leaving.len(), LEAVING_LISTED_MAX))
}

/// The last changes of health of a service, the oldest first; empty if there was none.
fn history_lines(admin: &Admin, service: &ServiceId) -> String {
    let transitions = admin.registry.history().of(service);
    if transitions.is_empty() {
        return String::new();
    }
    let lines: String =
        transitions.iter().map(|transition| format!("  {}", history::line(transition))).collect();
    format!("history\n{lines}")
}

fn coredns_line(admin: &Admin, apex: &Name) -> String {
    let coredns = admin.cluster_writer.as_ref().and_then(|writer| writer.coredns.as_ref());
    let (Some(detail), Some(zone)) = (coredns.map(|coredns| coredns.detail()), dotted(apex, 0)) else {
        return String::new();
    };
    let clash = detail.clashes.get(&zone).map(|block| format!("{block} has a block for this zone"));
    match clash.or_else(|| detail.guarded.get(&zone).cloned()) {
        Some(why) => format!("coredns   is not told to forward this zone: {why}\n"),
        None => String::new(),
    }
}

/// Lists pods that wait for a service that does not exist: with the names of pods for a service that would have this name
/// or the name above it, and as numbers for other services. Ids are derived from names, so a service is recognised even if
/// its namespace does not exist. KECS's own ids are not derived; its alias Services connect them with names.
fn pending_lines(admin: &Admin, state: &State, zone: Option<&Zone>, name: &Name) -> String {
    let pending = admin.pods.as_ref().map(|pods| pods.pending()).unwrap_or_default();
    let mut lines = unshadowed_lines(admin, name, &pending);
    if !pending.is_empty() {
        let waiting: HashMap<&ServiceId, &PendingService> =
            pending.iter().map(|one| (&one.service, one)).collect();
        for Candidate { service, namespace, id } in candidates(admin, state, zone, name) {
            if let Some(found) = waiting.get(&id) {
                let (who, pods) = (waiting_text(found), pods_text(found));
                lines.push(format!(
                    "{who} the service {service} ({id}), which is not there{namespace}: {pods}"
                ));
            }
        }
        let words = pending.iter().take(PENDING_LISTED_MAX);
        let words: Vec<_> = words.map(|one| format!("{} ({} pods)", one.service, one.instances)).collect();
        lines.push(format!("services that pods name and that are not there: {}", words.join(", ")));
    }
    if lines.is_empty() {
        return String::new();
    }
    let lines: String = lines.into_iter().map(|line| format!("  {line}\n")).collect();
    format!("\npending\n{lines}{}", more_line("  ", pending.len(), PENDING_LISTED_MAX))
}

/// A service that would have the name of the query, or one of whose instances would have it. `namespace` is a remark, to
/// follow the service's name, that its namespace does not exist either; empty if it exists.
struct Candidate {
    service: String,
    namespace: String,
    id: ServiceId,
}

/// The services that could have this name or the name above it, in the namespace of the zone. Without a zone, they are in
/// every namespace that could be a suffix of the name.
fn candidates(admin: &Admin, state: &State, zone: Option<&Zone>, name: &Name) -> Vec<Candidate> {
    let identity = admin.registry.identity();
    let mut found = Vec::new();
    if let Some(zone) = zone {
        let Some(namespace) = namespace_of(state, &zone.apex) else { return found };
        let relative = dotted(name, zone.apex.label_count()).unwrap_or_default();
        let below = relative.split_once('.').map(|(_, rest)| rest);
        for service in [Some(&*relative), below].into_iter().flatten() {
            let id = identity.service_id(&namespace.namespace.id, service);
            found.push(Candidate { service: service.into(), namespace: String::new(), id });
        }
        return found;
    }
    let dotted_name = dotted(name, 0).unwrap_or_default();
    let below = dotted_name.split_once('.').map(|(_, rest)| rest);
    for whole in [Some(&*dotted_name), below].into_iter().flatten() {
        for (dot, _) in whole.match_indices('.') {
            let (service, zone) = (&whole[..dot], &whole[dot + 1..]);
            for kind in ["DNS_PRIVATE", "DNS_PUBLIC"] {
                let namespace = identity.namespace_id(kind, &zone_key(zone));
                let id = identity.service_id(&namespace, service);
                let namespace = format!(", nor is its {kind} namespace {zone} ({namespace})");
                found.push(Candidate { service: service.into(), namespace, id });
            }
        }
    }
    found
}

fn pods_text(waiting: &PendingService) -> String {
    let mut text = waiting.pods.join(", ");
    if let more @ 1.. = waiting.instances.saturating_sub(waiting.pods.len()) {
        text.push_str(&format!(" and {more} more"));
    }
    text
}

/// The reason why a service of KECS with this name or the name above it was refused, and the pods that wait for it.
fn unshadowed_lines(admin: &Admin, name: &Name, pending: &[PendingService]) -> Vec<String> {
    let Some(shadow) = &admin.shadow else { return Vec::new() };
    let dotted_name = dotted(name, 0).unwrap_or_default();
    let below = dotted_name.split_once('.').map(|(_, rest)| rest);
    let refused = [Some(&*dotted_name), below].into_iter().flatten().flat_map(|name| shadow.refused(name));
    refused
        .map(|RefusedService { name, service, why }| {
            let mut line = format!("KECS's service {name} ({service}) is not here: {why}");
            if let Some(found) = pending.iter().find(|one| one.service == service) {
                line.push_str(&format!("; {} it: {}", waiting_text(found), pods_text(found)));
            }
            line
        })
        .collect()
}

/// The zone that answers a query. DS records of an apex belong to the parent zone, if it is served here and has the zone cut
/// (RFC 4035 §3.1.4.1).
fn responsible<'v>(directory: &'v Directory, name: &Name, rtype: RecordType) -> Option<&'v Zone> {
    let query = QueryName::from(name);
    let zone = directory.zone_of(&query)?;
    let parent = name.parent().filter(|_| rtype == RecordType::DS && zone.apex == *name);
    let above = parent.and_then(|parent| directory.zone_of(&QueryName::from(&parent)));
    let has_cut = |above: &&Zone| {
        directory.node(above, &query, 0).is_some_and(|node| node.rrset(RecordType::NS).is_some())
    };
    above.filter(has_cut).or(Some(zone))
}

fn refused(directory: &Directory, state: &State, name: &Name) -> String {
    let mut text = String::from("zone      none: the name is in no zone that is served here\n");
    let dotted_name = dotted(name, 0).unwrap_or_default();
    let suffixes =
        std::iter::successors(Some(&*dotted_name), |rest| rest.split_once('.').map(|(_, rest)| rest));
    let found = suffixes.filter_map(|suffix| state.namespace_by_http_name(suffix));
    if let Some(http) = found.into_iter().find(|found| !found.namespace.is_dns()) {
        let id = &http.namespace.id;
        text.push_str(&format!(
            "          the namespace {id} has such a name, but is of kind HTTP, which is not in DNS\n"
        ));
    }
    text.push_str(&format!("          {}\n", zones_listed(directory)));
    text
}

fn file_lines(admin: &Admin, apex: &Name) -> String {
    let Some(files) = &admin.zone_files else { return String::new() };
    let mut text = String::new();
    for (path, status) in files.status().iter().filter(|(_, status)| status.origin.as_ref() == Some(apex)) {
        let state = match (status.is_served, status.errors.is_empty()) {
            (true, true) => "served",
            (true, false) => "wrong, so the last good version is served",
            (false, _) => "wrong, and not served",
        };
        text.push_str(&format!("file      {}: {state}\n", path.display()));
        let remarks = status.errors.iter().chain(&status.warnings);
        for remark in remarks.clone().take(FILE_REMARKS_LISTED_MAX) {
            text.push_str(&format!("          {remark}\n"));
        }
        text.push_str(&more_line("          ", remarks.count(), FILE_REMARKS_LISTED_MAX));
    }
    text
}

/// The service that has this name or the name above it, but that is not in DNS.
fn outside_dns<'s>(state: &'s State, zone: &Zone, name: &Name) -> Option<&'s Arc<ServiceState>> {
    let namespace = namespace_of(state, &zone.apex)?;
    let relative = dotted(name, zone.apex.label_count())?;
    let above = relative.split_once('.').map(|(_, rest)| rest).filter(|rest| !rest.is_empty());
    let candidates = [Some(&*relative), above].into_iter().flatten();
    candidates
        .filter_map(|candidate| state.service_by_name(&namespace.namespace.id, candidate))
        .find(|found| found.service.dns.is_none())
}

fn answer_text(walk: &Walk) -> String {
    let mut text = format!("\nanswer    {}\n", walk.rcode);
    for note in &walk.notes {
        text.push_str(&format!("          {note}\n"));
    }
    let parts = [("", &walk.answer), ("authority\n", &walk.authority), ("additional\n", &walk.additional)];
    for (title, part) in parts.into_iter().filter(|(_, part)| part.count > 0) {
        text.push_str(title);
        part.lines.iter().for_each(|line| text.push_str(&format!("  {line}\n")));
        text.push_str(&more_line("  ", part.count, part.lines.len()));
    }
    text
}

fn more_line(indent: &str, count: usize, listed: usize) -> String {
    match count.saturating_sub(listed) {
        0 => String::new(),
        left_out => format!("{indent}… and {left_out} more\n"),
    }
}
