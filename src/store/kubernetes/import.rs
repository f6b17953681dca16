//! Import of an exported store: creates its objects with the numbers that they had.

use std::collections::HashMap;
use std::sync::Arc;

use futures_util::{StreamExt, TryStreamExt, stream};
use kube::ResourceExt;
use kube::api::ListParams;
use serde_json::{Value, json};

use crate::model::{Namespace, NamespaceId, Operation, Service, ServiceId};
use crate::registry::Change;

use super::keys::InstanceKey;
use super::kind::{health_report_object, instance_object, namespace_object, service_object};
use super::names::{self, STORE_OBJECT};
use super::operation_annotation::{self, SpecIds};
use super::request::{self, Deadline, Failed, WRITTEN_BY};
use super::resources::{CloudMapStore, CustomHealthWord, SignalFields, StoreSpec};
use super::shared::{Shared, StoreKind};
use super::translate::{self, signed};

const WRITES_MAX: usize = 16;
const WRITE_MS_MAX: u64 = 30_000;

/// Creates an object for each change. The error says what is wrong and what to do.
pub(super) async fn import(shared: &Arc<Shared>, changes: &[Change]) -> Result<(), String> {
    let is_empty = {
        let index = shared.index();
        index.namespaces.is_empty()
            && index.services.is_empty()
            && index.instances.is_empty()
            && index.operation_inventory().is_empty()
    };
    if !is_empty {
        return Err(format!(
            "there are custom resources in the namespace {} already; import into an empty one (--store-namespace), or \
             delete them: kubectl -n {} delete cloudmap,cloudmapoperations --all",
            shared.kube_namespace, shared.kube_namespace
        ));
    }
    raise_numbers(shared, changes).await?;
    let mut namespaces: HashMap<&NamespaceId, &Namespace> = HashMap::new();
    let mut services: HashMap<&ServiceId, &Service> = HashMap::new();
    let mut revisions: HashMap<&ServiceId, u64> = HashMap::new();
    for change in changes {
        match change {
            Change::PutNamespace(namespace) => drop(namespaces.insert(&namespace.id, namespace)),
            Change::PutService(service) => drop(services.insert(&service.id, service)),
            Change::PutRevision(service, number) => drop(revisions.insert(service, *number)),
            _ => {}
        }
    }
    // Owners come first, so that a server never sees an object without its owner.
    for step in 0..3 {
        stream::iter(changes)
            .map(|change| import_change(shared, step, change, &namespaces, &services, &revisions))
            .buffer_unordered(WRITES_MAX)
            .try_collect::<Vec<()>>()
            .await?;
    }
    Ok(())
}

async fn import_change(
    shared: &Arc<Shared>,
    step: usize,
    change: &Change,
    namespaces: &HashMap<&NamespaceId, &Namespace>,
    services: &HashMap<&ServiceId, &Service>,
    revisions: &HashMap<&ServiceId, u64>,
) -> Result<(), String> {
    match (step, change) {
        (0, Change::PutNamespace(namespace)) => {
            let status = json!({
                "number": signed(namespace.operation),
                "createDateMs": namespace.created_ms,
            });
            create(shared, namespace_object(namespace), Some(status)).await
        }
        (1, Change::PutService(service)) => {
            let namespace = namespaces.get(&service.namespace_id);
            let namespace = namespace.ok_or_else(|| format!("the namespace of {} is missing", service.id))?;
            let name = names::of_service(shared.index().identity(), service, namespace);
            let status = json!({
                "number": signed(service.sequence),
                "createDateMs": service.created_ms,
                "instancesRevision": revisions.get(&service.id).copied().map(signed),
            });
            create(shared, service_object(&name, service), Some(status)).await
        }
        (2, Change::PutInstance(service, instance)) => {
            let service = services.get(service).ok_or_else(|| format!("the service {service} is missing"))?;
            let status = json!({
                "number": signed(instance.operation()),
                "observedGeneration": 1,
                "customHealthStatus": instance.custom_health().map(CustomHealthWord::of),
                "signals": SignalFields::of(&instance.signals()),
            });
            create(shared, instance_object(service, instance), Some(status)).await
        }
        (2, Change::PutOperation(operation)) => {
            let name = format!("op-{}", shared.unique());
            let mut object = translate::operation_object(&name, operation, Some(operation.number));
            if operation.id != shared.index().identity().operation_id(operation.number) {
                operation_annotation::write(
                    &mut object.metadata,
                    &SpecIds::default(),
                    &[Operation::clone(operation)],
                );
            }
            create(shared, object, None).await
        }
        (2, Change::PutPodSignals(service, instance, report)) => {
            let key = InstanceKey::new(service, instance);
            create(shared, health_report_object(&key, report), None).await
        }
        _ => Ok(()),
    }
}

async fn create<K: StoreKind>(
    shared: &Arc<Shared>,
    mut object: K,
    status: Option<Value>,
) -> Result<(), String> {
    object.annotations_mut().insert(WRITTEN_BY.into(), shared.unique());
    let until = Deadline::after_ms(WRITE_MS_MAX);
    let name = object.name_any();
    let wrong = |failed: Failed| format!("the object {name} could not be created: {}", failed.into_reason());
    let created = request::create(shared.api(), &object, until).await.map_err(wrong)?;
    if let Some(status) = status {
        request::patch_status(shared.api(), &created, &status, true, until).await.map_err(wrong)?;
    }
    Ok(())
}

/// Raises the number offset, so that the numbers of this store continue from the imported ones.
async fn raise_numbers(shared: &Arc<Shared>, changes: &[Change]) -> Result<(), String> {
    let number = |change: &Change| match change {
        Change::PutSequence(number) | Change::PutRevision(_, number) => *number,
        Change::PutOperation(operation) => operation.number,
        Change::PutNamespace(namespace) => namespace.operation,
        Change::PutService(service) => service.sequence,
        Change::PutInstance(_, instance) => instance.operation(),
        _ => 0,
    };
    let last = changes.iter().map(number).max().unwrap_or(0);
    let until = Deadline::after_ms(WRITE_MS_MAX);
    let wrong = |failed: Failed| format!("the numbers of the store cannot be set: {}", failed.into_reason());
    let all = ListParams::default();
    let stores = request::read(|| shared.stores.list(&all), until).await.map_err(wrong)?;
    let now =
        stores.metadata.resource_version.as_deref().and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
    let offset = (last + 1).saturating_sub(now).max(shared.index().offset());
    let spec = StoreSpec { number_offset: signed(offset) };
    let there = stores.items.into_iter().find(|store| store.name_any() == STORE_OBJECT);
    match there {
        Some(before) => {
            let mut object = before.clone();
            object.spec = spec;
            object.annotations_mut().insert(WRITTEN_BY.into(), shared.unique());
            request::replace(&shared.stores, &before, object, until).await.map_err(wrong)?;
        }
        None if offset == 0 => return Ok(()),
        None => {
            let mut object = CloudMapStore::new(STORE_OBJECT, spec);
            object.annotations_mut().insert(WRITTEN_BY.into(), shared.unique());
            request::create(&shared.stores, &object, until).await.map_err(wrong)?;
        }
    }
    shared.update_index(|index| index.set_offset(offset));
    Ok(())
}
