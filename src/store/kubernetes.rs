//! The store that several servers share. Namespaces, services, instances and health reports of pods are custom resources
//! in one Kubernetes namespace, and etcd arbitrates between the servers. Operations are stored with the objects that they
//! changed (`operation_annotation`).
//!
//! Every replica lists and watches all objects, answers from them, and accepts writes of the API. Objects reach the
//! registry only through the index of the watch: what this replica wrote itself also becomes part of the state as the
//! object in the API server's response. So all replicas that have seen the same objects have the same state, with the
//! same revisions and operations, whoever wrote them: an API call at any replica, or kubectl.
//!
//! # Kinds
//!
//! Namespaces, services, instances and health reports are kinds with common traits (`kind`): the identity that an object
//! has in the model, its name, its owner and its translation. Writes, lookups and the index are generic over them, so that
//! a rule about races holds for all kinds.
//!
//! # Conflicts between replicas
//!
//! - *Creating one resource twice*: the name of an object that the API writes follows from its id (`names`), so etcd
//!   accepts only one of the two objects. DNS namespaces of one zone but of two types have different names: whoever
//!   creates one reads the other name afterwards, and deletes its own object if the other one was created before
//!   (`name_races`).
//! - *Changing one resource*: an update or deletion has the resourceVersion that it was planned on as its precondition.
//!   If the object has changed since, or had changed before the plan was made without the plan knowing it, the write has
//!   lost.
//! - *Deleting an owner while another replica creates something in it*: whoever deletes a namespace or service first
//!   marks its object, then lists what is in it, then deletes it. Whoever creates something in it first creates the
//!   object, then reads the owner, and deletes the new object if the owner is marked, gone or replaced. Both reads come
//!   from etcd and not from a cache, so they see every write that was acknowledged before them. If the list comes after
//!   the creation, the deletion has lost. If it comes before, the mark is older than the creation too. Then the creation
//!   sees the mark and waits for the end of the deletion: it has lost if the owner is gone, and succeeds if the mark is
//!   removed. Both are never accepted, and both lose only if the deletion does not end in time. The mark of a replica
//!   that died is removed by whoever finds it too old; that changes the resourceVersion, so a deleter that was only slow
//!   loses. Creations do not read every owner, but one list of those that were marked recently (`write/marks.rs`).
//! - *Claiming one DNS name in two services*: whoever creates an object whose name another service could have deletes it
//!   again if a claimant was created before (`name_races`).
//! - *Applying objects of any name by hand*: if several claim one identity, the oldest is accepted, and the statuses of
//!   the others say so. Deleting through the API deletes all that claim it.
//!
//! # Lost races
//!
//! A write that lost is not made, and its command is planned again on the new state, so that its caller gets the answer
//! of a single server that carried out both commands one after the other. The loser has read the object that won, or that
//! the object is gone, and waits until the watch has delivered that. The next plan is then based on it, and the state has
//! still come from the watch alone, with the numbers that every replica assigns. An owner that is marked as being deleted
//! is not written until the mark or the owner is gone. The registry limits how often a command may lose, and pauses
//! before it plans the command again; the caller of a command that loses every time is asked to retry.
//!
//! A request that is repeated with its idempotency token returns the first operation, which is in the object's
//! annotation.
//!
//! # Operations
//!
//! An operation that changes an object is in an annotation of that object, written together with the change. An operation
//! without such an object, because the object was deleted or nothing was changed, goes into a record (a
//! CloudMapOperation). One record is written at the end of the batch for all such operations, with the operations from
//! the annotations of deleted objects. A record is deleted once none of its operations is retained any more; an operation
//! in an annotation is dropped from memory alone.
//!
//! # Reading through
//!
//! The watch of a replica is some milliseconds behind what another replica has acknowledged. Before the API answers that
//! a namespace, service, instance or operation does not exist, the registry has it read from etcd by its name, which
//! follows from the id (`finder`). The object that was read is added to the index like the response to a write.
//!
//! # Numbers
//!
//! Revisions and positions in lists are etcd's numbers. etcd counts the writes to the whole cluster in `resourceVersion`:
//! the number of a write is above all numbers before it, and no other write has it. They stay far below 2^53. The
//! resourceVersion of an object changes when something else of it is written. Therefore whoever writes a status puts the
//! number into it, and whoever writes the object before it has a status puts the number into an annotation. The number of
//! an operation in an annotation is chosen before the write, above all numbers that the replica knows; several operations
//! may have one number. The revision of a service is the highest number of the changes of its set of instances, and of
//! the last renumbering. `registry/numbering.rs` explains why all replicas come to the same numbers; the module
//! `renumber` writes them.
//!
//! # Ambiguous writes
//!
//! The API server may become unreachable between a write and its response. Every write has an annotation with an id of
//! its own, so the object is read back, and the write repeated, until one of the two is answered or the deadline of the
//! batch has passed. Then the caller gets an error that says the outcome is unknown, and likewise if another writer has
//! changed the object before it could be read back. Success is never reported for a write that etcd has not accepted.
//!
//! # Start
//!
//! Loading waits some seconds for the first lists. If the API server is unreachable, the registry starts empty and the
//! objects follow when it is back; until then every write is refused, and [`StoreHealth`] reports it. If the custom
//! resources are not defined, or may not be read, the start fails, because an operator has to act.

mod counts;
mod finder;
mod import;
mod index;
mod keys;
mod kind;
mod lag;
mod name_races;
mod names;
mod object_cache;
mod operation_annotation;
mod renumber;
mod request;
pub mod resources;
mod shared;
mod status;
mod translate;
mod watch;
mod write;
mod zone_files;

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use crate::exposition::{Collect, Exposition};
use crate::kubernetes::{ClientError, Cluster};
use crate::model::ServiceId;
use crate::registry::{
    Change, ChangeNotifier, Finder, Group, Renumber, Settings, Store, StoreError, Verdict,
};

use finder::ClusterFinder;
use shared::{Progress, Shared};
use watch::WatchClients;

const LOAD_MS_MAX: u64 = 10_000;

/// A store of custom resources in one Kubernetes namespace.
pub struct KubernetesStore {
    shared: Arc<Shared>,
    runtime: Handle,
    tasks: Vec<JoinHandle<()>>,
}

/// A handle to the store's connection to the cluster; clones share it.
#[derive(Clone)]
pub struct StoreHealth {
    shared: Arc<Shared>,
}

impl StoreHealth {
    /// True once all kinds were listed. Before that, the store has no objects and refuses all writes.
    pub fn is_read(&self) -> bool {
        self.shared.index().is_read()
    }

    /// Time between the API server's response to a write of this server and its arrival in the watch, by kind.
    pub fn lag(&self) -> Vec<(&'static str, KindLag)> {
        let kinds = self.shared.lag.kinds(std::time::Instant::now()).into_iter();
        kinds.map(|(kind, lag)| (kind.plural(), lag)).collect()
    }

    /// The error that may have made the objects in memory outdated; `None` while all watches work.
    pub fn trouble(&self) -> Option<String> {
        let progress = self.shared.progress();
        let first = progress.trouble.iter().next();
        first.map(|(kind, what)| format!("{}: {what}", kind.plural()))
    }
}

impl KubernetesStore {
    /// Opens the store in a Kubernetes namespace, and starts to read it. `runtime` drives the client while other threads
    /// block in the store, so it needs threads of its own.
    ///
    /// `serves` is false for one-off commands, which write nothing on their own initiative.
    ///
    /// The API server need not be up.
    pub fn open(
        cluster: &Cluster,
        kube_namespace: &str,
        settings: Settings,
        runtime: Handle,
        serves: bool,
    ) -> Result<KubernetesStore, ClientError> {
        let (client, clients) = (cluster.client()?, WatchClients::new(cluster)?);
        let shared = Arc::new(Shared::new(&client, kube_namespace, settings, serves));
        let tasks = vec![
            runtime.spawn(watch::follow_all(shared.clone(), clients)),
            runtime.spawn(status::run(shared.clone())),
            runtime.spawn(renumber::run(shared.clone())),
        ];
        Ok(KubernetesStore { shared, runtime, tasks })
    }

    /// Returns a handle to the state of the store's connection.
    pub fn health(&self) -> StoreHealth {
        StoreHealth { shared: self.shared.clone() }
    }

    /// Returns a handle to the numbers of zone files that servers share.
    pub fn zone_files(&self) -> SharedZoneFiles {
        SharedZoneFiles::new(self.shared.clone(), self.runtime.clone())
    }

    /// Returns the task that keeps the counts in the statuses of services up to date.
    pub fn counts(&self) -> ServiceCounts {
        ServiceCounts::new(self.shared.clone())
    }

    /// Like [`Store::load`], but with an error if the API server does not answer.
    pub fn load_all(&mut self, sink: &mut dyn FnMut(Change)) -> Result<(), StoreError> {
        if !self.wait_until_read()? {
            let trouble = self.health().trouble().unwrap_or_default();
            return Err(StoreError {
                what: format!("the Kubernetes API does not answer: {trouble}"),
                source: None,
            });
        }
        with_revisions(self.changes()).into_iter().for_each(sink);
        Ok(())
    }

    /// Creates an object for everything that another store contained, with its numbers. This store has to be empty. A
    /// server has to be started after the import, because the numbers are read at the start.
    pub fn import(&mut self, changes: &[Change]) -> Result<(), StoreError> {
        self.load_all(&mut |_| {})?;
        let shared = self.shared.clone();
        let imported = self.runtime.block_on(import::import(&shared, changes));
        imported.map_err(|what| StoreError { what, source: None })
    }

    /// Waits for the first lists. `Ok(false)` if the API server does not answer in time.
    fn wait_until_read(&self) -> Result<bool, StoreError> {
        let progress = self.shared.progress();
        let waiting = |progress: &mut Progress| !progress.unread.is_empty() && progress.setup_error.is_none();
        let (progress, _) = self
            .shared
            .progressed
            .wait_timeout_while(progress, Duration::from_millis(LOAD_MS_MAX), waiting)
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(what) = &progress.setup_error {
            return Err(StoreError { what: what.clone(), source: None });
        }
        Ok(progress.unread.is_empty())
    }
}

impl Store for KubernetesStore {
    fn attach(&mut self, notifier: ChangeNotifier) {
        *self.shared.notifier.lock().unwrap_or_else(PoisonError::into_inner) = Some(notifier);
    }

    fn load(&mut self, sink: &mut dyn FnMut(Change)) -> Result<(), StoreError> {
        if !self.wait_until_read()? {
            tracing::warn!(
                namespace = self.shared.kube_namespace,
                milliseconds = LOAD_MS_MAX,
                "the Kubernetes API does not answer; nothing of the store is known until it does"
            );
        }
        self.changes().into_iter().for_each(sink);
        Ok(())
    }

    fn changes(&mut self) -> Vec<Change> {
        self.shared.index().drain()
    }

    fn may_lose(&self) -> bool {
        true
    }

    fn renumber(&mut self, wanted: Renumber) {
        self.shared.want_numbers(wanted);
    }

    fn finder(&self) -> Option<Arc<dyn Finder>> {
        Some(Arc::new(ClusterFinder::new(self.shared.clone())))
    }

    fn commit(&mut self, batch: &[Group]) -> Result<Vec<Verdict>, StoreError> {
        self.runtime.block_on(write::batch(&self.shared, batch))
    }
}

impl Drop for KubernetesStore {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// Adds the revisions that servers report to the changes, for a store that has no floor of numbers.
fn with_revisions(mut changes: Vec<Change>) -> Vec<Change> {
    let mut revisions: BTreeMap<ServiceId, u64> = BTreeMap::new();
    let mut floor = 0;
    for change in &changes {
        match change {
            Change::PutNumbering(numbering) => floor = numbering.floor,
            Change::PutService(service) => drop(revisions.entry(service.id.clone()).or_insert(0)),
            Change::PutRevision(service, revision) => drop(revisions.insert(service.clone(), *revision)),
            _ => {}
        }
    }
    let low = revisions.into_iter().filter(|(_, revision)| *revision < floor);
    changes.extend(low.map(|(service, _)| Change::PutRevision(service, floor)));
    changes
}

pub use counts::ServiceCounts;
pub use lag::KindLag;
pub use zone_files::{SharedZoneFiles, ZoneFileNumbers};

impl Collect for StoreHealth {
    fn collect(&self, out: &mut Exposition) {
        let is_stale = !self.is_read() || self.trouble().is_some();
        out.gauge("kubernetes_store_stale", "1 if the custom resources may be outdated here, otherwise 0.")
            .sample(&[], is_stale);
        let lag = self.lag();
        let mut family = out.counter(
            "kubernetes_store_lag_writes_total",
            "Writes of this server that its watch has received, by kind.",
        );
        for (kind, seen) in &lag {
            family.sample(&[("kind", kind)], seen.writes);
        }
        let mut family = out.counter(
            "kubernetes_store_lag_seconds_total",
            "Total time from the API server's response to such a write until the watch received it.",
        );
        for (kind, seen) in &lag {
            family.sample(&[("kind", kind)], seen.total.as_secs_f64());
        }
        let mut family = out.gauge(
            "kubernetes_store_lag_seconds",
            "Time until the watch received the last write, or the age of a pending write if it is longer.",
        );
        for (kind, seen) in &lag {
            family.sample(&[("kind", kind)], seen.last.as_secs_f64());
        }
    }
}
