//! The model of pods: observations of them, the status of their instances, and conflicts with registered instances.

use std::collections::BTreeMap;

use cloudmap_dns::model::{CustomHealthStatus, HealthStatus, Readiness, Uid};
use cloudmap_dns::registry::{Observation, PodGone, Seen};

use super::model::{Kind, Model, ModelInstance, ModelService, Owned};
use super::rules::{check_attributes, target_name};

impl ModelService {
    /// The health status of an instance: UNKNOWN without a health check, and HEALTHY until a report says otherwise. A pod is
    /// HEALTHY only while it is ready, and UNHEALTHY if it is not ready any more or reported as unhealthy.
    pub(crate) fn status(&self, instance: &ModelInstance) -> HealthStatus {
        let has_check = self.service.health_check.is_some() || self.service.custom_health_check.is_some();
        let reported = instance.reported.filter(|_| has_check);
        if let Some((_, readiness)) = &instance.pod {
            return match (readiness, reported) {
                (Readiness::NotReady, _) | (_, Some(CustomHealthStatus::Unhealthy)) => {
                    HealthStatus::Unhealthy
                }
                (Readiness::Ready, _) => HealthStatus::Healthy,
                (Readiness::NeverReady, _) => HealthStatus::Unknown,
            };
        }
        match (has_check, reported) {
            (false, _) => HealthStatus::Unknown,
            (true, Some(CustomHealthStatus::Unhealthy)) => HealthStatus::Unhealthy,
            (true, _) => HealthStatus::Healthy,
        }
    }
}

impl Model {
    /// Applies an observation of a pod. It does not depend on the store. An instance that the API registered under the same id
    /// remains, and the observation is refused.
    pub(super) fn observe(&mut self, Observation { service, seen }: &Observation) -> Result<(), Kind> {
        let Ok(at) = self.service(service.as_str()) else {
            return if let Seen::Gone(_) = seen { Ok(()) } else { Err(Kind::ServiceNotFound) };
        };
        let old = self.services[at].instances.get(seen.id()).map(|old| old.object.clone());
        if old.as_ref().is_some_and(|old| old.pod.is_none()) {
            return if let Seen::Gone(_) = seen { Ok(()) } else { Err(Kind::InUse) };
        }
        let new = match seen {
            Seen::Gone(_) => Ok(None),
            Seen::Instance(instance) => {
                let pairs = instance.attributes().map(|(key, value)| (key.to_string(), value.to_string()));
                let attributes: BTreeMap<String, String> = pairs.collect();
                let pod = instance.pod().map(String::from).zip(instance.readiness());
                let report = self.reports.get(&(service.to_string(), seen.id().to_string()));
                let is_of_pod = |report: &&(String, _)| Some(&report.0) == pod.as_ref().map(|(name, _)| name);
                let reported = report.filter(is_of_pod).map(|(_, status)| *status);
                self.check_pod(at, seen.id(), &attributes, old.is_none())
                    .map(|()| Some(ModelInstance { token: None, attributes, reported, pod: pod.clone() }))
            }
        };
        let service = &mut self.services[at];
        let is_known = |model: &ModelInstance| {
            (model.attributes.clone(), model.pod.as_ref().map(|(name, _)| name.clone()))
        };
        let now = new.clone().ok().flatten();
        self.has_observed |= old != now;
        if old.as_ref().map(is_known) != now.as_ref().map(is_known) {
            service.changed = self.clock;
        }
        match now {
            Some(object) => drop(service.instances.insert(seen.id().into(), Owned { object, operation: 0 })),
            None => drop(service.instances.remove(seen.id())),
        }
        new.map(drop)
    }

    pub(super) fn withdraw(&mut self, gone: &PodGone) {
        let key = (gone.service.to_string(), gone.instance.to_string());
        let is_of = |report: &(String, _)| Uid::of(&report.0) == gone.pod_uid;
        if !self.reports.get(&key).is_some_and(is_of) {
            return;
        }
        self.reports.remove(&key);
        if let Ok(at) = self.service(gone.service.as_str())
            && let Some(instance) = self.services[at].instances.get_mut(&*gone.instance)
            && instance.object.pod.is_some()
        {
            instance.object.reported = None;
        }
    }

    fn check_pod(
        &self,
        at: usize,
        id: &str,
        attributes: &BTreeMap<String, String>,
        is_new: bool,
    ) -> Result<(), Kind> {
        check_attributes(attributes, self.settings.quotas.attributes_per_instance)?;
        if !is_new {
            return Ok(());
        }
        self.check_target(at, id)?;
        self.check_quotas(at)
    }

    /// Checks that no service and no instance of another service has the DNS name of a new instance. Ids of its own service
    /// that differ only in case are allowed.
    pub(super) fn check_target(&self, at: usize, id: &str) -> Result<(), Kind> {
        let service = &self.services[at];
        let is_name = id.split('.').all(|label| (1..=63).contains(&label.len()));
        if service.service.api_only || !is_name {
            return Ok(());
        }
        let name = target_name(id, &service.service);
        let has_name = |other: &ModelService| {
            let is_other = other.service.id != service.service.id;
            let mut ids = other.instances.keys().filter(|_| is_other);
            other.service.namespace_id == service.service.namespace_id
                && !other.service.api_only
                && (other.service.name.eq_ignore_ascii_case(&name)
                    || ids.any(|id| target_name(id, &other.service).eq_ignore_ascii_case(&name)))
        };
        let is_taken = name.eq_ignore_ascii_case("ns.dns") || self.services.iter().any(has_name);
        if is_taken { Err(Kind::InvalidInput) } else { Ok(()) }
    }

    pub(super) fn check_quotas(&self, at: usize) -> Result<(), Kind> {
        let instances: usize = self.services.iter().map(|service| service.instances.len()).sum();
        let quotas = &self.settings.quotas;
        let is_full = self.services[at].instances.len() >= quotas.instances_per_service
            || instances >= quotas.instances;
        if is_full { Err(Kind::OverLimit) } else { Ok(()) }
    }

    /// Restarts: pods are not stored and therefore gone, but the reports about them remain.
    pub(crate) fn restart(&mut self) {
        for service in &mut self.services {
            service.instances.retain(|_, instance| instance.object.pod.is_none());
        }
    }
}
