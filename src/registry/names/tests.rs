use std::collections::BTreeMap;
use std::sync::Arc;

use super::*;
use crate::model::{
    Attributes, DnsConfig, DnsRecord, DnsRecordType, Instance, NamespaceKind, RoutingPolicy, samples,
};
use crate::registry::Change;

const ZONE: &str = "shop.local";

/// State with one zone and these services and instances, registered in this order.
fn state(services: &[(&str, &[&str])]) -> State {
    let mut state = State::default();
    let kind = NamespaceKind::DnsPrivate { vpc: "vpc-1".into() };
    let namespace = samples::namespace("ns-1".into(), ZONE, kind);
    state.apply(&Change::PutNamespace(Arc::new(namespace)));
    let mut number = 1;
    for (name, instances) in services {
        let id = service_id(name);
        let records = vec![DnsRecord { rtype: DnsRecordType::Srv, ttl: 60 }];
        state.apply(&Change::PutService(Arc::new(Service {
            api_only: false,
            dns: Some(DnsConfig { routing: RoutingPolicy::Multivalue, records }),
            sequence: number,
            ..samples::service(id.clone(), "ns-1".into(), name)
        })));
        for instance in *instances {
            number += 1;
            state.apply(&put(name, instance, number));
        }
        number += 1;
    }
    state
}

fn service_id(name: &str) -> ServiceId {
    format!("srv-{name}").as_str().into()
}

fn put(service: &str, instance: &str, number: u64) -> Change {
    let instance = Instance::new(instance, None, &Attributes::default(), None, number).unwrap();
    Change::PutInstance(service_id(service), instance)
}

fn remove(service: &str, instance: &str) -> Change {
    Change::DeleteInstance(service_id(service), instance.into())
}

/// Lists the instances of a service as `id own target`. A missing name is `-`, and the digits of a derived label are `*`.
fn names(state: &State, service: &str) -> Vec<String> {
    let found = state.service(service_id(service).as_str()).unwrap();
    let mut names = ServiceNames::new(state, found).unwrap();
    let line = |instance: &Instance, found: InstanceNames<'_>| {
        let target = found.target.map_or("-".into(), |target| match target::readable_part(&target) {
            Some(readable) if *target != *instance.id() => format!("{readable}-*"),
            _ => target.to_string(),
        });
        format!("{} {} {target}", instance.id(), found.own.unwrap_or("-"))
    };
    let instances = found.instances().iter();
    instances.map(|instance| line(instance, names.of(instance))).collect()
}

fn derived(id: &str) -> String {
    let state = state(&[("web", &[])]);
    let found = state.service(service_id("web").as_str()).unwrap();
    let namespace = state.namespace("ns-1").unwrap();
    let names = names_of_instance(id, &found.service, &namespace.namespace);
    names.last().unwrap().strip_suffix(".web").unwrap().to_string()
}

fn owners(state: &State, name: &str) -> Vec<String> {
    claimants(state, &"ns-1".into(), name).iter().map(ToString::to_string).collect()
}

#[test]
fn all_claimants_of_a_name_are_found() {
    let state = state(&[
        (".", &["api", "x.db.web"]),
        ("web", &["x.db", "task:1"]),
        ("Db.Web", &["X"]),
        ("v1.web", &[]),
    ]);
    let task = format!("{}.web", derived("task:1"));
    for (name, expected) in [
        ("ns.dns", vec!["the zone's own name server"]),
        (".", vec!["the service . (srv-.)"]),
        ("api", vec!["the instance api of the service . (srv-.)"]),
        ("v1.web", vec!["the service v1.web (srv-v1.web)"]),
        (
            "x.db.web",
            vec![
                "the instance X of the service Db.Web (srv-Db.Web)",
                "the instance x.db of the service web (srv-web)",
                "the instance x.db.web of the service . (srv-.)",
            ],
        ),
        ("task:1.web", vec!["the instance task:1 of the service web (srv-web)"]),
        (&task, vec!["the instance task:1 of the service web (srv-web), as the target of its SRV record"]),
        ("db", vec![]),
        ("x.web", vec![]),
    ] {
        let mut found = owners(&state, name);
        found.sort();
        let mut expected: Vec<String> = expected.into_iter().map(String::from).collect();
        expected.sort();
        assert_eq!(found, expected, "{name}");
    }
}

#[test]
fn services_that_only_the_api_finds_claim_nothing() {
    let mut state = state(&[("web", &["x.db"]), ("db.web", &["y"])]);
    for name in ["web", "db.web"] {
        let service = state.service(service_id(name).as_str()).unwrap().service.clone();
        let service = Service { api_only: true, dns: None, ..Service::clone(&service) };
        state.apply(&Change::PutService(Arc::new(service)));
    }
    for name in ["web", "db.web", "x.db.web", "y.db.web"] {
        assert!(owners(&state, name).is_empty(), "{name}");
    }
    let found = state.service(service_id("web").as_str()).unwrap();
    assert!(conflicts_of_instance(&state, found, "y.db").is_empty());
}

#[test]
fn claims_conflict_with_other_claimants_and_never_with_the_instance_itself() {
    let state = state(&[
        (".", &["mail"]),
        ("web", &["x.db", "Task", "task", "task:1"]),
        ("db.web", &["y"]),
        ("dns", &[]),
    ]);
    let (task, upper) = (derived("task:1"), derived("TASK"));
    for (service, id, is_free) in [
        ("web", "x.db", true),
        ("web", "TASK", true),
        ("web", "task:1", true),
        ("web", "y.db", false),
        ("web", "Y.DB", false),
        ("web", "db", false),
        ("web", &task, false),
        ("web", &upper, true),
        ("db.web", "x", false),
        ("db.web", "z", true),
        (".", "WEB", false),
        (".", "y.db.web", false),
        ("dns", "ns", false),
        (".", "ns.dns", false),
    ] {
        let found = state.service(service_id(service).as_str()).unwrap();
        assert_eq!(conflicts_of_instance(&state, found, id).is_empty(), is_free, "{id} of {service}");
    }
    for (name, is_free) in [
        ("Mail", false),
        ("x.db.web", false),
        ("TASK.web", false),
        ("z.db.web", true),
        ("ns.dns", false),
        (&format!("{task}.web"), false),
    ] {
        assert_eq!(conflicts_of_service(&state, &"ns-1".into(), name).is_empty(), is_free, "{name}");
    }
}

#[test]
fn targets_are_host_names_and_other_ids_keep_their_own_names() {
    let long = "l".repeat(64);
    let state = state(&[("web", &["i-1", "i.j", "task:1", "a@b", "-a", "a..b", &long, "Ab"])]);
    let mut expected = vec![
        "i-1 i-1 i-1".to_string(),
        "i.j i.j i.j".into(),
        "task:1 task:1 task-1-*".into(),
        "a@b a@b a-b-*".into(),
        "-a -a a-*".into(),
        "a..b - a-b-*".into(),
        format!("{long} - {}-*", "l".repeat(52)),
        "Ab Ab Ab".into(),
    ];
    expected.sort();
    let mut found = names(&state, "web");
    found.sort();
    assert_eq!(found, expected);
}

#[test]
fn name_of_ids_that_differ_only_in_case_belongs_to_the_one_without_capitals() {
    let mut state = state(&[("web", &["TASK", "Task", "task", "Ab", "aB", "Only"])]);
    let expected =
        ["Ab - ab-*", "Only Only Only", "TASK - task-*", "Task - task-*", "aB - ab-*", "task task task"];
    assert_eq!(names(&state, "web"), expected);
    for gone in ["task", "TASK", "aB"] {
        state.apply(&remove("web", gone));
    }
    assert_eq!(names(&state, "web"), ["Ab Ab Ab", "Only Only Only", "Task Task Task"]);
}

#[test]
fn name_of_two_instances_belongs_to_the_older_one() {
    // An earlier version stored both instances.
    let mut state = state(&[("web", &["x.db", "y"]), ("db.web", &["x", "z"])]);
    assert_eq!(names(&state, "web"), ["x.db x.db x.db", "y y y"]);
    assert_eq!(names(&state, "db.web"), ["x - x-*", "z z z"]);
    state.apply(&remove("web", "x.db"));
    assert_eq!(names(&state, "db.web"), ["x x x", "z z z"]);
    state.apply(&put("web", "x.db", 99));
    assert_eq!(names(&state, "web"), ["x.db - x-db-*", "y y y"]);
    assert_eq!(names(&state, "db.web"), ["x x x", "z z z"]);
    // A pod has no age that all servers know, so a stored instance takes precedence.
    let attributes = Attributes::new(&BTreeMap::new()).unwrap();
    let (uid, ready) = (crate::model::Uid::of("x"), crate::model::Readiness::Ready);
    let pod = Instance::watched("x", &crate::model::ObservedPod::new("default/x", uid, ready), &attributes)
        .unwrap();
    state.apply(&Change::DeleteInstance(service_id("db.web"), "x".into()));
    state.apply(&Change::PutInstance(service_id("db.web"), pod));
    assert_eq!(names(&state, "web"), ["x.db x.db x.db", "y y y"]);
    assert_eq!(names(&state, "db.web"), ["x - x-*", "z z z"]);
}

#[test]
fn services_and_the_name_server_take_precedence_over_instances() {
    let state =
        state(&[("web", &["v1", "a.v1"]), ("v1.web", &[]), ("dns", &["ns"]), (".", &["web", "ns.dns"])]);
    assert_eq!(names(&state, "web"), ["a.v1 a.v1 a.v1", "v1 - v1-*"]);
    assert_eq!(names(&state, "dns"), ["ns - ns-*"]);
    assert_eq!(names(&state, "."), ["ns.dns - ns-dns-*", "web - web-*"]);
}

#[test]
fn name_of_an_id_that_equals_another_ones_derived_label_belongs_to_the_older_one() {
    let label = derived("task:1");
    let state_of = |ids: &[&str]| names(&state(&[("web", ids)]), "web");
    let older = state_of(&["task:1", &label]);
    assert!(older.contains(&"task:1 task:1 task-1-*".to_string()), "{older:?}");
    assert!(older.iter().any(|line| line.starts_with(&format!("{label} - "))), "{older:?}");
    let younger = state_of(&[&label, "task:1"]);
    assert!(younger.contains(&format!("{label} {label} {label}")), "{younger:?}");
    assert!(younger.contains(&"task:1 task:1 -".to_string()), "{younger:?}");
}

#[test]
fn no_name_ever_belongs_to_two_claimants() {
    let ids =
        ["a", "b", "A", "a.b", "b.a", "a:b", "A.b", "B.A", "a_", "a.b.c", "c", "b.c", "ab", "-", "c.a.b"];
    let services = [".", "a", "b", "a.b", "b.a", "c.a.b", "B.c"];
    let mut random = fastrand::Rng::with_seed(3);
    for round in 0..300 {
        let mut changes: Vec<Change> = Vec::new();
        let chosen: Vec<_> = services.iter().filter(|_| random.bool()).collect();
        let mut state = state(&chosen.iter().map(|name| (**name, &[][..])).collect::<Vec<_>>());
        for number in 0..30 {
            let Some(service) = random.choice(&chosen) else { break };
            changes.push(put(service, ids[random.usize(..ids.len())], 100 + number));
        }
        changes.iter().for_each(|change| state.apply(change));
        let mut seen = BTreeMap::<String, String>::new();
        let mut take = |name: String, who: String| {
            let before = seen.insert(name.clone(), who.clone());
            assert!(before.as_ref().is_none_or(|before| *before == who), "{round}: {name} {before:?} {who}");
        };
        for name in &chosen {
            take(name.to_ascii_lowercase(), format!("service {name}"));
        }
        for name in &chosen {
            let found = state.service(service_id(name).as_str()).unwrap();
            let mut names = ServiceNames::new(&state, found).unwrap();
            for instance in found.instances() {
                let InstanceNames { own, target, .. } = names.of(instance);
                for label in own.into_iter().chain(target.as_deref()) {
                    take(name_below(label, name), format!("{} of {name}", instance.id()));
                }
            }
        }
    }
}
