//! Names of the mirrored objects in Kubernetes, which are readable, valid and unique.
//!
//! A name that is valid is used unchanged. Any other name is reduced to its valid characters and ends in the last 16
//! characters of its id. A valid name that ends like that gets the id too, so that no generated name is equal to an
//! unchanged one.
//!
//! Kubernetes namespaces have the names that KECS gives them, without dots. If two Cloud Map namespaces are equal
//! without their dots, the older one has the plain name, and the other one gets its id.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::labels::{INSTALLATION, MANAGED_BY, OWNER};
use crate::model::NamespaceId;
use crate::registry::State;

/// Limit of a DNS label (RFC 1123 §2.1), and so of a name of a Service or a Kubernetes namespace, and of a label's
/// value.
const NAME_CHARACTERS_MAX: usize = 63;
/// Characters at the end of an id that make a name unique.
const ID_CHARACTERS: usize = 16;
const SERVICE_PREFIX: &str = "sd-";
const RESERVED_PREFIX: &str = "kube-";

/// Kubernetes namespace of each DNS namespace. They are named in order of creation, so that the older of two gets a
/// name that both want.
pub(super) fn namespaces(state: &State) -> HashMap<NamespaceId, Box<str>> {
    let mut taken = HashSet::new();
    let mut names = HashMap::new();
    for (_, found) in state.namespaces_after(None).filter(|(_, found)| found.namespace.is_dns()) {
        let namespace = &found.namespace;
        let plain = namespace.name.to_ascii_lowercase().replace('.', "");
        let id = namespace.id.as_str();
        let is_free =
            is_valid_as_is(&plain) && !plain.starts_with(RESERVED_PREFIX) && !taken.contains(plain.as_str());
        let name: Box<str> = if is_free { plain.into() } else { generated(&plain, id, "").into() };
        taken.insert(name.clone());
        names.insert(namespace.id.clone(), name);
    }
    names
}

pub(super) fn service(name: &str, id: &str) -> String {
    let plain = format!("{SERVICE_PREFIX}{name}");
    if is_valid_as_is(&plain) { plain } else { generated(name, id, SERVICE_PREFIX) }
}

/// Value of a label: the text if it is valid, else its valid characters and the id.
pub(super) fn label_value(text: &str, id: &str) -> String {
    if is_label_value(text) { text.into() } else { generated(text, id, "") }
}

/// True if the text is the value of a label as Kubernetes defines it, and is not empty.
pub(super) fn is_label_value(text: &str) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let is_end = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    text.len() <= NAME_CHARACTERS_MAX
        && bytes.iter().all(|byte| is_inner(*byte))
        && is_end(bytes.first())
        && is_end(bytes.last())
}

/// True if a name can be used unchanged, because it is valid and does not end like a generated one.
fn is_valid_as_is(name: &str) -> bool {
    let bytes = name.as_bytes();
    let is_end = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    name.len() <= NAME_CHARACTERS_MAX
        && bytes.iter().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'-')
        && is_end(bytes.first())
        && is_end(bytes.last())
        && !looks_generated(name)
}

fn looks_generated(name: &str) -> bool {
    let tail = name.rsplit('-').next().unwrap_or_default();
    tail.len() == ID_CHARACTERS && tail.len() < name.len()
}

/// Generated name: the prefix, the valid characters of the name as far as there is room, and the end of the id.
fn generated(name: &str, id: &str, prefix: &str) -> String {
    let mut readable = String::from(prefix);
    let room = NAME_CHARACTERS_MAX - ID_CHARACTERS - 1;
    for character in name.chars() {
        let character = character.to_ascii_lowercase();
        let is_plain = character.is_ascii_lowercase() || character.is_ascii_digit();
        let last = readable.chars().last();
        if readable.len() == room {
            break;
        }
        if is_plain {
            readable.push(character);
        } else if last.is_some_and(|last| last != '-') {
            readable.push('-');
        }
    }
    let readable = readable.trim_end_matches('-');
    let id: Vec<char> = id.chars().filter(char::is_ascii_alphanumeric).collect();
    let id: String = id[id.len().saturating_sub(ID_CHARACTERS)..].iter().collect();
    let id = id.to_ascii_lowercase();
    if readable.is_empty() { format!("n-{id}") } else { format!("{readable}-{id}") }
}

/// Labels that KECS gives to its objects for a service, and our own.
pub(super) fn labels(
    installation: &str,
    namespace: (&str, &str),
    service: (&str, &str),
) -> BTreeMap<String, String> {
    BTreeMap::from([
        ("kecs.io/service-discovery".into(), "true".into()),
        ("kecs.io/namespace".into(), label_value(namespace.0, namespace.1)),
        ("kecs.io/service".into(), label_value(service.0, service.1)),
        (MANAGED_BY.into(), OWNER.into()),
        (INSTALLATION.into(), installation.into()),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "srv-abcdefgh01234567";

    #[test]
    fn valid_names_are_unchanged_and_others_stay_readable() {
        let long = "a".repeat(61);
        for (name, expected) in [
            ("backend", "sd-backend"),
            ("0-day", "sd-0-day"),
            ("Backend", "sd-backend-abcdefgh01234567"),
            ("_http._tcp", "sd-http-tcp-abcdefgh01234567"),
            ("a.b", "sd-a-b-abcdefgh01234567"),
            ("a--b", "sd-a--b"),
            ("a-", "sd-a-abcdefgh01234567"),
            ("_", "sd-abcdefgh01234567"),
            ("ünïcode", "sd-n-code-abcdefgh01234567"),
            // This name could have been generated for another service.
            ("a-b-abcdefgh01234567", "sd-a-b-abcdefgh01234567-abcdefgh01234567"),
            (&long[..60], &format!("sd-{}", "a".repeat(60))),
            (&long, &format!("sd-{}-abcdefgh01234567", "a".repeat(43))),
        ] {
            let found = service(name, ID);
            assert_eq!(found, expected);
            assert!(found.len() <= NAME_CHARACTERS_MAX, "{found}");
        }
    }

    #[test]
    fn valid_label_values_are_unchanged() {
        for (text, expected) in [
            ("production.local", "production.local"),
            ("Backend_1", "Backend_1"),
            ("_http._tcp", "http-tcp-abcdefgh01234567"),
            ("", "n-abcdefgh01234567"),
        ] {
            assert_eq!(label_value(text, ID), expected);
        }
    }
}
