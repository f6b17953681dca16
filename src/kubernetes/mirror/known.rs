//! The mirrored objects that are in the cluster, and what is to be done so that they are what they should be.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::object::{Key, Kind, Object};

/// What is known of the objects that are ours.
#[derive(Debug, Default)]
pub(super) struct Known {
    objects: HashMap<Key, Actual>,
    by_service: HashMap<Box<str>, BTreeSet<Key>>,
    /// The keys that a list under way has not named yet, by kind.
    unlisted: HashMap<Kind, HashSet<Key>>,
}

/// An object in the cluster.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Actual {
    pub(super) uid: String,
    /// Grows with each change; 0 when the API server's versions are no numbers.
    pub(super) version: u64,
    pub(super) fingerprint: u64,
    /// The id of the Cloud Map service that it says it is for; empty when it says none.
    pub(super) service: Box<str>,
}

/// One step to what should be.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Action {
    /// Write the object; with the id of the one that is there, when one is known.
    Apply(Object, Option<String>),
    /// Delete the object of this id.
    Delete(Key, String),
}

impl Known {
    /// An object is there. Returns the services that may have to do something about it: what was known of it differs.
    pub(super) fn see(&mut self, key: Key, actual: Actual) -> Vec<Box<str>> {
        if let Some(kind) = self.unlisted.get_mut(&key.kind) {
            kind.remove(&key);
        }
        match self.objects.get(&key) {
            Some(known) if known.uid == actual.uid && known.version > actual.version => return Vec::new(),
            Some(known) if known.uid == actual.uid && known.fingerprint == actual.fingerprint => {
                self.objects.insert(key, actual);
                return Vec::new();
            }
            // Whose it is was known when it was written; what somebody changed in it since says nothing of that.
            Some(known) if known.uid == actual.uid => {
                let service = known.service.clone();
                self.objects.insert(key, Actual { service: service.clone(), ..actual });
                return vec![service];
            }
            _ => {}
        }
        let mut concerned = vec![actual.service.clone()];
        concerned.extend(self.forget(&key).filter(|service| *service != actual.service));
        self.by_service.entry(actual.service.clone()).or_default().insert(key.clone());
        self.objects.insert(key, actual);
        concerned
    }

    /// An object is gone, or is not ours any more. Returns the service that it was for.
    pub(super) fn leave(&mut self, key: &Key) -> Option<Box<str>> {
        self.forget(key)
    }

    /// A list of all objects of a kind begins.
    pub(super) fn list_begins(&mut self, kind: Kind) {
        let keys = self.objects.keys().filter(|key| key.kind == kind).cloned().collect();
        self.unlisted.insert(kind, keys);
    }

    /// The list is complete: what it did not name is gone. Returns the services that it was for.
    pub(super) fn list_ends(&mut self, kind: Kind) -> Vec<Box<str>> {
        let gone = self.unlisted.remove(&kind).unwrap_or_default();
        gone.iter().filter_map(|key| self.forget(key)).collect()
    }

    /// The services that there are objects for.
    pub(super) fn services(&self) -> impl Iterator<Item = &str> {
        self.by_service.keys().map(AsRef::as_ref)
    }

    /// How many objects there are.
    pub(super) fn len(&self) -> usize {
        self.objects.len()
    }

    /// What is to be done for one service. What is new is written before anything is deleted, so that no address is missing
    /// while it moves from one slice to another.
    pub(super) fn plan(&self, service: &str, desired: Vec<Object>) -> Vec<Action> {
        let mut left = self.by_service.get(service).cloned().unwrap_or_default();
        let mut actions = Vec::new();
        for object in desired {
            left.remove(&object.key);
            match self.objects.get(&object.key) {
                Some(actual) if actual.fingerprint == object.fingerprint() => {}
                actual => {
                    let uid = actual.map(|actual| actual.uid.clone());
                    actions.push(Action::Apply(object, uid));
                }
            }
        }
        // Slices go before their Service.
        for key in left.into_iter().rev() {
            if let Some(actual) = self.objects.get(&key) {
                actions.push(Action::Delete(key, actual.uid.clone()));
            }
        }
        actions
    }

    fn forget(&mut self, key: &Key) -> Option<Box<str>> {
        let service = self.objects.remove(key)?.service;
        if let Some(keys) = self.by_service.get_mut(&service) {
            keys.remove(key);
            if keys.is_empty() {
                self.by_service.remove(&service);
            }
        }
        Some(service)
    }
}
