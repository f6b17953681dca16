//! An authoritative DNS server and complete API for AWS Cloud Map service discovery, which follows the pods of a Kubernetes
//! cluster.
//!
//! ```text
//!  AWS CLI, SDKs ───────────► api ────────┐
//!  task pods, alias Services ► kubernetes ┼─► registry ──────► snapshot ──────► dns ──────► resolvers, pods, CoreDNS
//!  kubectl, other servers ──► store ──────┘   one writer       directory        UDP, TCP
//!                               ▲               │              and leaves  ──► admin ────► probes, Prometheus, explain
//!                               └── commits ────┘                 ▲
//!                                                             zone files
//! ```
//!
//! | module | job |
//! | --- | --- |
//! | [`model`] | Cloud Map as plain data |
//! | [`registry`] | the single writer of everything that Cloud Map knows, its read views, health policy, numbers |
//! | [`store`] | durability: one file, custom resources that several servers share, or memory |
//! | [`wire`] | vocabulary of DNS messages |
//! | [`zone`] | DNS data and the lookup |
//! | [`snapshot`] | compiles the registry's state and zone files into what DNS reads, and publishes it without locks |
//! | [`dns`] | the DNS protocol over UDP, TCP, TLS, HTTPS and QUIC, transfers, NOTIFY |
//! | [`api`] | the Cloud Map HTTP API |
//! | [`checks`] | active health checks of instances |
//! | [`kubernetes`] | pods become instances; services and zones are shown to the cluster |
//! | [`admin`] | the port for operators, which only reads |
//! | [`exposition`] | Prometheus' text format |
//! | [`config`], [`cli`], [`app`] | settings, commands, and the server that is built from all parts |
//!
//! # Guarantees
//!
//! - An operation that reads SUCCESS is durable, and DNS answers with it.
//! - A query takes no lock, allocates nothing, and never waits for a change.
//! - A change costs as much as its service is large, whatever else there is.
//! - Health is decided in one place ([`registry::health`]) for DNS, the API, the mirror and `explain`.
//! - Nothing is removed because of something that was not heard: an API server that is away, or a list that was cut short.
//! - Several servers on one store give one content to one revision and one serial.
//! - Whatever arrives costs bounded memory and time: limits are named constants or settings.
//!
//! `docs/architecture.md` has the path of a query, a call and a pod event, the memory order of publishing, and the decisions
//! with their reasons. Its table says which module may import which; `tests/architecture.rs` holds it. [`app::Server`] is the
//! entry to all of it for a test, the program's is [`cli::run`].

pub mod admin;
pub mod api;
pub mod app;
pub mod checks;
pub mod cli;
pub mod config;
pub mod dns;
pub mod exposition;
pub mod kubernetes;
pub mod model;
mod priority;
pub mod registry;
pub mod snapshot;
pub mod store;
pub mod wire;
pub mod zone;
