//! The pod of one task, and its states.

use cloudmap_dns::model::ServiceId;

use crate::support::world;

pub(crate) const SERVICES_PER_NAMESPACE: usize = 2_500;

#[derive(Clone, Copy)]
pub(crate) enum Shape {
    NotReady,
    Ready,
    Gone,
}

/// The pod of a task. `service` is the index of its Cloud Map service, and `number` is unique among all pods that ever were:
/// its name, uid and task id are made from it.
#[derive(Clone)]
pub(crate) struct Task {
    pub(crate) service: usize,
    pub(crate) service_id: ServiceId,
    pub(crate) number: u64,
    pub(crate) address: [u8; 4],
    pub(super) is_ready: bool,
}

impl Task {
    pub(super) fn new(service: usize, number: u64) -> Task {
        let (namespace, index) = (service / SERVICES_PER_NAMESPACE, service % SERVICES_PER_NAMESPACE);
        let service_id = world::service_id(namespace, index);
        Task { service, service_id, number, address: world::address(number).octets(), is_ready: true }
    }

    pub(super) fn shape(&self) -> Shape {
        if self.is_ready { Shape::Ready } else { Shape::NotReady }
    }
}
