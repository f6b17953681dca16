//! Shadowed namespaces and services of another registry. They are served under their own ids, never stored, read-only for the
//! API, and give precedence to this registry's own objects.

use std::net::Ipv4Addr;
use std::sync::Mutex;

use cloudmap_dns::model::{Namespace, NamespaceId, Operation, Origin};
use cloudmap_dns::registry::{
    ChangeNotifier, Discover, HealthFilter, HealthSettings, Shadowed, ShadowedKind,
};
use cloudmap_dns::registry::{Quotas, UnknownHealth};
use cloudmap_dns::snapshot::{self, Snapshot};
use cloudmap_dns::zone::{Found, Name, QueryName, RecordType, Records, leaf::Host, lookup};

use super::*;

fn shadowed(namespace: &str, zone: &str, service: &str, name: &str) -> Shadowed {
    Shadowed {
        namespace: namespace.into(),
        namespace_name: zone.into(),
        namespace_kind: ShadowedKind::DnsPrivate,
        service: service.into(),
        service_name: name.into(),
        created_ms: 1_764_583_200_000,
    }
}

fn backend_of_kecs() -> Shadowed {
    shadowed("ns-kecs", "demo.local", "srv-kecs", "backend-api")
}

fn served(store: Box<dyn Store>, settings: Settings) -> (Registry, WriterThread, Arc<Snapshot>) {
    let (snapshot, publisher) = Snapshot::new(snapshot::Settings {
        health: HealthSettings { unknown: UnknownHealth::Serve, ..HealthSettings::default() },
        negative_ttl_seconds: 5,
        name_server_addresses: vec![Ipv4Addr::LOCALHOST.into()],
    });
    let (registry, writer) = Registry::start(settings, store, Box::new(publisher)).unwrap();
    (registry, writer, snapshot)
}

/// The sorted addresses of a name, or `None` if the name does not exist.
fn addresses(snapshot: &Snapshot, name: &str) -> Option<Vec<Ipv4Addr>> {
    let name: Name = name.parse().unwrap();
    let query = QueryName::from(&name);
    let directory = snapshot.view();
    match lookup(&directory, directory.zone_of(&query)?, &query, RecordType::A) {
        Found::Answer(Records::Leaf(leaf, rtype)) => {
            let mut found: Vec<Ipv4Addr> =
                leaf.all(rtype).filter_map(|host| host.ipv4()).map(Ipv4Addr::from).collect();
            found.sort();
            Some(found)
        }
        Found::NoData(_) => Some(Vec::new()),
        _ => None,
    }
}

/// Submits the other registry's definitions until the command is complete. Returns the refused ones with their errors, by the
/// services' ids.
async fn shadow(registry: &Registry, wanted: &[Shadowed]) -> Vec<(String, String)> {
    for _ in 0..2 {
        let Reply::Shadowed { refused, is_complete } =
            registry.submit(Command::Shadow(wanted.into())).await.unwrap()
        else {
            panic!("the reply is not Shadowed");
        };
        if is_complete {
            let error = |refusal: &cloudmap_dns::registry::Refusal| {
                (wanted[refusal.at].service.to_string(), refusal.error.to_string())
            };
            return refused.iter().map(error).collect();
        }
    }
    panic!("the first command removes objects and the second adds the rest");
}

fn ids(registry: &Registry) -> Vec<String> {
    let state = registry.state();
    let mut ids: Vec<_> = state.shadowed_services().map(|state| state.service.id.to_string()).collect();
    ids.sort();
    ids
}

#[tokio::test]
async fn shadowed_service_is_served_under_its_own_id_with_its_pods() {
    let (registry, _writer, snapshot) = served(Box::new(MemoryStore), Settings::default());
    assert_eq!(shadow(&registry, &[backend_of_kecs()]).await, []);
    let service = ServiceId::from("srv-kecs");
    assert_eq!(addresses(&snapshot, "backend-api.demo.local."), Some(vec![]));
    registry.submit(seen(&service, "web-1", "10.42.0.1", Readiness::Ready)).await.unwrap();
    assert_eq!(addresses(&snapshot, "backend-api.demo.local."), Some(vec![Ipv4Addr::new(10, 42, 0, 1)]));

    let state = registry.state();
    let found = state.service("srv-kecs").unwrap();
    assert_eq!(found.service.namespace_id, NamespaceId::from("ns-kecs"));
    assert_eq!(found.service.ttl_of(DnsRecordType::A), Some(60));
    assert_eq!(found.service.created_ms, 1_764_583_200_000);
    assert_eq!(state.namespace_by_zone("demo.local").unwrap().namespace.kind.as_str(), "DNS_PRIVATE");
    let ask = Discover {
        namespace_name: "demo.local",
        service_name: "backend-api",
        health: HealthFilter::Healthy,
        results_max: 10,
        ..Discover::default()
    };
    let discovered = state.discover(&ask, &mut fastrand::Rng::new()).unwrap();
    assert_eq!(discovered.instances.iter().map(|(found, _)| found.id()).collect::<Vec<_>>(), ["web-1"]);
    // Lists have shadowed namespaces after the registry's own.
    registry.submit(private("own.local")).await.unwrap();
    let state = registry.state();
    let names: Vec<_> = state.namespaces_after(None).map(|(_, found)| found.namespace.name.clone()).collect();
    assert_eq!(names, ["own.local", "demo.local"]);

    // An equal command changes nothing, and the pod remains.
    let before = registry.state().sequence();
    shadow(&registry, &[backend_of_kecs()]).await;
    assert_eq!(registry.state().sequence(), before);
    assert_eq!(registry.state().instance_count(), 1);

    shadow(&registry, &[]).await;
    assert_eq!(addresses(&snapshot, "backend-api.demo.local."), None);
    assert_eq!((registry.state().namespace_count(), registry.state().instance_count()), (1, 0));
    let gone = registry.submit(seen(&service, "web-1", "10.42.0.1", Readiness::Ready)).await.unwrap();
    assert!(matches!(gone, Reply::Observed(refused) if refused[0].error == RegistryError::ServiceNotFound));
}

#[tokio::test]
async fn shadowed_service_is_not_stored_and_its_revision_grows_over_restarts() {
    let directory = std::env::temp_dir().join(format!("cloudmap-dns-registry-shadow-{}", std::process::id()));
    let mut revision = 0;
    for round in 0..3 {
        let (registry, writer) = open(&directory);
        assert_eq!((registry.state().namespace_count(), registry.state().service_count()), (0, 0));
        shadow(&registry, &[backend_of_kecs()]).await;
        let service = ServiceId::from("srv-kecs");
        registry.submit(seen(&service, "web-1", "10.42.0.1", Readiness::Ready)).await.unwrap();
        let now = registry.state().service("srv-kecs").unwrap().revision();
        assert!(now > revision && now < 1 << 53, "round {round}: {now}");
        revision = now;
        tokio::task::spawn_blocking(|| writer.stop()).await.unwrap();
    }
    std::fs::remove_dir_all(&directory).unwrap();
}

#[tokio::test]
async fn recreated_service_differs_from_its_predecessor_of_the_same_id() {
    // The watch of pods has to report all pods to the new service.
    let (registry, _writer) = start(Validation::Lenient);
    let mut before = 0;
    for _ in 0..2 {
        shadow(&registry, &[backend_of_kecs()]).await;
        let made_at = registry.state().service("srv-kecs").unwrap().service.made_at();
        assert!(made_at > before);
        before = made_at;
        shadow(&registry, &[]).await;
    }
}

#[tokio::test]
async fn definitions_that_conflict_are_refused_one_by_one() {
    let quotas = Quotas { namespaces: 5, services: 6, ..Settings::default().quotas };
    let (registry, _writer, snapshot) =
        served(Box::new(MemoryStore), Settings { quotas, ..Settings::default() });
    let own = backend(&registry).await.to_string();
    let own_namespace =
        registry.state().namespace_by_zone("production.local").unwrap().namespace.id.to_string();
    let long = "x".repeat(64);
    let wanted = [
        (backend_of_kecs(), ""),
        // The registry's own objects take precedence over shadowed ones.
        (
            shadowed("ns-1", "Production.local", "srv-1", "web"),
            "There is a namespace Production.local here already",
        ),
        (shadowed(&own_namespace, "a.local", "srv-2", "web"), "Another namespace has the id"),
        (shadowed("ns-3", "a.local", &own, "web"), "Another service has the id"),
        // Of two conflicting definitions the earlier one in the list takes precedence.
        (shadowed("ns-kecs", "b.local", "srv-4", "web"), "Another namespace has the id ns-kecs"),
        (shadowed("ns-kecs", "demo.local", "srv-kecs", "other"), "Another service has the id srv-kecs"),
        (
            shadowed("ns-kecs", "demo.local", "srv-5", "Backend-API"),
            "demo.local has another service Backend-API",
        ),
        (shadowed("ns-6", "a..local", "srv-6", "web"), "can't be a DNS zone"),
        (shadowed("ns-7", "", "srv-7", "web"), "can't be a DNS zone"),
        (shadowed("ns-8", "a.local", "srv-8", &long), "can't be in DNS"),
        (shadowed("ns-9", "a.local", "srv-9", "ns.dns"), "can't be in DNS"),
        (shadowed("ns-9", "a.local", "srv-10", "a\u{7}b"), "such characters: a\\u{7}b"),
        (shadowed("ns-9", "a.local", "srv 11", "web"), "this is none: srv 11"),
        (shadowed("", "a.local", "srv-12", "web"), "An id has 1 to 64"),
        (shadowed("ns-9", "a.local", &format!("{long}x"), "web"), "An id has 1 to 64"),
        // A zone under two namespace ids is one namespace, in which the services of both are.
        (shadowed("ns-13", "demo.local", "srv-13", "frontend-web"), ""),
        (shadowed("ns-14", "c.local", "srv-14", "web"), ""),
        // Together with the registry's own service, the second of these is the sixth one and the third exceeds the quota.
        (shadowed("ns-14", "c.local", "srv-15", "web-2"), ""),
        (shadowed("ns-14", "c.local", "srv-16", "web-3"), ""),
        (shadowed("ns-14", "c.local", "srv-17", "web-4"), "The quota for services is reached: 6"),
    ];
    let all: Vec<_> = wanted.iter().map(|(one, _)| one.clone()).collect();
    let refused = shadow(&registry, &all).await;
    let expected: Vec<_> = wanted.iter().filter(|(_, why)| !why.is_empty()).collect();
    assert_eq!(refused.len(), expected.len(), "{refused:#?}");
    for ((id, error), (one, why)) in refused.iter().zip(expected) {
        assert!(*id == one.service.to_string() && error.contains(why), "{id}: {error}, not {why}");
    }
    assert_eq!(ids(&registry), ["srv-13", "srv-14", "srv-15", "srv-16", "srv-kecs"]);
    let state = registry.state();
    assert_eq!(state.service("srv-13").unwrap().service.namespace_id, NamespaceId::from("ns-kecs"));
    assert_eq!(state.namespace_count(), 3);
    assert_eq!(addresses(&snapshot, "frontend-web.demo.local."), Some(vec![]));
    assert_eq!(state.service(&own).unwrap().service.origin, Origin::Own);
    assert_eq!(addresses(&snapshot, "backend.production.local."), Some(vec![]));

    // When the earlier definition is gone, the later one takes its place.
    let rest = all[1..].to_vec();
    shadow(&registry, &rest).await;
    assert_eq!(registry.state().service("srv-4").unwrap().service.namespace_id, NamespaceId::from("ns-kecs"));
    assert_eq!(addresses(&snapshot, "web.b.local."), Some(vec![]));
}

#[tokio::test]
async fn shadowed_id_may_change_its_name_zone_and_namespace() {
    let (registry, _writer, snapshot) = served(Box::new(MemoryStore), Settings::default());
    let web = |namespace, zone, name| shadowed(namespace, zone, "srv-1", name);
    for (wanted, is_there, is_gone) in [
        (web("ns-1", "a.local", "web"), "web.a.local.", "api.a.local."),
        (web("ns-1", "a.local", "api"), "api.a.local.", "web.a.local."),
        (web("ns-1", "b.local", "api"), "api.b.local.", "api.a.local."),
        (web("ns-2", "b.local", "api"), "api.b.local.", "api.a.local."),
        (web("ns-2", "a.local", "web"), "web.a.local.", "api.b.local."),
    ] {
        assert_eq!(shadow(&registry, std::slice::from_ref(&wanted)).await, []);
        let pod = seen(&wanted.service, "web-1", "10.42.0.1", Readiness::Ready);
        registry.submit(pod).await.unwrap();
        assert_eq!(addresses(&snapshot, is_there), Some(vec![Ipv4Addr::new(10, 42, 0, 1)]), "{wanted:?}");
        assert_eq!(addresses(&snapshot, is_gone), None, "{wanted:?}");
        assert_eq!((registry.state().namespace_count(), registry.state().service_count()), (1, 1));
    }
}

#[tokio::test]
async fn shadowed_namespace_is_in_dns_unless_its_kind_is_http() {
    let (registry, _writer, snapshot) = served(Box::new(MemoryStore), Settings::default());
    for (kind, word, in_dns) in [
        (ShadowedKind::Http, "HTTP", None),
        (ShadowedKind::DnsPrivate, "DNS_PRIVATE", Some(vec![Ipv4Addr::new(10, 42, 0, 1)])),
        (ShadowedKind::DnsPublic, "DNS_PUBLIC", Some(vec![Ipv4Addr::new(10, 42, 0, 1)])),
        (ShadowedKind::Http, "HTTP", None),
    ] {
        let wanted = Shadowed { namespace_kind: kind, ..backend_of_kecs() };
        assert_eq!(shadow(&registry, std::slice::from_ref(&wanted)).await, []);
        registry.submit(seen(&wanted.service, "web-1", "10.42.0.1", Readiness::Ready)).await.unwrap();
        assert_eq!(addresses(&snapshot, "backend-api.demo.local."), in_dns, "{word}");
        let state = registry.state();
        assert_eq!(state.namespace("ns-kecs").unwrap().namespace.kind.as_str(), word);
        assert_eq!(state.service("srv-kecs").unwrap().service.api_only, in_dns.is_none());
        assert_eq!(state.instance_count(), 1);
    }
    // An own zone does not conflict with a shadowed HTTP namespace of the same name.
    registry.submit(private("demo.local")).await.unwrap();
    let http = Shadowed { namespace_kind: ShadowedKind::Http, ..backend_of_kecs() };
    assert_eq!(shadow(&registry, &[http]).await, []);
    assert_eq!(registry.state().namespace_count(), 2);
    assert_eq!(shadow(&registry, &[backend_of_kecs()]).await.len(), 1);
}

#[tokio::test]
async fn api_refuses_to_change_shadowed_objects() {
    let (registry, _writer) = start(Validation::Lenient);
    shadow(&registry, &[backend_of_kecs()]).await;
    let service = ServiceId::from("srv-kecs");
    registry.submit(seen(&service, "web-1", "10.42.0.1", Readiness::Ready)).await.unwrap();
    let before = format!("{:?}", registry.state().service("srv-kecs").unwrap());
    let identity = registry.identity().clone();
    let (namespace_arn, service_arn) =
        (identity.namespace_arn(&"ns-kecs".into()), identity.service_arn(&service));
    let in_dns_config = CreateDnsConfig {
        namespace: Some("ns-kecs".into()),
        records: vec![DnsRecord { rtype: DnsRecordType::A, ttl: 60 }],
        ..CreateDnsConfig::default()
    };
    let create = |service: CreateService| Command::CreateService(Box::new(service));
    let pairs = || BTreeMap::from([("fail-open".to_string(), "true".to_string())]);
    for command in [
        Command::UpdateNamespace {
            namespace: "ns-kecs".into(),
            kind: "DNS_PRIVATE",
            updater_request_id: None,
            description: Some("mine".into()),
            soa_ttl: None,
        },
        Command::DeleteNamespace { namespace: namespace_arn.clone() },
        create(CreateService {
            name: "web".into(),
            namespace: Some(namespace_arn.clone()),
            ..CreateService::default()
        }),
        create(CreateService { name: "web".into(), dns: Some(in_dns_config), ..CreateService::default() }),
        Command::UpdateService {
            service: "srv-kecs".into(),
            description: None,
            dns_records: None,
            health_check: None,
        },
        Command::DeleteService { service: service_arn.clone() },
        register("srv-kecs", "external", "192.0.2.1"),
        Command::DeregisterInstance { service: "srv-kecs".into(), instance: "web-1".into() },
        Command::UpdateCustomHealth {
            service: service_arn.clone(),
            instance: "web-1".into(),
            status: CustomHealthStatus::Unhealthy,
            reporter: String::new(),
        },
        Command::TagResource { resource: namespace_arn.clone(), tags: pairs() },
        Command::UntagResource { resource: service_arn, keys: vec!["a".into()] },
        Command::UpdateServiceAttributes { service: "srv-kecs".into(), attributes: pairs() },
        Command::DeleteServiceAttributes { service: "srv-kecs".into(), keys: vec!["fail-open".into()] },
    ] {
        let Err(RegistryError::InvalidInput(why)) = registry.submit(command.clone()).await else {
            panic!("{command:?} is not refused");
        };
        assert!(why.contains("read-only here") && why.contains("KECS") && why.contains("--shadow"), "{why}");
    }
    assert_eq!(format!("{:?}", registry.state().service("srv-kecs").unwrap()), before);

    // The name of a shadowed namespace is taken, like that of any other.
    registry.submit(private("demo.local")).await.unwrap();
    let failed: Operation = Operation::clone(registry.state().operations_after(None).last().unwrap().1);
    assert_eq!(failed.status.as_str(), "FAIL");
    registry.submit(http("demo.local")).await.unwrap();
    let state = registry.state();
    assert_eq!(state.namespace_by_http_name("demo.local").unwrap().namespace.id.as_str(), "ns-kecs");
    assert_eq!(state.namespace_count(), 2);
}

#[tokio::test]
async fn shadowed_id_is_not_given_to_a_new_object() {
    let (registry, _writer) = start(Validation::Lenient);
    let namespace = registry.identity().namespace_id("DNS_PRIVATE", "own.local");
    let other = registry.identity().namespace_id("DNS_PRIVATE", "other.local");
    let service = registry.identity().service_id(&other, "web");
    shadow(&registry, &[shadowed(namespace.as_str(), "demo.local", service.as_str(), "web")]).await;
    let taken = registry.submit(private("own.local")).await;
    assert!(matches!(taken, Err(RegistryError::NamespaceAlreadyExists { .. })), "{taken:?}");
    registry.submit(private("other.local")).await.unwrap();
    let create =
        CreateService { name: "web".into(), namespace: Some(other.to_string()), ..CreateService::default() };
    let taken = registry.submit(Command::CreateService(Box::new(create))).await;
    assert!(matches!(taken, Err(RegistryError::InvalidInput(_))), "{taken:?}");
}

#[derive(Clone, Default)]
struct SharedStore(Arc<Mutex<(Vec<Change>, Option<ChangeNotifier>)>>);

impl SharedStore {
    fn write(&self, change: Change) {
        let mut inner = self.0.lock().unwrap();
        inner.0.push(change);
        inner.1.as_ref().unwrap().notify();
    }
}

impl Store for SharedStore {
    fn attach(&mut self, notifier: ChangeNotifier) {
        self.0.lock().unwrap().1 = Some(notifier);
    }

    fn load(&mut self, _sink: &mut dyn FnMut(Change)) -> Result<(), StoreError> {
        Ok(())
    }

    fn changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.0.lock().unwrap().0)
    }

    fn commit(&mut self, batch: &[Group]) -> Result<Vec<Verdict>, StoreError> {
        for change in batch.iter().flatten() {
            assert!(matches!(change, Change::PutSequence(_)), "a shadowed object is stored: {change:?}");
        }
        Ok(vec![Verdict::Accepted; batch.len()])
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn namespace_stored_by_another_replica_replaces_a_shadowed_one() {
    let store = SharedStore::default();
    let (registry, _writer, snapshot) = served(Box::new(store.clone()), Settings::default());
    let wanted = [backend_of_kecs(), shadowed("ns-2", "other.local", "srv-2", "web")];
    for stored in [
        // It has another id and the shadowed namespace's zone, which it replaces.
        ("ns-own", "demo.local.", NamespaceKind::DnsPublic, "demo.local"),
        // It has the shadowed namespace's id, which it replaces.
        ("ns-kecs", "elsewhere.local", NamespaceKind::DnsPublic, "elsewhere.local"),
        // It has only the HttpName of the shadowed namespace, so that both remain.
        ("ns-own", "demo.local", NamespaceKind::Http, "demo.local"),
    ] {
        shadow(&registry, &wanted).await;
        let (id, name, kind, http_name) = stored;
        let is_http = kind == NamespaceKind::Http;
        store.write(Change::PutNamespace(Arc::new(Namespace {
            id: id.into(),
            name: name.into(),
            kind,
            http_name: http_name.into(),
            description: None,
            soa_ttl: None,
            creator_request_id: None,
            created_ms: 0,
            tags: Tags::new(),
            operation: 1_000,
            request_digest: 0,
            origin: Origin::Own,
        })));
        wait_until(|| registry.state().namespace(id).is_ok_and(|found| found.namespace.name == name)).await;
        assert_eq!(addresses(&snapshot, "backend-api.demo.local."), is_http.then(Vec::new));
        assert_eq!(addresses(&snapshot, "web.other.local."), Some(vec![]));
        assert_eq!(registry.state().namespace_by_http_name(http_name).unwrap().namespace.id.as_str(), id);
        let refused = shadow(&registry, &wanted).await;
        assert_eq!(refused.len(), usize::from(!is_http), "{refused:?}");
        // When the stored namespace is deleted, the shadowed one is back.
        store.write(Change::DeleteNamespace(id.into()));
        wait_until(|| registry.state().shadowed_namespaces().count() == registry.state().namespace_count())
            .await;
        assert_eq!(shadow(&registry, &wanted).await, []);
        assert_eq!(addresses(&snapshot, "backend-api.demo.local."), Some(vec![]));
        assert_eq!(ids(&registry), ["srv-2", "srv-kecs"]);
    }
}

async fn wait_until(is_true: impl Fn() -> bool) {
    let end = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while !is_true() {
        assert!(std::time::Instant::now() < end, "the condition was not met within 20 s");
        tokio::task::yield_now().await;
    }
}
