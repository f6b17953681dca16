//! Access to the objects of each kind in the index.

use std::sync::Arc;

use kube::ResourceExt;

use crate::model::{NamespaceId, ServiceId, Uid};

use super::super::keys::InstanceKey;
use super::super::kind::ResourceKind;
use super::super::object_cache::{Name, ObjectCache};
use super::super::resources::{CloudMapHealthReport, CloudMapInstance, CloudMapNamespace, CloudMapService};
use super::super::shared::StoreKind;
use super::super::translate::uid_of;
use super::contents::Index;
use super::events::Removal;

/// A kind of custom resource whose objects the index has.
///
/// `Id` is the identity in the model of the resource that an object describes, and `Accepted` the part of it that
/// the cache has of an accepted object; instances have none, because the memory counts for a million objects.
/// `find` returns the accepted object that describes a resource, and `claimants` the names and uids of all objects
/// that claim to be it.
pub(in crate::store::kubernetes) trait IndexedKind: StoreKind {
    type Id;
    type Accepted: Clone;

    fn cache(index: &Index) -> &ObjectCache<Self, Self::Accepted>;

    fn cache_mut(index: &mut Index) -> &mut ObjectCache<Self, Self::Accepted>;

    fn find(index: &Index, id: &Self::Id) -> Option<Arc<Self>>;

    fn claimants(index: &Index, id: &Self::Id) -> Vec<(Name, Uid)>;

    fn put(index: &mut Index, object: Self);

    fn remove(index: &mut Index, name: &str, uid: Uid, removal: Removal);
}

macro_rules! claiming_kinds {
    ($($object:ident $cache:ident $id:ty, $accepted:ty;)*) => {$(
        impl IndexedKind for $object {
            type Id = $id;
            type Accepted = $accepted;

            fn cache(index: &Index) -> &ObjectCache<$object, $accepted> {
                &index.$cache
            }

            fn cache_mut(index: &mut Index) -> &mut ObjectCache<$object, $accepted> {
                &mut index.$cache
            }

            fn find(index: &Index, id: &$id) -> Option<Arc<$object>> {
                index.accepted_object(id)
            }

            fn claimants(index: &Index, id: &$id) -> Vec<(Name, Uid)> {
                index.all_claimants::<$object>(id)
            }

            fn put(index: &mut Index, object: $object) {
                index.put(object);
            }

            fn remove(index: &mut Index, name: &str, uid: Uid, removal: Removal) {
                index.remove::<$object>(name, uid, removal);
            }
        }
    )*};
}

claiming_kinds! {
    CloudMapNamespace namespaces NamespaceId, NamespaceId;
    CloudMapService services ServiceId, ServiceId;
    CloudMapInstance instances InstanceKey, ();
}

impl IndexedKind for CloudMapHealthReport {
    type Id = InstanceKey;
    type Accepted = ();

    fn cache(index: &Index) -> &ObjectCache<CloudMapHealthReport, ()> {
        &index.reports
    }

    fn cache_mut(index: &mut Index) -> &mut ObjectCache<CloudMapHealthReport, ()> {
        &mut index.reports
    }

    fn find(index: &Index, key: &InstanceKey) -> Option<Arc<CloudMapHealthReport>> {
        index.reports.object(&CloudMapHealthReport::standard_name(key))
    }

    /// One object at most, because the index ignores reports of other names.
    fn claimants(index: &Index, key: &InstanceKey) -> Vec<(Name, Uid)> {
        let object = Self::find(index, key);
        object.map(|object| (object.name_any().into(), uid_of(&*object))).into_iter().collect()
    }

    fn put(index: &mut Index, object: CloudMapHealthReport) {
        index.put_report(object);
    }

    fn remove(index: &mut Index, name: &str, uid: Uid, removal: Removal) {
        index.remove_report(name, uid, removal);
    }
}
