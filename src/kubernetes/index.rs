//! All pods that are known: what is seen of them in, observations for the registry out.
//!
//! Plain data: no cluster, no clock, no registry. [`super::watch`] feeds it, and tests do.
//!
//! # What comes in
//!
//! Pods come from several sources (a watch for each label selector), each with the events of a watch: a list begins, its
//! pods, it is complete; a pod is there; a pod is gone. A pod is known as long as one source has it. A list removes
//! nothing before it is complete; what it did not have is removed then. A list that lacks most of what was known is not
//! believed at once: nothing is removed, and a second list is asked for, which is believed.
//!
//! # What goes out
//!
//! For each instance of a service that the registry has: how its pod is, or that it is gone, once for each difference to
//! what the registry was told last. What can't be sent yet waits as the instance's name alone, so that many changes of
//! one pod are one observation, and waiting takes no more than one place for each instance.
//!
//! Services that the registry does not have are pending: their instances are kept, and sent when the service is there.
//! A service that is there anew under its old id gets them again.
//!
//! # Who has what
//!
//! Two pods can claim one instance id; the older one has it, and the other when that one is gone. Two pods can't have one
//! address, unless it is their node's: the younger one has it, and what is still told of the other is not true any more.

mod claims;
mod sources;

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use crate::model::{Instance, Readiness, ServiceId, Uid};
use crate::registry::{Observed, Refusal};

use super::pod::Sighting;
use claims::Claims;
use sources::Source;

pub use sources::ListEnd;
pub(super) use sources::Source as Lists;

/// The sources that there are.
pub const SOURCES: usize = 2;

/// Contradictions that are kept for whoever asks about an instance; the log and the pod's events have the others too.
const CONTRADICTIONS_KEPT_MAX: usize = 1_000;

/// The pods that are known and what the registry was told of them.
#[derive(Default)]
pub struct Index {
    pods: HashMap<Arc<str>, Known>,
    /// Whose an address is.
    addresses: HashMap<IpAddr, Arc<str>>,
    claims: Claims,
    sources: [Source; SOURCES],
    malformed: usize,
    contradictions: Arc<Contradictions>,
}

/// Entries of annotations that contradict those that pods are registered with, as texts by pod and service.
pub type Contradictions = BTreeMap<(Arc<str>, ServiceId), Arc<str>>;

/// A pod.
struct Known {
    uid: Uid,
    /// etcd's number of the newest version that was seen; 0 where there is none.
    version: u64,
    created_s: i64,
    /// The sources that have it, a bit for each.
    sources: u8,
    /// True if it was ready once: from its newest version, or from earlier ones where the newest does not show it.
    was_ready: bool,
    own_addresses: Box<[IpAddr]>,
    /// What it is an instance of now; nothing while it can't be one.
    instances: Box<[(ServiceId, Instance)]>,
    /// Tells what could not be read of it, and what contradicts itself; 0 when there is nothing of it.
    problems: u64,
    /// True if a part of its annotation could not be read: such pods are counted.
    is_malformed: bool,
}

/// How many there are.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Counts {
    /// Pods that name a Cloud Map service, or tried to.
    pub pods: usize,
    /// Pods with an annotation that could not be read.
    pub malformed_pods: usize,
    /// Instances of services that the registry does not have.
    pub pending_instances: usize,
    /// Instances that the registry refused.
    pub refused_instances: usize,
    /// Pods that claim an instance id that another pod has.
    pub conflicting_claims: usize,
    /// Instances that wait to be told to the registry.
    pub queued_instances: usize,
}

/// Pods that wait for a service that the registry does not have.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Waiting {
    /// Id of the service, as the annotations name it.
    pub service: ServiceId,
    /// Number of instances that the service would have of these pods.
    pub instances: usize,
    /// The first of the pods, as `namespace/name`.
    pub pods: Box<[Arc<str>]>,
}

impl Index {
    /// A list of a source begins, whatever became of the one before.
    pub fn list_begins(&mut self, source: usize) {
        self.sources[source].begin();
    }

    /// A list of a source is complete.
    pub fn list_ends(&mut self, source: usize) -> ListEnd {
        let bit = 1 << source;
        let known = self.pods.iter().filter(|(_, known)| known.sources & bit != 0).map(|(name, _)| name);
        let (end, missing) = self.sources[source].end(known);
        for name in missing {
            self.leave(source, &name, 0);
        }
        end
    }

    /// A pod is there, listed or told of. Returns whether it has problems that were not told of before.
    pub fn see(&mut self, source: usize, sighting: Sighting) -> bool {
        let Sighting {
            name,
            uid,
            version,
            created_s,
            readiness,
            was_ready,
            own_addresses,
            registrations,
            problems,
            contradictions,
        } = sighting;
        if let Some(known) = self.pods.get_mut(&name).filter(|known| version < known.version && version > 0) {
            // The other source was faster: this is a version that the pod had before, or another pod of its name.
            known.sources |= 1 << source;
            self.sources[source].listed(&name);
            return false;
        }
        if registrations.is_empty() && problems.is_empty() {
            // No instance now. Of a pod that was one, what tells it from what comes is kept.
            self.see_without(source, &name, uid, version);
            return false;
        }
        if self.pods.get(&name).is_some_and(|old| old.uid != uid) {
            self.remove(&name, version);
        }
        let (name, old) = match self.pods.remove_entry(&name) {
            Some((name, old)) => (name, Some(old)),
            None => (name, None),
        };
        self.sources[source].listed(&name);
        let was_ready = was_ready.unwrap_or_else(|| old.as_ref().is_some_and(|old| old.was_ready));
        let readiness = match readiness {
            Some(Readiness::NeverReady) if was_ready => Some(Readiness::NotReady),
            readiness => readiness,
        };
        let has_addresses = self.take_addresses(&name, created_s, &own_addresses, old.as_ref(), version);
        let instances: Box<[_]> = match readiness.filter(|_| has_addresses) {
            None => Box::default(),
            Some(readiness) => registrations
                .iter()
                .filter_map(|registration| {
                    let instance =
                        Instance::watched(&registration.id, &name, uid, &registration.attributes, readiness)?;
                    // What is as it was stays where it is: the registry has it too, and it is there once.
                    let is_same =
                        |was: &&(ServiceId, Instance)| was.0 == registration.service && was.1 == instance;
                    let kept = old.as_ref().and_then(|old| old.instances.iter().find(is_same)).cloned();
                    Some(kept.unwrap_or_else(|| (self.claims.shared_id(&registration.service), instance)))
                })
                .collect(),
        };
        let before = old.as_ref().map(|old| &*old.instances).unwrap_or_default();
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
        let known = Known {
            uid,
            version,
            created_s,
            sources,
            was_ready,
            own_addresses,
            instances,
            problems,
            is_malformed,
        };
        self.pods.insert(name, known);
        is_new_problem
    }

    /// A pod is gone, or does not match the source's selector any more. `version` is etcd's number of the write that made it
    /// so, or 0 where that is not known.
    pub fn leave(&mut self, source: usize, name: &str, version: u64) {
        self.sources[source].left(name);
        let Some(known) = self.pods.get_mut(name) else { return };
        known.sources &= !(1 << source);
        if known.sources == 0 {
            self.remove(name, version);
        }
    }

    /// Tells which services the registry has, and when each was made; a service made again has another time. Only
    /// services that were not asked for before are asked for, unless `all` is.
    pub fn look_up(&mut self, all: bool, made_at: impl Fn(&ServiceId) -> Option<u64>) {
        self.claims.look_up(all, made_at);
    }

    /// Whether there are services that were not asked for yet.
    pub fn has_new_services(&self) -> bool {
        self.claims.has_new_services()
    }

    /// What the registry has to be told next, in order, at most so many. Each has to be answered by [`Index::accepted`]
    /// or [`Index::failed`].
    pub fn next_batch(&mut self, observations_max: usize) -> Observed {
        let pods = &self.pods;
        self.claims.next_batch(observations_max, |pod, service, id| {
            let instances = &pods.get(pod)?.instances;
            let (_, instance) =
                instances.iter().find(|(of, instance)| of == service && instance.id() == id)?;
            Some(instance.clone())
        })
    }

    /// The registry took a batch, but for what it refused. Returns the places of what it had not refused before.
    pub fn accepted(&mut self, batch: &Observed, refused: &[Refusal]) -> Vec<usize> {
        self.claims.accepted(batch, refused)
    }

    /// The registry did not take a batch: all of it is to be told again.
    pub fn failed(&mut self, batch: &Observed) {
        self.claims.failed(batch);
    }

    /// What was refused is to be told again: what stood in its way may be gone.
    pub fn retry_refused(&mut self) {
        self.claims.retry_refused();
    }

    /// True if the watch has shown a pod of this name with this uid.
    pub fn knows(&self, name: &str, uid: Uid) -> bool {
        self.pods.get(name).is_some_and(|known| known.uid == uid)
    }

    /// How many instances [`Index::next_batch`] has looked at since the start, those included that needed no telling.
    pub fn dequeued(&self) -> u64 {
        self.claims.dequeued()
    }

    /// What [`Index::dequeued`] will be when everything that waits now has been looked at.
    pub fn queue_end(&self) -> u64 {
        self.claims.queue_end()
    }

    /// How many there are.
    pub fn counts(&self) -> Counts {
        Counts { pods: self.pods.len(), malformed_pods: self.malformed, ..self.claims.counts() }
    }

    /// Contradictions in annotations by pod and service, at most a thousand.
    pub fn contradictions(&self) -> Arc<Contradictions> {
        self.contradictions.clone()
    }

    /// The services that the registry does not have, with the pods that wait for each, at most so many.
    pub fn pending(&self, services_max: usize) -> Vec<Waiting> {
        self.claims.pending(services_max)
    }

    fn see_without(&mut self, source: usize, name: &Arc<str>, uid: Uid, version: u64) {
        let Some(known) = self.pods.get_mut(name) else { return };
        if known.uid != uid {
            self.remove(name, version);
            return;
        }
        self.sources[source].listed(name);
        known.version = version;
        known.sources |= 1 << source;
        known.problems = 0;
        self.malformed -= usize::from(std::mem::take(&mut known.is_malformed));
        let (instances, created_s) = (std::mem::take(&mut known.instances), known.created_s);
        let addresses = std::mem::take(&mut known.own_addresses);
        self.release(name, &addresses);
        self.claims.change(name, created_s, &instances, &[], version);
        self.set_contradictions(name, &[]);
    }

    fn remove(&mut self, name: &str, version: u64) {
        let Some((name, known)) = self.pods.remove_entry(name) else { return };
        self.malformed -= usize::from(known.is_malformed);
        self.set_contradictions(&name, &[]);
        self.release(&name, &known.own_addresses);
        self.claims.change(&name, known.created_s, &known.instances, &[], version);
    }

    /// Replaces the contradictions that are kept for a pod.
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

    /// Gives a pod its addresses. False when a younger pod has one of them: then this one is told of as it was.
    fn take_addresses(
        &mut self,
        name: &Arc<str>,
        created_s: i64,
        addresses: &[IpAddr],
        old: Option<&Known>,
        version: u64,
    ) -> bool {
        if let Some(old) = old {
            self.release(name, &old.own_addresses);
        }
        let holder = |address| self.addresses.get(address).and_then(|holder| self.pods.get(holder));
        if addresses.iter().filter_map(holder).any(|holder| holder.created_s > created_s) {
            return false;
        }
        for address in addresses {
            let Some(holder) = self.addresses.insert(*address, name.clone()) else { continue };
            let Some(other) = self.pods.get_mut(&holder) else { continue };
            let (before, created_s) = (std::mem::take(&mut other.instances), other.created_s);
            let others = std::mem::take(&mut other.own_addresses);
            let others: Vec<IpAddr> = others.iter().filter(|other| *other != address).copied().collect();
            self.release(&holder, &others);
            self.claims.change(&holder, created_s, &before, &[], version);
        }
        true
    }

    fn release(&mut self, name: &str, addresses: &[IpAddr]) {
        for address in addresses {
            if self.addresses.get(address).is_some_and(|holder| **holder == *name) {
                self.addresses.remove(address);
            }
        }
    }
}

/// Tells problems apart; 0 for none.
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
