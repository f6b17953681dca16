//! Races between two replicas for one DNS name.
//!
//! A replica rejects a claim to a name that it knows to belong to another object, but it may not know yet what another
//! replica has written. So the writer of an object whose name could be claimed in another service reads the possible
//! claimants from etcd after the creation, and deletes its object again if one of them was created before. Of two writers
//! the later one sees the other's object, because each reads after it has created its own.
//!
//! Most instances can have no such claimant, and nothing is read for them: their ids have no dot, and the name of no
//! service ends in that of theirs. Before a service is created below another one, the object of the upper service is
//! marked. The mark tells a writer of an instance that there are services below its own: it reads every owner that was
//! marked recently.
//!
//! A zone is claimed in a similar way: a DNS namespace of the other type has another object name, which follows from the
//! zone, so whoever creates a DNS namespace reads that one object.
//!
//! Object names and field selectors are case-sensitive. So a claimant whose id differs from the name in case is not found
//! here. Once a replica has both objects in its index, the older one gets the name.

use std::collections::BTreeSet;
use std::sync::Arc;

use kube::ResourceExt;
use kube::api::ListParams;

use crate::model::{Namespace, NamespaceKind, Service, ServiceId};
use crate::registry::names::{name_below, names_of_instance, splits};
use crate::registry::{Change, State, state::zone_key};

use super::index::{Index, IndexedKind};
use super::keys::{DnsNameKey, InstanceKey, WriteKey};
use super::kind::ClaimingKind;
use super::names;
use super::request::{self, Deadline, Failed, Winner, version_of};
use super::resources::{CloudMapInstance, CloudMapNamespace, CloudMapService, Condition};
use super::shared::Shared;
use super::write::WINNER_MS_MAX;

const HAS_SERVICES_BELOW: &str = "cloudmap-dns.io/has-services-below";

/// The DNS names that a change affects, as keys: changes of one name are written one after the other.
pub(super) fn names_of(index: &Index, change: &Change) -> Vec<WriteKey> {
    let state = index.state();
    let of_service = |service: &Service, name: String| {
        WriteKey::DnsName(DnsNameKey { namespace: service.namespace_id.clone(), name })
    };
    let of_instance = |id: &ServiceId, instance: &str| {
        let Ok(found) = state.service(id.as_str()) else { return Vec::new() };
        let service = &*found.service;
        let is_claimed = !service.api_only && (instance.contains('.') || state.nests(service));
        match state.namespace(service.namespace_id.as_str()) {
            Ok(namespace) if is_claimed => {
                let names = names_of_instance(instance, service, &namespace.namespace).into_iter();
                names.map(|name| of_service(service, name)).collect()
            }
            _ => Vec::new(),
        }
    };
    match change {
        Change::PutService(service) => vec![of_service(service, service.name.to_ascii_lowercase())],
        Change::DeleteService(id) => {
            let found = state.service(id.as_str()).map(|found| &found.service);
            found.iter().map(|service| of_service(service, service.name.to_ascii_lowercase())).collect()
        }
        Change::PutInstance(service, instance) => of_instance(service, instance.id()),
        Change::DeleteInstance(service, instance) => of_instance(service, instance),
        _ => Vec::new(),
    }
}

pub(super) fn unmarked_above(index: &Index, service: &Service) -> Vec<Arc<CloudMapService>> {
    let above = instances_above(index.state(), service, &service.name);
    let objects = above.iter().filter_map(|key| CloudMapService::find(index, &key.service));
    objects.filter(|object| !is_marked(object)).collect()
}

pub(super) fn mark(service: &mut CloudMapService) {
    service.annotations_mut().insert(HAS_SERVICES_BELOW.into(), "true".into());
}

/// Returns an error if a DNS namespace of the other type has the zone of this one and was created before: their objects
/// have different names, so etcd accepts both.
pub(super) async fn check_namespace(
    shared: &Shared,
    namespace: &Namespace,
    object: &CloudMapNamespace,
    until: Deadline,
) -> Result<(), Failed> {
    let other = match namespace.kind {
        NamespaceKind::Http => return Ok(()),
        NamespaceKind::DnsPrivate { .. } => NamespaceKind::DnsPublic,
        NamespaceKind::DnsPublic => NamespaceKind::DnsPrivate { vpc: String::new() },
    };
    let other = shared.index().identity().namespace_id(other.as_str(), &zone_key(&namespace.name));
    let found = request::read(|| shared.namespaces.get_opt(other.as_str()), until).await?;
    let Some(found) = found else { return Ok(()) };
    check_older(shared, &found, version_of(object), &namespace.name, || format!("the namespace {other}"))
        .await
}

/// Returns an error if an instance of another service has the name of this new service and was created before.
pub(super) async fn check_service(
    shared: &Shared,
    service: &Service,
    object: &CloudMapService,
    until: Deadline,
) -> Result<(), Failed> {
    if service.api_only {
        return Ok(());
    }
    let above = instances_above(shared.index().state(), service, &service.name);
    check_instances(shared, above, version_of(object), &service.name, until).await
}

/// Returns an error if a service or another instance has the name of this new instance and was created before. `owner` is
/// the current object of its service.
pub(super) async fn check_instance(
    shared: &Shared,
    namespace: &Namespace,
    service: &Service,
    owner: &CloudMapService,
    object: &CloudMapInstance,
    until: Deadline,
) -> Result<(), Failed> {
    let id = object.spec.instance_id.as_str();
    let may_conflict = id.contains('.') || is_marked(owner) || shared.index().state().nests(service);
    if service.api_only || !may_conflict {
        return Ok(());
    }
    let name = match service.name.as_str() {
        "." => id.to_string(),
        of_service => format!("{id}.{of_service}"),
    };
    let created = version_of(object);
    let namesake = Service { name: name_below(id, &service.name), ..service.clone() };
    let identity = shared.index().identity().clone();
    let id = identity.service_id(&namespace.id, &namesake.name);
    let namesake = names::of_service(&identity, &Service { id, ..namesake }, namespace);
    let found = request::read(|| shared.services.get_opt(&namesake), until).await?;
    if let Some(found) = found.filter(|found| found.spec.dns_config.is_some()) {
        let claimant = || format!("the service {}", found.spec.name);
        check_older(shared, &found, created, &name, claimant).await?;
    }
    let mut claimants = instances_above(shared.index().state(), service, &name);
    claimants.retain(|claimant| claimant.service != service.id);
    check_instances(shared, claimants, created, &name, until).await
}

/// The instances of other services that can have this name, as written and in lower case.
fn instances_above(state: &State, service: &Service, name: &str) -> BTreeSet<InstanceKey> {
    let lower = name.to_ascii_lowercase();
    let mut found = BTreeSet::new();
    for (id, above) in splits(name).chain(splits(&lower)) {
        if let Some(above) = state.service_in_dns(&service.namespace_id, &above.to_ascii_lowercase()) {
            found.insert(InstanceKey::new(&above.service.id, id));
        }
    }
    found
}

async fn check_instances(
    shared: &Shared,
    instances: BTreeSet<InstanceKey>,
    created: u64,
    name: &str,
    until: Deadline,
) -> Result<(), Failed> {
    for InstanceKey { service, instance } in instances {
        let fields = format!("spec.serviceId={service},spec.instanceId={instance}");
        let parameters = ListParams::default().fields(&fields);
        for found in request::read(|| shared.instances.list(&parameters), until).await?.items {
            let claimant = || format!("the instance {instance} of the service {service}");
            check_older(shared, &found, created, name, claimant).await?;
        }
    }
    Ok(())
}

/// Returns an error if an object that claims a name was created before the write with the number `created`. Before that,
/// waits until the index has the object, so that the next plan is rejected because of it.
async fn check_older<K: ClaimingKind>(
    shared: &Shared,
    found: &K,
    created: u64,
    name: &str,
    claimant: impl Fn() -> String,
) -> Result<(), Failed> {
    let offset = shared.index().offset();
    if !is_older(found, offset, created) {
        return Ok(());
    }
    let winner = Winner::Version(version_of(found));
    let knows = |index: &Index| K::cache(index).knows(winner, &found.name_any(), None).then_some(());
    shared.wait_for(WINNER_MS_MAX, knows).await;
    Err(Failed::lost(format!("the name {name} was given to {} at the same time", claimant())))
}

/// True if an object is accepted or not decided yet, and was created before the write with the number `created`. The
/// number of the creation is lost once an object has changed, so a changed object counts as older.
fn is_older<K: ClaimingKind>(found: &K, offset: u64, created: u64) -> bool {
    let is_changed = found.meta().generation.is_some_and(|generation| generation > 1);
    let is_rejected = |condition: &Condition| condition.kind == "Accepted" && condition.status == "False";
    !found.status_fields().conditions.iter().any(is_rejected)
        && (is_changed || found.creation_version(offset) < created)
}

fn is_marked(object: &CloudMapService) -> bool {
    object.annotations().contains_key(HAS_SERVICES_BELOW)
}
