//! The store that several servers share. Namespaces, services, instances and health reports of pods are custom resources in
//! one Kubernetes namespace, and etcd decides between the servers. Operations are kept with the objects that they changed
//! (`carried`).
//!
//! Every replica lists and watches all objects, answers from them, and takes writes of the API. The watch is the only way
//! into the registry: also what this replica wrote itself becomes part of the state as the object that the API server
//! answered with. So all replicas that have seen the same objects hold the same state, with the same revisions and
//! operations, whoever wrote them: an API call at any replica, or kubectl.
//!
//! # How two replicas agree
//!
//! - *Creating the same*: the name of an object that the API writes follows from its id (`names`), so etcd accepts one of two.
//!   The other one has lost. DNS namespaces of one zone but of two kinds have two names: whoever creates one reads the other
//!   name after it, and takes its object back if the other one was created before (`claims`).
//! - *Changing the same*: an update or deletion names the version that it was planned on. If the object has moved on, or
//!   moved on before the plan was made without the plan knowing, it has lost.
//! - *Deleting an owner while another replica creates in it*: whoever deletes a namespace or service first marks its
//!   object, then lists what is in it, then deletes it. Whoever creates in it first creates the object, then reads the
//!   owner, and takes the object back if the owner is marked, gone or another one. Both reads come from etcd and not from
//!   a cache, so they see every write that was answered before them. Either the list comes after the creation, and the
//!   deletion has lost; or it comes before, then the mark came before the creation too, and the creation sees it and waits
//!   for the end of the deletion: the owner is gone, and the creation has lost, or the mark is. Never are both accepted,
//!   and both lose only if the deletion does not end in time. A mark whose replica died is cleared by who finds it old;
//!   that changes the object's version, so a deleter that was only slow loses. Instead of every owner, a creation reads one
//!   list of those that were marked of late (`write/marks.rs`).
//! - *Claiming one name in DNS in two services*: whoever creates an object whose name another service could have takes it
//!   back if a claimant was created before (`claims`).
//! - *Objects of any name, by hand*: where several claim one identity, the oldest stands, and the others' statuses say
//!   so. Deleting through the API deletes all that claim it.
//!
//! # Lost races
//!
//! A write that lost is not made, and its command is planned again on the new state, so that its caller gets the answer of
//! a single server that carried out both commands one after the other. The loser has read what won, or that the object is
//! gone, and waits until the watch has shown that: then the next plan is made of it, and the state has still come by the
//! watch alone, with the numbers that every replica gives it. An owner that is marked as being deleted is left alone until
//! the mark or the owner is gone. The registry limits how often a command may lose, and pauses before it is planned again;
//! the caller of one that loses every time is asked to retry.
//!
//! A request that is made again with its token returns the first operation, which the object carries.
//!
//! # Operations
//!
//! An operation that changes an object is in an annotation of that object, written with the change: one write for each. What
//! no object can carry, because it was deleted or nothing was changed, is written into a record at the end of the batch, one
//! for all such operations of the batch, with the operations that the deleted objects carried. A record is deleted once none
//! of its operations is kept any more; one that an object carries is forgotten in memory alone.
//!
//! # Asking the cluster
//!
//! The watch of a replica is some milliseconds behind what another one has acknowledged. Before the API answers that there is
//! no such namespace, service, instance or operation, the registry asks for it by its name, which follows from the id
//! (`finder`). What is read is taken in as the answer to an own write is.
//!
//! # Numbers
//!
//! Revisions and places in lists are numbers of etcd's, which counts the writes to the whole cluster in `resourceVersion`:
//! the number of a write is above all numbers before it, and no other write has it. They stay far below 2^53. An object's
//! number moves on when something else of it is written, therefore whoever writes a status puts the number into it, and
//! whoever writes the object before it has a status puts the number into an annotation. The number of an operation that an
//! object carries is chosen before the write, above all numbers that the replica knows; several operations may have one.
//! A service's revision is the highest number of the changes of its set of instances, and of the last renumbering;
//! `registry/numbering.rs` says why all replicas come to the same, and `renumber` writes.
//!
//! # When it is not known what became of a write
//!
//! The API server may go away between a write and its answer. Every write carries a mark of its own, so the object is
//! read back, and the write repeated, until one of both is answered or the batch's time is over. Then the caller is told
//! that it is not known; the same holds if another writer has changed the object before it could be read back. Nothing is
//! ever answered with success that etcd has not accepted.
//!
//! # At the start
//!
//! Loading waits some seconds for the first lists. If the API server is away, the registry starts empty and the lists come
//! in when it is back; until then every write is refused, and [`StoreHealth`] says so. If the custom resources are not
//! defined, or may not be read, the start fails, because somebody has to do something.

mod claims;
mod counts;
mod finder;
mod import;
mod index;
mod lag;
mod names;
mod object_cache;
mod operation_annotation;
mod renumber;
mod request;
pub mod resources;
mod retry;
mod status;
mod translate;
mod watch;
mod write;
mod zone_files;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kube::{Api, Client};
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::model::ServiceId;
use crate::registry::{Change, Finder, Group, News, Renumber, Settings, Store, StoreError, Verdict};

use counts::Source;
use finder::ClusterFinder;
use index::Index;
use lag::Lag;
use request::{Object, version_of};
use resources::{
    CloudMapHealthReport, CloudMapInstance, CloudMapNamespace, CloudMapOperation, CloudMapService,
    CloudMapStore,
};

/// How long the start waits for the first lists, in milliseconds.
const LOAD_MS_MAX: u64 = 10_000;
/// The object that holds what is true of the whole store.
const STORE_OBJECT: &str = "cloudmap-dns";

/// Custom resources in one Kubernetes namespace.
pub struct KubernetesStore {
    shared: Arc<Shared>,
    runtime: Handle,
    tasks: Vec<JoinHandle<()>>,
}

/// What the store's parts share.
struct Shared {
    index: Mutex<Index>,
    progress: Mutex<Progress>,
    /// Told whenever `progress` changes.
    progressed: Condvar,
    /// Notified whenever the index has read an object or a deletion, for writes that wait for one.
    index_changed: Notify,
    news: Mutex<Option<News>>,
    /// Resources that the next renumbering names.
    unnumbered: Mutex<Renumber>,
    /// Notified when there is something to be renumbered.
    renumber: Notify,
    /// Source of the counts in the statuses of services; `None` while no registry is followed.
    counted: Mutex<Option<Source>>,
    /// True for a server; other commands write no more than they are asked to.
    serves: bool,
    /// The Kubernetes namespace.
    kube_namespace: String,
    namespaces: Api<CloudMapNamespace>,
    services: Api<CloudMapService>,
    instances: Api<CloudMapInstance>,
    operations: Api<CloudMapOperation>,
    reports: Api<CloudMapHealthReport>,
    stores: Api<CloudMapStore>,
    /// Tells this process's writes from all others.
    writer_id: String,
    writes: AtomicU64,
    lag: Lag,
}

/// How far reading has come.
#[derive(Default)]
struct Progress {
    /// The kinds that are still to be listed for the first time.
    unread: Vec<&'static str>,
    /// Why the objects can't be read until somebody does something about it.
    setup_error: Option<String>,
    /// What is wrong now, by kind.
    trouble: BTreeMap<&'static str, String>,
}

/// Whether the store knows what is in the cluster. Clones are the same.
#[derive(Clone)]
pub struct StoreHealth {
    shared: Arc<Shared>,
}

impl StoreHealth {
    /// Whether everything was read once; before that nothing is known, and no change is taken.
    pub fn is_read(&self) -> bool {
        self.shared.index().is_read()
    }

    /// Time that the watch takes to show what this server wrote, by kind.
    pub fn lag(&self) -> Vec<(String, KindLag)> {
        self.shared.lag.kinds(std::time::Instant::now())
    }

    /// Why what is known may be old; `None` when it is up to date.
    pub fn trouble(&self) -> Option<String> {
        let progress = self.shared.progress();
        let first = progress.trouble.iter().next();
        first.map(|(kind, what)| format!("{kind}: {what}"))
    }
}

impl KubernetesStore {
    /// The store in the Kubernetes namespace `place`; starts to read it. `runtime` drives the client, and goes on while
    /// others block: it needs threads of its own.
    ///
    /// `serves` is false for commands that only read, or write what they are asked to.
    ///
    /// The client's read timeout has to be longer than [`WATCH_SECONDS`] and shorter than what an outage may go unnoticed.
    pub fn open(
        client: Client,
        kube_namespace: &str,
        settings: Settings,
        runtime: Handle,
        serves: bool,
    ) -> KubernetesStore {
        let shared = Arc::new(Shared {
            index: Mutex::new(Index::new(settings)),
            progress: Mutex::new(Progress { unread: watch::KINDS.to_vec(), ..Progress::default() }),
            progressed: Condvar::new(),
            index_changed: Notify::new(),
            news: Mutex::new(None),
            unnumbered: Mutex::default(),
            renumber: Notify::new(),
            counted: Mutex::default(),
            serves,
            kube_namespace: kube_namespace.into(),
            namespaces: Api::namespaced(client.clone(), kube_namespace),
            services: Api::namespaced(client.clone(), kube_namespace),
            instances: Api::namespaced(client.clone(), kube_namespace),
            operations: Api::namespaced(client.clone(), kube_namespace),
            reports: Api::namespaced(client.clone(), kube_namespace),
            stores: Api::namespaced(client, kube_namespace),
            writer_id: format!("{:012x}", fastrand::u64(..1 << 48)),
            writes: AtomicU64::new(0),
            lag: Lag::default(),
        });
        let tasks = vec![
            runtime.spawn(watch::follow_all(shared.clone())),
            runtime.spawn(status::run(shared.clone())),
            runtime.spawn(renumber::run(shared.clone())),
        ];
        KubernetesStore { shared, runtime, tasks }
    }

    /// What it knows of itself.
    pub fn health(&self) -> StoreHealth {
        StoreHealth { shared: self.shared.clone() }
    }

    /// Keeps the counts in the statuses of services.
    pub fn counts(&self) -> ServiceCounts {
        ServiceCounts::new(self.shared.clone())
    }

    /// As [`Store::load`], but an API server that does not answer is an error.
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

    /// Makes objects of everything that another store held, with its numbers. This store has to be empty, and what serves
    /// it reads the numbers at its start.
    pub fn import(&mut self, changes: &[Change]) -> Result<(), StoreError> {
        self.load_all(&mut |_| {})?;
        let shared = self.shared.clone();
        let imported = self.runtime.block_on(import::import(&shared, changes));
        imported.map_err(|what| StoreError { what, source: None })
    }

    /// Waits for the first lists. `Ok(false)` when the API server does not answer in time.
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
    fn attach(&mut self, news: News) {
        *self.shared.news.lock().unwrap_or_else(PoisonError::into_inner) = Some(news);
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

impl Shared {
    fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets the index take something in, and wakes the registry if that changed anything.
    fn update_index<T>(&self, take: impl FnOnce(&mut Index) -> T) -> T {
        let (result, has_changes, to_renumber) = {
            let mut index = self.index();
            (take(&mut index), index.has_changes(), index.take_renumbering())
        };
        self.want_numbers(to_renumber);
        self.index_changed.notify_waiters();
        if has_changes && let Some(news) = &*self.news.lock().unwrap_or_else(PoisonError::into_inner) {
            news.tell();
        }
        result
    }

    /// Waits until the index shows something, and returns it; `None` if it does not within `milliseconds`.
    async fn wait_for<T>(&self, milliseconds: u64, mut look: impl FnMut(&Index) -> Option<T>) -> Option<T> {
        let end = Instant::now() + Duration::from_millis(milliseconds);
        loop {
            let index_changed = self.index_changed.notified();
            let shown = look(&self.index());
            if shown.is_some() {
                return shown;
            }
            tokio::time::timeout_at(end, index_changed).await.ok()?;
        }
    }

    /// Notes a write that the API server has answered, to measure when the watch shows it.
    fn wrote<K: Object>(&self, object: &K) {
        self.lag.wrote(&K::plural(&()), version_of(object), std::time::Instant::now());
    }

    fn report(&self, change: impl FnOnce(&mut Progress)) {
        change(&mut self.progress());
        self.progressed.notify_all();
    }

    /// A name for a write, or an object, that no other has.
    fn unique(&self) -> String {
        format!("{}-{:x}", self.writer_id, self.writes.fetch_add(1, Ordering::Relaxed))
    }
}

/// Changes with the revisions that servers show, for a store that knows no floor.
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
pub use watch::WATCH_SECONDS;
pub use zone_files::{SharedZoneFiles, ZoneFileNumbers};
