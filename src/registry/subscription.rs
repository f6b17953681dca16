//! Subscriptions to all changes, for tasks that process them at their own pace.
//!
//! The writer never waits for subscribers. A subscription contains each namespace and service once, however often it has
//! changed, so its size is bounded by the number of resources.

use std::collections::HashSet;
use std::mem;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::Notify;

use super::change::Event;
use crate::model::ServiceId;

/// The changes that one subscriber has not taken yet. Dropping it unsubscribes.
pub struct Subscription {
    pending: Arc<PendingEvents>,
}

/// All subscriptions. Those that were dropped are removed with the next change. `is_any` is false if there are none, so that the
/// writer need not take the lock.
#[derive(Default)]
pub(super) struct Subscribers {
    is_any: AtomicBool,
    all: Mutex<Vec<Weak<PendingEvents>>>,
}

#[derive(Default)]
struct PendingEvents {
    events: Mutex<HashSet<Event>>,
    notify: Notify,
}

impl Subscription {
    /// Waits until there is a change that was not taken yet.
    pub async fn wait(&self) {
        loop {
            let notified = self.pending.notify.notified();
            if !self.pending.lock().is_empty() {
                return;
            }
            notified.await;
        }
    }

    /// Takes the changes since the last call. A state that is read afterwards contains all of them.
    pub fn take(&self) -> HashSet<Event> {
        mem::take(&mut *self.pending.lock())
    }

    /// Takes the changes as [`Subscription::take`], and returns the services that they concern.
    pub fn take_services(&self) -> HashSet<ServiceId> {
        let services = self.take().into_iter().filter_map(|event| match event {
            Event::Service(service) => Some(service),
            Event::Namespace(_) | Event::Serial(_) => None,
        });
        services.collect()
    }
}

impl Subscribers {
    pub(super) fn subscribe(&self) -> Subscription {
        let pending = Arc::default();
        self.lock().push(Arc::downgrade(&pending));
        self.is_any.store(true, Ordering::Relaxed);
        Subscription { pending }
    }

    /// Adds changes to all subscriptions. Call it after the changes were published, so that subscribers can read them.
    pub(super) fn notify(&self, events: &[Event]) {
        if events.is_empty() || !self.is_any.load(Ordering::Relaxed) {
            return;
        }
        let mut all = self.lock();
        all.retain(|subscriber| {
            let Some(pending) = subscriber.upgrade() else { return false };
            pending.lock().extend(events.iter().cloned());
            pending.notify.notify_one();
            true
        });
        self.is_any.store(!all.is_empty(), Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Weak<PendingEvents>>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PendingEvents {
    fn lock(&self) -> MutexGuard<'_, HashSet<Event>> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ServiceId;

    #[tokio::test]
    async fn each_subscriber_receives_each_changed_resource_once() {
        let subscribers = Subscribers::default();
        let event = Event::Service(ServiceId::from("srv-1"));
        subscribers.notify(std::slice::from_ref(&event));
        let (one, two) = (subscribers.subscribe(), subscribers.subscribe());
        assert!(one.take().is_empty(), "the change was before the subscription");
        subscribers.notify(&[event.clone(), event.clone()]);
        subscribers.notify(std::slice::from_ref(&event));
        for subscription in [&one, &two] {
            subscription.wait().await;
            assert_eq!(subscription.take(), HashSet::from([event.clone()]));
            assert!(subscription.take().is_empty());
        }
        drop(two);
        let waiting = tokio::spawn(async move { one.wait().await });
        subscribers.notify(std::slice::from_ref(&event));
        waiting.await.unwrap();
        subscribers.notify(&[event]);
        assert!(subscribers.lock().is_empty());
    }
}
