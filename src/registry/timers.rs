//! The timers of health: reports that end, are missing or wait, grace periods, and readiness that has to last.
//!
//! They run at one server at a time. They keep no state of their own that another server would need: the times follow from
//! the registry's state, and what is due is stored by [`Command::Elapse`].

use std::collections::HashSet;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use crate::model::{EpochMs, ServiceId, now_ms};

use super::{
    command::Command, handle::Registry, state::ServiceState, state::State, subscription::Subscription,
    timetable::Timetable,
};

/// Time for which changes are collected before their services are checked, in milliseconds. A service with many reports
/// is then checked ten times a second at most.
const COLLECT_MS: u64 = 100;
/// Commands that are submitted at a time.
const SUBMITTED_MAX: usize = 256;
/// Time after which a service with something due is checked again, in milliseconds.
const RETRY_MS: EpochMs = 1_000;
/// Longest sleep, in milliseconds, because the wall clock may be set.
const SLEEP_MS_MAX: u64 = 60_000;

/// Runs the timers until the future is dropped.
pub async fn run(registry: Registry) {
    let changes = registry.subscribe();
    let mut timetable = Timetable::<EpochMs>::default();
    let mut services: HashSet<ServiceId> = registry.state().service_ids().collect();
    loop {
        look_at(&registry, &services, &mut timetable).await;
        services = next_services(&changes, &mut timetable).await;
    }
}

/// Waits for changes or for the next time, and returns the services to look at.
async fn next_services(changes: &Subscription, timetable: &mut Timetable<EpochMs>) -> HashSet<ServiceId> {
    let wait_ms = timetable.next().map_or(SLEEP_MS_MAX, |at_ms| {
        u64::try_from(at_ms.saturating_sub(now_ms())).unwrap_or(0).min(SLEEP_MS_MAX)
    });
    let until = Instant::now() + Duration::from_millis(wait_ms);
    if timeout_at(until, changes.wait()).await.is_ok() {
        let collected = Instant::now() + Duration::from_millis(COLLECT_MS);
        sleep_until(collected.min(until)).await;
    }
    let mut services = changes.take_services();
    let now_ms = now_ms();
    services.extend(std::iter::from_fn(|| timetable.pop_due(now_ms)));
    services
}

/// Stores what is due in these services, and notes the next time of each.
async fn look_at(registry: &Registry, services: &HashSet<ServiceId>, timetable: &mut Timetable<EpochMs>) {
    let now_ms = now_ms();
    let mut due = Vec::new();
    {
        let state = registry.state();
        for id in services {
            let next_ms = match state.service(id.as_str()) {
                Ok(found) => due_of(registry, &state, found, now_ms, &mut due),
                Err(_) => None,
            };
            timetable.set(id, next_ms);
        }
    }
    let mut failed: (usize, Option<String>) = (0, None);
    for some in due.chunks(SUBMITTED_MAX) {
        let commands = some.iter().map(|(service, instance)| {
            registry.submit(Command::Elapse { service: service.clone(), instance: instance.clone() })
        });
        for ((service, _), result) in some.iter().zip(join_all(commands).await) {
            if let Err(error) = result {
                failed.0 += 1;
                failed.1.get_or_insert_with(|| error.to_string());
            }
            // A change that was stored comes back as an event before that. One that was not is tried again then, also if
            // the clock was set back and nothing was due any more.
            let next_ms = timetable.of(service);
            timetable.set(service, next_ms.into_iter().chain([now_ms + RETRY_MS]).min());
        }
    }
    if let (instances, Some(error)) = failed {
        tracing::warn!(instances, error, "changes of health could not be stored, and will be later");
    }
    if services.len() > SUBMITTED_MAX {
        sleep(Duration::ZERO).await;
    }
}

/// Adds the instances of a service for which something is due, and returns the next time at which something will be.
fn due_of(
    registry: &Registry,
    state: &State,
    found: &ServiceState,
    now_ms: EpochMs,
    due: &mut Vec<(ServiceId, Box<str>)>,
) -> Option<EpochMs> {
    let service = &found.service;
    let health = registry.settings().health.of(found);
    let mut next: Option<EpochMs> = None;
    // Most services have neither policies of time nor signals. Then the number of their instances does not matter.
    if !health.has_times() && !found.has_details() && state.all_pod_signals().next().is_none() {
        return next;
    }
    for instance in found.instances() {
        let signals = state.signals(&service.id, instance);
        let registered_ms = health.registered_ms(state, instance);
        let (elapsed, then) = health.elapsed(instance, &signals, registered_ms, now_ms);
        if elapsed.is_some() {
            due.push((service.id.clone(), instance.id().into()));
        }
        next = next.into_iter().chain(then).min();
    }
    next
}
