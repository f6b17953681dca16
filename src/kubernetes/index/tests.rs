//! Tests with the events of watches as input and a simulated registry for the observations.

use super::*;

use std::collections::BTreeMap;

use crate::kubernetes::pod::{KnownReadiness, Placement, Registration, TerminatingEndpoint};
use crate::model::instance::AWS_INSTANCE_IPV4;
use crate::model::{Attributes, PodDetails};
use crate::registry::{RegistryError, Seen};

use Readiness::{NeverReady, NotReady, Ready};

fn known(readiness: Readiness) -> KnownReadiness {
    let was_ready = (readiness != NeverReady).then_some(true);
    KnownReadiness { readiness, was_ready, changed_s: 100 }
}

/// Pod with one address and its registrations, as `service/instance`.
fn pod(name: &str, address: &str, readiness: Option<Readiness>, registrations: &[&str]) -> ParsedPod {
    let map = BTreeMap::from([(AWS_INSTANCE_IPV4.to_string(), address.to_string())]);
    let registration = |text: &&str| {
        let (service, id) = text.split_once('/').unwrap();
        let known = known(readiness.unwrap_or(NeverReady));
        Registration {
            service: service.into(),
            id: id.into(),
            attributes: Attributes::new(&map).unwrap(),
            readiness: known,
            container_readiness: known,
        }
    };
    ParsedPod {
        name: format!("default/{name}").into(),
        uid: Uid::of("1"),
        version: 0,
        created_s: 100,
        started_s: 100,
        details: PodDetails::default(),
        readiness,
        was_ready: readiness.filter(|readiness| *readiness != NeverReady).map(|_| true),
        own_addresses: vec![address.parse().unwrap()],
        registrations: readiness.iter().flat_map(|_| registrations.iter().map(registration)).collect(),
        placement: Placement::default(),
        drained_at: None,
        terminating: Vec::new(),
        problems: Vec::new(),
        contradictions: Vec::new(),
    }
}

/// Version of [`web`] that terminates.
fn terminating_web(number: u8, is_serving: bool) -> ParsedPod {
    let parsed = pod(&format!("web-{number}"), &format!("10.42.0.{number}"), None, &[]);
    let endpoint = TerminatingEndpoint {
        pod: parsed.name.clone(),
        uid: parsed.uid,
        service: "srv-a".into(),
        instance: format!("web-{number}").into(),
        addresses: parsed.own_addresses.clone().into(),
        port: None,
        is_serving,
        placement: Placement::default(),
    };
    ParsedPod { terminating: vec![endpoint], ..parsed }
}

fn web(number: u8, readiness: Readiness) -> ParsedPod {
    let name = format!("web-{number}");
    pod(&name, &format!("10.42.0.{number}"), Some(readiness), &[&format!("srv-a/{name}")])
}

/// Index with a simulated registry, which accepts all observations but those of `refused` instances.
struct World {
    index: Index,
    services: BTreeMap<&'static str, u64>,
    instances: BTreeMap<String, Instance>,
    sent_count: usize,
    refused: Vec<&'static str>,
    new_refusals: usize,
}

impl World {
    fn mirrored(services: &[&'static str]) -> World {
        World { index: Index::new(Some(Arc::default())), ..World::new(services) }
    }

    fn new(services: &[&'static str]) -> World {
        World {
            index: Index::default(),
            services: services.iter().map(|service| (*service, 1)).collect(),
            instances: BTreeMap::new(),
            sent_count: 0,
            refused: Vec::new(),
            new_refusals: 0,
        }
    }

    fn look_up(&mut self, all: bool) {
        let services = self.services.clone();
        self.index.look_up(all, |id| services.get(id.as_str()).copied());
    }

    fn make(&mut self, service: &'static str, made_at: u64) {
        self.services.insert(service, made_at);
        self.instances.retain(|key, _| !key.starts_with(&format!("{service}/")));
        self.look_up(true);
    }

    fn delete(&mut self, service: &'static str) {
        self.services.remove(service);
        self.instances.retain(|key, _| !key.starts_with(&format!("{service}/")));
        self.look_up(true);
    }

    /// Sends the queue to the registry. Returns the observations: `+` for accepted, `!` for refused and `-` for
    /// removed instances.
    fn send(&mut self) -> String {
        self.look_up(false);
        let mut words = Vec::new();
        loop {
            let batch = self.index.next_batch(3);
            if batch.is_empty() {
                return words.join(" ");
            }
            let mut refusals = Vec::new();
            for (at, observation) in batch.observations.iter().enumerate() {
                let key = format!("{}/{}", observation.service, observation.seen.id());
                assert!(self.services.contains_key(observation.service.as_str()), "{key}");
                self.sent_count += 1;
                match &observation.seen {
                    Seen::Gone(_) => {
                        words.push(format!("-{key}"));
                        self.instances.remove(&key);
                    }
                    Seen::Instance(instance) if self.refused.contains(&instance.id()) => {
                        words.push(format!("!{key}"));
                        self.instances.remove(&key);
                        let error = RegistryError::ResourceLimitExceeded("full".into());
                        refusals.push(Refusal { at, error });
                    }
                    Seen::Instance(instance) => {
                        words.push(format!("+{key}"));
                        self.instances.insert(key, instance.clone());
                    }
                }
            }
            self.new_refusals += self.index.accepted(&batch, &refusals).len();
        }
    }

    fn served(&mut self) -> Vec<String> {
        self.send();
        let line = |(key, instance): (&String, &Instance)| {
            let address = instance.attribute(AWS_INSTANCE_IPV4).unwrap();
            format!("{key} {address} {:?} {}", instance.readiness().unwrap(), instance.pod().unwrap())
        };
        self.instances.iter().map(line).collect()
    }

    fn table(&self) -> &PodTable {
        self.index.table.as_ref().unwrap()
    }

    /// Pods with terminating endpoints in the service; those that are not serving are in parentheses.
    fn terminating(&self) -> String {
        let word = |endpoint: TerminatingEndpoint| {
            let pod = endpoint.pod.trim_start_matches("default/").to_string();
            if endpoint.is_serving { pod } else { format!("({pod})") }
        };
        let words = self.table().terminating(&"srv-a".into()).into_iter().map(word);
        words.collect::<Vec<_>>().join(" ")
    }

    fn names(&mut self) -> String {
        self.send();
        self.instances.keys().map(String::as_str).collect::<Vec<_>>().join(" ")
    }

    fn list(&mut self, source: usize, pods: impl IntoIterator<Item = ParsedPod>) -> ListEnd {
        self.index.list_begins(source);
        for pod in pods {
            self.index.upsert(source, pod);
        }
        self.index.list_ends(source)
    }
}

#[test]
fn a_pod_is_an_instance_while_it_can_be_one() {
    let mut world = World::new(&["srv-a"]);
    let at = |readiness| pod("web-1", "10.42.0.1", readiness, &["srv-a/web-1"]);
    for (readiness, expected) in [
        (None, &[][..]),
        (Some(NeverReady), &["srv-a/web-1 10.42.0.1 NeverReady default/web-1"]),
        (Some(Ready), &["srv-a/web-1 10.42.0.1 Ready default/web-1"]),
        // A pod that was ready once can't be in the state before its first readiness again.
        (Some(NeverReady), &["srv-a/web-1 10.42.0.1 NotReady default/web-1"]),
        (Some(Ready), &["srv-a/web-1 10.42.0.1 Ready default/web-1"]),
        (None, &[]),
        (Some(NeverReady), &["srv-a/web-1 10.42.0.1 NotReady default/web-1"]),
    ] {
        world.index.upsert(0, at(readiness));
        assert_eq!(world.served(), expected, "{readiness:?}");
    }
    world.index.delete(0, "default/web-1", 0);
    assert_eq!(world.names(), "");
    assert_eq!(world.index.counts(), Counts::default());
}

#[test]
fn unchanged_pods_are_not_sent_again() {
    let mut world = World::new(&["srv-a"]);
    for _ in 0..3 {
        world.list(0, [web(1, Ready), web(2, Ready)]);
        world.index.upsert(0, web(1, Ready));
        world.send();
    }
    assert_eq!(world.sent_count, 2);
}

#[test]
fn many_changes_of_one_pod_are_one_observation() {
    let mut world = World::new(&["srv-a"]);
    for round in 0..100 {
        let readiness = if round % 2 == 0 { NotReady } else { Ready };
        world.index.upsert(0, web(1, readiness));
        world.index.upsert(0, web(2, readiness));
    }
    assert_eq!(world.index.counts().queued_instances, 2);
    assert_eq!(world.send(), "+srv-a/web-1 +srv-a/web-2");
    // A pod that comes and goes before it was sent causes no observation.
    world.index.upsert(0, web(3, Ready));
    world.index.delete(0, "default/web-3", 0);
    assert_eq!(world.send(), "");
}

#[test]
fn a_list_removes_nothing_before_it_is_complete() {
    let mut world = World::new(&["srv-a"]);
    world.list(0, (1..=4).map(|number| web(number, Ready)));
    assert_eq!(world.names(), "srv-a/web-1 srv-a/web-2 srv-a/web-3 srv-a/web-4");
    world.index.list_begins(0);
    world.index.upsert(0, web(1, Ready));
    world.index.list_begins(0);
    world.index.upsert(0, web(2, NotReady));
    world.index.upsert(0, web(5, Ready));
    assert_eq!(world.names(), "srv-a/web-1 srv-a/web-2 srv-a/web-3 srv-a/web-4 srv-a/web-5");
    world.index.upsert(0, web(3, Ready));
    assert_eq!(world.index.list_ends(0), ListEnd::Accepted);
    assert_eq!(world.names(), "srv-a/web-2 srv-a/web-3 srv-a/web-5");
}

#[test]
fn a_much_shorter_list_is_requested_twice() {
    for (known, listed, is_suspect) in [
        (100, 49, true),
        (100, 50, false),
        (100, 0, true),
        (12, 5, true),
        (5, 0, false),
        (6, 0, true),
        (0, 0, false),
    ] {
        let mut world = World::new(&["srv-a"]);
        let pods = |count: u8| (0..count).map(|number| web(number, Ready));
        world.list(0, pods(known));
        let end = world.list(0, pods(listed));
        assert_eq!(matches!(end, ListEnd::Suspect { .. }), is_suspect, "{known} {listed}");
        world.send();
        let expected = if is_suspect { known } else { listed };
        assert_eq!(world.instances.len(), usize::from(expected), "{known} {listed}");
        assert_eq!(world.list(0, pods(listed)), ListEnd::Accepted);
        world.send();
        assert_eq!(world.instances.len(), usize::from(listed));
    }
    // A complete list in between resets the suspicion, so that the next short list is suspect again.
    let mut world = World::new(&["srv-a"]);
    let pods = |count: u8| (0..count).map(|number| web(number, Ready));
    world.list(0, pods(50));
    assert!(matches!(world.list(0, pods(3)), ListEnd::Suspect { missing: 47, listed: 3 }));
    assert_eq!(world.list(0, pods(50)), ListEnd::Accepted);
    assert!(matches!(world.list(0, pods(3)), ListEnd::Suspect { .. }));
    assert_eq!(world.names().split(' ').count(), 50);
}

#[test]
fn a_pod_is_known_as_long_as_one_source_has_it() {
    let mut world = World::new(&["srv-a"]);
    world.list(0, [web(1, Ready), web(2, Ready)]);
    world.list(1, [web(2, Ready), web(3, Ready)]);
    world.list(0, []);
    assert_eq!(world.names(), "srv-a/web-2 srv-a/web-3");
    world.index.delete(1, "default/web-2", 0);
    world.index.delete(0, "default/web-3", 0);
    assert_eq!(world.names(), "srv-a/web-3");
    world.index.delete(1, "default/web-3", 0);
    assert_eq!(world.names(), "");
}

fn waiting(world: &World) -> Vec<(String, usize)> {
    let pending = world.index.pending(10).into_iter();
    pending.map(|one| (one.service.to_string(), one.instances)).collect()
}

#[test]
fn the_first_pods_that_wait_for_a_service_are_named() {
    let mut world = World::new(&[]);
    let one = |number: u8| {
        let name = format!("web-{number}");
        pod(&name, &format!("10.42.0.{number}"), Some(Ready), &[&format!("srv-b/{name}")])
    };
    world.list(0, (1..=5).map(one));
    world.names();
    let pending = world.index.pending(10);
    let [waiting] = pending.as_slice() else { panic!("{pending:?}") };
    assert_eq!(waiting.instances, 5);
    assert_eq!(waiting.pods.join(" "), "default/web-1 default/web-2 default/web-3");
}

#[test]
fn instances_wait_for_their_service() {
    let mut world = World::new(&["srv-a"]);
    let two = |number: u8| {
        let name = format!("web-{number}");
        let registrations = [format!("srv-a/{name}"), format!("srv-b/{name}")];
        let registrations: Vec<&str> = registrations.iter().map(String::as_str).collect();
        pod(&name, &format!("10.42.0.{number}"), Some(Ready), &registrations)
    };
    world.list(0, [two(1), two(2)]);
    assert_eq!(world.names(), "srv-a/web-1 srv-a/web-2");
    assert_eq!(world.index.counts().pending_instances, 2);
    assert_eq!(waiting(&world), [("srv-b".to_string(), 2)]);
    world.index.delete(0, "default/web-2", 0);
    assert_eq!(waiting(&world), [("srv-b".to_string(), 1)]);
    world.make("srv-b", 7);
    assert_eq!(world.names(), "srv-a/web-1 srv-b/web-1");
    assert_eq!(world.index.counts().pending_instances, 0);
    // The service is deleted and created again under its id, while the pods remain.
    world.delete("srv-b");
    assert_eq!(waiting(&world), [("srv-b".to_string(), 1)]);
    world.index.upsert(0, two(3));
    world.make("srv-b", 8);
    assert_eq!(world.names(), "srv-a/web-1 srv-a/web-3 srv-b/web-1 srv-b/web-3");
    // The service is replaced without a lookup in between.
    world.make("srv-a", 9);
    assert_eq!(world.send(), "+srv-a/web-1 +srv-a/web-3");
}

#[test]
fn the_older_of_two_pods_has_an_instance_that_both_claim() {
    let mut world = World::new(&["srv-a"]);
    let claim = |name: &str, address: &str, created_s| ParsedPod {
        created_s,
        ..pod(name, address, Some(Ready), &["srv-a/task-1"])
    };
    world.index.upsert(0, claim("young", "10.42.0.2", 200));
    assert_eq!(world.served(), ["srv-a/task-1 10.42.0.2 Ready default/young"]);
    world.index.upsert(0, claim("old", "10.42.0.1", 100));
    assert_eq!(world.served(), ["srv-a/task-1 10.42.0.1 Ready default/old"]);
    assert_eq!(world.index.counts().conflicting_claims, 1);
    world.index.upsert(0, claim("young", "10.42.0.3", 200));
    assert_eq!(world.send(), "");
    world.index.delete(0, "default/old", 0);
    assert_eq!(world.served(), ["srv-a/task-1 10.42.0.3 Ready default/young"]);
    assert_eq!(world.index.counts().conflicting_claims, 0);
}

#[test]
fn an_address_belongs_to_the_youngest_pod() {
    let mut world = World::new(&["srv-a", "srv-b"]);
    let old = || pod("old", "10.42.0.1", Some(Ready), &["srv-a/old"]);
    let new = || ParsedPod { created_s: 200, ..pod("new", "10.42.0.1", Some(Ready), &["srv-b/new"]) };
    world.list(0, [old()]);
    // During a list that lacks the old pod, another pod has its address already.
    world.index.list_begins(0);
    world.index.upsert(0, new());
    assert_eq!(world.served(), ["srv-b/new 10.42.0.1 Ready default/new"]);
    world.index.upsert(0, old());
    assert_eq!(world.names(), "srv-b/new");
    world.index.delete(0, "default/old", 0);
    assert_eq!(world.names(), "srv-b/new");
    world.index.delete(0, "default/new", 0);
    world.index.upsert(0, old());
    assert_eq!(world.names(), "srv-a/old");
    let on_node = |name: &str| ParsedPod {
        own_addresses: Vec::new(),
        ..pod(name, "192.168.0.1", Some(Ready), &[&format!("srv-b/{name}")])
    };
    world.index.upsert(0, on_node("one"));
    world.index.upsert(0, on_node("two"));
    assert_eq!(world.names(), "srv-a/old srv-b/one srv-b/two");
}

#[test]
fn an_address_that_moves_to_another_pod_is_served_there() {
    let mut world = World::new(&["srv-a"]);
    world.index.upsert(0, web(1, Ready));
    let moved = pod("web-1", "10.42.0.9", Some(Ready), &["srv-a/web-1"]);
    world.index.upsert(0, moved);
    let heir = ParsedPod { created_s: 300, ..pod("web-2", "10.42.0.1", Some(Ready), &["srv-a/web-2"]) };
    world.index.upsert(0, heir);
    assert_eq!(
        world.served(),
        ["srv-a/web-1 10.42.0.9 Ready default/web-1", "srv-a/web-2 10.42.0.1 Ready default/web-2"]
    );
}

#[test]
fn a_pod_that_takes_the_name_of_another_starts_anew() {
    let mut world = World::new(&["srv-a"]);
    world.index.upsert(0, web(1, Ready));
    world.send();
    let heir = || ParsedPod { uid: Uid::of("2"), created_s: 200, ..web(1, NeverReady) };
    world.index.upsert(0, heir());
    // The successor is another instance: reports about the old pod do not apply to it, and it was never ready.
    assert_eq!(world.send(), "+srv-a/web-1");
    assert_eq!(world.served(), ["srv-a/web-1 10.42.0.1 NeverReady default/web-1"]);
    world.index.upsert(0, heir());
    assert_eq!(world.send(), "");
    // If the successor can't be an instance, the old instance is removed.
    world.index.upsert(0, ParsedPod { uid: Uid::of("3"), ..pod("web-1", "10.42.0.1", None, &[]) });
    assert_eq!(world.send(), "-srv-a/web-1");
}

#[test]
fn registrations_follow_the_annotation() {
    let mut world = World::new(&["srv-a", "srv-b"]);
    let with = |registrations: &[&str]| pod("web-1", "10.42.0.1", Some(Ready), registrations);
    world.index.upsert(0, with(&["srv-a/web-1"]));
    assert_eq!(world.names(), "srv-a/web-1");
    world.index.upsert(0, with(&["srv-a/web-1", "srv-b/web-1"]));
    assert_eq!(world.names(), "srv-a/web-1 srv-b/web-1");
    world.index.upsert(0, with(&["srv-b/task-1"]));
    assert_eq!(world.names(), "srv-b/task-1");
    world.index.upsert(0, with(&[]));
    assert_eq!(world.names(), "");
}

#[test]
fn contradictions_are_reported_once_and_kept_while_the_pod_has_them() {
    let mut world = World::new(&["srv-a"]);
    let twice = |text: &str| ParsedPod {
        contradictions: vec![("srv-a".into(), text.to_string())],
        ..pod("bad", "10.42.0.9", Some(Ready), &["srv-a/bad"])
    };
    let kept = |world: &World| {
        let all = world.index.contradictions();
        all.get(&("default/bad".into(), "srv-a".into())).map(|text| text.to_string())
    };
    assert!(world.index.upsert(0, twice("one")));
    assert!(!world.index.upsert(0, twice("one")));
    assert_eq!((kept(&world).as_deref(), world.names().as_str()), (Some("one"), "srv-a/bad"));
    assert_eq!(world.index.counts().malformed_pods, 0);
    assert!(world.index.upsert(0, twice("another")));
    assert_eq!(kept(&world).as_deref(), Some("another"));
    world.index.upsert(0, pod("bad", "10.42.0.9", Some(Ready), &["srv-a/bad"]));
    assert_eq!(kept(&world), None);
    world.index.upsert(0, twice("one"));
    world.index.delete(0, "default/bad", 0);
    assert!(world.index.contradictions().is_empty());
}

#[test]
fn a_problem_is_reported_once_and_affects_no_other_pod() {
    let mut world = World::new(&["srv-a"]);
    let bad = |problem: &str, readiness| ParsedPod {
        problems: vec![problem.to_string()],
        ..pod("bad", "10.42.0.9", readiness, &["srv-a/bad"])
    };
    assert!(world.index.upsert(0, bad("one", None)));
    world.index.upsert(0, web(1, Ready));
    assert!(!world.index.upsert(0, bad("one", Some(Ready))));
    assert_eq!(world.names(), "srv-a/bad srv-a/web-1");
    assert_eq!(world.index.counts().malformed_pods, 1);
    assert!(world.index.upsert(0, bad("another", Some(Ready))));
    assert_eq!(world.index.counts().malformed_pods, 1);
    assert!(!world.index.upsert(0, pod("bad", "10.42.0.9", Some(Ready), &["srv-a/bad"])));
    assert_eq!(world.index.counts().malformed_pods, 0);
    assert!(world.index.upsert(0, bad("one", Some(Ready))));
    world.index.delete(0, "default/bad", 0);
    assert_eq!((world.index.counts().malformed_pods, world.names().as_str()), (0, "srv-a/web-1"));
}

#[test]
fn a_failed_batch_is_sent_again() {
    let mut world = World::new(&["srv-a"]);
    world.list(0, [web(1, Ready), web(2, Ready)]);
    world.look_up(false);
    let batch = world.index.next_batch(10);
    world.index.delete(0, "default/web-2", 0);
    world.index.failed(&batch);
    // After the failure it is unknown if the registry has web-2.
    assert_eq!(world.send(), "-srv-a/web-2 +srv-a/web-1");
    world.index.delete(0, "default/web-1", 0);
    let batch = world.index.next_batch(10);
    world.index.failed(&batch);
    assert_eq!(world.send(), "-srv-a/web-1");
    assert_eq!(world.send(), "");
}

#[test]
fn refused_instances_are_sent_again() {
    let mut world = World::new(&["srv-a"]);
    world.refused.push("web-2");
    world.list(0, (1..=3).map(|number| web(number, Ready)));
    assert_eq!(world.send(), "+srv-a/web-1 !srv-a/web-2 +srv-a/web-3");
    assert_eq!(world.index.counts().refused_instances, 1);
    assert_eq!(world.new_refusals, 1);
    world.index.retry_refused();
    assert_eq!(world.send(), "!srv-a/web-2");
    assert_eq!(world.new_refusals, 1);
    world.refused.clear();
    world.index.retry_refused();
    assert_eq!(world.send(), "+srv-a/web-2");
    assert_eq!(world.index.counts().refused_instances, 0);
    world.refused.push("web-4");
    world.index.upsert(0, web(4, Ready));
    world.send();
    world.index.delete(0, "default/web-4", 0);
    world.send();
    assert_eq!(world.index.counts().refused_instances, 0);
}

#[test]
fn one_service_is_fed_by_pods_of_two_clusters() {
    let mut world = World::new(&["srv-a"]);
    for (namespace, address) in [("one-us-east-1", "10.42.0.1"), ("two-us-east-1", "10.42.0.2")] {
        let pod = pod("web-1", address, Some(Ready), &[&format!("srv-a/{namespace}")]);
        world.index.upsert(0, ParsedPod { name: format!("{namespace}/web-1").into(), ..pod });
    }
    assert_eq!(world.names(), "srv-a/one-us-east-1 srv-a/two-us-east-1");
}

#[test]
fn an_unchanged_pod_is_in_memory_once() {
    let mut world = World::new(&["srv-a"]);
    let place = |world: &World| world.instances["srv-a/web-1"].as_bytes().as_ptr();
    world.list(0, [web(1, Ready)]);
    assert_eq!(world.send(), "+srv-a/web-1");
    let first = place(&world);
    for _ in 0..2 {
        world.list(0, [web(1, Ready)]);
        assert_eq!(world.send(), "");
    }
    // The recreated service gets the instance of the index, which is the allocation from before the lists.
    let kept = world.instances["srv-a/web-1"].clone();
    world.make("srv-a", 2);
    assert_eq!(world.send(), "+srv-a/web-1");
    assert_eq!(place(&world), first);
    drop(kept);
}

#[test]
fn the_queue_is_processed_in_order() {
    let mut world = World::new(&["srv-a"]);
    world.list(0, (1..=5).map(|number| web(number, Ready)));
    world.look_up(false);
    let end = world.index.queue_end();
    assert_eq!((world.index.dequeued(), end - world.index.dequeued()), (0, 5));
    assert_eq!(world.index.next_batch(3).observations.len(), 3);
    for number in 6..=9 {
        world.index.upsert(0, web(number, Ready));
    }
    assert!(world.index.dequeued() < end);
    let batch = world.index.next_batch(2);
    assert_eq!(
        batch.observations.iter().map(|observation| observation.seen.id()).collect::<Vec<_>>(),
        ["web-4", "web-5"]
    );
    assert_eq!(world.index.dequeued(), end);
    world.index.failed(&batch);
    assert_eq!(world.index.queue_end(), end + 4 + 2);
    world.send();
    let (sent_count, end) = (world.sent_count, world.index.queue_end());
    world.index.upsert(0, web(1, Ready));
    world.send();
    assert_eq!((world.sent_count, world.index.dequeued()), (sent_count, end + 1));
}

/// Numbers that the registry gets next, as `service revision contents`.
fn numbers(world: &mut World) -> Vec<String> {
    world.look_up(true);
    let batch = world.index.next_batch(100);
    assert!(world.index.accepted(&batch, &[]).is_empty());
    let numbers = batch.numbers.iter();
    numbers.map(|of| format!("{} {} {}", of.service, of.revision, of.contents)).collect()
}

#[test]
fn numbers_are_those_of_the_writes_and_health_changes_only_the_contents() {
    let mut world = World::new(&["srv-a"]);
    let at = |version, readiness| ParsedPod { version, ..web(1, readiness) };
    world.index.upsert(0, at(5, Ready));
    assert_eq!(numbers(&mut world), ["srv-a 5 5"]);
    world.index.upsert(0, at(7, NotReady));
    assert_eq!(numbers(&mut world), ["srv-a 5 7"]);
    // Neither an older version from the slower watch nor a version without a difference counts.
    world.index.upsert(1, at(6, Ready));
    world.index.upsert(0, at(8, NotReady));
    assert!(numbers(&mut world).is_empty());
    world.index.delete(0, "default/web-1", 9);
    assert!(numbers(&mut world).is_empty());
    world.index.delete(1, "default/web-1", 10);
    assert_eq!(numbers(&mut world), ["srv-a 10 10"]);
}

#[test]
fn a_late_service_has_the_numbers_of_deleted_pods() {
    let mut world = World::new(&[]);
    world.index.upsert(0, ParsedPod { version: 5, ..web(1, Ready) });
    assert!(numbers(&mut world).is_empty());
    world.index.delete(0, "default/web-1", 7);
    assert!(numbers(&mut world).is_empty());
    world.services.insert("srv-a", 6);
    assert_eq!(numbers(&mut world), ["srv-a 7 7"]);
    assert!(numbers(&mut world).is_empty());
}

#[test]
fn a_terminating_pod_is_no_instance_and_has_endpoints_until_it_is_gone() {
    let mut world = World::mirrored(&["srv-a"]);
    world.list(0, [web(1, Ready), web(2, Ready)]);
    assert_eq!((world.names().as_str(), world.terminating().as_str()), ("srv-a/web-1 srv-a/web-2", ""));
    for (parsed, expected) in [
        (terminating_web(1, true), "web-1"),
        (terminating_web(1, false), "(web-1)"),
        // The pod has ended, and its object remains.
        (pod("web-1", "10.42.0.1", None, &[]), ""),
        (terminating_web(1, false), "(web-1)"),
    ] {
        world.index.upsert(0, parsed);
        assert_eq!((world.names().as_str(), world.terminating().as_str()), ("srv-a/web-2", expected));
    }
    world.index.upsert(1, terminating_web(1, false));
    world.index.delete(0, "default/web-1", 0);
    assert_eq!(world.terminating(), "(web-1)");
    world.index.delete(1, "default/web-1", 0);
    assert_eq!(world.terminating(), "");
    world.index.delete(0, "default/web-2", 0);
    world.names();
    assert_eq!(world.index.counts(), Counts::default());
}

#[test]
fn lists_decide_about_terminating_pods_as_about_others() {
    let mut world = World::mirrored(&["srv-a"]);
    // After a start, nothing is known of a pod but its terminating version.
    world.list(0, (1..=20).map(|number| terminating_web(number, true)));
    assert_eq!(world.terminating().split(' ').count(), 20);
    assert_eq!(world.names(), "");
    let few = || [terminating_web(1, true), web(30, Ready)];
    assert!(matches!(world.list(0, few()), ListEnd::Suspect { missing: 19, .. }));
    assert_eq!(world.terminating().split(' ').count(), 20);
    assert_eq!(world.list(0, few()), ListEnd::Accepted);
    assert_eq!((world.terminating().as_str(), world.names().as_str()), ("web-1", "srv-a/web-30"));
}

#[test]
fn a_successor_of_the_same_name_ends_the_endpoints_of_a_terminating_pod() {
    let mut world = World::mirrored(&["srv-a"]);
    world.index.upsert(0, ParsedPod { version: 5, ..terminating_web(1, true) });
    let heir = |readiness| ParsedPod { uid: Uid::of("2"), version: 7, created_s: 200, ..web(1, readiness) };
    world.index.upsert(0, heir(NeverReady));
    assert_eq!((world.terminating().as_str(), world.names().as_str()), ("", "srv-a/web-1"));
    // The slower watch still has the old pod.
    world.index.upsert(1, ParsedPod { version: 6, ..terminating_web(1, false) });
    assert_eq!((world.terminating().as_str(), world.names().as_str()), ("", "srv-a/web-1"));
    let unscheduled = ParsedPod { uid: Uid::of("3"), version: 9, ..pod("web-1", "10.42.0.1", None, &[]) };
    world.index.upsert(0, ParsedPod { uid: Uid::of("2"), version: 8, ..terminating_web(1, true) });
    assert_eq!(world.terminating(), "web-1");
    world.index.upsert(0, unscheduled);
    assert_eq!((world.terminating().as_str(), world.names().as_str()), ("", ""));
}

#[test]
fn an_address_of_a_terminating_pod_belongs_to_any_other_pod() {
    let mut world = World::mirrored(&["srv-a"]);
    let young = || ParsedPod { created_s: 200, ..terminating_web(1, true) };
    let old = || pod("old", "10.42.0.1", Some(Ready), &["srv-a/old"]);
    world.index.upsert(0, young());
    assert_eq!(world.terminating(), "web-1");
    world.index.upsert(0, old());
    assert_eq!((world.terminating().as_str(), world.names().as_str()), ("", "srv-a/old"));
    world.index.upsert(0, young());
    assert_eq!((world.terminating().as_str(), world.names().as_str()), ("", "srv-a/old"));
    world.index.delete(0, "default/old", 0);
    world.index.upsert(0, young());
    assert_eq!((world.terminating().as_str(), world.names().as_str()), ("web-1", ""));
}

#[test]
fn placements_are_kept_by_uid_while_the_pod_is_known() {
    let mut world = World::mirrored(&["srv-a"]);
    let on = |node: &str| Placement { node: Some(node.into()), zone: None };
    let at = |uid, node| ParsedPod { uid: Uid::of(uid), placement: on(node), ..web(1, Ready) };
    world.index.upsert(0, at("1", "node-1"));
    assert_eq!(world.table().placement(Uid::of("1")), on("node-1"));
    world.index.upsert(0, at("2", "node-2"));
    assert_eq!(world.table().placement(Uid::of("1")), Placement::default());
    assert_eq!(world.table().placement(Uid::of("2")), on("node-2"));
    world.index.delete(0, "default/web-1", 0);
    assert_eq!(world.table().placement(Uid::of("2")), Placement::default());
}

#[test]
fn without_a_mirror_terminating_pods_are_not_kept() {
    let mut world = World::new(&["srv-a"]);
    world.list(0, [terminating_web(1, true)]);
    assert_eq!(world.index.counts(), Counts::default());
    world.index.upsert(0, web(1, Ready));
    world.index.upsert(0, terminating_web(1, true));
    assert_eq!(world.names(), "");
    assert_eq!(world.index.counts().pods, 1);
}
