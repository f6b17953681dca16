//! Decisions about which objects are accepted, and their consequences for the objects inside of those.

use std::sync::Arc;

use crate::model::{Attributes, Instance, Namespace, NamespaceId, NamespaceKind, Service, ServiceId};
use crate::registry::state::NamespaceState;
use crate::registry::{Admission, Change, RegistryError, State, state::zone_key};

use super::super::keys::{Claim, OwnerKey};
use super::super::object_cache::{Name, ObjectCache, Rejection, Stored};
use super::super::resources::CloudMapInstance;
use super::super::translate::{self, created_ms, unsigned};
use super::refused_names::Grant;
use super::{Index, Kind};

impl Index {
    pub(super) fn reconcile_namespace(&mut self, name: &Name) {
        if !self.is_read {
            return;
        }
        let Some(object) = self.namespaces.object(name) else { return };
        let claim = Claim::namespace(&object.spec.name);
        if let Some(old) = self.namespaces.claim(name, Some(claim.clone())).filter(|old| *old != claim) {
            self.decide_namespaces(&old);
        }
        self.decide_namespaces(&claim);
    }

    /// Decides which of the namespaces of one name are accepted. For services and instances below, only one object of
    /// each claim is.
    pub(super) fn decide_namespaces(&mut self, claim: &Arc<Claim>) {
        let old = self.namespaces.set_accepted(claim, &[]);
        let mut trial = self.state.clone();
        old.iter().for_each(|(_, id)| trial.apply(&Change::DeleteNamespace(id.clone())));
        let offset = self.offset;
        let rank = |object: &_| translate::claim_rank(object, offset);
        let names = self.namespaces.claimants(claim, rank);
        let mut new: Vec<(Name, Namespace)> = Vec::new();
        for name in names {
            let Some(object) = self.namespaces.object(&name) else { continue };
            let meta = &object.metadata;
            let kept_ms = object.status.as_ref().and_then(|status| status.create_date_ms);
            let created_ms = kept_ms.unwrap_or_else(|| created_ms(meta));
            let id = self.namespace_id(&object);
            let older = new.iter().find(|(_, other)| other.id == id).map(|(older, _)| older.clone());
            let admitted = match older {
                Some(older) => Err(duplicate_of(&older)),
                None => self
                    .admission
                    .namespace(&trial, translate::asked_namespace(&object.spec), created_ms)
                    .map_err(|error| rejection(&error)),
            };
            let rejected = match admitted {
                Ok(namespace) => {
                    let namespace = Namespace {
                        creator_request_id: object.spec.creator_request_id.clone(),
                        request_digest: translate::request_digest(meta).unwrap_or(namespace.request_digest),
                        operation: self.namespace_number(&object),
                        ..namespace
                    };
                    trial.apply(&Change::PutNamespace(namespace.clone().into()));
                    new.push((name.clone(), namespace));
                    None
                }
                Err(rejection) => Some(rejection),
            };
            self.schedule_status(Kind::Namespace, name.clone());
            if let Some(entry) = self.namespaces.get_mut(&name) {
                entry.rejection = rejected.map(Box::new);
            }
        }
        drop(trial);
        let mut owners = Vec::new();
        let mut orphans = Vec::new();
        let mut owner = |namespace: &Namespace| {
            owners.push(OwnerKey::id(namespace.id.as_str()));
            owners.push(OwnerKey::namespace(&namespace.name));
        };
        for (_, id) in &old {
            if !new.iter().any(|(_, namespace)| namespace.id == *id) {
                if let Ok(state) = self.state.namespace(id.as_str()) {
                    owner(&state.namespace);
                }
                orphans.extend(self.drop_namespace(id));
            }
        }
        let accepted = new.iter().map(|(name, namespace)| (name.clone(), namespace.id.clone()));
        self.namespaces.set_accepted(claim, &accepted.collect::<Vec<_>>());
        for (_, namespace) in new {
            let there = self.state.namespace(namespace.id.as_str()).map(|state| state.namespace.clone());
            if there.as_deref() != Ok(&namespace) {
                if there.is_err() {
                    owner(&namespace);
                }
                self.apply(Change::PutNamespace(namespace.into()));
            }
        }
        for name in self.services.owned(&owners) {
            self.reconcile_service(&name);
        }
        for name in self.instances.owned(&orphans) {
            self.reconcile_instance(&name);
        }
    }

    /// Removes a namespace and everything in it from the state. Returns the owner keys of the instances that were in it.
    pub(super) fn drop_namespace(&mut self, id: &NamespaceId) -> Vec<OwnerKey> {
        let Ok(state) = self.state.namespace(id.as_str()) else { return Vec::new() };
        let ids = state.services_after(None).map(|(_, id)| id);
        let services: Vec<_> = ids.filter_map(|id| self.state.service(id.as_str()).ok()).cloned().collect();
        let owners = services.iter().flat_map(|state| self.service_owners(&state.service)).collect();
        services.iter().for_each(|state| self.drop_service(&state.service.id));
        self.apply(Change::DeleteNamespace(id.clone()));
        owners
    }

    pub(super) fn service_claim_of(&self, service: &Service) -> Arc<Claim> {
        let id = &service.namespace_id;
        let is_dns = self.state.namespace(id.as_str()).is_ok_and(|state| state.namespace.is_dns());
        Claim::service(id, &service.name, is_dns)
    }

    pub(super) fn reconcile_service(&mut self, name: &Name) {
        if !self.is_read {
            return;
        }
        let Some(object) = self.services.object(name) else { return };
        let spec = &object.spec;
        let namespace = match (&spec.namespace_id, &spec.namespace_name) {
            (Some(id), _) => self.state.namespace(id).ok(),
            (None, Some(name)) => self.namespace_named(name),
            (None, None) => None,
        };
        let claim =
            namespace.map(|state| Claim::service(&state.namespace.id, &spec.name, state.namespace.is_dns()));
        let old = self.services.claim(name, claim.clone());
        if let Some(old) = old.filter(|old| claim.as_ref() != Some(old)) {
            self.decide_service(&old);
        }
        match claim {
            Some(claim) => self.decide_service(&claim),
            None => {
                self.refused_names.forget(Kind::Service, name);
                if let Some(entry) = self.services.get_mut(name) {
                    entry.rejection = Some(rejection(&RegistryError::NamespaceNotFound).into());
                }
                self.schedule_status(Kind::Service, name.clone());
            }
        }
    }

    pub(super) fn namespace_named(&self, name: &str) -> Option<&Arc<NamespaceState>> {
        self.state.namespace_by_zone(&zone_key(name)).or_else(|| self.state.namespace_by_http_name(name))
    }

    pub(super) fn decide_service(&mut self, claim: &Arc<Claim>) {
        let Claim::Service { namespace, .. } = &**claim else { return };
        let old = self.services.set_accepted(claim, &[]).pop();
        let mut trial = self.state.clone();
        if let Some((_, id)) = &old {
            trial.apply(&Change::DeleteService(id.clone()));
        }
        let mut new: Option<(Name, Service)> = None;
        let mut rivals = Vec::new();
        let offset = self.offset;
        let rank = |object: &_| translate::claim_rank(object, offset);
        let names = self.services.claimants(claim, rank);
        for name in names {
            self.refused_names.forget(Kind::Service, &name);
            let granted = match &new {
                None => self.grant_service_name(&trial, namespace, &name),
                Some(_) => Ok(Grant::default()),
            };
            let Some(object) = self.services.object(&name) else { continue };
            let meta = &object.metadata;
            let mut remark = None;
            let rejected = match (&new, granted) {
                (Some((older, _)), _) => Some(duplicate_of(older)),
                (None, Err((taken, rejection))) => {
                    self.refused_names.note(Kind::Service, &name, namespace, &taken);
                    Some(rejection)
                }
                (None, Ok(grant)) => {
                    if let Some((lost, why)) = grant.lost.clone() {
                        self.refused_names.note(Kind::Service, &name, namespace, &lost);
                        remark = Some(why);
                    }
                    let without_rivals = grant.state_without_rivals(&trial);
                    let trial = without_rivals.as_ref().unwrap_or(&trial);
                    let kept_ms = object.status.as_ref().and_then(|status| status.create_date_ms);
                    let created_ms = kept_ms.unwrap_or_else(|| created_ms(meta));
                    let (asked, no_records) = translate::asked_service(&object.spec, namespace.as_str());
                    let attributes = object.spec.attributes.clone();
                    match self.admission.service(trial, asked, attributes, created_ms) {
                        Ok(service) => {
                            let mut service = Service {
                                sequence: self.service_number(&object),
                                request_digest: translate::request_digest(meta)
                                    .unwrap_or(service.request_digest),
                                ..service
                            };
                            if no_records && let Some(dns) = &mut service.dns {
                                dns.records.clear();
                            }
                            new = Some((name.clone(), service));
                            rivals = grant.younger;
                            None
                        }
                        Err(error) => Some(rejection(&error)),
                    }
                }
            };
            self.schedule_status(Kind::Service, name.clone());
            if let Some(entry) = self.services.get_mut(&name) {
                entry.remark = remark.filter(|_| rejected.is_none()).map(String::into_boxed_str);
                entry.rejection = rejected.map(Box::new);
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
            // The service was removed from the state together with its namespace.
            owners.push(OwnerKey::id(id.as_str()));
        }
        if let Some((name, service)) = new {
            let id = service.id.clone();
            self.services.set_accepted(claim, &[(name.clone(), id.clone())]);
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
            let object = self.services.object(&name);
            let status = object.as_ref().and_then(|object| object.status.as_ref());
            let kept = status.and_then(|status| unsigned(status.instances_revision)).unwrap_or(0);
            let known = self.revisions.get(&id).copied().unwrap_or(0);
            if is_new {
                // A revision that was known before the service was accepted is raised again below, so that the registry
                // gets it too.
                self.revisions.remove(&id);
            }
            self.bump(&id, number.max(kept).max(known));
        }
        self.decide_rivals(rivals);
        for name in self.instances.owned(&owners) {
            self.reconcile_instance(&name);
        }
    }

    pub(super) fn service_owners(&self, service: &Service) -> Vec<OwnerKey> {
        let namespace = self.state.namespace(service.namespace_id.as_str());
        let by_name = namespace.map(|state| OwnerKey::service(&service.name, &state.namespace.name));
        std::iter::once(OwnerKey::id(service.id.as_str())).chain(by_name).collect()
    }

    pub(super) fn drop_service(&mut self, id: &ServiceId) {
        let Ok(state) = self.state.service(id.as_str()) else { return };
        let instances: Vec<_> = state.instances().iter().map(|instance| instance.id().into()).collect();
        for instance in instances {
            self.apply(Change::DeleteInstance(id.clone(), instance));
        }
        self.revisions.remove(id);
        self.apply(Change::DeleteService(id.clone()));
    }

    pub(super) fn reconcile_instance(&mut self, name: &Name) {
        if !self.is_read {
            return;
        }
        let Some(object) = self.instances.object(name) else { return };
        let spec = &object.spec;
        let service = match (&spec.service_id, &spec.service_name, &spec.namespace_name) {
            (Some(id), ..) => self.state.service(id).ok(),
            (None, Some(service), Some(namespace)) => self
                .namespace_named(namespace)
                .and_then(|namespace| self.state.service_by_name(&namespace.namespace.id, service)),
            _ => None,
        };
        let claim = service.map(|state| Claim::instance(&state.service.id, &spec.instance_id));
        let old = self.instances.claim(name, claim.clone());
        if let Some(old) = old.filter(|old| claim.as_ref() != Some(old)) {
            self.decide_instance(&old);
        }
        match claim {
            Some(claim) => self.decide_instance(&claim),
            None => {
                self.refused_names.forget(Kind::Instance, name);
                if let Some(entry) = self.instances.get_mut(name) {
                    entry.rejection = Some(rejection(&RegistryError::ServiceNotFound).into());
                }
                self.schedule_status(Kind::Instance, name.clone());
            }
        }
    }

    pub(super) fn decide_instance(&mut self, claim: &Arc<Claim>) {
        let Claim::Instance { service, id } = &**claim else { return };
        let (service, id) = (service.clone(), &**id);
        self.instances.set_accepted(claim, &[]);
        let there = self.state.service(service.as_str()).and_then(|state| state.instance(id).cloned()).ok();
        let without = there.as_ref().map(|_| {
            let mut trial = self.state.clone();
            trial.apply(&Change::DeleteInstance(service.clone(), id.into()));
            trial
        });
        let trial = without.as_ref().unwrap_or(&self.state);
        let mut new: Option<(Name, Instance)> = None;
        let (mut late, mut rivals) = (Vec::new(), Vec::new());
        for name in self.instances.claimants(claim, |object| object.status.as_ref()?.number) {
            self.refused_names.forget(Kind::Instance, &name);
            let granted = match &new {
                None => self.grant_instance_names(trial, &service, &name),
                Some(_) => Ok(Grant::default()),
            };
            let Some(object) = self.instances.object(&name) else { continue };
            let mut remark = None;
            let admitted = match (&new, granted) {
                (Some((older, _)), _) => Err(duplicate_of(older)),
                (None, Err((namespace, taken, rejection))) => {
                    self.refused_names.note(Kind::Instance, &name, &namespace, &taken);
                    Err(rejection)
                }
                (None, Ok(grant)) => {
                    let namespace = trial.service(service.as_str()).map(|state| &state.service.namespace_id);
                    if let (Some((lost, why)), Ok(namespace)) = (&grant.lost, namespace) {
                        self.refused_names.note(Kind::Instance, &name, namespace, lost);
                        remark = Some(why.clone());
                    }
                    let without_rivals = grant.state_without_rivals(trial);
                    rivals = grant.younger;
                    let trial = without_rivals.as_ref().unwrap_or(trial);
                    admit(&mut self.admission, trial, &service, &object, self.offset)
                }
            };
            let has_status = object.status.as_ref().is_some_and(|status| !status.conditions.is_empty());
            let rejected = match admitted {
                Ok(instance) => {
                    new = Some((name.clone(), instance));
                    None
                }
                Err(rejection) => Some(Box::new(rejection)),
            };
            let Some(entry) = self.instances.get_mut(&name) else { continue };
            entry.remark = remark.filter(|_| rejected.is_none()).map(String::into_boxed_str);
            entry.rejection = rejected;
            if entry.rejection.is_some() || entry.remark.is_some() || has_status {
                late.push(name);
            }
        }
        drop(without);
        late.into_iter().for_each(|name| self.schedule_status(Kind::Instance, name));
        match new {
            Some((name, instance)) => {
                self.instances.set_accepted(claim, &[(name.clone(), ())]);
                let is_same = there.as_ref().is_some_and(|there| there.is_same_but_for_health(&instance));
                let number =
                    if is_same { instance.operation() } else { self.write_number.max(instance.operation()) };
                if there.as_ref() != Some(&instance) {
                    self.check_numbered(&service, &name);
                    self.apply(Change::PutInstance(service.clone(), instance));
                    self.schedule_service_counts(&service);
                }
                self.bump(&service, number);
                self.decide_rivals(rivals);
            }
            None if there.is_some() => {
                self.apply(Change::DeleteInstance(service.clone(), id.into()));
                self.schedule_service_counts(&service);
                // The number is 0 if this replica deleted the object, whose operation follows with a number, or if a list
                // does not contain the object, after which everything is renumbered.
                self.bump(&service, self.write_number);
            }
            None => {}
        }
    }
}

impl Index {
    /// Requests a renumbering for an instance that is admitted later than its object was written. Servers whose watches
    /// delivered the object and its service in another order admitted it when it was written, and gave it another number.
    fn check_numbered(&mut self, service: &ServiceId, name: &Name) {
        let written = self.instances.get(name).map(|entry| entry.version() + self.offset);
        if self.write_number > 0 && written.is_some_and(|written| written > self.write_number) {
            self.to_renumber.services.insert(service.clone());
            let namespace =
                self.state.service(service.as_str()).map(|state| state.service.namespace_id.clone());
            self.to_renumber.namespaces.extend(namespace);
        }
    }
}

impl<K: Stored, Id: Clone> ObjectCache<K, Id> {
    pub(super) fn is_accepted(&self, name: &Name) -> bool {
        self.get(name).is_some_and(|entry| entry.rejection.is_none())
    }
}

/// Checks an object by the rules of the API, and returns its instance.
fn admit(
    admission: &mut Admission,
    state: &State,
    service: &ServiceId,
    object: &CloudMapInstance,
    offset: u64,
) -> Result<Instance, Rejection> {
    let spec = &object.spec;
    let creator = spec.creator_request_id.clone();
    let admitted = admission
        .instance(state, service, &spec.instance_id, creator.clone(), spec.attributes.clone())
        .map_err(|error| rejection(&error))?;
    let owner = state.service(service.as_str()).map_err(|error| rejection(&error))?;
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
    instance.ok_or_else(|| rejection(&too_long()))
}

fn duplicate_of(older: &str) -> Rejection {
    Rejection {
        reason: "AnotherStands",
        message: format!("The object {older} is older and describes the same resource."),
    }
}

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
