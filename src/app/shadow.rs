//! Starts the shadow of KECS's own registry, and exports its metrics.

use std::sync::Arc;

use anyhow::Context;

use crate::admin::{Collect, Exposition};
use crate::config::{self, Config};
use crate::kubernetes::{Cluster, Shadow, ShadowStatus};
use crate::registry::Registry;

/// Starts to follow KECS's registry in a cluster; `None` if the settings do not enable it.
pub(super) fn follow(
    cluster: &Cluster,
    config: &Config,
    registry: &Registry,
) -> anyhow::Result<Option<Shadow>> {
    if config.shadow == config::Switch::Off {
        return Ok(None);
    }
    let configures_coredns = config.coredns != config::CoreDns::Off;
    Shadow::start(cluster, registry.clone(), configures_coredns)
        .map(Some)
        .context("cannot watch KECS's alias Services")
}

pub(super) struct ShadowCounters(pub(super) Arc<ShadowStatus>);

impl Collect for ShadowCounters {
    fn collect(&self, out: &mut Exposition) {
        let counts = self.0.counts();
        out.gauge(
            "kubernetes_shadow_stale",
            "1 if the shadow of KECS's registry may be outdated, otherwise 0.",
        )
        .sample(&[], self.0.is_stale());
        for (name, help, value) in [
            (
                "kubernetes_shadowed_services",
                "Services of KECS's own registry that are served here.",
                counts.services,
            ),
            (
                "kubernetes_shadow_refused_services",
                "Services of KECS's own registry that are not served here because of their name or id.",
                counts.refused,
            ),
            (
                "kubernetes_shadow_malformed_aliases",
                "KECS's alias Services that lack a name or an id.",
                counts.malformed,
            ),
            (
                "kubernetes_shadow_left_out_aliases",
                "KECS's alias Services that are ignored because a limit is reached.",
                counts.left_out,
            ),
            (
                "kubernetes_shadow_missing",
                "Other objects of KECS's registry that are missing here or in DNS, as far as the cluster shows them.",
                counts.missing,
            ),
        ] {
            out.gauge(name, help).sample(&[], value);
        }
        out.counter(
            "kubernetes_shadow_watch_errors_total",
            "Errors of lists and watches of KECS's alias Services.",
        )
        .sample(&[], self.0.errors());
    }
}
