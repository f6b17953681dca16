//! The registry's batches as writes to the API server.

mod deletions;
mod operations;
mod plan;
mod reports;

use std::collections::HashSet;
use std::sync::Arc;

use futures_util::{StreamExt, stream};
use kube::{Api, ResourceExt};

use crate::model::{Instance, Namespace, NamespaceId, Service, ServiceId};
use crate::registry::{Change, Group, RegistryError, StoreError, Verdict};

use super::index::{Index, Kind, Removal};
use super::request::{self, Deadline, Failed, Object, WRITTEN_BY, version_of};
use super::resources::{
    CloudMapHealthReport, CloudMapInstance, CloudMapNamespace, CloudMapService, CustomHealthWord,
};
use super::shelf::{Refusal, Shelf};
use super::translate::{self, signed};
use super::{Shared, claims, names, status};
use plan::plan;

/// The longest time that a batch may take, in milliseconds; shorter than the timeout of an API request.
const BATCH_MS_MAX: u64 = 10_000;
/// The longest time that a batch may take while the API server is known to be unreachable, in milliseconds.
const BATCH_MS_MAX_AWAY: u64 = 1_500;
/// Groups that are written at a time.
const WRITES_MAX: usize = 32;
/// Time that a lost race waits for the watch to show what won it, in milliseconds.
pub(super) const WINNER_MS_MAX: u64 = 500;

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
        let writer = Writer { shared, written: &written, until };
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
    fn known<K: Shelved>(&self, index: &Index, object: &K) -> Result<(), Failed> {
        let name = object.name_any();
        match K::shelf(index).is_told(&name) || self.written.contains(&version_of(object)) {
            true => Ok(()),
            false => Err(Failed::lost(format!("{name} was changed at the same time"))),
        }
    }

    /// Refuses to create what the plan knew, and another server deleted since: the plan changes it, and would bring it back.
    fn not_deleted(&self, is_deletion: impl Fn(&Change) -> bool) -> Result<(), Failed> {
        match self.shared.index().is_deletion_untold(is_deletion) {
            true => Err(Failed::lost("it was deleted at the same time")),
            false => Ok(()),
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

    fn sign<K: Object>(&self, object: &mut K) {
        object.annotations_mut().insert(WRITTEN_BY.into(), self.shared.unique());
    }

    /// Replaces the version `before` of an object, and takes the stored object in with `put`. Returns etcd's number of it.
    async fn replace<K: Shelved>(
        &self,
        api: &Api<K>,
        before: &K,
        mut object: K,
        until: Deadline,
        put: impl FnOnce(&mut Index, K),
    ) -> Result<u64, Failed> {
        self.sign(&mut object);
        let stored = request::replace(api, before, object, until).await;
        let stored = self.settled(before, stored).await?;
        let version = version_of(&stored);
        self.shared.learn(|index| put(index, stored));
        Ok(version)
    }

    async fn put_namespace(
        &self,
        namespace: &Namespace,
        fresh: &mut Vec<u64>,
    ) -> Result<Option<u64>, Failed> {
        let api = &self.shared.namespaces;
        let there = self.shared.index().namespace_object(&namespace.id).cloned();
        if let Some(mut object) = there {
            self.known(&self.shared.index(), &object)?;
            self.not_being_deleted(&object)?;
            let before = object.clone();
            translate::update_namespace(&mut object, namespace);
            return self.replace(api, &before, object, self.until, Index::put_namespace).await.map(Some);
        }
        self.not_deleted(|change| matches!(change, Change::DeleteNamespace(id) if *id == namespace.id))?;
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
            self.known(&self.shared.index(), &object)?;
            self.not_being_deleted(&object)?;
            let before = object.clone();
            translate::update_service(&mut object, service);
            return self.replace(api, &before, object, self.until, Index::put_service).await.map(Some);
        }
        self.not_deleted(|change| match change {
            Change::DeleteNamespace(id) => *id == service.namespace_id,
            Change::DeleteService(id) => *id == service.id,
            _ => false,
        })?;
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
        self.mark_services_above(service, fresh).await?;
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

    /// Marks the services above a new one, which may have instances of its name.
    async fn mark_services_above(&self, service: &Service, fresh: &mut Vec<u64>) -> Result<(), Failed> {
        let unmarked = claims::unmarked_above(&self.shared.index(), service);
        for before in unmarked {
            self.not_being_deleted(&before)?;
            let mut object = before.clone();
            claims::mark(&mut object);
            let services = &self.shared.services;
            fresh.push(self.replace(services, &before, object, self.until, Index::put_service).await?);
        }
        Ok(())
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
            self.known(&self.shared.index(), &object)?;
            return self.update_instance(object, instance, registers).await.map(Some);
        }
        self.not_deleted(|change| match change {
            Change::DeleteService(id) => id == service,
            Change::DeleteInstance(of, id) => of == service && **id == *instance.id(),
            _ => false,
        })?;
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
        self.replace(api, &before, object, self.until, Index::put_instance).await
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
}

/// Whether the object that was created stands for what it was created for.
fn standing(is_ours: bool, refusal: Option<Refusal>) -> Result<(), Failed> {
    match (is_ours, refusal) {
        (true, _) => Ok(()),
        (false, Some(refusal)) => Err(Failed::lost(refusal.message)),
        (false, None) => Err(Failed::lost("it was removed at the same time")),
    }
}
