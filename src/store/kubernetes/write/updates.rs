//! Creations and changes of namespaces, services and instances.

use std::sync::Arc;

use crate::model::{Instance, Namespace, Operation, Service, ServiceId};
use crate::registry::Change;

use super::super::index::IndexedKind;
use super::super::keys::InstanceKey;
use super::super::kind::{OwnerKind, instance_object, namespace_object, service_object};
use super::super::request::{self, Failed};
use super::super::resources::{
    CloudMapInstance, CloudMapNamespace, CloudMapService, CustomHealthWord, SignalFields,
};
use super::super::translate::{instance_number, signed, uid_of};
use super::super::{name_races, names};
use super::creations::Created;
use super::marks::ListedOwners;
use super::writer::{BatchWriter, GroupWrites};

impl BatchWriter<'_> {
    pub(super) async fn put_namespace(
        &self,
        namespace: &Arc<Namespace>,
        operation: Option<&Operation>,
        writes: &mut GroupWrites,
    ) -> Result<(), Failed> {
        let id = &namespace.id;
        if let Some(before) = self.known_owner::<CloudMapNamespace>(id)? {
            return self.update(id, &*before, namespace, operation, writes).await;
        }
        self.check_not_deleted(|change| matches!(change, Change::DeleteNamespace(deleted) if deleted == id))?;
        let stored = self.create(id, namespace_object(namespace), operation, writes).await?;
        writes.created.push(Created::Namespace { namespace: namespace.clone(), stored });
        Ok(())
    }

    pub(super) async fn put_service(
        &self,
        service: &Arc<Service>,
        operation: Option<&Operation>,
        listed: &ListedOwners,
        writes: &mut GroupWrites,
    ) -> Result<(), Failed> {
        if let Some(before) = self.known_owner::<CloudMapService>(&service.id)? {
            return self.update(&service.id, &*before, service, operation, writes).await;
        }
        self.check_not_deleted(|change| match change {
            Change::DeleteNamespace(id) => *id == service.namespace_id,
            Change::DeleteService(id) => *id == service.id,
            _ => false,
        })?;
        let (owner, identity) = {
            let index = self.shared.index();
            let namespace = index.state().namespace(service.namespace_id.as_str());
            let namespace = namespace.map(|state| state.namespace.clone());
            let owner = namespace.ok().zip(CloudMapNamespace::find(&index, &service.namespace_id));
            (owner, index.identity().clone())
        };
        let Some((namespace, owner)) = owner else {
            return Err(Failed::lost("its namespace was deleted at the same time"));
        };
        self.check_not_being_deleted(&*owner)?;
        let object = service_object(&names::of_service(&identity, service, &namespace), service);
        self.mark_services_above(service, listed, &mut writes.versions).await?;
        let stored = self.create(&service.id, object, operation, writes).await?;
        writes.created.push(Created::Service { service: service.clone(), stored, owner });
        Ok(())
    }

    pub(super) async fn put_instance(
        &self,
        service: &ServiceId,
        instance: &Instance,
        operation: Option<&Operation>,
        writes: &mut GroupWrites,
    ) -> Result<(), Failed> {
        let key = InstanceKey::new(service, instance.id());
        let there = CloudMapInstance::find(&self.shared.index(), &key);
        if let Some(before) = there {
            self.check_known(&self.shared.index(), &*before)?;
            if operation.is_some() {
                return self.update(&key, &*before, instance, operation, writes).await;
            }
            writes.versions.push(self.write_health(&before, instance).await?);
            return Ok(());
        }
        self.check_not_deleted(|change| match change {
            Change::DeleteService(id) => id == service,
            Change::DeleteInstance(of, id) => of == service && **id == *instance.id(),
            _ => false,
        })?;
        let owner = {
            let index = self.shared.index();
            let state = index.state();
            let of_service = state.service(service.as_str()).ok().cloned();
            let object = CloudMapService::find(&index, service);
            of_service.zip(object).and_then(|(of_service, object)| {
                let namespace = state.namespace(of_service.service.namespace_id.as_str()).ok()?;
                Some((of_service.service.clone(), namespace.namespace.clone(), object))
            })
        };
        let Some((service, namespace, owner)) = owner else {
            return Err(Failed::lost("its service was deleted at the same time"));
        };
        self.check_not_being_deleted(&*owner)?;
        let stored = self.create(&key, instance_object(&service, instance), operation, writes).await?;
        writes.created.push(Created::Instance { service, namespace, stored, owner });
        Ok(())
    }

    /// The object of a namespace or service, if there is one. An error if the plan does not know its newest version, or
    /// if another server is deleting it.
    fn known_owner<K: OwnerKind>(&self, id: &K::Id) -> Result<Option<Arc<K>>, Failed> {
        let index = self.shared.index();
        let object = K::find(&index, id);
        if let Some(object) = &object {
            self.check_known(&index, &**object)?;
            self.check_not_being_deleted(&**object)?;
        }
        Ok(object)
    }

    /// Marks the services above a new one, because they may have instances of its name.
    async fn mark_services_above(
        &self,
        service: &Service,
        listed: &ListedOwners,
        versions: &mut Vec<u64>,
    ) -> Result<(), Failed> {
        let unmarked = name_races::unmarked_above(&self.shared.index(), service);
        for before in unmarked {
            self.check_not_being_deleted(&*before)?;
            listed.check(uid_of(&*before))?;
            let mut object = CloudMapService::clone(&before);
            name_races::mark(&mut object);
            versions.push(self.replace(&*before, object, self.until).await?);
        }
        Ok(())
    }

    /// Writes the signals about the health of an instance into the status of its object.
    async fn write_health(&self, before: &CloudMapInstance, instance: &Instance) -> Result<u64, Failed> {
        let offset = self.shared.index().offset();
        let status = serde_json::json!({
            "customHealthStatus": instance.custom_health().map(CustomHealthWord::of),
            "signals": SignalFields::of(&instance.signals()),
            "observedGeneration": before.metadata.generation,
            "number": signed(instance_number(before, offset)),
        });
        // The signals are of several writers, so a plan that does not know the newest ones has lost.
        let stored = request::patch_status(self.shared.api(), before, &status, false, self.until).await;
        let stored = self.wait_for_winner(before, stored).await?;
        Ok(self.put_response(stored))
    }
}
