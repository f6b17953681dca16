//! Operations in the annotation of an object: those that changed the object, or those that a record (a CloudMapOperation)
//! contains.
//!
//! An operation is written in one write with the change that it made. Its number is chosen before that write, above all
//! numbers that this server knows, so every server reads the operation from the annotation alone, whatever is written to
//! the object later. Several operations may have one number; their ids distinguish them.
//!
//! The id leads to the object. It has the form that operation ids have in every store: 32 lower-case alphanumeric
//! characters, `-`, and 8 more. The first character is the kind of the object, the following ones are the end of the
//! object's name, and the others are random.

use kube::api::ObjectMeta;
use serde::{Deserialize, Serialize};

use crate::model::{
    EpochMs, Operation, OperationId, OperationStatus, OperationTargets, OperationType, now_ms,
};
use crate::registry::settings::OPERATION_YOUNG_MS;

use super::kind::Kind;

/// The annotation with the operations of an object as a JSON array, the newest one last.
pub(super) const OPERATIONS: &str = "cloudmap-dns.io/operations";
/// Operations that an object's annotation keeps when one is added to it, if they are young.
const OPERATIONS_MAX: usize = 8;
const ID_DIGITS: (usize, usize) = (32, 8);
const RECORD_DIGITS: usize = 16;

/// Kinds of objects that have operations, with the first letter of the ids of these operations, and the prefix and length
/// of the names of such objects.
const HOLDER_KINDS: [(char, Kind, &str, usize); 4] = [
    ('n', Kind::Namespace, "ns-", 16),
    ('s', Kind::Service, "srv-", 16),
    ('i', Kind::Instance, "i-", 24),
    ('r', Kind::Operation, "op-", RECORD_DIGITS),
];

/// An operation as the annotation has it, without the targets that the object's spec contains. `number` is absent
/// for operations that have the number of the record's creation.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    number: Option<u64>,
    #[serde(rename = "type")]
    kind: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    error_code: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    error_message: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    namespace_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    service_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    instance_id: Option<String>,
    create_date_ms: EpochMs,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    update_date_ms: Option<EpochMs>,
}

/// Ids that an object's spec contains, so that its annotation need not repeat them.
#[derive(Clone, Debug, Default)]
pub(super) struct SpecIds {
    pub(super) namespace: Option<String>,
    pub(super) service: Option<String>,
    pub(super) instance: Option<String>,
}

pub(super) fn new_id(name: &str) -> OperationId {
    let found = HOLDER_KINDS.iter().find_map(|(letter, _, prefix, digits)| {
        let tail = name.strip_prefix(prefix).filter(|tail| tail.len() == *digits)?;
        Some(format!("{letter}{tail}"))
    });
    let mut text = found.unwrap_or_default();
    while text.len() < ID_DIGITS.0 {
        text.push(digit());
    }
    text.push('-');
    text.extend((0..ID_DIGITS.1).map(|_| digit()));
    OperationId::from(text.as_str())
}

/// Returns the kind and name of the object that has the operation of this id; `None` if the id does not have the form
/// that this store gives.
pub(super) fn holder_of(id: &str) -> Option<(Kind, String)> {
    let (head, tail) = id.split_once('-')?;
    let is_digit = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    if (head.len(), tail.len()) != ID_DIGITS || !head.bytes().chain(tail.bytes()).all(is_digit) {
        return None;
    }
    let (_, kind, prefix, digits) =
        HOLDER_KINDS.into_iter().find(|(letter, ..)| head.starts_with(*letter))?;
    Some((kind, format!("{prefix}{}", &head[1..=digits])))
}

pub(super) fn new_record_name() -> String {
    let digits: String = (0..RECORD_DIGITS).map(|_| digit()).collect();
    format!("op-{digits}")
}

fn digit() -> char {
    char::from(b"0123456789abcdefghijklmnopqrstuvwxyz"[fastrand::usize(..36)])
}

/// Reads the operations of an object. `number` is that of the object's creation, for entries without a number. Entries
/// that cannot be read, which a later version may have written, are skipped.
pub(super) fn read(meta: &ObjectMeta, spec_ids: &SpecIds, number: u64) -> Vec<Operation> {
    let text = meta.annotations.as_ref().and_then(|annotations| annotations.get(OPERATIONS));
    let entries: Vec<Entry> = text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    entries.into_iter().filter_map(|entry| entry.operation(spec_ids, number)).collect()
}

pub(super) fn has_any(meta: &ObjectMeta) -> bool {
    meta.annotations.as_ref().is_some_and(|annotations| annotations.contains_key(OPERATIONS))
}

pub(super) fn add(meta: &mut ObjectMeta, spec_ids: &SpecIds, operation: &Operation) {
    let now_ms = now_ms();
    let mut all = read(meta, spec_ids, 0);
    all.retain(|earlier| earlier.updated_ms.saturating_add(OPERATION_YOUNG_MS) >= now_ms);
    all.drain(..all.len().saturating_sub(OPERATIONS_MAX - 1));
    all.push(operation.clone());
    write(meta, spec_ids, &all);
}

/// Sets the operations of an object. Operations with the number 0 get that of the object's creation when they are read.
pub(super) fn write(meta: &mut ObjectMeta, spec_ids: &SpecIds, operations: &[Operation]) {
    let entries: Vec<_> = operations.iter().map(|operation| Entry::of(operation, spec_ids)).collect();
    let text = serde_json::to_string(&entries).unwrap_or_default();
    meta.annotations.get_or_insert_default().insert(OPERATIONS.into(), text);
}

pub(super) fn bytes_of(operation: &Operation) -> usize {
    serde_json::to_string(&Entry::of(operation, &SpecIds::default())).map_or(0, |text| text.len() + 1)
}

impl Entry {
    fn of(operation: &Operation, spec_ids: &SpecIds) -> Entry {
        let (error_code, error_message) = match &operation.status {
            OperationStatus::Success => (None, None),
            OperationStatus::Fail { code, message } => (Some(code.clone()), Some(message.clone())),
        };
        let targets = &operation.targets;
        let instance = match targets {
            OperationTargets::Instance { instance, .. } => Some(instance.clone()),
            OperationTargets::Namespace(_) | OperationTargets::Service { .. } => None,
        };
        let unsaid =
            |id: Option<String>, spec_ids: &Option<String>| id.filter(|id| spec_ids.as_ref() != Some(id));
        Entry {
            id: operation.id.to_string(),
            number: Some(operation.number).filter(|number| *number > 0),
            kind: operation.operation_type.as_str().into(),
            error_code,
            error_message,
            namespace_id: unsaid(Some(targets.namespace().to_string()), &spec_ids.namespace),
            service_id: unsaid(targets.service().map(ToString::to_string), &spec_ids.service),
            instance_id: unsaid(instance, &spec_ids.instance),
            create_date_ms: operation.created_ms,
            update_date_ms: Some(operation.updated_ms).filter(|updated| *updated != operation.created_ms),
        }
    }

    fn operation(self, spec_ids: &SpecIds, number: u64) -> Option<Operation> {
        let operation_type = OperationType::of(&self.kind)?;
        let namespace = self.namespace_id.or_else(|| spec_ids.namespace.clone())?;
        let namespace = namespace.as_str().into();
        let service = || self.service_id.clone().or_else(|| spec_ids.service.clone());
        let targets = match operation_type {
            OperationType::CreateNamespace
            | OperationType::DeleteNamespace
            | OperationType::UpdateNamespace => OperationTargets::Namespace(namespace),
            OperationType::UpdateService => {
                OperationTargets::Service { service: service()?.as_str().into(), namespace }
            }
            OperationType::RegisterInstance | OperationType::DeregisterInstance => {
                OperationTargets::Instance {
                    instance: self.instance_id.clone().or_else(|| spec_ids.instance.clone())?,
                    service: service()?.as_str().into(),
                    namespace,
                }
            }
        };
        let status = match self.error_code {
            None => OperationStatus::Success,
            Some(code) => OperationStatus::Fail { code, message: self.error_message.unwrap_or_default() },
        };
        Some(Operation {
            number: self.number.unwrap_or(number),
            id: self.id.as_str().into(),
            operation_type,
            status,
            targets,
            created_ms: self.create_date_ms,
            updated_ms: self.update_date_ms.unwrap_or(self.create_date_ms),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registration(number: u64, created_ms: EpochMs) -> Operation {
        Operation {
            number,
            id: new_id("i-0123456789abcdef01234567"),
            operation_type: OperationType::RegisterInstance,
            status: OperationStatus::Success,
            targets: OperationTargets::Instance {
                instance: "i-1".into(),
                service: "srv-1".into(),
                namespace: "ns-1".into(),
            },
            created_ms,
            updated_ms: created_ms,
        }
    }

    #[test]
    fn an_id_has_the_form_of_all_ids_and_leads_to_its_object() {
        for (name, kind) in [
            ("ns-0123456789abcdef", Kind::Namespace),
            ("srv-0123456789abcdef", Kind::Service),
            ("i-0123456789abcdef01234567", Kind::Instance),
            (&new_record_name(), Kind::Operation),
        ] {
            let id = new_id(name);
            assert_eq!((id.as_str().len(), id.as_str().find('-')), (41, Some(32)));
            assert_eq!(holder_of(id.as_str()), Some((kind, name.to_string())));
            assert_ne!(new_id(name), id);
        }
        let hash = "a".repeat(32);
        for other in ["x", "", &hash, &format!("{hash}-00000001"), "n-1", "né-00000000"] {
            assert_eq!(holder_of(other), None, "{other}");
        }
    }

    #[test]
    fn an_object_keeps_its_last_operations_while_they_are_young() {
        let spec_ids =
            SpecIds { service: Some("srv-1".into()), instance: Some("i-1".into()), ..SpecIds::default() };
        let (mut meta, now) = (ObjectMeta::default(), now_ms());
        add(&mut meta, &spec_ids, &registration(1, now - OPERATION_YOUNG_MS - 1));
        for number in 2..=4 {
            add(&mut meta, &spec_ids, &registration(number, now));
        }
        let numbers = |meta: &ObjectMeta| -> Vec<_> {
            read(meta, &spec_ids, 0).iter().map(|operation| operation.number).collect()
        };
        assert_eq!(numbers(&meta), [2, 3, 4]);
        for number in 5..=20 {
            add(&mut meta, &spec_ids, &registration(number, now));
        }
        assert_eq!(numbers(&meta), (13..=20).collect::<Vec<_>>());
        let text = &meta.annotations.as_ref().unwrap()[OPERATIONS];
        assert!(!text.contains("srv-1") && text.contains("ns-1"), "{text}");
    }

    #[test]
    fn an_operation_is_read_as_it_was_written() {
        let failed = Operation {
            status: OperationStatus::Fail { code: "C".into(), message: "why".into() },
            targets: OperationTargets::Namespace("ns-1".into()),
            operation_type: OperationType::CreateNamespace,
            updated_ms: 5,
            ..registration(0, 4)
        };
        let mut meta = ObjectMeta::default();
        write(&mut meta, &SpecIds::default(), &[failed.clone(), registration(7, 3)]);
        let found = read(&meta, &SpecIds::default(), 90);
        assert_eq!(found[0], Operation { number: 90, ..failed });
        assert_eq!((found[1].number, found.len()), (7, 2));
    }
}
