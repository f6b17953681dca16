//! The registry's public handle: acknowledged changes are visible at once and survive a restart.

#![expect(clippy::unwrap_used, reason = "a panic is a failed test")]

#[path = "registry/shadow.rs"]
mod shadow;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use cloudmap_dns::model::{
    Attributes, CustomHealthStatus, DnsRecord, DnsRecordType, HealthCheck, HealthCheckType, HealthStatus,
    Instance, NamespaceKind, ObservedPod, OperationStatus, Readiness, ServiceId, Tags, Uid,
    service::CustomHealthCheck,
};
use cloudmap_dns::registry::{
    Change, Command, Event, Group, HealthSettings, Observation, Publish, Registry, RegistryError, Reply,
    Seen, ServiceState, Settings, State, Store, StoreError, Validation, Verdict, WriterThread,
    command::CreateDnsConfig, command::CreateService,
};
use cloudmap_dns::store::{EmbeddedStore, MemoryStore};

fn status_in(found: &ServiceState, instance: &Instance) -> HealthStatus {
    HealthSettings::default().of(found).status_of(instance)
}

struct NullPublisher;

impl Publish for NullPublisher {
    fn publish(&mut self, _state: &State, _events: &[Event]) {}
}

fn open(directory: &Path) -> (Registry, WriterThread) {
    let store = EmbeddedStore::open(directory).unwrap();
    Registry::start(Settings::default(), Box::new(store), Box::new(NullPublisher)).unwrap()
}

fn private(name: &str) -> Command {
    Command::CreateNamespace {
        name: name.into(),
        kind: NamespaceKind::DnsPrivate { vpc: "vpc-1".into() },
        creator_request_id: None,
        description: None,
        soa_ttl: None,
        tags: Tags::new(),
    }
}

fn register(service: &str, instance: &str, address: &str) -> Command {
    Command::RegisterInstance {
        service: service.into(),
        instance: instance.into(),
        creator_request_id: None,
        attributes: BTreeMap::from([("AWS_INSTANCE_IPV4".into(), address.into())]),
    }
}

#[tokio::test]
async fn acknowledged_changes_survive_a_restart() {
    let directory = std::env::temp_dir().join(format!("cloudmap-dns-registry-{}", std::process::id()));
    let (registry, writer) = open(&directory);
    let Reply::Operation(operation) = registry.submit(private("production.local")).await.unwrap() else {
        panic!("the reply is not an operation");
    };
    let namespace = registry.state().namespace_by_zone("production.local").unwrap().namespace.id.clone();
    let create = CreateService {
        name: "backend".into(),
        namespace: Some(namespace.to_string()),
        dns: Some(CreateDnsConfig {
            records: vec![DnsRecord { rtype: DnsRecordType::A, ttl: 60 }],
            ..CreateDnsConfig::default()
        }),
        custom_health_check: Some(CustomHealthCheck { failure_threshold: None }),
        ..CreateService::default()
    };
    let Reply::Service(service) =
        registry.submit(Command::CreateService(Box::new(create.clone()))).await.unwrap()
    else {
        panic!("a service is returned");
    };
    let id = service.service.id.to_string();
    registry.submit(register(&id, "web-1", "10.0.0.1")).await.unwrap();
    registry.submit(register(&id, "web-2", "10.0.0.2")).await.unwrap();
    let status = CustomHealthStatus::Unhealthy;
    let unhealthy = Command::UpdateCustomHealth {
        service: id.clone(),
        instance: "web-2".into(),
        status,
        reporter: String::new(),
    };
    registry.submit(unhealthy).await.unwrap();
    let refused = registry.submit(Command::CreateService(Box::new(create))).await;
    assert!(matches!(refused, Err(RegistryError::ServiceAlreadyExists { .. })));
    let in_use = registry.submit(Command::DeleteService { service: id.clone() }).await;
    assert!(matches!(in_use, Err(RegistryError::ResourceInUse(_))));
    let before = registry.state();
    tokio::task::spawn_blocking(|| writer.stop()).await.unwrap();

    let (registry, writer) = open(&directory);
    let after = registry.state();
    let service = after.service(&id).unwrap();
    assert_eq!(service.service, before.service(&id).unwrap().service);
    assert_eq!(service.instances(), before.service(&id).unwrap().instances());
    assert_eq!(service.revision(), before.service(&id).unwrap().revision());
    assert_eq!(after.sequence(), before.sequence());
    let statuses: Vec<_> = service.instances().iter().map(|instance| status_in(service, instance)).collect();
    assert_eq!(statuses, [HealthStatus::Healthy, HealthStatus::Unhealthy]);
    assert_eq!(after.operation(operation.as_str()).unwrap().status, OperationStatus::Success);
    assert!(matches!(registry.submit(private("production.local")).await.unwrap(), Reply::Operation(_)));
    let failed = registry.state().operations_after(None).last().unwrap().1.clone();
    assert!(
        matches!(&failed.status, OperationStatus::Fail { code, .. } if code == "CANNOT_CREATE_HOSTED_ZONE")
    );
    tokio::task::spawn_blocking(|| writer.stop()).await.unwrap();
    std::fs::remove_dir_all(&directory).unwrap();
}

fn start(validation: Validation) -> (Registry, WriterThread) {
    let settings = Settings { validation, ..Settings::default() };
    Registry::start(settings, Box::new(MemoryStore), Box::new(NullPublisher)).unwrap()
}

fn http(name: &str) -> Command {
    let Command::CreateNamespace { creator_request_id, description, soa_ttl, tags, .. } = private(name)
    else {
        panic!("private() makes a namespace");
    };
    let (name, kind) = (name.into(), NamespaceKind::Http);
    Command::CreateNamespace { name, kind, creator_request_id, description, soa_ttl, tags }
}

#[tokio::test]
async fn every_namespace_has_a_unique_http_name() {
    let (registry, _writer) = start(Validation::Lenient);
    let id = registry.identity().namespace_id("DNS_PRIVATE", "a.test");
    // The HttpName that the private namespace would get as the second one of this name is taken too.
    let taken = format!("a.test-{}", id.as_str().trim_start_matches("ns-"));
    for command in [http("a.test"), http(&taken), private("a.test")] {
        registry.submit(command).await.unwrap();
    }
    let state = registry.state();
    for (_, namespace) in state.namespaces_after(None) {
        let found = state.namespace_by_http_name(&namespace.namespace.http_name).unwrap();
        assert_eq!(found.namespace.id, namespace.namespace.id);
    }
}

#[tokio::test]
async fn strict_validation_requires_a_port_for_a_service_with_a_health_check() {
    for (validation, is_refused) in [(Validation::Strict, true), (Validation::Lenient, false)] {
        let (registry, _writer) = start(validation);
        registry.submit(http("a")).await.unwrap();
        let namespace = registry.identity().namespace_id("HTTP", "a");
        let create = CreateService {
            name: "web".into(),
            namespace: Some(namespace.to_string()),
            health_check: Some(HealthCheck {
                check_type: HealthCheckType::Http,
                resource_path: None,
                failure_threshold: None,
            }),
            ..CreateService::default()
        };
        registry.submit(Command::CreateService(Box::new(create))).await.unwrap();
        let service = registry.identity().service_id(&namespace, "web");
        let registered = registry.submit(register(service.as_str(), "i-1", "10.0.0.1")).await;
        assert_eq!(matches!(registered, Err(RegistryError::InvalidInput(_))), is_refused, "{registered:?}");
    }
}

#[tokio::test]
async fn service_attributes_increase_the_sequence_number_and_so_the_zone_serial() {
    let (registry, _writer) = start(Validation::Lenient);
    registry.submit(private("a")).await.unwrap();
    let namespace = registry.identity().namespace_id("DNS_PRIVATE", "a");
    let create = CreateService {
        name: "web".into(),
        namespace: Some(namespace.to_string()),
        ..CreateService::default()
    };
    registry.submit(Command::CreateService(Box::new(create))).await.unwrap();
    let service = registry.identity().service_id(&namespace, "web").to_string();
    let (before, revision) =
        (registry.state().sequence(), registry.state().service(&service).unwrap().revision());
    // The attribute `fail-open` changes the DNS answers if all instances are unhealthy.
    let attributes = BTreeMap::from([("fail-open".into(), "true".into())]);
    registry.submit(Command::UpdateServiceAttributes { service: service.clone(), attributes }).await.unwrap();
    let set = registry.state().sequence();
    let keys = vec!["fail-open".into()];
    registry.submit(Command::DeleteServiceAttributes { service: service.clone(), keys }).await.unwrap();
    assert!(before < set && set < registry.state().sequence());
    assert_eq!(registry.state().service(&service).unwrap().revision(), revision);
}

#[tokio::test]
async fn service_and_srv_target_never_share_a_name() {
    let (registry, _writer) = start(Validation::Strict);
    registry.submit(private("a")).await.unwrap();
    let namespace = registry.identity().namespace_id("DNS_PRIVATE", "a");
    let create = |name: &str| {
        Command::CreateService(Box::new(CreateService {
            name: name.into(),
            namespace: Some(namespace.to_string()),
            dns: Some(CreateDnsConfig {
                records: vec![DnsRecord { rtype: DnsRecordType::Srv, ttl: 60 }],
                ..CreateDnsConfig::default()
            }),
            ..CreateService::default()
        }))
    };
    let register = |service: &str, instance: &str| Command::RegisterInstance {
        service: registry.identity().service_id(&namespace, service).to_string(),
        instance: instance.into(),
        creator_request_id: None,
        attributes: BTreeMap::from([
            ("AWS_INSTANCE_IPV4".into(), "10.0.0.1".into()),
            ("AWS_INSTANCE_PORT".into(), "80".into()),
        ]),
    };
    for command in [create("."), create("web"), create("v1.web"), register(".", "api"), register("web", "v2")]
    {
        registry.submit(command).await.unwrap();
    }
    // The service `.` is at the namespace's own name, so that its instances have names at the level of services.
    for clash in [create("API"), create("v2.web"), register(".", "Web"), register("web", "v1")] {
        let refused = registry.submit(clash).await;
        assert!(matches!(refused, Err(RegistryError::InvalidInput(_))), "{refused:?}");
    }
}

struct Named {
    registry: Registry,
    _writer: WriterThread,
    namespace: String,
}

impl Named {
    async fn new() -> Named {
        let (registry, _writer) = start(Validation::Lenient);
        registry.submit(private("a")).await.unwrap();
        let namespace = registry.identity().namespace_id("DNS_PRIVATE", "a").to_string();
        Named { registry, _writer, namespace }
    }

    fn id(&self, service: &str) -> ServiceId {
        self.registry.identity().service_id(&self.namespace.as_str().into(), service)
    }

    async fn create(&self, name: &str, rtype: Option<DnsRecordType>) -> Result<Reply, RegistryError> {
        let dns = rtype.map(|rtype| CreateDnsConfig {
            records: vec![DnsRecord { rtype, ttl: 60 }],
            ..CreateDnsConfig::default()
        });
        let create = CreateService {
            name: name.into(),
            namespace: Some(self.namespace.clone()),
            dns,
            ..CreateService::default()
        };
        self.registry.submit(Command::CreateService(Box::new(create))).await
    }

    async fn register(&self, service: &str, instance: &str) -> Result<Reply, RegistryError> {
        self.registry.submit(register(self.id(service).as_str(), instance, "10.0.0.1")).await
    }

    /// Submits an observation of a pod as this instance, and returns the registry's refusal as the error.
    async fn observe(&self, service: &str, instance: &str) -> Result<(), RegistryError> {
        let command = seen(&self.id(service), instance, "10.42.0.1", Readiness::Ready);
        match self.registry.submit(command).await.unwrap() {
            Reply::Observed(refused) => {
                refused.into_iter().next().map_or(Ok(()), |refusal| Err(refusal.error))
            }
            other => panic!("{other:?}"),
        }
    }
}

fn text(result: Result<impl std::fmt::Debug, RegistryError>) -> String {
    match result {
        Err(RegistryError::InvalidInput(text)) => text,
        other => panic!("the request is not refused: {other:?}"),
    }
}

#[tokio::test]
async fn dns_name_belongs_to_one_instance_or_service_of_any_record_type() {
    use DnsRecordType::{A, Srv};
    let named = Named::new().await;
    for (name, rtype) in [("web", Some(Srv)), ("db.web", Some(A)), ("calls.web", None)] {
        named.create(name, rtype).await.unwrap();
    }
    named.register("db.web", "x").await.unwrap();
    let before = named.registry.state().operation_count();
    let refused = text(named.register("web", "X.db").await);
    let first = format!("the instance x of the service db.web ({})", named.id("db.web"));
    assert!(refused.contains("the name x.db.web") && refused.contains(&first), "{refused}");
    let refused = text(named.observe("web", "x.db").await);
    assert!(refused.contains(&first), "{refused}");
    assert!(text(named.create("X.db.web", Some(A)).await).contains(&first));
    assert!(text(named.register("web", "db").await).contains("the service db.web"));
    assert_eq!(named.registry.state().operation_count(), before);
    // Services that are not in DNS, and their instances, have no DNS names and conflict with none.
    named.register("web", "calls").await.unwrap();
    named.register("calls.web", "x").await.unwrap();
    named.create("y.db.web", None).await.unwrap();
    named.register("db.web", "y").await.unwrap();
    // A repeated registration of an instance does not conflict with the instance itself.
    named.register("db.web", "x").await.unwrap();
    named.observe("web", "p.db").await.unwrap();
    named.observe("web", "p.db").await.unwrap();
    assert!(text(named.register("db.web", "p").await).contains("the instance p.db of the service web"));
}

#[tokio::test]
async fn instance_ids_of_every_form_are_accepted_if_their_srv_targets_fit() {
    let named = Named::new().await;
    named.create("web", Some(DnsRecordType::Srv)).await.unwrap();
    for id in ["task:1", "a..b", "Task", "task", "TASK", "-a", &"l".repeat(64)] {
        named.register("web", id).await.unwrap();
    }
    // This id is equal to the label that was derived for the id `task:1`.
    let refused = text(named.register("web", "task-1-l7ve9knt9k").await);
    assert!(refused.contains("the instance task:1 of the service web"), "{refused}");
    // The service's name leaves eleven characters for the label of an instance, which is too short for a derived label.
    let long = format!("{}.{}", "z".repeat(60), [&*"z".repeat(60); 3].join("."))[..239].to_string();
    named.create(&long, Some(DnsRecordType::Srv)).await.unwrap();
    assert!(text(named.register(&long, "a:1").await).contains("target"));
    named.register(&long, "a1").await.unwrap();
}

#[tokio::test]
async fn failed_creation_names_no_existing_namespace() {
    // A client that cleans up after a failed request must not delete a namespace that existed before it.
    let (registry, _writer) = start(Validation::Lenient);
    registry.submit(private("a")).await.unwrap();
    registry.submit(private("a")).await.unwrap();
    let state = registry.state();
    let failed = state.operations_after(None).last().unwrap().1;
    assert_eq!(failed.status.as_str(), "FAIL");
    assert!(state.namespace(failed.targets.namespace().as_str()).is_err());
}

async fn backend(registry: &Registry) -> ServiceId {
    registry.submit(private("production.local")).await.unwrap();
    let namespace = registry.state().namespace_by_zone("production.local").unwrap().namespace.id.clone();
    let create = CreateService {
        name: "backend".into(),
        namespace: Some(namespace.to_string()),
        dns: Some(CreateDnsConfig {
            records: vec![DnsRecord { rtype: DnsRecordType::A, ttl: 60 }],
            ..CreateDnsConfig::default()
        }),
        ..CreateService::default()
    };
    let Reply::Service(service) = registry.submit(Command::CreateService(Box::new(create))).await.unwrap()
    else {
        panic!("a service is returned");
    };
    service.service.id.clone()
}

fn seen(service: &ServiceId, id: &str, address: &str, readiness: Readiness) -> Command {
    let map = BTreeMap::from([("AWS_INSTANCE_IPV4".to_string(), address.to_string())]);
    let attributes = Attributes::new(&map).unwrap();
    let uid = Uid::of("0c47a3a6-5f0f-4f5e-9d8e-0123456789ab");
    let instance =
        Instance::watched(id, &ObservedPod::new("default/web-1", uid, readiness), &attributes).unwrap();
    Command::Observe(vec![Observation { service: service.clone(), seen: Seen::Instance(instance) }].into())
}

#[tokio::test]
async fn pods_are_not_stored_and_their_revisions_are_never_reused() {
    let directory = std::env::temp_dir().join(format!("cloudmap-dns-registry-pods-{}", std::process::id()));
    let (registry, writer) = open(&directory);
    let service = backend(&registry).await;
    for address in ["10.42.0.1", "10.42.0.2"] {
        registry.submit(seen(&service, "web-1", address, Readiness::Ready)).await.unwrap();
    }
    registry.submit(seen(&service, "web-1", "10.42.0.2", Readiness::NotReady)).await.unwrap();
    registry.submit(register(service.as_str(), "external", "192.0.2.1")).await.unwrap();
    let (mut revision, mut sequence) =
        (registry.state().service(service.as_str()).unwrap().revision(), registry.state().sequence());
    assert_eq!(registry.state().service(service.as_str()).unwrap().instances().len(), 2);
    tokio::task::spawn_blocking(|| writer.stop()).await.unwrap();

    for round in 0..3 {
        let (registry, writer) = open(&directory);
        let state = registry.state();
        let found = state.service(service.as_str()).unwrap();
        let ids: Vec<_> = found.instances().iter().map(Instance::id).collect();
        assert_eq!(ids, ["external"]);
        assert!(found.revision() >= revision && state.sequence() >= sequence, "round {round}");
        registry.submit(seen(&service, "web-1", "10.42.0.1", Readiness::Ready)).await.unwrap();
        let after = registry.state().service(service.as_str()).unwrap().revision();
        assert!(after > revision && after > found.revision(), "round {round}");
        (revision, sequence) = (after, registry.state().sequence());
        tokio::task::spawn_blocking(|| writer.stop()).await.unwrap();
    }
    std::fs::remove_dir_all(&directory).unwrap();
}

#[tokio::test]
async fn changes_of_instances_do_not_wake_waiters_for_namespaces_and_services() {
    let (registry, _writer) = start(Validation::Lenient);
    let mut changed = registry.changed();
    let service = backend(&registry).await;
    assert!(changed.has_changed().unwrap());
    assert_eq!(*changed.borrow_and_update(), registry.state().sequence());
    registry.submit(seen(&service, "web-1", "10.42.0.1", Readiness::Ready)).await.unwrap();
    registry.submit(register(service.as_str(), "external", "192.0.2.1")).await.unwrap();
    assert!(!changed.has_changed().unwrap());
    registry.submit(private("other.local")).await.unwrap();
    assert!(changed.has_changed().unwrap());
}

struct Disk(Arc<AtomicBool>);

impl Store for Disk {
    fn load(&mut self, _sink: &mut dyn FnMut(Change)) -> Result<(), StoreError> {
        Ok(())
    }

    fn commit(&mut self, batch: &[Group]) -> Result<Vec<Verdict>, StoreError> {
        if self.0.load(Ordering::SeqCst) {
            return Err(StoreError { what: "the disk is full".into(), source: None });
        }
        Ok(vec![Verdict::Accepted; batch.len()])
    }
}

#[tokio::test]
async fn pod_changes_are_served_while_the_disk_is_full() {
    let is_full = Arc::new(AtomicBool::new(false));
    let (registry, _writer) =
        Registry::start(Settings::default(), Box::new(Disk(is_full.clone())), Box::new(NullPublisher))
            .unwrap();
    let service = backend(&registry).await;
    is_full.store(true, Ordering::SeqCst);
    // The first observation needs a block of sequence numbers to be reserved, which has to be stored.
    let refused = registry.submit(seen(&service, "web-1", "10.42.0.1", Readiness::Ready)).await;
    assert!(matches!(refused, Err(RegistryError::NotStored(_))));
    is_full.store(false, Ordering::SeqCst);
    registry.submit(seen(&service, "web-1", "10.42.0.1", Readiness::Ready)).await.unwrap();
    is_full.store(true, Ordering::SeqCst);
    registry.submit(seen(&service, "web-1", "10.42.0.1", Readiness::NotReady)).await.unwrap();
    assert!(registry.submit(register(service.as_str(), "external", "192.0.2.1")).await.is_err());
    let state = registry.state();
    let found = state.service(service.as_str()).unwrap();
    assert_eq!(found.instances().len(), 1);
    assert_eq!(status_in(found, &found.instances()[0]), HealthStatus::Unhealthy);
}
