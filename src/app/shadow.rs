//! The shadow of KECS's own registry, and what it counts, as metrics.

use std::sync::Arc;

use anyhow::Context;

use crate::admin::{Collect, Exposition};
use crate::config::{self, Config};
use crate::kubernetes::{Cluster, Shadow, ShadowStatus};
use crate::registry::Registry;

/// Shadows what KECS has in a cluster, when the settings ask for it.
pub(super) fn follow(
    cluster: &Cluster,
    config: &Config,
    registry: &Registry,
) -> anyhow::Result<Option<Shadow>> {
    if config.shadow == config::Switch::Off {
        return Ok(None);
    }
    let tells_coredns = config.coredns != config::CoreDns::Off;
    Shadow::start(cluster, registry.clone(), tells_coredns)
        .map(Some)
        .context("cannot watch KECS's alias Services")
}

/// The numbers of a shadow.
pub(super) struct ShadowCounters(pub(super) Arc<ShadowStatus>);

impl Collect for ShadowCounters {
    fn collect(&self, out: &mut Exposition) {
        let counts = self.0.counts();
        out.gauge("kubernetes_shadow_stale", "Whether what is shadowed of KECS's registry may be old.")
            .sample(&[], self.0.is_stale());
        for (name, help, value) in [
            (
                "kubernetes_shadowed_services",
                "Services of KECS's own registry that are served here.",
                counts.services,
            ),
            (
                "kubernetes_shadow_refused_services",
                "Services of KECS's own registry whose names or ids can't be here.",
                counts.refused,
            ),
            (
                "kubernetes_shadow_malformed_aliases",
                "KECS's alias Services that lack a name or an id.",
                counts.malformed,
            ),
            (
                "kubernetes_shadow_left_out_aliases",
                "KECS's alias Services that there is no room for.",
                counts.left_out,
            ),
            (
                "kubernetes_shadow_missing",
                "What else KECS has made and what is not here or not in DNS, as far as the cluster shows it.",
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
