//! Cache of the mirrored objects in the cluster, and the plan of the writes that make them equal to the desired
//! objects.

use std::collections::{BTreeSet, HashMap};

use super::object::{Head, Key, Kind, Object};
use crate::kubernetes::follow::ListTracker;

#[derive(Debug, Default)]
pub(super) struct ObjectCache {
    objects: HashMap<Key, LiveObject>,
    by_service: HashMap<Box<str>, BTreeSet<Key>>,
    /// Ports of instances that the Service of each Cloud Map service had last, even if it was deleted since.
    ports: HashMap<Box<str>, Vec<u16>>,
    lists: HashMap<Kind, ListTracker<Key>>,
}

/// State of an object in the cluster. `version` is its `resourceVersion` as a number, which grows with each change, or 0 if
/// it is not a number; `service` is the id of the Cloud Map service in its annotation, or empty; `head` is the content of a
/// Service.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct LiveObject {
    pub(super) uid: String,
    pub(super) version: u64,
    pub(super) fingerprint: u64,
    pub(super) service: Box<str>,
    pub(super) head: Option<Head>,
}

/// Write that brings the cluster closer to the desired objects. The uid, which may be unknown when an object is
/// applied, must be that of the object in the cluster.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Action {
    Apply(Object, Option<String>),
    Delete(Key, String),
}

impl ObjectCache {
    /// Inserts or updates an object. Returns the services to reconcile, because the object differs from its last known
    /// state.
    pub(super) fn upsert(&mut self, key: Key, actual: LiveObject) -> Vec<Box<str>> {
        if let Some(list) = self.lists.get_mut(&key.kind) {
            list.listed(&key);
        }
        if let Some(head) = actual.head.as_ref().filter(|head| !head.ports.is_empty()) {
            self.ports.insert(actual.service.clone(), head.ports.clone());
        }
        match self.objects.get(&key) {
            Some(known) if known.uid == actual.uid && known.version > actual.version => return Vec::new(),
            Some(known) if known.uid == actual.uid && known.fingerprint == actual.fingerprint => {
                self.objects.insert(key, actual);
                return Vec::new();
            }
            // Keep the service that the object was written for, because somebody may have changed its annotation
            // since.
            Some(known) if known.uid == actual.uid => {
                let service = known.service.clone();
                self.objects.insert(key, LiveObject { service: service.clone(), ..actual });
                return vec![service];
            }
            _ => {}
        }
        let mut concerned = vec![actual.service.clone()];
        concerned.extend(self.remove(&key).filter(|service| *service != actual.service));
        self.by_service.entry(actual.service.clone()).or_default().insert(key.clone());
        self.objects.insert(key, actual);
        concerned
    }

    pub(super) fn list_begins(&mut self, kind: Kind) {
        self.lists.entry(kind).or_default().begin();
    }

    /// Completes the list: objects that it lacks were deleted. Returns the services that they were for.
    pub(super) fn list_ends(&mut self, kind: Kind) -> Vec<Box<str>> {
        let known = self.objects.keys().filter(|key| key.kind == kind);
        let gone: Vec<Key> = self.lists.entry(kind).or_default().accept(known, |key| key).cloned().collect();
        gone.iter().filter_map(|key| self.remove(key)).collect()
    }

    pub(super) fn services(&self) -> impl Iterator<Item = &str> {
        self.by_service.keys().map(AsRef::as_ref)
    }

    pub(super) fn len(&self) -> usize {
        self.objects.len()
    }

    pub(super) fn has(&self, key: &Key) -> bool {
        self.objects.contains_key(key)
    }

    /// Ports of instances that the Service of a Cloud Map service has, or had last.
    pub(super) fn ports(&self, service: &str) -> &[u16] {
        self.ports.get(service).map_or(&[], Vec::as_slice)
    }

    /// Forgets the ports of a service that does not exist any more.
    pub(super) fn forget_ports(&mut self, service: &str) {
        self.ports.remove(service);
    }

    /// Writes for one service. New objects are written before anything is deleted, so that no address is missing while
    /// it moves from one slice to another. Only a Service of another form is deleted first, because Kubernetes never takes
    /// away a cluster IP, nor gives one to a headless Service.
    pub(super) fn plan(&self, service: &str, desired: Vec<Object>) -> Vec<Action> {
        let mut left = self.by_service.get(service).cloned().unwrap_or_default();
        let mut actions = Vec::new();
        for object in desired {
            left.remove(&object.key);
            match self.objects.get(&object.key) {
                Some(actual) if actual.fingerprint == object.fingerprint() => {}
                Some(LiveObject { head: Some(head), uid, .. })
                    if object.head().is_some_and(|wanted| wanted.form != head.form) =>
                {
                    actions.push(Action::Delete(object.key.clone(), uid.clone()));
                    actions.push(Action::Apply(object, None));
                }
                actual => {
                    let uid = actual.map(|actual| actual.uid.clone());
                    actions.push(Action::Apply(object, uid));
                }
            }
        }
        // The reverse order deletes slices and Endpoints before their Service.
        for key in left.into_iter().rev() {
            if let Some(actual) = self.objects.get(&key) {
                actions.push(Action::Delete(key, actual.uid.clone()));
            }
        }
        actions
    }

    /// Removes an object as [`ObjectCache::remove`], unless another one has its name meanwhile.
    pub(super) fn remove_version(&mut self, key: &Key, uid: &str) -> Option<Box<str>> {
        self.objects.get(key).filter(|object| object.uid == uid)?;
        self.remove(key)
    }

    /// Removes an object that was deleted or has lost our labels. Returns the service that it was for.
    pub(super) fn remove(&mut self, key: &Key) -> Option<Box<str>> {
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
