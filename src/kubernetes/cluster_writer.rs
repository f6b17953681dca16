//! Tasks that write to the cluster: the mirror and the configuration of CoreDNS. Only the replica that holds the Lease
//! writes.

use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::client::{ClientError, Cluster};
use super::coredns::{CoreDns, CoreDnsMode, CoreDnsStatus, Forward, ServedZones};
use super::leader::{Election, Leadership};
use super::mirror::{Mirror, MirrorStatus};
use super::status::WatchStatus;
use crate::registry::Registry;

/// Choice of what is written to the cluster.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ClusterWriterSettings {
    /// True if Cloud Map's services are mirrored as Services and EndpointSlices.
    pub mirror: bool,
    /// True if the mirror writes Endpoints too, which Kubernetes has deprecated.
    pub mirror_endpoints: bool,
    /// ConfigMap that has the zones for CoreDNS, and the address that CoreDNS forwards to; `None` leaves CoreDNS
    /// alone.
    pub coredns: Option<(CoreDnsMode, Forward)>,
}

/// States of the writers. A writer that is off has no state.
#[derive(Clone, Debug)]
pub struct ClusterWriterStatus {
    /// Shows if this process is the leader, which alone writes.
    pub leadership: Leadership,
    /// State of the mirror, if it is on.
    pub mirror: Option<Arc<MirrorStatus>>,
    /// State of CoreDNS's configuration, if it is kept.
    pub coredns: Option<Arc<CoreDnsStatus>>,
}

/// Handle of the running tasks. [`ClusterWriter::stop`] stops them.
pub struct ClusterWriter {
    status: ClusterWriterStatus,
    writers: Vec<JoinHandle<()>>,
    election: JoinHandle<()>,
    stop_writers: watch::Sender<bool>,
    stop_election: watch::Sender<bool>,
}

impl ClusterWriter {
    /// Starts the tasks, which write whenever this process holds the Lease; `None` if the settings turn all of them
    /// off. The API server need not be up. Must be called within a tokio runtime.
    pub fn start(
        cluster: &Cluster,
        settings: ClusterWriterSettings,
        registry: &Registry,
        pods: Arc<WatchStatus>,
        zones: ServedZones,
    ) -> Result<Option<ClusterWriter>, ClientError> {
        if !settings.mirror && settings.coredns.is_none() {
            return Ok(None);
        }
        let own_namespace = cluster.namespace();
        let election = Election::new(cluster.observed_client(|| {})?, own_namespace);
        let leadership = election.leadership();
        let (stop_writers, stopped) = watch::channel(false);
        let mut status = ClusterWriterStatus { leadership: leadership.clone(), mirror: None, coredns: None };
        let mut writers = Vec::new();
        if settings.mirror {
            let mirror = Mirror {
                client: cluster.observed_client(|| {})?,
                registry: registry.clone(),
                leadership: leadership.clone(),
                endpoints: settings.mirror_endpoints,
                installation: own_namespace.into(),
                pods,
                status: Arc::default(),
            };
            status.mirror = Some(mirror.status.clone());
            writers.push(tokio::spawn(mirror.run(stopped.clone())));
        }
        if let Some((mode, forward)) = settings.coredns {
            let coredns = CoreDns {
                client: cluster.observed_client(|| {})?,
                registry: registry.clone(),
                leadership,
                mode,
                forward,
                zones,
                own_namespace: own_namespace.into(),
                status: Arc::default(),
            };
            status.coredns = Some(coredns.status.clone());
            writers.push(tokio::spawn(coredns.run(stopped)));
        }
        let (stop_election, stopped) = watch::channel(false);
        let election = tokio::spawn(election.run(stopped));
        Ok(Some(ClusterWriter { status, writers, election, stop_writers, stop_election }))
    }

    /// States of the writers, for metrics and readiness.
    pub fn status(&self) -> ClusterWriterStatus {
        self.status.clone()
    }

    /// Stops the writers and then releases the Lease, so that another replica continues at once. Returns when all
    /// tasks have ended.
    pub async fn stop(self) {
        self.stop_writers.send_replace(true);
        for writer in self.writers {
            if writer.await.is_err() {
                tracing::error!("a task that writes to the cluster ended badly");
            }
        }
        self.stop_election.send_replace(true);
        if self.election.await.is_err() {
            tracing::error!("the leader election ended badly");
        }
    }
}
