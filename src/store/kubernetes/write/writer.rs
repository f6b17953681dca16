//! Writes of one step of a batch, and of single objects of any kind.

use std::collections::HashSet;
use std::sync::Arc;

use futures_util::{StreamExt, stream};
use kube::ResourceExt;

use crate::model::{Operation, OperationId, Uid};
use crate::registry::{Change, Group};

use super::super::index::Index;
use super::super::keys::InstanceKey;
use super::super::kind::ResourceKind;
use super::super::operation_annotation;
use super::super::request::{self, Deadline, Failed, WRITTEN_BY, version_of};
use super::super::resources::{CloudMapInstance, CloudMapNamespace, CloudMapService};
use super::super::shared::Shared;
use super::super::translate::NUMBER;
use super::creations::Created;
use super::limits::{WINNER_MS_MAX, WRITES_MAX};
use super::marks::ListedOwners;

/// Result of the group at an index of the batch. `orphaned` are the operations in the annotations of the objects
/// that the group deleted, which go into a record.
pub(super) struct GroupResult {
    pub(super) at: usize,
    pub(super) result: Result<Option<Outcome>, Failed>,
    pub(super) versions: Vec<u64>,
    pub(super) orphaned: Vec<Operation>,
}

/// The operation of a group whose objects are written: it is in the annotation of an object, maybe since an earlier
/// attempt of the client, or still has to be written into a record.
pub(super) enum Outcome {
    Stored(OperationId),
    Unrecorded(Operation),
}

#[derive(Default)]
pub(super) struct GroupWrites {
    pub(super) created: Vec<Created>,
    pub(super) outcome: Option<Outcome>,
    pub(super) versions: Vec<u64>,
    pub(super) orphaned: Vec<Operation>,
}

/// Writer of one step of a batch. `written` are the versions that earlier steps have written: they are newer than
/// what the registry has read, but its plans know them.
pub(super) struct BatchWriter<'a> {
    pub(super) shared: &'a Arc<Shared>,
    pub(super) written: &'a HashSet<u64>,
    pub(super) until: Deadline,
}

impl BatchWriter<'_> {
    pub(super) async fn step(&self, groups: Vec<(usize, &Group)>) -> Vec<GroupResult> {
        let listed = self.list_owners(&groups).await;
        let listed = &listed;
        let writes = stream::iter(groups.into_iter().map(|(at, group)| async move {
            let mut writes = GroupWrites::default();
            let result = self.write_group(group, listed, &mut writes).await;
            (at, group, writes, result)
        }));
        let writes: Vec<_> = writes.buffer_unordered(WRITES_MAX).collect().await;
        let owners = self.owners(writes.iter().flat_map(|(_, _, writes, _)| &writes.created)).await;
        let owners = &owners;
        let done = stream::iter(writes.into_iter().map(|(at, group, writes, mut result)| async move {
            let GroupWrites { created, outcome, mut versions, orphaned } = writes;
            for created in created {
                result = match (result, self.check(created, owners).await) {
                    (Ok(()), Ok(version)) => {
                        versions.push(version);
                        Ok(())
                    }
                    (result, checked) => result.and(checked.map(drop)),
                };
            }
            if result.is_ok() {
                let dropped = group.iter().filter_map(|change| match change {
                    Change::DropOperation(key) => Some(key),
                    _ => None,
                });
                dropped.for_each(|key| self.shared.update_index(|index| index.drop_operation(key)));
            }
            GroupResult { at, result: result.map(|()| outcome), versions, orphaned }
        }));
        done.buffer_unordered(WRITES_MAX).collect().await
    }

    async fn write_group(
        &self,
        group: &Group,
        listed: &ListedOwners,
        writes: &mut GroupWrites,
    ) -> Result<(), Failed> {
        let planned = group.iter().find_map(|change| match change {
            Change::PutOperation(planned) => Some(planned),
            _ => None,
        });
        let operation = planned.map(|planned| &**planned);
        let mut has_object = false;
        for change in group {
            match change {
                Change::PutNamespace(namespace) => self.put_namespace(namespace, operation, writes).await?,
                Change::DeleteNamespace(id) => {
                    self.delete_owner::<CloudMapNamespace>(id, listed, &mut writes.orphaned).await?;
                }
                Change::PutService(service) => {
                    self.put_service(service, operation, listed, writes).await?;
                }
                Change::DeleteService(id) => {
                    self.delete_owner::<CloudMapService>(id, listed, &mut writes.orphaned).await?;
                }
                Change::PutInstance(service, instance) => {
                    self.put_instance(service, instance, operation, writes).await?;
                }
                Change::DeleteInstance(service, id) => {
                    let key = InstanceKey::new(service, id);
                    self.delete::<CloudMapInstance>(&key, &mut writes.orphaned).await?;
                }
                Change::PutPodSignals(service, id, report) => {
                    let key = InstanceKey::new(service, id);
                    writes.versions.extend(self.put_report(&key, report).await?);
                }
                Change::DropPodSignals(service, id) => {
                    let key = InstanceKey::new(service, id);
                    self.drop_report(&key, &mut writes.orphaned).await?;
                }
                // Revisions and the sequence follow from the resourceVersion.
                _ => continue,
            }
            has_object = true;
        }
        if writes.outcome.is_none()
            && let Some(planned) = operation
        {
            let earlier = if has_object { None } else { self.earlier_operation(planned).await? };
            writes.outcome = Some(match earlier {
                Some(id) => Outcome::Stored(id),
                None => Outcome::Unrecorded(planned.clone()),
            });
        }
        Ok(())
    }

    /// Returns an error if the plan did not know this version of an object.
    pub(super) fn check_known<K: ResourceKind>(&self, index: &Index, object: &K) -> Result<(), Failed> {
        let name = object.name_any();
        if K::cache(index).is_drained(&name) || self.written.contains(&version_of(object)) {
            Ok(())
        } else {
            Err(Failed::lost(format!("{name} was changed at the same time")))
        }
    }

    /// Returns an error if another server deleted the object after the plan was made: the plan updates it, and a creation
    /// would restore what was deleted.
    pub(super) fn check_not_deleted(&self, is_deletion: impl Fn(&Change) -> bool) -> Result<(), Failed> {
        if self.shared.index().has_undrained(is_deletion) {
            return Err(Failed::lost("it was deleted at the same time"));
        }
        Ok(())
    }

    /// After a lost race for `object`, waits until the index has the winner, so that the next plan knows it.
    pub(super) async fn wait_for_winner<K: ResourceKind, T>(
        &self,
        object: &K,
        result: Result<T, Failed>,
    ) -> Result<T, Failed> {
        if let Err(Failed::Lost { winner, .. }) = &result {
            let (name, uid) = (object.name_any(), object.uid().map(|uid| Uid::of(&uid)));
            let knows = |index: &Index| K::cache(index).knows(*winner, &name, uid).then_some(());
            self.shared.wait_for(WINNER_MS_MAX, knows).await;
        }
        result
    }

    /// Creates the object of a resource, with the operation in its annotation. If the index does not have the resource,
    /// and an object of this name was applied by hand, that object belongs to another resource, and planning again would
    /// not solve that.
    pub(super) async fn create<K: ResourceKind>(
        &self,
        id: &K::Id,
        mut object: K,
        operation: Option<&Operation>,
        writes: &mut GroupWrites,
    ) -> Result<Box<K>, Failed> {
        self.sign(&mut object);
        let outcome = operation.and_then(|planned| self.annotate(id, &mut object, planned));
        let created = request::create(self.shared.api(), &object, self.until).await;
        let created = self.wait_for_winner(&object, created).await;
        if let Ok(stored) = &created {
            self.shared.wrote(stored);
        }
        if let Err(Failed::Lost { .. }) = &created {
            let (index, name) = (self.shared.index(), object.name_any());
            let by_hand = |object: &K| !object.annotations().contains_key(WRITTEN_BY);
            let existing = K::cache(&index).object(&name);
            if existing.is_some_and(|object| by_hand(&object)) && K::find(&index, id).is_none() {
                return Err(Failed::Refused(format!(
                    "the object {name}, which was applied by hand, has the name that is needed: \
                     delete it, or give it another name"
                )));
            }
        }
        let stored = created?;
        writes.outcome = outcome;
        Ok(stored.into())
    }

    /// Writes a changed resource, with the operation in the annotation of its object. `before` is the version that the
    /// plan knew.
    pub(super) async fn update<K: ResourceKind>(
        &self,
        id: &K::Id,
        before: &K,
        model: &K::Model,
        operation: Option<&Operation>,
        writes: &mut GroupWrites,
    ) -> Result<(), Failed> {
        let mut object = before.clone();
        object.update(model);
        let outcome = operation.and_then(|planned| self.annotate(id, &mut object, planned));
        writes.versions.push(self.replace(before, object, self.until).await?);
        writes.outcome = outcome;
        Ok(())
    }

    /// Adds an operation to the annotation of the object of a resource, with the number and the id that it gets there.
    fn annotate<K: ResourceKind>(&self, id: &K::Id, object: &mut K, planned: &Operation) -> Option<Outcome> {
        let index = self.shared.index();
        let spec_ids = object.spec_ids(index.identity())?;
        let (number, id) = (index.next_number(), operation_annotation::new_id(&K::standard_name(id)));
        let operation = Operation { number, id, ..planned.clone() };
        operation_annotation::add(object.meta_mut(), &spec_ids, &operation);
        Some(Outcome::Stored(operation.id))
    }

    pub(super) fn sign<K: ResourceKind>(&self, object: &mut K) {
        if object.resource_version().is_some()
            && let Some(number) = object.unstored_number(self.shared.index().offset())
        {
            object.annotations_mut().insert(NUMBER.into(), number.to_string());
        }
        object.annotations_mut().insert(WRITTEN_BY.into(), self.shared.unique());
    }

    /// Replaces the version `before` of an object, and adds the response to the index. Returns the resourceVersion.
    pub(super) async fn replace<K: ResourceKind>(
        &self,
        before: &K,
        mut object: K,
        until: Deadline,
    ) -> Result<u64, Failed> {
        self.sign(&mut object);
        let stored = request::replace(self.shared.api(), before, object, until).await;
        let stored = self.wait_for_winner(before, stored).await?;
        Ok(self.put_response(stored))
    }

    /// Adds the response to a write to the index. Returns its resourceVersion.
    pub(super) fn put_response<K: ResourceKind>(&self, stored: K) -> u64 {
        let version = version_of(&stored);
        self.shared.wrote(&stored);
        self.shared.update_index(|index| K::put(index, stored));
        version
    }
}
