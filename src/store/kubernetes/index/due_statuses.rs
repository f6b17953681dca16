//! Times at which the statuses of objects are compared with what they should be.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::super::kind::Kind;
use super::super::object_cache::Name;

/// Minimum delay of a write of a status, in milliseconds, so that one write covers many changes.
const STATUS_DELAY_MS_MIN: u64 = 500;
/// Range of the random part of the delay, in milliseconds: one of several replicas writes first, and the others find the
/// status up to date.
const STATUS_DELAY_MS_RANGE: u64 = 2_000;
/// Minimum delay of the status of a service if only its instances changed, in milliseconds. Nothing depends on the counts
/// in it, and each write of them costs the API server as much as a registration.
const COUNTS_DELAY_MS_MIN: u64 = 5_000;

struct Due {
    at: Instant,
    counts_only: bool,
}

/// The objects whose statuses are to be compared. Of operations, empty records are scheduled for deletion in this queue.
#[derive(Default)]
pub(super) struct DueStatuses(HashMap<(Kind, Name), Due>);

impl DueStatuses {
    /// Schedules a comparison after a random delay; an earlier scheduled time is kept.
    pub(super) fn schedule(&mut self, kind: Kind, name: Name, counts_only: bool) {
        let wait_ms = if counts_only { COUNTS_DELAY_MS_MIN } else { STATUS_DELAY_MS_MIN };
        let at = Instant::now() + Duration::from_millis(wait_ms + fastrand::u64(..STATUS_DELAY_MS_RANGE));
        let due = self.0.entry((kind, name)).or_insert(Due { at, counts_only });
        due.counts_only &= counts_only;
        // The first server by chance spares the others, so scheduling again must not draw an earlier time again and
        // again.
        if due.at > at + Duration::from_millis(STATUS_DELAY_MS_RANGE) {
            due.at = at;
        }
    }

    /// Takes at most `most` objects whose statuses are due, and at most `counts_most` of those in which only counts may
    /// differ. The last value is true for the latter.
    pub(super) fn take(&mut self, now: Instant, most: usize, counts_most: usize) -> Vec<(Kind, Name, bool)> {
        let mut taken = Vec::new();
        for (counts_only, most) in [(false, most), (true, counts_most)] {
            let due = self.0.iter().filter(|(_, due)| due.counts_only == counts_only && due.at <= now);
            let mut due: Vec<_> = due.map(|(key, due)| (due.at, key)).collect();
            if due.len() > most {
                due.select_nth_unstable(most);
                due.truncate(most);
            }
            taken.extend(due.into_iter().map(|(_, (kind, name))| (*kind, name.clone(), counts_only)));
        }
        for (kind, name, _) in &taken {
            self.0.remove(&(*kind, name.clone()));
        }
        taken
    }
}
