//! Errors as clients receive them: code, status, message, and the members that the model defines for an error.

use axum::http::StatusCode;

use crate::registry::RegistryError;

use super::codec::{Codec, Protocol, structure};

#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct ApiError {
    /// The name of an exception of the model, or AWS's common name for an error outside of the model.
    pub(super) code: &'static str,
    pub(super) message: String,
    status: StatusCode,
    /// True for an error of the Cloud Map model. Over awsJson1.1 it has the status 400, whatever its status in the model,
    /// as in the API reference and in AWS's responses.
    modelled: bool,
    members: Vec<(&'static str, String)>,
}

impl ApiError {
    fn modelled(code: &'static str, status: StatusCode, message: String) -> ApiError {
        ApiError { code, message, status, modelled: true, members: Vec::new() }
    }

    fn common(code: &'static str, status: StatusCode, message: impl Into<String>) -> ApiError {
        ApiError { code, message: message.into(), status, modelled: false, members: Vec::new() }
    }

    pub(super) fn invalid_input(message: impl Into<String>) -> ApiError {
        ApiError::modelled("InvalidInput", StatusCode::BAD_REQUEST, message.into())
    }

    /// The body violates the protocol, or a member has the wrong type.
    pub(super) fn serialization(message: impl Into<String>) -> ApiError {
        ApiError::common("SerializationException", StatusCode::BAD_REQUEST, message)
    }

    pub(super) fn unknown_operation(message: impl Into<String>) -> ApiError {
        ApiError::common("UnknownOperationException", StatusCode::BAD_REQUEST, message)
    }

    pub(super) fn method_not_allowed() -> ApiError {
        let message = "This is the AWS Cloud Map API (servicediscovery, 2017-03-14). It answers POST requests of \
            AWS clients; use this address as their endpoint URL.";
        ApiError::common("MethodNotAllowedException", StatusCode::METHOD_NOT_ALLOWED, message)
    }

    pub(super) fn too_large(body_bytes_max: usize) -> ApiError {
        let message = format!("The request body is larger than {body_bytes_max} bytes.");
        ApiError::common("RequestEntityTooLargeException", StatusCode::PAYLOAD_TOO_LARGE, message)
    }

    pub(super) fn too_slow(request_timeout_ms: u64) -> ApiError {
        let message = format!("The request body did not arrive within {request_timeout_ms} ms.");
        ApiError::common("RequestTimeoutException", StatusCode::REQUEST_TIMEOUT, message)
    }

    pub(super) fn forbidden(message: impl Into<String>) -> ApiError {
        ApiError::common("ForbiddenException", StatusCode::FORBIDDEN, message)
    }

    pub(super) fn not_found(message: impl Into<String>) -> ApiError {
        ApiError::common("NotFoundException", StatusCode::NOT_FOUND, message)
    }

    /// True if a later attempt may succeed.
    pub(super) fn is_transient(&self) -> bool {
        self.status.is_server_error() || self.status == StatusCode::TOO_MANY_REQUESTS
    }

    /// The server cannot execute the request now; a later attempt may succeed.
    pub(super) fn unavailable(message: impl Into<String>) -> ApiError {
        ApiError::common("ServiceUnavailable", StatusCode::SERVICE_UNAVAILABLE, message)
    }

    pub(super) fn internal(message: impl Into<String>) -> ApiError {
        ApiError::common("InternalFailure", StatusCode::INTERNAL_SERVER_ERROR, message)
    }

    fn with(mut self, member: &'static str, value: impl Into<Option<String>>) -> ApiError {
        self.members.extend(value.into().map(|value| (member, value)));
        self
    }

    pub(super) fn status(&self, protocol: Protocol) -> StatusCode {
        match protocol {
            Protocol::Json if self.modelled => StatusCode::BAD_REQUEST,
            _ => self.status,
        }
    }

    pub(super) fn body<C: Codec>(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(128 + self.message.len());
        structure::<C>(&mut out, |error| {
            match C::PROTOCOL {
                Protocol::Json => error.text("__type", self.code),
                Protocol::Cbor => {
                    let shape = format!("com.amazonaws.servicediscovery#{}", self.code);
                    error.text("__type", &*shape);
                }
            }
            error.text("Message", &*self.message);
            for (name, value) in &self.members {
                error.text(name, &**value);
            }
        });
        out
    }
}

impl From<RegistryError> for ApiError {
    fn from(error: RegistryError) -> ApiError {
        let message = error.to_string();
        let modelled = |code, status| ApiError::modelled(code, status, message.clone());
        match error {
            RegistryError::InvalidInput(_) => ApiError::invalid_input(message),
            RegistryError::NamespaceNotFound => modelled("NamespaceNotFound", StatusCode::NOT_FOUND),
            RegistryError::ServiceNotFound => modelled("ServiceNotFound", StatusCode::NOT_FOUND),
            RegistryError::InstanceNotFound => modelled("InstanceNotFound", StatusCode::NOT_FOUND),
            RegistryError::OperationNotFound => modelled("OperationNotFound", StatusCode::NOT_FOUND),
            RegistryError::ResourceNotFound(_) => {
                modelled("ResourceNotFoundException", StatusCode::NOT_FOUND)
            }
            RegistryError::ResourceInUse(_) => modelled("ResourceInUse", StatusCode::CONFLICT),
            RegistryError::ResourceLimitExceeded(_) => {
                modelled("ResourceLimitExceeded", StatusCode::BAD_REQUEST)
            }
            RegistryError::NamespaceAlreadyExists { namespace, creator_request_id } => {
                modelled("NamespaceAlreadyExists", StatusCode::BAD_REQUEST)
                    .with("CreatorRequestId", creator_request_id)
                    .with("NamespaceId", namespace.to_string())
            }
            RegistryError::ServiceAlreadyExists { service, arn, creator_request_id } => {
                modelled("ServiceAlreadyExists", StatusCode::BAD_REQUEST)
                    .with("CreatorRequestId", creator_request_id)
                    .with("ServiceId", service.to_string())
                    .with("ServiceArn", arn)
            }
            RegistryError::DuplicateRequest { operation, .. } => {
                modelled("DuplicateRequest", StatusCode::CONFLICT)
                    .with("DuplicateOperationId", operation.map(|operation| operation.to_string()))
            }
            RegistryError::CustomHealthNotFound(_) => modelled("CustomHealthNotFound", StatusCode::NOT_FOUND),
            RegistryError::TooManyTags { resource, .. } => {
                modelled("TooManyTagsException", StatusCode::BAD_REQUEST).with("ResourceName", resource)
            }
            RegistryError::ServiceAttributesLimitExceeded { .. } => {
                modelled("ServiceAttributesLimitExceededException", StatusCode::BAD_REQUEST)
            }
            RegistryError::NotStored(_) => ApiError::internal(message),
            RegistryError::Contended(_) | RegistryError::Unavailable(_) => ApiError::unavailable(message),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{cbor::Cbor, json::Json};
    use super::*;

    #[test]
    fn registry_errors_become_errors_of_the_model() {
        let text = || "why".to_string();
        let cases = [
            (RegistryError::InvalidInput(text()), "InvalidInput", 400, 400),
            (RegistryError::NamespaceNotFound, "NamespaceNotFound", 400, 404),
            (RegistryError::ServiceNotFound, "ServiceNotFound", 400, 404),
            (RegistryError::InstanceNotFound, "InstanceNotFound", 400, 404),
            (RegistryError::OperationNotFound, "OperationNotFound", 400, 404),
            (RegistryError::ResourceNotFound(text()), "ResourceNotFoundException", 400, 404),
            (RegistryError::ResourceInUse(text()), "ResourceInUse", 400, 409),
            (RegistryError::ResourceLimitExceeded(text()), "ResourceLimitExceeded", 400, 400),
            (RegistryError::CustomHealthNotFound(text()), "CustomHealthNotFound", 400, 404),
            (
                RegistryError::ServiceAttributesLimitExceeded { max: 30 },
                "ServiceAttributesLimitExceededException",
                400,
                400,
            ),
            (RegistryError::NotStored(text()), "InternalFailure", 500, 500),
            (RegistryError::Contended(text()), "ServiceUnavailable", 503, 503),
            (RegistryError::Unavailable("stopping"), "ServiceUnavailable", 503, 503),
        ];
        for (error, code, json, cbor) in cases {
            let error = ApiError::from(error);
            assert_eq!(error.code, code);
            assert_eq!(error.status(Protocol::Json), json, "{code}");
            assert_eq!(error.status(Protocol::Cbor), cbor, "{code}");
        }
    }

    #[test]
    fn bodies_name_the_error_and_its_members() {
        let error = ApiError::from(RegistryError::ServiceAlreadyExists {
            service: "srv-1".into(),
            arn: "arn:x".into(),
            creator_request_id: None,
        });
        assert_eq!(
            String::from_utf8(error.body::<Json>()).unwrap(),
            r#"{"__type":"ServiceAlreadyExists","Message":"Service already exists.","ServiceId":"srv-1","ServiceArn":"arn:x"}"#
        );
        let body = error.body::<Cbor>();
        let map = Cbor::decode(&body).unwrap();
        let text = |name| match map.get(name) {
            Some(super::super::value::Value::Text(text)) => text.to_string(),
            other => panic!("{name}: {other:?}"),
        };
        assert_eq!(text("__type"), "com.amazonaws.servicediscovery#ServiceAlreadyExists");
        assert_eq!(text("ServiceArn"), "arn:x");
        let error = ApiError::from(RegistryError::TooManyTags { resource: "arn:y".into(), max: 50 });
        assert!(String::from_utf8(error.body::<Json>()).unwrap().contains(r#""ResourceName":"arn:y""#));
    }
}
