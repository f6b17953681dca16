//! The pods that there are, as the API server has them and as DNS has to answer them.

use crate::support::world::{self, Size};

use super::recording::Recording;
use super::task::{SERVICES_PER_NAMESPACE, Shape, Task};

/// The Cloud Map services that the pods are in.
pub(crate) const SIZE: Size = Size { namespaces: 5, services_per_namespace: SERVICES_PER_NAMESPACE };
pub(crate) const SERVICES: usize = SIZE.namespaces * SERVICES_PER_NAMESPACE;
pub(crate) const PODS_PER_SERVICE: usize = world::INSTANCES_PER_SERVICE;
/// Pods at the beginning.
pub(crate) const PODS: usize = SERVICES * PODS_PER_SERVICE;
/// Coprime to the number of services: changes go round all of them, each time to one that is far from the last.
const STRIDE: usize = 7_919;

/// What happens to a pod.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    NotReady,
    Ready,
    Address,
    Deleted,
    Added,
}

impl Kind {
    /// In the order in which they happen to one place of a service, over and over.
    pub(crate) const ALL: [Kind; 5] =
        [Kind::NotReady, Kind::Ready, Kind::Address, Kind::Deleted, Kind::Added];

    pub(crate) fn title(self) -> &'static str {
        match self {
            Kind::NotReady => "MODIFIED: not ready any more",
            Kind::Ready => "MODIFIED: ready again",
            Kind::Address => "MODIFIED: another address",
            Kind::Deleted => "DELETED",
            Kind::Added => "ADDED: another pod",
        }
    }
}

/// A change, and what DNS answers for its service before and after it.
pub(crate) struct Happened {
    pub(crate) kind: Kind,
    pub(crate) service: usize,
    pub(crate) before: Vec<[u8; 4]>,
    pub(crate) after: Vec<[u8; 4]>,
}

/// All pods.
pub(crate) struct Fleet {
    recording: Recording,
    /// By service and place; nothing where the pod is gone.
    places: Vec<Option<Task>>,
    next_number: u64,
    /// The resource version of the last change.
    pub(crate) revision: u64,
    /// Changes so far.
    changes: usize,
}

impl Fleet {
    /// All pods ready.
    pub(crate) fn new() -> Fleet {
        let task = |place: usize| Some(Task::new(place / PODS_PER_SERVICE, place as u64));
        Fleet {
            recording: Recording::new(),
            places: (0..PODS).map(task).collect(),
            next_number: PODS as u64,
            revision: 1_000_000,
            changes: 0,
        }
    }

    /// A page of a list, as the API server sends it: so many pods from this place on.
    pub(crate) fn page(&self, from: usize, limit: usize) -> Vec<u8> {
        let mut items = Vec::new();
        let mut next = from;
        let mut count = 0;
        while next < PODS && count < limit {
            if let Some(task) = &self.places[next] {
                items.extend_from_slice(if count == 0 { b"" } else { b"," });
                self.object(task, &mut items);
                count += 1;
            }
            next += 1;
        }
        let revision = self.revision;
        let metadata = match self.places[next..].iter().flatten().count() {
            0 => format!(r#"{{"resourceVersion":"{revision}"}}"#),
            left => format!(
                r#"{{"resourceVersion":"{revision}","continue":"{next}","remainingItemCount":{left}}}"#
            ),
        };
        let head = format!(r#"{{"kind":"PodList","apiVersion":"v1","metadata":{metadata},"items":["#);
        [head.as_bytes(), &items, b"]}\n"].concat()
    }

    /// The objects of all pods, one after the other, as a list has them.
    pub(crate) fn objects(&self) -> impl Iterator<Item = Vec<u8>> {
        self.places.iter().flatten().map(|task| {
            let mut object = Vec::new();
            self.object(task, &mut object);
            object
        })
    }

    /// Changes the next pod, and appends the event to `out`.
    pub(crate) fn change(&mut self, out: &mut Vec<u8>) -> Happened {
        let service = self.changes.wrapping_mul(STRIDE) % SERVICES;
        // Where a service begins is another for each, so that every kind happens at any time.
        let step = self.changes / SERVICES + [0, 2, 3][service % 3];
        self.changes += 1;
        self.revision += 1;
        let (kind, round) = (Kind::ALL[step % Kind::ALL.len()], step / Kind::ALL.len());
        let at = service * PODS_PER_SERVICE + (service + round) % PODS_PER_SERVICE;
        let before = self.addresses(service);
        let (recording, revision, next_number) = (&self.recording, self.revision, self.next_number);
        if matches!(kind, Kind::Address | Kind::Added) {
            self.next_number += 1;
        }
        let place = &mut self.places[at];
        match (kind, &mut *place) {
            (Kind::NotReady | Kind::Ready, Some(task)) => {
                task.is_ready = kind == Kind::Ready;
                recording.event("MODIFIED", task.shape(), task, revision, out);
            }
            (Kind::Address, Some(task)) => {
                task.address = world::address(next_number).octets();
                recording.event("MODIFIED", task.shape(), task, revision, out);
            }
            (Kind::Deleted, Some(task)) => {
                recording.event("DELETED", Shape::Gone, task, revision, out);
                *place = None;
            }
            (Kind::Added, None) => {
                let task = place.insert(Task::new(service, next_number));
                recording.event("ADDED", task.shape(), task, revision, out);
            }
            (kind, _) => panic!("{kind:?} can't happen at place {at}"),
        }
        Happened { kind, service, before, after: self.addresses(service) }
    }

    /// What DNS answers for a service, sorted.
    pub(crate) fn addresses(&self, service: usize) -> Vec<[u8; 4]> {
        let places = &self.places[service * PODS_PER_SERVICE..][..PODS_PER_SERVICE];
        let served = places.iter().flatten().filter(|task| task.is_ready);
        let mut addresses: Vec<_> = served.map(|task| task.address).collect();
        addresses.sort_unstable();
        addresses
    }

    /// The pods that there are.
    pub(crate) fn len(&self) -> usize {
        self.places.iter().flatten().count()
    }

    fn object(&self, task: &Task, out: &mut Vec<u8>) {
        self.recording.object(task.shape(), task, self.revision, false, out);
    }
}

/// The name of a service in DNS.
pub(crate) fn service_name(service: usize) -> String {
    let (namespace, place) = (service / SERVICES_PER_NAMESPACE, service % SERVICES_PER_NAMESPACE);
    format!("{}.{}", world::service_name(place), world::namespace_name(namespace))
}
