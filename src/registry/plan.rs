//! From a command to the changes that carry it out, or the reason why not.
//!
//! Planning reads one state and changes nothing, so that a batch can be dropped as a whole.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use crate::model::{
    Attributes, CustomHealthStatus, DnsConfig, DnsRecord, DnsRecordType, EpochMs, HealthCheck, Instance,
    Namespace, NamespaceId, NamespaceKind, Operation, OperationStatus, OperationTargets, OperationType,
    Service, Tags, id::request_digest, instance::AWS_INIT_HEALTH_STATUS, service::CustomHealthCheck,
};

use super::{
    command::{Command, CreateService, Reply},
    error::RegistryError::{self, InvalidInput},
    port::{Change, Group},
    rules,
    settings::{Settings, Validation},
    state::{NamespaceState, State, zone_key},
};

/// How long an operation is kept beside the number that is kept anyway, in milliseconds: longer than clients poll.
const OPERATION_YOUNG_MS: EpochMs = 15 * 60 * 1000;
/// How many times that number may be kept because they are young.
const OPERATIONS_YOUNG_FACTOR: usize = 10;

/// The kinds of input that AWS would refuse and that were let through: each is logged once.
#[derive(Default)]
pub(super) struct Remarks {
    made: HashSet<&'static str>,
}

/// Everything that a command is checked against.
pub(super) struct Planner<'a> {
    pub(super) state: &'a State,
    pub(super) settings: &'a Settings,
    pub(super) now_ms: EpochMs,
    pub(super) remarks: &'a mut Remarks,
}

type Plan = Result<(Group, Reply), RegistryError>;

impl Planner<'_> {
    /// The changes that carry out `command`, and what its caller is told once they are durable.
    pub(super) fn plan(mut self, command: Command) -> Plan {
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
            Command::UpdateCustomHealth { service, instance, status } => {
                self.update_custom_health(&service, &instance, status)
            }
            Command::TagResource { resource, tags } => self.tag(&resource, tags),
            Command::UntagResource { resource, keys } => self.untag(&resource, &keys),
            Command::UpdateServiceAttributes { service, attributes } => {
                self.update_attributes(&service, attributes)
            }
            Command::DeleteServiceAttributes { service, keys } => self.delete_attributes(&service, &keys),
        }
    }

    fn create_namespace(
        &mut self,
        name: String,
        kind: NamespaceKind,
        creator_request_id: Option<String>,
        description: Option<String>,
        soa_ttl: Option<u32>,
        tags: Tags,
    ) -> Plan {
        self.check_tags(&name, &tags)?;
        let is_dns = kind != NamespaceKind::Http;
        if is_dns {
            rules::check_zone_name(&name)?;
        }
        let identity = &self.settings.identity;
        let key = if is_dns { zone_key(&name) } else { name.as_str().into() };
        let id = identity.namespace_id(kind.as_str(), &key);
        let request_digest = request_digest(&(&name, &kind, &description, soa_ttl, &tags));
        let token = creator_request_id.as_deref();
        if let Some(other) = token.and_then(|token| self.state.namespace_by_token(kind.as_str(), token)) {
            let other = &other.namespace;
            if other.request_digest != request_digest {
                return Err(InvalidInput(format!(
                    "The CreatorRequestId was used before, for the namespace {} with other parameters.",
                    other.name
                )));
            }
            return self.again(
                other.operation,
                OperationType::CreateNamespace,
                OperationTargets::Namespace(id),
            );
        }
        let number = self.state.sequence() + 1;
        if let Ok(existing) = self.state.namespace(id.as_str())
            && !matches!(kind, NamespaceKind::DnsPrivate { .. })
        {
            return Err(RegistryError::NamespaceAlreadyExists {
                namespace: id,
                creator_request_id: existing.namespace.creator_request_id.clone(),
            });
        }
        if is_dns && let Some(existing) = self.state.namespace_by_zone(&key) {
            // As AWS does: the request is fine, its operation fails.
            let status = OperationStatus::Fail {
                code: "CANNOT_CREATE_HOSTED_ZONE".into(),
                message: rules::overlap_message(&kind, &identity.region, &existing.namespace),
            };
            let targets = OperationTargets::Namespace(id);
            return self.with_operation(
                number,
                OperationType::CreateNamespace,
                targets,
                status,
                Group::new(),
            );
        }
        if self.state.namespace_count() >= self.settings.quotas.namespaces {
            return Err(over("namespaces", self.settings.quotas.namespaces));
        }
        let mut http_name = name.clone();
        while self.state.namespace_by_http_name(&http_name).is_some() {
            http_name = format!("{http_name}-{}", id.as_str().trim_start_matches("ns-"));
        }
        let namespace = Namespace {
            id: id.clone(),
            name,
            kind,
            http_name,
            description,
            soa_ttl,
            creator_request_id,
            created_ms: self.now_ms,
            tags,
            operation: number,
            request_digest,
        };
        self.succeed(
            OperationType::CreateNamespace,
            OperationTargets::Namespace(id),
            vec![Change::PutNamespace(Arc::new(namespace))],
        )
    }

    fn update_namespace(
        &mut self,
        reference: &str,
        kind: &'static str,
        description: Option<String>,
        soa_ttl: Option<u32>,
    ) -> Plan {
        let old = &self.state.namespace(reference)?.namespace;
        if old.kind.as_str() != kind {
            return Err(InvalidInput(format!(
                "The namespace {} is of type {}, not {kind}.",
                old.id,
                old.kind.as_str()
            )));
        }
        let mut new = Namespace::clone(old);
        new.description = description.or(new.description);
        new.soa_ttl = soa_ttl.or(new.soa_ttl);
        let targets = OperationTargets::Namespace(old.id.clone());
        self.succeed(OperationType::UpdateNamespace, targets, vec![Change::PutNamespace(Arc::new(new))])
    }

    fn delete_namespace(&mut self, reference: &str) -> Plan {
        let state = self.state.namespace(reference)?;
        if state.service_count() > 0 {
            return Err(RegistryError::ResourceInUse(
                "Namespace contains services; delete the services before deleting the namespace".into(),
            ));
        }
        let id = state.namespace.id.clone();
        let changes = vec![Change::DeleteNamespace(id.clone())];
        self.succeed(OperationType::DeleteNamespace, OperationTargets::Namespace(id), changes)
    }

    fn create_service(&mut self, ask: CreateService) -> Plan {
        let request_digest = request_digest(&ask);
        let in_dns_config = ask.dns.as_ref().and_then(|dns| dns.namespace.as_deref());
        let reference = match (ask.namespace.as_deref(), in_dns_config) {
            (None, None) => {
                return Err(InvalidInput("A NamespaceId is required to create a service.".into()));
            }
            (Some(outer), Some(inner)) => {
                let same = crate::model::id::id_in(outer, "namespace")
                    == crate::model::id::id_in(inner, "namespace");
                if !same {
                    return Err(InvalidInput(
                        "NamespaceId and DnsConfig.NamespaceId name different namespaces.".into(),
                    ));
                }
                outer
            }
            (Some(reference), None) | (None, Some(reference)) => reference,
        };
        self.check_tags(&ask.name, &ask.tags)?;
        let namespace = self.state.namespace(reference)?.namespace.clone();
        if ask.dns.is_some() && (ask.api_only || !namespace.is_dns()) {
            return Err(InvalidInput(
                "When you specify an HTTP service, you can't include a DnsConfig element.".into(),
            ));
        }
        let dns = ask.dns.map(|dns| rules::dns_config(dns.routing, dns.records, self)).transpose()?;
        self.check_health(
            &namespace,
            dns.as_ref(),
            ask.health_check.as_ref(),
            ask.custom_health_check.as_ref(),
        )?;
        if dns.is_some() {
            rules::check_service_name(&ask.name, &namespace.name)?;
        }
        let id = self.settings.identity.service_id(&namespace.id, &ask.name);
        let service = Service {
            id,
            namespace_id: namespace.id.clone(),
            name: ask.name,
            description: ask.description,
            // AWS marks services that only the API finds by Type=HTTP; without records there is nothing else to find.
            api_only: dns.is_none(),
            dns,
            health_check: ask.health_check,
            custom_health_check: ask.custom_health_check,
            creator_request_id: ask.creator_request_id,
            created_ms: self.now_ms,
            tags: ask.tags,
            attributes: BTreeMap::new(),
            sequence: self.state.sequence() + 1,
            request_digest,
        };
        // In a DNS namespace, names that differ in case alone are the same; in an HTTP namespace they are two.
        let existing = match namespace.is_dns() {
            true => self.state.service_in_any_case(&namespace.id, &service.name.to_ascii_lowercase()),
            false => self.state.service_by_name(&namespace.id, &service.name),
        };
        if let Some(existing) = existing {
            let old = &existing.service;
            let is_again = service.creator_request_id.is_some()
                && service.creator_request_id == old.creator_request_id
                && service.request_digest == old.request_digest;
            if is_again {
                return Ok((Group::new(), Reply::Service(existing.clone())));
            }
            return Err(RegistryError::ServiceAlreadyExists {
                service: old.id.clone(),
                arn: self.settings.identity.service_arn(&old.id),
                creator_request_id: old.creator_request_id.clone(),
            });
        }
        if service.dns.is_some() {
            self.check_not_an_instance(&namespace.id, &service.name)?;
        }
        if self.state.service_count() >= self.settings.quotas.services {
            return Err(over("services", self.settings.quotas.services));
        }
        let sequence = service.sequence;
        let id = service.id.clone();
        let mut created = self.state.clone();
        let put = Change::PutService(Arc::new(service));
        created.apply(&put);
        let created = created.service(id.as_str())?.clone();
        Ok((vec![put, Change::PutSequence(sequence)], Reply::Service(created)))
    }

    fn update_service(
        &mut self,
        reference: &str,
        description: Option<String>,
        dns_records: Option<Vec<DnsRecord>>,
        health_check: Option<HealthCheck>,
    ) -> Plan {
        let old = self.state.service(reference)?.service.clone();
        let namespace = self.state.namespace(old.namespace_id.as_str())?.namespace.clone();
        if !namespace.is_dns() {
            return Err(InvalidInput(
                "You can't update a service in an HTTP namespace with UpdateService.".into(),
            ));
        }
        if old.api_only && dns_records.is_some() {
            return Err(InvalidInput(
                "When you specify an HTTP service, you can't include a DnsConfig element.".into(),
            ));
        }
        let mut new = Service::clone(&old);
        new.description = description.or(new.description);
        let keeps_health_check = match (dns_records, &old.dns) {
            (Some(records), Some(dns)) => {
                new.dns =
                    Some(DnsConfig { routing: dns.routing, records: rules::changed_records(dns, records)? });
                false
            }
            (None, Some(dns)) => {
                let keeps = self.let_through(
                    "UpdateService without DnsConfig: AWS deletes the service's records; they are kept",
                );
                if !keeps {
                    new.dns = Some(DnsConfig { routing: dns.routing, records: Vec::new() });
                }
                keeps && health_check.is_none()
            }
            (_, None) => false,
        };
        if !keeps_health_check {
            new.health_check = health_check;
            self.check_health(
                &namespace,
                new.dns.as_ref(),
                new.health_check.as_ref(),
                new.custom_health_check.as_ref(),
            )?;
        }
        let targets = OperationTargets::Service { service: old.id.clone(), namespace: namespace.id.clone() };
        self.succeed(OperationType::UpdateService, targets, vec![Change::PutService(Arc::new(new))])
    }

    fn delete_service(&mut self, reference: &str) -> Plan {
        let state = self.state.service(reference)?;
        if !state.instances().is_empty() {
            return Err(RegistryError::ResourceInUse(
                "Service contains registered instances; delete the instances before deleting the service"
                    .into(),
            ));
        }
        Ok((vec![Change::DeleteService(state.service.id.clone()), self.next_number()], Reply::Done))
    }

    fn register_instance(
        &mut self,
        reference: &str,
        id: &str,
        creator_request_id: Option<&str>,
        map: &BTreeMap<String, String>,
    ) -> Plan {
        let state = self.state.service(reference)?.clone();
        let service = &state.service;
        let namespace = self.state.namespace(service.namespace_id.as_str())?.namespace.clone();
        let attributes = rules::instance_attributes(&namespace, service, id, map, self)?;
        let old = state.instance(id).ok();
        if let Some(old) = old
            && creator_request_id.is_some()
            && old.creator_request_id().as_deref() == creator_request_id
            && old.attributes().eq(attributes.pairs())
        {
            let targets = targets(&service.id, &namespace.id, id);
            return self.again(old.operation(), OperationType::RegisterInstance, targets);
        }
        let quotas = &self.settings.quotas;
        if old.is_none() && state.instances().len() >= quotas.instances_per_service {
            return Err(over("instances of a service", quotas.instances_per_service));
        }
        if old.is_none() && self.state.instance_count() >= quotas.instances {
            return Err(over("instances", quotas.instances));
        }
        let number = self.state.sequence() + 1;
        // An instance's own name is the target of its SRV record: no service may have it.
        let is_taken = |name: &str| self.state.service_in_dns(&namespace.id, name).is_some();
        if service.ttl_of(DnsRecordType::Srv).is_some()
            && is_taken(&format!("{id}.{}", service.name).to_ascii_lowercase())
        {
            return Err(InvalidInput(format!(
                "The instance id {id} can't be the target of an SRV record, because the service {id}.{} has that name.",
                service.name
            )));
        }
        // AWS_INIT_HEALTH_STATUS counts only where a client can change the status again.
        let reports_health = service.custom_health_check.is_some()
            || (service.health_check.is_some() && matches!(namespace.kind, NamespaceKind::DnsPrivate { .. }));
        let custom_health = match reports_health {
            true => initial_health(&attributes).or_else(|| old.and_then(|old| old.custom_health())),
            false => None,
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

    fn deregister_instance(&mut self, reference: &str, id: &str) -> Plan {
        let state = self.state.service(reference)?;
        let service = state.service.clone();
        state.instance(id)?;
        let changes = vec![
            Change::DeleteInstance(service.id.clone(), id.into()),
            Change::PutRevision(service.id.clone(), self.state.sequence() + 1),
        ];
        let targets = targets(&service.id, &service.namespace_id, id);
        self.succeed(OperationType::DeregisterInstance, targets, changes)
    }

    fn update_custom_health(&mut self, reference: &str, id: &str, status: CustomHealthStatus) -> Plan {
        let state = self.state.service(reference)?.clone();
        let service = &state.service;
        if service.custom_health_check.is_none() {
            // A health check on a private namespace exists only where validation is lenient; it stands for
            // reported health, because nothing else could ever check it.
            let namespace = &self.state.namespace(service.namespace_id.as_str())?.namespace;
            let reported = service.health_check.is_some()
                && matches!(namespace.kind, NamespaceKind::DnsPrivate { .. })
                && self.let_through(
                    "UpdateInstanceCustomHealthStatus on a service with HealthCheckConfig: AWS answers CustomHealthNotFound",
                );
            if !reported {
                return Err(RegistryError::CustomHealthNotFound(service.id.to_string()));
            }
        }
        let old = state.instance(id)?;
        if old.custom_health() == Some(status) {
            return Ok((Group::new(), Reply::Done));
        }
        let new = old.with_custom_health(status);
        Ok((vec![Change::PutInstance(service.id.clone(), new), self.next_number()], Reply::Done))
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

    fn update_attributes(&mut self, reference: &str, attributes: BTreeMap<String, String>) -> Plan {
        let mut service = Service::clone(&self.state.service(reference)?.service);
        rules::check_service_attributes(&attributes)?;
        service.attributes.extend(attributes);
        let max = self.settings.quotas.attributes_per_service;
        if service.attributes.len() > max {
            return Err(RegistryError::ServiceAttributesLimitExceeded { max });
        }
        Ok((vec![Change::PutService(Arc::new(service)), self.next_number()], Reply::Done))
    }

    fn delete_attributes(&mut self, reference: &str, keys: &[String]) -> Plan {
        let mut service = Service::clone(&self.state.service(reference)?.service);
        service.attributes.retain(|key, _| !keys.contains(key));
        Ok((vec![Change::PutService(Arc::new(service)), self.next_number()], Reply::Done))
    }

    /// Whether input that AWS refuses is let through. What is let through is logged once for each kind.
    pub(super) fn let_through(&mut self, kind: &'static str) -> bool {
        if self.settings.validation == Validation::Strict {
            return false;
        }
        if self.remarks.made.insert(kind) {
            tracing::warn!("{kind} (said once; --validation strict does as AWS does)");
        }
        true
    }

    fn check_health(
        &mut self,
        namespace: &Namespace,
        dns: Option<&DnsConfig>,
        check: Option<&HealthCheck>,
        custom: Option<&CustomHealthCheck>,
    ) -> Result<(), RegistryError> {
        let Some(check) = check else { return Ok(()) };
        rules::check_health_check(check, dns, custom)?;
        let private = matches!(namespace.kind, NamespaceKind::DnsPrivate { .. });
        if private
            && !self.let_through(
                "HealthCheckConfig on a private DNS namespace: AWS refuses it; health is what clients report",
            )
        {
            return Err(InvalidInput(
                "You can't specify HealthCheckConfig for a service in a private DNS namespace.".into(),
            ));
        }
        Ok(())
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

    /// The number moves on with every change, also where no operation or revision takes it: a zone's serial follows it,
    /// and a service made again under its name has a later revision.
    fn next_number(&self) -> Change {
        Change::PutSequence(self.state.sequence() + 1)
    }

    /// What answers a request that was carried out before: its operation, or a new one when that is forgotten.
    fn again(&mut self, number: u64, kind: OperationType, targets: OperationTargets) -> Plan {
        match self.state.operation_id(number) {
            Some(operation) => Ok((Group::new(), Reply::Operation(operation.clone()))),
            None => self.succeed(kind, targets, Group::new()),
        }
    }

    /// A service can't have the name of an instance that an SRV record points to.
    fn check_not_an_instance(&self, namespace: &NamespaceId, name: &str) -> Result<(), RegistryError> {
        for (dot, _) in name.match_indices('.') {
            let (instance, service) = (&name[..dot], &name[dot + 1..]);
            let Some(state) = self.state.service_in_dns(namespace, &service.to_ascii_lowercase()) else {
                continue;
            };
            let mut instances = state.instances().iter();
            if state.service.ttl_of(DnsRecordType::Srv).is_some()
                && instances.any(|other| other.id().eq_ignore_ascii_case(instance))
            {
                return Err(InvalidInput(format!(
                    "The service name {name} is the name of the instance {instance} of the service {service}, which an SRV \
                     record points to."
                )));
            }
        }
        Ok(())
    }

    /// The changes of an operation that succeeds.
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
        // Two for one, so that a lowered limit is reached in time. Clients poll for minutes: what is younger stays,
        // within reason.
        let kept = self.settings.operations_retained.max(1);
        let count = self.state.operation_count() + 1;
        let is_due = |operation: &Operation| {
            count > kept.saturating_mul(OPERATIONS_YOUNG_FACTOR)
                || operation.updated_ms.saturating_add(OPERATION_YOUNG_MS) < self.now_ms
        };
        let oldest = self.state.operations_after(None).take(count.saturating_sub(kept).min(2));
        let due = oldest.filter(|(_, operation)| is_due(operation));
        changes.extend(due.map(|(number, _)| Change::DropOperation(number)));
        changes.push(Change::PutOperation(Arc::new(operation)));
        changes.push(Change::PutSequence(number));
        Ok((changes, Reply::Operation(id)))
    }
}

impl State {
    /// The tags of the namespace or service with this ARN.
    pub fn tags(&self, resource: &str) -> Result<&Tags, RegistryError> {
        let namespace = self.namespace(resource).map(|state: &Arc<NamespaceState>| &state.namespace.tags);
        namespace
            .or_else(|_| self.service(resource).map(|state| &state.service.tags))
            .map_err(|_| RegistryError::ResourceNotFound(resource.into()))
    }
}

fn targets(service: &crate::model::ServiceId, namespace: &NamespaceId, instance: &str) -> OperationTargets {
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

fn over(what: &str, max: usize) -> RegistryError {
    RegistryError::ResourceLimitExceeded(format!("The quota for {what} is reached: {max}."))
}
