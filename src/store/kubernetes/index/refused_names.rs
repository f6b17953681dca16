//! Objects that claim a DNS name which belongs to an older object: they are decided again when the name is free.
//!
//! A younger object that somebody applied by hand is rejected. One that the API wrote was acknowledged by a version that
//! did not check names, so it is accepted, but without the name. Then a service gets a name before instances do, and
//! otherwise the older instance, as in every store (`registry::names`).

use std::collections::{BTreeSet, HashMap};

use kube::{Resource, ResourceExt};

use crate::model::{EpochMs, NamespaceId, Service, ServiceId};
use crate::registry::names::{self, Claimant, Conflict};
use crate::registry::{Change, RegistryError, State};

use super::super::keys::{Claim, DnsNameKey, InstanceKey};
use super::super::kind::Kind;
use super::super::object_cache::{Name, Rejection};
use super::super::request::WRITTEN_BY;
use super::super::resources::{CloudMapInstance, CloudMapService};
use super::super::translate::{self, created_ms, unsigned, version};
use super::contents::Index;
use super::indexed_kind::IndexedKind;

/// The age of an object, where smaller is older. Kubernetes has creation times in whole seconds. Within one second,
/// objects that the API wrote come before those applied by hand; etcd's numbers order the former, and uids the latter.
type Age = (EpochMs, bool, u64, Option<String>);

/// The objects by the DNS name that each did not get, and the names that have become free.
#[derive(Default)]
pub(super) struct RefusedNames {
    objects: HashMap<DnsNameKey, BTreeSet<(Kind, Name)>>,
    names: HashMap<(Kind, Name), DnsNameKey>,
    freed: BTreeSet<DnsNameKey>,
}

impl RefusedNames {
    /// Records that an object does not get this name, which belongs to an older object.
    pub(super) fn insert(&mut self, kind: Kind, object: &Name, namespace: &NamespaceId, name: &str) {
        self.forget(kind, object);
        let key = DnsNameKey { namespace: namespace.clone(), name: name.to_string() };
        self.names.insert((kind, object.clone()), key.clone());
        self.objects.entry(key).or_default().insert((kind, object.clone()));
    }

    /// Forgets an object that was deleted, or is about to be decided again.
    pub(super) fn forget(&mut self, kind: Kind, object: &str) {
        let object = (kind, Name::from(object));
        let Some(key) = self.names.remove(&object) else { return };
        if let Some(objects) = self.objects.get_mut(&key) {
            objects.remove(&object);
            if objects.is_empty() {
                self.objects.remove(&key);
            }
        }
    }
}

/// The decision that an object may have its names, or is accepted without one of them. `younger` objects lose their
/// names to this one and are decided again; `older` ones keep a name that this one claims too. `lost` is the name
/// that the object does not get, and the reason.
#[derive(Default)]
pub(super) struct Grant {
    pub(super) younger: Vec<ConflictingObject>,
    older: Vec<ConflictingObject>,
    pub(super) lost: Option<(String, String)>,
}

impl Grant {
    /// The state without the objects that share a name with this one, so that the API's rules admit it; `None` if there
    /// are none.
    pub(super) fn state_without_conflicts(&self, state: &State) -> Option<State> {
        let mut without_conflicts = state.clone();
        let mut others = self.younger.iter().chain(&self.older).peekable();
        others.peek()?;
        others.for_each(|other| without_conflicts.apply(&other.removal()));
        Some(without_conflicts)
    }
}

pub(super) enum ConflictingObject {
    Service(Box<Service>),
    Instance(InstanceKey),
}

impl ConflictingObject {
    fn of(conflict: &Conflict<'_>) -> Option<ConflictingObject> {
        let claimant = &conflict.claimant;
        match claimant {
            Claimant::NameServer => None,
            Claimant::Service(state) => {
                Some(ConflictingObject::Service(Box::new(Service::clone(&state.service))))
            }
            Claimant::Instance { service, instance, .. } => {
                Some(ConflictingObject::Instance(InstanceKey::new(&service.service.id, instance.id())))
            }
        }
    }

    fn removal(&self) -> Change {
        match self {
            ConflictingObject::Service(service) => Change::DeleteService(service.id.clone()),
            ConflictingObject::Instance(key) => {
                Change::DeleteInstance(key.service.clone(), key.instance.clone())
            }
        }
    }
}

impl Index {
    /// Decides by age whether the object of a service gets its DNS name. The error contains the name that it is rejected
    /// for.
    pub(super) fn grant_service_name(
        &self,
        trial: &State,
        namespace: &NamespaceId,
        object: &Name,
    ) -> Result<Grant, (String, Rejection)> {
        let object = self.services.object(object);
        let Some(object) = object.filter(|object| object.spec.dns_config.is_some()) else {
            return Ok(Grant::default());
        };
        let name = &object.spec.name;
        let conflicts = names::conflicts_of_service(trial, namespace, name);
        self.grant(&self.service_age(&object), is_acknowledged(&*object), &conflicts)
            .map_err(|conflict| (conflict.name.clone(), rejection(&conflict.of_service(name))))
    }

    /// Decides by age whether the object of an instance gets its DNS names, like [`Index::grant_service_name`].
    pub(super) fn grant_instance_names(
        &self,
        trial: &State,
        service: &ServiceId,
        object: &Name,
    ) -> Result<Grant, (NamespaceId, String, Rejection)> {
        let (Some(object), Ok(state)) = (self.instances.object(object), trial.service(service.as_str()))
        else {
            return Ok(Grant::default());
        };
        let id = &object.spec.instance_id;
        let conflicts = names::conflicts_of_instance(trial, state, id);
        let Service { name, namespace_id, .. } = &*state.service;
        self.grant(&self.instance_age(&object), is_acknowledged(&*object), &conflicts).map_err(|conflict| {
            (namespace_id.clone(), conflict.name.clone(), rejection(&conflict.of_instance(id, name)))
        })
    }

    /// Decides about the names of an object of this age. An object that is not acknowledged is rejected for the first
    /// conflict with an older one, and every object is for a conflict with the name server.
    fn grant<'c, 's>(
        &self,
        age: &Age,
        is_acknowledged: bool,
        conflicts: &'c [Conflict<'s>],
    ) -> Result<Grant, &'c Conflict<'s>> {
        let mut grant = Grant::default();
        for conflict in conflicts {
            let is_older = self.age_of(&conflict.claimant).is_none_or(|other| other <= *age);
            match ConflictingObject::of(conflict) {
                Some(other) if !is_older => grant.younger.push(other),
                Some(other) if is_acknowledged => {
                    grant.lost = Some((conflict.name.clone(), format!("Without the name: {conflict}.")));
                    grant.older.push(other);
                }
                _ => return Err(conflict),
            }
        }
        Ok(grant)
    }

    /// Decides again about younger objects that lost a name: each is rejected now, or accepted without the name.
    pub(super) fn decide_younger(&mut self, younger: Vec<ConflictingObject>) {
        for object in younger {
            match object {
                ConflictingObject::Service(service) => self.decide_service(&self.service_claim_of(&service)),
                ConflictingObject::Instance(key) => {
                    self.decide_instance(&Claim::instance(&key.service, &key.instance))
                }
            }
        }
    }

    /// Decides again about all objects that did not get a name which is free now.
    pub(super) fn reconcile_freed(&mut self) {
        while let Some(key) = self.refused_names.freed.pop_first() {
            let objects = self.refused_names.objects.get(&key).cloned().unwrap_or_default();
            // A service gets a name before instances do.
            let is_service = |(kind, _): &(Kind, Name)| *kind == Kind::Service;
            let (services, others): (Vec<_>, Vec<_>) = objects.into_iter().partition(is_service);
            for (kind, name) in services.into_iter().chain(others) {
                self.refused_names.forget(kind, &name);
                match kind {
                    Kind::Service => self.reconcile::<CloudMapService>(&name),
                    Kind::Instance => self.reconcile::<CloudMapInstance>(&name),
                    Kind::HealthReport | Kind::Namespace | Kind::Operation | Kind::Store => {}
                }
            }
        }
    }

    /// Records the names that a change frees, if some object did not get one of them.
    pub(super) fn record_freed(&mut self, change: &Change) {
        if self.refused_names.objects.is_empty() {
            return;
        }
        let (id, instance) = match change {
            Change::DeleteService(id) => (id, None),
            Change::PutService(service) if service.api_only => (&service.id, None),
            Change::DeleteInstance(id, instance) => (id, Some(&**instance)),
            _ => return,
        };
        let Ok(state) = self.state.service(id.as_str()) else { return };
        let service = &*state.service;
        let Ok(namespace) = self.state.namespace(service.namespace_id.as_str()) else { return };
        let of_instance = |id: &str| names::names_of_instance(id, service, &namespace.namespace);
        let freed: Vec<String> = match instance {
            Some(id) => of_instance(id),
            None => {
                let instances = state.instances().iter().flat_map(|instance| of_instance(instance.id()));
                instances.chain([service.name.to_ascii_lowercase()]).collect()
            }
        };
        let key = |name| DnsNameKey { namespace: service.namespace_id.clone(), name };
        let freed = freed.into_iter().map(key);
        let refused: Vec<_> = freed.filter(|key| self.refused_names.objects.contains_key(key)).collect();
        self.refused_names.freed.extend(refused);
    }

    fn service_age(&self, object: &CloudMapService) -> Age {
        let kept = object.status.as_ref().and_then(|status| unsigned(status.number));
        age(object, kept, version(&object.metadata) + self.offset())
    }

    fn instance_age(&self, object: &CloudMapInstance) -> Age {
        age(object, None, translate::instance_number(object, self.offset()))
    }

    fn age_of(&self, claimant: &Claimant<'_>) -> Option<Age> {
        match claimant {
            Claimant::NameServer => None,
            Claimant::Service(state) => {
                let object = CloudMapService::find(self, &state.service.id)?;
                Some(self.service_age(&object))
            }
            Claimant::Instance { service, instance, .. } => {
                let key = InstanceKey::new(&service.service.id, instance.id());
                let object = CloudMapInstance::find(self, &key)?;
                Some(self.instance_age(&object))
            }
        }
    }
}

/// True if a server wrote the object for an API request that it acknowledged.
fn is_acknowledged<K: Resource>(object: &K) -> bool {
    object.annotations().contains_key(WRITTEN_BY)
}

/// `kept` is the number in the object's status, and `number` the newest one that the object is known to have had.
fn age<K: Resource<DynamicType = ()>>(object: &K, kept: Option<u64>, number: u64) -> Age {
    let meta = object.meta();
    let is_changed = meta.generation.is_some_and(|generation| generation > 1);
    let by_hand = !is_acknowledged(object);
    let number = if by_hand {
        0
    } else {
        // The number of the creation of a changed object is lost, so it counts as the oldest.
        kept.unwrap_or(if is_changed { 0 } else { number })
    };
    (created_ms(meta), by_hand, number, meta.uid.clone())
}

/// The rejection of an object with which the API would answer a request for the resource.
pub(super) fn rejection(error: &RegistryError) -> Rejection {
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
    Rejection { reason, message: error.to_string() }
}
