//! Deletion of health reports about pods that don't exist any more.
//!
//! A pod that the watch does not know may still exist: it lost its label, or was created a moment ago. The API server
//! is therefore asked for each pod before its report is deleted. Every replica does this, because deleting a report
//! twice does no harm.

use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, join_all};
use kube::{Api, Client, ResourceExt as _};
use tokio::time::Instant;

use crate::kubernetes::index::Index;
use crate::kubernetes::pod::Pod;
use crate::model::Uid;
use crate::registry::{Command, PodGone, Registry};

const SWEEP_MS: u64 = 5_000;
/// Limit of the pods that one search asks the API server for; later searches ask for the others.
const PODS_ASKED_MAX: usize = 64;

pub(super) struct Sweep {
    client: Client,
    next: Instant,
    running: Option<BoxFuture<'static, ()>>,
}

impl Sweep {
    pub(super) fn new(client: Client) -> Sweep {
        Sweep { client, next: Instant::now(), running: None }
    }

    /// Starts a search if one is due. Call it only while every pod is known.
    pub(super) fn start_if_due(&mut self, registry: &Registry, index: &Index) {
        let now = Instant::now();
        if self.running.is_some() || now < self.next {
            return;
        }
        self.next = now + Duration::from_millis(SWEEP_MS);
        let state = registry.state();
        let unknown = state.all_pod_signals().filter(|(_, _, about)| !index.knows(&about.pod, about.pod_uid));
        let unknown = unknown.map(|(service, instance, about)| {
            let gone =
                PodGone { service: service.clone(), instance: instance.into(), pod_uid: about.pod_uid };
            (about.pod.clone(), gone)
        });
        // The choice is random, so that reports which remain don't keep the others from being checked.
        let candidates = fastrand::choose_multiple(unknown, PODS_ASKED_MAX);
        if !candidates.is_empty() {
            self.running = Some(sweep(self.client.clone(), registry.clone(), candidates).boxed());
        }
    }

    /// Returns when the running search has ended; pending forever if there is none.
    pub(super) async fn ended(&mut self) {
        match &mut self.running {
            Some(running) => running.await,
            None => std::future::pending().await,
        }
        self.running = None;
    }
}

async fn sweep(client: Client, registry: Registry, candidates: Vec<(String, PodGone)>) {
    let mut withdrawn = Vec::new();
    for (pod, candidate) in candidates {
        let (namespace, name) = pod.split_once('/').unwrap_or_default();
        let pods = Api::<Pod>::namespaced(client.clone(), namespace);
        match pods.get_metadata_opt(name).await {
            Ok(Some(there)) if Uid::of(&there.uid().unwrap_or_default()) == candidate.pod_uid => {}
            Ok(_) => {
                tracing::info!(pod, instance = %candidate.instance, "a health report is deleted with its pod");
                withdrawn.push(registry.submit(Command::WithdrawSignals(candidate)));
            }
            Err(error) => tracing::debug!(pod, %error, "the pod could not be read"),
        }
    }
    for result in join_all(withdrawn).await {
        if let Err(error) = result {
            tracing::debug!(%error, "a health report could not be deleted, and will be later");
        }
    }
}
