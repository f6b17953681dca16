//! What the mirror wants in the cluster, and what counts of what is there: both in one form, so that they can be compared.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{ObjectReference, Service, ServicePort, ServiceSpec};
use k8s_openapi::api::discovery::v1::{self, EndpointConditions, EndpointPort, EndpointSlice};
use kube::api::ObjectMeta;

use super::{ANNOTATION_KEYS, HEADLESS, LABEL_KEYS, PORT_NAME, SERVICE_ID, SERVICE_PORT, TCP};

/// Where an object is.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(super) struct Key {
    pub(super) kind: Kind,
    pub(super) namespace: Box<str>,
    pub(super) name: Box<str>,
}

/// What kind of object it is.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(super) enum Kind {
    Service,
    EndpointSlice,
}

impl Kind {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Kind::Service => "Service",
            Kind::EndpointSlice => "EndpointSlice",
        }
    }
}

/// An object, as far as the mirror writes it.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(super) struct Object {
    pub(super) key: Key,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) annotations: BTreeMap<String, String>,
    pub(super) body: Body,
}

/// What it says.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(super) enum Body {
    /// A Service without a cluster address and a selector, as all of them are.
    Headless,
    Slice {
        family: Family,
        port: Option<u16>,
        /// In order of the instances' ids.
        endpoints: Vec<Endpoint>,
    },
    /// Something that the mirror would not write.
    Other,
}

#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(super) enum Family {
    V4,
    V6,
}

/// One address of an instance.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(super) struct Endpoint {
    pub(super) address: IpAddr,
    pub(super) is_ready: bool,
    /// Kubernetes namespace and name, when the instance is a pod.
    pub(super) pod: Option<(Box<str>, Box<str>)>,
}

impl Object {
    /// Tells two objects of one place apart, within this process.
    pub(super) fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.hash(&mut hasher);
        hasher.finish()
    }

    /// The id of the Cloud Map service that it is for.
    pub(super) fn service_id(&self) -> Option<&str> {
        self.annotations.get(SERVICE_ID).map(String::as_str)
    }

    /// What counts of a Service; nothing when it has no name.
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

    /// What counts of an EndpointSlice; nothing when it has no name.
    pub(super) fn of_slice(slice: &EndpointSlice) -> Option<Object> {
        object(Kind::EndpointSlice, &slice.metadata, slice_body(slice).unwrap_or(Body::Other))
    }

    /// The Service to apply.
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

    /// The EndpointSlice to apply; nothing when it is a Service.
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
            conditions: Some(EndpointConditions {
                ready: Some(endpoint.is_ready),
                serving: Some(endpoint.is_ready),
                // A pod that is asked to end is no instance any more.
                terminating: Some(false),
            }),
            target_ref: endpoint.pod.as_ref().map(|(namespace, name)| ObjectReference {
                kind: Some(POD.into()),
                namespace: Some(namespace.to_string()),
                name: Some(name.to_string()),
                ..ObjectReference::default()
            }),
            ..v1::Endpoint::default()
        };
        Some(EndpointSlice {
            address_type: family.as_str().into(),
            endpoints: endpoints.iter().map(endpoint).collect(),
            metadata: self.metadata(uid),
            ports: Some(port.into_iter().collect()),
        })
    }

    fn metadata(&self, uid: Option<&str>) -> ObjectMeta {
        ObjectMeta {
            name: Some(self.key.name.to_string()),
            namespace: Some(self.key.namespace.to_string()),
            // With it the API server refuses to change another object that took the name meanwhile.
            uid: uid.map(Into::into),
            labels: Some(self.labels.clone()),
            annotations: Some(self.annotations.clone()),
            ..ObjectMeta::default()
        }
    }
}

const POD: &str = "Pod";

impl Family {
    /// Kubernetes' word.
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
    // Others may add theirs.
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
        let conditions = endpoint.conditions.clone()?;
        let is_ready = conditions.ready?;
        let pod = match &endpoint.target_ref {
            None => None,
            Some(target) if target.kind.as_deref() == Some(POD) => {
                Some((target.namespace.as_deref()?.into(), target.name.as_deref()?.into()))
            }
            Some(_) => return None,
        };
        let as_written = conditions.serving == Some(is_ready) && conditions.terminating == Some(false);
        as_written.then_some(Endpoint { address: address.parse().ok()?, is_ready, pod })
    };
    let endpoints = slice.endpoints.iter().map(endpoint).collect::<Option<Vec<_>>>()?;
    Some(Body::Slice { family, port, endpoints })
}
