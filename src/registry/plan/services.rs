//! Services: create, update, delete, and their attributes.

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

/// Input that is let through, for CreateService and UpdateService alike.
const DNS_CONFIG_IN_HTTP_NAMESPACE: &str =
    "A DnsConfig on a service of an HTTP namespace: AWS refuses it; the service has no records";

impl Planner<'_> {
    pub(super) fn create_service(&mut self, ask: CreateService) -> Plan {
        let request_digest = request_digest(&ask);
        let in_dns_config = ask.dns.as_ref().and_then(|dns| dns.namespace.as_deref());
        let reference = match (ask.namespace.as_deref(), in_dns_config) {
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
        self.check_tags(&ask.name, &ask.tags)?;
        let namespace = self.state.namespace(reference)?.namespace.clone();
        self.check_service_pattern(&ask.name, &namespace)?;
        let is_ignored = ask.dns.is_some()
            && !namespace.is_dns()
            && self.leniency.lets_through(DNS_CONFIG_IN_HTTP_NAMESPACE);
        if ask.dns.is_some() && !is_ignored && (ask.api_only || !namespace.is_dns()) {
            return Err(InvalidInput(
                "When you specify an HTTP service, you can't include a DnsConfig element.".into(),
            ));
        }
        let dns = ask
            .dns
            .filter(|_| !is_ignored)
            .map(|dns| rules::dns_config(dns.routing, dns.records, self.leniency))
            .transpose()?;
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
            origin: Origin::Own,
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
            && !self.leniency.lets_through("UpdateService of a service in an HTTP namespace: AWS refuses it")
        {
            return Err(InvalidInput(
                "You can't update a service in an HTTP namespace with UpdateService.".into(),
            ));
        }
        let is_ignored =
            is_http && dns_records.is_some() && self.leniency.lets_through(DNS_CONFIG_IN_HTTP_NAMESPACE);
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
                let keeps = self.leniency.lets_through(
                    "UpdateService without DnsConfig: AWS deletes the service's records; they are kept",
                );
                if !keeps {
                    new.dns = Some(DnsConfig { routing: dns.routing, records: Vec::new() });
                }
                keeps && health_check.is_none()
            }
            // AWS has no such update, and so no rule that it deletes what is left out.
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

    /// Names of services outside of AWS's pattern are for HTTP namespaces, where no DNS name is made of them, and for
    /// stores of this server alone: the schema of the custom resources has the pattern.
    fn check_service_pattern(&mut self, name: &str, namespace: &Namespace) -> Result<(), RegistryError> {
        let is_possible = !namespace.is_dns() && !self.may_lose;
        if has_service_labels(name)
            || is_possible
                && self.leniency.lets_through(
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
            && !self.leniency.lets_through(
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
