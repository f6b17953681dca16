//! Changes since the last look, for tasks that follow all changes at their own pace.
//!
//! The writer notes and never waits for those that follow. Each namespace and service is noted once, however often it
//! changes meanwhile, so that what waits is bounded by what there is.

use std::collections::HashSet;
use std::mem;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::Notify;

use super::change::Event;

/// Changes that one follower has not taken yet. Dropping it unsubscribes.
pub struct Touched {
    noted: Arc<Noted>,
}

/// Followers of all changes; those that were dropped leave with the next change.
#[derive(Default)]
pub(super) struct Followers {
    /// False without followers, so that the writer takes no lock for them.
    are_there: AtomicBool,
    all: Mutex<Vec<Weak<Noted>>>,
}

#[derive(Default)]
struct Noted {
    events: Mutex<HashSet<Event>>,
    notify: Notify,
}

impl Touched {
    /// Returns when something has changed that was not taken yet.
    pub async fn wait(&self) {
        loop {
            let notified = self.noted.notify.notified();
            if !self.noted.lock().is_empty() {
                return;
            }
            notified.await;
        }
    }

    /// Changes since the last call. A state that is read after this contains all of them.
    pub fn take(&self) -> HashSet<Event> {
        mem::take(&mut *self.noted.lock())
    }
}

impl Followers {
    /// Adds a follower, which gets every change from now on.
    pub(super) fn follow(&self) -> Touched {
        let noted = Arc::default();
        self.lock().push(Arc::downgrade(&noted));
        self.are_there.store(true, Ordering::Relaxed);
        Touched { noted }
    }

    /// Notes changes that are published already.
    pub(super) fn note(&self, events: &[Event]) {
        if events.is_empty() || !self.are_there.load(Ordering::Relaxed) {
            return;
        }
        let mut all = self.lock();
        all.retain(|follower| {
            let Some(noted) = follower.upgrade() else { return false };
            noted.lock().extend(events.iter().cloned());
            noted.notify.notify_one();
            true
        });
        self.are_there.store(!all.is_empty(), Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Weak<Noted>>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Noted {
    fn lock(&self) -> MutexGuard<'_, HashSet<Event>> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ServiceId;

    #[tokio::test]
    async fn each_change_is_told_once_to_each_that_follows() {
        let followers = Followers::default();
        let event = Event::Service(ServiceId::from("srv-1"));
        followers.note(std::slice::from_ref(&event));
        let (one, two) = (followers.follow(), followers.follow());
        assert!(one.take().is_empty(), "nobody followed");
        followers.note(&[event.clone(), event.clone()]);
        followers.note(std::slice::from_ref(&event));
        for touched in [&one, &two] {
            touched.wait().await;
            assert_eq!(touched.take(), HashSet::from([event.clone()]));
            assert!(touched.take().is_empty());
        }
        drop(two);
        let waiting = tokio::spawn(async move { one.wait().await });
        followers.note(std::slice::from_ref(&event));
        waiting.await.unwrap();
        // The last one has gone with its task.
        followers.note(&[event]);
        assert!(followers.lock().is_empty());
    }
}
