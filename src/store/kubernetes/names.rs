//! The names of the objects that the API writes: one name for each identity, so that etcd lets only one replica create
//! it.
//!
//! A name follows from ids, so that a server can read an object that its watch has not delivered yet. The object of a
//! namespace has the namespace's id as its name, that of a service the service's id, and that of an instance a hash of
//! both ids. Objects of version 0.1.0 have readable names such as `i-1--backend--production.local`, and keep them.

use sha2::{Digest, Sha256};

use crate::model::{Identity, Namespace, Service, ServiceId, id::digest36};

/// The name of the CloudMapStore object with the number offset, the last renumbering and the numbers of zone files.
pub(super) const STORE_OBJECT: &str = "cloudmap-dns";
/// Longest readable name of a report, in bytes; Kubernetes allows 253.
const NAME_BYTES_MAX: usize = 200;
const BETWEEN: &str = "--";
/// Half of the characters in the name of an instance's object, after its prefix.
const INSTANCE_DIGITS_HALF: usize = 12;

/// The name of a namespace's object. A DNS namespace of the same zone but of the other type has another name (`name_races`).
pub(super) fn of_namespace(namespace: &Namespace) -> String {
    namespace.id.to_string()
}

/// The name of a service's object. In a DNS namespace, service names that differ only in case share the object name of
/// the lower-case one, because DNS is case-insensitive.
pub(super) fn of_service(identity: &Identity, service: &Service, namespace: &Namespace) -> String {
    let lower = service.name.to_ascii_lowercase();
    if namespace.is_dns() && lower != service.name {
        identity.service_id(&namespace.id, &lower).to_string()
    } else {
        service.id.to_string()
    }
}

pub(super) fn of_instance(service: &ServiceId, instance: &str) -> String {
    let first = digest36(&format!("{service} {instance}"), INSTANCE_DIGITS_HALF);
    let second = digest36(&format!("{instance} {service}"), INSTANCE_DIGITS_HALF);
    format!("i-{first}{second}")
}

/// Returns true for a name that [`of_instance`] may have returned.
pub(super) fn has_standard_form(name: &str) -> bool {
    let is_digit = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let digits = name.strip_prefix("i-");
    digits.is_some_and(|digits| digits.len() == 2 * INSTANCE_DIGITS_HALF && digits.bytes().all(is_digit))
}

/// The name of the object for a health report about an instance of a service, which is a pod.
pub(super) fn of_report(service: &ServiceId, instance: &str) -> String {
    let readable = format!("{instance}{BETWEEN}{service}");
    if fits(instance) && fits(service.as_str()) && readable.len() <= NAME_BYTES_MAX {
        readable
    } else {
        hashed("hr", &[service.as_str(), instance])
    }
}

/// Returns true if a part of a name can be used unchanged: lower-case labels without the separator of parts.
fn fits(part: &str) -> bool {
    let is_label = |label: &str| {
        let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        !label.is_empty() && label.bytes().all(inner) && !label.starts_with('-') && !label.ends_with('-')
    };
    part.len() <= NAME_BYTES_MAX
        && part.split('.').all(is_label)
        && !part.contains(BETWEEN)
        && !is_hash(part)
        && part != "http"
}

const HASH_DIGITS: usize = 40;

fn hashed(kind: &str, parts: &[&str]) -> String {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update((part.len() as u64).to_be_bytes());
        hasher.update(part.as_bytes());
    }
    let digits: String = hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
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

    fn identity() -> Identity {
        Identity { account_id: "000000000000".into(), region: "us-east-1".into() }
    }

    fn namespace(name: &str, kind: NamespaceKind) -> Namespace {
        samples::namespace(identity().namespace_id(kind.as_str(), name), name, kind)
    }

    fn service(namespace: &Namespace, name: &str) -> Service {
        samples::service(identity().service_id(&namespace.id, name), namespace.id.clone(), name)
    }

    #[test]
    fn names_follow_from_ids_and_stay_the_same_for_ever() {
        let dns = namespace("production.local", NamespaceKind::DnsPublic);
        let http = namespace("shop", NamespaceKind::Http);
        assert_eq!(of_namespace(&dns), dns.id.as_str());
        let (lower, upper) = (service(&dns, "backend"), service(&dns, "Backend"));
        assert_eq!(of_service(&identity(), &lower, &dns), lower.id.as_str());
        assert_eq!(of_service(&identity(), &upper, &dns), lower.id.as_str());
        let upper = service(&http, "Backend");
        assert_eq!(of_service(&identity(), &upper, &http), upper.id.as_str());
        // Constant for all versions, because the ids of operations contain this name.
        assert_eq!(of_instance(&"srv-1".into(), "i-1"), "i-f0olm0rfjbwnoz5o7327lfe2");
    }

    #[test]
    fn no_two_instances_have_one_name_and_every_name_is_one_for_kubernetes() {
        let mut seen = BTreeSet::new();
        for service in ["srv-1", "srv-2"] {
            for instance in ["a", "a--b", "i/1", "I-1", "i-1", "x.", "1"] {
                let name = of_instance(&service.into(), instance);
                assert_eq!(name.len(), 26);
                assert!(
                    name.bytes()
                        .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
                );
                assert!(seen.insert(name.clone()), "{name} twice");
            }
        }
        for instance in ["a", "a--b", "i/1", "I-1"] {
            let name = of_report(&"srv-1".into(), instance);
            assert!(seen.insert(name.clone()), "{name} twice");
        }
    }
}
