//! Keys: the identity that an object claims, the owner that it refers to, and what a write depends on.

use std::sync::Arc;

use crate::model::{NamespaceId, ServiceId};
use crate::registry::state::zone_key;

#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(super) struct InstanceKey {
    pub(super) service: ServiceId,
    pub(super) instance: Box<str>,
}

impl InstanceKey {
    pub(super) fn new(service: &ServiceId, instance: &str) -> InstanceKey {
        InstanceKey { service: service.clone(), instance: instance.into() }
    }
}

/// A name in the zone of a namespace, in lower case, because names in DNS are case-insensitive (RFC 4343).
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(super) struct DnsNameKey {
    pub(super) namespace: NamespaceId,
    pub(super) name: String,
}

/// The identity of the resource that an object describes. Several objects may claim one. All types of namespaces
/// share one claim for each name, because DiscoverInstances takes a name without a type.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Claim {
    Namespace(Arc<str>),
    Service { namespace: NamespaceId, name: Box<str> },
    Instance { service: ServiceId, id: Box<str> },
}

impl Claim {
    pub(super) fn namespace(name: &str) -> Arc<Claim> {
        Claim::Namespace(zone_key(name)).into()
    }

    /// The claim of a service. In a DNS namespace its name is in lower case, because names in DNS are
    /// case-insensitive (RFC 4343).
    pub(super) fn service(namespace: &NamespaceId, name: &str, is_dns: bool) -> Arc<Claim> {
        let name = if is_dns { name.to_ascii_lowercase() } else { name.to_string() };
        Claim::Service { namespace: namespace.clone(), name: name.into() }.into()
    }

    pub(super) fn instance(service: &ServiceId, id: &str) -> Arc<Claim> {
        Claim::Instance { service: service.clone(), id: id.into() }.into()
    }
}

/// The namespace or service to which a spec refers, by id or by name.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(super) enum OwnerKey {
    Id(Box<str>),
    Namespace { name: Arc<str> },
    Service { name: Box<str>, namespace: Arc<str> },
}

impl OwnerKey {
    pub(super) fn id(id: &str) -> OwnerKey {
        OwnerKey::Id(id.into())
    }

    pub(super) fn namespace(name: &str) -> OwnerKey {
        OwnerKey::Namespace { name: zone_key(name) }
    }

    pub(super) fn service(name: &str, namespace: &str) -> OwnerKey {
        OwnerKey::Service { name: name.to_ascii_lowercase().into(), namespace: zone_key(namespace) }
    }
}

/// An object that a write creates, changes, deletes or reads, or a DNS name that it claims or frees.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(super) enum WriteKey {
    Namespace(NamespaceId),
    Service(ServiceId),
    Instance(InstanceKey),
    Report(InstanceKey),
    DnsName(DnsNameKey),
}
