//! New versions of objects and their deletions, from the watches and from the responses to writes.

use kube::ResourceExt;

use crate::model::{ServiceId, Uid};
use crate::registry::Change;

use super::super::keys::InstanceKey;
use super::super::kind::{ClaimingKind, ResourceKind, pod_signals};
use super::super::object_cache::Name;
use super::super::resources::{CloudMapHealthReport, CloudMapInstance, CloudMapNamespace, CloudMapService};
use super::super::translate::version;
use super::contents::Index;
use super::operations::has_new_operations;
use super::refused_names::rejection;

/// The source of the information that an object was deleted: a watch event with the resourceVersion of the deletion, a
/// complete list without the object, or a deletion by this replica.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::store::kubernetes) enum Removal {
    At(u64),
    Unlisted,
    Own,
}

impl Index {
    /// Adds or replaces an object, unless it is older than the known version, and decides again about all that depends
    /// on it.
    pub(in crate::store::kubernetes) fn put<K: ClaimingKind>(&mut self, object: K) {
        self.observe(version(object.meta()));
        let has_new = has_new_operations(K::cache(self), &object);
        let operations = if has_new { object.operations(self.identity()) } else { Vec::new() };
        let owner = object.owner();
        let standard = object.unused_standard_name();
        if let Some(name) = K::cache_mut(self).insert(object, owner) {
            self.add_annotated(operations);
            if let Some(standard) = standard {
                self.nonstandard_names.insert(standard, name.clone());
            }
            self.reconcile::<K>(&name);
            self.reconcile_freed();
        }
    }

    /// Removes a deleted object with this uid, and decides again about the objects that had the same claim.
    pub(in crate::store::kubernetes) fn remove<K: ClaimingKind>(
        &mut self,
        name: &str,
        uid: Uid,
        removal: Removal,
    ) {
        if let Some(object) = K::cache(self).object_with_uid(name, uid) {
            if let Some(standard) = object.unused_standard_name() {
                self.nonstandard_names.remove(&standard);
            }
            self.mark_unrecorded(object.operations(self.identity()), removal);
        }
        if let Some(claim) = K::cache_mut(self).remove(name, uid, removal == Removal::Own) {
            self.observe_removal(removal);
            self.refused_names.forget(K::KIND, name);
            K::decide(self, &claim);
            self.reconcile_freed();
        }
    }

    /// Sets the claim of an object, and decides about all objects with its previous and its present claim.
    pub(super) fn reconcile<K: ClaimingKind>(&mut self, name: &Name) {
        if !self.is_read {
            return;
        }
        let Some(object) = K::cache(self).object(name) else { return };
        let claim = object.claim(self);
        let old = K::cache_mut(self).claim(name, claim.as_ref().ok().cloned());
        if let Some(old) = old.filter(|old| claim.as_ref() != Ok(old)) {
            K::decide(self, &old);
        }
        match claim {
            Ok(claim) => K::decide(self, &claim),
            Err(error) => {
                self.refused_names.forget(K::KIND, name);
                if let Some(entry) = K::cache_mut(self).get_mut(name) {
                    entry.rejection = Some(rejection(&error).into());
                }
                self.schedule_status(K::KIND, name.clone());
            }
        }
    }

    /// Adds or replaces the object of a health report. A report whose name is not that of its instance is ignored.
    pub(in crate::store::kubernetes) fn put_report(&mut self, object: CloudMapHealthReport) {
        self.observe(version(&object.metadata));
        let key = InstanceKey::new(&ServiceId::from(&*object.spec.service_id), &object.spec.instance_id);
        if object.metadata.name.as_deref() != Some(&*CloudMapHealthReport::standard_name(&key)) {
            let name = object.name_any();
            tracing::warn!(
                object = name,
                "a health report is ignored: its name is not the one of its instance"
            );
            return;
        }
        let signals = pod_signals(&object);
        if self.reports.insert(object, None).is_some() {
            self.apply(Change::PutPodSignals(key.service, key.instance, signals.into()));
        }
    }

    pub(in crate::store::kubernetes) fn remove_report(&mut self, name: &str, uid: Uid, removal: Removal) {
        let known = self.reports.object_with_uid(name, uid);
        self.reports.remove(name, uid, removal == Removal::Own);
        if let Some(object) = known {
            self.observe_removal(removal);
            let service = ServiceId::from(&*object.spec.service_id);
            self.apply(Change::DropPodSignals(service, object.spec.instance_id.as_str().into()));
        }
    }

    fn observe_removal(&mut self, removal: Removal) {
        self.observe(if let Removal::At(version) = removal { version } else { 0 });
    }
}

/// Names for the tables of kinds in `watch` and `status`.
impl Index {
    pub(in crate::store::kubernetes) fn put_namespace(&mut self, object: CloudMapNamespace) {
        self.put(object);
    }

    pub(in crate::store::kubernetes) fn put_service(&mut self, object: CloudMapService) {
        self.put(object);
    }

    pub(in crate::store::kubernetes) fn put_instance(&mut self, object: CloudMapInstance) {
        self.put(object);
    }

    pub(in crate::store::kubernetes) fn remove_namespace(&mut self, name: &str, uid: Uid, removal: Removal) {
        self.remove::<CloudMapNamespace>(name, uid, removal);
    }

    pub(in crate::store::kubernetes) fn remove_service(&mut self, name: &str, uid: Uid, removal: Removal) {
        self.remove::<CloudMapService>(name, uid, removal);
    }

    pub(in crate::store::kubernetes) fn remove_instance(&mut self, name: &str, uid: Uid, removal: Removal) {
        self.remove::<CloudMapInstance>(name, uid, removal);
    }
}
