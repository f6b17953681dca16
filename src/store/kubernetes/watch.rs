//! Lists and watches of all kinds, which run until the store is dropped.
//!
//! An object is removed by a deletion event of the watch, or because it is missing in a complete list; a list that fails
//! before its end removes nothing.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use kube::ResourceExt as _;
use kube::api::ListParams;
use kube::runtime::watcher::{self, Event};
use tokio::time::MissedTickBehavior;

use crate::kubernetes::{
    Backoff, ClientError, Cluster, Followed, Follower, ListEnd, ListTracker, ObservedClient, told,
};
use crate::model::Uid;
use crate::registry::Renumber;

use super::index::{Index, Removal};
use super::kind::{Kind, OfKind};
use super::names::STORE_OBJECT;
use super::object_cache::Name;
use super::renumber;
use super::resources::{
    CloudMapHealthReport, CloudMapInstance, CloudMapNamespace, CloudMapOperation, CloudMapService,
    CloudMapStore, GROUP,
};
use super::shared::Shared;
use super::translate::{uid_of, unsigned, version};

const PAGE_OBJECTS: u32 = 250;
/// The advice in errors about custom resource definitions that are missing or outdated.
pub(super) const APPLY_DEFINITIONS: &str = "apply the files of deploy/helm/cloudmap-dns/crds (kubectl apply -f \
                                            deploy/helm/cloudmap-dns/crds)";
/// Interval of checks for silence, and if an error is over, in milliseconds.
const TICK_MS: u64 = 250;

/// The known objects by name and uid, and the uids of those that this replica deleted.
type Inventory = (Vec<(Name, Uid)>, Vec<Uid>);

trait WatchedKind: Followed + OfKind {
    fn put(self, index: &mut Index);
    /// Sets the resourceVersion up to which the watch has delivered everything; 0 during a list.
    fn watched(index: &mut Index, version: u64);
    fn remove(index: &mut Index, name: &str, uid: Uid, removal: Removal);
    fn inventory(index: &Index) -> Inventory;
    fn forget(index: &mut Index, uid: Uid);
}

macro_rules! watched_kinds {
    ($($object:ident $cache:ident $put:ident $remove:ident;)*) => {$(
        impl WatchedKind for $object {
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
    CloudMapNamespace namespaces put_namespace remove_namespace;
    CloudMapService services put_service remove_service;
    CloudMapInstance instances put_instance remove_instance;
    CloudMapHealthReport reports put_report remove_report;
}

impl WatchedKind for CloudMapOperation {
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

/// Client for each kind, so that it is known for each when the API server answered its watch.
pub(super) struct WatchClients {
    namespaces: ObservedClient,
    services: ObservedClient,
    instances: ObservedClient,
    operations: ObservedClient,
    reports: ObservedClient,
    stores: ObservedClient,
}

impl WatchClients {
    pub(super) fn new(cluster: &Cluster) -> Result<WatchClients, ClientError> {
        Ok(WatchClients {
            namespaces: ObservedClient::new(cluster)?,
            services: ObservedClient::new(cluster)?,
            instances: ObservedClient::new(cluster)?,
            operations: ObservedClient::new(cluster)?,
            reports: ObservedClient::new(cluster)?,
            stores: ObservedClient::new(cluster)?,
        })
    }
}

/// Lists and watches all kinds. Never returns.
pub(super) async fn follow_all(shared: Arc<Shared>, clients: WatchClients) {
    let mut backoff = Backoff::default();
    // The offset is part of all numbers, so it has to be known before the first object.
    while let Err(error) = read_offset(&shared).await {
        shared.report(|progress| {
            progress.setup_error = action_needed(&shared.kube_namespace, &error);
            progress.trouble.insert(Kind::Store, told(&error));
        });
        tokio::time::sleep(backoff.delay()).await;
    }
    shared.report(|progress| {
        progress.setup_error = None;
        progress.trouble.clear();
    });
    let WatchClients { namespaces, services, instances, operations, reports, stores } = &clients;
    tokio::join!(
        follow::<CloudMapNamespace>(&shared, namespaces),
        follow::<CloudMapService>(&shared, services),
        follow::<CloudMapInstance>(&shared, instances),
        follow::<CloudMapOperation>(&shared, operations),
        follow::<CloudMapHealthReport>(&shared, reports),
        follow::<CloudMapStore>(&shared, stores),
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

async fn follow<K: WatchedKind>(shared: &Shared, client: &ObservedClient) {
    let config = watcher::Config::default().page_size(PAGE_OBJECTS);
    let follower = Follower::<K>::new(client, Some(&shared.kube_namespace), config);
    let mut follower = follower.reading_ahead(PAGE_OBJECTS as usize);
    let mut list = KindList::default();
    let mut tick = tokio::time::interval(Duration::from_millis(TICK_MS));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            Some(event) = follower.next() => match event {
                Ok(event) => {
                    let is_list_end = matches!(event, Event::InitDone);
                    apply(shared, &mut list, event).await;
                    if is_list_end {
                        follower.list_ended(ListEnd::Accepted, K::KIND.plural());
                    }
                }
                Err(error) => report::<K>(shared, &error).await,
            },
            _ = tick.tick() => {
                follower.restart_if_due();
                // A watch that has recovered delivers nothing until something changes.
                if follower.is_recovered() {
                    clear_trouble(shared, K::KIND);
                }
            }
        }
    }
}

/// List of one kind that is being read: the uids in it, and the objects that were known when it began.
#[derive(Default)]
struct KindList {
    tracker: ListTracker<Uid>,
    before: Inventory,
}

async fn apply<K: WatchedKind>(shared: &Shared, list: &mut KindList, event: Event<K>) {
    match event {
        Event::Init => {
            shared.update_index(|index| {
                K::watched(index, 0);
                list.before = K::inventory(index);
            });
            list.tracker.begin();
        }
        Event::InitApply(object) => {
            list.tracker.listed(&uid::<K>(&object));
            shared.update_index(|index| object.put(index));
        }
        Event::InitDone => {
            let (objects, gone) = std::mem::take(&mut list.before);
            let missing = list.tracker.accept(objects.iter(), |(_, uid)| uid);
            shared.update_index(|index| {
                missing.for_each(|(name, uid)| K::remove(index, name, *uid, Removal::Unlisted));
                gone.iter().for_each(|uid| K::forget(index, *uid));
            });
            shared.lag.listed(K::KIND);
            list_complete(shared, K::KIND).await;
        }
        Event::Apply(object) => {
            let version = version(object.meta());
            shared.update_index(|index| {
                object.put(index);
                K::watched(index, version);
            });
            shared.lag.delivered(K::KIND, version, Instant::now());
            clear_trouble(shared, K::KIND);
        }
        Event::Delete(object) => {
            let version = version(object.meta());
            shared.update_index(|index| {
                K::remove(index, &object.name_any(), uid::<K>(&object), Removal::At(version));
                K::watched(index, version);
            });
            shared.lag.delivered(K::KIND, version, Instant::now());
            clear_trouble(shared, K::KIND);
        }
    }
}

async fn report<K: WatchedKind>(shared: &Shared, error: &watcher::Error) {
    let list_error = match error {
        watcher::Error::InitialListFailed(error) => Some(error),
        _ => None,
    };
    let unreadable = list_error.and_then(|error| unreadable_reports::<K>(&shared.kube_namespace, error));
    if let Some(why) = unreadable {
        return continue_without_reports(shared, &why).await;
    }
    let what = told(error);
    tracing::warn!(kind = K::KIND.plural(), error = %what, "the watch of custom resources failed and is retried");
    shared.report(|progress| {
        if let Some(error) = list_error {
            progress.setup_error = action_needed(&shared.kube_namespace, error);
        }
        progress.trouble.insert(K::KIND, what);
    });
}

/// The reason why health reports cannot be read in a cluster that was set up for version 0.1.0: their kind is not
/// defined, or no role allows it. `None` for every other error.
fn unreadable_reports<K: WatchedKind>(kube_namespace: &str, error: &kube::Error) -> Option<String> {
    let kube::Error::Api(status) = error else { return None };
    match (K::KIND == Kind::HealthReport, status.code) {
        (true, 404) => {
            let plural = K::KIND.plural();
            Some(format!("the definition {plural}.{GROUP} is not applied: {APPLY_DEFINITIONS}"))
        }
        (true, 403) => action_needed(kube_namespace, error),
        _ => None,
    }
}

/// Continues without health reports, because an upgrade must not stop DNS when the new definitions are applied a moment
/// later. Until then there are no reports, and the API server rejects new ones.
async fn continue_without_reports(shared: &Shared, why: &str) {
    if shared.progress().unread.contains(&Kind::HealthReport) {
        tracing::warn!("health can't be reported for pods: {why}");
        list_complete(shared, Kind::HealthReport).await;
    }
}

fn uid<K: WatchedKind>(object: &K) -> Uid {
    match K::KIND {
        Kind::Operation => Uid::of(&object.name_any()),
        _ => uid_of(object),
    }
}

fn clear_trouble(shared: &Shared, kind: Kind) {
    if shared.progress().trouble.contains_key(&kind) {
        shared.report(|progress| drop(progress.trouble.remove(&kind)));
    }
}

async fn list_complete(shared: &Shared, kind: Kind) {
    clear_trouble(shared, kind);
    // A list contains the current objects, but not the numbers of the changes before it.
    shared.want_numbers(Renumber::everything());
    let is_last = {
        let mut progress = shared.progress();
        let is_last = progress.unread.len() == 1 && progress.unread.contains(&kind);
        if !is_last {
            progress.unread.remove(&kind);
        }
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
