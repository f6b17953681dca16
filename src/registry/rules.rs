//! AWS's rules about combinations of settings of services, and about the attributes that their instances need.
//!
//! Sources: the Cloud Map API reference (CreateService, UpdateService, RegisterInstance).

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use crate::model::{
    Attributes, DnsConfig, DnsRecord, DnsRecordType, HealthCheck, HealthCheckType, Instance, Namespace,
    NamespaceKind, RoutingPolicy, Service,
    instance::{
        AWS_ALIAS_DNS_NAME, AWS_EC2_INSTANCE_ID, AWS_INIT_HEALTH_STATUS, AWS_INSTANCE_CNAME,
        AWS_INSTANCE_IPV4, AWS_INSTANCE_IPV6, AWS_INSTANCE_PORT, OWN_KEYS, WEIGHT,
    },
    service::CustomHealthCheck,
};

use super::{
    error::RegistryError::{self, InvalidInput},
    health,
    leniency::Leniency,
    names::{self, LABEL_BYTES_MAX, NAME_BYTES_MAX, NAME_SERVER},
    settings::Quotas,
};

/// Largest size of all attributes of one instance, keys and values together, in characters (AWS).
const ATTRIBUTE_CHARACTERS_MAX: usize = 5_000;

/// Attributes that contain an instance's address, which must not be combined with an alias or an EC2 instance.
const ADDRESSES: [&str; 4] = [AWS_INSTANCE_IPV4, AWS_INSTANCE_IPV6, AWS_INSTANCE_PORT, AWS_INSTANCE_CNAME];

type Checked = Result<(), RegistryError>;

/// Refuses names of DNS namespaces that cannot be the name of a zone. One final dot is allowed.
pub(super) fn check_zone_name(name: &str) -> Checked {
    check_name(name.strip_suffix('.').unwrap_or(name))
        .map_err(|why| InvalidInput(format!("The namespace name {name} can't be a DNS zone: {why}.")))
}

/// Refuses names of services that cannot be a DNS name together with the name of the namespace.
pub(super) fn check_service_name(service: &str, namespace: &str) -> Checked {
    if service == "." {
        return Ok(());
    }
    if service.eq_ignore_ascii_case(NAME_SERVER) {
        return Err(InvalidInput(format!(
            "The service name {service} can't be in DNS: it is the name of the zone's name server."
        )));
    }
    let namespace = namespace.strip_suffix('.').unwrap_or(namespace);
    check_name(&format!("{service}.{namespace}"))
        .map_err(|why| InvalidInput(format!("The service name {service} can't be in DNS: {why}.")))
}

fn check_name(name: &str) -> Result<(), &'static str> {
    if name.len() > NAME_BYTES_MAX {
        return Err("the whole name is longer than 253 characters");
    }
    for label in name.split('.') {
        match label.len() {
            0 => return Err("a label is empty"),
            len if len > LABEL_BYTES_MAX => return Err("a label is longer than 63 characters"),
            _ => {}
        }
    }
    Ok(())
}

/// Message of an operation that fails because its zone exists already. For two private zones of one VPC, which AWS refuses
/// too, it has the words of AWS.
pub(super) fn overlap_message(kind: &NamespaceKind, region: &str, existing: &Namespace) -> String {
    match kind {
        NamespaceKind::DnsPrivate { vpc } if existing.kind == *kind => format!(
            "The VPC that you chose, {vpc} in region {region}, is already associated with another private hosted zone \
             that has an overlapping name space, {}. (Service: AmazonRoute53; Status Code: 400; Error Code: \
             ConflictingDomainExists)",
            existing.name
        ),
        _ => format!(
            "The name {} belongs to the {} namespace {}{}; a name can be one zone only, whatever the VPC. (Service: \
             AmazonRoute53; Status Code: 400; Error Code: ConflictingDomainExists)",
            existing.name,
            existing.kind.as_str(),
            existing.id,
            match &existing.kind {
                NamespaceKind::DnsPrivate { vpc } => format!(" of the VPC {vpc}"),
                _ => String::new(),
            },
        ),
    }
}

pub(super) fn dns_config(
    routing: Option<RoutingPolicy>,
    records: Vec<DnsRecord>,
    leniency: &mut Leniency,
) -> Result<DnsConfig, RegistryError> {
    use DnsRecordType::{A, Aaaa, Cname, Srv};
    let mut types: Vec<_> = records.iter().map(|record| record.rtype).collect();
    types.sort();
    if types.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(InvalidInput("DnsConfig has more than one record of the same type.".into()));
    }
    // The API reference omits the combination of A and SRV, but AWS accepts it and ECS relies on it.
    let known: [&[DnsRecordType]; 7] = [&[A], &[Aaaa], &[A, Aaaa], &[Srv], &[Srv, A], &[Srv, Aaaa], &[Cname]];
    let all_addresses = types == [Srv, A, Aaaa]
        && leniency.accepts("A service with SRV, A and AAAA records: AWS documents no such combination");
    if !known.contains(&&types[..]) && !all_addresses {
        return Err(InvalidInput(
            "DnsConfig has a combination of record types that is not supported; use A, AAAA, A and AAAA, SRV, \
             A and SRV, AAAA and SRV, or CNAME."
                .into(),
        ));
    }
    let routing = match (routing, types == [Cname]) {
        (Some(RoutingPolicy::Multivalue), true) => {
            return Err(InvalidInput("With a CNAME record the RoutingPolicy must be WEIGHTED.".into()));
        }
        (None, true) => {
            if !leniency.accepts("A CNAME record without RoutingPolicy: AWS wants WEIGHTED to be said") {
                return Err(InvalidInput("With a CNAME record the RoutingPolicy must be WEIGHTED.".into()));
            }
            RoutingPolicy::Weighted
        }
        (routing, _) => routing.unwrap_or(RoutingPolicy::Multivalue),
    };
    Ok(DnsConfig { routing, records })
}

/// Returns the records of a service after UpdateService: those that the request names, with their new TTLs.
pub(super) fn changed_records(old: &DnsConfig, new: Vec<DnsRecord>) -> Result<Vec<DnsRecord>, RegistryError> {
    for (at, record) in new.iter().enumerate() {
        let word = record.rtype.as_str();
        if new[..at].iter().any(|other| other.rtype == record.rtype) {
            return Err(InvalidInput(format!("DnsConfig has more than one record of type {word}.")));
        }
        if !old.records.iter().any(|other| other.rtype == record.rtype) {
            return Err(InvalidInput(format!(
                "The service has no {word} record; the types of an existing service's records can't be changed."
            )));
        }
    }
    Ok(new)
}

/// Refuses a change of the type of an existing service's health check, as AWS does, unless validation is lenient.
pub(super) fn check_health_check_change(
    old: Option<&HealthCheck>,
    new: Option<&HealthCheck>,
    leniency: &mut Leniency,
) -> Checked {
    let is_other_type = old.zip(new).is_some_and(|(old, new)| old.check_type != new.check_type);
    if is_other_type
        && !leniency.accepts("UpdateService with another type of the health check: AWS refuses it")
    {
        return Err(InvalidInput("The type of an existing service's health check can't be changed.".into()));
    }
    Ok(())
}

pub(super) fn check_health_check(
    check: &HealthCheck,
    dns: Option<&DnsConfig>,
    custom: Option<&CustomHealthCheck>,
) -> Checked {
    if custom.is_some() {
        return Err(InvalidInput(
            "You can specify HealthCheckConfig or HealthCheckCustomConfig, but not both.".into(),
        ));
    }
    if check.check_type == HealthCheckType::Tcp && check.resource_path.is_some() {
        return Err(InvalidInput("A health check of type TCP can't have a ResourcePath.".into()));
    }
    let has_cname = |dns: &DnsConfig| dns.records.iter().any(|record| record.rtype == DnsRecordType::Cname);
    if dns.is_some_and(has_cname) {
        return Err(InvalidInput(
            "You can't specify HealthCheckConfig for a service with a CNAME record.".into(),
        ));
    }
    Ok(())
}

pub(super) fn instance_attributes(
    namespace: &Namespace,
    service: &Service,
    id: &str,
    map: &BTreeMap<String, String>,
    quotas: &Quotas,
    leniency: &mut Leniency,
) -> Result<Attributes, RegistryError> {
    check_sizes(map, quotas.attributes_per_instance)?;
    check_values(map)?;
    check_target(id, service, namespace)?;
    if let Some((kind, message)) = missing_or_forbidden(namespace, service, map)
        && !leniency.accepts(kind)
    {
        return Err(InvalidInput(message));
    }
    Attributes::new(map).ok_or_else(|| InvalidInput("An attribute is too long.".into()))
}

/// Checks the rules that apply to pods too: sizes, valid values, and room for the target of an SRV record. A pod may lack
/// attributes that the service's records need; it then gets those records for which it has the attributes.
pub(super) fn check_watched_instance(
    namespace: &Namespace,
    service: &Service,
    instance: &Instance,
    quotas: &Quotas,
) -> Checked {
    if !instance.is_watched() {
        return Err(InvalidInput(format!("The instance {} is not a pod.", instance.id())));
    }
    let map = instance.attributes().map(|(key, value)| (key.to_string(), value.to_string())).collect();
    check_sizes(&map, quotas.attributes_per_instance)?;
    check_values(&map)?;
    check_target(instance.id(), service, namespace)
}

fn check_sizes(map: &BTreeMap<String, String>, custom_max: usize) -> Checked {
    let custom = map.keys().filter(|key| !OWN_KEYS.contains(&key.as_str())).count();
    if custom > custom_max {
        return Err(InvalidInput(format!(
            "The instance has {custom} custom attributes; the most that an instance can have is {custom_max}."
        )));
    }
    let characters: usize = map.iter().map(|(key, value)| key.len() + value.len()).sum();
    if characters > ATTRIBUTE_CHARACTERS_MAX {
        return Err(InvalidInput(format!(
            "All keys and values of the instance's attributes have {characters} characters together; the most is \
             {ATTRIBUTE_CHARACTERS_MAX}."
        )));
    }
    Ok(())
}

/// An address that cannot be parsed means nothing, even under lenient validation.
fn check_values(map: &BTreeMap<String, String>) -> Checked {
    let wrong = |key: &str, value: &str, wanted: &str| {
        Err(InvalidInput(format!("The attribute {key} has the value '{value}'; it must be {wanted}.")))
    };
    for (key, value) in map {
        match key.as_str() {
            AWS_INSTANCE_IPV4 if value.parse::<Ipv4Addr>().is_err() => {
                return wrong(key, value, "an IPv4 address in dotted form");
            }
            AWS_INSTANCE_IPV6 if value.parse::<Ipv6Addr>().is_err() => {
                return wrong(key, value, "an IPv6 address");
            }
            AWS_INSTANCE_PORT if !is_port(value) => {
                return wrong(key, value, "a port number from 0 to 65535");
            }
            AWS_INSTANCE_CNAME | AWS_ALIAS_DNS_NAME => {
                if let Err(why) = check_name(value.strip_suffix('.').unwrap_or(value)) {
                    return wrong(key, value, &format!("a domain name, and {why}"));
                }
            }
            AWS_INIT_HEALTH_STATUS if !matches!(value.as_str(), "HEALTHY" | "UNHEALTHY") => {
                return wrong(key, value, "HEALTHY or UNHEALTHY");
            }
            WEIGHT if health::parse_weight(Some(value)).is_none() => {
                return wrong(key, value, "a weight from 0 to 255");
            }
            _ => {}
        }
    }
    Ok(())
}

fn is_port(value: &str) -> bool {
    value.bytes().all(|byte| byte.is_ascii_digit()) && value.parse::<u16>().is_ok()
}

fn check_target(id: &str, service: &Service, namespace: &Namespace) -> Checked {
    if service.ttl_of(DnsRecordType::Srv).is_none() || names::has_target(id, service, namespace) {
        return Ok(());
    }
    Err(InvalidInput(format!(
        "The instance {id} can have no SRV record, because the name of the service {} leaves too little of the \
         {NAME_BYTES_MAX} characters of a name for its target.",
        service.name
    )))
}

/// Checks the values of the service attributes that this server interprets; all others may have any value.
pub(super) fn check_service_attributes(attributes: &BTreeMap<String, String>) -> Checked {
    match health::invalid_policies(attributes).next() {
        None => Ok(()),
        Some((key, value, valid)) => Err(InvalidInput(format!(
            "The service attribute {key} has the value '{value}'; it must be {valid}."
        ))),
    }
}

/// Finds a reason for which AWS would refuse the set of attributes. Returns the kind for the log, and the error message.
fn missing_or_forbidden(
    namespace: &Namespace,
    service: &Service,
    map: &BTreeMap<String, String>,
) -> Option<(&'static str, String)> {
    let has = |key: &str| map.contains_key(key);
    let alias = has(AWS_ALIAS_DNS_NAME);
    if has(AWS_EC2_INSTANCE_ID) {
        if namespace.is_dns() {
            return Some((
                "AWS_EC2_INSTANCE_ID in a DNS namespace: AWS refuses it",
                "AWS_EC2_INSTANCE_ID is only for instances in HTTP namespaces.".into(),
            ));
        }
        if alias || ADDRESSES.iter().any(|key| has(key)) {
            return Some((
                "AWS_EC2_INSTANCE_ID beside other AWS_ attributes: AWS refuses it",
                "Beside AWS_EC2_INSTANCE_ID only AWS_INIT_HEALTH_STATUS can be specified.".into(),
            ));
        }
    }
    let lacks_port = || {
        // AWS_EC2_INSTANCE_ID excludes a port, so instances with it need none.
        (service.health_check.is_some() && !has(AWS_INSTANCE_PORT) && !has(AWS_EC2_INSTANCE_ID)).then(|| {
            (
                "An instance without AWS_INSTANCE_PORT in a service with HealthCheckConfig: AWS refuses it",
                "The attribute AWS_INSTANCE_PORT is required, because the service has a health check.".into(),
            )
        })
    };
    let Some(dns) = service.dns.as_ref().filter(|dns| !dns.records.is_empty()) else {
        let alias = alias.then(|| {
            (
                "AWS_ALIAS_DNS_NAME on a service without records: AWS refuses it",
                "AWS_ALIAS_DNS_NAME needs a service with A or AAAA records.".into(),
            )
        });
        return alias.or_else(lacks_port);
    };
    let serves = |rtype| dns.records.iter().any(|record| record.rtype == rtype);
    let missing = |what: &str, record: &str| {
        Some((
            "An instance without the attributes that its service's records need: AWS refuses it; it gets no such record",
            format!("The attribute {what} is required, because the service has a record of type {record}."),
        ))
    };
    if alias {
        if dns.routing != RoutingPolicy::Weighted
            || serves(DnsRecordType::Srv)
            || serves(DnsRecordType::Cname)
        {
            return Some((
                "AWS_ALIAS_DNS_NAME on a service that is not A or AAAA with WEIGHTED: AWS refuses it",
                "AWS_ALIAS_DNS_NAME needs a service with A or AAAA records and the routing policy WEIGHTED."
                    .into(),
            ));
        }
        if let Some(key) = ADDRESSES.iter().find(|key| has(key)) {
            return Some((
                "AWS_ALIAS_DNS_NAME beside AWS_INSTANCE_ attributes: AWS refuses it",
                format!("AWS_ALIAS_DNS_NAME and {key} can't both be specified."),
            ));
        }
        return None;
    }
    let (v4, v6) = (has(AWS_INSTANCE_IPV4), has(AWS_INSTANCE_IPV6));
    let (either, has_both) = (v4 || v6, serves(DnsRecordType::A) && serves(DnsRecordType::Aaaa));
    const EITHER: &str = "AWS_INSTANCE_IPV4 or AWS_INSTANCE_IPV6";
    let mut records = dns.records.clone();
    // A missing address is reported for its own record first.
    records.sort_by_key(|record| record.rtype == DnsRecordType::Srv);
    for record in records {
        let (is_there, attribute, shown) = match record.rtype {
            DnsRecordType::A | DnsRecordType::Aaaa if has_both => (either, EITHER, "A or AAAA"),
            DnsRecordType::A => (v4, AWS_INSTANCE_IPV4, "A"),
            DnsRecordType::Aaaa => (v6, AWS_INSTANCE_IPV6, "AAAA"),
            DnsRecordType::Srv if !has(AWS_INSTANCE_PORT) => (false, AWS_INSTANCE_PORT, "SRV"),
            DnsRecordType::Srv => (either, EITHER, "SRV"),
            DnsRecordType::Cname => (has(AWS_INSTANCE_CNAME), AWS_INSTANCE_CNAME, "CNAME"),
        };
        if !is_there {
            return missing(attribute, shown);
        }
    }
    lacks_port()
}
