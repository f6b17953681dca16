//! One task's pod, and how it may be.

use cloudmap_dns::model::ServiceId;

use crate::support::world;

pub(crate) const SERVICES_PER_NAMESPACE: usize = 2_500;

/// A pod's states that were recorded.
#[derive(Clone, Copy)]
pub(crate) enum Shape {
    NotReady,
    Ready,
    Gone,
}

/// A task's pod.
#[derive(Clone)]
pub(crate) struct Task {
    /// The place of its Cloud Map service among all.
    pub(crate) service: usize,
    pub(crate) service_id: ServiceId,
    /// Its own, for ever.
    pub(crate) number: u64,
    pub(crate) address: [u8; 4],
    pub(super) is_ready: bool,
}

impl Task {
    pub(super) fn new(service: usize, number: u64) -> Task {
        let (namespace, place) = (service / SERVICES_PER_NAMESPACE, service % SERVICES_PER_NAMESPACE);
        let service_id = world::service_id(namespace, place);
        Task { service, service_id, number, address: world::address(number).octets(), is_ready: true }
    }

    pub(super) fn shape(&self) -> Shape {
        if self.is_ready { Shape::Ready } else { Shape::NotReady }
    }
}
