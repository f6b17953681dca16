//! Why a command or a query was refused: the API's own errors.

use crate::model::{NamespaceId, OperationId, ServiceId};

/// A refusal in the API's terms. The text is the API's message.
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
    /// The ARN is given.
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
    /// The change could not be made durable, and was not made.
    #[error("The change could not be stored: {0}")]
    NotStored(String),
    /// Other servers changed the resource each time that the change was planned. It was not made, and can be retried.
    #[error("Another server changed the same resource each time, try again: {0}")]
    Contended(String),
    /// Too much is queued, or the server is stopping.
    #[error("The server takes no changes now: {0}")]
    Unavailable(&'static str),
}
