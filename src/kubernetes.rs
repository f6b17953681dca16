//! Kubernetes: task pods become instances, and the cluster sees what Cloud Map knows.
//!
//! KECS runs ECS tasks as pods; a pod's annotation names the Cloud Map services that its task belongs to. Pods are
//! watched with their labels selected by the API server, and what they are is told to the registry.
//!
//! | part | its job |
//! | --- | --- |
//! | [`client`] | which cluster, and how to talk to it |
//! | `events` | lists and watches that never end, and what is said of their errors |
//! | `running` | a task that runs until it is told to stop |
//! | [`pod`] | from a pod to the little that is kept of it |
//! | [`index`] | all pods that are known: events in, observations out; plain data, no cluster |
//! | [`watch`] | runs the watches, feeds the index, and sends what comes out to the registry |
//! | [`status`] | how the watch stands, for those who ask: metrics, readiness, explain |
//! | [`shadow`] | KECS's own Cloud Map registry, read from its alias Services |
//! | [`cluster_writer`] | starts what writes to the cluster |
//! | [`leader`] | the Lease: one replica writes |
//! | [`mirror`] | Cloud Map's services as headless Services with EndpointSlices and Endpoints |
//! | [`coredns`] | tells CoreDNS which zones to forward |
//!
//! Who calls it: `app` starts a [`PodWatch`], a [`Shadow`] and a [`ClusterWriter`]; `admin` reads their statuses. It
//! promises: no pod and no alias is taken for gone because something was not heard. A list that was cut short removes
//! nothing, one that is suddenly much shorter is asked for twice, and while the API server is away everything is answered
//! as it was last known, and said to be stale.
//!
//! No type of Kubernetes leaves this module.

pub mod client;
pub mod cluster_writer;
pub mod coredns;
mod events;
pub mod index;
pub mod leader;
pub mod mirror;
pub mod pod;
mod running;
pub mod shadow;
pub mod status;
pub mod watch;

pub use client::{ClientError, Cluster};
pub use cluster_writer::{ClusterWriter, ClusterWriterSettings, ClusterWriterStatus};
pub use coredns::{CoreDnsMode, CoreDnsStatus, Forward, ServedZones};
pub(crate) use events::told;
pub use index::Waiting;
pub use leader::Leadership;
pub use mirror::MirrorStatus;
pub use pod::{InstanceIdSource, PodRules};
pub use shadow::{Refused, Shadow, ShadowStatus};
pub use status::WatchStatus;
pub use watch::PodWatch;

/// Who we are to the API server where we write.
pub(crate) const FIELD_MANAGER: &str = env!("CARGO_PKG_NAME");
