//! Kubernetes objects in a form that can be compared: those that the mirror wants, and the relevant parts of those in
//! the cluster.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::iter;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{
    self as core, EndpointAddress, EndpointSubset, Endpoints, ObjectReference, Service, ServicePort,
    ServiceSpec,
};
use k8s_openapi::api::discovery::v1::{self, EndpointConditions, EndpointPort, EndpointSlice};
use kube::api::ObjectMeta;

use crate::kubernetes::pod::Placement;

use super::labels::{
    ANNOTATION_KEYS, HEADLESS, LABEL_KEYS, OWN_PORT_PREFIX, PORT_NAME, SERVICE_ID, SERVICE_PORT, TCP,
};

/// Form of the Services of the mirror.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum MirrorForm {
    /// Without a cluster IP: DNS of the cluster answers the addresses of the endpoints. It has the port that KECS gives it.
    Headless,
    /// With a cluster IP, from which kube-proxy sends connections to the endpoints, at KECS's port and at the ports of the
    /// instances.
    ClusterIp,
}

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

/// Content of an object. `is_port_named` tells if a slice has its port under the name of this port too. The addresses of
/// an Endpoints object are sorted by port and address, because the API server packs them into other subsets than it was
/// sent. `Other` is content that the mirror would not write, so that it always differs.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(super) enum Body {
    Service(Head),
    Slice { family: Family, port: Option<u16>, is_port_named: bool, endpoints: Vec<Endpoint> },
    Endpoints(Vec<(Option<u16>, Endpoint)>),
    Other,
}

/// Content of a Service. `ports` are those of instances at a cluster IP, in ascending order. A Service of the mirror has
/// KECS's port and no selector; without the one or with the other, or with another port of these names, it
/// `is_changed`. Its form is `None` if it is an alias (`ExternalName`).
///
/// The rest is left to others, such as the type `LoadBalancer` or ports of other names.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(super) struct Head {
    pub(super) form: Option<MirrorForm>,
    pub(super) ports: Vec<u16>,
    pub(super) is_changed: bool,
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

    /// Content of a Service; `None` if the object is of another kind.
    pub(super) fn head(&self) -> Option<&Head> {
        match &self.body {
            Body::Service(head) => Some(head),
            _ => None,
        }
    }

    /// Relevant parts of a Service, as the next two functions return those of other kinds; `None` if it has no name.
    pub(super) fn of_service(service: &Service) -> Option<Object> {
        let head = service.spec.as_ref().map_or_else(Head::default, Head::of);
        object(Kind::Service, &service.metadata, Body::Service(head))
    }

    pub(super) fn of_slice(slice: &EndpointSlice) -> Option<Object> {
        object(Kind::EndpointSlice, &slice.metadata, slice_body(slice).unwrap_or(Body::Other))
    }

    pub(super) fn of_endpoints(endpoints: &Endpoints) -> Option<Object> {
        object(Kind::Endpoints, &endpoints.metadata, endpoints_body(endpoints).unwrap_or(Body::Other))
    }

    /// Service to apply; `None`, as from the next two functions, if this is an object of another kind.
    pub(super) fn to_service(&self, uid: Option<&str>) -> Option<Service> {
        let head = self.head()?;
        let mut spec = ServiceSpec {
            ports: Some(head.service_ports().collect()),
            // Only a selector that is applied takes the place of that of others.
            selector: Some(BTreeMap::new()),
            ..ServiceSpec::default()
        };
        match head.form {
            Some(MirrorForm::Headless) => spec.cluster_ip = Some(HEADLESS.into()),
            // Slices of a family for which there is no cluster IP would have no effect.
            _ => spec.ip_family_policy = Some(DUAL_STACK.into()),
        }
        Some(Service { metadata: self.metadata(uid), spec: Some(spec), ..Service::default() })
    }

    pub(super) fn to_slice(&self, uid: Option<&str>) -> Option<EndpointSlice> {
        let Body::Slice { family, port, is_port_named, endpoints } = &self.body else { return None };
        let own = port.filter(|_| *is_port_named).map(own_port_name);
        let names = iter::once(PORT_NAME.to_string()).chain(own);
        let ports = port.map(|port| {
            let port = |name| EndpointPort {
                name: Some(name),
                port: Some(port.into()),
                protocol: Some(TCP.into()),
                ..EndpointPort::default()
            };
            names.map(port).collect()
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
            ports: Some(ports.unwrap_or_default()),
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
const DUAL_STACK: &str = "PreferDualStack";
const EXTERNAL_NAME: &str = "ExternalName";

impl Head {
    pub(super) fn headless() -> Head {
        Head { form: Some(MirrorForm::Headless), ports: Vec::new(), is_changed: false }
    }

    pub(super) fn cluster_ip(ports: Vec<u16>) -> Head {
        Head { form: Some(MirrorForm::ClusterIp), ports, is_changed: false }
    }

    fn of(spec: &ServiceSpec) -> Head {
        let form = match (spec.type_.as_deref(), spec.cluster_ip.as_deref()) {
            (Some(EXTERNAL_NAME), _) => None,
            (_, Some(HEADLESS)) => Some(MirrorForm::Headless),
            _ => Some(MirrorForm::ClusterIp),
        };
        let mut head = Head { form, is_changed: true, ..Head::default() };
        let mut others = 0;
        for port in spec.ports.iter().flatten() {
            match PortKind::of(form, port) {
                PortKind::Base => head.is_changed = false,
                PortKind::Own(number) => head.ports.push(number),
                PortKind::Foreign => {}
                PortKind::Wrong => others += 1,
            }
        }
        head.is_changed |= others > 0 || spec.selector.as_ref().is_some_and(|selector| !selector.is_empty());
        head.ports.sort_unstable();
        head
    }

    /// Ports that a Service is to have in place of its own, if some of those keep this one from being applied: server-side
    /// apply leaves the ports of others, even where a name is then there twice. The others remain.
    pub(super) fn ports_in_place_of(&self, spec: &ServiceSpec) -> Option<Vec<ServicePort>> {
        let found = spec.ports.as_deref().unwrap_or_default();
        let is_kept = |port: &&ServicePort| match PortKind::of(self.form, port) {
            PortKind::Base => true,
            PortKind::Foreign => !self.takes(port),
            PortKind::Own(number) => self.ports.contains(&number),
            PortKind::Wrong => false,
        };
        let mut ports: Vec<ServicePort> = found.iter().filter(is_kept).cloned().collect();
        if ports.len() == found.len() {
            return None;
        }
        for wanted in self.service_ports() {
            if !ports.iter().any(|port| port.name == wanted.name) {
                ports.push(wanted);
            }
        }
        Some(ports)
    }

    /// True if one of these ports has the number and protocol of another one.
    fn takes(&self, other: &ServicePort) -> bool {
        let is_same = |port: ServicePort| (port.port, &port.protocol) == (other.port, &other.protocol);
        self.service_ports().any(is_same)
    }

    /// KECS's port and those of the instances.
    fn service_ports(&self) -> impl Iterator<Item = ServicePort> {
        let port = |name: String, port: u16| ServicePort {
            name: Some(name),
            port: port.into(),
            protocol: Some(TCP.into()),
            ..ServicePort::default()
        };
        let own = self.ports.iter().map(move |number| port(own_port_name(*number), *number));
        iter::once(port(PORT_NAME.into(), SERVICE_PORT)).chain(own)
    }
}

/// Kind of a port of a Service.
enum PortKind {
    /// KECS's port, which every Service of the mirror has.
    Base,
    /// A port of instances, under the name that the mirror gives it.
    Own(u16),
    /// A port that others have added, which remains.
    Foreign,
    /// A port with a name of the mirror that it would not write.
    Wrong,
}

impl PortKind {
    fn of(form: Option<MirrorForm>, port: &ServicePort) -> PortKind {
        let name = port.name.as_deref().unwrap_or_default();
        let number = u16::try_from(port.port).unwrap_or(0);
        let is_tcp = port.protocol.as_deref() == Some(TCP);
        let is_own_name = name == PORT_NAME || name.starts_with(OWN_PORT_PREFIX);
        if is_tcp && name == PORT_NAME && number == SERVICE_PORT {
            PortKind::Base
        } else if is_tcp && number != SERVICE_PORT && name == own_port_name(number) {
            PortKind::Own(number)
        } else if form == Some(MirrorForm::ClusterIp) && !is_own_name {
            PortKind::Foreign
        } else {
            PortKind::Wrong
        }
    }
}

impl Default for Head {
    fn default() -> Head {
        Head { form: None, ports: Vec::new(), is_changed: true }
    }
}

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

fn own_port_name(port: u16) -> String {
    format!("{OWN_PORT_PREFIX}{port}")
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
    let port = |port: &EndpointPort, name: &str| {
        let is_ours = port.name.as_deref() == Some(name) && port.protocol.as_deref() == Some(TCP);
        u16::try_from(port.port?).ok().filter(|_| is_ours)
    };
    let (port, is_port_named) = match slice.ports.as_deref().unwrap_or_default() {
        [] => (None, false),
        [only] => (Some(port(only, PORT_NAME)?), false),
        [first, second] => {
            let number = port(first, PORT_NAME)?;
            port(second, &own_port_name(number)).filter(|same| *same == number)?;
            (Some(number), true)
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
    Some(Body::Slice { family, port, is_port_named, endpoints })
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
