//! Planning: from a command to the changes that carry it out, or to an error.
//!
//! Planning reads one state and changes nothing, so that a batch which cannot be stored can be dropped as a whole.

mod instances;
mod namespaces;
mod observations;
mod services;
mod shadow;
mod signals;

use std::sync::Arc;

use crate::model::{
    EpochMs, Namespace, Operation, OperationStatus, OperationTargets, OperationType, Service, Tags,
};

pub(super) use shadow::shadow_conflicts;

use super::{
    change::Change,
    command::{Command, Reply},
    error::RegistryError::{self, InvalidInput},
    leniency::Leniency,
    port::Group,
    settings::{OPERATION_YOUNG_MS, OPERATIONS_YOUNG_FACTOR, Settings},
    state::{NamespaceState, State},
};

pub(super) struct Planner<'a> {
    pub(super) state: &'a State,
    pub(super) settings: &'a Settings,
    pub(super) now_ms: EpochMs,
    pub(super) leniency: &'a mut Leniency,
    /// True if other servers write to the same store ([`super::port::Store::may_lose`]).
    pub(super) may_lose: bool,
}

type Plan = Result<(Group, Reply), RegistryError>;

impl Planner<'_> {
    /// Returns the changes that carry out `command`, and the reply for its caller once they are durable.
    pub(super) fn plan(mut self, command: Command) -> Plan {
        self.check_not_shadowed(&command)?;
        match command {
            Command::CreateNamespace { name, kind, creator_request_id, description, soa_ttl, tags } => {
                self.create_namespace(name, kind, creator_request_id, description, soa_ttl, tags)
            }
            Command::UpdateNamespace { namespace, kind, updater_request_id: _, description, soa_ttl } => {
                self.update_namespace(&namespace, kind, description, soa_ttl)
            }
            Command::DeleteNamespace { namespace } => self.delete_namespace(&namespace),
            Command::CreateService(service) => self.create_service(*service),
            Command::UpdateService { service, description, dns_records, health_check } => {
                self.update_service(&service, description, dns_records, health_check)
            }
            Command::DeleteService { service } => self.delete_service(&service),
            Command::RegisterInstance { service, instance, creator_request_id, attributes } => {
                self.register_instance(&service, &instance, creator_request_id.as_deref(), &attributes)
            }
            Command::DeregisterInstance { service, instance } => {
                self.deregister_instance(&service, &instance)
            }
            Command::UpdateCustomHealth { service, instance, status, reporter } => {
                self.update_custom_health(&service, &instance, status, reporter)
            }
            Command::SetMaintenance { service, instance, reason, operator } => {
                self.set_maintenance(&service, &instance, reason, operator)
            }
            Command::ReportHealth { service, instance, source, report } => {
                self.report_health(&service, &instance, source, report)
            }
            Command::Elapse { service, instance } => self.elapse(&service, &instance),
            Command::WithdrawSignals(gone) => Ok(self.withdraw_signals(gone)),
            Command::TagResource { resource, tags } => self.tag(&resource, tags),
            Command::UntagResource { resource, keys } => self.untag(&resource, &keys),
            Command::UpdateServiceAttributes { service, attributes } => {
                self.update_attributes(&service, attributes)
            }
            Command::DeleteServiceAttributes { service, keys } => self.delete_attributes(&service, &keys),
            Command::Observe(observed) => Ok(self.observe(observed)),
            Command::Renumber => Ok((Group::new(), Reply::Done)),
            Command::Shadow(wanted) => Ok(self.shadow(&wanted)),
        }
    }

    fn tag(&mut self, resource: &str, tags: Tags) -> Plan {
        let mut all = self.state.tags(resource)?.clone();
        all.extend(tags);
        self.check_tags(resource, &all)?;
        self.put_tags(resource, all)
    }

    fn untag(&mut self, resource: &str, keys: &[String]) -> Plan {
        let mut all = self.state.tags(resource)?.clone();
        all.retain(|key, _| !keys.contains(key));
        self.put_tags(resource, all)
    }

    fn put_tags(&mut self, resource: &str, tags: Tags) -> Plan {
        let change = match self.state.namespace(resource) {
            Ok(state) => {
                Change::PutNamespace(Arc::new(Namespace { tags, ..Namespace::clone(&state.namespace) }))
            }
            Err(_) => {
                let service = &self.state.service(resource)?.service;
                Change::PutService(Arc::new(Service { tags, ..Service::clone(service) }))
            }
        };
        Ok((vec![change, self.next_number()], Reply::Done))
    }

    fn check_tags(&self, resource: &str, tags: &Tags) -> Result<(), RegistryError> {
        let max = self.settings.quotas.tags_per_resource;
        if tags.len() > max {
            return Err(RegistryError::TooManyTags { resource: resource.into(), max });
        }
        match tags.keys().find(|key| key.get(..4).is_some_and(|prefix| prefix.eq_ignore_ascii_case("aws:"))) {
            Some(key) => Err(InvalidInput(format!(
                "The tag key {key} is not valid: keys starting with aws: are reserved."
            ))),
            None => Ok(()),
        }
    }

    /// Every change takes a number, even if no operation or revision has it: the zone's serial follows it, and a service
    /// that is created again under its old name gets a later revision.
    fn next_number(&self) -> Change {
        Change::PutSequence(self.state.sequence() + 1)
    }

    /// Plans a request that was carried out before. The reply is its operation, or a new one if that is not kept any more.
    fn repeat(&mut self, number: u64, kind: OperationType, targets: OperationTargets) -> Plan {
        match self.state.operation_id(number, kind, &targets) {
            Some(operation) => Ok((Group::new(), Reply::Operation(operation.clone()))),
            None => self.succeed(kind, targets, Group::new()),
        }
    }

    fn succeed(&mut self, kind: OperationType, targets: OperationTargets, changes: Group) -> Plan {
        self.with_operation(self.state.sequence() + 1, kind, targets, OperationStatus::Success, changes)
    }

    fn with_operation(
        &mut self,
        number: u64,
        operation_type: OperationType,
        targets: OperationTargets,
        status: OperationStatus,
        mut changes: Group,
    ) -> Plan {
        let id = self.settings.identity.operation_id(number);
        let operation = Operation {
            number,
            id: id.clone(),
            operation_type,
            status,
            targets,
            created_ms: self.now_ms,
            updated_ms: self.now_ms,
        };
        // Drop two operations for each new one, so that a lowered limit is reached eventually. Clients poll for minutes, so
        // young operations are kept beyond the limit, up to a multiple of it.
        let kept = self.settings.operations_retained.max(1);
        let count = self.state.operation_count() + 1;
        let is_due = |operation: &Operation| {
            count > kept.saturating_mul(OPERATIONS_YOUNG_FACTOR)
                || operation.updated_ms.saturating_add(OPERATION_YOUNG_MS) < self.now_ms
        };
        let oldest = self.state.operations_after(None).take(count.saturating_sub(kept).min(2));
        let due = oldest.filter(|(_, operation)| is_due(operation));
        changes.extend(due.map(|(key, _)| Change::DropOperation(key.clone())));
        changes.push(Change::PutOperation(Arc::new(operation)));
        changes.push(Change::PutSequence(number));
        Ok((changes, Reply::Operation(id)))
    }
}

impl State {
    /// Tags of the namespace or service with this ARN.
    pub fn tags(&self, resource: &str) -> Result<&Tags, RegistryError> {
        let namespace = self.namespace(resource).map(|state: &Arc<NamespaceState>| &state.namespace.tags);
        namespace
            .or_else(|_| self.service(resource).map(|state| &state.service.tags))
            .map_err(|_| RegistryError::ResourceNotFound(resource.into()))
    }
}

fn over(what: &str, max: usize) -> RegistryError {
    RegistryError::ResourceLimitExceeded(format!("The quota for {what} is reached: {max}."))
}
