//! Objects of signals about instances that are pods. The name of such an object follows from the instance, so no
//! two objects claim one instance.

use crate::model::{Identity, PodSignals, Report, Signals, Uid};

use super::super::keys::InstanceKey;
use super::super::names;
use super::super::operation_annotation::SpecIds;
use super::super::resources::{CloudMapHealthReport, CustomHealthWord, HealthReportSpec, SignalFields};
use super::traits::ResourceKind;

impl ResourceKind for CloudMapHealthReport {
    type Model = PodSignals;

    const DELETED: &'static str = "the signals about the pod were deleted at the same time";

    fn standard_name(key: &InstanceKey) -> String {
        names::of_report(&key.service, &key.instance)
    }

    fn update(&mut self, about: &PodSignals) {
        let HealthReportSpec { service_id, instance_id, .. } = &self.spec;
        self.spec = spec(service_id.clone(), instance_id.clone(), about);
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
    about: &PodSignals,
) -> CloudMapHealthReport {
    let spec = spec(key.service.to_string(), key.instance.to_string(), about);
    CloudMapHealthReport::new(&CloudMapHealthReport::standard_name(key), spec)
}

fn spec(service_id: String, instance_id: String, about: &PodSignals) -> HealthReportSpec {
    let report = about.signals.report.as_ref();
    let others = Signals { report: None, ..about.signals.clone() };
    HealthReportSpec {
        service_id,
        instance_id,
        pod: about.pod.clone(),
        pod_uid: about.pod_uid.to_string(),
        status: report.map(|report| CustomHealthWord::of(report.status)),
        reporter: report.map(|report| report.reporter.clone()).unwrap_or_default(),
        report_date_ms: report.map_or(0, |report| report.reported_ms),
        signals: SignalFields::of(&others),
    }
}

pub(in crate::store::kubernetes) fn pod_signals(object: &CloudMapHealthReport) -> PodSignals {
    let spec = &object.spec;
    let report = |status: CustomHealthWord| Report {
        status: status.model(),
        reporter: spec.reporter.clone(),
        reported_ms: spec.report_date_ms,
    };
    let others = spec.signals.as_ref().map(|fields| fields.model(None)).unwrap_or_default();
    let signals = Signals { report: spec.status.map(report), ..others };
    PodSignals { pod: spec.pod.clone(), pod_uid: Uid::of(&spec.pod_uid), signals }
}
