//! Patterns of names in AWS's service model that lenient validation relaxes.
//!
//! `api` checks input against them, and the planner decides whether a name that does not match is accepted all the same.

use std::fmt;

/// A pattern of the API's strings: the regular expression of the service model, which error messages quote, and a function
/// that returns true for strings that match it.
#[expect(missing_docs, reason = "the fields are explained by the type's document")]
pub struct Pattern {
    pub text: &'static str,
    pub holds: fn(&str) -> bool,
}

impl Pattern {
    /// Returns the error message for a name that does not match, in the words of AWS's own validation.
    pub(super) fn violation(&self, name: &str) -> String {
        format!(
            "1 validation error detected: Value '{name}' at 'name' failed to satisfy constraint: Member must satisfy \
             regular expression pattern: {}",
            self.text
        )
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text)
    }
}

/// Names of public DNS namespaces: `NamespaceNamePublic` of the service model.
pub static NAMESPACE_NAME_PUBLIC: Pattern = Pattern {
    text: r"^([a-zA-Z0-9]([a-zA-Z0-9\-]{0,61}[a-zA-Z0-9])?\.)+[a-zA-Z0-9]([a-zA-Z0-9\-]{0,61}[a-zA-Z0-9])?$",
    holds: |text| text.contains('.') && text.split('.').all(is_host_label),
};

/// Names of services: `ServiceName` of the service model. A single dot is the zone's apex.
pub static SERVICE_NAME: Pattern = Pattern {
    text: r"((?=^.{1,127}$)^([a-zA-Z0-9_][a-zA-Z0-9-_]{0,61}[a-zA-Z0-9_]|[a-zA-Z0-9])(\.([a-zA-Z0-9_][a-zA-Z0-9-_]{0,61}[a-zA-Z0-9_]|[a-zA-Z0-9]))*$)|(^\.$)",
    holds: |text| text.len() <= SERVICE_NAME_BYTES_MAX && has_service_labels(text),
};

pub(super) fn has_service_labels(name: &str) -> bool {
    name == "." || name.split('.').all(is_service_label)
}

const SERVICE_NAME_BYTES_MAX: usize = 127;

/// Returns true for names of public namespaces under lenient validation: one label is enough, and underscores count as
/// letters.
pub fn is_lenient_public_name(name: &str) -> bool {
    name.split('.').all(is_service_label)
}

/// Returns true for names of services in HTTP namespaces under lenient validation: printable ASCII, as long as AWS's names,
/// without blanks at the ends.
pub fn is_lenient_service_name(name: &str) -> bool {
    let is_printable = |byte: u8| byte == b' ' || byte.is_ascii_graphic();
    (1..=SERVICE_NAME_BYTES_MAX).contains(&name.len())
        && name.bytes().all(is_printable)
        && !name.starts_with(' ')
        && !name.ends_with(' ')
}

/// A label of a host name matches `[a-zA-Z0-9]([a-zA-Z0-9\-]{0,61}[a-zA-Z0-9])?`.
fn is_host_label(label: &str) -> bool {
    label.len() <= 63
        && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        && !label.is_empty()
        && !label.starts_with('-')
        && !label.ends_with('-')
}

/// A label of a service's name matches `[a-zA-Z0-9_][a-zA-Z0-9-_]{0,61}[a-zA-Z0-9_]|[a-zA-Z0-9]`.
fn is_service_label(label: &str) -> bool {
    label.len() <= 63
        && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
        && !label.is_empty()
        && !label.starts_with('-')
        && !label.ends_with('-')
        && label != "_"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lenient_validation_refuses_empty_labels_blanks_and_characters_outside_of_ascii() {
        for name in ["com", "public_dns_ns", "a_b.c", "_a.b", "example.com"] {
            assert!(is_lenient_public_name(name), "{name}");
        }
        for name in ["", ".", "a.", "a..b", "_", "-a", "a b", "a/b", "ü", &"x".repeat(64)] {
            assert!(!is_lenient_public_name(name), "{name}");
        }
        for name in ["my service", "a/b", "arn:x", "-a", "a..b", &"x".repeat(127)] {
            assert!(is_lenient_service_name(name), "{name}");
        }
        for name in ["", " a", "a ", "a\nb", "a\tb", "ü", "\u{7f}", &"x".repeat(128)] {
            assert!(!is_lenient_service_name(name), "{name}");
        }
    }
}
