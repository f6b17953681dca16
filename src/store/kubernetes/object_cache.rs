//! The known objects of one kind. An object claims an identity, such as the id of an instance in its service. Of the
//! objects with one claim, one is accepted: it becomes a resource of the registry, and the others are rejected in their
//! statuses.
//!
//! A server holds all objects of the cluster, and reads few of them again. So they are kept as compressed JSON, which
//! takes a tenth of the memory; the object that was read last is also kept unpacked. Maps are B-trees, because a hash map
//! that has grown may be half empty.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::marker::PhantomData;
use std::sync::Arc;

use kube::{Resource, ResourceExt};
use lz4_flex::block::{compress_prepend_size_with_dict, decompress_size_prepended_with_dict};
use serde::Serialize;
use serde::de::DeserializeOwned;
use smallvec::SmallVec;

use crate::model::Uid;

use super::keys::{Claim, OwnerKey};
use super::request::{WRITTEN_BY, Winner};
use super::translate::{created_ms, version};

pub(super) type Name = Arc<str>;

type Names = SmallVec<[Name; 1]>;

/// Names of the accepted objects of one claim, with the ids of their resources. There are two only if an HTTP namespace
/// and a DNS namespace have one name.
pub(super) type Accepted<Id> = SmallVec<[(Name, Id); 1]>;

/// The reason and message of an object's condition `Accepted` when it is `False`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Rejection {
    pub(super) reason: &'static str,
    pub(super) message: String,
}

/// An object with the decision about it. It has no claim while its owner does not exist. `remark` is a message for
/// the status of an object that is accepted, but without a DNS name that it claims.
pub(super) struct CachedObject<K, Id> {
    packed: Packed<K>,
    pub(super) claim: Option<Arc<Claim>>,
    pub(super) rejection: Option<Box<Rejection>>,
    pub(super) remark: Option<Box<str>>,
    owner: Option<Arc<OwnerKey>>,
    accepted: Option<Id>,
}

impl<K, Id> CachedObject<K, Id> {
    pub(super) fn version(&self) -> u64 {
        self.packed.version
    }

    pub(super) fn uid(&self) -> Uid {
        self.packed.uid
    }

    pub(super) fn accepted_id(&self) -> Option<&Id> {
        self.accepted.as_ref()
    }
}

struct Packed<K> {
    version: u64,
    uid: Uid,
    compressed: Box<[u8]>,
    object: PhantomData<fn() -> K>,
}

/// JSON of one object, against which all others of the kind are compressed, because they are similar.
#[derive(Default)]
struct Dictionary(Box<[u8]>);

impl Dictionary {
    /// Compresses an object. The first object becomes the dictionary.
    fn pack<K: Stored>(&mut self, object: &K) -> Option<Packed<K>> {
        let (meta, json) = (object.meta(), serde_json::to_vec(object).ok()?);
        let uid = Uid::of(meta.uid.as_deref()?);
        if self.0.is_empty() {
            self.0 = json.as_slice().into();
        }
        let compressed = compress_prepend_size_with_dict(&json, &self.0).into();
        Some(Packed { version: version(meta), uid, compressed, object: PhantomData })
    }

    fn unpack<K: Stored>(&self, packed: &Packed<K>) -> Option<K> {
        let json = decompress_size_prepended_with_dict(&packed.compressed, &self.0).ok()?;
        serde_json::from_slice(&json).ok()
    }
}

pub(super) trait Stored: Clone + DeserializeOwned + Resource<DynamicType = ()> + Serialize {}

impl<K: Clone + DeserializeOwned + Resource<DynamicType = ()> + Serialize> Stored for K {}

/// The cache of all objects of one kind, like an Indexer of client-go.
pub(super) struct ObjectCache<K, Id> {
    objects: BTreeMap<Name, Box<CachedObject<K, Id>>>,
    dictionary: Dictionary,
    claims: BTreeSet<(Arc<Claim>, Name)>,
    /// Claims, objects and ids of objects that were accepted, and have been deleted or claim something else now, until
    /// the next call of [`ObjectCache::set_accepted`] for that claim.
    formerly_accepted: Vec<(Arc<Claim>, Name, Id)>,
    owners: HashMap<Arc<OwnerKey>, BTreeSet<Name>>,
    last: RefCell<Option<(Name, Arc<K>)>>,
    /// The resourceVersion up to which the watch has delivered all events of this kind; 0 during a list.
    pub(super) watched_version: u64,
    /// Names of objects whose newest version came after the last [`super::index::Index::drain`], so that the registry's
    /// plans do not know it.
    undrained: HashSet<Name>,
    /// Uids of objects that this replica deleted, until the watch delivers the deletion: events of these objects before
    /// that are outdated.
    deleted_here: HashSet<Uid>,
}

impl<K, Id> Default for ObjectCache<K, Id> {
    fn default() -> ObjectCache<K, Id> {
        ObjectCache {
            objects: BTreeMap::new(),
            dictionary: Dictionary::default(),
            claims: BTreeSet::new(),
            formerly_accepted: Vec::new(),
            owners: HashMap::new(),
            last: RefCell::new(None),
            watched_version: 0,
            undrained: HashSet::new(),
            deleted_here: HashSet::new(),
        }
    }
}

impl<K: Stored, Id: Clone> ObjectCache<K, Id> {
    /// Adds or replaces an object. Returns its name, or `None` if this version is not newer than what is known.
    pub(super) fn insert(&mut self, mut object: K, owner: Option<OwnerKey>) -> Option<Name> {
        let meta = object.meta_mut();
        // Managed fields are large and not needed here; a write without them leaves those in the cluster unchanged.
        meta.managed_fields = None;
        let name: Name = meta.name.as_deref()?.into();
        if self.deleted_here.contains(&Uid::of(meta.uid.as_deref()?)) {
            return None;
        }
        let there = self.objects.get(&name);
        let is_old = match there {
            Some(there) => there.version() >= version(meta),
            // The response to a write of this replica may arrive after the watch has delivered the deletion of the object
            // by another replica.
            None => version(meta) <= self.watched_version,
        };
        if is_old {
            return None;
        }
        let name = self.objects.get_key_value(&name).map_or(name, |(name, _)| name.clone());
        let packed = self.dictionary.pack(&object)?;
        if let Some(there) = there.filter(|there| there.owner.as_deref() != owner.as_ref())
            && let Some(old) = there.owner.clone()
        {
            self.leave_owner(&old, &name);
        }
        let owner = owner.map(|owner| self.add_to_owner(owner, &name));
        match self.objects.get_mut(&name) {
            Some(entry) => (entry.packed, entry.owner) = (packed, owner),
            None => {
                let rejection = Rejection { reason: "Pending", message: "not decided yet".into() };
                let rejection = Some(rejection.into());
                let entry =
                    CachedObject { packed, claim: None, rejection, remark: None, owner, accepted: None };
                self.objects.insert(name.clone(), entry.into());
            }
        }
        self.last.replace(Some((name.clone(), object.into())));
        self.undrained.insert(name.clone());
        Some(name)
    }

    fn add_to_owner(&mut self, owner: OwnerKey, name: &Name) -> Arc<OwnerKey> {
        let known = self.owners.get_key_value(&owner).map(|(key, _)| key.clone());
        let key = known.unwrap_or_else(|| owner.into());
        self.owners.entry(key.clone()).or_default().insert(name.clone());
        key
    }

    fn leave_owner(&mut self, owner: &OwnerKey, name: &Name) {
        if let Some(owned) = self.owners.get_mut(owner) {
            owned.remove(name);
            if owned.is_empty() {
                self.owners.remove(owner);
            }
        }
    }

    pub(super) fn get(&self, name: &str) -> Option<&CachedObject<K, Id>> {
        self.objects.get(name).map(|entry| &**entry)
    }

    pub(super) fn get_mut(&mut self, name: &str) -> Option<&mut CachedObject<K, Id>> {
        self.objects.get_mut(name).map(|entry| &mut **entry)
    }

    pub(super) fn object(&self, name: &str) -> Option<Arc<K>> {
        let (key, entry) = self.objects.get_key_value(name)?;
        let mut last = self.last.borrow_mut();
        match &*last {
            Some((last, object)) if **last == *name => Some(object.clone()),
            _ => {
                let object = Arc::new(self.dictionary.unpack(&entry.packed)?);
                *last = Some((key.clone(), object.clone()));
                Some(object)
            }
        }
    }

    pub(super) fn object_with_uid(&self, name: &str, uid: Uid) -> Option<Arc<K>> {
        self.objects.get(name).filter(|entry| entry.uid() == uid)?;
        self.object(name)
    }

    pub(super) fn names(&self) -> Vec<Name> {
        self.objects.keys().cloned().collect()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }

    pub(super) fn mark_drained(&mut self) {
        self.undrained = HashSet::new();
    }

    /// Returns true if the registry knows the newest version of the object of this name.
    pub(super) fn is_drained(&self, name: &str) -> bool {
        !self.undrained.contains(name)
    }

    /// Removes a deleted object, and returns its claim if it had one. If this replica deleted it, later events of the
    /// object are ignored until the watch delivers the deletion.
    pub(super) fn remove(&mut self, name: &str, uid: Uid, is_deleted_here: bool) -> Option<Arc<Claim>> {
        if is_deleted_here {
            self.deleted_here.insert(uid);
        } else {
            self.forget(uid);
        }
        self.objects.get(name).filter(|entry| entry.uid() == uid)?;
        let (name, entry) = self.objects.remove_entry(name)?;
        self.last.get_mut().take_if(|(last, _)| *last == name);
        if let Some(owner) = &entry.owner {
            self.leave_owner(owner, &name);
        }
        if let Some(claim) = &entry.claim {
            self.claims.remove(&(claim.clone(), name.clone()));
            self.formerly_accepted.extend(entry.accepted.map(|id| (claim.clone(), name, id)));
        }
        entry.claim
    }

    /// Returns whether the cache contains the winner of a race for an object, so that the next plan knows it. `uid` is
    /// that of the object on which the lost plan was based, if there was one.
    pub(super) fn knows(&self, winner: Winner, name: &str, uid: Option<Uid>) -> bool {
        match winner {
            Winner::Known => true,
            // Even if the object has been deleted again by now, the watch has delivered this version.
            Winner::Version(version) => self.watched_version >= version,
            Winner::Deletion => self.objects.get(name).is_none_or(|entry| Some(entry.uid()) != uid),
        }
    }

    pub(super) fn forget(&mut self, uid: Uid) {
        self.deleted_here.remove(&uid);
    }

    /// Sets the claim of an object, and returns its previous claim.
    pub(super) fn claim(&mut self, name: &Name, claim: Option<Arc<Claim>>) -> Option<Arc<Claim>> {
        let entry = self.objects.get_mut(name)?;
        let old = entry.claim.clone();
        if old != claim {
            entry.claim = claim.clone();
            let was_accepted = entry.accepted.take();
            self.claims.extend(claim.map(|claim| (claim, name.clone())));
            if let Some(old) = old.clone() {
                self.claims.remove(&(old.clone(), name.clone()));
                self.formerly_accepted.extend(was_accepted.map(|id| (old, name.clone(), id)));
            }
        }
        old
    }

    fn claim_names(&self, claim: &Arc<Claim>) -> impl Iterator<Item = &Name> {
        let claim = claim.clone();
        let from = self.claims.range((claim.clone(), Name::from(""))..);
        from.take_while(move |(other, _)| *other == claim).map(|(_, name)| name)
    }

    pub(super) fn accepted(&self, claim: &Arc<Claim>) -> impl Iterator<Item = (&Name, &Id)> {
        let accepted = |name| Some((name, self.objects.get(name)?.accepted.as_ref()?));
        self.claim_names(claim).filter_map(accepted)
    }

    pub(super) fn set_accepted(&mut self, claim: &Arc<Claim>, accepted: &[(Name, Id)]) -> Accepted<Id> {
        let gone = self.formerly_accepted.extract_if(.., |(left, ..)| left == claim);
        let mut old: Accepted<Id> = gone.map(|(_, name, id)| (name, id)).collect();
        let names: Names = self.claim_names(claim).cloned().collect();
        for name in names {
            if let Some(entry) = self.objects.get_mut(&name) {
                let id = accepted.iter().find(|(other, _)| *other == name).map(|(_, id)| id.clone());
                let before = std::mem::replace(&mut entry.accepted, id);
                old.extend(before.map(|id| (name, id)));
            }
        }
        old
    }

    /// The objects with this claim, the oldest first. Kubernetes has creation times in whole seconds. Within one second,
    /// objects that the API acknowledged come before those that were applied by hand, and then the order is that of
    /// `number`, which accepted objects have and others do not.
    pub(super) fn claimants(&self, claim: &Arc<Claim>, number: impl Fn(&K) -> Option<i64>) -> Names {
        let mut names: Names = self.claim_names(claim).cloned().collect();
        if names.len() > 1 {
            names.sort_by_cached_key(|name| {
                self.object(name).map(|object| {
                    let number = number(&object).unwrap_or(i64::MAX);
                    let by_hand = !object.annotations().contains_key(WRITTEN_BY);
                    (created_ms(object.meta()), by_hand, number, object.meta().uid.clone())
                })
            });
        }
        names
    }

    pub(super) fn with_uids(&self, names: Names) -> Vec<(Name, Uid)> {
        let with_uid = |name: Name| {
            let uid = self.objects.get(&name)?.uid();
            Some((name, uid))
        };
        names.into_iter().filter_map(with_uid).collect()
    }

    pub(super) fn owned(&self, owners: &[OwnerKey]) -> Vec<Name> {
        owners.iter().filter_map(|owner| self.owners.get(owner)).flatten().cloned().collect()
    }

    pub(super) fn inventory(&self) -> (Vec<(Name, Uid)>, Vec<Uid>) {
        let objects = self.objects.iter().map(|(name, entry)| (name.clone(), entry.uid()));
        (objects.collect(), self.deleted_here.iter().copied().collect())
    }
}
