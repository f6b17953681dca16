//! Reconciler of the mirror, for the time in which this process is the leader. It lists and watches the objects in the
//! cluster, computes the desired ones from the registry, and writes the differences.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::stream::{self, Stream, StreamExt as _};
use k8s_openapi::api::core::v1::{Endpoints, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::runtime::watcher::{self, Event};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::cache::{Action, LiveObject, ObjectCache};
use super::desired::ObjectBuilder;
use super::labels::{INSTALLATION, MANAGED_BY, OWNER};
use super::names;
use super::object::{Key, Kind, MirrorForm, Object};
use super::status::{MirrorStatus, Numbers};
use super::writer::{Failure, Writer, live_object};
use crate::kubernetes::background::until;
use crate::kubernetes::backoff::Backoff;
use crate::kubernetes::client::error_text;
use crate::kubernetes::follow::{Followed, Follower, ObservedClient};
use crate::kubernetes::leader::Leadership;
use crate::kubernetes::pod_table::{ChangedServices, PodTable};
use crate::kubernetes::status::WatchStatus;
use crate::model::NamespaceId;
use crate::registry::{self, Registry};

const COALESCE_MS: u64 = 100;
/// Interval at which it is checked if all pods are known, in milliseconds.
const PODS_CHECK_MS: u64 = 250;
const WRITES_PER_SECOND_MAX: u64 = 50;
/// Burst of writes that may be made at once after a pause.
const WRITES_AT_ONCE_MAX: u64 = 25;
/// Services whose problems are logged; metrics count all of them.
const PROBLEMS_LOGGED_MAX: usize = 20;
/// Interval at which the status is updated while there is work, in milliseconds.
const STATUS_MS: u64 = 250;
/// Delays before an object is written again, in milliseconds: if somebody else's object has its name, if the API server
/// refused it, and if it was changed meanwhile.
const CLASH_RETRY_MS: u64 = 15_000;
const REFUSED_RETRY_MS: u64 = 30_000;
const STALE_RETRY_MS: u64 = 1_000;

/// Event of the watch of one kind, reduced to the parts that the mirror uses.
enum ObjectEvent {
    ListStarted(Kind),
    Present(Key, LiveObject),
    Deleted(Key, String),
    ListCompleted(Kind),
    Failed(Kind, String),
}

type ObjectEvents = Pin<Box<dyn Stream<Item = ObjectEvent> + Send>>;

/// Work queue of services: each is queued once, and the one that waits longest is first.
#[derive(Default)]
struct WorkQueue {
    order: VecDeque<Box<str>>,
    members: HashSet<Box<str>>,
}

impl WorkQueue {
    fn push(&mut self, service: Box<str>) {
        if self.members.insert(service.clone()) {
            self.order.push_back(service);
        }
    }

    fn pop(&mut self) -> Option<Box<str>> {
        let service = self.order.pop_front()?;
        self.members.remove(&service);
        Some(service)
    }
}

/// Task that mirrors the registry in the cluster while this process is the leader. Nothing is written before the
/// watch of `pods` knows all of them, because the addresses of the others would be removed.
pub(in crate::kubernetes) struct Mirror {
    pub(in crate::kubernetes) client: ObservedClient,
    pub(in crate::kubernetes) registry: Registry,
    pub(in crate::kubernetes) leadership: Leadership,
    pub(in crate::kubernetes) form: MirrorForm,
    pub(in crate::kubernetes) endpoints: bool,
    pub(in crate::kubernetes) installation: String,
    pub(in crate::kubernetes) pods: Arc<WatchStatus>,
    pub(in crate::kubernetes) pod_table: Arc<PodTable>,
    pub(in crate::kubernetes) status: Arc<MirrorStatus>,
}

impl Mirror {
    /// Writes whenever this process is the leader, until it is `stopped`.
    pub(in crate::kubernetes) async fn run(self, stopped: watch::Receiver<bool>) {
        let reconcile = || MirrorReconciler::new(&self).run();
        self.leadership.lead(stopped, reconcile, || self.status.clear()).await;
    }
}

/// Services that are queued again at a later time, each once.
#[derive(Default)]
struct Delayed {
    order: BTreeSet<(Instant, Box<str>)>,
    times: HashMap<Box<str>, Instant>,
}

impl Delayed {
    fn set(&mut self, service: Box<str>, at: Instant) {
        self.remove(&service);
        self.times.insert(service.clone(), at);
        self.order.insert((at, service));
    }

    fn remove(&mut self, service: &str) {
        if let Some(at) = self.times.remove(service) {
            self.order.remove(&(at, service.into()));
        }
    }

    fn next(&self) -> Option<Instant> {
        self.order.first().map(|(at, _)| *at)
    }

    fn pop_due(&mut self, now: Instant) -> Option<Box<str>> {
        let (_, service) = self.order.first().filter(|(at, _)| *at <= now)?.clone();
        self.remove(&service);
        Some(service)
    }
}

/// State of the reconciler. `listed` has the kinds whose first list is complete, `names` the Kubernetes namespace of
/// each Cloud Map namespace, `delayed` the services that are queued again at a later time, and `problems` the objects
/// that could not be written, by service. Nothing is written before `paused_until`, because the API server is away.
struct MirrorReconciler<'m> {
    mirror: &'m Mirror,
    writer: Writer,
    cache: ObjectCache,
    listed: HashSet<Kind>,
    names: HashMap<NamespaceId, Box<str>>,
    queue: WorkQueue,
    delayed: Delayed,
    problems: BTreeMap<Box<str>, BTreeMap<Key, Failure>>,
    next_write: Instant,
    backoff: Backoff,
    paused_until: Instant,
    unavailable: Option<String>,
    next_status: Instant,
    endpoints_missed: bool,
}

impl<'m> MirrorReconciler<'m> {
    fn new(mirror: &'m Mirror) -> MirrorReconciler<'m> {
        let now = Instant::now();
        MirrorReconciler {
            mirror,
            writer: Writer::new(mirror.client.client(), &mirror.installation),
            cache: ObjectCache::default(),
            listed: HashSet::new(),
            names: HashMap::new(),
            queue: WorkQueue::default(),
            delayed: Delayed::default(),
            problems: BTreeMap::new(),
            next_write: now,
            backoff: Backoff::default(),
            paused_until: now,
            unavailable: None,
            next_status: now,
            endpoints_missed: false,
        }
    }

    /// Reconciles until it is dropped, when this process stops being the leader.
    async fn run(mut self) {
        let touched = self.mirror.registry.subscribe();
        let selector = format!("{MANAGED_BY}={OWNER},{INSTALLATION}={}", self.mirror.installation);
        let client = &self.mirror.client;
        let mut events = stream::select_all([
            object_events(client, &selector, Kind::Service, Object::of_service as fn(&Service) -> _),
            object_events(
                client,
                &selector,
                Kind::EndpointSlice,
                Object::of_slice as fn(&EndpointSlice) -> _,
            ),
        ]);
        if self.mirror.endpoints {
            let read = Object::of_endpoints as fn(&Endpoints) -> _;
            events.push(object_events(client, &selector, Kind::Endpoints, read));
        }
        let pod_table = &*self.mirror.pod_table;
        touched.take();
        pod_table.take_changed();
        self.enqueue_all();
        let mut collect_at = None;
        loop {
            let now = Instant::now();
            let has_synced = self.mirror.pods.has_synced();
            let can_reconcile = self.is_listed() && has_synced && !self.queue.order.is_empty();
            let next_delayed = self.delayed.next();
            tokio::select! {
                // None of the streams ever ends.
                Some(event) = events.next() => self.handle_event(event),
                () = touched.wait(), if collect_at.is_none() => {
                    collect_at = Some(now + Duration::from_millis(COALESCE_MS));
                }
                () = pod_table.changed(), if collect_at.is_none() => {
                    collect_at = Some(now + Duration::from_millis(COALESCE_MS));
                }
                () = until(collect_at) => {
                    collect_at = None;
                    self.touched(touched.take());
                    self.pods_changed(pod_table.take_changed());
                }
                () = until(next_delayed) => self.enqueue_delayed(),
                () = sleep_until(now + Duration::from_millis(PODS_CHECK_MS)), if !has_synced => {}
                () = sleep_until(self.paused_until), if can_reconcile => self.reconcile_next().await,
            }
            if self.queue.order.is_empty() || Instant::now() >= self.next_status {
                self.next_status = Instant::now() + Duration::from_millis(STATUS_MS);
                self.publish_status();
            }
        }
    }

    fn handle_event(&mut self, event: ObjectEvent) {
        match event {
            ObjectEvent::ListStarted(kind) => self.cache.list_begins(kind),
            ObjectEvent::Present(key, actual) => {
                for service in self.cache.upsert(key, actual) {
                    self.enqueue(service);
                }
            }
            ObjectEvent::Deleted(key, uid) => {
                if let Some(service) = self.cache.remove_version(&key, &uid) {
                    self.enqueue(service);
                }
            }
            ObjectEvent::ListCompleted(kind) => {
                for service in self.cache.list_ends(kind) {
                    self.enqueue(service);
                }
                if self.listed.insert(kind) && kind == Kind::Endpoints {
                    // Services that were written before this list have no Endpoints yet.
                    self.enqueue_all();
                }
            }
            ObjectEvent::Failed(kind, why) => {
                self.mirror.status.errors.fetch_add(1, Ordering::Relaxed);
                tracing::debug!(
                    error = why,
                    kind = kind.as_str(),
                    "the watch of mirrored objects had an error"
                );
                if kind != Kind::Endpoints {
                    if !self.is_listed() {
                        self.unavailable = Some(why);
                    }
                } else if self.lacks_endpoints() && !std::mem::replace(&mut self.endpoints_missed, true) {
                    tracing::warn!(
                        error = why,
                        "Endpoints can't be listed, so the mirror has none; let the account get, list, watch, create, patch \
                         and delete them, or set --mirror-endpoints off"
                    );
                }
            }
        }
    }

    /// True once Services and EndpointSlices are listed. Nothing is written before that.
    fn is_listed(&self) -> bool {
        [Kind::Service, Kind::EndpointSlice].iter().all(|kind| self.listed.contains(kind))
    }

    /// True if Endpoints are wanted and not listed yet. Then Endpoints alone are neither written nor deleted.
    fn lacks_endpoints(&self) -> bool {
        self.mirror.endpoints && !self.listed.contains(&Kind::Endpoints)
    }

    fn enqueue(&mut self, service: Box<str>) {
        self.queue.push(service);
    }

    fn enqueue_all(&mut self) {
        let state = self.mirror.registry.state();
        self.names = names::namespaces(&state);
        for (_, service) in state.services_after(None) {
            if self.names.contains_key(&service.service.namespace_id) {
                self.enqueue(service.service.id.as_str().into());
            }
        }
        let known: Vec<Box<str>> = self.cache.services().map(Into::into).collect();
        known.into_iter().for_each(|service| self.enqueue(service));
    }

    fn touched(&mut self, events: HashSet<registry::Event>) {
        let mut has_namespaces = false;
        for event in events {
            match event {
                registry::Event::Service(id) => self.enqueue(id.as_str().into()),
                registry::Event::Namespace(_) => has_namespaces = true,
                registry::Event::Serial(_) => {}
            }
        }
        if has_namespaces {
            self.namespaces_changed();
        }
    }

    fn pods_changed(&mut self, changed: ChangedServices) {
        match changed {
            ChangedServices::Some(services) => {
                services.iter().for_each(|service| self.enqueue(service.as_str().into()));
            }
            ChangedServices::All => self.enqueue_all(),
        }
    }

    /// Queues the services whose Kubernetes namespace has another name now, because their objects move.
    fn namespaces_changed(&mut self) {
        let state = self.mirror.registry.state();
        let names = names::namespaces(&state);
        let moved: Vec<_> = names.iter().filter(|(id, name)| self.names.get(*id) != Some(name)).collect();
        for (id, _) in moved {
            let Ok(namespace) = state.namespace(id.as_str()) else { continue };
            for (_, service) in namespace.services_after(None) {
                self.queue.push(service.as_str().into());
            }
        }
        self.names = names;
    }

    fn enqueue_delayed(&mut self) {
        let now = Instant::now();
        while let Some(service) = self.delayed.pop_due(now) {
            self.enqueue(service);
        }
    }

    /// Writes the differences for the service that waits longest.
    async fn reconcile_next(&mut self) {
        let Some(service) = self.queue.pop() else { return };
        self.delayed.remove(&service);
        let desired = self.desired_objects(&service);
        if desired.is_empty() {
            self.cache.forget_ports(&service);
        }
        let actions = self.cache.plan(&service, desired);
        let problems_before = self.problems.remove(&service);
        let lacks_endpoints = self.lacks_endpoints();
        let is_possible = |action: &Action| {
            let (Action::Apply(Object { key, .. }, _) | Action::Delete(key, _)) = action;
            key.kind != Kind::Endpoints || !lacks_endpoints
        };
        let mut actions: VecDeque<_> = actions.into_iter().filter(is_possible).collect();
        let mut retry_ms = None;
        while let Some(action) = actions.pop_front() {
            self.throttle().await;
            if !self.mirror.leadership.is_held() {
                // The Lease has run out, but it may be renewed before its loss is reported, so the work is repeated.
                self.paused_until = Instant::now() + self.backoff.delay();
                return self.enqueue(service);
            }
            let (Action::Apply(Object { key, .. }, _) | Action::Delete(key, _)) = &action;
            let key = key.clone();
            let Err(failure) = self.execute(&action).await else { continue };
            self.mirror.status.errors.fetch_add(1, Ordering::Relaxed);
            let was_logged = problems_before.as_ref().is_some_and(|before| before.contains_key(&key))
                || self.problems.len() >= PROBLEMS_LOGGED_MAX;
            match &failure {
                Failure::Unavailable(why) => {
                    self.paused_until = Instant::now() + self.backoff.delay();
                    if self.unavailable.replace(why.clone()).is_none() {
                        tracing::warn!(error = why, "the mirror can't be written, and is tried again");
                    }
                    return self.enqueue(service);
                }
                Failure::Stale => {
                    retry_ms = Some(STALE_RETRY_MS);
                    if let Some(concerned) = self.cache.remove(&key) {
                        self.enqueue(concerned);
                    }
                    continue;
                }
                Failure::Clash(owner) => {
                    retry_ms = Some(CLASH_RETRY_MS);
                    if !was_logged {
                        tracing::warn!(kind = key.kind.as_str(), namespace = %key.namespace, name = %key.name, owner,
                            service = %service, "the mirror needs a name that an object of somebody else has");
                    }
                }
                Failure::Refused(why) => {
                    retry_ms = Some(REFUSED_RETRY_MS);
                    if !was_logged {
                        tracing::warn!(kind = key.kind.as_str(), namespace = %key.namespace, name = %key.name,
                            error = why, "the API server refuses an object of the mirror");
                    }
                }
            }
            if key.kind == Kind::Service && matches!(action, Action::Apply(..)) {
                if matches!(failure, Failure::Clash(_)) {
                    // Slices and Endpoints would belong to a Service of somebody else, so they are deleted.
                    let removals = self.cache.plan(&service, Vec::new());
                    actions = removals.into_iter().filter(is_possible).collect();
                } else if !self.cache.has(&key) {
                    // There is no Service for them yet.
                    actions.clear();
                }
            }
            self.problems.entry(service.clone()).or_default().insert(key, failure);
        }
        if let Some(retry_ms) = retry_ms {
            self.delayed.set(service, Instant::now() + Duration::from_millis(retry_ms));
        }
    }

    fn desired_objects(&self, service: &str) -> Vec<Object> {
        let registry = &self.mirror.registry;
        let state = registry.state();
        let Ok(found) = state.service(service) else { return Vec::new() };
        let Some(namespace) = self.names.get(&found.service.namespace_id) else { return Vec::new() };
        let health = &registry.settings().health;
        let installation = &self.mirror.installation;
        let (identity, pods) = (registry.identity(), &*self.mirror.pod_table);
        let (form, endpoints) = (self.mirror.form, self.mirror.endpoints);
        let builder = ObjectBuilder { installation, identity, health, form, endpoints, pods };
        builder.objects(&state, found, namespace, self.cache.ports(service))
    }

    async fn execute(&mut self, action: &Action) -> Result<(), Failure> {
        match action {
            Action::Apply(object, uid) => {
                let actual = self.writer.apply(object, uid.as_deref()).await?;
                self.cache.upsert(object.key.clone(), actual);
            }
            Action::Delete(key, uid) => {
                self.writer.delete(key, uid).await?;
                self.cache.remove(key);
            }
        }
        self.mirror.status.writes.fetch_add(1, Ordering::Relaxed);
        self.backoff.reset();
        if self.unavailable.take().is_some() {
            tracing::info!("the mirror is written again");
        }
        Ok(())
    }

    async fn throttle(&mut self) {
        let between = Duration::from_millis(1_000 / WRITES_PER_SECOND_MAX);
        let at_once = between * u32::try_from(WRITES_AT_ONCE_MAX).unwrap_or(1);
        let now = Instant::now();
        self.next_write = self.next_write.max(now.checked_sub(at_once).unwrap_or(now)) + between;
        sleep_until(self.next_write).await;
    }

    fn publish_status(&self) {
        let problems = || self.problems.values().flat_map(BTreeMap::values);
        self.mirror.status.set(Numbers {
            objects: self.cache.len(),
            waiting: self.queue.order.len(),
            clashes: problems().filter(|failure| matches!(failure, Failure::Clash(_))).count(),
            refused: problems().filter(|failure| matches!(failure, Failure::Refused(_))).count(),
            unavailable: self.unavailable.clone(),
            ..Numbers::default()
        });
    }
}

fn object_events<K: Followed>(
    client: &ObservedClient,
    selector: &str,
    kind: Kind,
    read: fn(&K) -> Option<Object>,
) -> ObjectEvents {
    let events = Follower::<K>::new(client, None, watcher::Config::default().labels(selector));
    let object_event = move |event| match event {
        Err(error) => Some(ObjectEvent::Failed(kind, error_text(&error))),
        Ok(Event::Init) => Some(ObjectEvent::ListStarted(kind)),
        Ok(Event::InitDone) => Some(ObjectEvent::ListCompleted(kind)),
        Ok(Event::Apply(found) | Event::InitApply(found)) => {
            let object = read(&found)?;
            let actual = live_object(found.meta(), Some(&object), object.service_id());
            Some(ObjectEvent::Present(object.key, actual))
        }
        Ok(Event::Delete(found)) => {
            Some(ObjectEvent::Deleted(read(&found)?.key, found.meta().uid.clone().unwrap_or_default()))
        }
    };
    events.filter_map(move |event| std::future::ready(object_event(event))).boxed()
}
