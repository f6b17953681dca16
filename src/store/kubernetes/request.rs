//! Single requests to the API server, repeated until their outcome is known.

use std::fmt::Debug;
use std::time::{Duration, Instant};

use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions, ValidationDirective};
use kube::{Api, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::kubernetes::{Backoff, FIELD_MANAGER, told};
use crate::model::Uid;

use super::kind::OfKind;
use super::translate::{uid_of, version};
use super::watch::APPLY_DEFINITIONS;

const REQUEST_MS_MAX: u64 = 5_000;
/// Annotation with the unique id of each write, by which a write is recognised if its response was lost.
pub(super) const WRITTEN_BY: &str = "cloudmap-dns.io/written-by";

/// The error of a write that was not made, or whose outcome is unknown. After `Lost`, another writer was first, and
/// a plan that knows the `winner` may have another result. `InUse` means that the owner that was to be deleted
/// contains an object that is not accepted.
#[derive(Clone, Debug)]
pub(super) enum Failed {
    Lost { winner: Winner, why: String },
    InUse(String),
    Refused(String),
    Unknown(String),
}

/// The object in the API server against which a write on another version has lost: one that the index already contains,
/// one with this resourceVersion or a later one of its name, or none because it was deleted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Winner {
    Known,
    Version(u64),
    Deletion,
}

impl Failed {
    pub(super) fn lost(why: impl Into<String>) -> Failed {
        Failed::Lost { winner: Winner::Known, why: why.into() }
    }

    /// The error of a write that lost against the object `there`. `is_ambiguous` is true if the response to an earlier
    /// attempt was lost: that attempt may have been made, and overwritten since.
    fn to<K: Object>(there: Option<&K>, is_ambiguous: bool, why: String) -> Failed {
        if is_ambiguous {
            return Failed::Unknown(why);
        }
        let winner = there.map_or(Winner::Deletion, |there| Winner::Version(version_of(there)));
        Failed::Lost { winner, why }
    }

    pub(super) fn into_reason(self) -> String {
        match self {
            Failed::Lost { why, .. } | Failed::InUse(why) | Failed::Refused(why) | Failed::Unknown(why) => {
                why
            }
        }
    }
}

/// The error of one attempt: the API server rejected the request with an HTTP status, or the request may have been
/// carried out or not.
enum AttemptError {
    Rejected(u16, String),
    Ambiguous(String),
}

pub(super) trait Object:
    Clone + Debug + DeserializeOwned + OfKind + Resource<DynamicType = ()> + Serialize + Send + Sync + 'static
{
}

impl<K> Object for K where
    K: Clone
        + Debug
        + DeserializeOwned
        + OfKind
        + Resource<DynamicType = ()>
        + Serialize
        + Send
        + Sync
        + 'static
{
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Deadline(Instant);

impl Deadline {
    pub(super) fn after_ms(milliseconds: u64) -> Deadline {
        Deadline(Instant::now() + Duration::from_millis(milliseconds))
    }

    pub(super) fn at_most_ms(self, milliseconds: u64) -> Deadline {
        Deadline(self.0.min(Deadline::after_ms(milliseconds).0))
    }

    async fn wait(self, backoff: &mut Backoff, why: String) -> Result<(), Failed> {
        let wait = backoff.delay();
        if Instant::now() + wait >= self.0 {
            return Err(Failed::Unknown(why));
        }
        tokio::time::sleep(wait).await;
        Ok(())
    }

    pub(super) fn is_over(self) -> bool {
        Instant::now() >= self.0
    }

    fn left(self) -> Duration {
        self.0.saturating_duration_since(Instant::now()).min(Duration::from_millis(REQUEST_MS_MAX))
    }
}

/// Creates an object. An existing object belongs to another writer, unless its annotation has the id of this write.
pub(super) async fn create<K: Object>(api: &Api<K>, object: &K, until: Deadline) -> Result<K, Failed> {
    let name = object.name_any();
    let mut backoff = Backoff::default();
    let mut is_ambiguous = false;
    loop {
        let why = match attempt(until, write(api, None, object)).await {
            Ok(created) => return Ok(created),
            Err(AttemptError::Rejected(409, _)) => match attempt(until, api.get_opt(&name)).await {
                Ok(Some(there)) if mark(&there) == mark(object) => return Ok(there),
                Ok(Some(there)) => {
                    let why = format!("another writer created {name} first");
                    return Err(Failed::to(Some(&there), is_ambiguous, why));
                }
                Ok(None) => "it was created and deleted at the same time".to_string(),
                Err(AttemptError::Rejected(_, why) | AttemptError::Ambiguous(why)) => why,
            },
            // The kind is not defined, or the Kubernetes namespace does not exist.
            Err(AttemptError::Rejected(404, why)) => {
                return Err(Failed::Refused(format!("{why}; {APPLY_DEFINITIONS}")));
            }
            Err(AttemptError::Rejected(_, why)) => return Err(Failed::Refused(why)),
            Err(AttemptError::Ambiguous(why)) => {
                is_ambiguous = true;
                why
            }
        };
        until.wait(&mut backoff, why).await?;
    }
}

/// Replaces the version `before` of an object. The write loses if something other than the status was written since.
pub(super) async fn replace<K: Object>(
    api: &Api<K>,
    before: &K,
    object: K,
    until: Deadline,
) -> Result<K, Failed> {
    let name = object.name_any();
    let put = |version| {
        let mut object = object.clone();
        object.meta_mut().resource_version = version;
        let name = &name;
        async move { write(api, Some(name), &object).await }
    };
    let holds = |there: &K| mark(there) == mark(&object);
    let is_same = |there: &K| differs_in_status(there, before);
    write_over(api, &name, object.resource_version(), until, put, holds, is_same).await
}

fn differs_in_status<K: Object>(there: &K, before: &K) -> bool {
    there.uid() == before.uid()
        && there.meta().generation == before.meta().generation
        && there.annotations() == before.annotations()
}

/// Merges `status` into the status of an object, if nothing else of it was written since the given version, and unless
/// `over_others` also not its status.
pub(super) async fn patch_status<K: Object>(
    api: &Api<K>,
    object: &K,
    status: &Value,
    over_others: bool,
    until: Deadline,
) -> Result<K, Failed> {
    let name = object.name_any();
    let parameters = PatchParams {
        field_manager: Some(FIELD_MANAGER.into()),
        field_validation: Some(ValidationDirective::Strict),
        ..PatchParams::default()
    };
    let write = |version: Option<String>| {
        let body = serde_json::json!({ "metadata": { "resourceVersion": version }, "status": status });
        let (name, parameters) = (&name, &parameters);
        async move { api.patch_status(name, parameters, &Patch::Merge(&body)).await }
    };
    // After a lost response, the current status shows whether the write was made.
    let holds = |there: &K| {
        let shown = serde_json::to_value(there).unwrap_or_default();
        let mut wanted = status.as_object().into_iter().flatten();
        there.uid() == object.uid()
            && wanted.all(|(key, value)| shown["status"].get(key).unwrap_or(&Value::Null) == value)
    };
    let is_same = |there: &K| over_others && differs_in_status(there, object);
    write_over(api, &name, object.resource_version(), until, write, holds, is_same).await
}

/// Writes over a version of an object until the outcome is known. After a conflict, `holds` tells whether the current
/// object already contains the write, and `is_same` whether the write may be repeated on it.
async fn write_over<K: Object, F: Future<Output = Result<K, kube::Error>>>(
    api: &Api<K>,
    name: &str,
    mut version: Option<String>,
    until: Deadline,
    write: impl Fn(Option<String>) -> F,
    holds: impl Fn(&K) -> bool,
    is_same: impl Fn(&K) -> bool,
) -> Result<K, Failed> {
    let mut backoff = Backoff::default();
    let mut is_ambiguous = false;
    loop {
        let why = match attempt(until, write(version.clone())).await {
            Ok(written) => return Ok(written),
            Err(AttemptError::Rejected(404, _)) => {
                return Err(Failed::to::<K>(
                    None,
                    is_ambiguous,
                    format!("{name} was deleted at the same time"),
                ));
            }
            Err(AttemptError::Rejected(409, _)) => match attempt(until, api.get_opt(name)).await {
                Ok(Some(there)) if holds(&there) => return Ok(there),
                Ok(Some(there)) if is_same(&there) => {
                    version = there.resource_version();
                    "its status is written continuously".to_string()
                }
                Ok(there) => {
                    let why = format!("{name} was changed at the same time");
                    return Err(Failed::to(there.as_ref(), is_ambiguous, why));
                }
                Err(AttemptError::Rejected(_, why) | AttemptError::Ambiguous(why)) => why,
            },
            Err(AttemptError::Rejected(_, why)) => return Err(Failed::Refused(why)),
            Err(AttemptError::Ambiguous(why)) => {
                is_ambiguous = true;
                why
            }
        };
        until.wait(&mut backoff, why).await?;
    }
}

/// Deletes the object with this uid; if a version is given, only if nothing but the status was written since. Also
/// returns `Ok` if another writer deletes the object during the attempts.
pub(super) async fn delete<K: Object>(
    api: &Api<K>,
    name: &str,
    uid: Uid,
    before: Option<&K>,
    until: Deadline,
) -> Result<(), Failed> {
    let mut at = before.and_then(ResourceExt::resource_version);
    let mut backoff = Backoff::default();
    let mut is_first = true;
    loop {
        let preconditions = Preconditions { uid: Some(uid.to_string()), resource_version: at.clone() };
        let parameters = DeleteParams::background().preconditions(preconditions);
        let why = match attempt(until, api.delete(name, &parameters)).await {
            Ok(_) => return Ok(()),
            // After a lost response, the object may be missing because of this deletion.
            Err(AttemptError::Rejected(404, _)) if is_first => {
                return Err(Failed::to::<K>(None, false, format!("{name} was deleted at the same time")));
            }
            Err(AttemptError::Rejected(404, _)) => return Ok(()),
            Err(AttemptError::Rejected(409, _)) => match attempt(until, api.get_opt(name)).await {
                Ok(None) if !is_first => return Ok(()),
                Ok(Some(there)) if !is_first && uid_of(&there) != uid => return Ok(()),
                Ok(Some(there)) if before.is_some_and(|before| differs_in_status(&there, before)) => {
                    at = there.resource_version();
                    "its status is written continuously".to_string()
                }
                // The object still exists, so no attempt to delete it was carried out.
                Ok(there) => {
                    let why = format!("{name} was changed at the same time");
                    return Err(Failed::to(there.as_ref(), false, why));
                }
                Err(AttemptError::Rejected(_, why) | AttemptError::Ambiguous(why)) => why,
            },
            Err(AttemptError::Rejected(_, why)) => return Err(Failed::Refused(why)),
            Err(AttemptError::Ambiguous(why)) => {
                is_first = false;
                why
            }
        };
        until.wait(&mut backoff, why).await?;
    }
}

pub(super) async fn read<T, F: Future<Output = Result<T, kube::Error>>>(
    mut ask: impl FnMut() -> F,
    until: Deadline,
) -> Result<T, Failed> {
    let mut backoff = Backoff::default();
    loop {
        let why = match attempt(until, ask()).await {
            Ok(answer) => return Ok(answer),
            Err(AttemptError::Rejected(_, why)) => return Err(Failed::Refused(why)),
            Err(AttemptError::Ambiguous(why)) => why,
        };
        until.wait(&mut backoff, why).await?;
    }
}

pub(super) fn version_of<K: Object>(object: &K) -> u64 {
    version(object.meta())
}

fn mark<K: Object>(object: &K) -> Option<&String> {
    object.annotations().get(WRITTEN_BY)
}

/// Creates an object, or replaces the one of this name. Uses strict field validation, because an API server with older
/// definitions would silently drop unknown fields.
async fn write<K: Object>(api: &Api<K>, name: Option<&str>, object: &K) -> Result<K, kube::Error> {
    let body = serde_json::to_vec(object).map_err(kube::Error::SerdeError)?;
    let parameters = PostParams { field_manager: Some(FIELD_MANAGER.into()), ..PostParams::default() };
    let requests = kube::core::Request::new(api.resource_url());
    let request = match name {
        None => requests.create(&parameters, body),
        Some(name) => requests.replace(name, &parameters, body),
    };
    let mut request = request.map_err(kube::Error::BuildRequest)?;
    if let Ok(uri) = format!("{}&fieldValidation=Strict", request.uri()).parse() {
        *request.uri_mut() = uri;
    }
    api.clone().into_client().request(request).await
}

async fn attempt<T>(
    until: Deadline,
    request: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, AttemptError> {
    match tokio::time::timeout(until.left(), request).await {
        Err(_) => Err(AttemptError::Ambiguous("the Kubernetes API does not answer in time".into())),
        Ok(Ok(answer)) => Ok(answer),
        // After server errors and timeouts the write may have been made. Too many requests (429) are retried.
        Ok(Err(kube::Error::Api(status))) if status.code < 500 && ![408, 429].contains(&status.code) => {
            let message = if status.message.contains("strict decoding error") {
                format!(
                    "the definitions in the cluster are older than this server ({}): {APPLY_DEFINITIONS}",
                    status.message
                )
            } else {
                status.message
            };
            Err(AttemptError::Rejected(status.code, message))
        }
        Ok(Err(error)) => Err(AttemptError::Ambiguous(told(&error))),
    }
}
