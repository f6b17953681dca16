//! A registry in a directory of its own, beside the model that it is compared with.

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use cloudmap_dns::model::{Namespace, NamespaceKind, OperationId, Service, Tags};
use cloudmap_dns::registry::{
    Command, Registry, RegistryError, Reply, Settings, State, Store, WriterThread, state::zone_key,
};
use cloudmap_dns::store::EmbeddedStore;
use tokio::runtime::Runtime;

use super::model::{Kind, Model};
use super::ports::{Control, ControlledStore, Fate, Witness, objects};
use super::races::{Log, Rival};

type Outcome = Result<Reply, RegistryError>;

pub(crate) struct Bench {
    directory: PathBuf,
    /// The store, if it is shared with others; else there is one in the directory.
    log: Option<Log>,
    settings: Settings,
    runtime: Runtime,
    running: Option<(Registry, WriterThread)>,
    pub(crate) control: Arc<Control>,
    pub(crate) model: Model,
    /// The operations that callers were told of, by their place in the model.
    operations: HashMap<usize, OperationId>,
    /// The last revision of each service that ever was, and when the model's changed.
    revisions: HashMap<String, (usize, u64)>,
}

impl Bench {
    pub(crate) fn new(settings: Settings) -> Bench {
        Bench::on(settings, None)
    }

    /// A registry on a store that others share.
    pub(crate) fn sharing(settings: Settings, log: Log) -> Bench {
        Bench::on(settings, Some(log))
    }

    fn on(settings: Settings, log: Option<Log>) -> Bench {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("cloudmap-dns-registry-model-{}-{number}", std::process::id());
        let mut bench = Bench {
            directory: std::env::temp_dir().join(name),
            log,
            runtime: tokio::runtime::Builder::new_current_thread().build().unwrap(),
            running: None,
            control: Arc::default(),
            model: Model::new(settings.clone()),
            settings,
            operations: HashMap::new(),
            revisions: HashMap::new(),
        };
        bench.reopen();
        let plug = Command::CreateNamespace {
            name: "plug".into(),
            kind: NamespaceKind::Http,
            creator_request_id: None,
            description: None,
            soa_ttl: None,
            tags: Tags::new(),
        };
        let registry = bench.registry();
        let made = bench.runtime.block_on(registry.submit(plug.clone()));
        bench.expect(&plug, &made);
        bench
    }

    pub(crate) fn registry(&self) -> Registry {
        self.running.as_ref().unwrap().0.clone()
    }

    pub(crate) fn state(&self) -> Arc<State> {
        self.registry().state()
    }

    /// Stops the registry, if it runs, and starts it from its file.
    pub(crate) fn reopen(&mut self) {
        if let Some((registry, writer)) = self.running.take() {
            drop(registry);
            writer.stop();
        }
        let inside: Box<dyn Store> = match &self.log {
            Some(log) => Box::new(log.store()),
            None => Box::new(EmbeddedStore::open(&self.directory).unwrap()),
        };
        let store = ControlledStore { inside, control: self.control.clone() };
        let witness = Witness { control: self.control.clone(), is_first: true };
        let running = Registry::start(self.settings.clone(), Box::new(store), Box::new(witness));
        self.running = Some(running.unwrap());
        self.check_published();
    }

    /// Restarts; everything is as before, but for pods and for numbers that only they had.
    pub(crate) fn restart(&mut self) {
        let (before, sequence) = (exact(&self.state()), self.state().sequence());
        self.reopen();
        match self.model.has_observed {
            true => {
                assert!(self.state().sequence() >= sequence);
                for (_, service) in self.state().services_after(None) {
                    // Later than before, or the same: which of both depends on numbers that nobody was shown.
                    let before = self.revisions.remove(service.service.id.as_str());
                    assert!(before.is_none_or(|(_, revision)| service.revision() >= revision));
                }
            }
            false => assert_eq!(exact(&self.state()), before),
        }
        self.model.restart();
        self.check();
    }

    /// Carries out commands in one batch, as the model does; what is observed in it goes first.
    pub(crate) fn run(&mut self, commands: &[Command]) {
        let (observed, asked): (Vec<_>, Vec<_>) =
            commands.iter().cloned().partition(|command| matches!(command, Command::Observe(_)));
        let commands = &[observed, asked].concat()[..];
        let results = self.submit(commands, Fate::Accept);
        commands.iter().zip(&results).for_each(|(command, result)| self.expect(command, result));
        assert_eq!(self.registry().store_failure(), None);
        self.check();
    }

    /// Carries out a command that loses a race against all of `others`, if it stores anything, and else comes before them.
    pub(crate) fn race(&mut self, command: &Command, rival: &Rival, others: &[Command]) {
        let (registry, commands) = (rival.registry(), others.to_vec());
        let (sender, receiver) = std::sync::mpsc::channel();
        let before = move || sender.send(Rival::run(&registry, &commands)).unwrap();
        let results = self.submit(std::slice::from_ref(command), Fate::After(Box::new(before)));
        let has_lost = receiver.try_recv();
        if has_lost.is_err() {
            self.expect(command, &results[0]);
        }
        let ended = has_lost.clone().unwrap_or_else(|_| Rival::run(&rival.registry(), others));
        others.iter().zip(&ended).for_each(|(command, result)| self.expect(command, result));
        if has_lost.is_ok() {
            self.expect(command, &results[0]);
        }
        let end = Instant::now() + Duration::from_secs(20);
        while exact(&self.state()) != exact(&rival.state()) {
            assert!(Instant::now() < end, "the registries did not come to one state");
            std::thread::yield_now();
        }
        self.check();
    }

    /// Submits commands while the store fails: nothing is changed, and nobody is told otherwise.
    ///
    /// What is observed does not go by the store.
    pub(crate) fn fail(&mut self, commands: &[Command]) {
        let is_stored = |command: &&Command| !matches!(command, Command::Observe(_));
        let commands = &commands.iter().filter(is_stored).cloned().collect::<Vec<_>>()[..];
        let before = exact(&self.state());
        let commits = self.control.told().commits;
        let results = self.submit(commands, Fate::Fail);
        // The first commit is that of the plug.
        let has_failed = self.control.told().commits > commits + 1;
        assert_eq!(self.registry().store_failure().is_some(), has_failed);
        // But for the number, which the plug moves on.
        let after = exact(&self.state());
        assert_eq!(after.split_last().unwrap().1, before.split_last().unwrap().1);
        for (command, result) in commands.iter().zip(&results) {
            // What is not about a change may be said, as far as it is true without what was not stored.
            let mut model = self.model.clone();
            let (kind, _) = model.run(command);
            let is_unchanged = model.is_same(&self.model);
            let told = told(result);
            let is_true =
                is_unchanged && (told == kind || (told == Kind::Operation && kind == Kind::SameOperation));
            let is_true = is_true || (is_unchanged && told == Kind::Service && kind == Kind::SameService);
            assert!(told == Kind::NotStored || is_true, "{command:?} ended as {result:?}, was {kind:?}");
        }
        self.check();
    }

    /// Submits commands so that the writer finds all of them at once; `fate` is that of their commit.
    pub(crate) fn submit(&mut self, commands: &[Command], fate: Fate) -> Vec<Outcome> {
        let registry = self.registry();
        self.control.told().fates.extend([Fate::Accept, fate]);
        let commits = self.control.told().commits;
        let closed = self.control.gate.lock().unwrap();
        // A change of nothing, that the writer waits with.
        let plug = self.settings.identity.namespace_id("HTTP", "plug");
        let plug = Command::UntagResource {
            resource: self.settings.identity.namespace_arn(&plug),
            keys: Vec::new(),
        };
        let submitted = Arc::new(AtomicUsize::new(0));
        let spawn = |command: Command| {
            let (registry, submitted) = (registry.clone(), submitted.clone());
            self.runtime.spawn(async move {
                submitted.fetch_add(1, Ordering::Relaxed);
                registry.submit(command).await
            })
        };
        let plugged = spawn(plug);
        self.runtime.block_on(async {
            while self.control.told().commits == commits {
                tokio::task::yield_now().await;
            }
        });
        let tasks: Vec<_> = commands.iter().cloned().map(spawn).collect();
        self.runtime.block_on(async {
            while submitted.load(Ordering::Relaxed) <= commands.len() {
                tokio::task::yield_now().await;
            }
        });
        drop(closed);
        let results = self.runtime.block_on(async {
            plugged.await.unwrap().unwrap();
            let mut results = Vec::new();
            for task in tasks {
                results.push(task.await.unwrap());
            }
            results
        });
        // Where nothing was to be stored there was no second commit.
        self.control.told().fates.clear();
        results
    }

    /// Compares what a caller was told with what the model says.
    fn expect(&mut self, command: &Command, result: &Outcome) {
        let (kind, place) = self.model.run(command);
        let context = || format!("{command:?}\nended as {result:?}\nexpected {kind:?}");
        match (result, kind) {
            (Ok(Reply::Operation(id)), Kind::Operation) => {
                assert!(self.operations.values().all(|other| other != id), "{}", context());
                self.operations.insert(place.unwrap(), id.clone());
            }
            (Ok(Reply::Operation(id)), Kind::SameOperation) => {
                assert_eq!(Some(id), self.operations.get(&place.unwrap()), "{}", context());
            }
            (Ok(Reply::Service(state)), Kind::Service | Kind::SameService) => {
                let services = self.model.services.iter().map(|service| &service.service);
                assert!(
                    services.into_iter().any(|service| plain(service) == plain(&state.service)),
                    "{}",
                    context()
                );
            }
            (
                Err(RegistryError::NamespaceAlreadyExists { namespace, creator_request_id }),
                Kind::NamespaceExists,
            ) => {
                let existing =
                    self.model.namespaces.iter().find(|other| other.object.id == *namespace).unwrap();
                assert_eq!(existing.object.creator_request_id, *creator_request_id, "{}", context());
            }
            (
                Err(RegistryError::ServiceAlreadyExists { service, arn, creator_request_id }),
                Kind::ServiceExists,
            ) => {
                let existing = self.model.services.iter().find(|other| other.service.id == *service).unwrap();
                assert_eq!(existing.service.creator_request_id, *creator_request_id, "{}", context());
                assert_eq!(*arn, self.settings.identity.service_arn(service));
            }
            (Ok(Reply::Observed(refusals)), Kind::Observed) => {
                let places: Vec<_> = refusals.iter().map(|refusal| refusal.at).collect();
                assert_eq!(places, self.model.refused, "{}", context());
            }
            _ => assert_eq!(told(result), kind, "{}", context()),
        }
    }

    /// Compares the registry's state, and what was published, with the model.
    fn check(&mut self) {
        let state = self.state();
        self.check_published();
        let namespaces: Vec<_> = state.namespaces_after(None).map(|(_, state)| state).collect();
        assert_eq!(
            (namespaces.len(), state.namespace_count()),
            (self.model.namespaces.len(), namespaces.len())
        );
        for (actual, expected) in namespaces.into_iter().zip(&self.model.namespaces) {
            let namespace = &actual.namespace;
            let plain = Namespace {
                created_ms: 0,
                operation: 0,
                request_digest: expected.object.request_digest,
                ..Namespace::clone(namespace)
            };
            assert_eq!(plain, expected.object);
            let operation = self.settings.identity.operation_id(namespace.operation);
            assert_eq!(Some(&operation), self.operations.get(&expected.operation));
            let found = state.namespace_by_http_name(&namespace.http_name).map(|found| &found.namespace.id);
            assert_eq!(found, Some(&namespace.id), "by the HttpName {}", namespace.http_name);
            if namespace.is_dns() {
                let found = state.namespace_by_zone(&zone_key(&namespace.name)).unwrap();
                assert_eq!(found.namespace.id, namespace.id);
            }
            let its =
                self.model.services.iter().filter(|service| service.service.namespace_id == namespace.id);
            let ids: Vec<_> = actual.services_after(None).map(|(_, id)| id).collect();
            assert_eq!(ids, its.map(|service| &service.service.id).collect::<Vec<_>>());
        }
        self.check_services(&state);
        let operations: Vec<_> = state.operations_after(None).map(|(_, operation)| operation).collect();
        assert_eq!(operations.len(), self.model.operations.len());
        for (actual, expected) in operations.into_iter().zip(&self.model.operations) {
            assert_eq!(Some(&actual.id), self.operations.get(&expected.place));
            assert_eq!(actual.operation_type.as_str(), expected.word);
            assert_eq!(actual.status.as_str() == "SUCCESS", expected.is_success);
            match expected.is_success {
                true => assert_eq!(actual.targets, expected.targets),
                // Whoever deletes what a failed request made must not delete what was there before.
                false => assert!(state.namespace(actual.targets.namespace().as_str()).is_err()),
            }
            assert!(state.operation(actual.id.as_str()).is_ok());
        }
    }

    fn check_services(&mut self, state: &State) {
        let services: Vec<_> = state.services_after(None).map(|(_, state)| state).collect();
        assert_eq!((services.len(), state.service_count()), (self.model.services.len(), services.len()));
        let mut instance_count = 0;
        for (actual, expected) in services.into_iter().zip(&self.model.services) {
            let service = &actual.service;
            assert_eq!(plain(service), plain(&expected.service));
            let found = state.service_by_name(&service.namespace_id, &service.name).unwrap();
            assert_eq!(found.service.id, service.id);
            assert_eq!(actual.instances().len(), expected.instances.len());
            instance_count += actual.instances().len();
            for (actual, (id, expected_instance)) in actual.instances().iter().zip(&expected.instances) {
                let object = &expected_instance.object;
                assert_eq!(
                    (actual.id(), actual.creator_request_id().as_deref()),
                    (id.as_str(), object.token.as_deref())
                );
                let attributes = object.attributes.iter().map(|(key, value)| (key.as_str(), value.as_str()));
                assert!(actual.attributes().eq(attributes), "{actual:?}");
                assert_eq!(service.status_of(actual), expected.status(object), "{actual:?}");
                assert_eq!(actual.pod().map(String::from).zip(actual.readiness()), object.pod);
                if !actual.is_watched() {
                    let operation = self.settings.identity.operation_id(actual.operation());
                    assert_eq!(Some(&operation), self.operations.get(&expected_instance.operation));
                }
            }
            // Clients compare revisions only by order; JavaScript reads them exactly up to 2^53 - 1.
            let now = (expected.changed, actual.revision());
            assert!(now.1 < 1 << 53);
            if let Some(before) = self.revisions.insert(service.id.to_string(), now) {
                assert_eq!(now.0.cmp(&before.0), now.1.cmp(&before.1), "{before:?} then {now:?}");
            }
        }
        assert_eq!(state.instance_count(), instance_count);
    }

    pub(crate) fn check_published(&self) {
        let told = self.control.told();
        assert_eq!(told.complaints, Vec::<String>::new());
        assert_eq!(objects(&told.published), objects(&self.state()));
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        if let Some((registry, writer)) = self.running.take() {
            drop(registry);
            writer.stop();
        }
        // What is left behind is in the directory for temporary files.
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// The ids of a service's instances.
pub(crate) fn instance_ids(state: &State, service: &str) -> BTreeSet<String> {
    state.service(service).unwrap().instances().iter().map(|instance| instance.id().to_string()).collect()
}

fn told(result: &Outcome) -> Kind {
    match result {
        Ok(Reply::Operation(_)) => Kind::Operation,
        Ok(Reply::Service(_)) => Kind::Service,
        Ok(Reply::Done) => Kind::Done,
        Ok(Reply::Observed(_)) => Kind::Observed,
        Ok(Reply::Shadowed { .. }) => Kind::Other,
        Err(error) => Kind::from(error),
    }
}

/// A service without what the model does not give.
fn plain(service: &Service) -> Service {
    Service { created_ms: 0, sequence: 0, request_digest: 0, ..service.clone() }
}

/// All of a state, to the last number and time.
fn exact(state: &State) -> Vec<String> {
    let namespaces = state.namespaces_after(None).map(|(at, state)| format!("{at} {:?}", state.namespace));
    let services = state.services_after(None).map(|(at, state)| format!("{at} {state:?}"));
    let operations = state.operations_after(None).map(|(at, operation)| format!("{at:?} {operation:?}"));
    let numbers = format!("{} {}", state.sequence(), state.instance_count());
    namespaces.chain(services).chain(operations).chain([numbers]).collect()
}
