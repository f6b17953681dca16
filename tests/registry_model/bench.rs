//! A registry with its own directory or a shared store, and the model that it is compared with.

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
use super::ports::{CheckingPublisher, CommitPlan, Control, ControlledStore, objects};
use super::races::{Log, OtherRegistry};

type Outcome = Result<Reply, RegistryError>;

pub(crate) struct Bench {
    directory: PathBuf,
    log: Option<Log>,
    settings: Settings,
    runtime: Runtime,
    running: Option<(Registry, WriterThread)>,
    pub(crate) control: Arc<Control>,
    pub(crate) model: Model,
    operations: HashMap<usize, OperationId>,
    /// For each service that ever existed: the model's clock at its last change, and the last revision of the registry.
    revisions: HashMap<String, (usize, u64)>,
}

impl Bench {
    pub(crate) fn new(settings: Settings) -> Bench {
        Bench::on(settings, None)
    }

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
        let blocking = Command::CreateNamespace {
            name: "blocking".into(),
            kind: NamespaceKind::Http,
            creator_request_id: None,
            description: None,
            soa_ttl: None,
            tags: Tags::new(),
        };
        let registry = bench.registry();
        let made = bench.runtime.block_on(registry.submit(blocking.clone()));
        bench.expect(&blocking, &made);
        bench
    }

    pub(crate) fn registry(&self) -> Registry {
        self.running.as_ref().unwrap().0.clone()
    }

    pub(crate) fn state(&self) -> Arc<State> {
        self.registry().state()
    }

    pub(crate) fn reopen(&mut self) {
        if let Some((registry, writer)) = self.running.take() {
            drop(registry);
            writer.stop();
        }
        let inner: Box<dyn Store> = match &self.log {
            Some(log) => Box::new(log.store()),
            None => Box::new(EmbeddedStore::open(&self.directory).unwrap()),
        };
        let store = ControlledStore { inner, control: self.control.clone() };
        let publisher = CheckingPublisher { control: self.control.clone(), is_first: true };
        let running = Registry::start(self.settings.clone(), Box::new(store), Box::new(publisher));
        self.running = Some(running.unwrap());
        self.check_published();
    }

    /// Restarts the registry and checks that its state is unchanged, except for pods and for revisions that only pods had.
    pub(crate) fn restart(&mut self) {
        let (before, sequence) = (dump(&self.state()), self.state().sequence());
        self.reopen();
        if self.model.has_observed {
            assert!(self.state().sequence() >= sequence);
            for (_, service) in self.state().services_after(None) {
                // Revisions of pods are reserved and not stored: a restart may skip some, but they must not decrease.
                let before = self.revisions.remove(service.service.id.as_str());
                assert!(before.is_none_or(|(_, revision)| service.revision() >= revision));
            }
        } else {
            assert_eq!(dump(&self.state()), before);
        }
        self.model.restart();
        self.check();
    }

    /// Carries out commands in one batch and compares the results with the model's. The registry carries out observations of
    /// pods before the other commands of a batch.
    pub(crate) fn run(&mut self, commands: &[Command]) {
        let (observed, asked): (Vec<_>, Vec<_>) =
            commands.iter().cloned().partition(|command| matches!(command, Command::Observe(_)));
        let commands = &[observed, asked].concat()[..];
        let results = self.submit(commands, CommitPlan::Accept);
        commands.iter().zip(&results).for_each(|(command, result)| self.expect(command, result));
        assert_eq!(self.registry().store_failure(), None);
        self.check();
    }

    /// Carries out a command while another registry carries out `others`. If the command stores anything, it loses the race
    /// and comes after all of them; otherwise it comes before them.
    pub(crate) fn race(&mut self, command: &Command, other: &OtherRegistry, others: &[Command]) {
        let (registry, commands) = (other.registry(), others.to_vec());
        let (sender, receiver) = std::sync::mpsc::channel();
        let before = move || sender.send(OtherRegistry::run(&registry, &commands)).unwrap();
        let results = self.submit(std::slice::from_ref(command), CommitPlan::After(Box::new(before)));
        let has_lost = receiver.try_recv();
        if has_lost.is_err() {
            self.expect(command, &results[0]);
        }
        let ended = has_lost.clone().unwrap_or_else(|_| OtherRegistry::run(&other.registry(), others));
        others.iter().zip(&ended).for_each(|(command, result)| self.expect(command, result));
        if has_lost.is_ok() {
            self.expect(command, &results[0]);
        }
        let end = Instant::now() + Duration::from_secs(20);
        while dump(&self.state()) != dump(&other.state()) {
            assert!(Instant::now() < end, "the registries do not reach a common state");
            std::thread::yield_now();
        }
        self.check();
    }

    /// Submits commands while the store fails, and checks that nothing changes and that no change is acknowledged.
    /// Observations are left out, because they are not stored.
    pub(crate) fn fail(&mut self, commands: &[Command]) {
        let is_stored = |command: &&Command| !matches!(command, Command::Observe(_));
        let commands = &commands.iter().filter(is_stored).cloned().collect::<Vec<_>>()[..];
        let before = dump(&self.state());
        let commits = self.control.lock().commits;
        let results = self.submit(commands, CommitPlan::Fail);
        // The first commit is that of the blocking command.
        let has_failed = self.control.lock().commits > commits + 1;
        assert_eq!(self.registry().store_failure().is_some(), has_failed);
        // Compare all but the last line: its sequence number is incremented by the blocking command.
        let after = dump(&self.state());
        assert_eq!(after.split_last().unwrap().1, before.split_last().unwrap().1);
        for (command, result) in commands.iter().zip(&results) {
            // A result that reports no change is allowed if it is right for the state without the failed batch.
            let mut model = self.model.clone();
            let (kind, _) = model.run(command);
            let is_unchanged = model.has_same_objects(&self.model);
            let actual = kind_of(result);
            let is_right = is_unchanged
                && (actual == kind || (actual == Kind::Operation && kind == Kind::SameOperation));
            let is_right = is_right || (is_unchanged && actual == Kind::Service && kind == Kind::SameService);
            assert!(actual == Kind::NotStored || is_right, "{command:?} returned {result:?}, not {kind:?}");
        }
        self.check();
    }

    /// Submits commands so that the writer gets all of them as one batch, whose commit has the result `plan`. A first command
    /// blocks the writer in its commit until all others are queued.
    pub(crate) fn submit(&mut self, commands: &[Command], plan: CommitPlan) -> Vec<Outcome> {
        let registry = self.registry();
        self.control.lock().plans.extend([CommitPlan::Accept, plan]);
        let commits = self.control.lock().commits;
        let closed = self.control.gate.lock().unwrap();
        // The blocking command removes no tags, so that it changes nothing.
        let blocking = self.settings.identity.namespace_id("HTTP", "blocking");
        let blocking = Command::UntagResource {
            resource: self.settings.identity.namespace_arn(&blocking),
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
        let blocked = spawn(blocking);
        self.runtime.block_on(async {
            while self.control.lock().commits == commits {
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
            blocked.await.unwrap().unwrap();
            let mut results = Vec::new();
            for task in tasks {
                results.push(task.await.unwrap());
            }
            results
        });
        // If none of the commands changed anything, there was no second commit and its plan is left over.
        self.control.lock().plans.clear();
        results
    }

    fn expect(&mut self, command: &Command, result: &Outcome) {
        let (kind, number) = self.model.run(command);
        let context = || format!("{command:?}\nreturned {result:?}\nexpected {kind:?}");
        match (result, kind) {
            (Ok(Reply::Operation(id)), Kind::Operation) => {
                assert!(self.operations.values().all(|other| other != id), "{}", context());
                self.operations.insert(number.unwrap(), id.clone());
            }
            (Ok(Reply::Operation(id)), Kind::SameOperation) => {
                assert_eq!(Some(id), self.operations.get(&number.unwrap()), "{}", context());
            }
            (Ok(Reply::Service(state)), Kind::Service | Kind::SameService) => {
                let services = self.model.services.iter().map(|service| &service.service);
                assert!(
                    services
                        .into_iter()
                        .any(|service| without_generated(service) == without_generated(&state.service)),
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
                let positions: Vec<_> = refusals.iter().map(|refusal| refusal.at).collect();
                assert_eq!(positions, self.model.refused, "{}", context());
            }
            _ => assert_eq!(kind_of(result), kind, "{}", context()),
        }
    }

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
            let without_generated = Namespace {
                created_ms: 0,
                operation: 0,
                request_digest: expected.object.request_digest,
                ..Namespace::clone(namespace)
            };
            assert_eq!(without_generated, expected.object);
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
            assert_eq!(Some(&actual.id), self.operations.get(&expected.number));
            assert_eq!(actual.operation_type.as_str(), expected.type_name);
            assert_eq!(actual.status.as_str() == "SUCCESS", expected.is_success);
            if expected.is_success {
                assert_eq!(actual.targets, expected.targets);
            } else {
                // A client that cleans up after a failed request must not delete a namespace that existed before it.
                assert!(state.namespace(actual.targets.namespace().as_str()).is_err());
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
            assert_eq!(without_generated(service), without_generated(&expected.service));
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
                let health = self.settings.health.of(found);
                assert_eq!(health.status_of(actual), expected.status(object), "{actual:?}");
                assert_eq!(actual.pod().map(String::from).zip(actual.readiness()), object.pod);
                if !actual.is_watched() {
                    let operation = self.settings.identity.operation_id(actual.operation());
                    assert_eq!(Some(&operation), self.operations.get(&expected_instance.operation));
                }
            }
            // Clients rely only on the order of revisions. JavaScript represents them exactly up to 2^53 - 1.
            let now = (expected.changed, actual.revision());
            assert!(now.1 < 1 << 53);
            if let Some(before) = self.revisions.insert(service.id.to_string(), now) {
                assert_eq!(now.0.cmp(&before.0), now.1.cmp(&before.1), "{before:?} then {now:?}");
            }
        }
        assert_eq!(state.instance_count(), instance_count);
    }

    pub(crate) fn check_published(&self) {
        let control = self.control.lock();
        assert_eq!(control.errors, Vec::<String>::new());
        assert_eq!(objects(&control.published), objects(&self.state()));
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        if let Some((registry, writer)) = self.running.take() {
            drop(registry);
            writer.stop();
        }
        // A directory that could not be removed is in the directory for temporary files.
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

pub(crate) fn instance_ids(state: &State, service: &str) -> BTreeSet<String> {
    state.service(service).unwrap().instances().iter().map(|instance| instance.id().to_string()).collect()
}

fn kind_of(result: &Outcome) -> Kind {
    match result {
        Ok(Reply::Operation(_)) => Kind::Operation,
        Ok(Reply::Service(_)) => Kind::Service,
        Ok(Reply::Done) => Kind::Done,
        Ok(Reply::Observed(_)) => Kind::Observed,
        Ok(Reply::Shadowed { .. }) => Kind::Other,
        Err(error) => Kind::from(error),
    }
}

fn without_generated(service: &Service) -> Service {
    Service { created_ms: 0, sequence: 0, request_digest: 0, ..service.clone() }
}

/// A text of the whole state with all numbers and times, to compare states exactly.
fn dump(state: &State) -> Vec<String> {
    let namespaces = state.namespaces_after(None).map(|(at, state)| format!("{at} {:?}", state.namespace));
    let services = state.services_after(None).map(|(at, state)| format!("{at} {state:?}"));
    let operations = state.operations_after(None).map(|(at, operation)| format!("{at:?} {operation:?}"));
    let numbers = format!("{} {}", state.sequence(), state.instance_count());
    namespaces.chain(services).chain(operations).chain([numbers]).collect()
}
