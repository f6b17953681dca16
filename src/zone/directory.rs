//! The directory: every zone and every name, in one persistent table.
//!
//! A directory is immutable once it is published. Its next version starts as a clone (a few reference
//! counts) and copies only the path to what changes, so that adding a name costs the same beside ten
//! names as beside ten million. Each name above another exists as a node, with or without records of its
//! own: empty non-terminals and closest enclosers are read off the table (RFC 8020, RFC 4592 §3.3.1).
//!
//! The table's hash is of the name alone, so that a name is found before anybody knows its zone. A name that several zones
//! have, one below the other, has a node for each of them; which of them counts is the zones' to say.

mod ahead;
mod plain;
mod table;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::{
    Leaf, Name, Negative, QueryName, RecordType, Rrset,
    leaf::LeafCell,
    name::{LABELS_MAX, NAME_OCTETS_MAX},
    query_name::name_hash,
    short,
};
use table::Table;

pub use ahead::Ahead;
pub use plain::Plain;

/// All zones and names.
#[derive(Clone)]
pub struct Directory {
    zones: Table<Zone>,
    nodes: Table<Node>,
    /// How many zones there are with each number of labels: a lookup probes no other suffix.
    zone_depths: Arc<[u32; LABELS_MAX + 1]>,
    /// The zones by their numbers.
    numbered: Table<Zone>,
    /// Ready answers for the walk: bit `n` is set when some zone has `n` labels.
    depth_mask: u128,
    /// The largest of those numbers of labels.
    deepest: u8,
    next_number: u32,
    /// How many services have names of the table below their own.
    services_with_names_below: usize,
    /// How many zones have cuts.
    zones_with_cuts: usize,
}

/// One zone.
#[derive(Clone, Debug)]
pub struct Zone {
    /// Lower case.
    pub apex: Name,
    /// Changes whenever something in the zone does; the SOA's serial (RFC 1035 §3.3.13).
    pub serial: Arc<AtomicU32>,
    /// Whether some name has NS below the apex, or DNAME: only then a lookup walks down for them.
    pub has_cuts: bool,
    /// Tells the names of this zone from equal names of others.
    number: u32,
    /// Made of the apex's SOA whenever that is set.
    negative: Option<Arc<Negative>>,
}

impl Zone {
    /// The serial now. What it stands for had been published before it was stored.
    pub fn serial(&self) -> u32 {
        self.serial.load(Ordering::Acquire)
    }

    /// The SOA for negative answers; none as long as the apex has no SOA.
    pub fn soa(&self) -> Option<&Negative> {
        self.negative.as_deref()
    }
}

/// One name of a zone.
///
/// It is one piece of memory with its name and the cell of its leaf, so that a probe ends in one or two cache lines.
/// A node that is changed becomes another node, with a cell of its own: from then on, new leaves go to the newest
/// version's cell, and a view of an older version stays with the leaf that it had. Who wants the newest takes a new
/// view.
#[derive(Debug)]
pub struct Node {
    /// Lower case, in wire form.
    name: NodeName,
    /// The zone's number.
    zone: u32,
    /// How many labels the zone's apex has.
    apex_labels: u8,
    /// How many nodes are directly below.
    children: u32,
    /// Whether `*` is directly below.
    has_wildcard: bool,
    is_apex: bool,
    /// Records of zone files, and the apex's own. Most names have none.
    rrsets: Option<Arc<Vec<Rrset>>>,
    /// The service at this name.
    pub leaf: Option<LeafCell>,
}

impl Node {
    /// The name in lower case, in wire form.
    pub fn name(&self) -> &[u8] {
        self.name.as_wire()
    }

    /// Records of zone files, and the apex's own.
    #[inline]
    pub fn rrsets(&self) -> &[Rrset] {
        self.rrsets.as_ref().map_or(&[], |rrsets| rrsets.as_slice())
    }

    /// The records of this type from zone files.
    pub fn rrset(&self, rtype: RecordType) -> Option<&Rrset> {
        self.rrsets().iter().find(|rrset| rrset.rtype == rtype)
    }

    /// Whether `*` is directly below.
    pub fn has_wildcard(&self) -> bool {
        self.has_wildcard
    }

    #[inline(always)]
    fn is_named_in_lower(&self, wire: &[u8]) -> bool {
        short::equal_in_lower(self.name.as_wire(), wire)
    }

    #[inline]
    fn is_named(&self, lower_wire: &[u8]) -> bool {
        short::equal(self.name.as_wire(), lower_wire)
    }

    /// Whether the name has neither records nor a service.
    pub fn is_empty_non_terminal(&self) -> bool {
        self.rrsets.is_none() && self.leaf.is_none()
    }

    fn is_service_with_names_below(&self) -> bool {
        self.leaf.is_some() && self.children > 0
    }
}

impl Clone for Node {
    fn clone(&self) -> Node {
        Node {
            name: self.name.clone(),
            rrsets: self.rrsets.clone(),
            leaf: self.leaf.as_ref().map(|cell| LeafCell::new(cell.load_full())),
            ..*self
        }
    }
}

/// Longest name that is kept in its node, in octets.
const INLINE_OCTETS_MAX: usize = 38;

/// A name in wire form; most are short.
#[derive(Clone, Debug)]
enum NodeName {
    Inline { len: u8, octets: [u8; INLINE_OCTETS_MAX] },
    Boxed(Box<[u8]>),
}

impl NodeName {
    fn new(wire: &[u8]) -> NodeName {
        let mut inline = [0; INLINE_OCTETS_MAX];
        match inline.get_mut(..wire.len()) {
            Some(octets) => {
                octets.copy_from_slice(wire);
                NodeName::Inline { len: wire.len() as u8, octets: inline }
            }
            None => NodeName::Boxed(wire.into()),
        }
    }

    #[inline(always)]
    fn as_wire(&self) -> &[u8] {
        match self {
            NodeName::Inline { len, octets } => &octets[..*len as usize],
            NodeName::Boxed(octets) => octets,
        }
    }
}

impl Default for Directory {
    fn default() -> Directory {
        Directory {
            zones: Table::default(),
            nodes: Table::default(),
            zone_depths: Arc::new([0; LABELS_MAX + 1]),
            numbered: Table::default(),
            depth_mask: 0,
            deepest: 0,
            next_number: 0,
            services_with_names_below: 0,
            zones_with_cuts: 0,
        }
    }
}

impl Directory {
    /// The zone with the longest apex that the name is at or below.
    pub fn zone_of(&self, name: &QueryName) -> Option<&Zone> {
        let labels = name.label_count();
        // Names with more labels than a word has bits are not worth a word of their own.
        let deepest = labels.min(u64::BITS as usize - 1);
        let is_depth = |depth: &usize| self.depth_mask >> depth & 1 == 1;
        let mut deep = (deepest + 1..=labels).rev().filter(is_depth);
        let mut zone = deep.find_map(|depth| self.zone_at(name, labels - depth));
        let mut depths = self.depth_mask as u64 & (u64::MAX >> (u64::BITS as usize - 1 - deepest));
        while zone.is_none() && depths != 0 {
            let depth = depths.ilog2();
            zone = self.zone_at(name, labels - depth as usize);
            depths ^= 1 << depth;
        }
        zone
    }

    /// The zone whose apex is the name without its first `skipped` labels.
    #[inline]
    fn zone_at(&self, name: &QueryName, skipped: usize) -> Option<&Zone> {
        let suffix = name.suffix(skipped);
        self.zones.get(name.suffix_hash(skipped), |zone| zone.apex.as_wire() == suffix)
    }

    /// The zone with this apex.
    pub fn zone(&self, apex: &Name) -> Option<&Zone> {
        let apex = apex.to_lower();
        self.zones.get(name_hash(apex.as_wire()), |zone| zone.apex == apex)
    }

    /// All zones.
    pub fn zones(&self) -> impl Iterator<Item = &Zone> {
        self.zones.iter()
    }

    /// How many zones there are.
    pub fn zone_count(&self) -> usize {
        self.zones.len()
    }

    /// How many names there are in all zones.
    pub fn name_count(&self) -> usize {
        self.nodes.len()
    }

    /// Whether some service has names of the table below its own. Where none has, an instance's name is found
    /// at the closest name there is, or nowhere.
    pub fn has_names_below_services(&self) -> bool {
        self.services_with_names_below > 0
    }

    /// The names of a zone, in no order. This walks all names of all zones.
    pub fn nodes(&self, zone: &Zone) -> impl Iterator<Item = &Node> {
        let number = zone.number;
        self.nodes.iter().filter(move |node| node.zone == number)
    }

    /// The node of the name without its first `skipped` labels.
    pub fn node(&self, zone: &Zone, name: &QueryName, skipped: usize) -> Option<&Node> {
        let suffix = name.suffix(skipped);
        let hash = name.suffix_hash(skipped);
        self.nodes.get(hash, |node| node.zone == zone.number && node.is_named(suffix))
    }

    /// The node of `*` below the name without its first `skipped` labels.
    pub fn wildcard(&self, zone: &Zone, name: &QueryName, skipped: usize) -> Option<&Node> {
        let mut octets = [0; WILDCARD_LABEL.len() + NAME_OCTETS_MAX];
        let suffix = name.suffix(skipped);
        let wildcard = &mut octets[..WILDCARD_LABEL.len() + suffix.len()];
        let (label, rest) = wildcard.split_at_mut(WILDCARD_LABEL.len());
        label.copy_from_slice(WILDCARD_LABEL);
        rest.copy_from_slice(suffix);
        self.nodes.get(name_hash(wildcard), |node| node.zone == zone.number && node.is_named(wildcard))
    }

    /// Adds a zone, or changes what is known of it. Its apex exists as a name from now on.
    pub fn put_zone(&mut self, apex: &Name, serial: Arc<AtomicU32>, has_cuts: bool) {
        let apex = apex.to_lower();
        let hash = name_hash(apex.as_wire());
        let (number, negative) = match self.zones.get(hash, |zone| zone.apex == apex) {
            Some(zone) => {
                self.zones_with_cuts -= usize::from(zone.has_cuts);
                (zone.number, zone.negative.clone())
            }
            None => {
                self.next_number += 1;
                let depth = apex.label_count();
                Arc::make_mut(&mut self.zone_depths)[depth] += 1;
                self.set_depths(self.depth_mask | 1 << depth);
                (self.next_number, None)
            }
        };
        self.zones_with_cuts += usize::from(has_cuts);
        self.keep_zone(Zone { apex: apex.clone(), serial, has_cuts, number, negative });
        self.change(number, apex.as_wire(), apex.as_wire(), &mut |node| node.is_apex = true);
    }

    /// Removes a zone. Records and services below the apex have to be removed before.
    pub fn remove_zone(&mut self, apex: &Name) {
        let apex = apex.to_lower();
        let Some(zone) = self.zones.remove(name_hash(apex.as_wire()), |zone| zone.apex == apex) else {
            return;
        };
        self.numbered.remove(number_hash(zone.number), |old| old.number == zone.number);
        self.zones_with_cuts -= usize::from(zone.has_cuts);
        let depth = apex.label_count();
        let depths = Arc::make_mut(&mut self.zone_depths);
        depths[depth] -= 1;
        if depths[depth] == 0 {
            self.set_depths(self.depth_mask & !(1 << depth));
        }
        self.change(zone.number, apex.as_wire(), apex.as_wire(), &mut |node| {
            node.is_apex = false;
            node.rrsets = None;
            node.leaf = None;
        });
    }

    /// Sets the records at a name of a zone; an empty list removes them.
    pub fn set_rrsets(&mut self, apex: &Name, name: &Name, rrsets: Vec<Rrset>) {
        if apex == name {
            self.set_negative(apex, &rrsets);
        }
        let rrsets = Some(rrsets).filter(|rrsets| !rrsets.is_empty()).map(Arc::new);
        self.edit(apex, name, &mut |node| node.rrsets = rrsets.clone());
    }

    /// Sets the service at a name of a zone, or removes it.
    pub fn set_leaf(&mut self, apex: &Name, name: &Name, leaf: Option<Arc<Leaf>>) {
        self.edit(apex, name, &mut |node| node.leaf = leaf.clone().map(LeafCell::new));
    }

    /// Replaces the leaf of a service, here and in every clone that has the same version of the name. The old leaf, or
    /// `None` when there is no service at the name: nothing changes then.
    pub fn swap_leaf(&self, apex: &Name, name: &Name, leaf: Leaf) -> Option<Arc<Leaf>> {
        let node = self.node(self.zone(apex)?, &QueryName::from(name), 0)?;
        Some(node.leaf.as_ref()?.swap(Arc::new(leaf)))
    }

    /// Keeps the SOA for negative answers as the apex's records say.
    fn set_negative(&mut self, apex: &Name, rrsets: &[Rrset]) {
        let Some(zone) = self.zone(apex) else { return };
        let soa = rrsets.iter().find(|rrset| rrset.rtype == RecordType::SOA);
        let negative = soa.and_then(|soa| Negative::new(&zone.apex, soa)).map(Arc::new);
        if zone.negative != negative {
            self.keep_zone(Zone { negative, ..zone.clone() });
        }
    }

    fn keep_zone(&mut self, zone: Zone) {
        let zone = Arc::new(zone);
        self.zones.put(name_hash(zone.apex.as_wire()), zone.clone(), |old| old.apex == zone.apex);
        self.numbered.put(number_hash(zone.number), zone.clone(), |old| old.number == zone.number);
    }

    fn set_depths(&mut self, depth_mask: u128) {
        self.depth_mask = depth_mask;
        self.deepest = depth_mask.checked_ilog2().unwrap_or(0) as u8;
    }

    fn edit(&mut self, apex: &Name, name: &Name, change: &mut dyn FnMut(&mut Node)) {
        let Some(zone) = self.zone(apex) else { return };
        let (number, apex) = (zone.number, zone.apex.clone());
        let name = name.to_lower();
        debug_assert!(name.is_at_or_below(&apex), "{name} is not in {apex}");
        self.change(number, apex.as_wire(), name.as_wire(), change);
    }

    /// Changes a node, after making it and all above it where there is none; then removes it, and all
    /// above it, where nothing is left.
    fn change(&mut self, zone: u32, apex: &[u8], name: &[u8], change: &mut dyn FnMut(&mut Node)) {
        let hash = name_hash(name);
        let matches = |node: &Node| node.zone == zone && node.is_named(name);
        let mut node = match self.nodes.get(hash, matches) {
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
                    name: NodeName::new(name),
                    zone,
                    apex_labels: label_count(apex),
                    children: 0,
                    has_wildcard: false,
                    is_apex: false,
                    rrsets: None,
                    leaf: None,
                }
            }
        };
        self.services_with_names_below -= usize::from(node.is_service_with_names_below());
        change(&mut node);
        self.services_with_names_below += usize::from(node.is_service_with_names_below());
        if !node.is_empty_non_terminal() || node.children > 0 || node.is_apex {
            self.nodes.put(hash, Arc::new(node), matches);
            return;
        }
        self.nodes.remove(hash, matches);
        if name != apex {
            let (label, parent) = name.split_at(1 + name[0] as usize);
            self.change(zone, apex, parent, &mut |parent| {
                parent.children -= 1;
                parent.has_wildcard &= label != WILDCARD_LABEL;
            });
        }
    }
}

/// A hash of a zone's number.
#[inline]
fn number_hash(number: u32) -> u64 {
    u64::from(number).wrapping_mul(NUMBER_MULTIPLIER)
}

/// Odd, with well spread bits: 2^64 divided by the golden ratio.
const NUMBER_MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;

/// `*` as a label (RFC 4592 §2.1.1).
const WILDCARD_LABEL: &[u8] = b"\x01*";

/// How many labels the name at the start of `wire` has, the root not counted.
fn label_count(wire: &[u8]) -> u8 {
    let (mut at, mut labels) = (0, 0);
    while let Some(len) = wire.get(at).filter(|len| **len > 0) {
        at += 1 + *len as usize;
        labels += 1;
    }
    labels
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zone_has_the_soa_of_its_apex_for_negative_answers() {
        let apex: Name = "Svc.local".parse().unwrap();
        let soa = |minimum: u8| {
            let rdata = [&b"\0\0"[..], &[0; 19], &[minimum]].concat();
            vec![Rrset::new(RecordType::SOA, 60, [&rdata[..]]).unwrap()]
        };
        let ttl = |directory: &Directory| Some(directory.zone(&apex)?.soa()?.ttl);
        let mut directory = Directory::default();
        directory.put_zone(&apex, Arc::default(), false);
        assert_eq!(ttl(&directory), None);
        directory.set_rrsets(&apex, &apex.to_lower(), soa(5));
        let older = directory.clone();
        assert_eq!(ttl(&directory), Some(5));
        directory.set_rrsets(&apex, &apex.child(b"www").unwrap(), soa(6));
        directory.put_zone(&apex, Arc::default(), true);
        assert_eq!(ttl(&directory), Some(5));
        directory.set_rrsets(&apex, &apex, soa(7));
        assert_eq!((ttl(&directory), ttl(&older)), (Some(7), Some(5)));
        directory.set_rrsets(&apex, &apex, Vec::new());
        assert_eq!(ttl(&directory), None);
    }
}
