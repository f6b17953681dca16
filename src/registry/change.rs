//! Changes of the registry's state, and the events that name the resources which they affect.

use std::sync::Arc;

use crate::model::{
    Instance, Namespace, NamespaceId, Operation, OperationKey, PodSignals, Service, ServiceId,
};

use super::numbering::Numbering;

/// One absolute change of one object: applying it twice has the effect of applying it once.
///
/// `Put` creates the object or replaces it; the instances of a service remain, and a stored instance never replaces a
/// watched one. `Delete` removes a stored object: a namespace without services, a service without instances, or an instance
/// that is not watched. `Forget` removes an object that is not stored, and only if it is one: a watched instance, or a
/// shadowed service or namespace. `Drop` removes the signals about a pod, or an operation.
///
/// Instances that are pods are not stored, because the watch of pods delivers them again after a restart; signals
/// about their health that come from elsewhere are. Shadowed resources are not stored either. A store only receives groups with at least one change
/// that [`Change::is_durable`].
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "most variants are explained by the enum's document")]
pub enum Change {
    PutNamespace(Arc<Namespace>),
    DeleteNamespace(NamespaceId),
    PutService(Arc<Service>),
    DeleteService(ServiceId),
    PutInstance(ServiceId, Instance),
    DeleteInstance(ServiceId, Box<str>),
    ForgetInstance(ServiceId, Box<str>),
    ForgetNamespace(NamespaceId),
    ForgetService(ServiceId),
    /// Sets the stored signals about the pod that is the service's instance of this id. The pod need not be known.
    PutPodSignals(ServiceId, Box<str>, Arc<PodSignals>),
    DropPodSignals(ServiceId, Box<str>),
    /// Raises the service's revision to this number, at which its set of instances changed.
    PutRevision(ServiceId, u64),
    /// Raises the zone's serial to this number, at which its contents changed. Only shared stores make this change.
    PutSerial(NamespaceId, u64),
    /// Raises the offset and the floor of a shared store's numbers.
    PutNumbering(Numbering),
    PutOperation(Arc<Operation>),
    /// Deletes the operation, because newer ones have taken its place among those that are retained.
    DropOperation(OperationKey),
    /// Raises the last number given: no number up to this one is given again.
    PutSequence(u64),
}

/// A resource that differs between a state and its predecessor: a namespace, a service (in its definition or one of its
/// instances), or the serial of a namespace's zone.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
#[expect(missing_docs, reason = "the variants are explained by the enum's document")]
pub enum Event {
    Namespace(NamespaceId),
    Service(ServiceId),
    Serial(NamespaceId),
}

impl Change {
    /// Returns the resource to publish after this change. Operations, revisions and numbers are not published.
    pub fn event(&self) -> Option<Event> {
        match self {
            Change::PutNamespace(namespace) => Some(Event::Namespace(namespace.id.clone())),
            Change::DeleteNamespace(id) | Change::ForgetNamespace(id) => Some(Event::Namespace(id.clone())),
            Change::PutService(service) => Some(Event::Service(service.id.clone())),
            Change::DeleteService(id) | Change::ForgetService(id) => Some(Event::Service(id.clone())),
            Change::PutInstance(service, _)
            | Change::DeleteInstance(service, _)
            | Change::ForgetInstance(service, _)
            | Change::PutPodSignals(service, ..)
            | Change::DropPodSignals(service, _) => Some(Event::Service(service.clone())),
            Change::PutSerial(namespace, _) => Some(Event::Serial(namespace.clone())),
            Change::PutRevision(..)
            | Change::PutNumbering(_)
            | Change::PutOperation(_)
            | Change::DropOperation(_)
            | Change::PutSequence(_) => None,
        }
    }

    /// Returns true if the change has to be stored. Numbers return false: they are stored with the change that they number.
    pub fn is_durable(&self) -> bool {
        match self {
            Change::PutInstance(_, instance) => !instance.is_watched(),
            Change::PutNamespace(namespace) => !namespace.origin.is_shadowed(),
            Change::PutService(service) => !service.origin.is_shadowed(),
            Change::ForgetInstance(..)
            | Change::ForgetNamespace(_)
            | Change::ForgetService(_)
            | Change::PutRevision(..)
            | Change::PutSerial(..)
            | Change::PutNumbering(_)
            | Change::PutSequence(_) => false,
            Change::DeleteNamespace(_)
            | Change::DeleteService(_)
            | Change::DeleteInstance(..)
            | Change::PutPodSignals(..)
            | Change::DropPodSignals(..)
            | Change::PutOperation(_)
            | Change::DropOperation(_) => true,
        }
    }

    pub(super) fn is_of_a_definition(&self) -> bool {
        matches!(
            self,
            Change::PutNamespace(_)
                | Change::DeleteNamespace(_)
                | Change::PutService(_)
                | Change::DeleteService(_)
                | Change::ForgetNamespace(_)
                | Change::ForgetService(_)
        )
    }
}
