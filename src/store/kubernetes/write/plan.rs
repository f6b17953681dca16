//! The order of the groups of a batch: groups that write or read common objects or DNS names are written one after the
//! other.

use std::collections::HashMap;

use crate::registry::{Change, Group};

use super::super::index::Index;
use super::super::keys::{InstanceKey, WriteKey};
use super::super::name_races;

/// The step in which a group is written, and the keys of the objects and names that it writes and reads.
pub(super) struct Plan {
    pub(super) step: usize,
    pub(super) writes: Vec<WriteKey>,
    reads: Vec<WriteKey>,
}

impl Plan {
    pub(super) fn keys(&self) -> impl Iterator<Item = &WriteKey> {
        self.writes.iter().chain(&self.reads)
    }
}

pub(super) fn plan(index: &Index, batch: &[Group]) -> Vec<Plan> {
    let mut written: HashMap<WriteKey, usize> = HashMap::new();
    let mut read: HashMap<WriteKey, usize> = HashMap::new();
    let mut plans = Vec::with_capacity(batch.len());
    for group in batch {
        let (mut writes, mut reads) = (Vec::new(), Vec::new());
        for change in group {
            match change {
                Change::PutNamespace(namespace) => writes.push(WriteKey::Namespace(namespace.id.clone())),
                Change::DeleteNamespace(id) => writes.push(WriteKey::Namespace(id.clone())),
                Change::PutService(service) => {
                    writes.push(WriteKey::Service(service.id.clone()));
                    reads.push(WriteKey::Namespace(service.namespace_id.clone()));
                }
                Change::DeleteService(id) => {
                    writes.push(WriteKey::Service(id.clone()));
                    let state = index.state().service(id.as_str()).ok();
                    reads.extend(state.map(|state| WriteKey::Namespace(state.service.namespace_id.clone())));
                }
                Change::PutInstance(service, instance) => {
                    writes.push(WriteKey::Instance(InstanceKey::new(service, instance.id())));
                    reads.push(WriteKey::Service(service.clone()));
                }
                Change::DeleteInstance(service, id) => {
                    writes.push(WriteKey::Instance(InstanceKey::new(service, id)));
                    reads.push(WriteKey::Service(service.clone()));
                }
                Change::PutPodSignals(service, id, _) | Change::DropPodSignals(service, id) => {
                    writes.push(WriteKey::Report(InstanceKey::new(service, id)));
                }
                _ => {}
            }
            writes.extend(name_races::names_of(index, change));
        }
        let after =
            |steps: &HashMap<WriteKey, usize>, key: &WriteKey| steps.get(key).map_or(0, |step| step + 1);
        let step = writes.iter().map(|key| after(&written, key).max(after(&read, key)));
        let step = step.chain(reads.iter().map(|key| after(&written, key))).max().unwrap_or(0);
        for key in &writes {
            written.insert(key.clone(), step);
        }
        for key in &reads {
            let last = read.entry(key.clone()).or_insert(step);
            *last = step.max(*last);
        }
        plans.push(Plan { step, writes, reads });
    }
    plans
}
