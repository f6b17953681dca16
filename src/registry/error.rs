//! Errors of commands and queries, which are those of the API.

use crate::model::{NamespaceId, OperationId, ServiceId};

/// An error of the API. Its text is the message that the client receives.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[expect(missing_docs, reason = "the variants and their fields are the API's own errors and members")]
pub enum RegistryError {
    #[error("{0}")]
    InvalidInput(String),
    #[error("Namespace not found")]
    NamespaceNotFound,
    #[error("Service not found")]
    ServiceNotFound,
    #[error("Instance not found")]
    InstanceNotFound,
    #[error("Operation not found")]
    OperationNotFound,
    #[error("Resource not found: {0}")]
    ResourceNotFound(String),
    #[error("{0}")]
    ResourceInUse(String),
    #[error("{0}")]
    ResourceLimitExceeded(String),
    #[error("Namespace already exists.")]
    NamespaceAlreadyExists { namespace: NamespaceId, creator_request_id: Option<String> },
    #[error("Service already exists.")]
    ServiceAlreadyExists { service: ServiceId, arn: String, creator_request_id: Option<String> },
    #[error("{message}")]
    DuplicateRequest { message: String, operation: Option<OperationId> },
    #[error("The service has no custom health check: {0}")]
    CustomHealthNotFound(String),
    #[error("Too many tags: a resource can have {max}")]
    TooManyTags { resource: String, max: usize },
    #[error("Too many service attributes: a service can have {max}")]
    ServiceAttributesLimitExceeded { max: usize },
    /// The store failed, so the change was not made.
    #[error("The change could not be stored: {0}")]
    NotStored(String),
    /// Other servers changed the resource each time that this change was planned. It was not made, and the client can retry.
    #[error("Another server changed the same resource each time, try again: {0}")]
    Contended(String),
    /// The server is stopping, for the reason given.
    #[error("The server takes no changes now: {0}")]
    Unavailable(&'static str),
}
