//! The index of all custom resources: it receives events of the watches and responses to writes, and produces changes for
//! the registry.
//!
//! It is a plain struct that needs no cluster. It holds every object, decides by the API's rules which ones are accepted,
//! and collects the resulting changes; whoever holds the lock drains them in order. The result depends on the objects and
//! not on the order of their arrival, so that replicas with equal objects agree. Of two objects that claim one DNS name
//! (`registry::names`), the older one is accepted, and the other as soon as the name is free.
//!
//! Numbers are etcd's: `metadata.resourceVersion` counts the writes to the whole cluster, so the number of a write is
//! above all numbers before it and unique.

mod contents;
mod decide;
mod due_statuses;
mod events;
mod indexed_kind;
mod numbers;
#[cfg(test)]
mod numbers_model;
mod operations;
mod refused_names;
#[cfg(test)]
mod tests;

pub(super) use contents::Index;
pub(super) use events::Removal;
pub(super) use indexed_kind::IndexedKind;
