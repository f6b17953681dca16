//! Renumbering: a write to the CloudMapStore object whose resourceVersion becomes the number of all resources that the
//! write lists. The reasons are in `registry/numbering.rs`.
//!
//! An annotation of the object has a unique id, so that etcd stores a new version, and the ids of the services and
//! namespaces, or `*` for all. Every server watches the object, and applies each version of it.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use kube::api::{Patch, PatchParams, PostParams};
use kube::{Resource, ResourceExt};
use tokio::time::Instant;

use crate::kubernetes::{Backoff, FIELD_MANAGER, told};
use crate::model::{NamespaceId, ServiceId};
use crate::registry::Renumber;

use super::index::Index;
use super::names::STORE_OBJECT;
use super::resources::{CloudMapStore, StoreSpec};
use super::shared::Shared;
use super::translate::{signed, unsigned, version};
use super::zone_files;

const RENUMBERED: &str = "cloudmap-dns.io/renumbered";
const EVERYTHING: &str = "*";
/// Limit of the listed services and namespaces; if there are more, everything is renumbered.
const NAMED_MAX: usize = 100;
/// Delay after a renumbering, in milliseconds, in which requests for the next one are collected, and the longer
/// delay after one that did not raise the numbers.
const INTERVAL_MS: u64 = 100;
const BACKWARDS_MS: u64 = 60_000;
/// Time limit of the first renumbering, in milliseconds; shorter than the time that a start waits for the store.
const BEGIN_MS_MAX: u64 = 4_000;
const ATTEMPT_MS_MAX: u64 = 2_000;

impl Shared {
    /// Adds resources to the next renumbering, which follows within [`INTERVAL_MS`].
    pub(super) fn want_numbers(&self, wanted: Renumber) {
        if self.serves && !wanted.is_empty() {
            self.unnumbered.lock().unwrap_or_else(PoisonError::into_inner).extend(wanted);
            self.renumber.notify_one();
        }
    }
}

/// Writes renumberings as they are requested. Never returns.
pub(super) async fn run(shared: Arc<Shared>) {
    let mut backoff = Backoff::default();
    loop {
        shared.renumber.notified().await;
        // Everything is renumbered at the end of the first lists.
        if !shared.index().is_read() {
            continue;
        }
        let wanted = std::mem::take(&mut *shared.unnumbered.lock().unwrap_or_else(PoisonError::into_inner));
        if wanted.is_empty() {
            continue;
        }
        let before = shared.index().sequence();
        let wait = match renumber(&shared, &wanted).await {
            Ok(number) if number > before => {
                backoff.reset();
                Duration::from_millis(INTERVAL_MS)
            }
            Ok(number) => {
                tracing::error!(
                    number,
                    before,
                    "etcd's numbers have decreased, as after restoring a backup, so revisions and serials do not increase: \
                     raise spec.numberOffset of the CloudMapStore {STORE_OBJECT} by more than the difference, and restart \
                     all servers"
                );
                Duration::from_millis(BACKWARDS_MS)
            }
            Err(error) => {
                tracing::debug!(error = %told(&error), "renumbering failed and is retried");
                shared.want_numbers(wanted);
                backoff.delay()
            }
        };
        tokio::time::sleep(wait).await;
    }
}

/// Renumbers everything before the first state is published. If the API server can be read but rejects writes, because of
/// this server's role or because etcd is full, the server starts nevertheless. Then its numbers are above all that it
/// knows, and become those of the other servers as soon as it can write.
pub(super) async fn begin(shared: &Shared) {
    if !shared.serves {
        return;
    }
    let end = Instant::now() + Duration::from_millis(BEGIN_MS_MAX);
    let mut backoff = Backoff::default();
    while let Err(error) = renumber(shared, &Renumber::everything()).await {
        let permanent = match &error {
            kube::Error::Api(status)
                if (400..500).contains(&status.code) && ![408, 409, 429].contains(&status.code) =>
            {
                Some(&status.message)
            }
            _ => None,
        };
        let wait = backoff.delay();
        if let Some(why) = permanent {
            tracing::warn!(
                why,
                "revisions and serials may differ between servers, and go back over restarts: give this server's account \
                 the verbs create, patch and watch on cloudmapstores"
            );
        } else if Instant::now() + wait >= end {
            tracing::warn!(
                error = %told(&error),
                "the Kubernetes API takes no writes: revisions and serials may differ between servers until it does"
            );
        } else {
            tokio::time::sleep(wait).await;
            continue;
        }
        shared.update_index(Index::renumber_unwritten);
        return;
    }
    // The first lists requested renumberings too, which are done now.
    drop(std::mem::take(&mut *shared.unnumbered.lock().unwrap_or_else(PoisonError::into_inner)));
}

async fn renumber(shared: &Shared, wanted: &Renumber) -> Result<u64, kube::Error> {
    let text = format!("{} {}", shared.unique(), ids(wanted));
    let body = serde_json::json!({ "metadata": { "annotations": { RENUMBERED: text } } });
    let parameters = PatchParams { field_manager: Some(FIELD_MANAGER.into()), ..PatchParams::default() };
    let written = async {
        let patch = Patch::Merge(&body);
        match shared.stores.patch(STORE_OBJECT, &parameters, &patch).await {
            Err(kube::Error::Api(status)) if status.code == 404 => {
                create(shared, RENUMBERED, text.clone()).await
            }
            other => other,
        }
    };
    let written = tokio::time::timeout(Duration::from_millis(ATTEMPT_MS_MAX), written);
    let late = |_| kube::Error::Service("the Kubernetes API does not answer in time".into());
    let object = written.await.map_err(late)??;
    let number = version(&object.metadata);
    Ok(shared.update_index(|index| {
        put(index, &object);
        number + index.offset()
    }))
}

pub(super) async fn create(shared: &Shared, key: &str, value: String) -> Result<CloudMapStore, kube::Error> {
    let spec = StoreSpec { number_offset: signed(shared.index().offset()) };
    let mut object = CloudMapStore::new(STORE_OBJECT, spec);
    object.annotations_mut().insert(key.into(), value);
    shared.stores.create(&PostParams::default(), &object).await
}

/// Applies a version of the CloudMapStore object, from the watch or from a write of this server.
pub(super) fn put(index: &mut Index, object: &CloudMapStore) {
    if object.meta().name.as_deref() != Some(STORE_OBJECT) {
        return;
    }
    index.set_offset(unsigned(Some(object.spec.number_offset)).unwrap_or(0));
    let text = object.annotations().get(RENUMBERED);
    let what =
        text.and_then(|text| text.split_once(' ')).map_or_else(Renumber::everything, |(_, ids)| named(ids));
    index.renumbered(version(&object.metadata), &what);
    index.put_zone_files(version(&object.metadata), zone_files::read(object));
}

pub(super) fn ids(wanted: &Renumber) -> String {
    if wanted.all || wanted.services.len() + wanted.namespaces.len() > NAMED_MAX {
        return EVERYTHING.into();
    }
    let services = wanted.services.iter().map(|id| format!("service/{id}"));
    let namespaces = wanted.namespaces.iter().map(|id| format!("namespace/{id}"));
    services.chain(namespaces).collect::<Vec<_>>().join(" ")
}

fn named(ids: &str) -> Renumber {
    let mut named = Renumber::default();
    for id in ids.split(' ') {
        match id.split_once('/') {
            Some(("service", id)) => drop(named.services.insert(ServiceId::from(id))),
            Some(("namespace", id)) => drop(named.namespaces.insert(NamespaceId::from(id))),
            // The word for everything, or an entry of a later version.
            _ => named.all = true,
        }
    }
    named
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_renumbered_is_read_as_it_was_written() {
        let mut wanted = Renumber::default();
        wanted.services.insert("srv-1".into());
        wanted.namespaces.extend(["ns-1".into(), "ns-2".into()]);
        assert_eq!(named(&ids(&wanted)), wanted);
        assert_eq!(named(&ids(&Renumber::everything())), Renumber::everything());
        wanted.services.extend((0..NAMED_MAX).map(|number| ServiceId::from(&*format!("srv-{number}"))));
        assert_eq!(named(&ids(&wanted)), Renumber::everything());
    }
}
