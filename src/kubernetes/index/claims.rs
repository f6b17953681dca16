//! Claims of pods to instances of services, and the state of each instance in the registry.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use crate::model::{Instance, ServiceId};
use crate::registry::{Observation, Observed, PodNumbers, Refusal, RegistryError, Seen};

use super::counts::{Counts, PendingService};

const QUEUE_CAPACITY_KEPT: usize = 1_024;
/// Claims up to which a service reserves no spare capacity, because there are many services with few instances each.
const CLAIMS_WITHOUT_SPARE_MAX: usize = 16;

const PODS_NAMED_MAX: usize = 3;
/// Limit of pending services up to which those without claims are kept, because the registry will need their numbers
/// when it has them.
const NUMBERS_KEPT_MAX: usize = 4_096;

/// Claims of all services. `pending` are the services that the registry does not have, which are kept apart because
/// they are counted often and are few. `numbers_due` are the services whose numbers the registry needs although
/// none of their instances is queued.
#[derive(Default)]
pub(super) struct Claims {
    services: HashMap<ServiceId, ServiceClaims>,
    pending: BTreeSet<ServiceId>,
    not_looked_up: Vec<ServiceId>,
    queue: VecDeque<InstanceKey>,
    dequeued: u64,
    refused: HashSet<InstanceKey>,
    conflicting: usize,
    numbers_due: Vec<ServiceId>,
}

type InstanceKey = (ServiceId, Arc<str>);

/// Claims to the instances of one service, sorted by their ids, and the highest numbers of the writes that led to
/// them: `revision` is that of a change of claims or attributes, and `contents` that of any change, health
/// included. `are_numbers_sent` is true if the registry has both. `made_at` is the creation time of the registry's
/// service; `None` while the registry does not have it.
#[derive(Default)]
struct ServiceClaims {
    made_at: Option<u64>,
    claims: Vec<InstanceClaims>,
    revision: u64,
    contents: u64,
    are_numbers_sent: bool,
}

/// Claims to one instance, as creation times and names of the pods, oldest first. The first pod has the instance.
struct InstanceClaims {
    id: Arc<str>,
    pods: Vec<(i64, Arc<str>)>,
    sent: SentState,
    is_queued: bool,
}

/// State of an instance in the registry, according to the commands that were sent. It is unknown after a command about the
/// instance failed.
#[derive(PartialEq)]
enum SentState {
    Nothing,
    Unknown,
    Instance(Instance),
}

impl Claims {
    /// Stored id that is equal to `service`, so that all pods of a service share one allocation.
    pub(super) fn shared_id(&self, service: &ServiceId) -> ServiceId {
        self.services.get_key_value(service).map_or_else(|| service.clone(), |(id, _)| id.clone())
    }

    /// Replaces the claims `before` of a pod by those in `now`, because of the write with the number `version`. Claims
    /// in both may have changed their attributes or health.
    pub(super) fn change(
        &mut self,
        pod: &Arc<str>,
        created_s: i64,
        before: &[(ServiceId, Instance)],
        now: &[(ServiceId, Instance)],
        version: u64,
    ) {
        let has = |all: &[(ServiceId, Instance)], wanted: &(ServiceId, Instance)| {
            all.iter().any(|(service, instance)| *service == wanted.0 && instance.id() == wanted.1.id())
        };
        for (service, instance) in before.iter().filter(|claimed| !has(now, claimed)) {
            let Some(entry) = self.services.get_mut(service) else { continue };
            let Some(claim) = entry.claim(instance.id()) else { continue };
            self.conflicting -= claim.pods.len().saturating_sub(1);
            claim.pods.retain(|(_, other)| other != pod);
            self.conflicting += claim.pods.len().saturating_sub(1);
            queue(&mut self.queue, claim, service);
            entry.record_write(version, false);
        }
        for claimed @ (service, instance) in now {
            self.service_or_new(service);
            let Some(entry) = self.services.get_mut(service) else { continue };
            let claim = entry.claim_or_new(instance.id());
            if !has(before, claimed) && !claim.pods.iter().any(|(_, other)| other == pod) {
                self.conflicting -= claim.pods.len().saturating_sub(1);
                let new = (created_s, pod.clone());
                let at = claim.pods.partition_point(|other| *other < new);
                // Nearly every instance is claimed by one pod only, so no spare capacity is reserved.
                claim.pods.reserve_exact(1);
                claim.pods.insert(at, new);
                self.conflicting += claim.pods.len().saturating_sub(1);
            }
            queue(&mut self.queue, claim, service);
            let of_pod =
                |(other, old): &&(ServiceId, Instance)| other == service && old.id() == instance.id();
            match before.iter().find(of_pod) {
                Some((_, old)) if old == instance => {}
                Some((_, old)) => entry.record_write(version, old.is_same_but_for_health(instance)),
                None => entry.record_write(version, false),
            }
        }
    }

    /// Claims to a service. A service that is new here is marked for a lookup in the registry.
    fn service_or_new(&mut self, service: &ServiceId) -> &mut ServiceClaims {
        if !self.services.contains_key(service) {
            self.not_looked_up.push(service.clone());
            self.pending.insert(service.clone());
        }
        self.services.entry(service.clone()).or_default()
    }

    pub(super) fn has_new_services(&self) -> bool {
        !self.not_looked_up.is_empty()
    }

    pub(super) fn look_up(&mut self, all: bool, made_at: impl Fn(&ServiceId) -> Option<u64>) {
        let new = std::mem::take(&mut self.not_looked_up);
        let ids = if all { self.services.keys().cloned().collect() } else { new };
        for id in ids {
            let Some(entry) = self.services.get_mut(&id) else { continue };
            let found = made_at(&id);
            if entry.made_at == found {
                continue;
            }
            // The service was created, deleted, or replaced under its id: the registry has none of its pods.
            entry.made_at = found;
            match found {
                Some(_) => self.pending.remove(&id),
                None => self.pending.insert(id.clone()),
            };
            self.refused.retain(|(service, _)| *service != id);
            entry.are_numbers_sent = entry.contents == 0;
            if entry.claims.is_empty() {
                self.numbers_due.push(id.clone());
            }
            for claim in &mut entry.claims {
                if claim.sent != SentState::Unknown {
                    claim.sent = SentState::Nothing;
                }
                queue(&mut self.queue, claim, &id);
            }
        }
    }

    pub(super) fn next_batch(
        &mut self,
        observations_max: usize,
        current: impl Fn(&str, &ServiceId, &str) -> Option<Instance>,
    ) -> Observed {
        let mut batch = Vec::new();
        let mut services: BTreeSet<ServiceId> = self.numbers_due.drain(..).collect();
        while batch.len() < observations_max
            && let Some((service, id)) = self.queue.pop_front()
        {
            self.dequeued += 1;
            let Some(entry) = self.services.get_mut(&service) else { continue };
            let Ok(at) = entry.position(&id) else { continue };
            let claim = &mut entry.claims[at];
            claim.is_queued = false;
            let wanted = claim.pods.first().and_then(|(_, pod)| current(pod, &service, &id));
            if entry.made_at.is_some() {
                let mut send = |seen| batch.push(Observation { service: service.clone(), seen });
                match &wanted {
                    None if claim.sent != SentState::Nothing => send(Seen::Gone((&*id).into())),
                    Some(now) if !matches!(&claim.sent, SentState::Instance(sent) if sent == now) => {
                        send(Seen::Instance(now.clone()));
                    }
                    _ => {}
                }
                claim.sent = wanted.map_or(SentState::Nothing, SentState::Instance);
            }
            if claim.pods.is_empty() {
                entry.claims.remove(at);
                self.refused.remove(&(service.clone(), id));
            }
            services.insert(service);
        }
        let numbers = services.into_iter().filter_map(|service| self.numbers(service)).collect();
        if self.queue.is_empty() {
            self.queue.shrink_to(QUEUE_CAPACITY_KEPT);
        }
        Observed { observations: batch, numbers }
    }

    /// Numbers of a service, if the registry has the service and does not know them. Forgets a service without claims
    /// when the registry knows everything about it.
    fn numbers(&mut self, service: ServiceId) -> Option<PodNumbers> {
        let entry = self.services.get_mut(&service)?;
        let (revision, contents) = (entry.revision, entry.contents);
        let is_due = entry.made_at.is_some() && !entry.are_numbers_sent && contents > 0;
        entry.are_numbers_sent |= is_due;
        let is_kept = entry.made_at.is_none() && contents > 0 && self.pending.len() <= NUMBERS_KEPT_MAX;
        if entry.claims.is_empty() && !is_kept {
            self.services.remove(&service);
            self.pending.remove(&service);
        }
        is_due.then_some(PodNumbers { service, revision, contents })
    }

    pub(super) fn accepted(&mut self, batch: &Observed, refused: &[Refusal]) -> Vec<usize> {
        let batch = &batch.observations;
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
                // The service was deleted a moment ago and must be searched for again.
                self.not_looked_up.push(observation.service.clone());
            }
            let Some(claim) = entry.claim(observation.seen.id()) else { continue };
            claim.sent = SentState::Nothing;
            if self.refused.insert((observation.service.clone(), observation.seen.id().into())) {
                new.push(*at);
            }
        }
        new
    }

    pub(super) fn failed(&mut self, batch: &Observed) {
        for PodNumbers { service, revision, contents } in &batch.numbers {
            let entry = self.service_or_new(service);
            entry.revision = entry.revision.max(*revision);
            entry.contents = entry.contents.max(*contents);
            entry.are_numbers_sent = false;
            self.numbers_due.push(service.clone());
        }
        for observation in &batch.observations {
            let service = &observation.service;
            self.service_or_new(service);
            let Some(entry) = self.services.get_mut(service) else { continue };
            let claim = entry.claim_or_new(observation.seen.id());
            claim.sent = SentState::Unknown;
            queue(&mut self.queue, claim, service);
        }
    }

    pub(super) fn retry_refused(&mut self) {
        for (service, id) in &self.refused {
            let claim = self.services.get_mut(service).and_then(|entry| entry.claim(id));
            if let Some(claim) = claim {
                queue(&mut self.queue, claim, service);
            }
        }
    }

    pub(super) fn dequeued(&self) -> u64 {
        self.dequeued
    }

    pub(super) fn queue_end(&self) -> u64 {
        self.dequeued + self.queue.len() as u64
    }

    pub(super) fn counts(&self) -> Counts {
        Counts {
            pending_instances: self.pending_services().map(|(_, instances)| instances).sum(),
            refused_instances: self.refused.len(),
            conflicting_claims: self.conflicting,
            queued_instances: self.queue.len(),
            ..Counts::default()
        }
    }

    pub(super) fn pending(&self, services_max: usize) -> Vec<PendingService> {
        let pending = self.pending_services().filter(|(_, instances)| *instances > 0).take(services_max);
        pending
            .map(|(id, instances)| {
                let claims = self.services.get(id).map(|entry| &*entry.claims).unwrap_or_default();
                let pods = claims.iter().filter_map(|claim| claim.pods.first()).take(PODS_NAMED_MAX);
                PendingService {
                    service: id.clone(),
                    instances,
                    pods: pods.map(|(_, pod)| pod.clone()).collect(),
                }
            })
            .collect()
    }

    /// Services that the registry does not have, in order of their ids, with the number of claimed instances.
    fn pending_services(&self) -> impl Iterator<Item = (&ServiceId, usize)> {
        self.pending.iter().filter_map(|id| Some((id, self.services.get(id)?.claimed_instances())))
    }
}

impl ServiceClaims {
    /// Records a write that changed the claims of pods or, if `is_of_health` is true, only their health.
    fn record_write(&mut self, version: u64, is_of_health: bool) {
        self.are_numbers_sent &= version <= self.contents;
        self.contents = self.contents.max(version);
        if !is_of_health {
            self.revision = self.revision.max(version);
        }
    }

    fn claim(&mut self, id: &str) -> Option<&mut InstanceClaims> {
        let at = self.position(id).ok()?;
        self.claims.get_mut(at)
    }

    fn claim_or_new(&mut self, id: &str) -> &mut InstanceClaims {
        let at = self.position(id).unwrap_or_else(|at| {
            if self.claims.len() < CLAIMS_WITHOUT_SPARE_MAX {
                self.claims.reserve_exact(1);
            }
            self.claims.insert(at, InstanceClaims::new(id));
            at
        });
        &mut self.claims[at]
    }

    fn position(&self, id: &str) -> Result<usize, usize> {
        self.claims.binary_search_by(|claim| (*claim.id).cmp(id))
    }

    fn claimed_instances(&self) -> usize {
        self.claims.iter().filter(|claim| !claim.pods.is_empty()).count()
    }
}

impl InstanceClaims {
    fn new(id: &str) -> InstanceClaims {
        InstanceClaims { id: id.into(), pods: Vec::new(), sent: SentState::Nothing, is_queued: false }
    }
}

fn queue(queue: &mut VecDeque<InstanceKey>, claim: &mut InstanceClaims, service: &ServiceId) {
    if !claim.is_queued {
        claim.is_queued = true;
        queue.push_back((service.clone(), claim.id.clone()));
    }
}
