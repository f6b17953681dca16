//! What can become of the registry's state: absolute changes, and what they show.

use std::sync::Arc;

use crate::model::{
    HealthReport, Instance, Namespace, NamespaceId, Operation, OperationKey, Service, ServiceId,
};

use super::numbering::Numbering;

/// One absolute change of one object: applying it twice is the same as once.
///
/// Instances that are pods are not stored: the watch of pods gives them again after a restart. What clients report of their
/// health is stored. Shadowed resources are not stored. A store is never given a group without a change that
/// [`Change::is_durable`].
#[derive(Clone, Debug)]
pub enum Change {
    /// The namespace is as given.
    PutNamespace(Arc<Namespace>),
    /// The namespace is gone; no service was in it.
    DeleteNamespace(NamespaceId),
    /// The service is as given; its instances stay.
    PutService(Arc<Service>),
    /// The service is gone, and its revision with it; no instance was in it.
    DeleteService(ServiceId),
    /// The instance is as given.
    PutInstance(ServiceId, Instance),
    /// The instance is gone.
    DeleteInstance(ServiceId, Box<str>),
    /// The watched instance is gone; it was never stored.
    ForgetInstance(ServiceId, Box<str>),
    /// The shadowed namespace is gone, and no service was in it; it was never stored.
    ForgetNamespace(NamespaceId),
    /// The shadowed service is gone, and its instances with it; none of it was ever stored.
    ForgetService(ServiceId),
    /// The report about the pod behind the service's instance of this id is as given, whether the pod is known or not.
    PutReport(ServiceId, Box<str>, Arc<HealthReport>),
    /// There is no report about the service's instance of this id.
    DropReport(ServiceId, Box<str>),
    /// The set of the service's instances changed at this number.
    PutRevision(ServiceId, u64),
    /// The contents of the namespace's zone changed at this number. Only a shared store has these.
    PutSerial(NamespaceId, u64),
    /// The numbers of a shared store are as given.
    PutNumbering(Numbering),
    /// The operation is as given.
    PutOperation(Arc<Operation>),
    /// The operation with this key is no longer kept.
    DropOperation(OperationKey),
    /// No number up to this one will be given again.
    PutSequence(u64),
}

/// What differs between a state and the one before it.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Event {
    /// The namespace is new, changed or gone.
    Namespace(NamespaceId),
    /// The service, or one of its instances, is new, changed or gone.
    Service(ServiceId),
    /// The namespace's zone has a new serial.
    Serial(NamespaceId),
}

impl Change {
    /// What a published state shows of the change; operations, revisions and numbers are not served.
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

    /// Whether it asks for being stored. Numbers go with the changes that they are given to.
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

    /// Whether it is one of a namespace or a service, not of what is in it.
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
