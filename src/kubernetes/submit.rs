//! Commands of followers to the registry: one at a time, and repeated after a while if the registry could not carry them
//! out.

use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::time::Instant;

use crate::registry::{Command, Registry, RegistryError, Reply};

/// Delay before the next command after one that the registry could not carry out, in milliseconds.
const RETRY_MS: u64 = 1_000;
/// Interval at which instances and services that the registry refused are sent again, in milliseconds.
pub(super) const REFUSED_RETRY_MS: u64 = 15_000;
pub(super) const REFUSALS_LOGGED_MAX: usize = 3;

/// Sender of a follower's commands, of which at most one is in flight. `next` is the earliest time of the next one.
pub(super) struct Submission {
    registry: Registry,
    in_flight: Option<BoxFuture<'static, Result<Reply, RegistryError>>>,
    next: Instant,
}

impl Submission {
    pub(super) fn new(registry: Registry) -> Submission {
        Submission { registry, in_flight: None, next: Instant::now() }
    }

    pub(super) fn is_free(&self) -> bool {
        !self.is_running() && Instant::now() >= self.next
    }

    pub(super) fn is_running(&self) -> bool {
        self.in_flight.is_some()
    }

    pub(super) fn send(&mut self, command: Command) {
        let registry = self.registry.clone();
        self.in_flight = Some(async move { registry.submit(command).await }.boxed());
    }

    /// Reply to the command that is in flight; pending forever if there is none.
    pub(super) async fn reply(&mut self) -> Result<Reply, RegistryError> {
        let Some(in_flight) = &mut self.in_flight else { return std::future::pending().await };
        let reply = in_flight.await;
        self.in_flight = None;
        if reply.is_err() {
            self.next = Instant::now() + Duration::from_millis(RETRY_MS);
        }
        reply
    }
}
