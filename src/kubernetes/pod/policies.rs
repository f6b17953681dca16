//! Policies that a pod's annotations set, which take precedence over those of its services and of the settings.

use crate::model::PodTimes;
use crate::model::signals::is_reason;
use crate::registry::health::{HealthOf, Hour, PolicyError, Threshold, parse_weight};

use super::object::Pod;

const WEIGHT: &str = "cloudmap-dns.io/weight";
const HEALTH_OF: &str = "cloudmap-dns.io/health-of";
const MAINTENANCE: &str = "cloudmap-dns.io/maintenance";
const GRACE: &str = "cloudmap-dns.io/grace";
const UP_AFTER: &str = "cloudmap-dns.io/up-after";
const DOWN_AFTER: &str = "cloudmap-dns.io/down-after";
/// Characters of an invalid value that its problem quotes.
const SHOWN_CHARACTERS_MAX: usize = 40;

/// Policies of one pod, and a sentence about each annotation that is invalid and therefore does not count.
#[derive(Debug, Default, Eq, PartialEq)]
pub(super) struct PodPolicies {
    pub(super) weight: Option<u8>,
    pub(super) health_of: Option<HealthOf>,
    pub(super) times: PodTimes,
    /// Reason for maintenance; empty if the annotation only orders it.
    pub(super) maintenance: Option<String>,
    pub(super) problems: Vec<String>,
}

impl PodPolicies {
    pub(super) fn of(pod: &Pod) -> PodPolicies {
        let mut policies = PodPolicies::default();
        let weight = |text: &str| parse_weight(Some(text)).ok_or(PolicyError("a weight from 0 to 255"));
        policies.weight = policies.read(pod, WEIGHT, weight);
        policies.health_of = policies.read(pod, HEALTH_OF, str::parse);
        policies.times = PodTimes {
            grace_s: policies.read(pod, GRACE, str::parse).map(Hour::seconds),
            up_after_s: policies.read(pod, UP_AFTER, str::parse).map(Threshold::seconds),
            down_after_s: policies.read(pod, DOWN_AFTER, str::parse).map(Threshold::seconds),
        };
        policies.maintenance = policies.read(pod, MAINTENANCE, maintenance).flatten();
        policies
    }

    fn read<T>(
        &mut self,
        pod: &Pod,
        key: &str,
        parse: impl FnOnce(&str) -> Result<T, PolicyError>,
    ) -> Option<T> {
        let text = pod.annotation(key)?;
        parse(text)
            .map_err(|valid| {
                let shown: String = text.chars().take(SHOWN_CHARACTERS_MAX).collect();
                self.problems
                    .push(format!("the annotation {key} has the value {shown:?}, which is not {valid}"));
            })
            .ok()
    }
}

/// The reason is the value itself, unless it is one of the words that order maintenance without a reason, or none.
fn maintenance(text: &str) -> Result<Option<String>, PolicyError> {
    match text.trim() {
        "off" | "false" => Ok(None),
        "on" | "true" | "" => Ok(Some(String::new())),
        reason if !is_reason(reason) => {
            Err(PolicyError("a reason of at most 200 bytes without control characters, or one of on, off"))
        }
        reason => Ok(Some(reason.to_string())),
    }
}
