//! Parts of a pod that EndpointSlices show and instances do not have: its node, its zone, and its endpoints while it
//! terminates.

use std::net::IpAddr;
use std::sync::Arc;

use crate::model::instance::AWS_INSTANCE_PORT;
use crate::model::{ServiceId, Uid};

use super::object::{Pod, ZONE};
use super::{KnownReadiness, Readiness, Registration};

/// Node and zone of an endpoint, as far as they are known.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
#[expect(missing_docs, reason = "the type's document explains the fields")]
pub struct Placement {
    pub node: Option<Arc<str>>,
    pub zone: Option<Arc<str>>,
}

/// Endpoint that a terminating pod (`namespace/name`) has in a service, under the instance id that the pod had there.
/// `addresses` has at most one of each family. `is_serving` is true while the pod is ready.
#[derive(Clone, Debug, Eq, PartialEq)]
#[expect(missing_docs, reason = "the type's document explains the fields")]
pub struct TerminatingEndpoint {
    pub pod: Arc<str>,
    pub uid: Uid,
    pub service: ServiceId,
    pub instance: Box<str>,
    pub addresses: Box<[IpAddr]>,
    pub port: Option<u16>,
    pub is_serving: bool,
    pub placement: Placement,
}

impl Placement {
    /// Placement from the pod's spec and its label with the zone. The API server has validated both by the rules that it
    /// has for endpoints.
    pub(super) fn of(pod: &Pod) -> Placement {
        let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
        Placement {
            node: node.filter(|node| !node.is_empty()).map(Into::into),
            zone: pod.label(ZONE).map(Into::into),
        }
    }
}

/// Endpoints of a terminating pod, which would be the instances `registrations` otherwise.
pub(super) fn terminating_endpoints(
    (pod, uid): (&Arc<str>, Uid),
    readiness: Option<KnownReadiness>,
    addresses: &[IpAddr],
    placement: &Placement,
    registrations: Vec<Registration>,
) -> Vec<TerminatingEndpoint> {
    let is_serving = readiness.is_some_and(|known| known.readiness == Readiness::Ready);
    let endpoint = |registration: Registration| TerminatingEndpoint {
        pod: pod.clone(),
        uid,
        port: registration.attributes.get(AWS_INSTANCE_PORT).and_then(|port| port.parse().ok()),
        service: registration.service,
        instance: registration.id,
        addresses: addresses.into(),
        is_serving,
        placement: placement.clone(),
    };
    registrations.into_iter().map(endpoint).collect()
}
