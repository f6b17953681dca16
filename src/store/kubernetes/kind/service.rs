//! Objects of services, which refer to their namespace by id or by name, and in turn own objects of instances.

use std::collections::BTreeMap;
use std::sync::Arc;

use kube::ResourceExt;

use crate::model::{
    DnsRecord, DnsRecordType, HealthCheck, Identity, Service, ServiceId, service::CustomHealthCheck,
};
use crate::registry::RegistryError;
use crate::registry::command::{CreateDnsConfig, CreateService};

use super::super::index::Index;
use super::super::keys::{Claim, OwnerKey};
use super::super::operation_annotation::SpecIds;
use super::super::resources::{
    CloudMapInstance, CloudMapService, CustomHealthCheckSpec, DnsConfigSpec, DnsRecordSpec, HealthCheckSpec,
    HealthCheckTypeWord, RoutingPolicyWord, ServiceSpec, ServiceType,
};
use super::super::translate::REQUEST_DIGEST;
use super::traits::{ClaimingKind, OwnerKind, ResourceKind, StatusFields};

impl ResourceKind for CloudMapService {
    type Model = Service;

    const DELETED: &'static str = "it was deleted at the same time";

    /// The name of every service but one with capitals in a DNS namespace; see `names`.
    fn standard_name(id: &ServiceId) -> String {
        id.to_string()
    }

    fn update(&mut self, service: &Service) {
        let spec = &mut self.spec;
        spec.description = service.description.clone();
        spec.dns_config = service.dns.as_ref().map(|dns| DnsConfigSpec {
            routing_policy: Some(RoutingPolicyWord::of(dns.routing)),
            dns_records: dns.records.iter().map(DnsRecordSpec::of).collect(),
        });
        spec.health_check_config = service.health_check.as_ref().map(|check| HealthCheckSpec {
            kind: HealthCheckTypeWord::of(check.check_type),
            resource_path: check.resource_path.clone(),
            failure_threshold: check.failure_threshold,
        });
        spec.health_check_custom_config = service
            .custom_health_check
            .as_ref()
            .map(|check| CustomHealthCheckSpec { failure_threshold: check.failure_threshold });
        spec.attributes = service.attributes.clone();
        spec.tags = service.tags.clone();
    }

    fn spec_ids(&self, _identity: &Identity) -> Option<SpecIds> {
        Some(SpecIds { namespace: self.spec.namespace_id.clone(), ..SpecIds::default() })
    }

    fn unstored_number(&self, offset: u64) -> Option<u64> {
        self.stored_number().is_none().then(|| self.creation_number(offset))
    }
}

impl ClaimingKind for CloudMapService {
    fn owner(&self) -> Option<OwnerKey> {
        Some(match (&self.spec.namespace_id, &self.spec.namespace_name) {
            (Some(id), _) => OwnerKey::id(id),
            (None, name) => OwnerKey::namespace(name.as_deref().unwrap_or_default()),
        })
    }

    fn claim(&self, index: &Index) -> Result<Arc<Claim>, RegistryError> {
        let namespace = match (&self.spec.namespace_id, &self.spec.namespace_name) {
            (Some(id), _) => index.state().namespace(id).ok(),
            (None, Some(name)) => index.namespace_named(name),
            (None, None) => None,
        };
        let namespace = &namespace.ok_or(RegistryError::NamespaceNotFound)?.namespace;
        Ok(Claim::service(&namespace.id, &self.spec.name, namespace.is_dns()))
    }

    fn claim_of(index: &Index, id: &ServiceId) -> Option<Arc<Claim>> {
        Some(index.service_claim_of(&index.state().service(id.as_str()).ok()?.service))
    }

    fn decide(index: &mut Index, claim: &Arc<Claim>) {
        index.decide_service(claim);
    }

    fn status_fields(&self) -> StatusFields<'_> {
        self.status.as_ref().map_or_else(StatusFields::default, |status| StatusFields {
            number: status.number,
            create_date_ms: status.create_date_ms,
            conditions: &status.conditions,
        })
    }

    fn claim_rank(&self, offset: u64) -> Option<i64> {
        self.rank_by_creation(offset)
    }

    fn creation_version(&self, offset: u64) -> u64 {
        self.creation_number(offset).saturating_sub(offset)
    }
}

impl OwnerKind for CloudMapService {
    type Content = CloudMapInstance;

    const CONTENT_FIELD: &'static str = "spec.serviceId";
}

pub(in crate::store::kubernetes) fn service_object(name: &str, service: &Service) -> CloudMapService {
    let spec = ServiceSpec {
        name: service.name.clone(),
        namespace_id: Some(service.namespace_id.to_string()),
        namespace_name: None,
        kind: None,
        description: None,
        dns_config: None,
        health_check_config: None,
        health_check_custom_config: None,
        attributes: BTreeMap::new(),
        tags: BTreeMap::new(),
        creator_request_id: service.creator_request_id.clone(),
    };
    let mut object = CloudMapService::new(name, spec);
    object.annotations_mut().insert(REQUEST_DIGEST.into(), format!("{:x}", service.request_digest));
    object.update(service);
    object
}

/// Converts the spec of a service in the namespace of this id into the request that would create it. The second value is
/// true if the service has a DnsConfig without records, which only UpdateService leaves. Such a service is requested with
/// a placeholder record, which the caller removes.
pub(in crate::store::kubernetes) fn service_request(
    spec: &ServiceSpec,
    namespace: &str,
) -> (CreateService, bool) {
    let no_records = spec.dns_config.as_ref().is_some_and(|dns| dns.dns_records.is_empty());
    let dns = spec.dns_config.as_ref().map(|dns| {
        let placeholder = [DnsRecord { rtype: DnsRecordType::A, ttl: 0 }];
        let records: Vec<_> = dns.dns_records.iter().map(|record| record.model()).collect();
        CreateDnsConfig {
            namespace: None,
            routing: dns.routing_policy.map(RoutingPolicyWord::model),
            records: if no_records { placeholder.to_vec() } else { records },
        }
    });
    let request = CreateService {
        name: spec.name.clone(),
        namespace: Some(namespace.to_string()),
        creator_request_id: spec.creator_request_id.clone(),
        description: spec.description.clone(),
        dns,
        health_check: spec.health_check_config.as_ref().map(|check| HealthCheck {
            check_type: check.kind.model(),
            resource_path: check.resource_path.clone(),
            failure_threshold: check.failure_threshold,
        }),
        custom_health_check: spec
            .health_check_custom_config
            .as_ref()
            .map(|check| CustomHealthCheck { failure_threshold: check.failure_threshold }),
        tags: spec.tags.clone(),
        api_only: spec.kind == Some(ServiceType::Http),
    };
    (request, no_records)
}
