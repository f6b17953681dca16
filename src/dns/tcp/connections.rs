//! Set of all open connections, which evicts the one that is idle longest when a new one exceeds a limit.
//!
//! A connection publishes its phase in one atomic number, without a lock; only accepting and closing take the lock. The
//! connection that is idle longest is found without a search of all: a heap has each connection once, with the time at which
//! it was last seen active. A connection that was active later is pushed back with its new time when it reaches the top.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::Notify;

/// Limit on the connections that a search for an idle one skips because they are not idle.
const BUSY_SKIPPED_MAX: usize = 64;

/// Phase of a connection: it waits for a query, waits for its client to read replies, or answers a query. Idle connections
/// are evicted first, then writing ones; busy ones are never evicted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::dns) enum Phase {
    Idle = 0,
    Writing = 1,
    Busy = 2,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct ConnectionLimits {
    pub(super) connections_max: usize,
    pub(super) per_client_max: usize,
}

pub(super) struct Connections {
    limits: ConnectionLimits,
    started: Instant,
    state: Mutex<State>,
    ended: Notify,
}

/// Number of open connections; those that were not requested to close, by id; and a heap of the times at which they were last
/// seen active, from which connections that have ended are removed later.
#[derive(Default)]
struct State {
    next: u64,
    open: usize,
    live: HashMap<u64, (IpAddr, Arc<Activity>)>,
    order: BinaryHeap<Reverse<(u64, u64)>>,
    clients: HashMap<IpAddr, Vec<u64>>,
    is_closed: bool,
    evicted: u64,
    refused: u64,
}

/// Phase of a connection and the time of its last change, and the request to close it. `word` has the microseconds since
/// `Connections::started` in its upper 62 bits, and the phase in the lower two.
struct Activity {
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

/// One connection's slot in the limits, which is freed when this value is dropped.
pub(in crate::dns) struct ConnectionSlot {
    id: u64,
    connections: Arc<Connections>,
    activity: Arc<Activity>,
}

impl ConnectionSlot {
    pub(in crate::dns) fn set(&self, phase: Phase, now: Instant) {
        let microseconds = (now - self.connections.started).as_micros() as u64;
        self.activity.word.store(microseconds << 2 | phase as u64, Relaxed);
    }

    /// Completes when the connection has to close, because it is evicted or the server stops.
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

    /// Slot for a new connection. At a limit, the connection of this client, or of all clients, that is idle longest is
    /// evicted; if none is idle, one that waits for its client. `None` if queries are being answered on all of them.
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

    pub(super) fn evict_one(&self) -> bool {
        self.lock().evict_one()
    }

    /// Admits no more connections, requests all open ones to close, and waits until they have.
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

    pub(super) fn counts(&self) -> (usize, u64, u64) {
        let state = self.lock();
        (state.open, state.evicted, state.refused)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Evicts the connection that is idle longest, or else one that waits for its client.
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

    /// Evicts a connection of one client. A client has so few connections that all of them are compared.
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
        // Ended connections are removed from the heap in bulk, so that the amortised cost of each is constant.
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
        fn set_at(&self, microseconds: u64, phase: Phase) {
            self.activity.word.store(microseconds << 2 | phase as u64, Relaxed);
        }

        fn is_live(&self) -> bool {
            self.connections.lock().live.contains_key(&self.id)
        }
    }

    fn admitted(connections: &Arc<Connections>, client: IpAddr, at: u64) -> ConnectionSlot {
        let slot = connections.admit(client).unwrap();
        slot.set_at(1_000_000 + at, Phase::Idle);
        slot
    }

    #[test]
    fn connection_that_is_idle_longest_is_evicted() {
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
    fn busy_connections_are_never_evicted_and_writing_ones_only_if_none_is_idle() {
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
    fn client_at_its_limit_loses_a_connection_of_its_own() {
        let connections = connections(100, 2);
        let other = admitted(&connections, TWO, 0);
        let own = [5, 1].map(|at| admitted(&connections, ONE, at));
        let _new = connections.admit(ONE).unwrap();
        assert_eq!(own.each_ref().map(ConnectionSlot::is_live), [true, false]);
        assert!(other.is_live());
    }

    #[test]
    fn ended_connections_use_no_memory() {
        let connections = connections(10, 10);
        for _ in 0..10_000 {
            drop(admitted(&connections, ONE, 1));
        }
        let state = connections.lock();
        assert!(state.live.is_empty() && state.clients.is_empty());
        assert!(state.order.len() <= BUSY_SKIPPED_MAX + 1);
    }

    #[tokio::test]
    async fn close_all_waits_until_every_connection_has_ended() {
        let connections = connections(10, 10);
        let slot = admitted(&connections, ONE, 1);
        let ended = tokio::spawn(async move { slot.close_requested().await });
        connections.close_all().await;
        ended.await.unwrap();
        assert!(connections.admit(ONE).is_none());
    }
}
