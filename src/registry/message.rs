//! What the writer is sent, and how a store wakes it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::{mpsc, oneshot};

use super::command::{Command, Reply};
use super::error::RegistryError;

/// What the writer is sent.
pub(super) enum Message {
    Command(Command, oneshot::Sender<Result<Reply, RegistryError>>),
    /// The store has changes of others.
    Arrived,
    Stop,
}

/// Wakes the writer of a registry, so that it takes what [`super::Store::changes`] has. Clones wake the same one.
#[derive(Clone)]
pub struct News {
    /// Weak: a store that follows its source does not keep a registry alive.
    sender: mpsc::WeakSender<Message>,
    is_told: Arc<AtomicBool>,
}

impl News {
    pub(super) fn new(sender: &mpsc::Sender<Message>) -> News {
        News { sender: sender.downgrade(), is_told: Arc::default() }
    }

    /// There is something to take. Never waits.
    pub fn tell(&self) {
        if self.is_told.swap(true, Ordering::AcqRel) {
            return;
        }
        // A full queue is no loss: whatever the writer does next, it takes first what has arrived.
        let sent = self.sender.upgrade().is_some_and(|sender| sender.try_send(Message::Arrived).is_ok());
        if !sent {
            self.is_told.store(false, Ordering::Release);
        }
    }

    /// What is told from now on is told anew.
    pub(super) fn taken(&self) {
        self.is_told.store(false, Ordering::Release);
    }
}
