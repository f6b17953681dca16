use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// State of the mirror. The leader writes it; metrics and readiness read it.
#[derive(Debug, Default)]
pub struct MirrorStatus {
    pub(super) writes: AtomicU64,
    pub(super) errors: AtomicU64,
    numbers: Mutex<Numbers>,
}

/// Values that change together, and the counters of writes (including deletions) and of failed requests since the
/// start. On a server that is not the leader, all but the counters are empty. `waiting` services are in the queue,
/// `clashes` are names that objects of somebody else have, and `refused` objects are not accepted by the API server.
/// `unavailable` is the reason why nothing can be written now.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Numbers {
    pub writes: u64,
    pub errors: u64,
    pub objects: usize,
    pub waiting: usize,
    pub clashes: usize,
    pub refused: usize,
    pub unavailable: Option<String>,
}

impl MirrorStatus {
    /// Snapshot of all values, including the counters.
    pub fn numbers(&self) -> Numbers {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let numbers = self.numbers.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Numbers { writes: load(&self.writes), errors: load(&self.errors), ..numbers }
    }

    /// Sentence about the state, for readiness.
    pub fn line(&self) -> String {
        let numbers = self.numbers();
        let mut line = format!("{} objects mirror Cloud Map's services", numbers.objects);
        for (count, what) in [
            (numbers.waiting, "services wait to be written"),
            (numbers.clashes, "names are taken by objects of others"),
            (numbers.refused, "objects are refused by the API server"),
        ] {
            if count > 0 {
                line.push_str(&format!("; {count} {what}"));
            }
        }
        if let Some(why) = numbers.unavailable {
            line.push_str(&format!("; nothing can be written: {why}"));
        }
        line
    }

    pub(super) fn set(&self, numbers: Numbers) {
        *self.numbers.lock().unwrap_or_else(PoisonError::into_inner) = numbers;
    }

    pub(super) fn clear(&self) {
        self.set(Numbers::default());
    }
}
