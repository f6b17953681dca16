//! Values that the handles of a registry and its writer share.

use std::sync::{Arc, PoisonError, RwLock};

use tokio::sync::{Notify, mpsc, watch};

use super::{
    departures::Departures, history::History, message::Message, served::Served, settings::Settings,
    sought::Finder, state::State, subscription::Subscribers,
};

pub(super) struct Shared {
    pub(super) sender: mpsc::Sender<Message>,
    /// Newest version. The lock is only held to read or replace the pointer.
    pub(super) state: RwLock<Arc<State>>,
    pub(super) store_failure: RwLock<Option<Arc<String>>>,
    pub(super) changed: watch::Sender<u64>,
    pub(super) subscribers: Subscribers,
    pub(super) history: Arc<History>,
    pub(super) departures: Departures,
    pub(super) served: Arc<Served>,
    pub(super) settings: Arc<Settings>,
    pub(super) finder: Option<Arc<dyn Finder>>,
    pub(super) state_replaced: Notify,
}

pub(super) fn get<T: Clone>(shared: &RwLock<T>) -> T {
    shared.read().unwrap_or_else(PoisonError::into_inner).clone()
}

/// Replaces a value, and frees the old one after the lock was released, because that can take long.
pub(super) fn set<T>(shared: &RwLock<T>, value: T) {
    let old = std::mem::replace(&mut *shared.write().unwrap_or_else(PoisonError::into_inner), value);
    drop(old);
}
