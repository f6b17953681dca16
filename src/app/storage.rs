//! Opens the store that the settings select, and exports the metrics of the store in custom resources.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use tokio::runtime::Handle;

use crate::admin::Readiness;
use crate::config::{Config, StoreKind};
use crate::kubernetes::Cluster;
use crate::registry::{Settings, Store};
use crate::snapshot::{FileSerial, FileSerials};
use crate::store::kubernetes::{ServiceCounts, SharedZoneFiles, StoreHealth, ZoneFileNumbers};
use crate::store::{EmbeddedStore, KubernetesStore, MemoryStore};

/// Kubernetes namespace of the custom resources, outside of a cluster and without a setting.
const DEFAULT_NAMESPACE: &str = "cloudmap-dns";
/// Intervals between checks of the store: until it has been read completely, and afterwards for outdated data.
const READ_POLL_MS: u64 = 100;
const TROUBLE_POLL_MS: u64 = 1_000;

/// An open store with the parts that other modules use beside it: the writer of instance counts into the statuses of custom
/// resources, and the offsets of SOA serials that all servers of the store share. They are `None` for a store of a single
/// server.
pub(super) struct Opened {
    pub(super) store: Box<dyn Store>,
    health: Option<StoreHealth>,
    pub(super) counts: Option<ServiceCounts>,
    pub(super) zone_files: Option<Arc<dyn FileSerials>>,
}

/// Offsets of SOA serials in custom resources, converted to the type of the snapshot. The conversion is repeated only after
/// the store's value has changed.
struct ZoneFilesInStore {
    store: SharedZoneFiles,
    last: Mutex<Converted>,
}

#[derive(Default)]
struct Converted {
    numbers: Arc<ZoneFileNumbers>,
    serials: Arc<BTreeMap<String, FileSerial>>,
}

impl FileSerials for ZoneFilesInStore {
    fn current(&self) -> Arc<BTreeMap<String, FileSerial>> {
        let numbers = self.store.current();
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if !Arc::ptr_eq(&last.numbers, &numbers) {
            let serial = |(name, (digest, offset)): (&String, &(u128, u32))| {
                (name.clone(), FileSerial { digest: *digest, offset: *offset })
            };
            let serials = numbers.iter().map(serial).collect();
            *last = Converted { numbers, serials: Arc::new(serials) };
        }
        last.serials.clone()
    }

    fn agree(&self, wanted: &BTreeMap<String, FileSerial>) -> Result<(), String> {
        let wanted = wanted.clone();
        self.store.change(move |all| {
            for (name, serial) in &wanted {
                let shared =
                    all.get(name).map(|(digest, offset)| FileSerial { digest: *digest, offset: *offset });
                let agreed = serial.after(shared);
                all.insert(name.clone(), (agreed.digest, agreed.offset));
            }
        })
    }
}

impl Opened {
    /// Makes `readiness` wait until the custom resources have been read, and then adds a remark while they may be outdated.
    /// It must be called in a tokio runtime.
    pub(super) fn watch(&self, readiness: &Readiness) {
        let Some(health) = self.health.clone() else { return };
        let mut task = readiness.task("custom resources");
        tokio::spawn(async move {
            while !health.is_read() {
                let why = health.trouble();
                task.failing(why.unwrap_or_else(|| "they are being read".into()));
                tokio::time::sleep(Duration::from_millis(READ_POLL_MS)).await;
            }
            loop {
                task.done_with(health.trouble().map(|why| format!("they may be old: {why}")));
                tokio::time::sleep(Duration::from_millis(TROUBLE_POLL_MS)).await;
            }
        });
    }

    pub(super) fn health(&self) -> Option<StoreHealth> {
        self.health.clone()
    }
}

/// Opens the store that the settings select. `cluster` holds the custom resources of the store `kubernetes`. It must be
/// called in a tokio runtime.
pub(super) fn open(config: &Config, cluster: Option<&Cluster>, settings: Settings) -> anyhow::Result<Opened> {
    let store: Box<dyn Store> = match config.store {
        StoreKind::Embedded => Box::new(EmbeddedStore::open(&config.data_dir)?),
        StoreKind::Memory => Box::new(MemoryStore),
        StoreKind::Kubernetes => {
            let store = open_kubernetes(config, cluster, settings, true)?;
            let (health, counts) = (Some(store.health()), Some(store.counts()));
            let zone_files = ZoneFilesInStore { store: store.zone_files(), last: Mutex::default() };
            let zone_files: Option<Arc<dyn FileSerials>> = Some(Arc::new(zone_files));
            return Ok(Opened { store: Box::new(store), health, counts, zone_files });
        }
    };
    Ok(Opened { store, health: None, counts: None, zone_files: None })
}

/// Opens the store in custom resources. `serves` is true for a server, and false for an export or import.
pub(super) fn open_kubernetes(
    config: &Config,
    cluster: Option<&Cluster>,
    settings: Settings,
    serves: bool,
) -> anyhow::Result<KubernetesStore> {
    let known = cluster.context(
        "--store kubernetes: this is not a pod with a service account, so name the cluster with --kubeconfig FILE",
    )?;
    let namespace = namespace(config, cluster);
    Ok(KubernetesStore::open(known, namespace, settings, Handle::current(), serves)?)
}

/// Returns the Kubernetes namespace of the custom resources: that of the setting, else that of this pod, else
/// [`DEFAULT_NAMESPACE`].
pub(super) fn namespace<'c>(config: &'c Config, cluster: Option<&'c Cluster>) -> &'c str {
    let own = cluster.filter(|_| config.kubeconfig.is_none()).map(Cluster::namespace);
    config.store_namespace.as_deref().or(own).unwrap_or(DEFAULT_NAMESPACE)
}
