//! Objects of instances. An instance has the number of its last registration, and not that of its creation.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::model::{Identity, Instance, Service};
use crate::registry::RegistryError;

use super::super::index::Index;
use super::super::keys::{Claim, InstanceKey, OwnerKey};
use super::super::names;
use super::super::operation_annotation::SpecIds;
use super::super::resources::{CloudMapInstance, InstanceSpec};
use super::super::translate::instance_number;
use super::traits::{ClaimingKind, ResourceKind, StatusFields};

impl ResourceKind for CloudMapInstance {
    type Model = Instance;

    const DELETED: &'static str = "it was deregistered at the same time";

    fn standard_name(key: &InstanceKey) -> String {
        names::of_instance(&key.service, &key.instance)
    }

    fn update(&mut self, instance: &Instance) {
        let attributes = instance.attributes().map(|(key, value)| (key.to_string(), value.to_string()));
        self.spec.attributes = attributes.collect();
        self.spec.creator_request_id = instance.creator_request_id().map(std::borrow::Cow::into_owned);
    }

    fn spec_ids(&self, _identity: &Identity) -> Option<SpecIds> {
        let spec = &self.spec;
        let (service, instance) = (spec.service_id.clone(), Some(spec.instance_id.clone()));
        Some(SpecIds { namespace: None, service, instance })
    }

    /// None, because an instance has the number of its last registration, which its status contains.
    fn unstored_number(&self, _offset: u64) -> Option<u64> {
        None
    }
}

impl ClaimingKind for CloudMapInstance {
    fn owner(&self) -> Option<OwnerKey> {
        let spec = &self.spec;
        Some(match (&spec.service_id, &spec.service_name, &spec.namespace_name) {
            (Some(id), ..) => OwnerKey::id(id),
            (None, service, namespace) => OwnerKey::service(
                service.as_deref().unwrap_or_default(),
                namespace.as_deref().unwrap_or_default(),
            ),
        })
    }

    fn claim(&self, index: &Index) -> Result<Arc<Claim>, RegistryError> {
        let spec = &self.spec;
        let service = match (&spec.service_id, &spec.service_name, &spec.namespace_name) {
            (Some(id), ..) => index.state().service(id).ok(),
            (None, Some(service), Some(namespace)) => index
                .namespace_named(namespace)
                .and_then(|namespace| index.state().service_by_name(&namespace.namespace.id, service)),
            _ => None,
        };
        let service = &service.ok_or(RegistryError::ServiceNotFound)?.service;
        Ok(Claim::instance(&service.id, &spec.instance_id))
    }

    fn unused_standard_name(&self) -> Option<String> {
        let name = self.metadata.name.as_deref()?;
        let service = self.spec.service_id.as_deref()?;
        // Nearly all names have this form, which avoids computing the hash.
        if names::has_standard_form(name) {
            return None;
        }
        Some(names::of_instance(&service.into(), &self.spec.instance_id))
    }

    fn claim_of(_index: &Index, key: &InstanceKey) -> Option<Arc<Claim>> {
        Some(Claim::instance(&key.service, &key.instance))
    }

    fn decide(index: &mut Index, claim: &Arc<Claim>) {
        index.decide_instance(claim);
    }

    fn status_fields(&self) -> StatusFields<'_> {
        self.status.as_ref().map_or_else(StatusFields::default, |status| StatusFields {
            number: status.number,
            create_date_ms: None,
            conditions: &status.conditions,
        })
    }

    fn claim_rank(&self, _offset: u64) -> Option<i64> {
        self.status.as_ref()?.number
    }

    fn creation_version(&self, _offset: u64) -> u64 {
        instance_number(self, 0)
    }
}

pub(in crate::store::kubernetes) fn instance_object(
    service: &Service,
    instance: &Instance,
) -> CloudMapInstance {
    let spec = InstanceSpec {
        instance_id: instance.id().into(),
        service_id: Some(service.id.to_string()),
        service_name: None,
        namespace_name: None,
        attributes: BTreeMap::new(),
        creator_request_id: None,
    };
    let mut object = CloudMapInstance::new(&names::of_instance(&service.id, instance.id()), spec);
    object.update(instance);
    object
}
