//! Commands that lost a race against another writer of a shared store, until they are planned again.
//!
//! The first loss is followed by a new plan at once, later ones by a pause that grows: then several servers are changing
//! one resource in turn, and whoever lost lets the others finish. The writer carries out other commands during a pause.

use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::{
    command::{Command, Reply},
    error::RegistryError,
};

/// Times that a command may lose; after the last one its caller gets [`RegistryError::Contended`]. With all pauses that is
/// three seconds.
const LOSSES_MAX: u32 = 16;
/// Time from the first loss after which a command is not planned again, in milliseconds: together with a commit it is
/// shorter than a request of the API.
const AGAIN_MS_MAX: u64 = 10_000;
/// Pause after the second loss, in milliseconds; each one after it is twice as long.
const PAUSE_MS_MIN: u64 = 5;
/// The longest pause, in milliseconds.
const PAUSE_MS_MAX: u64 = 320;

/// A command, and the caller that waits for its end.
pub(super) struct Asked {
    pub(super) command: Command,
    pub(super) answer: oneshot::Sender<Result<Reply, RegistryError>>,
    pub(super) losses: Losses,
}

/// Races that a command has lost.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Losses {
    count: u32,
    first: Option<Instant>,
}

/// The commands that wait to be planned again, and when each is due.
#[derive(Default)]
pub(super) struct Losers {
    waiting: Vec<(Instant, Asked)>,
}

impl Asked {
    pub(super) fn new(command: Command, answer: oneshot::Sender<Result<Reply, RegistryError>>) -> Asked {
        Asked { command, answer, losses: Losses::default() }
    }
}

impl Losses {
    /// One more loss, and the pause after it; `None` when it was the last one that is allowed. `jitter`, between 0 and 1,
    /// shortens the pause by up to half, so that servers that lost together do not return together.
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

impl Losers {
    /// Keeps a command that lost for this reason. If it has lost too often, its caller is answered instead. Commands that
    /// lost together have one `jitter`, so that they are one batch again.
    pub(super) fn add(&mut self, mut asked: Asked, reason: String, now: Instant, jitter: f64) {
        match asked.losses.after_another(now, jitter) {
            Some((losses, pause)) => {
                tracing::debug!(reason, losses = losses.count, "a command lost a race, and is planned again");
                asked.losses = losses;
                self.waiting.push((now + pause, asked));
            }
            None => {
                tracing::warn!(reason, "a command lost every race, and its caller has to try again");
                // A caller that went away is no concern of the batch.
                let _ = asked.answer.send(Err(RegistryError::Contended(reason)));
            }
        }
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// The time at which the next command is to be planned again; `None` when none waits.
    pub(super) fn due(&self) -> Option<Instant> {
        self.waiting.iter().map(|(due, _)| *due).min()
    }

    /// Takes the commands out that are due, in the order in which they lost.
    pub(super) fn take_due(&mut self, now: Instant) -> Vec<Asked> {
        self.waiting.extract_if(.., |(due, _)| *due <= now).map(|(_, asked)| asked).collect()
    }

    /// Takes all commands out, because the writer stops.
    pub(super) fn take_all(&mut self) -> Vec<Asked> {
        std::mem::take(&mut self.waiting).into_iter().map(|(_, asked)| asked).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_begin_with_the_second_loss_and_the_losses_have_an_end() {
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
    fn a_command_that_keeps_losing_slowly_ends_in_time() {
        let start = Instant::now();
        let (losses, _) = Losses::default().after_another(start, 0.5).unwrap();
        let after = |ms| losses.after_another(start + Duration::from_millis(ms), 0.5);
        assert!(after(AGAIN_MS_MAX - 1).is_some());
        assert!(after(AGAIN_MS_MAX).is_none());
    }
}
