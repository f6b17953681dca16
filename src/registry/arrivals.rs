//! What becomes of the state outside of the batches that the writer planned: changes of other replicas, and a batch's own
//! changes in the form in which a shared store has them.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::mpsc;

use crate::model::{Identity, id::operation_number};

use super::{
    change::Change,
    command::Reply,
    error::RegistryError,
    port::{Group, Verdict},
    state::State,
    writer::Message,
};

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

/// The numbers that operations got from the store, by those that they were planned with.
pub(super) fn numbers(groups: &[Group], verdicts: &[Verdict]) -> HashMap<u64, u64> {
    let planned = |group: &Group| {
        group.iter().find_map(|change| match change {
            Change::PutOperation(operation) => Some(operation.number),
            _ => None,
        })
    };
    let pairs = groups.iter().zip(verdicts).filter_map(|(group, verdict)| match verdict {
        Verdict::Arrives { operation: Some(number) } => Some((planned(group)?, *number)),
        _ => None,
    });
    pairs.collect()
}

/// A planned reply as it is true of the state that has arrived.
pub(super) fn settled(
    result: Result<Reply, RegistryError>,
    numbers: &HashMap<u64, u64>,
    identity: &Identity,
    state: &State,
) -> Result<Reply, RegistryError> {
    match result? {
        Reply::Operation(id) => {
            let number = operation_number(id.as_str()).and_then(|number| numbers.get(&number));
            Ok(Reply::Operation(number.map_or(id, |number| identity.operation_id(*number))))
        }
        Reply::Service(planned) => match state.service(planned.service.id.as_str()) {
            Ok(service) => Ok(Reply::Service(service.clone())),
            Err(_) => Err(RegistryError::NotStored("another replica removed it at once".into())),
        },
        Reply::Done => Ok(Reply::Done),
    }
}
