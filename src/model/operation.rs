//! Operations, which the asynchronous calls of the API return and which clients poll with GetOperation.

use serde::{Deserialize, Serialize};

use super::{EpochMs, NamespaceId, OperationId, ServiceId};

/// One asynchronous change and its result.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the other fields have the API's names and meanings")]
pub struct Operation {
    /// Position in the order of all operations. In a shared store, several operations may have one number.
    pub number: u64,
    pub id: OperationId,
    pub operation_type: OperationType,
    pub status: OperationStatus,
    pub targets: OperationTargets,
    pub created_ms: EpochMs,
    pub updated_ms: EpochMs,
}

/// Sort key of an operation: its number, then its id, because in a shared store several operations may have one number.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[expect(missing_docs, reason = "the fields are those of `Operation`")]
pub struct OperationKey {
    pub number: u64,
    pub id: OperationId,
}

impl Operation {
    /// The sort key of this operation among all operations.
    pub fn key(&self) -> OperationKey {
        OperationKey { number: self.number, id: self.id.clone() }
    }
}

/// Type of an operation, one for each asynchronous call of the API.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the variants are the API's own words")]
pub enum OperationType {
    CreateNamespace,
    DeleteNamespace,
    UpdateNamespace,
    UpdateService,
    RegisterInstance,
    DeregisterInstance,
}

impl OperationType {
    /// The type that the API writes as `word`; `None` for any other text.
    pub fn of(word: &str) -> Option<OperationType> {
        let types = [
            OperationType::CreateNamespace,
            OperationType::DeleteNamespace,
            OperationType::UpdateNamespace,
            OperationType::UpdateService,
            OperationType::RegisterInstance,
            OperationType::DeregisterInstance,
        ];
        types.into_iter().find(|one| one.as_str() == word)
    }

    /// The type as the API writes it, such as `CREATE_NAMESPACE`.
    pub fn as_str(self) -> &'static str {
        match self {
            OperationType::CreateNamespace => "CREATE_NAMESPACE",
            OperationType::DeleteNamespace => "DELETE_NAMESPACE",
            OperationType::UpdateNamespace => "UPDATE_NAMESPACE",
            OperationType::UpdateService => "UPDATE_SERVICE",
            OperationType::RegisterInstance => "REGISTER_INSTANCE",
            OperationType::DeregisterInstance => "DEREGISTER_INSTANCE",
        }
    }
}

/// Result of an operation. An operation has ended before its request is answered, so the API's `SUBMITTED` and `PENDING` do
/// not occur.
///
/// After `Success` the change is durable, and DNS answers reflect it. `Fail` means that the request was accepted and the
/// change then failed, with an error code of the API such as `CANNOT_CREATE_HOSTED_ZONE` and a message for people.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the type's document explains the variants")]
pub enum OperationStatus {
    Success,
    Fail { code: String, message: String },
}

impl OperationStatus {
    /// The status as the API writes it, `SUCCESS` or `FAIL`.
    pub fn as_str(&self) -> &'static str {
        match self {
            OperationStatus::Success => "SUCCESS",
            OperationStatus::Fail { .. } => "FAIL",
        }
    }
}

/// The object that an operation changes, with the objects that contain it: ListOperations filters by service and namespace.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[expect(missing_docs, reason = "variants and fields are named after the objects")]
pub enum OperationTargets {
    Namespace(NamespaceId),
    Service { service: ServiceId, namespace: NamespaceId },
    Instance { instance: String, service: ServiceId, namespace: NamespaceId },
}

impl OperationTargets {
    /// The namespace that the operation changes, or that contains the changed object.
    pub fn namespace(&self) -> &NamespaceId {
        match self {
            OperationTargets::Namespace(namespace)
            | OperationTargets::Service { namespace, .. }
            | OperationTargets::Instance { namespace, .. } => namespace,
        }
    }

    /// The service that the operation changes, or that contains the changed instance; `None` for operations on namespaces.
    pub fn service(&self) -> Option<&ServiceId> {
        match self {
            OperationTargets::Namespace(_) => None,
            OperationTargets::Service { service, .. } | OperationTargets::Instance { service, .. } => {
                Some(service)
            }
        }
    }
}
