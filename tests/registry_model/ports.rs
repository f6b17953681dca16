//! The registry's ports as the tests need them: a store that waits, fails and refuses when told to, and a publisher
//! that checks what it is told.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::fmt::Debug;
use std::sync::{Arc, Mutex, MutexGuard};

use cloudmap_dns::model::{Namespace, Service};
use cloudmap_dns::registry::{
    Change, ChangeNotifier, Event, Group, Publish, RegistryError, State, Store, StoreError, Verdict,
};

/// What the test tells the store, and what it learns from both ports.
#[derive(Default)]
pub(crate) struct Control {
    /// While this is held, a commit waits.
    pub(crate) gate: Mutex<()>,
    told: Mutex<Told>,
}

#[derive(Default)]
pub(crate) struct Told {
    /// What becomes of the next commits; later ones are accepted.
    pub(crate) fates: VecDeque<Fate>,
    /// Commits that were started.
    pub(crate) commits: usize,
    /// Groups that were made durable since the last publication or were not worth one.
    committed: Vec<Group>,
    /// Whether numbers were reserved: then some are given that are not stored.
    has_reserved: bool,
    /// What was published last.
    pub(crate) published: State,
    /// What the publisher found wrong.
    pub(crate) complaints: Vec<String>,
}

/// What becomes of a commit.
pub(crate) enum Fate {
    Accept,
    Fail,
    /// The groups at these places are refused.
    Refuse(BTreeSet<usize>),
    /// Something is done before the commit.
    After(Box<dyn FnOnce() + Send>),
}

impl Control {
    pub(crate) fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap()
    }
}

/// A store that obeys a [`Control`]. What it accepts goes on to the store inside.
pub(crate) struct ControlledStore {
    pub(crate) inside: Box<dyn Store>,
    pub(crate) control: Arc<Control>,
}

impl Store for ControlledStore {
    fn attach(&mut self, news: ChangeNotifier) {
        self.inside.attach(news);
    }

    fn changes(&mut self) -> Vec<Change> {
        let changes = self.inside.changes();
        self.control.told().committed.push(changes.clone());
        changes
    }

    fn may_lose(&self) -> bool {
        self.inside.may_lose()
    }

    fn load(&mut self, sink: &mut dyn FnMut(Change)) -> Result<(), StoreError> {
        self.inside.load(sink)
    }

    fn commit(&mut self, batch: &[Group]) -> Result<Vec<Verdict>, StoreError> {
        self.control.told().commits += 1;
        drop(self.control.gate.lock().unwrap());
        let mut told = self.control.told();
        let refused = match told.fates.pop_front() {
            None | Some(Fate::Accept) => BTreeSet::new(),
            Some(Fate::Refuse(places)) => places,
            Some(Fate::After(before)) => {
                before();
                BTreeSet::new()
            }
            Some(Fate::Fail) => return Err(StoreError { what: "the disk is full".into(), source: None }),
        };
        let is_refused = |at: &usize| refused.contains(at);
        let accepted: Vec<Group> =
            (0..batch.len()).filter(|at| !is_refused(at)).map(|at| batch[at].clone()).collect();
        let verdicts = self.inside.commit(&accepted)?;
        let is_accepted = |at: &usize| verdicts[*at] == Verdict::Accepted;
        told.committed.extend((0..accepted.len()).filter(is_accepted).map(|at| accepted[at].clone()));
        let is_reservation = |group: &Group| !group.iter().any(Change::is_durable);
        if batch.split_last().is_some_and(|(_, rest)| rest.iter().any(is_reservation)) {
            told.complaints.push(format!("a group that is not durable came to the store: {batch:?}"));
        }
        told.has_reserved |= batch.last().is_some_and(is_reservation);
        let mut verdicts = verdicts.into_iter();
        let verdict = |at| match is_refused(&at) {
            true => Verdict::Refused(RegistryError::NotStored("another was first".into())),
            false => verdicts.next().unwrap(),
        };
        Ok((0..batch.len()).map(verdict).collect())
    }
}

/// A publisher that compares each version with the one before it and with what was made durable.
pub(crate) struct Witness {
    pub(crate) control: Arc<Control>,
    pub(crate) is_first: bool,
}

impl Publish for Witness {
    fn publish(&mut self, state: &State, events: &[Event]) {
        let mut told = self.control.told();
        let before = std::mem::replace(&mut told.published, state.clone());
        let mut durable = if self.is_first { state.clone() } else { before.clone() };
        let mut old = objects(&before);
        if std::mem::take(&mut self.is_first) {
            // A new process has nothing of what was shadowed.
            let namespaces =
                before.shadowed_namespaces().map(|state| Event::Namespace(state.namespace.id.clone()));
            let services = before.shadowed_services().map(|state| Event::Service(state.service.id.clone()));
            namespaces.chain(services).for_each(|event| drop(old.remove(&event)));
        }
        std::mem::take(&mut told.committed).iter().flatten().for_each(|change| durable.apply(change));
        let has_reserved = told.has_reserved;
        let (stored, durable) = (stored(state, has_reserved), stored(&durable, has_reserved));
        let new = objects(state);
        let changed = |event: &&Event| old.get(event) != new.get(event);
        let missing: Vec<_> =
            old.keys().chain(new.keys()).filter(changed).filter(|event| !events.contains(event)).collect();
        let mut complain = |what: String| told.complaints.push(what);
        if !missing.is_empty() {
            complain(format!("no event names {missing:?}, which changed"));
        }
        if events.iter().collect::<HashSet<_>>().len() < events.len() {
            complain(format!("an event is there twice: {events:?}"));
        }
        if stored != durable {
            complain("what is published is not what is durable".into());
        }
        // The serial of a zone follows the number: what DNS shows differs, so it has to grow (RFC 1982).
        let is_served = |event: &&Event| served(&old, event) != served(&new, event);
        if old.keys().chain(new.keys()).any(|event| is_served(&event))
            && state.sequence() <= before.sequence()
        {
            complain(format!("the number stayed at {}", state.sequence()));
        }
    }
}

/// The objects of a state that are stored: without pods and what is shadowed, and without revisions when pods may have moved them on.
fn stored(state: &State, has_reserved: bool) -> Vec<String> {
    let namespaces = state.namespaces_after(None).filter(|(_, state)| !state.namespace.origin.is_shadowed());
    let namespaces = namespaces.map(|(_, state)| shown(&state.namespace));
    let services = state.services_after(None).filter(|(_, state)| !state.service.origin.is_shadowed());
    let services = services.map(|(_, state)| {
        let instances: Vec<_> = state.instances().iter().filter(|instance| !instance.is_watched()).collect();
        shown(&(&state.service, instances, (!has_reserved).then_some(state.revision())))
    });
    namespaces.chain(services).collect()
}

/// Everything that a state has beside operations, by the event that names its change: what DNS may show of it, and
/// the rest.
pub(crate) type Objects = HashMap<Event, (String, String)>;

pub(crate) fn objects(state: &State) -> Objects {
    let namespaces = state.namespaces_after(None).map(|(_, state)| {
        let mut namespace = Namespace::clone(&state.namespace);
        let rest = (std::mem::take(&mut namespace.tags), namespace.description.take());
        (Event::Namespace(namespace.id.clone()), (shown(&namespace), shown(&rest)))
    });
    let services = state.services_after(None).map(|(_, state)| {
        let mut service = Service::clone(&state.service);
        let rest = (std::mem::take(&mut service.tags), service.description.take(), state.revision());
        (Event::Service(service.id.clone()), (shown(&(&service, state.instances())), shown(&rest)))
    });
    namespaces.chain(services).collect()
}

fn served<'o>(objects: &'o Objects, event: &Event) -> Option<&'o String> {
    objects.get(event).map(|(served, _)| served)
}

fn shown(value: &impl Debug) -> String {
    format!("{value:?}")
}
