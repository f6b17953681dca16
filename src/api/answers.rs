//! The memory of answers that their clients have not read yet.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

/// Octets that all answers in flight may have together.
pub(super) const ANSWER_OCTETS_IN_FLIGHT_MAX: usize = 256 << 20;

/// Answers up to this size do not count: the limit of connections bounds what they have together.
const ANSWER_OCTETS_UNCOUNTED: usize = 16 << 10;

/// Places for answers: one for each octet.
pub(super) struct AnswerBudget {
    places: Arc<Semaphore>,
    octets_max: u32,
}

/// The places of one answer; they are free again when it is dropped.
pub(super) type Places = OwnedSemaphorePermit;

/// An answer that has its places, if it needs any.
pub(super) struct Answer {
    octets: Vec<u8>,
    places: Option<Places>,
}

/// There were too few places for an answer. It was dropped: answers that wait would cost as much as those that are
/// not read.
#[derive(Debug)]
pub(super) struct NoPlaces {
    needed: u32,
}

impl AnswerBudget {
    pub(super) fn new(octets_max: usize) -> AnswerBudget {
        let octets_max = u32::try_from(octets_max).unwrap_or(u32::MAX);
        AnswerBudget { places: Arc::new(Semaphore::new(octets_max as usize)), octets_max }
    }

    /// Gives an answer its places: those that were waited for, or those that are free now.
    pub(super) fn admit(&self, octets: Vec<u8>, waited_for: Option<Places>) -> Result<Answer, NoPlaces> {
        if octets.len() <= ANSWER_OCTETS_UNCOUNTED {
            return Ok(Answer::uncounted(octets));
        }
        // What is larger than all places has all of them.
        let needed = u32::try_from(octets.len()).unwrap_or(u32::MAX).min(self.octets_max);
        let places = match waited_for {
            Some(places) if places.num_permits() >= needed as usize => Some(places),
            // The answer has grown. What it had is given back, or two such answers could wait for each other.
            Some(_) => None,
            None => self.places.clone().try_acquire_many_owned(needed).ok(),
        };
        match places {
            Some(places) => Ok(Answer { octets, places: Some(places) }),
            None => Err(NoPlaces { needed }),
        }
    }

    /// Waits for the places that an answer lacked; none when `deadline` came first.
    pub(super) async fn places(&self, lacked: NoPlaces, deadline: Instant) -> Option<Places> {
        let acquire = self.places.clone().acquire_many_owned(lacked.needed);
        timeout_at(deadline, acquire).await.ok()?.ok()
    }
}

impl Answer {
    /// An answer that is known to be small.
    pub(super) fn uncounted(octets: Vec<u8>) -> Answer {
        Answer { octets, places: None }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.octets.is_empty()
    }
}

impl AsRef<[u8]> for Answer {
    fn as_ref(&self) -> &[u8] {
        &self.octets
    }
}

impl From<Answer> for Body {
    fn from(answer: Answer) -> Body {
        match answer.places {
            None => Body::from(answer.octets),
            // The server keeps the octets until the last is written; then the places go with them.
            Some(_) => Body::from(Bytes::from_owner(answer)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const LARGE: usize = ANSWER_OCTETS_UNCOUNTED + 1;

    fn soon() -> Instant {
        Instant::now() + Duration::from_millis(50)
    }

    #[tokio::test]
    async fn an_answer_has_its_places_until_its_octets_are_dropped() {
        let budget = AnswerBudget::new(LARGE + 10);
        let first = budget.admit(vec![0; LARGE], None).ok().unwrap();
        let lacked = budget.admit(vec![0; LARGE], None).err().unwrap();
        assert!(budget.places(lacked, soon()).await.is_none());
        // Small ones are not held up.
        assert!(budget.admit(vec![0; LARGE - 1], None).is_ok());
        let octets = axum::body::to_bytes(Body::from(first), usize::MAX).await.unwrap();
        assert_eq!(octets.len(), LARGE);
        let lacked = budget.admit(vec![0; LARGE], None).err().unwrap();
        drop(octets);
        let places = budget.places(lacked, soon()).await;
        assert!(places.is_some());
        assert!(budget.admit(vec![0; LARGE], places).is_ok());
    }

    #[tokio::test]
    async fn an_answer_that_grew_while_it_waited_waits_again() {
        let budget = AnswerBudget::new(LARGE + 10);
        let places = budget.places(NoPlaces { needed: LARGE as u32 }, soon()).await;
        let lacked = budget.admit(vec![0; LARGE + 1], places).err().unwrap();
        let places = budget.places(lacked, soon()).await;
        assert!(budget.admit(vec![0; LARGE + 1], places).is_ok());
    }

    #[tokio::test]
    async fn an_answer_beyond_the_budget_is_given_when_nothing_else_is_in_flight() {
        let budget = AnswerBudget::new(LARGE);
        let all = budget.admit(vec![0; 10 * LARGE], None).ok().unwrap();
        assert!(budget.admit(vec![0; LARGE], None).is_err());
        drop(all);
        assert!(budget.admit(vec![0; LARGE], None).is_ok());
    }
}
