//! Reconciler of the mirror, for the time in which this process is the leader. It lists and watches the objects in the
//! cluster, computes the desired ones from the registry, and writes the differences.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::stream::{self, Stream, StreamExt as _};
use k8s_openapi::api::core::v1::{Endpoints, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::runtime::utils::Backoff as _;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, Resource};
use tokio::time::{Instant, sleep_until};

use super::desired::Desire;
use super::known::{Action, Actual, Known};
use super::object::{Key, Kind, Object};
use super::status::Numbers;
use super::writer::{Failure, Writer, actual};
use super::{INSTALLATION, MANAGED_BY, Mirror, OWNER, names};
use crate::kubernetes::events::{Delay, events, told};
use crate::model::NamespaceId;
use crate::registry;

/// Time for which a change waits for further ones, in milliseconds.
const COALESCE_MS: u64 = 100;
/// Interval at which it is checked if all pods are known, in milliseconds.
const PODS_MS: u64 = 250;
const WRITES_PER_SECOND_MAX: u64 = 50;
/// Burst of writes that may be made at once after a pause.
const WRITES_AT_ONCE_MAX: u64 = 25;
const PROBLEMS_LOGGED_MAX: usize = 20;
/// Interval at which the status is updated while there is work, in milliseconds.
const TELL_MS: u64 = 250;
/// Delay before a name that somebody else's object has is tried again, in milliseconds.
const CLASH_RETRY_MS: u64 = 15_000;
/// Delay before an object that was refused is written again, in milliseconds.
const REFUSED_RETRY_MS: u64 = 30_000;
/// Delay before an object that was changed meanwhile is written again, in milliseconds.
const STALE_RETRY_MS: u64 = 1_000;

/// Event of the watch of one kind, reduced to the parts that the mirror uses.
enum Notice {
    Begins(Kind),
    There(Key, Actual),
    Gone(Key),
    Ends(Kind),
    Failed(Kind, String),
}

type Notices = Pin<Box<dyn Stream<Item = Notice> + Send>>;

/// Work queue of services: each is queued once, and the one that waits longest is first.
#[derive(Default)]
struct Queue {
    order: VecDeque<Box<str>>,
    members: HashSet<Box<str>>,
}

impl Queue {
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

pub(super) struct Term<'m> {
    mirror: &'m Mirror,
    writer: Writer,
    known: Known,
    listed: HashSet<Kind>,
    names: HashMap<NamespaceId, Box<str>>,
    waiting: Queue,
    later: BTreeSet<(Instant, Box<str>)>,
    problems: BTreeMap<Box<str>, BTreeMap<Key, Failure>>,
    next_write: Instant,
    delay: Delay,
    /// Time until which nothing is written, because the API server is away.
    pause: Instant,
    away: Option<String>,
    next_tell: Instant,
    endpoints_missed: bool,
}

impl<'m> Term<'m> {
    pub(super) fn new(mirror: &'m Mirror) -> Term<'m> {
        let now = Instant::now();
        Term {
            mirror,
            writer: Writer::new(mirror.client.clone(), &mirror.installation),
            known: Known::default(),
            listed: HashSet::new(),
            names: HashMap::new(),
            waiting: Queue::default(),
            later: BTreeSet::new(),
            problems: BTreeMap::new(),
            next_write: now,
            delay: Delay::default(),
            pause: now,
            away: None,
            next_tell: now,
            endpoints_missed: false,
        }
    }

    /// Reconciles until it is dropped, when this process stops being the leader.
    pub(super) async fn run(mut self) {
        let touched = self.mirror.registry.touched();
        let selector = format!("{MANAGED_BY}={OWNER},{INSTALLATION}={}", self.mirror.installation);
        let client = &self.mirror.client;
        let mut notices = stream::select_all([
            notices(client, &selector, Kind::Service, Object::of_service as fn(&Service) -> _),
            notices(client, &selector, Kind::EndpointSlice, Object::of_slice as fn(&EndpointSlice) -> _),
        ]);
        if self.mirror.endpoints {
            let read = Object::of_endpoints as fn(&Endpoints) -> _;
            notices.push(self::notices(client, &selector, Kind::Endpoints, read));
        }
        touched.take();
        self.look_at_everything();
        let mut take_at = None;
        loop {
            let now = Instant::now();
            let is_settled = self.mirror.pods.is_settled();
            let may_work = self.is_listed() && is_settled && !self.waiting.order.is_empty();
            let next_later = self.later.first().map(|(at, _)| *at);
            tokio::select! {
                // None of the streams ever ends.
                Some(notice) = notices.next() => self.notice(notice),
                () = touched.wait(), if take_at.is_none() => {
                    take_at = Some(now + Duration::from_millis(COALESCE_MS));
                }
                () = until(take_at) => {
                    take_at = None;
                    self.touched(touched.take());
                }
                () = until(next_later) => self.due(),
                () = sleep_until(now + Duration::from_millis(PODS_MS)), if !is_settled => {}
                () = sleep_until(self.pause), if may_work => self.work().await,
            }
            if self.waiting.order.is_empty() || Instant::now() >= self.next_tell {
                self.next_tell = Instant::now() + Duration::from_millis(TELL_MS);
                self.tell();
            }
        }
    }

    fn notice(&mut self, notice: Notice) {
        match notice {
            Notice::Begins(kind) => self.known.list_begins(kind),
            Notice::There(key, actual) => {
                for service in self.known.see(key, actual) {
                    self.look_at(service);
                }
            }
            Notice::Gone(key) => {
                if let Some(service) = self.known.leave(&key) {
                    self.look_at(service);
                }
            }
            Notice::Ends(kind) => {
                for service in self.known.list_ends(kind) {
                    self.look_at(service);
                }
                if self.listed.insert(kind) && kind == Kind::Endpoints {
                    // Services that were written before this list have no Endpoints yet.
                    self.look_at_everything();
                }
            }
            Notice::Failed(kind, why) => {
                self.mirror.status.errors.fetch_add(1, Ordering::Relaxed);
                tracing::debug!(
                    error = why,
                    kind = kind.as_str(),
                    "the watch of mirrored objects had an error"
                );
                if kind != Kind::Endpoints {
                    if !self.is_listed() {
                        self.away = Some(why);
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

    fn look_at(&mut self, service: Box<str>) {
        self.waiting.push(service);
    }

    fn look_at_everything(&mut self) {
        let state = self.mirror.registry.state();
        self.names = names::namespaces(&state);
        for (_, service) in state.services_after(None) {
            if self.names.contains_key(&service.service.namespace_id) {
                self.look_at(service.service.id.as_str().into());
            }
        }
        let known: Vec<Box<str>> = self.known.services().map(Into::into).collect();
        known.into_iter().for_each(|service| self.look_at(service));
    }

    fn touched(&mut self, events: HashSet<registry::Event>) {
        let mut has_namespaces = false;
        for event in events {
            match event {
                registry::Event::Service(id) => self.look_at(id.as_str().into()),
                registry::Event::Namespace(_) => has_namespaces = true,
                registry::Event::Serial(_) => {}
            }
        }
        if has_namespaces {
            self.namespaces_changed();
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
                self.waiting.push(service.as_str().into());
            }
        }
        self.names = names;
    }

    fn due(&mut self) {
        let now = Instant::now();
        while let Some((at, service)) = self.later.pop_first() {
            if at > now {
                self.later.insert((at, service));
                return;
            }
            self.look_at(service);
        }
    }

    /// Writes the differences for the service that waits longest.
    async fn work(&mut self) {
        let Some(service) = self.waiting.pop() else { return };
        let actions = self.known.plan(&service, self.desired(&service));
        let problems_before = self.problems.remove(&service);
        let lacks_endpoints = self.lacks_endpoints();
        let is_possible = |action: &Action| {
            let (Action::Apply(Object { key, .. }, _) | Action::Delete(key, _)) = action;
            key.kind != Kind::Endpoints || !lacks_endpoints
        };
        let mut actions: VecDeque<_> = actions.into_iter().filter(is_possible).collect();
        let mut retry_ms = None;
        while let Some(action) = actions.pop_front() {
            self.pace().await;
            if !self.mirror.leadership.is_held() {
                // The Lease has run out, but it may be renewed before its loss is reported, so the work is repeated.
                self.pause = Instant::now() + self.delay.next().unwrap_or_default();
                return self.look_at(service);
            }
            let (Action::Apply(Object { key, .. }, _) | Action::Delete(key, _)) = &action;
            let key = key.clone();
            let Err(failure) = self.carry_out(&action).await else { continue };
            self.mirror.status.errors.fetch_add(1, Ordering::Relaxed);
            let was_told = problems_before.as_ref().is_some_and(|before| before.contains_key(&key))
                || self.problems.len() >= PROBLEMS_LOGGED_MAX;
            match &failure {
                Failure::Away(why) => {
                    self.pause = Instant::now() + self.delay.next().unwrap_or_default();
                    if self.away.replace(why.clone()).is_none() {
                        tracing::warn!(error = why, "the mirror can't be written, and is tried again");
                    }
                    return self.look_at(service);
                }
                Failure::Stale => {
                    retry_ms = Some(STALE_RETRY_MS);
                    if let Some(concerned) = self.known.leave(&key) {
                        self.look_at(concerned);
                    }
                    continue;
                }
                Failure::Clash(owner) => {
                    retry_ms = Some(CLASH_RETRY_MS);
                    if !was_told {
                        tracing::warn!(kind = key.kind.as_str(), namespace = %key.namespace, name = %key.name, owner,
                            service = %service, "the mirror needs a name that an object of somebody else has");
                    }
                }
                Failure::Refused(why) => {
                    retry_ms = Some(REFUSED_RETRY_MS);
                    if !was_told {
                        tracing::warn!(kind = key.kind.as_str(), namespace = %key.namespace, name = %key.name,
                            error = why, "the API server does not take an object of the mirror");
                    }
                }
            }
            if key.kind == Kind::Service && matches!(action, Action::Apply(..)) {
                // Without a Service of ours, its slices and Endpoints would belong to somebody else's, so they are
                // deleted.
                let removals = self.known.plan(&service, Vec::new());
                actions = removals.into_iter().filter(is_possible).collect();
            }
            self.problems.entry(service.clone()).or_default().insert(key, failure);
        }
        if let Some(retry_ms) = retry_ms {
            self.later.insert((Instant::now() + Duration::from_millis(retry_ms), service));
        }
    }

    fn desired(&self, service: &str) -> Vec<Object> {
        let registry = &self.mirror.registry;
        let state = registry.state();
        let Ok(found) = state.service(service) else { return Vec::new() };
        let Some(namespace) = self.names.get(&found.service.namespace_id) else { return Vec::new() };
        let health = &registry.settings().health;
        let installation = &self.mirror.installation;
        let (identity, endpoints) = (registry.identity(), self.mirror.endpoints);
        Desire { installation, identity, health, endpoints }.objects(&state, found, namespace)
    }

    async fn carry_out(&mut self, action: &Action) -> Result<(), Failure> {
        match action {
            Action::Apply(object, uid) => {
                let actual = self.writer.apply(object, uid.as_deref()).await?;
                self.known.see(object.key.clone(), actual);
            }
            Action::Delete(key, uid) => {
                self.writer.delete(key, uid).await?;
                self.known.leave(key);
            }
        }
        self.mirror.status.writes.fetch_add(1, Ordering::Relaxed);
        self.delay.reset();
        if self.away.take().is_some() {
            tracing::info!("the mirror is written again");
        }
        Ok(())
    }

    async fn pace(&mut self) {
        let between = Duration::from_millis(1_000 / WRITES_PER_SECOND_MAX);
        let at_once = between * u32::try_from(WRITES_AT_ONCE_MAX).unwrap_or(1);
        let now = Instant::now();
        self.next_write = self.next_write.max(now.checked_sub(at_once).unwrap_or(now)) + between;
        sleep_until(self.next_write).await;
    }

    fn tell(&self) {
        let problems = || self.problems.values().flat_map(BTreeMap::values);
        self.mirror.status.set(Numbers {
            objects: self.known.len(),
            waiting: self.waiting.order.len(),
            clashes: problems().filter(|failure| matches!(failure, Failure::Clash(_))).count(),
            refused: problems().filter(|failure| matches!(failure, Failure::Refused(_))).count(),
            away: self.away.clone(),
            ..Numbers::default()
        });
    }
}

/// Sleeps until a time; pending forever if there is none.
async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

fn notices<K>(client: &Client, selector: &str, kind: Kind, read: fn(&K) -> Option<Object>) -> Notices
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + Send + Sync + 'static,
    K: k8s_openapi::serde::de::DeserializeOwned,
{
    let events = events(Api::<K>::all(client.clone()), watcher::Config::default().labels(selector));
    let notice = move |event| match event {
        Err(error) => Some(Notice::Failed(kind, told(&error))),
        Ok(Event::Init) => Some(Notice::Begins(kind)),
        Ok(Event::InitDone) => Some(Notice::Ends(kind)),
        Ok(Event::Apply(found) | Event::InitApply(found)) => {
            let object = read(&found)?;
            let actual = actual(found.meta(), object.fingerprint(), object.service_id());
            Some(Notice::There(object.key, actual))
        }
        Ok(Event::Delete(found)) => Some(Notice::Gone(read(&found)?.key)),
    };
    events.filter_map(move |event| std::future::ready(notice(event))).boxed()
}
