//! The Kubernetes cluster: finds it, starts the writes to it, and exports their metrics.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context;

use crate::config::{self, Config};
use crate::kubernetes::{
    Cluster, ClusterWriter, ClusterWriterSettings, CoreDnsMode, Forward, MirrorForm, PodWatch, ServedZones,
    Servers, SharedWork,
};
use crate::registry::{OtherServers, Registry};
use crate::snapshot::Snapshot;

use super::{health::HealthTasks, storage};

/// Finds the cluster of the kubeconfig in the settings, or the cluster that this process runs in; `None` without either.
pub(super) async fn find(config: &Config) -> anyhow::Result<Option<Cluster>> {
    let cluster = Cluster::find(config.kubeconfig.as_deref()).await?;
    let asked = [
        ("mirror", config.mirror.is_some_and(|mirror| mirror != config::Mirror::Off)),
        ("drain-annotation", has_drain_annotation(config)),
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

/// The servers that share the store of this one, if it can be shared.
pub(super) fn servers(
    cluster: Option<&Cluster>,
    config: &Config,
    server_id: &str,
    api: SocketAddr,
) -> anyhow::Result<Option<Arc<Servers>>> {
    let Some(cluster) = cluster.filter(|_| config.store == config::StoreKind::Kubernetes) else {
        return Ok(None);
    };
    let namespace = storage::namespace(config, Some(cluster));
    let servers = Servers::new(cluster, namespace, server_id.into(), api);
    servers.map(Some).context("cannot find other servers")
}

/// Form of the Services of the mirror; `None` if it is off. Outside of a cluster, with a kubeconfig, that is the default,
/// because a developer's server should not write to the cluster that it watches.
pub(super) fn mirror_form(config: &Config) -> Option<MirrorForm> {
    match config.mirror {
        Some(config::Mirror::Off) => None,
        Some(config::Mirror::ClusterIp) => Some(MirrorForm::ClusterIp),
        Some(config::Mirror::On) => Some(MirrorForm::Headless),
        None => config.kubeconfig.is_none().then_some(MirrorForm::Headless),
    }
}

/// True if a writer to the cluster needs more of pods than the registry has.
pub(super) fn has_pod_table(config: &Config) -> bool {
    mirror_form(config).is_some() || has_drain_annotation(config)
}

fn has_drain_annotation(config: &Config) -> bool {
    config.drain_annotation == config::Switch::On
}

pub(super) fn write(
    cluster: &Cluster,
    config: &Config,
    registry: &Registry,
    health: HealthTasks,
    pods: &PodWatch,
    snapshot: &Arc<Snapshot>,
    servers: Option<&Arc<Servers>>,
) -> anyhow::Result<Option<ClusterWriter>> {
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
        mirror: mirror_form(config),
        mirror_endpoints: config.mirror_endpoints == config::Switch::On,
        coredns: mode.map(|mode| (mode, forward)),
        drain_annotation: has_drain_annotation(config),
    };
    let work = (config.store == config::StoreKind::Kubernetes).then(|| SharedWork {
        namespace: storage::namespace(config, Some(cluster)).to_string(),
        run: Box::new(move || Box::pin(health.clone().run())),
    });
    let snapshot = snapshot.clone();
    let zones = ServedZones::new(move || {
        let directory = snapshot.view();
        directory
            .zones()
            .map(|zone| zone.apex.to_string().trim_end_matches('.').to_ascii_lowercase())
            .collect()
    });
    let others = servers.map(|servers| servers.clone() as Arc<dyn OtherServers>);
    ClusterWriter::start(cluster, settings, work, registry, pods, zones, others)
        .context("cannot write to the cluster")
}
