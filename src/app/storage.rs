//! Opening the store that the settings name.

use std::fs;
use std::time::Duration;

use anyhow::Context;
use tokio::runtime::Handle;

use crate::admin::Readiness;
use crate::config::{Config, StoreKind};
use crate::kubernetes::Cluster;
use crate::registry::{Settings, Store};
use crate::store::kubernetes::StoreHealth;
use crate::store::{EmbeddedStore, KubernetesStore, MemoryStore};

/// The Kubernetes namespace of the objects, outside of a cluster.
const PLACE: &str = "cloudmap-dns";
/// Where a pod finds the name of its own namespace.
const OWN_PLACE_FILE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";
/// How often it is asked whether the store has been read, in milliseconds.
const READ_POLL_MS: u64 = 100;
/// A store, and what is known of it while it is used.
pub(super) struct Opened {
    pub(super) store: Box<dyn Store>,
    health: Option<StoreHealth>,
}

impl Opened {
    /// Lets `readiness` wait until the store is read. Needs a tokio runtime around it.
    pub(super) fn watch(&self, readiness: &Readiness) {
        let Some(health) = self.health.clone() else { return };
        let task = readiness.task("store");
        tokio::spawn(async move {
            while !health.is_read() {
                let why = health.trouble();
                task.failing(why.unwrap_or_else(|| "the custom resources are being read".into()));
                tokio::time::sleep(Duration::from_millis(READ_POLL_MS)).await;
            }
            task.done();
        });
    }
}

/// Opens the store. Needs a tokio runtime of several threads around it.
pub(super) fn open(config: &Config, settings: Settings) -> anyhow::Result<Opened> {
    let store: Box<dyn Store> = match config.store {
        StoreKind::Embedded => Box::new(EmbeddedStore::open(&config.data_dir)?),
        StoreKind::Memory => Box::new(MemoryStore),
        StoreKind::Kubernetes => {
            let store = open_kubernetes(config, settings)?;
            let health = Some(store.health());
            return Ok(Opened { store: Box::new(store), health });
        }
    };
    Ok(Opened { store, health: None })
}

/// Opens the store in custom resources.
pub(super) fn open_kubernetes(config: &Config, settings: Settings) -> anyhow::Result<KubernetesStore> {
    let runtime = Handle::current();
    let client = tokio::task::block_in_place(|| runtime.block_on(client(config)))?;
    Ok(KubernetesStore::open(client, &place(config), settings, runtime))
}

/// The Kubernetes namespace of the objects: the setting, else the pod's own, else a fixed one.
pub(super) fn place(config: &Config) -> String {
    let own = || {
        let text = fs::read_to_string(OWN_PLACE_FILE).ok().filter(|_| config.kubeconfig.is_none())?;
        Some(text.trim().to_string()).filter(|name| !name.is_empty())
    };
    config.store_namespace.clone().or_else(own).unwrap_or_else(|| PLACE.into())
}

async fn client(config: &Config) -> anyhow::Result<kube::Client> {
    let cluster = Cluster::find(config.kubeconfig.as_deref()).await?.context(
        "--store kubernetes: this is not a pod with a service account, so name the cluster with --kubeconfig FILE",
    )?;
    Ok(cluster.client()?)
}
