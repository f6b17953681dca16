//! The output structures of the API, each encoded directly into the buffer of an answer.

use crate::model::{Identity, Instance, Operation, OperationStatus, OperationTargets};
use crate::registry::ServiceState;
use crate::registry::state::NamespaceState;

use super::codec::{Codec, Structure};

/// Writes a Namespace, or with `summary` a NamespaceSummary, which lacks CreatorRequestId.
pub(super) fn namespace<C: Codec>(
    out: &mut Structure<'_, C>,
    identity: &Identity,
    state: &NamespaceState,
    summary: bool,
) {
    let namespace = &state.namespace;
    out.text("Id", namespace.id.as_str());
    out.text("Arn", &*identity.namespace_arn(&namespace.id));
    out.text("ResourceOwner", &*identity.account_id);
    out.text("Name", &*namespace.name);
    out.text("Type", namespace.kind.as_str());
    out.text("Description", namespace.description.as_deref());
    out.integer("ServiceCount", state.service_count() as u64);
    out.structure("Properties", |properties| {
        // As on AWS, both members are always present. An HTTP namespace has an empty SOA, and a DNS namespace whose TTL was
        // never set has none.
        properties.structure("DnsProperties", |dns| {
            if namespace.is_dns() {
                dns.text("HostedZoneId", &*identity.hosted_zone_id(&namespace.id));
            }
            if !namespace.is_dns() || namespace.soa_ttl.is_some() {
                dns.structure("SOA", |soa| soa.integer("TTL", namespace.soa_ttl.map(u64::from)));
            }
        });
        properties.structure("HttpProperties", |http| http.text("HttpName", &*namespace.http_name));
    });
    out.time("CreateDate", namespace.created_ms);
    if !summary {
        out.text("CreatorRequestId", namespace.creator_request_id.as_deref());
    }
}

/// Writes a Service, or with `summary` a ServiceSummary, which lacks NamespaceId and CreatorRequestId.
pub(super) fn service<C: Codec>(
    out: &mut Structure<'_, C>,
    identity: &Identity,
    state: &ServiceState,
    summary: bool,
) {
    let service = &state.service;
    out.text("Id", service.id.as_str());
    out.text("Arn", &*identity.service_arn(&service.id));
    out.text("ResourceOwner", &*identity.account_id);
    out.text("Name", &*service.name);
    if !summary {
        out.text("NamespaceId", service.namespace_id.as_str());
    }
    out.text("Description", service.description.as_deref());
    out.integer("InstanceCount", state.instances().len() as u64);
    // Services that are discoverable only by API calls have an empty DnsConfig.
    out.structure("DnsConfig", |dns| {
        if service.api_only {
            return;
        }
        dns.text("NamespaceId", service.namespace_id.as_str());
        dns.text("RoutingPolicy", service.dns.as_ref().map(|config| config.routing.as_str()));
        let records = service.dns.as_ref().map_or(&[][..], |config| &config.records);
        dns.structures("DnsRecords", records.iter(), |out, record| {
            out.text("Type", record.rtype.as_str());
            out.integer("TTL", u64::from(record.ttl));
        });
    });
    out.text("Type", if service.api_only { "HTTP" } else { "DNS_HTTP" });
    if let Some(check) = &service.health_check {
        out.structure("HealthCheckConfig", |out| {
            out.text("Type", check.check_type.as_str());
            out.text("ResourcePath", check.resource_path.as_deref());
            out.integer("FailureThreshold", check.failure_threshold.map(u64::from));
        });
    }
    if let Some(check) = &service.custom_health_check {
        out.structure("HealthCheckCustomConfig", |out| {
            out.integer("FailureThreshold", u64::from(check.failure_threshold.unwrap_or(1)));
        });
    }
    out.time("CreateDate", service.created_ms);
    if !summary {
        out.text("CreatorRequestId", service.creator_request_id.as_deref());
    }
    out.text("CreatedByAccount", &*identity.account_id);
}

/// Writes an Instance, or with `summary` an InstanceSummary, which lacks CreatorRequestId.
pub(super) fn instance<C: Codec>(
    out: &mut Structure<'_, C>,
    identity: &Identity,
    instance: &Instance,
    summary: bool,
) {
    out.text("Id", instance.id());
    if !summary {
        out.text("CreatorRequestId", instance.creator_request_id().as_deref());
    }
    out.map("Attributes", instance.attributes());
    out.text("CreatedByAccount", &*identity.account_id);
}

pub(super) fn operation<C: Codec>(out: &mut Structure<'_, C>, identity: &Identity, operation: &Operation) {
    out.text("Id", operation.id.as_str());
    out.text("OwnerAccount", &*identity.account_id);
    out.text("Type", operation.operation_type.as_str());
    out.text("Status", operation.status.as_str());
    if let OperationStatus::Fail { code, message } = &operation.status {
        out.text("ErrorMessage", &**message);
        out.text("ErrorCode", &**code);
    }
    out.time("CreateDate", operation.created_ms);
    out.time("UpdateDate", operation.updated_ms);
    let targets: &[(&str, &str)] = match &operation.targets {
        OperationTargets::Namespace(namespace) => &[("NAMESPACE", namespace.as_str())],
        OperationTargets::Service { service, .. } => &[("SERVICE", service.as_str())],
        OperationTargets::Instance { instance, service, .. } => {
            &[("INSTANCE", &**instance), ("SERVICE", service.as_str())]
        }
    };
    out.map("Targets", targets.iter().copied());
}
