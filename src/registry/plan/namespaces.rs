//! Namespaces: CreateNamespace of all kinds, UpdateNamespace, DeleteNamespace.

use std::sync::Arc;

use crate::model::{
    Namespace, NamespaceKind, OperationStatus, OperationTargets, OperationType, Origin, Tags,
    id::request_digest,
};

use super::{Plan, Planner, over};
use crate::registry::{
    change::Change,
    error::RegistryError::{self, InvalidInput},
    pattern::NAMESPACE_NAME_PUBLIC,
    port::Group,
    rules,
    state::zone_key,
};

impl Planner<'_> {
    pub(super) fn create_namespace(
        &mut self,
        name: String,
        kind: NamespaceKind,
        creator_request_id: Option<String>,
        description: Option<String>,
        soa_ttl: Option<u32>,
        tags: Tags,
    ) -> Plan {
        self.check_tags(&name, &tags)?;
        let is_dns = kind != NamespaceKind::Http;
        if is_dns {
            rules::check_zone_name(&name)?;
        }
        if kind == NamespaceKind::DnsPublic
            && !(NAMESPACE_NAME_PUBLIC.holds)(&name)
            && !self
                .leniency
                .accepts("A public namespace of one label, or with underscores in its name: AWS refuses it")
        {
            return Err(InvalidInput(NAMESPACE_NAME_PUBLIC.violation(&name)));
        }
        let identity = &self.settings.identity;
        let key = if is_dns { zone_key(&name) } else { name.as_str().into() };
        let id = identity.namespace_id(kind.as_str(), &key);
        let request_digest = request_digest(&(&name, &kind, &description, soa_ttl, &tags));
        // The id is derived from kind and name, to which a CreatorRequestId applies.
        let existing = self.state.namespace(id.as_str()).ok();
        let with_token = existing.filter(|existing| {
            creator_request_id.is_some() && existing.namespace.creator_request_id == creator_request_id
        });
        if let Some(other) = with_token {
            let other = &other.namespace;
            if other.request_digest != request_digest {
                return Err(InvalidInput(format!(
                    "The CreatorRequestId was used before, for the namespace {} with other parameters.",
                    other.name
                )));
            }
            return self.repeat(
                other.operation,
                OperationType::CreateNamespace,
                OperationTargets::Namespace(id),
            );
        }
        let number = self.state.sequence() + 1;
        if let Some(existing) = existing
            && (!matches!(kind, NamespaceKind::DnsPrivate { .. }) || existing.namespace.origin.is_shadowed())
        {
            return Err(RegistryError::NamespaceAlreadyExists {
                namespace: id,
                creator_request_id: existing.namespace.creator_request_id.clone(),
            });
        }
        if is_dns && let Some(existing) = self.state.namespace_by_zone(&key) {
            // AWS accepts such a request and then fails its operation.
            let status = OperationStatus::Fail {
                code: "CANNOT_CREATE_HOSTED_ZONE".into(),
                message: rules::overlap_message(&kind, &identity.region, &existing.namespace),
            };
            // Do not return the id of the existing namespace: a client that cleans up after the failure would delete it.
            let targets = OperationTargets::Namespace(identity.failed_namespace_id(number));
            return self.with_operation(
                number,
                OperationType::CreateNamespace,
                targets,
                status,
                Group::new(),
            );
        }
        if self.state.namespace_count() >= self.settings.quotas.namespaces {
            return Err(over("namespaces", self.settings.quotas.namespaces));
        }
        let http_name = self.state.free_http_name(&name, &id);
        let namespace = Namespace {
            id: id.clone(),
            name,
            kind,
            http_name,
            description,
            soa_ttl,
            creator_request_id,
            created_ms: self.now_ms,
            tags,
            operation: number,
            request_digest,
            origin: Origin::Own,
        };
        self.succeed(
            OperationType::CreateNamespace,
            OperationTargets::Namespace(id),
            vec![Change::PutNamespace(Arc::new(namespace))],
        )
    }

    pub(super) fn update_namespace(
        &mut self,
        reference: &str,
        kind: &'static str,
        description: Option<String>,
        soa_ttl: Option<u32>,
    ) -> Plan {
        let old = &self.state.namespace(reference)?.namespace;
        if old.kind.as_str() != kind {
            return Err(InvalidInput(format!(
                "The namespace {} is of type {}, not {kind}.",
                old.id,
                old.kind.as_str()
            )));
        }
        let mut new = Namespace::clone(old);
        new.description = description.or(new.description);
        new.soa_ttl = soa_ttl.or(new.soa_ttl);
        let targets = OperationTargets::Namespace(old.id.clone());
        self.succeed(OperationType::UpdateNamespace, targets, vec![Change::PutNamespace(Arc::new(new))])
    }

    pub(super) fn delete_namespace(&mut self, reference: &str) -> Plan {
        let state = self.state.namespace(reference)?;
        if state.service_count() > 0 {
            return Err(RegistryError::ResourceInUse(
                "Namespace has associated services; delete the services before deleting the namespace".into(),
            ));
        }
        let id = state.namespace.id.clone();
        let changes = vec![Change::DeleteNamespace(id.clone())];
        self.succeed(OperationType::DeleteNamespace, OperationTargets::Namespace(id), changes)
    }
}
