//! Checks of new objects: their owners must still exist, and no older object may have their DNS names.
//!
//! The checks follow the creation and read from etcd: first the list of owners that were marked recently (`marks`), then
//! each listed owner, once for all that a step has created in it.

use std::collections::HashMap;
use std::sync::Arc;

use futures_util::{StreamExt, stream};
use kube::{Api, ResourceExt};

use crate::model::{Namespace, Service, Uid};

use super::super::index::{Index, Removal};
use super::super::name_races;
use super::super::object_cache::Rejection;
use super::super::request::{self, Failed, version_of};
use super::super::resources::{CloudMapInstance, CloudMapNamespace, CloudMapService};
use super::super::translate::uid_of;
use super::marks::Marks;
use super::{BatchWriter, Cached, WRITES_MAX};

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
#[derive(Default)]
pub(super) struct Owners {
    namespaces: HashMap<Uid, Result<Arc<CloudMapNamespace>, Failed>>,
    services: HashMap<Uid, Result<Arc<CloudMapService>, Failed>>,
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
            namespaces: self.check_owners(&self.shared.namespaces, namespaces, marks).await,
            services: self.check_owners(&self.shared.services, services, marks).await,
        }
    }

    async fn check_owners<K: Cached>(
        &self,
        api: &Api<K>,
        owners: HashMap<Uid, &Arc<K>>,
        marks: &Result<Marks, Failed>,
    ) -> HashMap<Uid, Result<Arc<K>, Failed>> {
        let read = owners.into_iter().map(|(uid, owner)| async move {
            let stays = match marks {
                Ok(marks) if marks.may_have(uid) || Self::has_mark(&**owner) => {
                    self.check_owner(api, &**owner).await.map(Arc::new)
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
        let gone = || Failed::lost("its owner was deleted at the same time");
        match created {
            Created::Namespace { namespace, stored } => {
                let accepted =
                    name_races::check_namespace(self.shared, &namespace, &stored, self.until).await;
                let api = &self.shared.namespaces;
                let put = |index: &mut Index, stored| {
                    index.put_namespace(stored);
                    index.namespace_object(&namespace.id).map(|object| uid_of(&*object))
                };
                self.accept_or_delete(api, *stored, accepted, put, Index::remove_namespace).await
            }
            Created::Service { service, stored, owner } => {
                let mut accepted =
                    owners.namespaces.get(&uid_of(&*owner)).cloned().unwrap_or_else(|| Err(gone())).map(drop);
                if accepted.is_ok() {
                    accepted = name_races::check_service(self.shared, &service, &stored, self.until).await;
                }
                let api = &self.shared.services;
                let put = |index: &mut Index, stored| {
                    index.put_service(stored);
                    index.service_object(&service.id).map(|object| uid_of(&*object))
                };
                let checked = self.accept_or_delete(api, *stored, accepted, put, Index::remove_service).await;
                self.wait_for_winner(&*owner, checked).await
            }
            Created::Instance { service, namespace, stored, owner } => {
                let accepted = match owners.services.get(&uid_of(&*owner)) {
                    Some(Ok(owner)) => {
                        name_races::check_instance(
                            self.shared,
                            &namespace,
                            &service,
                            owner,
                            &stored,
                            self.until,
                        )
                        .await
                    }
                    Some(Err(failed)) => Err(failed.clone()),
                    None => Err(gone()),
                };
                let (api, instance) = (&self.shared.instances, stored.spec.instance_id.clone());
                let put = |index: &mut Index, stored| {
                    index.put_instance(stored);
                    index.instance_object(&service.id, &instance).map(|object| uid_of(&*object))
                };
                let checked =
                    self.accept_or_delete(api, *stored, accepted, put, Index::remove_instance).await;
                self.wait_for_winner(&*owner, checked).await
            }
        }
    }

    /// Adds an object to the index with `put`, which returns the uid of the object that is accepted then. An object that
    /// is not accepted is deleted again.
    async fn accept_or_delete<K: Cached>(
        &self,
        api: &Api<K>,
        stored: K,
        mut accepted: Result<(), Failed>,
        put: impl FnOnce(&mut Index, K) -> Option<Uid>,
        remove: impl FnOnce(&mut Index, &str, Uid, Removal),
    ) -> Result<u64, Failed> {
        let (version, name, uid) = (version_of(&stored), stored.name_any(), uid_of(&stored));
        let operations = K::operations(&self.shared.index(), &stored);
        if accepted.is_ok() {
            accepted = self.shared.update_index(|index| {
                let ours = put(index, stored);
                let entry = K::cache(index).get(&name).filter(|entry| entry.uid() == uid);
                check_accepted(ours == Some(uid), entry.and_then(|entry| entry.rejection.as_deref()))
            });
        }
        let Err(why) = accepted else { return Ok(version) };
        match request::delete(api, &name, uid, None, self.until).await {
            Err(Failed::Unknown(error)) => {
                tracing::warn!(object = name, error, "an object that was rejected could not be deleted");
            }
            _ => self.shared.update_index(|index| {
                remove(index, &name, uid, Removal::Own);
                // The operations of a rejected object were not carried out.
                operations.iter().for_each(|operation| index.drop_operation(&operation.key()));
            }),
        }
        Err(why)
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
