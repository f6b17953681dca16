//! Instances of services: which pods claim them, and what the registry was told.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use crate::model::{Instance, ServiceId};
use crate::registry::{Observation, Refusal, RegistryError, Seen};

use super::Counts;

/// All claims.
#[derive(Default)]
pub(super) struct Claims {
    services: HashMap<ServiceId, Service>,
    /// Services that the registry was not asked for yet.
    unknown: Vec<ServiceId>,
    queue: VecDeque<Key>,
    refused: HashSet<Key>,
    conflicting: usize,
}

type Key = (ServiceId, Arc<str>);

/// The claims to one service.
#[derive(Default)]
struct Service {
    /// When the registry's service was made; nothing while it has none.
    made_at: Option<u64>,
    /// By the instance's id.
    claims: BTreeMap<Arc<str>, Claim>,
}

/// The claims to one instance.
#[derive(Default)]
struct Claim {
    /// The pods, oldest first: the first has it.
    pods: Vec<(i64, Arc<str>)>,
    told: Told,
    is_queued: bool,
    /// The pod was replaced by another of its name: what the registry has of it must not live on in that one.
    starts_anew: bool,
}

/// What the registry has of an instance.
#[derive(Default, PartialEq)]
enum Told {
    #[default]
    Nothing,
    /// It was told something, and did not answer.
    Unsure,
    Instance(Instance),
}

impl Claims {
    /// The service's id as it is kept, so that all pods of a service share one.
    pub(super) fn shared_id(&self, service: &ServiceId) -> ServiceId {
        self.services.get_key_value(service).map_or_else(|| service.clone(), |(id, _)| id.clone())
    }

    /// A pod claims other instances than before, or the same in another state.
    pub(super) fn change(
        &mut self,
        pod: &Arc<str>,
        created_s: i64,
        before: &[(ServiceId, Instance)],
        now: &[(ServiceId, Instance)],
    ) {
        let has = |all: &[(ServiceId, Instance)], wanted: &(ServiceId, Instance)| {
            all.iter().any(|(service, instance)| *service == wanted.0 && instance.id() == wanted.1.id())
        };
        for (service, instance) in before.iter().filter(|claimed| !has(now, claimed)) {
            let Some(entry) = self.services.get_mut(service) else { continue };
            let Some((id, _)) = entry.claims.get_key_value(instance.id()) else { continue };
            let id = id.clone();
            let Some(claim) = entry.claims.get_mut(&id) else { continue };
            self.conflicting -= claim.pods.len().saturating_sub(1);
            claim.pods.retain(|(_, other)| other != pod);
            self.conflicting += claim.pods.len().saturating_sub(1);
            queue(&mut self.queue, claim, service, &id);
        }
        for claimed @ (service, instance) in now {
            if !self.services.contains_key(service) {
                self.unknown.push(service.clone());
                self.services.insert(service.clone(), Service::default());
            }
            let Some(entry) = self.services.get_mut(service) else { continue };
            let id: Arc<str> = instance.id().into();
            let claim = entry.claims.entry(id.clone()).or_default();
            if !has(before, claimed) && !claim.pods.iter().any(|(_, other)| other == pod) {
                self.conflicting -= claim.pods.len().saturating_sub(1);
                let new = (created_s, pod.clone());
                let at = claim.pods.partition_point(|other| *other < new);
                claim.pods.insert(at, new);
                self.conflicting += claim.pods.len().saturating_sub(1);
            }
            queue(&mut self.queue, claim, service, &id);
        }
    }

    /// A pod that had these instances is another one now, under the same name.
    pub(super) fn starts_anew(&mut self, instances: &[(ServiceId, Instance)]) {
        for (service, instance) in instances {
            let entry = self.services.get_mut(service);
            let claim = entry.and_then(|entry| entry.claims.get_mut(instance.id()));
            if let Some(claim) = claim
                && matches!(&claim.told, Told::Instance(told) if told.pod() == instance.pod())
            {
                claim.starts_anew = true;
            }
        }
    }

    pub(super) fn has_new_services(&self) -> bool {
        !self.unknown.is_empty()
    }

    pub(super) fn look_up(&mut self, all: bool, made_at: impl Fn(&ServiceId) -> Option<u64>) {
        let unknown = std::mem::take(&mut self.unknown);
        let ids = if all { self.services.keys().cloned().collect() } else { unknown };
        for id in ids {
            let Some(entry) = self.services.get_mut(&id) else { continue };
            let found = made_at(&id);
            if entry.made_at == found {
                continue;
            }
            // The service is new, gone, or another one under its id: the registry has nothing of its pods.
            entry.made_at = found;
            self.refused.retain(|(service, _)| *service != id);
            for (instance, claim) in &mut entry.claims {
                if claim.told != Told::Unsure {
                    claim.told = Told::Nothing;
                }
                queue(&mut self.queue, claim, &id, instance);
            }
        }
    }

    pub(super) fn next_batch(
        &mut self,
        observations_max: usize,
        current: impl Fn(&str, &ServiceId, &str) -> Option<Instance>,
    ) -> Vec<Observation> {
        let mut batch = Vec::new();
        while batch.len() < observations_max
            && let Some((service, id)) = self.queue.pop_front()
        {
            let Some(entry) = self.services.get_mut(&service) else { continue };
            let Some(claim) = entry.claims.get_mut(&id) else { continue };
            claim.is_queued = false;
            let wanted = claim.pods.first().and_then(|(_, pod)| current(pod, &service, &id));
            let starts_anew = std::mem::take(&mut claim.starts_anew);
            if entry.made_at.is_some() {
                let mut say = |seen| batch.push(Observation { service: service.clone(), seen });
                match &wanted {
                    None if claim.told != Told::Nothing => say(Seen::Gone((&*id).into())),
                    Some(now) if !matches!(&claim.told, Told::Instance(told) if told == now && !starts_anew) =>
                    {
                        if starts_anew {
                            say(Seen::Gone((&*id).into()));
                        }
                        say(Seen::Instance(now.clone()));
                    }
                    _ => {}
                }
                claim.told = wanted.map_or(Told::Nothing, Told::Instance);
            }
            if claim.pods.is_empty() {
                entry.claims.remove(&id);
                self.refused.remove(&(service.clone(), id));
            }
            if entry.claims.is_empty() {
                self.services.remove(&service);
            }
        }
        batch
    }

    pub(super) fn accepted(&mut self, batch: &[Observation], refused: &[Refusal]) -> Vec<usize> {
        let mut new = Vec::new();
        if !self.refused.is_empty() {
            for (at, observation) in batch.iter().enumerate() {
                let is_taken = !refused.iter().any(|refusal| refusal.at == at);
                if is_taken {
                    self.refused.remove(&(observation.service.clone(), observation.seen.id().into()));
                }
            }
        }
        for Refusal { at, error } in refused {
            let Some(observation) = batch.get(*at) else { continue };
            let Some(entry) = self.services.get_mut(&observation.service) else { continue };
            if *error == RegistryError::ServiceNotFound {
                // It was deleted a moment ago.
                self.unknown.push(observation.service.clone());
            }
            let Some(claim) = entry.claims.get_mut(observation.seen.id()) else { continue };
            claim.told = Told::Nothing;
            if self.refused.insert((observation.service.clone(), observation.seen.id().into())) {
                new.push(*at);
            }
        }
        new
    }

    pub(super) fn failed(&mut self, batch: &[Observation]) {
        for observation in batch {
            let (service, id): (_, Arc<str>) = (&observation.service, observation.seen.id().into());
            let is_known = self.services.contains_key(service);
            let entry = self.services.entry(service.clone()).or_default();
            if !is_known {
                self.unknown.push(service.clone());
            }
            let claim = entry.claims.entry(id.clone()).or_default();
            claim.told = Told::Unsure;
            queue(&mut self.queue, claim, service, &id);
        }
    }

    pub(super) fn retry_refused(&mut self) {
        for (service, id) in &self.refused {
            let claim = self.services.get_mut(service).and_then(|entry| entry.claims.get_mut(id));
            if let Some(claim) = claim {
                queue(&mut self.queue, claim, service, id);
            }
        }
    }

    pub(super) fn counts(&self) -> Counts {
        let pending = self.services.values().filter(|entry| entry.made_at.is_none()).map(Service::live);
        Counts {
            pending_instances: pending.sum(),
            refused_instances: self.refused.len(),
            conflicting_claims: self.conflicting,
            queued_instances: self.queue.len(),
            ..Counts::default()
        }
    }

    pub(super) fn pending(&self, services_max: usize) -> Vec<(ServiceId, usize)> {
        let pending = self.services.iter().filter(|(_, entry)| entry.made_at.is_none());
        let counted = pending.map(|(id, entry)| (id.clone(), entry.live())).filter(|(_, live)| *live > 0);
        let mut all: Vec<_> = counted.collect();
        all.sort();
        all.truncate(services_max);
        all
    }
}

impl Service {
    /// Instances that a pod claims.
    fn live(&self) -> usize {
        self.claims.values().filter(|claim| !claim.pods.is_empty()).count()
    }
}

fn queue(queue: &mut VecDeque<Key>, claim: &mut Claim, service: &ServiceId, id: &Arc<str>) {
    if !claim.is_queued {
        claim.is_queued = true;
        queue.push_back((service.clone(), id.clone()));
    }
}
