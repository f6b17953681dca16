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
//! The watch works like [`super::watch`] and keeps its promises: neither an API server that is away nor an incomplete
//! list removes anything.

mod alias;
mod index;
mod status;
mod zones;

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::stream;
use futures_util::{FutureExt as _, StreamExt as _};
use k8s_openapi::api::core::v1::Service;
use kube::runtime::watcher::Event;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};

use crate::registry::{Command, Refusal, Registry, RegistryError, Reply, Shadowed};

use super::client::{ClientError, Cluster};
use super::coredns::blocks::Blocks;
use super::coredns::maps::{self, Known, Notice, Notices, Which};
use super::events::Item;
use super::index::ListEnd;
use super::running::Running;
use super::watch::{
    REFUSALS_LOGGED_MAX, REFUSED_RETRY_MS, REGISTRY_RETRY_MS, SECOND_LIST_MS, Source, Submitted, TICK_MS,
    answered,
};
use alias::Alias;
use index::Index;
use status::{Counts, LISTED_MAX, REFUSED_KEPT_MAX};
pub use status::{Refused, ShadowStatus};
use zones::Zones;

/// Selector of the Services that KECS writes for its Cloud Map services. The mirror's own, which have the first label
/// too, are excluded.
const SELECTOR: &str = "kecs.io/service-discovery=true,app.kubernetes.io/managed-by!=cloudmap-dns";
/// Delay between a change of the registry and the next submission, in milliseconds.
const OFFER_AGAIN_MS: u64 = 1_000;

/// Handle of the running shadow. [`Shadow::stop`] stops it; the services that it created remain as long as the
/// registry runs.
pub struct Shadow {
    status: Arc<ShadowStatus>,
    running: Running,
}

impl Shadow {
    /// Starts to watch aliases and to submit them to the registry. `tells_coredns` is false if this server writes no
    /// blocks for CoreDNS, so that somebody else forwards zones to it. The API server need not be up. Must be called
    /// within a tokio runtime.
    pub fn start(cluster: &Cluster, registry: Registry, tells_coredns: bool) -> Result<Shadow, ClientError> {
        let status = Arc::new(ShadowStatus::default());
        let client = cluster.listening(|| {})?;
        let notices =
            stream::select(maps::notices(&client, Which::Custom), maps::notices(&client, Which::Main));
        let follower = Follower {
            index: Index::default(),
            source: Source::new(cluster, SELECTOR)?,
            notices: notices.boxed(),
            custom: Known::default(),
            main: Known::default(),
            zones: Zones::new(!tells_coredns),
            registry,
            status: status.clone(),
            offered: Arc::default(),
            is_new: false,
            is_offering: false,
            not_before: Instant::now(),
            again_at: Instant::now(),
            refused: HashSet::new(),
        };
        let told = status.clone();
        let ended = move || {
            told.set_stale(Some("the watch has ended".into()));
        };
        let running = Running::start("the shadow of KECS's registry", |stopped| follower.run(stopped), ended);
        Ok(Shadow { status, running })
    }

    /// State of the shadow, for metrics, readiness and explain.
    pub fn status(&self) -> Arc<ShadowStatus> {
        self.status.clone()
    }

    /// Stops the watch and returns when its task has ended.
    pub async fn stop(self) {
        self.running.stop().await;
    }
}

/// Task that owns the index, reads the watches and submits the services.
struct Follower {
    index: Index,
    source: Source<Service>,
    notices: Notices,
    custom: Known,
    main: Known,
    zones: Zones,
    registry: Registry,
    status: Arc<ShadowStatus>,
    offered: Arc<[Shadowed]>,
    /// True if the services have changed since the last submission, or if it must be repeated at once.
    is_new: bool,
    is_offering: bool,
    /// Earliest time of the next submission, which is delayed after an error.
    not_before: Instant,
    /// Time at which the services are submitted again although they have not changed.
    again_at: Instant,
    refused: HashSet<(Shadowed, String)>,
}

impl Follower {
    async fn run(mut self, mut stopped: watch::Receiver<bool>) {
        let mut changed = self.registry.changed();
        let mut tick = tokio::time::interval(Duration::from_millis(TICK_MS));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut on_its_way: Option<Submitted> = None;
        loop {
            tokio::select! {
                _ = stopped.changed() => return,
                item = self.source.stream.next() => self.take(item),
                Some(notice) = self.notices.next() => self.notice(notice),
                answer = answered(&mut on_its_way) => {
                    on_its_way = None;
                    self.answered(answer);
                }
                is_there = changed.changed() => {
                    if is_there.is_err() {
                        return;
                    }
                    let soon = Instant::now() + Duration::from_millis(OFFER_AGAIN_MS);
                    self.again_at = self.again_at.min(soon);
                }
                _ = tick.tick() => self.tick(),
            }
            let now = Instant::now();
            // While a list is being read, its changes are collected, so that they are submitted together.
            let is_new = self.is_new && !self.source.is_listing;
            let are_zones_known =
                [&self.custom, &self.main].iter().all(|map| map.is_listed || map.failure.is_some());
            let is_time = now >= self.not_before && (is_new || now >= self.again_at);
            if on_its_way.is_none() && are_zones_known && is_time {
                self.is_new = false;
                self.is_offering = true;
                self.again_at = now + Duration::from_millis(REFUSED_RETRY_MS);
                let mut wanted = self.index.wanted();
                self.zones.judge(&mut wanted);
                self.offered = wanted.into();
                let (registry, command) = (self.registry.clone(), Command::Shadow(self.offered.clone()));
                on_its_way = Some(async move { registry.submit(command).await }.boxed());
            }
        }
    }

    fn take(&mut self, item: Option<Item<Service>>) {
        let event = match item {
            Some(Ok(event)) => event,
            Some(Err(error)) => {
                self.status.errors.fetch_add(1, Ordering::Relaxed);
                self.source.failed(&error);
                return self.judge();
            }
            // The stream never ends; if it does all the same, a new watch replaces it.
            None => return self.source.restart(),
        };
        self.source.heard.now();
        match event {
            Event::Init => {
                self.source.is_listing = true;
                self.index.list_begins();
            }
            Event::InitApply(service) | Event::Apply(service) => self.see(&service),
            Event::Delete(service) => {
                if let Some(name) = Alias::name_of(&service) {
                    self.is_new |= self.index.leave(&name);
                }
            }
            Event::InitDone => {
                match self.index.list_ends() {
                    ListEnd::Believed => self.source.listed(),
                    ListEnd::Doubted { missing, listed } => {
                        tracing::warn!(
                            missing,
                            listed,
                            "a list of KECS's alias Services lacks most of those that are known; they are kept until a \
                             second list lacks them too"
                        );
                        self.source.doubted(Instant::now() + Duration::from_millis(SECOND_LIST_MS));
                    }
                }
                self.is_new = true;
                self.judge();
            }
        }
    }

    /// Applies an event of the watches of CoreDNS's ConfigMaps. While one can't be read, its last blocks count.
    fn notice(&mut self, notice: Notice) {
        let (which, event) = match notice {
            Notice::Watched(which, event) => (which, Ok(event)),
            Notice::Failed(which, why) => (which, Err(why)),
        };
        let known = match which {
            Which::Custom => &mut self.custom,
            Which::Main => &mut self.main,
        };
        match event {
            Ok(event) => known.take(*event),
            Err(why) => {
                self.status.errors.fetch_add(1, Ordering::Relaxed);
                tracing::debug!(error = why, ?which, "the watch of a ConfigMap of CoreDNS had an error");
                self.is_new |= known.failure.replace(why).is_none() && !known.is_listed;
            }
        }
        let blocks = Blocks::read(self.custom.keys().as_ref(), self.main.corefile().as_deref());
        self.is_new |= self.zones.see(blocks);
    }

    fn see(&mut self, service: &Service) {
        let Some(alias) = Alias::of(service) else { return };
        let (name, problem) = (alias.name.clone(), alias.found.as_ref().err().copied());
        let seen = self.index.see(alias);
        self.is_new |= seen.is_change || seen.is_new_problem;
        if let Some(problem) = problem.filter(|_| seen.is_new_problem) {
            tracing::warn!(alias = %name, problem, "a Service of KECS's can't be shadowed");
        }
    }

    fn answered(&mut self, answer: Result<Reply, RegistryError>) {
        self.is_offering = false;
        match answer {
            Ok(Reply::Shadowed { refused, is_complete }) => {
                self.is_new |= !is_complete;
                self.refusals(&refused);
            }
            Ok(_) => {}
            Err(error) => {
                tracing::warn!(%error, services = self.offered.len(), "what KECS has is told again");
                self.is_new = true;
                self.not_before = Instant::now() + Duration::from_millis(REGISTRY_RETRY_MS);
            }
        }
        self.judge();
    }

    fn refusals(&mut self, refused: &[Refusal]) {
        let told =
            |refusal: &Refusal| Some((self.offered.get(refusal.at)?.clone(), refusal.error.to_string()));
        let refused: HashSet<_> = refused.iter().filter_map(told).collect();
        let new: Vec<_> = refused.difference(&self.refused).collect();
        for (one, error) in new.iter().take(REFUSALS_LOGGED_MAX) {
            let Shadowed { service, service_name, namespace_name, .. } = one;
            tracing::warn!(
                %service, name = service_name, namespace = namespace_name, error, refused = new.len(),
                "a service of KECS's can't be shadowed"
            );
        }
        let mut listed: Vec<Refused> = refused
            .iter()
            .map(|(one, error)| Refused {
                name: format!("{}.{}", one.service_name, one.namespace_name.trim_end_matches('.'))
                    .to_ascii_lowercase(),
                service: one.service.clone(),
                why: error.clone(),
            })
            .collect();
        listed.sort();
        listed.truncate(REFUSED_KEPT_MAX);
        let mut missing = self.index.missing();
        missing.extend(self.zones.missing(&self.offered));
        if let (Some(why), false) = (&self.custom.failure, self.custom.is_listed) {
            missing.insert(format!(
                "no namespace is in DNS: the ConfigMap coredns-custom, which tells KECS's zones, can't be read: {why}"
            ));
        }
        let counts = Counts {
            services: self.offered.len() - refused.len(),
            refused: refused.len(),
            malformed: self.index.malformed(),
            left_out: self.index.left_out(),
            missing: missing.len(),
        };
        self.status.set_counts(counts, listed, missing.into_iter().take(LISTED_MAX).collect());
        self.refused = refused;
    }

    fn tick(&mut self) {
        if self.source.is_due(Instant::now()) {
            self.source.restart();
        }
        self.judge();
    }

    /// Updates the staleness in `status`: stale if the watch is, and current once the registry has caught up.
    fn judge(&mut self) {
        let why = self.source.stale();
        // The services remain stale until the registry has the changes from the time between.
        if why.is_none() && self.status.is_stale() && (self.is_new || self.is_offering) {
            return;
        }
        let is_stale = why.is_some();
        let reason = why.clone().unwrap_or_default();
        if self.status.set_stale(why) {
            match is_stale {
                true => tracing::warn!(reason, "the shadow of KECS's registry may be old"),
                false => {
                    tracing::info!(aliases = self.index.len(), "the shadow of KECS's registry is up to date")
                }
            }
        }
    }
}
