//! The names of the objects that the API's writes make: one name for one identity, so that etcd lets only one replica
//! create it.
//!
//! A name is readable where what it stands for fits into a Kubernetes name: `production.local`, `backend--production.local`,
//! `i-1--backend--production.local`, `http--shop`. Else it is a hash. No two identities have one name: a readable part never
//! holds `--` and never looks like a hash, so a readable name can be taken apart in one way only.

use sha2::{Digest, Sha256};

use crate::model::{Namespace, Service, ServiceId};
use crate::registry::state::zone_key;

/// Longest readable name, in octets; Kubernetes takes 253.
const NAME_OCTETS_MAX: usize = 200;
/// Between the parts of a name.
const BETWEEN: &str = "--";

/// The name of a namespace's object. DNS namespaces of one zone have one name, whatever their kind.
pub(super) fn of_namespace(namespace: &Namespace) -> String {
    match namespace.is_dns() {
        true => {
            let zone = zone_key(&namespace.name);
            if fits(&zone) { zone.to_string() } else { hashed("ns", &["dns", &zone]) }
        }
        false => match fits(&namespace.name) {
            true => format!("http{BETWEEN}{}", namespace.name),
            false => hashed("ns", &["http", &namespace.name]),
        },
    }
}

/// The name of a service's object. In a DNS namespace, names that differ in case alone have one.
pub(super) fn of_service(service: &Service, namespace: &Namespace) -> String {
    let name = if namespace.is_dns() { service.name.to_ascii_lowercase() } else { service.name.clone() };
    let owner = of_namespace(namespace);
    let readable = format!("{name}{BETWEEN}{owner}");
    match fits(&name) && !is_hash(&owner) && readable.len() <= NAME_OCTETS_MAX {
        true => readable,
        false => hashed("srv", &[&owner, &name]),
    }
}

/// The name of an instance's object.
pub(super) fn of_instance(instance: &str, service: &Service, namespace: &Namespace) -> String {
    let owner = of_service(service, namespace);
    let readable = format!("{instance}{BETWEEN}{owner}");
    match fits(instance) && !is_hash(&owner) && readable.len() <= NAME_OCTETS_MAX {
        true => readable,
        false => hashed("i", &[&owner, instance]),
    }
}

/// The name of the object for what is reported of a pod as this instance of a service.
pub(super) fn of_report(service: &ServiceId, instance: &str) -> String {
    let readable = format!("{instance}{BETWEEN}{service}");
    match fits(instance) && fits(service.as_str()) && readable.len() <= NAME_OCTETS_MAX {
        true => readable,
        false => hashed("hr", &[service.as_str(), instance]),
    }
}

/// Whether a part can stand as it is: lower-case labels, without what separates parts.
fn fits(part: &str) -> bool {
    let is_label = |label: &str| {
        let inner = |octet: u8| octet.is_ascii_lowercase() || octet.is_ascii_digit() || octet == b'-';
        !label.is_empty() && label.bytes().all(inner) && !label.starts_with('-') && !label.ends_with('-')
    };
    part.len() <= NAME_OCTETS_MAX
        && part.split('.').all(is_label)
        && !part.contains(BETWEEN)
        && !is_hash(part)
        && part != "http"
}

/// Octets of a hash in hexadecimal digits.
const HASH_DIGITS: usize = 40;

fn hashed(kind: &str, parts: &[&str]) -> String {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update((part.len() as u64).to_be_bytes());
        hasher.update(part.as_bytes());
    }
    let digits: String = hasher.finalize().iter().map(|octet| format!("{octet:02x}")).collect();
    format!("{kind}-{}", &digits[..HASH_DIGITS])
}

fn is_hash(name: &str) -> bool {
    ["ns-", "srv-", "i-"].iter().any(|kind| {
        name.strip_prefix(kind).is_some_and(|digits| {
            digits.len() == HASH_DIGITS && digits.bytes().all(|digit| digit.is_ascii_hexdigit())
        })
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::model::{NamespaceKind, samples};

    fn namespace(name: &str, kind: NamespaceKind) -> Namespace {
        samples::namespace("ns-1".into(), name, kind)
    }

    fn service(name: &str) -> Service {
        Service { api_only: true, ..samples::service("srv-1".into(), "ns-1".into(), name) }
    }

    #[test]
    fn names_are_readable_where_they_fit_and_the_same_for_ever() {
        let dns = namespace("Production.local.", NamespaceKind::DnsPublic);
        let http = namespace("shop", NamespaceKind::Http);
        assert_eq!(of_namespace(&dns), "production.local");
        assert_eq!(of_namespace(&http), "http--shop");
        assert_eq!(of_service(&service("Backend"), &dns), "backend--production.local");
        assert_eq!(of_instance("i-1", &service("backend"), &dns), "i-1--backend--production.local");
        assert!(is_hash(&of_instance("i_1", &service("backend"), &dns)));
    }

    #[test]
    fn no_two_identities_have_one_name_and_every_name_is_one_for_kubernetes() {
        let zones = ["a", "b.c", "http--a", "a--b", "x_y", "http", &"long.".repeat(50)];
        let names = ["a", "a.b", "a--b", "a-", "A", "_x", ".", "http", "b", &"n".repeat(120)];
        let instances = ["a", "a--b", "i/1", "I-1", "i-1", "x."];
        let mut seen = BTreeSet::new();
        let mut put = |name: String| {
            let fine =
                |octet: u8| octet.is_ascii_lowercase() || octet.is_ascii_digit() || b"-.".contains(&octet);
            assert!(name.len() <= 253 && name.bytes().all(fine), "{name}");
            assert!(!name.starts_with(['-', '.']) && !name.ends_with(['-', '.']), "{name}");
            assert!(seen.insert(name.clone()), "{name} twice");
        };
        for zone in zones {
            for kind in [NamespaceKind::Http, NamespaceKind::DnsPublic] {
                let namespace = namespace(zone.trim_end_matches('.'), kind);
                let mut of_kind = BTreeSet::from([format!("ns:{}", of_namespace(&namespace))]);
                for name in names {
                    of_kind.insert(format!("srv:{}", of_service(&service(name), &namespace)));
                    for instance in instances {
                        of_kind.insert(format!("i:{}", of_instance(instance, &service(name), &namespace)));
                    }
                }
                of_kind.into_iter().for_each(|name| put(name.replace(':', "-kind-")));
            }
        }
    }
}
