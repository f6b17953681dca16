//! A client that remembers when the API server answered last.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use kube::Client;
use tokio::time::Instant;

use crate::kubernetes::client::{ClientError, Cluster};

/// Client with a connection pool of its own, the time of the last sign of life of the API server, and the number of its
/// successful responses. All clones share one state.
#[derive(Clone)]
pub(crate) struct ObservedClient {
    client: Client,
    answers: Answers,
}

/// Number of answers, and the time of the last one in milliseconds since `origin`.
#[derive(Clone)]
struct Answers {
    origin: Instant,
    at_ms: Arc<AtomicU64>,
    count: Arc<AtomicU64>,
}

impl ObservedClient {
    pub(crate) fn new(cluster: &Cluster) -> Result<ObservedClient, ClientError> {
        let answers = Answers { origin: Instant::now(), at_ms: Arc::default(), count: Arc::default() };
        let listener = answers.clone();
        let client = cluster.observed_client(move || {
            listener.heard();
            listener.count.fetch_add(1, Ordering::Relaxed);
        })?;
        Ok(ObservedClient { client, answers })
    }

    pub(crate) fn client(&self) -> Client {
        self.client.clone()
    }

    /// Records an event of a watch, which is a sign of life but no response.
    pub(super) fn heard(&self) {
        self.answers.heard();
    }

    pub(super) fn last_answer(&self) -> Instant {
        self.answers.origin + Duration::from_millis(self.answers.at_ms.load(Ordering::Relaxed))
    }

    pub(super) fn answers(&self) -> u64 {
        self.answers.count.load(Ordering::Relaxed)
    }
}

impl Answers {
    fn heard(&self) {
        let at_ms = u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.at_ms.fetch_max(at_ms, Ordering::Relaxed);
    }
}
