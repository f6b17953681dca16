//! The list of owners that were marked of late.
//!
//! Whoever creates something in an owner has to know from etcd, after the creation, whether the owner is marked: as being
//! deleted (`deletions`), or as having services below it (`claims`). Reading every owner would cost the API server a third
//! of what the creations cost. So whoever marks an owner first enters it into this list, which is one object, and then looks
//! for what was created in it. Whoever creates reads this list afterwards, once for a step of a batch, and of the owners only
//! those that are in it. A creation that does not find the owner here came before the entry, and is found by the other side.
//!
//! An entry stays for much longer than a batch may take, and is removed when the list is written again. A mark that is older
//! than that shows in the owner as the watch has shown it.

use std::collections::{BTreeMap, BTreeSet};

use kube::ResourceExt;
use serde::{Deserialize, Serialize};

use crate::model::{EpochMs, Uid};
use crate::registry::{Change, Group};

use super::super::claims;
use super::super::operation_annotation::now_ms;
use super::super::request::{self, Failed};
use super::super::resources::{CloudMapStore, StoreSpec};
use super::super::translate::uid_of;
use super::BatchWriter;

/// The object with the list.
const MARKS_OBJECT: &str = "cloudmap-dns-marks";
/// Holds the list as JSON.
const MARKED_OWNERS: &str = "cloudmap-dns.io/marked-owners";
/// Time for which an owner is listed, in milliseconds: far longer than a batch, and than the clocks of servers differ.
const LISTED_MS: EpochMs = 600_000;
/// Owners that are listed by themselves.
const LISTED_MAX: usize = 500;

/// The owners that were marked of late, with the times of their marks in milliseconds since 1970.
#[derive(Debug, Default, Deserialize, Serialize)]
pub(super) struct Marks {
    owners: BTreeMap<String, EpochMs>,
    /// Since when some marked owners are not listed: for a time, any owner may be one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    unlisted: Option<EpochMs>,
}

impl Marks {
    fn of(object: &CloudMapStore) -> Marks {
        let text = object.annotations().get(MARKED_OWNERS);
        let read = text.map_or_else(|| Some(Marks::default()), |text| serde_json::from_str(text).ok());
        // Text that somebody has edited by hand may lack any owner.
        read.unwrap_or_else(|| Marks { owners: BTreeMap::new(), unlisted: Some(now_ms()) })
    }

    /// Returns whether an owner may have been marked of late.
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

/// The owners that a step may mark, or why it may mark none.
pub(super) struct Announced(Result<BTreeSet<Uid>, Failed>);

impl Announced {
    /// Returns an error for an owner that may not be marked.
    pub(super) fn check(&self, owner: Uid) -> Result<(), Failed> {
        match &self.0 {
            Ok(owners) if owners.contains(&owner) => Ok(()),
            Ok(_) => Err(Failed::lost("what is above it was changed at the same time")),
            Err(failed) => Err(failed.clone()),
        }
    }
}

impl BatchWriter<'_> {
    /// Lists the owners that these groups mark.
    pub(super) async fn announce(&self, groups: &[(usize, &Group)]) -> Announced {
        let owners = self.to_be_marked(groups.iter().flat_map(|(_, group)| group.iter()));
        let listed = if owners.is_empty() { Ok(()) } else { self.list_marks(&owners).await };
        Announced(listed.map(|()| owners))
    }

    fn to_be_marked<'c>(&self, changes: impl Iterator<Item = &'c Change>) -> BTreeSet<Uid> {
        let index = self.shared.index();
        let mut owners = BTreeSet::new();
        for change in changes {
            match change {
                Change::DeleteNamespace(id) => {
                    owners.extend(index.namespace_object(id).map(|object| uid_of(&*object)));
                }
                Change::DeleteService(id) => {
                    owners.extend(index.service_object(id).map(|object| uid_of(&*object)));
                }
                Change::PutService(service) => {
                    let above = claims::unmarked_above(&index, service);
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
                // Another server lists its own.
                Err(Failed::Lost { .. }) if !self.until.is_over() => {}
                other => return other.map(drop),
            }
        }
    }

    /// The owners that were marked of late, as etcd has them now.
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
