//! Operations: what the asynchronous calls of the API return.

use serde::{Deserialize, Serialize};

use super::{EpochMs, NamespaceId, OperationId, ServiceId};

/// One asynchronous change and what became of it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Operation {
    /// Counts up. In a shared store, several operations may have one number.
    pub number: u64,
    /// What clients ask for.
    pub id: OperationId,
    /// What was to be done.
    pub operation_type: OperationType,
    /// Where it stands.
    pub status: OperationStatus,
    /// What it was done to.
    pub targets: OperationTargets,
    /// When it was asked for.
    pub created_ms: EpochMs,
    /// When its status last changed.
    pub updated_ms: EpochMs,
}

/// Place of an operation among all: its number, and its id where several have one number.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct OperationKey {
    /// Counts up; first in the order.
    pub number: u64,
    /// Decides between operations of one number.
    pub id: OperationId,
}

impl Operation {
    /// Its place among all operations.
    pub fn key(&self) -> OperationKey {
        OperationKey { number: self.number, id: self.id.clone() }
    }
}

/// What an operation does.
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
    /// The type of the API's word.
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

    /// The API's word.
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

/// Where an operation stands. It is done before it is answered, so it is never in between.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum OperationStatus {
    /// Done, durable and answered by DNS.
    Success,
    /// Refused after it was accepted.
    Fail {
        /// Such as `CANNOT_CREATE_HOSTED_ZONE`.
        code: String,
        /// What was wrong.
        message: String,
    },
}

impl OperationStatus {
    /// The API's word.
    pub fn as_str(&self) -> &'static str {
        match self {
            OperationStatus::Success => "SUCCESS",
            OperationStatus::Fail { .. } => "FAIL",
        }
    }
}

/// What an operation was done to.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum OperationTargets {
    /// A namespace.
    Namespace(NamespaceId),
    /// A service.
    Service {
        /// The service.
        service: ServiceId,
        /// Its namespace, for the filters of ListOperations.
        namespace: NamespaceId,
    },
    /// An instance.
    Instance {
        /// The instance's id.
        instance: String,
        /// Its service.
        service: ServiceId,
        /// The service's namespace, for the filters of ListOperations.
        namespace: NamespaceId,
    },
}

impl OperationTargets {
    /// The namespace that was touched.
    pub fn namespace(&self) -> &NamespaceId {
        match self {
            OperationTargets::Namespace(namespace)
            | OperationTargets::Service { namespace, .. }
            | OperationTargets::Instance { namespace, .. } => namespace,
        }
    }

    /// The service that was touched, if one was.
    pub fn service(&self) -> Option<&ServiceId> {
        match self {
            OperationTargets::Namespace(_) => None,
            OperationTargets::Service { service, .. } | OperationTargets::Instance { service, .. } => {
                Some(service)
            }
        }
    }
}
