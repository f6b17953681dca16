//! Lists and watches of all kinds, which run until the store is dropped.
//!
//! An object is removed by a deletion event of the watch, or because it is missing in a complete list; a list that fails
//! before its end removes nothing.

use std::collections::HashSet;
use std::fmt::Debug;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use kube::api::ListParams;
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch};
use kube::{Api, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::kubernetes::told;
use crate::model::Uid;
use crate::registry::Renumber;

use super::index::{Index, Removal};
use super::names::STORE_OBJECT;
use super::object_cache::Name;
use super::renumber;
use super::resources::{
    CloudMapHealthReport, CloudMapInstance, CloudMapNamespace, CloudMapOperation, CloudMapService,
    CloudMapStore, GROUP,
};
use super::retry::RetryBackoff;
use super::shared::Shared;
use super::translate::{uid_of, unsigned, version};

/// Duration of one watch request in seconds, after which the next one continues where it ended. A connection that is
/// silent for longer is dead.
pub const WATCH_SECONDS: u32 = 30;
const PAGE_OBJECTS: usize = 250;
/// The advice in errors about custom resource definitions that are missing or outdated.
pub(super) const APPLY_DEFINITIONS: &str = "apply the files of deploy/helm/cloudmap-dns/crds (kubectl apply -f \
                                            deploy/helm/cloudmap-dns/crds)";
/// Interval between checks whether an unreachable API server answers again, in milliseconds.
const PROBE_MS: u64 = 2_000;

pub(super) const KINDS: [&str; 6] = [
    "cloudmapnamespaces",
    "cloudmapservices",
    "cloudmapinstances",
    "cloudmapoperations",
    CloudMapHealthReport::KIND,
    CloudMapStore::KIND,
];

/// The known objects by name and uid, and the uids of those that this replica deleted.
type Inventory = (Vec<(Name, Uid)>, Vec<Uid>);

trait WatchedKind: Clone + Debug + DeserializeOwned + Resource<DynamicType = ()> + Send + Sync + 'static {
    const KIND: &'static str;

    fn put(self, index: &mut Index);
    /// Sets the resourceVersion up to which the watch has delivered everything; 0 during a list.
    fn watched(index: &mut Index, version: u64);
    fn remove(index: &mut Index, name: &str, uid: Uid, removal: Removal);
    fn inventory(index: &Index) -> Inventory;
    fn forget(index: &mut Index, uid: Uid);
}

macro_rules! watched_kinds {
    ($($object:ident $kind:literal $cache:ident $put:ident $remove:ident;)*) => {$(
        impl WatchedKind for $object {
            const KIND: &'static str = $kind;

            fn put(self, index: &mut Index) {
                index.$put(self);
            }

            fn watched(index: &mut Index, version: u64) {
                index.$cache.watched_version = version;
            }

            fn remove(index: &mut Index, name: &str, uid: Uid, removal: Removal) {
                index.$remove(name, uid, removal);
            }

            fn inventory(index: &Index) -> Inventory {
                index.$cache.inventory()
            }

            fn forget(index: &mut Index, uid: Uid) {
                index.$cache.forget(uid);
            }
        }
    )*};
}

watched_kinds! {
    CloudMapNamespace "cloudmapnamespaces" namespaces put_namespace remove_namespace;
    CloudMapService "cloudmapservices" services put_service remove_service;
    CloudMapInstance "cloudmapinstances" instances put_instance remove_instance;
    CloudMapHealthReport "cloudmaphealthreports" reports put_report remove_report;
}

impl WatchedKind for CloudMapOperation {
    const KIND: &'static str = "cloudmapoperations";

    fn put(self, index: &mut Index) {
        index.put_operation(&self);
    }

    fn watched(_index: &mut Index, _version: u64) {}

    fn remove(index: &mut Index, name: &str, _uid: Uid, _removal: Removal) {
        index.remove_operation(name);
    }

    fn inventory(index: &Index) -> Inventory {
        // The name serves as the uid, because names of operations are never reused.
        let names = index.operation_inventory().into_iter();
        (names.map(|name| (name.clone(), Uid::of(&name))).collect(), Vec::new())
    }

    fn forget(_index: &mut Index, _uid: Uid) {}
}

impl WatchedKind for CloudMapStore {
    const KIND: &'static str = "cloudmapstores";

    fn put(self, index: &mut Index) {
        renumber::put(index, &self);
    }

    fn watched(_index: &mut Index, _version: u64) {}

    fn remove(_index: &mut Index, _name: &str, _uid: Uid, _removal: Removal) {}

    fn inventory(_index: &Index) -> Inventory {
        Inventory::default()
    }

    fn forget(_index: &mut Index, _uid: Uid) {}
}

/// Lists and watches all kinds. Never returns.
pub(super) async fn follow_all(shared: Arc<Shared>) {
    let mut backoff = RetryBackoff::default();
    // The offset is part of all numbers, so it has to be known before the first object.
    while let Err(error) = read_offset(&shared).await {
        shared.report(|progress| {
            progress.setup_error = action_needed(&shared.kube_namespace, &error);
            progress.trouble.insert("cloudmapstores", told(&error));
        });
        tokio::time::sleep(backoff.next().unwrap_or_default()).await;
    }
    shared.report(|progress| {
        progress.setup_error = None;
        progress.trouble.clear();
    });
    tokio::join!(
        follow(&shared, shared.namespaces.clone()),
        follow(&shared, shared.services.clone()),
        follow(&shared, shared.instances.clone()),
        follow(&shared, shared.operations.clone()),
        follow(&shared, shared.reports.clone()),
        follow(&shared, shared.stores.clone()),
        probe(&shared),
    );
}

async fn read_offset(shared: &Shared) -> Result<(), kube::Error> {
    // Unlike a get, a list distinguishes between a kind that is not defined and a missing object.
    let stores = shared.stores.list(&ListParams::default()).await?;
    let ours = stores.items.iter().find(|store| store.metadata.name.as_deref() == Some(STORE_OBJECT));
    let offset = ours.and_then(|store| unsigned(Some(store.spec.number_offset)));
    let now = stores.metadata.resource_version.as_deref().and_then(|text| text.parse().ok());
    shared.update_index(|index| {
        index.set_offset(offset.unwrap_or(0));
        // Numbers that a replica assigned without storing them before its last restart are below this one.
        index.observe(now.unwrap_or(0));
    });
    Ok(())
}

async fn follow<K: WatchedKind>(shared: &Shared, api: Api<K>) {
    // The next page is read and decoded while the index applies the objects of the current one.
    let (sender, mut events) = mpsc::channel(PAGE_OBJECTS);
    let mut ahead = JoinSet::new();
    ahead.spawn(async move {
        let config = watch::Config::default().timeout(WATCH_SECONDS).page_size(PAGE_OBJECTS as u32);
        let mut read = pin!(watch(api, config).backoff(RetryBackoff::default()));
        while let Some(event) = read.next().await
            && sender.send(event).await.is_ok()
        {}
    });
    let mut before: Inventory = Inventory::default();
    let mut listed: HashSet<Uid> = HashSet::new();
    while let Some(event) = events.recv().await {
        match event {
            Ok(Event::Init) => {
                shared.update_index(|index| {
                    K::watched(index, 0);
                    before = K::inventory(index);
                });
                listed.clear();
            }
            Ok(Event::InitApply(object)) => {
                listed.insert(uid::<K>(&object));
                shared.update_index(|index| object.put(index));
            }
            Ok(Event::InitDone) => {
                let (objects, gone) = std::mem::take(&mut before);
                shared.update_index(|index| {
                    for (name, uid) in objects.iter().filter(|(_, uid)| !listed.contains(uid)) {
                        K::remove(index, name, *uid, Removal::Unlisted);
                    }
                    gone.iter().for_each(|uid| K::forget(index, *uid));
                });
                shared.lag.listed(K::KIND);
                listed.clear();
                listed.shrink_to_fit();
                list_complete::<K>(shared).await;
            }
            Ok(Event::Apply(object)) => {
                let version = version(object.meta());
                shared.update_index(|index| {
                    object.put(index);
                    K::watched(index, version);
                });
                shared.lag.delivered(K::KIND, version, Instant::now());
                clear_trouble::<K>(shared);
            }
            Ok(Event::Delete(object)) => {
                let version = version(object.meta());
                shared.update_index(|index| {
                    K::remove(index, &object.name_any(), uid::<K>(&object), Removal::At(version));
                    K::watched(index, version);
                });
                shared.lag.delivered(K::KIND, version, Instant::now());
                clear_trouble::<K>(shared);
            }
            Err(error) => {
                if let watcher::Error::InitialListFailed(error) = &error
                    && let Some(why) = unreadable_reports::<K>(&shared.kube_namespace, error)
                {
                    continue_without_reports(shared, &why).await;
                    continue;
                }
                let what = told(&error);
                tracing::warn!(kind = K::KIND, error = %what, "the watch of custom resources failed and is retried");
                shared.report(|progress| {
                    if let watcher::Error::InitialListFailed(error) = &error {
                        progress.setup_error = action_needed(&shared.kube_namespace, error);
                    }
                    progress.trouble.insert(K::KIND, what);
                });
            }
        }
    }
}

/// The reason why health reports cannot be read in a cluster that was set up for version 0.1.0: their kind is not
/// defined, or no role allows it. `None` for every other error.
fn unreadable_reports<K: WatchedKind>(kube_namespace: &str, error: &kube::Error) -> Option<String> {
    let kube::Error::Api(status) = error else { return None };
    match (K::KIND == CloudMapHealthReport::KIND, status.code) {
        (true, 404) => {
            Some(format!("the definition {}.{GROUP} is not applied: {APPLY_DEFINITIONS}", K::KIND))
        }
        (true, 403) => action_needed(kube_namespace, error),
        _ => None,
    }
}

/// Continues without health reports, because an upgrade must not stop DNS when the new definitions are applied a moment
/// later. Until then there are no reports, and the API server rejects new ones.
async fn continue_without_reports(shared: &Shared, why: &str) {
    if shared.progress().unread.contains(&CloudMapHealthReport::KIND) {
        tracing::warn!("health can't be reported for pods: {why}");
        list_complete::<CloudMapHealthReport>(shared).await;
    }
}

fn uid<K: WatchedKind>(object: &K) -> Uid {
    match K::KIND {
        "cloudmapoperations" => Uid::of(&object.name_any()),
        _ => uid_of(object),
    }
}

fn clear_trouble<K: WatchedKind>(shared: &Shared) {
    if shared.progress().trouble.contains_key(K::KIND) {
        shared.report(|progress| drop(progress.trouble.remove(K::KIND)));
    }
}

async fn list_complete<K: WatchedKind>(shared: &Shared) {
    clear_trouble::<K>(shared);
    // A list contains the current objects, but not the numbers of the changes before it.
    shared.want_numbers(Renumber::everything());
    let is_last = {
        let mut progress = shared.progress();
        let is_last = progress.unread == [K::KIND];
        progress.unread.retain(|kind| *kind != K::KIND || is_last);
        is_last
    };
    if is_last {
        renumber::begin(shared).await;
        shared.update_index(Index::read);
        // If the first renumbering failed, everything still has to be renumbered.
        shared.renumber.notify_one();
        tracing::info!(namespace = shared.kube_namespace, "all custom resources are listed");
        shared.report(|progress| progress.unread.clear());
    }
}

/// Clears errors when the API server answers again, because a watch that has recovered delivers nothing until something
/// changes.
async fn probe(shared: &Shared) {
    loop {
        tokio::time::sleep(Duration::from_millis(PROBE_MS)).await;
        let is_read = shared.index().is_read();
        if !is_read || shared.progress().trouble.is_empty() {
            continue;
        }
        let one = ListParams::default().limit(1);
        let list = shared.namespaces.list(&one);
        let answered = tokio::time::timeout(Duration::from_millis(PROBE_MS), list).await;
        if matches!(answered, Ok(Ok(_))) {
            shared.report(|progress| progress.trouble.clear());
        }
    }
}

/// Returns what an operator has to do about an error, if retrying does not solve it.
fn action_needed(kube_namespace: &str, error: &kube::Error) -> Option<String> {
    let kube::Error::Api(status) = error else { return None };
    match status.code {
        404 => Some(format!(
            "the Kubernetes API does not know the custom resources of {GROUP}: {APPLY_DEFINITIONS}, then start again"
        )),
        401 | 403 => Some(format!(
            "the custom resources of {GROUP} in the namespace {kube_namespace} may not be read ({}): \
             give this server's account the verbs get, list, watch, create, update, patch and delete on them",
            status.message
        )),
        _ => None,
    }
}
