//! Decisions about which objects are accepted, and their consequences for the objects inside of those.

use std::sync::Arc;

use crate::model::{Attributes, Instance, Namespace, NamespaceId, NamespaceKind, Service, ServiceId};
use crate::registry::state::NamespaceState;
use crate::registry::{Admission, Change, RegistryError, State, state::zone_key};

use super::super::keys::{Claim, OwnerKey};
use super::super::kind::{ClaimingKind, Kind, OwnerKind, namespace_request, service_request};
use super::super::object_cache::{Name, ObjectCache, Rejection, Stored};
use super::super::resources::{CloudMapInstance, CloudMapService};
use super::super::translate::{self, unsigned};
use super::contents::Index;
use super::refused_names::{Grant, rejection};

impl Index {
    /// Decides which of the namespaces of one name are accepted. For services and instances below, only one object of
    /// each claim is.
    pub(in crate::store::kubernetes) fn decide_namespaces(&mut self, claim: &Arc<Claim>) {
        let old = self.namespaces.set_accepted(claim, &[]);
        let mut trial = self.state.clone();
        old.iter().for_each(|(_, id)| trial.apply(&Change::DeleteNamespace(id.clone())));
        let offset = self.offset();
        let names = self.namespaces.claimants(claim, |object| object.claim_rank(offset));
        let mut new: Vec<(Name, Namespace)> = Vec::new();
        for name in names {
            let Some(object) = self.namespaces.object(&name) else { continue };
            let id = self.namespace_id(&object);
            let older = new.iter().find(|(_, other)| other.id == id).map(|(older, _)| older.clone());
            let admitted = match older {
                Some(older) => Err(duplicate_of(&older)),
                None => self
                    .admission
                    .namespace(&trial, namespace_request(&object.spec), object.create_date_ms())
                    .map_err(|error| rejection(&error)),
            };
            let rejected = match admitted {
                Ok(namespace) => {
                    let namespace = Namespace {
                        creator_request_id: object.spec.creator_request_id.clone(),
                        request_digest: translate::request_digest(&object.metadata)
                            .unwrap_or(namespace.request_digest),
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
            self.reconcile::<CloudMapService>(&name);
        }
        for name in self.instances.owned(&orphans) {
            self.reconcile::<CloudMapInstance>(&name);
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

    pub(in crate::store::kubernetes) fn service_claim_of(&self, service: &Service) -> Arc<Claim> {
        let id = &service.namespace_id;
        let is_dns = self.state.namespace(id.as_str()).is_ok_and(|state| state.namespace.is_dns());
        Claim::service(id, &service.name, is_dns)
    }

    pub(in crate::store::kubernetes) fn namespace_named(&self, name: &str) -> Option<&Arc<NamespaceState>> {
        self.state.namespace_by_zone(&zone_key(name)).or_else(|| self.state.namespace_by_http_name(name))
    }

    pub(in crate::store::kubernetes) fn decide_service(&mut self, claim: &Arc<Claim>) {
        let Claim::Service { namespace, .. } = &**claim else { return };
        let old = self.services.set_accepted(claim, &[]).pop();
        let mut trial = self.state.clone();
        if let Some((_, id)) = &old {
            trial.apply(&Change::DeleteService(id.clone()));
        }
        let mut new: Option<(Name, Service)> = None;
        let mut younger = Vec::new();
        let offset = self.offset();
        let names = self.services.claimants(claim, |object| object.claim_rank(offset));
        for name in names {
            self.refused_names.forget(Kind::Service, &name);
            let granted = match &new {
                None => self.grant_service_name(&trial, namespace, &name),
                Some(_) => Ok(Grant::default()),
            };
            let Some(object) = self.services.object(&name) else { continue };
            let mut remark = None;
            let rejected = match (&new, granted) {
                (Some((older, _)), _) => Some(duplicate_of(older)),
                (None, Err((taken, rejection))) => {
                    self.refused_names.insert(Kind::Service, &name, namespace, &taken);
                    Some(rejection)
                }
                (None, Ok(grant)) => {
                    if let Some((lost, why)) = grant.lost.clone() {
                        self.refused_names.insert(Kind::Service, &name, namespace, &lost);
                        remark = Some(why);
                    }
                    let without_conflicts = grant.state_without_conflicts(&trial);
                    let trial = without_conflicts.as_ref().unwrap_or(&trial);
                    let (request, no_records) = service_request(&object.spec, namespace.as_str());
                    let attributes = object.spec.attributes.clone();
                    match self.admission.service(trial, request, attributes, object.create_date_ms()) {
                        Ok(service) => {
                            let mut service = Service {
                                sequence: self.service_number(&object),
                                request_digest: translate::request_digest(&object.metadata)
                                    .unwrap_or(service.request_digest),
                                ..service
                            };
                            if no_records && let Some(dns) = &mut service.dns {
                                dns.records.clear();
                            }
                            new = Some((name.clone(), service));
                            younger = grant.younger;
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
            self.raise_revision(&id, number.max(kept).max(known));
        }
        self.decide_younger(younger);
        for name in self.instances.owned(&owners) {
            self.reconcile::<CloudMapInstance>(&name);
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

    pub(in crate::store::kubernetes) fn decide_instance(&mut self, claim: &Arc<Claim>) {
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
        let (mut late, mut younger) = (Vec::new(), Vec::new());
        let offset = self.offset();
        for name in self.instances.claimants(claim, |object| object.claim_rank(offset)) {
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
                    self.refused_names.insert(Kind::Instance, &name, &namespace, &taken);
                    Err(rejection)
                }
                (None, Ok(grant)) => {
                    let namespace = trial.service(service.as_str()).map(|state| &state.service.namespace_id);
                    if let (Some((lost, why)), Ok(namespace)) = (&grant.lost, namespace) {
                        self.refused_names.insert(Kind::Instance, &name, namespace, lost);
                        remark = Some(why.clone());
                    }
                    let without_conflicts = grant.state_without_conflicts(trial);
                    younger = grant.younger;
                    let trial = without_conflicts.as_ref().unwrap_or(trial);
                    admit(&mut self.admission, trial, &service, &object, offset)
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
                let number = if is_same {
                    instance.operation()
                } else {
                    self.numbers.of_write.max(instance.operation())
                };
                if there.as_ref() != Some(&instance) {
                    self.check_numbered(&service, &name);
                    self.apply(Change::PutInstance(service.clone(), instance));
                    self.schedule_service_counts(&service);
                }
                self.raise_revision(&service, number);
                self.decide_younger(younger);
            }
            None if there.is_some() => {
                self.apply(Change::DeleteInstance(service.clone(), id.into()));
                self.schedule_service_counts(&service);
                // The number is 0 if this replica deleted the object, whose operation follows with a number, or if a list
                // does not contain the object, after which everything is renumbered.
                self.raise_revision(&service, self.numbers.of_write);
            }
            None => {}
        }
    }
}

impl Index {
    /// Requests a renumbering for an instance that is admitted later than its object was written. Servers whose watches
    /// delivered the object and its service in another order admitted it when it was written, and gave it another number.
    fn check_numbered(&mut self, service: &ServiceId, name: &Name) {
        let written = self.instances.get(name).map(|entry| entry.version() + self.offset());
        if self.numbers.of_write > 0 && written.is_some_and(|written| written > self.numbers.of_write) {
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
    let (health, signals) = translate::instance_health(object, admitted.custom_health(), reports_health);
    let number = translate::instance_number(object, offset);
    let attributes = Attributes::new(&spec.attributes);
    let instance = attributes.and_then(|attributes| {
        let instance = Instance::new(&spec.instance_id, creator.as_deref(), &attributes, None, number)?;
        Some(instance.with_signals(health, &signals))
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
