//! Watches of pods: they feed the index, whose observations go to the registry.
//!
//! One task on the tokio runtime owns the index. It reads two watches, one for each label selector. At most one
//! command to the registry is in flight; changes meanwhile are queued in the index, once for each instance.
//!
//! # Staleness
//!
//! A watch lasts 30 seconds and is then renewed from its last resourceVersion, so that a healthy API server answers at
//! least that often. After 43 seconds without an answer the watch counts as dead, whatever the state of its
//! connection: it is stale, and restarts with a list. An error makes it stale at once. Failed requests are retried
//! after a delay that doubles up to 10 seconds, with jitter. Pods are removed only if the API server says so, or if a
//! complete list that is accepted lacks them. The answers stop being stale when the registry has all changes from the
//! time between.

mod reports;
mod source;
mod warnings;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use kube::runtime::watcher::Event;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};

use crate::model::ServiceId;
use crate::registry::{Command, Observation, Observed, Refusal, Registry, RegistryError, Reply};

use super::background::BackgroundTask;
use super::client::{ClientError, Cluster};
use super::events::WatchResult;
use super::index::{Index, ListEnd, SOURCES};
use super::pod::{MANAGED_SELECTOR, ParsedPod, Pod, PodRules, TASK_SET_SELECTOR};
use super::status::{PENDING_SERVICES_LISTED_MAX, WatchStatus};
use reports::Sweep;
pub(super) use source::WatchSource;
use warnings::Warnings;

/// Longest silence of the API server before a watch counts as dead, in milliseconds.
const SILENT_MS_MAX: u64 = 43_000;
/// Delay between a suspect list and the second list, which is accepted, in milliseconds.
pub(super) const RELIST_DELAY_MS: u64 = 2_000;
/// Interval of checks for silence, of retries and of updates of the status, in milliseconds.
pub(super) const TICK_MS: u64 = 250;
/// Delay before the next command after one that the registry could not carry out, in milliseconds.
pub(super) const REGISTRY_RETRY_MS: u64 = 1_000;
/// Interval at which instances and services that the registry refused are sent again, in milliseconds.
pub(super) const REFUSED_RETRY_MS: u64 = 15_000;
/// Limit of refused instances up to which all of them are sent again as soon as the registry changes, so that all
/// servers register what has become free.
const REFUSED_RETRIED_AT_ONCE_MAX: usize = 1_000;
/// Events of one watch that are applied before the registry gets a command. The events of a list's page or of a burst
/// are ready at once: large batches are cheaper, small ones delay less. One event takes some 15 microseconds.
const EVENTS_AT_ONCE_MAX: usize = 32;
const BATCH_OBSERVATIONS_MAX: usize = 1_000;
pub(super) const REFUSALS_LOGGED_MAX: usize = 3;

/// Handle of the running watch. [`PodWatch::stop`] stops it.
pub struct PodWatch {
    status: Arc<WatchStatus>,
    task: BackgroundTask,
}

impl PodWatch {
    /// Starts to watch pods and to send their instances to the registry. The API server need not be up. Must be called
    /// within a tokio runtime.
    pub fn start(cluster: &Cluster, rules: PodRules, registry: Registry) -> Result<PodWatch, ClientError> {
        let status = Arc::new(WatchStatus::new(cluster.address()));
        let warnings = Warnings::start(cluster.observed_client(|| {})?);
        let sweep = Sweep::new(cluster.observed_client(|| {})?);
        let sources =
            [WatchSource::new(cluster, MANAGED_SELECTOR)?, WatchSource::new(cluster, TASK_SET_SELECTOR)?];
        let watcher = Watcher {
            index: Index::default(),
            sources,
            rules,
            registry,
            status: status.clone(),
            warnings,
            sweep,
            sent: Observed::default(),
            catch_up: None,
            next_command: Instant::now(),
            next_retry: Instant::now(),
            retried_at: 0,
            is_changed: true,
        };
        let ended_status = status.clone();
        let ended = move || {
            ended_status.set_stale(Some("the watch has ended".into()));
        };
        let task = BackgroundTask::start("the watch of pods", |stopped| watcher.run(stopped), ended);
        Ok(PodWatch { status, task })
    }

    /// State of the watch, for metrics, readiness and explain.
    pub fn status(&self) -> Arc<WatchStatus> {
        self.status.clone()
    }

    /// Stops the watch and returns when its task has ended.
    pub async fn stop(self) {
        self.task.stop().await;
    }
}

/// Task that owns the index, reads the watches and sends the observations.
struct Watcher {
    index: Index,
    sources: [WatchSource<Pod>; SOURCES],
    rules: PodRules,
    registry: Registry,
    status: Arc<WatchStatus>,
    warnings: Warnings,
    sweep: Sweep,
    sent: Observed,
    /// Value that [`Index::dequeued`] must reach before the answers are current again: the end of the queue when the
    /// watches had recovered.
    catch_up: Option<u64>,
    next_command: Instant,
    next_retry: Instant,
    /// Sequence number of the registry's state when refused instances were sent last.
    retried_at: u64,
    is_changed: bool,
}

pub(super) type InFlight = BoxFuture<'static, Result<Reply, RegistryError>>;

impl Watcher {
    async fn run(mut self, mut stopped: watch::Receiver<bool>) {
        let mut changed = self.registry.changed();
        let mut tick = tokio::time::interval(Duration::from_millis(TICK_MS));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut in_flight: Option<InFlight> = None;
        loop {
            let [managed, task_sets] = &mut self.sources;
            tokio::select! {
                _ = stopped.changed() => return,
                item = managed.stream.next() => self.handle_ready(0, item),
                item = task_sets.stream.next() => self.handle_ready(1, item),
                reply = in_flight_reply(&mut in_flight) => {
                    in_flight = None;
                    self.handle_reply(reply);
                }
                change = changed.changed() => {
                    if change.is_err() {
                        return;
                    }
                    self.look_up_services(true);
                }
                () = self.sweep.ended() => {}
                _ = tick.tick() => self.tick(),
            }
            if self.index.has_new_services() {
                self.look_up_services(false);
            }
            if in_flight.is_none() && Instant::now() >= self.next_command {
                self.sent = self.index.next_batch(BATCH_OBSERVATIONS_MAX);
                if !self.sent.is_empty() {
                    self.is_changed = true;
                    let (registry, command) = (self.registry.clone(), Command::Observe(self.sent.clone()));
                    in_flight = Some(async move { registry.submit(command).await }.boxed());
                }
            }
        }
    }

    /// Applies an event of a watch, and those after it that are ready, up to [`EVENTS_AT_ONCE_MAX`].
    fn handle_ready(&mut self, source: usize, first: Option<WatchResult<Pod>>) {
        self.handle_event(source, first);
        for _ in 1..EVENTS_AT_ONCE_MAX {
            // An event that is not ready yet is not lost, because the loop polls the stream again.
            let Some(item) = self.sources[source].stream.next().now_or_never() else { return };
            self.handle_event(source, item);
        }
    }

    fn handle_event(&mut self, source: usize, item: Option<WatchResult<Pod>>) {
        let event = match item {
            Some(Ok(event)) => event,
            Some(Err(error)) => {
                self.status.errors.fetch_add(1, Ordering::Relaxed);
                self.sources[source].failed(&error);
                return self.update_staleness();
            }
            // The stream never ends; if it does all the same, a new watch replaces it.
            None => return self.sources[source].restart(),
        };
        self.is_changed = true;
        self.status.record_event();
        self.sources[source].liveness.touch();
        match event {
            Event::Init => {
                self.sources[source].is_listing = true;
                self.index.list_begins(source);
            }
            Event::InitApply(pod) | Event::Apply(pod) => self.upsert(source, &pod),
            Event::Delete(pod) => {
                if let Some(name) = ParsedPod::name_of(&pod) {
                    self.index.delete(source, &name, ParsedPod::version_of(&pod));
                }
            }
            Event::InitDone => {
                self.status.lists.fetch_add(1, Ordering::Relaxed);
                let end = self.index.list_ends(source);
                let selector = self.sources[source].selector;
                match end {
                    ListEnd::Accepted => self.sources[source].listed(),
                    ListEnd::Suspect { missing, listed } => {
                        tracing::warn!(
                            selector,
                            missing,
                            listed,
                            "a list of pods lacks most of those that are known; they are kept until a second list lacks them too"
                        );
                        self.sources[source]
                            .schedule_relist(Instant::now() + Duration::from_millis(RELIST_DELAY_MS));
                    }
                }
                self.update_staleness();
            }
        }
    }

    fn upsert(&mut self, source: usize, pod: &Pod) {
        let Some(parsed) = ParsedPod::of(pod, &self.rules) else { return };
        let name = parsed.name.clone();
        let (problems, contradictions) = (parsed.problems.clone(), parsed.contradictions.clone());
        if !self.index.upsert(source, parsed) {
            return;
        }
        if !problems.is_empty() {
            self.status.malformed.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(pod = %name, problem = problems.join("; "), "a pod's Cloud Map annotation can't be read");
            self.warnings.malformed(pod, &problems);
        }
        if !contradictions.is_empty() {
            let texts: Vec<_> = contradictions.into_iter().map(|(_, text)| text).collect();
            tracing::warn!(pod = %name, problem = texts.join("; "), "a pod's Cloud Map annotation contradicts itself");
            self.warnings.contradictory(pod, &texts);
        }
    }

    fn look_up_services(&mut self, all: bool) {
        self.is_changed = true;
        let state = self.registry.state();
        let made_at = |id: &ServiceId| Some(state.service(id.as_str()).ok()?.service.made_at());
        self.index.look_up(all, made_at);
    }

    fn handle_reply(&mut self, reply: Result<Reply, RegistryError>) {
        self.is_changed = true;
        match reply {
            Ok(Reply::Observed(refused)) => {
                let new = self.index.accepted(&self.sent, &refused);
                let new_count = new.len();
                let is_new = |refusal: &&Refusal| new.contains(&refusal.at);
                for refusal in refused.iter().filter(is_new).take(REFUSALS_LOGGED_MAX) {
                    if let Some(Observation { service, seen }) = self.sent.observations.get(refusal.at) {
                        let (instance, error) = (seen.id(), &refusal.error);
                        tracing::warn!(%service, instance, %error, refused = new_count, "a pod can't be an instance");
                    }
                }
            }
            Ok(_) => drop(self.index.accepted(&self.sent, &[])),
            Err(error) => {
                tracing::warn!(%error, observations = self.sent.observations.len(), "observations of pods could not be sent to the registry; they are sent again");
                self.index.failed(&self.sent);
                self.catch_up = self.catch_up.map(|_| self.index.queue_end());
                self.next_command = Instant::now() + Duration::from_millis(REGISTRY_RETRY_MS);
            }
        }
        self.sent = Observed::default();
        if self.catch_up.is_some() {
            self.update_staleness();
        }
    }

    fn tick(&mut self) {
        let now = Instant::now();
        for source in &mut self.sources {
            if source.is_due(now) {
                source.restart();
            }
        }
        let sequence = self.registry.state().sequence();
        let is_free = sequence != self.retried_at
            && self.index.counts().refused_instances <= REFUSED_RETRIED_AT_ONCE_MAX;
        if now >= self.next_retry || is_free {
            self.next_retry = now + Duration::from_millis(REFUSED_RETRY_MS);
            self.retried_at = sequence;
            self.index.retry_refused();
        }
        self.update_staleness();
        if std::mem::take(&mut self.is_changed) {
            let pending = self.index.pending(PENDING_SERVICES_LISTED_MAX);
            let counts = self.index.counts();
            if !self.status.is_stale() && counts.queued_instances == 0 && self.sent.is_empty() {
                self.status.set_synced();
            }
            self.status.set_counts(counts, pending, self.index.contradictions());
        }
        if !self.status.is_stale() && self.status.has_synced() {
            self.sweep.start_if_due(&self.registry, &self.index);
        }
    }

    /// Updates the staleness in `status`: stale if a watch is, and current once the registry has caught up.
    fn update_staleness(&mut self) {
        let why = self.sources.iter_mut().find_map(WatchSource::stale);
        if why.is_some() {
            self.catch_up = None;
        } else if self.status.is_stale() {
            let index = &self.index;
            let end = *self.catch_up.get_or_insert_with(|| index.queue_end());
            if !self.sent.is_empty() || index.dequeued() < end {
                return;
            }
            self.catch_up = None;
        }
        let is_stale = why.is_some();
        let reason = why.clone().unwrap_or_default();
        if self.status.set_stale(why) {
            if is_stale {
                tracing::warn!(reason, "the answers for pods may be stale");
            } else {
                tracing::info!(line = self.status.line(), "the answers for pods are up to date");
                // Pods were listed or changed unseen, so that other servers may know numbers that this one does not.
                let registry = self.registry.clone();
                tokio::spawn(async move { registry.submit(Command::Renumber).await });
            }
        }
    }
}

/// Reply to the command that is in flight; pending forever if there is none.
pub(super) async fn in_flight_reply(in_flight: &mut Option<InFlight>) -> Result<Reply, RegistryError> {
    match in_flight {
        Some(submitted) => submitted.await,
        None => std::future::pending().await,
    }
}
