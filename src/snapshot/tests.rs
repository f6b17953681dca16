use std::collections::BTreeMap;

use super::*;
use crate::model::{
    Attributes, DnsConfig, DnsRecord, DnsRecordType, Instance, Namespace, NamespaceKind, RoutingPolicy,
    Service, ServiceId, samples,
};
use crate::registry::{
    self, Change, Command, Registry, Store, StoreError, UnknownHealth, Verdict, WriterThread,
};
use crate::zone::{
    Found, Name, QueryName, RecordType, Records,
    leaf::{Host, HostRef},
    lookup,
};

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

fn start(stored: Vec<Change>) -> (Arc<Snapshot>, Registry, WriterThread) {
    let health = HealthSettings { unknown: UnknownHealth::Serve, ..HealthSettings::default() };
    let (snapshot, publisher) =
        Snapshot::new(Settings { health, negative_ttl_seconds: 5, name_server_addresses: Vec::new() });
    let (registry, writer) =
        Registry::start(registry::Settings::default(), Box::new(Stored(stored)), Box::new(publisher))
            .unwrap();
    (snapshot, registry, writer)
}

fn namespace() -> Change {
    let kind = NamespaceKind::DnsPrivate { vpc: "vpc-1".into() };
    Change::PutNamespace(Arc::new(Namespace {
        operation: 1,
        ..samples::namespace("ns-1".into(), "shop.local", kind)
    }))
}

fn id(service: &str) -> ServiceId {
    format!("srv-{service}").as_str().into()
}

fn service(name: &str, sequence: u64) -> Change {
    let records = vec![DnsRecord { rtype: DnsRecordType::Srv, ttl: 60 }];
    Change::PutService(Arc::new(Service {
        dns: Some(DnsConfig { routing: RoutingPolicy::Multivalue, records }),
        sequence,
        ..samples::service(id(name), "ns-1".into(), name)
    }))
}

fn instance(service: &str, instance: &str, number: u64) -> Change {
    let address = format!("10.0.0.{number}");
    let map = [("AWS_INSTANCE_IPV4", address.as_str()), ("AWS_INSTANCE_PORT", "80")];
    let map: BTreeMap<_, _> = map.map(|(key, value)| (key.to_string(), value.to_string())).into();
    let attributes = Attributes::new(&map).unwrap();
    Change::PutInstance(id(service), Instance::new(instance, None, &attributes, None, number).unwrap())
}

fn addresses(snapshot: &Snapshot, name: &str) -> Vec<u8> {
    let view = snapshot.view();
    let name: Name = format!("{name}.shop.local").parse().unwrap();
    let name = QueryName::from(&name);
    let zone = view.zone_of(&name).unwrap();
    match lookup(&view, zone, &name, RecordType::A) {
        Found::Answer(Records::Instance { leaf, prefix_len, .. }) => leaf
            .named(&name.as_wire()[..prefix_len])
            .filter_map(Host::ipv4)
            .map(|address| address[3])
            .collect(),
        _ => Vec::new(),
    }
}

fn targets(snapshot: &Snapshot, service: &str) -> Vec<(String, u8)> {
    let view = snapshot.view();
    let name: Name = format!("{service}.shop.local").parse().unwrap();
    let name = QueryName::from(&name);
    let zone = view.zone_of(&name).unwrap();
    let Found::Answer(Records::Leaf(leaf, rtype)) = lookup(&view, zone, &name, RecordType::SRV) else {
        return Vec::new();
    };
    let target = |host: HostRef<'_>| {
        let name = Name::from_wire(&[host.labels(), &[0]].concat()).unwrap();
        (name.to_string(), host.ipv4().unwrap()[3])
    };
    leaf.all(rtype).map(target).collect()
}

#[tokio::test]
async fn name_with_two_stored_claimants_belongs_to_one_and_to_the_other_after_its_deletion() {
    let mut stored =
        vec![namespace(), service("web", 2), instance("web", "x.db", 12), instance("web", "v1", 13)];
    // Add so many services that `web` is compiled before the services below it are loaded.
    for number in 0..3_000 {
        let name = format!("other-{number}");
        stored.extend([service(&name, 100 + number), instance(&name, "i", 9)]);
    }
    stored.extend([service("db.web", 3), instance("db.web", "x", 11), service("v1.web", 20)]);
    stored.push(Change::PutSequence(10_000));
    let (snapshot, registry, writer) = start(stored);
    assert_eq!(addresses(&snapshot, "x.db.web"), [11]);
    let found = targets(&snapshot, "web");
    let is_derived = |(label, _): &(String, u8), readable: &str| {
        label.strip_prefix(readable).is_some_and(|digits| digits.len() == "0123456789.".len())
    };
    assert_eq!(found.len(), 2);
    assert!(is_derived(&found[0], "v1-") && is_derived(&found[1], "x-db-"), "{found:?}");
    // The derived name resolves to the instance that does not have the name of its id.
    assert_eq!(addresses(&snapshot, &format!("{}web", found[1].0)), [12]);
    assert_eq!(targets(&snapshot, "db.web"), [("x.".to_string(), 11)]);

    let command = Command::DeregisterInstance { service: id("db.web").to_string(), instance: "x".into() };
    registry.submit(command).await.unwrap();
    assert_eq!(addresses(&snapshot, "x.db.web"), [12]);
    assert!(targets(&snapshot, "web").contains(&("x.db.".to_string(), 12)));
    registry.submit(Command::DeleteService { service: id("v1.web").to_string() }).await.unwrap();
    assert_eq!(targets(&snapshot, "web"), [("x.db.".to_string(), 12), ("v1.".to_string(), 13)]);
    assert_eq!(addresses(&snapshot, "v1.web"), [13]);
    tokio::task::spawn_blocking(|| writer.stop()).await.unwrap();
}
