//! Durability behind the registry's [`Store`](crate::registry::Store) port.
//!
//! `embedded` is one local file, durable before every acknowledgement; `memory` forgets at the end.

pub mod embedded;
pub mod memory;

pub use embedded::EmbeddedStore;
pub use memory::MemoryStore;
