//! The index of all custom resources: it receives events of the watches and responses to writes, and produces changes for
//! the registry.
//!
//! It is a plain struct that needs no cluster. It holds every object, decides by the API's rules which ones are accepted,
//! and collects the resulting changes; whoever holds the lock drains them in order. The result depends on the objects and
//! not on the order of their arrival, so that replicas with equal objects agree. Of two objects that claim one DNS name
//! (`registry::names`), the older one is accepted, and the other as soon as the name is free.
//!
//! Numbers are etcd's: `metadata.resourceVersion` counts the writes to the whole cluster, so the number of a write is
//! above all numbers before it and unique.

mod decide;
#[cfg(test)]
mod numbers_model;
mod operations;
mod refused_names;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use kube::ResourceExt;

use crate::model::{Identity, NamespaceId, NamespaceKind, ServiceId, Uid};
use crate::registry::{Admission, Change, Numbering, Renumber, Settings, State, state::zone_key};

use super::keys::{Claim, OwnerKey};
use super::names;
use super::object_cache::{Name, ObjectCache};
use super::resources::{CloudMapHealthReport, CloudMapInstance, CloudMapNamespace, CloudMapService};
use super::translate::{self, creation_number, version};
use super::zone_files::ZoneFileNumbers;
use operations::{Operations, has_new_operations};
pub(super) use operations::{spec_ids_of_instance, spec_ids_of_service};
use refused_names::RefusedNames;

/// Minimum delay of a write of a status, in milliseconds, so that one write covers many changes.
const STATUS_DELAY_MS_MIN: u64 = 500;
/// Range of the random part of the delay, in milliseconds: one of several replicas writes first, and the others find the
/// status up to date.
const STATUS_DELAY_MS_RANGE: u64 = 2_000;
/// Minimum delay of the status of a service if only its instances changed, in milliseconds. Nothing depends on the counts
/// in it, and each write of them costs the API server as much as a registration.
const COUNTS_DELAY_MS_MIN: u64 = 5_000;

/// The kinds with a status to write. Of operations, empty records are scheduled for deletion in the same queue.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(super) enum Kind {
    Namespace,
    Service,
    Instance,
    Operation,
}

/// The source of the information that an object was deleted: a watch event with the resourceVersion of the deletion, a
/// complete list without the object, or a deletion by this replica.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Removal {
    At(u64),
    Unlisted,
    Own,
}

/// Time at which an object's status is compared with what it should be.
struct Due {
    at: Instant,
    counts_only: bool,
}

/// The objects of the cluster, the state of the registry that results from them, and the changes that are not drained
/// yet.
pub(super) struct Index {
    identity: Identity,
    admission: Admission,
    /// The configured offset that is added to every resourceVersion.
    offset: u64,
    state: State,
    pub(super) namespaces: ObjectCache<CloudMapNamespace, NamespaceId>,
    pub(super) services: ObjectCache<CloudMapService, ServiceId>,
    pub(super) instances: ObjectCache<CloudMapInstance, ()>,
    pub(super) reports: ObjectCache<CloudMapHealthReport, ()>,
    operations: Operations,
    /// Names of instances' objects that do not have the name which this version would give them, by that name.
    nonstandard_names: HashMap<String, Name>,
    revisions: HashMap<ServiceId, u64>,
    /// True once all kinds were listed; before that nothing is decided.
    is_read: bool,
    sequence: u64,
    /// The number of the last renumbering of everything, offset included.
    floor: u64,
    /// The offset and floor that the registry got with the last drain.
    drained_numbering: Option<Numbering>,
    serials: BTreeMap<NamespaceId, u64>,
    /// The number of the write that is being applied; 0 if the servers cannot all know it.
    write_number: u64,
    /// Resources whose numbers may differ from those of other servers.
    to_renumber: Renumber,
    /// The numbers of zone files, and the version of the CloudMapStore object that has them.
    zone_files: (u64, Arc<ZoneFileNumbers>),
    drained_sequence: u64,
    changes: Vec<Change>,
    due: HashMap<(Kind, Name), Due>,
    refused_names: RefusedNames,
}

impl Index {
    pub(super) fn new(settings: Settings) -> Index {
        let operations = Operations::new(settings.operations_retained);
        Index {
            identity: settings.identity.clone(),
            admission: Admission::new(settings),
            offset: 0,
            state: State::default(),
            namespaces: ObjectCache::default(),
            services: ObjectCache::default(),
            instances: ObjectCache::default(),
            reports: ObjectCache::default(),
            operations,
            nonstandard_names: HashMap::new(),
            revisions: HashMap::new(),
            is_read: false,
            sequence: 0,
            floor: 0,
            drained_numbering: None,
            serials: BTreeMap::new(),
            write_number: 0,
            to_renumber: Renumber::default(),
            zone_files: (0, Arc::default()),
            drained_sequence: 0,
            changes: Vec::new(),
            due: HashMap::new(),
            refused_names: RefusedNames::default(),
        }
    }

    pub(super) fn state(&self) -> &State {
        &self.state
    }

    pub(super) fn sequence(&self) -> u64 {
        self.sequence
    }

    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    pub(super) fn set_offset(&mut self, offset: u64) {
        self.offset = self.offset.max(offset);
    }

    pub(super) fn is_read(&self) -> bool {
        self.is_read
    }

    /// Decides about all objects, because all kinds are listed now.
    pub(super) fn read(&mut self) {
        if std::mem::replace(&mut self.is_read, true) {
            return;
        }
        // The renumbering that follows the lists has a higher number than everything in them.
        self.write_number = 0;
        self.namespaces.names().iter().for_each(|name| self.reconcile_namespace(name));
        // Objects whose owner is accepted were decided together with it.
        for name in &self.services.names() {
            if !self.services.is_accepted(name) {
                self.reconcile_service(name);
            }
        }
        for name in &self.instances.names() {
            if !self.instances.is_accepted(name) {
                self.reconcile_instance(name);
            }
        }
        self.reconcile_freed();
        self.publish_operations();
    }

    pub(super) fn drain(&mut self) -> Vec<Change> {
        self.namespaces.mark_drained();
        self.services.mark_drained();
        self.instances.mark_drained();
        self.reports.mark_drained();
        if self.sequence > self.drained_sequence {
            self.drained_sequence = self.sequence;
            self.changes.push(Change::PutSequence(self.sequence));
        }
        let serials = std::mem::take(&mut self.serials).into_iter();
        self.changes.extend(serials.map(|(namespace, number)| Change::PutSerial(namespace, number)));
        if self.drained_numbering != Some(self.numbering()) {
            self.drained_numbering = Some(self.numbering());
            // First, because new resources start with these numbers.
            self.changes.insert(0, Change::PutNumbering(self.numbering()));
        }
        std::mem::take(&mut self.changes)
    }

    /// Applies a renumbering that was written with this resourceVersion; see `registry/numbering.rs`.
    pub(super) fn renumbered(&mut self, version: u64, what: &Renumber) {
        let number = version + self.offset;
        self.sequence = self.sequence.max(number);
        if what.all {
            self.floor = self.floor.max(number);
            return;
        }
        for service in &what.services {
            match self.state.service(service.as_str()) {
                Ok(_) => self.bump(service, number),
                // A shadowed service, which only the registry knows.
                Err(_) => self.changes.push(Change::PutRevision(service.clone(), number)),
            }
        }
        for namespace in &what.namespaces {
            self.count_zone(namespace.clone(), number);
        }
    }

    /// Sets the numbers of zone files, unless a newer version of the CloudMapStore object was applied already.
    pub(super) fn put_zone_files(&mut self, version: u64, numbers: ZoneFileNumbers) {
        if version > self.zone_files.0 {
            self.zone_files.0 = version;
            if *self.zone_files.1 != numbers {
                self.zone_files.1 = Arc::new(numbers);
            }
        }
    }

    pub(super) fn zone_files(&self) -> &Arc<ZoneFileNumbers> {
        &self.zone_files.1
    }

    /// Raises all numbers to the highest one that is known here, because no renumbering can be written now.
    pub(super) fn renumber_alone(&mut self) {
        self.floor = self.floor.max(self.sequence);
    }

    pub(super) fn take_renumbering(&mut self) -> Renumber {
        std::mem::take(&mut self.to_renumber)
    }

    pub(super) fn has_undrained(&self, is_it: impl Fn(&Change) -> bool) -> bool {
        self.changes.iter().any(is_it)
    }

    /// Returns true if [`Index::drain`] would return changes other than the sequence number alone.
    pub(super) fn has_changes(&self) -> bool {
        !self.changes.is_empty()
            || !self.serials.is_empty()
            || self.drained_numbering != Some(self.numbering())
    }

    fn numbering(&self) -> Numbering {
        Numbering { offset: self.offset, floor: self.floor }
    }

    /// Adds or replaces the object of a namespace, unless it is older than the known version, and decides again about all
    /// that depends on it.
    pub(super) fn put_namespace(&mut self, object: CloudMapNamespace) {
        self.observe(version(&object.metadata));
        let operations = has_new_operations(&self.namespaces, &object).then(|| self.of_namespace(&object));
        if let Some(name) = self.namespaces.insert(object, None) {
            self.add_annotated(operations.unwrap_or_default());
            self.reconcile_namespace(&name);
            self.reconcile_freed();
        }
    }

    pub(super) fn put_service(&mut self, object: CloudMapService) {
        self.observe(version(&object.metadata));
        let owner = match (&object.spec.namespace_id, &object.spec.namespace_name) {
            (Some(id), _) => OwnerKey::id(id),
            (None, name) => OwnerKey::namespace(name.as_deref().unwrap_or_default()),
        };
        let operations = has_new_operations(&self.services, &object).then(|| Index::of_service(&object));
        if let Some(name) = self.services.insert(object, Some(owner)) {
            self.add_annotated(operations.unwrap_or_default());
            self.reconcile_service(&name);
            self.reconcile_freed();
        }
    }

    pub(super) fn put_instance(&mut self, object: CloudMapInstance) {
        self.observe(version(&object.metadata));
        let spec = &object.spec;
        let owner = match (&spec.service_id, &spec.service_name, &spec.namespace_name) {
            (Some(id), ..) => OwnerKey::id(id),
            (None, service, namespace) => OwnerKey::service(
                service.as_deref().unwrap_or_default(),
                namespace.as_deref().unwrap_or_default(),
            ),
        };
        let operations = has_new_operations(&self.instances, &object).then(|| Index::of_instance(&object));
        let standard = nonstandard_name(&object);
        if let Some(name) = self.instances.insert(object, Some(owner)) {
            self.add_annotated(operations.unwrap_or_default());
            if let Some(standard) = standard {
                self.nonstandard_names.insert(standard, name.clone());
            }
            self.reconcile_instance(&name);
            self.reconcile_freed();
        }
    }

    /// Adds or replaces the object of a health report. A report whose name is not that of its instance is ignored.
    pub(super) fn put_report(&mut self, object: CloudMapHealthReport) {
        self.observe(version(&object.metadata));
        let (service, instance) =
            (ServiceId::from(&*object.spec.service_id), object.spec.instance_id.clone());
        if object.metadata.name.as_deref() != Some(&*names::of_report(&service, &instance)) {
            let name = object.name_any();
            tracing::warn!(
                object = name,
                "a health report is ignored: its name is not the one of its instance"
            );
            return;
        }
        let report = translate::report(&object);
        if self.reports.insert(object, None).is_some() {
            self.apply(Change::PutReport(service, instance.into(), report.into()));
        }
    }

    pub(super) fn remove_report(&mut self, name: &str, uid: Uid, removal: Removal) {
        let known = self.reports.object_with_uid(name, uid);
        self.reports.remove(name, uid, removal == Removal::Own);
        if let Some(object) = known {
            self.removed(removal);
            let service = ServiceId::from(&*object.spec.service_id);
            self.apply(Change::DropReport(service, object.spec.instance_id.as_str().into()));
        }
    }

    pub(super) fn report_object(
        &self,
        service: &ServiceId,
        instance: &str,
    ) -> Option<Arc<CloudMapHealthReport>> {
        self.reports.object(&names::of_report(service, instance))
    }

    /// Removes a deleted object with this uid, and decides again about the objects that had the same claim.
    pub(super) fn remove_namespace(&mut self, name: &str, uid: Uid, removal: Removal) {
        let operations = self.namespaces.object_with_uid(name, uid).map(|object| self.of_namespace(&object));
        self.mark_unrecorded(operations.unwrap_or_default(), removal);
        if let Some(claim) = self.namespaces.remove(name, uid, removal == Removal::Own) {
            self.removed(removal);
            self.decide_namespaces(&claim);
            self.reconcile_freed();
        }
    }

    pub(super) fn remove_service(&mut self, name: &str, uid: Uid, removal: Removal) {
        let operations = self.services.object_with_uid(name, uid).map(|object| Index::of_service(&object));
        self.mark_unrecorded(operations.unwrap_or_default(), removal);
        if let Some(claim) = self.services.remove(name, uid, removal == Removal::Own) {
            self.removed(removal);
            self.refused_names.forget(Kind::Service, name);
            self.decide_service(&claim);
            self.reconcile_freed();
        }
    }

    pub(super) fn remove_instance(&mut self, name: &str, uid: Uid, removal: Removal) {
        if let Some(object) = self.instances.object_with_uid(name, uid) {
            if let Some(standard) = nonstandard_name(&object) {
                self.nonstandard_names.remove(&standard);
            }
            self.mark_unrecorded(Index::of_instance(&object), removal);
        }
        if let Some(claim) = self.instances.remove(name, uid, removal == Removal::Own) {
            self.removed(removal);
            self.refused_names.forget(Kind::Instance, name);
            self.decide_instance(&claim);
            self.reconcile_freed();
        }
    }

    pub(super) fn revision(&self, service: &ServiceId) -> u64 {
        self.revisions.get(service).copied().unwrap_or(0)
    }

    /// The accepted object of a namespace, if there is one; likewise for services and instances below.
    pub(super) fn namespace_object(&self, id: &NamespaceId) -> Option<Arc<CloudMapNamespace>> {
        let namespace = &self.state.namespace(id.as_str()).ok()?.namespace;
        let claim = Claim::namespace(&namespace.name);
        let (name, _) = self.namespaces.accepted(&claim).find(|(_, other)| *other == id)?;
        self.namespaces.object(name)
    }

    pub(super) fn service_object(&self, id: &ServiceId) -> Option<Arc<CloudMapService>> {
        self.services.object(self.service_object_name(id)?)
    }

    fn service_object_name(&self, id: &ServiceId) -> Option<&Name> {
        let claim = self.service_claim_of(&self.state.service(id.as_str()).ok()?.service);
        self.services.accepted(&claim).next().map(|(name, _)| name)
    }

    pub(super) fn instance_object(&self, service: &ServiceId, id: &str) -> Option<Arc<CloudMapInstance>> {
        let (name, _) = self.instances.accepted(&Claim::instance(service, id)).next()?;
        self.instances.object(name)
    }

    /// The name of the object of an instance if it differs from `standard`, the name that this version would give it.
    pub(super) fn nonstandard_instance_name(&self, standard: &str) -> Option<&Name> {
        self.nonstandard_names.get(standard)
    }

    /// All objects that claim to be this namespace, by name and uid; likewise for services and instances below.
    pub(super) fn namespace_claimants(&self, id: &NamespaceId) -> Vec<(Name, Uid)> {
        let Ok(namespace) = self.state.namespace(id.as_str()) else { return Vec::new() };
        let claim = Claim::namespace(&namespace.namespace.name);
        let names = self.namespaces.claimants(&claim, |_| None).into_iter();
        let of_kind = names.filter(|name| {
            self.namespaces.object(name).is_some_and(|object| self.namespace_id(&object) == *id)
        });
        self.namespaces.with_uids(of_kind.collect())
    }

    pub(super) fn service_claimants(&self, id: &ServiceId) -> Vec<(Name, Uid)> {
        let Ok(service) = self.state.service(id.as_str()) else { return Vec::new() };
        let claim = self.service_claim_of(&service.service);
        self.services.with_uids(self.services.claimants(&claim, |_| None))
    }

    pub(super) fn instance_claimants(&self, service: &ServiceId, id: &str) -> Vec<(Name, Uid)> {
        self.instances.with_uids(self.instances.claimants(&Claim::instance(service, id), |_| None))
    }

    pub(super) fn identity(&self) -> &Identity {
        &self.identity
    }

    pub(super) fn namespace_number(&self, object: &CloudMapNamespace) -> u64 {
        creation_number(object, self.offset)
    }

    pub(super) fn service_number(&self, object: &CloudMapService) -> u64 {
        creation_number(object, self.offset)
    }

    /// Takes at most `most` objects whose statuses are due, and at most `counts_most` of those in which only counts may
    /// differ. The last value is true for the latter.
    pub(super) fn due(&mut self, now: Instant, most: usize, counts_most: usize) -> Vec<(Kind, Name, bool)> {
        let mut due = Vec::new();
        for (counts_only, most) in [(false, most), (true, counts_most)] {
            let kind = self.due.iter().filter(|(_, due)| due.counts_only == counts_only && due.at <= now);
            let mut kind: Vec<_> = kind.map(|(key, due)| (due.at, key)).collect();
            if kind.len() > most {
                kind.select_nth_unstable(most);
                kind.truncate(most);
            }
            due.extend(kind.into_iter().map(|(_, (kind, name))| (*kind, name.clone(), counts_only)));
        }
        for (kind, name, _) in &due {
            self.due.remove(&(*kind, name.clone()));
        }
        due
    }

    pub(super) fn schedule_status(&mut self, kind: Kind, name: Name) {
        self.schedule(kind, name, false);
    }

    /// Schedules a write of the status of a service if it shows other counts than `text`, which are the registry's.
    pub(super) fn compare_counts(&mut self, id: &ServiceId, text: &str) {
        let Some(name) = self.service_object_name(id).cloned() else { return };
        let object = self.services.object(&name);
        let shown = object.as_ref().and_then(|object| object.status.as_ref()?.health.as_deref());
        if shown != Some(text) {
            self.schedule_counts(name);
        }
    }

    pub(super) fn schedule_counts(&mut self, name: Name) {
        self.schedule(Kind::Service, name, true);
    }

    /// Schedules a comparison after a random delay; an earlier scheduled time is kept.
    fn schedule(&mut self, kind: Kind, name: Name, counts_only: bool) {
        let wait_ms = if counts_only { COUNTS_DELAY_MS_MIN } else { STATUS_DELAY_MS_MIN };
        let at = Instant::now() + Duration::from_millis(wait_ms + fastrand::u64(..STATUS_DELAY_MS_RANGE));
        let due = self.due.entry((kind, name)).or_insert(Due { at, counts_only });
        due.counts_only &= counts_only;
        // The first server by chance spares the others, so scheduling again must not draw an earlier time again and
        // again.
        if due.at > at + Duration::from_millis(STATUS_DELAY_MS_RANGE) {
            due.at = at;
        }
    }

    /// Records that etcd's numbers have reached `version`, which becomes the number of the write that is being applied; 0
    /// if it has none.
    pub(super) fn observe(&mut self, version: u64) {
        self.write_number = 0;
        if version > 0 {
            self.write_number = version + self.offset;
            self.sequence = self.sequence.max(self.write_number);
        }
    }

    fn removed(&mut self, removal: Removal) {
        self.observe(if let Removal::At(version) = removal { version } else { 0 });
    }

    fn count_zone(&mut self, namespace: NamespaceId, number: u64) {
        let serial = self.serials.entry(namespace).or_insert(0);
        *serial = number.max(*serial);
    }

    fn zone_of(&self, change: &Change) -> Option<NamespaceId> {
        match change {
            Change::PutNamespace(namespace) => Some(namespace.id.clone()),
            Change::PutService(service) => Some(service.namespace_id.clone()),
            Change::DeleteService(service)
            | Change::PutInstance(service, _)
            | Change::DeleteInstance(service, _)
            | Change::PutReport(service, ..)
            | Change::DropReport(service, _) => {
                Some(self.state.service(service.as_str()).ok()?.service.namespace_id.clone())
            }
            _ => None,
        }
    }

    fn apply(&mut self, change: Change) {
        if self.write_number > 0
            && let Some(namespace) = self.zone_of(&change)
        {
            self.count_zone(namespace, self.write_number);
        }
        self.note_freed(&change);
        self.state.apply(&change);
        self.changes.push(change);
    }

    /// Raises the revision of a service to this number, because its set of instances changed.
    fn bump(&mut self, service: &ServiceId, number: u64) {
        let is_accepted = self.state.service(service.as_str()).is_ok();
        if !is_accepted && self.is_read {
            return;
        }
        let revision = self.revisions.entry(service.clone()).or_insert(0);
        if *revision < number {
            *revision = number;
            self.sequence = self.sequence.max(number);
            if is_accepted {
                self.apply(Change::PutRevision(service.clone(), number));
                self.schedule_service_counts(service);
            }
        }
    }

    fn schedule_service_counts(&mut self, service: &ServiceId) {
        if let Some(name) = self.service_object_name(service).cloned() {
            self.schedule(Kind::Service, name, true);
        }
    }

    pub(super) fn namespace_id(&self, object: &CloudMapNamespace) -> NamespaceId {
        let spec = &object.spec;
        let kind = spec.kind.kind(None);
        let key = if kind == NamespaceKind::Http { spec.name.as_str().into() } else { zone_key(&spec.name) };
        self.identity.namespace_id(kind.as_str(), &key)
    }
}

/// The name that this version would give to the object of an instance, if the object has another one.
fn nonstandard_name(object: &CloudMapInstance) -> Option<String> {
    let name = object.metadata.name.as_deref()?;
    let service = object.spec.service_id.as_deref()?;
    // Nearly all names have this form, which avoids computing the hash.
    if names::has_standard_form(name) {
        return None;
    }
    Some(names::of_instance(&service.into(), &object.spec.instance_id))
}

#[cfg(test)]
mod tests;
