//! Planning of RegisterInstance and DeregisterInstance.

use std::collections::BTreeMap;

use crate::model::{
    Attributes, CustomHealthStatus, Instance, NamespaceId, NamespaceKind, OperationTargets, OperationType,
    ServiceId, instance::AWS_INIT_HEALTH_STATUS,
};

use super::{Plan, Planner, over};
use crate::registry::{
    change::Change,
    error::RegistryError::{self, InvalidInput},
    names, rules,
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
        let initial = initial_health(&attributes);
        let mut signals = old.map(Instance::signals).unwrap_or_default();
        if initial.is_some() || !reports_health {
            signals.report = None;
        }
        if initial.is_some() {
            signals.pending = None;
        }
        let custom_health = initial.or_else(|| old.and_then(Instance::custom_health));
        let instance = Instance::new(id, creator_request_id, &attributes, None, number)
            .ok_or_else(|| InvalidInput("The instance's id is too long.".into()))?;
        if self.settings.health.of(&state).must_report(&instance) {
            // A registration is as good as a report.
            signals.set_alive(self.now_ms);
        } else {
            (signals.alive_ms, signals.missed_ms) = (None, None);
        }
        let instance = instance.with_signals(custom_health.filter(|_| reports_health), &signals);
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
