//! The registry's ports for the tests: a store that waits, fails or refuses on demand, and a publisher that checks each
//! version it gets.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::fmt::Debug;
use std::sync::{Arc, Mutex, MutexGuard};

use cloudmap_dns::model::{Namespace, Service};
use cloudmap_dns::registry::{
    Change, ChangeNotifier, Event, Group, Publish, RegistryError, State, Store, StoreError, Verdict,
};

/// Control of a test over its store, and results of the store and the publisher. A commit waits while the test holds the
/// lock `gate`. `plans` are the results of the next commits; those after them are accepted. `committed` are the groups that
/// were made durable after the last publication. Once sequence numbers were reserved, revisions may have numbers that are
/// not stored.
#[derive(Default)]
pub(crate) struct Control {
    pub(crate) gate: Mutex<()>,
    state: Mutex<ControlState>,
}

#[derive(Default)]
pub(crate) struct ControlState {
    pub(crate) plans: VecDeque<CommitPlan>,
    pub(crate) commits: usize,
    committed: Vec<Group>,
    has_reserved: bool,
    pub(crate) published: State,
    pub(crate) errors: Vec<String>,
}

/// The result that a commit is to have. `Refuse` has the indices of the groups to refuse, and `After` runs a function and
/// then commits.
pub(crate) enum CommitPlan {
    Accept,
    Fail,
    Refuse(BTreeSet<usize>),
    After(Box<dyn FnOnce() + Send>),
}

impl Control {
    pub(crate) fn lock(&self) -> MutexGuard<'_, ControlState> {
        self.state.lock().unwrap()
    }
}

/// A store that follows the plans of a [`Control`] and commits the accepted groups to an inner store.
pub(crate) struct ControlledStore {
    pub(crate) inner: Box<dyn Store>,
    pub(crate) control: Arc<Control>,
}

impl Store for ControlledStore {
    fn attach(&mut self, notifier: ChangeNotifier) {
        self.inner.attach(notifier);
    }

    fn changes(&mut self) -> Vec<Change> {
        let changes = self.inner.changes();
        self.control.lock().committed.push(changes.clone());
        changes
    }

    fn may_lose(&self) -> bool {
        self.inner.may_lose()
    }

    fn load(&mut self, sink: &mut dyn FnMut(Change)) -> Result<(), StoreError> {
        self.inner.load(sink)
    }

    fn commit(&mut self, batch: &[Group]) -> Result<Vec<Verdict>, StoreError> {
        self.control.lock().commits += 1;
        drop(self.control.gate.lock().unwrap());
        let mut control = self.control.lock();
        let refused = match control.plans.pop_front() {
            None | Some(CommitPlan::Accept) => BTreeSet::new(),
            Some(CommitPlan::Refuse(indices)) => indices,
            Some(CommitPlan::After(before)) => {
                before();
                BTreeSet::new()
            }
            Some(CommitPlan::Fail) => {
                return Err(StoreError { what: "the disk is full".into(), source: None });
            }
        };
        let is_refused = |at: &usize| refused.contains(at);
        let accepted: Vec<Group> =
            (0..batch.len()).filter(|at| !is_refused(at)).map(|at| batch[at].clone()).collect();
        let verdicts = self.inner.commit(&accepted)?;
        let is_accepted = |at: &usize| verdicts[*at] == Verdict::Accepted;
        control.committed.extend((0..accepted.len()).filter(is_accepted).map(|at| accepted[at].clone()));
        let is_reservation = |group: &Group| !group.iter().any(Change::is_durable);
        if batch.split_last().is_some_and(|(_, rest)| rest.iter().any(is_reservation)) {
            control.errors.push(format!("the store got a group that is not durable: {batch:?}"));
        }
        control.has_reserved |= batch.last().is_some_and(is_reservation);
        let mut verdicts = verdicts.into_iter();
        let verdict = |at| {
            if is_refused(&at) {
                Verdict::Refused(RegistryError::NotStored("another was first".into()))
            } else {
                verdicts.next().unwrap()
            }
        };
        Ok((0..batch.len()).map(verdict).collect())
    }
}

/// A publisher that compares each version with the previous one and with the changes that were made durable.
pub(crate) struct CheckingPublisher {
    pub(crate) control: Arc<Control>,
    pub(crate) is_first: bool,
}

impl Publish for CheckingPublisher {
    fn publish(&mut self, state: &State, events: &[Event]) {
        let mut control = self.control.lock();
        let before = std::mem::replace(&mut control.published, state.clone());
        let mut durable = if self.is_first { state.clone() } else { before.clone() };
        let mut old = objects(&before);
        if std::mem::take(&mut self.is_first) {
            // A new process starts without the shadowed objects, because they are not stored.
            let namespaces =
                before.shadowed_namespaces().map(|state| Event::Namespace(state.namespace.id.clone()));
            let services = before.shadowed_services().map(|state| Event::Service(state.service.id.clone()));
            namespaces.chain(services).for_each(|event| drop(old.remove(&event)));
        }
        std::mem::take(&mut control.committed).iter().flatten().for_each(|change| durable.apply(change));
        let has_reserved = control.has_reserved;
        let (stored, durable) = (stored(state, has_reserved), stored(&durable, has_reserved));
        let new = objects(state);
        let changed = |event: &&Event| old.get(event) != new.get(event);
        let missing: Vec<_> =
            old.keys().chain(new.keys()).filter(changed).filter(|event| !events.contains(event)).collect();
        let mut report = |what: String| control.errors.push(what);
        if !missing.is_empty() {
            report(format!("no event names {missing:?}, which changed"));
        }
        if events.iter().collect::<HashSet<_>>().len() < events.len() {
            report(format!("an event is repeated: {events:?}"));
        }
        if stored != durable {
            report("the published state differs from the durable one".into());
        }
        // Zone serials follow the sequence number, so it has to grow when records may have changed (RFC 1982).
        let is_served = |event: &&Event| served(&old, event) != served(&new, event);
        if old.keys().chain(new.keys()).any(|event| is_served(&event))
            && state.sequence() <= before.sequence()
        {
            report(format!("the sequence number remained {}", state.sequence()));
        }
    }
}

/// The stored objects of a state: without pods and shadowed objects, and without revisions if pods may have increased them.
fn stored(state: &State, has_reserved: bool) -> Vec<String> {
    let namespaces = state.namespaces_after(None).filter(|(_, state)| !state.namespace.origin.is_shadowed());
    let namespaces = namespaces.map(|(_, state)| debug_text(&state.namespace));
    let services = state.services_after(None).filter(|(_, state)| !state.service.origin.is_shadowed());
    let services = services.map(|(_, state)| {
        let instances: Vec<_> = state.instances().iter().filter(|instance| !instance.is_watched()).collect();
        debug_text(&(&state.service, instances, (!has_reserved).then_some(state.revision())))
    });
    namespaces.chain(services).collect()
}

/// All objects of a state except operations, by the event that announces their change. Each has two parts: the fields that
/// DNS answers may depend on, and the rest.
pub(crate) type Objects = HashMap<Event, (String, String)>;

pub(crate) fn objects(state: &State) -> Objects {
    let namespaces = state.namespaces_after(None).map(|(_, state)| {
        let mut namespace = Namespace::clone(&state.namespace);
        let rest = (std::mem::take(&mut namespace.tags), namespace.description.take());
        (Event::Namespace(namespace.id.clone()), (debug_text(&namespace), debug_text(&rest)))
    });
    let services = state.services_after(None).map(|(_, state)| {
        let mut service = Service::clone(&state.service);
        let rest = (std::mem::take(&mut service.tags), service.description.take(), state.revision());
        (Event::Service(service.id.clone()), (debug_text(&(&service, state.instances())), debug_text(&rest)))
    });
    namespaces.chain(services).collect()
}

fn served<'o>(objects: &'o Objects, event: &Event) -> Option<&'o String> {
    objects.get(event).map(|(served, _)| served)
}

fn debug_text(value: &impl Debug) -> String {
    format!("{value:?}")
}
