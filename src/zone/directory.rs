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
pub mod log;
mod numbers;
mod plain;
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
use numbers::Numbers;
use rrsets::Rrsets;
use table::Table;

pub use ahead::Ahead;
pub use log::LogNumber;
pub use plain::Plain;
pub use writer::{DirectoryWriter, ZoneNames};

/// What the log is made of; the model of it has its own.
mod sync {
    pub(super) use std::sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    };
}

/// How many leaves a chunk of the log has room for: 56 KiB.
const LEAVES_OF_A_CHUNK: usize = 1024;

/// A leaf that stays as it is while it is held.
pub type HeldLeaf = log::Held<Leaf, LEAVES_OF_A_CHUNK>;

/// All zones and names.
#[derive(Clone)]
pub struct Directory {
    zones: Table<Zone>,
    nodes: Table<Node>,
    leaves: Arc<log::Log<Leaf, LEAVES_OF_A_CHUNK>>,
    /// How many zones there are with each number of labels: a lookup probes no other suffix.
    zone_depths: Arc<[u32; LABELS_MAX + 1]>,
    /// The zones by their numbers.
    numbered: Numbers<Zone>,
    /// Ready answers for the walk: bit `n` is set when some zone has `n` labels.
    depth_mask: u128,
    /// The largest of those numbers of labels.
    deepest: u8,
    /// The same when no zone has cuts: what is in such a zone is in no other, and in no cut.
    plain_labels: u8,
    /// The same when no service has names of the table below its own either.
    plain_labels_of_no_names: u8,
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
    /// The same when the name is a service and has nothing else ([`Directory::plain`]), or [`NOT_PLAIN`].
    service_in: u8,
    /// The same when a name below that does not exist has nothing from here, neither by a wildcard nor by a service.
    closes_in: u8,
    /// How many nodes are directly below.
    children: u32,
    /// Whether `*` is directly below.
    has_wildcard: bool,
    is_apex: bool,
    /// Records of zone files, and the apex's own. Most names have none.
    rrsets: Rrsets,
    /// The leaf of the service at this name.
    leaf: LogCell,
}

/// No zone has so many labels.
const NOT_PLAIN: u8 = u8::MAX;

impl Node {
    /// The name in lower case, in wire form.
    pub fn name(&self) -> &[u8] {
        self.name.as_wire()
    }

    /// Records of zone files, and the apex's own.
    #[inline]
    pub fn rrsets(&self) -> &[Rrset] {
        self.rrsets.as_slice()
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

    /// Whether the name is a service's.
    pub fn is_service(&self) -> bool {
        self.leaf.number().is_some()
    }

    /// The number of the newest leaf of the service at this name, if there is one.
    pub fn leaf_number(&self) -> Option<LogNumber> {
        self.leaf.number()
    }

    /// Whether the name has neither records nor a service.
    pub fn is_empty_non_terminal(&self) -> bool {
        self.rrsets.is_empty() && !self.is_service()
    }

    fn is_service_with_names_below(&self) -> bool {
        self.is_service() && self.children > 0
    }

    /// Sets what follows from the rest. The root is not usual, and its zone not plain.
    fn settle(&mut self) {
        let labels =
            |is_plain: bool| if is_plain && self.apex_labels > 0 { self.apex_labels } else { NOT_PLAIN };
        let service_in = labels(self.is_service() && self.rrsets.is_empty());
        let closes_in = labels(!self.is_service() && !self.has_wildcard);
        (self.service_in, self.closes_in) = (service_in, closes_in);
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
            leaves: Arc::default(),
            zone_depths: Arc::new([0; LABELS_MAX + 1]),
            numbered: Numbers::default(),
            depth_mask: 0,
            deepest: 0,
            plain_labels: 0,
            plain_labels_of_no_names: 0,
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

    /// The newest leaf of the service at one of this directory's nodes, if there is one.
    #[inline(always)]
    pub fn leaf(&self, node: &Node) -> Option<&Leaf> {
        self.leaves.get(&node.leaf)
    }

    /// The leaf that has or had this number at one of the nodes, to be kept for longer than the directory.
    pub fn hold_leaf(&self, number: LogNumber) -> Option<HeldLeaf> {
        self.leaves.hold(number)
    }

    /// The same names and records, without a leaf. It keeps no leaf alive.
    pub fn without_leaves(&self) -> Directory {
        Directory { leaves: Arc::default(), ..self.clone() }
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
}

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
    use std::collections::BTreeMap;

    use super::log::{Log, LogCell, LogWriter};
    use super::*;

    /// What a cell has of a log of few values a chunk, each with a share in the count of those that are not freed.
    type Counted = (u64, Arc<()>);

    #[test]
    fn a_log_has_the_newest_of_each_cell_and_is_never_much_larger_than_that() {
        let mut random = fastrand::Rng::with_seed(2);
        let all = Arc::new(());
        let mut writer = LogWriter::<Counted, 4>::new();
        let mut cells = BTreeMap::<u64, (LogCell, u64)>::new();
        let mut versions = Vec::<Arc<Log<Counted, 4>>>::new();
        let mut largest = 0;
        for step in 0..30_000u64 {
            // Some change all the time, most hardly ever; they become more, and then fewer.
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
            // Versions come and go.
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
