//! Loading of the store at the start, in parallel with the compilation of what was loaded.
//!
//! With a million instances both take about equally long. Therefore one thread reads and indexes while another one prepares
//! the loaded services for DNS.

use std::collections::HashSet;
use std::panic::resume_unwind;
use std::sync::mpsc::{Sender, channel};
use std::thread;

use super::{
    change::{Change, Event},
    port::{Publish, Store, StoreError},
    state::{LoadBuffer, State},
};

const PART_SERVICES: usize = 1024;

/// Services to prepare together, and a state in which they are complete. A part that waits in the channel shares its state
/// with the others, so it costs little more than a list of ids.
type Part = (State, Vec<Event>);

/// Loads the contents of `store`. The events that it returns name the services that `publish` has still to compile, and all
/// namespaces.
pub(super) fn load(
    store: &mut dyn Store,
    publish: &mut dyn Publish,
) -> Result<(State, Vec<Event>), StoreError> {
    thread::scope(|scope| {
        let (parts, received) = channel::<Part>();
        let prepare = move || {
            for (state, events) in received {
                publish.prepare(&state, &events);
            }
        };
        let preparing = thread::Builder::new()
            .name("start-prepare".into())
            .spawn_scoped(scope, prepare)
            .map_err(|error| StoreError::new("cannot start a thread", error))?;
        let mut loading =
            Loading { state: State::default(), buffer: LoadBuffer::default(), complete: Vec::new(), parts };
        let loaded = store.load(&mut |change| loading.add(change));
        let ended = loading.end();
        preparing.join().unwrap_or_else(|panic| resume_unwind(panic));
        loaded.map(|()| ended)
    })
}

struct Loading {
    state: State,
    buffer: LoadBuffer,
    complete: Vec<Event>,
    parts: Sender<Part>,
}

impl Loading {
    fn add(&mut self, change: Change) {
        self.state.load(change, &mut self.buffer, &mut self.complete);
        if self.complete.len() >= PART_SERVICES {
            // Sending fails only if the other thread has panicked, which is reported when it is joined.
            let _ = self.parts.send((self.state.clone(), deduplicated(std::mem::take(&mut self.complete))));
        }
    }

    fn end(self) -> (State, Vec<Event>) {
        let Loading { mut state, mut buffer, complete: mut events, .. } = self;
        state.end_loading(&mut buffer, &mut events);
        events.extend(state.services_without_instances().map(Event::Service));
        // Names of their instances depend on other services, which may have been loaded after they were prepared.
        events.extend(state.nesting_services().into_iter().map(Event::Service));
        let namespaces = state.namespaces_after(None);
        events.extend(namespaces.map(|(_, state)| Event::Namespace(state.namespace.id.clone())));
        (state, deduplicated(events))
    }
}

fn deduplicated(mut events: Vec<Event>) -> Vec<Event> {
    let mut seen = HashSet::new();
    events.retain(|event| seen.insert(event.clone()));
    events
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::Arc;

    use super::*;
    use crate::model::{
        Attributes, Identity, Instance, Namespace, NamespaceKind, Service, ServiceId, samples,
    };
    use crate::registry::{ServiceState, Settings, Verdict};

    const SERVICES: u64 = 3_000;

    struct Stored(Vec<Change>);

    impl Store for Stored {
        fn load(&mut self, sink: &mut dyn FnMut(Change)) -> Result<(), StoreError> {
            self.0.drain(..).for_each(sink);
            Ok(())
        }

        fn commit(&mut self, batch: &[Vec<Change>]) -> Result<Vec<Verdict>, StoreError> {
            Ok(vec![Verdict::Accepted; batch.len()])
        }
    }

    #[derive(Default)]
    struct Published {
        services: HashMap<ServiceId, (Option<String>, usize, bool)>,
        parts: usize,
    }

    impl Publish for Published {
        fn prepare(&mut self, state: &State, events: &[Event]) {
            self.parts += 1;
            self.publish(state, events);
        }

        fn publish(&mut self, state: &State, events: &[Event]) {
            for event in events {
                let Event::Service(id) = event else { continue };
                match state.service(id.as_str()) {
                    Ok(service) => self.services.insert(id.clone(), shown(service)),
                    Err(_) => self.services.remove(id),
                };
            }
        }
    }

    fn shown(state: &ServiceState) -> (Option<String>, usize, bool) {
        (state.service.description.clone(), state.instances().len(), state.is_private())
    }

    fn namespace(identity: &Identity) -> Namespace {
        let kind = NamespaceKind::DnsPrivate { vpc: "vpc-12345678".into() };
        samples::namespace(identity.namespace_id("DNS_PRIVATE", "test"), "test", kind)
    }

    fn service(identity: &Identity, number: u64, description: &str) -> Change {
        let namespace_id = identity.namespace_id("DNS_PRIVATE", "test");
        let name = format!("{}-{number}", if number.is_multiple_of(3) { "Web" } else { "web" });
        let id = identity.service_id(&namespace_id, &name);
        Change::PutService(Arc::new(Service {
            description: Some(description.into()),
            sequence: 10 + number,
            ..samples::service(id, namespace_id, &name)
        }))
    }

    fn instances(service: &Change, random: &mut fastrand::Rng) -> Vec<Change> {
        let Change::PutService(service) = service else { return Vec::new() };
        let made = |at| Instance::new(&format!("i-{at}"), None, &Attributes::default(), None, 1).unwrap();
        let mut ids: Vec<u32> = (0..random.u32(..5)).collect();
        random.shuffle(&mut ids);
        ids.into_iter().map(|at| Change::PutInstance(service.id.clone(), made(at))).collect()
    }

    /// A random order of loading: services before all instances or between them, some twice, some deleted again; the
    /// instances of a service one after the other or not.
    fn changes(random: &mut fastrand::Rng) -> Vec<Change> {
        let identity = Settings::default().identity;
        let mut numbers: Vec<u64> = (0..SERVICES).collect();
        random.shuffle(&mut numbers);
        let mut services: Vec<Change> = numbers.iter().map(|at| service(&identity, *at, "first")).collect();
        let mut owned: Vec<Vec<Change>> = services.iter().map(|service| instances(service, random)).collect();
        let mut changes = vec![Change::PutNamespace(Arc::new(namespace(&identity)))];
        let again = |random: &mut fastrand::Rng| service(&identity, random.u64(..SERVICES), "again");
        match random.u8(..4) {
            // A store with tables: all services, then all instances.
            0 => changes.extend(services.into_iter().chain(owned.into_iter().flatten())),
            // A store with objects: each service is followed by its instances.
            1 => services.into_iter().zip(owned).for_each(|(service, instances)| {
                changes.push(service);
                changes.extend(instances);
            }),
            2 => {
                let more = services.split_off(services.len() / 2);
                let more_owned = owned.split_off(owned.len() / 2);
                changes.extend(services.into_iter().chain(owned.into_iter().flatten()).chain(more));
                let mut owned: Vec<Change> = more_owned.into_iter().flatten().collect();
                random.shuffle(&mut owned);
                changes.extend(owned);
            }
            _ => {
                changes.extend(services.into_iter().chain(owned.into_iter().flatten()));
                for _ in 0..50 {
                    let at = random.usize(changes.len() / 2..changes.len());
                    changes.insert(at, again(random));
                    if let Change::PutService(service) = again(random) {
                        changes.push(Change::DeleteService(service.id.clone()));
                    }
                }
            }
        }
        changes.push(Change::PutSequence(99_999));
        changes
    }

    fn found(state: &State) -> String {
        let namespace = state.namespaces_after(None).next().unwrap().1;
        let in_order: Vec<_> =
            state.services_after(None).map(|(at, service)| (at, service.clone())).collect();
        let mut text = format!("{in_order:?} {:?}", namespace.services_after(None).collect::<Vec<_>>());
        for number in 0..SERVICES {
            for name in [format!("Web-{number}"), format!("web-{number}")] {
                let service = state.service_by_name(&namespace.namespace.id, &name);
                text.push_str(&format!(" {:?}", service.map(|service| &service.service.id)));
            }
        }
        format!("{text} {} {}", state.instance_count(), state.sequence())
    }

    #[test]
    fn order_of_loading_changes_neither_the_state_nor_what_is_published() {
        let mut random = fastrand::Rng::with_seed(4);
        let mut parts = 0;
        for _ in 0..12 {
            let changes = changes(&mut random);
            let mut expected = State::default();
            changes.iter().for_each(|change| expected.apply(change));
            let mut published = Published::default();
            let (state, events) = load(&mut Stored(changes), &mut published).unwrap();
            assert_eq!(found(&state), found(&expected));
            published.publish(&state, &events);
            let namespaces = events.iter().filter(|event| matches!(event, Event::Namespace(_))).count();
            assert_eq!(namespaces, 1, "the namespace is published once, at the end");
            parts += published.parts;
            let now: HashMap<_, _> = state
                .services_after(None)
                .map(|(_, service)| (service.service.id.clone(), shown(service)))
                .collect();
            assert_eq!(published.services, now);
        }
        assert!(parts > 12, "services were prepared before the end");
    }
}
