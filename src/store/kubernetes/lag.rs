//! Lag of the watch behind the cluster: the time from the API server's answer to a write of this server until the watch
//! shows that version.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Writes of one kind that are waited for. More of them are not measured.
const AWAITED_MAX: usize = 4_096;

/// Measures of all kinds, by their names in the plural.
#[derive(Default)]
pub(super) struct Lag {
    kinds: Mutex<HashMap<String, Measured>>,
}

/// Measures of one kind of object.
#[derive(Default)]
struct Measured {
    /// etcd's number up to which the watch has shown everything.
    shown: u64,
    /// Writes that the watch has not shown, by etcd's number, and when they were answered.
    awaited: BTreeMap<u64, Instant>,
    seen: KindLag,
}

/// Time that the watch took to show the writes of one kind.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct KindLag {
    /// Writes that the watch has shown.
    pub writes: u64,
    /// Sum of the times that these writes took to be shown.
    pub total: Duration,
    /// The time of the last one; longer while one is waited for that took longer already.
    pub last: Duration,
}

impl Lag {
    /// The API server has answered a write with this number.
    pub(super) fn wrote(&self, kind: &str, version: u64, now: Instant) {
        self.change(kind, |measured| {
            if measured.shown >= version {
                measured.seen.add(Duration::ZERO);
            } else if measured.awaited.len() < AWAITED_MAX {
                measured.awaited.insert(version, now);
            }
        });
    }

    /// The watch has shown everything up to this number.
    pub(super) fn shown(&self, kind: &str, version: u64, now: Instant) {
        self.change(kind, |measured| {
            measured.shown = version;
            let later = measured.awaited.split_off(&(version + 1));
            for answered in std::mem::replace(&mut measured.awaited, later).into_values() {
                measured.seen.add(now.saturating_duration_since(answered));
            }
        });
    }

    /// All objects of a kind were listed anew, with no word about single versions.
    pub(super) fn listed(&self, kind: &str) {
        self.change(kind, |measured| measured.awaited.clear());
    }

    /// The measures of each kind.
    pub(super) fn kinds(&self, now: Instant) -> Vec<(String, KindLag)> {
        let kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<_> = kinds
            .iter()
            .map(|(kind, measured)| {
                let waited = measured.awaited.first_key_value();
                let waited = waited.map(|(_, answered)| now.saturating_duration_since(*answered));
                let last = measured.seen.last.max(waited.unwrap_or_default());
                (kind.clone(), KindLag { last, ..measured.seen })
            })
            .collect();
        all.sort_by(|(one, _), (other, _)| one.cmp(other));
        all
    }

    fn change(&self, kind: &str, change: impl FnOnce(&mut Measured)) {
        let mut kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        match kinds.get_mut(kind) {
            Some(measured) => change(measured),
            None => change(kinds.entry(kind.into()).or_default()),
        }
    }
}

impl KindLag {
    fn add(&mut self, time: Duration) {
        self.writes += 1;
        self.total += time;
        self.last = time;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_counts_from_its_answer_until_the_watch_shows_it() {
        let (lag, start) = (Lag::default(), Instant::now());
        let at = |ms| start + Duration::from_millis(ms);
        lag.wrote("services", 10, at(0));
        lag.wrote("services", 12, at(5));
        assert_eq!(lag.kinds(at(30))[0].1, KindLag { last: Duration::from_millis(30), ..KindLag::default() });
        lag.shown("services", 11, at(40));
        let [(kind, seen)] = &lag.kinds(at(40))[..] else { panic!("one kind") };
        assert_eq!((kind.as_str(), seen.writes, seen.total), ("services", 1, Duration::from_millis(40)));
        lag.shown("services", 12, at(45));
        // The watch was faster than the answer.
        lag.wrote("services", 12, at(50));
        let seen = lag.kinds(at(60))[0].1;
        assert_eq!((seen.writes, seen.total, seen.last), (3, Duration::from_millis(80), Duration::ZERO));
    }
}
