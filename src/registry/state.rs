//! [`State`], one version of everything that the registry knows.
//!
//! A state is immutable once it is published. The next version starts as its clone, which costs a few reference counts, and
//! shares all parts that the batch does not change. The cost of applying a [`Change`] is proportional to the size of its
//! service, however much else there is.

use std::sync::Arc;

use crate::model::{
    EpochMs, Instance, Namespace, NamespaceId, NamespaceKind, Operation, OperationId, OperationKey,
    OperationTargets, OperationType, PodSignals, Service, ServiceId, Signals,
    id::{id_in, operation_number, request_digest},
};

use super::{
    change::{Change, Event},
    error::RegistryError,
    numbering::Numbering,
};

/// Lowest order number of shadowed resources, far above every number that is given, so that they are listed last.
const SHADOWED_ORDER_MIN: u64 = 1 << 62;

const DELETED_NUMBERS_MAX: usize = 65_536;

/// One immutable version of all namespaces, services, instances, operations and signals about pods, with the indexes that find them.
/// Names in indexes are in lower case:
///
/// - `zones`: DNS namespaces by zone, without a final dot
/// - `lower_names`: services of DNS namespaces whose exact name is not in lower case
/// - `dotted`: services of DNS namespaces whose names have dots, reversed so that all services below another one are
///   neighbours
/// - `operation_numbers`: operations of a shared store, whose ids do not contain their numbers
/// - `pod_signals`: stored signals about pods by service and instance, including pods that are not known here
/// - `deleted_numbers`: with a shared store, revisions of deleted services and serials of deleted namespaces that are above
///   the floor, because a watch can deliver the deletion of a service, and its creation under the old id, after later
///   changes of its pods
#[derive(Clone, Default)]
pub struct State {
    namespaces: imbl::OrdMap<NamespaceId, Arc<NamespaceState>>,
    namespace_order: imbl::OrdMap<u64, NamespaceId>,
    http_names: imbl::OrdMap<Arc<str>, NamespaceId>,
    zones: imbl::OrdMap<Arc<str>, NamespaceId>,
    services: imbl::OrdMap<ServiceId, Arc<ServiceState>>,
    service_order: imbl::OrdMap<u64, ServiceId>,
    names: imbl::OrdMap<(NamespaceId, Arc<str>), ServiceId>,
    lower_names: imbl::OrdMap<(NamespaceId, Arc<str>), ServiceId>,
    dotted: imbl::OrdMap<(NamespaceId, Arc<str>), ServiceId>,
    operations: imbl::OrdMap<OperationKey, Arc<Operation>>,
    operation_numbers: imbl::OrdMap<OperationId, u64>,
    pod_signals: imbl::OrdMap<(ServiceId, Arc<str>), Arc<PodSignals>>,
    instance_count: usize,
    sequence: u64,
    numbering: Option<Numbering>,
    deleted_numbers: imbl::OrdMap<Arc<str>, u64>,
}

/// Changes that a store has loaded and that are applied together, which is cheaper: consecutive instances of one service,
/// and new services, which are only found by their ids until they are indexed.
#[derive(Default)]
pub(super) struct LoadBuffer {
    service: Option<ServiceId>,
    instances: Vec<Instance>,
    not_indexed: Vec<Arc<Service>>,
}

/// A namespace with the list of its services, which are sorted by their order of creation.
#[derive(Clone)]
#[expect(missing_docs, reason = "the field is the namespace")]
pub struct NamespaceState {
    pub namespace: Arc<Namespace>,
    services: imbl::OrdMap<u64, ServiceId>,
    /// With a shared store, the number of the last change of the zone.
    serial: u64,
}

#[expect(missing_docs, reason = "the names say what is returned; lists begin after the order number `after`")]
impl NamespaceState {
    pub fn service_count(&self) -> usize {
        self.services.len()
    }

    pub fn services_after(&self, after: Option<u64>) -> impl Iterator<Item = (&u64, &ServiceId)> {
        self.services.range((lower_bound(after), std::ops::Bound::Unbounded))
    }
}

/// A service with its revision and its instances, which are sorted by their ids.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the field is the service")]
pub struct ServiceState {
    pub service: Arc<Service>,
    instances: Vec<Instance>,
    revision: u64,
    is_private: bool,
    is_settling: bool,
    /// Number of the instances with details about their health, which most services have none of.
    detailed: usize,
}

#[expect(missing_docs, reason = "the names say what is returned; lists begin after the id `after`")]
impl ServiceState {
    pub fn instances(&self) -> &[Instance] {
        &self.instances
    }

    /// True if an instance has signals that are stored with it, or texts about the health of its pod.
    pub fn has_details(&self) -> bool {
        self.detailed > 0
    }

    /// True if its namespace is private.
    pub fn is_private(&self) -> bool {
        self.is_private
    }

    /// True while the policy `settling-ttl` limits the TTL of the answers.
    pub fn is_settling(&self) -> bool {
        self.is_settling
    }

    pub fn instances_after(&self, after: Option<&str>) -> &[Instance] {
        let start =
            after.map_or(0, |after| self.instances.partition_point(|instance| instance.id() <= after));
        &self.instances[start..]
    }

    pub fn instance(&self, id: &str) -> Result<&Instance, RegistryError> {
        match self.position(id) {
            Ok(at) => Ok(&self.instances[at]),
            Err(_) => Err(RegistryError::InstanceNotFound),
        }
    }

    /// InstancesRevision of DiscoverInstances. It grows whenever the set of instances or the attributes of one change, and
    /// over restarts too; health does not change it. At most 2^53 - 1, so that JavaScript clients read it exactly.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    fn position(&self, id: &str) -> Result<usize, usize> {
        self.instances.binary_search_by(|instance| instance.id().cmp(id))
    }
}

/// Lists are in order of creation, begin after the order number `after`, and contain each item with its order number. A
/// reference is an id or an ARN.
#[expect(missing_docs, reason = "methods without a document return what their name says")]
impl State {
    pub fn namespace(&self, reference: &str) -> Result<&Arc<NamespaceState>, RegistryError> {
        self.namespaces.get(id_in(reference, "namespace")).ok_or(RegistryError::NamespaceNotFound)
    }

    pub fn service(&self, reference: &str) -> Result<&Arc<ServiceState>, RegistryError> {
        self.services.get(id_in(reference, "service")).ok_or(RegistryError::ServiceNotFound)
    }

    pub fn operation(&self, id: &str) -> Result<&Arc<Operation>, RegistryError> {
        self.operation_numbers
            .get(id)
            .copied()
            .or_else(|| operation_number(id))
            .and_then(|number| self.operations.get(&OperationKey { number, id: id.into() }))
            .ok_or(RegistryError::OperationNotFound)
    }

    /// Ids of all services.
    pub fn service_ids(&self) -> impl Iterator<Item = ServiceId> {
        self.services.keys().cloned()
    }

    /// Time at which the API registered an instance, while that operation is kept.
    pub fn registered_ms(&self, service: &Service, instance: &Instance) -> Option<EpochMs> {
        if instance.is_watched() {
            return None;
        }
        let targets = OperationTargets::Instance {
            instance: instance.id().into(),
            service: service.id.clone(),
            namespace: service.namespace_id.clone(),
        };
        let registered =
            self.operation_of(instance.operation(), OperationType::RegisterInstance, &targets)?;
        Some(registered.created_ms)
    }

    /// Id of the operation with this number, type and targets, while it is kept.
    pub fn operation_id(
        &self,
        number: u64,
        operation_type: OperationType,
        targets: &OperationTargets,
    ) -> Option<&OperationId> {
        self.operation_of(number, operation_type, targets).map(|operation| &operation.id)
    }

    fn operation_of(
        &self,
        number: u64,
        operation_type: OperationType,
        targets: &OperationTargets,
    ) -> Option<&Operation> {
        let numbered = self.operations.range(OperationKey { number, id: "".into() }..);
        numbered
            .take_while(|(key, _)| key.number == number)
            .map(|(_, operation)| &**operation)
            .find(|operation| operation.operation_type == operation_type && operation.targets == *targets)
    }

    pub fn namespace_by_http_name(&self, name: &str) -> Option<&Arc<NamespaceState>> {
        self.namespaces.get(self.http_names.get(name)?)
    }

    /// Finds a namespace as DiscoverInstances does, by its HttpName. For namespaces in DNS, the case of ASCII letters does
    /// not matter.
    pub fn namespace_by_name(&self, name: &str) -> Option<&Arc<NamespaceState>> {
        self.namespace_by_http_name(name).or_else(|| {
            let found = self.namespace_by_zone(&zone_key(name))?;
            found.namespace.http_name.eq_ignore_ascii_case(name).then_some(found)
        })
    }

    /// HttpName for a new namespace: its name, followed by its id if another namespace has that HttpName.
    pub(super) fn free_http_name(&self, name: &str, id: &NamespaceId) -> String {
        let mut http_name = name.to_string();
        while self.namespace_by_http_name(&http_name).is_some() {
            http_name = format!("{http_name}-{}", id.as_str().trim_start_matches("ns-"));
        }
        http_name
    }

    /// Finds the DNS namespace of a zone. The zone's name is in lower case and without a final dot, see [`zone_key`].
    pub fn namespace_by_zone(&self, zone: &str) -> Option<&Arc<NamespaceState>> {
        self.namespaces.get(self.zones.get(zone)?)
    }

    /// The name under which DNS serves a service, or would serve it: with that of its namespace and without a final dot.
    /// `None` if the namespace is not known.
    pub fn full_name(&self, service: &Service) -> Option<String> {
        let zone = self.namespaces.get(&service.namespace_id)?.namespace.name.trim_end_matches('.');
        Some(match service.name.as_str() {
            "." => zone.to_string(),
            name => format!("{name}.{zone}"),
        })
    }

    /// Finds a service of a namespace by its name. For services in DNS, the case of ASCII letters does not matter.
    pub fn service_by_name(&self, namespace: &NamespaceId, name: &str) -> Option<&Arc<ServiceState>> {
        let exact = self.names.get(&(namespace.clone(), name.into()));
        match exact {
            Some(id) => self.services.get(id),
            None => self.service_in_dns(namespace, &name.to_ascii_lowercase()),
        }
    }

    /// Finds the service that DNS serves under this name in a namespace's zone. The name is in lower case.
    pub fn service_in_dns(&self, namespace: &NamespaceId, name: &str) -> Option<&Arc<ServiceState>> {
        self.service_in_any_case(namespace, name).filter(|state| !state.service.api_only)
    }

    /// Finds the service of a DNS namespace that has this name in any case of letters, whether DNS serves it or not. The
    /// name is in lower case.
    pub fn service_in_any_case(&self, namespace: &NamespaceId, name: &str) -> Option<&Arc<ServiceState>> {
        let key = (namespace.clone(), name.into());
        self.services.get(self.lower_names.get(&key).or_else(|| self.names.get(&key))?)
    }

    /// Returns true if names of the service's instances in DNS could be those of another service or of its instances: one of
    /// the services is below the other, or one is at the apex (`.`).
    pub fn nests(&self, service: &Service) -> bool {
        let namespace = &service.namespace_id;
        let is_there = |name: &str| self.service_in_dns(namespace, name).is_some();
        if service.name == "." {
            return self.namespace(namespace.as_str()).is_ok_and(|state| state.service_count() > 1);
        }
        let name = service.name.to_ascii_lowercase();
        is_there(".")
            || name.match_indices('.').any(|(dot, _)| is_there(&name[dot + 1..]))
            || self.services_below(namespace, &name).next().is_some()
    }

    /// Services below a name, that is, whose names end in a dot and this name. The name is in lower case.
    fn services_below(&self, namespace: &NamespaceId, name: &str) -> impl Iterator<Item = &ServiceId> {
        let prefix: Arc<str> = format!("{}.", reversed(name)).into();
        let start = (namespace.clone(), prefix.clone());
        let namespace = namespace.clone();
        let all = self.dotted.range(start..);
        let below =
            all.take_while(move |((other, name), _)| *other == namespace && name.starts_with(&*prefix));
        below.map(|(_, id)| id)
    }

    /// All services for which [`State::nests`] is true, some of them more than once.
    pub(super) fn nesting_services(&self) -> Vec<ServiceId> {
        let dotted = self.dotted.values().filter_map(|id| self.services.get(id));
        let nesting = dotted.filter(|state| self.nests(&state.service)).flat_map(|state| {
            let name = state.service.name.to_ascii_lowercase();
            let above = name.match_indices('.').filter_map(|(dot, _)| {
                let found = self.service_in_dns(&state.service.namespace_id, &name[dot + 1..])?;
                Some(found.service.id.clone())
            });
            above.chain([state.service.id.clone()]).collect::<Vec<_>>()
        });
        let with_apex = self.namespaces.values().filter(|state| {
            state.service_count() > 1 && self.service_in_dns(&state.namespace.id, ".").is_some()
        });
        let beside_apex = with_apex.flat_map(|state| state.services.values().cloned());
        nesting.chain(beside_apex).collect()
    }

    pub fn namespaces_after(&self, after: Option<u64>) -> impl Iterator<Item = (u64, &Arc<NamespaceState>)> {
        self.namespace_order
            .range((lower_bound(after), std::ops::Bound::Unbounded))
            .filter_map(|(number, id)| Some((*number, self.namespaces.get(id)?)))
    }

    pub fn services_after(&self, after: Option<u64>) -> impl Iterator<Item = (u64, &Arc<ServiceState>)> {
        self.service_order
            .range((lower_bound(after), std::ops::Bound::Unbounded))
            .filter_map(|(number, id)| Some((*number, self.services.get(id)?)))
    }

    pub fn shadowed_namespaces(&self) -> impl Iterator<Item = &Arc<NamespaceState>> {
        self.namespaces_after(Some(SHADOWED_ORDER_MIN - 1)).map(|(_, state)| state)
    }

    pub fn shadowed_services(&self) -> impl Iterator<Item = &Arc<ServiceState>> {
        self.services_after(Some(SHADOWED_ORDER_MIN - 1)).map(|(_, state)| state)
    }

    pub fn operations_after(
        &self,
        after: Option<OperationKey>,
    ) -> impl Iterator<Item = (&OperationKey, &Arc<Operation>)> {
        self.operations.range((lower_bound(after), std::ops::Bound::Unbounded))
    }

    pub fn operation_count(&self) -> usize {
        self.operations.len()
    }

    pub fn namespace_count(&self) -> usize {
        self.namespaces.len()
    }

    pub fn service_count(&self) -> usize {
        self.services.len()
    }

    pub fn instance_count(&self) -> usize {
        self.instance_count
    }

    /// Last number that was given to an operation, a revision or a resource's order of creation.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Numbering of the shared store; `None` with a store of one server.
    pub fn numbering(&self) -> Option<Numbering> {
        self.numbering
    }

    /// Number of the last change of a namespace's zone. Different contents have different numbers, and at all servers of a
    /// shared store an equal number means equal contents (see `registry/numbering.rs`).
    pub fn serial(&self, namespace: &NamespaceId) -> u64 {
        match self.numbering {
            Some(numbering) => self.namespaces.get(namespace).map_or(numbering.floor, |state| state.serial),
            None => self.sequence,
        }
    }

    /// Stored signals about the pod that is the service's instance of this id. They only apply if that instance is the pod
    /// that they are about.
    pub fn pod_signals(&self, service: &ServiceId, instance: &str) -> Option<&Arc<PodSignals>> {
        // There are nearly always no such signals. Avoid the allocation of a key then.
        let is_any = !self.pod_signals.is_empty();
        is_any.then(|| self.pod_signals.get(&(service.clone(), instance.into()))).flatten()
    }

    pub fn all_pod_signals(&self) -> impl Iterator<Item = (&ServiceId, &str, &Arc<PodSignals>)> {
        self.pod_signals.iter().map(|((service, instance), signals)| (service, &**instance, signals))
    }

    /// Returns the stored signals about an instance. Those about earlier pods of its id are left out.
    pub fn signals(&self, service: &ServiceId, instance: &Instance) -> Signals {
        let Some(uid) = instance.pod_uid() else { return instance.signals() };
        let found = self.pod_signals(service, instance.id()).filter(|found| found.pod_uid == uid);
        found.map(|found| found.signals.clone()).unwrap_or_default()
    }

    /// Returns the instance with the stored signals about its pod. Those about earlier pods of its id are left out.
    pub(super) fn with_pod_signals(&self, service: &ServiceId, instance: Instance) -> Instance {
        let Some(uid) = instance.pod_uid() else { return instance };
        let found = self.pod_signals(service, instance.id()).filter(|found| found.pod_uid == uid);
        match found {
            Some(found) => instance.with_pod_signals(&found.signals),
            None => instance.with_pod_signals(&Signals::default()),
        }
    }

    /// Applies one change. A change of a resource that does not exist is ignored.
    pub fn apply(&mut self, change: &Change) {
        match change {
            Change::PutNamespace(namespace) => self.put_namespace(namespace),
            Change::DeleteNamespace(id) => self.delete_namespace(id),
            Change::ForgetNamespace(id) => self.forget_namespace(id),
            Change::PutService(service) => self.put_service(service),
            Change::DeleteService(id) => self.delete_service(id),
            Change::ForgetService(id) => self.forget_service(id),
            Change::PutInstance(service, instance) => self.put_instance(service, instance),
            Change::DeleteInstance(service, id) => self.delete_instance(service, id, false),
            Change::ForgetInstance(service, id) => self.delete_instance(service, id, true),
            Change::PutPodSignals(service, id, signals) => {
                self.pod_signals.insert((service.clone(), (&**id).into()), signals.clone());
                self.join_pod_signals(service, id);
            }
            Change::DropPodSignals(service, id) => {
                self.pod_signals.remove(&(service.clone(), Arc::from(&**id)));
                self.join_pod_signals(service, id);
            }
            Change::PutRevision(service, revision) => {
                if let Some(state) = self.services.get_mut(service).filter(|state| state.revision < *revision)
                {
                    Arc::make_mut(state).revision = *revision;
                }
            }
            Change::PutSerial(namespace, serial) => {
                if let Some(state) = self.namespaces.get_mut(namespace).filter(|state| state.serial < *serial)
                {
                    Arc::make_mut(state).serial = *serial;
                }
                self.sequence = self.sequence.max(*serial);
            }
            Change::PutNumbering(numbering) => self.put_numbering(*numbering),
            Change::PutOperation(operation) => {
                if operation_number(operation.id.as_str()) != Some(operation.number) {
                    self.operation_numbers.insert(operation.id.clone(), operation.number);
                }
                self.operations.insert(operation.key(), operation.clone());
            }
            Change::DropOperation(key) => {
                self.operations.remove(key);
                self.operation_numbers.remove(&key.id);
            }
            Change::PutSequence(sequence) => self.sequence = self.sequence.max(*sequence),
        }
    }

    pub(super) fn set_settling(&mut self, service: &ServiceId, is_settling: bool) {
        if let Some(state) = self.services.get_mut(service).filter(|state| state.is_settling != is_settling) {
            Arc::make_mut(state).is_settling = is_settling;
        }
    }

    fn put_namespace(&mut self, namespace: &Arc<Namespace>) {
        if let Some(state) = self.namespaces.get_mut(&namespace.id) {
            let old = std::mem::replace(&mut Arc::make_mut(state).namespace, namespace.clone());
            // Name and kind never change. The order does, if a shared store has another object for the namespace.
            if old.operation != namespace.operation {
                self.namespace_order.remove(&old.operation);
                self.namespace_order.insert(namespace.operation, namespace.id.clone());
            }
            if old.http_name != namespace.http_name {
                if self.http_names.get(&*old.http_name) == Some(&namespace.id) {
                    self.http_names.remove(&*old.http_name);
                }
                self.http_names.insert(namespace.http_name.as_str().into(), namespace.id.clone());
            }
            return;
        }
        let id = &namespace.id;
        self.namespace_order.insert(namespace.operation, id.clone());
        self.http_names.insert(namespace.http_name.as_str().into(), id.clone());
        if namespace.is_dns() {
            self.zones.insert(zone_key(&namespace.name), id.clone());
        }
        let serial =
            self.numbering.map_or(0, |numbering| numbering.floor).max(self.take_deleted_number(id.as_str()));
        let state = NamespaceState { namespace: namespace.clone(), services: imbl::OrdMap::new(), serial };
        self.namespaces.insert(id.clone(), Arc::new(state));
    }

    fn delete_namespace(&mut self, id: &NamespaceId) {
        let Some(state) = self.namespaces.remove(id) else { return };
        self.keep_deleted_number(id.as_str(), state.serial);
        self.namespace_order.remove(&state.namespace.operation);
        self.http_names.remove(&*state.namespace.http_name);
        if state.namespace.is_dns() {
            self.zones.remove(&zone_key(&state.namespace.name));
        }
    }

    fn forget_namespace(&mut self, id: &NamespaceId) {
        if self.namespaces.get(id).is_some_and(|state| state.namespace.origin.is_shadowed()) {
            self.delete_namespace(id);
        }
    }

    fn put_service(&mut self, service: &Arc<Service>) {
        if let Some(state) = self.services.get_mut(&service.id) {
            let old = std::mem::replace(&mut Arc::make_mut(state).service, service.clone());
            if old.sequence != service.sequence {
                self.service_order.remove(&old.sequence);
                self.service_order.insert(service.sequence, service.id.clone());
                if let Some(namespace) = self.namespaces.get_mut(&service.namespace_id) {
                    let services = &mut Arc::make_mut(namespace).services;
                    services.remove(&old.sequence);
                    services.insert(service.sequence, service.id.clone());
                }
            }
            return;
        }
        self.insert_service(service);
        self.index_service(service);
    }

    /// Adds a service under its id only; [`State::index_service`] adds it to the other indexes.
    fn insert_service(&mut self, service: &Arc<Service>) {
        let revision = match self.numbering {
            // The order number of a shadowed service is no number of the store.
            Some(numbering) if service.origin.is_shadowed() => numbering.floor,
            Some(numbering) => numbering.floor.max(service.made_at()),
            None => service.made_at(),
        };
        let revision = revision.max(self.take_deleted_number(service.id.as_str()));
        let state = ServiceState {
            service: service.clone(),
            instances: Vec::new(),
            revision,
            is_private: self.is_private(&service.namespace_id),
            is_settling: false,
            detailed: 0,
        };
        self.services.insert(service.id.clone(), Arc::new(state));
    }

    fn is_private(&self, namespace: &NamespaceId) -> bool {
        let found = self.namespaces.get(namespace);
        found.is_some_and(|found| matches!(found.namespace.kind, NamespaceKind::DnsPrivate { .. }))
    }

    fn index_service(&mut self, service: &Service) {
        let id = &service.id;
        // A store may have loaded the namespace after the service.
        let is_private = self.is_private(&service.namespace_id);
        if let Some(state) = self.services.get_mut(id).filter(|state| state.is_private != is_private) {
            Arc::make_mut(state).is_private = is_private;
        }
        if let Some(namespace) = self.namespaces.get_mut(&service.namespace_id) {
            Arc::make_mut(namespace).services.insert(service.sequence, id.clone());
        }
        self.service_order.insert(service.sequence, id.clone());
        self.names.insert((service.namespace_id.clone(), service.name.as_str().into()), id.clone());
        if let Some(key) = self.lower_key(service) {
            self.lower_names.insert(key, id.clone());
        }
        if let Some(key) = self.dotted_key(service) {
            self.dotted.insert(key, id.clone());
        }
    }

    fn delete_service(&mut self, id: &ServiceId) {
        let Some(state) = self.services.remove(id) else { return };
        self.keep_deleted_number(id.as_str(), state.revision);
        let service = &state.service;
        if let Some(namespace) = self.namespaces.get_mut(&service.namespace_id) {
            Arc::make_mut(namespace).services.remove(&service.sequence);
        }
        self.service_order.remove(&service.sequence);
        self.names.remove(&(service.namespace_id.clone(), service.name.as_str().into()));
        if let Some(key) = self.lower_key(service) {
            self.lower_names.remove(&key);
        }
        if let Some(key) = self.dotted_key(service) {
            self.dotted.remove(&key);
        }
        self.instance_count -= state.instances.len();
    }

    fn forget_service(&mut self, id: &ServiceId) {
        if self.services.get(id).is_some_and(|state| state.service.origin.is_shadowed()) {
            self.delete_service(id);
        }
    }

    fn lower_key(&self, service: &Service) -> Option<(NamespaceId, Arc<str>)> {
        let lower = service.name.to_ascii_lowercase();
        (lower != service.name && self.is_dns(service)).then(|| (service.namespace_id.clone(), lower.into()))
    }

    fn dotted_key(&self, service: &Service) -> Option<(NamespaceId, Arc<str>)> {
        let is_dotted = service.name != "." && service.name.contains('.') && self.is_dns(service);
        is_dotted.then(|| (service.namespace_id.clone(), reversed(&service.name).into()))
    }

    fn is_dns(&self, service: &Service) -> bool {
        self.namespaces.get(&service.namespace_id).is_some_and(|state| state.namespace.is_dns())
    }

    fn join_pod_signals(&mut self, service: &ServiceId, id: &str) {
        let instance = self.services.get(service).and_then(|state| state.instance(id).ok());
        if let Some(instance) = instance.filter(|instance| instance.is_watched()).cloned() {
            self.put_instance(service, &instance);
        }
    }

    fn put_instance(&mut self, service: &ServiceId, instance: &Instance) {
        let instance = &self.with_pod_signals(service, instance.clone());
        let Some(state) = self.services.get_mut(service) else { return };
        let state = Arc::make_mut(state);
        match state.position(instance.id()) {
            // A pod keeps its id, even if another replica or kubectl has stored an instance under that id.
            Ok(at) if state.instances[at].is_watched() && !instance.is_watched() => {}
            Ok(at) => {
                let old = std::mem::replace(&mut state.instances[at], instance.clone());
                state.detailed += usize::from(instance.has_details());
                state.detailed -= usize::from(old.has_details());
            }
            Err(at) => {
                // Grow small lists by one: there can be a million services with few instances each, and doubling would
                // waste memory.
                if state.instances.len() < 8 {
                    state.instances.reserve_exact(1);
                }
                state.instances.insert(at, instance.clone());
                state.detailed += usize::from(instance.has_details());
                self.instance_count += 1;
            }
        }
    }

    /// Applies one change of a store that is being loaded. Consecutive instances of one service are buffered and added
    /// together, which is cheapest if they are sorted by id. New services are only found by their ids until
    /// [`State::end_loading`]. Adds to `events` the resources that became complete, or that changed again.
    pub(super) fn load(&mut self, change: Change, buffer: &mut LoadBuffer, events: &mut Vec<Event>) {
        if !matches!(&change, Change::PutInstance(service, _) if buffer.service.as_ref() == Some(service)) {
            self.add_buffered_instances(buffer, events);
        }
        match change {
            Change::PutInstance(service, instance) => {
                buffer.service = Some(service);
                buffer.instances.push(instance);
                return;
            }
            Change::PutService(service) if !self.services.contains_key(&service.id) => {
                self.insert_service(&service);
                buffer.not_indexed.push(service);
                return;
            }
            _ => {}
        }
        let event = change.event();
        if let Some(Event::Service(_)) = event {
            self.index_buffered_services(buffer);
        }
        self.apply(&change);
        events.extend(event);
    }

    pub(super) fn end_loading(&mut self, buffer: &mut LoadBuffer, events: &mut Vec<Event>) {
        self.index_buffered_services(buffer);
        self.add_buffered_instances(buffer, events);
    }

    fn index_buffered_services(&mut self, buffer: &mut LoadBuffer) {
        buffer.not_indexed.drain(..).for_each(|service| self.index_service(&service));
    }

    fn add_buffered_instances(&mut self, buffer: &mut LoadBuffer, events: &mut Vec<Event>) {
        let Some(service) = buffer.service.take() else { return };
        let is_sorted = buffer.instances.is_sorted_by(|one, other| one.id() < other.id());
        match self.services.get_mut(&service) {
            Some(state) if is_sorted && state.instances.is_empty() => {
                self.instance_count += buffer.instances.len();
                let state = Arc::make_mut(state);
                state.instances = buffer.instances.as_slice().into();
                state.detailed = state.instances.iter().filter(|instance| instance.has_details()).count();
            }
            _ => buffer.instances.iter().for_each(|instance| self.put_instance(&service, instance)),
        }
        buffer.instances.clear();
        events.push(Event::Service(service));
    }

    pub(super) fn services_without_instances(&self) -> impl Iterator<Item = ServiceId> {
        let services = self.services.iter().filter(|(_, state)| state.instances.is_empty());
        services.map(|(id, _)| id.clone())
    }

    /// A service or namespace that is created again must not have a smaller number than before its deletion.
    fn keep_deleted_number(&mut self, id: &str, number: u64) {
        let is_above = self.numbering.is_some_and(|numbering| number > numbering.floor);
        if is_above && self.deleted_numbers.len() < DELETED_NUMBERS_MAX {
            self.deleted_numbers.insert(id.into(), number);
        }
    }

    /// Takes the number that a service or namespace had before it was deleted; 0 if none was kept.
    fn take_deleted_number(&mut self, id: &str) -> u64 {
        self.deleted_numbers.remove(id).unwrap_or(0)
    }

    fn put_numbering(&mut self, numbering: Numbering) {
        let before = self.numbering.unwrap_or_default();
        let numbering = before.max(numbering);
        self.numbering = Some(numbering);
        if numbering.floor == before.floor {
            return;
        }
        self.sequence = self.sequence.max(numbering.floor);
        let above = self.deleted_numbers.iter().filter(|(_, number)| **number > numbering.floor);
        self.deleted_numbers = above.map(|(id, number)| (id.clone(), *number)).collect();
        self.raise_revisions(numbering.floor);
        let ids: Vec<NamespaceId> = self.namespaces.keys().cloned().collect();
        ids.into_iter().for_each(|id| self.apply(&Change::PutSerial(id, numbering.floor)));
    }

    pub(super) fn raise_revisions(&mut self, revision: u64) {
        let ids: Vec<ServiceId> = self.services.keys().cloned().collect();
        for id in ids {
            if let Some(state) = self.services.get_mut(&id).filter(|state| state.revision < revision) {
                Arc::make_mut(state).revision = revision;
            }
        }
    }

    fn delete_instance(&mut self, service: &ServiceId, id: &str, is_watched: bool) {
        let Some(state) = self.services.get_mut(service) else { return };
        if let Ok(at) = state.position(id)
            && state.instances[at].is_watched() == is_watched
        {
            let state = Arc::make_mut(state);
            let removed = state.instances.remove(at);
            state.detailed -= usize::from(removed.has_details());
            self.instance_count -= 1;
        }
    }
}

/// Key of a zone for [`State::namespace_by_zone`]: its name in lower case, without a final dot.
pub fn zone_key(name: &str) -> Arc<str> {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase().into()
}

/// Order number of a shadowed namespace or service. It is above those of all other resources, and equal at all replicas
/// because it follows from the id.
pub(super) fn shadowed_order(id: &str) -> u64 {
    SHADOWED_ORDER_MIN | (request_digest(&id) >> 2)
}

fn reversed(name: &str) -> String {
    name.chars().rev().map(|character| character.to_ascii_lowercase()).collect()
}

fn lower_bound<K>(after: Option<K>) -> std::ops::Bound<K> {
    after.map_or(std::ops::Bound::Unbounded, std::ops::Bound::Excluded)
}
