//! Lag of the watch: the time from the API server's response to a write of this server until the watch delivers that
//! version.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::kind::Kind;

/// Limit of the pending writes of one kind; further ones are not measured.
const PENDING_MAX: usize = 4_096;

#[derive(Default)]
pub(super) struct Lag {
    kinds: Mutex<BTreeMap<Kind, Measured>>,
}

/// Writes of one kind. The watch has delivered everything up to the resourceVersion `delivered`. `pending` writes
/// were not delivered yet; they are kept by resourceVersion, with the times of their responses.
#[derive(Default)]
struct Measured {
    delivered: u64,
    pending: BTreeMap<u64, Instant>,
    seen: KindLag,
}

/// Time that the watch took to deliver the writes of one kind: the number of delivered writes of this server, the
/// sum of their times, and the time of the last one, or the waiting time of the oldest pending one if that is
/// longer.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[expect(missing_docs, reason = "the type's document explains the fields")]
pub struct KindLag {
    pub writes: u64,
    pub total: Duration,
    pub last: Duration,
}

impl Lag {
    pub(super) fn wrote(&self, kind: Kind, version: u64, now: Instant) {
        self.change(kind, |measured| {
            if measured.delivered >= version {
                measured.seen.add(Duration::ZERO);
            } else if measured.pending.len() < PENDING_MAX {
                measured.pending.insert(version, now);
            }
        });
    }

    pub(super) fn delivered(&self, kind: Kind, version: u64, now: Instant) {
        self.change(kind, |measured| {
            measured.delivered = version;
            let later = measured.pending.split_off(&(version + 1));
            for answered in std::mem::replace(&mut measured.pending, later).into_values() {
                measured.seen.add(now.saturating_duration_since(answered));
            }
        });
    }

    /// Drops the pending writes of a kind that was listed again, because a list does not tell when each of them arrived.
    pub(super) fn listed(&self, kind: Kind) {
        self.change(kind, |measured| measured.pending.clear());
    }

    pub(super) fn kinds(&self, now: Instant) -> Vec<(Kind, KindLag)> {
        let kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        kinds
            .iter()
            .map(|(kind, measured)| {
                let waited = measured.pending.first_key_value();
                let waited = waited.map(|(_, answered)| now.saturating_duration_since(*answered));
                let last = measured.seen.last.max(waited.unwrap_or_default());
                (*kind, KindLag { last, ..measured.seen })
            })
            .collect()
    }

    fn change(&self, kind: Kind, change: impl FnOnce(&mut Measured)) {
        let mut kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        change(kinds.entry(kind).or_default());
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
    fn lag_is_measured_from_the_response_until_the_watch_delivers_the_write() {
        let (lag, start) = (Lag::default(), Instant::now());
        let at = |ms| start + Duration::from_millis(ms);
        lag.wrote(Kind::Service, 10, at(0));
        lag.wrote(Kind::Service, 12, at(5));
        assert_eq!(lag.kinds(at(30))[0].1, KindLag { last: Duration::from_millis(30), ..KindLag::default() });
        lag.delivered(Kind::Service, 11, at(40));
        let [(kind, seen)] = &lag.kinds(at(40))[..] else { panic!("one kind") };
        assert_eq!((*kind, seen.writes, seen.total), (Kind::Service, 1, Duration::from_millis(40)));
        lag.delivered(Kind::Service, 12, at(45));
        // The watch delivered version 12 before its response arrived.
        lag.wrote(Kind::Service, 12, at(50));
        let seen = lag.kinds(at(60))[0].1;
        assert_eq!((seen.writes, seen.total, seen.last), (3, Duration::from_millis(80), Duration::ZERO));
    }
}
