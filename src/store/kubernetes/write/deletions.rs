//! Deleting, and what keeps a deletion and a creation in the same owner apart.

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

/// Marks an owner that is being deleted, with the time in milliseconds since 1970.
const DELETING: &str = "cloudmap-dns.io/deleting";
/// Age of a mark, in milliseconds, after which its server has given up. If that server was only slow, its deletion fails,
/// because the mark was cleared or written over.
const DELETING_MS_MAX: EpochMs = 3 * BATCH_MS_MAX as EpochMs;
/// Time that something new waits for another server to end the deletion of its owner, in milliseconds.
const DELETION_MS_MAX: u64 = 1_000;

impl BatchWriter<'_> {
    /// Lets another server end the deletion of an owner before anything is written to the owner or into it. The wait is
    /// that of the registry between two plans, so no other group is held up.
    pub(super) fn check_not_being_deleted<K: Object>(&self, owner: &K) -> Result<(), Failed> {
        if self.is_being_deleted(owner) {
            let why = format!("{} is to be deleted by another server", owner.name_any());
            return Err(Failed::lost(why));
        }
        Ok(())
    }

    /// Returns whether another server is deleting an owner now, as its mark says. A mark of this server is left over from an
    /// earlier batch, because batches of one server do not overlap.
    pub(super) fn is_being_deleted<K: Object>(&self, owner: &K) -> bool {
        let annotations = owner.annotations();
        let is_own = annotations.get(WRITTEN_BY).is_some_and(|by| by.starts_with(&self.shared.writer_id));
        annotations.get(DELETING).is_some_and(|since| {
            !is_own && now_ms().saturating_sub(since.parse().unwrap_or(0)) < DELETING_MS_MAX
        })
    }

    /// Deletes an instance; `left` gets the operations that its object carried.
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
        for (name, uid) in ours_last(claimants, &object.name_any()) {
            let before = (*name == *object.name_any()).then_some(&*object);
            self.after_winner(&*object, request::delete(api, &name, uid, before, self.until).await).await?;
            self.shared.update_index(|index| index.remove_instance(&name, uid, Removal::Own));
        }
        orphaned.extend(Index::of_instance(&object));
        Ok(())
    }

    /// Deletes a service; `left` gets the operations that its object carried.
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
        for (name, uid) in ours_last(claimants, &marked.name_any()) {
            let before = (*name == *marked.name_any()).then_some(&marked);
            self.after_winner(&marked, request::delete(api, &name, uid, before, self.until).await).await?;
            self.shared.update_index(|index| index.remove_service(&name, uid, Removal::Own));
        }
        orphaned.extend(Index::of_service(&marked));
        Ok(())
    }

    /// Deletes a namespace; `left` gets the operations that its object carried.
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
        for (name, uid) in ours_last(claimants, &marked.name_any()) {
            let before = (*name == *marked.name_any()).then_some(&marked);
            self.after_winner(&marked, request::delete(api, &name, uid, before, self.until).await).await?;
            self.shared.update_index(|index| index.remove_namespace(&name, uid, Removal::Own));
        }
        orphaned.extend(self.shared.index().of_namespace(&marked));
        Ok(())
    }

    /// Marks an owner that is to be deleted.
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
        self.after_winner(before, request::replace(api, before, owner, self.until).await).await
    }

    /// Takes the mark from an owner that has something in it.
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
        let lost = Failed::Lost { winner, why: "something was put into it at the same time".into() };
        self.after_winner(&inside, Err(lost)).await.map_err(|lost| {
            // A plan knows only of accepted objects.
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

    /// Returns whether the owner's object, as the watch has shown it, says that somebody deletes it, or has.
    pub(super) fn has_mark<K: Object>(owner: &K) -> bool {
        owner.annotations().contains_key(DELETING)
    }

    /// Checks that the owner of a new object is not being deleted. If another server is deleting it, waits for the end: a
    /// deletion that lists the owner's contents after the object was created finds it, and takes its mark back.
    pub(super) async fn owner_stays<K: Cached>(&self, api: &Api<K>, owner: &K) -> Result<K, Failed> {
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
                None => Err(Failed::lost(format!("{name}, which it belongs to, is to be deleted"))),
            };
        }
        if !there.annotations().contains_key(DELETING) {
            return Ok(there);
        }
        // Whoever set the mark has given up, or finds another version than the marked one.
        let before = there.clone();
        there.annotations_mut().remove(DELETING);
        self.sign(&mut there);
        request::replace(api, &before, there, self.until).await
    }
}

/// The objects that claim the same, the one that stands last: until it is gone, nothing has changed.
fn ours_last(mut claimants: Vec<(Name, Uid)>, ours: &str) -> Vec<(Name, Uid)> {
    claimants.sort_by_key(|(name, _)| **name == *ours);
    claimants
}
