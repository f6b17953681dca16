//! Requests of the mirror to the API server, and the meaning of their errors.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::time::Duration;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{Endpoints, Namespace, ObjectReference, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::serde::{Serialize, de::DeserializeOwned};
use kube::api::{DeleteParams, ObjectMeta, Patch, PatchParams, PostParams, Preconditions};
use kube::core::PartialObjectMeta;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Api, Client, Resource, ResourceExt as _};
use serde_json::json;

use super::cache::LiveObject;
use super::labels::{INSTALLATION, MANAGED_BY, OWNER};
use super::object::{Key, Kind, Object};
use crate::kubernetes::FIELD_MANAGER;
use crate::kubernetes::client::error_text;
use crate::kubernetes::leader::REQUEST_MS_MAX;

/// Reason why a write failed. `Clash` names the owner of another object that has the name. `Stale` means that the
/// object in the cluster is another one than the cache has, or was changed meanwhile. `Refused` has the reason of
/// the API server, which may accept other objects. With `Unavailable`, it can't be reached, or can't serve any
/// request now.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Failure {
    Clash(String),
    Stale,
    Refused(String),
    Unavailable(String),
}

pub(super) struct Writer {
    client: Client,
    installation: String,
    recorder: Recorder,
}

impl Writer {
    pub(super) fn new(client: Client, installation: &str) -> Writer {
        let reporter = Reporter { controller: OWNER.into(), instance: None };
        Writer {
            recorder: Recorder::new(client.clone(), reporter),
            client,
            installation: installation.into(),
        }
    }

    /// Applies the object. If `uid` is given, the object in the cluster must have it; otherwise that object is read
    /// first.
    pub(super) async fn apply(&self, object: &Object, uid: Option<&str>) -> Result<LiveObject, Failure> {
        match object.key.kind {
            Kind::Service => {
                let apply = || {
                    self.apply_as::<Service>(object, uid, Object::of_service, |uid| object.to_service(uid))
                };
                let applied = apply().await;
                let is_applied = applied.as_ref().is_ok_and(|live| live.fingerprint == object.fingerprint());
                if !is_applied && self.make_way(object).await? {
                    return apply().await;
                }
                applied
            }
            Kind::Endpoints => {
                self.apply_as::<Endpoints>(object, uid, Object::of_endpoints, |uid| object.to_endpoints(uid))
                    .await
            }
            Kind::EndpointSlice => {
                self.apply_as::<EndpointSlice>(object, uid, Object::of_slice, |uid| object.to_slice(uid))
                    .await
            }
        }
    }

    /// Deletes the object, if it has this uid. An object that does not exist any more is no failure.
    pub(super) async fn delete(&self, key: &Key, uid: &str) -> Result<(), Failure> {
        let preconditions = Preconditions { uid: Some(uid.into()), ..Preconditions::default() };
        let options = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
        let deleted = match key.kind {
            Kind::Service => {
                with_timeout(self.api::<Service>(key).delete(&key.name, &options)).await.map(drop)
            }
            Kind::Endpoints => {
                with_timeout(self.api::<Endpoints>(key).delete(&key.name, &options)).await.map(drop)
            }
            Kind::EndpointSlice => {
                with_timeout(self.api::<EndpointSlice>(key).delete(&key.name, &options)).await.map(drop)
            }
        };
        match deleted {
            Err(RequestError { code: 404, .. }) => Ok(()),
            Err(RequestError { code: 409, .. }) => Err(Failure::Stale),
            deleted => deleted.map_err(RequestError::into_failure),
        }
    }

    /// Replaces the ports of the Service in the cluster, if some are in the way of those that it is to have, and returns true
    /// if it did.
    async fn make_way(&self, object: &Object) -> Result<bool, Failure> {
        let key = &object.key;
        let api = self.api::<Service>(key);
        let found = with_timeout(api.get_opt(&key.name)).await.map_err(RequestError::into_failure)?;
        let found = found.filter(|found| self.is_ours(&found.metadata));
        let ports = match (&found, object.head()) {
            (Some(Service { spec: Some(spec), .. }), Some(head)) => head.ports_in_place_of(spec),
            _ => None,
        };
        let (Some(found), Some(ports)) = (found, ports) else { return Ok(false) };
        // A JSON merge patch replaces a list as a whole.
        let patch = json!({
            "metadata": {"uid": found.metadata.uid, "resourceVersion": found.metadata.resource_version},
            "spec": {"ports": ports},
        });
        let options = PatchParams { field_manager: Some(FIELD_MANAGER.into()), ..PatchParams::default() };
        match with_timeout(api.patch(&key.name, &options, &Patch::Merge(&patch))).await {
            Ok(_) => Ok(true),
            Err(RequestError { code: 404 | 409, .. }) => Err(Failure::Stale),
            Err(failed) => Err(failed.into_failure()),
        }
    }

    async fn apply_as<K>(
        &self,
        object: &Object,
        uid: Option<&str>,
        read: fn(&K) -> Option<Object>,
        write: impl Fn(Option<&str>) -> Option<K>,
    ) -> Result<LiveObject, Failure>
    where
        K: k8s_openapi::Resource<Scope = NamespaceResourceScope>
            + Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + Debug
            + DeserializeOwned
            + Serialize,
    {
        let key = &object.key;
        let api = self.api::<K>(key);
        let mut found = uid.map(str::to_string);
        if found.is_none() {
            let existing =
                with_timeout(api.get_metadata_opt(&key.name)).await.map_err(RequestError::into_failure)?;
            if let Some(existing) = existing {
                if !self.is_ours(&existing.metadata) {
                    self.warn(key, &existing).await;
                    return Err(Failure::Clash(owner_of(&existing)));
                }
                if existing.metadata.deletion_timestamp.is_some() {
                    // A finalizer holds it, such as that of a load balancer.
                    return Err(Failure::Stale);
                }
                found = existing.uid();
            }
        }
        let Some(wanted) = write(found.as_deref()) else { return Err(Failure::Stale) };
        // Force reverts changes of others in our object. A new object is written without it, so that nothing is taken
        // from another writer.
        let options = PatchParams { force: found.is_some(), ..PatchParams::apply(FIELD_MANAGER) };
        let patch = Patch::Apply(&wanted);
        let mut applied = with_timeout(api.patch(&key.name, &options, &patch)).await;
        if applied.as_ref().is_err_and(|failed| failed.lacks_namespace) {
            self.make_namespace(&key.namespace).await?;
            applied = with_timeout(api.patch(&key.name, &options, &patch)).await;
        }
        match applied {
            Ok(applied) => {
                let body = read(&applied);
                Ok(live_object(applied.meta(), body.as_ref(), object.service_id()))
            }
            Err(RequestError { code: 409, .. }) => Err(Failure::Stale),
            Err(failed) => Err(failed.into_failure()),
        }
    }

    async fn make_namespace(&self, name: &str) -> Result<(), Failure> {
        let labels =
            [("kecs.io/managed", "true"), ("kecs.io/service-discovery", "true"), (MANAGED_BY, OWNER)];
        let labels = labels.map(|(key, value)| (key.to_string(), value.to_string()));
        let metadata = ObjectMeta {
            name: Some(name.into()),
            labels: Some(BTreeMap::from(labels)),
            ..ObjectMeta::default()
        };
        let namespace = Namespace { metadata, ..Namespace::default() };
        let options = PostParams { field_manager: Some(FIELD_MANAGER.into()), ..PostParams::default() };
        let api: Api<Namespace> = Api::all(self.client.clone());
        match with_timeout(api.create(&options, &namespace)).await {
            Ok(_) => {
                tracing::info!(namespace = name, "a Kubernetes namespace for the mirror was created");
                Ok(())
            }
            Err(RequestError { code: 409, .. }) => Ok(()),
            Err(failed) => Err(failed.into_failure()),
        }
    }

    /// Publishes a warning event on an object of somebody else whose name the mirror needs.
    async fn warn<K>(&self, key: &Key, existing: &PartialObjectMeta<K>) {
        let reference = ObjectReference {
            api_version: Some(match key.kind {
                Kind::Service | Kind::Endpoints => "v1".into(),
                Kind::EndpointSlice => "discovery.k8s.io/v1".into(),
            }),
            kind: Some(key.kind.as_str().into()),
            namespace: Some(key.namespace.to_string()),
            name: Some(key.name.to_string()),
            uid: existing.metadata.uid.clone(),
            ..ObjectReference::default()
        };
        let event = Event {
            type_: EventType::Warning,
            reason: "CloudMapMirrorClash".into(),
            note: Some(format!(
                "The mirror of a Cloud Map service needs the name {}; this object is not its own and is left alone.",
                key.name
            )),
            action: "Mirror".into(),
            secondary: None,
        };
        if let Err(failed) = with_timeout(self.recorder.publish(&event, &reference)).await {
            tracing::debug!(error = failed.why, "a warning event for an object could not be published");
        }
    }

    fn is_ours(&self, metadata: &ObjectMeta) -> bool {
        let has = |key: &str, value: &str| {
            let labels = metadata.labels.as_ref();
            labels.and_then(|labels| labels.get(key)).is_some_and(|found| found == value)
        };
        has(MANAGED_BY, OWNER) && has(INSTALLATION, &self.installation)
    }

    fn api<K>(&self, key: &Key) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), &key.namespace)
    }
}

/// State of an object whose relevant parts are `object`.
pub(super) fn live_object(
    metadata: &ObjectMeta,
    object: Option<&Object>,
    service: Option<&str>,
) -> LiveObject {
    let version = metadata.resource_version.as_deref().and_then(|version| version.parse().ok());
    LiveObject {
        uid: metadata.uid.clone().unwrap_or_default(),
        version: version.unwrap_or(0),
        fingerprint: object.map_or(0, Object::fingerprint),
        service: service.unwrap_or_default().into(),
        head: object.and_then(Object::head).cloned(),
    }
}

/// Owner of an object that is not ours, as far as the object names one.
fn owner_of<K>(existing: &PartialObjectMeta<K>) -> String {
    let label = existing.metadata.labels.as_ref().and_then(|labels| labels.get(MANAGED_BY));
    let manager =
        || existing.metadata.managed_fields.iter().flatten().find_map(|field| field.manager.clone());
    label.cloned().or_else(manager).unwrap_or_else(|| "somebody else".into())
}

struct RequestError {
    code: u16,
    why: String,
    lacks_namespace: bool,
}

impl RequestError {
    fn into_failure(self) -> Failure {
        match self.code {
            // The request is invalid or not allowed; requests for other objects may succeed.
            400 | 403..=428 => Failure::Refused(self.why),
            // The cluster has no more cluster IPs, or no answer of a webhook that has to admit the object.
            500 if self.why.contains("failed to allocate") || self.why.contains("failed calling webhook") => {
                Failure::Refused(self.why)
            }
            _ => Failure::Unavailable(self.why),
        }
    }
}

impl From<kube::Error> for RequestError {
    fn from(error: kube::Error) -> RequestError {
        match error {
            kube::Error::Api(status) => RequestError {
                code: status.code,
                lacks_namespace: status.code == 404
                    && status.details.as_ref().is_some_and(|details| details.kind == "namespaces"),
                why: status.message.clone(),
            },
            error => RequestError { code: 0, why: error_text(&error), lacks_namespace: false },
        }
    }
}

async fn with_timeout<T>(request: impl Future<Output = Result<T, kube::Error>>) -> Result<T, RequestError> {
    match tokio::time::timeout(Duration::from_millis(REQUEST_MS_MAX), request).await {
        Ok(answer) => answer.map_err(RequestError::from),
        Err(_) => Err(RequestError {
            code: 0,
            why: "the API server did not answer in time".into(),
            lacks_namespace: false,
        }),
    }
}
