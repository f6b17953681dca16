use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::super::kind::{Kind, ResourceKind};
use super::super::request::Winner;
use super::super::resources::{CloudMapInstance, CloudMapNamespace, CloudMapOperation, CloudMapService};
use super::super::translate;
use super::contents::Index;
use super::events::Removal;
use crate::model::{Instance, Operation, OperationStatus, OperationTargets, OperationType, ServiceId, Uid};
use crate::registry::{Change, Settings, State};

/// An object as a watch delivers it, with this resourceVersion and this second of creation.
fn object<K: DeserializeOwned>(kind: &str, name: &str, version: u64, second: u32, rest: Value) -> K {
    let mut object = json!({
        "apiVersion": "cloudmap-dns.io/v1alpha1",
        "kind": kind,
        "metadata": {
            "name": name,
            "uid": format!("uid-{kind}-{name}"),
            "resourceVersion": version.to_string(),
            "generation": 1,
            "creationTimestamp": format!("2026-01-01T00:00:{second:02}Z"),
        },
    });
    for (key, value) in rest.as_object().unwrap() {
        match key.as_str() {
            "generation" => object["metadata"]["generation"] = value.clone(),
            _ => object[key] = value.clone(),
        }
    }
    serde_json::from_value(object).unwrap()
}

fn namespace(version: u64) -> CloudMapNamespace {
    object(
        "CloudMapNamespace",
        "zone",
        version,
        0,
        json!({"spec": {"name": "shop.local", "type": "DNS_PRIVATE"}}),
    )
}

fn service(version: u64) -> CloudMapService {
    let spec = json!({
        "name": "web",
        "namespaceName": "shop.local",
        "dnsConfig": {"dnsRecords": [{"type": "A", "ttl": 60}]},
        "healthCheckCustomConfig": {},
    });
    object("CloudMapService", "web", version, 0, json!({"spec": spec}))
}

fn instance(name: &str, version: u64, second: u32, ipv4: &str) -> CloudMapInstance {
    let spec = json!({
        "instanceId": "i-1",
        "serviceName": "web",
        "namespaceName": "shop.local",
        "attributes": {"AWS_INSTANCE_IPV4": ipv4},
    });
    object("CloudMapInstance", name, version, second, json!({"spec": spec}))
}

fn index() -> Index {
    let mut index = Index::new(Settings::default());
    index.read();
    index
}

fn service_id() -> ServiceId {
    let identity = Settings::default().identity;
    identity.service_id(&identity.namespace_id("DNS_PRIVATE", "shop.local"), "web")
}

/// The registry's view of the changes: the addresses of the one service, and its revision.
#[derive(Clone, Default)]
struct Seen(State);

impl Seen {
    fn follow(&mut self, index: &mut Index) -> (Vec<String>, u64) {
        index.drain().iter().for_each(|change| self.0.apply(change));
        match self.0.service(service_id().as_str()) {
            Ok(state) => {
                let address = |instance: &Instance| instance.ipv4().unwrap().to_string();
                (state.instances().iter().map(address).collect(), state.revision())
            }
            Err(_) => (Vec::new(), 0),
        }
    }
}

fn rejection_of(index: &Index, name: &str) -> Option<&'static str> {
    index.instances.get(name).unwrap().rejection.as_ref().map(|rejection| rejection.reason)
}

#[test]
fn the_order_in_which_objects_arrive_does_not_matter() {
    let orders = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
    for order in orders {
        for reads_late in [false, true] {
            let mut index = Index::new(Settings::default());
            if !reads_late {
                index.read();
            }
            for step in order {
                match step {
                    0 => index.put_namespace(namespace(10)),
                    1 => index.put_service(service(11)),
                    _ => index.put_instance(instance("one", 12, 0, "10.0.0.1")),
                }
            }
            index.read();
            let seen = Seen::default().follow(&mut index);
            assert_eq!(seen, (vec!["10.0.0.1".to_string()], 12), "{order:?} {reads_late}");
        }
    }
}

#[test]
fn the_oldest_of_several_objects_for_one_instance_is_accepted() {
    let (mut index, mut seen) = (index(), Seen::default());
    index.put_namespace(namespace(10));
    index.put_service(service(11));
    index.put_instance(instance("young", 20, 9, "10.0.0.9"));
    assert_eq!(seen.follow(&mut index).0, ["10.0.0.9"]);
    // This object was created before the other one, and arrives after it.
    index.put_instance(instance("old", 15, 5, "10.0.0.5"));
    assert_eq!(seen.follow(&mut index).0, ["10.0.0.5"]);
    assert_eq!((rejection_of(&index, "old"), rejection_of(&index, "young")), (None, Some("AnotherStands")));
    index.remove_instance("old", Uid::of("uid-CloudMapInstance-old"), Removal::At(30));
    let (addresses, revision) = seen.follow(&mut index);
    assert_eq!((addresses, revision >= 20), (vec!["10.0.0.9".to_string()], true));
    assert_eq!(rejection_of(&index, "young"), None);
}

#[test]
fn instance_edited_into_an_invalid_one_is_removed_until_it_is_valid_again() {
    let (mut index, mut seen) = (index(), Seen::default());
    index.put_namespace(namespace(10));
    index.put_service(service(11));
    index.put_instance(instance("one", 12, 0, "10.0.0.1"));
    index.put_instance(instance("one", 13, 0, "10.0.0"));
    let (addresses, revision) = seen.follow(&mut index);
    assert_eq!((addresses.len(), rejection_of(&index, "one")), (0, Some("InvalidInput")));
    assert_eq!(revision, 13);
    index.put_instance(instance("one", 14, 0, "10.0.0.2"));
    assert_eq!(seen.follow(&mut index), (vec!["10.0.0.2".to_string()], 14));
}

#[test]
fn health_does_not_change_the_revision_and_a_new_registration_does() {
    let (mut index, mut seen) = (index(), Seen::default());
    index.put_namespace(namespace(10));
    index.put_service(service(11));
    index.put_instance(instance("one", 12, 0, "10.0.0.1"));
    let spec = serde_json::to_value(&instance("one", 12, 0, "10.0.0.1").spec).unwrap();
    let status = json!({"customHealthStatus": "UNHEALTHY", "observedGeneration": 1, "number": 12});
    let reported = json!({"spec": spec, "status": status});
    index.put_instance(object("CloudMapInstance", "one", 40, 0, reported));
    assert_eq!(seen.follow(&mut index).1, 12);
    let health =
        |seen: &Seen| seen.0.service(service_id().as_str()).unwrap().instance("i-1").unwrap().custom_health();
    assert_eq!(health(&seen), Some(crate::model::CustomHealthStatus::Unhealthy));
    let mut spec = spec;
    spec["attributes"]["AWS_INSTANCE_IPV4"] = "10.0.0.2".into();
    let edited = json!({"spec": spec, "status": status, "generation": 2});
    index.put_instance(object("CloudMapInstance", "one", 41, 0, edited));
    assert_eq!(seen.follow(&mut index), (vec!["10.0.0.2".to_string()], 41));
    assert_eq!(health(&seen), Some(crate::model::CustomHealthStatus::Unhealthy));
}

#[test]
fn outdated_events_do_not_restore_an_object_that_this_replica_deleted() {
    let (mut index, mut seen) = (index(), Seen::default());
    index.put_namespace(namespace(10));
    index.put_service(service(11));
    index.put_instance(instance("one", 12, 0, "10.0.0.1"));
    index.put_instance(instance("one", 14, 0, "10.0.0.2"));
    index.put_instance(instance("one", 13, 0, "10.0.0.1"));
    assert_eq!(seen.follow(&mut index).0, ["10.0.0.2"]);
    index.remove_instance("one", Uid::of("uid-CloudMapInstance-one"), Removal::Own);
    index.put_instance(instance("one", 15, 0, "10.0.0.2"));
    assert!(seen.follow(&mut index).0.is_empty());
    index.remove_instance("one", Uid::of("uid-CloudMapInstance-one"), Removal::At(16));
    assert!(seen.follow(&mut index).0.is_empty());
}

#[test]
fn the_response_to_a_write_does_not_restore_an_object_that_another_replica_deleted_since() {
    let (mut index, mut seen) = (index(), Seen::default());
    index.put_namespace(namespace(10));
    index.put_service(service(11));
    index.put_instance(instance("one", 12, 0, "10.0.0.1"));
    index.remove_instance("one", Uid::of("uid-CloudMapInstance-one"), Removal::At(14));
    index.instances.watched_version = 14;
    // This replica wrote the object before the deletion, and gets the response after it.
    index.put_instance(instance("one", 13, 0, "10.0.0.2"));
    assert!(seen.follow(&mut index).0.is_empty());
    index.put_instance(instance("one", 15, 0, "10.0.0.3"));
    assert_eq!(seen.follow(&mut index).0, ["10.0.0.3"]);
    // The order of objects in a list is that of their names, not of their versions.
    index.instances.watched_version = 0;
    index.put_instance(instance("two", 9, 0, "10.0.0.1"));
    assert_eq!(seen.follow(&mut index).0.len(), 1);
    assert_eq!(rejection_of(&index, "two"), Some("AnotherStands"));
}

#[test]
fn the_winner_of_a_race_is_known_once_the_watch_has_delivered_it() {
    let mut index = index();
    index.put_namespace(namespace(10));
    index.put_service(service(11));
    index.put_instance(instance("one", 12, 0, "10.0.0.1"));
    let uid = Some(Uid::of("uid-CloudMapInstance-one"));
    let knows = |index: &Index, winner| index.instances.knows(winner, "one", uid);
    // This replica has written the object, and the watch has not delivered that yet.
    assert!(knows(&index, Winner::Known) && !knows(&index, Winner::Version(12)));
    index.instances.watched_version = 20;
    assert!(knows(&index, Winner::Version(20)) && !knows(&index, Winner::Version(21)));
    // By then the name may belong to a new object, or to none.
    assert!(!knows(&index, Winner::Deletion));
    assert!(index.instances.knows(Winner::Deletion, "one", Some(Uid::of("uid-of-an-older-object"))));
    index.remove_instance("one", Uid::of("uid-CloudMapInstance-one"), Removal::At(21));
    assert!(knows(&index, Winner::Deletion));
}

#[test]
fn service_is_removed_with_its_namespace_and_restored_with_it() {
    let (mut index, mut seen) = (index(), Seen::default());
    index.put_namespace(namespace(10));
    index.put_service(service(11));
    index.put_instance(instance("one", 12, 0, "10.0.0.1"));
    assert_eq!(seen.follow(&mut index).0, ["10.0.0.1"]);
    index.remove_namespace("zone", Uid::of("uid-CloudMapNamespace-zone"), Removal::Unlisted);
    assert_eq!(seen.follow(&mut index), (Vec::new(), 0));
    assert_eq!(seen.0.service_count() + seen.0.namespace_count() + seen.0.instance_count(), 0);
    assert_eq!(rejection_of(&index, "one"), Some("ServiceNotFound"));
    index.put_namespace(namespace(20));
    assert_eq!(seen.follow(&mut index).0, ["10.0.0.1"]);
}

#[test]
fn numbers_continue_from_the_offset_of_an_import() {
    let mut index = Index::new(Settings::default());
    index.set_offset(1_000);
    index.read();
    index.put_namespace(namespace(10));
    index.put_service(service(11));
    index.put_instance(instance("one", 12, 0, "10.0.0.1"));
    let mut seen = Seen::default();
    assert_eq!(seen.follow(&mut index).1, 1_012);
    assert_eq!(seen.0.sequence(), 1_012);
}

/// The object of a service or an instance with a DNS name, with this second of creation.
fn named(kind: &str, name: &str, second: u32) -> Value {
    let spec = match name.split_once(" of ") {
        None => json!({
            "name": name,
            "namespaceName": "shop.local",
            "dnsConfig": {"dnsRecords": [{"type": "A", "ttl": 60}]},
        }),
        Some((id, service)) => json!({
            "instanceId": id,
            "serviceName": service,
            "namespaceName": "shop.local",
            "attributes": {"AWS_INSTANCE_IPV4": "10.0.0.1"},
        }),
    };
    json!({
        "apiVersion": "cloudmap-dns.io/v1alpha1",
        "kind": kind,
        "metadata": {
            "name": name,
            "uid": format!("uid-{name}"),
            "resourceVersion": (100 + second).to_string(),
            "generation": 1,
            "creationTimestamp": format!("2026-01-01T00:00:{second:02}Z"),
        },
        "spec": spec,
    })
}

fn put(index: &mut Index, name: &str, second: u32) {
    if name.contains(" of ") {
        index.put_instance(serde_json::from_value(named("CloudMapInstance", name, second)).unwrap());
    } else {
        index.put_service(serde_json::from_value(named("CloudMapService", name, second)).unwrap());
    }
}

fn remove(index: &mut Index, name: &str) {
    let uid = Uid::of(&format!("uid-{name}"));
    if name.contains(" of ") {
        index.remove_instance(name, uid, Removal::At(1_000));
    } else {
        index.remove_service(name, uid, Removal::At(1_000));
    }
}

/// Returns which of these objects are accepted, and the messages of the rejected ones.
fn accepted_and_messages(index: &Index, names: &[&str]) -> (Vec<String>, String) {
    let rejection = |name: &str| {
        if name.contains(" of ") {
            index.instances.get(name)?.rejection.as_deref().cloned()
        } else {
            index.services.get(name)?.rejection.as_deref().cloned()
        }
    };
    let is_there = |name: &str| index.instances.get(name).is_some() || index.services.get(name).is_some();
    let there = names.iter().filter(|name| is_there(name));
    let (refused, accepted): (Vec<&&str>, Vec<_>) = there.partition(|name| rejection(name).is_some());
    let messages: Vec<_> =
        refused.into_iter().filter_map(|name| rejection(name)).map(|rejection| rejection.message).collect();
    (accepted.into_iter().map(|name| name.to_string()).collect(), messages.join(" | "))
}

#[test]
fn dns_name_belongs_to_the_oldest_object_in_any_order_of_arrival() {
    let mut random = fastrand::Rng::with_seed(8);
    // From the oldest to the youngest: in this order, each is accepted unless one before it has its name.
    let ages = [
        "web",
        "db.web",
        "x of db.web",
        "x.db of web",
        "y.db of web",
        "y of db.web",
        "v1 of web",
        "v1.web",
        "i of v1.web",
        "v2.web",
        "v2 of web",
    ];
    let refused = ["x.db of web", "y of db.web", "v1.web", "i of v1.web", "v2 of web"];
    let expected: Vec<String> =
        ages.iter().filter(|name| !refused.contains(name)).map(|name| name.to_string()).collect();
    for round in 0..200 {
        let mut order: Vec<usize> = (0..ages.len()).collect();
        random.shuffle(&mut order);
        let reads_late = random.bool();
        let mut index = Index::new(Settings::default());
        if !reads_late {
            index.read();
        }
        index.put_namespace(namespace(10));
        order.iter().for_each(|at| put(&mut index, ages[*at], 1 + *at as u32));
        index.read();
        let (accepted, messages) = accepted_and_messages(&index, &ages);
        assert_eq!(accepted, expected, "{round}: {order:?}");
        assert!(
            messages.contains("the name x.db.web belongs to the instance x of the service db.web"),
            "{messages}"
        );
        assert!(
            messages.contains("the name v1.web belongs to the instance v1 of the service web"),
            "{messages}"
        );
        assert!(messages.contains("the name v2.web belongs to the service v2.web"), "{messages}");

        // Rejected objects are accepted as soon as their names are free, and so are the instances of rejected services.
        for gone in ["x of db.web", "y.db of web", "v1 of web", "v2.web"] {
            remove(&mut index, gone);
        }
        let (accepted, messages) = accepted_and_messages(&index, &ages);
        assert_eq!(accepted.len(), ages.len() - 4, "{round}: {messages}");
        // Applying the drained changes results in exactly the accepted objects.
        let mut state = State::default();
        index.drain().iter().for_each(|change| state.apply(change));
        assert_eq!((state.service_count(), state.instance_count()), (3, 4));
    }
}

#[test]
fn older_object_takes_over_a_name_and_releases_it_with_its_service() {
    let mut index = index();
    index.put_namespace(namespace(10));
    for (name, second) in [("web", 1), ("x.db of web", 20), ("db.web", 2)] {
        put(&mut index, name, second);
    }
    let all = ["web", "db.web", "x.db of web", "x of db.web"];
    assert_eq!(accepted_and_messages(&index, &all).0, ["web", "db.web", "x.db of web"]);
    put(&mut index, "x of db.web", 10);
    assert_eq!(accepted_and_messages(&index, &all).0, ["web", "db.web", "x of db.web"]);
    remove(&mut index, "db.web");
    assert_eq!(accepted_and_messages(&index, &all).0, ["web", "x.db of web"]);
    put(&mut index, "db.web", 30);
    assert_eq!(accepted_and_messages(&index, &all).0, ["web", "db.web", "x of db.web"]);
    // A service without a DnsConfig does not claim a DNS name any more.
    let mut object = named("CloudMapService", "db.web", 40);
    object["spec"].as_object_mut().unwrap().remove("dnsConfig");
    object["metadata"]["creationTimestamp"] = "2026-01-01T00:00:30Z".into();
    index.put_service(serde_json::from_value(object).unwrap());
    assert_eq!(accepted_and_messages(&index, &all).0, ["web", "db.web", "x.db of web", "x of db.web"]);
}

#[test]
fn object_written_by_the_api_is_accepted_without_the_name_of_an_older_one() {
    let written = |name: &str, second: u32| {
        let kind = if name.contains(" of ") { "CloudMapInstance" } else { "CloudMapService" };
        let mut object = named(kind, name, second);
        object["metadata"]["annotations"] = json!({"cloudmap-dns.io/written-by": name});
        object
    };
    let ages = ["web", "db.web", "x of db.web", "x.db of web", "v1 of web", "v1.web"];
    let mut random = fastrand::Rng::with_seed(9);
    for _ in 0..50 {
        let mut order: Vec<usize> = (0..ages.len()).collect();
        random.shuffle(&mut order);
        let mut index = index();
        index.put_namespace(namespace(10));
        for at in &order {
            let object = written(ages[*at], 1 + *at as u32);
            if ages[*at].contains(" of ") {
                index.put_instance(serde_json::from_value(object).unwrap());
            } else {
                index.put_service(serde_json::from_value(object).unwrap());
            }
        }
        let (accepted, messages) = accepted_and_messages(&index, &ages);
        assert_eq!((accepted.len(), messages.as_str()), (ages.len(), ""), "{order:?}");
        let remark = |name: &str| index.instances.get(name).unwrap().remark.clone().unwrap_or_default();
        assert_eq!(&*remark("x of db.web"), "");
        let why = "Without the name: the name x.db.web belongs to the instance x of the service db.web";
        assert!(remark("x.db of web").starts_with(why), "{}", remark("x.db of web"));
        remove(&mut index, "x of db.web");
        assert_eq!(index.instances.get("x.db of web").unwrap().remark, None);
    }
}

#[test]
fn object_is_undrained_until_the_next_drain_whatever_other_kinds_delivered() {
    let mut index = index();
    index.put_namespace(namespace(10));
    index.put_service(service(11));
    // The watch of instances is ahead of that of services.
    index.put_instance(instance("one", 21, 0, "10.0.0.1"));
    index.drain();
    let name = service(20).metadata.name.unwrap();
    assert!(index.services.is_drained(&name) && index.instances.is_drained("one"));
    index.put_service(service(20));
    assert!(!index.services.is_drained(&name) && index.instances.is_drained("one"));
    index.drain();
    assert!(index.services.is_drained(&name));
    index.remove_instance("one", Uid::of("uid-CloudMapInstance-one"), Removal::At(30));
    let is_deletion = |change: &Change| matches!(change, Change::DeleteInstance(_, id) if **id == *"i-1");
    assert!(index.has_undrained(is_deletion));
    index.drain();
    assert!(!index.has_undrained(is_deletion));
}

/// The object of an instance whose annotation has operations with these numbers.
fn annotated(version: u64, numbers: &[u64]) -> CloudMapInstance {
    let mut object = instance("one", version, 0, "10.0.0.1");
    let spec_ids = object.spec_ids(&Settings::default().identity).unwrap();
    let operations: Vec<_> = numbers.iter().map(|number| registration(*number)).collect();
    super::super::operation_annotation::write(&mut object.metadata, &spec_ids, &operations);
    object
}

fn registration(number: u64) -> Operation {
    let now_ms = crate::model::now_ms();
    Operation {
        number,
        id: format!("i{number:031}-00000000").as_str().into(),
        operation_type: OperationType::RegisterInstance,
        status: OperationStatus::Success,
        targets: OperationTargets::Instance {
            instance: "i-1".into(),
            service: service_id(),
            namespace: "ns-1".into(),
        },
        created_ms: now_ms,
        updated_ms: now_ms,
    }
}

fn record(version: u64, numbers: &[u64]) -> CloudMapOperation {
    let mut object = translate::operation_object("op-1", &registration(numbers[0]), None);
    object.metadata.resource_version = Some(version.to_string());
    let operations: Vec<_> = numbers.iter().map(|number| registration(*number)).collect();
    super::super::operation_annotation::write(&mut object.metadata, &Default::default(), &operations);
    object
}

fn numbers(seen: &Seen) -> Vec<u64> {
    seen.0.operations_after(None).map(|(key, _)| key.number).collect()
}

#[test]
fn operations_of_an_object_remain_known_when_it_is_written_again_or_deleted_with_a_record() {
    let (mut index, mut seen) = (index(), Seen::default());
    index.put_instance(annotated(12, &[11]));
    index.put_instance(annotated(14, &[11, 13]));
    index.put_instance(annotated(16, &[13, 15]));
    seen.follow(&mut index);
    assert_eq!(numbers(&seen), [11, 13, 15]);
    index.remove_instance("one", Uid::of("uid-CloudMapInstance-one"), Removal::At(17));
    index.put_operation(&record(18, &[13, 15]));
    index.forget_unrecorded(Instant::now() + Duration::from_secs(60));
    seen.follow(&mut index);
    assert_eq!(numbers(&seen), [11, 13, 15]);
    index.remove_operation("op-1");
    seen.follow(&mut index);
    assert_eq!(numbers(&seen), [11]);
}

#[test]
fn operations_of_an_object_that_is_deleted_by_hand_are_forgotten() {
    let (mut index, mut seen) = (index(), Seen::default());
    index.put_instance(annotated(12, &[11]));
    index.remove_instance("one", Uid::of("uid-CloudMapInstance-one"), Removal::At(17));
    index.forget_unrecorded(Instant::now());
    seen.follow(&mut index);
    assert_eq!(numbers(&seen), [11]);
    index.forget_unrecorded(Instant::now() + Duration::from_secs(60));
    seen.follow(&mut index);
    assert!(numbers(&seen).is_empty());
}

#[test]
fn new_operations_evict_old_ones_and_an_empty_record_is_due_for_deletion() {
    let settings = Settings { operations_retained: 1, ..Settings::default() };
    let (mut index, mut seen) = (Index::new(settings), Seen::default());
    index.put_operation(&record(12, &[1, 2]));
    // Operations are passed to the registry once all kinds are listed.
    assert!(index.drain().iter().all(|change| !matches!(change, Change::PutOperation(_))));
    index.read();
    seen.follow(&mut index);
    assert_eq!(numbers(&seen), [1, 2]);
    let many: Vec<_> = (20..40).collect();
    index.put_instance(annotated(40, &many));
    seen.follow(&mut index);
    // Ten for each one that is retained, because they are young.
    assert_eq!(numbers(&seen), (30..40).collect::<Vec<_>>());
    assert!(index.is_empty_record("op-1"));
    assert!(index.due(Instant::now() + Duration::from_secs(60), 9, 9).contains(&(
        Kind::Operation,
        "op-1".into(),
        false
    )));
}

#[test]
fn changed_counts_are_due_once_and_some_seconds_later() {
    let mut index = index();
    index.put_namespace(namespace(1));
    index.put_service(service(2));
    let in_seconds = |seconds| Instant::now() + Duration::from_secs(seconds);
    index.due(in_seconds(60), 9, 9);
    for ready in 0..100 {
        index.compare_counts(&service_id(), &format!("{ready}/100"));
    }
    assert_eq!(index.due(in_seconds(4), 9, 9), []);
    assert_eq!(index.due(in_seconds(60), 9, 0), []);
    assert_eq!(index.due(in_seconds(60), 9, 9), [(Kind::Service, "web".into(), true)]);
    let mut shown = service(3);
    shown.status = serde_json::from_value(json!({"health": "3/4"})).unwrap();
    index.put_service(shown);
    index.due(in_seconds(60), 9, 9);
    index.compare_counts(&service_id(), "3/4");
    assert_eq!(index.due(in_seconds(60), 9, 9), []);
}
