//! The known objects of one kind. An object claims an identity, such as the id of an instance in its service. Of those that
//! claim the same, one stands: the registry knows the resource that it describes.
//!
//! A server holds every object of the cluster, and looks at few of them again. So they are kept as compressed JSON, which
//! takes a tenth of the memory; the one that was looked at last is kept as it is. Maps are B-trees, because a hash map that
//! has grown may be half empty.

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

use super::request::{WRITTEN_BY, Winner};
use super::translate::{created_ms, version};

/// The name of an object in its Kubernetes namespace.
pub(super) type Name = Arc<str>;

/// The names of objects of one claim, which are rarely more than one.
type Names = SmallVec<[Name; 1]>;

/// The names of accepted objects of one identity, with the ids of their resources. There are two only where an HTTP and a DNS
/// namespace have one name.
pub(super) type Accepted<Id> = SmallVec<[(Name, Id); 1]>;

/// Why an object does not stand.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Rejection {
    /// One word.
    pub(super) reason: &'static str,
    /// For people.
    pub(super) message: String,
}

/// An object and what became of it.
pub(super) struct CachedObject<K, Id> {
    packed: Packed<K>,
    /// What it claims to be; none while its owner is not there.
    pub(super) claim: Option<Arc<str>>,
    /// None when it stands.
    pub(super) rejection: Option<Box<Rejection>>,
    /// A message for the object's status although it is accepted; for people.
    pub(super) remark: Option<Box<str>>,
    /// The owner that it names.
    owner: Option<Arc<str>>,
    /// The id of its resource, if it stands.
    accepted: Option<Id>,
}

impl<K, Id> CachedObject<K, Id> {
    /// etcd's number of the object's last write.
    pub(super) fn version(&self) -> u64 {
        self.packed.version
    }

    /// The uid of the object in binary form.
    pub(super) fn uid(&self) -> Uid {
        self.packed.uid
    }

    /// The id of the object's resource, if it stands.
    pub(super) fn accepted_id(&self) -> Option<&Id> {
        self.accepted.as_ref()
    }
}

/// An object as compressed JSON.
struct Packed<K> {
    version: u64,
    uid: Uid,
    compressed: Box<[u8]>,
    object: PhantomData<fn() -> K>,
}

/// JSON of an object, which others of its kind are similar to.
#[derive(Default)]
struct Dictionary(Box<[u8]>);

impl Dictionary {
    /// Packs an object. The first one becomes the dictionary.
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

/// The objects that can be kept.
pub(super) trait Stored: Clone + DeserializeOwned + Resource<DynamicType = ()> + Serialize {}

impl<K: Clone + DeserializeOwned + Resource<DynamicType = ()> + Serialize> Stored for K {}

/// The objects of one kind.
pub(super) struct ObjectCache<K, Id> {
    objects: BTreeMap<Name, Box<CachedObject<K, Id>>>,
    dictionary: Dictionary,
    /// Claims, and the objects that make them.
    claims: BTreeSet<(Arc<str>, Name)>,
    /// Claims, objects and ids of objects that stood and are gone, or claim something else now, until the next call of
    /// [`ObjectCache::set_accepted`] for that claim.
    left: Vec<(Arc<str>, Name, Id)>,
    owners: HashMap<Arc<str>, BTreeSet<Name>>,
    /// The object that was looked at last.
    last: RefCell<Option<(Name, Arc<K>)>>,
    /// etcd's number up to which the watch has shown all that happened to objects of this kind; 0 while they are listed.
    pub(super) watched: u64,
    /// Names of objects whose newest version came after the last [`super::index::Index::drain`], so that the registry's plans
    /// do not know it.
    undrained: HashSet<Name>,
    /// Uids of objects that this replica deleted, until the watch has said so too: what it says of them before is old.
    gone: HashSet<Uid>,
}

impl<K, Id> Default for ObjectCache<K, Id> {
    fn default() -> ObjectCache<K, Id> {
        ObjectCache {
            objects: BTreeMap::new(),
            dictionary: Dictionary::default(),
            claims: BTreeSet::new(),
            left: Vec::new(),
            owners: HashMap::new(),
            last: RefCell::new(None),
            watched: 0,
            undrained: HashSet::new(),
            gone: HashSet::new(),
        }
    }
}

impl<K: Stored, Id: Clone> ObjectCache<K, Id> {
    /// Takes an object in. `None` when it says nothing new; else its name.
    pub(super) fn insert(&mut self, mut object: K, owner: Option<&str>) -> Option<Name> {
        let meta = object.meta_mut();
        // Large, and nothing that we need: a write without it leaves it as it is.
        meta.managed_fields = None;
        let name: Name = meta.name.as_deref()?.into();
        if self.gone.contains(&Uid::of(meta.uid.as_deref()?)) {
            return None;
        }
        let there = self.objects.get(&name);
        let is_old = match there {
            Some(there) => there.version() >= version(meta),
            // The answer to a write of this replica, later than the watch showed that another one deleted the object.
            None => version(meta) <= self.watched,
        };
        if is_old {
            return None;
        }
        let name = self.objects.get_key_value(&name).map_or(name, |(name, _)| name.clone());
        let packed = self.dictionary.pack(&object)?;
        if let Some(there) = there.filter(|there| there.owner.as_deref() != owner)
            && let Some(old) = there.owner.clone()
        {
            self.leave_owner(&old, &name);
        }
        let owner = owner.map(|owner| self.add_to_owner(owner, &name));
        match self.objects.get_mut(&name) {
            Some(entry) => (entry.packed, entry.owner) = (packed, owner),
            None => {
                let rejection = Rejection { reason: "Pending", message: "not looked at yet".into() };
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

    fn add_to_owner(&mut self, owner: &str, name: &Name) -> Arc<str> {
        let key = self.owners.get_key_value(owner).map_or_else(|| owner.into(), |(key, _)| key.clone());
        self.owners.entry(key.clone()).or_default().insert(name.clone());
        key
    }

    fn leave_owner(&mut self, owner: &str, name: &Name) {
        if let Some(owned) = self.owners.get_mut(owner) {
            owned.remove(name);
            if owned.is_empty() {
                self.owners.remove(owner);
            }
        }
    }

    /// The entry of the object of this name.
    pub(super) fn get(&self, name: &str) -> Option<&CachedObject<K, Id>> {
        self.objects.get(name).map(|entry| &**entry)
    }

    /// The entry of the object of this name, to be changed.
    pub(super) fn get_mut(&mut self, name: &str) -> Option<&mut CachedObject<K, Id>> {
        self.objects.get_mut(name).map(|entry| &mut **entry)
    }

    /// The object of this name.
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

    /// The object of this name, if it has this uid.
    pub(super) fn object_with_uid(&self, name: &str, uid: Uid) -> Option<Arc<K>> {
        self.objects.get(name).filter(|entry| entry.uid() == uid)?;
        self.object(name)
    }

    /// The names of all objects.
    pub(super) fn names(&self) -> Vec<Name> {
        self.objects.keys().cloned().collect()
    }

    /// Returns true if there are no objects.
    pub(super) fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }

    /// Marks every object as known to the registry.
    pub(super) fn mark_drained(&mut self) {
        self.undrained = HashSet::new();
    }

    /// Returns true if the registry knows the newest version of the object of this name.
    pub(super) fn is_drained(&self, name: &str) -> bool {
        !self.undrained.contains(name)
    }

    /// Takes away an object that is gone; its claim is returned, if it had one. One that this replica deleted the watch may
    /// still show.
    pub(super) fn remove(&mut self, name: &str, uid: Uid, is_deleted_here: bool) -> Option<Arc<str>> {
        if is_deleted_here {
            self.gone.insert(uid);
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
            self.left.extend(entry.accepted.map(|id| (claim.clone(), name, id)));
        }
        entry.claim
    }

    /// Returns whether this shelf has taken in the winner of a race for an object, so that the next plan knows it. `uid` is
    /// that of the object which the lost plan was made of, if there was one.
    pub(super) fn knows(&self, winner: Winner, name: &str, uid: Option<Uid>) -> bool {
        match winner {
            Winner::Known => true,
            // An object of a later version may be gone again by now; the watch has shown this one all the same.
            Winner::Version(version) => self.watched >= version,
            Winner::Deletion => self.objects.get(name).is_none_or(|entry| Some(entry.uid()) != uid),
        }
    }

    /// The watch knows that the object is gone.
    pub(super) fn forget(&mut self, uid: Uid) {
        self.gone.remove(&uid);
    }

    /// Sets what an object claims; what it claimed before is returned.
    pub(super) fn claim(&mut self, name: &Name, claim: Option<&str>) -> Option<Arc<str>> {
        let entry = self.objects.get_mut(name)?;
        let old = entry.claim.clone();
        if old.as_deref() != claim {
            entry.claim = claim.map(Arc::from);
            let was_accepted = entry.accepted.take();
            self.claims.extend(entry.claim.clone().map(|claim| (claim, name.clone())));
            if let Some(old) = old.clone() {
                self.claims.remove(&(old.clone(), name.clone()));
                self.left.extend(was_accepted.map(|id| (old, name.clone(), id)));
            }
        }
        old
    }

    fn claim_names(&self, claim: &str) -> impl Iterator<Item = &Name> {
        let claim: Arc<str> = claim.into();
        let from = self.claims.range((claim.clone(), Name::from(""))..);
        from.take_while(move |(other, _)| *other == claim).map(|(_, name)| name)
    }

    /// The names of the accepted objects with this claim, with the ids of their resources.
    pub(super) fn accepted(&self, claim: &str) -> impl Iterator<Item = (&Name, &Id)> {
        let accepted = |name| Some((name, self.objects.get(name)?.accepted.as_ref()?));
        self.claim_names(claim).filter_map(accepted)
    }

    /// Sets which of the objects with this claim stand. Returns those that stood before.
    pub(super) fn set_accepted(&mut self, claim: &str, accepted: &[(Name, Id)]) -> Accepted<Id> {
        let gone = self.left.extract_if(.., |(left, ..)| **left == *claim);
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

    /// The objects that claim the same, the oldest first. Kubernetes tells the second of creation: within one, what the
    /// API acknowledged stands before what somebody applied, and what was accepted before what was not, which `number` tells.
    pub(super) fn claimants(&self, claim: &str, number: impl Fn(&K) -> Option<i64>) -> Names {
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

    /// The objects of these names that there are, with their uids.
    pub(super) fn with_uids(&self, names: Names) -> Vec<(Name, Uid)> {
        let with_uid = |name: Name| {
            let uid = self.objects.get(&name)?.uid();
            Some((name, uid))
        };
        names.into_iter().filter_map(with_uid).collect()
    }

    /// The objects that name one of these owners.
    pub(super) fn owned(&self, owners: &[String]) -> Vec<Name> {
        owners.iter().filter_map(|owner| self.owners.get(&**owner)).flatten().cloned().collect()
    }

    /// Every object by name and uid, and the uids of those that this replica deleted.
    pub(super) fn inventory(&self) -> (Vec<(Name, Uid)>, Vec<Uid>) {
        let objects = self.objects.iter().map(|(name, entry)| (name.clone(), entry.uid()));
        (objects.collect(), self.gone.iter().copied().collect())
    }
}
