//! The metrics of what the server holds, and after them those of its parts.

use super::Admin;
use super::exposition::Exposition;
use super::process;

/// Zone files that have a sample of their own; the metric of errors counts all.
const ZONE_FILE_SAMPLES_MAX: usize = 10_000;

/// The answer to a scrape.
pub(super) fn metrics(admin: &Admin) -> String {
    let mut out = Exposition::default();
    out.gauge("build_info", "The version that runs; always 1.")
        .sample(&[("version", env!("CARGO_PKG_VERSION"))], true);
    out.gauge("uptime_seconds", "Seconds since the start.")
        .sample(&[], admin.started.elapsed().as_secs_f64());
    out.gauge("ready", "Whether /readyz says ok.").sample(&[], admin.is_ready());
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
    out.gauge("operations", "Cloud Map operations that are kept.").sample(&[], state.operation_count());
    out.gauge("registry_sequence", "The last number given to a change.").sample(&[], state.sequence());
    out.gauge("store_failed", "Whether the last change could not be stored.")
        .sample(&[], admin.registry.store_failure().is_some());
}

fn dns(admin: &Admin, out: &mut Exposition) {
    let (zones, names) = {
        let view = admin.snapshot.view();
        (view.zone_count(), view.name_count())
    };
    out.gauge("zones", "Zones served.").sample(&[], zones);
    out.gauge("names", "Names in all zones, those of instances not counted.").sample(&[], names);
    let files = admin.zone_files.as_ref().map(|files| files.status()).unwrap_or_default();
    let errors: usize = files.values().map(|status| status.errors.len()).sum();
    out.gauge("zone_file_errors", "Errors in the newest versions of all zone files.").sample(&[], errors);
    let mut family =
        out.gauge("zone_file_ok", "Whether the newest version of a zone file is the one that is served.");
    for (path, status) in files.iter().take(ZONE_FILE_SAMPLES_MAX) {
        let zone = status.origin.as_ref().map(ToString::to_string).unwrap_or_default();
        let is_ok = status.is_served && status.errors.is_empty();
        family.sample(&[("file", &path.to_string_lossy()), ("zone", &zone)], is_ok);
    }
}
