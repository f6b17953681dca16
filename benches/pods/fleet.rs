//! The current pods: their objects for the API server, and the answers that DNS has to give for them.

use crate::support::world::{self, Size};

use super::recording::Recording;
use super::task::{SERVICES_PER_NAMESPACE, Shape, Task};

pub(crate) const SIZE: Size = Size { namespaces: 5, services_per_namespace: SERVICES_PER_NAMESPACE };
pub(crate) const SERVICES: usize = SIZE.namespaces * SERVICES_PER_NAMESPACE;
pub(crate) const PODS_PER_SERVICE: usize = world::INSTANCES_PER_SERVICE;
pub(crate) const PODS: usize = SERVICES * PODS_PER_SERVICE;
/// Step from one changed service to the next. It is coprime to the number of services, so that the changes reach all of
/// them, and successive changes are far apart.
const STRIDE: usize = 7_919;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum PodChange {
    NotReady,
    Ready,
    Address,
    Deleted,
    Added,
}

impl PodChange {
    /// The changes of one slot of a service in their order; they repeat as a cycle.
    pub(crate) const ALL: [PodChange; 5] =
        [PodChange::NotReady, PodChange::Ready, PodChange::Address, PodChange::Deleted, PodChange::Added];

    pub(crate) fn title(self) -> &'static str {
        match self {
            PodChange::NotReady => "MODIFIED: not ready any more",
            PodChange::Ready => "MODIFIED: ready again",
            PodChange::Address => "MODIFIED: another address",
            PodChange::Deleted => "DELETED",
            PodChange::Added => "ADDED: another pod",
        }
    }
}

pub(crate) struct Changed {
    pub(crate) kind: PodChange,
    pub(crate) service: usize,
    pub(crate) before: Vec<[u8; 4]>,
    pub(crate) after: Vec<[u8; 4]>,
}

/// All pods, in `slots`: [`PODS_PER_SERVICE`] of them for each service, `None` where the pod is deleted. `revision` is the
/// resource version of the last change.
pub(crate) struct Fleet {
    recording: Recording,
    slots: Vec<Option<Task>>,
    next_number: u64,
    pub(crate) revision: u64,
    changes: usize,
}

impl Fleet {
    pub(crate) fn new() -> Fleet {
        let task = |slot: usize| Some(Task::new(slot / PODS_PER_SERVICE, slot as u64));
        Fleet {
            recording: Recording::new(),
            slots: (0..PODS).map(task).collect(),
            next_number: PODS as u64,
            revision: 1_000_000,
            changes: 0,
        }
    }

    pub(crate) fn page(&self, from: usize, limit: usize) -> Vec<u8> {
        let mut items = Vec::new();
        let mut next = from;
        let mut count = 0;
        while next < PODS && count < limit {
            if let Some(task) = &self.slots[next] {
                items.extend_from_slice(if count == 0 { b"" } else { b"," });
                self.object(task, &mut items);
                count += 1;
            }
            next += 1;
        }
        let revision = self.revision;
        let metadata = match self.slots[next..].iter().flatten().count() {
            0 => format!(r#"{{"resourceVersion":"{revision}"}}"#),
            left => format!(
                r#"{{"resourceVersion":"{revision}","continue":"{next}","remainingItemCount":{left}}}"#
            ),
        };
        let head = format!(r#"{{"kind":"PodList","apiVersion":"v1","metadata":{metadata},"items":["#);
        [head.as_bytes(), &items, b"]}\n"].concat()
    }

    pub(crate) fn objects(&self) -> impl Iterator<Item = Vec<u8>> {
        self.slots.iter().flatten().map(|task| {
            let mut object = Vec::new();
            self.object(task, &mut object);
            object
        })
    }

    /// Changes the next pod and appends the watch event to `out`.
    pub(crate) fn change(&mut self, out: &mut Vec<u8>) -> Changed {
        let service = self.changes.wrapping_mul(STRIDE) % SERVICES;
        // Services begin at different steps of the cycle, so that every kind of change is made at any time.
        let step = self.changes / SERVICES + [0, 2, 3][service % 3];
        self.changes += 1;
        self.revision += 1;
        let (kind, round) = (PodChange::ALL[step % PodChange::ALL.len()], step / PodChange::ALL.len());
        let at = service * PODS_PER_SERVICE + (service + round) % PODS_PER_SERVICE;
        let before = self.addresses(service);
        let (recording, revision, next_number) = (&self.recording, self.revision, self.next_number);
        if matches!(kind, PodChange::Address | PodChange::Added) {
            self.next_number += 1;
        }
        let slot = &mut self.slots[at];
        match (kind, &mut *slot) {
            (PodChange::NotReady | PodChange::Ready, Some(task)) => {
                task.is_ready = kind == PodChange::Ready;
                recording.event("MODIFIED", task.shape(), task, revision, out);
            }
            (PodChange::Address, Some(task)) => {
                task.address = world::address(next_number).octets();
                recording.event("MODIFIED", task.shape(), task, revision, out);
            }
            (PodChange::Deleted, Some(task)) => {
                recording.event("DELETED", Shape::Gone, task, revision, out);
                *slot = None;
            }
            (PodChange::Added, None) => {
                let task = slot.insert(Task::new(service, next_number));
                recording.event("ADDED", task.shape(), task, revision, out);
            }
            (kind, _) => panic!("{kind:?} is not possible in slot {at}"),
        }
        Changed { kind, service, before, after: self.addresses(service) }
    }

    pub(crate) fn addresses(&self, service: usize) -> Vec<[u8; 4]> {
        let slots = &self.slots[service * PODS_PER_SERVICE..][..PODS_PER_SERVICE];
        let served = slots.iter().flatten().filter(|task| task.is_ready);
        let mut addresses: Vec<_> = served.map(|task| task.address).collect();
        addresses.sort_unstable();
        addresses
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.iter().flatten().count()
    }

    fn object(&self, task: &Task, out: &mut Vec<u8>) {
        self.recording.object(task.shape(), task, self.revision, false, out);
    }
}

pub(crate) fn service_name(service: usize) -> String {
    let (namespace, index) = (service / SERVICES_PER_NAMESPACE, service % SERVICES_PER_NAMESPACE);
    format!("{}.{}", world::service_name(index), world::namespace_name(namespace))
}
