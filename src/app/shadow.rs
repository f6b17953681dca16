//! Starts the shadow of KECS's own registry.

use anyhow::Context;

use crate::config::{self, Config};
use crate::kubernetes::{Cluster, Shadow};
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
