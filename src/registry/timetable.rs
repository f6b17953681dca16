//! The next time of each service that waits for one, in order.

use std::collections::{BTreeSet, HashMap};

use crate::model::ServiceId;

/// At most one time for each service. `T` is a time of some clock.
pub(super) struct Timetable<T> {
    times: HashMap<ServiceId, T>,
    order: BTreeSet<(T, ServiceId)>,
}

impl<T: Copy + Ord> Timetable<T> {
    /// Replaces the time of a service; `None` removes it.
    pub(super) fn set(&mut self, service: &ServiceId, at: Option<T>) {
        let before = match at {
            Some(at) => self.times.insert(service.clone(), at),
            None => self.times.remove(service),
        };
        if let Some(before) = before {
            self.order.remove(&(before, service.clone()));
        }
        self.order.extend(at.map(|at| (at, service.clone())));
    }

    /// The time of a service, if it waits for one.
    pub(super) fn of(&self, service: &ServiceId) -> Option<T> {
        self.times.get(service).copied()
    }

    /// The earliest time of all.
    pub(super) fn next(&self) -> Option<T> {
        self.order.first().map(|(at, _)| *at)
    }

    /// Removes the service with the earliest time if that has come.
    pub(super) fn pop_due(&mut self, now: T) -> Option<ServiceId> {
        if self.next()? > now {
            return None;
        }
        let (_, service) = self.order.pop_first()?;
        self.times.remove(&service);
        Some(service)
    }
}

impl<T> Default for Timetable<T> {
    fn default() -> Timetable<T> {
        Timetable { times: HashMap::new(), order: BTreeSet::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_time_of_a_service_counts() {
        let mut timetable = Timetable::default();
        let (one, other) = (ServiceId::from("srv-1"), ServiceId::from("srv-2"));
        timetable.set(&one, Some(1));
        timetable.set(&other, Some(3));
        timetable.set(&one, Some(2));
        assert_eq!((timetable.next(), timetable.of(&one), timetable.order.len()), (Some(2), Some(2), 2));
        timetable.set(&one, None);
        assert_eq!((timetable.next(), timetable.of(&one), timetable.times.len()), (Some(3), None, 1));
        timetable.set(&one, Some(4));
        assert_eq!(timetable.pop_due(2), None);
        assert_eq!([timetable.pop_due(3), timetable.pop_due(3)], [Some(other.clone()), None]);
        assert_eq!((timetable.of(&other), timetable.of(&one)), (None, Some(4)));
        assert_eq!([timetable.pop_due(9), timetable.pop_due(9)], [Some(one), None]);
        assert_eq!((timetable.next(), timetable.times.len(), timetable.order.len()), (None, 0, 0));
    }
}
