//! Objects that the cluster should have for a Cloud Map service: a Service `sd-<service>`, an Endpoints object of its
//! name, and EndpointSlices with the addresses of its instances.
//!
//! A Service with a cluster IP has KECS's port, which leads to all instances whatever their port, and each port that
//! instances have, which leads to these. With more different ports than a few they were assigned dynamically, as ECS
//! does with the network mode `bridge`, and none of them would last. Kubernetes demands a port, and clients such as
//! ingresses refer to it, so the ports remain while no instance has one.
//!
//! The addresses of terminating pods are in the slices too, unless an instance has one of them at the same port, because
//! kube-proxy would not know which of the two endpoints counts.
//!
//! Each address family and port has its own slices. If there are more addresses than one slice should have, they are
//! distributed by a hash of the instance's id, by as many bits of it as are needed: a change of one instance changes
//! one slice, or splits one.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::IpAddr;

use siphasher::sip::SipHasher24;

use crate::kubernetes::pod::Placement;
use crate::kubernetes::pod_table::PodTable;
use crate::model::instance::AVAILABILITY_ZONE;
use crate::model::{Identity, Instance, ServiceId};
use crate::registry::{HealthSettings, ServiceState, State};

use super::labels::{
    NAMESPACE_ID, OVER_CAPACITY, OWNER, SERVICE_ARN, SERVICE_ID, SERVICE_NAME, SERVICE_PORT, SKIP_MIRROR,
    SLICE_MANAGED_BY, TRUNCATED,
};
use super::names;
use super::object::{Body, Endpoint, EndpointState, Family, Head, Key, Kind, MirrorForm, Object};

/// Addresses of one EndpointSlice and of one Endpoints object, as Kubernetes' own controllers limit them. The API
/// server accepts 1,000 in a slice.
pub(super) const SLICE_ADDRESSES_MAX: usize = 100;
pub(super) const ENDPOINTS_ADDRESSES_MAX: usize = 1_000;
/// Bits of the hash that a slice's name has at most. Addresses that still share a slice then are divided by number.
const HASH_BITS_MAX: u32 = 24;
/// Different ports of instances that a Service has at its cluster IP.
pub(super) const PORTS_MAX: usize = 16;

pub(super) struct ObjectBuilder<'a> {
    pub(super) installation: &'a str,
    pub(super) identity: &'a Identity,
    pub(super) health: &'a HealthSettings,
    pub(super) form: MirrorForm,
    pub(super) endpoints: bool,
    pub(super) pods: &'a PodTable,
}

type Addresses = BTreeMap<(Family, Option<u16>), Vec<HashedEndpoint>>;

/// Address of an instance or a terminating pod, with the hash that selects its slice.
struct HashedEndpoint {
    hash: u64,
    endpoint: Endpoint,
}

impl ObjectBuilder<'_> {
    /// Objects of a service in this Kubernetes namespace, of which the Service is the first. Empty if the service is
    /// not in DNS. `ports` are those that the Service has in the cluster.
    pub(super) fn objects(
        &self,
        state: &State,
        found: &ServiceState,
        namespace: &str,
        ports: &[u16],
    ) -> Vec<Object> {
        let service = &*found.service;
        let Ok(cloudmap) = state.namespace(service.namespace_id.as_str()) else { return Vec::new() };
        if service.api_only || !cloudmap.namespace.is_dns() {
            return Vec::new();
        }
        let of_namespace = (cloudmap.namespace.name.as_str(), service.namespace_id.as_str());
        let of_service = (service.name.as_str(), service.id.as_str());
        let labels = names::labels(self.installation, of_namespace, of_service);
        let identity = self.identity;
        let annotations = BTreeMap::from([
            (SERVICE_ID.to_string(), service.id.to_string()),
            (NAMESPACE_ID.to_string(), service.namespace_id.to_string()),
            (SERVICE_ARN.to_string(), identity.service_arn(&service.id)),
        ]);
        let name = names::service(&service.name, service.id.as_str());
        let key = |kind, name: &str| Key { kind, namespace: namespace.into(), name: name.to_string().into() };
        let mut slice_labels = labels.clone();
        slice_labels.insert(SERVICE_NAME.into(), name.clone());
        slice_labels.insert(SLICE_MANAGED_BY.into(), OWNER.into());
        let addresses = self.addresses(found);
        let head = match self.form {
            MirrorForm::Headless => Head::headless(),
            MirrorForm::ClusterIp => Head::cluster_ip(own_ports(&addresses, ports)),
        };
        let head = Object {
            key: key(Kind::Service, &name),
            labels,
            annotations: annotations.clone(),
            body: Body::Service(head),
        };
        let mut objects = vec![head];
        if self.endpoints {
            let (mut labels, mut annotations) = (objects[0].labels.clone(), annotations.clone());
            labels.insert(SKIP_MIRROR.into(), "true".into());
            let (endpoints, is_truncated) = endpoints_addresses(&addresses);
            if is_truncated {
                annotations.insert(OVER_CAPACITY.into(), TRUNCATED.into());
            }
            let (key, body) = (key(Kind::Endpoints, &name), Body::Endpoints(endpoints));
            objects.push(Object { key, labels, annotations, body });
        }
        for ((family, port), hashed) in addresses {
            let mut stem = format!("{name}-{}", family.as_str().to_ascii_lowercase());
            if let Some(port) = port {
                stem.push_str(&format!("-{port}"));
            }
            let is_port_named =
                self.form == MirrorForm::ClusterIp && port.is_some_and(|port| port != SERVICE_PORT);
            split(&stem, hashed, 0, &mut |name, endpoints| {
                objects.push(Object {
                    key: key(Kind::EndpointSlice, name),
                    labels: slice_labels.clone(),
                    annotations: annotations.clone(),
                    body: Body::Slice { family, port, is_port_named, endpoints },
                });
            });
        }
        objects
    }

    /// Addresses by family and port: those of the instances, sorted by their ids, and then those of terminating pods.
    fn addresses(&self, found: &ServiceState) -> Addresses {
        let answering = self.health.answering(found);
        let mut hashed = Addresses::new();
        for instance in found.instances() {
            let hash = slice_hash(instance.id());
            let is_ready = answering.answers(instance);
            let state = if is_ready { EndpointState::Ready } else { EndpointState::NotReady };
            let pod = instance.pod().and_then(pod_reference);
            let placement = self.placement(instance);
            let port = instance.port().filter(|port| *port != 0);
            let addresses = [
                instance.ipv4().map(|address| (Family::V4, IpAddr::V4(address))),
                instance.ipv6().map(|address| (Family::V6, IpAddr::V6(address))),
            ];
            for (family, address) in addresses.into_iter().flatten().filter(|(_, address)| is_usable(address))
            {
                let (pod, placement) = (pod.clone(), placement.clone());
                let endpoint = Endpoint { address, state, pod, placement };
                hashed.entry((family, port)).or_default().push(HashedEndpoint { hash, endpoint });
            }
        }
        self.add_terminating(&found.service.id, &mut hashed);
        hashed
    }

    fn add_terminating(&self, service: &ServiceId, hashed: &mut Addresses) {
        let terminating = self.pods.terminating(service);
        if terminating.is_empty() {
            return;
        }
        let instances = hashed
            .iter()
            .flat_map(|((_, port), of_port)| of_port.iter().map(|hashed| (*port, hashed.endpoint.address)));
        let instances: HashSet<(Option<u16>, IpAddr)> = instances.collect();
        for of_pod in terminating {
            let hash = slice_hash(&of_pod.instance);
            let port = of_pod.port.filter(|port| *port != 0);
            for address in of_pod.addresses.iter().copied().filter(is_usable) {
                if instances.contains(&(port, address)) {
                    continue;
                }
                let family = if address.is_ipv4() { Family::V4 } else { Family::V6 };
                let endpoint = Endpoint {
                    address,
                    state: EndpointState::Terminating { is_serving: of_pod.is_serving },
                    pod: pod_reference(&of_pod.pod),
                    placement: of_pod.placement.clone(),
                };
                hashed.entry((family, port)).or_default().push(HashedEndpoint { hash, endpoint });
            }
        }
    }

    /// Node and zone of a pod, or the zone in the attributes of another instance. The zone that a pod's instance has there
    /// may be the default of its region, which no node has.
    fn placement(&self, instance: &Instance) -> Placement {
        match instance.pod_uid() {
            Some(uid) => self.pods.placement(uid),
            None => {
                let zone = instance.attribute(AVAILABILITY_ZONE).filter(|zone| names::is_label_value(zone));
                Placement { node: None, zone: zone.map(Into::into) }
            }
        }
    }
}

/// Ports of instances at a cluster IP beside KECS's, in ascending order; `before` are the present ones.
fn own_ports(addresses: &Addresses, before: &[u16]) -> Vec<u16> {
    let mut ports: BTreeSet<u16> = addresses.keys().filter_map(|(_, port)| *port).collect();
    if ports.is_empty() {
        return before.iter().copied().take(PORTS_MAX).collect();
    }
    ports.remove(&SERVICE_PORT);
    if ports.len() > PORTS_MAX { Vec::new() } else { ports.into_iter().collect() }
}

/// Hash by which an instance belongs to a slice.
fn slice_hash(instance: &str) -> u64 {
    SipHasher24::new().hash(instance.as_bytes())
}

/// Kubernetes namespace and name of a pod.
fn pod_reference(pod: &str) -> Option<(Box<str>, Box<str>)> {
    let (namespace, name) = pod.split_once('/')?;
    Some((namespace.into(), name.into()))
}

/// Addresses of an Endpoints object in order of port and address, and true if the limit left some out, beginning with
/// those that are not ready. Those of terminating pods are left out, as by Kubernetes' own controller. An address that
/// several instances have at one port is listed once, and is ready if one of them is. An address without a port is left
/// out if it also has a port, because the API server merges both.
fn endpoints_addresses(addresses: &Addresses) -> (Vec<(Option<u16>, Endpoint)>, bool) {
    let mut found: BTreeMap<(Option<u16>, IpAddr), &Endpoint> = BTreeMap::new();
    for ((_, port), hashed) in addresses {
        let endpoints = hashed.iter().map(|hashed| &hashed.endpoint);
        for endpoint in endpoints.filter(|endpoint| !endpoint.is_terminating()) {
            let kept = found.entry((*port, endpoint.address)).or_insert(endpoint);
            if endpoint.is_ready() && !kept.is_ready() {
                *kept = endpoint;
            }
        }
    }
    let with_port: BTreeSet<IpAddr> =
        found.keys().filter(|(port, _)| port.is_some()).map(|(_, address)| *address).collect();
    found.retain(|(port, address), _| port.is_some() || !with_port.contains(address));
    let is_truncated = found.len() > ENDPOINTS_ADDRESSES_MAX;
    let unplaced = |endpoint: &Endpoint| Endpoint { placement: Placement::default(), ..endpoint.clone() };
    let mut kept: Vec<_> =
        found.into_iter().map(|((port, _), endpoint)| (port, unplaced(endpoint))).collect();
    if is_truncated {
        // The sort is stable, so that the selection changes only if the addresses do.
        kept.sort_by_key(|(_, endpoint)| !endpoint.is_ready());
        kept.truncate(ENDPOINTS_ADDRESSES_MAX);
        kept.sort_by_key(|(port, endpoint)| (*port, endpoint.address));
    }
    (kept, is_truncated)
}

/// Distributes addresses over slices of at most [`SLICE_ADDRESSES_MAX`], by the bits of their hashes, which follow
/// `stem` in the slices' names.
fn split(stem: &str, hashed: Vec<HashedEndpoint>, bits: u32, slice: &mut impl FnMut(&str, Vec<Endpoint>)) {
    if hashed.len() <= SLICE_ADDRESSES_MAX {
        let endpoints: Vec<_> = hashed.into_iter().map(|hashed| hashed.endpoint).collect();
        if !endpoints.is_empty() {
            slice(stem, endpoints);
        }
        return;
    }
    if bits == HASH_BITS_MAX {
        for (number, chunk) in hashed.chunks(SLICE_ADDRESSES_MAX).enumerate() {
            slice(&format!("{stem}-{number}"), chunk.iter().map(|hashed| hashed.endpoint.clone()).collect());
        }
        return;
    }
    let (ones, zeros) = hashed.into_iter().partition(|hashed| hashed.hash >> bits & 1 == 1);
    let separator = if bits == 0 { "-" } else { "" };
    split(&format!("{stem}{separator}0"), zeros, bits + 1, slice);
    split(&format!("{stem}{separator}1"), ones, bits + 1, slice);
}

/// True if the API server accepts the address for an endpoint: it refuses those that are valid on one host only.
fn is_usable(address: &IpAddr) -> bool {
    let is_special = match address {
        IpAddr::V4(address) => address.is_link_local() || (address.octets()[..3] == [224, 0, 0]),
        IpAddr::V6(address) => {
            let first = address.segments()[0];
            let is_link_local = first & 0xffc0 == 0xfe80 || first & 0xff0f == 0xff02;
            is_link_local || address.to_ipv4_mapped().is_some()
        }
    };
    !(is_special || address.is_unspecified() || address.is_loopback())
}
