//! A world of 1,000,000 instances in 125,000 services in 50 namespaces, as changes of a store.
//!
//! Each instance is what an SDK registers for an ECS task: a 32-digit id, a UUID as request id, an IPv4 address, a port
//! and one custom attribute. Services have A and SRV records and a custom health check.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;

use cloudmap_dns::model::{
    Attributes, DnsConfig, DnsRecord, DnsRecordType, Identity, Instance, Namespace, NamespaceKind, Origin,
    RoutingPolicy, Service, ServiceId, Tags, service::CustomHealthCheck,
};
use cloudmap_dns::registry::{Change, Group, HealthSettings, Store, StoreError, UnknownHealth, Verdict};
use cloudmap_dns::snapshot;
use cloudmap_dns::store::EmbeddedStore;

pub(crate) const NAMESPACES: usize = 50;
pub(crate) const SERVICES_PER_NAMESPACE: usize = 2_500;
pub(crate) const INSTANCES_PER_SERVICE: usize = 8;
pub(crate) const INSTANCES: usize = NAMESPACES * SERVICES_PER_NAMESPACE * INSTANCES_PER_SERVICE;

pub(crate) fn identity() -> Identity {
    Identity { account_id: "000000000000".into(), region: "us-east-1".into() }
}

pub(crate) fn namespace_name(namespace: usize) -> String {
    format!("team-{namespace:02}.local")
}

pub(crate) fn service_id(namespace: usize, service: usize) -> ServiceId {
    let identity = identity();
    identity
        .service_id(&identity.namespace_id("DNS_PRIVATE", &namespace_name(namespace)), &service_name(service))
}

pub(crate) fn service_name(service: usize) -> String {
    format!("service-{service:04}")
}

pub(crate) fn instance_id(number: u64) -> String {
    format!("{:016x}{number:016x}", number.wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

pub(crate) fn address(number: u64) -> Ipv4Addr {
    Ipv4Addr::from_bits(0x0a00_0000 + number as u32)
}

#[derive(Clone, Copy)]
pub(crate) struct Size {
    pub(crate) namespaces: usize,
    pub(crate) services_per_namespace: usize,
}

pub(crate) const WHOLE: Size =
    Size { namespaces: NAMESPACES, services_per_namespace: SERVICES_PER_NAMESPACE };
pub(crate) const SMALL: Size = Size { namespaces: 1, services_per_namespace: 1_000 };

impl Size {
    pub(crate) fn services(self) -> usize {
        self.namespaces * self.services_per_namespace
    }
}

pub(crate) fn write_store(size: Size, directory: &Path) {
    let mut store = EmbeddedStore::open(directory).expect("a store");
    let mut batch: Vec<Group> = Vec::new();
    for group in groups(size) {
        batch.push(group);
        if batch.len() == 10_000 {
            store.commit(&batch).expect("a commit");
            batch.clear();
        }
    }
    store.commit(&batch).expect("a commit");
}

/// A store in memory that loads a world and accepts every commit without keeping it.
pub(crate) struct Stored(pub(crate) Size);

impl Store for Stored {
    fn load(&mut self, sink: &mut dyn FnMut(Change)) -> Result<(), StoreError> {
        groups(self.0).flatten().for_each(sink);
        Ok(())
    }

    fn commit(&mut self, batch: &[Group]) -> Result<Vec<Verdict>, StoreError> {
        Ok(vec![Verdict::Accepted; batch.len()])
    }
}

pub(crate) fn snapshot_settings() -> snapshot::Settings {
    snapshot::Settings {
        health: HealthSettings { unknown: UnknownHealth::Serve, ..HealthSettings::default() },
        negative_ttl_seconds: 5,
        name_server_addresses: vec![Ipv4Addr::LOCALHOST.into()],
    }
}

pub(crate) fn groups(size: Size) -> impl Iterator<Item = Group> {
    let changes_per_namespace = (size.services_per_namespace * (1 + INSTANCES_PER_SERVICE)) as u64;
    let mut sequence = 0;
    (0..size.namespaces).flat_map(move |namespace| {
        let identity = identity();
        let name = namespace_name(namespace);
        let id = identity.namespace_id("DNS_PRIVATE", &name);
        sequence += 1 + changes_per_namespace;
        let mut next = sequence - changes_per_namespace;
        let made = Namespace {
            id: id.clone(),
            name: name.clone(),
            kind: NamespaceKind::DnsPrivate { vpc: "vpc-12345678".into() },
            http_name: name,
            description: None,
            soa_ttl: None,
            creator_request_id: None,
            created_ms: 1_700_000_000_000,
            tags: Tags::new(),
            operation: next,
            request_digest: 0,
            origin: Origin::Own,
        };
        let first = vec![Change::PutNamespace(Arc::new(made))];
        std::iter::once(first).chain((0..size.services_per_namespace).map(move |service| {
            next += 1;
            let group = service_group(&id, namespace, service, next);
            next += INSTANCES_PER_SERVICE as u64;
            group
        }))
    })
}

fn service_group(
    namespace_id: &cloudmap_dns::model::NamespaceId,
    namespace: usize,
    service: usize,
    at: u64,
) -> Group {
    let identity = identity();
    let name = service_name(service);
    let id = identity.service_id(namespace_id, &name);
    let record = |rtype| DnsRecord { rtype, ttl: 60 };
    let made = Service {
        id: id.clone(),
        namespace_id: namespace_id.clone(),
        name,
        description: None,
        api_only: false,
        dns: Some(DnsConfig {
            routing: RoutingPolicy::Multivalue,
            records: vec![record(DnsRecordType::A), record(DnsRecordType::Srv)],
        }),
        health_check: None,
        custom_health_check: Some(CustomHealthCheck { failure_threshold: Some(1) }),
        creator_request_id: Some(uuid(at)),
        created_ms: 1_700_000_000_000,
        tags: Tags::new(),
        attributes: BTreeMap::new(),
        sequence: at,
        request_digest: 0,
        origin: Origin::Own,
    };
    let mut group = vec![Change::PutService(Arc::new(made))];
    for instance in 0..INSTANCES_PER_SERVICE {
        let number = instance_number(namespace, service, instance);
        let map = BTreeMap::from([
            ("AWS_INSTANCE_IPV4".to_string(), address(number).to_string()),
            ("AWS_INSTANCE_PORT".to_string(), "8080".to_string()),
            ("stage".to_string(), "blue".to_string()),
        ]);
        let operation = at + 1 + instance as u64;
        let attributes = Attributes::new(&map).expect("attributes fit");
        let made = Instance::new(&instance_id(number), Some(&uuid(operation)), &attributes, None, operation);
        group.push(Change::PutInstance(id.clone(), made.expect("the id fits")));
    }
    let last = at + INSTANCES_PER_SERVICE as u64;
    group.push(Change::PutRevision(id, last));
    group.push(Change::PutSequence(last));
    group
}

pub(crate) fn instance_number(namespace: usize, service: usize, instance: usize) -> u64 {
    ((namespace * SERVICES_PER_NAMESPACE + service) * INSTANCES_PER_SERVICE + instance) as u64
}

fn uuid(number: u64) -> String {
    format!("{:08x}-aaaa-4aaa-8aaa-{number:012x}", number as u32)
}
