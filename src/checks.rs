//! Active health checks: connects to instances whose service has a HealthCheckConfig, and reports what it finds.
//!
//! One server checks at a time, the one that runs the timers of health. A result that changes a status is stored as a report of
//! the source [`CHECK_SOURCE`], so that all servers apply it together, and it holds until the server that checks has seen
//! enough results of the other kind. A row of results that is not complete is kept in memory only: another server that takes
//! over begins to count again.
//!
//! Checks are off until networks are allowed, because a client of the API chooses the addresses.

mod metrics;
mod probe;
mod target;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{FutureExt, StreamExt, stream};
use tokio::task::{JoinSet, yield_now};
use tokio::time::{Instant, sleep_until};

use crate::model::signals::{CHECK_SOURCE, REASON_BYTES_MAX, cut};
use crate::model::{CustomHealthStatus, ServiceId, now_ms};
use crate::registry::{Command, Registry, RegistryError, State, Subscription, command::ExternalReport};

pub use metrics::CheckMetrics;
use probe::Prober;
use target::{Target, Watched};

/// Largest number of checks that run at a time.
pub const RUNNING_MAX: usize = 512;
/// Share of them that one service can have, so that one with many addresses that do not answer delays no other.
const SERVICE_SHARE: usize = 4;
/// Checks that are started at once, and the time in milliseconds until more are started: 3,200 a second at most.
const STARTED_MAX: usize = 32;
const PAUSE_MS: u64 = 10;
/// Time for which changes are collected before their services are read again, in milliseconds.
const COLLECT_MS: u64 = 100;
/// Time in milliseconds within which a new instance is checked, and after which a store that failed is tried again.
const SOON_MS: u64 = 1_000;
/// Checks that begin to wait for a place before other tasks have their turn.
const PUT_OFF_MAX: usize = 256;
/// Failures to store a result after which the time until the next attempt does not grow any more.
const FAILURES_MAX: u32 = 6;
/// Services that are read before other tasks have their turn.
const READ_MAX: usize = 64;
/// Results that are withdrawn at a time.
const WITHDRAWN_MAX: usize = 64;

/// Settings of the active health checks. An instance is checked once in each `interval`, which varies by a tenth at random,
/// and at most `running_max` checks run at a time. The registry's settings have the networks that are checked.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the type's document explains the fields")]
pub struct CheckSettings {
    pub interval: Duration,
    pub running_max: usize,
}

/// The active health checks of a registry's instances.
pub struct Checks {
    registry: Registry,
    settings: CheckSettings,
    prober: Arc<Prober>,
    metrics: Arc<CheckMetrics>,
}

/// An instance that is checked, and the results in a row since the last one of the other kind.
struct Checked {
    service: ServiceId,
    instance: Box<str>,
    target: Arc<Target>,
    passed: bool,
    row: u8,
    /// Number of the operation that registered the instance.
    operation: u64,
    /// True once a result has decided the status of the instance.
    had_result: bool,
    /// Start of the first check of the row.
    row_started: Instant,
    /// Time of the next check; `None` while one runs, its result is stored, or it waits for a place.
    due: Option<Instant>,
    /// Time at which the check was due that waits for a place among those of its service.
    waits_since: Option<Instant>,
}

/// Everything that is checked. Each instance has a number, which is another one when its target changes, so that no row of
/// results goes on with the new target. The status of the old target holds until then. `running` has the numbers of checks that
/// run, by service, and `waiting` those that are due and have no place among them.
#[derive(Default)]
struct Schedule {
    checked: HashMap<u64, Checked>,
    numbers: HashMap<ServiceId, HashMap<Box<str>, u64>>,
    due: BTreeSet<(Instant, u64)>,
    running: HashMap<ServiceId, usize>,
    waiting: HashMap<ServiceId, BTreeSet<(Instant, u64)>>,
    last: u64,
}

/// The services that have results of instances which are not checked any more. They are withdrawn one service after the other.
#[derive(Default)]
struct Stale {
    services: BTreeSet<ServiceId>,
    is_running: bool,
    /// Time of the next attempt after one that failed.
    retry: Option<Instant>,
}

/// Outcome of a spawned task: a check has ended, or the registry has answered a report or a withdrawal of reports.
enum Finished {
    /// A check with its service, its number, its start, and the reason why it failed.
    Checked(ServiceId, u64, Instant, Result<(), String>),
    /// A report that was to be stored about the instance of this number.
    Stored(u64, Result<(), RegistryError>),
    /// The withdrawal of results of a service whose instances are not checked any more.
    Withdrawn(ServiceId, Result<(), RegistryError>),
}

impl Checks {
    /// Prepares the checks, which begin with [`Checks::run`].
    pub fn new(registry: Registry, settings: CheckSettings) -> Result<Checks, rustls::Error> {
        Ok(Checks { registry, settings, prober: Arc::new(Prober::new()?), metrics: Arc::default() })
    }

    /// Counters of the checks that this server has made.
    pub fn metrics(&self) -> Arc<CheckMetrics> {
        self.metrics.clone()
    }

    /// Checks instances until the future is dropped. Without allowed networks it only withdraws earlier results.
    pub async fn run(&self) {
        let _reset = self.metrics.reset_on_drop();
        let changes = self.registry.subscribe();
        let mut schedule = Schedule::default();
        let mut stale = Stale::default();
        let mut running = JoinSet::new();
        let all: HashSet<ServiceId> = self.registry.state().service_ids().collect();
        // The checks of a start are spread over a whole interval, except for instances that are UNKNOWN until the first one.
        self.read(&all, self.settings.interval, &mut schedule, &mut stale).await;
        let mut failures = 0;
        let mut collected = Instant::now();
        let mut paused = Instant::now();
        loop {
            self.withdraw_next(&mut stale, &mut running);
            let next = schedule.due.first().map(|(at, _)| (*at).max(paused));
            let next = next.filter(|_| running.len() < self.settings.running_max);
            tokio::select! {
                services = next_changes(&changes, collected) => {
                    self.read(&services, self.soon(), &mut schedule, &mut stale).await;
                    collected = Instant::now() + Duration::from_millis(COLLECT_MS);
                }
                Some(finished) = running.join_next() => match finished {
                    Ok(Finished::Checked(service, number, started, result)) => {
                        schedule.ended(&service);
                        self.conclude(number, started, result, &mut schedule, &mut running);
                    }
                    Ok(Finished::Stored(number, Ok(()))) => {
                        failures = 0;
                        schedule.set_due(number, self.next_check(Instant::now()));
                    }
                    Ok(Finished::Stored(number, Err(error))) => {
                        if failures == 0 {
                            tracing::warn!(%error, "results of health checks could not be stored, and will be later");
                        }
                        failures = (failures + 1).min(FAILURES_MAX);
                        let wait = (self.soon() * (1 << failures)).min(self.settings.interval);
                        schedule.set_due(number, Instant::now() + wait.mul_f64(0.5 + fastrand::f64() * 0.5));
                    }
                    Ok(Finished::Withdrawn(service, result)) => {
                        stale.is_running = false;
                        if let Err(error) = result {
                            tracing::warn!(%error, "results of health checks could not be withdrawn, and will be later");
                            stale.services.insert(service);
                            stale.retry = Some(Instant::now() + self.soon());
                        }
                    }
                    Err(error) => tracing::error!(%error, "a health check panicked"),
                },
                () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {
                    self.start_due(&mut schedule, &mut running);
                    paused = Instant::now() + Duration::from_millis(PAUSE_MS);
                }
                () = sleep_until(stale.retry.unwrap_or_else(Instant::now)), if stale.retry.is_some() => {
                    stale.retry = None;
                }
            }
        }
    }

    /// Compares what is checked of these services with the registry. New instances are checked within `first`, and those that
    /// have no result yet soon.
    async fn read(
        &self,
        services: &HashSet<ServiceId>,
        first: Duration,
        schedule: &mut Schedule,
        stale: &mut Stale,
    ) {
        let state = self.registry.state();
        for (at, id) in services.iter().enumerate() {
            if at % READ_MAX == READ_MAX - 1 {
                yield_now().await;
            }
            let targets = target::of_service(&state, id, &self.registry.settings().health);
            schedule.update(id, &targets, first, self.soon());
            if stale_results(&state, id, &targets).next().is_some() {
                stale.services.insert(id.clone());
            }
        }
        self.metrics.set_instances(schedule.checked.len());
    }

    /// Starts to withdraw the results of one service that are out of date, if none are being withdrawn.
    fn withdraw_next(&self, stale: &mut Stale, running: &mut JoinSet<Finished>) {
        if stale.is_running || stale.retry.is_some() || stale.services.is_empty() {
            return;
        }
        let state = self.registry.state();
        while let Some(service) = stale.services.pop_first() {
            let targets = target::of_service(&state, &service, &self.registry.settings().health);
            let instances: Vec<String> = stale_results(&state, &service, &targets).collect();
            if !instances.is_empty() {
                stale.is_running = true;
                running.spawn(withdraw(self.registry.clone(), service, instances));
                return;
            }
        }
    }

    fn soon(&self) -> Duration {
        Duration::from_millis(SOON_MS).min(self.settings.interval)
    }

    fn start_due(&self, schedule: &mut Schedule, running: &mut JoinSet<Finished>) {
        let now = Instant::now();
        let room = self.settings.running_max.saturating_sub(running.len()).min(STARTED_MAX);
        for _ in 0..room {
            let service_max = self.settings.running_max.div_ceil(SERVICE_SHARE);
            let Some((service, number, target)) = schedule.take_due(now, service_max) else { return };
            let prober = self.prober.clone();
            running.spawn(async move {
                let started = Instant::now();
                // An instance whose check panics is checked again.
                let checked = AssertUnwindSafe(prober.check(&target)).catch_unwind().await;
                let result = checked.unwrap_or_else(|_| Err("the check panicked".into()));
                Finished::Checked(service, number, started, result)
            });
        }
    }

    /// Counts the result of a check, and reports a status that follows from it.
    fn conclude(
        &self,
        number: u64,
        started: Instant,
        result: Result<(), String>,
        schedule: &mut Schedule,
        running: &mut JoinSet<Finished>,
    ) {
        self.metrics.count(result.is_ok(), started.elapsed());
        let Some(checked) = schedule.checked.get_mut(&number) else { return };
        let passed = result.is_ok();
        if checked.passed != passed || checked.row == 0 {
            (checked.passed, checked.row, checked.row_started) = (passed, 0, started);
        }
        checked.row = checked.row.saturating_add(1);
        let Some(report) = self.report_of(checked, started, result) else {
            return schedule.set_due(number, self.next_check(started));
        };
        let command = Command::ReportHealth {
            service: checked.service.to_string(),
            instance: checked.instance.to_string(),
            source: CHECK_SOURCE.into(),
            report,
        };
        let registry = self.registry.clone();
        running
            .spawn(async move { Finished::Stored(number, stored(registry.submit(command).await.map(drop))) });
    }

    /// The report to store after this result, `Some(None)` to withdraw the one that is stored; `None` if nothing changes.
    fn report_of(
        &self,
        checked: &Checked,
        started: Instant,
        result: Result<(), String>,
    ) -> Option<Option<ExternalReport>> {
        let state = self.registry.state();
        let found = state.service(checked.service.as_str()).ok()?;
        let instance = found.instance(&checked.instance).ok()?;
        let health = self.registry.settings().health.of(found);
        let signals = state.signals(&checked.service, instance);
        let before = signals.check().map(|check| check.status);
        let status = if result.is_ok() { CustomHealthStatus::Healthy } else { CustomHealthStatus::Unhealthy };
        let condition = health.check_condition(instance, status, before.is_none());
        let lasted = started.saturating_duration_since(checked.row_started);
        if checked.row < condition.results || lasted.as_millis() < condition.time_ms.unsigned_abs().into() {
            return None;
        }
        let registered_ms = health.registered_ms(&state, instance);
        let is_excused = result.is_err() && now_ms() < health.grace_end_ms(instance, registered_ms);
        let status = Some(status).filter(|_| !is_excused);
        if status == before {
            return None;
        }
        let Some(status) = status else { return Some(None) };
        let counted = format!("{0} of {0}", condition.results);
        let reason = match result {
            Ok(()) => counted,
            Err(why) => {
                let counted = format!(", {counted}");
                format!("{}{counted}", cut(&why, REASON_BYTES_MAX - counted.len()))
            }
        };
        Some(Some(ExternalReport { status, reason, reporter: CHECK_SOURCE.into(), valid_ms: None }))
    }

    fn next_check(&self, started: Instant) -> Instant {
        started + self.settings.interval.mul_f64(0.9 + fastrand::f64() * 0.2)
    }
}

impl Checked {
    /// True if its row of results goes on with what is watched now. One that was registered again, and lost the result that it had,
    /// begins anew.
    fn goes_on(&self, watched: &Watched) -> bool {
        let has_lost_its_result =
            self.had_result && watched.awaits_check && watched.operation != self.operation;
        watched.target == self.target && !has_lost_its_result
    }
}

impl Schedule {
    /// Replaces the targets of a service. New ones are checked within `first`, and `soon` if their instance waits for a result.
    fn update(
        &mut self,
        service: &ServiceId,
        targets: &HashMap<&str, Watched>,
        first: Duration,
        soon: Duration,
    ) {
        if targets.is_empty() && !self.numbers.contains_key(service) {
            return;
        }
        let numbers = self.numbers.entry(service.clone()).or_default();
        numbers.retain(|instance, number| {
            let watched = targets.get(&**instance);
            if let (Some(checked), Some(watched)) = (self.checked.get_mut(number), watched)
                && checked.goes_on(watched)
            {
                checked.had_result |= !watched.awaits_check;
                checked.operation = watched.operation;
                return true;
            }
            if let Some(removed) = self.checked.remove(number) {
                removed.due.map(|due| self.due.remove(&(due, *number)));
                let waiting = removed.waits_since.zip(self.waiting.get_mut(service));
                waiting.map(|(since, waiting)| waiting.remove(&(since, *number)));
            }
            false
        });
        for (instance, watched) in targets {
            if numbers.contains_key(*instance) {
                continue;
            }
            self.last += 1;
            let instance: Box<str> = (*instance).into();
            let first = if watched.awaits_check { first.min(soon) } else { first };
            let due = Instant::now() + first.mul_f64(fastrand::f64());
            numbers.insert(instance.clone(), self.last);
            let checked = Checked {
                service: service.clone(),
                instance,
                target: watched.target.clone(),
                passed: true,
                row: 0,
                operation: watched.operation,
                had_result: !watched.awaits_check,
                row_started: due,
                due: Some(due),
                waits_since: None,
            };
            self.checked.insert(self.last, checked);
            self.due.insert((due, self.last));
        }
        if numbers.is_empty() {
            self.numbers.remove(service);
        }
    }

    fn set_due(&mut self, number: u64, at: Instant) {
        if let Some(checked) = self.checked.get_mut(&number) {
            (checked.due, checked.waits_since) = (Some(at), None);
            self.due.insert((at, number));
        }
    }

    /// Takes the next check that is due. Those of a service with `service_max` running ones wait until one of these has ended.
    fn take_due(&mut self, now: Instant, service_max: usize) -> Option<(ServiceId, u64, Arc<Target>)> {
        for _ in 0..PUT_OFF_MAX {
            let (at, number) = self.due.first().copied().filter(|(at, _)| *at <= now)?;
            self.due.remove(&(at, number));
            let checked = self.checked.get_mut(&number)?;
            let running = self.running.entry(checked.service.clone()).or_default();
            if *running < service_max {
                *running += 1;
                checked.due = None;
                return Some((checked.service.clone(), number, checked.target.clone()));
            }
            (checked.due, checked.waits_since) = (None, Some(at));
            self.waiting.entry(checked.service.clone()).or_default().insert((at, number));
        }
        None
    }

    /// Gives the place of a check that has ended to the one of its service that waits longest.
    fn ended(&mut self, service: &ServiceId) {
        if let Some(running) = self.running.get_mut(service) {
            *running -= 1;
            if *running == 0 {
                self.running.remove(service);
            }
        }
        let Some(waiting) = self.waiting.get_mut(service) else { return };
        if let Some((at, number)) = waiting.pop_first() {
            self.set_due(number, at);
        } else {
            self.waiting.remove(service);
        }
    }
}

/// Waits for changes, but not before `after`, and returns the services that they concern.
async fn next_changes(changes: &Subscription, after: Instant) -> HashSet<ServiceId> {
    sleep_until(after).await;
    changes.wait().await;
    changes.take_services()
}

/// The instances of a service that have a result, but are not checked any more.
fn stale_results<'s>(
    state: &'s State,
    service: &'s ServiceId,
    targets: &'s HashMap<&'s str, Watched>,
) -> impl Iterator<Item = String> + 's {
    let found = state.service(service.as_str()).ok();
    // Most services have no signals. Then the number of their instances does not matter.
    let found = found.filter(|found| found.has_details() || state.all_pod_signals().next().is_some());
    let instances = found.into_iter().flat_map(|found| found.instances());
    let stale = instances.filter(|instance| {
        instance.sources_health().is_some()
            && !targets.contains_key(instance.id())
            && state.signals(service, instance).check().is_some()
    });
    stale.map(|instance| instance.id().to_string())
}

async fn withdraw(registry: Registry, service: ServiceId, instances: Vec<String>) -> Finished {
    let commands = instances.into_iter().map(|instance| {
        registry.submit(Command::ReportHealth {
            service: service.to_string(),
            instance,
            source: CHECK_SOURCE.into(),
            report: None,
        })
    });
    let mut results = stream::iter(commands).buffer_unordered(WITHDRAWN_MAX);
    let mut failed = Ok(());
    while let Some(result) = results.next().await {
        failed = failed.and(stored(result.map(drop)));
    }
    drop(results);
    Finished::Withdrawn(service, failed)
}

/// A report about what does not exist any more is as good as stored.
fn stored(result: Result<(), RegistryError>) -> Result<(), RegistryError> {
    match result {
        Err(RegistryError::InstanceNotFound | RegistryError::ServiceNotFound) => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::model::service::HealthCheckType;

    fn watched(operation: u64, awaits_check: bool) -> Watched {
        let address = SocketAddr::from(([10, 0, 0, 1], 80));
        let target =
            Target { address, kind: HealthCheckType::Tcp, path: "/".into(), host: "web.test".into() };
        Watched { target: target.into(), operation, awaits_check }
    }

    #[test]
    fn an_instance_that_lost_its_result_begins_anew() {
        let (mut schedule, service) = (Schedule::default(), ServiceId::from("srv-1"));
        let mut number = |watched: Watched| {
            schedule.update(&service, &HashMap::from([("a", watched)]), Duration::ZERO, Duration::ZERO);
            schedule.numbers[&service]["a"]
        };
        assert_eq!(number(watched(1, true)), 1);
        assert_eq!(number(watched(2, true)), 1, "it has had no result");
        assert_eq!(number(watched(3, false)), 1, "it keeps its result when it is registered again");
        assert_eq!(number(watched(3, true)), 1, "its result was withdrawn");
        assert_eq!(number(watched(4, true)), 2);
        assert_eq!(number(watched(5, true)), 2);
    }

    #[test]
    fn one_service_delays_no_other() {
        let mut schedule = Schedule::default();
        let (large, small) = (ServiceId::from("srv-1"), ServiceId::from("srv-2"));
        let ids: Vec<String> = (0..300).map(|number| number.to_string()).collect();
        let many = ids.iter().map(|id| (id.as_str(), watched(1, true))).collect();
        schedule.update(&large, &many, Duration::ZERO, Duration::ZERO);
        schedule.update(&small, &HashMap::from([("a", watched(1, true))]), Duration::ZERO, Duration::ZERO);
        let now = Instant::now();
        let mut taken = HashMap::<ServiceId, usize>::new();
        // Each attempt puts off a limited number of checks.
        for _ in 0..10 {
            while let Some((service, ..)) = schedule.take_due(now, 2) {
                *taken.entry(service).or_default() += 1;
            }
        }
        assert_eq!(taken, HashMap::from([(large.clone(), 2), (small, 1)]));
        let oldest = schedule.waiting[&large].first().copied();
        schedule.ended(&large);
        let (service, number, _) = schedule.take_due(now, 2).expect("one waits");
        assert_eq!((service, Some(number)), (large.clone(), oldest.map(|(_, number)| number)));
        schedule.update(&large, &HashMap::new(), Duration::ZERO, Duration::ZERO);
        (0..2).for_each(|_| schedule.ended(&large));
        assert!(!schedule.running.contains_key(&large) && schedule.waiting.is_empty());
    }
}
