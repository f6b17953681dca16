//! The order of the groups of a batch: groups that write or read common objects or DNS names are written one after the
//! other.

use std::collections::HashMap;

use crate::registry::{Change, Group};

use super::super::index::Index;
use super::super::name_races;

/// The step in which a group is written, and the keys of the objects and names that it writes and reads.
pub(super) struct Plan {
    pub(super) step: usize,
    pub(super) writes: Vec<String>,
    reads: Vec<String>,
}

impl Plan {
    pub(super) fn keys(&self) -> impl Iterator<Item = &str> {
        self.writes.iter().chain(&self.reads).map(String::as_str)
    }
}

pub(super) fn plan(index: &Index, batch: &[Group]) -> Vec<Plan> {
    let mut written: HashMap<String, usize> = HashMap::new();
    let mut read: HashMap<String, usize> = HashMap::new();
    let mut plans = Vec::with_capacity(batch.len());
    for group in batch {
        let (mut writes, mut reads) = (Vec::new(), Vec::new());
        for change in group {
            match change {
                Change::PutNamespace(namespace) => writes.push(namespace.id.to_string()),
                Change::DeleteNamespace(id) => writes.push(id.to_string()),
                Change::PutService(service) => {
                    writes.push(service.id.to_string());
                    reads.push(service.namespace_id.to_string());
                }
                Change::DeleteService(id) => {
                    writes.push(id.to_string());
                    let state = index.state().service(id.as_str());
                    reads.extend(state.ok().map(|state| state.service.namespace_id.to_string()));
                }
                Change::PutInstance(service, instance) => {
                    writes.push(format!("{service} {}", instance.id()));
                    reads.push(service.to_string());
                }
                Change::DeleteInstance(service, id) => {
                    writes.push(format!("{service} {id}"));
                    reads.push(service.to_string());
                }
                Change::PutReport(service, id, _) | Change::DropReport(service, id) => {
                    writes.push(format!("report {service} {id}"));
                }
                _ => {}
            }
            writes.extend(name_races::names_of(index, change));
        }
        let after = |steps: &HashMap<String, usize>, key: &String| steps.get(key).map_or(0, |step| step + 1);
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
