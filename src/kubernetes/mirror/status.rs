//! How the mirror stands, for whoever asks.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// How the mirror stands. The mirror writes it; everybody reads it.
#[derive(Debug, Default)]
pub struct MirrorStatus {
    pub(super) writes: AtomicU64,
    pub(super) errors: AtomicU64,
    numbers: Mutex<Numbers>,
}

/// Numbers of the mirror, for metrics. All but the first two are 0 at a server that does not write.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Numbers {
    /// Objects that were written or deleted since the start.
    pub writes: u64,
    /// Requests that failed since the start.
    pub errors: u64,
    /// Objects that are in the cluster.
    pub objects: usize,
    /// Services whose objects may have to be written.
    pub waiting: usize,
    /// Objects of somebody else that have a name that is needed.
    pub clashes: usize,
    /// Objects that the API server does not take.
    pub refused: usize,
    /// Why nothing can be written just now.
    pub away: Option<String>,
}

impl MirrorStatus {
    /// All of it.
    pub fn numbers(&self) -> Numbers {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let numbers = self.numbers.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Numbers { writes: load(&self.writes), errors: load(&self.errors), ..numbers }
    }

    /// One line for people.
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
        if let Some(why) = numbers.away {
            line.push_str(&format!("; nothing can be written: {why}"));
        }
        line
    }

    pub(super) fn set(&self, numbers: Numbers) {
        *self.numbers.lock().unwrap_or_else(PoisonError::into_inner) = numbers;
    }

    /// This process does not write any more.
    pub(super) fn rest(&self) {
        self.set(Numbers::default());
    }
}
