//! The objects of one kind that are known, which of them claim the same identity, and which of them stand.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use kube::{Resource, ResourceExt};

use super::request::{WRITTEN_BY, Winner};
use super::translate::{created_ms, version};

/// The name of an object in its Kubernetes namespace.
pub(super) type Name = Arc<str>;

/// Why an object does not stand.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Refusal {
    /// One word.
    pub(super) reason: &'static str,
    /// For people.
    pub(super) message: String,
}

/// An object and what became of it.
pub(super) struct Held<K> {
    pub(super) object: K,
    /// What it claims to be; none while its owner is not there.
    pub(super) claim: Option<String>,
    /// None when it stands.
    pub(super) refusal: Option<Refusal>,
    /// A message for the object's status although it is accepted; for people.
    pub(super) remark: Option<String>,
    /// The owners that it names.
    owners: Vec<String>,
}

/// The objects of one kind.
pub(super) struct Shelf<K, Id> {
    pub(super) objects: HashMap<Name, Held<K>>,
    claims: HashMap<String, BTreeSet<Name>>,
    owners: HashMap<String, BTreeSet<Name>>,
    /// What stands for a claim. Only a namespace's claim can have two: an HTTP and a DNS namespace of one name.
    pub(super) stands: HashMap<String, Vec<(Name, Id)>>,
    /// etcd's number up to which the watch has shown all that happened to objects of this kind; 0 while they are listed.
    pub(super) watched: u64,
    /// Names of objects whose newest version came after the last [`super::index::Index::drain`], so that the registry's plans
    /// do not know it.
    untold: HashSet<Name>,
    /// Uids of objects that this replica deleted, until the watch has said so too: what it says of them before is old.
    gone: HashSet<String>,
}

impl<K, Id> Default for Shelf<K, Id> {
    fn default() -> Shelf<K, Id> {
        Shelf {
            objects: HashMap::new(),
            claims: HashMap::new(),
            owners: HashMap::new(),
            stands: HashMap::new(),
            watched: 0,
            untold: HashSet::new(),
            gone: HashSet::new(),
        }
    }
}

impl<K: Resource, Id> Shelf<K, Id> {
    /// Takes an object in. `None` when it says nothing new; else its name.
    pub(super) fn take_in(&mut self, mut object: K, owners: Vec<String>) -> Option<Name> {
        let meta = object.meta_mut();
        // Large, and nothing that we need: a write without it leaves it as it is.
        meta.managed_fields = None;
        let name: Name = meta.name.as_deref()?.into();
        if self.gone.contains(meta.uid.as_deref()?) {
            return None;
        }
        let refusal = Refusal { reason: "Pending", message: "not looked at yet".into() };
        let mut held = Held { object, claim: None, refusal: Some(refusal), remark: None, owners };
        if let Some(old) = self.objects.remove(&name) {
            if version(old.object.meta()) >= version(held.object.meta()) {
                self.objects.insert(name, old);
                return None;
            }
            remove_all(&mut self.owners, &old.owners, &name);
            (held.claim, held.refusal, held.remark) = (old.claim, old.refusal, old.remark);
        } else if version(held.object.meta()) <= self.watched {
            // The answer to a write of this replica, later than the watch showed that another one deleted the object.
            return None;
        }
        for owner in &held.owners {
            self.owners.entry(owner.clone()).or_default().insert(name.clone());
        }
        self.objects.insert(name.clone(), held);
        self.untold.insert(name.clone());
        Some(name)
    }

    /// The object of this name, if it has this uid.
    pub(super) fn held(&self, name: &str, uid: &str) -> Option<&K> {
        let object = self.objects.get(name).map(|held| &held.object);
        object.filter(|object| object.meta().uid.as_deref() == Some(uid))
    }

    /// Marks every object as known to the registry.
    pub(super) fn tell(&mut self) {
        self.untold = HashSet::new();
    }

    /// Returns true if the registry knows the newest version of the object of this name.
    pub(super) fn is_told(&self, name: &str) -> bool {
        !self.untold.contains(name)
    }

    /// Takes away an object that is gone; its claim is returned, if it had one. One that this replica deleted the watch may
    /// still show.
    pub(super) fn take_out(&mut self, name: &str, uid: &str, is_deleted_here: bool) -> Option<String> {
        match is_deleted_here {
            true => drop(self.gone.insert(uid.into())),
            false => self.forget(uid),
        }
        let (name, held) = self.objects.remove_entry(name)?;
        if held.object.meta().uid.as_deref() != Some(uid) {
            self.objects.insert(name, held);
            return None;
        }
        remove_all(&mut self.owners, &held.owners, &name);
        if let Some(claim) = &held.claim {
            remove_all(&mut self.claims, std::slice::from_ref(claim), &name);
        }
        held.claim
    }

    /// Returns whether this shelf has taken in the winner of a race for an object, so that the next plan knows it. `uid` is
    /// that of the object which the lost plan was made of, if there was one.
    pub(super) fn knows(&self, winner: Winner, name: &str, uid: Option<&str>) -> bool {
        match winner {
            Winner::Known => true,
            // An object of a later version may be gone again by now; the watch has shown this one all the same.
            Winner::Version(version) => self.watched >= version,
            Winner::Deletion => {
                self.objects.get(name).is_none_or(|held| held.object.meta().uid.as_deref() != uid)
            }
        }
    }

    /// The watch knows that the object is gone.
    pub(super) fn forget(&mut self, uid: &str) {
        self.gone.remove(uid);
    }

    /// Sets what an object claims; what it claimed before is returned.
    pub(super) fn claim(&mut self, name: &Name, claim: Option<String>) -> Option<String> {
        let held = self.objects.get_mut(name)?;
        let old = std::mem::replace(&mut held.claim, claim.clone());
        if old != claim {
            if let Some(old) = &old {
                remove_all(&mut self.claims, std::slice::from_ref(old), name);
            }
            if let Some(claim) = claim {
                self.claims.entry(claim).or_default().insert(name.clone());
            }
        }
        old
    }

    /// The objects that claim the same, the oldest first. Kubernetes tells the second of creation: within one, what the
    /// API acknowledged stands before what somebody applied, and what was accepted before what was not, which `number` tells.
    pub(super) fn claimants(&self, claim: &str, number: impl Fn(&K) -> Option<i64>) -> Vec<Name> {
        let mut names: Vec<_> = self.claims.get(claim).into_iter().flatten().cloned().collect();
        if names.len() > 1 {
            names.sort_by_cached_key(|name| {
                let object = self.objects.get(name).map(|held| &held.object);
                object.map(|object| {
                    let number = number(object).unwrap_or(i64::MAX);
                    let by_hand = !object.annotations().contains_key(WRITTEN_BY);
                    (created_ms(object.meta()), by_hand, number, object.meta().uid.clone())
                })
            });
        }
        names
    }

    /// The objects of these names that there are, with their uids.
    pub(super) fn with_uids(&self, names: Vec<Name>) -> Vec<(Name, String)> {
        let with_uid = |name: Name| {
            let uid = self.objects.get(&name)?.object.meta().uid.clone()?;
            Some((name, uid))
        };
        names.into_iter().filter_map(with_uid).collect()
    }

    /// The objects that name one of these owners.
    pub(super) fn owned(&self, owners: &[String]) -> Vec<Name> {
        owners.iter().filter_map(|owner| self.owners.get(owner)).flatten().cloned().collect()
    }

    /// Every object by name and uid.
    pub(super) fn inventory(&self) -> (Vec<(Name, String)>, Vec<String>) {
        let uid = |held: &Held<K>| held.object.meta().uid.clone().unwrap_or_default();
        let objects = self.objects.iter().map(|(name, held)| (name.clone(), uid(held)));
        (objects.collect(), self.gone.iter().cloned().collect())
    }
}

fn remove_all(sets: &mut HashMap<String, BTreeSet<Name>>, keys: &[String], name: &Name) {
    for key in keys {
        if let Some(set) = sets.get_mut(key) {
            set.remove(name);
            if set.is_empty() {
                sets.remove(key);
            }
        }
    }
}
