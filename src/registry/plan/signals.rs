//! Signals about the health of instances: UpdateInstanceCustomHealthStatus, reports of other systems, maintenance, and what
//! time alone changes.

use crate::model::{
    CustomHealthStatus, Instance, Maintenance, NamespaceKind, PendingReport, PodSignals, Report, ServiceId,
    Signals, SourceReport, signals::SOURCES_MAX,
};

use super::{Plan, Planner};
use crate::registry::{
    change::Change,
    command::{ExternalReport, PodGone, Reply},
    error::RegistryError,
    health::Elapsed,
    port::Group,
};

impl Planner<'_> {
    pub(super) fn update_custom_health(
        &mut self,
        reference: &str,
        id: &str,
        status: CustomHealthStatus,
        reporter: String,
    ) -> Plan {
        let state = self.state.service(reference)?.clone();
        let service = &state.service;
        if service.custom_health_check.is_none() {
            // Only lenient validation admits a health check in a private namespace. Nothing could ever check it, so it is
            // treated as a custom health check, whose status clients report.
            let namespace = &self.state.namespace(service.namespace_id.as_str())?.namespace;
            let reported = service.health_check.is_some()
                && matches!(namespace.kind, NamespaceKind::DnsPrivate { .. })
                && self.leniency.accepts(
                    "UpdateInstanceCustomHealthStatus on a service with HealthCheckConfig: AWS answers CustomHealthNotFound",
                );
            if !reported {
                return Err(RegistryError::CustomHealthNotFound(service.id.to_string()));
            }
        }
        let old = state.instance(id)?;
        let health = self.settings.health.of(&state);
        let must_report = health.must_report(old);
        let before = self.state.signals(&service.id, old);
        let mut signals = before.clone();
        if must_report {
            signals.set_alive(self.now_ms);
        }
        let report = Report { status, reporter, reported_ms: self.now_ms };
        // Without a report and a heartbeat, an instance is HEALTHY.
        let current = old.custom_health().or((!must_report).then_some(CustomHealthStatus::Healthy));
        let mut counted = old.custom_health();
        if current == Some(status) {
            // It also cancels reports of the other status that do not count yet.
            signals.pending = None;
            counted = Some(status);
            if signals.report.as_ref().is_none_or(|there| there.status != status) {
                signals.report = Some(report);
            }
        } else {
            let pending = signals.pending.take().filter(|pending| pending.report.status == status);
            let count = pending.as_ref().map_or(1, |pending| pending.count.saturating_add(1));
            let first = pending.map_or(report, |pending| pending.report);
            let due =
                health.report_wait_ms(status, count).map(|wait_ms| first.reported_ms.saturating_add(wait_ms));
            if due.is_some_and(|due_ms| due_ms <= self.now_ms) {
                counted = Some(status);
                signals.report = Some(first);
            } else {
                signals.pending = Some(PendingReport { report: first, count });
            }
        }
        // With a shared store another server may have changed the signals since, so only the store can decide that there is
        // nothing to change.
        if counted == old.custom_health() && signals == before && !self.may_lose {
            return Ok((Group::new(), Reply::Done));
        }
        let change = self.put_signals(&service.id, old, counted, signals);
        Ok((vec![change, self.next_number()], Reply::Done))
    }

    /// Sets or withdraws the report of one source. It is for every service and every kind of instance.
    pub(super) fn report_health(
        &mut self,
        reference: &str,
        id: &str,
        source: String,
        report: Option<ExternalReport>,
    ) -> Plan {
        let state = self.state.service(reference)?.clone();
        let service = &state.service;
        let old = state.instance(id)?;
        let before = self.state.signals(&service.id, old);
        let mut signals = before.clone();
        let health = self.settings.health.of(&state);
        if report.is_some() && health.must_report(old) {
            signals.set_alive(self.now_ms);
        }
        let other_sources = signals.sources.iter().filter(|found| !found.is_check()).count();
        let place = signals.sources.binary_search_by(|found| found.source.cmp(&source));
        match (place, report) {
            (Ok(at), None) => drop(signals.sources.remove(at)),
            (Err(_), None) => {}
            (place, Some(report)) => {
                let ExternalReport { status, reason, reporter, valid_ms } = report;
                let valid_until_ms = valid_ms.map(|valid_ms| self.now_ms + valid_ms);
                let mut new = SourceReport {
                    source,
                    status,
                    reason,
                    reporter,
                    reported_ms: self.now_ms,
                    valid_until_ms,
                };
                match place {
                    Ok(at) => {
                        let there = &mut signals.sources[at];
                        if (there.status, &there.reason) == (new.status, &new.reason) {
                            // The time is that since which the source says so.
                            new.reported_ms = there.reported_ms;
                            if there.valid_until_ms.is_none() == new.valid_until_ms.is_none() {
                                new.reporter = there.reporter.clone();
                            }
                        }
                        *there = new;
                    }
                    Err(_) if !new.is_check() && other_sources >= SOURCES_MAX => {
                        return Err(RegistryError::ResourceLimitExceeded(format!(
                            "The instance has reports of {SOURCES_MAX} sources; withdraw one of them first."
                        )));
                    }
                    Err(at) => signals.sources.insert(at, new),
                }
            }
        }
        if signals == before && !self.may_lose {
            return Ok((Group::new(), Reply::Done));
        }
        let change = self.put_signals(&service.id, old, old.custom_health(), signals);
        Ok((vec![change, self.next_number()], Reply::Done))
    }

    /// Stores what time has changed about an instance. Nothing, if it was stored meanwhile, or is not due any more.
    pub(super) fn elapse(&mut self, service: &ServiceId, id: &str) -> Plan {
        let nothing = Ok((Group::new(), Reply::Done));
        let Ok(state) = self.state.service(service.as_str()).cloned() else { return nothing };
        let Ok(instance) = state.instance(id) else { return nothing };
        let health = self.settings.health.of(&state);
        let signals = self.state.signals(service, instance);
        let registered_ms = health.registered_ms(self.state, instance);
        match health.elapsed(instance, &signals, registered_ms, self.now_ms).0 {
            None => nothing,
            Some(Elapsed::Expired) => self.deregister_instance(service.as_str(), id),
            Some(Elapsed::Signals(status, new)) => {
                let change = self.put_signals(service, instance, status, *new);
                Ok((vec![change, self.next_number()], Reply::Done))
            }
        }
    }

    /// Unlike a report, maintenance is for every service and every kind of instance.
    pub(super) fn set_maintenance(
        &mut self,
        reference: &str,
        id: &str,
        reason: Option<String>,
        operator: String,
    ) -> Plan {
        let state = self.state.service(reference)?.clone();
        let service = &state.service;
        let old = state.instance(id)?;
        let mut signals = self.state.signals(&service.id, old);
        let before = signals.maintenance.as_ref().map(|maintenance| &maintenance.reason);
        let is_unchanged = before == reason.as_ref();
        if is_unchanged && !self.may_lose {
            return Ok((Group::new(), Reply::Done));
        }
        let health = self.settings.health.of(&state);
        if reason.is_none() && health.must_report(old) {
            // Its time to report begins anew.
            signals.set_alive(self.now_ms);
        }
        if !is_unchanged {
            signals.maintenance =
                reason.map(|reason| Maintenance { reason, operator, since_ms: self.now_ms });
        }
        let change = self.put_signals(&service.id, old, old.custom_health(), signals);
        Ok((vec![change, self.next_number()], Reply::Done))
    }

    fn put_signals(
        &self,
        service: &ServiceId,
        instance: &Instance,
        status: Option<CustomHealthStatus>,
        signals: Signals,
    ) -> Change {
        let id = instance.id().into();
        match (instance.pod(), instance.pod_uid()) {
            (Some(_), Some(_)) if signals.is_empty() => Change::DropPodSignals(service.clone(), id),
            (Some(pod), Some(pod_uid)) => {
                let signals = PodSignals { pod: pod.to_string(), pod_uid, signals };
                let there = self.state.pod_signals(service, &id).filter(|there| ***there == signals);
                let signals = there.cloned().unwrap_or_else(|| signals.into());
                Change::PutPodSignals(service.clone(), id, signals)
            }
            _ => Change::PutInstance(service.clone(), instance.with_signals(status, &signals)),
        }
    }

    /// Deletes the stored signals about a pod that does not exist any more, unless they have been replaced by those about
    /// another pod.
    pub(super) fn withdraw_signals(&mut self, gone: PodGone) -> (Group, Reply) {
        let found = self.state.pod_signals(&gone.service, &gone.instance);
        let group = if found.is_some_and(|found| found.pod_uid == gone.pod_uid) {
            vec![Change::DropPodSignals(gone.service, gone.instance), self.next_number()]
        } else {
            Group::new()
        };
        (group, Reply::Done)
    }
}
