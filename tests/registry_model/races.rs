//! A store that two registries share. It accepts a batch only from a registry that knows all groups in the store.

use std::sync::{Arc, Mutex};

use cloudmap_dns::registry::{
    Change, ChangeNotifier, Command, Event, Group, Publish, Registry, RegistryError, Reply, Settings, State,
    Store, StoreError, Verdict, WriterThread,
};

/// All accepted groups in their order, and the registries to notify of new ones.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    groups: Vec<Group>,
    news: Vec<ChangeNotifier>,
}

impl Log {
    pub(crate) fn store(&self) -> SharedStore {
        SharedStore { log: self.clone(), known: 0 }
    }
}

/// The store of one registry on a [`Log`], of which the registry knows the first `known` groups.
pub(crate) struct SharedStore {
    log: Log,
    known: usize,
}

impl Store for SharedStore {
    fn attach(&mut self, news: ChangeNotifier) {
        self.log.0.lock().unwrap().news.push(news);
    }

    fn changes(&mut self) -> Vec<Change> {
        let inner = self.log.0.lock().unwrap();
        let new = inner.groups[self.known..].iter().flatten().cloned().collect();
        self.known = inner.groups.len();
        new
    }

    fn may_lose(&self) -> bool {
        true
    }

    fn load(&mut self, _sink: &mut dyn FnMut(Change)) -> Result<(), StoreError> {
        Ok(())
    }

    fn commit(&mut self, batch: &[Group]) -> Result<Vec<Verdict>, StoreError> {
        let mut inner = self.log.0.lock().unwrap();
        if inner.groups.len() > self.known {
            return Ok(vec![Verdict::Lost("another writer was first".into()); batch.len()]);
        }
        inner.groups.extend_from_slice(batch);
        self.known = inner.groups.len();
        inner.news.iter().for_each(ChangeNotifier::notify);
        Ok(vec![Verdict::Accepted; batch.len()])
    }
}

/// A second registry on a [`Log`], whose commands are carried out between those of the first one.
pub(crate) struct OtherRegistry {
    registry: Registry,
    writer: WriterThread,
}

struct NullPublisher;

impl Publish for NullPublisher {
    fn publish(&mut self, _state: &State, _events: &[Event]) {}
}

impl OtherRegistry {
    pub(crate) fn new(log: &Log, settings: Settings) -> OtherRegistry {
        let (registry, writer) =
            Registry::start(settings, Box::new(log.store()), Box::new(NullPublisher)).unwrap();
        OtherRegistry { registry, writer }
    }

    pub(crate) fn state(&self) -> Arc<State> {
        self.registry.state()
    }

    /// Carries out commands one after the other. It uses a thread of its own, because the first registry's store calls it
    /// during a commit.
    pub(crate) fn run(registry: &Registry, commands: &[Command]) -> Vec<Result<Reply, RegistryError>> {
        let run = || {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let submit = |command: &Command| runtime.block_on(registry.submit(command.clone()));
            commands.iter().map(submit).collect()
        };
        std::thread::scope(|scope| scope.spawn(run).join().unwrap())
    }

    pub(crate) fn registry(&self) -> Registry {
        self.registry.clone()
    }

    pub(crate) fn stop(self) {
        drop(self.registry);
        self.writer.stop();
    }
}
