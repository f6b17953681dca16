//! Checks of new objects: their owners must still exist, and no older object may have their DNS names.
//!
//! The checks follow the creation and read from etcd: first the list of owners that were marked recently (`marks`), then
//! each listed owner, once for all that a step has created in it.

use std::collections::HashMap;
use std::sync::Arc;

use futures_util::{StreamExt, stream};
use kube::ResourceExt;

use crate::model::{Namespace, Service, Uid};

use super::super::index::Removal;
use super::super::keys::InstanceKey;
use super::super::kind::{OwnerKind, ResourceKind};
use super::super::name_races;
use super::super::object_cache::Rejection;
use super::super::request::{self, Failed, version_of};
use super::super::resources::{CloudMapInstance, CloudMapNamespace, CloudMapService};
use super::super::translate::uid_of;
use super::limits::WRITES_MAX;
use super::marks::Marks;
use super::writer::BatchWriter;

pub(super) enum Created {
    Namespace {
        namespace: Arc<Namespace>,
        stored: Box<CloudMapNamespace>,
    },
    Service {
        service: Arc<Service>,
        stored: Box<CloudMapService>,
        owner: Arc<CloudMapNamespace>,
    },
    Instance {
        service: Arc<Service>,
        namespace: Arc<Namespace>,
        stored: Box<CloudMapInstance>,
        owner: Arc<CloudMapService>,
    },
}

/// Owners after the creations, by uid, with errors for those in which nothing may be created.
type CheckedOwners<K> = HashMap<Uid, Result<Arc<K>, Failed>>;

#[derive(Default)]
pub(super) struct Owners {
    namespaces: CheckedOwners<CloudMapNamespace>,
    services: CheckedOwners<CloudMapService>,
}

impl BatchWriter<'_> {
    /// Returns the owners of new objects. Those that may have been marked meanwhile are read again, each once.
    pub(super) async fn owners(&self, created: impl Iterator<Item = &Created>) -> Owners {
        let (mut namespaces, mut services) = (HashMap::new(), HashMap::new());
        for created in created {
            match created {
                Created::Namespace { .. } => {}
                Created::Service { owner, .. } => drop(namespaces.insert(uid_of(&**owner), owner)),
                Created::Instance { owner, .. } => drop(services.insert(uid_of(&**owner), owner)),
            }
        }
        if namespaces.is_empty() && services.is_empty() {
            return Owners::default();
        }
        let marks = &self.marks().await;
        Owners {
            namespaces: self.check_owners(namespaces, marks).await,
            services: self.check_owners(services, marks).await,
        }
    }

    async fn check_owners<K: OwnerKind>(
        &self,
        owners: HashMap<Uid, &Arc<K>>,
        marks: &Result<Marks, Failed>,
    ) -> CheckedOwners<K> {
        let read = owners.into_iter().map(|(uid, owner)| async move {
            let stays = match marks {
                Ok(marks) if marks.may_have(uid) || Self::has_mark(&**owner) => {
                    self.check_owner(&**owner).await.map(Arc::new)
                }
                Ok(_) => Ok(owner.clone()),
                Err(failed) => Err(failed.clone()),
            };
            (uid, stays)
        });
        stream::iter(read).buffer_unordered(WRITES_MAX).collect().await
    }

    /// Checks a new object, and adds it to the index or deletes it again. Returns its resourceVersion.
    pub(super) async fn check(&self, created: Created, owners: &Owners) -> Result<u64, Failed> {
        let (shared, until) = (self.shared, self.until);
        match created {
            Created::Namespace { namespace, stored } => {
                let accepted = name_races::check_namespace(shared, &namespace, &stored, until).await;
                self.accept_or_delete(&namespace.id, *stored, accepted).await
            }
            Created::Service { service, stored, owner } => {
                let accepted = match checked_owner(&owners.namespaces, &owner) {
                    Ok(_) => name_races::check_service(shared, &service, &stored, until).await,
                    Err(failed) => Err(failed),
                };
                let checked = self.accept_or_delete(&service.id, *stored, accepted).await;
                self.wait_for_winner(&*owner, checked).await
            }
            Created::Instance { service, namespace, stored, owner } => {
                let accepted = match checked_owner(&owners.services, &owner) {
                    Ok(owner) => {
                        name_races::check_instance(shared, &namespace, &service, owner, &stored, until).await
                    }
                    Err(failed) => Err(failed),
                };
                let key = InstanceKey::new(&service.id, &stored.spec.instance_id);
                let checked = self.accept_or_delete(&key, *stored, accepted).await;
                self.wait_for_winner(&*owner, checked).await
            }
        }
    }

    /// Adds the new object of a resource to the index. An object that is not accepted is deleted again.
    async fn accept_or_delete<K: ResourceKind>(
        &self,
        id: &K::Id,
        stored: K,
        mut accepted: Result<(), Failed>,
    ) -> Result<u64, Failed> {
        let (version, name, uid) = (version_of(&stored), stored.name_any(), uid_of(&stored));
        let operations = stored.operations(self.shared.index().identity());
        if accepted.is_ok() {
            accepted = self.shared.update_index(|index| {
                K::put(index, stored);
                let is_ours = K::find(index, id).is_some_and(|object| uid_of(&*object) == uid);
                let entry = K::cache(index).get(&name).filter(|entry| entry.uid() == uid);
                check_accepted(is_ours, entry.and_then(|entry| entry.rejection.as_deref()))
            });
        }
        let Err(why) = accepted else { return Ok(version) };
        match request::delete(self.shared.api::<K>(), &name, uid, None, self.until).await {
            Err(Failed::Unknown(error)) => {
                tracing::warn!(object = name, error, "an object that was rejected could not be deleted");
            }
            _ => self.shared.update_index(|index| {
                K::remove(index, &name, uid, Removal::Own);
                // The operations of a rejected object were not carried out.
                operations.iter().for_each(|operation| index.drop_operation(&operation.key()));
            }),
        }
        Err(why)
    }
}

/// Returns the owner as it is after the creations.
fn checked_owner<'o, K: OwnerKind>(owners: &'o CheckedOwners<K>, owner: &K) -> Result<&'o K, Failed> {
    match owners.get(&uid_of(owner)) {
        Some(Ok(owner)) => Ok(owner),
        Some(Err(failed)) => Err(failed.clone()),
        None => Err(Failed::lost("its owner was deleted at the same time")),
    }
}

/// Returns an error if the index rejects a new object. An object that the index does not contain was accepted, and has
/// been deleted by another server since. Its creation was carried out before that deletion, and must not be repeated
/// after it.
fn check_accepted(is_ours: bool, rejection: Option<&Rejection>) -> Result<(), Failed> {
    match rejection {
        Some(rejection) if !is_ours => Err(Failed::lost(rejection.message.clone())),
        _ => Ok(()),
    }
}
