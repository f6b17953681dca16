//! Services whose answers have the smaller TTL of the policy `settling-ttl`.
//!
//! A service settles for the largest TTL of its records after its answers have changed, and while an instance of it is not
//! ready yet. The writer sets the mark in the state that it publishes, and publishes the service again when it has settled.
//! Each server does so for itself: the TTL of an answer is no part of the zone's contents, so that serials do not change.

use std::time::{Duration, Instant};

use crate::model::HealthStatus;

use super::{
    change::Event,
    health::{HealthSettings, ServiceHealth},
    state::{ServiceState, State},
    timetable::Timetable,
};

/// Services that are published together when they have settled, so that commands do not wait long.
const SETTLED_MAX: usize = 256;

/// The services that settle because they have changed, with the time at which that ends.
#[derive(Default)]
pub(super) struct Settling {
    ends: Timetable<Instant>,
}

impl Settling {
    /// Marks the services of these events in `next`, which follows the state `old`.
    pub(super) fn mark(
        &mut self,
        old: &State,
        next: &mut State,
        events: &[Event],
        policies: &HealthSettings,
        now: Instant,
    ) {
        for event in events {
            let Event::Service(id) = event else { continue };
            let Ok(after) = next.service(id.as_str()).cloned() else {
                self.ends.set(id, None);
                continue;
            };
            let health = policies.of(&after);
            let is_on = !health.settings().settling_ttl.is_zero() && after.service.dns.is_some();
            if !is_on {
                if after.is_settling() {
                    self.ends.set(id, None);
                    next.set_settling(id, false);
                }
                continue;
            }
            let before = old.service(id.as_str()).ok();
            if before.is_none_or(|before| has_changed(before, &after, policies)) {
                let records = after.service.dns.iter().flat_map(|dns| &dns.records);
                let ttl = records.map(|record| record.ttl).max().unwrap_or(0);
                self.ends.set(id, Some(now + Duration::from_secs(ttl.into())));
            }
            next.set_settling(id, self.ends.of(id).is_some() || waits(&after, health));
        }
    }

    /// The next time at which a service may have settled.
    pub(super) fn due(&self) -> Option<Instant> {
        self.ends.next()
    }

    /// Removes the marks of the services that have settled, and returns an event for each of them.
    pub(super) fn end_due(
        &mut self,
        state: &mut State,
        policies: &HealthSettings,
        now: Instant,
    ) -> Vec<Event> {
        let mut settled = Vec::new();
        while settled.len() < SETTLED_MAX
            && let Some(id) = self.ends.pop_due(now)
        {
            let Ok(service) = state.service(id.as_str()).cloned() else { continue };
            if !waits(&service, policies.of(&service)) {
                state.set_settling(&id, false);
                settled.push(Event::Service(id));
            }
        }
        settled
    }
}

/// True if the answers of the two versions of a service differ, or the policy.
fn has_changed(before: &ServiceState, after: &ServiceState, policies: &HealthSettings) -> bool {
    let ttl = |state: &ServiceState| policies.of(state).settings().settling_ttl;
    if before.service.dns != after.service.dns || ttl(before) != ttl(after) {
        return true;
    }
    let (was, is) = (policies.answering(before), policies.answering(after));
    let mut answered_before = before.instances().iter().filter(|instance| was.answers(instance));
    let mut answered = after.instances().iter().filter(|instance| is.answers(instance));
    loop {
        match (answered_before.next(), answered.next()) {
            (None, None) => return false,
            (Some(one), Some(other)) if one.is_same_but_for_health(other) => {}
            _ => return true,
        }
    }
}

/// True if a pod of the service is not ready yet.
fn waits(state: &ServiceState, health: ServiceHealth<'_>) -> bool {
    let mut pods = state.instances().iter().filter(|instance| instance.is_watched());
    pods.any(|instance| health.status_of(instance) == HealthStatus::Unknown)
}
