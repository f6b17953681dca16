//! The endpoints of the admin port: parsing of their queries, and their responses.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::sync::Semaphore;

use crate::zone::rrset::UnknownRecordType;
use crate::zone::{Name, NameError, RecordType};

use super::live_zone::{LiveZoneError, live_zone};
use super::{Admin, TaskStatus, explain, history, metrics};

/// Requests that are processed at a time, each on a blocking thread; more have to wait. `/livez` and `/readyz` are cheap
/// and are not limited.
const WORKING_MAX: usize = 4;
/// Requests for `/zone` that are processed at a time, because each holds a whole zone in memory.
const ZONES_AT_ONCE_MAX: usize = 1;

const ENDPOINTS: &str = "\
/livez                          ok as long as the process runs
/readyz[?verbose]               ok if the server is ready; otherwise 503 and the reasons
/metrics                        metrics for Prometheus
/explain?name=NAME[&type=TYPE]  the zone, service and instances behind an answer, and the reasons; TYPE is A by default
/history?name=NAME              the last changes of health of a service's instances, and their causes
/zone?name=NAME                 the zone as it is served, as a master file
";

const PLAIN: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const PROMETHEUS: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");

#[derive(Clone)]
struct AdminState {
    admin: Arc<Admin>,
    working: Arc<Semaphore>,
    zones: Arc<Semaphore>,
}

pub(super) fn router(admin: Arc<Admin>) -> Router {
    let state = AdminState {
        admin,
        working: Arc::new(Semaphore::new(WORKING_MAX)),
        zones: Arc::new(Semaphore::new(ZONES_AT_ONCE_MAX)),
    };
    Router::new()
        .route("/livez", get(|| async { plain_text(StatusCode::OK, "ok") }))
        .route("/readyz", get(ready))
        .route("/metrics", get(scrape))
        .route("/explain", get(explanation))
        .route("/history", get(history))
        .route("/zone", get(zone))
        .fallback(|uri: Uri| async move {
            let path = uri.path().escape_debug();
            plain_text(
                StatusCode::NOT_FOUND,
                format!("there is no endpoint {path}; the endpoints are\n\n{ENDPOINTS}"),
            )
        })
        .method_not_allowed_fallback(|| async {
            plain_text(StatusCode::METHOD_NOT_ALLOWED, "all endpoints of this port are read-only: use GET")
        })
        .with_state(state)
}

async fn ready(State(state): State<AdminState>, uri: Uri) -> Response {
    let statuses = state.admin.statuses();
    let is_verbose = uri.query().unwrap_or_default().split('&').any(|word| {
        let (key, value) = word.split_once('=').unwrap_or((word, ""));
        key == "verbose" && !matches!(value, "0" | "false")
    });
    let is_ready = statuses.values().all(TaskStatus::is_done);
    let mut text = String::from(if is_ready { "ok" } else { "not ready" });
    for (name, status) in &statuses {
        match status {
            TaskStatus::Done if is_verbose => text.push_str(&format!("\n{name}: ok")),
            TaskStatus::Remark(remark) if is_verbose => text.push_str(&format!("\n{name}: {remark}")),
            TaskStatus::Done | TaskStatus::Remark(_) => {}
            TaskStatus::Pending => text.push_str(&format!("\n{name}: pending")),
            TaskStatus::Failing(reason) => text.push_str(&format!("\n{name}: {reason}")),
        }
    }
    plain_text(if is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, text)
}

async fn scrape(State(state): State<AdminState>) -> Response {
    state
        .work(|admin| {
            let mut response = plain_text(StatusCode::OK, metrics::metrics(admin));
            response.headers_mut().insert(header::CONTENT_TYPE, PROMETHEUS);
            response
        })
        .await
}

async fn explanation(State(state): State<AdminState>, uri: Uri) -> Response {
    let asked = Query::read(&uri, &["name", "type"]).and_then(|query| Ok((query.name()?, query.rtype()?)));
    match asked {
        Ok((name, rtype)) => {
            state.work(move |admin| plain_text(StatusCode::OK, explain::explain(admin, &name, rtype))).await
        }
        Err(error) => plain_text(StatusCode::BAD_REQUEST, error.to_string()),
    }
}

async fn history(State(state): State<AdminState>, uri: Uri) -> Response {
    match Query::read(&uri, &["name"]).and_then(|query| query.name()) {
        Ok(name) => {
            state
                .work(move |admin| match history::history(admin, &name) {
                    Ok(text) => plain_text(StatusCode::OK, text),
                    Err(error) => plain_text(StatusCode::NOT_FOUND, error.to_string()),
                })
                .await
        }
        Err(error) => plain_text(StatusCode::BAD_REQUEST, error.to_string()),
    }
}

async fn zone(State(state): State<AdminState>, uri: Uri) -> Response {
    let name = match Query::read(&uri, &["name"]).and_then(|query| query.name()) {
        Ok(name) => name,
        Err(error) => return plain_text(StatusCode::BAD_REQUEST, error.to_string()),
    };
    let permit = state.zones.clone().acquire_owned().await;
    state
        .work(move |admin| {
            let response = match live_zone(admin, &name) {
                Ok(text) => plain_text(StatusCode::OK, text),
                Err(error @ LiveZoneError::NoZone { .. }) => {
                    plain_text(StatusCode::NOT_FOUND, error.to_string())
                }
                Err(error @ LiveZoneError::TooLarge(_)) => {
                    plain_text(StatusCode::INSUFFICIENT_STORAGE, error.to_string())
                }
            };
            drop(permit);
            response
        })
        .await
}

impl AdminState {
    async fn work(&self, answer: impl FnOnce(&Admin) -> Response + Send + 'static) -> Response {
        // The closure owns the permit, because it continues to run after the client has disconnected. The semaphore is never
        // closed, so there is always a permit.
        let permit = self.working.clone().acquire_owned().await;
        let admin = self.admin.clone();
        let answer = move || {
            let response = answer(&admin);
            drop(permit);
            response
        };
        match tokio::task::spawn_blocking(answer).await {
            Ok(response) => response,
            Err(error) => {
                tracing::error!(%error, "admin: a request could not be answered");
                plain_text(StatusCode::INTERNAL_SERVER_ERROR, "the server failed to answer; its log says why")
            }
        }
    }
}

fn plain_text(status: StatusCode, text: impl Into<String>) -> Response {
    let mut text = text.into();
    if !text.ends_with('\n') {
        text.push('\n');
    }
    (status, [(header::CONTENT_TYPE, PLAIN), (header::CACHE_CONTROL, NO_STORE)], text).into_response()
}

#[derive(Debug, Default)]
struct Query(Vec<(String, String)>);

#[derive(Debug, Eq, PartialEq, thiserror::Error)]
enum QueryError {
    #[error("`{0}` is not a parameter here; there is {1}")]
    Unknown(String, String),
    #[error("the parameter {0} is there twice")]
    Twice(String),
    #[error(
        "in `{0}`, a percent sign must be followed by two hexadecimal digits, and all of them must be UTF-8"
    )]
    Escape(String),
    #[error("the parameter {0} is missing: name=NAME, such as name=backend.production.local")]
    Missing(&'static str),
    #[error("`{0}` can't be a domain name: {1}")]
    Name(String, NameError),
    #[error(transparent)]
    Type(UnknownRecordType),
    #[error("{0} is not a type of records; use one such as A or SRV, or ANY")]
    Meta(RecordType),
}

impl Query {
    fn read(uri: &Uri, known: &[&str]) -> Result<Query, QueryError> {
        let mut query = Query::default();
        for pair in uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let decoded = |text| percent_decoded(text).ok_or_else(|| QueryError::Escape(shown(text)));
            let (key, value) = (decoded(key)?, decoded(value)?);
            if !known.contains(&&*key) {
                return Err(QueryError::Unknown(shown(&key), known.join(" and ")));
            }
            if query.value(&key).is_some() {
                return Err(QueryError::Twice(key));
            }
            query.0.push((key, value));
        }
        Ok(query)
    }

    fn value(&self, wanted: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == wanted).map(|(_, value)| &**value)
    }

    fn name(&self) -> Result<Name, QueryError> {
        let text = self.value("name").filter(|text| !text.is_empty()).ok_or(QueryError::Missing("name"))?;
        text.parse().map_err(|error| QueryError::Name(shown(text), error))
    }

    fn rtype(&self) -> Result<RecordType, QueryError> {
        let text = self.value("type").filter(|text| !text.is_empty()).unwrap_or("A");
        let unknown = |_| QueryError::Type(UnknownRecordType(shown(text)));
        let rtype: RecordType = text.parse().map_err(unknown)?;
        if rtype.is_meta() && rtype != RecordType::ANY { Err(QueryError::Meta(rtype)) } else { Ok(rtype) }
    }
}

/// Decodes `%XX` as a byte and `+` as a space. Returns `None` for malformed escapes, and for bytes that are not UTF-8.
fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let (digits, tail) = rest.split_first_chunk::<2>()?;
                rest = tail;
                let digit = |byte: u8| char::from(byte).to_digit(16);
                u8::try_from(digit(digits[0])? * 16 + digit(digits[1])?).ok()?
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

fn shown(text: impl AsRef<str>) -> String {
    text.as_ref().escape_debug().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(path: &str) -> Result<(Name, RecordType), String> {
        let uri: Uri = path.parse().unwrap();
        let query = Query::read(&uri, &["name", "type"]);
        let asked = query.and_then(|query| Ok((query.name()?, query.rtype()?)));
        asked.map_err(|error| error.to_string())
    }

    #[test]
    fn parameters_of_queries_are_decoded_and_checked() {
        let name = |text: &str| text.parse::<Name>().unwrap();
        assert_eq!(read("/explain?name=a%2eB.%5c046x&type=srv"), Ok((name(r"a.b.\.x"), RecordType::SRV)));
        assert_eq!(read("/explain?name=a+b"), Ok((name("a b"), RecordType::A)));
        assert_eq!(read("/explain?type=TYPE65280&name=."), Ok((Name::root(), RecordType(65280))));
        for (path, expected) in [
            ("/explain", "the parameter name is missing"),
            ("/explain?name=", "the parameter name is missing"),
            ("/explain?name=a..b", "`a..b` can't be a domain name: a label is empty"),
            ("/explain?name=a&name=b", "name is there twice"),
            ("/explain?name=a&tipe=A", "`tipe` is not a parameter here; there is name and type"),
            ("/explain?name=a&type=AB", "`AB` is no record type"),
            ("/explain?name=a&type=AXFR", "AXFR is not a type of records"),
            ("/explain?name=%4", "a percent sign"),
            ("/explain?name=%ff", "UTF-8"),
        ] {
            let error = read(path).unwrap_err();
            assert!(error.contains(expected), "{path}: {error}");
        }
    }
}
