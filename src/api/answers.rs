//! The limit on the memory of answers that their clients have not read yet.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

/// Answers up to this size are not counted, because the limit on connections already bounds their total.
const ANSWER_BYTES_UNCOUNTED: usize = 16 << 10;

/// The bytes that all answers in flight may have together, as a semaphore with one permit for each byte.
pub(super) struct AnswerBudget {
    permits: Arc<Semaphore>,
    bytes_max: u32,
}

/// The part of the budget that one answer holds. It is returned when the reservation is dropped.
pub(super) type Reservation = OwnedSemaphorePermit;

/// An answer with its part of the budget. A small answer needs no reservation.
pub(super) struct Answer {
    bytes: Vec<u8>,
    reservation: Option<Reservation>,
}

/// The budget was too small for an answer. The answer has been dropped, because keeping it while it waits would use as
/// much memory as sending it.
#[derive(Debug)]
pub(super) struct BudgetExhausted {
    needed: u32,
}

impl AnswerBudget {
    pub(super) fn new(bytes_max: usize) -> AnswerBudget {
        let bytes_max = u32::try_from(bytes_max).unwrap_or(u32::MAX);
        AnswerBudget { permits: Arc::new(Semaphore::new(bytes_max as usize)), bytes_max }
    }

    /// Charges an answer to the budget: to the reservation that was waited for, or to permits that are free now.
    pub(super) fn admit(
        &self,
        bytes: Vec<u8>,
        waited_for: Option<Reservation>,
    ) -> Result<Answer, BudgetExhausted> {
        if bytes.len() <= ANSWER_BYTES_UNCOUNTED {
            return Ok(Answer::uncounted(bytes));
        }
        // An answer that is larger than the whole budget takes all of it, so that it can be sent alone.
        let needed = u32::try_from(bytes.len()).unwrap_or(u32::MAX).min(self.bytes_max);
        let reservation = match waited_for {
            Some(reservation) if reservation.num_permits() >= needed as usize => Some(reservation),
            // The answer has grown since. The reservation is returned, or two such answers could wait for each other.
            Some(_) => None,
            None => self.permits.clone().try_acquire_many_owned(needed).ok(),
        };
        match reservation {
            Some(reservation) => Ok(Answer { bytes, reservation: Some(reservation) }),
            None => Err(BudgetExhausted { needed }),
        }
    }

    /// Waits until the budget has room for an answer that did not fit; `None` if `deadline` passes first.
    pub(super) async fn reserve(&self, lacked: BudgetExhausted, deadline: Instant) -> Option<Reservation> {
        let acquire = self.permits.clone().acquire_many_owned(lacked.needed);
        timeout_at(deadline, acquire).await.ok()?.ok()
    }
}

impl Answer {
    /// Makes an answer outside of the budget, for callers whose answers are small whatever the request.
    pub(super) fn uncounted(bytes: Vec<u8>) -> Answer {
        Answer { bytes, reservation: None }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
}

impl AsRef<[u8]> for Answer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl From<Answer> for Body {
    fn from(answer: Answer) -> Body {
        match answer.reservation {
            None => Body::from(answer.bytes),
            // hyper drops the bytes after it has written the last one, and the reservation with them.
            Some(_) => Body::from(Bytes::from_owner(answer)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const LARGE: usize = ANSWER_BYTES_UNCOUNTED + 1;

    fn soon() -> Instant {
        Instant::now() + Duration::from_millis(50)
    }

    #[tokio::test]
    async fn an_answer_holds_its_reservation_until_its_bytes_are_dropped() {
        let budget = AnswerBudget::new(LARGE + 10);
        let first = budget.admit(vec![0; LARGE], None).ok().unwrap();
        let lacked = budget.admit(vec![0; LARGE], None).err().unwrap();
        assert!(budget.reserve(lacked, soon()).await.is_none());
        assert!(budget.admit(vec![0; LARGE - 1], None).is_ok());
        let bytes = axum::body::to_bytes(Body::from(first), usize::MAX).await.unwrap();
        assert_eq!(bytes.len(), LARGE);
        let lacked = budget.admit(vec![0; LARGE], None).err().unwrap();
        drop(bytes);
        let reservation = budget.reserve(lacked, soon()).await;
        assert!(reservation.is_some());
        assert!(budget.admit(vec![0; LARGE], reservation).is_ok());
    }

    #[tokio::test]
    async fn an_answer_that_grew_while_it_waited_waits_again() {
        let budget = AnswerBudget::new(LARGE + 10);
        let reservation = budget.reserve(BudgetExhausted { needed: LARGE as u32 }, soon()).await;
        let lacked = budget.admit(vec![0; LARGE + 1], reservation).err().unwrap();
        let reservation = budget.reserve(lacked, soon()).await;
        assert!(budget.admit(vec![0; LARGE + 1], reservation).is_ok());
    }

    #[tokio::test]
    async fn an_answer_larger_than_the_budget_is_sent_alone() {
        let budget = AnswerBudget::new(LARGE);
        let all = budget.admit(vec![0; 10 * LARGE], None).ok().unwrap();
        assert!(budget.admit(vec![0; LARGE], None).is_err());
        drop(all);
        assert!(budget.admit(vec![0; LARGE], None).is_ok());
    }
}
