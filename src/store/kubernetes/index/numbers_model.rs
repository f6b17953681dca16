//! Random tests of revisions and serials, with a model of a cluster and of several servers.
//!
//! The cluster is a log of writes to objects of four kinds. Each server has the real index of custom resources, the real
//! index of pods and a real registry. Random steps write objects, deliver the next event of one kind to one server, list
//! a kind again at one server, or restart it. When everything is delivered, all servers have to show equal numbers and
//! contents, and no server may have shown these numbers with other contents before, because a client that asked then
//! would keep the outdated contents.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

use fastrand::Rng;
use serde_json::{Value, json};

use super::super::renumber;
use super::super::resources::CloudMapStore;
use super::contents::Index;
use super::events::Removal;
use crate::kubernetes::index::Index as Pods;
use crate::kubernetes::pod::{KnownReadiness, ParsedPod, Placement, Registration};
use crate::model::{Attributes, Identity, PodDetails, Readiness, ServiceId, Uid};
use crate::registry::{
    Change, ChangeNotifier, Command, Event, Group, HealthSettings, Publish, Registry, Renumber, Reply,
    Settings, State, Store, StoreError, Verdict, WriterThread,
};

const KINDS: [Kind; 4] = [Kind::Service, Kind::Instance, Kind::Pod, Kind::Store];
const SERVICES: [&str; 2] = ["web", "db"];
const RUNS: u64 = 200;
const STEPS: usize = 150;

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Kind {
    Service,
    Instance,
    Pod,
    Store,
}

#[derive(Clone, Debug)]
struct Object {
    name: String,
    uid: String,
    version: u64,
    generation: u64,
    service: &'static str,
    address: u8,
    is_healthy: Option<bool>,
    renumbered: String,
}

#[derive(Clone, Debug)]
struct Write {
    kind: Kind,
    object: Object,
    is_deletion: bool,
}

#[derive(Default)]
struct Cluster {
    version: u64,
    log: Vec<Write>,
    objects: BTreeMap<(Kind, String), Object>,
}

impl Cluster {
    fn write(&mut self, kind: Kind, name: &str, change: impl FnOnce(&mut Object)) -> Object {
        self.version += 1;
        let (version, key) = (self.version, (kind, name.to_string()));
        let object = self.objects.entry(key).or_insert_with(|| Object {
            name: name.into(),
            uid: format!("{kind:?}-{name}-{version}"),
            version,
            generation: 0,
            service: SERVICES[0],
            address: 1,
            is_healthy: None,
            renumbered: String::new(),
        });
        object.version = version;
        change(object);
        let object = object.clone();
        self.log.push(Write { kind, object: object.clone(), is_deletion: false });
        object
    }

    fn delete(&mut self, kind: Kind, name: &str) {
        if let Some(mut object) = self.objects.remove(&(kind, name.to_string())) {
            self.version += 1;
            object.version = self.version;
            self.log.push(Write { kind, object, is_deletion: true });
        }
    }

    fn of(&self, kind: Kind) -> Vec<Object> {
        self.objects
            .iter()
            .filter(|((other, _), _)| *other == kind)
            .map(|(_, object)| object.clone())
            .collect()
    }

    /// Makes a random write, in half of the runs only of pods and services. Returns the object if the write was one of a
    /// custom resource, for the server that made it.
    fn change(&mut self, rng: &mut Rng, is_of_pods: bool) -> Option<(Kind, Object)> {
        let service = SERVICES[rng.usize(..2)];
        let number = rng.usize(..3);
        let (instance, pod) = (format!("i-{service}-{number}"), format!("p-{service}-{number}"));
        let address = rng.u8(1..200);
        match rng.usize(if is_of_pods { 4 } else { 0 }..10) {
            0 | 1 => {
                let put = |object: &mut Object| {
                    (object.service, object.address) = (service, address);
                    object.generation += 1;
                };
                return Some((Kind::Instance, self.write(Kind::Instance, &instance, put)));
            }
            2 => self.delete(Kind::Instance, &instance),
            3 if self.objects.contains_key(&(Kind::Instance, instance.clone())) => {
                let put = |object: &mut Object| object.is_healthy = Some(address.is_multiple_of(2));
                return Some((Kind::Instance, self.write(Kind::Instance, &instance, put)));
            }
            4 => self.delete(Kind::Pod, &pod),
            5 | 6 => {
                // Two pods never share an address.
                let own = 200 + u8::try_from(number).unwrap() + if service == "db" { 10 } else { 0 };
                self.write(Kind::Pod, &pod, |object| {
                    (object.service, object.address) = (service, own);
                    object.is_healthy = Some(false);
                });
            }
            7 if self.objects.contains_key(&(Kind::Pod, pod.clone())) => {
                self.write(Kind::Pod, &pod, |object| object.is_healthy = Some(address.is_multiple_of(2)));
            }
            8 if rng.usize(..2) == 0 => self.delete(Kind::Service, service),
            9 if !self.objects.contains_key(&(Kind::Service, service.into())) => {
                self.write(Kind::Service, service, |object| object.generation = 1);
            }
            _ => {}
        }
        None
    }
}

fn custom_resource<K: serde::de::DeserializeOwned>(
    kind: &str,
    object: &Object,
    spec: Value,
    status: Value,
) -> K {
    let metadata = json!({
        "name": object.name,
        "uid": object.uid,
        "resourceVersion": object.version.to_string(),
        "generation": object.generation,
        "creationTimestamp": "2026-01-01T00:00:00Z",
        "annotations": { "cloudmap-dns.io/renumbered": object.renumbered },
    });
    let value = json!({
        "apiVersion": "cloudmap-dns.io/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec, "status": status,
    });
    serde_json::from_value(value).unwrap()
}

fn put(index: &mut Index, kind: Kind, object: &Object) {
    match kind {
        Kind::Service => index.put_service(custom_resource(
            "CloudMapService",
            object,
            json!({
                "name": object.name,
                "namespaceName": "shop.local",
                "dnsConfig": {"dnsRecords": [{"type": "A", "ttl": 60}]},
                "healthCheckCustomConfig": {},
            }),
            json!({}),
        )),
        Kind::Instance => {
            let word = object.is_healthy.map(|is_healthy| if is_healthy { "HEALTHY" } else { "UNHEALTHY" });
            let status = match word {
                Some(word) => json!({"customHealthStatus": word, "observedGeneration": object.generation}),
                None => json!({}),
            };
            index.put_instance(custom_resource(
                "CloudMapInstance",
                object,
                json!({
                    "instanceId": object.name,
                    "serviceName": object.service,
                    "namespaceName": "shop.local",
                    "attributes": {"AWS_INSTANCE_IPV4": format!("10.0.0.{}", object.address)},
                }),
                status,
            ));
        }
        Kind::Store => {
            let object: CloudMapStore =
                custom_resource("CloudMapStore", object, json!({"numberOffset": 0}), Value::Null);
            renumber::put(index, &object);
        }
        Kind::Pod => unreachable!("pods are no custom resources"),
    }
}

fn parsed_pod(object: &Object) -> ParsedPod {
    let address = format!("10.42.0.{}", object.address);
    let attributes = BTreeMap::from([("AWS_INSTANCE_IPV4".to_string(), address.clone())]);
    let readiness = if object.is_healthy == Some(true) { Readiness::Ready } else { Readiness::NotReady };
    let known = KnownReadiness { readiness, was_ready: Some(true), changed_s: 100 };
    ParsedPod {
        name: format!("default/{}", object.name).into(),
        uid: Uid::of(&object.uid),
        version: object.version,
        created_s: 100,
        started_s: 100,
        details: PodDetails::default(),
        readiness: Some(readiness),
        was_ready: Some(true),
        own_addresses: vec![address.parse().unwrap()],
        registrations: vec![Registration {
            service: service_id(object.service),
            id: object.name.as_str().into(),
            attributes: Attributes::new(&attributes).unwrap(),
            readiness: known,
            container_readiness: known,
        }],
        placement: Placement::default(),
        drained_at: None,
        terminating: Vec::new(),
        problems: Vec::new(),
        contradictions: Vec::new(),
    }
}

fn identity() -> Identity {
    Settings::default().identity
}

fn service_id(name: &str) -> ServiceId {
    identity().service_id(&identity().namespace_id("DNS_PRIVATE", "shop.local"), name)
}

/// The index of custom resources of a server, and the resources that it requests to be renumbered.
#[derive(Clone)]
struct ModelStore(Arc<Mutex<(Index, Renumber)>>);

impl ModelStore {
    fn lock(&self) -> MutexGuard<'_, (Index, Renumber)> {
        self.0.lock().unwrap()
    }

    fn update_index(&self, take: impl FnOnce(&mut Index)) {
        let mut store = self.lock();
        take(&mut store.0);
        let to_renumber = store.0.take_renumbering();
        store.1.extend(to_renumber);
    }
}

impl Store for ModelStore {
    fn attach(&mut self, _notifier: ChangeNotifier) {}

    fn load(&mut self, sink: &mut dyn FnMut(Change)) -> Result<(), StoreError> {
        self.changes().into_iter().for_each(sink);
        Ok(())
    }

    fn changes(&mut self) -> Vec<Change> {
        self.lock().0.drain()
    }

    fn may_lose(&self) -> bool {
        true
    }

    fn renumber(&mut self, wanted: Renumber) {
        self.lock().1.extend(wanted);
    }

    fn commit(&mut self, batch: &[Group]) -> Result<Vec<Verdict>, StoreError> {
        panic!("nothing is written through the model: {batch:?}")
    }
}

struct Nowhere;

impl Publish for Nowhere {
    fn publish(&mut self, _state: &State, _events: &[Event]) {}
}

struct Server {
    store: ModelStore,
    pods: Pods,
    registry: Registry,
    writer: WriterThread,
    delivered: BTreeMap<Kind, usize>,
}

impl Server {
    /// Starts a server: it lists and renumbers everything, and shows the first state.
    fn start(cluster: &mut Cluster) -> Server {
        let mut index = Index::new(Settings::default());
        index.put_namespace(custom_resource(
            "CloudMapNamespace",
            &Object { name: "zone".into(), uid: "zone".into(), version: 1, generation: 1, ..empty() },
            json!({"name": "shop.local", "type": "DNS_PRIVATE"}),
            json!({}),
        ));
        let mut delivered = BTreeMap::new();
        for kind in KINDS {
            delivered.insert(kind, cluster.log.len());
            if kind != Kind::Pod {
                cluster.of(kind).iter().for_each(|object| put(&mut index, kind, object));
            }
        }
        let store = ModelStore(Arc::new(Mutex::new((index, Renumber::everything()))));
        write_numbers(cluster, &store);
        store.update_index(Index::read);
        let (registry, writer) =
            Registry::start(Settings::default(), Box::new(store.clone()), Box::new(Nowhere)).unwrap();
        Server { store, pods: Pods::default(), registry, writer, delivered }
    }

    fn deliver(&mut self, cluster: &Cluster, kind: Kind) -> bool {
        let at = self.delivered.get_mut(&kind).unwrap();
        let next = cluster.log.iter().enumerate().skip(*at).find(|(_, write)| write.kind == kind);
        let Some((position, Write { object, is_deletion, .. })) = next else { return false };
        *at = position + 1;
        let removal = Removal::At(object.version);
        match (kind, is_deletion) {
            (Kind::Pod, true) => self.pods.delete(0, &format!("default/{}", object.name), object.version),
            (Kind::Pod, false) => _ = self.pods.upsert(0, parsed_pod(object)),
            (Kind::Service, true) => {
                self.store
                    .update_index(|index| index.remove_service(&object.name, Uid::of(&object.uid), removal));
            }
            (Kind::Instance, true) => {
                self.store
                    .update_index(|index| index.remove_instance(&object.name, Uid::of(&object.uid), removal));
            }
            _ => self.store.update_index(|index| put(index, kind, object)),
        }
        true
    }

    /// Lists a kind again: the server sees only the result of the writes since, not each of them.
    fn list(&mut self, cluster: &Cluster, kind: Kind) {
        self.delivered.insert(kind, cluster.log.len());
        let listed = cluster.of(kind);
        if kind == Kind::Pod {
            // A list without most of the known pods is trusted the second time.
            for _ in 0..2 {
                self.pods.list_begins(0);
                listed.iter().for_each(|object| _ = self.pods.upsert(0, parsed_pod(object)));
                self.pods.list_ends(0);
            }
        } else {
            self.store.update_index(|index| {
                let (before, _) = match kind {
                    Kind::Service => index.services.inventory(),
                    Kind::Instance => index.instances.inventory(),
                    _ => (Vec::new(), Vec::new()),
                };
                listed.iter().for_each(|object| put(index, kind, object));
                let is_gone = |uid: Uid| !listed.iter().any(|object| Uid::of(&object.uid) == uid);
                for (name, uid) in before.into_iter().filter(|(_, uid)| is_gone(*uid)) {
                    match kind {
                        Kind::Service => index.remove_service(&name, uid, Removal::Unlisted),
                        _ => index.remove_instance(&name, uid, Removal::Unlisted),
                    }
                }
            });
        }
        self.store.lock().1.extend(Renumber::everything());
    }

    /// Passes everything in the index to the registry, and waits until its state shows it.
    async fn sync(&mut self) {
        loop {
            let state = self.registry.state();
            self.pods.look_up(true, |id| Some(state.service(id.as_str()).ok()?.service.made_at()));
            let batch = self.pods.next_batch(100);
            let is_last = batch.is_empty();
            // An empty observation makes the registry read the changes of the store.
            match self.registry.submit(Command::Observe(batch.clone())).await.unwrap() {
                Reply::Observed(refused) => drop(self.pods.accepted(&batch, &refused)),
                other => panic!("{other:?}"),
            }
            let is_new = |id: &&str| {
                let (old, new) = (state.service(service_id(id).as_str()), self.registry.state());
                let new = new.service(service_id(id).as_str());
                old.map(|state| state.service.made_at()).ok() != new.map(|state| state.service.made_at()).ok()
            };
            if is_last && !SERVICES.iter().any(is_new) {
                return;
            }
        }
    }

    /// The number and content of each service and of the zone, as clients see them.
    fn shown(&self) -> BTreeMap<String, (u64, String)> {
        let state = self.registry.state();
        let mut shown = BTreeMap::new();
        let mut zone = String::new();
        for name in SERVICES {
            let Ok(found) = state.service(service_id(name).as_str()) else { continue };
            let mut instances = BTreeSet::new();
            let policies = HealthSettings::default();
            let health = policies.of(found);
            for instance in found.instances() {
                let address = instance.ipv4().unwrap();
                instances.insert(format!("{} {address}", instance.id()));
                zone += &format!("{name} {} {address} {:?};", instance.id(), health.status_of(instance));
            }
            zone += name;
            shown.insert(name.to_string(), (found.revision(), format!("{instances:?}")));
        }
        let namespace = identity().namespace_id("DNS_PRIVATE", "shop.local");
        shown.insert("zone".into(), (state.serial(&namespace), zone));
        shown
    }
}

fn empty() -> Object {
    let mut cluster = Cluster::default();
    cluster.write(Kind::Store, "", |_| {})
}

/// Writes the renumbering that a server requests, like its task does. Returns false if there is none.
fn write_numbers(cluster: &mut Cluster, store: &ModelStore) -> bool {
    let wanted = std::mem::take(&mut store.lock().1);
    if wanted.is_empty() {
        return false;
    }
    let text = renumber::ids(&wanted);
    let object = cluster.write(Kind::Store, "cloudmap-dns", |object| object.renumbered = format!("x {text}"));
    store.update_index(|index| put(index, Kind::Store, &object));
    true
}

#[derive(Default)]
struct Shown {
    last: BTreeMap<(usize, String), u64>,
    contents: BTreeMap<(String, u64), BTreeSet<String>>,
}

impl Shown {
    fn note(&mut self, run: u64, at: usize, server: &Server) {
        for (what, (number, content)) in server.shown() {
            let last = self.last.insert((at, what.clone()), number).unwrap_or(0);
            assert!(number >= last, "run {run}: {what} at {at} went back from {last} to {number}");
            self.contents.entry((what, number)).or_default().insert(content);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn equal_numbers_end_with_equal_contents_in_any_order_of_events() {
    for run in 0..RUNS {
        let mut rng = Rng::with_seed(run);
        let gap = [6, 12, 50][rng.usize(..3)];
        let mut cluster = Cluster { version: 1, ..Cluster::default() };
        cluster.write(Kind::Service, "web", |object| object.generation = 1);
        let count = rng.usize(2..4);
        let mut servers: Vec<Server> = (0..count).map(|_| Server::start(&mut cluster)).collect();
        let mut shown = Shown::default();
        for step in 0..STEPS {
            let at = rng.usize(..count);
            let kind = KINDS[rng.usize(..KINDS.len())];
            match rng.usize(..40) {
                0 => {
                    let Server { registry, writer, .. } = servers.remove(at);
                    drop(registry);
                    tokio::task::spawn_blocking(|| writer.stop()).await.unwrap();
                    let mut server = Server::start(&mut cluster);
                    server.list(&cluster, Kind::Pod);
                    servers.insert(at, server);
                }
                1 => servers[at].list(&cluster, kind),
                2..=5 => drop(write_numbers(&mut cluster, &servers[at].store)),
                6..=20 => {
                    let written = cluster.change(&mut rng, run % 2 == 0);
                    // The server that wrote it may get the response before the watch event.
                    if let Some((kind, object)) = written.filter(|_| rng.bool()) {
                        servers[at].store.update_index(|index| put(index, kind, &object));
                    }
                }
                _ => drop(servers[at].deliver(&cluster, kind)),
            }
            servers[at].sync().await;
            shown.note(run, at, &servers[at]);
            // Only few changes happen between two quiet points, because a later change hides the errors of an earlier
            // one.
            if step % gap != gap - 1 {
                continue;
            }
            loop {
                let mut is_at_rest = true;
                for (at, server) in servers.iter_mut().enumerate() {
                    for kind in KINDS {
                        while server.deliver(&cluster, kind) {
                            is_at_rest = false;
                            server.sync().await;
                            shown.note(run, at, server);
                        }
                    }
                    is_at_rest &= !write_numbers(&mut cluster, &server.store);
                    server.sync().await;
                    shown.note(run, at, server);
                }
                if is_at_rest {
                    break;
                }
            }
            let all: Vec<_> = servers.iter().map(Server::shown).collect();
            assert!(all.iter().all(|one| *one == all[0]), "run {run}, step {step}: {all:#?}");
            for (what, (number, content)) in &all[0] {
                let contents = &shown.contents[&(what.clone(), *number)];
                assert_eq!(
                    contents.len(),
                    1,
                    "run {run}, step {step}: {what} {number} is {content}: {contents:#?}"
                );
            }
        }
        for Server { registry, writer, .. } in servers {
            drop(registry);
            tokio::task::spawn_blocking(|| writer.stop()).await.unwrap();
        }
    }
}
