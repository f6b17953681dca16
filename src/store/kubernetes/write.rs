//! The registry's batches as writes to the API server.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use futures_util::{StreamExt, stream};
use kube::api::{ListParams, ObjectMeta};
use kube::{Api, ResourceExt};

use crate::model::{
    HealthReport, Instance, Namespace, NamespaceId, Operation, OperationStatus, OperationTargets, Service,
    ServiceId,
};
use crate::registry::{Change, Group, RegistryError, StoreError, Verdict};

use super::index::{Index, Kind, Removal};
use super::request::{self, Deadline, Failed, Object, WRITTEN_BY, Winner, version_of};
use super::resources::{
    CloudMapHealthReport, CloudMapInstance, CloudMapNamespace, CloudMapService, CustomHealthWord,
};
use super::shelf::{Name, Refusal, Shelf};
use super::translate::{self, signed};
use super::{Shared, claims, names, status};

/// How long a batch may take, in milliseconds; shorter than a request of the API.
const BATCH_MS_MAX: u64 = 10_000;
/// How long the write of a health report may take, in milliseconds: its caller is to know soon that it has to try again.
const REPORT_MS_MAX: u64 = 1_500;
/// How long a batch may take while the API server is known to be away, in milliseconds: nothing waits for nothing.
const BATCH_MS_MAX_AWAY: u64 = 1_500;
/// Groups that are written at a time.
const WRITES_MAX: usize = 32;
/// Marks an owner that is being deleted, with the time in milliseconds since 1970.
const DELETING: &str = "cloudmap-dns.io/deleting";
/// Age of a mark, in milliseconds, after which its server has given up. If that server was only slow, its deletion fails,
/// because the mark was cleared or written over.
const DELETING_MS_MAX: u64 = 3 * BATCH_MS_MAX;
/// Time that something new waits for another server to end the deletion of its owner, in milliseconds.
const DELETION_MS_MAX: u64 = 1_000;
/// Time that a lost race waits for the watch to show what won it, in milliseconds.
pub(super) const WINNER_MS_MAX: u64 = 500;
/// Time that a request which is made again waits for the operation of the first one, in milliseconds.
const OPERATION_MS_MAX: u64 = 500;

/// Writes a batch: groups that have nothing to do with each other at the same time, the others in order.
pub(super) async fn batch(shared: &Arc<Shared>, batch: &[Group]) -> Result<Vec<Verdict>, StoreError> {
    let unknown = |what: String| StoreError { what, source: None };
    // Numbers alone are nothing to write: etcd counts by itself.
    let is_nothing = |change: &Change| matches!(change, Change::PutSequence(_) | Change::PutRevision(..));
    if batch.iter().flatten().all(is_nothing) {
        return Ok(vec![Verdict::Accepted; batch.len()]);
    }
    if !shared.index().is_read() {
        return Err(unknown("the Kubernetes API has not been read yet, so changes are not taken".into()));
    }
    let told = shared.index().version_told();
    let plans = plan(&shared.index(), batch);
    let is_away = !shared.progress().trouble.is_empty();
    let until = Deadline::after_ms(if is_away { BATCH_MS_MAX_AWAY } else { BATCH_MS_MAX });
    let mut verdicts: Vec<Option<Result<Option<u64>, Failed>>> = batch.iter().map(|_| None).collect();
    // What this batch wrote is newer than what the registry was told, and known to its plans all the same.
    let mut written = HashSet::new();
    let mut failed: HashSet<&str> = HashSet::new();
    for step in 0..=plans.iter().map(|plan| plan.step).max().unwrap_or(0) {
        let now = plans.iter().enumerate().filter(|(_, plan)| plan.step == step);
        let (go, stay): (Vec<_>, Vec<_>) =
            now.partition(|(_, plan)| !plan.keys().any(|key| failed.contains(key)));
        for (at, plan) in stay {
            failed.extend(plan.writes.iter().map(String::as_str));
            verdicts[at] = Some(Err(Failed::lost("what it builds on was not stored")));
        }
        let writer = Writer { shared, told, written: &written, until };
        let results = stream::iter(go.into_iter().map(|(at, _)| {
            let writer = &writer;
            async move {
                let mut fresh = Vec::new();
                let result = writer.group(&batch[at], &mut fresh).await;
                (at, result, fresh)
            }
        }));
        let results: Vec<_> = results.buffer_unordered(WRITES_MAX).collect().await;
        for (at, result, fresh) in results {
            written.extend(fresh);
            if result.is_err() {
                failed.extend(plans[at].writes.iter().map(String::as_str));
            }
            verdicts[at] = Some(result);
        }
    }
    let verdicts: Vec<_> = verdicts.into_iter().flatten().collect();
    if let Some(Err(Failed::Unknown(why))) = verdicts.first()
        && verdicts.iter().all(|verdict| matches!(verdict, Err(Failed::Unknown(_))))
    {
        return Err(unknown(format!("the Kubernetes API does not take changes now: {why}")));
    }
    let verdict = |result| match result {
        Ok(operation) => Verdict::Arrives { operation },
        Err(Failed::Lost { why, .. }) => Verdict::Lost(why),
        Err(Failed::InUse(why)) => Verdict::Refused(RegistryError::ResourceInUse(why)),
        Err(Failed::Refused(why)) => Verdict::Refused(RegistryError::NotStored(why)),
        Err(Failed::Unknown(why)) => {
            let why = format!("it is not known whether it was stored, ask again: {why}");
            Verdict::Refused(RegistryError::NotStored(why))
        }
    };
    Ok(verdicts.into_iter().map(verdict).collect())
}

/// When a group is written, and what it has to do with.
struct Plan {
    step: usize,
    writes: Vec<String>,
    reads: Vec<String>,
}

impl Plan {
    fn keys(&self) -> impl Iterator<Item = &str> {
        self.writes.iter().chain(&self.reads).map(String::as_str)
    }
}

fn plan(index: &Index, batch: &[Group]) -> Vec<Plan> {
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
            writes.extend(claims::names_of(index, change));
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

/// Objects that the index has on a shelf.
trait Shelved: Object {
    type Id;

    fn shelf(index: &Index) -> &Shelf<Self, Self::Id>;
}

macro_rules! shelved {
    ($($object:ident $shelf:ident $id:ident;)*) => {$(
        impl Shelved for $object {
            type Id = $id;

            fn shelf(index: &Index) -> &Shelf<$object, $id> {
                &index.$shelf
            }
        }
    )*};
}

shelved! {
    CloudMapNamespace namespaces NamespaceId;
    CloudMapService services ServiceId;
    CloudMapInstance instances ServiceId;
    CloudMapHealthReport reports ServiceId;
}

/// Writes groups of one batch.
struct Writer<'a> {
    shared: &'a Arc<Shared>,
    /// etcd's number of the newest object that the plans know.
    told: u64,
    /// The numbers that this batch has written.
    written: &'a HashSet<u64>,
    until: Deadline,
}

impl Writer<'_> {
    /// Writes a group, and returns its operation's number.
    async fn group(&self, group: &Group, fresh: &mut Vec<u64>) -> Result<Option<u64>, Failed> {
        let (mut number, mut has_object) = (None, false);
        let registers = group.iter().any(|change| matches!(change, Change::PutOperation(_)));
        for change in group {
            let version = match change {
                Change::PutNamespace(namespace) => self.put_namespace(namespace, fresh).await?,
                Change::DeleteNamespace(id) => self.delete_namespace(id).await?,
                Change::PutService(service) => self.put_service(service, fresh).await?,
                Change::DeleteService(id) => self.delete_service(id).await?,
                Change::PutInstance(service, instance) => {
                    self.put_instance(service, instance, registers).await?
                }
                Change::DeleteInstance(service, id) => self.delete_instance(service, id).await?,
                Change::PutReport(service, id, report) => self.put_report(service, id, report).await?,
                Change::DropReport(service, id) => self.drop_report(service, id).await?,
                // The object's own number; the changes that follow from it come with it.
                _ => continue,
            };
            fresh.extend(version);
            has_object = true;
            number = version.map(|version| version + self.shared.index().offset());
        }
        let mut operation = None;
        for change in group {
            match change {
                Change::PutOperation(planned) => {
                    let earlier = if has_object { None } else { self.earlier_operation(planned).await? };
                    operation = Some(match earlier {
                        Some(number) => number,
                        None => self.put_operation(planned, number).await?,
                    });
                }
                Change::DropOperation(number) => self.drop_operation(*number),
                _ => {}
            }
        }
        Ok(operation)
    }

    /// Whether the plan knew this version of an object.
    fn known<K: Object>(&self, object: &K) -> Result<(), Failed> {
        let version = version_of(object);
        match version <= self.told || self.written.contains(&version) {
            true => Ok(()),
            false => Err(Failed::lost(format!("{} was changed at the same time", object.name_any()))),
        }
    }

    /// Waits, if a race for `object` was lost, until the index shows what won it, so that the next plan knows it.
    async fn settled<K: Shelved, T>(&self, object: &K, result: Result<T, Failed>) -> Result<T, Failed> {
        if let Err(Failed::Lost { winner, .. }) = &result {
            let (name, uid) = (object.name_any(), object.uid());
            let knows = |index: &Index| K::shelf(index).knows(*winner, &name, uid.as_deref()).then_some(());
            self.shared.shown(WINNER_MS_MAX, knows).await;
        }
        result
    }

    /// Creates an object. `is_there` returns whether the index has the resource that the object is for. If not, and somebody
    /// applied an object of its name by hand, that one is for another resource, and planning again would not change that.
    async fn create<K: Shelved>(
        &self,
        api: &Api<K>,
        object: &K,
        is_there: impl Fn(&Index) -> bool,
    ) -> Result<K, Failed> {
        let created = self.settled(object, request::create(api, object, self.until).await).await;
        if let Err(Failed::Lost { .. }) = &created {
            let (index, name) = (self.shared.index(), object.name_any());
            let by_hand = |object: &K| !object.annotations().contains_key(WRITTEN_BY);
            let held = K::shelf(&index).objects.get(&*name);
            if held.is_some_and(|held| by_hand(&held.object)) && !is_there(&index) {
                return Err(Failed::Refused(format!(
                    "the object {name}, which is not of the API, has the name that is needed: delete it, or give it another name"
                )));
            }
        }
        created
    }

    /// Lets another server end the deletion of an owner before anything is written to the owner or into it. The wait is
    /// that of the registry between two plans, so no other group is held up.
    fn not_being_deleted<K: Object>(&self, owner: &K) -> Result<(), Failed> {
        match self.is_being_deleted(owner) {
            true => Err(Failed::lost(format!("{} is to be deleted by another server", owner.name_any()))),
            false => Ok(()),
        }
    }

    /// Returns whether another server is deleting an owner now, as its mark says. A mark of this server is left over from an
    /// earlier batch, because batches of one server do not overlap.
    fn is_being_deleted<K: Object>(&self, owner: &K) -> bool {
        let annotations = owner.annotations();
        let is_own = annotations.get(WRITTEN_BY).is_some_and(|by| by.starts_with(&self.shared.writer));
        annotations.get(DELETING).is_some_and(|since| {
            !is_own && now_ms().saturating_sub(since.parse().unwrap_or(0)) < DELETING_MS_MAX
        })
    }

    fn sign<K: Object>(&self, object: &mut K) {
        object.annotations_mut().insert(WRITTEN_BY.into(), self.shared.unique());
    }

    async fn put_namespace(
        &self,
        namespace: &Namespace,
        fresh: &mut Vec<u64>,
    ) -> Result<Option<u64>, Failed> {
        let api = &self.shared.namespaces;
        let there = self.shared.index().namespace_object(&namespace.id).cloned();
        if let Some(mut object) = there {
            self.known(&object)?;
            self.not_being_deleted(&object)?;
            let before = object.clone();
            translate::update_namespace(&mut object, namespace);
            self.sign(&mut object);
            let stored = request::replace(api, &before, object, self.until).await;
            let stored = self.settled(&before, stored).await?;
            let version = version_of(&stored);
            self.shared.learn(|index| index.put_namespace(stored));
            return Ok(Some(version));
        }
        let mut object = translate::namespace_object(&names::of_namespace(namespace), namespace);
        self.sign(&mut object);
        let is_there = |index: &Index| index.namespace_object(&namespace.id).is_some();
        let stored = self.create(api, &object, is_there).await?;
        let (version, name, uid) = (version_of(&stored), stored.name_any(), stored.uid().unwrap_or_default());
        let stands = self.shared.learn(|index| {
            index.put_namespace(stored);
            let ours = index.namespace_object(&namespace.id).and_then(ResourceExt::uid);
            let held = index.namespaces.objects.get(&*name);
            standing(ours.as_deref() == Some(&*uid), held.and_then(|held| held.refusal.clone()))
        });
        match stands {
            Ok(()) => {
                // The place in lists is written down before anything else can move it.
                fresh.extend(status::write(self.shared, Kind::Namespace, &name, self.until).await);
                Ok(Some(version))
            }
            Err(why) => {
                self.take_back(api, &name, &uid, |index| index.remove_namespace(&name, &uid, Removal::Own))
                    .await;
                Err(why)
            }
        }
    }

    async fn put_service(&self, service: &Service, fresh: &mut Vec<u64>) -> Result<Option<u64>, Failed> {
        let api = &self.shared.services;
        let there = self.shared.index().service_object(&service.id).cloned();
        if let Some(mut object) = there {
            self.known(&object)?;
            self.not_being_deleted(&object)?;
            let before = object.clone();
            translate::update_service(&mut object, service);
            self.sign(&mut object);
            let stored = request::replace(api, &before, object, self.until).await;
            let stored = self.settled(&before, stored).await?;
            let version = version_of(&stored);
            self.shared.learn(|index| index.put_service(stored));
            return Ok(Some(version));
        }
        let owner = {
            let index = self.shared.index();
            let namespace = index.state().namespace(service.namespace_id.as_str());
            let namespace = namespace.map(|state| state.namespace.clone());
            namespace.ok().zip(index.namespace_object(&service.namespace_id).cloned())
        };
        let Some((namespace, owner)) = owner else {
            return Err(Failed::lost("its namespace was deleted at the same time"));
        };
        self.not_being_deleted(&owner)?;
        let mut object = translate::service_object(&names::of_service(service, &namespace), service);
        self.sign(&mut object);
        fresh.extend(claims::mark_services_above(self.shared, service, self.until).await?);
        let is_there = |index: &Index| index.service_object(&service.id).is_some();
        let stored = self.create(api, &object, is_there).await?;
        let (version, name, uid) = (version_of(&stored), stored.name_any(), stored.uid().unwrap_or_default());
        let mut stands = self.owner_stays(&self.shared.namespaces, &owner).await.map(drop);
        if stands.is_ok() {
            stands = claims::check_service(self.shared, service, &stored, self.until).await;
        }
        if stands.is_ok() {
            stands = self.shared.learn(|index| {
                index.put_service(stored);
                let ours = index.service_object(&service.id).and_then(ResourceExt::uid);
                let held = index.services.objects.get(&*name);
                standing(ours.as_deref() == Some(&*uid), held.and_then(|held| held.refusal.clone()))
            });
        }
        match stands {
            Ok(()) => {
                fresh.extend(status::write(self.shared, Kind::Service, &name, self.until).await);
                Ok(Some(version))
            }
            Err(why) => {
                self.take_back(api, &name, &uid, |index| index.remove_service(&name, &uid, Removal::Own))
                    .await;
                self.settled(&owner, Err(why)).await
            }
        }
    }

    async fn put_instance(
        &self,
        service: &ServiceId,
        instance: &Instance,
        registers: bool,
    ) -> Result<Option<u64>, Failed> {
        let api = &self.shared.instances;
        let there = self.shared.index().instance_object(service, instance.id()).cloned();
        if let Some(object) = there {
            self.known(&object)?;
            return self.update_instance(object, instance, registers).await.map(Some);
        }
        let owner = {
            let index = self.shared.index();
            let state = index.state();
            let of_service = state.service(service.as_str()).ok().cloned();
            let object = index.service_object(service).cloned();
            of_service.zip(object).and_then(|(of_service, object)| {
                let namespace = state.namespace(of_service.service.namespace_id.as_str()).ok()?;
                Some((of_service.service.clone(), namespace.namespace.clone(), object))
            })
        };
        let Some((of_service, namespace, owner)) = owner else {
            return Err(Failed::lost("its service was deleted at the same time"));
        };
        self.not_being_deleted(&owner)?;
        let name = names::of_instance(instance.id(), &of_service, &namespace);
        let mut object = translate::instance_object(&name, &of_service, instance);
        self.sign(&mut object);
        let is_there = |index: &Index| index.instance_object(service, instance.id()).is_some();
        let stored = self.create(api, &object, is_there).await?;
        let (version, uid) = (version_of(&stored), stored.uid().unwrap_or_default());
        let mut stands = match self.owner_stays(&self.shared.services, &owner).await {
            Ok(owner) => {
                claims::check_instance(self.shared, &namespace, &of_service, &owner, &stored, self.until)
                    .await
            }
            Err(failed) => Err(failed),
        };
        if stands.is_ok() {
            stands = self.shared.learn(|index| {
                index.put_instance(stored);
                let ours = index.instance_object(service, instance.id()).and_then(ResourceExt::uid);
                let held = index.instances.objects.get(&*name);
                standing(ours.as_deref() == Some(&*uid), held.and_then(|held| held.refusal.clone()))
            });
        }
        match stands {
            Ok(()) => Ok(Some(version)),
            Err(why) => {
                self.take_back(api, &name, &uid, |index| index.remove_instance(&name, &uid, Removal::Own))
                    .await;
                self.settled(&owner, Err(why)).await
            }
        }
    }

    /// Another registration of an instance, or another status of it.
    async fn update_instance(
        &self,
        mut object: CloudMapInstance,
        instance: &Instance,
        registers: bool,
    ) -> Result<u64, Failed> {
        let api = &self.shared.instances;
        if !registers {
            let offset = self.shared.index().offset();
            let status = serde_json::json!({
                "customHealthStatus": instance.custom_health().map(CustomHealthWord::of),
                "observedGeneration": object.metadata.generation,
                "number": signed(translate::instance_number(&object, offset)),
            });
            let stored = request::patch_status(api, &object, &status, true, self.until).await;
            let stored = self.settled(&object, stored).await?;
            let version = version_of(&stored);
            self.shared.learn(|index| index.put_instance(stored));
            return Ok(version);
        }
        let before = object.clone();
        translate::update_instance(&mut object, instance);
        self.sign(&mut object);
        let stored = request::replace(api, &before, object, self.until).await;
        let stored = self.settled(&before, stored).await?;
        let version = version_of(&stored);
        self.shared.learn(|index| index.put_instance(stored));
        Ok(version)
    }

    /// Writes what was reported of a pod: one object for each instance of a service, whichever pod it is.
    async fn put_report(
        &self,
        service: &ServiceId,
        instance: &str,
        report: &HealthReport,
    ) -> Result<Option<u64>, Failed> {
        let api = &self.shared.reports;
        let until = self.until.at_most_ms(REPORT_MS_MAX);
        let there = self.shared.index().report_object(service, instance).cloned();
        let name = names::of_report(service, instance);
        let mut object = translate::report_object(&name, service, instance, report);
        self.sign(&mut object);
        let stored = match there {
            Some(before) => {
                self.known(&before)?;
                let metadata =
                    ObjectMeta { annotations: object.metadata.annotations, ..before.metadata.clone() };
                let object = CloudMapHealthReport { metadata, ..object };
                self.settled(&before, request::replace(api, &before, object, until).await).await?
            }
            None => self.settled(&object, request::create(api, &object, until).await).await?,
        };
        let version = version_of(&stored);
        self.shared.learn(|index| index.put_report(stored));
        Ok(Some(version))
    }

    /// Deletes what was reported of a pod that is gone.
    async fn drop_report(&self, service: &ServiceId, instance: &str) -> Result<Option<u64>, Failed> {
        let there = self.shared.index().report_object(service, instance).cloned();
        let Some(object) = there else {
            return Err(Failed::lost("the report was deleted at the same time"));
        };
        self.known(&object)?;
        let (name, uid) = (object.name_any(), object.uid().unwrap_or_default());
        let deleted = request::delete(&self.shared.reports, &name, &uid, Some(&object), self.until).await;
        self.settled(&object, deleted).await?;
        self.shared.learn(|index| index.remove_report(&name, &uid, Removal::Own));
        Ok(None)
    }

    async fn delete_instance(&self, service: &ServiceId, id: &str) -> Result<Option<u64>, Failed> {
        let (object, claimants) = {
            let index = self.shared.index();
            (index.instance_object(service, id).cloned(), index.instance_claimants(service, id))
        };
        let Some(object) = object else {
            return Err(Failed::lost("it was deregistered at the same time"));
        };
        self.known(&object)?;
        let api = &self.shared.instances;
        for (name, uid) in ours_last(claimants, &object.name_any()) {
            let before = (*name == *object.name_any()).then_some(&object);
            self.settled(&object, request::delete(api, &name, &uid, before, self.until).await).await?;
            self.shared.learn(|index| index.remove_instance(&name, &uid, Removal::Own));
        }
        Ok(None)
    }

    async fn delete_service(&self, id: &ServiceId) -> Result<Option<u64>, Failed> {
        let (object, claimants) = {
            let index = self.shared.index();
            (index.service_object(id).cloned(), index.service_claimants(id))
        };
        let Some(object) = object else {
            return Err(Failed::lost("it was deleted at the same time"));
        };
        self.known(&object)?;
        let api = &self.shared.services;
        let marked = self.mark(api, object).await?;
        let parameters = ListParams::default().fields(&format!("spec.serviceId={id}")).limit(1);
        let inside = request::read(|| self.shared.instances.list(&parameters), self.until).await;
        self.check_empty(api, &marked, inside.map(|list| list.items.into_iter().next())).await?;
        for (name, uid) in ours_last(claimants, &marked.name_any()) {
            let before = (*name == *marked.name_any()).then_some(&marked);
            self.settled(&marked, request::delete(api, &name, &uid, before, self.until).await).await?;
            self.shared.learn(|index| index.remove_service(&name, &uid, Removal::Own));
        }
        Ok(None)
    }

    async fn delete_namespace(&self, id: &NamespaceId) -> Result<Option<u64>, Failed> {
        let (object, claimants) = {
            let index = self.shared.index();
            (index.namespace_object(id).cloned(), index.namespace_claimants(id))
        };
        let Some(object) = object else {
            return Err(Failed::lost("it was deleted at the same time"));
        };
        self.known(&object)?;
        let api = &self.shared.namespaces;
        let marked = self.mark(api, object).await?;
        let parameters = ListParams::default().fields(&format!("spec.namespaceId={id}")).limit(1);
        let inside = request::read(|| self.shared.services.list(&parameters), self.until).await;
        self.check_empty(api, &marked, inside.map(|list| list.items.into_iter().next())).await?;
        for (name, uid) in ours_last(claimants, &marked.name_any()) {
            let before = (*name == *marked.name_any()).then_some(&marked);
            self.settled(&marked, request::delete(api, &name, &uid, before, self.until).await).await?;
            self.shared.learn(|index| index.remove_namespace(&name, &uid, Removal::Own));
        }
        Ok(None)
    }

    /// Marks an owner that is to be deleted.
    async fn mark<K: Shelved>(&self, api: &Api<K>, mut owner: K) -> Result<K, Failed> {
        self.not_being_deleted(&owner)?;
        let before = owner.clone();
        owner.annotations_mut().insert(DELETING.into(), now_ms().to_string());
        self.sign(&mut owner);
        self.settled(&before, request::replace(api, &before, owner, self.until).await).await
    }

    /// Takes the mark from an owner that has something in it.
    async fn check_empty<K: Object, I: Shelved>(
        &self,
        api: &Api<K>,
        marked: &K,
        inside: Result<Option<I>, Failed>,
    ) -> Result<(), Failed> {
        if let Ok(None) = inside {
            return Ok(());
        }
        let mut unmarked = marked.clone();
        unmarked.annotations_mut().remove(DELETING);
        self.sign(&mut unmarked);
        if let Err(error) = request::replace(api, marked, unmarked, self.until).await {
            tracing::warn!(
                object = marked.name_any(),
                ?error,
                "an object stays marked as being deleted for a while"
            );
        }
        let Some(inside) = inside? else { return Ok(()) };
        let winner = Winner::Version(version_of(&inside));
        let lost = Failed::Lost { winner, why: "something was put into it at the same time".into() };
        self.settled(&inside, Err(lost)).await.map_err(|lost| {
            // A plan knows only of accepted objects.
            let name = inside.name_any();
            let index = self.shared.index();
            let refusal = I::shelf(&index).objects.get(&*name).and_then(|held| held.refusal.as_ref());
            refusal.map_or(lost, |refusal| {
                let (kind, why) = (I::kind(&()), &refusal.message);
                Failed::InUse(format!(
                    "The {kind} {name} belongs to it, and is not accepted: {why} Delete that object first."
                ))
            })
        })
    }

    /// Checks that the owner of a new object is not being deleted. If another server is deleting it, waits for the end: a
    /// deletion that lists the owner's contents after the object was created finds it, and takes its mark back.
    async fn owner_stays<K: Shelved>(&self, api: &Api<K>, owner: &K) -> Result<K, Failed> {
        let name = owner.name_any();
        let gone = || {
            let why = format!("{name}, which it belongs to, was deleted at the same time");
            Err(Failed::Lost { winner: Winner::Deletion, why })
        };
        let there = request::read(|| api.get_opt(&name), self.until).await?;
        let Some(mut there) = there.filter(|there| there.uid() == owner.uid()) else { return gone() };
        if self.is_being_deleted(&there) {
            let marked = version_of(&there);
            let stays = |index: &Index| {
                let held = K::shelf(index).objects.get(&*name);
                match held.map(|held| &held.object).filter(|object| object.uid() == owner.uid()) {
                    None => Some(false),
                    Some(object) if version_of(object) > marked && !self.is_being_deleted(object) => {
                        Some(true)
                    }
                    Some(_) => None,
                }
            };
            return match self.shared.shown(DELETION_MS_MAX, stays).await {
                Some(true) => Ok(there),
                Some(false) => gone(),
                None => Err(Failed::lost(format!("{name}, which it belongs to, is to be deleted"))),
            };
        }
        if !there.annotations().contains_key(DELETING) {
            return Ok(there);
        }
        // Whoever set the mark has given up, or finds another version than the marked one.
        let before = there.clone();
        there.annotations_mut().remove(DELETING);
        self.sign(&mut there);
        request::replace(api, &before, there, self.until).await
    }

    /// Deletes what was created and does not stand.
    async fn take_back<K: Object>(
        &self,
        api: &Api<K>,
        name: &str,
        uid: &str,
        forget: impl FnOnce(&mut Index),
    ) {
        match request::delete(api, name, uid, None, self.until).await {
            Err(Failed::Unknown(error)) => {
                tracing::warn!(object = name, error, "an object that was refused could not be taken back");
            }
            _ => self.shared.learn(forget),
        }
    }

    async fn put_operation(&self, operation: &Operation, number: Option<u64>) -> Result<u64, Failed> {
        let name = format!("op-{}", self.shared.unique());
        let mut object = translate::operation_object(&name, operation, number);
        self.sign(&mut object);
        let stored =
            request::create(&self.shared.operations, &object, self.until).await.map_err(|failed| {
                let why = failed.into_reason();
                Failed::Unknown(format!("it is done, but its operation could not be written down: {why}"))
            })?;
        let number = self.shared.learn(|index| index.put_operation(&stored));
        number.ok_or_else(|| Failed::Unknown("its operation cannot be read".into()))
    }

    /// The number of the operation that carried a request out when it was made first; `again` is the operation planned for
    /// the request that was made again, which changes nothing. `None` if that operation was forgotten or never written.
    async fn earlier_operation(&self, again: &Operation) -> Result<Option<u64>, Failed> {
        let (OperationStatus::Success, OperationTargets::Namespace(_) | OperationTargets::Instance { .. }) =
            (&again.status, &again.targets)
        else {
            return Ok(None);
        };
        let changed = || Failed::lost("it was changed at the same time");
        let (first, is_expected) = {
            let index = self.shared.index();
            let (first, has_operation) = self.made_by(&index, &again.targets)?.ok_or_else(changed)?;
            (first, has_operation && index.oldest_operation().is_none_or(|oldest| oldest <= first))
        };
        if !is_expected {
            return Ok(None);
        }
        // Another server writes it right after the object.
        let written = |index: &Index| index.operation_name(first).map(drop);
        if self.shared.shown(OPERATION_MS_MAX, written).await.is_some() {
            return Ok(Some(first));
        }
        let now = self.made_by(&self.shared.index(), &again.targets)?;
        if now.is_some_and(|(number, _)| number == first) { Ok(None) } else { Err(changed()) }
    }

    /// The number of the operation that made what `targets` names as it is now, and whether an operation was written for
    /// it, as for all that the API makes.
    fn made_by(&self, index: &Index, targets: &OperationTargets) -> Result<Option<(u64, bool)>, Failed> {
        match targets {
            OperationTargets::Namespace(id) => {
                let Some(object) = index.namespace_object(id) else { return Ok(None) };
                self.known(object)?;
                Ok(Some((index.namespace_number(object), object.annotations().contains_key(WRITTEN_BY))))
            }
            OperationTargets::Instance { instance, service, .. } => {
                let Some(object) = index.instance_object(service, instance) else { return Ok(None) };
                self.known(object)?;
                let number = translate::instance_number(object, index.offset());
                Ok(Some((number, object.annotations().contains_key(WRITTEN_BY))))
            }
            OperationTargets::Service { .. } => Ok(None),
        }
    }

    /// Forgets an operation. Every replica does it, and nobody waits for it.
    fn drop_operation(&self, number: u64) {
        let Some(name) = self.shared.index().operation_name(number) else { return };
        let shared = self.shared.clone();
        tokio::spawn(async move {
            let gone = shared.operations.delete(&name, &kube::api::DeleteParams::background()).await;
            let is_gone = match &gone {
                Ok(_) => true,
                Err(kube::Error::Api(status)) => status.code == 404,
                Err(_) => false,
            };
            if is_gone {
                shared.learn(|index| index.remove_operation(&name));
            }
        });
    }
}

/// Whether the object that was created stands for what it was created for.
fn standing(is_ours: bool, refusal: Option<Refusal>) -> Result<(), Failed> {
    match (is_ours, refusal) {
        (true, _) => Ok(()),
        (false, Some(refusal)) => Err(Failed::lost(refusal.message)),
        (false, None) => Err(Failed::lost("it was removed at the same time")),
    }
}

/// The objects that claim the same, the one that stands last: until it is gone, nothing has changed.
fn ours_last(mut claimants: Vec<(Name, String)>, ours: &str) -> Vec<(Name, String)> {
    claimants.sort_by_key(|(name, _)| **name == *ours);
    claimants
}

fn now_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
