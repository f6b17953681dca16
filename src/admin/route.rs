//! What the paths of the port answer.

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
use super::{Admin, Standing, explain, metrics};

/// Requests that are worked on at a time, each on a thread of its own; more wait. Those of `/livez` and `/readyz` are
/// not among them.
const WORKING_MAX: usize = 4;
/// Zones that are written at a time, each in memory; more wait.
const ZONES_AT_ONCE_MAX: usize = 1;

/// What there is.
const ENDPOINTS: &str = "\
/livez                          ok as long as the process runs
/readyz[?verbose]               ok when everything that is needed is there; else 503 and what is missing
/metrics                        metrics for Prometheus
/explain?name=NAME[&type=TYPE]  which zone, service and instances are behind an answer, and why; type A if not given
/zone?name=NAME                 the zone as it is served, as a master file
";

const PLAIN: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const PROMETHEUS: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");

#[derive(Clone)]
struct Port {
    admin: Arc<Admin>,
    working: Arc<Semaphore>,
    zones: Arc<Semaphore>,
}

/// The paths, and the answers to all others.
pub(super) fn router(admin: Arc<Admin>) -> Router {
    let port = Port {
        admin,
        working: Arc::new(Semaphore::new(WORKING_MAX)),
        zones: Arc::new(Semaphore::new(ZONES_AT_ONCE_MAX)),
    };
    Router::new()
        .route("/livez", get(|| async { plain(StatusCode::OK, "ok") }))
        .route("/readyz", get(ready))
        .route("/metrics", get(scrape))
        .route("/explain", get(explanation))
        .route("/zone", get(zone))
        .fallback(|uri: Uri| async move {
            let path = uri.path().escape_debug();
            plain(StatusCode::NOT_FOUND, format!("there is no {path} here; there is\n\n{ENDPOINTS}"))
        })
        .method_not_allowed_fallback(|| async {
            plain(StatusCode::METHOD_NOT_ALLOWED, "this port only reads: use GET")
        })
        .with_state(port)
}

async fn ready(State(port): State<Port>, uri: Uri) -> Response {
    let standings = port.admin.standings();
    let is_verbose = uri.query().unwrap_or_default().split('&').any(|word| {
        let (key, value) = word.split_once('=').unwrap_or((word, ""));
        key == "verbose" && !matches!(value, "0" | "false")
    });
    let is_ready = standings.values().all(Standing::is_done);
    let mut text = String::from(if is_ready { "ok" } else { "not ready" });
    for (name, standing) in &standings {
        match standing {
            Standing::Done if is_verbose => text.push_str(&format!("\n{name}: ok")),
            Standing::Remark(remark) if is_verbose => text.push_str(&format!("\n{name}: {remark}")),
            Standing::Done | Standing::Remark(_) => {}
            Standing::Pending => text.push_str(&format!("\n{name}: pending")),
            Standing::Failing(reason) => text.push_str(&format!("\n{name}: {reason}")),
        }
    }
    plain(if is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, text)
}

async fn scrape(State(port): State<Port>) -> Response {
    port.work(|admin| {
        let mut response = plain(StatusCode::OK, metrics::metrics(admin));
        response.headers_mut().insert(header::CONTENT_TYPE, PROMETHEUS);
        response
    })
    .await
}

async fn explanation(State(port): State<Port>, uri: Uri) -> Response {
    let asked = Query::read(&uri, &["name", "type"]).and_then(|query| Ok((query.name()?, query.rtype()?)));
    match asked {
        Ok((name, rtype)) => {
            port.work(move |admin| plain(StatusCode::OK, explain::explain(admin, &name, rtype))).await
        }
        Err(error) => plain(StatusCode::BAD_REQUEST, error.to_string()),
    }
}

async fn zone(State(port): State<Port>, uri: Uri) -> Response {
    let name = match Query::read(&uri, &["name"]).and_then(|query| query.name()) {
        Ok(name) => name,
        Err(error) => return plain(StatusCode::BAD_REQUEST, error.to_string()),
    };
    let turn = port.zones.clone().acquire_owned().await;
    port.work(move |admin| {
        let response = match live_zone(admin, &name) {
            Ok(text) => plain(StatusCode::OK, text),
            Err(error @ LiveZoneError::NoZone { .. }) => plain(StatusCode::NOT_FOUND, error.to_string()),
            Err(error @ LiveZoneError::TooLarge(_)) => {
                plain(StatusCode::INSUFFICIENT_STORAGE, error.to_string())
            }
        };
        drop(turn);
        response
    })
    .await
}

impl Port {
    /// Answers on a thread that may take its time. A panic there is an answer like others.
    async fn work(&self, answer: impl FnOnce(&Admin) -> Response + Send + 'static) -> Response {
        // The work goes on when the client is gone, and so does its turn. The semaphore is never closed.
        let turn = self.working.clone().acquire_owned().await;
        let admin = self.admin.clone();
        let answer = move || {
            let response = answer(&admin);
            drop(turn);
            response
        };
        match tokio::task::spawn_blocking(answer).await {
            Ok(response) => response,
            Err(error) => {
                tracing::error!(%error, "admin: a request could not be answered");
                plain(StatusCode::INTERNAL_SERVER_ERROR, "the server failed to answer; its log says why")
            }
        }
    }
}

fn plain(status: StatusCode, text: impl Into<String>) -> Response {
    let mut text = text.into();
    if !text.ends_with('\n') {
        text.push('\n');
    }
    (status, [(header::CONTENT_TYPE, PLAIN), (header::CACHE_CONTROL, NO_STORE)], text).into_response()
}

/// What follows the path.
#[derive(Debug, Default)]
struct Query(Vec<(String, String)>);

/// Why a query can't be answered.
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
    /// Reads `key=value` pairs with `&` between them, as forms and URLs have them.
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

    /// A when it is not given.
    fn rtype(&self) -> Result<RecordType, QueryError> {
        let text = self.value("type").filter(|text| !text.is_empty()).unwrap_or("A");
        let unknown = |_| QueryError::Type(UnknownRecordType(shown(text)));
        let rtype: RecordType = text.parse().map_err(unknown)?;
        match rtype.is_meta() && rtype != RecordType::ANY {
            true => Err(QueryError::Meta(rtype)),
            false => Ok(rtype),
        }
    }
}

/// The text with `%XX` as octets and `+` as space; nothing when it is not well-formed or not UTF-8.
fn percent_decoded(text: &str) -> Option<String> {
    let mut octets = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&octet, tail)) = rest.split_first() {
        rest = tail;
        octets.push(match octet {
            b'+' => b' ',
            b'%' => {
                let (digits, tail) = rest.split_first_chunk::<2>()?;
                rest = tail;
                let digit = |octet: u8| char::from(octet).to_digit(16);
                u8::try_from(digit(digits[0])? * 16 + digit(digits[1])?).ok()?
            }
            octet => octet,
        });
    }
    String::from_utf8(octets).ok()
}

/// Text of a client as it can be shown to one.
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
    fn queries_are_read_as_clients_escape_them() {
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
