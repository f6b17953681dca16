//! Kubernetes: pods of ECS tasks become instances, and Cloud Map's services are published in the cluster.
//!
//! KECS runs ECS tasks as pods, whose annotations name the Cloud Map services that the task belongs to. Pods are watched
//! with label selectors, and their instances are sent to the registry.
//!
//! | module | purpose |
//! | --- | --- |
//! | [`client`] | configuration of the cluster, and clients for its API server |
//! | `backoff` | delays between repeated requests |
//! | `follow` | follows one kind of object: list, watch, doubt about a list, staleness |
//! | `submit` | commands of followers to the registry |
//! | `background` | a background task that can be stopped |
//! | [`pod`] | conversion of a pod to its instances |
//! | `pod_table` | facts about pods that the registry does not have, for the tasks that write to the cluster |
//! | [`index`] | index of the known pods: events in, observations out; plain data, no cluster |
//! | [`watch`] | runs the watches, feeds the index, and sends its observations to the registry |
//! | [`status`] | state of the pod watch for metrics, readiness and explain |
//! | [`shadow`] | KECS's own Cloud Map registry, read from its alias Services |
//! | [`cluster_writer`] | starts the tasks that write to the cluster |
//! | [`leader`] | leader election with a Lease: one replica writes |
//! | [`mirror`] | Cloud Map's services as Services with EndpointSlices and Endpoints |
//! | [`coredns`] | the zones that CoreDNS forwards to this server |
//! | `drain_annotation` | the annotation of pods that have left, with the time from which no client holds them |
//!
//! `app` starts a [`PodWatch`], a [`Shadow`] and a [`ClusterWriter`]; `admin` reads their states. No pod and no alias is
//! removed only because the API server was not heard: an incomplete list removes nothing, a list that is suddenly much
//! shorter must be confirmed by a second one, and while the API server is away, queries are answered from the last known
//! state, which is reported as stale.
//!
//! No type of Kubernetes leaves this module.

mod background;
mod backoff;
pub mod client;
pub mod cluster_writer;
pub mod coredns;
mod drain_annotation;
mod follow;
pub mod index;
pub mod leader;
pub mod mirror;
pub mod pod;
mod pod_table;
mod servers;
pub mod shadow;
pub mod status;
mod submit;
pub mod watch;

pub(crate) use backoff::Backoff;
pub(crate) use client::error_text as told;
pub use client::{ClientError, Cluster, host_name};
pub use cluster_writer::{ClusterWriter, ClusterWriterSettings, ClusterWriterStatus, SharedWork};
pub use coredns::{CoreDnsMode, CoreDnsStatus, Forward, ServedZones};
pub use follow::ListEnd;
pub(crate) use follow::{Followed, Follower, ListTracker, ObservedClient};
pub use index::PendingService;
pub use leader::Leadership;
pub use mirror::{MirrorForm, MirrorStatus};
pub use pod::{InstanceIdSource, PodRules};
pub use servers::Servers;
pub use shadow::{RefusedService, Shadow, ShadowStatus};
pub use status::WatchStatus;
pub use watch::PodWatch;

/// Field manager of everything that this server writes to the API server.
pub(crate) const FIELD_MANAGER: &str = env!("CARGO_PKG_NAME");
