//! The ports of the registry: what makes changes durable, and what serves them.

use std::sync::Arc;

use crate::model::OperationId;

use super::{
    change::{Change, Event},
    error::RegistryError,
    message::News,
    numbering::Renumber,
    sought::Finder,
    state::State,
};

/// The changes of one command: all of them or none.
pub type Group = Vec<Change>;

/// What a store did with a group.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// Durable as planned.
    Accepted,
    /// Durable, in a form of the store's own: [`Store::changes`] has it by now, and the group is not applied as planned.
    Arrives {
        /// The id that the group's operation got in place of the planned one.
        operation: Option<OperationId>,
    },
    /// Not stored, because another writer was first, for this reason. [`Store::changes`] has that writer's change by now if
    /// the store could read it in time, so the command is planned again. Only stores whose [`Store::may_lose`] is true lose.
    Lost(String),
    /// Not stored, and planning the command again would not change that: it fails with this error.
    Refused(RegistryError),
}

/// Durability behind the registry.
///
/// A local store commits a batch as one and accepts all of it. A shared store may lose races for single groups, gives
/// what it accepts numbers of its own, and hands over what other replicas changed.
pub trait Store: Send {
    /// What [`Store::changes`] has is told to `news` from now on. Called once, before the store is loaded.
    fn attach(&mut self, news: News) {
        drop(news);
    }

    /// What became of the state since the last call, in order, apart from what was accepted as planned: absolute changes
    /// that are durable already. They are applied and published, and not committed again.
    fn changes(&mut self) -> Vec<Change> {
        Vec::new()
    }

    /// Returns whether [`Store::commit`] may lose a race against another writer. If so, commands are kept until their changes
    /// are stored.
    fn may_lose(&self) -> bool {
        false
    }

    /// Gives contents that changed without a new number one that is above all numbers before, at every server. Returns at
    /// once; the numbers arrive with [`Store::changes`]. Only shared stores are asked.
    fn renumber(&mut self, wanted: Renumber) {
        drop(wanted);
    }

    /// Reader of single things from the store, if other servers write to it. Called once, before the store is loaded.
    fn finder(&self) -> Option<Arc<dyn Finder>> {
        None
    }

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
    /// Makes ready what the next [`Publish::publish`] will serve, whose events need not name it again. `state` may not be
    /// whole yet, but what `events` name is.
    fn prepare(&mut self, state: &State, events: &[Event]) {
        self.publish(state, events);
    }

    /// Serves `state`. `events` name everything that differs from the state before, each once.
    fn publish(&mut self, state: &State, events: &[Event]);
}
