//! Health of instances, and the decision which instances are answered. No other code decides either.
//!
//! DNS, DiscoverInstances without a filter, the mirror and `explain` all use [`Answering`], so that they cannot disagree.
//!
//! An instance has two independent signals: a pod's readiness, and the status that clients have reported. If one is
//! UNHEALTHY, the instance is UNHEALTHY; else if one is HEALTHY, it is HEALTHY, but a pod only while it is ready; else it is
//! UNKNOWN. Healthy instances are answered. Unknown ones are answered according to [`UnknownHealth`], and unhealthy ones
//! only while their service has fewer healthy ones than [`MinimumHealthy`] demands. An instance without a health check is
//! always answered, because its health will never be known.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use crate::model::{HealthStatus, Instance, Readiness, Service, instance::WEIGHT};

use super::state::ServiceState;

/// Service attributes that override the policies of [`HealthSettings`].
const FAIL_OPEN: &str = "fail-open";
const UNKNOWN: &str = "unknown";
const MINIMUM_HEALTHY: &str = "minimum-healthy";
const ANSWER_MAX: &str = "answer-max";

/// Health policies. A service can override each of them by a service attribute of the setting's name.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct HealthSettings {
    /// Policy for instances whose health is checked but not known yet.
    pub unknown: UnknownHealth,
    /// Number of healthy instances below which unhealthy ones are answered too. The setting and attribute `fail-open` is
    /// another word for 1, which is AWS's rule for multivalue answers.
    pub minimum_healthy: MinimumHealthy,
    /// Limit on the records of a multivalue answer.
    pub answer_max: AnswerMax,
}

/// Number of healthy instances below which a service's unhealthy instances are answered too; 0 for never.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(missing_docs, reason = "the type's document explains the variants")]
pub enum MinimumHealthy {
    Count(u32),
    /// Share of the service's instances, rounded up.
    Percent(u8),
}

impl MinimumHealthy {
    /// Answers unhealthy instances while no instance is healthy.
    pub const FAIL_OPEN: MinimumHealthy = MinimumHealthy::Count(1);
    const COUNT_MAX: u32 = 1_000_000;

    fn of(self, instances: usize) -> usize {
        match self {
            MinimumHealthy::Count(count) => count as usize,
            MinimumHealthy::Percent(percent) => (instances * usize::from(percent)).div_ceil(100),
        }
    }
}

impl Default for MinimumHealthy {
    fn default() -> MinimumHealthy {
        MinimumHealthy::Count(0)
    }
}

impl fmt::Display for MinimumHealthy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MinimumHealthy::Count(count) => write!(f, "{count}"),
            MinimumHealthy::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

impl FromStr for MinimumHealthy {
    type Err = PolicyError;

    fn from_str(text: &str) -> Result<MinimumHealthy, PolicyError> {
        let parsed = match text.strip_suffix('%') {
            Some(percent) => digits(percent, 100).map(|percent| MinimumHealthy::Percent(percent as u8)),
            None => digits(text, MinimumHealthy::COUNT_MAX).map(MinimumHealthy::Count),
        };
        parsed
            .ok_or(PolicyError("a number of instances from 0 to 1000000, or a share of them from 0% to 100%"))
    }
}

/// Limit on the records of a multivalue answer, from 1 to 64; Cloud Map's is 8.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct AnswerMax(u8);

impl AnswerMax {
    /// Largest limit. It bounds the memory of an answer that is being made.
    pub const MAX: u8 = 64;

    #[expect(missing_docs, reason = "the type's document explains it")]
    pub fn records(self) -> u8 {
        self.0
    }
}

impl Default for AnswerMax {
    fn default() -> AnswerMax {
        AnswerMax(8)
    }
}

impl fmt::Display for AnswerMax {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl TryFrom<u64> for AnswerMax {
    type Error = PolicyError;

    fn try_from(records: u64) -> Result<AnswerMax, PolicyError> {
        let records = u8::try_from(records).ok().filter(|records| (1..=AnswerMax::MAX).contains(records));
        records.map(AnswerMax).ok_or(PolicyError("a number of records from 1 to 64"))
    }
}

impl FromStr for AnswerMax {
    type Err = PolicyError;

    fn from_str(text: &str) -> Result<AnswerMax, PolicyError> {
        AnswerMax::try_from(digits(text, AnswerMax::MAX.into()).map_or(0, u64::from))
    }
}

/// The error for an invalid value of a policy: a description of the valid ones.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{0}")]
pub struct PolicyError(pub &'static str);

fn digits(text: &str, max: u32) -> Option<u32> {
    // `parse` would accept a plus sign.
    let number = text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?;
    number.filter(|number| *number <= max)
}

/// Policy for instances whose health is checked but not known yet, such as pods that have never been ready.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum UnknownHealth {
    /// Such instances are answered like HEALTHY ones.
    Serve,
    /// Such instances are answered only while their service has no HEALTHY instance: a service that starts is reachable, and
    /// a rolling update directs no client to a task that is not ready.
    #[default]
    Fallback,
    /// Such instances are not answered until their health is known.
    Withhold,
}

impl UnknownHealth {
    /// Every policy with its value in settings and service attributes.
    pub const WORDS: &'static [(&'static str, UnknownHealth)] = &[
        ("serve", UnknownHealth::Serve),
        ("fallback", UnknownHealth::Fallback),
        ("withhold", UnknownHealth::Withhold),
    ];
}

impl FromStr for UnknownHealth {
    type Err = PolicyError;

    fn from_str(text: &str) -> Result<UnknownHealth, PolicyError> {
        let known = UnknownHealth::WORDS.iter().find(|(word, _)| *word == text);
        known.map(|(_, unknown)| *unknown).ok_or(PolicyError("one of serve, fallback, withhold"))
    }
}

/// Finds the first service attribute that is a policy with an invalid value: its key, the value, and the valid ones.
pub fn invalid_policy(service_attributes: &BTreeMap<String, String>) -> Option<(&str, &str, PolicyError)> {
    service_attributes.iter().find_map(|(key, value)| {
        let checked = match key.as_str() {
            FAIL_OPEN => fail_open(value).map(drop),
            UNKNOWN => value.parse::<UnknownHealth>().map(drop),
            MINIMUM_HEALTHY => value.parse::<MinimumHealthy>().map(drop),
            ANSWER_MAX => value.parse::<AnswerMax>().map(drop),
            _ => Ok(()),
        };
        Some((key.as_str(), value.as_str(), checked.err()?))
    })
}

fn fail_open(value: &str) -> Result<MinimumHealthy, PolicyError> {
    match value {
        "true" => Ok(MinimumHealthy::FAIL_OPEN),
        "false" => Ok(MinimumHealthy::default()),
        _ => Err(PolicyError("one of true, false")),
    }
}

/// Weight of an instance in answers that contain one, and in its SRV record: its attribute `WEIGHT`, else 1. `None` for an
/// invalid value.
pub fn parse_weight(attribute: Option<&str>) -> Option<u8> {
    attribute.map_or(Some(1), |value| digits(value, u8::MAX.into()).map(|weight| weight as u8))
}

impl HealthSettings {
    /// Returns these settings as the service's attributes override them. An attribute with an invalid value is ignored.
    pub fn of(&self, service: &Service) -> HealthSettings {
        fn value<T: FromStr>(service: &Service, key: &str) -> Option<T> {
            service.attributes.get(key)?.parse().ok()
        }
        let fail_open = || fail_open(service.attributes.get(FAIL_OPEN)?).ok();
        HealthSettings {
            unknown: value(service, UNKNOWN).unwrap_or(self.unknown),
            minimum_healthy: value(service, MINIMUM_HEALTHY)
                .or_else(fail_open)
                .unwrap_or(self.minimum_healthy),
            answer_max: value(service, ANSWER_MAX).unwrap_or(self.answer_max),
        }
    }

    /// Makes the decision for all instances of a service, with these settings as defaults.
    pub fn answering<'s>(&self, state: &'s ServiceState) -> Answering<'s> {
        let service = &*state.service;
        let weightless = state.instances().iter().filter(|instance| weight(instance) == 0).count();
        let mut answering = Answering {
            service,
            settings: self.of(service),
            excludes_weight_0: weightless > 0 && weightless < state.instances().len(),
            has_healthy: false,
            shortage: None,
        };
        let (mut eligible, mut healthy, mut has_healthy) = (0, 0, false);
        for instance in state.instances().iter().filter(|instance| answering.is_eligible(instance)) {
            eligible += 1;
            has_healthy |= service.status_of(instance) == HealthStatus::Healthy;
            healthy += usize::from(answering.health_rank(instance) == Rank::Healthy);
        }
        answering.has_healthy = has_healthy;
        let minimum = answering.settings.minimum_healthy.of(eligible);
        answering.shortage = (healthy < minimum).then_some(Shortage { healthy, eligible });
        answering
    }
}

/// Decision which instances of one service are answered.
#[derive(Clone, Copy, Debug)]
pub struct Answering<'s> {
    service: &'s Service,
    settings: HealthSettings,
    excludes_weight_0: bool,
    has_healthy: bool,
    shortage: Option<Shortage>,
}

/// Numbers of a service that has fewer healthy instances than [`MinimumHealthy`] demands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(missing_docs, reason = "the type's document explains the fields")]
pub struct Shortage {
    pub healthy: usize,
    pub eligible: usize,
}

/// Order in which instances fill an answer that has no room for all of them. Instances of one rank are drawn.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
#[expect(missing_docs, reason = "the variants are health statuses")]
pub enum Rank {
    Healthy,
    Unknown,
    Unhealthy,
}

/// Reason why an instance is answered or not.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Reason {
    /// Answered: its health is known to be HEALTHY.
    Healthy,
    /// Answered: no health check and no pod's readiness determines its health.
    Unwatched,
    /// Answered: its health is not known yet, and the policy is to serve such instances.
    UnknownServed,
    /// Answered: its health is not known yet, and no instance of the service is HEALTHY.
    UnknownFallback,
    /// Answered although its health is not HEALTHY, because the service has a [`Shortage`].
    Shortage,
    /// Not answered: its health is known to be UNHEALTHY.
    Unhealthy,
    /// Not answered: its health is not known yet, and another instance of the service is HEALTHY.
    UnknownBesideHealthy,
    /// Not answered: its health is not known yet, and the policy is to withhold such instances.
    UnknownWithheld,
    /// Not answered: its weight is 0, and another instance has a larger one.
    NoWeight,
}

impl Reason {
    /// Returns true if DNS and DiscoverInstances answer with the instance.
    pub fn is_answered(self) -> bool {
        match self {
            Reason::Healthy
            | Reason::Unwatched
            | Reason::UnknownServed
            | Reason::UnknownFallback
            | Reason::Shortage => true,
            Reason::Unhealthy | Reason::UnknownBesideHealthy | Reason::UnknownWithheld | Reason::NoWeight => {
                false
            }
        }
    }
}

impl Answering<'_> {
    /// Policies that apply to the service, after its attributes have overridden the defaults.
    pub fn settings(&self) -> HealthSettings {
        self.settings
    }

    /// Returns true if DNS and DiscoverInstances answer with this instance of the service.
    pub fn answers(&self, instance: &Instance) -> bool {
        self.reason(instance).is_answered()
    }

    /// Numbers of the service if unhealthy instances are answered too.
    pub fn shortage(&self) -> Option<Shortage> {
        self.shortage
    }

    /// Returns the rank of this instance in the service's answers; `None` if it is not answered.
    pub fn rank(&self, instance: &Instance) -> Option<Rank> {
        let rank = if self.shortage.is_some() { self.health_rank(instance) } else { Rank::Healthy };
        self.answers(instance).then_some(rank)
    }

    fn health_rank(&self, instance: &Instance) -> Rank {
        match (self.service.status_of(instance), self.settings.unknown) {
            (HealthStatus::Healthy, _) | (HealthStatus::Unknown, UnknownHealth::Serve) => Rank::Healthy,
            (HealthStatus::Unknown, _) if !self.service.watches(instance) => Rank::Healthy,
            (HealthStatus::Unknown, _) => Rank::Unknown,
            (HealthStatus::Unhealthy, _) => Rank::Unhealthy,
        }
    }

    /// Returns the reason why this instance of the service is answered or not.
    pub fn reason(&self, instance: &Instance) -> Reason {
        if !self.is_eligible(instance) {
            return Reason::NoWeight;
        }
        match self.health_reason(instance) {
            Reason::Unhealthy | Reason::UnknownBesideHealthy if self.shortage.is_some() => Reason::Shortage,
            reason => reason,
        }
    }

    fn is_eligible(&self, instance: &Instance) -> bool {
        !self.excludes_weight_0 || weight(instance) > 0
    }

    fn health_reason(&self, instance: &Instance) -> Reason {
        match (self.service.status_of(instance), self.settings.unknown) {
            (HealthStatus::Healthy, _) => Reason::Healthy,
            (HealthStatus::Unhealthy, _) => Reason::Unhealthy,
            (HealthStatus::Unknown, _) if !self.service.watches(instance) => Reason::Unwatched,
            (HealthStatus::Unknown, UnknownHealth::Serve) => Reason::UnknownServed,
            (HealthStatus::Unknown, UnknownHealth::Withhold) => Reason::UnknownWithheld,
            (HealthStatus::Unknown, UnknownHealth::Fallback) if self.has_healthy => {
                Reason::UnknownBesideHealthy
            }
            (HealthStatus::Unknown, UnknownHealth::Fallback) => Reason::UnknownFallback,
        }
    }
}

/// Weight of an instance, 1 if its attribute is invalid.
fn weight(instance: &Instance) -> u8 {
    parse_weight(instance.attribute(WEIGHT)).unwrap_or(1)
}

impl Service {
    /// Returns true if the service has a health check of any kind, so that its instances will have a known health.
    pub fn has_health_check(&self) -> bool {
        self.health_check.is_some() || self.custom_health_check.is_some()
    }

    /// Returns true if an instance's health is checked: its service has a health check, or the instance is a pod.
    pub fn watches(&self, instance: &Instance) -> bool {
        self.has_health_check() || instance.is_watched()
    }

    /// Returns the health status of one of the service's instances.
    ///
    /// A reported status only applies if the service has a health check. Then an instance that is not a pod is HEALTHY until
    /// the first report (AWS: an instance whose first check has not finished is healthy). A report of HEALTHY does not make
    /// a pod HEALTHY that is not ready, because the pod would get traffic before it can handle it.
    pub fn status_of(&self, instance: &Instance) -> HealthStatus {
        let reported = instance.custom_health().filter(|_| self.has_health_check()).map(HealthStatus::from);
        match (instance.readiness(), reported) {
            (None, reported) if self.has_health_check() => reported.unwrap_or(HealthStatus::Healthy),
            (None, _) => HealthStatus::Unknown,
            (Some(Readiness::NotReady), _) | (Some(_), Some(HealthStatus::Unhealthy)) => {
                HealthStatus::Unhealthy
            }
            (Some(Readiness::NeverReady), _) => HealthStatus::Unknown,
            (Some(Readiness::Ready), _) => HealthStatus::Healthy,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::service::CustomHealthCheck;
    use crate::model::{Attributes, CustomHealthStatus, HealthReport, NamespaceId, ServiceId, Uid, samples};
    use crate::registry::{Change, State};

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
    }

    use CustomHealthStatus as Said;
    use Kind::{Pod, Registered, Weighted};
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
                Pod(readiness, said) => {
                    let pod = format!("default/web-{at}");
                    (Instance::watched(&name, &pod, Uid::of(&pod), &none, readiness), said)
                }
            };
            let instance = instance.expect("the id is short");
            if let (Some(status), Some(pod_uid)) = (said, instance.pod_uid()) {
                let report = HealthReport {
                    pod: String::new(),
                    pod_uid,
                    status,
                    reporter: String::new(),
                    reported_ms: 0,
                };
                state.apply(&Change::PutReport(id.clone(), name.into(), report.into()));
            }
            state.apply(&Change::PutInstance(id.clone(), instance.with_custom_health(said)));
        }
        let state = state.service("srv-1").expect("it was just put");
        let answering = HealthSettings::default().answering(state);
        state.instances().iter().map(|instance| answering.reason(instance)).collect()
    }

    #[test]
    fn instances_are_answered_as_policies_and_signals_say() {
        use Reason::*;
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
            case(
                false,
                &[("minimum-healthy", "0"), ("fail-open", "true")],
                &[Pod(NotReady, None)],
                &[Unhealthy],
            ),
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
        ];
        for (at, case) in cases.iter().enumerate() {
            assert_eq!(reasons(case), case.expected, "case {at}");
        }
    }

    #[test]
    fn policies_have_texts_and_limits() {
        for (text, minimum, of_seven) in
            [("0", MinimumHealthy::Count(0), 0), ("50%", MinimumHealthy::Percent(50), 4)]
        {
            assert_eq!(text.parse(), Ok(minimum));
            assert_eq!((minimum.to_string().as_str(), minimum.of(7)), (text, of_seven));
        }
        for invalid in ["", "%", "-1", "+1", "1.5", "101%", "1000001", "50 %", "99999999999"] {
            assert!(invalid.parse::<MinimumHealthy>().is_err(), "{invalid}");
            assert!(invalid.parse::<AnswerMax>().is_err(), "{invalid}");
        }
        assert_eq!(("64".parse(), "0".parse::<AnswerMax>().is_err()), (Ok(AnswerMax(64)), true));
        assert_eq!(
            [None, Some("0"), Some("255"), Some("256")].map(parse_weight),
            [Some(1), Some(0), Some(255), None]
        );
    }
}
