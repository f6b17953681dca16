//! The objects of the cluster, the state of the registry that results from them, and the changes that are not drained yet.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use crate::model::{Identity, NamespaceId, ServiceId, Uid};
use crate::registry::{Admission, Change, HealthSettings, Renumber, Settings, State};

use super::super::kind::{ClaimingKind, Kind, OwnerKind};
use super::super::object_cache::{Name, ObjectCache};
use super::super::resources::{CloudMapHealthReport, CloudMapInstance, CloudMapNamespace, CloudMapService};
use super::super::translate;
use super::super::zone_files::ZoneFileNumbers;
use super::due_statuses::DueStatuses;
use super::numbers::Numbers;
use super::operations::Operations;
use super::refused_names::RefusedNames;

/// All objects with the decisions about them, and the changes that the registry has not read yet.
///
/// `nonstandard_names` has the names of instances' objects that do not have the name which this version would give
/// them, by that name. Nothing is decided before all kinds were listed, which `is_read` shows. `to_renumber` has
/// the resources whose numbers may differ from those of other servers. `zone_files` has the numbers of zone files,
/// and the version of the CloudMapStore object with them.
pub(in crate::store::kubernetes) struct Index {
    identity: Identity,
    pub(super) admission: Admission,
    pub(super) state: State,
    pub(in crate::store::kubernetes) namespaces: ObjectCache<CloudMapNamespace, NamespaceId>,
    pub(in crate::store::kubernetes) services: ObjectCache<CloudMapService, ServiceId>,
    pub(in crate::store::kubernetes) instances: ObjectCache<CloudMapInstance, ()>,
    pub(in crate::store::kubernetes) reports: ObjectCache<CloudMapHealthReport, ()>,
    pub(super) operations: Operations,
    pub(super) nonstandard_names: HashMap<String, Name>,
    pub(super) revisions: HashMap<ServiceId, u64>,
    pub(super) is_read: bool,
    pub(super) numbers: Numbers,
    pub(super) to_renumber: Renumber,
    zone_files: (u64, Arc<ZoneFileNumbers>),
    pub(super) changes: Vec<Change>,
    due_statuses: DueStatuses,
    pub(super) refused_names: RefusedNames,
}

impl Index {
    pub(in crate::store::kubernetes) fn new(settings: Settings) -> Index {
        let operations = Operations::new(settings.operations_retained);
        Index {
            identity: settings.identity.clone(),
            admission: Admission::new(settings),
            state: State::default(),
            namespaces: ObjectCache::default(),
            services: ObjectCache::default(),
            instances: ObjectCache::default(),
            reports: ObjectCache::default(),
            operations,
            nonstandard_names: HashMap::new(),
            revisions: HashMap::new(),
            is_read: false,
            numbers: Numbers::default(),
            to_renumber: Renumber::default(),
            zone_files: (0, Arc::default()),
            changes: Vec::new(),
            due_statuses: DueStatuses::default(),
            refused_names: RefusedNames::default(),
        }
    }

    pub(in crate::store::kubernetes) fn state(&self) -> &State {
        &self.state
    }

    pub(in crate::store::kubernetes) fn identity(&self) -> &Identity {
        &self.identity
    }

    pub(in crate::store::kubernetes) fn sequence(&self) -> u64 {
        self.numbers.sequence
    }

    pub(in crate::store::kubernetes) fn offset(&self) -> u64 {
        self.numbers.offset
    }

    pub(in crate::store::kubernetes) fn set_offset(&mut self, offset: u64) {
        self.numbers.set_offset(offset);
    }

    pub(in crate::store::kubernetes) fn is_read(&self) -> bool {
        self.is_read
    }

    /// Decides about all objects, because all kinds are listed now.
    pub(in crate::store::kubernetes) fn read(&mut self) {
        if std::mem::replace(&mut self.is_read, true) {
            return;
        }
        // The renumbering that follows the lists has a higher number than everything in them.
        self.observe(0);
        self.namespaces.names().iter().for_each(|name| self.reconcile::<CloudMapNamespace>(name));
        self.reconcile_undecided::<CloudMapService>();
        self.reconcile_undecided::<CloudMapInstance>();
        self.reconcile_freed();
        self.publish_operations();
    }

    /// Decides about the objects of a kind that were not decided together with their owners.
    fn reconcile_undecided<K: ClaimingKind>(&mut self) {
        for name in &K::cache(self).names() {
            if !K::cache(self).is_accepted(name) {
                self.reconcile::<K>(name);
            }
        }
    }

    pub(in crate::store::kubernetes) fn drain(&mut self) -> Vec<Change> {
        self.namespaces.mark_drained();
        self.services.mark_drained();
        self.instances.mark_drained();
        self.reports.mark_drained();
        self.numbers.drain(&mut self.changes);
        std::mem::take(&mut self.changes)
    }

    pub(in crate::store::kubernetes) fn has_undrained(&self, is_it: impl Fn(&Change) -> bool) -> bool {
        self.changes.iter().any(is_it)
    }

    /// Returns true if [`Index::drain`] would return changes other than the sequence number alone.
    pub(in crate::store::kubernetes) fn has_changes(&self) -> bool {
        !self.changes.is_empty() || self.numbers.has_changes()
    }

    /// Applies a renumbering that was written with this resourceVersion; see `registry/numbering.rs`.
    pub(in crate::store::kubernetes) fn renumbered(&mut self, version: u64, what: &Renumber) {
        let number = version + self.offset();
        self.numbers.raise_sequence(number);
        if what.all {
            self.numbers.raise_floor(number);
            return;
        }
        for service in &what.services {
            match self.state.service(service.as_str()) {
                Ok(_) => self.raise_revision(service, number),
                // A shadowed service, which only the registry knows.
                Err(_) => self.changes.push(Change::PutRevision(service.clone(), number)),
            }
        }
        for namespace in &what.namespaces {
            self.numbers.raise_serial(namespace.clone(), number);
        }
    }

    /// Raises all numbers to the highest one that is known here, because no renumbering can be written now.
    pub(in crate::store::kubernetes) fn renumber_unwritten(&mut self) {
        self.numbers.raise_floor(self.numbers.sequence);
    }

    pub(in crate::store::kubernetes) fn take_renumbering(&mut self) -> Renumber {
        std::mem::take(&mut self.to_renumber)
    }

    /// Sets the numbers of zone files, unless a newer version of the CloudMapStore object was applied already.
    pub(in crate::store::kubernetes) fn put_zone_files(&mut self, version: u64, numbers: ZoneFileNumbers) {
        if version > self.zone_files.0 {
            self.zone_files.0 = version;
            if *self.zone_files.1 != numbers {
                self.zone_files.1 = Arc::new(numbers);
            }
        }
    }

    pub(in crate::store::kubernetes) fn zone_files(&self) -> &Arc<ZoneFileNumbers> {
        &self.zone_files.1
    }

    pub(in crate::store::kubernetes) fn revision(&self, service: &ServiceId) -> u64 {
        self.revisions.get(service).copied().unwrap_or(0)
    }

    pub(in crate::store::kubernetes) fn accepted_object<K: ClaimingKind>(
        &self,
        id: &K::Id,
    ) -> Option<Arc<K>> {
        K::cache(self).object(self.accepted_name::<K>(id)?)
    }

    pub(in crate::store::kubernetes) fn accepted_name<K: ClaimingKind>(&self, id: &K::Id) -> Option<&Name> {
        let claim = K::claim_of(self, id)?;
        let mut accepted = K::cache(self).accepted(&claim).map(|(name, _)| name);
        accepted.find(|name| K::describes(self, name, id))
    }

    pub(in crate::store::kubernetes) fn all_claimants<K: ClaimingKind>(
        &self,
        id: &K::Id,
    ) -> Vec<(Name, Uid)> {
        let Some(claim) = K::claim_of(self, id) else { return Vec::new() };
        let names = K::cache(self).claimants(&claim, |_| None).into_iter();
        let of_resource = names.filter(|name| K::describes(self, name, id));
        K::cache(self).with_uids(of_resource.collect())
    }

    /// The name of the object of an instance if it differs from `standard`, the name that this version would give it.
    pub(in crate::store::kubernetes) fn nonstandard_instance_name(&self, standard: &str) -> Option<&Name> {
        self.nonstandard_names.get(standard)
    }

    pub(in crate::store::kubernetes) fn namespace_id(&self, object: &CloudMapNamespace) -> NamespaceId {
        translate::namespace_id(object, &self.identity)
    }

    pub(in crate::store::kubernetes) fn namespace_number(&self, object: &CloudMapNamespace) -> u64 {
        object.creation_number(self.offset())
    }

    pub(in crate::store::kubernetes) fn service_number(&self, object: &CloudMapService) -> u64 {
        object.creation_number(self.offset())
    }

    /// Takes at most `most` objects whose statuses are due, and at most `counts_most` of those in which only counts may
    /// differ. The last value is true for the latter.
    pub(in crate::store::kubernetes) fn due(
        &mut self,
        now: Instant,
        most: usize,
        counts_most: usize,
    ) -> Vec<(Kind, Name, bool)> {
        self.due_statuses.take(now, most, counts_most)
    }

    pub(in crate::store::kubernetes) fn schedule_status(&mut self, kind: Kind, name: Name) {
        self.due_statuses.schedule(kind, name, false);
    }

    pub(in crate::store::kubernetes) fn schedule_counts(&mut self, name: Name) {
        self.due_statuses.schedule(Kind::Service, name, true);
    }

    pub(super) fn schedule_service_counts(&mut self, service: &ServiceId) {
        if let Some(name) = self.accepted_name::<CloudMapService>(service).cloned() {
            self.schedule_counts(name);
        }
    }

    /// Schedules a write of the status of a service if it shows other counts than `text`, which are the registry's.
    /// The policies of health, with which statuses count instances.
    pub(in crate::store::kubernetes) fn policies(&self) -> &HealthSettings {
        &self.admission.settings().health
    }

    pub(in crate::store::kubernetes) fn compare_counts(&mut self, id: &ServiceId, text: &str) {
        let Some(name) = self.accepted_name::<CloudMapService>(id).cloned() else { return };
        let object = self.services.object(&name);
        let shown = object.as_ref().and_then(|object| object.status.as_ref()?.health.as_deref());
        if shown != Some(text) {
            self.schedule_counts(name);
        }
    }

    /// Records that etcd's numbers have reached `version`, which becomes the number of the write that is being applied; 0
    /// if it has none.
    pub(in crate::store::kubernetes) fn observe(&mut self, version: u64) {
        self.numbers.observe(version);
    }

    pub(super) fn apply(&mut self, change: Change) {
        if self.numbers.of_write > 0
            && let Some(namespace) = self.zone_of(&change)
        {
            self.numbers.raise_serial(namespace, self.numbers.of_write);
        }
        self.record_freed(&change);
        self.state.apply(&change);
        self.changes.push(change);
    }

    fn zone_of(&self, change: &Change) -> Option<NamespaceId> {
        match change {
            Change::PutNamespace(namespace) => Some(namespace.id.clone()),
            Change::PutService(service) => Some(service.namespace_id.clone()),
            Change::DeleteService(service)
            | Change::PutInstance(service, _)
            | Change::DeleteInstance(service, _)
            | Change::PutPodSignals(service, ..)
            | Change::DropPodSignals(service, _) => {
                Some(self.state.service(service.as_str()).ok()?.service.namespace_id.clone())
            }
            _ => None,
        }
    }

    /// Raises the revision of a service to this number, because its set of instances changed.
    pub(super) fn raise_revision(&mut self, service: &ServiceId, number: u64) {
        let is_accepted = self.state.service(service.as_str()).is_ok();
        if !is_accepted && self.is_read {
            return;
        }
        let revision = self.revisions.entry(service.clone()).or_insert(0);
        if *revision < number {
            *revision = number;
            self.numbers.raise_sequence(number);
            if is_accepted {
                self.apply(Change::PutRevision(service.clone(), number));
                self.schedule_service_counts(service);
            }
        }
    }
}
