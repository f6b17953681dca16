//! Objects of health reports about instances that are pods. The name of such an object follows from the instance, so no
//! two objects claim one instance.

use crate::model::{HealthReport, Identity, Uid};

use super::super::keys::InstanceKey;
use super::super::names;
use super::super::operation_annotation::SpecIds;
use super::super::resources::{CloudMapHealthReport, CustomHealthWord, HealthReportSpec};
use super::traits::ResourceKind;

impl ResourceKind for CloudMapHealthReport {
    type Model = HealthReport;

    const DELETED: &'static str = "the report was deleted at the same time";

    fn standard_name(key: &InstanceKey) -> String {
        names::of_report(&key.service, &key.instance)
    }

    fn update(&mut self, report: &HealthReport) {
        let HealthReportSpec { service_id, instance_id, .. } = &self.spec;
        self.spec = spec(service_id.clone(), instance_id.clone(), report);
        self.metadata.annotations = None;
    }

    fn spec_ids(&self, _identity: &Identity) -> Option<SpecIds> {
        None
    }

    fn unstored_number(&self, _offset: u64) -> Option<u64> {
        None
    }
}

pub(in crate::store::kubernetes) fn health_report_object(
    key: &InstanceKey,
    report: &HealthReport,
) -> CloudMapHealthReport {
    let spec = spec(key.service.to_string(), key.instance.to_string(), report);
    CloudMapHealthReport::new(&CloudMapHealthReport::standard_name(key), spec)
}

fn spec(service_id: String, instance_id: String, report: &HealthReport) -> HealthReportSpec {
    HealthReportSpec {
        service_id,
        instance_id,
        pod: report.pod.clone(),
        pod_uid: report.pod_uid.to_string(),
        status: CustomHealthWord::of(report.status),
        reporter: report.reporter.clone(),
        report_date_ms: report.reported_ms,
    }
}

pub(in crate::store::kubernetes) fn health_report(object: &CloudMapHealthReport) -> HealthReport {
    let spec = &object.spec;
    HealthReport {
        pod: spec.pod.clone(),
        pod_uid: Uid::of(&spec.pod_uid),
        status: spec.status.model(),
        reporter: spec.reporter.clone(),
        reported_ms: spec.report_date_ms,
    }
}
