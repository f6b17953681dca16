//! The input of a service's leaf, made from the registry's state, health policy included.

use std::collections::BTreeSet;

use crate::model::{
    HealthStatus, NamespaceId, ServiceId,
    instance::{
        AWS_ALIAS_DNS_NAME, AWS_INSTANCE_CNAME, AWS_INSTANCE_IPV4, AWS_INSTANCE_IPV6, AWS_INSTANCE_PORT,
        WEIGHT,
    },
    service::{DnsRecordType, RoutingPolicy},
};
use crate::registry::{
    AnswerMax, HealthSettings, ServiceState, State, departures, health,
    names::{self, Loss, ServiceNames},
};
use crate::zone::{
    HostSource, LeafSource, LeafType, Name, Selection,
    leaf::{ALIAS_TTL, ANSWER_RECORDS_MAX, UNHEALTHY_TTL_MAX},
};

use super::zone_source;

const _: () = assert!(AnswerMax::MAX as usize <= ANSWER_RECORDS_MAX);
// The registry says until when clients can hold what the leaf answers.
const _: () = assert!(departures::ALIAS_TTL_S == ALIAS_TTL);
const _: () = assert!(departures::UNHEALTHY_TTL_S_MAX == UNHEALTHY_TTL_MAX);

/// Dependence of the names of a service's instances on other services: those that claim one of the names, and the instances
/// that lost the names of their ids, with the claimants that have these names.
#[derive(Default)]
pub(super) struct NameDependencies {
    pub(super) other_claimants: BTreeSet<ServiceId>,
    pub(super) losses: Vec<(Box<str>, String)>,
}

pub(super) fn claimants_of_name(state: &State, namespace: &NamespaceId, service: &str) -> Vec<ServiceId> {
    let conflicts = names::conflicts_of_service(state, namespace, service);
    let services = conflicts.iter().filter_map(|conflict| conflict.claimant.service());
    services.map(|found| found.service.id.clone()).collect()
}

pub(super) fn leaf_source(
    registry: &State,
    state: &ServiceState,
    defaults: &HealthSettings,
) -> (LeafSource, NameDependencies) {
    let service = &*state.service;
    let answering = defaults.answering(state);
    let health = answering.health();
    let leaf_type = |rtype| match rtype {
        DnsRecordType::A => LeafType::A,
        DnsRecordType::Aaaa => LeafType::Aaaa,
        DnsRecordType::Srv => LeafType::Srv,
        DnsRecordType::Cname => LeafType::Cname,
    };
    let dns = service.dns.iter();
    let records: Vec<_> = dns
        .clone()
        .flat_map(|dns| &dns.records)
        .map(|record| (leaf_type(record.rtype), record.ttl))
        .collect();
    let is_one = dns.clone().any(|dns| dns.routing == RoutingPolicy::Weighted);
    let is_cname = records.iter().any(|(rtype, _)| *rtype == LeafType::Cname);
    let target_key = if is_cname { AWS_INSTANCE_CNAME } else { AWS_ALIAS_DNS_NAME };
    let mut dependencies = NameDependencies::default();
    let mut names = ServiceNames::new(registry, state);
    let host = |instance| {
        let found = names.as_mut().map(|names| names.of(instance));
        let (own, target, loss) =
            found.map_or((None, None, None), |found| (found.own, found.target, found.loss));
        if let Some(Loss::Taken(claimant)) = loss {
            dependencies.losses.push((instance.id().into(), claimant.to_string()));
        }
        let rank = answering.rank(instance);
        let mut host = HostSource {
            labels: target.as_deref().map(zone_source::labels).unwrap_or_default(),
            own_labels: own
                .filter(|own| target.as_deref() != Some(*own))
                .map(zone_source::labels)
                .unwrap_or_default(),
            served: rank.is_some(),
            is_unhealthy: health.status_of(instance) == HealthStatus::Unhealthy,
            rank: rank.map_or(0, |rank| rank as u8),
            ..HostSource::default()
        };
        for (key, value) in instance.attributes() {
            match key {
                AWS_INSTANCE_IPV4 => host.ipv4 = value.parse().ok(),
                AWS_INSTANCE_IPV6 => host.ipv6 = value.parse().ok(),
                AWS_INSTANCE_PORT => host.port = value.parse().ok(),
                WEIGHT => host.weight = health::parse_weight(Some(value)).unwrap_or(1),
                key if key == target_key => host.target = target_name(value),
                _ => {}
            }
        }
        host
    };
    let hosts: Vec<HostSource> = state.instances().iter().map(host).collect();
    dependencies.other_claimants = names.map(ServiceNames::into_other_claimants).unwrap_or_default();
    let selection = if is_one { Selection::One } else { Selection::Multivalue };
    let records_max = answering.settings().answer_max.records();
    let settling_ttl = answering.settings().settling_ttl.ms() / 1_000;
    let ttl_max = state.is_settling().then(|| u32::try_from(settling_ttl).unwrap_or(u32::MAX));
    (LeafSource { records, ttl_max, selection, records_max, hosts }, dependencies)
}

fn target_name(text: &str) -> Option<Name> {
    Name::from_labels(text.strip_suffix('.').unwrap_or(text).split('.').map(str::as_bytes)).ok()
}
