//! One version of everything that the registry knows.
//!
//! A [`State`] is immutable once it is published. The next version starts as its clone, which costs a few
//! reference counts, and shares everything that the batch does not touch. Applying a [`Change`] costs
//! O(its service), whatever else there is.

use std::sync::Arc;

use crate::model::{
    HealthReport, Instance, Namespace, NamespaceId, Operation, OperationId, OperationKey, OperationTargets,
    OperationType, Service, ServiceId,
    id::{id_in, operation_number, request_digest},
};

use super::{
    change::{Change, Event},
    error::RegistryError,
    numbering::Numbering,
};

/// Where the places of what is shadowed begin: no number that is ever given comes near.
const SHADOWED_PLACES: u64 = 1 << 62;

/// Services and namespaces that are gone whose numbers are kept.
const GONE_MAX: usize = 65_536;

/// One version of everything.
#[derive(Clone, Default)]
pub struct State {
    namespaces: imbl::OrdMap<NamespaceId, Arc<NamespaceState>>,
    namespace_order: imbl::OrdMap<u64, NamespaceId>,
    http_names: imbl::OrdMap<Arc<str>, NamespaceId>,
    /// DNS namespaces by their zone: lower case, without a final dot.
    zones: imbl::OrdMap<Arc<str>, NamespaceId>,
    services: imbl::OrdMap<ServiceId, Arc<ServiceState>>,
    service_order: imbl::OrdMap<u64, ServiceId>,
    /// By namespace and exact name.
    names: imbl::OrdMap<(NamespaceId, Arc<str>), ServiceId>,
    /// By namespace and name in lower case, for services of DNS namespaces whose name is not in lower case.
    lower_names: imbl::OrdMap<(NamespaceId, Arc<str>), ServiceId>,
    /// Services of DNS namespaces whose names have dots, by namespace and name in lower case and reversed: services below
    /// another one are neighbours.
    dotted: imbl::OrdMap<(NamespaceId, Arc<str>), ServiceId>,
    operations: imbl::OrdMap<OperationKey, Arc<Operation>>,
    /// The numbers of operations whose ids do not tell them, which those of a shared store do not.
    operation_numbers: imbl::OrdMap<OperationId, u64>,
    /// Reports about pods by service and instance, also of pods that are not known here.
    reports: imbl::OrdMap<(ServiceId, Arc<str>), Arc<HealthReport>>,
    instance_count: usize,
    sequence: u64,
    /// The numbers of a shared store; `None` with a store of one server.
    numbering: Option<Numbering>,
    /// With a shared store, revisions of services and serials of namespaces that are gone, where they are above the floor: a
    /// watch can show the deletion of a service, and its creation under the same id, after later changes of its pods.
    gone: imbl::OrdMap<Arc<str>, u64>,
}

/// Instances of one service that a store has loaded one after the other.
#[derive(Default)]
pub(super) struct Run {
    service: Option<ServiceId>,
    instances: Vec<Instance>,
    /// Services that are found by their ids alone.
    not_indexed: Vec<Arc<Service>>,
}

/// A namespace and the services in it.
#[derive(Clone)]
pub struct NamespaceState {
    /// The namespace itself.
    pub namespace: Arc<Namespace>,
    /// Its services, in order of creation.
    services: imbl::OrdMap<u64, ServiceId>,
    /// The number of the last change of its zone, with a shared store.
    serial: u64,
}

impl NamespaceState {
    /// How many services it has.
    pub fn service_count(&self) -> usize {
        self.services.len()
    }

    /// Its services in order of creation, those after number `after`.
    pub fn services_after(&self, after: Option<u64>) -> impl Iterator<Item = (&u64, &ServiceId)> {
        self.services.range((lower_bound(after), std::ops::Bound::Unbounded))
    }
}

/// A service and its instances.
#[derive(Clone, Debug)]
pub struct ServiceState {
    /// The service itself.
    pub service: Arc<Service>,
    /// In order of their ids.
    instances: Vec<Instance>,
    revision: u64,
}

impl ServiceState {
    /// Its instances in order of their ids.
    pub fn instances(&self) -> &[Instance] {
        &self.instances
    }

    /// Its instances in order of their ids, those after `after`.
    pub fn instances_after(&self, after: Option<&str>) -> &[Instance] {
        let start =
            after.map_or(0, |after| self.instances.partition_point(|instance| instance.id() <= after));
        &self.instances[start..]
    }

    /// The instance of this id.
    pub fn instance(&self, id: &str) -> Result<&Instance, RegistryError> {
        match self.position(id) {
            Ok(at) => Ok(&self.instances[at]),
            Err(_) => Err(RegistryError::InstanceNotFound),
        }
    }

    /// Grows whenever the set of instances or one's attributes change, also over restarts; at most
    /// 2^53 - 1, so that JavaScript clients read it exactly. Health does not change it.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    fn position(&self, id: &str) -> Result<usize, usize> {
        self.instances.binary_search_by(|instance| instance.id().cmp(id))
    }
}

impl State {
    /// The namespace of an id or ARN.
    pub fn namespace(&self, reference: &str) -> Result<&Arc<NamespaceState>, RegistryError> {
        self.namespaces.get(id_in(reference, "namespace")).ok_or(RegistryError::NamespaceNotFound)
    }

    /// The service of an id or ARN.
    pub fn service(&self, reference: &str) -> Result<&Arc<ServiceState>, RegistryError> {
        self.services.get(id_in(reference, "service")).ok_or(RegistryError::ServiceNotFound)
    }

    /// The operation of an id.
    pub fn operation(&self, id: &str) -> Result<&Arc<Operation>, RegistryError> {
        self.operation_numbers
            .get(id)
            .copied()
            .or_else(|| operation_number(id))
            .and_then(|number| self.operations.get(&OperationKey { number, id: id.into() }))
            .ok_or(RegistryError::OperationNotFound)
    }

    /// The id of the operation with this number, type and targets, while it is kept.
    pub fn operation_id(
        &self,
        number: u64,
        operation_type: OperationType,
        targets: &OperationTargets,
    ) -> Option<&OperationId> {
        let numbered = self.operations.range(OperationKey { number, id: "".into() }..);
        numbered
            .take_while(|(key, _)| key.number == number)
            .map(|(_, operation)| operation)
            .find(|operation| operation.operation_type == operation_type && operation.targets == *targets)
            .map(|operation| &operation.id)
    }

    /// The namespace that DiscoverInstances means by this name.
    pub fn namespace_by_http_name(&self, name: &str) -> Option<&Arc<NamespaceState>> {
        self.namespaces.get(self.http_names.get(name)?)
    }

    /// The namespace that DiscoverInstances means by a name: an HttpName. The case of ASCII letters does not matter for
    /// namespaces that DNS can find.
    pub fn namespace_by_name(&self, name: &str) -> Option<&Arc<NamespaceState>> {
        self.namespace_by_http_name(name).or_else(|| {
            let found = self.namespace_by_zone(&zone_key(name))?;
            found.namespace.http_name.eq_ignore_ascii_case(name).then_some(found)
        })
    }

    /// The HttpName that a new namespace gets: its name, with its id behind while another one has that.
    pub(super) fn free_http_name(&self, name: &str, id: &NamespaceId) -> String {
        let mut http_name = name.to_string();
        while self.namespace_by_http_name(&http_name).is_some() {
            http_name = format!("{http_name}-{}", id.as_str().trim_start_matches("ns-"));
        }
        http_name
    }

    /// The DNS namespace whose zone has this name: lower case, without a final dot.
    pub fn namespace_by_zone(&self, zone: &str) -> Option<&Arc<NamespaceState>> {
        self.namespaces.get(self.zones.get(zone)?)
    }

    /// The service that has this name in a namespace. The case of ASCII letters does not matter for
    /// services that DNS can find.
    pub fn service_by_name(&self, namespace: &NamespaceId, name: &str) -> Option<&Arc<ServiceState>> {
        let exact = self.names.get(&(namespace.clone(), name.into()));
        match exact {
            Some(id) => self.services.get(id),
            None => self.service_in_dns(namespace, &name.to_ascii_lowercase()),
        }
    }

    /// The service that DNS finds by this name in a namespace's zone; the name is in lower case.
    pub fn service_in_dns(&self, namespace: &NamespaceId, name: &str) -> Option<&Arc<ServiceState>> {
        self.service_in_any_case(namespace, name).filter(|state| !state.service.api_only)
    }

    /// The service of a DNS namespace that has this name but for the case of its letters; the name is in lower case.
    pub fn service_in_any_case(&self, namespace: &NamespaceId, name: &str) -> Option<&Arc<ServiceState>> {
        let key = (namespace.clone(), name.into());
        self.services.get(self.lower_names.get(&key).or_else(|| self.names.get(&key))?)
    }

    /// True if names of the service's instances could be names of other services in DNS or of their instances: one
    /// service's name ends in the other's, or one is `.`.
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

    /// The services whose names end in a dot and this name, which is in lower case.
    fn services_below(&self, namespace: &NamespaceId, name: &str) -> impl Iterator<Item = &ServiceId> {
        let prefix: Arc<str> = format!("{}.", reversed(name)).into();
        let start = (namespace.clone(), prefix.clone());
        let namespace = namespace.clone();
        let all = self.dotted.range(start..);
        let below =
            all.take_while(move |((other, name), _)| *other == namespace && name.starts_with(&*prefix));
        below.map(|(_, id)| id)
    }

    /// The services for which [`State::nests`] is true, some of them twice.
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

    /// All namespaces in order of creation, those after number `after`.
    pub fn namespaces_after(&self, after: Option<u64>) -> impl Iterator<Item = (u64, &Arc<NamespaceState>)> {
        self.namespace_order
            .range((lower_bound(after), std::ops::Bound::Unbounded))
            .filter_map(|(number, id)| Some((*number, self.namespaces.get(id)?)))
    }

    /// All services in order of creation, those after number `after`.
    pub fn services_after(&self, after: Option<u64>) -> impl Iterator<Item = (u64, &Arc<ServiceState>)> {
        self.service_order
            .range((lower_bound(after), std::ops::Bound::Unbounded))
            .filter_map(|(number, id)| Some((*number, self.services.get(id)?)))
    }

    /// The namespaces that are shadowed.
    pub fn shadowed_namespaces(&self) -> impl Iterator<Item = &Arc<NamespaceState>> {
        self.namespaces_after(Some(SHADOWED_PLACES - 1)).map(|(_, state)| state)
    }

    /// The services that are shadowed.
    pub fn shadowed_services(&self) -> impl Iterator<Item = &Arc<ServiceState>> {
        self.services_after(Some(SHADOWED_PLACES - 1)).map(|(_, state)| state)
    }

    /// All operations that are kept, the oldest first, those after `after`.
    pub fn operations_after(
        &self,
        after: Option<OperationKey>,
    ) -> impl Iterator<Item = (&OperationKey, &Arc<Operation>)> {
        self.operations.range((lower_bound(after), std::ops::Bound::Unbounded))
    }

    /// How many operations are kept.
    pub fn operation_count(&self) -> usize {
        self.operations.len()
    }

    /// How many namespaces there are.
    pub fn namespace_count(&self) -> usize {
        self.namespaces.len()
    }

    /// How many services there are in all namespaces.
    pub fn service_count(&self) -> usize {
        self.services.len()
    }

    /// How many instances there are in all services.
    pub fn instance_count(&self) -> usize {
        self.instance_count
    }

    /// The last number that was given to an operation, revision or place in creation order.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// The numbers of the shared store; `None` with a store of one server.
    pub fn numbering(&self) -> Option<Numbering> {
        self.numbering
    }

    /// The number of the last change of a namespace's zone: contents that differ have different ones, and at all servers
    /// of a shared store equal numbers mean equal contents (see `registry/numbering.rs`).
    pub fn serial(&self, namespace: &NamespaceId) -> u64 {
        match self.numbering {
            Some(numbering) => self.namespaces.get(namespace).map_or(numbering.floor, |state| state.serial),
            None => self.sequence,
        }
    }

    /// The report about the service's instance of this id. It counts only while that instance is the report's pod.
    pub fn report(&self, service: &ServiceId, instance: &str) -> Option<&Arc<HealthReport>> {
        // Nearly always there are none: then no key has to be made.
        (!self.reports.is_empty()).then(|| self.reports.get(&(service.clone(), instance.into()))).flatten()
    }

    /// All reports about pods, with service and instance.
    pub fn reports(&self) -> impl Iterator<Item = (&ServiceId, &str, &Arc<HealthReport>)> {
        self.reports.iter().map(|((service, instance), report)| (service, &**instance, report))
    }

    /// A pod's instance with the status that was reported of this very pod.
    pub(super) fn with_report(&self, service: &ServiceId, instance: Instance) -> Instance {
        let Some(uid) = instance.pod_uid() else { return instance };
        let report = self.report(service, instance.id()).filter(|report| report.pod_uid == uid);
        instance.with_custom_health(report.map(|report| report.status))
    }

    /// Makes one change. What it refers to but is not there is passed over: changes are absolute.
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
            Change::PutReport(service, id, report) => {
                self.reports.insert((service.clone(), (&**id).into()), report.clone());
                self.join_report(service, id);
            }
            Change::DropReport(service, id) => {
                self.reports.remove(&(service.clone(), Arc::from(&**id)));
                self.join_report(service, id);
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

    fn put_namespace(&mut self, namespace: &Arc<Namespace>) {
        if let Some(state) = self.namespaces.get_mut(&namespace.id) {
            let old = std::mem::replace(&mut Arc::make_mut(state).namespace, namespace.clone());
            // Name and kind never change; the place does, when a shared store has another object for it.
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
        let serial = self.numbering.map_or(0, |numbering| numbering.floor).max(self.recall(id.as_str()));
        let state = NamespaceState { namespace: namespace.clone(), services: imbl::OrdMap::new(), serial };
        self.namespaces.insert(id.clone(), Arc::new(state));
    }

    fn delete_namespace(&mut self, id: &NamespaceId) {
        let Some(state) = self.namespaces.remove(id) else { return };
        self.remember(id.as_str(), state.serial);
        self.namespace_order.remove(&state.namespace.operation);
        self.http_names.remove(&*state.namespace.http_name);
        if state.namespace.is_dns() {
            self.zones.remove(&zone_key(&state.namespace.name));
        }
    }

    /// Removes the namespace, when it is a shadowed one.
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
        self.place_service(service);
        self.index_service(service);
    }

    /// Adds a service, to be found by its id alone; [`State::index_service`] adds the other keys.
    fn place_service(&mut self, service: &Arc<Service>) {
        let revision = match self.numbering {
            // The place of a shadowed service says nothing that other servers know.
            Some(numbering) if service.origin.is_shadowed() => numbering.floor,
            Some(numbering) => numbering.floor.max(service.made_at()),
            None => service.made_at(),
        };
        let revision = revision.max(self.recall(service.id.as_str()));
        let state = ServiceState { service: service.clone(), instances: Vec::new(), revision };
        self.services.insert(service.id.clone(), Arc::new(state));
    }

    /// Adds the rest.
    fn index_service(&mut self, service: &Service) {
        let id = &service.id;
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
        self.remember(id.as_str(), state.revision);
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

    /// Removes the service, when it is a shadowed one.
    fn forget_service(&mut self, id: &ServiceId) {
        if self.services.get(id).is_some_and(|state| state.service.origin.is_shadowed()) {
            self.delete_service(id);
        }
    }

    /// The key by which a service of a DNS namespace is found whatever the case of its name.
    fn lower_key(&self, service: &Service) -> Option<(NamespaceId, Arc<str>)> {
        let lower = service.name.to_ascii_lowercase();
        (lower != service.name && self.is_dns(service)).then(|| (service.namespace_id.clone(), lower.into()))
    }

    /// The key by which a service of a DNS namespace is found as one below others.
    fn dotted_key(&self, service: &Service) -> Option<(NamespaceId, Arc<str>)> {
        let is_dotted = service.name != "." && service.name.contains('.') && self.is_dns(service);
        is_dotted.then(|| (service.namespace_id.clone(), reversed(&service.name).into()))
    }

    fn is_dns(&self, service: &Service) -> bool {
        self.namespaces.get(&service.namespace_id).is_some_and(|state| state.namespace.is_dns())
    }

    /// Gives the service's instance of this id what is reported of its pod now.
    fn join_report(&mut self, service: &ServiceId, id: &str) {
        let instance = self.services.get(service).and_then(|state| state.instance(id).ok());
        if let Some(instance) = instance.filter(|instance| instance.is_watched()).cloned() {
            self.put_instance(service, &instance);
        }
    }

    fn put_instance(&mut self, service: &ServiceId, instance: &Instance) {
        let instance = &self.with_report(service, instance.clone());
        let Some(state) = self.services.get_mut(service) else { return };
        let state = Arc::make_mut(state);
        match state.position(instance.id()) {
            // A pod keeps its id, whatever another replica or kubectl stored under it.
            Ok(at) if state.instances[at].is_watched() && !instance.is_watched() => {}
            Ok(at) => state.instances[at] = instance.clone(),
            Err(at) => {
                // One by one while there are few: a million services have few instances each.
                if state.instances.len() < 8 {
                    state.instances.reserve_exact(1);
                }
                state.instances.insert(at, instance.clone());
                self.instance_count += 1;
            }
        }
    }

    /// Makes the changes that a store loads. Instances of one service that follow each other, in order of their ids, cost
    /// one search for the service together. Services that are new are found by their ids alone, until
    /// [`State::end_loading`]. `events` gets what became whole by this, or is another than before.
    pub(super) fn load(&mut self, change: Change, run: &mut Run, events: &mut Vec<Event>) {
        if !matches!(&change, Change::PutInstance(service, _) if run.service.as_ref() == Some(service)) {
            self.end_run(run, events);
        }
        match change {
            Change::PutInstance(service, instance) => {
                run.service = Some(service);
                run.instances.push(instance);
                return;
            }
            Change::PutService(service) if !self.services.contains_key(&service.id) => {
                self.place_service(&service);
                run.not_indexed.push(service);
                return;
            }
            _ => {}
        }
        let event = change.event();
        if let Some(Event::Service(_)) = event {
            self.index_loaded(run);
        }
        self.apply(&change);
        events.extend(event);
    }

    /// Ends what [`State::load`] has begun: every service is found by all that finds it.
    pub(super) fn end_loading(&mut self, run: &mut Run, events: &mut Vec<Event>) {
        self.index_loaded(run);
        self.end_run(run, events);
    }

    fn index_loaded(&mut self, run: &mut Run) {
        run.not_indexed.drain(..).for_each(|service| self.index_service(&service));
    }

    /// Adds the instances that [`State::load`] has gathered.
    fn end_run(&mut self, run: &mut Run, events: &mut Vec<Event>) {
        let Some(service) = run.service.take() else { return };
        let is_sorted = run.instances.is_sorted_by(|one, other| one.id() < other.id());
        match self.services.get_mut(&service) {
            Some(state) if is_sorted && state.instances.is_empty() => {
                self.instance_count += run.instances.len();
                Arc::make_mut(state).instances = run.instances.as_slice().into();
            }
            _ => run.instances.iter().for_each(|instance| self.put_instance(&service, instance)),
        }
        run.instances.clear();
        events.push(Event::Service(service));
    }

    /// The services that have none.
    pub(super) fn services_without_instances(&self) -> impl Iterator<Item = ServiceId> {
        let services = self.services.iter().filter(|(_, state)| state.instances.is_empty());
        services.map(|(id, _)| id.clone())
    }

    /// Keeps the number of a service or namespace that is gone.
    fn remember(&mut self, id: &str, number: u64) {
        let is_above = self.numbering.is_some_and(|numbering| number > numbering.floor);
        if is_above && self.gone.len() < GONE_MAX {
            self.gone.insert(id.into(), number);
        }
    }

    /// The number that a service or namespace had when it was there before.
    fn recall(&mut self, id: &str) -> u64 {
        self.gone.remove(id).unwrap_or(0)
    }

    fn put_numbering(&mut self, numbering: Numbering) {
        let before = self.numbering.unwrap_or_default();
        let numbering = before.max(numbering);
        self.numbering = Some(numbering);
        if numbering.floor == before.floor {
            return;
        }
        self.sequence = self.sequence.max(numbering.floor);
        let above = self.gone.iter().filter(|(_, number)| **number > numbering.floor);
        self.gone = above.map(|(id, number)| (id.clone(), *number)).collect();
        self.raise_revisions(numbering.floor);
        let ids: Vec<NamespaceId> = self.namespaces.keys().cloned().collect();
        ids.into_iter().for_each(|id| self.apply(&Change::PutSerial(id, numbering.floor)));
    }

    /// Makes the revision of every service at least this.
    pub(super) fn raise_revisions(&mut self, revision: u64) {
        let ids: Vec<ServiceId> = self.services.keys().cloned().collect();
        for id in ids {
            if let Some(state) = self.services.get_mut(&id).filter(|state| state.revision < revision) {
                Arc::make_mut(state).revision = revision;
            }
        }
    }

    /// Removes the instance, when it is of this kind.
    fn delete_instance(&mut self, service: &ServiceId, id: &str, is_watched: bool) {
        let Some(state) = self.services.get_mut(service) else { return };
        if let Ok(at) = state.position(id)
            && state.instances[at].is_watched() == is_watched
        {
            Arc::make_mut(state).instances.remove(at);
            self.instance_count -= 1;
        }
    }
}

/// A zone's name as [`State::namespace_by_zone`] takes it.
pub fn zone_key(name: &str) -> Arc<str> {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase().into()
}

/// The place of a shadowed namespace or service among all: after all others, and the same at every replica.
pub(super) fn shadowed_place(id: &str) -> u64 {
    SHADOWED_PLACES | (request_digest(&id) >> 2)
}

/// A name in lower case, the last character first.
fn reversed(name: &str) -> String {
    name.chars().rev().map(|character| character.to_ascii_lowercase()).collect()
}

fn lower_bound<K>(after: Option<K>) -> std::ops::Bound<K> {
    after.map_or(std::ops::Bound::Unbounded, std::ops::Bound::Excluded)
}
