//! Objects of namespaces. Two may be accepted for one claim, because an HTTP and a DNS namespace may have one name.

use std::collections::BTreeMap;
use std::sync::Arc;

use kube::ResourceExt;

use crate::model::{Identity, Namespace, NamespaceId, NamespaceKind};
use crate::registry::RegistryError;
use crate::registry::admission::NamespaceRequest;

use super::super::index::Index;
use super::super::keys::{Claim, OwnerKey};
use super::super::names;
use super::super::operation_annotation::SpecIds;
use super::super::resources::{
    CloudMapNamespace, CloudMapService, DnsProperties, NamespaceProperties, NamespaceSpec, NamespaceType, Soa,
};
use super::super::translate::{REQUEST_DIGEST, namespace_id};
use super::traits::{ClaimingKind, OwnerKind, ResourceKind, StatusFields};

impl ResourceKind for CloudMapNamespace {
    type Model = Namespace;

    const DELETED: &'static str = "it was deleted at the same time";

    fn standard_name(id: &NamespaceId) -> String {
        id.to_string()
    }

    fn update(&mut self, namespace: &Namespace) {
        self.spec.description = namespace.description.clone();
        self.spec.properties = namespace
            .soa_ttl
            .map(|ttl| NamespaceProperties { dns_properties: DnsProperties { soa: Soa { ttl } } });
        self.spec.tags = namespace.tags.clone();
    }

    fn spec_ids(&self, identity: &Identity) -> Option<SpecIds> {
        let namespace = Some(namespace_id(self, identity).to_string());
        Some(SpecIds { namespace, ..SpecIds::default() })
    }

    fn unstored_number(&self, offset: u64) -> Option<u64> {
        self.stored_number().is_none().then(|| self.creation_number(offset))
    }
}

impl ClaimingKind for CloudMapNamespace {
    fn owner(&self) -> Option<OwnerKey> {
        None
    }

    fn claim(&self, _index: &Index) -> Result<Arc<Claim>, RegistryError> {
        Ok(Claim::namespace(&self.spec.name))
    }

    fn claim_of(index: &Index, id: &NamespaceId) -> Option<Arc<Claim>> {
        Some(Claim::namespace(&index.state().namespace(id.as_str()).ok()?.namespace.name))
    }

    fn describes(index: &Index, name: &str, id: &NamespaceId) -> bool {
        let object = index.namespaces.object(name);
        object.is_some_and(|object| namespace_id(&object, index.identity()) == *id)
    }

    fn decide(index: &mut Index, claim: &Arc<Claim>) {
        index.decide_namespaces(claim);
    }

    fn status_fields(&self) -> StatusFields<'_> {
        self.status.as_ref().map_or_else(StatusFields::default, |status| StatusFields {
            number: status.number,
            create_date_ms: status.create_date_ms,
            conditions: &status.conditions,
        })
    }

    fn claim_rank(&self, offset: u64) -> Option<i64> {
        self.rank_by_creation(offset)
    }

    fn creation_version(&self, offset: u64) -> u64 {
        self.creation_number(offset).saturating_sub(offset)
    }
}

impl OwnerKind for CloudMapNamespace {
    type Content = CloudMapService;

    const CONTENT_FIELD: &'static str = "spec.namespaceId";
}

pub(in crate::store::kubernetes) fn namespace_object(namespace: &Namespace) -> CloudMapNamespace {
    let (kind, vpc) = match &namespace.kind {
        NamespaceKind::Http => (NamespaceType::Http, None),
        NamespaceKind::DnsPrivate { vpc } => (NamespaceType::DnsPrivate, Some(vpc.clone())),
        NamespaceKind::DnsPublic => (NamespaceType::DnsPublic, None),
    };
    let spec = NamespaceSpec {
        name: namespace.name.clone(),
        kind,
        vpc,
        description: None,
        properties: None,
        tags: BTreeMap::new(),
        creator_request_id: namespace.creator_request_id.clone(),
    };
    let mut object = CloudMapNamespace::new(&names::of_namespace(namespace), spec);
    object.annotations_mut().insert(REQUEST_DIGEST.into(), format!("{:x}", namespace.request_digest));
    object.update(namespace);
    object
}

/// Converts a spec into the request that would create the namespace.
pub(in crate::store::kubernetes) fn namespace_request(spec: &NamespaceSpec) -> NamespaceRequest {
    NamespaceRequest {
        name: spec.name.clone(),
        kind: spec.kind.kind(spec.vpc.as_deref()),
        description: spec.description.clone(),
        soa_ttl: spec.properties.as_ref().map(|properties| properties.dns_properties.soa.ttl),
        tags: spec.tags.clone(),
    }
}
