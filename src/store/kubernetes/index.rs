//! What the objects amount to: events of the watch and answers to writes in, changes for the registry out.
//!
//! A plain struct that needs no cluster. It holds every object, decides by the API's rules which of them stand, and
//! collects what that changes; whoever holds the lock drains the changes in order. The outcome depends on the objects and
//! not on the order in which they arrive, so that replicas that have seen the same agree. The one exception is a service
//! that has the name of an instance's SRV target: there, the first to arrive stands.
//!
//! Numbers are etcd's: `metadata.resourceVersion` counts the writes to the whole cluster, so the number of a write is
//! above all before it and nobody else's.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use kube::ResourceExt;

use crate::model::{
    Attributes, Identity, Instance, Namespace, NamespaceId, NamespaceKind, OperationType, Service, ServiceId,
};
use crate::registry::{Admission, Change, RegistryError, Settings, State, state::zone_key};

use super::resources::{CloudMapInstance, CloudMapNamespace, CloudMapOperation, CloudMapService};
use super::shelf::{Name, Refusal, Shelf};
use super::translate::{self, created_ms, unsigned, version};

/// How long a status waits at least, so that one write says what many changes amount to, in milliseconds.
const STATUS_DELAY_MS_MIN: u64 = 500;
/// How much longer it may wait, by chance: of several replicas one is the first, and the others see it done.
const STATUS_DELAY_MS_RANGE: u64 = 2_000;

/// The kinds whose objects get a status.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) enum Kind {
    Namespace,
    Service,
    Instance,
}

/// How it is known that an object is gone.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Removal {
    /// The watch said so; this is etcd's number of the deletion.
    At(u64),
    /// It was not in a list.
    Unlisted,
    /// This replica deleted it.
    Own,
}

/// Everything that is known.
pub(super) struct Index {
    identity: Identity,
    admission: Admission,
    /// Added to etcd's numbers.
    offset: u64,
    /// What stands, without operations.
    state: State,
    pub(super) namespaces: Shelf<CloudMapNamespace, NamespaceId>,
    pub(super) services: Shelf<CloudMapService, ServiceId>,
    pub(super) instances: Shelf<CloudMapInstance, ServiceId>,
    operations: HashMap<Name, u64>,
    operation_names: HashMap<u64, Name>,
    revisions: HashMap<ServiceId, u64>,
    /// Whether all kinds were listed once; before that nothing is decided.
    is_read: bool,
    /// The highest number seen.
    sequence: u64,
    sequence_told: u64,
    /// etcd's number of the newest object that the registry has been told of.
    version_told: u64,
    version: u64,
    changes: Vec<Change>,
    /// What removes the instances that are looked at now.
    removal: Removal,
    due: HashMap<(Kind, Name), Instant>,
}

impl Index {
    /// Knows nothing yet.
    pub(super) fn new(settings: Settings) -> Index {
        Index {
            identity: settings.identity.clone(),
            admission: Admission::new(settings),
            offset: 0,
            state: State::default(),
            namespaces: Shelf::default(),
            services: Shelf::default(),
            instances: Shelf::default(),
            operations: HashMap::new(),
            operation_names: HashMap::new(),
            revisions: HashMap::new(),
            is_read: false,
            sequence: 0,
            sequence_told: 0,
            version_told: 0,
            version: 0,
            changes: Vec::new(),
            removal: Removal::Unlisted,
            due: HashMap::new(),
        }
    }

    /// What stands.
    pub(super) fn state(&self) -> &State {
        &self.state
    }

    /// Account and region.
    pub(super) fn identity(&self) -> &Identity {
        &self.identity
    }

    /// What is added to etcd's numbers.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// Sets what is added to etcd's numbers; it never goes back.
    pub(super) fn set_offset(&mut self, offset: u64) {
        self.offset = self.offset.max(offset);
    }

    /// Whether all kinds were listed.
    pub(super) fn is_read(&self) -> bool {
        self.is_read
    }

    /// Everything was listed: decides what stands.
    pub(super) fn read(&mut self) {
        if std::mem::replace(&mut self.is_read, true) {
            return;
        }
        let names: Vec<_> = self.namespaces.objects.keys().cloned().collect();
        names.iter().for_each(|name| self.settle_namespace(name));
        // Services and instances whose owner stands were looked at with it.
        let names: Vec<_> = self.services.objects.keys().cloned().collect();
        for name in &names {
            if !self.services.stands_for(name) {
                self.settle_service(name);
            }
        }
        let names: Vec<_> = self.instances.objects.keys().cloned().collect();
        for name in &names {
            if !self.instances.stands_for(name) {
                self.settle_instance(name);
            }
        }
    }

    /// What became of the state since the last call.
    pub(super) fn drain(&mut self) -> Vec<Change> {
        self.version_told = self.version;
        if self.sequence > self.sequence_told {
            self.sequence_told = self.sequence;
            self.changes.push(Change::PutSequence(self.sequence));
        }
        std::mem::take(&mut self.changes)
    }

    /// etcd's number of the newest object that the registry has been told of: what is newer, its plans don't know.
    pub(super) fn version_told(&self) -> u64 {
        self.version_told
    }

    /// Whether [`Index::drain`] has something to say of what is served.
    pub(super) fn has_changes(&self) -> bool {
        !self.changes.is_empty()
    }

    /// The object is as given.
    pub(super) fn put_namespace(&mut self, object: CloudMapNamespace) {
        self.see(version(&object.metadata));
        if let Some(name) = self.namespaces.take_in(object, Vec::new()) {
            self.settle_namespace(&name);
        }
    }

    /// The object is as given.
    pub(super) fn put_service(&mut self, object: CloudMapService) {
        self.see(version(&object.metadata));
        let owner = match (&object.spec.namespace_id, &object.spec.namespace_name) {
            (Some(id), _) => format!("id {id}"),
            (None, name) => format!("name {}", zone_key(name.as_deref().unwrap_or_default())),
        };
        if let Some(name) = self.services.take_in(object, vec![owner]) {
            self.settle_service(&name);
        }
    }

    /// The object is as given.
    pub(super) fn put_instance(&mut self, object: CloudMapInstance) {
        self.see(version(&object.metadata));
        let spec = &object.spec;
        let owner = match (&spec.service_id, &spec.service_name, &spec.namespace_name) {
            (Some(id), ..) => format!("id {id}"),
            (None, service, namespace) => owner_name(
                service.as_deref().unwrap_or_default(),
                namespace.as_deref().unwrap_or_default(),
            ),
        };
        if let Some(name) = self.instances.take_in(object, vec![owner]) {
            self.settle_instance(&name);
        }
    }

    /// The object is as given; its operation's number is returned.
    pub(super) fn put_operation(&mut self, object: &CloudMapOperation) -> Option<u64> {
        self.see(version(&object.metadata));
        let name: Name = object.metadata.name.as_deref()?.into();
        if let Some(number) = self.operations.get(&name) {
            return Some(*number);
        }
        let operation = translate::operation(object, &self.identity, self.offset)?;
        let number = operation.number;
        self.sequence = self.sequence.max(number);
        self.operations.insert(name.clone(), number);
        self.operation_names.insert(number, name);
        let moves = matches!(
            operation.operation_type,
            OperationType::RegisterInstance | OperationType::DeregisterInstance
        );
        if let Some(service) = operation.targets.service().filter(|_| moves).cloned() {
            self.bump(&service, number);
        }
        self.changes.push(Change::PutOperation(operation.into()));
        Some(number)
    }

    /// The object is gone.
    pub(super) fn remove_namespace(&mut self, name: &str, uid: &str, removal: Removal) {
        match removal {
            Removal::Own => self.namespaces.deleted(uid),
            _ => self.namespaces.forget(uid),
        }
        if let Some(Some(claim)) = self.namespaces.take_out(name, uid) {
            self.removed(removal);
            self.decide_namespaces(&claim);
        }
    }

    /// The object is gone.
    pub(super) fn remove_service(&mut self, name: &str, uid: &str, removal: Removal) {
        match removal {
            Removal::Own => self.services.deleted(uid),
            _ => self.services.forget(uid),
        }
        if let Some(Some(claim)) = self.services.take_out(name, uid) {
            self.removed(removal);
            self.decide_service(&claim);
        }
    }

    /// The object is gone.
    pub(super) fn remove_instance(&mut self, name: &str, uid: &str, removal: Removal) {
        match removal {
            Removal::Own => self.instances.deleted(uid),
            _ => self.instances.forget(uid),
        }
        if let Some(Some(claim)) = self.instances.take_out(name, uid) {
            self.removed(removal);
            self.removal = removal;
            self.decide_instance(&claim);
            self.removal = Removal::Unlisted;
        }
    }

    /// The object is gone.
    pub(super) fn remove_operation(&mut self, name: &str) {
        if let Some(number) = self.operations.remove(name) {
            self.operation_names.remove(&number);
            self.changes.push(Change::DropOperation(number));
        }
    }

    /// The names of operations' objects.
    pub(super) fn operation_inventory(&self) -> Vec<Name> {
        self.operations.keys().cloned().collect()
    }

    /// The object of an operation.
    pub(super) fn operation_name(&self, number: u64) -> Option<Name> {
        self.operation_names.get(&number).cloned()
    }

    /// The revision of a service that stands.
    pub(super) fn revision(&self, service: &ServiceId) -> u64 {
        self.revisions.get(service).copied().unwrap_or(0)
    }

    /// The object that stands for a namespace.
    pub(super) fn namespace_object(&self, id: &NamespaceId) -> Option<&CloudMapNamespace> {
        let namespace = &self.state.namespace(id.as_str()).ok()?.namespace;
        let stands = self.namespaces.stands.get(&*zone_key(&namespace.name))?;
        let (name, _) = stands.iter().find(|(_, other)| other == id)?;
        Some(&self.namespaces.objects.get(name)?.object)
    }

    /// The object that stands for a service.
    pub(super) fn service_object(&self, id: &ServiceId) -> Option<&CloudMapService> {
        let claim = self.service_claim_of(&self.state.service(id.as_str()).ok()?.service);
        let (name, _) = self.services.stands.get(&claim)?.first()?;
        Some(&self.services.objects.get(name)?.object)
    }

    /// The object that stands for an instance.
    pub(super) fn instance_object(&self, service: &ServiceId, id: &str) -> Option<&CloudMapInstance> {
        let (name, _) = self.instances.stands.get(&instance_claim(service, id))?.first()?;
        Some(&self.instances.objects.get(name)?.object)
    }

    /// All objects that claim to be this namespace, by name and uid.
    pub(super) fn namespace_claimants(&self, id: &NamespaceId) -> Vec<(Name, String)> {
        let Ok(namespace) = self.state.namespace(id.as_str()) else { return Vec::new() };
        let claim = zone_key(&namespace.namespace.name);
        let names = self.namespaces.claimants(&claim, |_| None).into_iter();
        let held = names.filter_map(|name| Some((self.namespaces.objects.get(&name)?, name)));
        held.filter(|(held, _)| self.namespace_id(&held.object) == *id)
            .map(|(held, name)| (name, held.object.uid().unwrap_or_default()))
            .collect()
    }

    /// All objects that claim to be this service, by name and uid.
    pub(super) fn service_claimants(&self, id: &ServiceId) -> Vec<(Name, String)> {
        let Ok(service) = self.state.service(id.as_str()) else { return Vec::new() };
        let names = self.services.claimants(&self.service_claim_of(&service.service), |_| None).into_iter();
        names
            .filter_map(|name| {
                let uid = self.services.objects.get(&name)?.object.uid()?;
                Some((name, uid))
            })
            .collect()
    }

    /// All objects that claim to be this instance, by name and uid.
    pub(super) fn instance_claimants(&self, service: &ServiceId, id: &str) -> Vec<(Name, String)> {
        let names = self.instances.claimants(&instance_claim(service, id), |_| None).into_iter();
        names
            .filter_map(|name| {
                let uid = self.instances.objects.get(&name)?.object.uid()?;
                Some((name, uid))
            })
            .collect()
    }

    /// The number that a namespace's object has.
    pub(super) fn namespace_number(&self, object: &CloudMapNamespace) -> u64 {
        let kept = object.status.as_ref().and_then(|status| unsigned(status.number));
        kept.unwrap_or_else(|| version(&object.metadata) + self.offset)
    }

    /// The number that a service's object has.
    pub(super) fn service_number(&self, object: &CloudMapService) -> u64 {
        let kept = object.status.as_ref().and_then(|status| unsigned(status.number));
        kept.unwrap_or_else(|| version(&object.metadata) + self.offset)
    }

    /// The objects whose status may have to be written now.
    pub(super) fn due(&mut self, now: Instant, most: usize) -> Vec<(Kind, Name)> {
        let due = self.due.iter().filter(|(_, at)| **at <= now).map(|(key, _)| key.clone());
        let due: Vec<_> = due.take(most).collect();
        due.iter().for_each(|key| {
            self.due.remove(key);
        });
        due
    }

    /// The object's status is to be looked at again.
    pub(super) fn status_later(&mut self, kind: Kind, name: Name) {
        let delay_ms = STATUS_DELAY_MS_MIN + fastrand::u64(..STATUS_DELAY_MS_RANGE);
        self.due.entry((kind, name)).or_insert_with(|| Instant::now() + Duration::from_millis(delay_ms));
    }

    fn see(&mut self, version: u64) {
        self.version = self.version.max(version);
        if version > 0 {
            self.sequence = self.sequence.max(version + self.offset);
        }
    }

    fn removed(&mut self, removal: Removal) {
        if let Removal::At(version) = removal {
            self.see(version);
        }
    }

    fn apply(&mut self, change: Change) {
        self.state.apply(&change);
        self.changes.push(change);
    }

    /// The set of a service's instances changed at this number.
    fn bump(&mut self, service: &ServiceId, number: u64) {
        let stands = self.state.service(service.as_str()).is_ok();
        if !stands && self.is_read {
            return;
        }
        let revision = self.revisions.entry(service.clone()).or_insert(0);
        if *revision < number {
            *revision = number;
            self.sequence = self.sequence.max(number);
            if stands {
                self.apply(Change::PutRevision(service.clone(), number));
                self.service_status_later(service);
            }
        }
    }

    fn service_status_later(&mut self, service: &ServiceId) {
        if let Some(name) = self.service_object(service).map(|object| object.name_any()) {
            self.status_later(Kind::Service, name.into());
        }
    }

    fn namespace_id(&self, object: &CloudMapNamespace) -> NamespaceId {
        let spec = &object.spec;
        let kind = spec.kind.kind(None);
        let key = if kind == NamespaceKind::Http { spec.name.as_str().into() } else { zone_key(&spec.name) };
        self.identity.namespace_id(kind.as_str(), &key)
    }

    fn settle_namespace(&mut self, name: &Name) {
        if !self.is_read {
            return;
        }
        let Some(held) = self.namespaces.objects.get(name) else { return };
        // Namespaces of one name share the name that DiscoverInstances takes, whatever their kind.
        let claim = zone_key(&held.object.spec.name).to_string();
        if let Some(old) = self.namespaces.claim(name, Some(claim.clone())).filter(|old| *old != claim) {
            self.decide_namespaces(&old);
        }
        self.decide_namespaces(&claim);
    }

    /// Decides which of the namespaces of one name stand.
    fn decide_namespaces(&mut self, claim: &str) {
        let old = self.namespaces.stands.remove(claim).unwrap_or_default();
        let mut trial = self.state.clone();
        old.iter().for_each(|(_, id)| trial.apply(&Change::DeleteNamespace(id.clone())));
        let names = self.namespaces.claimants(claim, |object| object.status.as_ref()?.number);
        let mut new: Vec<(Name, Namespace)> = Vec::new();
        for name in names {
            let Some(held) = self.namespaces.objects.get(&name) else { continue };
            let (object, meta) = (&held.object, &held.object.metadata);
            let kept_ms = object.status.as_ref().and_then(|status| status.create_date_ms);
            let created_ms = kept_ms.unwrap_or_else(|| created_ms(meta));
            let id = self.namespace_id(object);
            let older = new.iter().find(|(_, other)| other.id == id).map(|(older, _)| older.clone());
            let admitted = match older {
                Some(older) => Err(another(&older)),
                None => self
                    .admission
                    .namespace(&trial, translate::asked_namespace(&object.spec), created_ms)
                    .map_err(|error| refusal(&error)),
            };
            let refused = match admitted {
                Ok(namespace) => {
                    let namespace = Namespace {
                        creator_request_id: object.spec.creator_request_id.clone(),
                        request_digest: translate::request_digest(meta)
                            .unwrap_or(namespace.request_digest),
                        operation: self.namespace_number(object),
                        ..namespace
                    };
                    trial.apply(&Change::PutNamespace(namespace.clone().into()));
                    new.push((name.clone(), namespace));
                    None
                }
                Err(refusal) => Some(refusal),
            };
            self.status_later(Kind::Namespace, name.clone());
            if let Some(held) = self.namespaces.objects.get_mut(&name) {
                held.refusal = refused;
            }
        }
        drop(trial);
        let mut owners = Vec::new();
        let mut orphans = Vec::new();
        let mut owner = |namespace: &Namespace| {
            owners.push(format!("id {}", namespace.id));
            owners.push(format!("name {}", zone_key(&namespace.name)));
        };
        for (_, id) in &old {
            if !new.iter().any(|(_, namespace)| namespace.id == *id) {
                if let Ok(state) = self.state.namespace(id.as_str()) {
                    owner(&state.namespace);
                }
                orphans.extend(self.drop_namespace(id));
            }
        }
        self.namespaces.stands.insert(
            claim.to_string(),
            new.iter().map(|(name, namespace)| (name.clone(), namespace.id.clone())).collect(),
        );
        for (_, namespace) in new {
            let there = self.state.namespace(namespace.id.as_str()).map(|state| state.namespace.clone());
            if there.as_deref() != Ok(&namespace) {
                if there.is_err() {
                    owner(&namespace);
                }
                self.apply(Change::PutNamespace(namespace.into()));
            }
        }
        if self.namespaces.stands.get(claim).is_some_and(Vec::is_empty) {
            self.namespaces.stands.remove(claim);
        }
        for name in self.services.owned(&owners) {
            self.settle_service(&name);
        }
        for name in self.instances.owned(&orphans) {
            self.settle_instance(&name);
        }
    }

    /// Takes a namespace and what is in it out of the state. Returns what the instances that were in it call their owners.
    fn drop_namespace(&mut self, id: &NamespaceId) -> Vec<String> {
        let Ok(state) = self.state.namespace(id.as_str()) else { return Vec::new() };
        let ids = state.services_after(None).map(|(_, id)| id);
        let services: Vec<_> = ids.filter_map(|id| self.state.service(id.as_str()).ok()).cloned().collect();
        let owners = services.iter().flat_map(|state| self.service_owners(&state.service)).collect();
        services.iter().for_each(|state| self.drop_service(&state.service.id));
        self.apply(Change::DeleteNamespace(id.clone()));
        owners
    }

    fn service_claim_of(&self, service: &Service) -> String {
        let id = &service.namespace_id;
        let is_dns = self.state.namespace(id.as_str()).is_ok_and(|state| state.namespace.is_dns());
        service_claim(id, &service.name, is_dns)
    }

    fn settle_service(&mut self, name: &Name) {
        if !self.is_read {
            return;
        }
        let Some(held) = self.services.objects.get(name) else { return };
        let spec = &held.object.spec;
        let namespace = match (&spec.namespace_id, &spec.namespace_name) {
            (Some(id), _) => self.state.namespace(id).ok(),
            (None, Some(name)) => self.namespace_named(name),
            (None, None) => None,
        };
        let claim = namespace
            .map(|state| service_claim(&state.namespace.id, &spec.name, state.namespace.is_dns()));
        let old = self.services.claim(name, claim.clone());
        if let Some(old) = old.filter(|old| claim.as_ref() != Some(old)) {
            self.decide_service(&old);
        }
        match claim {
            Some(claim) => self.decide_service(&claim),
            None => {
                if let Some(held) = self.services.objects.get_mut(name) {
                    held.refusal = Some(refusal(&RegistryError::NamespaceNotFound));
                }
                self.status_later(Kind::Service, name.clone());
            }
        }
    }

    fn namespace_named(&self, name: &str) -> Option<&std::sync::Arc<crate::registry::state::NamespaceState>> {
        self.state.namespace_by_zone(&zone_key(name)).or_else(|| self.state.namespace_by_http_name(name))
    }

    /// Decides which of the objects for one service stands.
    fn decide_service(&mut self, claim: &str) {
        let old = self.services.stands.remove(claim).unwrap_or_default().pop();
        let mut trial = self.state.clone();
        if let Some((_, id)) = &old {
            trial.apply(&Change::DeleteService(id.clone()));
        }
        let namespace = claim.split(' ').next().unwrap_or_default().to_string();
        let mut new: Option<(Name, Service)> = None;
        for name in self.services.claimants(claim, |object| object.status.as_ref()?.number) {
            let Some(held) = self.services.objects.get(&name) else { continue };
            let (object, meta) = (&held.object, &held.object.metadata);
            let refused = match &new {
                Some((older, _)) => Some(another(older)),
                None => {
                    let kept_ms = object.status.as_ref().and_then(|status| status.create_date_ms);
                    let created_ms = kept_ms.unwrap_or_else(|| created_ms(meta));
                    let (asked, no_records) = translate::asked_service(&object.spec, &namespace);
                    let attributes = object.spec.attributes.clone();
                    match self.admission.service(&trial, asked, attributes, created_ms) {
                        Ok(service) => {
                            let mut service = Service {
                                sequence: self.service_number(object),
                                request_digest: translate::request_digest(meta)
                                    .unwrap_or(service.request_digest),
                                ..service
                            };
                            if no_records && let Some(dns) = &mut service.dns {
                                dns.records.clear();
                            }
                            new = Some((name.clone(), service));
                            None
                        }
                        Err(error) => Some(refusal(&error)),
                    }
                }
            };
            self.status_later(Kind::Service, name.clone());
            if let Some(held) = self.services.objects.get_mut(&name) {
                held.refusal = refused;
            }
        }
        drop(trial);
        let mut owners = Vec::new();
        let is_other = |service: &Service| new.as_ref().is_none_or(|(_, new)| new.id != service.id);
        if let Some((_, id)) = &old
            && let Ok(state) = self.state.service(id.as_str()).cloned()
            && is_other(&state.service)
        {
            owners.extend(self.service_owners(&state.service));
            self.drop_service(id);
        } else if let Some((_, id)) = &old
            && self.state.service(id.as_str()).is_err()
        {
            // It went with its namespace.
            owners.push(format!("id {id}"));
        }
        if let Some((name, service)) = new {
            let id = service.id.clone();
            self.services.stands.insert(claim.to_string(), vec![(name.clone(), id.clone())]);
            let there = self.state.service(id.as_str()).map(|state| state.service.clone());
            let is_changed = there.as_deref() != Ok(&service);
            let rules_differ = there.as_ref().is_ok_and(|there| {
                (&there.dns, &there.health_check, &there.custom_health_check)
                    != (&service.dns, &service.health_check, &service.custom_health_check)
            });
            let (is_new, number) = (there.is_err(), service.sequence);
            if is_new || rules_differ {
                owners.extend(self.service_owners(&service));
            }
            if is_changed {
                self.apply(Change::PutService(service.into()));
            }
            let kept = self.services.objects.get(&name).and_then(|held| held.object.status.as_ref());
            let kept = kept.and_then(|status| unsigned(status.instances_revision)).unwrap_or(0);
            let known = self.revisions.get(&id).copied().unwrap_or(0);
            if is_new {
                // What was known before the service stood is told with it.
                self.revisions.remove(&id);
            }
            self.bump(&id, number.max(kept).max(known));
        }
        for name in self.instances.owned(&owners) {
            self.settle_instance(&name);
        }
    }

    fn service_owners(&self, service: &Service) -> Vec<String> {
        let namespace = self.state.namespace(service.namespace_id.as_str());
        let by_name = namespace.map(|state| owner_name(&service.name, &state.namespace.name));
        std::iter::once(format!("id {}", service.id)).chain(by_name).collect()
    }

    /// Takes a service and its instances out of the state.
    fn drop_service(&mut self, id: &ServiceId) {
        let Ok(state) = self.state.service(id.as_str()) else { return };
        let instances: Vec<_> = state.instances().iter().map(|instance| instance.id().into()).collect();
        for instance in instances {
            self.apply(Change::DeleteInstance(id.clone(), instance));
        }
        self.revisions.remove(id);
        self.apply(Change::DeleteService(id.clone()));
    }

    fn settle_instance(&mut self, name: &Name) {
        if !self.is_read {
            return;
        }
        let Some(held) = self.instances.objects.get(name) else { return };
        let spec = &held.object.spec;
        let service = match (&spec.service_id, &spec.service_name, &spec.namespace_name) {
            (Some(id), ..) => self.state.service(id).ok(),
            (None, Some(service), Some(namespace)) => self
                .namespace_named(namespace)
                .and_then(|namespace| self.state.service_by_name(&namespace.namespace.id, service)),
            _ => None,
        };
        let claim = service.map(|state| instance_claim(&state.service.id, &spec.instance_id));
        let old = self.instances.claim(name, claim.clone());
        if let Some(old) = old.filter(|old| claim.as_ref() != Some(old)) {
            self.decide_instance(&old);
        }
        match claim {
            Some(claim) => self.decide_instance(&claim),
            None => {
                if let Some(held) = self.instances.objects.get_mut(name) {
                    held.refusal = Some(refusal(&RegistryError::ServiceNotFound));
                }
                self.status_later(Kind::Instance, name.clone());
            }
        }
    }

    /// Decides which of the objects for one instance stands.
    fn decide_instance(&mut self, claim: &str) {
        self.instances.stands.remove(claim);
        let Some((service, id)) = claim.split_once(' ') else { return };
        let service = ServiceId::from(service);
        let there = self.state.service(service.as_str()).and_then(|state| state.instance(id).cloned()).ok();
        let without = there.as_ref().map(|_| {
            let mut trial = self.state.clone();
            trial.apply(&Change::DeleteInstance(service.clone(), id.into()));
            trial
        });
        let trial = without.as_ref().unwrap_or(&self.state);
        let mut new: Option<(Name, Instance)> = None;
        let mut late = Vec::new();
        for name in self.instances.claimants(claim, |object| object.status.as_ref()?.number) {
            let Some(held) = self.instances.objects.get_mut(&name) else { continue };
            let admitted = match &new {
                Some((older, _)) => Err(another(older)),
                None => admit(&mut self.admission, trial, &service, &held.object, self.offset),
            };
            let has_status = held.object.status.as_ref().is_some_and(|status| !status.conditions.is_empty());
            held.refusal = match admitted {
                Ok(instance) => {
                    new = Some((name.clone(), instance));
                    None
                }
                Err(refusal) => Some(refusal),
            };
            if held.refusal.is_some() || has_status {
                late.push(name);
            }
        }
        drop(without);
        late.into_iter().for_each(|name| self.status_later(Kind::Instance, name));
        match new {
            Some((name, instance)) => {
                self.instances.stands.insert(claim.to_string(), vec![(name, service.clone())]);
                let number = instance.operation();
                if there.as_ref() != Some(&instance) {
                    self.apply(Change::PutInstance(service.clone(), instance));
                    self.service_status_later(&service);
                }
                self.bump(&service, number);
            }
            None if there.is_some() => {
                self.apply(Change::DeleteInstance(service.clone(), id.into()));
                self.service_status_later(&service);
                match self.removal {
                    Removal::At(version) => self.bump(&service, version + self.offset),
                    // Its operation follows at once, and has the number.
                    Removal::Own => {}
                    Removal::Unlisted => {
                        let number = self.sequence.max(self.revision(&service) + 1);
                        self.bump(&service, number);
                    }
                }
            }
            None => {}
        }
    }
}

impl<K: kube::Resource, Id> Shelf<K, Id> {
    /// Whether the object was looked at and stands.
    fn stands_for(&self, name: &Name) -> bool {
        self.objects.get(name).is_some_and(|held| held.refusal.is_none())
    }
}

/// The instance of an object, if it may stand.
fn admit(
    admission: &mut Admission,
    state: &State,
    service: &ServiceId,
    object: &CloudMapInstance,
    offset: u64,
) -> Result<Instance, Refusal> {
    let spec = &object.spec;
    let creator = spec.creator_request_id.clone();
    let admitted = admission
        .instance(state, service, &spec.instance_id, creator.clone(), spec.attributes.clone())
        .map_err(|error| refusal(&error))?;
    let owner = state.service(service.as_str()).map_err(|error| refusal(&error))?;
    let is_private = state
        .namespace(owner.service.namespace_id.as_str())
        .is_ok_and(|state| matches!(state.namespace.kind, NamespaceKind::DnsPrivate { .. }));
    let reports_health =
        owner.service.custom_health_check.is_some() || (owner.service.health_check.is_some() && is_private);
    let health = reports_health.then(|| translate::instance_health(object, admitted.custom_health()));
    let number = translate::instance_number(object, offset);
    let attributes = Attributes::new(&spec.attributes);
    let instance = attributes.and_then(|attributes| {
        Instance::new(&spec.instance_id, creator.as_deref(), &attributes, health.flatten(), number)
    });
    let too_long = || RegistryError::InvalidInput("An attribute or the id is too long.".into());
    instance.ok_or_else(|| refusal(&too_long()))
}

/// A claim's first word is the namespace's id.
fn service_claim(namespace: &NamespaceId, name: &str, is_dns: bool) -> String {
    match is_dns {
        // Names that differ in case alone are one in DNS.
        true => format!("{namespace} {}", name.to_ascii_lowercase()),
        false => format!("{namespace} {name}"),
    }
}

/// A claim's first word is the service's id.
fn instance_claim(service: &ServiceId, id: &str) -> String {
    format!("{service} {id}")
}

fn owner_name(service: &str, namespace: &str) -> String {
    format!("name {} {}", service.to_ascii_lowercase(), zone_key(namespace))
}

fn another(older: &str) -> Refusal {
    Refusal { reason: "AnotherStands", message: format!("The object {older} stands for the same, and is older.") }
}

fn refusal(error: &RegistryError) -> Refusal {
    let reason = match error {
        RegistryError::NamespaceNotFound => "NamespaceNotFound",
        RegistryError::ServiceNotFound => "ServiceNotFound",
        RegistryError::ResourceLimitExceeded(_) => "ResourceLimitExceeded",
        RegistryError::TooManyTags { .. } => "TooManyTags",
        RegistryError::ServiceAttributesLimitExceeded { .. } => "ServiceAttributesLimitExceeded",
        RegistryError::NamespaceAlreadyExists { .. } => "NamespaceAlreadyExists",
        RegistryError::ServiceAlreadyExists { .. } => "ServiceAlreadyExists",
        _ => "InvalidInput",
    };
    Refusal { reason, message: error.to_string() }
}

#[cfg(test)]
mod tests;
