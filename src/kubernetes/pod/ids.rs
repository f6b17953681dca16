//! Ids of tasks and instances.

use sha2::{Digest, Sha256};

use crate::model::instance::INSTANCE_ID_BYTES_MAX;

use super::object::Pod;
use super::rules::InstanceIdSource;

const TASK_ID: &str = "kecs.dev/task-id";

/// Id of the ECS task: the label's or, as KECS derives it, a digest of the pod's name.
pub(super) fn task_id(pod: &Pod, name: &str) -> String {
    pod.label(TASK_ID).map_or_else(|| name_digest(name), str::to_string)
}

pub(super) fn instance_id(pod: &Pod, name: &str, source: InstanceIdSource) -> Box<str> {
    match (source, pod.label(TASK_ID)) {
        (InstanceIdSource::Task, Some(task)) => task.into(),
        _ if name.len() <= INSTANCE_ID_BYTES_MAX => name.into(),
        // A pod's name may be longer than an instance's id may be.
        _ => name_digest(name).into(),
    }
}

/// First 16 bytes of the name's SHA-256 in hexadecimal, as KECS derives a task's id.
pub(super) fn name_digest(name: &str) -> String {
    Sha256::digest(name.as_bytes()).iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}
