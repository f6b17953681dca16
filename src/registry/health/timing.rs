//! Changes of the signals that are stored about an instance which follow from time alone.
//!
//! One server decides this, and stores the result, which all servers then apply. The decision depends on nothing but the
//! stored signals, the pod and the policies, so that another server can take over at any moment.

use crate::model::{CustomHealthStatus, EpochMs, Instance, Report, Signals};

use super::policy::Threshold;
use super::{HealthSettings, ServiceHealth};

/// Change to store about an instance because of the time: other signals, with its custom health status, or that it is
/// deregistered.
#[derive(Clone, Debug, Eq, PartialEq)]
#[expect(missing_docs, reason = "the type's document explains the variants")]
pub enum Elapsed {
    Signals(Option<CustomHealthStatus>, Box<Signals>),
    Expired,
}

/// The earliest of the times for which something waits.
#[derive(Default)]
struct Next(Option<EpochMs>);

impl Next {
    /// True if the time has come; otherwise it is waited for.
    fn has_come(&mut self, due_ms: EpochMs, now_ms: EpochMs) -> bool {
        if due_ms <= now_ms {
            return true;
        }
        self.0 = Some(self.0.map_or(due_ms, |next| next.min(due_ms)));
        false
    }
}

impl ServiceHealth<'_> {
    /// Returns what is to be stored about an instance at this time, if anything, and the next time at which something will
    /// be if nothing else happens. `registered_ms` is the time at which the API registered it, if that is known.
    pub fn elapsed(
        &self,
        instance: &Instance,
        signals: &Signals,
        registered_ms: Option<EpochMs>,
        now_ms: EpochMs,
    ) -> (Option<Elapsed>, Option<EpochMs>) {
        let mut next = Next::default();
        let mut new = signals.clone();
        let mut status = instance.custom_health();
        if let Some(pending) = &signals.pending
            && let Some(wait_ms) = self.report_wait_ms(pending.report.status, pending.count)
            && next.has_come(pending.report.reported_ms.saturating_add(wait_ms), now_ms)
        {
            status = Some(pending.report.status);
            new.report = Some(Report::clone(&pending.report));
            new.pending = None;
        }
        new.sources.retain(|source| source.valid_until_ms.is_none_or(|until| !next.has_come(until, now_ms)));
        if self.must_report(instance) {
            match new.alive_ms {
                None => new.alive_ms = Some(now_ms),
                Some(alive) => {
                    // An instance in maintenance cannot report.
                    if self.expires(instance)
                        && signals.maintenance.is_none()
                        && next.has_come(alive.saturating_add(self.settings.expire.ms()), now_ms)
                    {
                        return (Some(Elapsed::Expired), None);
                    }
                    let missed_ms = alive
                        .saturating_add(self.settings.heartbeat.ms())
                        .max(self.grace_end_ms(instance, registered_ms));
                    if self.has_heartbeat(instance)
                        && new.missed_ms.is_none()
                        && next.has_come(missed_ms, now_ms)
                    {
                        new.missed_ms = Some(now_ms);
                    }
                }
            }
        } else {
            new.alive_ms = None;
        }
        if !self.has_heartbeat(instance) {
            new.missed_ms = None;
        }
        if let Some((readiness, due_ms)) = self.settled(instance).and_then(|settled| settled.due)
            && next.has_come(due_ms, now_ms)
        {
            new.confirmed = Some(readiness);
        }
        if new == *signals {
            return (None, next.0);
        }
        // A change may begin another wait, such as that for the first heartbeat.
        let (_, then) = self.elapsed(instance, &new, registered_ms, now_ms);
        (Some(Elapsed::Signals(status, new.into())), then)
    }

    /// Time in milliseconds for which reports of this status have to last before they count, after so many of them; `None`
    /// if more reports are needed.
    pub fn report_wait_ms(&self, status: CustomHealthStatus, count: u8) -> Option<EpochMs> {
        let delay_ms = self.settings.custom_health_delay.ms();
        let threshold = match status {
            CustomHealthStatus::Healthy => self.settings.up_after,
            CustomHealthStatus::Unhealthy => self.settings.down_after,
        };
        match threshold {
            Threshold::Observations(wanted) if count < wanted => None,
            Threshold::Observations(_) => Some(delay_ms),
            Threshold::Time(time) => Some(time.ms().max(delay_ms)),
        }
    }

    /// True if a policy of time applies to instances of the service.
    pub fn has_times(&self) -> bool {
        let HealthSettings { grace, up_after, down_after, heartbeat, expire, .. } = self.settings;
        !(grace.is_zero() && heartbeat.is_zero() && expire.is_zero())
            || up_after.seconds() > 0
            || down_after.seconds() > 0
    }

    /// True if the instance has to report regularly to stay HEALTHY, as instances of the API that clients report on.
    pub fn has_heartbeat(&self, instance: &Instance) -> bool {
        !self.settings.heartbeat.is_zero() && self.is_reported(instance)
    }

    /// True if the time of the instance's last report matters.
    pub fn must_report(&self, instance: &Instance) -> bool {
        self.has_heartbeat(instance) || self.expires(instance)
    }

    /// True if the instance is deregistered some time after its last report.
    fn expires(&self, instance: &Instance) -> bool {
        !self.settings.expire.is_zero() && self.is_reported(instance)
    }

    fn is_reported(&self, instance: &Instance) -> bool {
        self.service.custom_health_check.is_some() && !instance.is_watched()
    }
}
