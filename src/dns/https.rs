//! DNS over HTTPS (RFC 8484): HTTP/1.1 and HTTP/2, GET and POST.
//!
//! | request | response |
//! | --- | --- |
//! | `GET /dns-query?dns=` and the query in base64url | 200 with the reply |
//! | `POST /dns-query` with the query as `application/dns-message` | 200 with the reply |
//! | a query that is missing, not base64url, or not a query | 400 |
//! | another path, method or type; a body over 65,535 bytes | 404, 405, 415, 413 |
//!
//! A reply may be cached for as long as its records (§5.1). Connections count towards the limits on TCP connections, and the
//! one that is idle longest is closed to make room for a new one.

use std::convert::Infallible;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use data_encoding::BASE64URL_NOPAD;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, sleep_until};

use super::query;
use super::tcp::{ConnectionPhase, ConnectionSlot, WorkerPool};
use crate::snapshot::Snapshot;

const PATH: &str = "/dns-query";
const MEDIA_TYPE: &str = "application/dns-message";
const QUERY_BYTES_MAX: usize = 65_535;
/// Length limit of a request's head; even the longest queries that clients send by GET have only a few hundred bytes.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Length up to which the body of a request that is too long is read and discarded.
const DISCARDED_BYTES_MAX: usize = 1 << 20;
const STREAMS_MAX: u32 = 100;
/// Time that an idle connection has to end in order, in milliseconds.
const CLOSE_TIMEOUT_MS: u64 = 1_000;

/// Serves a connection after its TLS handshake, until it is closed or idle for too long.
pub(super) async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    client: IpAddr,
    idle_timeout: Duration,
    slot: ConnectionSlot,
    snapshot: Arc<Snapshot>,
    workers: Arc<WorkerPool>,
) {
    let (running, idle_since) = (AtomicUsize::new(0), Mutex::new(Instant::now()));
    let activity = Arc::new(Activity { running, idle_since, slot });
    let service = service_fn(|request| {
        activity.begins();
        let (activity, snapshot, workers) = (activity.clone(), snapshot.clone(), workers.clone());
        async move {
            let response = respond(request, client, &snapshot, &workers).await;
            activity.ends();
            Ok::<_, Infallible>(response)
        }
    });
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(idle_timeout).max_buf_size(HEAD_BYTES_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEAD_BYTES_MAX as u32)
        .keep_alive_interval(Some(idle_timeout))
        .keep_alive_timeout(idle_timeout);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let mut deadline = Instant::now() + idle_timeout;
    let mut is_closing = false;
    loop {
        tokio::select! {
            result = connection.as_mut() => {
                if let Err(error) = result {
                    tracing::debug!(%error, %client, "DNS over HTTPS: a connection ended early");
                }
                return;
            }
            () = sleep_until(deadline) => {
                if is_closing {
                    return;
                }
                let Some(idle_since) = activity.idle_since() else {
                    deadline = Instant::now() + idle_timeout;
                    continue;
                };
                deadline = idle_since + idle_timeout;
                if deadline <= Instant::now() {
                    // GOAWAY informs the client, which may have sent a request that will not be answered.
                    connection.as_mut().graceful_shutdown();
                    is_closing = true;
                    deadline = Instant::now() + Duration::from_millis(CLOSE_TIMEOUT_MS);
                }
            }
        }
    }
}

struct Activity {
    running: AtomicUsize,
    idle_since: Mutex<Instant>,
    slot: ConnectionSlot,
}

impl Activity {
    fn begins(&self) {
        self.running.fetch_add(1, Relaxed);
        self.slot.set(ConnectionPhase::Busy, std::time::Instant::now());
    }

    fn ends(&self) {
        if self.running.fetch_sub(1, Relaxed) == 1 {
            let now = Instant::now();
            *self.idle_since.lock().unwrap_or_else(PoisonError::into_inner) = now;
            self.slot.set(ConnectionPhase::Idle, now.into_std());
        }
    }

    fn idle_since(&self) -> Option<Instant> {
        let is_idle = self.running.load(Relaxed) == 0;
        is_idle.then(|| *self.idle_since.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

async fn respond(
    request: Request<Incoming>,
    client: IpAddr,
    snapshot: &Snapshot,
    workers: &WorkerPool,
) -> Response<Full<Bytes>> {
    let query = match query_of(request).await {
        Ok(query) => query,
        Err(refused) => return refused,
    };
    match workers.answer_one(snapshot, &query, client) {
        Some(reply) => {
            let max_age = query::ttl_min(&reply).unwrap_or(0);
            let response = Response::builder()
                .header(CONTENT_TYPE, MEDIA_TYPE)
                .header(CACHE_CONTROL, format!("max-age={max_age}"));
            response.body(Full::new(reply.into())).unwrap_or_default()
        }
        None => error(StatusCode::BAD_REQUEST, "the message is not a DNS query"),
    }
}

async fn query_of(request: Request<Incoming>) -> Result<Vec<u8>, Response<Full<Bytes>>> {
    if request.uri().path() != PATH {
        return Err(error(StatusCode::NOT_FOUND, "DNS queries are answered at /dns-query"));
    }
    match *request.method() {
        Method::GET => {
            let parameters = request.uri().query().unwrap_or_default().split('&');
            let text = parameters.filter_map(|parameter| parameter.strip_prefix("dns=")).next();
            let text = text.ok_or_else(|| error(StatusCode::BAD_REQUEST, "the parameter dns is missing"))?;
            BASE64URL_NOPAD.decode(text.trim_end_matches('=').as_bytes()).map_err(|_| {
                error(StatusCode::BAD_REQUEST, "the parameter dns is not base64url (RFC 4648 section 5)")
            })
        }
        Method::POST => {
            let media_type = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
            let is_dns = media_type.is_some_and(|text| {
                let essence = text.split(';').next().unwrap_or_default();
                essence.trim().eq_ignore_ascii_case(MEDIA_TYPE)
            });
            if !is_dns {
                let text = "the content type of a query is application/dns-message";
                return Err(error(StatusCode::UNSUPPORTED_MEDIA_TYPE, text));
            }
            read_body(request.into_body()).await
        }
        _ => {
            let mut refused = error(StatusCode::METHOD_NOT_ALLOWED, "use GET or POST");
            refused.headers_mut().insert(ALLOW, hyper::header::HeaderValue::from_static("GET, POST"));
            Err(refused)
        }
    }
}

/// Reads a body. One that is too long is read further, up to a limit, because many clients read the response only when they
/// have sent all of it.
async fn read_body(mut body: Incoming) -> Result<Vec<u8>, Response<Full<Bytes>>> {
    let (mut query, mut bytes) = (Vec::new(), 0);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| error(StatusCode::BAD_REQUEST, "the body could not be read"))?;
        let Some(data) = frame.data_ref() else { continue };
        bytes += data.len();
        if bytes <= QUERY_BYTES_MAX {
            query.extend_from_slice(data);
        } else if bytes > DISCARDED_BYTES_MAX {
            break;
        }
    }
    if bytes > QUERY_BYTES_MAX { Err(too_large()) } else { Ok(query) }
}

fn too_large() -> Response<Full<Bytes>> {
    error(StatusCode::PAYLOAD_TOO_LARGE, "a DNS message has at most 65535 bytes")
}

fn error(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
    *response.status_mut() = status;
    response
}
