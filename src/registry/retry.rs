//! Retry queue of commands that lost a race against another writer of a shared store.
//!
//! After its first loss a command is planned again at once. After later losses it waits for a growing pause, because several
//! servers are then changing one resource, and the pause lets the others finish. The writer carries out other commands
//! during a pause.

use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::{
    command::{Command, Reply},
    error::RegistryError,
};

/// Number of losses after which a command fails with [`RegistryError::Contended`]. All pauses together last three seconds.
const LOSSES_MAX: u32 = 16;
/// Time in milliseconds, from the first loss, after which a command is not planned again. Together with a commit it is
/// shorter than the timeout of an API request.
const AGAIN_MS_MAX: u64 = 10_000;
/// Pause in milliseconds after the second loss; each later pause is twice as long, up to [`PAUSE_MS_MAX`].
const PAUSE_MS_MIN: u64 = 5;
const PAUSE_MS_MAX: u64 = 320;

pub(super) struct Request {
    pub(super) command: Command,
    pub(super) answer: oneshot::Sender<Result<Reply, RegistryError>>,
    pub(super) losses: Losses,
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Losses {
    count: u32,
    first: Option<Instant>,
}

#[derive(Default)]
pub(super) struct RetryQueue {
    waiting: Vec<(Instant, Request)>,
}

impl Request {
    pub(super) fn new(command: Command, answer: oneshot::Sender<Result<Reply, RegistryError>>) -> Request {
        Request { command, answer, losses: Losses::default() }
    }
}

impl Losses {
    /// Counts one more loss and returns the pause after it, or `None` if the command may not be planned again. `jitter`,
    /// between 0 and 1, shortens the pause by up to half, so that servers which lost together do not return together.
    fn after_another(self, now: Instant, jitter: f64) -> Option<(Losses, Duration)> {
        let losses = Losses { count: self.count + 1, first: self.first.or(Some(now)) };
        let since = losses.first.map_or(Duration::ZERO, |first| now.saturating_duration_since(first));
        if losses.count >= LOSSES_MAX || since >= Duration::from_millis(AGAIN_MS_MAX) {
            return None;
        }
        let doublings = losses.count.checked_sub(2);
        let pause_ms = doublings.map_or(0, |doublings| (PAUSE_MS_MIN << doublings).min(PAUSE_MS_MAX));
        Some((losses, Duration::from_millis(pause_ms).mul_f64(1.0 - jitter / 2.0)))
    }
}

impl RetryQueue {
    /// Queues a command that lost a race for this reason, or fails it if it has lost too often. Pass one `jitter` for all
    /// commands that lost together, so that they form one batch again.
    pub(super) fn add(&mut self, mut request: Request, reason: String, now: Instant, jitter: f64) {
        match request.losses.after_another(now, jitter) {
            Some((losses, pause)) => {
                tracing::debug!(reason, losses = losses.count, "a command lost a race, and is planned again");
                request.losses = losses;
                self.waiting.push((now + pause, request));
            }
            None => {
                tracing::warn!(reason, "a command lost every race, and its caller has to try again");
                // The caller may have disconnected.
                let _ = request.answer.send(Err(RegistryError::Contended(reason)));
            }
        }
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn due(&self) -> Option<Instant> {
        self.waiting.iter().map(|(due, _)| *due).min()
    }

    pub(super) fn take_due(&mut self, now: Instant) -> Vec<Request> {
        self.waiting.extract_if(.., |(due, _)| *due <= now).map(|(_, request)| request).collect()
    }

    pub(super) fn take_all(&mut self) -> Vec<Request> {
        std::mem::take(&mut self.waiting).into_iter().map(|(_, request)| request).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_from_the_second_loss_and_the_number_of_losses_is_limited() {
        let now = Instant::now();
        let mut losses = Losses::default();
        let mut pauses_ms = Vec::new();
        while let Some((more, pause)) = losses.after_another(now, 0.0) {
            losses = more;
            pauses_ms.push(pause.as_millis());
        }
        assert_eq!(pauses_ms[..9], [0, 5, 10, 20, 40, 80, 160, 320, 320]);
        assert_eq!(pauses_ms.len(), 15);
        let (_, shortened) = Losses { count: 2, ..Losses::default() }.after_another(now, 1.0).unwrap();
        assert_eq!(shortened, Duration::from_millis(5));
    }

    #[test]
    fn command_is_not_planned_again_ten_seconds_after_its_first_loss() {
        let start = Instant::now();
        let (losses, _) = Losses::default().after_another(start, 0.5).unwrap();
        let after = |ms| losses.after_another(start + Duration::from_millis(ms), 0.5);
        assert!(after(AGAIN_MS_MAX - 1).is_some());
        assert!(after(AGAIN_MS_MAX).is_none());
    }
}
