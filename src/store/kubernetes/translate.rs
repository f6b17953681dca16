//! Conversions between custom resources and the registry's types.

use std::collections::BTreeMap;

use kube::api::ObjectMeta;
use kube::{Resource, ResourceExt};

use crate::model::{
    CustomHealthStatus, DnsRecord, DnsRecordType, EpochMs, HealthCheck, HealthCheckType, HealthReport,
    Identity, Instance, Namespace, NamespaceKind, Operation, OperationStatus, OperationTargets,
    OperationType, RoutingPolicy, Service, ServiceId, Uid, instance::AWS_INIT_HEALTH_STATUS,
    service::CustomHealthCheck,
};
use crate::registry::admission::NamespaceRequest;
use crate::registry::command::{CreateDnsConfig, CreateService};

use super::operation_annotation::{self, SpecIds};
use super::request::WRITTEN_BY;
use super::resources::{
    CloudMapHealthReport, CloudMapInstance, CloudMapNamespace, CloudMapOperation, CloudMapService,
    CustomHealthCheckSpec, CustomHealthWord, DnsConfigSpec, DnsProperties, DnsRecordSpec, HealthCheckSpec,
    HealthCheckTypeWord, HealthReportSpec, InstanceSpec, NamespaceProperties, NamespaceSpec, NamespaceType,
    OperationSpec, RoutingPolicyWord, ServiceSpec, ServiceType, Soa,
};

/// Annotation with the digest of the request that created a namespace or service, by which a repetition is recognised.
pub(super) const REQUEST_DIGEST: &str = "cloudmap-dns.io/request-digest";

/// Annotation with the number of an object's creation, for objects that are written again before their status has it.
pub(super) const NUMBER: &str = "cloudmap-dns.io/number";

pub(super) trait Numbered: Resource {
    fn number_in_status(&self) -> Option<i64>;
}

impl Numbered for CloudMapNamespace {
    fn number_in_status(&self) -> Option<i64> {
        self.status.as_ref()?.number
    }
}

impl Numbered for CloudMapService {
    fn number_in_status(&self) -> Option<i64> {
        self.status.as_ref()?.number
    }
}

/// The number of an object's creation from its status or annotation.
pub(super) fn stored_number(object: &impl Numbered) -> Option<u64> {
    let annotated = || object.annotations().get(NUMBER)?.parse().ok();
    unsigned(object.number_in_status()).or_else(annotated)
}

/// The number of an object's creation; without a stored number, it is that of the only write.
pub(super) fn creation_number(object: &impl Numbered, offset: u64) -> u64 {
    stored_number(object).unwrap_or_else(|| version(object.meta()) + offset)
}

/// The rank of a namespace's or service's object among those with the same claim that were created in one second: the
/// number of the creation, or none for an object that was not accepted yet. Objects of the API are always accepted, and
/// those applied by hand have a number in their status once they are.
pub(super) fn claim_rank(object: &impl Numbered, offset: u64) -> Option<i64> {
    let is_accepted = object.annotations().contains_key(WRITTEN_BY) || stored_number(object).is_some();
    is_accepted.then(|| signed(creation_number(object, offset)))
}

/// The resourceVersion as a number; 0 if there is none.
pub(super) fn version(meta: &ObjectMeta) -> u64 {
    meta.resource_version.as_deref().and_then(|text| text.parse().ok()).unwrap_or(0)
}

pub(super) fn uid_of(object: &impl Resource) -> Uid {
    Uid::of(object.meta().uid.as_deref().unwrap_or_default())
}

pub(super) fn unsigned(number: Option<i64>) -> Option<u64> {
    number.and_then(|number| u64::try_from(number).ok())
}

pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// The creation time in milliseconds since 1970; Kubernetes has whole seconds.
pub(super) fn created_ms(meta: &ObjectMeta) -> EpochMs {
    meta.creation_timestamp.as_ref().map_or(0, |time| time.0.as_millisecond())
}

pub(super) fn request_digest(meta: &ObjectMeta) -> Option<u64> {
    u64::from_str_radix(meta.annotations.as_ref()?.get(REQUEST_DIGEST)?, 16).ok()
}

impl NamespaceType {
    pub(super) fn kind(self, vpc: Option<&str>) -> NamespaceKind {
        match self {
            NamespaceType::Http => NamespaceKind::Http,
            NamespaceType::DnsPrivate => NamespaceKind::DnsPrivate { vpc: vpc.unwrap_or_default().into() },
            NamespaceType::DnsPublic => NamespaceKind::DnsPublic,
        }
    }
}

pub(super) fn asked_namespace(spec: &NamespaceSpec) -> NamespaceRequest {
    NamespaceRequest {
        name: spec.name.clone(),
        kind: spec.kind.kind(spec.vpc.as_deref()),
        description: spec.description.clone(),
        soa_ttl: spec.properties.as_ref().map(|properties| properties.dns_properties.soa.ttl),
        tags: spec.tags.clone(),
    }
}

pub(super) fn namespace_object(name: &str, namespace: &Namespace) -> CloudMapNamespace {
    let (kind, vpc) = match &namespace.kind {
        NamespaceKind::Http => (NamespaceType::Http, None),
        NamespaceKind::DnsPrivate { vpc } => (NamespaceType::DnsPrivate, Some(vpc.clone())),
        NamespaceKind::DnsPublic => (NamespaceType::DnsPublic, None),
    };
    let spec = NamespaceSpec {
        name: namespace.name.clone(),
        kind,
        vpc,
        description: None,
        properties: None,
        tags: BTreeMap::new(),
        creator_request_id: namespace.creator_request_id.clone(),
    };
    let mut object = CloudMapNamespace::new(name, spec);
    object.annotations_mut().insert(REQUEST_DIGEST.into(), format!("{:x}", namespace.request_digest));
    update_namespace(&mut object, namespace);
    object
}

/// Sets the fields of the spec that the API can change.
pub(super) fn update_namespace(object: &mut CloudMapNamespace, namespace: &Namespace) {
    object.spec.description = namespace.description.clone();
    object.spec.properties = namespace
        .soa_ttl
        .map(|ttl| NamespaceProperties { dns_properties: DnsProperties { soa: Soa { ttl } } });
    object.spec.tags = namespace.tags.clone();
}

/// Converts the spec of a service in the namespace of this id into the request that would create it. The second value is
/// true if the service has a DnsConfig without records, which only UpdateService leaves. Such a service is requested with
/// a placeholder record, which the caller removes.
pub(super) fn asked_service(spec: &ServiceSpec, namespace: &str) -> (CreateService, bool) {
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
    let asked = CreateService {
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
    (asked, no_records)
}

pub(super) fn service_object(name: &str, service: &Service) -> CloudMapService {
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
    update_service(&mut object, service);
    object
}

pub(super) fn update_service(object: &mut CloudMapService, service: &Service) {
    let spec = &mut object.spec;
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

pub(super) fn instance_object(name: &str, service: &Service, instance: &Instance) -> CloudMapInstance {
    let spec = InstanceSpec {
        instance_id: instance.id().into(),
        service_id: Some(service.id.to_string()),
        service_name: None,
        namespace_name: None,
        attributes: BTreeMap::new(),
        creator_request_id: None,
    };
    let mut object = CloudMapInstance::new(name, spec);
    update_instance(&mut object, instance);
    object
}

pub(super) fn update_instance(object: &mut CloudMapInstance, instance: &Instance) {
    object.spec.attributes = attributes_of(instance);
    object.spec.creator_request_id = instance.creator_request_id().map(std::borrow::Cow::into_owned);
}

pub(super) fn attributes_of(instance: &Instance) -> BTreeMap<String, String> {
    instance.attributes().map(|(key, value)| (key.to_string(), value.to_string())).collect()
}

/// The number of an instance, which is that of the last write of its spec.
pub(super) fn instance_number(object: &CloudMapInstance, offset: u64) -> u64 {
    let status = object.status.as_ref();
    let is_current = status.is_some_and(|status| status.observed_generation == object.metadata.generation);
    let kept = status.filter(|_| is_current).and_then(|status| unsigned(status.number));
    kept.unwrap_or_else(|| version(&object.metadata) + offset)
}

/// The health that clients reported for an instance, or its initial health. AWS_INIT_HEALTH_STATUS applies again after
/// every registration.
pub(super) fn instance_health(
    object: &CloudMapInstance,
    initial: Option<CustomHealthStatus>,
) -> Option<CustomHealthStatus> {
    let status = object.status.as_ref();
    let reported = status.and_then(|status| status.custom_health_status).map(CustomHealthWord::model);
    let is_older = status.is_none_or(|status| status.observed_generation < object.metadata.generation);
    let starts_again = is_older && object.spec.attributes.contains_key(AWS_INIT_HEALTH_STATUS);
    if starts_again { initial } else { reported.or(initial) }
}

pub(super) fn operation_object(name: &str, operation: &Operation, number: Option<u64>) -> CloudMapOperation {
    let (error_code, error_message) = match &operation.status {
        OperationStatus::Success => (None, None),
        OperationStatus::Fail { code, message } => (Some(code.clone()), Some(message.clone())),
    };
    let instance_id = match &operation.targets {
        OperationTargets::Instance { instance, .. } => Some(instance.clone()),
        _ => None,
    };
    CloudMapOperation::new(
        name,
        OperationSpec {
            number: number.map(signed),
            kind: operation.operation_type.as_str().into(),
            status: operation.status.as_str().into(),
            error_code,
            error_message,
            namespace_id: operation.targets.namespace().to_string(),
            service_id: operation.targets.service().map(ToString::to_string),
            instance_id,
            create_date_ms: operation.created_ms,
            update_date_ms: operation.updated_ms,
        },
    )
}

/// The operations of a record. Those that cannot be read, which a later version may have written, are skipped.
pub(super) fn operations(object: &CloudMapOperation, identity: &Identity, offset: u64) -> Vec<Operation> {
    let number = unsigned(object.spec.number).unwrap_or_else(|| version(&object.metadata) + offset);
    if operation_annotation::has_any(&object.metadata) {
        operation_annotation::read(&object.metadata, &SpecIds::default(), number)
    } else {
        // Version 0.1.0 and imports write one operation, whose id is derived from its number.
        operation(object, identity, number).into_iter().collect()
    }
}

fn operation(object: &CloudMapOperation, identity: &Identity, number: u64) -> Option<Operation> {
    let spec = &object.spec;
    let namespace = spec.namespace_id.as_str().into();
    let targets = match (&spec.service_id, &spec.instance_id) {
        (Some(service), Some(instance)) => OperationTargets::Instance {
            instance: instance.clone(),
            service: service.as_str().into(),
            namespace,
        },
        (Some(service), None) => OperationTargets::Service { service: service.as_str().into(), namespace },
        (None, _) => OperationTargets::Namespace(namespace),
    };
    let operation_type = OperationType::of(&spec.kind)?;
    let status = match spec.status.as_str() {
        "SUCCESS" => OperationStatus::Success,
        "FAIL" => OperationStatus::Fail {
            code: spec.error_code.clone().unwrap_or_default(),
            message: spec.error_message.clone().unwrap_or_default(),
        },
        _ => return None,
    };
    Some(Operation {
        number,
        id: identity.operation_id(number),
        operation_type,
        status,
        targets,
        created_ms: spec.create_date_ms,
        updated_ms: spec.update_date_ms,
    })
}

pub(super) fn report_object(
    name: &str,
    service: &ServiceId,
    instance: &str,
    report: &HealthReport,
) -> CloudMapHealthReport {
    CloudMapHealthReport::new(
        name,
        HealthReportSpec {
            service_id: service.to_string(),
            instance_id: instance.into(),
            pod: report.pod.clone(),
            pod_uid: report.pod_uid.to_string(),
            status: CustomHealthWord::of(report.status),
            reporter: report.reporter.clone(),
            report_date_ms: report.reported_ms,
        },
    )
}

pub(super) fn report(object: &CloudMapHealthReport) -> HealthReport {
    let spec = &object.spec;
    HealthReport {
        pod: spec.pod.clone(),
        pod_uid: Uid::of(&spec.pod_uid),
        status: spec.status.model(),
        reporter: spec.reporter.clone(),
        reported_ms: spec.report_date_ms,
    }
}

macro_rules! words {
    ($($word:ident = $model:ident { $($one:ident = $other:ident),* })*) => {$(
        impl $word {
            pub(super) fn model(self) -> $model {
                match self {
                    $($word::$one => $model::$other),*
                }
            }

            pub(super) fn of(value: $model) -> $word {
                match value {
                    $($model::$other => $word::$one),*
                }
            }
        }
    )*};
}

words! {
    RoutingPolicyWord = RoutingPolicy { Multivalue = Multivalue, Weighted = Weighted }
    HealthCheckTypeWord = HealthCheckType { Http = Http, Https = Https, Tcp = Tcp }
    CustomHealthWord = CustomHealthStatus { Healthy = Healthy, Unhealthy = Unhealthy }
}

impl DnsRecordSpec {
    fn model(&self) -> DnsRecord {
        DnsRecord { rtype: self.kind, ttl: self.ttl }
    }

    fn of(record: &DnsRecord) -> DnsRecordSpec {
        DnsRecordSpec { kind: record.rtype, ttl: record.ttl }
    }
}
