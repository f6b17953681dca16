//! The registry: the single writer of everything that Cloud Map knows, and its read views.
//!
//! Every change is a [`Command`] on one bounded channel to one writer thread. The writer takes what is
//! queued as a batch, checks each command against the state as the ones before it leave it, makes the batch
//! durable with one commit through the [`Store`] port, publishes it (to DNS through the [`Publish`] port, to
//! readers as a new [`State`]), and only then answers the callers: what reads SUCCESS is durable and
//! already served. A batch that cannot be made durable is an error to its callers and visible nowhere.
//!
//! Readers call [`Registry::state`] and never wait: a [`State`] is an immutable version of everything,
//! sharing all that did not change with the version before it. A change costs O(its service).
//!
//! Who calls it: `api` sends commands and reads states; `store` implements [`Store`]; `snapshot`
//! implements [`Publish`].

pub mod admission;
mod arrivals;
pub mod change;
pub mod command;
pub mod error;
mod leniency;
mod plan;
pub mod port;
pub mod query;
mod rules;
pub mod settings;
pub mod state;
mod writer;

pub use admission::Admission;
pub use arrivals::News;
pub use change::{Change, Event};
pub use command::{Command, Reply};
pub use error::RegistryError;
pub use port::{Group, Publish, Store, StoreError, Verdict};
pub use query::{Discover, Filter, FilterCondition, HealthFilter, Page};
pub use settings::{Quotas, Settings, UnknownHealth, Validation};
pub use state::{ServiceState, State};
pub use writer::{Registry, WriterThread};
