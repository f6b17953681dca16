//! Writer of the directory's next version: it adds, changes and removes zones, records and services.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use super::{
    Directory, LASTING_NUMBERS, LEAVES_PER_CHUNK, LogCell, NO_FAST_PATH, Node, NodeName, Rrsets,
    WILDCARD_LABEL, Zone, label_count, lasting, log::LogWriter, whole_zone,
};
use crate::zone::{Leaf, Name, NameRef, Negative, QueryName, RecordType, Rrset, query_name::name_hash};

/// The next version of the directory, which shares all unchanged nodes with published versions. A new leaf of a service whose
/// node is shared becomes visible in those versions at once.
///
/// `has_changed` is set if there is more to publish than leaves. Zone numbers are below `numbers`; `free_numbers` are those
/// that removed zones had.
pub struct DirectoryWriter {
    directory: Directory,
    log: LogWriter<Leaf, LEAVES_PER_CHUNK>,
    has_changed: bool,
    numbers: u32,
    free_numbers: Vec<u32>,
}

impl Deref for DirectoryWriter {
    type Target = Directory;

    fn deref(&self) -> &Directory {
        &self.directory
    }
}

impl Default for DirectoryWriter {
    fn default() -> DirectoryWriter {
        let log = LogWriter::new();
        let directory = Directory { leaves: log.log().clone(), ..Directory::default() };
        DirectoryWriter { directory, log, has_changed: false, numbers: 0, free_numbers: Vec::new() }
    }
}

/// Hashes of all names of a zone without services, with which [`DirectoryWriter::replace_records`] finds the nodes to remove.
#[derive(Default)]
pub struct ZoneNames(Vec<u64>);

impl ZoneNames {
    /// The names of a zone with records at these owners, which must be in canonical order, each once.
    pub fn new<'a>(apex: &'a Name, owners: impl Iterator<Item = NameRef<'a>>) -> ZoneNames {
        ZoneNames(whole_zone::hashes(apex, owners))
    }
}

impl DirectoryWriter {
    /// The version to publish, if anything but leaves has changed since the last call. A new leaf of a published service needs
    /// no new version, because the published versions share its node.
    pub fn take_version(&mut self) -> Option<Directory> {
        std::mem::take(&mut self.has_changed).then(|| self.directory.clone())
    }

    /// Adds a zone with a node for its apex, or replaces the serial and `has_cuts` of an existing one.
    pub fn put_zone(&mut self, apex: &Name, serial: Arc<AtomicU32>, has_cuts: bool) {
        let apex = apex.to_lower();
        let hash = name_hash(apex.as_wire());
        let (number, negative) = match self.directory.zones.get(hash, |zone| zone.apex == apex) {
            Some(zone) => {
                self.directory.zones_with_cuts -= usize::from(zone.has_cuts);
                (zone.number, zone.negative.clone())
            }
            None => {
                let depth = apex.label_count();
                Arc::make_mut(&mut self.directory.zone_depths)[depth] += 1;
                self.set_depths(self.directory.depth_mask | 1 << depth);
                (self.new_number(), None)
            }
        };
        self.directory.zones_with_cuts += usize::from(has_cuts);
        self.store_zone(Zone { apex: apex.clone(), serial, has_cuts, number, negative });
        self.change(number, apex.as_wire(), apex.as_wire(), &mut |node| node.is_apex = true);
        self.update_derived();
    }

    fn new_number(&mut self) -> u32 {
        self.free_numbers.pop().unwrap_or_else(|| {
            self.numbers += 1;
            self.numbers - 1
        })
    }

    fn update_derived(&mut self) {
        let directory = &mut self.directory;
        let has_cuts = directory.zones_with_cuts > 0;
        let has_names_below_services = directory.services_with_names_below > 0;
        directory.deepest_uncut = if has_cuts { 0 } else { directory.deepest };
        directory.deepest_uncut_flat = if has_names_below_services { 0 } else { directory.deepest_uncut };
    }

    /// Removes a zone. The caller must have removed all records and services below the apex.
    pub fn remove_zone(&mut self, apex: &Name) {
        let apex = apex.to_lower();
        let Some(zone) = self.directory.zones.remove(name_hash(apex.as_wire()), |zone| zone.apex == apex)
        else {
            return;
        };
        self.directory.zones_by_number.set(zone.number, None);
        self.directory.zones_with_cuts -= usize::from(zone.has_cuts);
        let depth = apex.label_count();
        let depths = Arc::make_mut(&mut self.directory.zone_depths);
        depths[depth] -= 1;
        if depths[depth] == 0 {
            self.set_depths(self.directory.depth_mask & !(1 << depth));
        }
        self.change(zone.number, apex.as_wire(), apex.as_wire(), &mut |node| {
            node.is_apex = false;
            node.rrsets = Rrsets::None;
            node.leaf = LogCell::new(None);
        });
        // Every node has all its ancestors up to the apex, so without the apex no node has the number any more.
        let is_gone =
            self.directory.nodes.get(name_hash(apex.as_wire()), |node| node.zone == zone.number).is_none();
        if is_gone && zone.number >= LASTING_NUMBERS.into() {
            self.free_numbers.push(zone.number);
        }
        self.update_derived();
    }

    /// Replaces all records at a name of a zone. Without rrsets, the records are removed.
    pub fn set_rrsets(&mut self, apex: &Name, name: &Name, rrsets: Vec<Rrset>) {
        if apex == name {
            self.set_negative(apex, &rrsets);
        }
        let rrsets: Rrsets = rrsets.into_iter().collect();
        self.edit(apex, name, &mut |node| node.rrsets = rrsets.clone());
    }

    /// Replaces all records of a zone that has no services. `old` are all names that the zone has now; `new` are its new
    /// owners with their records, in canonical order (RFC 4034 §6.1), each owner once.
    pub fn replace_records<'a>(
        &mut self,
        apex: &'a Name,
        old: ZoneNames,
        new: impl Iterator<Item = (NameRef<'a>, impl IntoIterator<Item = Rrset>)>,
    ) {
        let Some(zone) = self.zone(apex) else { return };
        let number = zone.number;
        let new = whole_zone::nodes(number, apex, new);
        self.directory.nodes.replace(old.0, new, |node| node.zone == number);
        let node = self.zone(apex).and_then(|zone| self.node(zone, &QueryName::from(apex), 0));
        let rrsets = node.map(|node| node.rrsets.clone()).unwrap_or_default();
        self.set_negative(apex, rrsets.as_slice());
        self.has_changed = true;
    }

    /// Adds a service at a name of a zone, replaces its leaf, or removes the service if `leaf` is `None`. Unlike
    /// [`DirectoryWriter::replace_leaf`] this needs a new version.
    pub fn set_leaf(&mut self, apex: &Name, name: &Name, leaf: Option<Leaf>) {
        if self.directory.zone(apex).is_none() {
            return;
        }
        let owner = name_hash(name.to_lower().as_wire());
        let number = leaf.map(|leaf| self.log.push(leaf, owner));
        self.edit(apex, name, &mut |node| node.leaf = LogCell::new(number));
        self.clean_log();
    }

    /// Replaces the leaf of a service, in this version and in every published one that shares the node. Does nothing if there
    /// is no service at the name.
    pub fn replace_leaf(&mut self, apex: &Name, name: &Name, leaf: Leaf) {
        let name = QueryName::from(name);
        let node = self.directory.zone(apex).and_then(|zone| self.directory.node(zone, &name, 0));
        if let Some((node, old)) = node.and_then(|node| Some((node, node.leaf.number()?))) {
            node.leaf.set(self.log.push(leaf, name.suffix_hash(0)));
            self.log.retire(old);
            self.clean_log();
        }
    }

    /// Moves some leaves out of the log's oldest chunk if too many of the log's leaves are outdated.
    fn clean_log(&mut self) {
        let nodes = &self.directory.nodes;
        self.log.clean(|owner, old, new| {
            if let Some(node) = nodes.get(owner, |node| node.leaf.number() == Some(old)) {
                node.leaf.set(new);
            }
        });
        if !Arc::ptr_eq(&self.directory.leaves, self.log.log()) {
            self.directory.leaves = self.log.log().clone();
            self.has_changed = true;
        }
    }

    fn set_negative(&mut self, apex: &Name, rrsets: &[Rrset]) {
        let Some(zone) = self.zone(apex) else { return };
        let soa = rrsets.iter().find(|rrset| rrset.rtype == RecordType::SOA);
        let negative = soa.and_then(|soa| Negative::new(&zone.apex, soa)).map(Arc::new);
        if zone.negative != negative {
            self.store_zone(Zone { negative, ..zone.clone() });
        }
    }

    fn store_zone(&mut self, zone: Zone) {
        let zone = Arc::new(zone);
        self.directory.zones.put(name_hash(zone.apex.as_wire()), zone.clone(), |old| old.apex == zone.apex);
        self.directory.zones_by_number.set(zone.number, Some(zone));
    }

    fn set_depths(&mut self, depth_mask: u128) {
        self.directory.depth_mask = depth_mask;
        self.directory.deepest = depth_mask.checked_ilog2().unwrap_or(0) as u8;
    }

    fn edit(&mut self, apex: &Name, name: &Name, change: &mut dyn FnMut(&mut Node)) {
        let Some(zone) = self.zone(apex) else { return };
        let (number, apex) = (zone.number, zone.apex.clone());
        let name = name.to_lower();
        debug_assert!(name.is_at_or_below(&apex), "{name} is not in {apex}");
        self.change(number, apex.as_wire(), name.as_wire(), change);
        self.update_derived();
    }

    /// Changes a node. Missing nodes, the name's own and its ancestors' up to the apex, are added first; nodes that are empty
    /// after the change are removed.
    fn change(&mut self, zone: u32, apex: &[u8], name: &[u8], change: &mut dyn FnMut(&mut Node)) {
        let hash = name_hash(name);
        let matches = |node: &Node| node.zone == zone && node.is_named(name);
        let mut node = match self.directory.nodes.get(hash, matches) {
            Some(node) => node.clone(),
            None => {
                if name != apex {
                    let (label, parent) = name.split_at(1 + name[0] as usize);
                    self.change(zone, apex, parent, &mut |parent| {
                        parent.children += 1;
                        parent.has_wildcard |= label == WILDCARD_LABEL;
                    });
                }
                Node {
                    lasting_zone: lasting(zone),
                    name: NodeName::new(name),
                    zone,
                    apex_labels: label_count(apex),
                    children: 0,
                    has_wildcard: false,
                    is_apex: false,
                    rrsets: Rrsets::None,
                    leaf: LogCell::new(None),
                    apex_labels_if_service: NO_FAST_PATH,
                    apex_labels_if_closest: NO_FAST_PATH,
                }
            }
        };
        let leaf_before = node.leaf.number();
        self.directory.services_with_names_below -= usize::from(node.is_service_with_names_below());
        change(&mut node);
        node.update_derived();
        if let Some(number) = leaf_before.filter(|_| leaf_before != node.leaf.number()) {
            self.log.retire(number);
        }
        self.has_changed = true;
        self.directory.services_with_names_below += usize::from(node.is_service_with_names_below());
        if !node.is_empty_non_terminal() || node.children > 0 || node.is_apex {
            self.directory.nodes.put(hash, Arc::new(node), matches);
            return;
        }
        self.directory.nodes.remove(hash, matches);
        if name != apex {
            let (label, parent) = name.split_at(1 + name[0] as usize);
            self.change(zone, apex, parent, &mut |parent| {
                parent.children -= 1;
                parent.has_wildcard &= label != WILDCARD_LABEL;
            });
        }
    }
}
