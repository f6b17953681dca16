//! Persistence behind the registry's [`Store`](crate::registry::Store) port.
//!
//! `embedded` is one local file, durable before every acknowledgement; `kubernetes` is custom resources, for several replicas;
//! `memory` persists nothing.

pub mod embedded;
pub mod kubernetes;
pub mod memory;

pub use embedded::EmbeddedStore;
pub use kubernetes::KubernetesStore;
pub use memory::MemoryStore;
