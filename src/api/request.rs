//! The handling of one HTTP request: routing, decoding, execution and the response.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::Response;
use serde_json::Value;
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant as Deadline;

use crate::registry::{Command, OtherServers, Registry, Reply, State, Validation};

use super::action::Action;
use super::answers::{Answer, AnswerBudget};
use super::body;
use super::caller::caller;
use super::cbor::Cbor;
use super::codec::{Codec, Protocol, structure};
use super::command::command;
use super::drained;
use super::error::ApiError;
use super::inputs::Input;
use super::json::Json;
use super::limits::Limits;
use super::maintenance;
use super::metrics::ApiMetrics;
use super::output;
use super::query::Query;
use super::route::{RPC_V2_CBOR, Route, SMITHY_PROTOCOL};
use super::server::Options;
use super::sought::{is_not_found, sought};
use super::webhook::{self, AlertLabels};

const ERROR_TYPE: HeaderName = HeaderName::from_static("x-amzn-errortype");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-amzn-requestid");

pub(super) struct Api {
    pub(super) registry: Registry,
    pub(super) limits: Limits,
    pub(super) metrics: Arc<ApiMetrics>,
    /// Labels by which the webhook matches alerts; `None` if the webhook is off.
    pub(super) webhook: Option<AlertLabels>,
    pub(super) server_id: String,
    pub(super) others: Option<Arc<dyn OtherServers>>,
    pub(super) knows_pods: Option<Arc<dyn Fn() -> bool + Send + Sync>>,
    /// Permits of the requests that wait until an instance is drained.
    pub(super) waiting: Semaphore,
    /// True once the server is shutting down.
    pub(super) closing: watch::Sender<bool>,
    /// One search for instances at a time, because it needs a processor for as long as there are instances.
    searches: Arc<Semaphore>,
    answers: AnswerBudget,
}

enum Evaluated {
    Answer(Vec<u8>),
    Command(Command),
}

impl Api {
    pub(super) fn new(registry: Registry, options: Options, metrics: Arc<ApiMetrics>) -> Api {
        let Options { limits, webhook, server_id, others, knows_pods } = options;
        Api {
            registry,
            limits,
            webhook,
            server_id,
            others,
            knows_pods,
            waiting: Semaphore::new(drained::waiting_max(limits.connections_max)),
            closing: watch::Sender::new(false),
            searches: Arc::new(Semaphore::new(1)),
            answers: AnswerBudget::new(limits.answer_bytes_in_flight_max),
            metrics,
        }
    }

    pub(super) async fn handle(&self, request: Request) -> Response {
        let (parts, body) = request.into_parts();
        if maintenance::is_order(&parts) {
            return self.order_maintenance(&parts, body).await;
        }
        if webhook::is_report(&parts) {
            return self.receive_reports(&parts, body).await;
        }
        if drained::is_question(&parts) {
            return self.answer_drained(&parts).await;
        }
        let route = Route::of(&parts);
        let caller = match route.action {
            Ok(Action::UpdateInstanceCustomHealthStatus) => caller(&parts),
            _ => String::new(),
        };
        match route.protocol {
            Protocol::Json => self.answer::<Json>(route, &caller, body).await,
            Protocol::Cbor => self.answer::<Cbor>(route, &caller, body).await,
        }
    }

    async fn answer<C: Codec>(&self, route: Route, caller: &str, body: Body) -> Response {
        let started = Instant::now();
        let action = route.action.as_ref().ok().copied();
        let outcome = match route.action {
            Ok(action) => unwound(self.carry_out::<C>(action, caller, body)).await,
            Err(error) => Err(error),
        };
        let request_id = request_id();
        let code = outcome.as_ref().err().map(|error| error.code);
        let response = response::<C>(outcome, &request_id);
        let duration = started.elapsed();
        self.metrics.record(action, response.status(), duration);
        tracing::debug!(
            operation = action.map(Action::as_str),
            protocol = C::PROTOCOL.as_str(),
            status = response.status().as_u16(),
            code,
            duration_us = duration.as_micros() as u64,
            request_id = std::str::from_utf8(&request_id).ok(),
            "request",
        );
        response
    }

    /// Executes an operation and returns the body of its answer, which is empty if the response has no body.
    async fn carry_out<C: Codec>(
        &self,
        action: Action,
        caller: &str,
        body: Body,
    ) -> Result<Answer, ApiError> {
        let bytes = self.read(body).await?;
        let mut reservation = None;
        let mut deadline = None;
        let mut has_searched = false;
        loop {
            let evaluated = match self.evaluate::<C>(action, caller, &bytes) {
                Ok(Evaluated::Answer(answer)) => Ok(answer),
                Ok(Evaluated::Command(command)) => match self.submit(command).await {
                    // A reply holds at most one service, whose size is limited, so it need not be counted.
                    Ok(reply) => return Ok(Answer::uncounted(self.reply::<C>(action, reply))),
                    Err(error) => Err(error),
                },
                Err(error) => Err(error),
            };
            let answer = match evaluated {
                Ok(answer) => answer,
                // Another server may have created the resource a moment ago, so the shared store is asked for it once.
                Err(error) if !has_searched && is_not_found(&error) => {
                    has_searched = true;
                    let validation = self.registry.settings().validation;
                    let sought = with_input::<C, _>(action, &bytes, validation, |input| Ok(sought(&input)))?;
                    if self.registry.find(&sought).await {
                        continue;
                    }
                    return Err(error);
                }
                Err(error) => return Err(error),
            };
            match self.answers.admit(answer, reservation.take()) {
                Ok(answer) => return Ok(answer),
                // The answer was dropped. It is built again when the budget has room for it.
                Err(lacked) => {
                    let deadline = *deadline.get_or_insert_with(|| Deadline::now() + self.timeout());
                    reservation = self.answers.reserve(lacked, deadline).await;
                    if reservation.is_none() {
                        return Err(self.out_of_memory());
                    }
                }
            }
        }
    }

    fn evaluate<C: Codec>(&self, action: Action, caller: &str, bytes: &[u8]) -> Result<Evaluated, ApiError> {
        let validation = self.registry.settings().validation;
        with_input::<C, _>(action, bytes, validation, |input| match input {
            Input::Write(input) => Ok(Evaluated::Command(command(input, caller))),
            Input::Query(input) => {
                let mut out = Vec::new();
                let state = self.registry.state();
                let query = Query {
                    state: &state,
                    identity: self.registry.identity(),
                    policies: self.registry.settings().health,
                };
                query.answer::<C>(input, &mut out)?;
                Ok(Evaluated::Answer(out))
            }
        })
    }

    fn reply<C: Codec>(&self, action: Action, reply: Reply) -> Vec<u8> {
        let mut out = Vec::new();
        match reply {
            // Smithy gives an operation without output no body, but clients of awsJson1.1 expect `{}`.
            Reply::Done
                if action == Action::UpdateInstanceCustomHealthStatus && C::PROTOCOL == Protocol::Cbor => {}
            Reply::Done | Reply::Observed(_) | Reply::Shadowed { .. } => structure::<C>(&mut out, |_| {}),
            Reply::Operation(id) => structure::<C>(&mut out, |out| out.text("OperationId", id.as_str())),
            Reply::Service(service) => structure::<C>(&mut out, |out| {
                out.structure("Service", |out| {
                    output::service(out, self.registry.identity(), &service, false);
                });
            }),
        }
        out
    }

    fn out_of_memory(&self) -> ApiError {
        ApiError::unavailable(format!(
            "The memory for answers is full of answers that clients have not read yet, and had no room for this one \
             within {} ms.",
            self.limits.request_timeout_ms
        ))
    }

    /// The response to a request that is none of AWS's: a line of JSON. Counts the request.
    pub(super) fn json_response(&self, started: Instant, status: StatusCode, body: &Value) -> Response {
        self.metrics.record(None, status, started.elapsed());
        let mut response = Response::new(Body::from(format!("{body}\n")));
        *response.status_mut() = status;
        let json = HeaderValue::from_static("application/json");
        response.headers_mut().insert(header::CONTENT_TYPE, json);
        response
    }

    /// Runs a search through the state on a blocking thread, one at a time.
    pub(super) async fn search<T: Send + 'static>(
        &self,
        search: impl FnOnce(&State) -> T + Send + 'static,
    ) -> Result<T, ApiError> {
        let permit = tokio::time::timeout(self.timeout(), self.searches.clone().acquire_owned()).await;
        let permit = permit
            .map_err(|_| ApiError::unavailable("Too many searches for instances are waiting already."))?;
        let state = self.registry.state();
        // The closure owns the permit, because it continues to run after the client has disconnected.
        let found = tokio::task::spawn_blocking(move || {
            let found = search(&state);
            drop(permit);
            found
        });
        found.await.map_err(|_| ApiError::internal("The server failed on this request; its log says why."))
    }

    pub(super) async fn submit(&self, command: Command) -> Result<Reply, ApiError> {
        match tokio::time::timeout(self.timeout(), self.registry.submit(command)).await {
            Ok(reply) => Ok(reply?),
            Err(_) => Err(ApiError::unavailable(format!(
                "The change was not confirmed within {} ms; it may still be made.",
                self.limits.request_timeout_ms
            ))),
        }
    }

    pub(super) async fn read(&self, body: Body) -> Result<Bytes, ApiError> {
        let read = body::read(body, self.limits.body_bytes_max);
        match tokio::time::timeout(self.timeout(), read).await {
            Ok(result) => result,
            Err(_) => Err(ApiError::too_slow(self.limits.request_timeout_ms)),
        }
    }

    fn timeout(&self) -> Duration {
        Duration::from_millis(self.limits.request_timeout_ms)
    }
}

/// Decodes and validates a body, and calls `then` with the input, which borrows from the body.
fn with_input<C: Codec, T>(
    action: Action,
    bytes: &[u8],
    validation: Validation,
    then: impl FnOnce(Input<'_>) -> Result<T, ApiError>,
) -> Result<T, ApiError> {
    let body = C::decode(bytes).map_err(|error| ApiError::serialization(error.to_string()))?;
    then(Input::read(action, &body, validation)?)
}

/// The error that a client gets for a body that is not a valid input of its operation. `code` is
/// `SerializationException` if the body violates the protocol, otherwise `InvalidInput` of the model. `message` is
/// the text of the member `Message`, which names every violation.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{code}: {message}")]
#[expect(missing_docs, reason = "the type's document explains the fields")]
pub struct InputError {
    pub code: &'static str,
    pub message: String,
}

/// Validates a body strictly as the input of an operation, without executing the operation.
pub fn check_input(protocol: Protocol, action: Action, body: &[u8]) -> Result<(), InputError> {
    let checked = match protocol {
        Protocol::Json => with_input::<Json, _>(action, body, Validation::Strict, |_| Ok(())),
        Protocol::Cbor => with_input::<Cbor, _>(action, body, Validation::Strict, |_| Ok(())),
    };
    checked.map_err(|error| InputError { code: error.code, message: error.message })
}

fn response<C: Codec>(outcome: Result<Answer, ApiError>, request_id: &[u8; 36]) -> Response {
    let (status, error_type, body) = match outcome {
        Ok(body) => (StatusCode::OK, None, body),
        Err(error) => (error.status(C::PROTOCOL), Some(error.code), Answer::uncounted(error.body::<C>())),
    };
    let has_body = !body.is_empty();
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    if has_body {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(C::PROTOCOL.content_type()));
    }
    if let Ok(id) = HeaderValue::from_bytes(request_id) {
        headers.insert(REQUEST_ID, id);
    }
    match (C::PROTOCOL, error_type) {
        (Protocol::Cbor, _) => {
            headers.insert(HeaderName::from_static(SMITHY_PROTOCOL), HeaderValue::from_static(RPC_V2_CBOR));
        }
        (Protocol::Json, Some(code)) => {
            headers.insert(ERROR_TYPE, HeaderValue::from_static(code));
        }
        (Protocol::Json, None) => {}
    }
    if status == StatusCode::PAYLOAD_TOO_LARGE {
        // Closing the connection is cheaper than reading the rest of the body.
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    if status == StatusCode::METHOD_NOT_ALLOWED {
        headers.insert(header::ALLOW, HeaderValue::from_static("POST"));
    }
    response
}

/// Runs the future of a request, and turns its panic into an error response.
async fn unwound<T>(future: impl Future<Output = Result<T, ApiError>>) -> Result<T, ApiError> {
    let mut future = pin!(future);
    // Catching the panic is safe, because the future is not polled again and leaves no shared state half-changed: states of
    // the registry are immutable, and its writer runs on its own thread.
    poll_fn(|context| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context))) {
        Ok(poll) => poll,
        Err(_) => {
            Poll::Ready(Err(ApiError::internal("The server failed on this request; its log says why.")))
        }
    })
    .await
}

/// Returns a random UUID (RFC 9562 §5.4) from a fast generator. Request ids appear in logs and need not be unguessable.
fn request_id() -> [u8; 36] {
    let random = (fastrand::u128(..) & !(0xf << 76) | 4 << 76) & !(3 << 62) | 2 << 62;
    let mut text = [b'-'; 36];
    let mut shift = 128;
    for (at, byte) in text.iter_mut().enumerate() {
        if !matches!(at, 8 | 13 | 18 | 23) {
            shift -= 4;
            *byte = b"0123456789abcdef"[(random >> shift) as usize & 15];
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_fails_only_its_request() {
        let outcome = unwound::<()>(async {
            tokio::task::yield_now().await;
            panic!("a test of panics")
        });
        assert_eq!(outcome.await.unwrap_err().code, "InternalFailure");
    }
}
