//! Counters of the API's requests, for `/metrics`.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use axum::http::StatusCode;

use super::action::Action;

/// What became of the requests since the start.
#[derive(Debug, Default)]
pub struct ApiMetrics {
    operations: [Counters; Action::ALL.len()],
    unrouted: Counters,
    duration_us: AtomicU64,
}

/// Requests by what became of them.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Outcomes {
    /// Answered as asked.
    pub ok: u64,
    /// Refused because of the request.
    pub client_errors: u64,
    /// Failed because of the server.
    pub server_errors: u64,
}

#[derive(Debug, Default)]
struct Counters {
    ok: AtomicU64,
    client_errors: AtomicU64,
    server_errors: AtomicU64,
}

impl ApiMetrics {
    /// The requests of each operation.
    pub fn operations(&self) -> impl Iterator<Item = (Action, Outcomes)> + '_ {
        Action::ALL.iter().map(|action| (*action, self.operations[*action as usize].outcomes()))
    }

    /// The requests that named no operation.
    pub fn unrouted(&self) -> Outcomes {
        self.unrouted.outcomes()
    }

    /// The time of all requests together, from their headers to their answer, in microseconds.
    pub fn duration_us_total(&self) -> u64 {
        self.duration_us.load(Relaxed)
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
