//! State that the store shares with its tasks for watching, statuses and renumbering.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kube::{Api, Client};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::registry::{ChangeNotifier, Renumber, Settings};

use super::counts::Source;
use super::index::Index;
use super::kind::Kind;
use super::lag::Lag;
use super::request::{Object, version_of};
use super::resources::{
    CloudMapHealthReport, CloudMapInstance, CloudMapNamespace, CloudMapOperation, CloudMapService,
    CloudMapStore,
};

/// Connection to the cluster, with the index and the state of the tasks.
///
/// `index_changed` is notified on every change of the index, for writes that wait until the watch delivers an
/// object or a deletion. `counted` is the source of the counts in the statuses of services; `None` while no
/// registry is followed. `serves` is true for a server; one-off commands such as import and export do not renumber.
/// `writer_id` is the random id of this process, and the prefix of the ids of its writes.
pub(super) struct Shared {
    pub(super) index: Mutex<Index>,
    pub(super) progress: Mutex<Progress>,
    pub(super) progressed: Condvar,
    pub(super) index_changed: Notify,
    pub(super) notifier: Mutex<Option<ChangeNotifier>>,
    pub(super) unnumbered: Mutex<Renumber>,
    pub(super) renumber: Notify,
    pub(super) counted: Mutex<Option<Source>>,
    pub(super) serves: bool,
    pub(super) kube_namespace: String,
    pub(super) namespaces: Api<CloudMapNamespace>,
    pub(super) services: Api<CloudMapService>,
    pub(super) instances: Api<CloudMapInstance>,
    pub(super) operations: Api<CloudMapOperation>,
    pub(super) reports: Api<CloudMapHealthReport>,
    pub(super) stores: Api<CloudMapStore>,
    pub(super) writer_id: String,
    pub(super) writes: AtomicU64,
    pub(super) lag: Lag,
}

pub(super) trait StoreKind: Object {
    fn api(shared: &Shared) -> &Api<Self>;
}

macro_rules! store_kinds {
    ($($object:ident $api:ident;)*) => {$(
        impl StoreKind for $object {
            fn api(shared: &Shared) -> &Api<$object> {
                &shared.$api
            }
        }
    )*};
}

store_kinds! {
    CloudMapNamespace namespaces;
    CloudMapService services;
    CloudMapInstance instances;
    CloudMapOperation operations;
    CloudMapHealthReport reports;
    CloudMapStore stores;
}

/// Progress of the first lists, and the current errors of the watches by kind. `setup_error` is that of missing
/// definitions or permissions, which retrying does not solve.
#[derive(Default)]
pub(super) struct Progress {
    pub(super) unread: BTreeSet<Kind>,
    pub(super) setup_error: Option<String>,
    pub(super) trouble: BTreeMap<Kind, String>,
}

impl Shared {
    pub(super) fn new(client: &Client, kube_namespace: &str, settings: Settings, serves: bool) -> Shared {
        Shared {
            index: Mutex::new(Index::new(settings)),
            progress: Mutex::new(Progress { unread: Kind::ALL.into(), ..Progress::default() }),
            progressed: Condvar::new(),
            index_changed: Notify::new(),
            notifier: Mutex::new(None),
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
            stores: Api::namespaced(client.clone(), kube_namespace),
            writer_id: format!("{:012x}", fastrand::u64(..1 << 48)),
            writes: AtomicU64::new(0),
            lag: Lag::default(),
        }
    }

    pub(super) fn api<K: StoreKind>(&self) -> &Api<K> {
        K::api(self)
    }

    pub(super) fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the index, and wakes the registry if there are changes for it.
    pub(super) fn update_index<T>(&self, take: impl FnOnce(&mut Index) -> T) -> T {
        let (result, has_changes, to_renumber) = {
            let mut index = self.index();
            (take(&mut index), index.has_changes(), index.take_renumbering())
        };
        self.want_numbers(to_renumber);
        self.index_changed.notify_waiters();
        if has_changes && let Some(notifier) = &*self.notifier.lock().unwrap_or_else(PoisonError::into_inner)
        {
            notifier.notify();
        }
        result
    }

    pub(super) async fn wait_for<T>(
        &self,
        milliseconds: u64,
        mut look: impl FnMut(&Index) -> Option<T>,
    ) -> Option<T> {
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

    /// Records the API server's response to a write, to measure the time until the watch delivers it.
    pub(super) fn wrote<K: Object>(&self, object: &K) {
        self.lag.wrote(K::KIND, version_of(object), std::time::Instant::now());
    }

    pub(super) fn report(&self, change: impl FnOnce(&mut Progress)) {
        change(&mut self.progress());
        self.progressed.notify_all();
    }

    /// Returns a new id for a write or an object, unique among all servers.
    pub(super) fn unique(&self) -> String {
        format!("{}-{:x}", self.writer_id, self.writes.fetch_add(1, Ordering::Relaxed))
    }
}
