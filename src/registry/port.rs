//! The ports of the registry: [`Store`] makes changes durable, and [`Publish`] serves them.

use std::sync::Arc;

use crate::model::OperationId;

use super::{
    change::{Change, Event},
    error::RegistryError,
    message::ChangeNotifier,
    numbering::Renumber,
    sought::Finder,
    state::State,
};

/// The changes of one command: all of them or none.
pub type Group = Vec<Change>;

/// Result of committing one group.
///
/// An accepted group is durable in its planned form. A group that arrives is durable too, but the store changed its ids or
/// numbers, and may have given its operation the id `operation`: [`Store::changes`] already returns the group in its stored
/// form, and the planned form is not applied.
#[derive(Clone, Debug, Eq, PartialEq)]
#[expect(missing_docs, reason = "the variants without a document are explained by that of the enum")]
pub enum Verdict {
    Accepted,
    Arrives {
        operation: Option<OperationId>,
    },
    /// The group was not stored because another writer was first; the string gives the reason. The command is planned again,
    /// on that writer's change if the store could read it in time for [`Store::changes`]. Only returned by stores whose
    /// [`Store::may_lose`] is true.
    Lost(String),
    /// The group was not stored, and planning the command again would not help: it fails with this error.
    Refused(RegistryError),
}

/// Durability behind the registry.
///
/// A local store commits a batch as one and accepts all of it. A shared store may lose races for single groups, gives
/// accepted groups numbers of its own, and delivers the changes of other replicas.
pub trait Store: Send {
    /// Gives the store the notifier to call whenever [`Store::changes`] has something new. Called once, before the store
    /// is loaded.
    fn attach(&mut self, notifier: ChangeNotifier) {
        drop(notifier);
    }

    /// Returns the changes since the last call, in order, except those of groups that were [`Verdict::Accepted`]. They are
    /// absolute and already durable, so the registry applies and publishes them without committing them again.
    fn changes(&mut self) -> Vec<Change> {
        Vec::new()
    }

    /// Returns true if [`Store::commit`] may lose a race against another writer. The registry then keeps each command until
    /// its changes are stored.
    fn may_lose(&self) -> bool {
        false
    }

    /// Requests a new number, above all earlier ones at every server, for contents that changed without one. Returns at
    /// once; the numbers arrive with [`Store::changes`]. Only called for shared stores.
    fn renumber(&mut self, wanted: Renumber) {
        drop(wanted);
    }

    /// Returns a reader of single objects, if other servers write to this store. Called once, before the store is loaded.
    fn finder(&self) -> Option<Arc<dyn Finder>> {
        None
    }

    /// Passes everything that is stored to `sink`: namespaces before their services, and services before their instances.
    fn load(&mut self, sink: &mut dyn FnMut(Change)) -> Result<(), StoreError>;

    /// Makes a batch durable, in order, and returns a verdict for each group. After an error, [`Store::load`] must never
    /// return any part of the batch.
    fn commit(&mut self, batch: &[Group]) -> Result<Vec<Verdict>, StoreError>;
}

/// A failure to open, read or write a store. The text contains the action that failed, its file or object, and the remedy;
/// it does not repeat the source.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
#[expect(missing_docs, reason = "the fields are explained by the type's document")]
pub struct StoreError {
    pub what: String,
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl StoreError {
    /// Makes an error from its message and its cause.
    pub fn new(
        what: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> StoreError {
        StoreError { what: what.into(), source: Some(source.into()) }
    }
}

/// Serves the registry's state. It is called for every durable batch before the batch's callers are answered.
pub trait Publish: Send {
    /// Compiles the resources that `events` name before the next [`Publish::publish`], which need not name them again.
    /// `state` may still be incomplete, but these resources are complete in it. Called only while the store is loaded.
    fn prepare(&mut self, state: &State, events: &[Event]) {
        self.publish(state, events);
    }

    /// Serves `state`. `events` name every resource that differs from the previous state, each once.
    fn publish(&mut self, state: &State, events: &[Event]);

    /// Serves services again whose answers have another TTL now. No zone's contents differ, so that serials remain.
    fn publish_ttls(&mut self, state: &State, services: &[Event]) {
        self.publish(state, services);
    }
}
