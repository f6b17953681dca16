//! The status of an instance, and the signal that decides it.

use std::borrow::Cow;

use crate::model::{CustomHealthStatus, HealthStatus, Instance, Readiness, Service, Signals};

use super::policy::HealthOf;
use super::{HealthSettings, ServiceHealth, ServiceState};

/// Kind of the signal that decides a status, or of the event that changes it.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[expect(missing_docs, reason = "the words are the documentation")]
pub enum CauseKind {
    Maintenance,
    Report,
    Check,
    Heartbeat,
    Readiness,
    Registration,
    Removal,
    Policy,
}

impl CauseKind {
    /// Every kind with its word in metrics.
    pub const WORDS: &'static [(&'static str, CauseKind)] = &[
        ("maintenance", CauseKind::Maintenance),
        ("report", CauseKind::Report),
        ("check", CauseKind::Check),
        ("heartbeat", CauseKind::Heartbeat),
        ("readiness", CauseKind::Readiness),
        ("registration", CauseKind::Registration),
        ("removal", CauseKind::Removal),
        ("policy", CauseKind::Policy),
    ];
}

/// Cause of a status, with a description for people.
#[derive(Clone, Debug, Eq, PartialEq)]
#[expect(missing_docs, reason = "the type's document explains the fields")]
pub struct Cause {
    pub kind: CauseKind,
    pub text: Cow<'static, str>,
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
}

impl HealthSettings {
    /// The health of a service's instances, with these settings as defaults of its policies.
    pub fn of<'s>(&self, state: &'s ServiceState) -> ServiceHealth<'s> {
        let service = &*state.service;
        let settings = self.overridden_by(&service.attributes);
        ServiceHealth { service, is_private: state.is_private(), settings }
    }
}

impl ServiceHealth<'_> {
    /// Returns the health status of one of the service's instances.
    ///
    /// A reported status only applies if the service has a health check. Then an instance that is not a pod is HEALTHY until
    /// the first report (AWS: an instance whose first check has not finished is healthy), except while its first active
    /// check, or the first report that a heartbeat demands, is to come. A report of HEALTHY does not make
    /// a pod HEALTHY that is not ready, because the pod would get traffic before it can handle it.
    pub fn status_of(&self, instance: &Instance) -> HealthStatus {
        if instance.is_in_maintenance() {
            return HealthStatus::Unhealthy;
        }
        let has_check = self.service.has_health_check();
        let reported = instance.custom_health().filter(|_| has_check);
        let said = [reported, instance.sources_health()];
        let is_said = |status| said.contains(&Some(status));
        let readiness = self.readiness(instance);
        if is_said(CustomHealthStatus::Unhealthy)
            || readiness == Some(Readiness::NotReady)
            || self.has_missed(instance)
        {
            return HealthStatus::Unhealthy;
        }
        match readiness {
            Some(Readiness::Ready) => HealthStatus::Healthy,
            Some(_) => HealthStatus::Unknown,
            None if is_said(CustomHealthStatus::Healthy) => HealthStatus::Healthy,
            None if self.has_heartbeat(instance) || self.awaits_check(instance) => HealthStatus::Unknown,
            None if has_check => HealthStatus::Healthy,
            None => HealthStatus::Unknown,
        }
    }

    fn has_missed(&self, instance: &Instance) -> bool {
        self.has_heartbeat(instance) && instance.signals().missed_ms.is_some()
    }

    /// Returns the cause of an instance's status. `signals` are those that are stored about it.
    pub fn cause_of(&self, instance: &Instance, signals: &Signals) -> Cause {
        if instance.is_in_maintenance() {
            let stored = signals.maintenance.as_ref().map(|maintenance| maintenance.reason.clone());
            let reason = stored.or_else(|| instance.pod_details().maintenance).unwrap_or_default();
            let text = if reason.is_empty() {
                "maintenance".into()
            } else {
                format!("maintenance: {reason}").into()
            };
            return Cause { kind: CauseKind::Maintenance, text };
        }
        let status = self.status_of(instance);
        let readiness = self.readiness(instance);
        let counts = |said: CustomHealthStatus| {
            let said = HealthStatus::from(said);
            said == status && (readiness.is_none() || said == HealthStatus::Unhealthy)
        };
        if self.has_missed(instance) {
            let text = format!("heartbeat missed: no report for {}", self.settings.heartbeat).into();
            return Cause { kind: CauseKind::Heartbeat, text };
        }
        if let Some(source) = signals.sources.iter().find(|source| counts(source.status)) {
            if source.is_check() {
                let outcome = if status == HealthStatus::Healthy { "check passed" } else { "check failed" };
                let text = format!("{outcome}: {}", source.reason).into();
                return Cause { kind: CauseKind::Check, text };
            }
            let reason =
                if source.reason.is_empty() { String::new() } else { format!(": {}", source.reason) };
            let text = format!("reported {} by {}{reason}", status.as_str(), source.source).into();
            return Cause { kind: CauseKind::Report, text };
        }
        let reported = instance.custom_health().filter(|_| self.service.has_health_check());
        if reported.is_some_and(counts) {
            return match &signals.report {
                Some(report) => Cause {
                    kind: CauseKind::Report,
                    text: format!("reported {} by {}", status.as_str(), report.reporter).into(),
                },
                None => Cause {
                    kind: CauseKind::Registration,
                    text: format!("custom health status {} at its registration", status.as_str()).into(),
                },
            };
        }
        match readiness {
            Some(readiness) => {
                Cause { kind: CauseKind::Readiness, text: self.readiness_text(instance, readiness).into() }
            }
            None if self.awaits_check(instance) => {
                Cause { kind: CauseKind::Check, text: "no result of its health check counts yet".into() }
            }
            None if self.service.has_health_check() => {
                Cause { kind: CauseKind::Registration, text: "no health was reported yet".into() }
            }
            None => Cause { kind: CauseKind::Registration, text: "nothing checks its health".into() },
        }
    }

    fn readiness_text(&self, instance: &Instance, readiness: Readiness) -> String {
        let subject = self.readiness_subject();
        let pod = instance.pod().unwrap_or_default();
        let predicate = self.readiness_predicate(instance).unwrap_or_default();
        if readiness != Readiness::NotReady || self.waiting_readiness(instance).is_some() {
            return format!("{subject} {pod} {predicate}");
        }
        let why = instance.pod_details().not_ready.map(|why| format!(": {why}")).unwrap_or_default();
        format!("readiness lost: {subject} {pod} {predicate}{why}")
    }

    /// The words before the name of a pod in a sentence about the readiness that counts.
    pub fn readiness_subject(&self) -> &'static str {
        match self.settings.health_of {
            HealthOf::Pod => "pod",
            HealthOf::Container => "container of pod",
        }
    }

    /// The words after the name of a pod in that sentence; `None` for an instance that is no pod.
    pub fn readiness_predicate(&self, instance: &Instance) -> Option<&'static str> {
        Some(match (self.readiness(instance)?, self.waiting_readiness(instance)) {
            (_, Some(Readiness::Ready)) => "is ready, but not for long enough",
            (Readiness::NeverReady, Some(_)) => "is not ready any more, in its grace period",
            (_, Some(_)) => "is not ready any more, but not for long enough",
            (Readiness::Ready, None) => "is ready",
            (Readiness::NeverReady, None) => "was not ready yet",
            (Readiness::NotReady, None) => "is not ready any more",
        })
    }
}
