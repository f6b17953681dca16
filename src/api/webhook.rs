//! `POST /health`: reports of health from systems that speak no AWS. Off unless the setting `webhook` is on.
//!
//! The body is JSON in one of two forms: plain items, one or a list, which [`Item`] describes; or a notification of
//! Prometheus' Alertmanager (webhook version 4), whose alerts are matched with instances by their labels. Each source has its
//! own report about an instance, and an alert is a source of its own.
//!
//! The response is 200 with a result for each item, where repeating a failed one would not help. It is 503 if an item could
//! not be stored, and then it is safe to send all of them again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use axum::body::Body;
use axum::http::{Method, StatusCode, header, request::Parts};
use axum::response::Response;
use futures_util::stream::{self, StreamExt as _};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::model::signals::{CHECK_SOURCE, REASON_BYTES_MAX, SOURCE_BYTES_MAX, cut, is_reason};
use crate::model::{CustomHealthStatus, ServiceId};
use crate::registry::command::ExternalReport;
use crate::registry::health::Day;
use crate::registry::{Command, Sought, State};

use super::caller::caller;
use super::codec::Protocol;
use super::error::ApiError;
use super::request::Api;
use super::sought::INSTANCES_MAX;
use super::targets::{Named, NoTarget, Subject, Target, Targets};

const BODY_BYTES_MAX: usize = 1 << 20;
const ITEMS_MAX: usize = 1_000;
/// Commands of one request that are submitted at a time.
const SUBMITTED_MAX: usize = 64;
/// Source of plain items that name none.
const PLAIN_SOURCE: &str = "webhook";

/// Labels of alerts that say which instance an alert is about: its service and its id, or its address.
#[derive(Clone, Debug, Eq, PartialEq)]
#[expect(missing_docs, reason = "the type's document explains the fields")]
pub struct AlertLabels {
    pub service: String,
    pub instance: String,
    pub address: String,
}

/// A plain item: an instance by its id or its address, and what is reported about it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Item {
    /// Name, full DNS name, id or ARN of the service; not needed if the rest means one instance.
    service: Option<String>,
    instance: Option<String>,
    /// IP address, or address and port, of instances that registered with it.
    address: Option<String>,
    /// `UNKNOWN` withdraws the report of this source.
    status: Status,
    #[serde(default)]
    reason: String,
    /// Name of the system that reports; at most 100 bytes.
    source: Option<String>,
    /// Time such as `5m` after which the report is withdrawn, up to `24h`.
    valid_for: Option<String>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
enum Status {
    Healthy,
    Unhealthy,
    Unknown,
}

/// The members of Alertmanager's notification that are read.
#[derive(Deserialize)]
struct Notification {
    alerts: Vec<Value>,
}

#[derive(Deserialize)]
struct Alert {
    status: AlertStatus,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
    #[serde(default)]
    fingerprint: String,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum AlertStatus {
    Firing,
    Resolved,
}

/// One report, with the instance that it is about as the request names it.
struct Reported {
    name: Named,
    source: String,
    report: Option<ExternalReport>,
}

/// The reports of a request. An item that is wrong is an error in its place.
type Reports = Vec<Result<Reported, String>>;

/// The instances that a report is about, by service and id; or the reason why there are none.
type Resolved = Result<Vec<(ServiceId, String)>, Unresolved>;

#[derive(Debug)]
enum Unresolved {
    Wrong(String),
    /// Nothing of that name is known. The shared store may have it.
    Unknown(String, Option<Sought>),
}

/// A request with a target is one of AWS's clients, whose endpoint URL may have any path.
pub(super) fn is_report(request: &Parts) -> bool {
    request.method == Method::POST
        && request.uri.path() == "/health"
        && !request.headers.contains_key("x-amz-target")
}

impl Api {
    pub(super) async fn receive_reports(&self, request: &Parts, body: Body) -> Response {
        let started = Instant::now();
        let received = if request.headers.contains_key(header::ORIGIN) {
            // A page of a foreign site could make its reader's browser send reports.
            Err(ApiError::forbidden("Browsers cannot report health."))
        } else {
            self.receive(caller(request), body).await
        };
        let (status, body) = match received {
            Ok(answer) => answer,
            Err(error) => (error.status(Protocol::Cbor), json!({"message": error.message})),
        };
        self.json_response(started, status, &body)
    }

    async fn receive(&self, reporter: String, body: Body) -> Result<(StatusCode, Value), ApiError> {
        let Some(labels) = &self.webhook else {
            return Err(ApiError::not_found("The webhook is off; the setting --webhook on turns it on."));
        };
        let body = self.read(body).await?;
        if body.len() > BODY_BYTES_MAX {
            return Err(ApiError::too_large(BODY_BYTES_MAX));
        }
        let labels = labels.clone();
        let (reports, mut resolved) = self
            .search(move |state| {
                let reports = Arc::new(read(&body, &labels, &reporter)?);
                let resolved = resolve(state, &reports);
                Ok::<_, String>((reports, resolved))
            })
            .await?
            .map_err(ApiError::invalid_input)?;
        let mut sought: Vec<Sought> = Vec::new();
        for found in &resolved {
            if let Err(Unresolved::Unknown(_, Some(one))) = found
                && sought.len() < INSTANCES_MAX
                && !sought.contains(one)
            {
                sought.push(one.clone());
            }
        }
        if !sought.is_empty() && self.registry.find(&sought).await {
            let reports = reports.clone();
            resolved = self.search(move |state| resolve(state, &reports)).await?;
        }
        let applied = resolved.into_iter().enumerate().map(|(at, found)| self.apply(&reports, at, found));
        let results: Vec<Result<Value, ApiError>> =
            stream::iter(applied).buffered(SUBMITTED_MAX).collect().await;
        let is_transient = results.iter().any(Result::is_err);
        let shown = results.into_iter().map(|result| match result {
            Ok(result) => result,
            Err(error) => json!({"result": "not stored", "message": error.message}),
        });
        let status = if is_transient { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
        Ok((status, json!({"results": shown.collect::<Vec<_>>()})))
    }

    /// Applies the report at this place to all instances that it is about. An error means that it may be sent again.
    async fn apply(&self, reports: &Reports, at: usize, resolved: Resolved) -> Result<Value, ApiError> {
        let failed = |message: &str| Ok(json!({"result": "failed", "message": message}));
        let Reported { source, report, .. } = match &reports[at] {
            Ok(reported) => reported,
            Err(message) => return failed(message),
        };
        let targets = match resolved {
            Ok(found) => found,
            Err(Unresolved::Wrong(message)) => return failed(&message),
            Err(Unresolved::Unknown(message, _)) => {
                // It may be a pod that the first list of this server will have.
                if self.knows_pods.as_ref().is_some_and(|knows_pods| !knows_pods()) {
                    return Err(ApiError::unavailable(format!("{message}; not all pods are known yet")));
                }
                return failed(&message);
            }
        };
        let mut failed = None;
        for (service, instance) in &targets {
            let command = Command::ReportHealth {
                service: service.to_string(),
                instance: instance.clone(),
                source: source.clone(),
                report: report.clone(),
            };
            match self.submit(command).await {
                Ok(_) => {}
                Err(error) if error.is_transient() => return Err(error),
                // The other instances get the report all the same.
                Err(error) => failed = Some(error.message),
            }
        }
        if let Some(message) = failed {
            return Ok(json!({"result": "failed", "message": message}));
        }
        let instances: Vec<_> = targets
            .iter()
            .map(|(service, instance)| json!({"service": service.as_str(), "instance": instance}))
            .collect();
        Ok(json!({"result": "applied", "instances": instances}))
    }
}

/// Reads the reports of a body.
fn read(body: &[u8], labels: &AlertLabels, reporter: &str) -> Result<Reports, String> {
    let body: Value =
        serde_json::from_slice(body).map_err(|error| format!("The body is not JSON: {error}"))?;
    let (items, are_alerts) = match body {
        body @ Value::Object(_) if body.get("alerts").is_some() => {
            let notification: Notification = serde_json::from_value(body)
                .map_err(|error| format!("The body is not a notification of Alertmanager: {error}"))?;
            (notification.alerts, true)
        }
        Value::Array(items) => (items, false),
        item => (vec![item], false),
    };
    if items.len() > ITEMS_MAX {
        return Err(format!("There are {} items; a request has at most {ITEMS_MAX}.", items.len()));
    }
    let read = |item| if are_alerts { of_alert(item, labels, reporter) } else { of_item(item, reporter) };
    Ok(items.into_iter().map(read).collect())
}

fn of_item(item: Value, reporter: &str) -> Result<Reported, String> {
    let item: Item =
        serde_json::from_value(item).map_err(|error| format!("the item is not a valid report: {error}"))?;
    let subject = match (item.instance, item.address) {
        (Some(id), None) => Subject::Instance(id),
        (None, Some(text)) => Subject::address(&text)
            .ok_or_else(|| format!("the address {text:?} is no IP address, alone or with a port"))?,
        _ => return Err("it needs either an instance or an address".into()),
    };
    let source = item.source.unwrap_or_else(|| PLAIN_SOURCE.into());
    if source.is_empty() || source.len() > SOURCE_BYTES_MAX || source.chars().any(char::is_control) {
        return Err(format!("the source must have 1 to {SOURCE_BYTES_MAX} bytes, and no control characters"));
    }
    if source == CHECK_SOURCE {
        return Err(format!(
            "the source {CHECK_SOURCE:?} is that of this server's own checks; choose another name"
        ));
    }
    if !is_reason(&item.reason) {
        return Err(format!(
            "the reason must have at most {REASON_BYTES_MAX} bytes, and no control characters"
        ));
    }
    let valid_ms = match item.valid_for {
        None => None,
        Some(text) => match text.parse::<Day>() {
            Ok(period) if !period.is_zero() => Some(period.ms()),
            _ => return Err(format!("valid-for is {text:?}; it must be a time such as 90s, 5m or 24h")),
        },
    };
    let report = |status| ExternalReport { status, reason: item.reason, reporter: reporter.into(), valid_ms };
    let report = match item.status {
        Status::Healthy => Some(report(CustomHealthStatus::Healthy)),
        Status::Unhealthy => Some(report(CustomHealthStatus::Unhealthy)),
        Status::Unknown => None,
    };
    Ok(Reported { name: Named { service: item.service, subject }, source, report })
}

fn of_alert(alert: Value, names: &AlertLabels, reporter: &str) -> Result<Reported, String> {
    let alert: Alert =
        serde_json::from_value(alert).map_err(|error| format!("the alert is not valid: {error}"))?;
    let label = |name: &str| alert.labels.get(name).filter(|value| !value.is_empty());
    let subject = match (label(&names.instance), label(&names.address)) {
        (Some(id), _) => Subject::Instance(id.clone()),
        // The port is that of what was scraped, which need not be that of the instance.
        (None, Some(text)) => match Subject::address(text) {
            Some(Subject::Address(address, _)) => Subject::Address(address, None),
            _ => return Err(format!("the label {} is {text:?}, which is no IP address", names.address)),
        },
        (None, None) => {
            return Err(format!("it has neither the label {} nor {}", names.instance, names.address));
        }
    };
    let alert_name = alert.labels.get("alertname").map_or("alert", String::as_str);
    let described = ["summary", "description"].iter().find_map(|key| alert.annotations.get(*key));
    let reason = cut(described.map_or(alert_name, String::as_str), REASON_BYTES_MAX);
    let source = cut(&format!("alertmanager {} {alert_name}", alert.fingerprint), SOURCE_BYTES_MAX);
    let report = match alert.status {
        AlertStatus::Resolved => None,
        AlertStatus::Firing => Some(ExternalReport {
            status: CustomHealthStatus::Unhealthy,
            reason,
            reporter: reporter.into(),
            valid_ms: None,
        }),
    };
    let name = Named { service: label(&names.service).cloned(), subject };
    Ok(Reported { name, source, report })
}

/// Finds the instances that the reports are about.
fn resolve(state: &State, reports: &Reports) -> Vec<Resolved> {
    let targets = Targets::search(state, reports.iter().flatten().map(|reported| &reported.name));
    let resolved = |reported: &Result<Reported, String>| {
        let name = match reported {
            Ok(reported) => &reported.name,
            Err(message) => return Err(Unresolved::Wrong(message.clone())),
        };
        match targets.find(name) {
            Ok(found) => {
                let ids =
                    |(found, instance): &Target<'_>| (found.service.id.clone(), instance.id().to_string());
                Ok(found.iter().map(ids).collect())
            }
            Err(NoTarget::Unknown(message)) => Err(Unresolved::Unknown(message, targets.sought(name))),
            Err(NoTarget::Ambiguous(message)) => Err(Unresolved::Wrong(message)),
        }
    };
    reports.iter().map(resolved).collect()
}
