//! `cloudmap-dns`: an authoritative DNS server and complete API for AWS Cloud Map service discovery.

pub mod admin;
pub mod api;
pub mod app;
pub mod cli;
pub mod config;
pub mod dns;
pub mod kubernetes;
pub mod model;
mod priority;
pub mod registry;
pub mod snapshot;
pub mod store;
pub mod wire;
pub mod zone;
