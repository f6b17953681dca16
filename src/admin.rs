//! The HTTP port for operators: probes, metrics, and explanations of answers. All endpoints are read-only.
//!
//! | path | response |
//! | --- | --- |
//! | `/livez` | `ok` as long as the process runs |
//! | `/readyz` | `ok` if all start-up tasks are done and changes can be stored; otherwise 503 and the missing tasks. `?verbose` also lists the status of finished tasks, of the watch of pods, of the shadow of KECS's registry and of the writes to the cluster |
//! | `/metrics` | metrics in Prometheus' text format |
//! | `/explain?name=NAME&type=TYPE` | the zone, service and instances behind an answer, and the reason for it |
//! | `/history?name=NAME` | the last changes of health of a service's instances, and their causes |
//! | `/zone?name=NAME` | a zone as it is served, as a master file (RFC 1035 §5) |
//!
//! Callers: `app` fills an [`Admin`] and runs [`serve`]; other modules export their counters by implementing [`Collect`];
//! the commands `explain`, `history` and `zone` query the running server through this port.
//!
//! Guarantees: no lock is held across an await, and DNS workers take no lock of this module. Lists are limited by named
//! constants, and a response says how many items it left out. A panic fails only its own request, with a 500. There is
//! no authentication, so the default address is a loopback address.

mod explain;
mod history;
mod live_zone;
mod metrics;
mod process;
mod readiness;
mod route;
mod server;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use crate::exposition::Collect;
use crate::kubernetes::{ClusterWriterStatus, PendingService, ShadowStatus, WatchStatus};
use crate::registry::{Registry, State, state::NamespaceState};
use crate::snapshot::{Snapshot, ZoneFiles};
use crate::zone::{Directory, Name, records::dotted};

pub use readiness::{Readiness, ReadinessTask, TaskStatus};
pub use server::serve;

const ZONES_LISTED_MAX: usize = 20;
const UNKNOWN_LISTED_MAX: usize = 10;

/// State that the admin endpoints read. Parts that the settings do not enable are `None`.
///
/// - `registry`: read for `/explain` and the metrics
/// - `is_store_shared`: true if other servers use the store too. A failure of the store then does not make this server
///   unready: the other servers have it too, and a server without requests would never notice that the store works again
/// - `snapshot`: the zones as the DNS workers serve them, which may be newer or older than the registry's state
/// - `zone_files`: the directory of zone files, with the errors of each file
/// - `pods`: status of the watch of pods, and the pods that wait for a service
/// - `shadow`: status of the shadow of KECS's own registry, and the services that it refused
/// - `cluster_writer`: status of the leader election, and of the objects that the leader writes to the cluster
/// - `readiness`: tasks that have to be done before `/readyz` returns 200
/// - `collectors`: sources of further metrics, in the order of `/metrics`
/// - `started`: start of the server, from which its uptime counts
#[expect(missing_docs, reason = "the type's document explains the fields")]
pub struct Admin {
    pub registry: Registry,
    pub is_store_shared: bool,
    pub snapshot: Arc<Snapshot>,
    pub zone_files: Option<Arc<ZoneFiles>>,
    pub pods: Option<Arc<WatchStatus>>,
    pub shadow: Option<Arc<ShadowStatus>>,
    pub cluster_writer: Option<ClusterWriterStatus>,
    pub readiness: Readiness,
    pub collectors: Vec<Arc<dyn Collect + Send + Sync>>,
    pub started: Instant,
}

impl Admin {
    fn is_ready(&self) -> bool {
        self.readiness.is_ready() && (self.is_store_shared || self.registry.store_failure().is_none())
    }

    fn statuses(&self) -> BTreeMap<&'static str, TaskStatus> {
        let mut statuses = self.readiness.statuses();
        let store = self.registry.store_failure().map(|reason| {
            format!(
                "the last change could not be stored, and was refused; DNS still answers what was stored before: {reason}"
            )
        });
        let store = match store {
            None => TaskStatus::Done,
            Some(failure) if self.is_store_shared => TaskStatus::Remark(failure),
            Some(failure) => TaskStatus::Failing(failure),
        };
        statuses.insert("store", store);
        // Without the API server, DNS still answers with the last known state of the pods, so the server remains ready.
        if let Some(pods) = &self.pods {
            statuses.insert("kubernetes", TaskStatus::Remark(pods.line()));
        }
        if let Some(shadow) = &self.shadow {
            statuses.insert(
                "shadow",
                TaskStatus::Remark(format!("{}{}", shadow.line(), self.unknown_to_shadow())),
            );
        }
        // DNS and the API do not depend on writes to the cluster, so these are remarks only.
        if let Some(writer) = &self.cluster_writer {
            statuses.insert("leader", TaskStatus::Remark(writer.leadership.line()));
            if let Some(mirror) = writer.mirror.as_ref().filter(|_| writer.leadership.is_held()) {
                statuses.insert("mirror", TaskStatus::Remark(mirror.line()));
            }
            if let Some(coredns) = writer.coredns.as_ref().filter(|_| writer.leadership.is_held()) {
                statuses.insert("coredns", TaskStatus::Remark(coredns.line()));
            }
        }
        statuses
    }

    /// Lists the services that pods refer to and that no alias Service of KECS names, for the status line of the shadow.
    /// Without an alias, only the ids of such services are known.
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

fn waiting_text(waiting: &PendingService) -> String {
    match waiting.instances {
        1 => "1 pod waits for".into(),
        many => format!("{many} pods wait for"),
    }
}

fn namespace_of<'s>(state: &'s State, apex: &Name) -> Option<&'s Arc<NamespaceState>> {
    state.namespace_by_zone(&dotted(apex, 0)?)
}

fn namespace_line(namespace: &NamespaceState) -> String {
    let namespace = &namespace.namespace;
    let origin = if namespace.origin.is_shadowed() { ", shadowed: KECS's own, read-only here" } else { "" };
    format!("Cloud Map namespace {}, {}{origin}", namespace.id, namespace.kind.as_str())
}

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
