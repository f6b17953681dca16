//! The compiler, which makes the directory and its leaves from registry events and zone files.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::model::{Namespace, NamespaceId, ServiceId};
use crate::registry::{Event, ServiceState, State};
use crate::zone::{
    Directory, DirectoryWriter, Leaf, Name, NameRef, Node, QueryName, RecordType, Rrset, ZoneNames,
    contents::{Contents, OwnerRecords},
    master_file::MasterFileError,
    records::dotted,
};

use super::leaf_source::{claimants_of_name, leaf_source};
use super::serials::{self, Digest, FileSerials, Serials, Unsaved, ZoneSerial};
use super::{Settings, Snapshot, zone_source};

/// State of the compilation: the next version of the directory, which shares all unchanged parts with the published one,
/// the last good contents of each zone file, and replaced versions that a reader may still use. `lost_names` has by service
/// the instances whose id's name belongs to another claimant, so that each is logged once. `changed_zones` are the zones
/// whose serials change when the current change is published.
pub(super) struct Compiler {
    snapshot: Arc<Snapshot>,
    settings: Settings,
    directory: DirectoryWriter,
    zones: HashMap<Name, ZoneState>,
    apexes: HashMap<NamespaceId, Name>,
    services: HashMap<ServiceId, CompiledService>,
    lost_names: HashMap<ServiceId, BTreeSet<Box<str>>>,
    files: HashMap<Name, ZoneFile>,
    serials: Serials,
    changed_zones: HashMap<NamespaceId, Name>,
    retired: Vec<Arc<Directory>>,
}

/// A zone with the records that every namespace's zone has (`base`: SOA, NS and the addresses of the name server), and
/// those that a zone file adds, which are all records of a zone without a namespace. `cuts` are the owners of NS below the
/// apex and of DNAME among `added`, with the number of services at or below them: their records are not served while there
/// are such services, which they would hide. `conflicts_version` is incremented whenever the result of
/// [`Compiler::file_conflicts`] may have changed.
struct ZoneState {
    serial: ZoneSerial,
    is_namespace: bool,
    base: HashMap<Name, Vec<Rrset>>,
    added: Arc<Contents>,
    cuts: HashMap<Name, usize>,
    conflicts_version: u64,
}

struct CompiledService {
    namespace: NamespaceId,
    name: Name,
    /// Services that claim a name of this one's instances, so that the leaf of each depends on the other; nearly always
    /// none.
    other_claimants: BTreeSet<ServiceId>,
}

#[derive(Clone)]
pub(super) struct ZoneFile {
    pub(super) path: Arc<std::path::Path>,
    pub(super) contents: Arc<Contents>,
}

/// Result of applying a zone file: warnings if it is served, or the errors for which nothing of it is served.
pub(super) type Applied = Result<Vec<MasterFileError>, Vec<MasterFileError>>;

impl Compiler {
    pub(super) fn new(snapshot: Arc<Snapshot>, settings: Settings) -> Compiler {
        Compiler {
            snapshot,
            settings,
            directory: DirectoryWriter::default(),
            zones: HashMap::new(),
            apexes: HashMap::new(),
            services: HashMap::new(),
            lost_names: HashMap::new(),
            files: HashMap::new(),
            serials: Serials::default(),
            changed_zones: HashMap::new(),
            retired: Vec::new(),
        }
    }

    /// Compiles the resources that the events name, and publishes them together with all that was compiled before.
    pub(super) fn registry_changed(&mut self, state: &State, events: &[Event]) {
        let snapshot = self.snapshot.clone();
        let _change = snapshot.sequence_lock.change();
        self.compile(state, events);
        self.publish();
        // Advance the serials last, because a reader that sees a serial must see its contents too.
        for (namespace, apex) in std::mem::take(&mut self.changed_zones) {
            if let Some(zone) = self.zones.get_mut(&apex) {
                zone.serial.advance(state.serial(&namespace));
            }
        }
        self.snapshot.generation.store(state.sequence(), Ordering::Release);
    }

    /// Compiles and publishes services that have other TTLs in answers, which are no part of the contents of their zones.
    pub(super) fn ttls_changed(&mut self, state: &State, services: &[Event]) {
        let snapshot = self.snapshot.clone();
        let _change = snapshot.sequence_lock.change();
        self.compile(state, services);
        self.changed_zones.clear();
        self.publish();
    }

    /// Compiles the resources that the events name, as `state` has them, without publishing them.
    pub(super) fn compile(&mut self, state: &State, events: &[Event]) {
        // Remove services before their namespaces, and create namespaces before their services.
        let services = || {
            events.iter().filter_map(|event| match event {
                Event::Service(id) => Some(id),
                Event::Namespace(_) | Event::Serial(_) => None,
            })
        };
        let is_in_dns =
            |id: &ServiceId| state.service(id.as_str()).ok().filter(|state| state.service.dns.is_some());
        let (present, deleted): (Vec<_>, Vec<_>) =
            services().map(|id| (id, is_in_dns(id))).partition(|(_, service)| service.is_some());
        let mut other_claimants: BTreeSet<ServiceId> =
            deleted.into_iter().flat_map(|(id, _)| self.remove_service(state, id)).collect();
        for event in events {
            match event {
                Event::Namespace(id) => match state.namespace(id.as_str()) {
                    Ok(namespace) if namespace.namespace.is_dns() => {
                        self.put_namespace(&namespace.namespace, state.serial(id));
                    }
                    _ => self.remove_namespace(id),
                },
                Event::Serial(id) => {
                    self.changed_zones.extend(self.apexes.get(id).map(|apex| (id.clone(), apex.clone())));
                }
                Event::Service(_) => {}
            }
        }
        for service in present.into_iter().filter_map(|(_, service)| service) {
            other_claimants.extend(self.put_service(state, service));
        }
        // Compile the other services whose leaves depend on these. Those that an event names are up to date already.
        other_claimants.retain(|id| !services().any(|named| named == id));
        for service in other_claimants.iter().filter_map(is_in_dns) {
            self.put_service(state, service);
        }
    }

    pub(super) fn keep_serials(&mut self, data_dir: &Path) {
        let depends_on = format!("{:?} {}", self.settings, env!("CARGO_PKG_VERSION"));
        self.serials = Serials::load(data_dir, serials::digest_of(depends_on.as_bytes()));
    }

    pub(super) fn share_serials(&mut self, shared: Arc<dyn FileSerials>) {
        self.serials = Serials::shared(shared);
    }

    /// Called when all zone files were read: the serials of zones whose file does not exist any more change now.
    pub(super) fn files_were_read(&mut self) {
        for (apex, zone) in self.zones.iter_mut().filter(|(_, zone)| zone.added.is_empty()) {
            self.serials.changed(apex, &mut zone.serial, Digest::default(), None);
        }
    }

    /// Takes the offsets that have to be made durable before the serials with them are served.
    pub(super) fn unsaved_serials(&mut self) -> Option<Unsaved> {
        if self.serials.refresh_shared() {
            self.apply_shared_serials();
        }
        self.serials.take_unsaved()
    }

    fn apply_shared_serials(&mut self) {
        let snapshot = self.snapshot.clone();
        let _change = snapshot.sequence_lock.change();
        for (name, zone) in &mut self.zones {
            self.serials.apply_shared(name, &mut zone.serial);
        }
    }

    /// Serves the serials that have become durable. `unshared` are zones whose offsets could not be shared yet.
    pub(super) fn serials_were_saved(&mut self, saved: Unsaved, unshared: Option<Vec<Name>>) {
        self.serials.refresh_shared();
        self.apply_shared_serials();
        self.serials.not_shared(unshared.into_iter().flatten());
        let snapshot = self.snapshot.clone();
        let _change = snapshot.sequence_lock.change();
        for (name, offset) in saved.offsets {
            if let Some(zone) = self.zones.get_mut(&name) {
                zone.serial.commit(offset);
            }
        }
        snapshot.sequence_lock.set_pending_serials(self.serials.has_pending());
    }

    /// Serves a new version of a zone file, or stops serving the file if it is `None`. After an error the last good contents
    /// remain.
    pub(super) fn file_changed(&mut self, origin: &Name, file: Option<ZoneFile>) -> Applied {
        let snapshot = self.snapshot.clone();
        let _change = snapshot.sequence_lock.change();
        let applied = match file {
            Some(file) => {
                let checked = self.check_file(origin, &file);
                // Keep a file that cannot be served: it may be valid as soon as its namespace exists.
                if checked.is_ok() || !self.files.contains_key(origin) {
                    self.files.insert(origin.clone(), file);
                }
                checked.map(|(contents, warnings)| {
                    self.serve_file(origin, contents);
                    warnings
                })
            }
            None => {
                self.files.remove(origin);
                self.remove_added(origin);
                Ok(Vec::new())
            }
        };
        self.publish();
        applied
    }

    /// Returns true if the zone belongs to a namespace. Its file is then checked as an addition and not as a whole zone.
    pub(super) fn is_namespace(&self, origin: &Name) -> bool {
        self.zones.get(origin).is_some_and(|zone| zone.is_namespace)
    }

    fn put_namespace(&mut self, namespace: &Namespace, sequence: u64) {
        let negative_ttl = namespace.soa_ttl.unwrap_or(self.settings.negative_ttl_seconds);
        let addresses = &self.settings.name_server_addresses;
        let base = zone_source::apex_of(namespace).and_then(|apex| {
            let base = zone_source::base_records(&apex, negative_ttl, addresses)?;
            Ok((apex, base))
        });
        let (apex, base) = match base {
            Ok(found) => found,
            Err(error) => {
                tracing::warn!(namespace = %namespace.id, name = namespace.name, %error, "the name can't be a zone");
                return;
            }
        };
        if self.zones.get(&apex).is_some_and(|zone| !zone.is_namespace) {
            // The zone becomes the namespace's, and the records of its file become additions to it.
            self.remove_added(&apex);
        }
        let is_new = !self.zones.contains_key(&apex);
        let serials = &self.serials;
        let zone = self.zones.entry(apex.clone()).or_insert_with(|| ZoneState {
            serial: serials.of_namespace(&apex, sequence),
            is_namespace: true,
            base: HashMap::new(),
            added: Arc::default(),
            cuts: HashMap::new(),
            conflicts_version: 0,
        });
        self.changed_zones.insert(namespace.id.clone(), apex.clone());
        zone.base = base.into_iter().collect();
        let owners: Vec<Name> = zone.base.keys().cloned().collect();
        self.apexes.insert(namespace.id.clone(), apex.clone());
        self.put_zone(&apex);
        owners.iter().for_each(|owner| self.put_records(&apex, owner));
        if is_new && let Some(file) = self.files.get(&apex).cloned() {
            report(self.apply_file(&apex, &file));
        }
    }

    fn remove_namespace(&mut self, id: &NamespaceId) {
        let Some(apex) = self.apexes.remove(id) else { return };
        self.remove_added(&apex);
        if let Some(zone) = self.zones.remove(&apex) {
            zone.base.keys().for_each(|owner| self.directory.set_rrsets(&apex, owner, Vec::new()));
            self.serials.namespace_ended(&apex, &zone.serial, self.files.contains_key(&apex));
        }
        self.directory.remove_zone(&apex);
        if let Some(file) = self.files.get(&apex).cloned() {
            report(self.apply_file(&apex, &file));
        }
    }

    /// Compiles a service, and returns the other services whose leaves may depend on the change.
    fn put_service(&mut self, state: &State, found: &ServiceState) -> BTreeSet<ServiceId> {
        let service = &found.service;
        let Some(apex) = self.apexes.get(&service.namespace_id).cloned() else { return BTreeSet::new() };
        let name = match zone_source::service_name(service, &apex) {
            Ok(name) => name,
            Err(error) => {
                tracing::warn!(service = %service.id, name = service.name, %error, "the name can't be in DNS");
                return BTreeSet::new();
            }
        };
        let (source, names) = leaf_source(state, found, &self.settings.health);
        let leaf = Leaf::new(source);
        self.log_lost_names(&service.id, names.losses);
        let mut changed = names.other_claimants.clone();
        match self.services.get_mut(&service.id) {
            Some(compiled) => {
                changed.extend(std::mem::replace(&mut compiled.other_claimants, names.other_claimants));
                self.directory.replace_leaf(&apex, &compiled.name, leaf);
            }
            None => {
                self.directory.set_leaf(&apex, &name, Some(leaf));
                let namespace = service.namespace_id.clone();
                changed.extend(claimants_of_name(state, &namespace, &service.name));
                let compiled =
                    CompiledService { namespace, name: name.clone(), other_claimants: names.other_claimants };
                self.services.insert(service.id.clone(), compiled);
                self.update_hidden_records(&apex, &name, true);
            }
        }
        self.changed_zones.insert(service.namespace_id.clone(), apex);
        changed
    }

    /// Removes a service, and returns the other services whose leaves may depend on it.
    fn remove_service(&mut self, state: &State, id: &ServiceId) -> BTreeSet<ServiceId> {
        self.lost_names.remove(id);
        let Some(removed) = self.services.remove(id) else { return BTreeSet::new() };
        let Some(apex) = self.apexes.get(&removed.namespace).cloned() else { return removed.other_claimants };
        self.directory.set_leaf(&apex, &removed.name, None);
        self.update_hidden_records(&apex, &removed.name, false);
        let mut changed = removed.other_claimants;
        if let Some(name) = dotted(&removed.name, apex.label_count()) {
            changed.extend(claimants_of_name(state, &removed.namespace, &name));
        }
        self.changed_zones.insert(removed.namespace, apex);
        changed
    }

    fn log_lost_names(&mut self, service: &ServiceId, losses: Vec<(Box<str>, String)>) {
        if losses.is_empty() && !self.lost_names.contains_key(service) {
            return;
        }
        let known = self.lost_names.remove(service).unwrap_or_default();
        for (instance, claimant) in losses.iter().filter(|(instance, _)| !known.contains(instance)) {
            tracing::warn!(
                %service,
                instance,
                "an instance does not have the name of its id, which belongs to {claimant}"
            );
        }
        if !losses.is_empty() {
            let instances = losses.into_iter().map(|(instance, _)| instance).collect();
            self.lost_names.insert(service.clone(), instances);
        }
    }

    fn apply_file(&mut self, origin: &Name, file: &ZoneFile) -> Applied {
        let (contents, warnings) = self.check_file(origin, file)?;
        self.serve_file(origin, contents);
        Ok(warnings)
    }

    fn check_file(
        &self,
        origin: &Name,
        file: &ZoneFile,
    ) -> Result<(Arc<Contents>, Vec<MasterFileError>), Vec<MasterFileError>> {
        if !self.is_namespace(origin) {
            return Ok((file.contents.clone(), file.contents.check_whole(origin, &file.path)?));
        }
        let (contents, own) = file.contents.without(origin, &[RecordType::SOA, RecordType::NS]);
        let own = own.into_iter().map(|located| MasterFileError {
            message: format!(
                "the {} of {origin} is not used, because {origin} is a Cloud Map namespace, which has its own",
                located.value.rtype
            ),
            place: located.place,
        });
        let warnings = contents.check_overlay(origin)?;
        Ok((Arc::new(contents), own.chain(warnings).collect()))
    }

    fn serve_file(&mut self, origin: &Name, contents: Arc<Contents>) {
        let serial = contents.at(origin).and_then(|apex| soa_serial(apex.rrsets()));
        let digest = serials::contents_digest(contents.owners());
        let cuts = self.cuts(origin, &contents);
        let old = match self.zones.get_mut(origin) {
            Some(zone) => {
                let old = std::mem::replace(&mut zone.added, contents.clone());
                zone.cuts = cuts;
                zone.conflicts_version += 1;
                self.serials.changed(origin, &mut zone.serial, digest, serial);
                old
            }
            None => {
                let serial = self.serials.of_file(origin, digest, serial);
                let zone = ZoneState {
                    serial,
                    is_namespace: false,
                    base: HashMap::new(),
                    added: contents.clone(),
                    cuts,
                    conflicts_version: 0,
                };
                self.zones.insert(origin.clone(), zone);
                Arc::default()
            }
        };
        self.put_zone(origin);
        if self.is_namespace(origin) {
            let owners: BTreeSet<NameRef<'_>> =
                old.owners().chain(contents.owners()).map(OwnerRecords::owner).collect();
            owners.into_iter().for_each(|owner| self.put_records(origin, &owner.to_name()));
        } else {
            let names = ZoneNames::new(origin, old.owners().map(OwnerRecords::owner));
            // Free the old records early: for a large zone, three versions of them in memory would be too much.
            drop(old);
            let records = contents.owners().map(|records| (records.owner(), records.rrsets()));
            self.directory.replace_records(origin, names, records);
        }
    }

    /// Finds the records of a zone file that are not served because they conflict with Cloud Map's names. Returns them as
    /// errors at their lines.
    pub(super) fn file_conflicts(&self, origin: &Name) -> Vec<MasterFileError> {
        let Some(zone) = self.zones.get(origin).filter(|zone| zone.is_namespace) else { return Vec::new() };
        let conflict = |added: OwnerRecords<'_>| {
            let owner = &added.owner().to_name();
            let message = if self.has_leaf(origin, owner) {
                format!("{owner} is a Cloud Map service; the zone file's records there are not served")
            } else if zone.base.contains_key(owner) && owner != origin {
                format!("{owner} is the zone's own name server; the zone file's records there are not served")
            } else if zone.cuts.get(owner).is_some_and(|services| *services > 0) {
                format!("NS or DNAME at {owner} would hide a Cloud Map service below; it is not served")
            } else {
                return None;
            };
            Some(MasterFileError { place: added.place(), message })
        };
        zone.added.owners().filter_map(conflict).collect()
    }

    pub(super) fn conflicts_version(&self, origin: &Name) -> u64 {
        self.zones.get(origin).map_or(0, |zone| zone.conflicts_version)
    }

    /// Finds the owners of NS below the apex and of DNAME, with the number of services at or below them. Goes through the
    /// services only if there are such owners.
    fn cuts(&self, origin: &Name, added: &Contents) -> HashMap<Name, usize> {
        let apex = origin.as_name_ref();
        let owners = added
            .owners()
            .filter(|records| records.types().any(|rtype| is_cut(rtype, records.owner(), apex)));
        let mut cuts: HashMap<Name, usize> = owners.map(|records| (records.owner().to_name(), 0)).collect();
        if !cuts.is_empty() {
            let in_zone = |service: &&CompiledService| self.apexes.get(&service.namespace) == Some(origin);
            for service in self.services.values().filter(in_zone) {
                for (owner, services) in &mut cuts {
                    *services += usize::from(service.name.is_at_or_below(owner));
                }
            }
        }
        cuts
    }

    /// Stops serving a zone file's records at a new service's name, and NS and DNAME above it. Serves them again if the
    /// service is deleted.
    fn update_hidden_records(&mut self, apex: &Name, name: &Name, is_new: bool) {
        let Some(zone) = self.zones.get_mut(apex) else { return };
        if zone.added.is_empty() {
            return;
        }
        let mut owners = vec![name.clone()];
        for (owner, services) in zone.cuts.iter_mut().filter(|(owner, _)| name.is_at_or_below(owner)) {
            *services = if is_new { *services + 1 } else { services.saturating_sub(1) };
            owners.push(owner.clone());
        }
        zone.conflicts_version += 1;
        owners.iter().for_each(|owner| self.put_records(apex, owner));
    }

    fn remove_added(&mut self, origin: &Name) {
        let Some(zone) = self.zones.get_mut(origin) else { return };
        let (added, is_namespace) = (std::mem::take(&mut zone.added), zone.is_namespace);
        zone.cuts.clear();
        zone.conflicts_version += 1;
        if is_namespace {
            self.serials.changed(origin, &mut zone.serial, Digest::default(), None);
        }
        if is_namespace {
            added.owners().for_each(|records| self.put_records(origin, &records.owner().to_name()));
            self.put_zone(origin);
        } else {
            let names = ZoneNames::new(origin, added.owners().map(OwnerRecords::owner));
            self.directory.replace_records(origin, names, std::iter::empty::<(NameRef<'_>, Vec<Rrset>)>());
            self.zones.remove(origin);
            self.directory.remove_zone(origin);
        }
    }

    fn put_zone(&mut self, apex: &Name) {
        let Some(zone) = self.zones.get(apex) else { return };
        let has_cuts = !zone.cuts.is_empty();
        self.directory.put_zone(apex, zone.serial.served().clone(), has_cuts);
    }

    /// Sets the records at a name to the zone's base records and those that its file adds, without hidden ones.
    fn put_records(&mut self, apex: &Name, owner: &Name) {
        let has_leaf = self.has_leaf(apex, owner);
        let Some(zone) = self.zones.get(apex) else { return };
        let mut rrsets = zone.base.get(owner).cloned().unwrap_or_default();
        let is_own = has_leaf || (!rrsets.is_empty() && owner != apex);
        let hides = zone.cuts.get(owner).is_some_and(|services| *services > 0);
        match zone.added.at(owner) {
            Some(added) if !is_own => {
                let is_cut = |rrset: &Rrset| is_cut(rrset.rtype, owner.as_name_ref(), apex.as_name_ref());
                rrsets.extend(added.rrsets().filter(|rrset| !hides || !is_cut(rrset)));
            }
            _ if rrsets.is_empty() && !self.has_records(apex, owner) => return,
            _ => {}
        }
        self.directory.set_rrsets(apex, owner, rrsets);
    }

    fn has_leaf(&self, apex: &Name, owner: &Name) -> bool {
        let node = |zone| self.directory.node(zone, &QueryName::from(owner), 0);
        self.directory.zone(apex).and_then(node).is_some_and(Node::is_service)
    }

    fn has_records(&self, apex: &Name, owner: &Name) -> bool {
        let node = |zone| self.directory.node(zone, &QueryName::from(owner), 0);
        self.directory.zone(apex).and_then(node).is_some_and(|node| !node.rrsets().is_empty())
    }

    fn publish(&mut self) {
        if let Some(version) = self.directory.take_version() {
            let old = self.snapshot.directory.swap(Arc::new(version));
            self.retired.push(old);
        }
        // After a swap every reader's borrow is counted. So no reader uses a version that is counted once, and it is freed.
        self.retired.retain(|version| Arc::strong_count(version) > 1);
        if self.serials.has_pending() {
            self.snapshot.sequence_lock.set_pending_serials(true);
        }
    }
}

fn is_cut(rtype: RecordType, owner: NameRef<'_>, apex: NameRef<'_>) -> bool {
    rtype == RecordType::DNAME || (rtype == RecordType::NS && owner != apex)
}

fn soa_serial(mut rrsets: impl Iterator<Item = Rrset>) -> Option<u32> {
    let soa = rrsets.find(|rrset| rrset.rtype == RecordType::SOA)?;
    let soa = soa.rdatas().next()?;
    let fields = soa.split_at_checked(soa.len().checked_sub(20)?)?.1;
    fields.first_chunk::<4>().map(|serial| u32::from_be_bytes(*serial))
}

fn report(applied: Applied) {
    match applied {
        Ok(warnings) => warnings.iter().for_each(|warning| tracing::warn!("{warning}")),
        Err(errors) => errors.iter().for_each(|error| tracing::error!("{error}")),
    }
}
