//! The policies' values and their texts in settings, service attributes and annotations.

use std::fmt;
use std::str::FromStr;

use crate::model::EpochMs;

/// Number of healthy instances below which a service's unhealthy instances are answered too; 0 for never.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(missing_docs, reason = "the type's document explains the variants")]
pub enum MinimumHealthy {
    Count(u32),
    /// Share of the service's instances, rounded up.
    Percent(u8),
}

impl MinimumHealthy {
    /// Answers unhealthy instances while no instance is healthy.
    pub const FAIL_OPEN: MinimumHealthy = MinimumHealthy::Count(1);
    const COUNT_MAX: u32 = 1_000_000;

    pub(super) fn of(self, instances: usize) -> usize {
        match self {
            MinimumHealthy::Count(count) => count as usize,
            MinimumHealthy::Percent(percent) => (instances * usize::from(percent)).div_ceil(100),
        }
    }
}

impl Default for MinimumHealthy {
    fn default() -> MinimumHealthy {
        MinimumHealthy::Count(0)
    }
}

impl fmt::Display for MinimumHealthy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MinimumHealthy::Count(count) => write!(f, "{count}"),
            MinimumHealthy::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

impl FromStr for MinimumHealthy {
    type Err = PolicyError;

    fn from_str(text: &str) -> Result<MinimumHealthy, PolicyError> {
        let parsed = match text.strip_suffix('%') {
            Some(percent) => digits(percent, 100).map(|percent| MinimumHealthy::Percent(percent as u8)),
            None => digits(text, MinimumHealthy::COUNT_MAX).map(MinimumHealthy::Count),
        };
        parsed
            .ok_or(PolicyError("a number of instances from 0 to 1000000, or a share of them from 0% to 100%"))
    }
}

/// Limit on the records of a multivalue answer, from 1 to 64; Cloud Map's is 8.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct AnswerMax(u8);

impl AnswerMax {
    /// Largest limit. It bounds the memory of an answer that is being made.
    pub const MAX: u8 = 64;

    #[expect(missing_docs, reason = "the type's document explains it")]
    pub fn records(self) -> u8 {
        self.0
    }
}

impl Default for AnswerMax {
    fn default() -> AnswerMax {
        AnswerMax(8)
    }
}

impl fmt::Display for AnswerMax {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl TryFrom<u64> for AnswerMax {
    type Error = PolicyError;

    fn try_from(records: u64) -> Result<AnswerMax, PolicyError> {
        let records = u8::try_from(records).ok().filter(|records| (1..=AnswerMax::MAX).contains(records));
        records.map(AnswerMax).ok_or(PolicyError("a number of records from 1 to 64"))
    }
}

impl FromStr for AnswerMax {
    type Err = PolicyError;

    fn from_str(text: &str) -> Result<AnswerMax, PolicyError> {
        AnswerMax::try_from(digits(text, AnswerMax::MAX.into()).map_or(0, u64::from))
    }
}

/// A time in whole seconds from 0 to `MAX_S`, such as `30s`, `5m` or `1h`.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub struct Period<const MAX_S: u32>(u32);

/// A time of at most an hour.
pub type Hour = Period<3_600>;
/// A time of at most a day.
pub type Day = Period<86_400>;

impl<const MAX_S: u32> Period<MAX_S> {
    /// The time in milliseconds, the unit of all stored times.
    pub fn ms(self) -> EpochMs {
        EpochMs::from(self.0) * 1_000
    }

    #[expect(missing_docs, reason = "the name says what is returned")]
    pub fn seconds(self) -> u32 {
        self.0
    }

    /// True for a time of no seconds, which turns a policy off.
    pub fn is_zero(self) -> bool {
        self.0 == 0
    }

    const VALID: PolicyError = match MAX_S {
        3_600 => PolicyError("a time from 0s to 1h, such as 90s, 5m or 1h"),
        _ => PolicyError("a time from 0s to 24h, such as 90s, 5m or 1h"),
    };
}

impl<const MAX_S: u32> fmt::Display for Period<MAX_S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => write!(f, "0s"),
            seconds if seconds.is_multiple_of(3_600) => write!(f, "{}h", seconds / 3_600),
            seconds if seconds.is_multiple_of(60) => write!(f, "{}m", seconds / 60),
            seconds => write!(f, "{seconds}s"),
        }
    }
}

impl<const MAX_S: u32> FromStr for Period<MAX_S> {
    type Err = PolicyError;

    fn from_str(text: &str) -> Result<Period<MAX_S>, PolicyError> {
        let units = [("s", 1), ("m", 60), ("h", 3_600)];
        let parsed = units.into_iter().find_map(|(unit, seconds)| {
            digits(text.strip_suffix(unit)?, MAX_S)?.checked_mul(seconds).filter(|total| *total <= MAX_S)
        });
        parsed.map(Period).ok_or(Period::<MAX_S>::VALID)
    }
}

/// Condition under which a signal changes the status: it says so for the nth time in a row, or for a time.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(missing_docs, reason = "the type's document explains the variants")]
pub enum Threshold {
    Observations(u8),
    Time(Hour),
}

impl Threshold {
    const OBSERVATIONS_MAX: u32 = 10;

    /// The time in seconds for which a signal has to last; 0 for a number of observations.
    pub fn seconds(self) -> u32 {
        match self {
            Threshold::Observations(_) => 0,
            Threshold::Time(time) => time.seconds(),
        }
    }
}

impl Default for Threshold {
    fn default() -> Threshold {
        Threshold::Observations(1)
    }
}

impl fmt::Display for Threshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Threshold::Observations(count) => count.fmt(f),
            Threshold::Time(time) => time.fmt(f),
        }
    }
}

impl FromStr for Threshold {
    type Err = PolicyError;

    fn from_str(text: &str) -> Result<Threshold, PolicyError> {
        let valid =
            PolicyError("a number of observations from 1 to 10, or a time from 0s to 1h, such as 30s");
        match digits(text, Threshold::OBSERVATIONS_MAX) {
            Some(count @ 1..) => Ok(Threshold::Observations(count as u8)),
            Some(_) => Err(valid),
            None => text.parse().map(Threshold::Time).map_err(|_| valid),
        }
    }
}

/// The error for an invalid value of a policy: a description of the valid ones.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{0}")]
pub struct PolicyError(pub &'static str);

fn digits(text: &str, max: u32) -> Option<u32> {
    // `parse` would accept a plus sign.
    let number = text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?;
    number.filter(|number| *number <= max)
}

/// Policy for instances whose health is checked but not known yet, such as pods that have never been ready.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum UnknownHealth {
    /// Such instances are answered like HEALTHY ones.
    Serve,
    /// Such instances are answered only while their service has no HEALTHY instance: a service that starts is reachable, and
    /// a rolling update directs no client to a task that is not ready.
    #[default]
    Fallback,
    /// Such instances are not answered until their health is known.
    Withhold,
}

impl UnknownHealth {
    /// Every policy with its value in settings and service attributes.
    pub const WORDS: &'static [(&'static str, UnknownHealth)] = &[
        ("serve", UnknownHealth::Serve),
        ("fallback", UnknownHealth::Fallback),
        ("withhold", UnknownHealth::Withhold),
    ];
}

impl FromStr for UnknownHealth {
    type Err = PolicyError;

    fn from_str(text: &str) -> Result<UnknownHealth, PolicyError> {
        let known = UnknownHealth::WORDS.iter().find(|(word, _)| *word == text);
        known.map(|(_, unknown)| *unknown).ok_or(PolicyError("one of serve, fallback, withhold"))
    }
}

/// Readiness that decides the health of an instance which is a pod.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum HealthOf {
    /// The readiness of the pod, which needs that of all its containers.
    #[default]
    Pod,
    /// The readiness of the container that the instance's port belongs to, so that a sidecar which fails takes nothing
    /// away. ECS counts essential containers. A registry without a container name has the readiness of the pod.
    Container,
}

impl HealthOf {
    /// Every policy with its value in settings, service attributes and annotations.
    pub const WORDS: &'static [(&'static str, HealthOf)] =
        &[("pod", HealthOf::Pod), ("container", HealthOf::Container)];
}

impl FromStr for HealthOf {
    type Err = PolicyError;

    fn from_str(text: &str) -> Result<HealthOf, PolicyError> {
        let known = HealthOf::WORDS.iter().find(|(word, _)| *word == text);
        known.map(|(_, of)| *of).ok_or(PolicyError("one of pod, container"))
    }
}

/// Weight of an instance in answers that contain one, and in its SRV record: its attribute `WEIGHT`, else 1. `None` for an
/// invalid value.
pub fn parse_weight(attribute: Option<&str>) -> Option<u8> {
    attribute.map_or(Some(1), |value| digits(value, u8::MAX.into()).map(|weight| weight as u8))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_have_texts_and_limits() {
        for (text, minimum, of_seven) in
            [("0", MinimumHealthy::Count(0), 0), ("50%", MinimumHealthy::Percent(50), 4)]
        {
            assert_eq!(text.parse(), Ok(minimum));
            assert_eq!((minimum.to_string().as_str(), minimum.of(7)), (text, of_seven));
        }
        for invalid in ["", "%", "-1", "+1", "1.5", "101%", "1000001", "50 %", "99999999999"] {
            assert!(invalid.parse::<MinimumHealthy>().is_err(), "{invalid}");
            assert!(invalid.parse::<AnswerMax>().is_err(), "{invalid}");
        }
        assert_eq!(("64".parse(), "0".parse::<AnswerMax>().is_err()), (Ok(AnswerMax(64)), true));
        assert_eq!(
            [None, Some("0"), Some("255"), Some("256")].map(parse_weight),
            [Some(1), Some(0), Some(255), None]
        );
    }

    #[test]
    fn times_and_thresholds_have_texts_and_limits() {
        for (text, ms, shown) in
            [("0s", 0, "0s"), ("90s", 90_000, "90s"), ("60m", 3_600_000, "1h"), ("120s", 120_000, "2m")]
        {
            let hour: Hour = text.parse().unwrap();
            assert_eq!((hour.ms(), hour.to_string().as_str()), (ms, shown));
        }
        assert_eq!("24h".parse::<Day>().map(Day::ms), Ok(86_400_000));
        for invalid in ["", "s", "5", "-1s", "1.5h", "61m", "2h", "3601s", "99999999999s", "1d", "1S", " 1s"]
        {
            assert!(invalid.parse::<Hour>().is_err(), "{invalid}");
        }
        assert!("25h".parse::<Day>().is_err());
        for (text, expected) in [
            ("1", Threshold::Observations(1)),
            ("10", Threshold::Observations(10)),
            ("30s", Threshold::Time("30s".parse().unwrap())),
        ] {
            assert_eq!(text.parse(), Ok(expected));
            assert_eq!(expected.to_string(), text);
        }
        for invalid in ["0", "11", "", "3x", "2h"] {
            assert!(invalid.parse::<Threshold>().is_err(), "{invalid}");
        }
    }
}
