//! Counters of the API's requests, which the admin endpoint exports.

use crate::exposition::{Collect, Exposition};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use axum::http::StatusCode;

use super::action::Action;

/// Counters of all requests since the start, by operation and outcome.
#[derive(Debug, Default)]
pub struct ApiMetrics {
    operations: [Counters; Action::ALL.len()],
    unrouted: Counters,
    duration_us: AtomicU64,
    drains_waiting: AtomicU64,
}

/// A request that waits until an instance is drained. It counts until it is dropped.
pub(super) struct WaitingDrain<'m>(&'m ApiMetrics);

impl Drop for WaitingDrain<'_> {
    fn drop(&mut self) {
        self.0.drains_waiting.fetch_sub(1, Relaxed);
    }
}

/// Numbers of requests by the HTTP status of their answers, such as those of one operation: `ok` counts 2xx,
/// `client_errors` 4xx and `server_errors` 5xx.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[expect(missing_docs, reason = "the type's document explains the fields")]
pub struct Outcomes {
    pub ok: u64,
    pub client_errors: u64,
    pub server_errors: u64,
}

#[derive(Debug, Default)]
struct Counters {
    ok: AtomicU64,
    client_errors: AtomicU64,
    server_errors: AtomicU64,
}

impl ApiMetrics {
    /// The counters of each operation, including those that were never called.
    pub fn operations(&self) -> impl Iterator<Item = (Action, Outcomes)> + '_ {
        Action::ALL.iter().map(|action| (*action, self.operations[*action as usize].outcomes()))
    }

    /// The counters of requests that named no operation of the API.
    pub fn unrouted(&self) -> Outcomes {
        self.unrouted.outcomes()
    }

    /// Total time of all requests in microseconds, each from its headers until its answer was ready to be sent.
    pub fn duration_us_total(&self) -> u64 {
        self.duration_us.load(Relaxed)
    }

    pub(super) fn drain_waits(&self) -> WaitingDrain<'_> {
        self.drains_waiting.fetch_add(1, Relaxed);
        WaitingDrain(self)
    }

    pub(super) fn record(&self, action: Option<Action>, status: StatusCode, duration: Duration) {
        let counters = action.map_or(&self.unrouted, |action| &self.operations[action as usize]);
        let counter = match status {
            status if status.is_server_error() => &counters.server_errors,
            status if status.is_client_error() => &counters.client_errors,
            _ => &counters.ok,
        };
        counter.fetch_add(1, Relaxed);
        self.duration_us.fetch_add(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX), Relaxed);
    }
}

impl Counters {
    fn outcomes(&self) -> Outcomes {
        Outcomes {
            ok: self.ok.load(Relaxed),
            client_errors: self.client_errors.load(Relaxed),
            server_errors: self.server_errors.load(Relaxed),
        }
    }
}

impl Collect for ApiMetrics {
    fn collect(&self, out: &mut Exposition) {
        let mut family = out.counter("api_requests_total", "API requests, by operation and outcome.");
        let unrouted = [("unknown", self.unrouted())];
        let operations = self.operations().map(|(action, outcomes)| (action.as_str(), outcomes));
        for (operation, outcomes) in operations.chain(unrouted) {
            let counts = [
                ("ok", outcomes.ok),
                ("client_error", outcomes.client_errors),
                ("server_error", outcomes.server_errors),
            ];
            for (outcome, count) in counts.into_iter().filter(|(_, count)| *count > 0) {
                family.sample(&[("operation", operation), ("outcome", outcome)], count);
            }
        }
        let seconds = self.duration_us_total() as f64 / 1e6;
        out.counter("api_request_seconds_total", "Total time of all API requests, in seconds.")
            .sample(&[], seconds);
        out.gauge("drains_waiting", "Requests that wait until an instance is drained.")
            .sample(&[], self.drains_waiting.load(Relaxed));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_are_counted_per_operation() {
        let metrics = ApiMetrics::default();
        let ms = Duration::from_millis(1);
        metrics.record(Some(Action::GetService), StatusCode::OK, ms);
        metrics.record(Some(Action::GetService), StatusCode::NOT_FOUND, ms);
        metrics.record(None, StatusCode::INTERNAL_SERVER_ERROR, ms);
        let counted: Vec<_> =
            metrics.operations().filter(|(_, outcomes)| *outcomes != Outcomes::default()).collect();
        assert_eq!(counted, [(Action::GetService, Outcomes { ok: 1, client_errors: 1, server_errors: 0 })]);
        assert_eq!(metrics.unrouted(), Outcomes { server_errors: 1, ..Outcomes::default() });
        assert_eq!(metrics.duration_us_total(), 3000);
    }
}
