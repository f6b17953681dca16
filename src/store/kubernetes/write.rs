//! Writes of the registry's batches to the API server.
//!
//! The groups of a step are written concurrently. The new objects are checked after all of them exist, so that one read
//! of an owner serves all that was created in it. Operations without an object are written at the end of the batch.

mod creations;
mod deletions;
mod marks;
mod operations;
mod plan;
mod reports;

use std::collections::HashSet;
use std::sync::Arc;

use futures_util::{StreamExt, stream};
use kube::{Api, ResourceExt};

use crate::model::{Instance, Namespace, NamespaceId, Operation, OperationId, Service, ServiceId, Uid};
use crate::registry::{Change, Group, RegistryError, StoreError, Verdict};

use super::index::{Index, spec_ids_of_instance, spec_ids_of_service};
use super::keys::WriteKey;
use super::name_races;
use super::names;
use super::object_cache::ObjectCache;
use super::operation_annotation;
use super::request::{self, Deadline, Failed, Object, WRITTEN_BY, version_of};
use super::resources::{
    CloudMapHealthReport, CloudMapInstance, CloudMapNamespace, CloudMapService, CustomHealthWord,
};
use super::shared::Shared;
use super::translate::{self, NUMBER, Numbered, creation_number, signed, stored_number, uid_of};
use creations::Created;
use marks::Announced;
use operations::Unrecorded;
use plan::plan;

/// Time limit of a batch, in milliseconds; shorter than the timeout of an API request.
const BATCH_MS_MAX: u64 = 10_000;
/// Time limit of a batch while the API server is known to be unreachable, in milliseconds.
const BATCH_MS_MAX_UNREACHABLE: u64 = 1_500;
const WRITES_MAX: usize = 32;
/// Time after a lost race in which the watch should deliver the winner, in milliseconds.
pub(super) const WINNER_MS_MAX: u64 = 500;

/// Writes a batch: independent groups concurrently, and the others in order.
pub(super) async fn batch(shared: &Arc<Shared>, batch: &[Group]) -> Result<Vec<Verdict>, StoreError> {
    let unknown = |what: String| StoreError { what, source: None };
    // Numbers alone need no write, because etcd assigns them.
    let is_number = |change: &Change| matches!(change, Change::PutSequence(_) | Change::PutRevision(..));
    if batch.iter().flatten().all(is_number) {
        return Ok(vec![Verdict::Accepted; batch.len()]);
    }
    if !shared.index().is_read() {
        return Err(unknown("the custom resources have not been listed yet, so changes are refused".into()));
    }
    let plans = plan(&shared.index(), batch);
    let is_unreachable = !shared.progress().trouble.is_empty();
    let until = Deadline::after_ms(if is_unreachable { BATCH_MS_MAX_UNREACHABLE } else { BATCH_MS_MAX });
    let mut results: Vec<Option<Result<Option<OperationId>, Failed>>> = batch.iter().map(|_| None).collect();
    let mut unrecorded = Vec::new();
    // Versions that this batch has written. They are newer than what the registry has read, but its plans know them.
    let mut written = HashSet::new();
    let mut failed: HashSet<&WriteKey> = HashSet::new();
    for step in 0..=plans.iter().map(|plan| plan.step).max().unwrap_or(0) {
        let now = plans.iter().enumerate().filter(|(_, plan)| plan.step == step);
        let (ready, blocked): (Vec<_>, Vec<_>) =
            now.partition(|(_, plan)| !plan.keys().any(|key| failed.contains(key)));
        for (at, plan) in blocked {
            failed.extend(&plan.writes);
            results[at] = Some(Err(Failed::lost("a change that it depends on was not stored")));
        }
        let writer = BatchWriter { shared, written: &written, until };
        let step = writer.step(ready.into_iter().map(|(at, _)| (at, &batch[at])).collect()).await;
        for GroupResult { at, result, versions, orphaned } in step {
            written.extend(versions);
            if result.is_err() {
                failed.extend(&plans[at].writes);
            }
            let result = result.map(|done| match done {
                Some(Outcome::Stored(id)) => Some(id),
                Some(Outcome::Unrecorded(operation)) => {
                    unrecorded.push(Unrecorded { at: Some(at), operation });
                    None
                }
                None => None,
            });
            unrecorded.extend(orphaned.into_iter().map(|operation| Unrecorded { at: None, operation }));
            results[at] = Some(result);
        }
    }
    let writer = BatchWriter { shared, written: &written, until };
    for (at, recorded) in writer.record(unrecorded).await {
        results[at] = Some(recorded.map(Some));
    }
    let verdicts: Vec<_> = results.into_iter().flatten().collect();
    if let Some(Err(Failed::Unknown(why))) = verdicts.first()
        && verdicts.iter().all(|verdict| matches!(verdict, Err(Failed::Unknown(_))))
    {
        return Err(unknown(format!("the Kubernetes API does not accept changes now: {why}")));
    }
    let verdict = |result| match result {
        Ok(operation) => Verdict::Arrives { operation },
        Err(Failed::Lost { why, .. }) => Verdict::Lost(why),
        Err(Failed::InUse(why)) => Verdict::Refused(RegistryError::ResourceInUse(why)),
        Err(Failed::Refused(why)) => Verdict::Refused(RegistryError::NotStored(why)),
        Err(Failed::Unknown(why)) => {
            let why = format!("it is unknown whether the change was stored, so retry the request: {why}");
            Verdict::Refused(RegistryError::NotStored(why))
        }
    };
    Ok(verdicts.into_iter().map(verdict).collect())
}

struct GroupResult {
    at: usize,
    result: Result<Option<Outcome>, Failed>,
    versions: Vec<u64>,
    /// The operations in the annotations of the objects that the group deleted, which go into a record.
    orphaned: Vec<Operation>,
}

/// The operation of a group whose objects are written: it is in the annotation of an object, maybe since an earlier
/// attempt of the client, or still has to be written into a record.
enum Outcome {
    Stored(OperationId),
    Unrecorded(Operation),
}

#[derive(Default)]
struct GroupWrites {
    created: Vec<Created>,
    outcome: Option<Outcome>,
    versions: Vec<u64>,
    orphaned: Vec<Operation>,
}

trait Cached: Object {
    type Id: Clone;

    fn cache(index: &Index) -> &ObjectCache<Self, Self::Id>;

    /// The number of the object's creation, if it has to be stored in an annotation before the object is written again.
    fn unstored_number(index: &Index, object: &Self) -> Option<u64>;

    fn operations(index: &Index, object: &Self) -> Vec<Operation>;
}

macro_rules! cached {
    ($($object:ident $cache:ident $id:ty => $number:expr, $operations:expr;)*) => {$(
        impl Cached for $object {
            type Id = $id;

            fn cache(index: &Index) -> &ObjectCache<$object, $id> {
                &index.$cache
            }

            fn unstored_number(index: &Index, object: &$object) -> Option<u64> {
                let number: fn(&Index, &$object) -> Option<u64> = $number;
                number(index, object)
            }

            fn operations(index: &Index, object: &$object) -> Vec<Operation> {
                let operations: fn(&Index, &$object) -> Vec<Operation> = $operations;
                operations(index, object)
            }
        }
    )*};
}

cached! {
    CloudMapNamespace namespaces NamespaceId => unstored_number, Index::of_namespace;
    CloudMapService services ServiceId => unstored_number, |_, object| Index::of_service(object);
    // The number of an instance is that of its last registration, and its status has it.
    CloudMapInstance instances () => |_, _| None, |_, object| Index::of_instance(object);
    CloudMapHealthReport reports () => |_, _| None, |_, _| Vec::new();
}

fn unstored_number(index: &Index, object: &impl Numbered) -> Option<u64> {
    stored_number(object).is_none().then(|| creation_number(object, index.offset()))
}

struct BatchWriter<'a> {
    shared: &'a Arc<Shared>,
    written: &'a HashSet<u64>,
    until: Deadline,
}

impl BatchWriter<'_> {
    async fn step(&self, groups: Vec<(usize, &Group)>) -> Vec<GroupResult> {
        let announced = self.announce(&groups).await;
        let announced = &announced;
        let writes = stream::iter(groups.into_iter().map(|(at, group)| async move {
            let mut writes = GroupWrites::default();
            let result = self.write_group(group, announced, &mut writes).await;
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
        announced: &Announced,
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
                    self.delete_namespace(id, announced, &mut writes.orphaned).await?
                }
                Change::PutService(service) => {
                    self.put_service(service, operation, announced, writes).await?;
                }
                Change::DeleteService(id) => self.delete_service(id, announced, &mut writes.orphaned).await?,
                Change::PutInstance(service, instance) => {
                    self.put_instance(service, instance, operation, writes).await?;
                }
                Change::DeleteInstance(service, id) => {
                    self.delete_instance(service, id, &mut writes.orphaned).await?;
                }
                Change::PutReport(service, id, report) => {
                    writes.versions.extend(self.put_report(service, id, report).await?);
                }
                Change::DropReport(service, id) => {
                    self.drop_report(service, id).await?;
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
    fn check_known<K: Cached>(&self, index: &Index, object: &K) -> Result<(), Failed> {
        let name = object.name_any();
        if K::cache(index).is_drained(&name) || self.written.contains(&version_of(object)) {
            Ok(())
        } else {
            Err(Failed::lost(format!("{name} was changed at the same time")))
        }
    }

    /// Returns an error if another server deleted the object after the plan was made: the plan updates it, and a creation
    /// would restore what was deleted.
    fn check_not_deleted(&self, is_deletion: impl Fn(&Change) -> bool) -> Result<(), Failed> {
        if self.shared.index().has_undrained(is_deletion) {
            return Err(Failed::lost("it was deleted at the same time"));
        }
        Ok(())
    }

    /// After a lost race for `object`, waits until the index has the winner, so that the next plan knows it.
    async fn wait_for_winner<K: Cached, T>(
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

    /// Creates an object. `is_there` returns whether the index has the resource of the object. If it does not, and an
    /// object of this name was applied by hand, that object belongs to another resource, and planning again would not
    /// solve that.
    async fn create<K: Cached>(
        &self,
        api: &Api<K>,
        object: &K,
        is_there: impl Fn(&Index) -> bool,
    ) -> Result<K, Failed> {
        let created = self.wait_for_winner(object, request::create(api, object, self.until).await).await;
        if let Ok(stored) = &created {
            self.shared.wrote(stored);
        }
        if let Err(Failed::Lost { .. }) = &created {
            let (index, name) = (self.shared.index(), object.name_any());
            let by_hand = |object: &K| !object.annotations().contains_key(WRITTEN_BY);
            let existing = K::cache(&index).object(&name);
            if existing.is_some_and(|object| by_hand(&object)) && !is_there(&index) {
                return Err(Failed::Refused(format!(
                    "the object {name}, which was applied by hand, has the name that is needed: \
                     delete it, or give it another name"
                )));
            }
        }
        created
    }

    fn sign<K: Cached>(&self, object: &mut K) {
        if object.resource_version().is_some()
            && let Some(number) = K::unstored_number(&self.shared.index(), object)
        {
            object.annotations_mut().insert(NUMBER.into(), number.to_string());
        }
        object.annotations_mut().insert(WRITTEN_BY.into(), self.shared.unique());
    }

    /// The planned operation with the number and the id that it gets in the annotation of the object of this name.
    fn numbered_operation(&self, planned: &Operation, name: &str) -> Operation {
        let number = self.shared.index().next_number();
        Operation { number, id: operation_annotation::new_id(name), ..planned.clone() }
    }

    /// Replaces the version `before` of an object, and adds the response to the index with `put`. Returns the
    /// resourceVersion.
    async fn replace<K: Cached>(
        &self,
        api: &Api<K>,
        before: &K,
        mut object: K,
        until: Deadline,
        put: impl FnOnce(&mut Index, K),
    ) -> Result<u64, Failed> {
        self.sign(&mut object);
        let stored = request::replace(api, before, object, until).await;
        let stored = self.wait_for_winner(before, stored).await?;
        let version = version_of(&stored);
        self.shared.wrote(&stored);
        self.shared.update_index(|index| put(index, stored));
        Ok(version)
    }

    async fn put_namespace(
        &self,
        namespace: &Arc<Namespace>,
        operation: Option<&Operation>,
        writes: &mut GroupWrites,
    ) -> Result<(), Failed> {
        let api = &self.shared.namespaces;
        let there = self.shared.index().namespace_object(&namespace.id);
        let name = names::of_namespace(namespace);
        let numbered = operation.map(|planned| self.numbered_operation(planned, &name));
        let outcome = numbered.as_ref().map(|operation| Outcome::Stored(operation.id.clone()));
        let annotate = |object: &mut CloudMapNamespace| {
            if let Some(operation) = &numbered {
                let spec_ids = self.shared.index().spec_ids_of_namespace(object);
                operation_annotation::add(&mut object.metadata, &spec_ids, operation);
            }
        };
        if let Some(before) = there {
            self.check_known(&self.shared.index(), &*before)?;
            self.check_not_being_deleted(&*before)?;
            let mut object = CloudMapNamespace::clone(&before);
            translate::update_namespace(&mut object, namespace);
            annotate(&mut object);
            let version = self.replace(api, &*before, object, self.until, Index::put_namespace).await?;
            writes.versions.push(version);
            writes.outcome = outcome;
            return Ok(());
        }
        self.check_not_deleted(
            |change| matches!(change, Change::DeleteNamespace(id) if *id == namespace.id),
        )?;
        let mut object = translate::namespace_object(&name, namespace);
        self.sign(&mut object);
        annotate(&mut object);
        let is_there = |index: &Index| index.namespace_object(&namespace.id).is_some();
        let stored = self.create(api, &object, is_there).await?.into();
        writes.created.push(Created::Namespace { namespace: namespace.clone(), stored });
        writes.outcome = outcome;
        Ok(())
    }

    async fn put_service(
        &self,
        service: &Arc<Service>,
        operation: Option<&Operation>,
        announced: &Announced,
        writes: &mut GroupWrites,
    ) -> Result<(), Failed> {
        let api = &self.shared.services;
        let there = self.shared.index().service_object(&service.id);
        if let Some(before) = there {
            self.check_known(&self.shared.index(), &*before)?;
            self.check_not_being_deleted(&*before)?;
            let mut object = CloudMapService::clone(&before);
            translate::update_service(&mut object, service);
            if let Some(planned) = operation {
                let operation = self.numbered_operation(planned, service.id.as_str());
                operation_annotation::add(&mut object.metadata, &spec_ids_of_service(&before), &operation);
                writes.outcome = Some(Outcome::Stored(operation.id));
            }
            let version = self.replace(api, &*before, object, self.until, Index::put_service).await?;
            writes.versions.push(version);
            return Ok(());
        }
        self.check_not_deleted(|change| match change {
            Change::DeleteNamespace(id) => *id == service.namespace_id,
            Change::DeleteService(id) => *id == service.id,
            _ => false,
        })?;
        let (owner, identity) = {
            let index = self.shared.index();
            let namespace = index.state().namespace(service.namespace_id.as_str());
            let namespace = namespace.map(|state| state.namespace.clone());
            let owner = namespace.ok().zip(index.namespace_object(&service.namespace_id));
            (owner, index.identity().clone())
        };
        let Some((namespace, owner)) = owner else {
            return Err(Failed::lost("its namespace was deleted at the same time"));
        };
        self.check_not_being_deleted(&*owner)?;
        let name = names::of_service(&identity, service, &namespace);
        let mut object = translate::service_object(&name, service);
        self.sign(&mut object);
        self.mark_services_above(service, announced, &mut writes.versions).await?;
        let is_there = |index: &Index| index.service_object(&service.id).is_some();
        let stored = self.create(api, &object, is_there).await?.into();
        writes.created.push(Created::Service { service: service.clone(), stored, owner });
        Ok(())
    }

    /// Marks the services above a new one, because they may have instances of its name.
    async fn mark_services_above(
        &self,
        service: &Service,
        announced: &Announced,
        versions: &mut Vec<u64>,
    ) -> Result<(), Failed> {
        let unmarked = name_races::unmarked_above(&self.shared.index(), service);
        for before in unmarked {
            self.check_not_being_deleted(&*before)?;
            announced.check(uid_of(&*before))?;
            let mut object = CloudMapService::clone(&before);
            name_races::mark(&mut object);
            let services = &self.shared.services;
            versions.push(self.replace(services, &*before, object, self.until, Index::put_service).await?);
        }
        Ok(())
    }

    async fn put_instance(
        &self,
        service: &ServiceId,
        instance: &Instance,
        operation: Option<&Operation>,
        writes: &mut GroupWrites,
    ) -> Result<(), Failed> {
        let api = &self.shared.instances;
        let there = self.shared.index().instance_object(service, instance.id());
        let name = names::of_instance(service, instance.id());
        let numbered = operation.map(|planned| self.numbered_operation(planned, &name));
        let outcome = numbered.as_ref().map(|operation| Outcome::Stored(operation.id.clone()));
        if let Some(object) = there {
            self.check_known(&self.shared.index(), &*object)?;
            writes.versions.push(self.update_instance(object, instance, numbered.as_ref()).await?);
            writes.outcome = outcome;
            return Ok(());
        }
        self.check_not_deleted(|change| match change {
            Change::DeleteService(id) => id == service,
            Change::DeleteInstance(of, id) => of == service && **id == *instance.id(),
            _ => false,
        })?;
        let owner = {
            let index = self.shared.index();
            let state = index.state();
            let of_service = state.service(service.as_str()).ok().cloned();
            let object = index.service_object(service);
            of_service.zip(object).and_then(|(of_service, object)| {
                let namespace = state.namespace(of_service.service.namespace_id.as_str()).ok()?;
                Some((of_service.service.clone(), namespace.namespace.clone(), object))
            })
        };
        let Some((of_service, namespace, owner)) = owner else {
            return Err(Failed::lost("its service was deleted at the same time"));
        };
        self.check_not_being_deleted(&*owner)?;
        let mut object = translate::instance_object(&name, &of_service, instance);
        self.sign(&mut object);
        if let Some(operation) = &numbered {
            let spec_ids = spec_ids_of_instance(&object);
            operation_annotation::add(&mut object.metadata, &spec_ids, operation);
        }
        let is_there = |index: &Index| index.instance_object(service, instance.id()).is_some();
        let stored = self.create(api, &object, is_there).await?.into();
        writes.created.push(Created::Instance { service: of_service, namespace, stored, owner });
        writes.outcome = outcome;
        Ok(())
    }

    /// Writes another registration of an instance, or only its health status if there is no operation.
    async fn update_instance(
        &self,
        before: Arc<CloudMapInstance>,
        instance: &Instance,
        operation: Option<&Operation>,
    ) -> Result<u64, Failed> {
        let api = &self.shared.instances;
        let Some(operation) = operation else {
            let offset = self.shared.index().offset();
            let status = serde_json::json!({
                "customHealthStatus": instance.custom_health().map(CustomHealthWord::of),
                "observedGeneration": before.metadata.generation,
                "number": signed(translate::instance_number(&before, offset)),
            });
            let stored = request::patch_status(api, &*before, &status, true, self.until).await;
            let stored = self.wait_for_winner(&*before, stored).await?;
            self.shared.wrote(&stored);
            let version = version_of(&stored);
            self.shared.update_index(|index| index.put_instance(stored));
            return Ok(version);
        };
        let mut object = CloudMapInstance::clone(&before);
        translate::update_instance(&mut object, instance);
        operation_annotation::add(&mut object.metadata, &spec_ids_of_instance(&before), operation);
        self.replace(api, &*before, object, self.until, Index::put_instance).await
    }
}
