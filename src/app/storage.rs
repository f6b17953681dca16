//! Opening the store that the settings name.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use tokio::runtime::Handle;

use crate::admin::{Collect, Exposition, Readiness};
use crate::config::{Config, StoreKind};
use crate::kubernetes::Cluster;
use crate::registry::{Settings, Store};
use crate::snapshot::{FileSerial, FileSerials};
use crate::store::kubernetes::{ServiceCounts, SharedZoneFiles, StoreHealth, ZoneFileNumbers};
use crate::store::{EmbeddedStore, KubernetesStore, MemoryStore};

/// The Kubernetes namespace of the objects, outside of a cluster.
const PLACE: &str = "cloudmap-dns";
/// How often it is asked whether the store has been read, in milliseconds.
const READ_POLL_MS: u64 = 100;
/// How often it is asked whether what was read is up to date, in milliseconds.
const TROUBLE_POLL_MS: u64 = 1_000;

/// A store, and what is known of it while it is used.
pub(super) struct Opened {
    pub(super) store: Box<dyn Store>,
    health: Option<StoreHealth>,
    /// Counts of instances in the statuses of custom resources.
    pub(super) counts: Option<ServiceCounts>,
    /// Offsets of serials that servers share; `None` with a store of one server.
    pub(super) zone_files: Option<Arc<dyn FileSerials>>,
}

/// Offsets of serials in the store in custom resources.
struct ZoneFilesInStore {
    store: SharedZoneFiles,
    /// The last value that the store returned, and its conversion for the snapshot.
    last: Mutex<Converted>,
}

/// A value of the store, and the same as the snapshot has it.
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
    /// Lets `readiness` wait until custom resources are read, and say after that whether they are up to date. Needs a
    /// tokio runtime around it.
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

    /// What the store counts.
    pub(super) fn counters(&self) -> Option<StoreCounters> {
        self.health.clone().map(StoreCounters)
    }
}

/// The numbers of the store in custom resources.
pub(super) struct StoreCounters(StoreHealth);

impl Collect for StoreCounters {
    fn collect(&self, out: &mut Exposition) {
        let is_stale = !self.0.is_read() || self.0.trouble().is_some();
        out.gauge("kubernetes_store_stale", "Whether what is known of the custom resources may be old.")
            .sample(&[], is_stale);
        let lag = self.0.lag();
        let mut family = out.counter(
            "kubernetes_store_lag_writes_total",
            "Writes of this server that the watch has shown, by kind.",
        );
        for (kind, seen) in &lag {
            family.sample(&[("kind", kind)], seen.writes);
        }
        let mut family = out.counter(
            "kubernetes_store_lag_seconds_total",
            "Time from the API server's answers to these writes until the watch showed them.",
        );
        for (kind, seen) in &lag {
            family.sample(&[("kind", kind)], seen.total.as_secs_f64());
        }
        let mut family = out.gauge(
            "kubernetes_store_lag_seconds",
            "That time of the last write; longer while a write is waited for that took longer already.",
        );
        for (kind, seen) in &lag {
            family.sample(&[("kind", kind)], seen.last.as_secs_f64());
        }
    }
}

/// Opens the store; the one in custom resources is in this cluster. Needs a tokio runtime around it.
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

/// Opens the store in custom resources; `serves` is whether for a server.
pub(super) fn open_kubernetes(
    config: &Config,
    cluster: Option<&Cluster>,
    settings: Settings,
    serves: bool,
) -> anyhow::Result<KubernetesStore> {
    let known = cluster.context(
        "--store kubernetes: this is not a pod with a service account, so name the cluster with --kubeconfig FILE",
    )?;
    Ok(KubernetesStore::open(known.client()?, place(config, cluster), settings, Handle::current(), serves))
}

/// The Kubernetes namespace of the objects: the setting, else the pod's own, else a fixed one.
pub(super) fn place<'c>(config: &'c Config, cluster: Option<&'c Cluster>) -> &'c str {
    let own = cluster.filter(|_| config.kubeconfig.is_none()).map(Cluster::namespace);
    config.store_namespace.as_deref().or(own).unwrap_or(PLACE)
}
