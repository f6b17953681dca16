//! The registry: all namespaces, services, instances and operations, with one writer and any number of readers.
//!
//! Every change is a [`Command`] on one bounded channel to one writer thread. The writer takes the queued commands as a
//! batch, checks each one against the state that the earlier ones leave, makes the batch durable with one commit through
//! the [`Store`] port, publishes it (to DNS through the [`Publish`] port, to readers as a new [`State`]), and only then
//! answers the callers. So a change whose operation reads SUCCESS is durable and already served. If a batch cannot be made
//! durable, its callers get an error, and nobody ever sees its changes.
//!
//! Instances that are pods are watched ([`Command::Observe`]): they are applied, published and numbered like others, but not
//! stored, and so need no commit. Signals about a pod's health that do not come from Kubernetes are stored with the pod's uid, and joined with the
//! pod when both are known ([`State::apply`]). The store only receives groups with durable changes. Numbers must never be
//! given twice, even if only watched instances had them: the writer reserves blocks of numbers in the store before it gives
//! any of them.
//!
//! Namespaces and services of another registry are shadowed ([`Command::Shadow`]): they are read-only and not stored.
//! Stored resources take precedence: a shadowed one exists only while no stored resource has its id or name.
//!
//! Readers call [`Registry::state`] and never wait: a [`State`] is an immutable version of everything, and shares all
//! unchanged parts with the version before it. The cost of a change is proportional to the size of its service.
//!
//! `api` and `kubernetes` send commands and read states; `store` implements [`Store`]; `snapshot` implements [`Publish`].

pub mod admission;
mod arrivals;
pub mod census;
pub mod change;
pub mod command;
pub mod departures;
pub mod error;
mod handle;
pub mod health;
pub mod history;
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
mod retry;
mod rules;
pub mod served;
pub mod settings;
mod settling;
mod shared;
pub mod sought;
pub mod state;
pub mod subscription;
pub mod timers;
mod timetable;
mod writer;

pub use admission::Admission;
pub use census::Census;
pub use change::{Change, Event};
pub use command::{
    Command, Observation, Observed, PodGone, PodNumbers, Refusal, Reply, Seen, Shadowed, ShadowedKind,
};
pub use departures::{Departures, Hold, OtherServers, OthersHold};
pub use error::RegistryError;
pub use handle::{Registry, WriterThread};
pub use health::{AnswerMax, CheckedNetworks, HealthOf, HealthSettings, MinimumHealthy, UnknownHealth};
pub use message::ChangeNotifier;
pub use numbering::{Numbering, Renumber};
pub use port::{Group, Publish, Store, StoreError, Verdict};
pub use query::{Discover, Filter, FilterCondition, HealthFilter, Page};
pub use settings::{Quotas, Settings, Validation};
pub use sought::{Finder, Sought};
pub use state::{ServiceState, State};
pub use subscription::Subscription;
