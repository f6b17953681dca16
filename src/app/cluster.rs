//! The Kubernetes cluster: finds it, starts the writes to it, and exports their metrics.

use std::sync::Arc;

use anyhow::Context;

use crate::admin::{Collect, Exposition};
use crate::config::{self, Config};
use crate::kubernetes::{
    Cluster, ClusterWriter, ClusterWriterSettings, ClusterWriterStatus, CoreDnsMode, Forward, ServedZones,
    WatchStatus,
};
use crate::registry::Registry;
use crate::snapshot::Snapshot;

/// Finds the cluster of the kubeconfig in the settings, or the cluster that this process runs in; `None` without either.
pub(super) async fn find(config: &Config) -> anyhow::Result<Option<Cluster>> {
    let cluster = Cluster::find(config.kubeconfig.as_deref()).await?;
    let asked = [
        ("mirror", config.mirror == Some(config::Switch::On)),
        ("shadow", config.shadow == config::Switch::On),
        ("coredns", config.coredns != config::CoreDns::Off),
    ];
    for (setting, _) in asked.into_iter().filter(|(_, is_asked)| *is_asked && cluster.is_none()) {
        tracing::warn!(
            setting,
            "a setting has no effect because there is no cluster; name one with --kubeconfig"
        );
    }
    Ok(cluster)
}

/// Starts the writes to the cluster that the settings enable; `None` if they enable none.
pub(super) fn write(
    cluster: &Cluster,
    config: &Config,
    registry: &Registry,
    pods: Arc<WatchStatus>,
    snapshot: &Arc<Snapshot>,
) -> anyhow::Result<Option<ClusterWriter>> {
    // Outside of a cluster, with a kubeconfig, the mirror is off by default: a developer's server should not write to the
    // cluster that it watches.
    let is_inside = config.kubeconfig.is_none();
    let mode = match config.coredns {
        config::CoreDns::Off => None,
        config::CoreDns::Custom => Some(CoreDnsMode::Custom),
        config::CoreDns::Corefile => Some(CoreDnsMode::Corefile),
    };
    let forward = match config.coredns_forward {
        Some(address) => Forward::Address(address),
        None => Forward::Service(config.coredns_service.clone()),
    };
    let settings = ClusterWriterSettings {
        mirror: config.mirror.map_or(is_inside, |mirror| mirror == config::Switch::On),
        mirror_endpoints: config.mirror_endpoints == config::Switch::On,
        coredns: mode.map(|mode| (mode, forward)),
    };
    let snapshot = snapshot.clone();
    let zones = ServedZones::new(move || {
        let directory = snapshot.view();
        directory
            .zones()
            .map(|zone| zone.apex.to_string().trim_end_matches('.').to_ascii_lowercase())
            .collect()
    });
    ClusterWriter::start(cluster, settings, registry, pods, zones).context("cannot write to the cluster")
}

/// Exports the metrics of the leader election, the mirror and the configuration of CoreDNS.
pub(super) struct WriterCounters(pub(super) ClusterWriterStatus);

impl Collect for WriterCounters {
    fn collect(&self, out: &mut Exposition) {
        let ClusterWriterStatus { leadership, mirror, coredns } = &self.0;
        out.gauge(
            "kubernetes_leader",
            "1 if this server is the leader, which writes to the cluster, otherwise 0.",
        )
        .sample(&[], leadership.is_held());
        out.counter("kubernetes_takeovers_total", "Times that this server became the leader.")
            .sample(&[], leadership.takeovers());
        if let Some(mirror) = mirror {
            let numbers = mirror.numbers();
            for (name, help, value) in [
                (
                    "kubernetes_mirror_objects",
                    "Services, EndpointSlices and Endpoints that the mirror has written.",
                    numbers.objects,
                ),
                (
                    "kubernetes_mirror_waiting_services",
                    "Cloud Map services whose mirror is to be compared and perhaps written.",
                    numbers.waiting,
                ),
                (
                    "kubernetes_mirror_clashes",
                    "Names that the mirror needs but that objects of other owners have.",
                    numbers.clashes,
                ),
                (
                    "kubernetes_mirror_refused_objects",
                    "Objects of the mirror that the API server rejects.",
                    numbers.refused,
                ),
            ] {
                out.gauge(name, help).sample(&[], value);
            }
            out.counter(
                "kubernetes_mirror_writes_total",
                "Objects of the mirror that were written or deleted.",
            )
            .sample(&[], numbers.writes);
            out.counter("kubernetes_mirror_errors_total", "Requests of the mirror that failed.")
                .sample(&[], numbers.errors);
        }
        if let Some(coredns) = coredns {
            let detail = coredns.detail();
            for (name, help, value) in [
                (
                    "kubernetes_coredns_zones",
                    "Zones that CoreDNS is configured to forward to this server.",
                    detail.forwarded,
                ),
                (
                    "kubernetes_coredns_clashes",
                    "Zones that are not forwarded because CoreDNS already has a block for them.",
                    detail.clashes.len(),
                ),
                (
                    "kubernetes_coredns_guarded_zones",
                    "Zones that are not forwarded because the cluster itself needs their names.",
                    detail.guarded.len(),
                ),
                (
                    "kubernetes_coredns_left_out_zones",
                    "Zones that are not forwarded because CoreDNS's ConfigMap has no room for them.",
                    detail.left_out,
                ),
            ] {
                out.gauge(name, help).sample(&[], value);
            }
            out.counter("kubernetes_coredns_writes_total", "Writes of CoreDNS's ConfigMap.")
                .sample(&[], detail.writes);
            out.counter(
                "kubernetes_coredns_errors_total",
                "Requests about CoreDNS's ConfigMaps that failed.",
            )
            .sample(&[], detail.errors);
        }
    }
}
