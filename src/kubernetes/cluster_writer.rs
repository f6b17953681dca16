//! Tasks that write to the cluster: the mirror, the configuration of CoreDNS, and the annotation of pods that have left. Only
//! the replica that holds the Lease writes.

use std::sync::Arc;

use futures_util::future::{BoxFuture, join_all};

use super::background::BackgroundTask;
use super::client::{ClientError, Cluster};
use super::coredns::{CoreDns, CoreDnsMode, CoreDnsStatus, Forward, ServedZones};
use super::drain_annotation::DrainAnnotation;
use super::follow::ObservedClient;
use super::leader::{Election, Leadership};
use super::mirror::{Mirror, MirrorForm, MirrorStatus};
use super::watch::PodWatch;
use crate::exposition::{Collect, Exposition};
use crate::registry::{OtherServers, Registry};

const WRITER: &str = "a task that writes to the cluster";

/// Choice of the tasks. `mirror` writes Cloud Map's services as Services of this form and EndpointSlices, and with
/// `mirror_endpoints` also as Endpoints, which Kubernetes has deprecated. `coredns` selects the ConfigMap that gets
/// the zones, and the address that CoreDNS forwards to; `None` leaves CoreDNS alone. With `drain_annotation`, pods that have
/// left the answers are annotated with the time until which clients may hold them.
#[derive(Clone, Debug, Eq, PartialEq)]
#[expect(missing_docs, reason = "the type's document explains the fields")]
pub struct ClusterWriterSettings {
    pub mirror: Option<MirrorForm>,
    pub mirror_endpoints: bool,
    pub coredns: Option<(CoreDnsMode, Forward)>,
    pub drain_annotation: bool,
}

/// Work that one of the servers of a shared store does at a time: the one that holds the Lease in the Kubernetes namespace of
/// the store. `run` makes a future that works until it is dropped.
#[expect(missing_docs, reason = "the type's document explains the fields")]
pub struct SharedWork {
    pub namespace: String,
    pub run: Box<dyn Fn() -> BoxFuture<'static, ()> + Send + Sync>,
}

/// States of the writers, which write only while `leadership` shows that this process is the leader. A writer that
/// is off has no state.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the type's document explains the fields")]
pub struct ClusterWriterStatus {
    pub leadership: Leadership,
    pub mirror: Option<Arc<MirrorStatus>>,
    pub coredns: Option<Arc<CoreDnsStatus>>,
}

/// Handle of the running tasks. [`ClusterWriter::stop`] stops them.
pub struct ClusterWriter {
    status: ClusterWriterStatus,
    writers: Vec<BackgroundTask>,
    elections: Vec<BackgroundTask>,
}

impl ClusterWriter {
    /// Starts the tasks, which write whenever this process holds the Lease; `None` if the settings turn all of them
    /// off. For the mirror and the annotation, the watch of `pods` must have been started with a table. `others` are the servers
    /// that share the store of this one. The API server need not be up. Must be
    /// called within a tokio runtime.
    pub fn start(
        cluster: &Cluster,
        settings: ClusterWriterSettings,
        work: Option<SharedWork>,
        registry: &Registry,
        pods: &PodWatch,
        zones: ServedZones,
        others: Option<Arc<dyn OtherServers>>,
    ) -> Result<Option<ClusterWriter>, ClientError> {
        let ClusterWriterSettings { mirror, mirror_endpoints, coredns, drain_annotation } = settings;
        if mirror.is_none() && coredns.is_none() && !drain_annotation && work.is_none() {
            return Ok(None);
        }
        let own_namespace = cluster.namespace();
        let election = Election::new(cluster.client()?, own_namespace);
        let leadership = election.leadership();
        let mut elections = vec![election];
        let mut status = ClusterWriterStatus { leadership: leadership.clone(), mirror: None, coredns: None };
        let mut writers = Vec::new();
        if let Some(form) = mirror {
            let mirror = Mirror {
                client: ObservedClient::new(cluster)?,
                registry: registry.clone(),
                leadership: leadership.clone(),
                form,
                endpoints: mirror_endpoints,
                installation: own_namespace.into(),
                pods: pods.status(),
                pod_table: pods.table().unwrap_or_default(),
                status: Arc::default(),
            };
            status.mirror = Some(mirror.status.clone());
            writers.push(BackgroundTask::start(WRITER, |stopped| mirror.run(stopped), || {}));
        }
        if let Some((mode, forward)) = coredns {
            let coredns = CoreDns {
                client: ObservedClient::new(cluster)?,
                registry: registry.clone(),
                leadership: leadership.clone(),
                mode,
                forward,
                zones,
                own_namespace: own_namespace.into(),
                status: Arc::default(),
            };
            status.coredns = Some(coredns.status.clone());
            writers.push(BackgroundTask::start(WRITER, |stopped| coredns.run(stopped), || {}));
        }
        if drain_annotation {
            let annotation = DrainAnnotation {
                client: ObservedClient::new(cluster)?,
                registry: registry.clone(),
                leadership,
                pods: pods.status(),
                pod_table: pods.table().unwrap_or_default(),
                others,
            };
            writers.push(BackgroundTask::start(WRITER, |stopped| annotation.run(stopped), || {}));
        }
        if let Some(SharedWork { namespace, run: work }) = work {
            let leadership = if namespace == own_namespace {
                status.leadership.clone()
            } else {
                let election = Election::new(cluster.client()?, &namespace);
                let leadership = election.leadership();
                elections.push(election);
                leadership
            };
            let run = async move |stopped| leadership.lead(stopped, work, || {}).await;
            writers.push(BackgroundTask::start("the shared work", run, || {}));
        }
        let start = |election: Election| {
            BackgroundTask::start("the leader election", |stopped| election.run(stopped), || {})
        };
        let elections = elections.into_iter().map(start).collect();
        Ok(Some(ClusterWriter { status, writers, elections }))
    }

    /// States of the writers, for metrics and readiness.
    pub fn status(&self) -> ClusterWriterStatus {
        self.status.clone()
    }

    /// Stops the writers and then releases the Lease, so that another replica continues at once. Returns when all
    /// tasks have ended.
    pub async fn stop(self) {
        join_all(self.writers.into_iter().map(BackgroundTask::stop)).await;
        join_all(self.elections.into_iter().map(BackgroundTask::stop)).await;
    }
}

impl Collect for ClusterWriterStatus {
    fn collect(&self, out: &mut Exposition) {
        let ClusterWriterStatus { leadership, mirror, coredns } = self;
        out.gauge(
            "kubernetes_leader",
            "1 if this server is the leader, which writes to the cluster, otherwise 0.",
        )
        .sample(&[], leadership.is_held());
        out.counter("kubernetes_takeovers_total", "Times that this server became the leader.")
            .sample(&[], leadership.takeovers());
        if let Some(mirror) = mirror {
            let numbers = mirror.numbers();
            for (name, help, value) in [
                (
                    "kubernetes_mirror_objects",
                    "Services, EndpointSlices and Endpoints that the mirror has written.",
                    numbers.objects,
                ),
                (
                    "kubernetes_mirror_waiting_services",
                    "Cloud Map services whose mirror is to be compared and perhaps written.",
                    numbers.waiting,
                ),
                (
                    "kubernetes_mirror_clashes",
                    "Names that the mirror needs but that objects of other owners have.",
                    numbers.clashes,
                ),
                (
                    "kubernetes_mirror_refused_objects",
                    "Objects of the mirror that the API server rejects.",
                    numbers.refused,
                ),
            ] {
                out.gauge(name, help).sample(&[], value);
            }
            out.counter(
                "kubernetes_mirror_writes_total",
                "Objects of the mirror that were written or deleted.",
            )
            .sample(&[], numbers.writes);
            out.counter("kubernetes_mirror_errors_total", "Requests of the mirror that failed.")
                .sample(&[], numbers.errors);
        }
        if let Some(coredns) = coredns {
            let detail = coredns.detail();
            for (name, help, value) in [
                (
                    "kubernetes_coredns_zones",
                    "Zones that CoreDNS is configured to forward to this server.",
                    detail.forwarded,
                ),
                (
                    "kubernetes_coredns_clashes",
                    "Zones that are not forwarded because CoreDNS already has a block for them.",
                    detail.clashes.len(),
                ),
                (
                    "kubernetes_coredns_guarded_zones",
                    "Zones that are not forwarded because the cluster itself needs their names.",
                    detail.guarded.len(),
                ),
                (
                    "kubernetes_coredns_left_out_zones",
                    "Zones that are not forwarded because CoreDNS's ConfigMap has no room for them.",
                    detail.left_out,
                ),
            ] {
                out.gauge(name, help).sample(&[], value);
            }
            out.counter("kubernetes_coredns_writes_total", "Writes of CoreDNS's ConfigMap.")
                .sample(&[], detail.writes);
            out.counter(
                "kubernetes_coredns_errors_total",
                "Requests about CoreDNS's ConfigMaps that failed.",
            )
            .sample(&[], detail.errors);
        }
    }
}
