//! Shadow of KECS's own Cloud Map registry: services that KECS's API created are served here too, read-only.
//!
//! For each service that its Cloud Map API creates, KECS writes an alias: a Service of type ExternalName whose labels
//! and annotations have the names and ids of the service and its namespace. One task on the tokio runtime watches the
//! aliases of all Kubernetes namespaces, keeps them in an index, and submits all of them to the registry whenever they
//! change. The registry creates their services under KECS's ids, so that the pods that name them are instances at
//! once. Services that the registry refuses (names that are taken or can't be in DNS, ids that are taken) are
//! submitted again when the registry has changed, and from time to time.
//!
//! An alias lacks the records and their TTL, which are assumed to be A with 60 seconds, tags and attributes, and the
//! kind of its namespace, which CoreDNS's blocks show (`zones`). Things that KECS has created and that are missing
//! here are listed, as far as the cluster shows them: namespaces without services, services without an alias of their
//! own, registered instances. KECS writes no new alias for a service that it creates again, so that after KECS has
//! lost its registry an alias has outdated ids.
//!
//! Neither an API server that is away nor an incomplete list removes anything (`kubernetes/follow.rs`).

mod alias;
mod index;
mod status;
mod zones;

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::StreamExt as _;
use k8s_openapi::api::core::v1::Service;
use kube::runtime::watcher::{self, Event};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};

use crate::registry::{Command, Refusal, Registry, RegistryError, Reply, Shadowed};

use super::background::BackgroundTask;
use super::client::{ClientError, Cluster};
use super::coredns::blocks::Blocks;
use super::coredns::maps::{MapChange, MapEvent, MapEvents, Maps, follow_maps};
use super::follow::{Follower, ObservedClient, WatchResult};
use super::submit::{REFUSALS_LOGGED_MAX, REFUSED_RETRY_MS, Submission};
use alias::Alias;
use index::Index;
use status::{LISTED_MAX, REFUSED_KEPT_MAX, ShadowCounts};
pub use status::{RefusedService, ShadowStatus};
use zones::Zones;

/// Selector of the Services that KECS writes for its Cloud Map services. The mirror's own, which have the first label
/// too, are excluded.
const SELECTOR: &str = "kecs.io/service-discovery=true,app.kubernetes.io/managed-by!=cloudmap-dns";
/// Delay between a change of the registry and the next submission, in milliseconds.
const RESYNC_DELAY_MS: u64 = 1_000;
/// Interval of checks for silence and of updates of the status, in milliseconds.
const TICK_MS: u64 = 250;
const PAGE_OBJECTS: u32 = 100;

/// Handle of the running shadow. [`Shadow::stop`] stops it; the services that it created remain as long as the
/// registry runs.
pub struct Shadow {
    status: Arc<ShadowStatus>,
    task: BackgroundTask,
}

impl Shadow {
    /// Starts to watch aliases and to submit them to the registry. `writes_coredns` is false if this server writes no
    /// blocks for CoreDNS, so that somebody else forwards zones to it. The API server need not be up. Must be called
    /// within a tokio runtime.
    pub fn start(cluster: &Cluster, registry: Registry, writes_coredns: bool) -> Result<Shadow, ClientError> {
        let status = Arc::new(ShadowStatus::default());
        let config = watcher::Config::default().labels(SELECTOR).page_size(PAGE_OBJECTS);
        let watcher = AliasWatcher {
            index: Index::default(),
            source: Follower::new(&ObservedClient::new(cluster)?, None, config),
            map_events: follow_maps(&ObservedClient::new(cluster)?),
            maps: Maps::default(),
            zones: Zones::new(!writes_coredns),
            submission: Submission::new(registry.clone()),
            registry,
            status: status.clone(),
            submitted: Arc::default(),
            must_submit: false,
            resync_at: Instant::now(),
            refused: HashSet::new(),
        };
        let ended_status = status.clone();
        let ended = move || {
            ended_status.set_stale(Some("the watch has ended".into()));
        };
        let task =
            BackgroundTask::start("the shadow of KECS's registry", |stopped| watcher.run(stopped), ended);
        Ok(Shadow { status, task })
    }

    /// State of the shadow, for metrics, readiness and explain.
    pub fn status(&self) -> Arc<ShadowStatus> {
        self.status.clone()
    }

    /// Stops the watch and returns when its task has ended.
    pub async fn stop(self) {
        self.task.stop().await;
    }
}

/// Task that owns the index, reads the watches and submits the services. `must_submit` is true if the services have
/// changed since the last submission, or if it must be repeated at once. At `resync_at` the services are submitted
/// again although they have not changed.
struct AliasWatcher {
    index: Index,
    source: Follower<Service>,
    map_events: MapEvents,
    maps: Maps,
    zones: Zones,
    registry: Registry,
    submission: Submission,
    status: Arc<ShadowStatus>,
    submitted: Arc<[Shadowed]>,
    must_submit: bool,
    resync_at: Instant,
    refused: HashSet<(Shadowed, String)>,
}

impl AliasWatcher {
    async fn run(mut self, mut stopped: watch::Receiver<bool>) {
        let mut changed = self.registry.changed();
        let mut tick = tokio::time::interval(Duration::from_millis(TICK_MS));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = stopped.changed() => return,
                Some(item) = self.source.next() => self.handle_event(item),
                Some(event) = self.map_events.next() => self.handle_map_event(event),
                reply = self.submission.reply() => self.handle_reply(reply),
                change = changed.changed() => {
                    if change.is_err() {
                        return;
                    }
                    let soon = Instant::now() + Duration::from_millis(RESYNC_DELAY_MS);
                    self.resync_at = self.resync_at.min(soon);
                }
                _ = tick.tick() => self.tick(),
            }
            let now = Instant::now();
            // While a list is being read, its changes are collected, so that they are submitted together.
            let has_changes = self.must_submit && !self.source.is_listing();
            let is_time = has_changes || now >= self.resync_at;
            if self.submission.is_free() && self.maps.are_known() && is_time {
                self.must_submit = false;
                self.resync_at = now + Duration::from_millis(REFUSED_RETRY_MS);
                let mut wanted = self.index.wanted();
                self.zones.set_kinds(&mut wanted);
                self.submitted = wanted.into();
                self.submission.send(Command::Shadow(self.submitted.clone()));
            }
        }
    }

    fn handle_event(&mut self, item: WatchResult<Service>) {
        let event = match item {
            Ok(event) => event,
            Err(_) => {
                self.status.errors.fetch_add(1, Ordering::Relaxed);
                self.source.log_failure();
                return self.update_staleness();
            }
        };
        match event {
            Event::Init => self.index.list_begins(),
            Event::InitApply(service) | Event::Apply(service) => self.upsert(&service),
            Event::Delete(service) => {
                if let Some(name) = Alias::name_of(&service) {
                    self.must_submit |= self.index.remove(&name);
                }
            }
            Event::InitDone => {
                let end = self.index.list_ends();
                self.source.list_ended(end, "KECS's alias Services");
                self.must_submit = true;
                self.update_staleness();
            }
        }
    }

    fn handle_map_event(&mut self, event: MapEvent) {
        if let MapChange::Failure { is_first } = self.maps.apply(event) {
            self.status.errors.fetch_add(1, Ordering::Relaxed);
            self.must_submit |= is_first;
        }
        let Maps { custom, main, .. } = &self.maps;
        let blocks = Blocks::read(custom.keys().as_ref(), main.corefile().as_deref());
        self.must_submit |= self.zones.set_blocks(blocks);
    }

    fn upsert(&mut self, service: &Service) {
        let Some(alias) = Alias::of(service) else { return };
        let (name, problem) = (alias.name.clone(), alias.found.as_ref().err().copied());
        let change = self.index.upsert(alias);
        self.must_submit |= change.is_change || change.is_new_problem;
        if let Some(problem) = problem.filter(|_| change.is_new_problem) {
            tracing::warn!(alias = %name, problem, "a Service of KECS's can't be shadowed");
        }
    }

    fn handle_reply(&mut self, reply: Result<Reply, RegistryError>) {
        match reply {
            Ok(Reply::Shadowed { refused, is_complete }) => {
                self.must_submit |= !is_complete;
                self.apply_refusals(&refused);
            }
            Ok(_) => {}
            Err(error) => {
                tracing::warn!(%error, services = self.submitted.len(), "the services of KECS's registry could not be submitted; they are submitted again");
                self.must_submit = true;
            }
        }
        self.update_staleness();
    }

    fn apply_refusals(&mut self, refused: &[Refusal]) {
        let with_reason =
            |refusal: &Refusal| Some((self.submitted.get(refusal.at)?.clone(), refusal.error.to_string()));
        let refused: HashSet<_> = refused.iter().filter_map(with_reason).collect();
        let new: Vec<_> = refused.difference(&self.refused).collect();
        for (one, error) in new.iter().take(REFUSALS_LOGGED_MAX) {
            let Shadowed { service, service_name, namespace_name, .. } = one;
            tracing::warn!(
                %service, name = service_name, namespace = namespace_name, error, refused = new.len(),
                "a service of KECS's can't be shadowed"
            );
        }
        let mut listed: Vec<RefusedService> = refused
            .iter()
            .map(|(one, error)| RefusedService {
                name: format!("{}.{}", one.service_name, one.namespace_name.trim_end_matches('.'))
                    .to_ascii_lowercase(),
                service: one.service.clone(),
                why: error.clone(),
            })
            .collect();
        listed.sort();
        listed.truncate(REFUSED_KEPT_MAX);
        let mut missing = self.index.missing();
        missing.extend(self.zones.missing(&self.submitted));
        if let (Some(why), false) = (&self.maps.custom.failure, self.maps.custom.is_listed) {
            missing.insert(format!(
                "no namespace is in DNS: the ConfigMap coredns-custom, which has KECS's zones, can't be read: {why}"
            ));
        }
        let counts = ShadowCounts {
            services: self.submitted.len() - refused.len(),
            refused: refused.len(),
            malformed: self.index.malformed(),
            left_out: self.index.left_out(),
            missing: missing.len(),
        };
        self.status.set_counts(counts, listed, missing.into_iter().take(LISTED_MAX).collect());
        self.refused = refused;
    }

    fn tick(&mut self) {
        self.source.restart_if_due();
        self.update_staleness();
    }

    /// Updates the staleness in `status`: stale if the watch is, and current once the registry has caught up.
    fn update_staleness(&mut self) {
        let why = self.source.stale("Services");
        // The services remain stale until the registry has the changes from the time between.
        if why.is_none() && self.status.is_stale() && (self.must_submit || self.submission.is_running()) {
            return;
        }
        let is_stale = why.is_some();
        let reason = why.clone().unwrap_or_default();
        if self.status.set_stale(why) {
            if is_stale {
                tracing::warn!(reason, "the shadow of KECS's registry may be stale");
            } else {
                tracing::info!(aliases = self.index.len(), "the shadow of KECS's registry is up to date");
            }
        }
    }
}
