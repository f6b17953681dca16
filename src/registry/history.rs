//! The last changes of instances' health, with their causes.
//!
//! Each server keeps those that it has applied since its start, in memory: at most [`SERVICE_TRANSITIONS_MAX`] of a service,
//! and 100,000 altogether, of which the oldest are dropped.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::exposition::{Collect, Exposition};
use crate::model::{EpochMs, HealthStatus, Instance, ServiceId};

use super::{
    change::Change,
    health::{Cause, CauseKind, HealthSettings},
    served::Served,
    state::{ServiceState, State},
};

/// Transitions that are kept of one service.
pub const SERVICE_TRANSITIONS_MAX: usize = 100;
/// Transitions that are kept of all services together.
const TRANSITIONS_MAX: usize = 100_000;

/// Change of an instance's health. `before` is `None` for an instance that was registered, and `now` for one that is gone.
#[derive(Clone, Debug, Eq, PartialEq)]
#[expect(missing_docs, reason = "the type's document explains the fields")]
pub struct Transition {
    /// Time at which this server applied it.
    pub at_ms: EpochMs,
    pub instance: Box<str>,
    pub before: Option<HealthStatus>,
    pub now: Option<HealthStatus>,
    pub cause: Cause,
}

/// The last transitions of each service.
pub struct History {
    kept: Mutex<Kept>,
}

/// `order` has the service of each kept transition by its number, so that the oldest of all can be found.
struct Kept {
    services: HashMap<ServiceId, VecDeque<(u64, Arc<Transition>)>>,
    order: BTreeMap<u64, ServiceId>,
    next: u64,
    counts: [u64; CauseKind::WORDS.len()],
    started_s: u32,
}

impl History {
    /// A history that begins at `now_ms`. Pods that were started before do not get a transition when this server sees them
    /// for the first time.
    pub(super) fn new(now_ms: EpochMs) -> History {
        let started_s = u32::try_from(now_ms / 1_000).unwrap_or(u32::MAX);
        let (services, order) = (HashMap::new(), BTreeMap::new());
        let kept = Kept { services, order, next: 0, counts: Default::default(), started_s };
        History { kept: Mutex::new(kept) }
    }

    /// The last transitions of a service, the oldest first.
    pub fn of(&self, service: &ServiceId) -> Vec<Arc<Transition>> {
        let kept = self.lock();
        let transitions = kept.services.get(service).into_iter().flatten();
        transitions.map(|(_, transition)| transition.clone()).collect()
    }

    /// Records the transitions between two states that differ by these changes.
    pub(super) fn record<'s, 'c: 's>(
        &self,
        old: &'s State,
        new: &'s State,
        changes: impl Iterator<Item = &'c Change>,
        policies: &HealthSettings,
        served: &Served,
        now_ms: EpochMs,
    ) {
        let mut seen = HashSet::new();
        let (mut found, mut gone) = (Vec::new(), Vec::new());
        for change in changes {
            match change {
                Change::PutInstance(service, instance) => {
                    let key = (service, instance.id());
                    seen.insert(key).then(|| compare(old, new, key, policies, &mut found));
                }
                Change::DeleteInstance(service, id)
                | Change::ForgetInstance(service, id)
                | Change::PutPodSignals(service, id, _)
                | Change::DropPodSignals(service, id) => {
                    let key = (service, &**id);
                    seen.insert(key).then(|| compare(old, new, key, policies, &mut found));
                }
                Change::PutService(service) => {
                    compare_all([old, new], &service.id, policies, &mut seen, &mut found);
                }
                Change::DeleteService(service) | Change::ForgetService(service) => gone.push(service),
                _ => {}
            }
        }
        if !found.is_empty() {
            let mut kept = self.lock();
            for found in found {
                let condition_s = found.condition_s;
                if kept.add(found, now_ms)
                    && let Some(condition_s) = condition_s
                {
                    let after_ms = now_ms - EpochMs::from(condition_s) * 1_000;
                    served.pod_followed(Duration::from_millis(u64::try_from(after_ms).unwrap_or(0)));
                }
            }
        }
        for service in gone.into_iter().filter(|service| new.service(service.as_str()).is_err()) {
            self.lock().forget(service);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Collect for History {
    fn collect(&self, out: &mut Exposition) {
        let counts = self.lock().counts;
        let mut family = out.counter(
            "health_transitions_total",
            "Changes of instances' health, by the kind of their causes.",
        );
        for ((word, _), count) in CauseKind::WORDS.iter().zip(counts) {
            family.sample(&[("cause", word)], count);
        }
    }
}

/// A transition that was found, the start of the pod that appeared by it, and the time of the pod's condition that caused it.
struct Found<'s> {
    service: &'s ServiceId,
    instance: Box<str>,
    statuses: [Option<HealthStatus>; 2],
    cause: Cause,
    appeared_s: Option<u32>,
    condition_s: Option<u32>,
}

fn compare<'s>(
    old: &State,
    new: &State,
    (service, id): (&'s ServiceId, &str),
    policies: &HealthSettings,
    found: &mut Vec<Found<'s>>,
) {
    let of = |state: &State| state.service(service.as_str()).ok().cloned();
    let (old_service, new_service) = (of(old), of(new));
    let before = old_service.as_ref().and_then(|state| Some((&**state, state.instance(id).ok()?)));
    let now = new_service.as_ref().and_then(|state| Some((&**state, state.instance(id).ok()?)));
    if let (Some((old_service, before)), Some((new_service, now))) = (before, now)
        && before.has_health_of(now)
        && !before.has_details()
        && !now.has_details()
        && Arc::ptr_eq(&old_service.service, &new_service.service)
    {
        return;
    }
    found.extend(transition([old, new], service, id, before, now, policies));
}

/// Compares all instances of a service whose definition may have changed.
fn compare_all<'s>(
    [old, new]: [&'s State; 2],
    service: &'s ServiceId,
    policies: &HealthSettings,
    seen: &mut HashSet<(&'s ServiceId, &'s str)>,
    found: &mut Vec<Found<'s>>,
) {
    let (Ok(before), Ok(now)) = (old.service(service.as_str()), new.service(service.as_str())) else {
        return;
    };
    let (was, is) = (&before.service, &now.service);
    if was.attributes == is.attributes
        && was.health_check == is.health_check
        && was.custom_health_check == is.custom_health_check
    {
        return;
    }
    for instance in now.instances() {
        let id = instance.id();
        let Ok(was) = before.instance(id) else { continue };
        if !seen.insert((service, id)) {
            continue;
        }
        let states = [old, new];
        if let Some(changed) =
            transition(states, service, id, Some((before, was)), Some((now, instance)), policies)
        {
            let text = format!("policy of the service: {}", changed.cause.text).into();
            found.push(Found { cause: Cause { kind: CauseKind::Policy, text }, ..changed });
        }
    }
}

fn transition<'s>(
    [old, new]: [&State; 2],
    service: &'s ServiceId,
    id: &str,
    before: Option<(&ServiceState, &Instance)>,
    now: Option<(&ServiceState, &Instance)>,
    policies: &HealthSettings,
) -> Option<Found<'s>> {
    let status = |(state, instance): (&ServiceState, &Instance)| policies.of(state).status_of(instance);
    let statuses = [before.map(status), now.map(status)];
    let was_in_maintenance = before.is_some_and(|(_, instance)| instance.is_in_maintenance());
    let is_in_maintenance = now.is_some_and(|(_, instance)| instance.is_in_maintenance());
    if statuses[0] == statuses[1] && (was_in_maintenance == is_in_maintenance) {
        return None;
    }
    let cause = match now {
        None => {
            let pod = before.and_then(|(_, instance)| instance.pod());
            let text =
                pod.map_or("deregistered".into(), |pod| format!("pod {pod} is gone or leaving").into());
            Cause { kind: CauseKind::Removal, text }
        }
        // Registrations are by far the most frequent changes.
        Some((_, instance))
            if before.is_none() && !instance.is_watched() && statuses[1] != Some(HealthStatus::Unhealthy) =>
        {
            Cause { kind: CauseKind::Registration, text: "registered".into() }
        }
        Some((of, instance)) => {
            let cause = policies.of(of).cause_of(instance, &new.signals(&of.service.id, instance));
            let withdrawn = before.and_then(|(_, was)| withdrawn_source([old, new], service, was, instance));
            match before {
                None => {
                    let text = format!("registered: {}", cause.text).into();
                    Cause { kind: CauseKind::Registration, text }
                }
                Some(_) if was_in_maintenance && !is_in_maintenance => {
                    let text = format!("maintenance lifted: {}", cause.text).into();
                    Cause { kind: CauseKind::Maintenance, text }
                }
                Some(_) => match withdrawn {
                    Some(source) => {
                        let text = format!("report of {source} withdrawn: {}", cause.text).into();
                        Cause { kind: CauseKind::Report, text }
                    }
                    None => cause,
                },
            }
        }
    };
    let appeared = now.filter(|_| before.is_none());
    let appeared_s = appeared.and_then(|(_, instance)| instance.pod_started_s());
    let readiness = |(_, instance): (&ServiceState, &Instance)| instance.readiness();
    let has_new_readiness = before.and_then(readiness) != now.and_then(readiness);
    let condition_s =
        now.filter(|_| has_new_readiness).and_then(|(_, instance)| instance.readiness_changed_s());
    let condition_s = condition_s.filter(|at| *at > 0);
    Some(Found { service, instance: id.into(), statuses, cause, appeared_s, condition_s })
}

/// A source whose report about an instance is in the first state and not in the second.
fn withdrawn_source(
    [old, new]: [&State; 2],
    service: &ServiceId,
    was: &Instance,
    is: &Instance,
) -> Option<String> {
    was.sources_health()?;
    let now = new.signals(service, is).sources;
    let mut gone = old.signals(service, was).sources.into_iter();
    let gone = gone.find(|before| !now.iter().any(|source| source.source == before.source))?;
    Some(gone.source)
}

impl Kept {
    /// Returns false for a pod that ran before the history began, whose first transition is not kept.
    fn add(&mut self, found: Found<'_>, at_ms: EpochMs) -> bool {
        if found.appeared_s.is_some_and(|started| started < self.started_s) {
            return false;
        }
        let Found { service, instance, statuses: [before, now], cause, .. } = found;
        let kind = CauseKind::WORDS.iter().position(|(_, kind)| *kind == cause.kind);
        if let Some(count) = kind.and_then(|kind| self.counts.get_mut(kind)) {
            *count += 1;
        }
        let number = self.next;
        self.next += 1;
        let transitions = self.services.entry(service.clone()).or_default();
        if transitions.len() >= SERVICE_TRANSITIONS_MAX
            && let Some((oldest, _)) = transitions.pop_front()
        {
            self.order.remove(&oldest);
        }
        transitions.push_back((number, Transition { at_ms, instance, before, now, cause }.into()));
        self.order.insert(number, service.clone());
        if self.order.len() > TRANSITIONS_MAX
            && let Some((_, service)) = self.order.pop_first()
            && let Some(transitions) = self.services.get_mut(&service)
        {
            transitions.pop_front();
            if transitions.is_empty() {
                self.services.remove(&service);
            }
        }
        true
    }

    fn forget(&mut self, service: &ServiceId) {
        for (number, _) in self.services.remove(service).into_iter().flatten() {
            self.order.remove(&number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(service: &ServiceId, at: usize) -> Found<'_> {
        Found {
            service,
            instance: at.to_string().into(),
            statuses: [None, Some(HealthStatus::Healthy)],
            cause: Cause { kind: CauseKind::Registration, text: "".into() },
            appeared_s: None,
            condition_s: None,
        }
    }

    #[test]
    fn the_oldest_transitions_are_dropped() {
        let history = History::new(5_000);
        let (one, other) = (ServiceId::from("srv-1"), ServiceId::from("srv-2"));
        let ids = |service: &ServiceId| -> Vec<String> {
            history.of(service).iter().map(|transition| transition.instance.to_string()).collect()
        };
        assert!(history.lock().add(found(&other, 7), 1));
        for at in 0..SERVICE_TRANSITIONS_MAX + 2 {
            history.lock().add(found(&one, at), 2);
        }
        assert_eq!((ids(&one).len(), ids(&one)[0].as_str()), (SERVICE_TRANSITIONS_MAX, "2"));
        assert_eq!(history.lock().order.len(), SERVICE_TRANSITIONS_MAX + 1);
        let services: Vec<_> =
            (0..TRANSITIONS_MAX - 1).map(|at| ServiceId::from(format!("srv-x{at}").as_str())).collect();
        for service in &services {
            history.lock().add(found(service, 0), 3);
        }
        assert_eq!((ids(&other).len(), ids(&one).len()), (0, 1));
        assert_eq!(history.lock().order.len(), TRANSITIONS_MAX);
        history.lock().forget(&services[5]);
        assert_eq!((ids(&services[5]).len(), history.lock().order.len()), (0, TRANSITIONS_MAX - 1));
        // A pod that ran before the server started is not new.
        for (appeared_s, expected) in [(4, 0), (5, 1)] {
            history.lock().add(Found { appeared_s: Some(appeared_s), ..found(&other, 1) }, 4);
            assert_eq!(ids(&other).len(), expected);
        }
    }
}
