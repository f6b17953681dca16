//! Watches of pods: they feed the index, whose observations go to the registry.
//!
//! One task on the tokio runtime owns the index. It reads two watches, one for each label selector. At most one
//! command to the registry is in flight; changes meanwhile are queued in the index, once for each instance.
//!
//! The answers stop being stale when the registry has all changes from the time between.

mod reports;
mod warnings;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::StreamExt as _;
use kube::runtime::watcher::{self, Event};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};

use crate::model::ServiceId;
use crate::registry::{Command, Observation, Observed, Refusal, Registry, RegistryError, Reply};

use super::background::BackgroundTask;
use super::client::{ClientError, Cluster};
use super::follow::{Follower, ObservedClient, WatchResult};
use super::index::{Index, SOURCES};
use super::pod::{MANAGED_SELECTOR, ParsedPod, Pod, PodRules, TASK_SET_SELECTOR};
use super::pod_table::PodTable;
use super::status::{PENDING_SERVICES_LISTED_MAX, WatchStatus};
use super::submit::{REFUSALS_LOGGED_MAX, REFUSED_RETRY_MS, Submission};
use reports::Sweep;
use warnings::Warnings;

/// Interval of checks for silence, of retries and of updates of the status, in milliseconds.
const TICK_MS: u64 = 250;
/// Objects in one page of a list. A page is in memory as a whole, at some nine kilobytes of text for each pod.
const PAGE_OBJECTS: u32 = 100;
/// Limit of refused instances up to which all of them are sent again as soon as the registry changes, so that all
/// servers register what has become free.
const REFUSED_RETRIED_AT_ONCE_MAX: usize = 1_000;
/// Events of one watch that are applied before the registry gets a command. The events of a list's page or of a burst
/// are ready at once: large batches are cheaper, small ones delay less. One event takes some 15 microseconds.
const EVENTS_AT_ONCE_MAX: usize = 32;
const BATCH_OBSERVATIONS_MAX: usize = 1_000;

/// Handle of the running watch. [`PodWatch::stop`] stops it.
pub struct PodWatch {
    status: Arc<WatchStatus>,
    table: Option<Arc<PodTable>>,
    task: BackgroundTask,
}

impl PodWatch {
    /// Starts to watch pods and to send their instances to the registry. With `has_table`, the parts of pods that only
    /// the writers to the cluster need are kept too. The API server need not be up. Must be called within a tokio runtime.
    pub fn start(
        cluster: &Cluster,
        rules: PodRules,
        registry: Registry,
        has_table: bool,
    ) -> Result<PodWatch, ClientError> {
        let table = has_table.then(Arc::<PodTable>::default);
        let status = Arc::new(WatchStatus::new(cluster.address()));
        let warnings = Warnings::start(cluster.client()?);
        let sweep = Sweep::new(cluster.client()?);
        let sources = [follower(cluster, MANAGED_SELECTOR)?, follower(cluster, TASK_SET_SELECTOR)?];
        let watcher = Watcher {
            index: Index::new(table.clone()),
            sources,
            rules,
            submission: Submission::new(registry.clone()),
            registry,
            status: status.clone(),
            warnings,
            sweep,
            sent: Observed::default(),
            catch_up: None,
            next_retry: Instant::now(),
            retried_at: 0,
            is_changed: true,
        };
        let ended_status = status.clone();
        let ended = move || {
            ended_status.set_stale(Some("the watch has ended".into()));
        };
        let task = BackgroundTask::start("the watch of pods", |stopped| watcher.run(stopped), ended);
        Ok(PodWatch { status, table, task })
    }

    /// State of the watch, for metrics, readiness and explain.
    pub fn status(&self) -> Arc<WatchStatus> {
        self.status.clone()
    }

    pub(super) fn table(&self) -> Option<Arc<PodTable>> {
        self.table.clone()
    }

    /// Stops the watch and returns when its task has ended.
    pub async fn stop(self) {
        self.task.stop().await;
    }
}

/// Task that owns the index, reads the watches and sends the observations.
///
/// `catch_up` is the value that [`Index::dequeued`] must reach before the answers are current again: the end of the
/// queue when the watches had recovered. `retried_at` is the sequence number of the registry's state when refused
/// instances were sent last.
struct Watcher {
    index: Index,
    sources: [Follower<Pod>; SOURCES],
    rules: PodRules,
    registry: Registry,
    submission: Submission,
    status: Arc<WatchStatus>,
    warnings: Warnings,
    sweep: Sweep,
    sent: Observed,
    catch_up: Option<u64>,
    next_retry: Instant,
    retried_at: u64,
    is_changed: bool,
}

impl Watcher {
    async fn run(mut self, mut stopped: watch::Receiver<bool>) {
        let mut changed = self.registry.changed();
        let mut tick = tokio::time::interval(Duration::from_millis(TICK_MS));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let [managed, task_sets] = &mut self.sources;
            tokio::select! {
                _ = stopped.changed() => return,
                Some(item) = managed.next() => self.handle_ready(0, item),
                Some(item) = task_sets.next() => self.handle_ready(1, item),
                reply = self.submission.reply() => self.handle_reply(reply),
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
            if self.submission.is_free() {
                self.sent = self.index.next_batch(BATCH_OBSERVATIONS_MAX);
                if !self.sent.is_empty() {
                    self.is_changed = true;
                    self.submission.send(Command::Observe(self.sent.clone()));
                }
            }
        }
    }

    /// Applies an event of a watch, and those after it that are ready, up to [`EVENTS_AT_ONCE_MAX`].
    fn handle_ready(&mut self, source: usize, first: WatchResult<Pod>) {
        self.handle_event(source, first);
        for _ in 1..EVENTS_AT_ONCE_MAX {
            // An event that is not ready yet is not lost, because the loop polls the stream again.
            let Some(Some(item)) = self.sources[source].next().now_or_never() else { return };
            self.handle_event(source, item);
        }
    }

    fn handle_event(&mut self, source: usize, item: WatchResult<Pod>) {
        let event = match item {
            Ok(event) => event,
            Err(_) => {
                self.status.errors.fetch_add(1, Ordering::Relaxed);
                self.sources[source].log_failure();
                return self.update_staleness();
            }
        };
        self.is_changed = true;
        self.status.record_event();
        match event {
            Event::Init => self.index.list_begins(source),
            Event::InitApply(pod) | Event::Apply(pod) => self.upsert(source, &pod),
            Event::Delete(pod) => {
                if let Some(name) = ParsedPod::name_of(&pod) {
                    self.index.delete(source, &name, ParsedPod::version_of(&pod));
                }
            }
            Event::InitDone => {
                self.status.lists.fetch_add(1, Ordering::Relaxed);
                let end = self.index.list_ends(source);
                self.sources[source].list_ended(end, "pods");
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
            }
        }
        self.sent = Observed::default();
        if self.catch_up.is_some() {
            self.update_staleness();
        }
    }

    fn tick(&mut self) {
        self.sources.iter_mut().for_each(Follower::restart_if_due);
        let now = Instant::now();
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
        let why = self.sources.iter_mut().find_map(|source| source.stale("pods"));
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

fn follower(cluster: &Cluster, selector: &str) -> Result<Follower<Pod>, ClientError> {
    let config = watcher::Config::default().labels(selector).page_size(PAGE_OBJECTS);
    Ok(Follower::new(&ObservedClient::new(cluster)?, None, config))
}
