//! `cloudmap-dns`: an authoritative DNS server and complete API for AWS Cloud Map service discovery.

pub mod api;
pub mod model;
pub mod registry;
pub mod store;
pub mod zone;
