//! The ports of the registry: what makes changes durable, and what serves them.

use std::sync::Arc;

use crate::model::{Instance, Namespace, NamespaceId, Operation, Service, ServiceId};

use super::state::{Event, State};

/// One absolute change of one object: applying it twice is the same as once.
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
    /// The set of the service's instances changed at this number.
    PutRevision(ServiceId, u64),
    /// The operation is as given.
    PutOperation(Arc<Operation>),
    /// The operation with this number is no longer kept.
    DropOperation(u64),
    /// No number up to this one will be given again.
    PutSequence(u64),
}

/// The changes of one command: all of them or none.
pub type Group = Vec<Change>;

/// What a store did with a group.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// Durable.
    Accepted,
    /// Another replica was first. The command fails with this reason; the other replica's change
    /// arrives by itself.
    Refused(String),
}

/// Durability behind the registry.
///
/// A local store commits a batch as one and accepts all of it. A shared store may refuse single groups;
/// it is given a [`super::Registry`] to send what other replicas changed.
pub trait Store: Send {
    /// Hands everything that is stored to `sink`, owners before what they own.
    fn load(&mut self, sink: &mut dyn FnMut(Change)) -> Result<(), StoreError>;

    /// Makes a batch durable, in order, and says for each group what became of it. After an error
    /// nothing of the batch may ever be seen by [`Store::load`].
    fn commit(&mut self, batch: &[Group]) -> Result<Vec<Verdict>, StoreError>;
}

/// Why a store cannot be opened, read or written.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub struct StoreError {
    /// What could not be done, where, and what to do about it.
    pub what: String,
    /// The cause.
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl StoreError {
    /// An error with its cause.
    pub fn new(
        what: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> StoreError {
        StoreError { what: what.into(), source: Some(source.into()) }
    }
}

/// What serves the registry's state: told of every durable batch before its callers are answered.
pub trait Publish: Send {
    /// Serves `state`. `events` name everything that differs from the state before, each once.
    fn publish(&mut self, state: &State, events: &[Event]);
}
