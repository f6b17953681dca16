//! Times at which instances left the answers of their services, and until when clients may hold them.
//!
//! A client, or a resolver's cache, may use an answer for its TTL. So an instance can be stopped without harm when the largest
//! TTL of its records has passed since the last answer that contained it. Each server keeps what it has applied itself since
//! its start, in memory; [`Hold`] is its knowledge about one instance, and [`Hold::and`] joins that of several servers.
//!
//! A process that ran before this one may have answered with an instance until this one was started. So an instance that was
//! not answered since then may be held for one TTL after the start.

use std::cell::LazyCell;
use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};

use crate::model::{
    DnsRecordType, EpochMs, HealthStatus, Instance, Service, ServiceId, id::id_in,
    instance::AWS_ALIAS_DNS_NAME,
};

use super::{
    change::Event,
    health::HealthSettings,
    state::{ServiceState, State},
};

/// Departures that are kept. Beyond it, the oldest are forgotten.
const DEPARTURES_MAX: usize = 100_000;
/// Shortest time for which caches keep an answer, in seconds: CoreDNS's raises smaller TTLs to it.
const CACHE_TTL_S_MIN: u32 = 5;
/// Margin in seconds for replies that are under way, and for caches, which count whole seconds.
const MARGIN_S: u32 = 2;
/// TTL of the records of an alias (`AWS_ALIAS_DNS_NAME`), in seconds.
pub const ALIAS_TTL_S: u32 = 60;
/// Largest TTL of the addresses of an UNHEALTHY instance under its own name, in seconds.
pub const UNHEALTHY_TTL_S_MAX: u32 = 5;

/// Knowledge of a server about clients that hold an instance: clients that asked for the name of its service, or for the
/// targets of its SRV records, and that honour TTLs.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Hold {
    /// Answers contain the instance. If it left now, clients could hold it for this time.
    Answered(Duration),
    /// Answers do not contain it any more. Clients can hold it for this time, or not at all if it is zero.
    Left(Duration),
    /// It is no instance, and the server does not remember that it was one. Clients can hold it for this time if an earlier
    /// process of the server has answered with it.
    Unknown(Duration),
}

impl Hold {
    /// Joins what two servers know.
    #[must_use]
    pub fn and(self, other: Hold) -> Hold {
        let held = self.held().max(other.held());
        match (self, other) {
            (Hold::Answered(_), _) | (_, Hold::Answered(_)) => Hold::Answered(held),
            (Hold::Left(_), _) | (_, Hold::Left(_)) => Hold::Left(held),
            (Hold::Unknown(_), Hold::Unknown(_)) => Hold::Unknown(held),
        }
    }

    /// The time for which clients can hold the instance, at least.
    pub fn held(self) -> Duration {
        let (Hold::Answered(held) | Hold::Left(held) | Hold::Unknown(held)) = self;
        held
    }
}

/// Knowledge of the other servers of a shared store about clients that hold an instance. `ended` is the time at which the last of
/// those that have ended was found to have.
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "the type's document explains the fields")]
pub struct OthersHold {
    pub hold: Hold,
    pub ended: Option<Instant>,
}

/// The other servers of a shared store.
pub trait OtherServers: Send + Sync {
    /// Asks all of them about an instance. The service is an id or a name. The error says which server did not answer, and
    /// why.
    fn hold<'a>(&'a self, service: &'a str, instance: &'a str) -> BoxFuture<'a, Result<OthersHold, String>>;
}

/// The departures of this server.
pub struct Departures {
    started: Instant,
    started_ms: EpochMs,
    started_sequence: u64,
    kept: Mutex<Kept>,
}

/// `order` has the departures by their numbers, the oldest first. `forgotten_until` is the time until which an instance may be
/// held whose departure was forgotten.
struct Kept {
    services: HashMap<ServiceId, ServiceDepartures>,
    order: VecDeque<(u64, ServiceId, Box<str>)>,
    next: u64,
    forgotten_until: Instant,
}

/// `ttl_s` is the time for which clients may hold an answer, and `longer_until` the time until which they may hold one with the
/// TTL that the service had before, for `longer_s`.
struct ServiceDepartures {
    name: Box<str>,
    full_name: Box<str>,
    ttl_s: u32,
    longer_s: u32,
    longer_until: Option<Instant>,
    instances: HashMap<Box<str>, Departure>,
}

#[derive(Clone, Copy)]
struct Departure {
    number: u64,
    until: Instant,
}

/// An instance that has left the answers of its service, and the time for which clients may still hold it.
#[derive(Clone, Debug, Eq, PartialEq)]
#[expect(missing_docs, reason = "the type's document explains the fields")]
pub struct Leaving {
    pub instance: Box<str>,
    pub held: Duration,
}

/// An instance that has left the answers, or whose own name is held for another time than before.
struct Departed {
    instance: Box<str>,
    held: Duration,
    how: How,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum How {
    /// It was in the last answer a moment ago.
    Left,
    /// It is gone, and was in no answer before.
    Removed,
    /// It remains in no answer, with another status.
    Changed,
}

impl Departures {
    /// Departures from now on. `sequence` is the number of the last change that was loaded.
    pub(super) fn new(now: Instant, now_ms: EpochMs, sequence: u64) -> Departures {
        let (services, order) = (HashMap::new(), VecDeque::new());
        let kept = Kept { services, order, next: 0, forgotten_until: now };
        Departures { started: now, started_ms: now_ms, started_sequence: sequence, kept: Mutex::new(kept) }
    }

    /// Records which instances of these services left the answers between two states, of which the new one is in DNS already
    /// and not read by others yet.
    pub(super) fn record(
        &self,
        old: &State,
        new: &State,
        events: &[Event],
        policies: &HealthSettings,
        now: Instant,
    ) {
        for event in events {
            let Event::Service(id) = event else { continue };
            let Ok(before) = old.service(id.as_str()) else { continue };
            let after = new.service(id.as_str()).ok().map(|after| &**after);
            let departed = departed(before, after, policies);
            let ttl_s = ttl_s(&before.service);
            let shortened = after.is_some_and(|after| self::ttl_s(&after.service) < ttl_s);
            if departed.is_empty() && !shortened {
                continue;
            }
            let mut kept = self.lock();
            kept.forget_passed(now);
            let service = kept.service(id, || {
                let full_name = old.full_name(&before.service).unwrap_or_default();
                (before.service.name.as_str().into(), full_name.into())
            });
            service.ttl_s = after.map_or(ttl_s, |after| self::ttl_s(&after.service));
            if shortened {
                let until = now + seconds(ttl_s);
                service.longer_until = service.longer_until.max(Some(until));
                service.longer_s = service.longer_s.max(ttl_s);
            }
            for departed in departed {
                kept.add(id, departed, now, self.started);
            }
        }
    }

    /// Knowledge about an instance of a service, of which `state` is the newest version if it exists. `state` has
    /// to be read before this call, so that the departure of an instance which it lacks is recorded.
    pub(super) fn hold(
        &self,
        service: &ServiceId,
        state: Option<&ServiceState>,
        instance: &str,
        policies: &HealthSettings,
        now: Instant,
    ) -> Hold {
        let found = state.and_then(|state| Some((state, state.instance(instance).ok()?)));
        let is_answered = found.is_some_and(|(state, found)| policies.answering(state).answers(found));
        let kept = self.lock();
        let of_service = kept.services.get(service);
        let longer_until = of_service.and_then(|of_service| of_service.longer_until).unwrap_or(now);
        if let Some((state, found)) = found.filter(|_| is_answered) {
            let until = longer_until.max(now + held(&state.service, found, None));
            return Hold::Answered(until.saturating_duration_since(now));
        }
        if let Some(departure) = of_service.and_then(|of_service| of_service.instances.get(instance)) {
            return Hold::Left(departure.until.saturating_duration_since(now));
        }
        let earlier = |held: Duration| {
            let until = (self.started + held).max(longer_until).max(kept.forgotten_until);
            until.saturating_duration_since(now)
        };
        match (found, state) {
            (Some((state, found)), _) => {
                let status = policies.of(state).status_of(found);
                Hold::Left(earlier(held(&state.service, found, Some(status))))
            }
            (None, Some(state)) if self.was_before_start(&state.service) => {
                Hold::Unknown(earlier(seconds(longest_s(&state.service))))
            }
            (None, _) => Hold::Unknown(kept.forgotten_until.saturating_duration_since(now)),
        }
    }

    /// True if an earlier process may have answered with instances of the service. Its time is the clock of the server that
    /// created it.
    fn was_before_start(&self, service: &Service) -> bool {
        service.made_at() <= self.started_sequence || service.created_ms < self.started_ms
    }

    /// The longest time for which clients may hold an answer of a service, which need not exist any more.
    pub(super) fn longest_hold(
        &self,
        service: &ServiceId,
        state: Option<&ServiceState>,
        now: Instant,
    ) -> Duration {
        let kept = self.lock();
        let found = kept.services.get(service);
        let now_s = state.map_or_else(
            || found.map_or(0, |found| found.ttl_s.saturating_mul(2)),
            |state| longest_s(&state.service),
        );
        let earlier = found.filter(|found| found.longer_until.is_some_and(|until| until > now));
        seconds(earlier.map_or(now_s, |found| now_s.max(found.longer_s.saturating_mul(2))))
    }

    /// Finds the services with this id, ARN, full name or name that have departures. They need not exist any more.
    pub fn services(&self, reference: &str) -> Vec<ServiceId> {
        let kept = self.lock();
        if let Some((id, _)) = kept.services.get_key_value(id_in(reference, "service")) {
            return vec![id.clone()];
        }
        let name = reference.trim_end_matches('.');
        let is_named = |service: &ServiceDepartures| {
            service.full_name.eq_ignore_ascii_case(name) || service.name.eq_ignore_ascii_case(name)
        };
        let named = kept.services.iter().filter(|(_, service)| is_named(service));
        named.map(|(id, _)| id.clone()).collect()
    }

    /// The instances of a service that clients may still hold, in the order of their ids.
    pub fn leaving(&self, service: &ServiceId) -> Vec<Leaving> {
        let now = Instant::now();
        let kept = self.lock();
        let departures = kept.services.get(service).into_iter().flat_map(|found| &found.instances);
        let mut leaving: Vec<_> = departures
            .filter(|(_, departure)| departure.until > now)
            .map(|(instance, departure)| Leaving { instance: instance.clone(), held: departure.until - now })
            .collect();
        drop(kept);
        leaving.sort_by(|one, other| one.instance.cmp(&other.instance));
        leaving
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn service(
        &mut self,
        id: &ServiceId,
        names: impl FnOnce() -> (Box<str>, Box<str>),
    ) -> &mut ServiceDepartures {
        self.services.entry(id.clone()).or_insert_with(|| {
            let (name, full_name) = names();
            let instances = HashMap::new();
            ServiceDepartures { name, full_name, ttl_s: 0, longer_s: 0, longer_until: None, instances }
        })
    }

    fn add(&mut self, id: &ServiceId, departed: Departed, now: Instant, started: Instant) {
        let Departed { instance, held, how } = departed;
        let Some(service) = self.services.get_mut(id) else { return };
        // One that was in no answer, and has no departure, was in the last one before the start, if at all.
        let since = if how == How::Removed { started } else { now };
        let until = service.longer_until.map_or(since + held, |longer| longer.max(since + held));
        match service.instances.get_mut(&instance) {
            Some(departure) => match how {
                How::Left => departure.until = until,
                // Clients that still hold the SRV record can ask for the target until then.
                How::Changed if departure.until > now => departure.until = departure.until.max(until),
                How::Changed | How::Removed => {}
            },
            None if how == How::Changed => {}
            None => {
                let number = self.next;
                service.instances.insert(instance.clone(), Departure { number, until });
                self.order.push_back((number, id.clone(), instance));
                self.next += 1;
                if self.order.len() > DEPARTURES_MAX {
                    self.forget_oldest();
                }
            }
        }
    }

    fn forget_oldest(&mut self) {
        let Some((number, id, instance)) = self.order.pop_front() else { return };
        let Some(service) = self.services.get_mut(&id) else { return };
        let Some(departure) = service.instances.get(&instance).filter(|found| found.number == number) else {
            return;
        };
        self.forgotten_until = self.forgotten_until.max(departure.until);
        service.instances.remove(&instance);
        if service.instances.is_empty() && service.longer_until.is_none() {
            self.services.remove(&id);
        }
    }

    /// Removes services without departures whose larger TTL has passed, once there are twice as many services as departures.
    fn forget_passed(&mut self, now: Instant) {
        if self.services.len() > 1_000.max(2 * self.order.len()) {
            self.services.retain(|_, service| {
                !service.instances.is_empty() || service.longer_until.is_some_and(|until| until > now)
            });
        }
    }
}

/// Finds the instances that are gone, have left the answers, or remain in none with another status.
fn departed(before: &ServiceState, after: Option<&ServiceState>, policies: &HealthSettings) -> Vec<Departed> {
    let answering = after.map(|after| policies.answering(after));
    let instances = after.map(ServiceState::instances).unwrap_or_default();
    let answered_before = LazyCell::new(|| policies.answering(before));
    let mut departed = Vec::new();
    let mut later = instances.iter().peekable();
    for instance in before.instances() {
        while later.next_if(|other| other.id() < instance.id()).is_some() {}
        let now = later.next_if(|other| other.id() == instance.id());
        if now.zip(answering.as_ref()).is_some_and(|(now, answering)| answering.answers(now)) {
            continue;
        }
        let was_answered = answered_before.answers(instance);
        let status = |state: &ServiceState, instance: &Instance| policies.of(state).status_of(instance);
        let (was, is) = (status(before, instance), after.zip(now).map(|(after, now)| status(after, now)));
        let how = match (was_answered, is) {
            (true, _) => How::Left,
            (false, None) => How::Removed,
            (false, Some(is)) if is != was => How::Changed,
            (false, Some(_)) => continue,
        };
        // One that was in no answer was held by its own name.
        let status = if how == How::Removed { Some(was) } else { is };
        let held = held(&before.service, instance, status);
        departed.push(Departed { instance: instance.id().into(), held, how });
    }
    departed
}

/// The time for which clients may hold an instance that was in the last answer a moment ago. One that still exists has the
/// `status`: clients can ask for its own name, the target of an SRV record, until the end of that record's TTL.
fn held(service: &Service, instance: &Instance, status: Option<HealthStatus>) -> Duration {
    let mut answer_s = ttl_s(service);
    if answer_s > 0 && instance.attribute(AWS_ALIAS_DNS_NAME).is_some() {
        answer_s = answer_s.max(ALIAS_TTL_S + MARGIN_S);
    }
    let target_s = match status {
        Some(status) if service.ttl_of(DnsRecordType::Srv).is_some() => match status {
            HealthStatus::Unhealthy => answer_s.min(UNHEALTHY_TTL_S_MAX),
            HealthStatus::Healthy | HealthStatus::Unknown => answer_s,
        },
        _ => 0,
    };
    seconds(answer_s.saturating_add(target_s))
}

/// The time for which clients may hold an answer of the service, in seconds; 0 if it has none.
fn ttl_s(service: &Service) -> u32 {
    let ttls = service.dns.iter().flat_map(|dns| &dns.records).map(|record| record.ttl);
    ttls.max().map_or(0, |ttl| ttl.max(CACHE_TTL_S_MIN).saturating_add(MARGIN_S))
}

/// The longest time for which clients may hold an answer of the service and then a target of its SRV records, in seconds.
fn longest_s(service: &Service) -> u32 {
    let ttl_s = ttl_s(service);
    if service.ttl_of(DnsRecordType::Srv).is_some() { ttl_s.saturating_mul(2) } else { ttl_s }
}

fn seconds(seconds: u32) -> Duration {
    Duration::from_secs(seconds.into())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use super::*;
    use crate::model::{
        Attributes, CustomHealthStatus, DnsConfig, DnsRecord, NamespaceKind, RoutingPolicy, samples,
    };
    use crate::registry::Change;

    const START_MS: EpochMs = 1_000_000;

    /// A registry's states and departures, and a clock.
    struct Bench {
        state: State,
        departures: Departures,
        started: Instant,
        now: Instant,
        id: ServiceId,
    }

    impl Bench {
        fn new(records: &[(DnsRecordType, u32)], created_ms: EpochMs) -> Bench {
            let mut state = State::default();
            let namespace = samples::namespace("ns-1".into(), "demo.local", NamespaceKind::Http);
            state.apply(&Change::PutNamespace(Arc::new(namespace)));
            let started = Instant::now();
            let id = ServiceId::from("srv-1");
            let mut bench =
                Bench { state, departures: Departures::new(started, START_MS, 0), started, now: started, id };
            bench.define(records, created_ms, &[]);
            bench
        }

        fn define(
            &mut self,
            records: &[(DnsRecordType, u32)],
            created_ms: EpochMs,
            attributes: &[(&str, &str)],
        ) {
            let records = records.iter().map(|(rtype, ttl)| DnsRecord { rtype: *rtype, ttl: *ttl }).collect();
            let attributes = attributes.iter().map(|(key, value)| (key.to_string(), value.to_string()));
            let service = Service {
                dns: Some(DnsConfig { routing: RoutingPolicy::Multivalue, records }),
                created_ms,
                attributes: attributes.collect(),
                custom_health_check: Some(crate::model::service::CustomHealthCheck {
                    failure_threshold: None,
                }),
                ..samples::service(self.id.clone(), "ns-1".into(), "web")
            };
            self.apply(&[Change::PutService(Arc::new(service))]);
        }

        fn apply(&mut self, changes: &[Change]) {
            let mut next = self.state.clone();
            changes.iter().for_each(|change| next.apply(change));
            let events: Vec<Event> = changes.iter().filter_map(Change::event).collect();
            self.departures.record(&self.state, &next, &events, &HealthSettings::default(), self.now);
            self.state = next;
        }

        fn put(&mut self, id: &str, attributes: &[(&str, &str)], status: Option<CustomHealthStatus>) {
            let attributes: BTreeMap<_, _> =
                attributes.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
            let attributes = Attributes::new(&attributes).unwrap();
            let instance = Instance::new(id, None, &attributes, status, 1).unwrap();
            self.apply(&[Change::PutInstance(self.id.clone(), instance)]);
        }

        fn delete(&mut self, id: &str) {
            self.apply(&[Change::DeleteInstance(self.id.clone(), id.into())]);
        }

        fn pass(&mut self, seconds: u64) {
            self.now += Duration::from_secs(seconds);
        }

        /// Knowledge about an instance, in whole seconds.
        fn hold(&self, id: &str) -> (&'static str, u64) {
            let state = self.state.service("srv-1").ok().map(|state| &**state);
            match self.departures.hold(&self.id, state, id, &HealthSettings::default(), self.now) {
                Hold::Answered(held) => ("answered", held.as_secs()),
                Hold::Left(held) => ("left", held.as_secs()),
                Hold::Unknown(held) => ("unknown", held.as_secs()),
            }
        }
    }

    use DnsRecordType::{A, Srv};

    #[test]
    fn clients_hold_an_instance_for_the_ttl_after_it_has_left() {
        let mut bench = Bench::new(&[(A, 60)], START_MS);
        assert_eq!(bench.hold("a"), ("unknown", 0), "the service is younger than the process");
        bench.put("a", &[], None);
        bench.pass(100);
        assert_eq!(bench.hold("a"), ("answered", 62));
        bench.delete("a");
        bench.pass(42);
        assert_eq!(bench.hold("a"), ("left", 20));
        for name in ["WEB.demo.local.", "web", "srv-1", "arn:aws:servicediscovery:eu-west-1:1:service/srv-1"]
        {
            assert_eq!(bench.departures.services(name), [bench.id.clone()], "{name}");
        }
        bench.pass(20);
        assert_eq!(bench.hold("a"), ("left", 0));
        bench.put("a", &[], None);
        assert_eq!(bench.hold("a"), ("answered", 62));
        bench.delete("a");
        bench.apply(&[Change::DeleteService(bench.id.clone())]);
        bench.pass(1);
        assert_eq!(bench.hold("a"), ("left", 61), "although its service is gone");
        assert_eq!(bench.departures.longest_hold(&bench.id, None, bench.now), Duration::from_secs(124));
    }

    #[test]
    fn all_instances_leave_with_a_service() {
        let mut bench = Bench::new(&[(A, 0)], START_MS);
        bench.put("a", &[], None);
        bench.put("b", &[], None);
        bench.apply(&[Change::DeleteService(bench.id.clone())]);
        // CoreDNS keeps an answer for at least five seconds.
        assert_eq!([bench.hold("a"), bench.hold("b")], [("left", 7); 2]);
    }

    #[test]
    fn an_instance_that_stays_is_held_as_the_target_of_srv_records_too() {
        for (records, unhealthy_s, weightless_s) in
            [(&[(A, 60)][..], 62, 62), (&[(Srv, 30)], 37, 64), (&[(A, 60), (Srv, 30)], 67, 124)]
        {
            let mut bench = Bench::new(records, START_MS);
            bench.put("a", &[], None);
            bench.put("b", &[], None);
            bench.put("a", &[], Some(CustomHealthStatus::Unhealthy));
            assert_eq!(bench.hold("a"), ("left", unhealthy_s));
            bench.put("c", &[], None);
            bench.put("b", &[("WEIGHT", "0")], None);
            assert_eq!(bench.hold("b"), ("left", weightless_s));
            // The time counts from the last answer, and not from the deregistration.
            bench.pass(30);
            bench.delete("a");
            assert_eq!(bench.hold("a"), ("left", unhealthy_s - 30));
            // A target that becomes healthy has its full TTL again.
            bench.put("d", &[], None);
            bench.put("d", &[("WEIGHT", "0")], Some(CustomHealthStatus::Unhealthy));
            assert_eq!(bench.hold("d"), ("left", unhealthy_s));
            bench.put("d", &[("WEIGHT", "0")], None);
            assert_eq!(bench.hold("d"), ("left", weightless_s));
        }
    }

    #[test]
    fn a_ttl_that_was_larger_counts_until_it_has_passed() {
        let mut bench = Bench::new(&[(A, 300)], START_MS);
        bench.put("a", &[], None);
        bench.define(&[(A, 10)], START_MS, &[]);
        bench.pass(100);
        assert_eq!(bench.hold("a"), ("answered", 202));
        bench.delete("a");
        assert_eq!(bench.hold("a"), ("left", 202));
        bench.pass(202);
        bench.put("b", &[], None);
        bench.delete("b");
        assert_eq!(bench.hold("b"), ("left", 12));
        // A larger one counts from now on only.
        bench.put("c", &[], None);
        bench.define(&[(A, 100)], START_MS, &[]);
        assert_eq!(bench.hold("c"), ("answered", 102));
    }

    #[test]
    fn an_earlier_process_may_have_answered_until_the_start() {
        let mut bench = Bench::new(&[(A, 60)], START_MS - 1);
        bench.pass(20);
        assert_eq!(bench.hold("a"), ("unknown", 42));
        bench.put("b", &[], Some(CustomHealthStatus::Unhealthy));
        assert_eq!(bench.hold("b"), ("left", 42));
        bench.delete("b");
        assert_eq!(bench.hold("b"), ("left", 42));
        bench.pass(42);
        assert_eq!([bench.hold("a"), bench.hold("b")], [("unknown", 0), ("left", 0)]);
        // The own name of an instance without weight was answered all the time.
        let mut bench = Bench::new(&[(Srv, 30)], START_MS - 1);
        bench.put("a", &[], None);
        bench.put("b", &[("WEIGHT", "0")], None);
        bench.delete("b");
        assert_eq!([bench.hold("b"), bench.hold("c")], [("left", 64), ("unknown", 64)]);
    }

    #[test]
    fn instances_that_others_replace_leave_too() {
        let mut bench = Bench::new(&[(A, 60)], START_MS);
        bench.define(&[(A, 60)], START_MS, &[("fail-open", "true")]);
        bench.put("a", &[], Some(CustomHealthStatus::Unhealthy));
        assert_eq!(bench.hold("a"), ("answered", 62));
        bench.put("b", &[], None);
        assert_eq!(bench.hold("a"), ("left", 62), "b is healthy, so that the service does not fail open");
    }

    #[test]
    fn departures_that_were_forgotten_delay_what_is_unknown() {
        let mut bench = Bench::new(&[(A, 60)], START_MS);
        for number in 0..=DEPARTURES_MAX {
            let (id, mut kept) = (bench.id.clone(), bench.departures.lock());
            let until = bench.started + Duration::from_secs(100);
            kept.service(&id, || ("web".into(), "web.demo.local".into()));
            let departed =
                Departed { instance: number.to_string().into(), held: until - bench.now, how: How::Left };
            kept.add(&id, departed, bench.now, bench.started);
        }
        assert_eq!(bench.departures.lock().order.len(), DEPARTURES_MAX);
        bench.pass(1);
        assert_eq!([bench.hold("0"), bench.hold("1")], [("unknown", 99), ("left", 99)]);
        bench.pass(99);
        assert_eq!(bench.hold("0"), ("unknown", 0));
    }

    #[test]
    fn what_several_servers_know_is_joined() {
        let seconds = Duration::from_secs;
        for (one, other, expected) in [
            (Hold::Answered(seconds(1)), Hold::Left(seconds(3)), Hold::Answered(seconds(3))),
            (Hold::Unknown(seconds(5)), Hold::Left(seconds(0)), Hold::Left(seconds(5))),
            (Hold::Unknown(seconds(5)), Hold::Unknown(seconds(0)), Hold::Unknown(seconds(5))),
            (Hold::Left(seconds(0)), Hold::Left(seconds(2)), Hold::Left(seconds(2))),
        ] {
            assert_eq!((one.and(other), other.and(one)), (expected, expected));
        }
    }
}
