//! Starts the watch of pods with the rules of the settings, and exports its metrics.

use std::sync::Arc;

use anyhow::Context;

use crate::admin::{Collect, Exposition};
use crate::config::{self, Config};
use crate::kubernetes::{Cluster, InstanceIdSource, PodRules, PodWatch, WatchStatus};
use crate::registry::Registry;

pub(super) fn watch(cluster: &Cluster, config: &Config, registry: &Registry) -> anyhow::Result<PodWatch> {
    let rules = PodRules {
        instance_id: match config.instance_id {
            config::InstanceId::Task => InstanceIdSource::Task,
            config::InstanceId::Pod => InstanceIdSource::Pod,
        },
        identity: registry.identity().clone(),
    };
    tracing::info!(cluster = cluster.address(), "watching pods");
    PodWatch::start(cluster, rules, registry.clone()).context("cannot watch pods")
}

pub(super) struct PodCounters(pub(super) Arc<WatchStatus>);

impl Collect for PodCounters {
    fn collect(&self, out: &mut Exposition) {
        let (counts, totals) = (self.0.counts(), self.0.totals());
        out.gauge("kubernetes_watch_stale", "1 if answers for pods may be outdated, otherwise 0.")
            .sample(&[], self.0.is_stale());
        for (name, help, value) in [
            ("kubernetes_pods", "Pods with an annotation that names Cloud Map services.", counts.pods),
            (
                "kubernetes_malformed_pods",
                "Pods with a Cloud Map annotation that can't be read.",
                counts.malformed_pods,
            ),
            (
                "kubernetes_pending_instances",
                "Instances of pods whose service does not exist.",
                counts.pending_instances,
            ),
            (
                "kubernetes_refused_instances",
                "Instances of pods that the registry refuses because of a quota or rule.",
                counts.refused_instances,
            ),
            (
                "kubernetes_conflicting_claims",
                "Pods that claim an instance id that another pod has.",
                counts.conflicting_claims,
            ),
            (
                "kubernetes_queued_instances",
                "Instances of pods with a change that has not been submitted to the registry yet.",
                counts.queued_instances,
            ),
        ] {
            out.gauge(name, help).sample(&[], value);
        }
        for (name, help, value) in [
            (
                "kubernetes_events_total",
                "Events of all watches of pods, including those of lists.",
                totals.events,
            ),
            ("kubernetes_lists_total", "Complete lists of pods.", totals.lists),
            ("kubernetes_watch_errors_total", "Errors of lists and watches of pods.", totals.errors),
            (
                "kubernetes_malformed_annotations_total",
                "Annotations of pods that could not be read, each counted once.",
                totals.malformed,
            ),
        ] {
            out.counter(name, help).sample(&[], value);
        }
        if let Some(seconds) = self.0.last_event_age_s() {
            out.gauge(
                "kubernetes_last_event_age_seconds",
                "Seconds since the last event of a watch of pods.",
            )
            .sample(&[], seconds);
        }
    }
}
