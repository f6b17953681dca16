//! The registry behind its public handle: what is acknowledged is there, also after a restart.

#![expect(clippy::unwrap_used, reason = "a test ends where something is wrong")]

use std::collections::BTreeMap;
use std::path::Path;

use cloudmap_dns::model::{
    CustomHealthStatus, DnsRecord, DnsRecordType, HealthCheck, HealthCheckType, HealthStatus, NamespaceKind,
    OperationStatus, Tags, service::CustomHealthCheck,
};
use cloudmap_dns::registry::{
    Command, Event, Publish, Registry, RegistryError, Reply, Settings, State, Validation, WriterThread,
    command::CreateDnsConfig, command::CreateService,
};
use cloudmap_dns::store::{EmbeddedStore, MemoryStore};

struct Nowhere;

impl Publish for Nowhere {
    fn publish(&mut self, _state: &State, _events: &[Event]) {}
}

fn open(directory: &Path) -> (Registry, WriterThread) {
    let store = EmbeddedStore::open(directory).unwrap();
    Registry::start(Settings::default(), Box::new(store), Box::new(Nowhere)).unwrap()
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
async fn what_was_acknowledged_is_there_after_a_restart() {
    let directory = std::env::temp_dir().join(format!("cloudmap-dns-registry-{}", std::process::id()));
    let (registry, writer) = open(&directory);
    let Reply::Operation(operation) = registry.submit(private("production.local")).await.unwrap() else {
        panic!("a namespace is made by an operation");
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
    let unhealthy = Command::UpdateCustomHealth { service: id.clone(), instance: "web-2".into(), status };
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
    let statuses: Vec<_> =
        service.instances().iter().map(|instance| service.service.status_of(instance)).collect();
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
    Registry::start(settings, Box::new(MemoryStore), Box::new(Nowhere)).unwrap()
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
async fn every_namespace_has_an_http_name_of_its_own() {
    let (registry, _writer) = start(Validation::Lenient);
    let id = registry.identity().namespace_id("DNS_PRIVATE", "a.test");
    // The name that the private namespace would be given is taken too.
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
async fn an_instance_of_a_service_with_a_health_check_needs_a_port_where_aws_wants_one() {
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
async fn service_attributes_move_the_number_that_the_zones_serial_follows() {
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
    // What DNS answers of unhealthy instances is another now.
    let attributes = BTreeMap::from([("fail-open".into(), "true".into())]);
    registry.submit(Command::UpdateServiceAttributes { service: service.clone(), attributes }).await.unwrap();
    let set = registry.state().sequence();
    let keys = vec!["fail-open".into()];
    registry.submit(Command::DeleteServiceAttributes { service: service.clone(), keys }).await.unwrap();
    assert!(before < set && set < registry.state().sequence());
    assert_eq!(registry.state().service(&service).unwrap().revision(), revision);
}
