//! `PUT /maintenance`: takes an instance out of all answers, and lets it back in. AWS has no such operation.
//!
//! The body is a JSON object, which [`Order`] describes. The response is one too: `instance`, `maintenance`, and `services`
//! with the id and the name of each service whose instance it was, and whether the instance is in maintenance now: a pod can
//! be by its annotation too. An error has a `message`. The method is PUT because browsers do not send it to a foreign server
//! unasked.

use std::time::Instant;

use axum::body::Body;
use axum::http::{Method, StatusCode, request::Parts};
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::model::{Instance, ServiceId, signals::is_reason};
use crate::registry::Command;

use super::caller::caller;
use super::failure::Failure;
use super::request::Api;
use super::targets::{Named, NoTarget, Subject, Target, Targets};

/// An order about one instance.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Order {
    instance: String,
    /// Name, full DNS name, id or ARN of the service; not needed if one service has an instance of this id, or if all
    /// instances of this id are one pod.
    service: Option<String>,
    /// True puts the instance into maintenance, and false lifts it.
    maintenance: bool,
    /// The operator's reason, at most 200 bytes without control characters.
    #[serde(default)]
    reason: String,
}

impl From<NoTarget> for Failure {
    fn from(why: NoTarget) -> Failure {
        let status = match why {
            NoTarget::Unknown(_) => StatusCode::NOT_FOUND,
            NoTarget::Ambiguous(_) => StatusCode::CONFLICT,
        };
        Failure::new(status, why.to_string())
    }
}

pub(super) fn is_order(request: &Parts) -> bool {
    request.method == Method::PUT && request.uri.path() == "/maintenance"
}

impl Api {
    pub(super) async fn order_maintenance(&self, request: &Parts, body: Body) -> Response {
        let started = Instant::now();
        let (status, body) = match self.carry_out_order(caller(request), body).await {
            Ok(answer) => (StatusCode::OK, answer),
            Err(failure) => (failure.status, json!({"message": failure.message})),
        };
        self.json_response(started, status, &body)
    }

    async fn carry_out_order(&self, operator: String, body: Body) -> Result<Value, Failure> {
        let body = self.read(body).await?;
        let order: Order = serde_json::from_slice(&body).map_err(|error| {
            Failure::new(StatusCode::BAD_REQUEST, format!("the body is not a maintenance order: {error}"))
        })?;
        if !is_reason(&order.reason) {
            let message = "the reason must have at most 200 bytes, and no control characters".to_string();
            return Err(Failure::new(StatusCode::BAD_REQUEST, message));
        }
        let name = Named { service: order.service, subject: Subject::Instance(order.instance.clone()) };
        let found = self
            .search(move |state| {
                let found = Targets::search(state, std::iter::once(&name)).find(&name)?;
                let named = |(found, _): &Target<'_>| {
                    (found.service.id.clone(), state.full_name(&found.service).unwrap_or_default())
                };
                Ok::<Vec<_>, NoTarget>(found.iter().map(named).collect())
            })
            .await??;
        for (service, _) in &found {
            let command = Command::SetMaintenance {
                service: service.to_string(),
                instance: order.instance.clone(),
                reason: order.maintenance.then(|| order.reason.clone()),
                operator: operator.clone(),
            };
            self.submit(command).await?;
        }
        let state = self.registry.state();
        let is_in_maintenance = |service: &ServiceId| {
            let found = state.service(service.as_str()).and_then(|found| found.instance(&order.instance));
            found.is_ok_and(Instance::is_in_maintenance)
        };
        let services: Vec<_> = found
            .iter()
            .map(|(id, name)| json!({"id": id.as_str(), "name": name, "maintenance": is_in_maintenance(id)}))
            .collect();
        Ok(json!({"instance": order.instance, "maintenance": order.maintenance, "services": services}))
    }
}
