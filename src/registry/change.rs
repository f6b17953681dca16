//! Changes of the registry's state, and the events that name the resources which they affect.

use std::sync::Arc;

use crate::model::{
    HealthReport, Instance, Namespace, NamespaceId, Operation, OperationKey, Service, ServiceId,
};

use super::numbering::Numbering;

/// One absolute change of one object: applying it twice has the effect of applying it once.
///
/// Instances that are pods are not stored, because the watch of pods delivers them again after a restart; reports of clients
/// about their health are. Shadowed resources are not stored either. A store only receives groups with at least one change
/// that [`Change::is_durable`].
#[derive(Clone, Debug)]
pub enum Change {
    /// Creates the namespace, or replaces its definition.
    PutNamespace(Arc<Namespace>),
    /// Deletes the namespace, which contains no services.
    DeleteNamespace(NamespaceId),
    /// Creates the service, or replaces its definition and keeps its instances.
    PutService(Arc<Service>),
    /// Deletes the service, which has no instances, and its revision.
    DeleteService(ServiceId),
    /// Creates or replaces the instance. A watched instance is not replaced by a stored one.
    PutInstance(ServiceId, Instance),
    /// Deletes the instance, unless it is a watched one.
    DeleteInstance(ServiceId, Box<str>),
    /// Deletes the instance if it is a watched one, which was never stored.
    ForgetInstance(ServiceId, Box<str>),
    /// Deletes the namespace if it is shadowed. It contains no services and was never stored.
    ForgetNamespace(NamespaceId),
    /// Deletes the service if it is shadowed, with its instances, none of which was ever stored.
    ForgetService(ServiceId),
    /// Sets the health report about the pod that is the service's instance of this id. The pod need not be known.
    PutReport(ServiceId, Box<str>, Arc<HealthReport>),
    /// Deletes the health report about the service's instance of this id.
    DropReport(ServiceId, Box<str>),
    /// Raises the service's revision to this number, at which its set of instances changed.
    PutRevision(ServiceId, u64),
    /// Raises the zone's serial to this number, at which its contents changed. Only shared stores make this change.
    PutSerial(NamespaceId, u64),
    /// Raises the offset and the floor of a shared store's numbers.
    PutNumbering(Numbering),
    /// Creates or replaces the operation.
    PutOperation(Arc<Operation>),
    /// Deletes the operation, because newer ones have taken its place among those that are retained.
    DropOperation(OperationKey),
    /// Raises the last number given: no number up to this one is given again.
    PutSequence(u64),
}

/// A resource that differs between a state and its predecessor.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Event {
    /// The namespace was created, changed or deleted.
    Namespace(NamespaceId),
    /// The service or one of its instances was created, changed or deleted.
    Service(ServiceId),
    /// The namespace's zone has a new serial.
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
            | Change::PutReport(service, ..)
            | Change::DropReport(service, _) => Some(Event::Service(service.clone())),
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
            | Change::PutReport(..)
            | Change::DropReport(..)
            | Change::PutOperation(_)
            | Change::DropOperation(_) => true,
        }
    }

    /// Returns true for a change of a namespace or service itself, false for one of its contents.
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
