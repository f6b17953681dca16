//! Health of instances, and which of them are answered: the only place that decides either.
//!
//! DNS, DiscoverInstances without a filter, the mirror and `explain` all ask [`Answering`], so that they can't disagree.
//!
//! An instance has independent signals: a pod's readiness, and the status that was reported of it. One UNHEALTHY makes it
//! UNHEALTHY; else one HEALTHY makes it HEALTHY, a pod only while it is ready; else it is UNKNOWN. Healthy instances are
//! answered. Unknown ones are as [`UnknownHealth`] says, unhealthy ones only when [`HealthSettings::fail_open`] applies.
//! An instance that nothing watches is always answered: no signal will ever say more about it.

use crate::model::{HealthStatus, Instance, Readiness, Service};

use super::state::ServiceState;

/// Health policies. A service can set each of them for itself by a service attribute: `fail-open` (`true`, `false`) and
/// `unknown` (`serve`, `fallback`, `withhold`).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct HealthSettings {
    /// Answer all instances when no instance could be answered otherwise (AWS's rule for multivalue answers).
    pub fail_open: bool,
    /// Policy for instances whose health is watched and not known yet.
    pub unknown: UnknownHealth,
}

/// Policy for instances whose health is watched and not known yet, such as pods that have never been ready.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum UnknownHealth {
    /// Such instances are answered like HEALTHY ones.
    Serve,
    /// They are answered only while their service has no HEALTHY instance: an initial start is reachable, and a rolling
    /// update sends no client to a task that is not ready.
    #[default]
    Fallback,
    /// Such instances are not answered; clients see an instance once its health is known.
    Withhold,
}

impl UnknownHealth {
    /// Every policy with the word that settings and service attributes have for it.
    pub const WORDS: &'static [(&'static str, UnknownHealth)] = &[
        ("serve", UnknownHealth::Serve),
        ("fallback", UnknownHealth::Fallback),
        ("withhold", UnknownHealth::Withhold),
    ];
}

impl HealthSettings {
    /// These settings with what the service's attributes say instead. An attribute with an invalid value counts as unset.
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

    /// Decides for all instances of a service together, with these settings as defaults.
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

/// The decision which instances of one service are answered.
#[derive(Clone, Copy, Debug)]
pub struct Answering<'s> {
    service: &'s Service,
    settings: HealthSettings,
    has_healthy: bool,
    fails_open: bool,
}

/// The reason why an instance is answered or not.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Reason {
    /// Answered: its health is known to be HEALTHY.
    Healthy,
    /// Answered: nothing watches its health.
    Unwatched,
    /// Answered: its health is not known yet, and the policy is to serve such instances.
    UnknownServed,
    /// Answered: its health is not known yet, and no instance of the service is HEALTHY.
    UnknownFallback,
    /// Answered: fail-open, because no instance could be answered otherwise.
    FailOpen,
    /// Not answered: it is UNHEALTHY.
    Unhealthy,
    /// Not answered: its health is not known yet, and another instance of the service is HEALTHY.
    UnknownBesideHealthy,
    /// Not answered: its health is not known yet, and the policy is to withhold such instances.
    UnknownWithheld,
}

impl Reason {
    /// True if DNS and DiscoverInstances answer with the instance.
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
    /// The policies that apply to the service.
    pub fn settings(&self) -> HealthSettings {
        self.settings
    }

    /// True if DNS and DiscoverInstances answer with this instance of the service.
    pub fn answers(&self, instance: &Instance) -> bool {
        self.reason(instance).is_answered()
    }

    /// The reason why this instance of the service is answered or is not.
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
    /// True if the service has a health check of any kind, so that its instances have a known health at some time.
    pub fn has_health_check(&self) -> bool {
        self.health_check.is_some() || self.custom_health_check.is_some()
    }

    /// True if an instance's health is watched: its service has a health check, or the instance is a pod.
    pub fn watches(&self, instance: &Instance) -> bool {
        self.has_health_check() || instance.is_watched()
    }

    /// The health status of one of the service's instances.
    ///
    /// A reported status counts only where the service has a health check. There, an instance that is not a pod is HEALTHY
    /// before anything was reported (AWS: an instance whose first check has not finished is healthy). A report of HEALTHY
    /// does not make a pod HEALTHY that is not ready, because the pod would get traffic before it can take any.
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

    /// A service with instances of these kinds, each called as its place.
    struct Case {
        has_check: bool,
        attributes: &'static [(&'static str, &'static str)],
        instances: &'static [Kind],
        /// The expected reasons, in the order of `instances`.
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
            // Without a health check a report does not count.
            case(false, &[], &[Registered(Some(Said::Unhealthy))], &[Unwatched]),
            case(true, &[], &[Registered(None), Registered(Some(Said::Unhealthy))], &[Healthy, Unhealthy]),
            // A rolling update: the new pod waits. The first start: it is all there is.
            case(false, &[], &[Pod(Ready, None), Pod(NeverReady, None)], &[Healthy, UnknownBesideHealthy]),
            case(false, &[], &[Pod(NotReady, None), Pod(NeverReady, None)], &[Unhealthy, UnknownFallback]),
            // An instance that nothing watches does not count as HEALTHY, so UNKNOWN pods are answered beside it.
            case(false, &[], &[Pod(Ready, None), Registered(None)], &[Healthy, Unwatched]),
            case(false, &[], &[Pod(NeverReady, None), Registered(None)], &[UnknownFallback, Unwatched]),
            // A report never makes a pod healthy that is not ready, and can make any pod unhealthy.
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
