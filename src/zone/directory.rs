//! The directory: every zone and every name, in one persistent table.
//!
//! A directory is immutable once it is published. Its next version starts as a clone (a few reference
//! counts) and copies only the path to the changed nodes, so that adding a name costs as much among ten
//! names as among ten million. Each ancestor of a name, up to the apex, has a node too, with or without
//! records of its own: empty non-terminals and closest enclosers are found by a lookup in the table
//! (RFC 8020, RFC 4592 §3.3.1).
//!
//! The table is hashed by the name alone, so that a name is found before its zone is known. A name that is in several
//! nested zones has a node for each of them, and the zones' apexes decide which of these answers.

mod fast_lookup;
pub mod log;
mod numbers;
mod prefetch;
mod rrsets;
mod table;
mod whole_zone;
mod writer;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::{
    Leaf, Name, Negative, QueryName, RecordType, Rrset,
    name::{LABELS_MAX, NAME_OCTETS_MAX},
    query_name::name_hash,
    short,
};
use log::LogCell;
use numbers::NumberTable;
use rrsets::Rrsets;
use table::Table;

pub use fast_lookup::FastLookup;
pub use log::LogNumber;
pub use prefetch::Prefetch;
pub use writer::{DirectoryWriter, ZoneNames};

/// Synchronization primitives of the log. The concurrency model in `tests/publish_model.rs` compiles the log with others.
mod sync {
    pub(super) use std::sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    };
}

/// Capacity of a chunk of the log, in leaves; a chunk takes 56 KiB.
const LEAVES_PER_CHUNK: usize = 1024;

/// Reference to a leaf, which remains allocated and unchanged as long as the reference exists.
pub type HeldLeaf = log::Held<Leaf, LEAVES_PER_CHUNK>;

/// One version of all zones and names that this server answers for.
///
/// `zone_depths` counts the zones by the number of labels of their apex, and bit `n` of `depth_mask` is set if some apex
/// has `n` labels, so that a lookup probes no suffixes of other lengths. `deepest` is the largest of these numbers.
/// `deepest_uncut` equals `deepest` if no zone has cuts, else 0: a name in a zone with this many labels is in no other zone
/// and below no cut. `deepest_uncut_flat` equals `deepest_uncut` if no service has nodes below its name either, else 0.
#[derive(Clone)]
pub struct Directory {
    zones: Table<Zone>,
    nodes: Table<Node>,
    leaves: Arc<log::Log<Leaf, LEAVES_PER_CHUNK>>,
    zone_depths: Arc<[u32; LABELS_MAX + 1]>,
    zones_by_number: NumberTable<Zone>,
    depth_mask: u128,
    deepest: u8,
    deepest_uncut: u8,
    deepest_uncut_flat: u8,
    services_with_names_below: usize,
    zones_with_cuts: usize,
}

/// The first zones have numbers below this, which no other zone ever gets, so that counts by number belong to one zone.
pub const LASTING_NUMBERS: u8 = 100;

/// The number of a zone if it lasts, or else [`LASTING_NUMBERS`].
fn lasting(number: u32) -> u8 {
    u8::try_from(number).map_or(LASTING_NUMBERS, |number| number.min(LASTING_NUMBERS))
}

/// One zone: its apex, its serial, and the SOA for its negative answers. Its `number` distinguishes its nodes from those of
/// other zones with equal names.
#[derive(Clone, Debug)]
pub struct Zone {
    /// The apex's name in lower case.
    pub apex: Name,
    /// The SOA's serial (RFC 1035 §3.3.13), which increases with every change of the zone. All versions share it.
    pub serial: Arc<AtomicU32>,
    /// True if a name below the apex has NS records, or any name has a DNAME; lookups skip the search for cuts otherwise.
    pub has_cuts: bool,
    number: u32,
    negative: Option<Arc<Negative>>,
}

impl Zone {
    /// The number of the zone if it lasts, so that no other zone ever has it, or else [`LASTING_NUMBERS`].
    pub fn lasting_number(&self) -> u8 {
        lasting(self.number)
    }

    /// The current serial. The contents that belong to it were published before it was stored.
    pub fn serial(&self) -> u32 {
        self.serial.load(Ordering::Acquire)
    }

    /// The SOA for negative answers; `None` while the apex has no SOA.
    pub fn soa(&self) -> Option<&Negative> {
        self.negative.as_deref()
    }
}

/// One name of a zone.
///
/// `zone` is the number of the node's zone, `lasting_zone` the same up to [`LASTING_NUMBERS`], and `children` the number of
/// nodes directly below. For the fast path ([`Directory::fast_lookup`]) two fields have the number of the apex's labels, or else `NO_FAST_PATH`:
/// `apex_labels_if_service` if the name is a service without records of its own, and `apex_labels_if_closest` if names of
/// which this is the closest encloser certainly do not exist, as there is neither a wildcard nor a service to answer for
/// them.
///
/// A node is one allocation that contains its name and the cell of its leaf, so that a probe ends in one or two cache
/// lines. A change replaces the node with a new one that has a cell of its own. New leaves are then stored in the new
/// node's cell, and readers of an older version keep the leaf that they had until they load a newer version.
#[derive(Debug)]
pub struct Node {
    name: NodeName,
    zone: u32,
    lasting_zone: u8,
    apex_labels: u8,
    apex_labels_if_service: u8,
    apex_labels_if_closest: u8,
    children: u32,
    has_wildcard: bool,
    is_apex: bool,
    rrsets: Rrsets,
    leaf: LogCell,
}

/// Value that equals no number of labels (at most 127), so that comparisons on the fast path fail.
const NO_FAST_PATH: u8 = u8::MAX;

impl Node {
    /// The name in lower case, in wire form.
    pub fn name(&self) -> &[u8] {
        self.name.as_wire()
    }

    /// The number of the zone that the name belongs to, if it lasts, or else [`LASTING_NUMBERS`].
    #[inline(always)]
    pub fn lasting_zone(&self) -> u8 {
        self.lasting_zone
    }

    /// Records from zone files, and the apex's SOA and NS. Most names have none.
    #[inline]
    pub fn rrsets(&self) -> &[Rrset] {
        self.rrsets.as_slice()
    }

    /// The rrset of this type among [`Node::rrsets`].
    pub fn rrset(&self, rtype: RecordType) -> Option<&Rrset> {
        self.rrsets().iter().find(|rrset| rrset.rtype == rtype)
    }

    /// True if there is a node for `*` directly below the name (RFC 4592 §2.1.1).
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

    /// True if a Cloud Map service has this name.
    pub fn is_service(&self) -> bool {
        self.leaf.number().is_some()
    }

    /// The log number of the newest leaf of the service at this name, if there is one.
    pub fn leaf_number(&self) -> Option<LogNumber> {
        self.leaf.number()
    }

    /// True if the name has neither records nor a service, and exists because of names below it (RFC 8020).
    pub fn is_empty_non_terminal(&self) -> bool {
        self.rrsets.is_empty() && !self.is_service()
    }

    fn is_service_with_names_below(&self) -> bool {
        self.is_service() && self.children > 0
    }

    /// Updates the fields that derive from others. The root zone never takes the fast path: its 0 labels would equal the 0 of
    /// a directory in which some zone has cuts.
    fn update_derived(&mut self) {
        let labels =
            |is_fast: bool| if is_fast && self.apex_labels > 0 { self.apex_labels } else { NO_FAST_PATH };
        let if_service = labels(self.is_service() && self.rrsets.is_empty());
        let if_closest = labels(!self.is_service() && !self.has_wildcard);
        (self.apex_labels_if_service, self.apex_labels_if_closest) = (if_service, if_closest);
    }
}

impl Clone for Node {
    fn clone(&self) -> Node {
        Node {
            name: self.name.clone(),
            rrsets: self.rrsets.clone(),
            leaf: LogCell::new(self.leaf.number()),
            ..*self
        }
    }
}

const INLINE_OCTETS_MAX: usize = 38;

/// Most names have at most 38 bytes and need no allocation of their own.
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
            leaves: Arc::default(),
            zone_depths: Arc::new([0; LABELS_MAX + 1]),
            zones_by_number: NumberTable::default(),
            depth_mask: 0,
            deepest: 0,
            deepest_uncut: 0,
            deepest_uncut_flat: 0,
            services_with_names_below: 0,
            zones_with_cuts: 0,
        }
    }
}

impl Directory {
    /// The zone with the longest apex that is equal to the name or above it.
    pub fn zone_of(&self, name: &QueryName) -> Option<&Zone> {
        let labels = name.label_count();
        // Apexes with more than 63 labels are rare, so only the others use the faster search in one 64-bit word.
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

    #[inline]
    fn zone_at(&self, name: &QueryName, skipped: usize) -> Option<&Zone> {
        let suffix = name.suffix(skipped);
        self.zones.get(name.suffix_hash(skipped), |zone| zone.apex.as_wire() == suffix)
    }

    /// The zone with this apex, in upper or lower case.
    pub fn zone(&self, apex: &Name) -> Option<&Zone> {
        let apex = apex.to_lower();
        self.zones.get(name_hash(apex.as_wire()), |zone| zone.apex == apex)
    }

    /// All zones of this version, in no particular order.
    pub fn zones(&self) -> impl Iterator<Item = &Zone> {
        self.zones.iter()
    }

    /// Number of zones in this version.
    pub fn zone_count(&self) -> usize {
        self.zones.len()
    }

    /// Number of nodes in all zones together, empty non-terminals included.
    pub fn name_count(&self) -> usize {
        self.nodes.len()
    }

    /// The newest leaf of the service at `node`, a node of this directory, if there is one.
    #[inline(always)]
    pub fn leaf(&self, node: &Node) -> Option<&Leaf> {
        self.leaves.get(&node.leaf)
    }

    /// The leaf that one of the nodes has or had under this number, in a form that can outlive the directory.
    pub fn hold_leaf(&self, number: LogNumber) -> Option<HeldLeaf> {
        self.leaves.hold(number)
    }

    /// A copy with all zones, names and records but no leaves, for holders that must not keep leaves allocated.
    pub fn without_leaves(&self) -> Directory {
        Directory { leaves: Arc::default(), ..self.clone() }
    }

    /// True if some service has nodes below its own name. If none has, the closest encloser of an instance's name is the
    /// service, and no other node needs to be searched for the instance.
    pub fn has_names_below_services(&self) -> bool {
        self.services_with_names_below > 0
    }

    /// The nodes of a zone, in no particular order. This goes through the nodes of all zones.
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
}

/// The label `*` in wire form, with its length octet (RFC 4592 §2.1.1).
const WILDCARD_LABEL: &[u8] = b"\x01*";

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
    use std::collections::BTreeMap;

    use super::log::{Log, LogCell, LogWriter};
    use super::*;

    /// A value of the log, with a reference to an `Arc` whose count is then the number of values that are not freed yet.
    type Counted = (u64, Arc<()>);

    #[test]
    fn a_log_finds_the_newest_value_of_each_cell_and_frees_old_ones() {
        let mut random = fastrand::Rng::with_seed(2);
        let all = Arc::new(());
        let mut writer = LogWriter::<Counted, 4>::new();
        let mut cells = BTreeMap::<u64, (LogCell, u64)>::new();
        let mut versions = Vec::<Arc<Log<Counted, 4>>>::new();
        let mut largest = 0;
        for step in 0..30_000u64 {
            // Three owners change in half of the steps, the others rarely. The number of owners grows, then shrinks.
            let owner = if random.bool() { random.u64(..3) } else { random.u64(..200) };
            let old = cells.get(&owner).and_then(|(cell, _)| cell.number());
            if step > 20_000 && random.u8(..3) > 0 {
                cells.remove(&owner);
            } else {
                let number = writer.push((step, all.clone()), owner);
                let (cell, newest) = cells.entry(owner).or_insert_with(|| (LogCell::new(None), 0));
                cell.set(number);
                *newest = step;
            }
            old.into_iter().for_each(|old| writer.retire(old));
            writer.clean(|owner, old, new| {
                let (cell, _) = &cells[&owner];
                assert_eq!(cell.number(), Some(old));
                cell.set(new);
            });
            largest = largest.max(cells.len());
            if random.u8(..8) == 0 {
                versions.push(writer.log().clone());
                versions.drain(..versions.len().saturating_sub(random.usize(..8)));
            }
            for log in versions.iter().chain([writer.log()]) {
                let (cell, newest) = match cells.get(&owner) {
                    Some((cell, newest)) => (cell, *newest),
                    None => continue,
                };
                assert_eq!(log.get(cell).map(|value| value.0), Some(newest), "of {owner} in step {step}");
                let held = log.hold(cell.number().unwrap()).unwrap();
                assert_eq!((held.get().unwrap().0, Some(held.number())), (newest, cell.number()));
            }
        }
        let found = cells.values().map(|(cell, _)| writer.log().get(cell).unwrap().0);
        assert!(found.eq(cells.values().map(|(_, newest)| *newest)));
        assert_eq!(writer.log().get(&LogCell::new(None)), None);
        versions.clear();
        assert!(largest > 150 && cells.len() < 100);
        let kept = Arc::strong_count(&all) - 1;
        assert!(kept < 2 * cells.len() + 32, "{kept} values for {}", cells.len());
    }

    #[test]
    fn a_zone_has_the_soa_of_its_apex_for_negative_answers() {
        let apex: Name = "Svc.local".parse().unwrap();
        let soa = |minimum: u8| {
            let rdata = [&b"\0\0"[..], &[0; 19], &[minimum]].concat();
            vec![Rrset::new(RecordType::SOA, 60, [&rdata[..]]).unwrap()]
        };
        let ttl = |directory: &Directory| Some(directory.zone(&apex)?.soa()?.ttl);
        let mut directory = DirectoryWriter::default();
        directory.put_zone(&apex, Arc::default(), false);
        assert_eq!(ttl(&directory), None);
        directory.set_rrsets(&apex, &apex.to_lower(), soa(5));
        let older = directory.take_version().unwrap();
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
