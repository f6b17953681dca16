//! The readiness of a pod that counts, after grace and thresholds.
//!
//! A readiness that has to last for a time counts once it is confirmed by a stored signal, which names the time at which the
//! readiness began. So all servers change the status together, and a server that starts, or takes over the timers, needs
//! nothing but the pod and the stored signal.

use crate::model::{ConfirmedReadiness, EpochMs, Instance, PodTimes, Readiness};

use super::policy::HealthOf;
use super::{HealthSettings, ServiceHealth, State};

/// A readiness that counts. `due` is the readiness of the pod itself if it does not count yet, and the time at which it will.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Settled {
    pub(super) readiness: Readiness,
    pub(super) due: Option<(ConfirmedReadiness, EpochMs)>,
}

/// Times in milliseconds that apply to one instance.
pub(super) struct Times {
    pub(super) grace: EpochMs,
    pub(super) up: EpochMs,
    pub(super) down: EpochMs,
}

impl ServiceHealth<'_> {
    /// The readiness that counts for an instance; `None` for an instance that is no pod.
    pub fn readiness(&self, instance: &Instance) -> Option<Readiness> {
        self.settled(instance).map(|settled| settled.readiness)
    }

    /// The readiness of the pod or container itself, if it does not count yet.
    pub(super) fn waiting_readiness(&self, instance: &Instance) -> Option<Readiness> {
        let (waiting, _) = self.settled(instance)?.due?;
        Some(waiting.readiness)
    }

    pub(super) fn settled(&self, instance: &Instance) -> Option<Settled> {
        let (readiness, changed_s) = match self.settings.health_of {
            HealthOf::Pod => (instance.readiness()?, instance.readiness_changed_s()?),
            HealthOf::Container => {
                (instance.container_readiness()?, instance.container_readiness_changed_s()?)
            }
        };
        let times = self.times(instance);
        let confirmed = instance.confirmed_readiness();
        // Only of a pod that was ready anything is confirmed, which this server may not have seen.
        let readiness = match readiness {
            Readiness::NeverReady if confirmed.is_some() => Readiness::NotReady,
            readiness => readiness,
        };
        let at_once = Settled { readiness, due: None };
        if (times.grace, times.up, times.down) == (0, 0, 0) {
            return Some(at_once);
        }
        let was_confirmed_ready = confirmed.is_some_and(|found| found.readiness == Readiness::Ready);
        let now = ConfirmedReadiness { readiness, changed_s };
        let is_confirmed = confirmed == Some(now);
        let changed_ms = ms(changed_s);
        Some(match readiness {
            Readiness::NeverReady => at_once,
            Readiness::Ready if times.up == 0 || is_confirmed => at_once,
            // An interruption that was never confirmed did not count.
            Readiness::Ready if times.down > 0 && was_confirmed_ready => at_once,
            Readiness::Ready => {
                let is_in_grace = changed_ms < ms(instance.pod_started_s()?) + times.grace;
                let before = match confirmed {
                    Some(_) if was_confirmed_ready && is_in_grace => Readiness::NeverReady,
                    Some(_) => Readiness::NotReady,
                    None => Readiness::NeverReady,
                };
                Settled { readiness: before, due: Some((now, changed_ms + times.up)) }
            }
            Readiness::NotReady => {
                let grace_end_ms = ms(instance.pod_started_s()?) + times.grace;
                let is_in_grace = changed_ms < grace_end_ms;
                if is_confirmed || (times.down == 0 && !is_in_grace) {
                    return Some(at_once);
                }
                let end_ms = if is_in_grace { grace_end_ms } else { changed_ms };
                let before = match confirmed {
                    _ if is_in_grace => Readiness::NeverReady,
                    // Without a time for becoming HEALTHY, the pod was so while it was ready, and nothing confirmed it.
                    _ if times.up == 0 && changed_s > 0 => Readiness::Ready,
                    Some(_) if was_confirmed_ready => Readiness::Ready,
                    Some(_) => Readiness::NotReady,
                    None => Readiness::NeverReady,
                };
                Settled { readiness: before, due: Some((now, end_ms.max(changed_ms + times.down))) }
            }
        })
    }

    /// End of the time after its start during which readiness, checks and heartbeats cannot make an instance UNHEALTHY. An
    /// instance of the API started when it was registered, `registered_ms`; without it that time is over.
    pub fn grace_end_ms(&self, instance: &Instance, registered_ms: Option<EpochMs>) -> EpochMs {
        let started_ms = instance.pod_started_s().map(ms).or(registered_ms).unwrap_or(0);
        started_ms.saturating_add(self.times(instance).grace)
    }

    /// The time at which the API registered an instance, if a grace period makes it matter.
    pub fn registered_ms(&self, state: &State, instance: &Instance) -> Option<EpochMs> {
        if self.settings.grace.is_zero() { None } else { state.registered_ms(self.service, instance) }
    }

    pub(super) fn times(&self, instance: &Instance) -> Times {
        let HealthSettings { grace, up_after, down_after, .. } = self.settings;
        let own = if instance.has_details() { instance.pod_details().times } else { PodTimes::default() };
        Times {
            grace: ms(own.grace_s.unwrap_or(grace.seconds())),
            up: ms(own.up_after_s.unwrap_or(up_after.seconds())),
            down: ms(own.down_after_s.unwrap_or(down_after.seconds())),
        }
    }
}

fn ms(seconds: u32) -> EpochMs {
    EpochMs::from(seconds) * 1_000
}
