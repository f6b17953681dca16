//! The list of owners that were marked recently.
//!
//! Whoever creates something in an owner has to find out from etcd, after the creation, whether the owner is marked: as
//! being deleted (`deletions`), or as having services below it (`name_races`). Reading every owner would cost the API server
//! a third of what the creations cost. So whoever marks an owner first adds it to this list, which is one object, and
//! then looks for what was created in the owner. Whoever creates something reads this list afterwards, once for each step
//! of a batch, and then only the listed owners. If an owner is not listed, the creation came before the entry, and the
//! other side finds the new object.
//!
//! An entry remains for much longer than a batch may take, and is removed by a later write of the list. An older mark has
//! been delivered by the watch as part of the owner.

use std::collections::{BTreeMap, BTreeSet};

use kube::ResourceExt;
use serde::{Deserialize, Serialize};

use crate::model::{EpochMs, Uid, now_ms};
use crate::registry::{Change, Group};

use super::super::index::IndexedKind;
use super::super::name_races;
use super::super::request::{self, Failed};
use super::super::resources::{CloudMapNamespace, CloudMapService, CloudMapStore, StoreSpec};
use super::super::translate::uid_of;
use super::writer::BatchWriter;

const MARKS_OBJECT: &str = "cloudmap-dns-marks";
const MARKED_OWNERS: &str = "cloudmap-dns.io/marked-owners";
/// Time for which an owner is listed, in milliseconds: far longer than a batch, and than the clock skew between servers.
const LISTED_MS: EpochMs = 600_000;
/// Limit of the listed owners; if there are more, all owners count as listed for that time.
const LISTED_MAX: usize = 500;

/// The recently marked owners by uid, with the times of their marks in milliseconds since 1970. `unlisted` is the
/// time since which the list is incomplete, because there were too many owners; any owner may be marked then.
#[derive(Debug, Default, Deserialize, Serialize)]
pub(super) struct Marks {
    owners: BTreeMap<String, EpochMs>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    unlisted: Option<EpochMs>,
}

impl Marks {
    fn of(object: &CloudMapStore) -> Marks {
        let text = object.annotations().get(MARKED_OWNERS);
        let read = text.map_or_else(|| Some(Marks::default()), |text| serde_json::from_str(text).ok());
        // After an edit by hand that broke the JSON, any owner may be missing.
        read.unwrap_or_else(|| Marks { owners: BTreeMap::new(), unlisted: Some(now_ms()) })
    }

    pub(super) fn may_have(&self, owner: Uid) -> bool {
        self.unlisted.is_some_and(|since| is_young(since, now_ms()))
            || self.owners.contains_key(&owner.to_string())
    }

    fn add(&mut self, owners: &BTreeSet<Uid>, now: EpochMs) {
        self.owners.retain(|_, since| is_young(*since, now));
        self.unlisted = self.unlisted.filter(|since| is_young(*since, now));
        self.owners.extend(owners.iter().map(|owner| (owner.to_string(), now)));
        if self.owners.len() > LISTED_MAX {
            self.owners.clear();
            self.unlisted = Some(now);
        }
    }
}

fn is_young(since: EpochMs, now: EpochMs) -> bool {
    now.saturating_sub(since).saturating_abs() < LISTED_MS
}

/// The owners that a step may mark because they are listed in etcd, or the error of listing them.
pub(super) struct ListedOwners(Result<BTreeSet<Uid>, Failed>);

impl ListedOwners {
    pub(super) fn check(&self, owner: Uid) -> Result<(), Failed> {
        match &self.0 {
            Ok(owners) if owners.contains(&owner) => Ok(()),
            Ok(_) => Err(Failed::lost("its owner, or a service above it, was changed at the same time")),
            Err(failed) => Err(failed.clone()),
        }
    }
}

impl BatchWriter<'_> {
    pub(super) async fn list_owners(&self, groups: &[(usize, &Group)]) -> ListedOwners {
        let owners = self.to_be_marked(groups.iter().flat_map(|(_, group)| group.iter()));
        let listed = if owners.is_empty() { Ok(()) } else { self.list_marks(&owners).await };
        ListedOwners(listed.map(|()| owners))
    }

    fn to_be_marked<'c>(&self, changes: impl Iterator<Item = &'c Change>) -> BTreeSet<Uid> {
        let index = self.shared.index();
        let mut owners = BTreeSet::new();
        for change in changes {
            match change {
                Change::DeleteNamespace(id) => {
                    owners.extend(CloudMapNamespace::find(&index, id).map(|object| uid_of(&*object)));
                }
                Change::DeleteService(id) => {
                    owners.extend(CloudMapService::find(&index, id).map(|object| uid_of(&*object)));
                }
                Change::PutService(service) => {
                    let above = name_races::unmarked_above(&index, service);
                    owners.extend(above.iter().map(|object| uid_of(&**object)));
                }
                _ => {}
            }
        }
        owners
    }

    async fn list_marks(&self, owners: &BTreeSet<Uid>) -> Result<(), Failed> {
        let api = &self.shared.stores;
        loop {
            let before = request::read(|| api.get_opt(MARKS_OBJECT), self.until).await?;
            let none = || CloudMapStore::new(MARKS_OBJECT, StoreSpec { number_offset: 0 });
            let mut object = before.clone().unwrap_or_else(none);
            let mut marks = Marks::of(&object);
            marks.add(owners, now_ms());
            let text = serde_json::to_string(&marks).unwrap_or_default();
            let annotations = object.annotations_mut();
            annotations.insert(MARKED_OWNERS.into(), text);
            annotations.insert(request::WRITTEN_BY.into(), self.shared.unique());
            let written = match &before {
                Some(before) => request::replace(api, before, object, self.until).await,
                None => request::create(api, &object, self.until).await,
            };
            match written {
                Err(Failed::Lost { .. }) if !self.until.is_over() => {}
                other => return other.map(drop),
            }
        }
    }

    pub(super) async fn marks(&self) -> Result<Marks, Failed> {
        let object = request::read(|| self.shared.stores.get_opt(MARKS_OBJECT), self.until).await?;
        Ok(object.as_ref().map(Marks::of).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uids(numbers: std::ops::Range<usize>) -> BTreeSet<Uid> {
        numbers.map(|number| Uid::of(&number.to_string())).collect()
    }

    fn marks(text: &str) -> Marks {
        let mut object = CloudMapStore::new(MARKS_OBJECT, StoreSpec { number_offset: 0 });
        object.annotations_mut().insert(MARKED_OWNERS.into(), text.into());
        Marks::of(&object)
    }

    #[test]
    fn an_owner_is_listed_for_a_time_and_any_owner_when_there_are_too_many() {
        let (mut listed, now) = (Marks::default(), now_ms());
        let has = |marks: &Marks, number: usize| marks.may_have(Uid::of(&number.to_string()));
        listed.add(&uids(0..1), now - LISTED_MS + 1_000);
        listed.add(&uids(1..2), now);
        assert_eq!((has(&listed, 0), has(&listed, 1), has(&listed, 2)), (true, true, false));
        listed.add(&uids(2..3), now + 1_000);
        assert_eq!((has(&listed, 0), has(&listed, 1), has(&listed, 2)), (false, true, true));
        let mut listed = marks(&serde_json::to_string(&listed).unwrap());
        assert_eq!((has(&listed, 0), has(&listed, 1), has(&listed, 2)), (false, true, true));
        listed.add(&uids(0..LISTED_MAX + 1), now);
        assert!(has(&listed, LISTED_MAX + 5) && listed.owners.is_empty());
    }

    #[test]
    fn a_list_that_makes_no_sense_leaves_no_owner_out() {
        assert!(marks("{").may_have(Uid::of("1")));
        assert!(!marks(r#"{"owners":{}}"#).may_have(Uid::of("1")));
    }
}
