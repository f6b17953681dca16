//! What has changed since somebody looked last: for one that follows all changes at its own pace.
//!
//! The writer notes and never waits for the one that follows. Each namespace and service is noted once, however often it
//! changes meanwhile, so that what waits is bounded by what there is.

use std::collections::HashSet;
use std::mem;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::change::Event;

/// What has changed. Clones are the same.
#[derive(Clone, Default)]
pub struct Touched {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    is_followed: AtomicBool,
    events: Mutex<HashSet<Event>>,
    notify: Notify,
}

impl Touched {
    /// Returns when something has changed that was not taken yet.
    pub async fn wait(&self) {
        loop {
            let notified = self.shared.notify.notified();
            if !self.lock().is_empty() {
                return;
            }
            notified.await;
        }
    }

    /// What has changed since the last time. A state that is read after this has all of it.
    pub fn take(&self) -> HashSet<Event> {
        mem::take(&mut *self.lock())
    }

    pub(super) fn follow(&self) {
        self.shared.is_followed.store(true, Ordering::Relaxed);
    }

    /// Notes changes that every reader sees already.
    pub(super) fn note(&self, events: &[Event]) {
        if events.is_empty() || !self.shared.is_followed.load(Ordering::Relaxed) {
            return;
        }
        self.lock().extend(events.iter().cloned());
        self.shared.notify.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<Event>> {
        self.shared.events.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ServiceId;

    #[tokio::test]
    async fn each_change_is_told_once_to_one_that_follows() {
        let touched = Touched::default();
        let event = Event::Service(ServiceId::from("srv-1"));
        touched.note(std::slice::from_ref(&event));
        assert!(touched.take().is_empty(), "nobody followed");
        touched.follow();
        touched.note(&[event.clone(), event.clone()]);
        touched.note(std::slice::from_ref(&event));
        touched.wait().await;
        assert_eq!(touched.take(), HashSet::from([event.clone()]));
        assert!(touched.take().is_empty());
        let waiting = tokio::spawn({
            let touched = touched.clone();
            async move { touched.wait().await }
        });
        touched.note(&[event]);
        waiting.await.unwrap();
    }
}
