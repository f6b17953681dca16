//! Deletions, and the marks that detect a deletion of an owner that is concurrent with a creation in it.

use std::sync::Arc;

use kube::api::ListParams;
use kube::{Resource, ResourceExt};

use crate::model::{EpochMs, Operation, Uid, now_ms};

use super::super::index::{Index, IndexedKind, Removal};
use super::super::kind::{OwnerKind, ResourceKind};
use super::super::object_cache::Name;
use super::super::request::{self, Failed, Object, WRITTEN_BY, Winner, version_of};
use super::super::translate::uid_of;
use super::limits::BATCH_MS_MAX;
use super::marks::ListedOwners;
use super::writer::BatchWriter;

const DELETING: &str = "cloudmap-dns.io/deleting";
/// Age in milliseconds after which a mark is stale, because its server has given up. If that server is only slow, its
/// deletion fails, because the mark has been removed or overwritten.
const DELETING_MS_MAX: EpochMs = 3 * BATCH_MS_MAX as EpochMs;
/// Time that a creation waits for another server to finish the deletion of its owner, in milliseconds.
const DELETION_MS_MAX: u64 = 1_000;

/// All objects that claim to be one resource, by name and uid.
type Claimants = Vec<(Name, Uid)>;

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
    fn is_being_deleted<K: Object>(&self, owner: &K) -> bool {
        let annotations = owner.annotations();
        let is_own = annotations.get(WRITTEN_BY).is_some_and(|by| by.starts_with(&self.shared.writer_id));
        annotations.get(DELETING).is_some_and(|since| {
            !is_own && now_ms().saturating_sub(since.parse().unwrap_or(0)) < DELETING_MS_MAX
        })
    }

    /// Deletes a resource in which nothing can be created. `orphaned` gets the operations in the annotation of the
    /// deleted object.
    pub(super) async fn delete<K: ResourceKind>(
        &self,
        id: &K::Id,
        orphaned: &mut Vec<Operation>,
    ) -> Result<(), Failed> {
        let (object, claimants) = self.to_be_deleted::<K>(id)?;
        self.delete_claimants(&*object, claimants, orphaned).await
    }

    /// Deletes a namespace or service, unless there is something in it.
    pub(super) async fn delete_owner<K: OwnerKind>(
        &self,
        id: &K::Id,
        listed: &ListedOwners,
        orphaned: &mut Vec<Operation>,
    ) -> Result<(), Failed> {
        let (object, claimants) = self.to_be_deleted::<K>(id)?;
        let marked = self.mark(&*object, listed).await?;
        let parameters = ListParams::default().fields(&format!("{}={id}", K::CONTENT_FIELD)).limit(1);
        let contents = self.shared.api::<K::Content>();
        let inside = request::read(|| contents.list(&parameters), self.until).await;
        self.check_empty(&marked, inside.map(|list| list.items.into_iter().next())).await?;
        self.delete_claimants(&marked, claimants, orphaned).await
    }

    /// The object of a resource, and all objects that claim to be the resource.
    fn to_be_deleted<K: ResourceKind>(&self, id: &K::Id) -> Result<(Arc<K>, Claimants), Failed> {
        let index = self.shared.index();
        let object = K::find(&index, id).ok_or_else(|| Failed::lost(K::DELETED))?;
        self.check_known(&index, &*object)?;
        Ok((object, K::claimants(&index, id)))
    }

    /// Deletes all objects that claim to be a resource. The accepted one is the last: as long as it exists, the resource
    /// is unchanged.
    async fn delete_claimants<K: ResourceKind>(
        &self,
        accepted: &K,
        mut claimants: Claimants,
        orphaned: &mut Vec<Operation>,
    ) -> Result<(), Failed> {
        let accepted_name = accepted.name_any();
        claimants.sort_by_key(|(name, _)| **name == *accepted_name);
        for (name, uid) in claimants {
            let before = (*name == *accepted_name).then_some(accepted);
            let deleted = request::delete(self.shared.api(), &name, uid, before, self.until).await;
            self.wait_for_winner(accepted, deleted).await?;
            self.shared.update_index(|index| K::remove(index, &name, uid, Removal::Own));
        }
        orphaned.extend(accepted.operations(self.shared.index().identity()));
        Ok(())
    }

    async fn mark<K: OwnerKind>(&self, before: &K, listed: &ListedOwners) -> Result<K, Failed> {
        self.check_not_being_deleted(before)?;
        listed.check(uid_of(before))?;
        let mut owner = before.clone();
        owner.annotations_mut().insert(DELETING.into(), now_ms().to_string());
        self.sign(&mut owner);
        let marked = request::replace(self.shared.api(), before, owner, self.until).await;
        self.wait_for_winner(before, marked).await
    }

    /// Returns an error if the marked owner is not empty, and removes the mark then.
    async fn check_empty<K: OwnerKind>(
        &self,
        marked: &K,
        inside: Result<Option<K::Content>, Failed>,
    ) -> Result<(), Failed> {
        if let Ok(None) = inside {
            return Ok(());
        }
        let mut unmarked = marked.clone();
        unmarked.annotations_mut().remove(DELETING);
        self.sign(&mut unmarked);
        if let Err(error) = request::replace(self.shared.api(), marked, unmarked, self.until).await {
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
            let rejection = K::Content::cache(&index).get(&name).and_then(|entry| entry.rejection.as_ref());
            rejection.map_or(lost, |rejection| {
                let (kind, why) = (K::Content::kind(&()), &rejection.message);
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
    pub(super) async fn check_owner<K: OwnerKind>(&self, owner: &K) -> Result<K, Failed> {
        let (api, name) = (self.shared.api::<K>(), owner.name_any());
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
        if !Self::has_mark(&there) {
            return Ok(there);
        }
        // The mark is stale. If its server is only slow, this write changes the resourceVersion, and its deletion fails.
        let before = there.clone();
        there.annotations_mut().remove(DELETING);
        self.sign(&mut there);
        request::replace(api, &before, there, self.until).await
    }
}
