//! Index of pods: events of watches in, observations for the registry out.
//!
//! It is plain data without a cluster, clock or registry, so that tests can feed it as [`super::watch`] does.
//!
//! # Input
//!
//! Pods come from several sources (a watch for each label selector). Each source delivers lists, which begin, name
//! their pods and are complete, and between them updates and deletions. A pod is known as long as one source has it. A
//! list removes pods only when it is complete. A list that lacks most of the known pods is suspect: it removes
//! nothing, and a second list is requested, which is accepted.
//!
//! # Output
//!
//! For each instance of a service that the registry has: the state of its pod, or its removal, once for each
//! difference to the state that was sent last. The queue has only the ids of the instances that changed, so that many
//! changes of one pod are one observation, and the queue has at most one entry for each instance.
//!
//! Services that the registry does not have are pending: their instances are kept, and sent when the service exists. A
//! service that is created again under its old id gets them again.
//!
//! # Conflicts
//!
//! If two pods claim one instance id, the older pod has it, and the other one gets it when the older is gone. If two
//! pods have one address that is not their node's, the younger pod has it, because the older one's state must be out
//! of date. A terminating pod is no instance, so any pod that does not terminate takes its address.
//!
//! # Table for the mirror
//!
//! With a table, the nodes and zones of the pods and the endpoints of terminating pods are written there. A
//! terminating pod is then known even if no earlier version of it was seen, such as after a restart of the server.

mod claims;
mod counts;

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use crate::model::{Instance, ObservedPod, Readiness, ReadinessSince, ServiceId, Uid};
use crate::registry::{Observed, Refusal};

use super::follow::ListTracker;
use super::pod::{KnownReadiness, ParsedPod};
use super::pod_table::PodTable;
use claims::Claims;

pub use super::follow::ListEnd;
pub use counts::{Counts, PendingService};

/// Number of sources, which have one label selector each.
pub const SOURCES: usize = 2;

/// Contradictions that are kept for explain. Further ones are only in the log and in the pod's events.
const CONTRADICTIONS_KEPT_MAX: usize = 1_000;

/// Index of the known pods, and of the state of their instances in the registry.
#[derive(Default)]
pub struct Index {
    pods: HashMap<Arc<str>, PodEntry>,
    addresses: HashMap<IpAddr, Arc<str>>,
    claims: Claims,
    sources: [ListTracker<Arc<str>>; SOURCES],
    malformed: usize,
    contradictions: Arc<Contradictions>,
    table: Option<Arc<PodTable>>,
}

/// Texts about entries of annotations that contradict those that pods are registered with, by pod and service.
pub type Contradictions = BTreeMap<(Arc<str>, ServiceId), Arc<str>>;

/// Last known state of a pod. `version` is the newest that was seen; 0 if it has none. `sources` is the bit set of
/// the sources that have the pod. `was_ready` is true if the pod was ever ready: from its newest version, or from
/// earlier ones if the newest does not show it. `instances` is empty while the pod can't be one. `problems` is a
/// digest of the problems and contradictions, so that each set is reported once; 0 if there are none.
/// `is_malformed` is true if a part of the annotations could not be read. `is_terminating` is true if the newest
/// version of the pod has terminating endpoints.
struct PodEntry {
    uid: Uid,
    version: u64,
    created_s: i64,
    sources: u8,
    was_ready: bool,
    own_addresses: Box<[IpAddr]>,
    instances: Box<[(ServiceId, Instance)]>,
    problems: u64,
    is_malformed: bool,
    is_terminating: bool,
}

impl PodEntry {
    /// Rank of the pod among those that have one address; the highest has it.
    fn rank(&self) -> (bool, i64) {
        (!self.is_terminating, self.created_s)
    }

    /// True if the container behind the pod's instance of this service was ready at some time.
    fn was_container_ready(&self, service: &ServiceId) -> bool {
        self.instances.iter().any(|(of, instance)| {
            of == service && instance.container_readiness() != Some(Readiness::NeverReady)
        })
    }
}

/// Readiness of a pod or container that was ready before, if `was_ready` and its newest version does not show otherwise.
fn remembered(known: KnownReadiness, was_ready: bool) -> ReadinessSince {
    let readiness = match known.readiness {
        Readiness::NeverReady if known.was_ready.unwrap_or(was_ready) => Readiness::NotReady,
        readiness => readiness,
    };
    ReadinessSince { readiness, changed_s: known.changed_s }
}

impl Index {
    /// Index that writes to the table of a mirror, if there is one.
    pub(super) fn new(table: Option<Arc<PodTable>>) -> Index {
        Index { table, ..Index::default() }
    }

    /// Starts a list of a source. An unfinished earlier list is discarded.
    pub fn list_begins(&mut self, source: usize) {
        self.sources[source].begin();
    }

    /// Completes a list of a source. Unless the list is suspect, pods that it lacks are removed.
    pub fn list_ends(&mut self, source: usize) -> ListEnd {
        let bit = 1 << source;
        let known = self.pods.iter().filter(|(_, entry)| entry.sources & bit != 0).map(|(name, _)| name);
        let (end, missing) = self.sources[source].end(known);
        for name in missing {
            self.delete(source, &name, 0);
        }
        end
    }

    /// Inserts or updates a pod from a list or a watch. Returns true if it has problems that were not reported before.
    pub fn upsert(&mut self, source: usize, parsed: ParsedPod) -> bool {
        let ParsedPod {
            name,
            uid,
            version,
            created_s,
            started_s,
            details,
            readiness,
            was_ready,
            own_addresses,
            registrations,
            placement,
            drained_at,
            mut terminating,
            problems,
            mut contradictions,
        } = parsed;
        if let Some(entry) = self.pods.get_mut(&name).filter(|entry| version < entry.version && version > 0) {
            // The other source was faster: this is an earlier version of the pod, or an earlier pod of its name.
            entry.sources |= 1 << source;
            self.sources[source].listed(&name);
            return false;
        }
        if self.table.is_none() {
            terminating.clear();
        }
        if registrations.is_empty() && problems.is_empty() && terminating.is_empty() {
            // Not an instance now. If it was one, keep its uid and `was_ready`, so that a successor of its name is
            // recognised.
            self.upsert_without_instances(source, &name, uid, version);
            return false;
        }
        if self.pods.get(&name).is_some_and(|old| old.uid != uid) {
            self.remove(&name, version);
        }
        let is_terminating = !terminating.is_empty();
        if is_terminating {
            // The pod is not registered any more, so that no entry of its annotation is left to contradict another one.
            contradictions.clear();
        }
        let (name, old) = match self.pods.remove_entry(&name) {
            Some((name, old)) => (name, Some(old)),
            None => (name, None),
        };
        self.sources[source].listed(&name);
        let was_ready = was_ready.unwrap_or_else(|| old.as_ref().is_some_and(|old| old.was_ready));
        let rank = (!is_terminating, created_s);
        let has_addresses = self.claim_addresses(&name, rank, &own_addresses, old.as_ref(), version);
        let instances: Box<[_]> = match readiness.filter(|_| has_addresses) {
            None => Box::default(),
            Some(_) => registrations
                .iter()
                .filter_map(|registration| {
                    let was_container_ready = was_ready
                        || old.as_ref().is_some_and(|old| old.was_container_ready(&registration.service));
                    let pod = ObservedPod {
                        name: &name,
                        uid,
                        started_s,
                        readiness: remembered(registration.readiness, was_ready),
                        container_readiness: remembered(
                            registration.container_readiness,
                            was_container_ready,
                        ),
                        details: &details,
                    };
                    let instance = Instance::watched(&registration.id, &pod, &registration.attributes)?;
                    // Reuse the old instance if nothing changed, so that the index and the registry share one
                    // allocation.
                    let is_same =
                        |was: &&(ServiceId, Instance)| was.0 == registration.service && was.1 == instance;
                    let kept = old.as_ref().and_then(|old| old.instances.iter().find(is_same)).cloned();
                    Some(kept.unwrap_or_else(|| (self.claims.shared_id(&registration.service), instance)))
                })
                .collect(),
        };
        let before = old.as_ref().map(|old| &*old.instances).unwrap_or_default();
        if let Some(table) = &self.table {
            if !has_addresses {
                terminating.clear();
            }
            table.set_placement(uid, &placement, instances.iter().map(|(service, _)| service));
            table.set_terminating(&name, terminating);
            let services = instances.iter().map(|(service, _)| service);
            table.set_drained_at(&name, uid, drained_at, services);
        }
        self.claims.change(&name, created_s, before, &instances, version);
        self.set_contradictions(&name, &contradictions);
        let digest = problems_digest(&problems, &contradictions);
        let is_malformed = !problems.is_empty();
        let is_new_problem = digest != 0 && old.as_ref().is_none_or(|old| old.problems != digest);
        let was_malformed = old.as_ref().is_some_and(|old| old.is_malformed);
        self.malformed = self.malformed + usize::from(is_malformed) - usize::from(was_malformed);
        let sources = old.map_or(0, |old| old.sources) | 1 << source;
        let own_addresses = if has_addresses { own_addresses.into() } else { Box::default() };
        let problems = digest;
        let entry = PodEntry {
            uid,
            version,
            created_s,
            sources,
            was_ready,
            own_addresses,
            instances,
            problems,
            is_malformed,
            is_terminating,
        };
        self.pods.insert(name, entry);
        is_new_problem
    }

    /// Removes a pod from a source, because it was deleted or does not match the selector any more. `version` is the
    /// number of the write that caused this, or 0 if it is not known.
    pub fn delete(&mut self, source: usize, name: &str, version: u64) {
        self.sources[source].deleted(name);
        let Some(entry) = self.pods.get_mut(name) else { return };
        entry.sources &= !(1 << source);
        if entry.sources == 0 {
            self.remove(name, version);
        }
    }

    /// Looks up when each service was created in the registry; a service that was created again has another time. Only
    /// services that were not looked up before are, unless `all` is true.
    pub fn look_up(&mut self, all: bool, made_at: impl Fn(&ServiceId) -> Option<u64>) {
        self.claims.look_up(all, made_at);
    }

    /// True if there are services that were not looked up yet.
    pub fn has_new_services(&self) -> bool {
        self.claims.has_new_services()
    }

    /// Next observations for the registry in order, at most `observations_max`. Each batch must be followed by
    /// [`Index::accepted`] or [`Index::failed`].
    pub fn next_batch(&mut self, observations_max: usize) -> Observed {
        let pods = &self.pods;
        self.claims.next_batch(observations_max, |pod, service, id| {
            let instances = &pods.get(pod)?.instances;
            let (_, instance) =
                instances.iter().find(|(of, instance)| of == service && instance.id() == id)?;
            Some(instance.clone())
        })
    }

    /// Records that the registry accepted a batch except for `refused`. Returns the positions of the observations that
    /// had not been refused before.
    pub fn accepted(&mut self, batch: &Observed, refused: &[Refusal]) -> Vec<usize> {
        self.claims.accepted(batch, refused)
    }

    /// Records that the registry failed to carry out a batch, so that all of it is sent again.
    pub fn failed(&mut self, batch: &Observed) {
        self.claims.failed(batch);
    }

    /// Queues all refused instances, because the reasons for the refusals may be gone.
    pub fn retry_refused(&mut self) {
        self.claims.retry_refused();
    }

    /// True if a pod of this name with this uid is known.
    pub fn knows(&self, name: &str, uid: Uid) -> bool {
        self.pods.get(name).is_some_and(|entry| entry.uid == uid)
    }

    /// Number of queue entries that [`Index::next_batch`] has processed since the start, including those that needed
    /// no observation.
    pub fn dequeued(&self) -> u64 {
        self.claims.dequeued()
    }

    /// Value that [`Index::dequeued`] will have when all entries that are queued now are processed.
    pub fn queue_end(&self) -> u64 {
        self.claims.queue_end()
    }

    /// Current numbers of pods, instances and claims.
    pub fn counts(&self) -> Counts {
        Counts { pods: self.pods.len(), malformed_pods: self.malformed, ..self.claims.counts() }
    }

    /// Contradictions in annotations by pod and service, at most a thousand.
    pub fn contradictions(&self) -> Arc<Contradictions> {
        self.contradictions.clone()
    }

    /// Services that the registry does not have, with the pods that wait for each, at most `services_max`.
    pub fn pending(&self, services_max: usize) -> Vec<PendingService> {
        self.claims.pending(services_max)
    }

    fn upsert_without_instances(&mut self, source: usize, name: &Arc<str>, uid: Uid, version: u64) {
        let Some(entry) = self.pods.get_mut(name) else { return };
        if entry.uid != uid {
            self.remove(name, version);
            return;
        }
        self.sources[source].listed(name);
        entry.version = version;
        entry.sources |= 1 << source;
        entry.problems = 0;
        if std::mem::take(&mut entry.is_terminating)
            && let Some(table) = &self.table
        {
            table.set_terminating(name, Vec::new());
        }
        if let Some(table) = &self.table {
            table.set_drained_at(name, uid, None, [].into_iter());
        }
        self.malformed -= usize::from(std::mem::take(&mut entry.is_malformed));
        let (instances, created_s) = (std::mem::take(&mut entry.instances), entry.created_s);
        let addresses = std::mem::take(&mut entry.own_addresses);
        self.release_addresses(name, &addresses);
        self.claims.change(name, created_s, &instances, &[], version);
        self.set_contradictions(name, &[]);
    }

    fn remove(&mut self, name: &str, version: u64) {
        let Some((name, entry)) = self.pods.remove_entry(name) else { return };
        self.malformed -= usize::from(entry.is_malformed);
        self.set_contradictions(&name, &[]);
        self.release_addresses(&name, &entry.own_addresses);
        if let Some(table) = &self.table {
            table.remove(&name, entry.uid);
        }
        self.claims.change(&name, entry.created_s, &entry.instances, &[], version);
    }

    fn set_contradictions(&mut self, pod: &Arc<str>, new: &[(ServiceId, String)]) {
        let first = || (pod.clone(), ServiceId::from(""));
        let old: Vec<_> = self
            .contradictions
            .range(first()..)
            .take_while(|((other, _), _)| other == pod)
            .map(|(key, text)| (key.clone(), text.clone()))
            .collect();
        let is_same = old.len() == new.len()
            && old.iter().all(|((_, service), text)| {
                new.iter().any(|(other, new)| other == service && **text == **new)
            });
        if is_same {
            return;
        }
        let kept = Arc::make_mut(&mut self.contradictions);
        old.iter().for_each(|(key, _)| drop(kept.remove(key)));
        for (service, text) in new {
            if kept.len() < CONTRADICTIONS_KEPT_MAX {
                kept.insert((pod.clone(), service.clone()), text.as_str().into());
            }
        }
    }

    /// Assigns addresses to a pod of this rank and takes them from pods of a lower or equal one. Returns false if a pod of
    /// a higher rank has one of them, because the state of this pod must be out of date then.
    fn claim_addresses(
        &mut self,
        name: &Arc<str>,
        rank: (bool, i64),
        addresses: &[IpAddr],
        old: Option<&PodEntry>,
        version: u64,
    ) -> bool {
        if let Some(old) = old {
            self.release_addresses(name, &old.own_addresses);
        }
        let holder = |address| self.addresses.get(address).and_then(|holder| self.pods.get(holder));
        if addresses.iter().filter_map(holder).any(|holder| holder.rank() > rank) {
            return false;
        }
        for address in addresses {
            let Some(holder) = self.addresses.insert(*address, name.clone()) else { continue };
            let Some(other) = self.pods.get_mut(&holder) else { continue };
            let (before, created_s) = (std::mem::take(&mut other.instances), other.created_s);
            let others = std::mem::take(&mut other.own_addresses);
            let others: Vec<IpAddr> = others.iter().filter(|other| *other != address).copied().collect();
            self.release_addresses(&holder, &others);
            if let Some(table) = &self.table {
                table.set_terminating(&holder, Vec::new());
            }
            self.claims.change(&holder, created_s, &before, &[], version);
        }
        true
    }

    fn release_addresses(&mut self, name: &str, addresses: &[IpAddr]) {
        for address in addresses {
            if self.addresses.get(address).is_some_and(|holder| **holder == *name) {
                self.addresses.remove(address);
            }
        }
    }
}

fn problems_digest(problems: &[String], contradictions: &[(ServiceId, String)]) -> u64 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    if problems.is_empty() && contradictions.is_empty() {
        return 0;
    }
    let mut hasher = DefaultHasher::new();
    (problems, contradictions).hash(&mut hasher);
    hasher.finish().max(1)
}

#[cfg(test)]
mod tests;
