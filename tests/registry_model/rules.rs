//! Rules of the model that need only one request and the namespace and service that it names.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::hash::{DefaultHasher, Hash, Hasher};

use cloudmap_dns::model::{
    DnsRecord, DnsRecordType, Namespace, NamespaceKind, OperationTargets, RoutingPolicy, Service,
};

use super::model::Kind;

/// The key by which names of namespaces are compared: the zone's name in lower case for DNS, the exact name for HTTP.
pub(crate) fn key(kind: &NamespaceKind, name: &str) -> String {
    match kind {
        NamespaceKind::Http => name.into(),
        _ => name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase(),
    }
}

pub(crate) fn is_private(namespace: &Namespace) -> bool {
    matches!(namespace.kind, NamespaceKind::DnsPrivate { .. })
}

/// A hash by which a repeated request is distinguished from a different one with the same creator request id.
pub(crate) fn digest(request: &impl Debug) -> u64 {
    let mut hasher = DefaultHasher::new();
    format!("{request:?}").hash(&mut hasher);
    hasher.finish()
}

pub(crate) fn target_name(id: &str, service: &Service) -> String {
    if service.name == "." { id.into() } else { format!("{id}.{}", service.name) }
}

pub(crate) fn has_duplicate_type(records: &[DnsRecord]) -> bool {
    (1..records.len()).any(|at| records[..at].iter().any(|record| record.rtype == records[at].rtype))
}

pub(crate) fn instance_targets(service: &Service, instance: &str) -> OperationTargets {
    OperationTargets::Instance {
        instance: instance.into(),
        service: service.id.clone(),
        namespace: service.namespace_id.clone(),
    }
}

/// Checks the number and the size of the attributes, and the syntax of those that AWS defines.
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
    let are_valid = own <= own_max && characters <= 5_000 && attributes.iter().all(is_valid);
    if are_valid { Ok(()) } else { Err(Kind::InvalidInput) }
}

pub(crate) fn has_required_attributes(
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
    // A health check connects to the port. An EC2 instance needs none: it may not have other AWS_ attributes.
    let needs_port = srv || (service.health_check.is_some() && !ec2);
    has_addresses && (!needs_port || has("AWS_INSTANCE_PORT")) && (!cname || has("AWS_INSTANCE_CNAME"))
}
