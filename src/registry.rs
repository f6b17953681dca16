//! The registry: the single writer of everything that Cloud Map knows, and its read views.
//!
//! Every change is a [`Command`] on one bounded channel to one writer thread. The writer takes what is
//! queued as a batch, checks each command against the state as the ones before it leave it, makes the batch
//! durable with one commit through the [`Store`] port, publishes it (to DNS through the [`Publish`] port, to
//! readers as a new [`State`]), and only then answers the callers: what reads SUCCESS is durable and
//! already served. A batch that cannot be made durable is an error to its callers and visible nowhere.
//!
//! Instances that are pods are watched ([`Command::Observe`]): applied, published and numbered like others, but not
//! stored, and so without a commit. What clients report of a pod's health is stored, with the pod's uid, and joined with the
//! pod wherever the two meet ([`State::apply`]). A store is given durable groups alone. Numbers must never be given twice, also not
//! those that only watched instances had: blocks of numbers are reserved in the store before any of them is given.
//!
//! Namespaces and services of a registry elsewhere are shadowed ([`Command::Shadow`]): not stored either, and read-only. What
//! is stored comes before them: they are there only while nothing else has their ids and names.
//!
//! Readers call [`Registry::state`] and never wait: a [`State`] is an immutable version of everything,
//! sharing all that did not change with the version before it. A change costs O(its service).
//!
//! Who calls it: `api` and `kubernetes` send commands and read states; `store` implements [`Store`]; `snapshot`
//! implements [`Publish`].

pub mod admission;
mod arrivals;
pub mod change;
pub mod command;
pub mod error;
pub mod health;
mod leniency;
mod loading;
mod message;
pub mod names;
pub mod numbering;
mod numbers;
pub mod pattern;
mod plan;
pub mod port;
pub mod query;
mod races;
mod rules;
pub mod settings;
pub mod sought;
pub mod state;
pub mod touched;
mod writer;

pub use admission::Admission;
pub use change::{Change, Event};
pub use command::{
    Command, Observation, Observed, PodGone, PodNumbers, Refusal, Reply, Seen, Shadowed, ShadowedKind,
};
pub use error::RegistryError;
pub use health::{HealthSettings, UnknownHealth};
pub use message::News;
pub use numbering::{Numbering, Renumber};
pub use port::{Group, Publish, Store, StoreError, Verdict};
pub use query::{Discover, Filter, FilterCondition, HealthFilter, Page};
pub use settings::{Quotas, Settings, Validation};
pub use sought::{Finder, Sought};
pub use state::{ServiceState, State};
pub use touched::Touched;
pub use writer::{Registry, WriterThread};
