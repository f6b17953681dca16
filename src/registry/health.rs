//! Health of instances, and the decision which instances are answered. No other code decides either.
//!
//! DNS, DiscoverInstances without a filter, the mirror and `explain` all use [`Answering`], so that they cannot disagree.
//!
//! An instance has independent signals: a pod's readiness, the status that clients have reported with the Cloud Map API, the
//! reports of other systems, reports that are missing, and maintenance. If one
//! says UNHEALTHY, the instance is UNHEALTHY; else if one says HEALTHY, it is HEALTHY, but a pod only while it is ready;
//! else it is UNKNOWN. Healthy instances are answered. Unknown ones are answered according to [`UnknownHealth`], and
//! unhealthy ones only while their service has fewer healthy ones than [`MinimumHealthy`] demands, and never in
//! maintenance. An instance without a health check is always answered, because its health will never be known.
//!
//! - [`policy`]: values of policies, and their texts
//! - `status`: the status of an instance, and its cause
//! - `readiness`: the readiness of a pod that counts, after grace and thresholds
//! - `timing`: what time alone changes in the signals that are stored about an instance
//! - `checked`: which instances active checks watch, and when their results change a status
//! - `answering`: which instances are answered, and why

mod answering;
mod checked;
pub mod policy;
mod readiness;
mod status;
#[cfg(test)]
mod tests;
mod timing;

use std::collections::BTreeMap;
use std::str::FromStr;

use crate::model::Service;

use super::state::{ServiceState, State};

pub use answering::{Answering, Rank, Reason, Shortage};
pub use checked::{CheckCondition, CheckedNetworks};
pub use policy::{
    AnswerMax, Day, HealthOf, Hour, MinimumHealthy, Period, PolicyError, Threshold, UnknownHealth,
    parse_weight,
};
pub use status::{Cause, CauseKind};
pub use timing::Elapsed;

/// Service attributes that override the policies of [`HealthSettings`].
const FAIL_OPEN: &str = "fail-open";
const UNKNOWN: &str = "unknown";
const MINIMUM_HEALTHY: &str = "minimum-healthy";
const ANSWER_MAX: &str = "answer-max";
const HEALTH_OF: &str = "health-of";
const GRACE: &str = "grace";
const UP_AFTER: &str = "up-after";
const DOWN_AFTER: &str = "down-after";
const HEARTBEAT: &str = "heartbeat";
const EXPIRE: &str = "expire";
const CUSTOM_HEALTH_DELAY: &str = "custom-health-delay";
const SETTLING_TTL: &str = "settling-ttl";

/// Health policies. A service can override each of them by a service attribute of the setting's name, except for the
/// networks that are checked.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct HealthSettings {
    /// Policy for instances whose health is checked but not known yet.
    pub unknown: UnknownHealth,
    /// Number of healthy instances below which unhealthy ones are answered too. The setting and attribute `fail-open` is
    /// another word for 1, which is AWS's rule for multivalue answers.
    pub minimum_healthy: MinimumHealthy,
    /// Limit on the records of a multivalue answer.
    pub answer_max: AnswerMax,
    /// Readiness that decides the health of pods. A pod's annotation overrides it.
    pub health_of: HealthOf,
    /// Time after the start of a pod during which its readiness cannot make it UNHEALTHY: it is UNKNOWN. A pod's annotation
    /// overrides it.
    pub grace: Hour,
    /// Condition under which reports, or the readiness of a pod, change the status to HEALTHY. Readiness has no observations
    /// to count, so it changes the status at once unless the condition is a time. A pod's annotation overrides it.
    pub up_after: Threshold,
    /// Condition under which they change the status to UNHEALTHY, as for `up_after`.
    pub down_after: Threshold,
    /// Time after its last report after which an instance that clients report on is UNHEALTHY; 0 for never.
    pub heartbeat: Day,
    /// Time after its last report after which such an instance is deregistered; 0 for never.
    pub expire: Day,
    /// Time for which a reported status has to last before it counts. AWS waits 30 seconds.
    pub custom_health_delay: Hour,
    /// Largest TTL of the answers while the service settles after a change, or has pods that are not ready yet; 0 for no
    /// limit. Whole seconds count.
    pub settling_ttl: Hour,
    /// Networks whose instances active checks watch.
    pub checked: CheckedNetworks,
}

/// Health of the instances of one service, under the policies that its attributes and the settings give it.
#[derive(Clone, Copy, Debug)]
pub struct ServiceHealth<'s> {
    service: &'s Service,
    is_private: bool,
    settings: HealthSettings,
}

impl ServiceHealth<'_> {
    /// The policies that apply to the service.
    pub fn settings(&self) -> &HealthSettings {
        &self.settings
    }
}

/// Finds the service attributes that are policies with invalid values: the key, the value, and the valid ones.
pub fn invalid_policies(
    service_attributes: &BTreeMap<String, String>,
) -> impl Iterator<Item = (&str, &str, PolicyError)> {
    service_attributes.iter().filter_map(|(key, value)| {
        let checked = match key.as_str() {
            FAIL_OPEN => fail_open(value).map(drop),
            UNKNOWN => value.parse::<UnknownHealth>().map(drop),
            MINIMUM_HEALTHY => value.parse::<MinimumHealthy>().map(drop),
            ANSWER_MAX => value.parse::<AnswerMax>().map(drop),
            HEALTH_OF => value.parse::<HealthOf>().map(drop),
            GRACE | CUSTOM_HEALTH_DELAY | SETTLING_TTL => value.parse::<Hour>().map(drop),
            UP_AFTER | DOWN_AFTER => value.parse::<Threshold>().map(drop),
            HEARTBEAT | EXPIRE => value.parse::<Day>().map(drop),
            _ => Ok(()),
        };
        Some((key.as_str(), value.as_str(), checked.err()?))
    })
}

fn fail_open(value: &str) -> Result<MinimumHealthy, PolicyError> {
    match value {
        "true" => Ok(MinimumHealthy::FAIL_OPEN),
        "false" => Ok(MinimumHealthy::default()),
        _ => Err(PolicyError("one of true, false")),
    }
}

impl HealthSettings {
    /// Returns these settings as a service's attributes override them. An attribute with an invalid value is ignored.
    fn overridden_by(&self, attributes: &BTreeMap<String, String>) -> HealthSettings {
        fn value<T: FromStr>(attributes: &BTreeMap<String, String>, key: &str) -> Option<T> {
            attributes.get(key)?.parse().ok()
        }
        if attributes.is_empty() {
            return *self;
        }
        let fail_open = || fail_open(attributes.get(FAIL_OPEN)?).ok();
        HealthSettings {
            unknown: value(attributes, UNKNOWN).unwrap_or(self.unknown),
            minimum_healthy: value(attributes, MINIMUM_HEALTHY)
                .or_else(fail_open)
                .unwrap_or(self.minimum_healthy),
            answer_max: value(attributes, ANSWER_MAX).unwrap_or(self.answer_max),
            health_of: value(attributes, HEALTH_OF).unwrap_or(self.health_of),
            grace: value(attributes, GRACE).unwrap_or(self.grace),
            up_after: value(attributes, UP_AFTER).unwrap_or(self.up_after),
            down_after: value(attributes, DOWN_AFTER).unwrap_or(self.down_after),
            heartbeat: value(attributes, HEARTBEAT).unwrap_or(self.heartbeat),
            expire: value(attributes, EXPIRE).unwrap_or(self.expire),
            custom_health_delay: value(attributes, CUSTOM_HEALTH_DELAY).unwrap_or(self.custom_health_delay),
            settling_ttl: value(attributes, SETTLING_TTL).unwrap_or(self.settling_ttl),
            checked: self.checked,
        }
    }
}
