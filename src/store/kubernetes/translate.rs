//! Conversions of parts of custom resources, and of the records of operations, to and from the model's types. `kind` has
//! those of whole objects.

use kube::Resource;
use kube::api::ObjectMeta;

use crate::model::{
    ConfirmedReadiness, CustomHealthStatus, DnsRecord, EpochMs, HealthCheckType, Identity, Maintenance,
    NamespaceId, NamespaceKind, Operation, OperationStatus, OperationTargets, OperationType, PendingReport,
    Readiness, Report, RoutingPolicy, Signals, SourceReport, Uid, instance::AWS_INIT_HEALTH_STATUS,
};
use crate::registry::state::zone_key;

use super::operation_annotation::{self, SpecIds};
use super::resources::{
    CloudMapInstance, CloudMapNamespace, CloudMapOperation, ConfirmedFields, CustomHealthWord, DnsRecordSpec,
    HealthCheckTypeWord, MaintenanceFields, NamespaceType, OperationSpec, PendingFields, ReportFields,
    RoutingPolicyWord, SignalFields, SourceFields,
};

/// Annotation with the digest of the request that created a namespace or service, by which a repetition is recognised.
pub(super) const REQUEST_DIGEST: &str = "cloudmap-dns.io/request-digest";

/// Annotation with the number of an object's creation, for objects that are written again before their status has it.
pub(super) const NUMBER: &str = "cloudmap-dns.io/number";

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

pub(super) fn namespace_id(object: &CloudMapNamespace, identity: &Identity) -> NamespaceId {
    let spec = &object.spec;
    let kind = spec.kind.kind(None);
    let key = if kind == NamespaceKind::Http { spec.name.as_str().into() } else { zone_key(&spec.name) };
    identity.namespace_id(kind.as_str(), &key)
}

/// The number of an instance, which is that of the last write of its spec.
pub(super) fn instance_number(object: &CloudMapInstance, offset: u64) -> u64 {
    let status = object.status.as_ref();
    let is_current = status.is_some_and(|status| status.observed_generation == object.metadata.generation);
    let kept = status.filter(|_| is_current).and_then(|status| unsigned(status.number));
    kept.unwrap_or_else(|| version(&object.metadata) + offset)
}

/// The health that clients reported for an instance, or its initial health, and the stored signals about it.
/// AWS_INIT_HEALTH_STATUS applies again after every registration. Without `reports_health`, the service of the instance has
/// no health check, so reports mean nothing.
pub(super) fn instance_health(
    object: &CloudMapInstance,
    initial: Option<CustomHealthStatus>,
    reports_health: bool,
) -> (Option<CustomHealthStatus>, Signals) {
    let status = object.status.as_ref();
    let fields = status.and_then(|status| status.signals.as_ref());
    let stored = |counted| fields.map(|fields| fields.model(counted)).unwrap_or_default();
    if !reports_health {
        return (None, Signals { report: None, pending: None, ..stored(None) });
    }
    let reported = status.and_then(|status| status.custom_health_status).map(CustomHealthWord::model);
    let is_older = status.is_none_or(|status| status.observed_generation < object.metadata.generation);
    let starts_again = is_older && object.spec.attributes.contains_key(AWS_INIT_HEALTH_STATUS);
    let kept = reported.filter(|_| !starts_again);
    let mut signals = stored(kept);
    if starts_again {
        signals.pending = None;
    }
    if is_older {
        // It was registered again since, which is as good as a report.
        (signals.alive_ms, signals.missed_ms) = (None, None);
    }
    (kept.or(initial), signals)
}

impl SignalFields {
    /// The fields for these signals; `None` if there are none.
    pub(super) fn of(signals: &Signals) -> Option<SignalFields> {
        if signals.is_empty() {
            return None;
        }
        let Signals { report, pending, sources, maintenance, alive_ms, missed_ms, confirmed } = signals;
        Some(SignalFields {
            report: report.as_ref().map(|report| ReportFields {
                reporter: report.reporter.clone(),
                report_date_ms: report.reported_ms,
            }),
            pending: pending.as_ref().map(|PendingReport { report, count }| PendingFields {
                status: CustomHealthWord::of(report.status),
                reporter: report.reporter.clone(),
                report_date_ms: report.reported_ms,
                count: *count,
            }),
            sources: sources.iter().map(SourceFields::of).collect(),
            maintenance: maintenance.as_ref().map(|Maintenance { reason, operator, since_ms }| {
                MaintenanceFields {
                    reason: reason.clone(),
                    operator: operator.clone(),
                    since_date_ms: *since_ms,
                }
            }),
            alive_date_ms: *alive_ms,
            missed_date_ms: *missed_ms,
            confirmed: confirmed.map(|ConfirmedReadiness { readiness, changed_s }| ConfirmedFields {
                ready: readiness == Readiness::Ready,
                since_date_s: changed_s.into(),
            }),
        })
    }

    /// The signals in these fields. `reported` is the status of the report.
    pub(super) fn model(&self, reported: Option<CustomHealthStatus>) -> Signals {
        let report = self.report.as_ref().zip(reported).map(|(report, status)| Report {
            status,
            reporter: report.reporter.clone(),
            reported_ms: report.report_date_ms,
        });
        let pending = self.pending.as_ref().map(|pending| PendingReport {
            report: Report {
                status: pending.status.model(),
                reporter: pending.reporter.clone(),
                reported_ms: pending.report_date_ms,
            },
            count: pending.count,
        });
        let mut sources: Vec<_> = self.sources.iter().map(SourceFields::model).collect();
        // Only the servers write these fields, but kubectl can too.
        sources.sort_by(|one, other| one.source.cmp(&other.source));
        sources.dedup_by(|one, other| one.source == other.source);
        Signals {
            report,
            pending,
            sources,
            maintenance: self.maintenance.as_ref().map(|fields| Maintenance {
                reason: fields.reason.clone(),
                operator: fields.operator.clone(),
                since_ms: fields.since_date_ms,
            }),
            alive_ms: self.alive_date_ms,
            missed_ms: self.missed_date_ms,
            confirmed: self.confirmed.as_ref().map(|fields| ConfirmedReadiness {
                readiness: if fields.ready { Readiness::Ready } else { Readiness::NotReady },
                changed_s: u32::try_from(fields.since_date_s).unwrap_or(0),
            }),
        }
    }
}

impl SourceFields {
    fn of(report: &SourceReport) -> SourceFields {
        SourceFields {
            source: report.source.clone(),
            status: CustomHealthWord::of(report.status),
            reason: report.reason.clone(),
            reporter: report.reporter.clone(),
            report_date_ms: report.reported_ms,
            valid_until_ms: report.valid_until_ms,
        }
    }

    fn model(&self) -> SourceReport {
        SourceReport {
            source: self.source.clone(),
            status: self.status.model(),
            reason: self.reason.clone(),
            reporter: self.reporter.clone(),
            reported_ms: self.report_date_ms,
            valid_until_ms: self.valid_until_ms,
        }
    }
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
    pub(super) fn model(&self) -> DnsRecord {
        DnsRecord { rtype: self.kind, ttl: self.ttl }
    }

    pub(super) fn of(record: &DnsRecord) -> DnsRecordSpec {
        DnsRecordSpec { kind: record.rtype, ttl: record.ttl }
    }
}
