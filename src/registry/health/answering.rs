//! The decision which instances of a service are answered.

use crate::model::{HealthStatus, Instance, instance::WEIGHT};

use super::super::state::ServiceState;
use super::policy::{UnknownHealth, parse_weight};
use super::{HealthSettings, ServiceHealth};

impl HealthSettings {
    /// Makes the decision for all instances of a service, with these settings as defaults.
    pub fn answering<'s>(&self, state: &'s ServiceState) -> Answering<'s> {
        let health = self.of(state);
        let candidates = || state.instances().iter().filter(|instance| !instance.is_in_maintenance());
        let weightless = candidates().filter(|instance| weight(instance) == 0).count();
        let mut answering = Answering {
            health,
            excludes_weight_0: weightless > 0 && weightless < candidates().count(),
            has_healthy: false,
            shortage: None,
        };
        let (mut eligible, mut healthy, mut has_healthy) = (0, 0, false);
        for instance in state.instances().iter().filter(|instance| answering.is_eligible(instance)) {
            eligible += 1;
            has_healthy |= health.status_of(instance) == HealthStatus::Healthy;
            healthy += usize::from(answering.health_rank(instance) == Rank::Healthy);
        }
        answering.has_healthy = has_healthy;
        let minimum = health.settings.minimum_healthy.of(eligible);
        answering.shortage = (healthy < minimum).then_some(Shortage { healthy, eligible });
        answering
    }
}

/// Decision which instances of one service are answered.
#[derive(Clone, Copy, Debug)]
pub struct Answering<'s> {
    health: ServiceHealth<'s>,
    excludes_weight_0: bool,
    has_healthy: bool,
    shortage: Option<Shortage>,
}

/// Numbers of a service that has fewer healthy instances than [`MinimumHealthy`](super::MinimumHealthy) demands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(missing_docs, reason = "the type's document explains the fields")]
pub struct Shortage {
    pub healthy: usize,
    pub eligible: usize,
}

/// Order in which instances fill an answer that has no room for all of them. Instances of one rank are drawn.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
#[expect(missing_docs, reason = "the variants are health statuses")]
pub enum Rank {
    Healthy,
    Unknown,
    Unhealthy,
}

/// Reason why an instance is answered or not.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Reason {
    /// Answered: its health is known to be HEALTHY.
    Healthy,
    /// Answered: no health check and no pod's readiness determines its health.
    Unwatched,
    /// Answered: its health is not known yet, and the policy is to serve such instances.
    UnknownServed,
    /// Answered: its health is not known yet, and no instance of the service is HEALTHY.
    UnknownFallback,
    /// Answered although its health is not HEALTHY, because the service has a [`Shortage`].
    Shortage,
    /// Not answered: its health is known to be UNHEALTHY.
    Unhealthy,
    /// Not answered: its health is not known yet, and another instance of the service is HEALTHY.
    UnknownBesideHealthy,
    /// Not answered: its health is not known yet, and the policy is to withhold such instances.
    UnknownWithheld,
    /// Not answered: its weight is 0, and another instance has a larger one.
    NoWeight,
    /// Not answered: it is in maintenance.
    Maintenance,
}

impl Reason {
    /// Returns true if DNS and DiscoverInstances answer with the instance.
    pub fn is_answered(self) -> bool {
        match self {
            Reason::Healthy
            | Reason::Unwatched
            | Reason::UnknownServed
            | Reason::UnknownFallback
            | Reason::Shortage => true,
            Reason::Unhealthy
            | Reason::UnknownBesideHealthy
            | Reason::UnknownWithheld
            | Reason::NoWeight
            | Reason::Maintenance => false,
        }
    }
}

impl Answering<'_> {
    /// Policies that apply to the service, after its attributes have overridden the defaults.
    pub fn settings(&self) -> HealthSettings {
        self.health.settings
    }

    /// Health of the service's instances.
    pub fn health(&self) -> ServiceHealth<'_> {
        self.health
    }

    /// Returns true if DNS and DiscoverInstances answer with this instance of the service.
    pub fn answers(&self, instance: &Instance) -> bool {
        self.reason(instance).is_answered()
    }

    /// Numbers of the service if unhealthy instances are answered too.
    pub fn shortage(&self) -> Option<Shortage> {
        self.shortage
    }

    /// Returns the rank of this instance in the service's answers; `None` if it is not answered.
    pub fn rank(&self, instance: &Instance) -> Option<Rank> {
        let rank = if self.shortage.is_some() { self.health_rank(instance) } else { Rank::Healthy };
        self.answers(instance).then_some(rank)
    }

    fn health_rank(&self, instance: &Instance) -> Rank {
        match (self.health.status_of(instance), self.health.settings.unknown) {
            (HealthStatus::Healthy, _) | (HealthStatus::Unknown, UnknownHealth::Serve) => Rank::Healthy,
            (HealthStatus::Unknown, _) if !self.health.service.watches(instance) => Rank::Healthy,
            (HealthStatus::Unknown, _) => Rank::Unknown,
            (HealthStatus::Unhealthy, _) => Rank::Unhealthy,
        }
    }

    /// Returns the reason why this instance of the service is answered or not.
    pub fn reason(&self, instance: &Instance) -> Reason {
        if instance.is_in_maintenance() {
            return Reason::Maintenance;
        }
        if !self.is_eligible(instance) {
            return Reason::NoWeight;
        }
        match self.health_reason(instance) {
            Reason::Unhealthy | Reason::UnknownBesideHealthy if self.shortage.is_some() => Reason::Shortage,
            reason => reason,
        }
    }

    fn is_eligible(&self, instance: &Instance) -> bool {
        !instance.is_in_maintenance() && (!self.excludes_weight_0 || weight(instance) > 0)
    }

    fn health_reason(&self, instance: &Instance) -> Reason {
        match (self.health.status_of(instance), self.health.settings.unknown) {
            (HealthStatus::Healthy, _) => Reason::Healthy,
            (HealthStatus::Unhealthy, _) => Reason::Unhealthy,
            (HealthStatus::Unknown, _) if !self.health.service.watches(instance) => Reason::Unwatched,
            (HealthStatus::Unknown, UnknownHealth::Serve) => Reason::UnknownServed,
            (HealthStatus::Unknown, UnknownHealth::Withhold) => Reason::UnknownWithheld,
            (HealthStatus::Unknown, UnknownHealth::Fallback) if self.has_healthy => {
                Reason::UnknownBesideHealthy
            }
            (HealthStatus::Unknown, UnknownHealth::Fallback) => Reason::UnknownFallback,
        }
    }
}

/// Weight of an instance, 1 if its attribute is invalid.
fn weight(instance: &Instance) -> u8 {
    parse_weight(instance.attribute(WEIGHT)).unwrap_or(1)
}
