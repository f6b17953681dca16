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

use kube::api::ListParams;
use kube::{Resource, ResourceExt};

use crate::model::{Namespace, NamespaceKind, Service, ServiceId};
use crate::registry::names::{name_below, names_of_instance, splits};
use crate::registry::{Change, State, state::zone_key};

use super::index::Index;
use super::keys::WriteKey;
use super::names;
use super::object_cache::ObjectCache;
use super::request::{self, Deadline, Failed, Object, Winner, version_of};
use super::resources::{CloudMapInstance, CloudMapNamespace, CloudMapService, Condition};
use super::shared::Shared;
use super::translate::{self, Numbered, creation_number};
use super::write::WINNER_MS_MAX;

/// Annotation of the object of a service that has services below it.
const HAS_SERVICES_BELOW: &str = "cloudmap-dns.io/has-services-below";

/// The DNS names that a change affects, as keys: changes of one name are written one after the other.
pub(super) fn names_of(index: &Index, change: &Change) -> Vec<WriteKey> {
    let state = index.state();
    let of_service = |service: &Service, name: String| WriteKey::DnsName(service.namespace_id.clone(), name);
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
    let above = services_above(index.state(), service, &service.name);
    let objects = above.iter().filter_map(|(id, _)| index.service_object(id));
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
    let conditions = found.status.as_ref().map_or(&[][..], |status| &status.conditions);
    let number = created_at(shared, &found);
    if is_older(&found, number, conditions, version_of(object)) {
        shared.wait_for(WINNER_MS_MAX, |index| knows(&index.namespaces, &found)).await;
        return Err(taken(&namespace.name, &format!("the namespace {other}")));
    }
    Ok(())
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
    let above = services_above(shared.index().state(), service, &service.name);
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
    let has_rivals = id.contains('.') || is_marked(owner) || shared.index().state().nests(service);
    if service.api_only || !has_rivals {
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
        let number = created_at(shared, &found);
        let conditions = found.status.as_ref().map_or(&[][..], |status| &status.conditions);
        if is_older(&found, number, conditions, created) {
            let knows = |index: &Index| knows(&index.services, &found);
            shared.wait_for(WINNER_MS_MAX, knows).await;
            return Err(taken(&name, &format!("the service {}", found.spec.name)));
        }
    }
    let mut rivals = services_above(shared.index().state(), service, &name);
    rivals.retain(|(rival, _)| *rival != service.id);
    check_instances(shared, rivals, created, &name, until).await
}

/// The services that can have an instance of this name, with the id of that instance, for the name as written and in
/// lower case.
fn services_above(state: &State, service: &Service, name: &str) -> BTreeSet<(ServiceId, String)> {
    let lower = name.to_ascii_lowercase();
    let mut found = BTreeSet::new();
    for (id, above) in splits(name).chain(splits(&lower)) {
        if let Some(above) = state.service_in_dns(&service.namespace_id, &above.to_ascii_lowercase()) {
            found.insert((above.service.id.clone(), id.to_string()));
        }
    }
    found
}

async fn check_instances(
    shared: &Shared,
    instances: BTreeSet<(ServiceId, String)>,
    created: u64,
    name: &str,
    until: Deadline,
) -> Result<(), Failed> {
    for (service, id) in instances {
        let parameters =
            ListParams::default().fields(&format!("spec.serviceId={service},spec.instanceId={id}"));
        for found in request::read(|| shared.instances.list(&parameters), until).await?.items {
            let number = translate::instance_number(&found, 0);
            let conditions = found.status.as_ref().map_or(&[][..], |status| &status.conditions);
            if is_older(&found, number, conditions, created) {
                shared.wait_for(WINNER_MS_MAX, |index| knows(&index.instances, &found)).await;
                return Err(taken(name, &format!("the instance {id} of the service {service}")));
            }
        }
    }
    Ok(())
}

fn created_at(shared: &Shared, object: &impl Numbered) -> u64 {
    let offset = shared.index().offset();
    creation_number(object, offset).saturating_sub(offset)
}

/// True if an object is accepted or not decided yet, and was created before the write with the number `created`. The
/// number of the creation is lost once an object has changed, so a changed object counts as older.
fn is_older<K: Resource<DynamicType = ()>>(
    found: &K,
    number: u64,
    conditions: &[Condition],
    created: u64,
) -> bool {
    let is_changed = found.meta().generation.is_some_and(|generation| generation > 1);
    let is_refused =
        conditions.iter().any(|condition| condition.kind == "Accepted" && condition.status == "False");
    !is_refused && (is_changed || number < created)
}

fn is_marked(object: &CloudMapService) -> bool {
    object.annotations().contains_key(HAS_SERVICES_BELOW)
}

/// Returns `Some` once the index has the object that won a race for a name, so that the next plan is rejected because of
/// it.
fn knows<K: Object, Id: Clone>(cache: &ObjectCache<K, Id>, winner: &K) -> Option<()> {
    cache.knows(Winner::Version(version_of(winner)), &winner.name_any(), None).then_some(())
}

fn taken(name: &str, claimant: &str) -> Failed {
    Failed::lost(format!("the name {name} was given to {claimant} at the same time"))
}
