//! The connections that there are, and which of them makes room for a new one.
//!
//! A connection says what it does in one atomic number, without a lock. Whoever is accepted or ends takes the lock. The
//! one that is idle longest is found without looking at all: a heap has each connection once, at the time at which it was
//! last seen active; one that has been active since goes back into the heap where it belongs now.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::Notify;

/// Connections that are not idle and are skipped over in search of one that is.
const BUSY_SKIPPED_MAX: usize = 64;

/// What a connection does.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::dns) enum Phase {
    /// It waits for a query.
    Idle = 0,
    /// It waits for its client to take replies.
    Writing = 1,
    /// A query is being answered.
    Busy = 2,
}

/// How many connections there may be.
#[derive(Clone, Copy, Debug)]
pub(super) struct ConnectionLimits {
    /// In total.
    pub(super) connections_max: usize,
    /// From one address.
    pub(super) per_client_max: usize,
}

/// All connections of all listeners.
pub(super) struct Connections {
    limits: ConnectionLimits,
    started: Instant,
    state: Mutex<State>,
    ended: Notify,
}

#[derive(Default)]
struct State {
    next: u64,
    /// Connections that have not ended, those that were told to included.
    open: usize,
    /// Those that were not told to end.
    live: HashMap<u64, (IpAddr, Arc<Activity>)>,
    /// Times at which connections were last seen active. Some are gone meanwhile.
    order: BinaryHeap<Reverse<(u64, u64)>>,
    clients: HashMap<IpAddr, Vec<u64>>,
    is_closed: bool,
    evicted: u64,
    refused: u64,
}

/// What a connection does and since when.
struct Activity {
    /// Microseconds since the start, times four, plus the phase.
    word: AtomicU64,
    close: Notify,
}

impl Activity {
    fn now(&self) -> (u64, Phase) {
        let word = self.word.load(Relaxed);
        let phase = match word & 3 {
            0 => Phase::Idle,
            1 => Phase::Writing,
            _ => Phase::Busy,
        };
        (word >> 2, phase)
    }
}

/// A place among the connections; dropping it gives it back.
pub(in crate::dns) struct ConnectionSlot {
    id: u64,
    connections: Arc<Connections>,
    activity: Arc<Activity>,
}

impl ConnectionSlot {
    /// Says what the connection does from now on.
    pub(in crate::dns) fn set(&self, phase: Phase, now: Instant) {
        let microseconds = (now - self.connections.started).as_micros() as u64;
        self.activity.word.store(microseconds << 2 | phase as u64, Relaxed);
    }

    /// Waits until the connection has to end.
    pub(super) fn close_requested(&self) -> impl Future<Output = ()> + Send + 'static {
        let activity = self.activity.clone();
        async move { activity.close.notified().await }
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        let mut state = self.connections.lock();
        state.remove(self.id);
        state.open -= 1;
        drop(state);
        self.connections.ended.notify_waiters();
    }
}

impl Connections {
    pub(super) fn new(limits: ConnectionLimits) -> Arc<Connections> {
        let (started, state, ended) = (Instant::now(), Mutex::default(), Notify::new());
        Arc::new(Connections { limits, started, state, ended })
    }

    /// A place for a new connection. When there are too many, the one that is idle longest has to end: of the client, or
    /// of all. Where none is idle it is one that waits for its client; nothing when all are being answered.
    pub(super) fn admit(self: &Arc<Self>, client: IpAddr) -> Option<ConnectionSlot> {
        let mut state = self.lock();
        let of_client = state.clients.get(&client).map_or(0, Vec::len);
        let has_room = (of_client < self.limits.per_client_max || state.evict_one_of(client))
            && (state.live.len() < self.limits.connections_max || state.evict_one());
        if !has_room || state.is_closed {
            state.refused += 1;
            return None;
        }
        let now = self.started.elapsed().as_micros() as u64;
        let activity = Arc::new(Activity { word: AtomicU64::new(now << 2), close: Notify::new() });
        let id = state.next;
        state.next += 1;
        state.open += 1;
        state.live.insert(id, (client, activity.clone()));
        state.order.push(Reverse((now, id)));
        state.clients.entry(client).or_default().push(id);
        Some(ConnectionSlot { id, connections: self.clone(), activity })
    }

    /// Ends one to free what it holds, such as a file descriptor.
    pub(super) fn evict_one(&self) -> bool {
        self.lock().evict_one()
    }

    /// Tells all to end, lets no more in, and waits until all have ended.
    pub(super) async fn close_all(&self) {
        let ids: Vec<u64> = {
            let mut state = self.lock();
            state.is_closed = true;
            state.live.keys().copied().collect()
        };
        ids.into_iter().for_each(|id| self.lock().close(id));
        loop {
            let ended = self.ended.notified();
            if self.lock().open == 0 {
                return;
            }
            ended.await;
        }
    }

    /// How many there are, how many were told to end to make room, and how many found no room.
    pub(super) fn counts(&self) -> (usize, u64, u64) {
        let state = self.lock();
        (state.open, state.evicted, state.refused)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Ends the one that is idle longest, or else one that waits for its client.
    fn evict_one(&mut self) -> bool {
        let (mut skipped, mut found, mut writing) = (Vec::new(), None, None);
        while let Some(Reverse((seen, id))) = self.order.pop() {
            let Some((_, activity)) = self.live.get(&id) else { continue };
            let (active, phase) = activity.now();
            match phase {
                Phase::Idle if active <= seen => {
                    found = Some(id);
                    break;
                }
                Phase::Idle => self.order.push(Reverse((active, id))),
                Phase::Writing | Phase::Busy => {
                    skipped.push(Reverse((active, id)));
                    writing = writing.or_else(|| (phase == Phase::Writing).then_some(id));
                    if skipped.len() == BUSY_SKIPPED_MAX {
                        break;
                    }
                }
            }
        }
        self.order.extend(skipped);
        self.evict(found.or(writing))
    }

    /// The same for the connections of one client, which are few.
    fn evict_one_of(&mut self, client: IpAddr) -> bool {
        let of_client = self.clients.get(&client).into_iter().flatten();
        let waiting = of_client.filter_map(|id| {
            let (active, phase) = self.live.get(id)?.1.now();
            (phase != Phase::Busy).then_some((phase == Phase::Writing, active, *id))
        });
        let found = waiting.min().map(|(_, _, id)| id);
        self.evict(found)
    }

    fn evict(&mut self, found: Option<u64>) -> bool {
        if let Some(id) = found {
            self.evicted += 1;
            self.close(id);
        }
        found.is_some()
    }

    fn close(&mut self, id: u64) {
        if let Some(activity) = self.remove(id) {
            activity.close.notify_one();
        }
    }

    fn remove(&mut self, id: u64) -> Option<Arc<Activity>> {
        let (client, activity) = self.live.remove(&id)?;
        if let Some(ids) = self.clients.get_mut(&client) {
            ids.retain(|other| *other != id);
            if ids.is_empty() {
                self.clients.remove(&client);
            }
        }
        // Those that are gone are taken out of the heap now and then, at a constant cost for each.
        if self.order.len() > 2 * self.live.len() + BUSY_SKIPPED_MAX {
            let live = &self.live;
            self.order.retain(|Reverse((_, id))| live.contains_key(id));
        }
        Some(activity)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const ONE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
    const TWO: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));

    fn connections(connections_max: usize, per_client_max: usize) -> Arc<Connections> {
        Connections::new(ConnectionLimits { connections_max, per_client_max })
    }

    impl ConnectionSlot {
        /// As [`ConnectionSlot::set`] at a moment of the test's own.
        fn set_at(&self, microseconds: u64, phase: Phase) {
            self.activity.word.store(microseconds << 2 | phase as u64, Relaxed);
        }

        fn is_live(&self) -> bool {
            self.connections.lock().live.contains_key(&self.id)
        }
    }

    fn admitted(connections: &Arc<Connections>, client: IpAddr, at: u64) -> ConnectionSlot {
        let slot = connections.admit(client).unwrap();
        // The heap has it at the moment of its start, about 0.
        slot.set_at(1_000_000 + at, Phase::Idle);
        slot
    }

    #[test]
    fn the_one_that_is_idle_longest_makes_room() {
        let connections = connections(3, 100);
        let slots = [30, 10, 20].map(|at| admitted(&connections, ONE, at));
        slots[1].set_at(2_000_000, Phase::Idle);
        let _new = admitted(&connections, TWO, 40);
        assert_eq!(slots.each_ref().map(ConnectionSlot::is_live), [true, true, false]);
        let _newer = admitted(&connections, TWO, 50);
        assert_eq!(slots.each_ref().map(ConnectionSlot::is_live), [false, true, false]);
        assert_eq!(connections.counts(), (5, 2, 0));
        drop(slots);
        assert_eq!(connections.counts(), (2, 2, 0));
    }

    #[test]
    fn one_that_is_answered_never_makes_room_and_one_that_writes_only_when_none_is_idle() {
        let connections = connections(2, 100);
        let [busy, writing] = [1, 2].map(|at| admitted(&connections, ONE, at));
        busy.set_at(1, Phase::Busy);
        writing.set_at(2, Phase::Writing);
        let idle = connections.admit(TWO).unwrap();
        assert!(busy.is_live() && !writing.is_live());
        idle.set(Phase::Busy, Instant::now());
        assert!(connections.admit(TWO).is_none());
        assert_eq!(connections.counts().2, 1);
    }

    #[test]
    fn a_client_with_too_many_loses_its_own_and_no_others() {
        let connections = connections(100, 2);
        let other = admitted(&connections, TWO, 0);
        let own = [5, 1].map(|at| admitted(&connections, ONE, at));
        let _new = connections.admit(ONE).unwrap();
        assert_eq!(own.each_ref().map(ConnectionSlot::is_live), [true, false]);
        assert!(other.is_live());
    }

    #[test]
    fn those_that_are_gone_leave_nothing_behind() {
        let connections = connections(10, 10);
        for _ in 0..10_000 {
            drop(admitted(&connections, ONE, 1));
        }
        let state = connections.lock();
        assert!(state.live.is_empty() && state.clients.is_empty());
        assert!(state.order.len() <= BUSY_SKIPPED_MAX + 1);
    }

    #[tokio::test]
    async fn the_end_waits_for_all() {
        let connections = connections(10, 10);
        let slot = admitted(&connections, ONE, 1);
        let ended = tokio::spawn(async move { slot.close_requested().await });
        connections.close_all().await;
        ended.await.unwrap();
        assert!(connections.admit(ONE).is_none());
    }
}
