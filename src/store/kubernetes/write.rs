//! The registry's batches as writes to the API server.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use futures_util::{StreamExt, stream};
use kube::api::ListParams;
use kube::{Api, ResourceExt};

use crate::model::{Instance, Namespace, NamespaceId, Operation, Service, ServiceId};
use crate::registry::{Change, Group, RegistryError, StoreError, Verdict};

use super::index::{Index, Kind, Removal};
use super::request::{self, Deadline, Failed, Object, WRITTEN_BY, version_of};
use super::resources::{CloudMapInstance, CustomHealthWord};
use super::shelf::{Name, Refusal};
use super::translate::{self, signed};
use super::{Shared, names, status};

/// How long a batch may take, in milliseconds; shorter than a request of the API.
const BATCH_MS_MAX: u64 = 10_000;
/// How long a batch may take while the API server is known to be away, in milliseconds: nothing waits for nothing.
const BATCH_MS_MAX_AWAY: u64 = 2_000;
/// Groups that are written at a time.
const WRITES_MAX: usize = 32;
/// Marks an owner that is being deleted, with the time in milliseconds since 1970.
const DELETING: &str = "cloudmap-dns.io/deleting";
/// How old a mark is, in milliseconds, when its replica has surely given up.
const DELETING_MS_MAX: u64 = 6 * BATCH_MS_MAX;

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
            let what = "what it builds on was refused at the same time".to_string();
            verdicts[at] = Some(Err(Failed::Refused(what)));
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
                _ => {}
            }
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
        let mut number = None;
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
                // The object's own number; the changes that follow from it come with it.
                _ => continue,
            };
            fresh.extend(version);
            number = version.map(|version| version + self.shared.index().offset());
        }
        let mut operation = None;
        for change in group {
            match change {
                Change::PutOperation(planned) => operation = Some(self.put_operation(planned, number).await?),
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
            false => Err(Failed::Refused(format!("{} was changed at the same time", object.name_any()))),
        }
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
            let before = object.clone();
            translate::update_namespace(&mut object, namespace);
            self.sign(&mut object);
            let stored = request::replace(api, &before, object, self.until).await?;
            let version = version_of(&stored);
            self.shared.learn(|index| index.put_namespace(stored));
            return Ok(Some(version));
        }
        let mut object = translate::namespace_object(&names::of_namespace(namespace), namespace);
        self.sign(&mut object);
        let stored = request::create(api, &object, self.until).await?;
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
            let before = object.clone();
            translate::update_service(&mut object, service);
            self.sign(&mut object);
            let stored = request::replace(api, &before, object, self.until).await?;
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
            return Err(Failed::Refused("its namespace was deleted at the same time".into()));
        };
        let mut object = translate::service_object(&names::of_service(service, &namespace), service);
        self.sign(&mut object);
        let stored = request::create(api, &object, self.until).await?;
        let (version, name, uid) = (version_of(&stored), stored.name_any(), stored.uid().unwrap_or_default());
        let mut stands = self.owner_stays(&self.shared.namespaces, &owner).await;
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
                Err(why)
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
            return Err(Failed::Refused("its service was deleted at the same time".into()));
        };
        let name = names::of_instance(instance.id(), &of_service, &namespace);
        let mut object = translate::instance_object(&name, &of_service, instance);
        self.sign(&mut object);
        let stored = request::create(api, &object, self.until).await?;
        let (version, uid) = (version_of(&stored), stored.uid().unwrap_or_default());
        let mut stands = self.owner_stays(&self.shared.services, &owner).await;
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
                Err(why)
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
            let stored = request::patch_status(api, &object, &status, true, self.until).await?;
            let version = version_of(&stored);
            self.shared.learn(|index| index.put_instance(stored));
            return Ok(version);
        }
        let before = object.clone();
        translate::update_instance(&mut object, instance);
        self.sign(&mut object);
        let stored = request::replace(api, &before, object, self.until).await?;
        let version = version_of(&stored);
        self.shared.learn(|index| index.put_instance(stored));
        Ok(version)
    }

    async fn delete_instance(&self, service: &ServiceId, id: &str) -> Result<Option<u64>, Failed> {
        let (object, claimants) = {
            let index = self.shared.index();
            (index.instance_object(service, id).cloned(), index.instance_claimants(service, id))
        };
        let Some(object) = object else {
            return Err(Failed::Refused("another replica deregistered it".into()));
        };
        self.known(&object)?;
        let api = &self.shared.instances;
        for (name, uid) in ours_last(claimants, &object.name_any()) {
            let before = (*name == *object.name_any()).then_some(&object);
            request::delete(api, &name, &uid, before, self.until).await?;
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
            return Err(Failed::Refused("another replica deleted it".into()));
        };
        self.known(&object)?;
        let api = &self.shared.services;
        let marked = self.mark(api, object).await?;
        let parameters = ListParams::default().fields(&format!("spec.serviceId={id}")).limit(1);
        let inside = request::read(|| self.shared.instances.list(&parameters), self.until).await;
        self.check_empty(api, &marked, inside.map(|list| list.items.len())).await?;
        for (name, uid) in ours_last(claimants, &marked.name_any()) {
            let before = (*name == *marked.name_any()).then_some(&marked);
            request::delete(api, &name, &uid, before, self.until).await?;
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
            return Err(Failed::Refused("another replica deleted it".into()));
        };
        self.known(&object)?;
        let api = &self.shared.namespaces;
        let marked = self.mark(api, object).await?;
        let parameters = ListParams::default().fields(&format!("spec.namespaceId={id}")).limit(1);
        let inside = request::read(|| self.shared.services.list(&parameters), self.until).await;
        self.check_empty(api, &marked, inside.map(|list| list.items.len())).await?;
        for (name, uid) in ours_last(claimants, &marked.name_any()) {
            let before = (*name == *marked.name_any()).then_some(&marked);
            request::delete(api, &name, &uid, before, self.until).await?;
            self.shared.learn(|index| index.remove_namespace(&name, &uid, Removal::Own));
        }
        Ok(None)
    }

    /// Marks an owner that is to be deleted.
    async fn mark<K: Object>(&self, api: &Api<K>, mut owner: K) -> Result<K, Failed> {
        let before = owner.clone();
        owner.annotations_mut().insert(DELETING.into(), now_ms().to_string());
        self.sign(&mut owner);
        request::replace(api, &before, owner, self.until).await
    }

    /// Takes the mark from an owner that has something in it.
    async fn check_empty<K: Object>(
        &self,
        api: &Api<K>,
        marked: &K,
        inside: Result<usize, Failed>,
    ) -> Result<(), Failed> {
        let why = match inside {
            Ok(0) => return Ok(()),
            Ok(_) => Failed::Refused("another replica has put something into it".into()),
            Err(failed) => failed,
        };
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
        Err(why)
    }

    /// Whether the owner of what was just created is not being deleted.
    async fn owner_stays<K: Object>(&self, api: &Api<K>, owner: &K) -> Result<(), Failed> {
        let gone = || Err(Failed::Refused("what it belongs to was deleted at the same time".into()));
        let there =
            request::read(|| api.get_opt(owner.meta().name.as_deref().unwrap_or_default()), self.until);
        let Some(mut there) = there.await? else { return gone() };
        if there.uid() != owner.uid() {
            return gone();
        }
        let Some(since) = there.annotations().get(DELETING) else { return Ok(()) };
        let age_ms = now_ms().saturating_sub(since.parse().unwrap_or(0));
        if age_ms < DELETING_MS_MAX {
            return gone();
        }
        // Whoever set it has given up, or finds another version than the marked one.
        let before = there.clone();
        there.annotations_mut().remove(DELETING);
        self.sign(&mut there);
        request::replace(api, &before, there, self.until).await.map(drop)
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
            Ok(()) | Err(Failed::Refused(_)) => self.shared.learn(forget),
            Err(Failed::Unknown(error)) => {
                tracing::warn!(object = name, error, "an object that was refused could not be taken back");
            }
        }
    }

    async fn put_operation(&self, operation: &Operation, number: Option<u64>) -> Result<u64, Failed> {
        let name = format!("op-{}", self.shared.unique());
        let mut object = translate::operation_object(&name, operation, number);
        self.sign(&mut object);
        let stored =
            request::create(&self.shared.operations, &object, self.until).await.map_err(|failed| {
                let (Failed::Refused(why) | Failed::Unknown(why)) = failed;
                Failed::Unknown(format!("it is done, but its operation could not be written down: {why}"))
            })?;
        let number = self.shared.learn(|index| index.put_operation(&stored));
        number.ok_or_else(|| Failed::Unknown("its operation cannot be read".into()))
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
        (false, Some(refusal)) => Err(Failed::Refused(refusal.message)),
        (false, None) => Err(Failed::Refused("it was removed at the same time".into())),
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
