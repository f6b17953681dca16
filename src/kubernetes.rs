//! Kubernetes: task pods become instances.
//!
//! KECS runs ECS tasks as pods; a pod's annotation names the Cloud Map services that its task belongs to. Pods are
//! watched with their labels selected by the API server, and what they are is told to the registry.
//!
//! | part | its job |
//! | --- | --- |
//! | [`client`] | which cluster, and how to talk to it |
//! | [`pod`] | from a pod to the little that is kept of it |
//! | [`index`] | all pods that are known: events in, observations out; plain data, no cluster |
//! | [`watch`] | runs the watches, feeds the index, and sends what comes out to the registry |
//! | [`status`] | how the watch stands, for those who ask: metrics, readiness, explain |
//!
//! Who calls it: `app` starts a [`PodWatch`]; `admin` reads its [`WatchStatus`]. It promises: no pod is taken for gone
//! because something was not heard. A list that was cut short removes nothing, one that is suddenly much shorter is asked
//! for twice, and while the API server is away everything is answered as it was last known, and said to be stale.
//!
//! No type of Kubernetes leaves this module.

pub mod client;
pub mod index;
pub mod pod;
pub mod status;
pub mod watch;

pub use client::{ClientError, Cluster};
pub use pod::{InstanceIdSource, PodRules};
pub use status::WatchStatus;
pub use watch::PodWatch;
