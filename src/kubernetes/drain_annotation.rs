//! Annotation on pods that have left the answers: the time from which no client that honours TTLs holds them.
//!
//! A pod has left when it is being deleted, is in maintenance, or has weight 0 beside others. The time is what `/drained`
//! says, for all servers and all services of the pod, and it follows a change of that. A pod that is answered again loses
//! the annotation.
//!
//! Only the leader writes. It looks at the pods once a second, and at those whose time is written less often.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, StreamExt as _};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use super::FIELD_MANAGER;
use super::client::error_text;
use super::follow::ObservedClient;
use super::leader::{Leadership, REQUEST_MS_MAX};
use super::pod::DRAINED_AT;
use super::pod_table::PodTable;
use super::status::WatchStatus;
use crate::model::{EpochMs, Instance, ServiceId, Uid, now_ms};
use crate::registry::health::Reason;
use crate::registry::{Hold, OtherServers, Registry, ServiceState, Subscription};

/// Interval at which pods are looked at, in milliseconds.
const LOOK_MS: u64 = 1_000;
/// Time after which the other servers are asked again about a pod whose time is written, in milliseconds.
const ASK_AGAIN_MS: u64 = 10_000;
/// Time until the next look at a pod after a server or the API server did not answer, in milliseconds.
const RETRY_MS: u64 = 5_000;
/// Pods that are looked at in one interval, and of them at a time.
const LOOKED_AT_MAX: usize = 1_000;
const AT_A_TIME_MAX: usize = 16;
/// Difference to the written time below which it stays, in milliseconds. Written times are whole seconds.
const TOLERANCE_MS: EpochMs = 1_500;

/// Task that writes the annotations while this process is the leader.
pub(super) struct DrainAnnotation {
    pub(super) client: ObservedClient,
    pub(super) registry: Registry,
    pub(super) leadership: Leadership,
    pub(super) pods: Arc<WatchStatus>,
    pub(super) pod_table: Arc<PodTable>,
    pub(super) others: Option<Arc<dyn OtherServers>>,
}

impl DrainAnnotation {
    pub(super) async fn run(self, stopped: watch::Receiver<bool>) {
        let annotate = || Annotator::new(&self).run();
        self.leadership.lead(stopped, annotate, || {}).await;
    }
}

/// A pod that has left, with its instances.
#[derive(Clone, Debug)]
struct LeftPod {
    name: Arc<str>,
    uid: Uid,
    instances: Vec<(ServiceId, Box<str>)>,
}

/// The annotation of a pod: whether it is there, and its time if that can be read.
#[derive(Clone, Copy, Default)]
struct Written {
    is_there: bool,
    at_ms: Option<EpochMs>,
}

/// Result of the last look at a pod: its annotation, or `None` if the last write failed, and the time of the next look.
struct Seen {
    uid: Uid,
    written: Option<Written>,
    next: Instant,
}

/// `away` has the pods that remain instances and have left, by service.
struct Annotator<'d> {
    settings: &'d DrainAnnotation,
    changes: Subscription,
    away: HashMap<ServiceId, Vec<LeftPod>>,
    seen: HashMap<Arc<str>, Seen>,
    /// Times of the next attempts to remove annotations that could not be removed.
    not_removed: HashMap<Arc<str>, Instant>,
    has_failed: bool,
}

impl<'d> Annotator<'d> {
    fn new(settings: &'d DrainAnnotation) -> Annotator<'d> {
        Annotator {
            settings,
            changes: settings.registry.subscribe(),
            away: HashMap::new(),
            seen: HashMap::new(),
            not_removed: HashMap::new(),
            has_failed: false,
        }
    }

    /// Writes until it is dropped, when this process stops being the leader.
    async fn run(mut self) {
        let all: Vec<ServiceId> = self.settings.registry.state().service_ids().collect();
        self.read(all);
        let mut looks = interval(Duration::from_millis(LOOK_MS));
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            looks.tick().await;
            self.read(self.changes.take_services());
            // Before all pods are known, one that has returned may look as if it had left.
            if self.settings.pods.has_synced() && self.settings.leadership.is_held() {
                self.look().await;
            }
        }
    }

    /// Finds the pods of these services that remain instances and have left.
    fn read(&mut self, services: impl IntoIterator<Item = ServiceId>) {
        let registry = &self.settings.registry;
        let state = registry.state();
        for id in services {
            let found = state.service(id.as_str()).ok();
            let away = found.map(|found| away(found, registry)).unwrap_or_default();
            if away.is_empty() {
                self.away.remove(&id);
            } else {
                self.away.insert(id, away);
            }
        }
    }

    async fn look(&mut self) {
        let left = self.left();
        self.seen.retain(|name, _| left.contains_key(name));
        let now = Instant::now();
        let is_due = |pod: &&LeftPod| {
            self.seen.get(&pod.name).is_none_or(|seen| seen.uid != pod.uid || seen.next <= now)
        };
        let mut due: Vec<LeftPod> = left.values().filter(is_due).cloned().collect();
        due.sort_by_key(|pod| self.seen.get(&pod.name).map(|seen| seen.next));
        due.truncate(LOOKED_AT_MAX);
        let settings = self.settings;
        let there = settings.pod_table.drained_at();
        let seen = &self.seen;
        let looks = due.into_iter().map(|pod| {
            let known = seen.get(&pod.name).filter(|seen| seen.uid == pod.uid).and_then(|seen| seen.written);
            // Another leader may have written it.
            let watched = || there.get(&pod.name).filter(|(uid, _)| *uid == pod.uid);
            let written = known.unwrap_or_else(|| {
                watched().map_or(Written::default(), |(_, at)| Written { is_there: true, at_ms: at.at_ms })
            });
            async move {
                let result = settings.look_at(&pod, written).await;
                (pod, result)
            }
        });
        let results: Vec<_> = stream::iter(looks).buffer_unordered(AT_A_TIME_MAX).collect().await;
        for (pod, result) in results {
            let (written, wait_ms) = match result {
                Ok((written, wait_ms)) => (Some(written), wait_ms),
                Err(why) => {
                    self.report(&why);
                    (None, RETRY_MS)
                }
            };
            let next = now + Duration::from_millis(wait_ms);
            self.seen.insert(pod.name, Seen { uid: pod.uid, written, next });
        }
        self.not_removed.retain(|name, next| there.contains_key(name) && *next > now);
        let returned = there.into_iter().filter(|(name, (_, at))| {
            !at.is_deleted && !left.contains_key(name) && !self.not_removed.contains_key(name)
        });
        let returned: Vec<_> = returned.take(LOOKED_AT_MAX).collect();
        let removals = returned.into_iter().map(|(name, (uid, _))| async move {
            let result = settings.write(&name, uid, None).await;
            (name, result)
        });
        let results: Vec<_> = stream::iter(removals).buffer_unordered(AT_A_TIME_MAX).collect().await;
        for (name, result) in results {
            if let Err(why) = result {
                self.report(&why);
                self.not_removed.insert(name, now + Duration::from_millis(RETRY_MS));
            }
        }
    }

    /// The pods that have left, by name.
    fn left(&self) -> BTreeMap<Arc<str>, LeftPod> {
        let mut left = BTreeMap::<Arc<str>, LeftPod>::new();
        let table = &self.settings.pod_table;
        // A pod that is away in one of its services is held, or even answered, in the others.
        let away = self.away.values().flatten().map(|pod| {
            let id = pod.instances.first().map(|(_, id)| id.clone()).unwrap_or_default();
            let mut instances = pod.instances.clone();
            instances.extend(table.services_of(&pod.name).into_iter().map(|service| (service, id.clone())));
            LeftPod { instances, ..pod.clone() }
        });
        for pod in away.chain(terminating(table)) {
            match left.get_mut(&pod.name).filter(|other| other.uid == pod.uid) {
                Some(other) => {
                    other.instances.extend(pod.instances);
                    other.instances.sort_unstable();
                    other.instances.dedup();
                }
                None => drop(left.insert(pod.name.clone(), pod)),
            }
        }
        left
    }

    fn report(&mut self, why: &str) {
        if !std::mem::replace(&mut self.has_failed, true) {
            tracing::warn!(error = why, "a pod cannot be annotated; let the account patch pods");
        }
    }
}

impl DrainAnnotation {
    /// Writes the time of a pod, if it is another one than what is written. Returns the annotation that is there then, and the
    /// time in milliseconds after which to look again.
    async fn look_at(&self, pod: &LeftPod, written: Written) -> Result<(Written, u64), String> {
        let own = |(service, instance): &(ServiceId, Box<str>)| self.registry.hold(service, instance);
        let mut hold = pod.instances.iter().map(own).fold(Hold::Left(Duration::ZERO), Hold::and);
        // While this server answers with it, it does not matter what the others do.
        let asked = if matches!(hold, Hold::Answered(_)) { &[][..] } else { &pod.instances[..] };
        for (service, instance) in asked {
            match self.registry.others_hold(self.others.as_deref(), service.as_str(), instance).await {
                // This server last, because its knowledge may change meanwhile.
                Ok(others) => hold = hold.and(others.and(self.registry.hold(service, instance))),
                Err(_) => return Ok((written, RETRY_MS)),
            }
        }
        let wanted_ms = match hold {
            Hold::Answered(_) => None,
            Hold::Left(held) | Hold::Unknown(held) => {
                Some(now_ms().saturating_add(held.as_millis().try_into().unwrap_or(EpochMs::MAX)))
            }
        };
        let is_written = match (wanted_ms, written.at_ms) {
            (None, _) => !written.is_there,
            (Some(_), None) => false,
            (Some(wanted), Some(written)) => {
                // A time that has passed stays what it was.
                hold.held().is_zero() && written <= wanted || (wanted - written).abs() <= TOLERANCE_MS
            }
        };
        let wait_ms = if wanted_ms.is_none() { LOOK_MS } else { ASK_AGAIN_MS };
        if is_written {
            return Ok((written, wait_ms));
        }
        self.write(&pod.name, pod.uid, wanted_ms).await?;
        Ok((Written { is_there: wanted_ms.is_some(), at_ms: wanted_ms }, wait_ms))
    }

    /// Sets or removes the annotation of the pod with this uid. A pod that does not exist any more is no error.
    async fn write(&self, pod: &str, uid: Uid, at_ms: Option<EpochMs>) -> Result<(), String> {
        let Some((namespace, name)) = pod.split_once('/') else { return Ok(()) };
        let api: Api<Pod> = Api::namespaced(self.client.client(), namespace);
        let text = at_ms.and_then(rounded_up).map(|time| time.to_string());
        let patch = json!({"metadata": {"uid": uid.to_string(), "annotations": {DRAINED_AT: text}}});
        let options = PatchParams { field_manager: Some(FIELD_MANAGER.into()), ..PatchParams::default() };
        let patch = Patch::Merge(&patch);
        let patched = api.patch_metadata(name, &options, &patch);
        match timeout(Duration::from_millis(REQUEST_MS_MAX), patched).await {
            Err(_) => Err("the API server did not answer in time".into()),
            Ok(Err(kube::Error::Api(status))) if matches!(status.code, 404 | 409) => Ok(()),
            Ok(Err(error)) => Err(error_text(&error)),
            Ok(Ok(_)) => Ok(()),
        }
    }
}

/// The time in whole seconds, so that nobody who waits for it is early.
fn rounded_up(at_ms: EpochMs) -> Option<Timestamp> {
    Timestamp::from_second(at_ms.saturating_add(999).div_euclid(1_000)).ok()
}

/// The pods of a service that remain instances of it and have left.
fn away(found: &ServiceState, registry: &Registry) -> Vec<LeftPod> {
    let answering = registry.settings().health.answering(found);
    let is_away = |instance: &&Instance| {
        instance.is_watched() && matches!(answering.reason(instance), Reason::Maintenance | Reason::NoWeight)
    };
    let pod = |instance: &Instance| {
        let instances = vec![(found.service.id.clone(), instance.id().into())];
        Some(LeftPod { name: instance.pod()?.into(), uid: instance.pod_uid()?, instances })
    };
    found.instances().iter().filter(is_away).filter_map(pod).collect()
}

/// The pods that are being deleted.
fn terminating(pod_table: &PodTable) -> impl Iterator<Item = LeftPod> {
    let mut seen = HashSet::new();
    pod_table.all_terminating().into_iter().filter_map(move |endpoint| {
        let instances = vec![(endpoint.service.clone(), endpoint.instance.clone())];
        let is_new = seen.insert((endpoint.pod.clone(), endpoint.service));
        is_new.then_some(LeftPod { name: endpoint.pod, uid: endpoint.uid, instances })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_whole_seconds_and_never_early() {
        for (at_ms, expected) in
            [(0, "1970-01-01T00:00:00Z"), (1, "1970-01-01T00:00:01Z"), (1_000, "1970-01-01T00:00:01Z")]
        {
            assert_eq!(rounded_up(at_ms).unwrap().to_string(), expected);
        }
        assert_eq!(rounded_up(EpochMs::MAX), None);
    }
}
