//! Health of instances, and the decision which instances are answered. No other code decides either.
//!
//! DNS, DiscoverInstances without a filter, the mirror and `explain` all use [`Answering`], so that they cannot disagree.
//!
//! An instance has two independent signals: a pod's readiness, and the status that clients have reported. If one is
//! UNHEALTHY, the instance is UNHEALTHY; else if one is HEALTHY, it is HEALTHY, but a pod only while it is ready; else it is
//! UNKNOWN. Healthy instances are answered. Unknown ones are answered according to [`UnknownHealth`], and unhealthy ones
//! only if [`HealthSettings::fail_open`] applies. An instance without a health check is always answered, because its health
//! will never be known.

use crate::model::{HealthStatus, Instance, Readiness, Service};

use super::state::ServiceState;

/// Health policies. A service can override each of them by a service attribute: `fail-open` (`true`, `false`) and `unknown`
/// (`serve`, `fallback`, `withhold`).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct HealthSettings {
    /// True to answer all instances if no instance could be answered otherwise, which is AWS's rule for multivalue answers.
    pub fail_open: bool,
    /// Policy for instances whose health is checked but not known yet.
    pub unknown: UnknownHealth,
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

impl HealthSettings {
    /// Returns these settings as the service's attributes override them. An attribute with an invalid value is ignored.
    pub fn of(&self, service: &Service) -> HealthSettings {
        let word = |key: &str| service.attributes.get(key).map(String::as_str);
        let unknown = word("unknown").and_then(|word| {
            UnknownHealth::WORDS.iter().find(|(known, _)| *known == word).map(|(_, unknown)| *unknown)
        });
        HealthSettings {
            fail_open: match word("fail-open") {
                Some("true") => true,
                Some("false") => false,
                _ => self.fail_open,
            },
            unknown: unknown.unwrap_or(self.unknown),
        }
    }

    /// Makes the decision for all instances of a service, with these settings as defaults.
    pub fn answering<'s>(&self, state: &'s ServiceState) -> Answering<'s> {
        let service = &*state.service;
        let settings = self.of(service);
        let is_healthy = |instance: &Instance| service.status_of(instance) == HealthStatus::Healthy;
        let has_healthy = state.instances().iter().any(is_healthy);
        let mut answering = Answering { service, settings, has_healthy, fails_open: false };
        answering.fails_open =
            settings.fail_open && !state.instances().iter().any(|instance| answering.answers(instance));
        answering
    }
}

/// Decision which instances of one service are answered.
#[derive(Clone, Copy, Debug)]
pub struct Answering<'s> {
    service: &'s Service,
    settings: HealthSettings,
    has_healthy: bool,
    fails_open: bool,
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
    /// Answered: fail-open, because no instance could be answered otherwise.
    FailOpen,
    /// Not answered: its health is known to be UNHEALTHY.
    Unhealthy,
    /// Not answered: its health is not known yet, and another instance of the service is HEALTHY.
    UnknownBesideHealthy,
    /// Not answered: its health is not known yet, and the policy is to withhold such instances.
    UnknownWithheld,
}

impl Reason {
    /// Returns true if DNS and DiscoverInstances answer with the instance.
    pub fn is_answered(self) -> bool {
        match self {
            Reason::Healthy
            | Reason::Unwatched
            | Reason::UnknownServed
            | Reason::UnknownFallback
            | Reason::FailOpen => true,
            Reason::Unhealthy | Reason::UnknownBesideHealthy | Reason::UnknownWithheld => false,
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

    /// Returns the reason why this instance of the service is answered or not.
    pub fn reason(&self, instance: &Instance) -> Reason {
        let reason = match (self.service.status_of(instance), self.settings.unknown) {
            (HealthStatus::Healthy, _) => Reason::Healthy,
            (HealthStatus::Unhealthy, _) => Reason::Unhealthy,
            (HealthStatus::Unknown, _) if !self.service.watches(instance) => Reason::Unwatched,
            (HealthStatus::Unknown, UnknownHealth::Serve) => Reason::UnknownServed,
            (HealthStatus::Unknown, UnknownHealth::Withhold) => Reason::UnknownWithheld,
            (HealthStatus::Unknown, UnknownHealth::Fallback) if self.has_healthy => {
                Reason::UnknownBesideHealthy
            }
            (HealthStatus::Unknown, UnknownHealth::Fallback) => Reason::UnknownFallback,
        };
        if self.fails_open && !reason.is_answered() { Reason::FailOpen } else { reason }
    }
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
    use std::collections::BTreeMap;
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
        Pod(Readiness, Option<CustomHealthStatus>),
    }

    use CustomHealthStatus as Said;
    use Kind::{Pod, Registered};
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
                &[FailOpen, FailOpen],
            ),
            // Fallback comes before fail-open: an unknown instance is better than an unhealthy one.
            case(
                false,
                &[("fail-open", "true")],
                &[Pod(NotReady, None), Pod(NeverReady, None)],
                &[Unhealthy, UnknownFallback],
            ),
        ];
        for (at, case) in cases.iter().enumerate() {
            assert_eq!(reasons(case), case.expected, "case {at}");
        }
    }
}
