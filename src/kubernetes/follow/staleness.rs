use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

/// State of a follower for metrics, readiness and DNS: stale from its start until everything was read, and while the
/// API server is away, a list is being read, or the registry has not caught up.
#[derive(Debug)]
pub(in crate::kubernetes) struct Staleness {
    flag: Arc<AtomicBool>,
    stale: Mutex<Option<Stale>>,
}

/// Time in seconds since 1970 since when the objects may be outdated, and the reason; `None` until one was reported.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(in crate::kubernetes) struct Stale {
    pub(in crate::kubernetes) since_s: u64,
    pub(in crate::kubernetes) why: Option<String>,
}

impl Staleness {
    pub(in crate::kubernetes) fn is_stale(&self) -> bool {
        self.flag.load(Ordering::Relaxed)
    }

    /// Flag behind [`Staleness::is_stale`], for code that reads it for each query.
    pub(in crate::kubernetes) fn flag(&self) -> Arc<AtomicBool> {
        self.flag.clone()
    }

    /// Reason why the objects may be outdated; `None` if they are current.
    pub(in crate::kubernetes) fn stale(&self) -> Option<Stale> {
        self.lock().clone()
    }

    /// Sets the reason why the objects may be outdated, or `None` if they are current. Returns true if this changed
    /// between stale and current.
    pub(in crate::kubernetes) fn set(&self, why: Option<String>) -> bool {
        let mut stale = self.lock();
        self.flag.store(why.is_some(), Ordering::Relaxed);
        let is_new = stale.is_some() != why.is_some();
        let since_s = stale.as_ref().map_or_else(now_s, |stale| stale.since_s);
        *stale = why.map(|why| Stale { since_s, why: Some(why) });
        is_new
    }

    fn lock(&self) -> MutexGuard<'_, Option<Stale>> {
        self.stale.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Staleness {
    fn default() -> Staleness {
        let stale = Stale { since_s: now_s(), why: None };
        Staleness { flag: Arc::new(AtomicBool::new(true)), stale: Mutex::new(Some(stale)) }
    }
}

impl Stale {
    pub(in crate::kubernetes) fn seconds(&self) -> u64 {
        now_s().saturating_sub(self.since_s)
    }
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
