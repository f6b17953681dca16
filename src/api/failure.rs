//! Errors of the paths that are none of AWS's: a status of HTTP and a sentence.

use axum::http::StatusCode;

use super::codec::Protocol;
use super::error::ApiError;

/// Error of a request in JSON without AWS's codes.
pub(super) struct Failure {
    pub(super) status: StatusCode,
    pub(super) message: String,
}

impl Failure {
    pub(super) fn new(status: StatusCode, message: impl Into<String>) -> Failure {
        Failure { status, message: message.into() }
    }
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Failure {
        // Statuses over CBOR are those of the model, as HTTP means them.
        Failure { status: error.status(Protocol::Cbor), message: error.message }
    }
}
