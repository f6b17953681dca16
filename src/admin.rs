//! The port for operators: probes, metrics, and what is answered and why. It reads and never changes.
//!
//! | path | what it says |
//! | --- | --- |
//! | `/livez` | `ok` as long as the process runs |
//! | `/readyz` | `ok` when everything that is needed is there and changes can be stored; else 503 and what is missing; `?verbose` says how everything stands, the watch of pods, the shadow of KECS's registry and what is written to the cluster too |
//! | `/metrics` | Prometheus' text format |
//! | `/explain?name=NAME&type=TYPE` | which zone, service and instances are behind an answer, and why |
//! | `/zone?name=NAME` | a zone as it is served, as a master file (RFC 1035 §5) |
//!
//! Who calls it: `main` fills an [`Admin`] and runs [`serve`]; `api` and `dns` hand in what they count by [`Collect`];
//! the commands `explain` and `zone` ask the running server through this port.
//!
//! What it promises: no lock is held while it waits, and no lock of its own is taken by those who answer queries. Lists
//! are bounded by named constants, and what is left out is counted. A panic behind a request ends that request with 500
//! and nothing else. It has no authentication, so it listens on the loopback address unless told otherwise.

mod explain;
mod exposition;
mod live_zone;
mod metrics;
mod process;
mod readiness;
mod route;
mod server;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use crate::kubernetes::{ClusterWriterStatus, PendingService, ShadowStatus, WatchStatus};
use crate::registry::{Registry, State, state::NamespaceState};
use crate::snapshot::{Snapshot, ZoneFiles};
use crate::zone::{Directory, Name, records::dotted};

pub use exposition::{Collect, Exposition, Family, Value};
pub use readiness::{Readiness, ReadinessTask, Standing};
pub use server::serve;

/// Zones that are listed when somebody asks for one that there is not.
const ZONES_LISTED_MAX: usize = 20;

/// Services without an alias that are listed.
const UNKNOWN_LISTED_MAX: usize = 10;

/// What the port looks at.
pub struct Admin {
    /// What Cloud Map knows.
    pub registry: Registry,
    /// Whether other servers have the same store. What one of them can't store, none can, so that it is no reason to send
    /// clients elsewhere; and who gets no requests would never find out that it is over.
    pub is_store_shared: bool,
    /// What DNS answers from.
    pub snapshot: Arc<Snapshot>,
    /// The zone files, when a directory of them is followed.
    pub zone_files: Option<Arc<ZoneFiles>>,
    /// The watch of pods, when a cluster is watched.
    pub pods: Option<Arc<WatchStatus>>,
    /// The shadow of KECS's own registry, when there is one.
    pub shadow: Option<Arc<ShadowStatus>>,
    /// What is written to the cluster, when something is.
    pub cluster_writer: Option<ClusterWriterStatus>,
    /// What has to be there before `/readyz` says ok.
    pub readiness: Readiness,
    /// More metrics, in this order.
    pub collectors: Vec<Arc<dyn Collect + Send + Sync>>,
    /// When the server started.
    pub started: Instant,
}

impl Admin {
    /// Whether everything is there and changes can be stored.
    fn is_ready(&self) -> bool {
        self.readiness.is_ready() && (self.is_store_shared || self.registry.store_failure().is_none())
    }

    /// How everything stands that `/readyz` depends on.
    fn standings(&self) -> BTreeMap<&'static str, Standing> {
        let mut standings = self.readiness.standings();
        let store = self.registry.store_failure().map(|reason| {
            format!(
                "the last change could not be stored, and was refused; DNS still answers what was stored before: {reason}"
            )
        });
        let store = match store {
            None => Standing::Done,
            Some(what) if self.is_store_shared => Standing::Remark(what),
            Some(what) => Standing::Failing(what),
        };
        standings.insert("store", store);
        // Pods are answered as they were last known, so that the server is ready whatever becomes of its API server.
        if let Some(pods) = &self.pods {
            standings.insert("kubernetes", Standing::Remark(pods.line()));
        }
        if let Some(shadow) = &self.shadow {
            standings
                .insert("shadow", Standing::Remark(format!("{}{}", shadow.line(), self.unknown_to_shadow())));
        }
        // DNS and the API don't depend on what is written to the cluster.
        if let Some(writer) = &self.cluster_writer {
            standings.insert("leader", Standing::Remark(writer.leadership.line()));
            if let Some(mirror) = writer.mirror.as_ref().filter(|_| writer.leadership.is_held()) {
                standings.insert("mirror", Standing::Remark(mirror.line()));
            }
            if let Some(coredns) = writer.coredns.as_ref().filter(|_| writer.leadership.is_held()) {
                standings.insert("coredns", Standing::Remark(coredns.line()));
            }
        }
        standings
    }

    /// Services that pods name and that no alias of KECS's does, for the line of the shadow: without an alias, their names are
    /// not known.
    fn unknown_to_shadow(&self) -> String {
        let pending = self.pods.as_ref().map(|pods| pods.pending()).unwrap_or_default();
        let listed = pending.iter().take(UNKNOWN_LISTED_MAX);
        let mut text: String = listed
            .map(|one| format!("; {} {}, which no alias names", waiting_text(one), one.service))
            .collect();
        if let more @ 1.. = pending.len().saturating_sub(UNKNOWN_LISTED_MAX) {
            text.push_str(&format!("; and for {more} more"));
        }
        text
    }
}

/// Number of pods that wait for a service, in words that the service follows.
fn waiting_text(waiting: &PendingService) -> String {
    match waiting.instances {
        1 => "1 pod waits for".into(),
        many => format!("{many} pods wait for"),
    }
}

/// The namespace whose zone this is, when it is not one that only a zone file makes.
fn namespace_of<'s>(state: &'s State, apex: &Name) -> Option<&'s Arc<NamespaceState>> {
    state.namespace_by_zone(&dotted(apex, 0)?)
}

/// The namespace's id and kind in one line.
fn namespace_line(namespace: &NamespaceState) -> String {
    let namespace = &namespace.namespace;
    let origin = if namespace.origin.is_shadowed() { ", shadowed: KECS's own, read-only here" } else { "" };
    format!("Cloud Map namespace {}, {}{origin}", namespace.id, namespace.kind.as_str())
}

/// What zones there are, for somebody who asked for one that there is not.
fn zones_listed(directory: &Directory) -> String {
    let mut zones: Vec<&Name> = directory.zones().map(|zone| &zone.apex).take(ZONES_LISTED_MAX).collect();
    zones.sort();
    let zones: Vec<String> = zones.iter().map(ToString::to_string).collect();
    match (zones.as_slice(), directory.zone_count().saturating_sub(zones.len())) {
        ([], _) => "there is no zone".into(),
        (zones, 0) => format!("there is {}", zones.join(", ")),
        (zones, left_out) => format!("there is {} … and {left_out} more", zones.join(", ")),
    }
}
