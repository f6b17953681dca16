//! Services: CreateService, UpdateService, DeleteService, and the operations on their attributes.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::model::{
    DnsConfig, DnsRecord, HealthCheck, Namespace, NamespaceKind, OperationTargets, OperationType, Origin,
    Service,
    id::{id_in, request_digest},
    service::CustomHealthCheck,
};

use super::{Plan, Planner, over};
use crate::registry::{
    change::Change,
    command::{CreateService, Reply},
    error::RegistryError::{self, InvalidInput},
    names,
    pattern::{SERVICE_NAME, has_service_labels},
    port::Group,
    rules,
};

const DNS_CONFIG_IN_HTTP_NAMESPACE: &str =
    "A DnsConfig on a service of an HTTP namespace: AWS refuses it; the service has no records";

impl Planner<'_> {
    pub(super) fn create_service(&mut self, request: CreateService) -> Plan {
        let request_digest = request_digest(&request);
        let in_dns_config = request.dns.as_ref().and_then(|dns| dns.namespace.as_deref());
        let reference = match (request.namespace.as_deref(), in_dns_config) {
            (None, None) => {
                return Err(InvalidInput("A NamespaceId is required to create a service.".into()));
            }
            (Some(outer), Some(inner)) => {
                let same = id_in(outer, "namespace") == id_in(inner, "namespace");
                if !same {
                    return Err(InvalidInput(
                        "NamespaceId and DnsConfig.NamespaceId name different namespaces.".into(),
                    ));
                }
                outer
            }
            (Some(reference), None) | (None, Some(reference)) => reference,
        };
        self.check_tags(&request.name, &request.tags)?;
        let namespace = self.state.namespace(reference)?.namespace.clone();
        self.check_service_pattern(&request.name, &namespace)?;
        let is_ignored = request.dns.is_some()
            && !namespace.is_dns()
            && self.leniency.accepts(DNS_CONFIG_IN_HTTP_NAMESPACE);
        if request.dns.is_some() && !is_ignored && (request.api_only || !namespace.is_dns()) {
            return Err(InvalidInput(
                "When you specify an HTTP service, you can't include a DnsConfig element.".into(),
            ));
        }
        let dns = request
            .dns
            .filter(|_| !is_ignored)
            .map(|dns| rules::dns_config(dns.routing, dns.records, self.leniency))
            .transpose()?;
        self.check_health(
            &namespace,
            dns.as_ref(),
            request.health_check.as_ref(),
            request.custom_health_check.as_ref(),
        )?;
        if dns.is_some() {
            rules::check_service_name(&request.name, &namespace.name)?;
        }
        let id = self.settings.identity.service_id(&namespace.id, &request.name);
        let service = Service {
            id,
            namespace_id: namespace.id.clone(),
            name: request.name,
            description: request.description,
            // AWS marks such services by Type=HTTP. A service without records can only be found by the API anyway.
            api_only: dns.is_none(),
            dns,
            health_check: request.health_check,
            custom_health_check: request.custom_health_check,
            creator_request_id: request.creator_request_id,
            created_ms: self.now_ms,
            tags: request.tags,
            attributes: BTreeMap::new(),
            sequence: self.state.sequence() + 1,
            request_digest,
            origin: Origin::Own,
        };
        // DNS does not distinguish upper and lower case, HTTP namespaces do.
        let existing = if namespace.is_dns() {
            self.state.service_in_any_case(&namespace.id, &service.name.to_ascii_lowercase())
        } else {
            self.state.service_by_name(&namespace.id, &service.name)
        };
        if let Some(existing) = existing {
            let old = &existing.service;
            let is_repeated = service.creator_request_id.is_some()
                && service.creator_request_id == old.creator_request_id
                && service.request_digest == old.request_digest;
            if is_repeated {
                return Ok((Group::new(), Reply::Service(existing.clone())));
            }
            return Err(RegistryError::ServiceAlreadyExists {
                service: old.id.clone(),
                arn: self.settings.identity.service_arn(&old.id),
                creator_request_id: old.creator_request_id.clone(),
            });
        }
        if let Ok(other) = self.state.service(service.id.as_str())
            && other.service.origin.is_shadowed()
        {
            return Err(InvalidInput(format!(
                "The service would have the id {}, which a shadowed service has.",
                service.id
            )));
        }
        if service.dns.is_some() {
            names::check_service(self.state, &namespace.id, &service.name)?;
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

    pub(super) fn update_service(
        &mut self,
        reference: &str,
        description: Option<String>,
        dns_records: Option<Vec<DnsRecord>>,
        health_check: Option<HealthCheck>,
    ) -> Plan {
        let old = self.state.service(reference)?.service.clone();
        let namespace = self.state.namespace(old.namespace_id.as_str())?.namespace.clone();
        let is_http = !namespace.is_dns();
        if is_http
            && !self.leniency.accepts("UpdateService of a service in an HTTP namespace: AWS refuses it")
        {
            return Err(InvalidInput(
                "You can't update a service in an HTTP namespace with UpdateService.".into(),
            ));
        }
        let is_ignored =
            is_http && dns_records.is_some() && self.leniency.accepts(DNS_CONFIG_IN_HTTP_NAMESPACE);
        if old.api_only && dns_records.is_some() && !is_ignored {
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
                let keeps = self.leniency.accepts(
                    "UpdateService without DnsConfig: AWS deletes the service's records; they are kept",
                );
                if !keeps {
                    new.dns = Some(DnsConfig { routing: dns.routing, records: Vec::new() });
                }
                keeps && health_check.is_none()
            }
            // AWS refuses this update, so its rule that omitted settings are deleted does not apply.
            (_, None) => is_http && health_check.is_none(),
        };
        if !keeps_health_check {
            rules::check_health_check_change(
                old.health_check.as_ref(),
                health_check.as_ref(),
                self.leniency,
            )?;
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

    pub(super) fn delete_service(&mut self, reference: &str) -> Plan {
        let state = self.state.service(reference)?;
        if !state.instances().is_empty() {
            return Err(RegistryError::ResourceInUse(
                "Service contains registered instances; delete the instances before deleting the service"
                    .into(),
            ));
        }
        Ok((vec![Change::DeleteService(state.service.id.clone()), self.next_number()], Reply::Done))
    }

    pub(super) fn update_attributes(
        &mut self,
        reference: &str,
        attributes: BTreeMap<String, String>,
    ) -> Plan {
        let mut service = Service::clone(&self.state.service(reference)?.service);
        rules::check_service_attributes(&attributes)?;
        service.attributes.extend(attributes);
        let max = self.settings.quotas.attributes_per_service;
        if service.attributes.len() > max {
            return Err(RegistryError::ServiceAttributesLimitExceeded { max });
        }
        Ok((vec![Change::PutService(Arc::new(service)), self.next_number()], Reply::Done))
    }

    pub(super) fn delete_attributes(&mut self, reference: &str, keys: &[String]) -> Plan {
        let mut service = Service::clone(&self.state.service(reference)?.service);
        service.attributes.retain(|key, _| !keys.contains(key));
        Ok((vec![Change::PutService(Arc::new(service)), self.next_number()], Reply::Done))
    }

    /// Lenient validation accepts other names than AWS in HTTP namespaces, where they do not become DNS names, unless the
    /// store is shared: the schema of its custom resources contains the pattern.
    fn check_service_pattern(&mut self, name: &str, namespace: &Namespace) -> Result<(), RegistryError> {
        let is_possible = !namespace.is_dns() && !self.may_lose;
        if has_service_labels(name)
            || is_possible
                && self.leniency.accepts(
                    "A service's name outside of AWS's pattern, in an HTTP namespace: AWS refuses it",
                )
        {
            return Ok(());
        }
        Err(InvalidInput(SERVICE_NAME.violation(name)))
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
            && !self.leniency.accepts(
                "HealthCheckConfig on a private DNS namespace: AWS refuses it; health is what clients report",
            )
        {
            return Err(InvalidInput(
                "You can't specify HealthCheckConfig for a service in a private DNS namespace.".into(),
            ));
        }
        Ok(())
    }
}
