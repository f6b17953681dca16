//! Instances: RegisterInstance, DeregisterInstance and UpdateInstanceCustomHealthStatus.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::model::{
    Attributes, CustomHealthStatus, HealthReport, Instance, NamespaceId, NamespaceKind, OperationTargets,
    OperationType, ServiceId, instance::AWS_INIT_HEALTH_STATUS,
};

use super::{Plan, Planner, over};
use crate::registry::{
    change::Change,
    command::{PodGone, Reply},
    error::RegistryError::{self, InvalidInput},
    names,
    port::Group,
    rules,
};

impl Planner<'_> {
    pub(super) fn register_instance(
        &mut self,
        reference: &str,
        id: &str,
        creator_request_id: Option<&str>,
        map: &BTreeMap<String, String>,
    ) -> Plan {
        let state = self.state.service(reference)?.clone();
        let service = &state.service;
        let namespace = self.state.namespace(service.namespace_id.as_str())?.namespace.clone();
        let attributes =
            rules::instance_attributes(&namespace, service, id, map, &self.settings.quotas, self.leniency)?;
        let old = state.instance(id).ok();
        check_not_watched(old)?;
        if let Some(old) = old
            && creator_request_id.is_some()
            && old.creator_request_id().as_deref() == creator_request_id
            && old.attributes().eq(attributes.pairs())
        {
            let targets = targets(&service.id, &namespace.id, id);
            return self.repeat(old.operation(), OperationType::RegisterInstance, targets);
        }
        let quotas = &self.settings.quotas;
        if old.is_none() && state.instances().len() >= quotas.instances_per_service {
            return Err(over("instances of a service", quotas.instances_per_service));
        }
        if old.is_none() && self.state.instance_count() >= quotas.instances {
            return Err(over("instances", quotas.instances));
        }
        let number = self.state.sequence() + 1;
        if old.is_none() {
            names::check_instance(self.state, &state, id)?;
        }
        // AWS_INIT_HEALTH_STATUS counts only where a client can change the status again.
        let reports_health = service.custom_health_check.is_some()
            || (service.health_check.is_some() && matches!(namespace.kind, NamespaceKind::DnsPrivate { .. }));
        let custom_health = if reports_health {
            initial_health(&attributes).or_else(|| old.and_then(|old| old.custom_health()))
        } else {
            None
        };
        let instance = Instance::new(id, creator_request_id, &attributes, custom_health, number)
            .ok_or_else(|| InvalidInput("The instance's id is too long.".into()))?;
        let changes = vec![
            Change::PutInstance(service.id.clone(), instance),
            Change::PutRevision(service.id.clone(), number),
        ];
        let targets = targets(&service.id, &namespace.id, id);
        self.succeed(OperationType::RegisterInstance, targets, changes)
    }

    pub(super) fn deregister_instance(&mut self, reference: &str, id: &str) -> Plan {
        let state = self.state.service(reference)?;
        let service = state.service.clone();
        check_not_watched(Some(state.instance(id)?))?;
        let changes = vec![
            Change::DeleteInstance(service.id.clone(), id.into()),
            Change::PutRevision(service.id.clone(), self.state.sequence() + 1),
        ];
        let targets = targets(&service.id, &service.namespace_id, id);
        self.succeed(OperationType::DeregisterInstance, targets, changes)
    }

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
        // With a shared store another server may have changed the status since, so only the store can decide that there is
        // nothing to change.
        if old.custom_health() == Some(status) && !self.may_lose {
            return Ok((Group::new(), Reply::Done));
        }
        let id = service.id.clone();
        let change = match (old.pod(), old.pod_uid()) {
            (Some(pod), Some(pod_uid)) => {
                let is_equal =
                    |report: &&Arc<HealthReport>| report.pod_uid == pod_uid && report.status == status;
                let report = match self.state.report(&id, old.id()).filter(is_equal) {
                    Some(report) => report.clone(),
                    None => {
                        let (pod, reported_ms) = (pod.to_string(), self.now_ms);
                        HealthReport { pod, pod_uid, status, reporter, reported_ms }.into()
                    }
                };
                Change::PutReport(id, old.id().into(), report)
            }
            _ => Change::PutInstance(id, old.with_custom_health(Some(status))),
        };
        Ok((vec![change, self.next_number()], Reply::Done))
    }

    /// Deletes the report about a pod that does not exist any more, unless it has been replaced by one about another pod.
    pub(super) fn withdraw_report(&mut self, gone: PodGone) -> (Group, Reply) {
        let report = self.state.report(&gone.service, &gone.instance);
        let group = if report.is_some_and(|report| report.pod_uid == gone.pod_uid) {
            vec![Change::DropReport(gone.service, gone.instance), self.next_number()]
        } else {
            Group::new()
        };
        (group, Reply::Done)
    }
}

/// Refuses the API's registration and deregistration of an instance that is a pod, which only Kubernetes controls.
fn check_not_watched(instance: Option<&Instance>) -> Result<(), RegistryError> {
    match instance.and_then(|instance| Some((instance.id(), instance.pod()?))) {
        None => Ok(()),
        Some((id, pod)) => Err(RegistryError::ResourceInUse(format!(
            "The instance {id} is the Kubernetes pod {pod}. It is registered as long as the pod lives: delete the pod, or \
             scale its ECS service down."
        ))),
    }
}

fn targets(service: &ServiceId, namespace: &NamespaceId, instance: &str) -> OperationTargets {
    OperationTargets::Instance {
        instance: instance.into(),
        service: service.clone(),
        namespace: namespace.clone(),
    }
}

fn initial_health(attributes: &Attributes) -> Option<CustomHealthStatus> {
    match attributes.get(AWS_INIT_HEALTH_STATUS)? {
        "UNHEALTHY" => Some(CustomHealthStatus::Unhealthy),
        _ => Some(CustomHealthStatus::Healthy),
    }
}
