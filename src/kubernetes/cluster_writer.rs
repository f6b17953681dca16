//! Everything that is written to the cluster: the mirror and what CoreDNS is told, by the one replica that holds the Lease.

use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::client::{ClientError, Cluster};
use super::coredns::{CoreDns, CoreDnsMode, CoreDnsStatus, Forward, ServedZones};
use super::leader::{Election, Leadership};
use super::mirror::{Mirror, MirrorStatus};
use super::status::WatchStatus;
use crate::registry::Registry;

/// What is written.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ClusterWriterSettings {
    /// Whether Cloud Map's services are mirrored as Services and EndpointSlices.
    pub mirror: bool,
    /// True if the mirror writes Endpoints too, which Kubernetes has deprecated.
    pub mirror_endpoints: bool,
    /// How CoreDNS is told which zones to forward, and where to; nothing when it is not told.
    pub coredns: Option<(CoreDnsMode, Forward)>,
}

/// How it stands; what is not written has no status.
#[derive(Clone, Debug)]
pub struct ClusterWriterStatus {
    /// Whether this process is the one that writes.
    pub leadership: Leadership,
    /// The mirror's.
    pub mirror: Option<Arc<MirrorStatus>>,
    /// CoreDNS's.
    pub coredns: Option<Arc<CoreDnsStatus>>,
}

/// The running writer; [`ClusterWriter::stop`] ends it.
pub struct ClusterWriter {
    status: ClusterWriterStatus,
    writers: Vec<JoinHandle<()>>,
    election: JoinHandle<()>,
    stop_writers: watch::Sender<bool>,
    stop_election: watch::Sender<bool>,
}

impl ClusterWriter {
    /// Starts writing whenever this process holds the Lease; nothing when there is nothing to write. The API server need not
    /// be there. Needs a tokio runtime around it.
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
        let election = Election::new(cluster.listening(|| {})?, own_namespace);
        let leadership = election.leadership();
        let (stop_writers, stopped) = watch::channel(false);
        let mut status = ClusterWriterStatus { leadership: leadership.clone(), mirror: None, coredns: None };
        let mut writers = Vec::new();
        if settings.mirror {
            let mirror = Mirror {
                client: cluster.listening(|| {})?,
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
                client: cluster.listening(|| {})?,
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

    /// How it stands.
    pub fn status(&self) -> ClusterWriterStatus {
        self.status.clone()
    }

    /// Ends it, and returns when it has ended: first the writing, then the Lease is given back, so that another replica goes
    /// on at once.
    pub async fn stop(self) {
        self.stop_writers.send_replace(true);
        for writer in self.writers {
            if writer.await.is_err() {
                tracing::error!("what writes to the cluster ended badly");
            }
        }
        self.stop_election.send_replace(true);
        if self.election.await.is_err() {
            tracing::error!("the election of who writes to the cluster ended badly");
        }
    }
}
