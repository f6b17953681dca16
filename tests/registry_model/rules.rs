//! The rules of the model that look at one request and what it refers to.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::hash::{DefaultHasher, Hash, Hasher};

use cloudmap_dns::model::{
    DnsRecord, DnsRecordType, Namespace, NamespaceKind, OperationTargets, RoutingPolicy, Service,
};

use super::model::Kind;

/// What tells namespaces apart: the zone's name for DNS, the name as it is for HTTP.
pub(crate) fn key(kind: &NamespaceKind, name: &str) -> String {
    match kind {
        NamespaceKind::Http => name.into(),
        _ => name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase(),
    }
}

pub(crate) fn is_private(namespace: &Namespace) -> bool {
    matches!(namespace.kind, NamespaceKind::DnsPrivate { .. })
}

/// Tells requests apart.
pub(crate) fn digest(request: &impl Debug) -> u64 {
    let mut hasher = DefaultHasher::new();
    format!("{request:?}").hash(&mut hasher);
    hasher.finish()
}

/// The name of an instance in its zone, without the zone.
pub(crate) fn target_name(id: &str, service: &Service) -> String {
    if service.name == "." { id.into() } else { format!("{id}.{}", service.name) }
}

pub(crate) fn has_twice(records: &[DnsRecord]) -> bool {
    (1..records.len()).any(|at| records[..at].iter().any(|record| record.rtype == records[at].rtype))
}

pub(crate) fn instance_targets(service: &Service, instance: &str) -> OperationTargets {
    OperationTargets::Instance {
        instance: instance.into(),
        service: service.id.clone(),
        namespace: service.namespace_id.clone(),
    }
}

/// Sizes, and values that can't mean anything.
pub(crate) fn check_attributes(attributes: &BTreeMap<String, String>, own_max: usize) -> Result<(), Kind> {
    let is_name = |value: &str| {
        let labels = value.strip_suffix('.').unwrap_or(value).split('.');
        value.len() <= 254 && labels.clone().all(|label| (1..=63).contains(&label.len()))
    };
    let is_valid = |(key, value): (&String, &String)| match key.as_str() {
        "AWS_INSTANCE_IPV4" => value.parse::<std::net::Ipv4Addr>().is_ok(),
        "AWS_INSTANCE_IPV6" => value.parse::<std::net::Ipv6Addr>().is_ok(),
        "AWS_INSTANCE_PORT" => value.parse::<u16>().is_ok(),
        "AWS_INSTANCE_CNAME" | "AWS_ALIAS_DNS_NAME" => is_name(value),
        "AWS_INIT_HEALTH_STATUS" => ["HEALTHY", "UNHEALTHY"].contains(&value.as_str()),
        _ => true,
    };
    let own = attributes.keys().filter(|key| !key.starts_with("AWS_")).count();
    let characters: usize = attributes.iter().map(|(key, value)| key.len() + value.len()).sum();
    match own <= own_max && characters <= 5_000 && attributes.iter().all(is_valid) {
        true => Ok(()),
        false => Err(Kind::InvalidInput),
    }
}

/// RegisterInstance's rules about which attributes go with which service.
pub(crate) fn is_as_aws_wants(
    namespace: &Namespace,
    service: &Service,
    attributes: &BTreeMap<String, String>,
) -> bool {
    let has = |key: &str| attributes.contains_key(key);
    let aws = |prefix: &str| attributes.keys().filter(|key| key.starts_with(prefix)).count();
    let (ec2, alias) = (has("AWS_EC2_INSTANCE_ID"), has("AWS_ALIAS_DNS_NAME"));
    let allowed_beside_ec2 = 1 + usize::from(has("AWS_INIT_HEALTH_STATUS"));
    if ec2 && (namespace.is_dns() || aws("AWS_") > allowed_beside_ec2) {
        return false;
    }
    let dns = service.dns.as_ref();
    let serves = |rtype| service.ttl_of(rtype).is_some();
    let (a, aaaa) = (serves(DnsRecordType::A), serves(DnsRecordType::Aaaa));
    let (srv, cname) = (serves(DnsRecordType::Srv), serves(DnsRecordType::Cname));
    if alias {
        let is_weighted = dns.is_some_and(|dns| dns.routing == RoutingPolicy::Weighted);
        return (a || aaaa) && !srv && !cname && is_weighted && aws("AWS_INSTANCE_") == 0;
    }
    let (v4, v6) = (has("AWS_INSTANCE_IPV4"), has("AWS_INSTANCE_IPV6"));
    let has_addresses = match (a, aaaa) {
        (true, true) => v4 || v6,
        (true, false) => v4,
        (false, true) => v6,
        (false, false) => !srv || v4 || v6,
    };
    // A check needs a port to connect to; an EC2 instance can't have one beside it.
    let needs_port = srv || (service.health_check.is_some() && !ec2);
    has_addresses && (!needs_port || has("AWS_INSTANCE_PORT")) && (!cname || has("AWS_INSTANCE_CNAME"))
}
