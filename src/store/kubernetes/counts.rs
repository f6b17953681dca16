//! The numbers of healthy and of all instances in the statuses of services, which include the instances of pods.
//!
//! Instances of pods are not stored; only the registry has them. So this task follows the registry, and schedules a write
//! of the status of each service that shows another count. Such writes are delayed by seconds and limited to a few in a
//! second, like all that differ in counts alone, so that pods that come and go do not cost one write each.
//!
//! Counts are left unchanged while the list of pods may be outdated, because another server may have a newer one.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::kubernetes::WatchStatus;
use crate::model::{HealthStatus, Instance, ServiceId};
use crate::registry::{HealthSettings, Registry, ServiceState, State};

use super::shared::Shared;

/// Time for which changes are collected before they are compared with the statuses, in milliseconds.
const COLLECT_MS: u64 = 250;
const PODS_POLL_MS: u64 = 1_000;
const COMPARED_AT_ONCE_MAX: usize = 1_000;

/// The task that keeps the counts in the statuses of services up to date.
#[derive(Clone)]
pub struct ServiceCounts {
    shared: Arc<Shared>,
}

/// The registry, which counts instances, and the state of the watch of pods, which can be outdated.
pub(super) struct Source {
    registry: Registry,
    pods: Arc<WatchStatus>,
}

/// Removes the registry from the store when the task ends, because a store that holds its own registry is never dropped.
struct Following<'s>(&'s Shared);

impl Drop for Following<'_> {
    fn drop(&mut self) {
        *self.0.counted.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl Source {
    fn is_current(&self) -> bool {
        self.pods.has_synced() && !self.pods.is_stale()
    }
}

impl ServiceCounts {
    pub(super) fn new(shared: Arc<Shared>) -> ServiceCounts {
        ServiceCounts { shared }
    }

    /// Follows the registry that uses this store, until the task is dropped.
    pub async fn follow(self, registry: Registry, pods: Arc<WatchStatus>) {
        let shared = &*self.shared;
        let touched = registry.subscribe();
        let source = Source { registry: registry.clone(), pods: pods.clone() };
        *shared.counted.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(Source { registry: registry.clone(), pods });
        let _following = Following(shared);
        let mut poll = interval(Duration::from_millis(PODS_POLL_MS));
        poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut was_current = false;
        loop {
            let is_current = source.is_current();
            if is_current && !was_current {
                // Statuses were not compared while the list of pods was outdated, and some may date from before the
                // start.
                drop(touched.take());
                let state = registry.state();
                let all: Vec<_> = state.service_ids().collect();
                self.compare(&state, &all).await;
            }
            was_current = is_current;
            tokio::select! {
                _ = poll.tick() => {}
                () = touched.wait(), if is_current => {
                    sleep(Duration::from_millis(COLLECT_MS)).await;
                    let services: Vec<_> = touched.take_services().into_iter().collect();
                    self.compare(&registry.state(), &services).await;
                }
            }
        }
    }

    async fn compare(&self, state: &State, services: &[ServiceId]) {
        for some in services.chunks(COMPARED_AT_ONCE_MAX) {
            {
                let mut index = self.shared.index();
                for id in some {
                    if let Ok(found) = state.service(id.as_str()) {
                        let text = text(found, index.policies());
                        index.compare_counts(id, &text);
                    }
                }
            }
            tokio::task::yield_now().await;
        }
    }
}

impl Shared {
    /// The state in which instances are counted; `None` while the list of pods may be outdated.
    pub(super) fn counted(&self) -> Option<Arc<State>> {
        let source = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        source.as_ref().filter(|source| source.is_current()).map(|source| source.registry.state())
    }
}

/// Formats the numbers of healthy and of all instances for a status, such as `3/4`. An instance without health checks
/// counts as healthy, and the instance of a pod does once the pod is ready.
pub(super) fn text(found: &ServiceState, policies: &HealthSettings) -> String {
    let health = policies.of(found);
    let is_healthy = |instance: &&Instance| match health.status_of(instance) {
        HealthStatus::Healthy => true,
        HealthStatus::Unknown => !found.service.watches(instance),
        HealthStatus::Unhealthy => false,
    };
    let instances = found.instances();
    format!("{}/{}", instances.iter().filter(is_healthy).count(), instances.len())
}
