//! Messages to the writer thread, and the notifier by which a store wakes it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::{mpsc, oneshot};

use super::command::{Command, Reply};
use super::error::RegistryError;

pub(super) enum Message {
    Command(Command, oneshot::Sender<Result<Reply, RegistryError>>),
    Arrived,
    Stop,
}

/// Wakes the writer of a registry, so that it reads [`super::Store::changes`]. Clones wake one and the same writer. The
/// sender is weak, so that a store which still watches its source does not keep the registry alive; `is_notified` is true
/// while a message is queued that the writer has not acted on, so that the queue never holds two.
#[derive(Clone)]
pub struct ChangeNotifier {
    sender: mpsc::WeakSender<Message>,
    is_notified: Arc<AtomicBool>,
}

impl ChangeNotifier {
    pub(super) fn new(sender: &mpsc::Sender<Message>) -> ChangeNotifier {
        ChangeNotifier { sender: sender.downgrade(), is_notified: Arc::default() }
    }

    /// Reports that [`super::Store::changes`] has something new. Never waits.
    pub fn notify(&self) {
        if self.is_notified.swap(true, Ordering::AcqRel) {
            return;
        }
        // A full queue loses nothing: the writer reads the store's changes before it carries out the queued commands.
        let sent = self.sender.upgrade().is_some_and(|sender| sender.try_send(Message::Arrived).is_ok());
        if !sent {
            self.is_notified.store(false, Ordering::Release);
        }
    }

    /// Lets the next [`ChangeNotifier::notify`] send a message again. The writer calls it before it reads the changes, so
    /// that a change which arrives meanwhile wakes it once more.
    pub(super) fn reset(&self) {
        self.is_notified.store(false, Ordering::Release);
    }
}
