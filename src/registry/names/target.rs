//! The two names that an instance can have: that of its id, and one that is derived from its id.
//!
//! The target of an SRV record has to be a host name (RFC 2782, RFC 952, RFC 1123 §2.1): resolvers of some programming
//! languages discard the whole answer if one target is not. Ids of Cloud Map may contain other characters, so a label is
//! derived from such an id. The label only depends on the id and on the length that the service's name leaves for it, so
//! that it is equal at all servers and never changes.

use crate::model::{Namespace, Service, id::digest36};

/// Longest name in presentation format without the final dot, in bytes (255 in wire form, RFC 1035 §2.3.4).
pub(in crate::registry) const NAME_BYTES_MAX: usize = 253;
pub(in crate::registry) const LABEL_BYTES_MAX: usize = 63;
const DIGITS: usize = 10;
/// Readable part of the label if the id has neither letters nor digits.
const NOTHING_READABLE: char = 'i';

/// Number of bytes that labels of instances may have in front of the service's name and its dot.
#[derive(Clone, Copy, Debug)]
pub(super) struct LabelBudget(usize);

impl LabelBudget {
    pub(super) fn of(service: &Service, namespace: &Namespace) -> LabelBudget {
        let zone = namespace.name.strip_suffix('.').unwrap_or(&namespace.name);
        let service = if service.name == "." { 0 } else { service.name.len() + 1 };
        LabelBudget(NAME_BYTES_MAX.saturating_sub(zone.len() + 1 + service))
    }

    /// True if the id consists of labels of valid lengths that fit into the budget, whatever their characters.
    pub(super) fn has_own_name(self, id: &str) -> bool {
        id.len() <= self.0 && id.split('.').all(|label| (1..=LABEL_BYTES_MAX).contains(&label.len()))
    }

    /// Derives a label from the id; `None` if the service's name leaves too few bytes.
    pub(super) fn derived(self, id: &str) -> Option<String> {
        let readable_bytes_max = self.readable_bytes_max();
        if readable_bytes_max == 0 {
            return None;
        }
        let mut label = readable(id);
        label.truncate(readable_bytes_max);
        label.truncate(label.trim_end_matches('-').len());
        if label.is_empty() {
            label.push(NOTHING_READABLE);
        }
        label.push('-');
        label.push_str(&digest36(id, DIGITS));
        Some(label)
    }

    pub(super) fn readable_bytes_max(self) -> usize {
        self.0.min(LABEL_BYTES_MAX).saturating_sub(DIGITS + 1)
    }

    pub(super) fn has_target(self, id: &str) -> bool {
        (is_host_name(id) && self.has_own_name(id)) || self.derived(id).is_some()
    }
}

/// Returns true if the id consists of labels of letters, digits and inner hyphens (RFC 1123 §2.1). Lengths are not checked.
pub(super) fn is_host_name(id: &str) -> bool {
    let is_label = |label: &str| {
        let bytes = label.as_bytes();
        let is_inner = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'-';
        bytes.first().is_some_and(u8::is_ascii_alphanumeric)
            && bytes.last().is_some_and(u8::is_ascii_alphanumeric)
            && bytes.iter().all(is_inner)
    };
    id.split('.').all(is_label)
}

pub(super) fn readable_part(label: &str) -> Option<&str> {
    let at = label.len().checked_sub(DIGITS)?;
    let (head, digits) = label.split_at_checked(at)?;
    let is_digit = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    head.strip_suffix('-').filter(|head| !head.is_empty() && digits.bytes().all(is_digit))
}

/// Converts the id to lower case, replaces each run of characters other than letters, digits and hyphens by one hyphen, and
/// trims hyphens at both ends.
fn readable(id: &str) -> String {
    let mut text = String::with_capacity(LABEL_BYTES_MAX);
    let mut is_run = false;
    for byte in id.bytes() {
        let is_kept = byte.is_ascii_alphanumeric() || byte == b'-';
        if is_kept {
            text.push(byte.to_ascii_lowercase().into());
        } else if !is_run {
            text.push('-');
        }
        is_run = !is_kept;
    }
    text.trim_matches('-').to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn derived_labels_are_readable_and_distinct_and_never_change() {
        let derived = |id| LabelBudget(200).derived(id).unwrap();
        for (id, expected) in [
            ("task:1", "task-1-"),
            ("a@b", "a-b-"),
            ("x/y", "x-y-"),
            ("a_b", "a-b-"),
            ("-A-", "a-"),
            ("a..b", "a-b-"),
            (":::", "i-"),
            ("a--b", "a--b-"),
            ("TASK", "task-"),
        ] {
            let label = derived(id);
            let (readable, digits) = label.split_at(label.len() - DIGITS);
            assert_eq!(readable, expected, "{id}");
            assert!(digits.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()), "{label}");
            assert_eq!(readable_part(&label), expected.strip_suffix('-'));
            assert!(is_host_name(&label));
        }
        assert_eq!(derived("task:1"), "task-1-l7ve9knt9k");
        assert_ne!(derived("task"), derived("Task"));
    }

    #[test]
    fn derived_labels_are_shortened_to_fit_and_absent_if_no_readable_part_fits() {
        let id = "x".repeat(64);
        for (budget, expected) in
            [(400, Some(63)), (63, Some(63)), (20, Some(20)), (12, Some(12)), (11, None), (0, None)]
        {
            assert_eq!(LabelBudget(budget).derived(&id).map(|label| label.len()), expected, "{budget}");
            assert_eq!(
                LabelBudget(budget).derived("::").map(|label| label.len()),
                expected.map(|_| 12),
                "{budget}"
            );
        }
        // A hyphen at the end of the shortened readable part is trimmed.
        assert_eq!(LabelBudget(14).derived("ab-cd").map(|label| label.len()), Some(13));
    }

    #[test]
    fn id_has_its_own_name_if_its_labels_have_valid_lengths_even_if_it_is_no_host_name() {
        let long = "i".repeat(64);
        for (id, is_host, has_own) in [
            ("i-1", true, true),
            ("A.b", true, true),
            ("0", true, true),
            ("-a", false, true),
            ("a-.b", false, true),
            ("a_b", false, true),
            ("task:1", false, true),
            ("a..b", false, false),
            (".", false, false),
            (&long, true, false),
            ("", false, false),
        ] {
            assert_eq!((is_host_name(id), LabelBudget(100).has_own_name(id)), (is_host, has_own), "{id}");
        }
        assert!(!LabelBudget(3).has_own_name("long"));
    }
}
