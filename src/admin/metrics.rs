//! The response of `/metrics`: metrics of the registry, the zones and the process, followed by those of the collectors.

use super::Admin;
use super::process;
use crate::exposition::Exposition;

/// Most zone files that get their own sample. The errors of the others are still counted in `zone_file_errors`.
const ZONE_FILE_SAMPLES_MAX: usize = 10_000;

pub(super) fn metrics(admin: &Admin) -> String {
    let mut out = Exposition::default();
    out.gauge("build_info", "The running version as a label; always 1.")
        .sample(&[("version", env!("CARGO_PKG_VERSION"))], true);
    out.gauge("uptime_seconds", "Seconds since the start.")
        .sample(&[], admin.started.elapsed().as_secs_f64());
    out.gauge("ready", "1 if /readyz returns 200, otherwise 0.").sample(&[], admin.is_ready());
    registry(admin, &mut out);
    dns(admin, &mut out);
    process::collect(&mut out);
    for collector in &admin.collectors {
        collector.collect(&mut out);
    }
    out.into_text()
}

fn registry(admin: &Admin, out: &mut Exposition) {
    let state = admin.registry.state();
    out.gauge("namespaces", "Cloud Map namespaces.").sample(&[], state.namespace_count());
    out.gauge("services", "Cloud Map services.").sample(&[], state.service_count());
    out.gauge("instances", "Cloud Map instances, whatever their health.").sample(&[], state.instance_count());
    out.gauge("operations", "Cloud Map operations that are stored.").sample(&[], state.operation_count());
    out.gauge("registry_sequence", "Sequence number of the last change to the registry.")
        .sample(&[], state.sequence());
    out.gauge("store_failed", "1 if the last change could not be stored, otherwise 0.")
        .sample(&[], admin.registry.store_failure().is_some());
}

fn dns(admin: &Admin, out: &mut Exposition) {
    let (zones, names) = {
        let view = admin.snapshot.view();
        (view.zone_count(), view.name_count())
    };
    out.gauge("zones", "Zones served.").sample(&[], zones);
    out.gauge("names", "Names in all zones, without the names of instances.").sample(&[], names);
    let files = admin.zone_files.as_ref().map(|files| files.status()).unwrap_or_default();
    let errors: usize = files.values().map(|status| status.errors.len()).sum();
    out.gauge("zone_file_errors", "Errors in the newest versions of all zone files.").sample(&[], errors);
    let mut family =
        out.gauge("zone_file_ok", "1 if the newest version of the zone file is served, otherwise 0.");
    for (path, status) in files.iter().take(ZONE_FILE_SAMPLES_MAX) {
        let zone = status.origin.as_ref().map(ToString::to_string).unwrap_or_default();
        let is_ok = status.is_served && status.errors.is_empty();
        family.sample(&[("file", &path.to_string_lossy()), ("zone", &zone)], is_ok);
    }
}
