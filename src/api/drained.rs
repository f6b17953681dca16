//! `GET /drained/SERVICE/INSTANCE`: whether an instance that has left can be stopped, because no client holds it any more.
//!
//! The service is a name, a full name, an id or an ARN. With `?wait=SECONDS` (0 to 900) the response waits until the instance
//! is drained, or the time is over. Its body is a JSON object:
//!
//! | status | meaning |
//! | --- | --- |
//! | 200 | No client that honours TTLs can hold the instance. |
//! | 202 | Clients can hold it for `seconds`; if `answered` is true, it has not left, and that is the time after it leaves. |
//! | 404 | It was never known: neither by this server nor by the others. |
//! | 409 | Several services have this name. |
//! | 429 | Too many requests are waiting. |
//! | 503 | The progress of another server is not known, for the reason in `message`, or this server stops. |
//!
//! With `?local`, the question of another server, a server answers at once and for itself alone.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::http::{HeaderValue, Method, StatusCode, header, request::Parts};
use axum::response::Response;
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};
use tokio::time::{Instant as Deadline, sleep, timeout_at};

use crate::model::{Service, ServiceId};
use crate::registry::{Hold, ServiceState, State};

use super::failure::Failure;
use super::request::Api;
use super::targets::names_of;

/// Largest number of requests that wait at a time. They get at most half of the connections.
const WAITING_MAX: usize = 4_096;
const WAIT_S_MAX: u64 = 900;
/// Interval at which this server checks an instance that has not left, in milliseconds.
const OWN_MS: u64 = 200;
/// Interval at which other servers are asked again, in milliseconds.
const OTHERS_MS: u64 = 1_000;
/// Longest time without asking again, because an instance may return, in milliseconds.
const LEFT_MS_MAX: u64 = 10_000;

/// Largest number of requests that may wait on a server with this number of connections.
pub(super) fn waiting_max(connections_max: usize) -> usize {
    WAITING_MAX.min(connections_max / 2)
}

/// A question about one instance. `is_local` is true if it is about this server alone.
#[derive(Debug, Eq, PartialEq)]
struct Question {
    service: String,
    instance: String,
    wait: Duration,
    is_local: bool,
}

pub(super) fn is_question(request: &Parts) -> bool {
    request.method == Method::GET && request.uri.path().starts_with("/drained/")
}

impl Api {
    pub(super) async fn answer_drained(&self, request: &Parts) -> Response {
        let started = Instant::now();
        let (status, body) = match self.drained(request).await {
            Ok(answer) => answer,
            Err(Failure { status, message }) => (status, json!({"message": message})),
        };
        let again_s = match (status, body["seconds"].as_u64()) {
            (StatusCode::ACCEPTED, Some(seconds)) => Some(seconds.max(1)),
            (StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS, _) => Some(1),
            _ => None,
        };
        let mut response = self.json_response(started, status, &body);
        if let Some(seconds) = again_s {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }

    async fn drained(&self, request: &Parts) -> Result<(StatusCode, Value), Failure> {
        let question = Question::read(request.uri.path(), request.uri.query())
            .map_err(|message| Failure::new(StatusCode::BAD_REQUEST, message))?;
        let subject = Subject { services: self.services_named(&question).await?, question: &question };
        if question.is_local {
            let hold = self.own_hold(&subject);
            return Ok((StatusCode::OK, json!({"server": self.server_id, "hold": hold})));
        }
        let _waits = if question.wait.is_zero() {
            None
        } else {
            let too_many = |_| {
                Failure::new(
                    StatusCode::TOO_MANY_REQUESTS,
                    "too many requests wait already; send this one again",
                )
            };
            Some((self.waiting.try_acquire().map_err(too_many)?, self.metrics.drain_waits()))
        };
        let deadline = Deadline::now() + question.wait;
        let mut closing = self.closing.subscribe();
        let answered = async {
            loop {
                let hold = self.hold(&subject).await;
                let is_known = matches!(hold, Ok(Hold::Left(Duration::ZERO) | Hold::Unknown(Duration::ZERO)));
                if is_known || Deadline::now() >= deadline {
                    return hold;
                }
                // At the end of the time, everybody is asked once more.
                let _ = timeout_at(deadline, self.pause(&subject, &hold)).await;
            }
        };
        tokio::select! {
            hold = answered => outcome(&question, hold),
            _ = closing.wait_for(|is_closing| *is_closing) => {
                Err(Failure::new(StatusCode::SERVICE_UNAVAILABLE, "this server stops; ask again"))
            }
        }
    }

    /// Waits for the time after which the knowledge can be different.
    async fn pause(&self, subject: &Subject<'_>, hold: &Result<Hold, String>) {
        match hold {
            Ok(Hold::Answered(_)) if matches!(self.own_hold(subject), Hold::Answered(_)) => {
                self.left(subject).await;
            }
            Ok(Hold::Left(held) | Hold::Unknown(held)) => {
                sleep((*held).min(Duration::from_millis(LEFT_MS_MAX))).await;
            }
            Ok(Hold::Answered(_)) | Err(_) => sleep(Duration::from_millis(OTHERS_MS)).await,
        }
    }

    /// Waits until this server's answers do not contain the instance.
    async fn left(&self, subject: &Subject<'_>) {
        let versions = || -> Vec<Option<Arc<ServiceState>>> {
            let state = self.registry.state();
            subject.services.iter().map(|service| state.service(service.as_str()).ok().cloned()).collect()
        };
        let is_same = |one: &Option<Arc<ServiceState>>, other: &Option<Arc<ServiceState>>| match (one, other)
        {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            _ => false,
        };
        let mut seen = Vec::new();
        loop {
            let found = versions();
            // The check reads all instances of the service, so that it is repeated for a new version only.
            let is_seen =
                found.len() == seen.len() && found.iter().zip(&seen).all(|(one, other)| is_same(one, other));
            if !is_seen && !matches!(self.own_hold(subject), Hold::Answered(_)) {
                return;
            }
            seen = found;
            sleep(Duration::from_millis(OWN_MS)).await;
        }
    }

    fn own_hold(&self, subject: &Subject<'_>) -> Hold {
        let of_each =
            subject.services.iter().map(|service| self.registry.hold(service, &subject.question.instance));
        of_each.reduce(Hold::and).unwrap_or(Hold::Unknown(Duration::ZERO))
    }

    /// Joins what this server and all others know.
    async fn hold(&self, subject: &Subject<'_>) -> Result<Hold, String> {
        let Subject { services, question } = subject;
        // Another server may know a service that this one does not.
        let service = services.first().map_or(&*question.service, ServiceId::as_str);
        let others = self.registry.others_hold(self.others.as_deref(), service, &question.instance).await?;
        // Last, because it may change meanwhile.
        Ok(others.and(self.own_hold(subject)))
    }

    /// The ids of the services with this id, ARN, full name or name, including those that are deleted and were known before.
    async fn services_named(&self, question: &Question) -> Result<BTreeSet<ServiceId>, Failure> {
        let reference = &*question.service;
        let state = self.registry.state();
        if let Ok(found) = state.service(reference) {
            return Ok(BTreeSet::from([found.service.id.clone()]));
        }
        drop(state);
        let name = reference.trim_end_matches('.').to_ascii_lowercase();
        let mut found = self.search(move |state| services_of_name(state, &name)).await?;
        found.extend(self.registry.departures().services(reference));
        if found.len() > 1 && !question.is_local {
            let message = format!(
                "{} services are called {}; give the full name or the id of one",
                found.len(),
                reference.escape_debug()
            );
            return Err(Failure::new(StatusCode::CONFLICT, message));
        }
        Ok(found)
    }
}

/// The service that a question is about, if it is known. The question of another server may be about several of one name.
struct Subject<'q> {
    services: BTreeSet<ServiceId>,
    question: &'q Question,
}

fn services_of_name(state: &State, name: &str) -> BTreeSet<ServiceId> {
    let is_named = |service: &Service| names_of(state, service).any(|other| other.eq_ignore_ascii_case(name));
    let all = state.services_after(None).map(|(_, found)| &found.service);
    all.filter(|service| is_named(service)).map(|service| service.id.clone()).collect()
}

fn outcome(question: &Question, hold: Result<Hold, String>) -> Result<(StatusCode, Value), Failure> {
    let hold = hold.map_err(|why| Failure::new(StatusCode::SERVICE_UNAVAILABLE, why))?;
    let Question { service, instance, .. } = question;
    let answer = |is_drained: bool| {
        // Rounded up, so that a client that waits for it is not early.
        let seconds = hold.held().as_millis().div_ceil(1_000) as u64;
        let is_answered = matches!(hold, Hold::Answered(_));
        json!({"service": service, "instance": instance, "drained": is_drained, "answered": is_answered, "seconds": seconds})
    };
    match hold {
        Hold::Left(Duration::ZERO) => Ok((StatusCode::OK, answer(true))),
        Hold::Unknown(Duration::ZERO) => {
            let (instance, service) = (instance.escape_debug(), service.escape_debug());
            let message = format!("no instance {instance} of a service {service} is known, or was");
            Err(Failure::new(StatusCode::NOT_FOUND, message))
        }
        _ => Ok((StatusCode::ACCEPTED, answer(false))),
    }
}

impl Question {
    fn read(path: &str, query: Option<&str>) -> Result<Question, String> {
        let wrong = || "the path must be /drained/SERVICE/INSTANCE".to_string();
        let decoded = |text: &str| match percent_decode_str(text).decode_utf8() {
            Ok(text) if !text.is_empty() => Ok(text.into_owned()),
            _ => Err(wrong()),
        };
        let path = path.strip_prefix("/drained/").unwrap_or_default();
        let (service, mut instance) = path.split_once('/').ok_or_else(wrong)?;
        let mut service = decoded(service)?;
        // An ARN has a slash before the id.
        if service.starts_with("arn:") && !service.contains('/') {
            let (id, rest) = instance.split_once('/').ok_or_else(wrong)?;
            service = format!("{service}/{}", decoded(id)?);
            instance = rest;
        }
        let mut question =
            Question { service, instance: decoded(instance)?, wait: Duration::ZERO, is_local: false };
        for parameter in query.unwrap_or_default().split('&').filter(|parameter| !parameter.is_empty()) {
            match parameter.split_once('=').unwrap_or((parameter, "")) {
                ("wait", seconds) => match seconds.parse() {
                    Ok(seconds) if seconds <= WAIT_S_MAX => question.wait = Duration::from_secs(seconds),
                    _ => return Err(format!("wait is {seconds:?}; it must be 0 to {WAIT_S_MAX} seconds")),
                },
                ("local", "") => question.is_local = true,
                (name, _) => return Err(format!("there is no parameter {name:?}; only wait is known")),
            }
        }
        Ok(question)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_name_a_service_and_an_instance() {
        let question = |service: &str, instance: &str, wait_s, is_local| {
            let wait = Duration::from_secs(wait_s);
            Ok(Question { service: service.into(), instance: instance.into(), wait, is_local })
        };
        let arn = "arn:aws:servicediscovery:eu-west-1:1:service/srv-1";
        for (path, query, expected) in [
            ("web/i-1", None, question("web", "i-1", 0, false)),
            ("web.demo.local./a/b:c@d", Some(""), question("web.demo.local.", "a/b:c@d", 0, false)),
            ("web/%61%2Fb", Some("wait=900"), question("web", "a/b", 900, false)),
            (&format!("{arn}/i-1"), Some("wait=1&local"), question(arn, "i-1", 1, true)),
            (&format!("{arn}/a/b").replace(':', "%3A"), None, question(arn, "a/b", 0, false)),
            (&format!("{}/a/b", arn.replace('/', "%2F")), None, question(arn, "a/b", 0, false)),
        ] {
            assert_eq!(Question::read(&format!("/drained/{path}"), query), expected, "{path}");
        }
        for (path, query, wrong) in [
            ("", None, "the path must be"),
            ("web", None, "the path must be"),
            ("web/", None, "the path must be"),
            ("/web", None, "the path must be"),
            (arn, None, "the path must be"),
            ("web/%ff", None, "the path must be"),
            ("web/a", Some("wait=901"), "wait is \"901\""),
            ("web/a", Some("wait=-1"), "wait is"),
            ("web/a", Some("wait"), "wait is"),
            ("web/a", Some("until=1"), "there is no parameter \"until\""),
        ] {
            let error = Question::read(&format!("/drained/{path}"), query).unwrap_err();
            assert!(error.starts_with(wrong), "{path}: {error}");
        }
    }
}
