//! Tests of statuses, of the decision which instances are answered, and of what time changes.

use std::sync::Arc;

use super::*;
use crate::model::instance::{AWS_INSTANCE_IPV4, WEIGHT};
use crate::model::service::CustomHealthCheck;
use crate::model::{
    Attributes, ConfirmedReadiness, CustomHealthStatus, HealthCheck, HealthCheckType, HealthStatus, Instance,
    Maintenance, NamespaceId, NamespaceKind, ObservedPod, PendingReport, PodDetails, PodSignals, PodTimes,
    Readiness, ReadinessSince, Report, ServiceId, Signals, SourceReport, Uid, samples,
};
use crate::registry::Change;

/// A service with instances of these kinds, each with its index as its id.
struct Case {
    has_check: bool,
    attributes: &'static [(&'static str, &'static str)],
    instances: &'static [Kind],
    expected: &'static [Reason],
}

#[derive(Clone, Copy)]
enum Kind {
    Registered(Option<CustomHealthStatus>),
    Weighted(&'static str, Option<CustomHealthStatus>),
    Pod(Readiness, Option<CustomHealthStatus>),
    /// A pod with the readiness of its container.
    Container(Readiness, Readiness),
    /// A pod that its annotation keeps out, and a pod and an instance that an operator keeps out.
    Annotated(Readiness),
    MaintainedPod(Readiness),
    Maintained(Option<CustomHealthStatus>),
}

use CustomHealthStatus as Said;
use Kind::{Annotated, Container, Maintained, MaintainedPod, Pod, Registered, Weighted};
use Readiness::{NeverReady, NotReady, Ready};

fn reasons(case: &Case) -> Vec<Reason> {
    let id = ServiceId::from("srv-1");
    let mut service = samples::service(id.clone(), NamespaceId::from("ns-1"), "web");
    service.custom_health_check = case.has_check.then_some(CustomHealthCheck { failure_threshold: None });
    let attributes = case.attributes.iter().map(|(key, value)| (key.to_string(), value.to_string()));
    service.attributes = attributes.collect::<BTreeMap<_, _>>();
    let mut state = State::default();
    state.apply(&Change::PutService(Arc::new(service)));
    for (at, kind) in case.instances.iter().enumerate() {
        let (name, none) = (at.to_string(), Attributes::default());
        let (instance, said) = match *kind {
            Registered(said) => (Instance::new(&name, None, &none, None, 1), said),
            Weighted(weight, said) => {
                let weight = BTreeMap::from([(WEIGHT.to_string(), weight.to_string())]);
                let weight = Attributes::new(&weight).expect("it is short");
                (Instance::new(&name, None, &weight, None, 1), said)
            }
            Maintained(said) => (Instance::new(&name, None, &none, None, 1), said),
            Pod(..) | Container(..) | Annotated(_) | MaintainedPod(_) => {
                let pod = format!("default/web-{at}");
                let (readiness, container, said, maintenance) = match *kind {
                    Container(readiness, container) => (readiness, container, None, None),
                    Annotated(readiness) => (readiness, readiness, None, Some("disk".to_string())),
                    Pod(readiness, said) => (readiness, readiness, said, None),
                    MaintainedPod(readiness) => (readiness, readiness, None, None),
                    Registered(_) | Weighted(..) | Maintained(_) => unreachable!("they are no pods"),
                };
                let details = PodDetails { maintenance, ..PodDetails::default() };
                let observed = ObservedPod {
                    container_readiness: container.into(),
                    details: &details,
                    ..ObservedPod::new(&pod, Uid::of(&pod), readiness)
                };
                (Instance::watched(&name, &observed, &none), said)
            }
        };
        let instance = instance.expect("the id is short");
        let ordered = Maintenance { reason: "disk".into(), operator: String::new(), since_ms: 1 };
        let ordered = Signals { maintenance: Some(ordered), ..Signals::default() };
        if matches!(kind, MaintainedPod(_)) {
            let pod_uid = instance.pod_uid().expect("it is a pod");
            let signals = PodSignals { pod: String::new(), pod_uid, signals: ordered.clone() };
            state.apply(&Change::PutPodSignals(id.clone(), name.as_str().into(), signals.into()));
        }
        if let (Some(status), Some(pod_uid)) = (said, instance.pod_uid()) {
            let report = PodSignals { pod: String::new(), pod_uid, signals: samples::report(status) };
            state.apply(&Change::PutPodSignals(id.clone(), name.into(), report.into()));
        }
        let instance = if instance.is_watched() {
            instance
        } else if matches!(kind, Maintained(_)) {
            instance.with_signals(said, &ordered)
        } else {
            instance.with_signals(said, &Signals::default())
        };
        state.apply(&Change::PutInstance(id.clone(), instance));
    }
    let state = state.service("srv-1").expect("it was just put");
    let answering = HealthSettings::default().answering(state);
    state.instances().iter().map(|instance| answering.reason(instance)).collect()
}

#[test]
fn instances_are_answered_as_policies_and_signals_say() {
    use Reason::{
        Healthy, Maintenance, NoWeight, Shortage, Unhealthy, UnknownBesideHealthy, UnknownFallback,
        UnknownServed, UnknownWithheld, Unwatched,
    };
    let case =
        |has_check, attributes, instances, expected| Case { has_check, attributes, instances, expected };
    let cases = [
        case(false, &[], &[], &[]),
        case(false, &[], &[Registered(None)], &[Unwatched]),
        case(false, &[], &[Registered(Some(Said::Unhealthy))], &[Unwatched]),
        case(true, &[], &[Registered(None), Registered(Some(Said::Unhealthy))], &[Healthy, Unhealthy]),
        // In a rolling update the new pod is not answered yet. At the first start it is, because there is no other.
        case(false, &[], &[Pod(Ready, None), Pod(NeverReady, None)], &[Healthy, UnknownBesideHealthy]),
        case(false, &[], &[Pod(NotReady, None), Pod(NeverReady, None)], &[Unhealthy, UnknownFallback]),
        // An instance without a health check does not count as HEALTHY, so UNKNOWN pods are answered beside it.
        case(false, &[], &[Pod(Ready, None), Registered(None)], &[Healthy, Unwatched]),
        case(false, &[], &[Pod(NeverReady, None), Registered(None)], &[UnknownFallback, Unwatched]),
        // A report can make any pod UNHEALTHY, but no pod HEALTHY that is not ready.
        case(
            true,
            &[],
            &[Pod(NeverReady, Some(Said::Healthy)), Pod(Ready, Some(Said::Healthy))],
            &[UnknownBesideHealthy, Healthy],
        ),
        case(
            true,
            &[],
            &[Pod(NeverReady, Some(Said::Unhealthy)), Pod(Ready, Some(Said::Unhealthy))],
            &[Unhealthy, Unhealthy],
        ),
        case(true, &[], &[Pod(NotReady, Some(Said::Healthy))], &[Unhealthy]),
        case(
            false,
            &[("unknown", "serve")],
            &[Pod(Ready, None), Pod(NeverReady, None)],
            &[Healthy, UnknownServed],
        ),
        case(
            false,
            &[("unknown", "withhold")],
            &[Pod(NotReady, None), Pod(NeverReady, None)],
            &[Unhealthy, UnknownWithheld],
        ),
        case(false, &[("unknown", "never")], &[Pod(NeverReady, None)], &[UnknownFallback]),
        case(
            false,
            &[("fail-open", "true"), ("unknown", "withhold")],
            &[Pod(NotReady, None), Pod(NeverReady, None)],
            &[Shortage, UnknownWithheld],
        ),
        case(
            false,
            &[("fail-open", "true")],
            &[Pod(NotReady, None), Pod(NeverReady, None)],
            &[Shortage, UnknownFallback],
        ),
        // One of three is healthy, and the minimum is 2 (50 % rounded up) or 1.
        case(
            false,
            &[("minimum-healthy", "50%"), ("fail-open", "false")],
            &[Pod(Ready, None), Pod(NeverReady, None), Pod(NotReady, None)],
            &[Healthy, Shortage, Shortage],
        ),
        case(
            false,
            &[("minimum-healthy", "33%")],
            &[Pod(Ready, None), Pod(NeverReady, None), Pod(NotReady, None)],
            &[Healthy, UnknownBesideHealthy, Unhealthy],
        ),
        case(
            false,
            &[("minimum-healthy", "4"), ("unknown", "serve")],
            &[Pod(Ready, None), Pod(NeverReady, None), Pod(NotReady, None), Registered(None)],
            &[Healthy, UnknownServed, Shortage, Unwatched],
        ),
        // An invalid attribute counts as unset, and another word for the policy counts.
        case(
            false,
            &[("minimum-healthy", "101%"), ("fail-open", "true")],
            &[Pod(NotReady, None)],
            &[Shortage],
        ),
        case(false, &[("minimum-healthy", "0"), ("fail-open", "true")], &[Pod(NotReady, None)], &[Unhealthy]),
        // Weight 0 takes an instance out, and out of the numbers of the minimum, while another one has more.
        case(
            true,
            &[],
            &[Weighted("0", Some(Said::Healthy)), Weighted("1", Some(Said::Unhealthy))],
            &[NoWeight, Unhealthy],
        ),
        case(
            true,
            &[("minimum-healthy", "100%")],
            &[Weighted("0", None), Weighted("2", None), Weighted("1", Some(Said::Unhealthy))],
            &[NoWeight, Healthy, Shortage],
        ),
        case(true, &[], &[Weighted("0", None), Weighted("0", None)], &[Healthy, Healthy]),
        // Weights only compare with those of instances that are not in maintenance.
        case(true, &[], &[Weighted("0", None), Maintained(None)], &[Healthy, Maintenance]),
        // Maintenance takes an instance out, whatever the other signals and policies are.
        case(
            false,
            &[("minimum-healthy", "100%"), ("unknown", "serve")],
            &[Annotated(Ready), MaintainedPod(NeverReady), Maintained(None)],
            &[Maintenance, Maintenance, Maintenance],
        ),
        case(true, &[("fail-open", "true")], &[Maintained(Some(Said::Healthy))], &[Maintenance]),
        // It does not count as one of the eligible instances: one of the other two is 50 %.
        case(
            true,
            &[("minimum-healthy", "50%")],
            &[Registered(None), Registered(Some(Said::Unhealthy)), Maintained(None), Maintained(None)],
            &[Healthy, Unhealthy, Maintenance, Maintenance],
        ),
        // Only the policy `health-of` makes the readiness of a container count.
        case(false, &[], &[Container(NotReady, Ready), Container(Ready, NotReady)], &[Unhealthy, Healthy]),
        case(
            false,
            &[("health-of", "container")],
            &[Container(NotReady, Ready), Container(Ready, NotReady), Container(NeverReady, NeverReady)],
            &[Healthy, Unhealthy, UnknownBesideHealthy],
        ),
    ];
    for (at, case) in cases.iter().enumerate() {
        assert_eq!(reasons(case), case.expected, "case {at}");
    }
}

#[test]
fn a_cause_names_the_signal_that_decides() {
    let mut service = samples::service(ServiceId::from("srv-1"), NamespaceId::from("ns-1"), "web");
    let none = Attributes::default();
    let plain = Instance::new("web-1", None, &none, None, 1).expect("the id is short");
    let texts = |service: &Service, instance: &Instance, signals: &Signals| {
        let cause = HealthSettings::default().of(&state_of(service)).cause_of(instance, signals);
        (cause.kind, cause.text)
    };
    let nothing = Signals::default();
    assert_eq!(
        texts(&service, &plain, &nothing),
        (CauseKind::Registration, "nothing checks its health".into())
    );
    service.custom_health_check = Some(CustomHealthCheck { failure_threshold: None });
    assert_eq!(
        texts(&service, &plain, &nothing),
        (CauseKind::Registration, "no health was reported yet".into())
    );
    let initial = plain.with_signals(Some(Said::Unhealthy), &nothing);
    assert_eq!(
        texts(&service, &initial, &nothing),
        (CauseKind::Registration, "custom health status UNHEALTHY at its registration".into())
    );
    let reported = samples::report(Said::Healthy);
    let healthy = plain.with_signals(Some(Said::Healthy), &reported);
    assert_eq!(
        texts(&service, &healthy, &reported),
        (CauseKind::Report, "reported HEALTHY by a client".into())
    );
    let details = PodDetails { not_ready: Some("unready: [app]".into()), ..PodDetails::default() };
    let pod = ObservedPod { details: &details, ..ObservedPod::new("default/web-1", Uid::of("1"), NotReady) };
    let pod = Instance::watched("web-1", &pod, &none).expect("the id is short");
    let lost = "readiness lost: pod default/web-1 is not ready any more: unready: [app]";
    assert_eq!(
        texts(&service, &pod.with_pod_signals(&reported), &reported),
        (CauseKind::Readiness, lost.into())
    );
    assert_eq!(
        texts(
            &service,
            &pod.with_pod_signals(&samples::report(Said::Unhealthy)),
            &samples::report(Said::Unhealthy)
        ),
        (CauseKind::Report, "reported UNHEALTHY by a client".into())
    );
    let order = Maintenance { reason: "disk swap".into(), operator: "me".into(), since_ms: 1 };
    let order = Signals { maintenance: Some(order), ..reported };
    assert_eq!(
        texts(&service, &plain.with_signals(Some(Said::Healthy), &order), &order),
        (CauseKind::Maintenance, "maintenance: disk swap".into())
    );
}

/// A pod that started at 1,000 s, with this readiness since `changed_s`, and what was confirmed of it.
fn timed(readiness: Readiness, changed_s: u32, confirmed: Option<(Readiness, u32)>) -> Instance {
    let since = ReadinessSince { readiness, changed_s };
    let pod = ObservedPod {
        started_s: 1_000,
        readiness: since,
        container_readiness: since,
        ..ObservedPod::new("default/web-1", Uid::of("1"), readiness)
    };
    let confirmed = confirmed.map(|(readiness, changed_s)| ConfirmedReadiness { readiness, changed_s });
    let pod = Instance::watched("web-1", &pod, &Attributes::default()).expect("the id is short");
    pod.with_pod_signals(&Signals { confirmed, ..Signals::default() })
}

/// State of a registry's service that has no instances yet.
fn state_of(service: &Service) -> Arc<ServiceState> {
    let mut state = State::default();
    state.apply(&Change::PutService(Arc::new(service.clone())));
    state.service(service.id.as_str()).expect("it was just put").clone()
}

fn with_policies(policies: &[(&str, &str)]) -> Service {
    let mut service = samples::service(ServiceId::from("srv-1"), NamespaceId::from("ns-1"), "web");
    service.attributes =
        policies.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect::<BTreeMap<_, _>>();
    service
}

#[test]
fn a_readiness_counts_once_it_has_lasted_and_was_confirmed() {
    use HealthStatus::{Healthy, Unhealthy, Unknown};
    // The policies, the pod, its status until then, and the second at which its readiness is to be confirmed.
    type TimedCase = (&'static [(&'static str, &'static str)], Instance, HealthStatus, Option<u32>);
    let cases: [TimedCase; 19] = [
        (&[], timed(NotReady, 1_010, None), Unhealthy, None),
        // Numbers of observations are not for readiness.
        (&[("down-after", "3"), ("up-after", "2")], timed(NotReady, 1_010, None), Unhealthy, None),
        (&[("down-after", "30s")], timed(NotReady, 2_000, None), Healthy, Some(2_030)),
        (&[("down-after", "30s")], timed(NotReady, 2_000, Some((NotReady, 2_000))), Unhealthy, None),
        // An earlier interruption that was confirmed says nothing about this one.
        (&[("down-after", "30s")], timed(NotReady, 2_000, Some((NotReady, 1_500))), Healthy, Some(2_030)),
        (&[("down-after", "30s")], timed(Ready, 2_000, Some((NotReady, 1_500))), Healthy, None),
        (&[("down-after", "30s")], timed(NeverReady, 1_001, None), Unknown, None),
        (&[("up-after", "1m")], timed(Ready, 1_010, None), Unknown, Some(1_070)),
        (&[("up-after", "1m")], timed(Ready, 1_010, Some((Ready, 1_010))), Healthy, None),
        (&[("up-after", "1m")], timed(NotReady, 1_010, None), Unhealthy, None),
        (&[("up-after", "1m")], timed(Ready, 1_500, Some((Ready, 1_010))), Unhealthy, Some(1_560)),
        // It was confirmed to be ready, or not, before this interruption.
        (
            &[("up-after", "1m"), ("down-after", "30s")],
            timed(NotReady, 1_500, Some((Ready, 1_010))),
            Healthy,
            Some(1_530),
        ),
        (
            &[("up-after", "1m"), ("down-after", "30s")],
            timed(NotReady, 1_500, Some((NotReady, 1_400))),
            Unhealthy,
            Some(1_530),
        ),
        // An interruption that was too short to count does not count when it has ended.
        (
            &[("up-after", "1m"), ("down-after", "30s")],
            timed(Ready, 1_510, Some((Ready, 1_010))),
            Healthy,
            None,
        ),
        (
            &[("up-after", "10s"), ("grace", "10m")],
            timed(Ready, 1_510, Some((Ready, 1_010))),
            Unknown,
            Some(1_520),
        ),
        (&[("grace", "2m")], timed(NotReady, 1_100, None), Unknown, Some(1_120)),
        (&[("grace", "2m"), ("down-after", "30s")], timed(NotReady, 1_100, None), Unknown, Some(1_130)),
        (&[("grace", "2m")], timed(NotReady, 1_120, None), Unhealthy, None),
        (&[("grace", "2m")], timed(Ready, 1_010, None), Healthy, None),
    ];
    for (at, (policies, pod, expected, due_s)) in cases.into_iter().enumerate() {
        let state = state_of(&with_policies(policies));
        let health = HealthSettings::default().of(&state);
        assert_eq!(health.status_of(&pod), expected, "case {at}");
        let signals = Signals { confirmed: pod.confirmed_readiness(), ..Signals::default() };
        let due_ms = due_s.map(|due_s| i64::from(due_s) * 1_000);
        assert_eq!(health.elapsed(&pod, &signals, None, 1_000_000), (None, due_ms), "case {at}");
        if let Some(due_ms) = due_ms {
            assert_eq!(health.elapsed(&pod, &signals, None, due_ms - 1), (None, Some(due_ms)), "case {at}");
            let (Some(Elapsed::Signals(None, new)), None) = health.elapsed(&pod, &signals, None, due_ms)
            else {
                panic!("case {at}: something is due");
            };
            let (then, raw) = (health.status_of(&pod.with_pod_signals(&new)), pod.readiness());
            assert_eq!(then, if raw == Some(Ready) { Healthy } else { Unhealthy }, "case {at}");
        }
    }
}

#[test]
fn annotations_of_a_pod_override_the_times_of_its_service() {
    let times = PodTimes { grace_s: Some(60), down_after_s: Some(10), up_after_s: None };
    let details = PodDetails { times, ..PodDetails::default() };
    let readiness = ReadinessSince { readiness: NotReady, changed_s: 2_000 };
    let pod =
        ObservedPod { readiness, details: &details, ..ObservedPod::new("default/x", Uid::of("1"), Ready) };
    let pod = Instance::watched("x", &pod, &Attributes::default()).expect("the id is short");
    let state = state_of(&with_policies(&[("down-after", "1h")]));
    let next = HealthSettings::default().of(&state).elapsed(&pod, &Signals::default(), None, 2_000_000).1;
    assert_eq!(next, Some(2_010_000));
}

#[test]
fn time_ends_reports_and_misses_heartbeats() {
    let source = |name: &str, until: Option<i64>| SourceReport {
        source: name.into(),
        status: Said::Unhealthy,
        reason: String::new(),
        reporter: String::new(),
        reported_ms: 0,
        valid_until_ms: until,
    };
    let mut service = with_policies(&[("heartbeat", "10s"), ("expire", "1m"), ("down-after", "5s")]);
    let plain = Instance::new("web-1", None, &Attributes::default(), None, 1).expect("the id is short");
    let settings = HealthSettings::default();
    let status = |service: &Service, signals: &Signals| {
        settings.of(&state_of(service)).status_of(&plain.with_signals(None, signals))
    };
    let elapsed = |service: &Service, signals: &Signals, now_ms| {
        settings.of(&state_of(service)).elapsed(
            &plain.with_signals(None, signals),
            signals,
            Some(4_000),
            now_ms,
        )
    };
    // Nothing reports about a service without a custom health check.
    assert_eq!(elapsed(&service, &Signals::default(), 5_000), (None, None));
    service.custom_health_check = Some(CustomHealthCheck { failure_threshold: None });
    assert_eq!(status(&service, &Signals::default()), HealthStatus::Unknown);
    let begun = Signals { alive_ms: Some(5_000), ..Signals::default() };
    let first = elapsed(&service, &Signals::default(), 5_000);
    assert_eq!(first, (Some(Elapsed::Signals(None, begun.clone().into())), Some(15_000)));
    assert_eq!(elapsed(&service, &begun, 14_999), (None, Some(15_000)));
    let missed = Signals { missed_ms: Some(15_000), ..begun.clone() };
    let second = elapsed(&service, &begun, 15_000);
    assert_eq!(second, (Some(Elapsed::Signals(None, missed.clone().into())), Some(65_000)));
    assert_eq!(status(&service, &missed), HealthStatus::Unhealthy);
    let cause = settings.of(&state_of(&service)).cause_of(&plain.with_signals(None, &missed), &missed);
    assert_eq!(cause.text, "heartbeat missed: no report for 10s");
    assert_eq!(elapsed(&service, &missed, 65_000), (Some(Elapsed::Expired), None));
    // The registration begins the grace period.
    service.attributes.insert("grace".into(), "20s".into());
    assert_eq!(elapsed(&service, &begun, 15_000), (None, Some(24_000)));
    assert_eq!(elapsed(&service, &begun, 24_000).0, {
        let missed = Signals { missed_ms: Some(24_000), ..begun.clone() };
        Some(Elapsed::Signals(None, missed.into()))
    });
    // A policy that is gone takes effect at once, and what it needed is deleted.
    service.attributes.clear();
    assert_eq!(status(&service, &missed), HealthStatus::Healthy);
    assert_eq!(
        elapsed(&service, &missed, 0),
        (Some(Elapsed::Signals(None, Signals::default().into())), None)
    );

    let both = Signals { sources: vec![source("a", Some(30)), source("b", None)], ..Signals::default() };
    assert_eq!(status(&service, &both), HealthStatus::Unhealthy);
    assert_eq!(elapsed(&service, &both, 29), (None, Some(30)));
    let one = Signals { sources: vec![source("b", None)], ..Signals::default() };
    assert_eq!(elapsed(&service, &both, 30), (Some(Elapsed::Signals(None, one.into())), None));

    service.attributes.insert("down-after".into(), "5s".into());
    let report = Report { status: Said::Unhealthy, reporter: String::new(), reported_ms: 1_000 };
    let waits =
        Signals { pending: Some(PendingReport { report: report.clone(), count: 1 }), ..Signals::default() };
    assert_eq!(elapsed(&service, &waits, 5_999), (None, Some(6_000)));
    let counts = Signals { report: Some(report), ..Signals::default() };
    assert_eq!(
        elapsed(&service, &waits, 6_000),
        (Some(Elapsed::Signals(Some(Said::Unhealthy), counts.into())), None)
    );
}

#[test]
fn an_instance_that_is_checked_is_unknown_until_a_result_counts() {
    let checked = |networks: &[&str]| HealthSettings {
        checked: CheckedNetworks::new(networks.iter().map(|text| text.parse().unwrap()).collect()),
        ..HealthSettings::default()
    };
    let all = checked(&["10.0.0.0/8"]);
    let address = |address: &str| {
        let attributes = BTreeMap::from([(AWS_INSTANCE_IPV4.to_string(), address.to_string())]);
        Instance::new("web-1", None, &Attributes::new(&attributes).unwrap(), None, 1).unwrap()
    };
    let state_in = |kind: NamespaceKind| {
        let id = NamespaceId::from("ns-1");
        let mut service = samples::service(ServiceId::from("srv-1"), id.clone(), "web");
        service.health_check = Some(HealthCheck {
            check_type: HealthCheckType::Http,
            resource_path: None,
            failure_threshold: Some(3),
        });
        let mut state = State::default();
        state.apply(&Change::PutNamespace(samples::namespace(id, "demo.test", kind).into()));
        state.apply(&Change::PutService(service.into()));
        state.service("srv-1").unwrap().clone()
    };
    let (public, private) =
        (state_in(NamespaceKind::DnsPublic), state_in(NamespaceKind::DnsPrivate { vpc: "vpc-1".into() }));
    let status = |settings: &HealthSettings, state: &ServiceState, instance: &Instance| {
        settings.of(state).status_of(instance)
    };
    let (near, far) = (address("10.0.0.1"), address("192.0.2.1"));
    assert_eq!(status(&all, &public, &near), HealthStatus::Unknown);
    let cause = all.of(&public).cause_of(&near, &Signals::default());
    assert_eq!((cause.kind, &*cause.text), (CauseKind::Check, "no result of its health check counts yet"));
    assert_eq!(status(&all, &public, &far), HealthStatus::Healthy);
    assert_eq!(status(&all, &private, &near), HealthStatus::Healthy);
    assert_eq!(status(&checked(&[]), &public, &near), HealthStatus::Healthy);
    assert_eq!(all.of(&public).checked_endpoint(&near), Some("10.0.0.1:80".parse().unwrap()));

    let condition = |policies: &[(&str, &str)], said, is_first| {
        let mut state = (*public).clone();
        state.service =
            Service { attributes: with_policies(policies).attributes, ..(*state.service).clone() }.into();
        let found = all.of(&state).check_condition(&near, said, is_first);
        (found.results, found.time_ms)
    };
    assert_eq!(condition(&[], Said::Healthy, true), (1, 0));
    assert_eq!(condition(&[], Said::Healthy, false), (3, 0));
    assert_eq!(condition(&[], Said::Unhealthy, true), (3, 0));
    let policies: &[(&str, &str)] = &[("up-after", "2"), ("down-after", "30s")];
    assert_eq!(condition(policies, Said::Healthy, true), (2, 0));
    assert_eq!(condition(policies, Said::Healthy, false), (3, 0));
    assert_eq!(condition(policies, Said::Unhealthy, false), (3, 30_000));
    assert_eq!(condition(&[("down-after", "5")], Said::Unhealthy, false), (5, 0));
}
