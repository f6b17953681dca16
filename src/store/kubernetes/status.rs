//! Writes of the objects' statuses.
//!
//! Every replica would write the same statuses, so each waits for a random time, and the first one spares the others. A
//! status is written with the resourceVersion of the object that it describes as its precondition.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::{StreamExt, stream};
use k8s_openapi::jiff::Timestamp;
use kube::api::DeleteParams;
use serde_json::{Map, Value, json};

use crate::kubernetes::told;
use crate::model::{Instance, ServiceId};
use crate::registry::{ServiceState, State};

use super::counts;
use super::index::Index;
use super::keys::Claim;
use super::kind::Kind;
use super::object_cache::CachedObject;
use super::request::{self, Deadline, Failed, Object};
use super::resources::{
    CloudMapInstance, CloudMapNamespace, CloudMapService, Condition, CustomHealthWord, SignalFields,
};
use super::shared::Shared;
use super::translate::{self, signed};

const ROUND_MS: u64 = 250;
const ROUND_WRITES_MAX: usize = 100;
/// Limit of the statuses that are written in one round because of counts alone: 20 a second, however many services
/// change.
const ROUND_COUNTS_MAX: usize = 5;
const WRITES_MAX: usize = 8;
const COUNTS: [&str; 2] = ["health", "instancesRevision"];
const WRITE_MS_MAX: u64 = 5_000;

/// Writes statuses and deletes empty records as they become due. Never returns.
pub(super) async fn run(shared: Arc<Shared>) {
    loop {
        tokio::time::sleep(Duration::from_millis(ROUND_MS)).await;
        if !shared.index().is_read() || !shared.progress().trouble.is_empty() {
            continue;
        }
        shared.update_index(|index| index.forget_unrecorded(Instant::now()));
        let due = shared.index().due(Instant::now(), ROUND_WRITES_MAX, ROUND_COUNTS_MAX);
        let shared = &shared;
        let until = Deadline::after_ms(WRITE_MS_MAX);
        stream::iter(due)
            .for_each_concurrent(WRITES_MAX, |(kind, name, counts_only)| async move {
                write(shared, kind, &name, counts_only, until).await;
            })
            .await;
    }
}

/// Writes an object's status if it is not what it should be, or deletes an empty record. Without `counts_only`, a status
/// that differs in counts alone is scheduled again, so that the limit of such writes applies to it.
async fn write(
    shared: &Arc<Shared>,
    kind: Kind,
    name: &str,
    counts_only: bool,
    until: Deadline,
) -> Option<()> {
    let result = match kind {
        Kind::Namespace => {
            let wanted = of_namespace(&shared.index(), name)?;
            patch(&shared.namespaces, wanted, until)
                .await
                .map(|object| shared.update_index(|index| index.put_namespace(object)))
        }
        Kind::Service => {
            let counted = shared.counted();
            let wanted = of_service(&shared.index(), counted.as_deref(), name)?;
            if !counts_only && has_only_counts(&wanted.1) {
                shared.index().schedule_counts(name.into());
                return None;
            }
            patch(&shared.services, wanted, until)
                .await
                .map(|object| shared.update_index(|index| index.put_service(object)))
        }
        Kind::Instance => {
            let wanted = of_instance(&shared.index(), name)?;
            patch(&shared.instances, wanted, until)
                .await
                .map(|object| shared.update_index(|index| index.put_instance(object)))
        }
        Kind::Operation => delete_record(shared, name).await,
        Kind::HealthReport | Kind::Store => return None,
    };
    match result {
        Ok(()) => {}
        Err(Failed::Unknown(why)) => {
            tracing::debug!(?kind, name, why, "a status was not written, and will be later");
            shared.index().schedule_status(kind, name.into());
        }
        // The object was changed meanwhile, and its new version schedules its status again.
        Err(failed) => {
            let why = failed.into_reason();
            tracing::debug!(?kind, name, why, "a status was not written");
        }
    }
    Some(())
}

/// Deletes a record without retained operations. Every server tries it, and the first one spares the others.
async fn delete_record(shared: &Shared, name: &str) -> Result<(), Failed> {
    if !shared.index().is_empty_record(name) {
        return Ok(());
    }
    match shared.operations.delete(name, &DeleteParams::background()).await {
        Ok(_) => {}
        Err(kube::Error::Api(status)) if status.code == 404 => {}
        Err(error) => return Err(Failed::Unknown(told(&error))),
    }
    shared.update_index(|index| index.remove_operation(name));
    Ok(())
}

async fn patch<K: Object>(
    api: &kube::Api<K>,
    (object, status): (Arc<K>, Value),
    until: Deadline,
) -> Result<K, Failed> {
    request::patch_status(api, &object, &status, false, until).await
}

/// The fields of a status that have to be changed; `None` if there are none.
fn difference(there: Option<Value>, wanted: Value) -> Option<Value> {
    let there = there.unwrap_or_default();
    let Value::Object(wanted) = wanted else { return None };
    let differs: Map<_, _> =
        wanted.into_iter().filter(|(key, value)| there.get(key).unwrap_or(&Value::Null) != value).collect();
    (!differs.is_empty()).then_some(Value::Object(differs))
}

fn has_only_counts(difference: &Value) -> bool {
    difference.as_object().is_some_and(|fields| fields.keys().all(|key| COUNTS.contains(&key.as_str())))
}

fn of_namespace(index: &Index, name: &str) -> Option<(Arc<CloudMapNamespace>, Value)> {
    let (entry, object) = (index.namespaces.get(name)?, index.namespaces.object(name)?);
    let status = object.status.as_ref();
    let old = status.map_or(&[][..], |status| &status.conditions);
    let mut wanted = accepted_condition(old, entry, object.metadata.generation);
    if entry.rejection.is_none() {
        wanted["id"] = index.namespace_id(&object).as_str().into();
        wanted["number"] = signed(index.namespace_number(&object)).into();
    }
    let there = status.and_then(|status| serde_json::to_value(status).ok());
    difference(there, wanted).map(|wanted| (object, wanted))
}

fn of_service(index: &Index, counted: Option<&State>, name: &str) -> Option<(Arc<CloudMapService>, Value)> {
    let (entry, object) = (index.services.get(name)?, index.services.object(name)?);
    let status = object.status.as_ref();
    let old = status.map_or(&[][..], |status| &status.conditions);
    let mut wanted = accepted_condition(old, entry, object.metadata.generation);
    if let Some(state) = entry.accepted_id().and_then(|id| index.state().service(id.as_str()).ok()) {
        describe(index, state, &object, &mut wanted);
        let counted = counted.and_then(|counted| counted.service(state.service.id.as_str()).ok());
        let shown = || status.and_then(|status| status.health.clone());
        let text = |found: &ServiceState| counts::text(found, index.policies());
        wanted["health"] =
            counted.map(|counted| text(counted)).or_else(shown).unwrap_or_else(|| text(state)).into();
    }
    let there = status.and_then(|status| serde_json::to_value(status).ok());
    difference(there, wanted).map(|wanted| (object, wanted))
}

fn describe(index: &Index, state: &ServiceState, object: &CloudMapService, wanted: &mut Value) {
    let service = &state.service;
    let id: &ServiceId = &service.id;
    wanted["id"] = id.as_str().into();
    wanted["namespaceId"] = service.namespace_id.as_str().into();
    wanted["number"] = signed(index.service_number(object)).into();
    wanted["instancesRevision"] = signed(index.revision(id)).into();
    wanted["type"] = if service.api_only { "HTTP" } else { "DNS_HTTP" }.into();
    let records = service.dns.as_ref().map(|dns| {
        let records: Vec<_> =
            dns.records.iter().map(|record| format!("{}/{}", record.rtype.as_str(), record.ttl)).collect();
        records.join(",")
    });
    wanted["records"] = records.into();
    wanted["address"] = index.state().full_name(service).filter(|_| !service.api_only).into();
}

fn of_instance(index: &Index, name: &str) -> Option<(Arc<CloudMapInstance>, Value)> {
    let (entry, object) = (index.instances.get(name)?, index.instances.object(name)?);
    let status = object.status.as_ref();
    let old = status.map_or(&[][..], |status| &status.conditions);
    if entry.rejection.is_none() && entry.remark.is_none() && old.is_empty() {
        // An accepted instance is not worth a write, because there may be a million of them.
        return None;
    }
    let mut wanted = accepted_condition(old, entry, object.metadata.generation);
    if entry.rejection.is_none() {
        wanted["number"] = signed(translate::instance_number(&object, index.offset())).into();
        // A status of this generation makes its health apply instead of AWS_INIT_HEALTH_STATUS, so the current health is
        // written with it.
        let instance = match entry.claim.as_deref() {
            Some(Claim::Instance { service, id }) => {
                index.state().service(service.as_str()).ok().and_then(|state| state.instance(id).ok())
            }
            _ => None,
        };
        let health = instance.and_then(Instance::custom_health);
        if status.is_some_and(|status| status.signals.is_some()) {
            // The status becomes that of this registration, which the last report may not be about.
            let signals = instance.map(Instance::signals).unwrap_or_default();
            wanted["signals"] = serde_json::to_value(SignalFields::of(&signals)).ok()?;
        }
        if let Some(health) = health {
            wanted["customHealthStatus"] = serde_json::to_value(CustomHealthWord::of(health)).ok()?;
        }
    }
    let there = status.and_then(|status| serde_json::to_value(status).ok());
    difference(there, wanted).map(|wanted| (object, wanted))
}

/// Returns the condition `Accepted` of an object with this generation. Its time changes only with its status.
fn accepted_condition<K, Id>(
    old: &[Condition],
    entry: &CachedObject<K, Id>,
    generation: Option<i64>,
) -> Value {
    let (status, reason, message) = match (&entry.rejection, &entry.remark) {
        (Some(rejection), _) => ("False", rejection.reason, rejection.message.clone()),
        (None, Some(remark)) => ("True", "NameTaken", remark.to_string()),
        (None, None) => ("True", "Accepted", String::new()),
    };
    let since = old.iter().find(|condition| condition.kind == "Accepted" && condition.status == status);
    let last_transition_time = since.map(|condition| condition.last_transition_time.clone());
    let now = || Timestamp::from_second(Timestamp::now().as_second()).unwrap_or_default().to_string();
    let condition = Condition {
        kind: "Accepted".into(),
        status: status.into(),
        reason: reason.into(),
        message,
        observed_generation: generation,
        last_transition_time: last_transition_time.unwrap_or_else(now),
    };
    json!({ "observedGeneration": generation, "conditions": [condition] })
}
