//! Starts the watch of pods with the rules of the settings.

use anyhow::Context;

use crate::config::{self, Config};
use crate::kubernetes::{Cluster, InstanceIdSource, PodRules, PodWatch};
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
    PodWatch::start(cluster, rules, registry.clone(), super::cluster::has_pod_table(config))
        .context("cannot watch pods")
}
