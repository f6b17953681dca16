//! Deletions, and the marks that detect a deletion of an owner that is concurrent with a creation in it.

use kube::api::ListParams;
use kube::{Api, ResourceExt};

use crate::model::{EpochMs, NamespaceId, Operation, ServiceId, Uid};

use super::super::index::{Index, Removal};
use super::super::object_cache::Name;
use super::super::operation_annotation::now_ms;
use super::super::request::{self, Failed, Object, WRITTEN_BY, Winner, version_of};
use super::super::translate::uid_of;
use super::marks::Announced;
use super::{BATCH_MS_MAX, BatchWriter, Cached};

const DELETING: &str = "cloudmap-dns.io/deleting";
/// Age in milliseconds after which a mark is stale, because its server has given up. If that server is only slow, its
/// deletion fails, because the mark has been removed or overwritten.
const DELETING_MS_MAX: EpochMs = 3 * BATCH_MS_MAX as EpochMs;
/// Time that a creation waits for another server to finish the deletion of its owner, in milliseconds.
const DELETION_MS_MAX: u64 = 1_000;

impl BatchWriter<'_> {
    /// Returns an error while another server is deleting this object, before anything is written to it or created in it.
    /// The wait follows in the registry, between two plans, so it delays no other group.
    pub(super) fn check_not_being_deleted<K: Object>(&self, owner: &K) -> Result<(), Failed> {
        if self.is_being_deleted(owner) {
            let why = format!("{} is being deleted by another server", owner.name_any());
            return Err(Failed::lost(why));
        }
        Ok(())
    }

    /// Returns whether another server is deleting an owner now, according to its mark. A mark of this server is left from
    /// an earlier batch, because batches of one server do not overlap.
    pub(super) fn is_being_deleted<K: Object>(&self, owner: &K) -> bool {
        let annotations = owner.annotations();
        let is_own = annotations.get(WRITTEN_BY).is_some_and(|by| by.starts_with(&self.shared.writer_id));
        annotations.get(DELETING).is_some_and(|since| {
            !is_own && now_ms().saturating_sub(since.parse().unwrap_or(0)) < DELETING_MS_MAX
        })
    }

    /// Deletes an instance; like below, `orphaned` gets the operations in the annotation of the deleted object.
    pub(super) async fn delete_instance(
        &self,
        service: &ServiceId,
        id: &str,
        orphaned: &mut Vec<Operation>,
    ) -> Result<(), Failed> {
        let (object, claimants) = {
            let index = self.shared.index();
            (index.instance_object(service, id), index.instance_claimants(service, id))
        };
        let Some(object) = object else {
            return Err(Failed::lost("it was deregistered at the same time"));
        };
        self.check_known(&self.shared.index(), &*object)?;
        let api = &self.shared.instances;
        for (name, uid) in accepted_last(claimants, &object.name_any()) {
            let before = (*name == *object.name_any()).then_some(&*object);
            self.wait_for_winner(&*object, request::delete(api, &name, uid, before, self.until).await)
                .await?;
            self.shared.update_index(|index| index.remove_instance(&name, uid, Removal::Own));
        }
        orphaned.extend(Index::of_instance(&object));
        Ok(())
    }

    pub(super) async fn delete_service(
        &self,
        id: &ServiceId,
        announced: &Announced,
        orphaned: &mut Vec<Operation>,
    ) -> Result<(), Failed> {
        let (object, claimants) = {
            let index = self.shared.index();
            (index.service_object(id), index.service_claimants(id))
        };
        let Some(object) = object else {
            return Err(Failed::lost("it was deleted at the same time"));
        };
        self.check_known(&self.shared.index(), &*object)?;
        let api = &self.shared.services;
        let marked = self.mark(api, &*object, announced).await?;
        let parameters = ListParams::default().fields(&format!("spec.serviceId={id}")).limit(1);
        let inside = request::read(|| self.shared.instances.list(&parameters), self.until).await;
        self.check_empty(api, &marked, inside.map(|list| list.items.into_iter().next())).await?;
        for (name, uid) in accepted_last(claimants, &marked.name_any()) {
            let before = (*name == *marked.name_any()).then_some(&marked);
            self.wait_for_winner(&marked, request::delete(api, &name, uid, before, self.until).await).await?;
            self.shared.update_index(|index| index.remove_service(&name, uid, Removal::Own));
        }
        orphaned.extend(Index::of_service(&marked));
        Ok(())
    }

    pub(super) async fn delete_namespace(
        &self,
        id: &NamespaceId,
        announced: &Announced,
        orphaned: &mut Vec<Operation>,
    ) -> Result<(), Failed> {
        let (object, claimants) = {
            let index = self.shared.index();
            (index.namespace_object(id), index.namespace_claimants(id))
        };
        let Some(object) = object else {
            return Err(Failed::lost("it was deleted at the same time"));
        };
        self.check_known(&self.shared.index(), &*object)?;
        let api = &self.shared.namespaces;
        let marked = self.mark(api, &*object, announced).await?;
        let parameters = ListParams::default().fields(&format!("spec.namespaceId={id}")).limit(1);
        let inside = request::read(|| self.shared.services.list(&parameters), self.until).await;
        self.check_empty(api, &marked, inside.map(|list| list.items.into_iter().next())).await?;
        for (name, uid) in accepted_last(claimants, &marked.name_any()) {
            let before = (*name == *marked.name_any()).then_some(&marked);
            self.wait_for_winner(&marked, request::delete(api, &name, uid, before, self.until).await).await?;
            self.shared.update_index(|index| index.remove_namespace(&name, uid, Removal::Own));
        }
        orphaned.extend(self.shared.index().of_namespace(&marked));
        Ok(())
    }

    pub(super) async fn mark<K: Cached>(
        &self,
        api: &Api<K>,
        before: &K,
        announced: &Announced,
    ) -> Result<K, Failed> {
        self.check_not_being_deleted(before)?;
        announced.check(uid_of(before))?;
        let mut owner = before.clone();
        owner.annotations_mut().insert(DELETING.into(), now_ms().to_string());
        self.sign(&mut owner);
        self.wait_for_winner(before, request::replace(api, before, owner, self.until).await).await
    }

    /// Returns an error if the marked owner is not empty, and removes the mark then.
    pub(super) async fn check_empty<K: Cached, I: Cached>(
        &self,
        api: &Api<K>,
        marked: &K,
        inside: Result<Option<I>, Failed>,
    ) -> Result<(), Failed> {
        if let Ok(None) = inside {
            return Ok(());
        }
        let mut unmarked = marked.clone();
        unmarked.annotations_mut().remove(DELETING);
        self.sign(&mut unmarked);
        if let Err(error) = request::replace(api, marked, unmarked, self.until).await {
            tracing::warn!(
                object = marked.name_any(),
                ?error,
                "an object stays marked as being deleted for a while"
            );
        }
        let Some(inside) = inside? else { return Ok(()) };
        let winner = Winner::Version(version_of(&inside));
        let lost = Failed::Lost { winner, why: "something was created in it at the same time".into() };
        self.wait_for_winner(&inside, Err(lost)).await.map_err(|lost| {
            // If the object inside is rejected, plans do not know it, and planning again would not help.
            let name = inside.name_any();
            let index = self.shared.index();
            let rejection = I::cache(&index).get(&name).and_then(|entry| entry.rejection.as_ref());
            rejection.map_or(lost, |rejection| {
                let (kind, why) = (I::kind(&()), &rejection.message);
                Failed::InUse(format!(
                    "The {kind} {name} belongs to it, and is not accepted: {why} Delete that object first."
                ))
            })
        })
    }

    /// Returns whether the owner has a mark in the version that the watch delivered.
    pub(super) fn has_mark<K: Object>(owner: &K) -> bool {
        owner.annotations().contains_key(DELETING)
    }

    /// Checks that nobody is deleting the owner of a new object. If another server is, waits for its result: a deletion
    /// that lists the contents of the owner after the creation finds the new object, and removes its mark.
    pub(super) async fn check_owner<K: Cached>(&self, api: &Api<K>, owner: &K) -> Result<K, Failed> {
        let name = owner.name_any();
        let gone = || {
            let why = format!("{name}, which it belongs to, was deleted at the same time");
            Err(Failed::Lost { winner: Winner::Deletion, why })
        };
        let there = request::read(|| api.get_opt(&name), self.until).await?;
        let Some(mut there) = there.filter(|there| there.uid() == owner.uid()) else { return gone() };
        if self.is_being_deleted(&there) {
            let marked = version_of(&there);
            let stays = |index: &Index| match K::cache(index).object_with_uid(&name, uid_of(owner)) {
                None => Some(false),
                Some(object) if version_of(&*object) > marked && !self.is_being_deleted(&*object) => {
                    Some(true)
                }
                Some(_) => None,
            };
            return match self.shared.wait_for(DELETION_MS_MAX, stays).await {
                Some(true) => Ok(there),
                Some(false) => gone(),
                None => Err(Failed::lost(format!("{name}, which it belongs to, is being deleted"))),
            };
        }
        if !there.annotations().contains_key(DELETING) {
            return Ok(there);
        }
        // The mark is stale. If its server is only slow, this write changes the resourceVersion, and its deletion fails.
        let before = there.clone();
        there.annotations_mut().remove(DELETING);
        self.sign(&mut there);
        request::replace(api, &before, there, self.until).await
    }
}

/// Sorts the claimants so that the accepted one is deleted last: as long as it exists, the resource is unchanged.
fn accepted_last(mut claimants: Vec<(Name, Uid)>, ours: &str) -> Vec<(Name, Uid)> {
    claimants.sort_by_key(|(name, _)| **name == *ours);
    claimants
}
