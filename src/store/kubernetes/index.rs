//! What the objects amount to: events of the watch and answers to writes in, changes for the registry out.
//!
//! A plain struct that needs no cluster. It holds every object, decides by the API's rules which of them stand, and
//! collects what that changes; whoever holds the lock drains the changes in order. The outcome depends on the objects and
//! not on the order in which they arrive, so that replicas that have seen the same agree. Of two objects that claim one name
//! in DNS (`registry::names`), the older one stands, and the other as soon as the name is free.
//!
//! Numbers are etcd's: `metadata.resourceVersion` counts the writes to the whole cluster, so the number of a write is
//! above all before it and nobody else's.

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

use super::names;
use super::resources::{CloudMapHealthReport, CloudMapInstance, CloudMapNamespace, CloudMapService};
use super::shelf::{Name, Shelf};
use super::translate::{self, creation_number, version};
use super::zone_files::ZoneFileNumbers;
use decide::{instance_claim, owner_name};
use operations::{Operations, carries_news};
pub(super) use operations::{said_by_instance, said_by_service};
use refused_names::RefusedNames;

/// How long a status waits at least, so that one write says what many changes amount to, in milliseconds.
const STATUS_DELAY_MS_MIN: u64 = 500;
/// How much longer it may wait, by chance: of several replicas one is the first, and the others see it done.
const STATUS_DELAY_MS_RANGE: u64 = 2_000;
/// Least delay of a service's status if only its instances changed, in milliseconds. Nothing depends on the
/// counts that it shows, and every write of them costs the API server as much as a registration.
const COUNTS_DELAY_MS_MIN: u64 = 5_000;

/// The kinds whose objects get a status, or are deleted once they are not needed.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(super) enum Kind {
    Namespace,
    Service,
    Instance,
    Operation,
}

/// How it is known that an object is gone.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Removal {
    /// The watch said so; this is etcd's number of the deletion.
    At(u64),
    /// It was not in a list.
    Unlisted,
    /// This replica deleted it.
    Own,
}

/// Time at which an object's status is compared with what it should be.
struct Due {
    at: Instant,
    /// True if nothing but counts may differ.
    of_counts: bool,
}

/// Everything that is known.
pub(super) struct Index {
    identity: Identity,
    admission: Admission,
    /// Added to etcd's numbers.
    offset: u64,
    /// What stands, without operations.
    state: State,
    pub(super) namespaces: Shelf<CloudMapNamespace, NamespaceId>,
    pub(super) services: Shelf<CloudMapService, ServiceId>,
    pub(super) instances: Shelf<CloudMapInstance, ()>,
    pub(super) reports: Shelf<CloudMapHealthReport, ()>,
    operations: Operations,
    /// Names of instances' objects that this version would name otherwise, by the names that it would give them.
    other_names: HashMap<String, Name>,
    revisions: HashMap<ServiceId, u64>,
    /// Whether all kinds were listed once; before that nothing is decided.
    is_read: bool,
    /// The highest number seen.
    sequence: u64,
    /// The number of the last renumbering of everything, offset included.
    floor: u64,
    /// The last offset and floor that the registry was given.
    numbering_told: Option<Numbering>,
    /// Numbers of zones that the registry does not know yet.
    serials: BTreeMap<NamespaceId, u64>,
    /// The number of the write that is taken in now; 0 where there is none that all servers know.
    now: u64,
    /// Resources whose numbers may not be those of other servers.
    unsure: Renumber,
    /// The numbers of zone files, and the version of the object that they are from.
    zone_files: (u64, Arc<ZoneFileNumbers>),
    sequence_told: u64,
    changes: Vec<Change>,
    due: HashMap<(Kind, Name), Due>,
    refused_names: RefusedNames,
}

impl Index {
    /// Knows nothing yet.
    pub(super) fn new(settings: Settings) -> Index {
        let operations = Operations::new(settings.operations_retained);
        Index {
            identity: settings.identity.clone(),
            admission: Admission::new(settings),
            offset: 0,
            state: State::default(),
            namespaces: Shelf::default(),
            services: Shelf::default(),
            instances: Shelf::default(),
            reports: Shelf::default(),
            operations,
            other_names: HashMap::new(),
            revisions: HashMap::new(),
            is_read: false,
            sequence: 0,
            floor: 0,
            numbering_told: None,
            serials: BTreeMap::new(),
            now: 0,
            unsure: Renumber::default(),
            zone_files: (0, Arc::default()),
            sequence_told: 0,
            changes: Vec::new(),
            due: HashMap::new(),
            refused_names: RefusedNames::default(),
        }
    }

    /// What stands.
    pub(super) fn state(&self) -> &State {
        &self.state
    }

    /// The highest number that was seen.
    pub(super) fn sequence(&self) -> u64 {
        self.sequence
    }

    /// What is added to etcd's numbers.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// Sets what is added to etcd's numbers; it never goes back.
    pub(super) fn set_offset(&mut self, offset: u64) {
        self.offset = self.offset.max(offset);
    }

    /// Whether all kinds were listed.
    pub(super) fn is_read(&self) -> bool {
        self.is_read
    }

    /// Everything was listed: decides what stands.
    pub(super) fn read(&mut self) {
        if std::mem::replace(&mut self.is_read, true) {
            return;
        }
        // The renumbering that follows has a higher number than all that was read.
        self.now = 0;
        self.namespaces.names().iter().for_each(|name| self.settle_namespace(name));
        // Services and instances whose owner stands were looked at with it.
        for name in &self.services.names() {
            if !self.services.stands_for(name) {
                self.settle_service(name);
            }
        }
        for name in &self.instances.names() {
            if !self.instances.stands_for(name) {
                self.settle_instance(name);
            }
        }
        self.settle_freed();
        self.tell_operations();
    }

    /// What became of the state since the last call.
    pub(super) fn drain(&mut self) -> Vec<Change> {
        self.namespaces.tell();
        self.services.tell();
        self.instances.tell();
        self.reports.tell();
        if self.sequence > self.sequence_told {
            self.sequence_told = self.sequence;
            self.changes.push(Change::PutSequence(self.sequence));
        }
        let serials = std::mem::take(&mut self.serials).into_iter();
        self.changes.extend(serials.map(|(namespace, number)| Change::PutSerial(namespace, number)));
        if self.numbering_told != Some(self.numbering()) {
            self.numbering_told = Some(self.numbering());
            // New resources start with them.
            self.changes.insert(0, Change::PutNumbering(self.numbering()));
        }
        std::mem::take(&mut self.changes)
    }

    /// A renumbering was written with this number of etcd's; see `registry/numbering.rs`.
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
                // One that is shadowed, which the registry alone knows.
                Err(_) => self.changes.push(Change::PutRevision(service.clone(), number)),
            }
        }
        for namespace in &what.namespaces {
            self.count_zone(namespace.clone(), number);
        }
    }

    /// The numbers of zone files are as in this version of the store's object.
    pub(super) fn put_zone_files(&mut self, version: u64, numbers: ZoneFileNumbers) {
        if version > self.zone_files.0 {
            self.zone_files.0 = version;
            if *self.zone_files.1 != numbers {
                self.zone_files.1 = Arc::new(numbers);
            }
        }
    }

    /// The numbers of zone files.
    pub(super) fn zone_files(&self) -> &Arc<ZoneFileNumbers> {
        &self.zone_files.1
    }

    /// Everything gets the highest number that is known here, because no renumbering can be written now.
    pub(super) fn renumber_alone(&mut self) {
        self.floor = self.floor.max(self.sequence);
    }

    /// Resources whose numbers may not be those of other servers, since the last call.
    pub(super) fn take_unsure(&mut self) -> Renumber {
        std::mem::take(&mut self.unsure)
    }

    /// Returns true if a change that the registry does not know yet satisfies `is_it`.
    pub(super) fn is_deletion_untold(&self, is_it: impl Fn(&Change) -> bool) -> bool {
        self.changes.iter().any(is_it)
    }

    /// Whether [`Index::drain`] has something to say of what is served.
    pub(super) fn has_changes(&self) -> bool {
        !self.changes.is_empty() || !self.serials.is_empty() || self.numbering_told != Some(self.numbering())
    }

    fn numbering(&self) -> Numbering {
        Numbering { offset: self.offset, floor: self.floor }
    }

    /// The object is as given.
    pub(super) fn put_namespace(&mut self, object: CloudMapNamespace) {
        self.see(version(&object.metadata));
        let carried = carries_news(&self.namespaces, &object).then(|| self.of_namespace(&object));
        if let Some(name) = self.namespaces.take_in(object, None) {
            self.know_carried(carried.unwrap_or_default());
            self.settle_namespace(&name);
            self.settle_freed();
        }
    }

    /// The object is as given.
    pub(super) fn put_service(&mut self, object: CloudMapService) {
        self.see(version(&object.metadata));
        let owner = match (&object.spec.namespace_id, &object.spec.namespace_name) {
            (Some(id), _) => format!("id {id}"),
            (None, name) => format!("name {}", zone_key(name.as_deref().unwrap_or_default())),
        };
        let carried = carries_news(&self.services, &object).then(|| Index::of_service(&object));
        if let Some(name) = self.services.take_in(object, Some(&owner)) {
            self.know_carried(carried.unwrap_or_default());
            self.settle_service(&name);
            self.settle_freed();
        }
    }

    /// The object is as given.
    pub(super) fn put_instance(&mut self, object: CloudMapInstance) {
        self.see(version(&object.metadata));
        let spec = &object.spec;
        let owner = match (&spec.service_id, &spec.service_name, &spec.namespace_name) {
            (Some(id), ..) => format!("id {id}"),
            (None, service, namespace) => {
                owner_name(service.as_deref().unwrap_or_default(), namespace.as_deref().unwrap_or_default())
            }
        };
        let carried = carries_news(&self.instances, &object).then(|| Index::of_instance(&object));
        let usual = other_than_usual(&object);
        if let Some(name) = self.instances.take_in(object, Some(&owner)) {
            self.know_carried(carried.unwrap_or_default());
            if let Some(usual) = usual {
                self.other_names.insert(usual, name.clone());
            }
            self.settle_instance(&name);
            self.settle_freed();
        }
    }

    /// The object is as given.
    pub(super) fn put_report(&mut self, object: CloudMapHealthReport) {
        self.see(version(&object.metadata));
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
        if self.reports.take_in(object, None).is_some() {
            self.apply(Change::PutReport(service, instance.into(), report.into()));
        }
    }

    /// The object is gone.
    pub(super) fn remove_report(&mut self, name: &str, uid: Uid, removal: Removal) {
        let held = self.reports.object_with_uid(name, uid);
        self.reports.take_out(name, uid, removal == Removal::Own);
        if let Some(object) = held {
            self.removed(removal);
            let service = ServiceId::from(&*object.spec.service_id);
            self.apply(Change::DropReport(service, object.spec.instance_id.as_str().into()));
        }
    }

    /// The object of the report about a service's instance.
    pub(super) fn report_object(
        &self,
        service: &ServiceId,
        instance: &str,
    ) -> Option<Arc<CloudMapHealthReport>> {
        self.reports.object(&names::of_report(service, instance))
    }

    /// The object is gone.
    pub(super) fn remove_namespace(&mut self, name: &str, uid: Uid, removal: Removal) {
        let carried = self.namespaces.object_with_uid(name, uid).map(|object| self.of_namespace(&object));
        self.leave(carried.unwrap_or_default(), removal);
        if let Some(claim) = self.namespaces.take_out(name, uid, removal == Removal::Own) {
            self.removed(removal);
            self.decide_namespaces(&claim);
            self.settle_freed();
        }
    }

    /// The object is gone.
    pub(super) fn remove_service(&mut self, name: &str, uid: Uid, removal: Removal) {
        let carried = self.services.object_with_uid(name, uid).map(|object| Index::of_service(&object));
        self.leave(carried.unwrap_or_default(), removal);
        if let Some(claim) = self.services.take_out(name, uid, removal == Removal::Own) {
            self.removed(removal);
            self.refused_names.forget(Kind::Service, name);
            self.decide_service(&claim);
            self.settle_freed();
        }
    }

    /// The object is gone.
    pub(super) fn remove_instance(&mut self, name: &str, uid: Uid, removal: Removal) {
        if let Some(object) = self.instances.object_with_uid(name, uid) {
            if let Some(usual) = other_than_usual(&object) {
                self.other_names.remove(&usual);
            }
            self.leave(Index::of_instance(&object), removal);
        }
        if let Some(claim) = self.instances.take_out(name, uid, removal == Removal::Own) {
            self.removed(removal);
            self.refused_names.forget(Kind::Instance, name);
            self.decide_instance(&claim);
            self.settle_freed();
        }
    }

    /// The revision of a service that stands.
    pub(super) fn revision(&self, service: &ServiceId) -> u64 {
        self.revisions.get(service).copied().unwrap_or(0)
    }

    /// The object that stands for a namespace.
    pub(super) fn namespace_object(&self, id: &NamespaceId) -> Option<Arc<CloudMapNamespace>> {
        let namespace = &self.state.namespace(id.as_str()).ok()?.namespace;
        let claim = zone_key(&namespace.name);
        let (name, _) = self.namespaces.standing(&claim).find(|(_, other)| *other == id)?;
        self.namespaces.object(name)
    }

    /// The object that stands for a service.
    pub(super) fn service_object(&self, id: &ServiceId) -> Option<Arc<CloudMapService>> {
        self.services.object(self.service_object_name(id)?)
    }

    fn service_object_name(&self, id: &ServiceId) -> Option<&Name> {
        let claim = self.service_claim_of(&self.state.service(id.as_str()).ok()?.service);
        self.services.standing(&claim).next().map(|(name, _)| name)
    }

    /// The object that stands for an instance.
    pub(super) fn instance_object(&self, service: &ServiceId, id: &str) -> Option<Arc<CloudMapInstance>> {
        let (name, _) = self.instances.standing(&instance_claim(service, id)).next()?;
        self.instances.object(name)
    }

    /// The name of the object of an instance whose object would have the name `usual`, if it has another one.
    pub(super) fn other_instance_name(&self, usual: &str) -> Option<&Name> {
        self.other_names.get(usual)
    }

    /// All objects that claim to be this namespace, by name and uid.
    pub(super) fn namespace_claimants(&self, id: &NamespaceId) -> Vec<(Name, Uid)> {
        let Ok(namespace) = self.state.namespace(id.as_str()) else { return Vec::new() };
        let claim = zone_key(&namespace.namespace.name);
        let names = self.namespaces.claimants(&claim, |_| None).into_iter();
        let of_kind = names.filter(|name| {
            self.namespaces.object(name).is_some_and(|object| self.namespace_id(&object) == *id)
        });
        self.namespaces.with_uids(of_kind.collect())
    }

    /// All objects that claim to be this service, by name and uid.
    pub(super) fn service_claimants(&self, id: &ServiceId) -> Vec<(Name, Uid)> {
        let Ok(service) = self.state.service(id.as_str()) else { return Vec::new() };
        let claim = self.service_claim_of(&service.service);
        self.services.with_uids(self.services.claimants(&claim, |_| None))
    }

    /// All objects that claim to be this instance, by name and uid.
    pub(super) fn instance_claimants(&self, service: &ServiceId, id: &str) -> Vec<(Name, Uid)> {
        self.instances.with_uids(self.instances.claimants(&instance_claim(service, id), |_| None))
    }

    /// Account and region that ids are derived from.
    pub(super) fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The number that a namespace's object has.
    pub(super) fn namespace_number(&self, object: &CloudMapNamespace) -> u64 {
        creation_number(object, self.offset)
    }

    /// The number that a service's object has.
    pub(super) fn service_number(&self, object: &CloudMapService) -> u64 {
        creation_number(object, self.offset)
    }

    /// The objects whose status may have to be written now: at most so many, and at most so many of those of which only
    /// counts may differ, which the last value says.
    pub(super) fn due(&mut self, now: Instant, most: usize, counts_most: usize) -> Vec<(Kind, Name, bool)> {
        let mut due = Vec::new();
        for (of_counts, most) in [(false, most), (true, counts_most)] {
            let kind = self.due.iter().filter(|(_, due)| due.of_counts == of_counts && due.at <= now);
            let mut kind: Vec<_> = kind.map(|(key, due)| (due.at, key)).collect();
            if kind.len() > most {
                kind.select_nth_unstable(most);
                kind.truncate(most);
            }
            due.extend(kind.into_iter().map(|(_, (kind, name))| (*kind, name.clone(), of_counts)));
        }
        for (kind, name, _) in &due {
            self.due.remove(&(*kind, name.clone()));
        }
        due
    }

    /// The object's status is to be looked at again.
    pub(super) fn status_later(&mut self, kind: Kind, name: Name) {
        self.status_due(kind, name, false);
    }

    /// The registry counts the instances of a service so: its status is due if it shows something else.
    pub(super) fn counts_are(&mut self, id: &ServiceId, text: &str) {
        let Some(name) = self.service_object_name(id).cloned() else { return };
        let object = self.services.object(&name);
        let shown = object.as_ref().and_then(|object| object.status.as_ref()?.health.as_deref());
        if shown != Some(text) {
            self.counts_later(name);
        }
    }

    /// A service's status may differ in counts.
    pub(super) fn counts_later(&mut self, name: Name) {
        self.status_due(Kind::Service, name, true);
    }

    /// Has a status looked at again after a while, or earlier if that is due already.
    fn status_due(&mut self, kind: Kind, name: Name, of_counts: bool) {
        let wait_ms = if of_counts { COUNTS_DELAY_MS_MIN } else { STATUS_DELAY_MS_MIN };
        let at = Instant::now() + Duration::from_millis(wait_ms + fastrand::u64(..STATUS_DELAY_MS_RANGE));
        let due = self.due.entry((kind, name)).or_insert(Due { at, of_counts });
        due.of_counts &= of_counts;
        // By chance one server is first and spares the others, so a new chance must not make it earlier again and again.
        if due.at > at + Duration::from_millis(STATUS_DELAY_MS_RANGE) {
            due.at = at;
        }
    }

    /// etcd has come to this number.
    pub(super) fn see(&mut self, version: u64) {
        self.now = 0;
        if version > 0 {
            self.now = version + self.offset;
            self.sequence = self.sequence.max(self.now);
        }
    }

    fn removed(&mut self, removal: Removal) {
        self.see(if let Removal::At(version) = removal { version } else { 0 });
    }

    /// A namespace's zone changed at this number.
    fn count_zone(&mut self, namespace: NamespaceId, number: u64) {
        let serial = self.serials.entry(namespace).or_insert(0);
        *serial = number.max(*serial);
    }

    /// The namespace whose zone a change changes.
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
        if self.now > 0
            && let Some(namespace) = self.zone_of(&change)
        {
            self.count_zone(namespace, self.now);
        }
        self.note_freed(&change);
        self.state.apply(&change);
        self.changes.push(change);
    }

    /// The set of a service's instances changed at this number.
    fn bump(&mut self, service: &ServiceId, number: u64) {
        let stands = self.state.service(service.as_str()).is_ok();
        if !stands && self.is_read {
            return;
        }
        let revision = self.revisions.entry(service.clone()).or_insert(0);
        if *revision < number {
            *revision = number;
            self.sequence = self.sequence.max(number);
            if stands {
                self.apply(Change::PutRevision(service.clone(), number));
                self.service_status_later(service);
            }
        }
    }

    fn service_status_later(&mut self, service: &ServiceId) {
        if let Some(name) = self.service_object_name(service).cloned() {
            self.status_due(Kind::Service, name, true);
        }
    }

    pub(super) fn namespace_id(&self, object: &CloudMapNamespace) -> NamespaceId {
        let spec = &object.spec;
        let kind = spec.kind.kind(None);
        let key = if kind == NamespaceKind::Http { spec.name.as_str().into() } else { zone_key(&spec.name) };
        self.identity.namespace_id(kind.as_str(), &key)
    }
}

/// The name that the object of an instance would have, if it has another one.
fn other_than_usual(object: &CloudMapInstance) -> Option<String> {
    let name = object.metadata.name.as_deref()?;
    let service = object.spec.service_id.as_deref()?;
    // Nearly all have it: then nothing has to be hashed.
    if names::looks_usual(name) {
        return None;
    }
    Some(names::of_instance(&service.into(), &object.spec.instance_id))
}

#[cfg(test)]
mod tests;
