//! The known operations: those in annotations of objects, and those in records (CloudMapOperation objects).
//!
//! An operation remains known when its object is written again without it. When its object is deleted, it remains known
//! for the time in which it should be written into a record. The registry's settings limit how many are retained, also at
//! a server that gets no requests: every operation that is read may evict old ones. A record is deleted once none of its
//! operations is retained.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use kube::ResourceExt;

use crate::model::{EpochMs, Operation, OperationId, OperationKey, OperationTargets, OperationType, now_ms};
use crate::registry::Change;
use crate::registry::settings::{OPERATION_YOUNG_MS, OPERATIONS_YOUNG_FACTOR};

use super::super::kind::Kind;
use super::super::object_cache::{Name, ObjectCache, Stored};
use super::super::operation_annotation::OPERATIONS;
use super::super::resources::CloudMapOperation;
use super::super::translate::{self, version};
use super::contents::Index;
use super::events::Removal;

/// Time for which the operations of an object that was deleted elsewhere remain known without a record, in
/// milliseconds: the server that deletes an object writes the record afterwards. If no record follows, the object
/// was deleted by hand, or was never accepted. A later record restores the operations. For an object that this
/// server deletes, the time is longer than that of a batch.
const UNRECORDED_MS_MAX: u64 = 1_000;
const UNRECORDED_OWN_MS_MAX: u64 = 15_000;
const EVICTED_MAX: usize = 2;

/// All known operations. `records` has the retained operations of each record, and an empty set for a record that
/// is to be deleted. `unrecorded` has the operations of deleted objects, with the time until which a record should
/// follow.
#[derive(Default)]
pub(super) struct Operations {
    known: BTreeMap<OperationKey, Known>,
    numbers: BTreeMap<OperationId, u64>,
    records: HashMap<Name, BTreeSet<OperationKey>>,
    unrecorded: BTreeSet<(Instant, OperationKey)>,
    retained: usize,
}

impl Operations {
    pub(super) fn new(retained: usize) -> Operations {
        Operations { retained, ..Operations::default() }
    }
}

struct Known {
    operation: Arc<Operation>,
    holder: Holder,
}

#[derive(Clone, Debug, Eq, PartialEq)]
enum Holder {
    Object,
    Record(Name),
    Gone,
}

impl Index {
    /// Adds the operations of a record. Records are immutable, so a known one is not read again.
    pub(in crate::store::kubernetes) fn put_operation(&mut self, object: &CloudMapOperation) {
        self.observe(version(&object.metadata));
        let Some(name) = object.metadata.name.as_deref().map(Name::from) else { return };
        if self.operations.records.contains_key(&name) {
            return;
        }
        let operations = translate::operations(object, self.identity(), self.offset());
        let keys = operations.iter().map(Operation::key).collect();
        self.operations.records.insert(name.clone(), keys);
        for operation in operations {
            let moves = matches!(
                operation.operation_type,
                OperationType::RegisterInstance | OperationType::DeregisterInstance
            );
            if let Some(service) = operation.targets.service().filter(|_| moves).cloned() {
                self.raise_revision(&service, operation.number);
                self.numbers.raise_serial(operation.targets.namespace().clone(), operation.number);
            }
            self.add_operation(operation, Holder::Record(name.clone()));
        }
    }

    /// Removes a deleted record, and those of its operations that no object has in its annotation.
    pub(in crate::store::kubernetes) fn remove_operation(&mut self, name: &str) {
        for key in self.operations.records.remove(name).into_iter().flatten() {
            if self.operations.known.get(&key).is_some_and(|known| known.holder.is_record(name)) {
                self.drop_operation(&key);
            }
        }
    }

    /// Drops an operation. A record that has no retained operation afterwards is scheduled for deletion.
    pub(in crate::store::kubernetes) fn drop_operation(&mut self, key: &OperationKey) {
        let Some(known) = self.operations.known.remove(key) else { return };
        self.operations.numbers.remove(&key.id);
        if let Holder::Record(name) = known.holder
            && let Some(kept) = self.operations.records.get_mut(&name)
        {
            kept.remove(key);
            if kept.is_empty() {
                self.schedule_status(Kind::Operation, name);
            }
        }
        if self.is_read {
            self.changes.push(Change::DropOperation(key.clone()));
        }
    }

    /// Returns true for a known record of which no operation is retained.
    pub(in crate::store::kubernetes) fn is_empty_record(&self, record: &str) -> bool {
        self.operations.records.get(record).is_some_and(BTreeSet::is_empty)
    }

    pub(in crate::store::kubernetes) fn operation_inventory(&self) -> Vec<Name> {
        self.operations.records.keys().cloned().collect()
    }

    pub(in crate::store::kubernetes) fn oldest_operation(&self) -> Option<u64> {
        self.operations.known.keys().next().map(|key| key.number)
    }

    pub(in crate::store::kubernetes) fn has_operation(&self, id: &str) -> bool {
        self.operations.numbers.contains_key(id)
    }

    pub(in crate::store::kubernetes) fn operation_at(
        &self,
        number: u64,
        targets: &OperationTargets,
    ) -> Option<OperationId> {
        let numbered = self.operations.known.range(OperationKey { number, id: "".into() }..);
        let numbered = numbered.take_while(|(key, _)| key.number == number);
        let found = numbered.map(|(_, known)| &known.operation).find(|one| one.targets == *targets)?;
        Some(found.id.clone())
    }

    /// A number above all that are known here, and not above that of the next write.
    pub(in crate::store::kubernetes) fn next_number(&self) -> u64 {
        self.sequence() + 1
    }

    /// Drops the operations of deleted objects for which no record has followed in time.
    pub(in crate::store::kubernetes) fn forget_unrecorded(&mut self, now: Instant) {
        while self.operations.unrecorded.first().is_some_and(|(until, _)| *until <= now) {
            let Some((_, key)) = self.operations.unrecorded.pop_first() else { return };
            if self.operations.known.get(&key).is_some_and(|known| known.holder == Holder::Gone) {
                self.drop_operation(&key);
            }
        }
    }

    pub(super) fn add_annotated(&mut self, operations: Vec<Operation>) {
        operations.into_iter().for_each(|operation| self.add_operation(operation, Holder::Object));
    }

    /// Starts the time in which a record should follow for the operations of a deleted object.
    pub(super) fn mark_unrecorded(&mut self, operations: Vec<Operation>, removal: Removal) {
        let is_own = removal == Removal::Own;
        let wait_ms = if is_own { UNRECORDED_OWN_MS_MAX } else { UNRECORDED_MS_MAX };
        let until = Instant::now() + Duration::from_millis(wait_ms);
        for key in operations.iter().map(Operation::key) {
            let known = self.operations.known.get_mut(&key);
            if let Some(known) = known.filter(|known| known.holder == Holder::Object) {
                known.holder = Holder::Gone;
                self.operations.unrecorded.insert((until, key));
            }
        }
    }

    /// Passes all operations to the registry, because all kinds are listed now.
    pub(super) fn publish_operations(&mut self) {
        let mut operations = std::mem::take(&mut self.operations.known);
        for known in operations.values_mut() {
            // Ids were not shared when it was read, because no namespaces and services were accepted before the lists
            // were complete.
            if let Some(operation) = Arc::get_mut(&mut known.operation) {
                self.share_ids(operation);
            }
            self.changes.push(Change::PutOperation(known.operation.clone()));
        }
        self.operations.known = operations;
    }

    fn add_operation(&mut self, mut operation: Operation, holder: Holder) {
        let key = operation.key();
        if let Some(known) = self.operations.known.get_mut(&key) {
            if known.holder == Holder::Gone || matches!(holder, Holder::Record(_)) {
                known.holder = holder;
            }
            return;
        }
        self.numbers.raise_sequence(key.number);
        self.share_ids(&mut operation);
        let key = operation.key();
        let operation = Arc::new(operation);
        self.operations.numbers.insert(key.id.clone(), key.number);
        self.operations.known.insert(key, Known { operation: operation.clone(), holder });
        if self.is_read {
            self.changes.push(Change::PutOperation(operation));
        }
        self.evict();
    }

    /// Lets an operation share the allocations of its ids with its namespace and service, if these are accepted.
    fn share_ids(&self, operation: &mut Operation) {
        let (namespace, service) = match &mut operation.targets {
            OperationTargets::Namespace(namespace) => (namespace, None),
            OperationTargets::Service { service, namespace }
            | OperationTargets::Instance { service, namespace, .. } => (namespace, Some(service)),
        };
        if let Ok(state) = self.state.namespace(namespace.as_str()) {
            *namespace = state.namespace.id.clone();
        }
        if let Some(service) = service
            && let Ok(state) = self.state.service(service.as_str())
        {
            *service = state.service.id.clone();
        }
    }

    /// Evicts the oldest operations, by the rule of the registry's planner.
    fn evict(&mut self) {
        let now_ms: EpochMs = now_ms();
        for _ in 0..EVICTED_MAX {
            let (kept, count) = (self.operations.retained.max(1), self.operations.known.len());
            let Some((key, oldest)) = self.operations.known.first_key_value() else { return };
            let is_due = count > kept.saturating_mul(OPERATIONS_YOUNG_FACTOR)
                || oldest.operation.updated_ms.saturating_add(OPERATION_YOUNG_MS) < now_ms;
            if count <= kept || !is_due {
                return;
            }
            let key = key.clone();
            self.drop_operation(&key);
        }
    }
}

impl Holder {
    fn is_record(&self, name: &str) -> bool {
        matches!(self, Holder::Record(record) if **record == *name)
    }
}

/// Returns true if the annotation of an object has other operations than that of the known version.
pub(super) fn has_new_operations<K: Stored, Id: Clone>(cache: &ObjectCache<K, Id>, object: &K) -> bool {
    let annotation = |object: &K| object.annotations().get(OPERATIONS).cloned();
    let Some(now) = annotation(object) else { return false };
    let before = object.meta().name.as_deref().and_then(|name| cache.object(name));
    before.and_then(|before| annotation(&before)) != Some(now)
}
