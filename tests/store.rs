//! The embedded store on a full disk: it contains exactly the acknowledged changes at any time, and recovers without a
//! restart.
//!
//! The limit on file sizes (RLIMIT_FSIZE) simulates the full disk. It applies to the whole process, so there is one test.

#![expect(clippy::unwrap_used, reason = "a panic is a failed test")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use cloudmap_dns::model::{Attributes, Instance, NamespaceKind, ServiceId, Tags};
use cloudmap_dns::registry::{
    Change, Command, Event, Publish, Registry, RegistryError, Settings, State, Store, StoreError,
};
use cloudmap_dns::store::EmbeddedStore;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};

/// Limit on the size of files, which ends when this value is dropped.
struct Limit;

impl Limit {
    fn new(bytes: u64) -> Limit {
        let (_, most) = getrlimit(Resource::RLIMIT_FSIZE).unwrap();
        setrlimit(Resource::RLIMIT_FSIZE, bytes, most).unwrap();
        Limit
    }
}

impl Drop for Limit {
    fn drop(&mut self) {
        let (_, most) = getrlimit(Resource::RLIMIT_FSIZE).unwrap();
        setrlimit(Resource::RLIMIT_FSIZE, most, most).unwrap();
    }
}

#[derive(Clone, Debug, Default, Eq, PartialEq)]
struct World {
    instances: BTreeMap<String, Instance>,
    sequence: Option<u64>,
}

impl World {
    fn of(store: &mut EmbeddedStore) -> World {
        let mut world = World::default();
        store.load(&mut |change| world.apply(&change)).unwrap();
        world
    }

    fn apply(&mut self, change: &Change) {
        match change {
            Change::PutInstance(_, instance) => {
                self.instances.insert(instance.id().to_owned(), instance.clone());
            }
            Change::DeleteInstance(_, id) => drop(self.instances.remove(&**id)),
            Change::PutSequence(number) => self.sequence = Some(*number),
            other => panic!("the test stored no {other:?}"),
        }
    }

    fn commit(&mut self, store: &mut EmbeddedStore, batch: Vec<Change>) -> Result<(), StoreError> {
        store.commit(std::slice::from_ref(&batch))?;
        batch.iter().for_each(|change| self.apply(change));
        Ok(())
    }
}

fn batch(round: u64) -> Vec<Change> {
    let service = || ServiceId::from("srv-1");
    let put = |number: u64| {
        let text = format!("{round}{}", "x".repeat(300));
        let attributes = Attributes::new(&BTreeMap::from([("text".to_owned(), text)])).unwrap();
        let instance = Instance::new(&format!("i-{number:05}"), None, &attributes, None, round).unwrap();
        Change::PutInstance(service(), instance)
    };
    let mut batch: Vec<Change> = (round * 40..round * 40 + 60).map(put).collect();
    batch.push(Change::DeleteInstance(service(), format!("i-{:05}", round * 31).into()));
    batch.push(Change::PutSequence(round));
    batch
}

struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

struct NullPublisher;

impl Publish for NullPublisher {
    fn publish(&mut self, _state: &State, _events: &[Event]) {}
}

#[tokio::test]
async fn full_disk_refuses_changes_until_there_is_space_and_keeps_exactly_what_was_acknowledged() {
    // With a handler for SIGXFSZ, a write beyond the limit fails with an error instead of ending the process.
    let _handler = signal(SignalKind::from_raw(nix::libc::SIGXFSZ)).unwrap();
    let directory = std::env::temp_dir().join(format!("cloudmap-dns-store-{}", std::process::id()));
    let scratch = Scratch(directory);
    every_point_of_a_commit_can_fail(&scratch.0.join("points"));
    growth_can_fail(&scratch.0.join("growth"));
    registry_recovers(&scratch.0.join("registry")).await;
}

/// Sets the limit to many points of the file, so that each time another one of a commit's writes fails.
fn every_point_of_a_commit_can_fail(directory: &Path) {
    let mut store = EmbeddedStore::open(directory).unwrap();
    let mut world = World::default();
    for round in 0..20 {
        world.commit(&mut store, batch(round)).unwrap();
    }
    let bytes = std::fs::metadata(directory.join("cloudmap.redb")).unwrap().len();
    let mut refused = 0;
    for point in 0..60 {
        let limit = Limit::new(bytes * point / 60);
        let answer = world.commit(&mut store, batch(20 + 3 * point));
        refused += u64::from(answer.is_err());
        // The second commit may find a store that the first failure has closed.
        let again = world.commit(&mut store, batch(21 + 3 * point));
        refused += u64::from(again.is_err());
        drop(limit);
        if point % 2 == 0 {
            assert_eq!(World::of(&mut store), world, "limit {point}/60, {answer:?}, {again:?}");
        }
        world.commit(&mut store, batch(22 + 3 * point)).unwrap();
        assert_eq!(World::of(&mut store), world, "limit {point}/60, {answer:?}, {again:?}");
    }
    assert!(refused >= 20, "only {refused} commits were refused");
    drop(store);
    assert_eq!(World::of(&mut EmbeddedStore::open(directory).unwrap()), world);
}

/// Limits the file to its current size: commits that fit into its free pages may succeed, the others fail.
fn growth_can_fail(directory: &Path) {
    let mut store = EmbeddedStore::open(directory).unwrap();
    let mut world = World::default();
    world.commit(&mut store, batch(0)).unwrap();
    let mut round = 1;
    for _ in 0..3 {
        let bytes = std::fs::metadata(directory.join("cloudmap.redb")).unwrap().len();
        let limit = Limit::new(bytes);
        let mut refused = 0;
        while refused < 10 {
            // Every third batch is small, so that it may still fit.
            let changes = batch(round);
            let part = if round % 3 == 0 { 3 } else { changes.len() };
            let changes = changes.into_iter().take(part).collect();
            refused += u64::from(world.commit(&mut store, changes).is_err());
            assert_eq!(World::of(&mut store), world, "round {round}");
            round += 1;
        }
        drop(limit);
        world.commit(&mut store, batch(round)).unwrap();
        round += 1;
    }
    // Copy the file of the open store, as a crash would leave it.
    let copy = directory.join("copy");
    std::fs::create_dir(&copy).unwrap();
    std::fs::copy(directory.join("cloudmap.redb"), copy.join("cloudmap.redb")).unwrap();
    assert_eq!(World::of(&mut EmbeddedStore::open(&copy).unwrap()), world);
    drop(store);
    assert_eq!(World::of(&mut EmbeddedStore::open(directory).unwrap()), world);
}

/// Checks what a client sees of a full disk: changes fail, reads still work, and changes succeed once there is space again.
async fn registry_recovers(directory: &Path) {
    let open = || {
        let store = EmbeddedStore::open(directory).unwrap();
        Registry::start(Settings::default(), Box::new(store), Box::new(NullPublisher)).unwrap()
    };
    let create = |name: &str| Command::CreateNamespace {
        name: name.into(),
        kind: NamespaceKind::DnsPrivate { vpc: "vpc-1".into() },
        creator_request_id: None,
        description: None,
        soa_ttl: None,
        tags: Tags::new(),
    };
    let (registry, writer) = open();
    registry.submit(create("before.local")).await.unwrap();

    let limit = Limit::new(0);
    for name in ["during.local", "after.local"] {
        let refused = registry.submit(create(name)).await;
        assert!(matches!(refused, Err(RegistryError::NotStored(_))), "{refused:?}");
        assert!(registry.store_failure().is_some());
        assert!(registry.state().namespace_by_zone("before.local").is_some());
        assert!(registry.state().namespace_by_zone(name).is_none());
    }
    drop(limit);

    registry.submit(create("after.local")).await.unwrap();
    assert!(registry.store_failure().is_none());
    drop(registry);
    tokio::task::spawn_blocking(|| writer.stop()).await.unwrap();

    let (registry, writer) = open();
    let state = registry.state();
    assert!(state.namespace_by_zone("before.local").is_some());
    assert!(state.namespace_by_zone("during.local").is_none());
    assert!(state.namespace_by_zone("after.local").is_some());
    drop(registry);
    tokio::task::spawn_blocking(|| writer.stop()).await.unwrap();
}
