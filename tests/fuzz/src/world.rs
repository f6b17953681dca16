//! The server that fuzzed queries are sent to: the zones of the client tests, and Cloud Map services of every kind.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::sync::Arc;

use cloudmap_dns::dns::{Common, CookieSecrets, Transfers};
use cloudmap_dns::model::service::CustomHealthCheck;
use cloudmap_dns::model::{CustomHealthStatus, DnsRecord, DnsRecordType, NamespaceKind, RoutingPolicy, Tags};
use cloudmap_dns::registry::command::{CreateDnsConfig, CreateService};
use cloudmap_dns::registry::{Command, Registry, Reply, Settings, WriterThread};
use cloudmap_dns::snapshot::{self, Snapshot, ZoneFiles};
use cloudmap_dns::store::MemoryStore;
use tokio::runtime::{Builder, Runtime};

/// The secret of RFC 9018 appendix A.1, for which a seed has a valid cookie.
const SECRET: [u8; 16] =
    [0xe5, 0xe9, 0x73, 0xe5, 0xa6, 0xb2, 0xa4, 0x3f, 0x48, 0xe7, 0xdc, 0x84, 0x9e, 0x37, 0xbf, 0xcf];
const INSTANCES: usize = 12;

/// A server without its sockets. It allows no transfers, so that every query for one is refused.
pub struct World {
    pub snapshot: Arc<Snapshot>,
    pub transfers: Transfers,
    pub common: Arc<Common>,
    pub runtime: Runtime,
    _kept: (Registry, WriterThread, ZoneFiles),
}

impl World {
    /// Serves `zones/` of the client tests, and the namespace `production.local`.
    pub fn new() -> World {
        let zones = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().find_map(|above| {
            let zones = above.join("tests/client/zones");
            zones.is_dir().then_some(zones)
        });
        let zones = zones.expect("the zones of the client tests are in the repository");
        let runtime = Builder::new_current_thread().build().expect("a runtime without threads");
        let settings = Settings::default();
        let (snapshot, publisher) = Snapshot::new(snapshot::Settings {
            health: settings.health,
            negative_ttl_seconds: 5,
            name_server_addresses: vec![Ipv4Addr::new(192, 0, 2, 53).into(), Ipv6Addr::LOCALHOST.into()],
        });
        let (registry, writer) =
            Registry::start(settings, Box::new(MemoryStore), Box::new(publisher.clone()))
                .expect("a registry");
        runtime.block_on(fill(&registry));
        let files = ZoneFiles::follow(&zones, publisher).expect("zone files");
        assert!(files.status().values().all(|status| status.errors.is_empty()), "the zone files are good");
        let secrets = CookieSecrets::new(&[SECRET]).expect("a secret that is set needs no random numbers");
        let common = Common::new("fuzz", secrets);
        let transfers = Transfers::new(snapshot.clone(), Vec::new());
        World { snapshot, transfers, common, runtime, _kept: (registry, writer, files) }
    }
}

async fn fill(registry: &Registry) {
    let namespace = Command::CreateNamespace {
        name: "production.local".into(),
        kind: NamespaceKind::DnsPrivate { vpc: "vpc-1".into() },
        creator_request_id: None,
        description: None,
        soa_ttl: None,
        tags: Tags::new(),
    };
    submit(registry, namespace).await;
    use DnsRecordType::{A, Aaaa, Cname, Srv};
    let weighted = Some(RoutingPolicy::Weighted);
    let services: [(&str, &[DnsRecordType], Option<RoutingPolicy>, usize); 6] = [
        ("web", &[A, Aaaa], None, 3),
        ("many", &[A], None, INSTANCES),
        ("port", &[Srv], None, INSTANCES),
        ("one", &[A, Srv], weighted, 4),
        ("name", &[Cname], weighted, 2),
        ("none", &[A], None, 0),
    ];
    for (name, types, routing, instances) in services {
        let service = service(registry, name, types, routing).await;
        for number in 0..instances {
            let id = if number % 3 == 2 { format!("dotted.id.{number}") } else { format!("i-{number}") };
            let attributes = match types {
                [Cname] => vec![("AWS_INSTANCE_CNAME", format!("target-{number}.example.com"))],
                _ => vec![
                    ("AWS_INSTANCE_IPV4", format!("10.0.0.{number}")),
                    ("AWS_INSTANCE_IPV6", format!("fd00::{number}")),
                    ("AWS_INSTANCE_PORT", format!("{}", 8000 + number)),
                ],
            };
            let attributes: BTreeMap<_, _> =
                attributes.into_iter().map(|(key, value)| (key.to_string(), value)).collect();
            let instance = Command::RegisterInstance {
                service: service.clone(),
                instance: id.clone(),
                creator_request_id: None,
                attributes,
            };
            submit(registry, instance).await;
            if number == 1 {
                let status = CustomHealthStatus::Unhealthy;
                let health = Command::UpdateCustomHealth {
                    service: service.clone(),
                    instance: id,
                    status,
                    reporter: String::new(),
                };
                submit(registry, health).await;
            }
        }
    }
}

async fn service(
    registry: &Registry,
    name: &str,
    types: &[DnsRecordType],
    routing: Option<RoutingPolicy>,
) -> String {
    let namespace =
        registry.state().namespace_by_zone("production.local").map(|found| found.namespace.id.clone());
    let create = CreateService {
        name: name.into(),
        namespace: namespace.map(|id| id.to_string()),
        dns: Some(CreateDnsConfig {
            records: types.iter().map(|rtype| DnsRecord { rtype: *rtype, ttl: 60 }).collect(),
            routing,
            ..CreateDnsConfig::default()
        }),
        custom_health_check: Some(CustomHealthCheck { failure_threshold: None }),
        ..CreateService::default()
    };
    match submit(registry, Command::CreateService(Box::new(create))).await {
        Reply::Service(service) => service.service.id.to_string(),
        _ => panic!("a service is returned"),
    }
}

async fn submit(registry: &Registry, command: Command) -> Reply {
    registry.submit(command).await.expect("the command is carried out")
}
