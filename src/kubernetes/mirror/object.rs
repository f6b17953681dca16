//! Kubernetes objects in a form that can be compared: those that the mirror wants, and the relevant parts of those in
//! the cluster.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{
    self as core, EndpointAddress, EndpointSubset, Endpoints, ObjectReference, Service, ServicePort,
    ServiceSpec,
};
use k8s_openapi::api::discovery::v1::{self, EndpointConditions, EndpointPort, EndpointSlice};
use kube::api::ObjectMeta;

use crate::kubernetes::pod::Placement;

use super::labels::{ANNOTATION_KEYS, HEADLESS, LABEL_KEYS, PORT_NAME, SERVICE_ID, SERVICE_PORT, TCP};

#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(super) struct Key {
    pub(super) kind: Kind,
    pub(super) namespace: Box<str>,
    pub(super) name: Box<str>,
}

#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(super) enum Kind {
    Service,
    Endpoints,
    EndpointSlice,
}

impl Kind {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Kind::Service => "Service",
            Kind::Endpoints => "Endpoints",
            Kind::EndpointSlice => "EndpointSlice",
        }
    }
}

/// Object reduced to the parts that the mirror writes.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(super) struct Object {
    pub(super) key: Key,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) annotations: BTreeMap<String, String>,
    pub(super) body: Body,
}

/// Content of an object. `Headless` is a Service without a cluster IP and a selector, as all Services of the mirror
/// are. The addresses of an Endpoints object are sorted by port and address, because the API server packs them into
/// other subsets than it was sent. `Other` is content that the mirror would not write, so that it always differs.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(super) enum Body {
    Headless,
    Slice { family: Family, port: Option<u16>, endpoints: Vec<Endpoint> },
    Endpoints(Vec<(Option<u16>, Endpoint)>),
    Other,
}

#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(super) enum Family {
    V4,
    V6,
}

/// Address of an instance or of a terminating pod, with the Kubernetes namespace and the name of the pod, if there is
/// one. Endpoints objects have no placements.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(super) struct Endpoint {
    pub(super) address: IpAddr,
    pub(super) state: EndpointState,
    pub(super) pod: Option<(Box<str>, Box<str>)>,
    pub(super) placement: Placement,
}

/// Conditions of an endpoint. As Kubernetes defines them, one that does not terminate is serving if it is ready, and one
/// that terminates is never ready.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) enum EndpointState {
    Ready,
    NotReady,
    Terminating { is_serving: bool },
}

impl Object {
    /// Hash by which two versions of an object are compared. It is valid within this process only.
    pub(super) fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.hash(&mut hasher);
        hasher.finish()
    }

    pub(super) fn service_id(&self) -> Option<&str> {
        self.annotations.get(SERVICE_ID).map(String::as_str)
    }

    /// Relevant parts of a Service, as the next two functions return those of other kinds; `None` if it has no name.
    pub(super) fn of_service(service: &Service) -> Option<Object> {
        let spec = service.spec.clone().unwrap_or_default();
        let port = |port: &ServicePort| {
            (port.name.as_deref(), port.port, port.protocol.as_deref())
                == (Some(PORT_NAME), i32::from(SERVICE_PORT), Some(TCP))
        };
        let is_headless = spec.cluster_ip.as_deref() == Some(HEADLESS)
            && spec.selector.unwrap_or_default().is_empty()
            && matches!(spec.ports.unwrap_or_default().as_slice(), [only] if port(only));
        let body = if is_headless { Body::Headless } else { Body::Other };
        object(Kind::Service, &service.metadata, body)
    }

    pub(super) fn of_slice(slice: &EndpointSlice) -> Option<Object> {
        object(Kind::EndpointSlice, &slice.metadata, slice_body(slice).unwrap_or(Body::Other))
    }

    pub(super) fn of_endpoints(endpoints: &Endpoints) -> Option<Object> {
        object(Kind::Endpoints, &endpoints.metadata, endpoints_body(endpoints).unwrap_or(Body::Other))
    }

    pub(super) fn to_service(&self, uid: Option<&str>) -> Service {
        let port = ServicePort {
            name: Some(PORT_NAME.into()),
            port: SERVICE_PORT.into(),
            protocol: Some(TCP.into()),
            ..ServicePort::default()
        };
        let spec = ServiceSpec {
            cluster_ip: Some(HEADLESS.into()),
            ports: Some(vec![port]),
            ..ServiceSpec::default()
        };
        Service { metadata: self.metadata(uid), spec: Some(spec), ..Service::default() }
    }

    /// EndpointSlice to apply; `None`, as from `to_endpoints`, if this is an object of another kind.
    pub(super) fn to_slice(&self, uid: Option<&str>) -> Option<EndpointSlice> {
        let Body::Slice { family, port, endpoints } = &self.body else { return None };
        let port = port.map(|port| EndpointPort {
            name: Some(PORT_NAME.into()),
            port: Some(port.into()),
            protocol: Some(TCP.into()),
            ..EndpointPort::default()
        });
        let endpoint = |endpoint: &Endpoint| v1::Endpoint {
            addresses: vec![endpoint.address.to_string()],
            conditions: Some(endpoint.state.to_conditions()),
            target_ref: endpoint.target(),
            node_name: endpoint.placement.node.as_deref().map(Into::into),
            zone: endpoint.placement.zone.as_deref().map(Into::into),
            ..v1::Endpoint::default()
        };
        Some(EndpointSlice {
            address_type: family.as_str().into(),
            endpoints: endpoints.iter().map(endpoint).collect(),
            metadata: self.metadata(uid),
            ports: Some(port.into_iter().collect()),
        })
    }

    pub(super) fn to_endpoints(&self, uid: Option<&str>) -> Option<Endpoints> {
        let Body::Endpoints(addresses) = &self.body else { return None };
        let mut subsets: BTreeMap<Option<u16>, EndpointSubset> = BTreeMap::new();
        for (port, endpoint) in addresses {
            let subset = subsets.entry(*port).or_insert_with(|| EndpointSubset {
                ports: port.map(|port| {
                    vec![core::EndpointPort {
                        name: Some(PORT_NAME.into()),
                        port: port.into(),
                        protocol: Some(TCP.into()),
                        ..core::EndpointPort::default()
                    }]
                }),
                ..EndpointSubset::default()
            });
            let list =
                if endpoint.is_ready() { &mut subset.addresses } else { &mut subset.not_ready_addresses };
            list.get_or_insert_default().push(EndpointAddress {
                ip: endpoint.address.to_string(),
                target_ref: endpoint.target(),
                ..EndpointAddress::default()
            });
        }
        let subsets = (!subsets.is_empty()).then(|| subsets.into_values().collect());
        Some(Endpoints { metadata: self.metadata(uid), subsets })
    }

    fn metadata(&self, uid: Option<&str>) -> ObjectMeta {
        ObjectMeta {
            name: Some(self.key.name.to_string()),
            namespace: Some(self.key.namespace.to_string()),
            // With the uid, the API server refuses to change another object that has taken the name meanwhile.
            uid: uid.map(Into::into),
            labels: Some(self.labels.clone()),
            annotations: Some(self.annotations.clone()),
            ..ObjectMeta::default()
        }
    }
}

const POD: &str = "Pod";

impl Endpoint {
    pub(super) fn is_ready(&self) -> bool {
        self.state == EndpointState::Ready
    }

    pub(super) fn is_terminating(&self) -> bool {
        matches!(self.state, EndpointState::Terminating { .. })
    }

    fn target(&self) -> Option<ObjectReference> {
        self.pod.as_ref().map(|(namespace, name)| ObjectReference {
            kind: Some(POD.into()),
            namespace: Some(namespace.to_string()),
            name: Some(name.to_string()),
            ..ObjectReference::default()
        })
    }
}

impl EndpointState {
    /// State that has these conditions; `None` if the mirror never writes them.
    fn of(conditions: &EndpointConditions) -> Option<EndpointState> {
        match (conditions.ready?, conditions.serving?, conditions.terminating?) {
            (true, true, false) => Some(EndpointState::Ready),
            (false, false, false) => Some(EndpointState::NotReady),
            (false, is_serving, true) => Some(EndpointState::Terminating { is_serving }),
            _ => None,
        }
    }

    fn to_conditions(self) -> EndpointConditions {
        let (ready, serving, terminating) = match self {
            EndpointState::Ready => (true, true, false),
            EndpointState::NotReady => (false, false, false),
            EndpointState::Terminating { is_serving } => (false, is_serving, true),
        };
        EndpointConditions { ready: Some(ready), serving: Some(serving), terminating: Some(terminating) }
    }
}

impl Family {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Family::V4 => "IPv4",
            Family::V6 => "IPv6",
        }
    }
}

fn object(kind: Kind, metadata: &ObjectMeta, body: Body) -> Option<Object> {
    let key = Key {
        kind,
        namespace: metadata.namespace.as_deref()?.into(),
        name: metadata.name.as_deref()?.into(),
    };
    // Labels and annotations that others have added are ignored.
    let ours = |map: &Option<BTreeMap<String, String>>, keys: &[&str]| {
        let pairs = map.iter().flatten().filter(|(key, _)| keys.contains(&key.as_str()));
        pairs.map(|(key, value)| (key.clone(), value.clone())).collect()
    };
    let labels = ours(&metadata.labels, &LABEL_KEYS);
    Some(Object { key, labels, annotations: ours(&metadata.annotations, &ANNOTATION_KEYS), body })
}

fn slice_body(slice: &EndpointSlice) -> Option<Body> {
    let family = [Family::V4, Family::V6].into_iter().find(|family| family.as_str() == slice.address_type)?;
    let port = match slice.ports.as_deref().unwrap_or_default() {
        [] => None,
        [only] if only.name.as_deref() == Some(PORT_NAME) && only.protocol.as_deref() == Some(TCP) => {
            Some(u16::try_from(only.port?).ok()?)
        }
        _ => return None,
    };
    let endpoint = |endpoint: &v1::Endpoint| {
        let [address] = endpoint.addresses.as_slice() else { return None };
        let text = |text: &Option<String>| text.as_deref().map(Into::into);
        Some(Endpoint {
            address: address.parse().ok()?,
            state: EndpointState::of(endpoint.conditions.as_ref()?)?,
            pod: pod(endpoint.target_ref.as_ref())?,
            placement: Placement { node: text(&endpoint.node_name), zone: text(&endpoint.zone) },
        })
    };
    let endpoints = slice.endpoints.iter().map(endpoint).collect::<Option<Vec<_>>>()?;
    Some(Body::Slice { family, port, endpoints })
}

/// Body from which the mirror would write this Endpoints object; `None` if the mirror never writes such an object.
fn endpoints_body(endpoints: &Endpoints) -> Option<Body> {
    let mut found = Vec::new();
    for subset in endpoints.subsets.iter().flatten() {
        let port = |port: &core::EndpointPort| {
            let is_ours = port.name.as_deref() == Some(PORT_NAME) && port.protocol.as_deref() == Some(TCP);
            u16::try_from(port.port).ok().filter(|_| is_ours).map(Some)
        };
        let ports: Vec<Option<u16>> = match subset.ports.as_deref().unwrap_or_default() {
            [] => vec![None],
            ports => ports.iter().map(port).collect::<Option<_>>()?,
        };
        let ready = subset.addresses.iter().flatten().map(|address| (address, EndpointState::Ready));
        let not_ready =
            subset.not_ready_addresses.iter().flatten().map(|address| (address, EndpointState::NotReady));
        for (address, state) in ready.chain(not_ready) {
            if address.hostname.is_some() || address.node_name.is_some() {
                return None;
            }
            let pod = pod(address.target_ref.as_ref())?;
            let address = address.ip.parse().ok()?;
            let endpoint = Endpoint { address, state, pod, placement: Placement::default() };
            found.extend(ports.iter().map(|port| (*port, endpoint.clone())));
        }
    }
    found.sort_by_key(|(port, endpoint)| (*port, endpoint.address));
    Some(Body::Endpoints(found))
}

/// Pod that a reference names, or `Some(None)` if there is no reference; `None` if it names something else.
fn pod(target: Option<&ObjectReference>) -> Option<Option<(Box<str>, Box<str>)>> {
    match target {
        None => Some(None),
        Some(target) if target.kind.as_deref() == Some(POD) => {
            Some(Some((target.namespace.as_deref()?.into(), target.name.as_deref()?.into())))
        }
        Some(_) => None,
    }
}
