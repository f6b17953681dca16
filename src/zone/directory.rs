//! The directory: every zone and every name, in one persistent table.
//!
//! A directory is immutable once it is published. Its next version starts as a clone (a few reference
//! counts) and copies only the path to what changes, so that adding a name costs the same beside ten
//! names as beside ten million. Each name above another exists as a node, with or without records of its
//! own: empty non-terminals and closest enclosers are read off the table (RFC 8020, RFC 4592 §3.3.1).

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::{
    Name, Negative, QueryName, RecordType, Rrset,
    leaf::LeafCell,
    name::{LABELS_MAX, extend_hash, name_hash},
};

/// All zones and names.
#[derive(Clone)]
pub struct Directory {
    zones: Table<Zone>,
    nodes: Table<Node>,
    /// How many zones there are with each number of labels: a lookup probes no other suffix.
    zone_depths: Arc<[u32; LABELS_MAX + 1]>,
    /// Ready answers for the walk: bit `n` is set when some zone has `n` labels.
    depth_mask: u128,
    next_number: u32,
    /// How many services have names of the table below their own.
    services_with_names_below: usize,
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
#[derive(Clone, Debug)]
pub struct Node {
    /// Lower case, in wire form.
    name: Box<[u8]>,
    zone: u32,
    /// How many nodes are directly below.
    children: u32,
    /// Whether `*` is directly below.
    has_wildcard: bool,
    is_apex: bool,
    /// Records of zone files, and the apex's own.
    pub rrsets: Arc<[Rrset]>,
    /// The service at this name.
    pub leaf: Option<Arc<LeafCell>>,
}

impl Node {
    /// The name in lower case, in wire form.
    pub fn name(&self) -> &[u8] {
        &self.name
    }

    /// The records of this type from zone files.
    pub fn rrset(&self, rtype: RecordType) -> Option<&Rrset> {
        self.rrsets.iter().find(|rrset| rrset.rtype == rtype)
    }

    /// Whether `*` is directly below.
    pub fn has_wildcard(&self) -> bool {
        self.has_wildcard
    }

    /// Whether the name has neither records nor a service.
    pub fn is_empty_non_terminal(&self) -> bool {
        self.rrsets.is_empty() && self.leaf.is_none()
    }

    fn is_service_with_names_below(&self) -> bool {
        self.leaf.is_some() && self.children > 0
    }
}

impl Default for Directory {
    fn default() -> Directory {
        Directory {
            zones: Table::default(),
            nodes: Table::default(),
            zone_depths: Arc::new([0; LABELS_MAX + 1]),
            depth_mask: 0,
            next_number: 0,
            services_with_names_below: 0,
        }
    }
}

impl Directory {
    /// The zone with the longest apex that the name is at or below.
    pub fn zone_of(&self, name: &QueryName) -> Option<&Zone> {
        let labels = name.label_count();
        (0..=labels).filter(|skipped| self.depth_mask >> (labels - skipped) & 1 == 1).find_map(|skipped| {
            let suffix = name.suffix(skipped);
            self.zones.get(name.suffix_hash(skipped), |zone| zone.apex.as_wire() == suffix)
        })
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
        self.zones.len
    }

    /// How many names there are in all zones.
    pub fn name_count(&self) -> usize {
        self.nodes.len
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
        self.nodes.get(name.suffix_hash(skipped), |node| node.zone == zone.number && &*node.name == suffix)
    }

    /// The node of `*` below the name without its first `skipped` labels.
    pub fn wildcard(&self, zone: &Zone, name: &QueryName, skipped: usize) -> Option<&Node> {
        let hash = extend_hash(name.suffix_hash(skipped), b"\x01*");
        let suffix = name.suffix(skipped);
        self.nodes.get(hash, |node| {
            node.zone == zone.number
                && node.name.strip_prefix(b"\x01*").is_some_and(|parent| parent == suffix)
        })
    }

    /// Adds a zone, or changes what is known of it. Its apex exists as a name from now on.
    pub fn put_zone(&mut self, apex: &Name, serial: Arc<AtomicU32>, has_cuts: bool) {
        let apex = apex.to_lower();
        let hash = name_hash(apex.as_wire());
        let (number, negative) = match self.zones.get(hash, |zone| zone.apex == apex) {
            Some(zone) => (zone.number, zone.negative.clone()),
            None => {
                self.next_number += 1;
                let depth = apex.label_count();
                Arc::make_mut(&mut self.zone_depths)[depth] += 1;
                self.depth_mask |= 1 << depth;
                (self.next_number, None)
            }
        };
        let zone = Zone { apex: apex.clone(), serial, has_cuts, number, negative };
        self.zones.put(hash, Arc::new(zone), |old| old.apex == apex);
        self.change(number, apex.as_wire(), apex.as_wire(), &mut |node| node.is_apex = true);
    }

    /// Removes a zone. Records and services below the apex have to be removed before.
    pub fn remove_zone(&mut self, apex: &Name) {
        let apex = apex.to_lower();
        let Some(zone) = self.zones.remove(name_hash(apex.as_wire()), |zone| zone.apex == apex) else {
            return;
        };
        let depth = apex.label_count();
        let depths = Arc::make_mut(&mut self.zone_depths);
        depths[depth] -= 1;
        if depths[depth] == 0 {
            self.depth_mask &= !(1 << depth);
        }
        self.change(zone.number, apex.as_wire(), apex.as_wire(), &mut |node| {
            node.is_apex = false;
            node.rrsets = Arc::new([]);
            node.leaf = None;
        });
    }

    /// Sets the records at a name of a zone; an empty list removes them.
    pub fn set_rrsets(&mut self, apex: &Name, name: &Name, rrsets: Vec<Rrset>) {
        let rrsets: Arc<[Rrset]> = rrsets.into();
        if apex == name {
            self.set_negative(apex, &rrsets);
        }
        self.edit(apex, name, &mut |node| node.rrsets = rrsets.clone());
    }

    /// Sets the service at a name of a zone, or removes it.
    pub fn set_leaf(&mut self, apex: &Name, name: &Name, leaf: Option<Arc<LeafCell>>) {
        self.edit(apex, name, &mut |node| node.leaf = leaf.clone());
    }

    /// Keeps the SOA for negative answers as the apex's records say.
    fn set_negative(&mut self, apex: &Name, rrsets: &[Rrset]) {
        let Some(zone) = self.zone(apex) else { return };
        let soa = rrsets.iter().find(|rrset| rrset.rtype == RecordType::SOA);
        let negative = soa.and_then(|soa| Negative::new(&zone.apex, soa)).map(Arc::new);
        if zone.negative != negative {
            let zone = Zone { negative, ..zone.clone() };
            let (hash, apex) = (name_hash(zone.apex.as_wire()), zone.apex.clone());
            self.zones.put(hash, Arc::new(zone), |old| old.apex == apex);
        }
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
        let matches = |node: &Node| node.zone == zone && *node.name == *name;
        let mut node = match self.nodes.get(hash, matches) {
            Some(node) => node.clone(),
            None => {
                if name != apex {
                    let (label, parent) = name.split_at(1 + name[0] as usize);
                    self.change(zone, apex, parent, &mut |parent| {
                        parent.children += 1;
                        parent.has_wildcard |= label == b"\x01*";
                    });
                }
                Node {
                    name: name.into(),
                    zone,
                    children: 0,
                    has_wildcard: false,
                    is_apex: false,
                    rrsets: Arc::new([]),
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
                parent.has_wildcard &= label != b"\x01*";
            });
        }
    }
}

const FAN_OUT: usize = 256;

/// A persistent hash table: two levels of 256 and short buckets, 65,536 of them. Cloning shares
/// everything; a change copies one pointer array on each level and one bucket, or nothing where the
/// version at hand is the only one.
struct Table<T> {
    root: Arc<[Option<Arc<Branch<T>>>; FAN_OUT]>,
    len: usize,
}

type Branch<T> = [Option<Arc<Vec<Entry<T>>>>; FAN_OUT];

struct Entry<T> {
    hash: u64,
    value: Arc<T>,
}

impl<T> Clone for Entry<T> {
    fn clone(&self) -> Entry<T> {
        Entry { hash: self.hash, value: self.value.clone() }
    }
}

impl<T> Clone for Table<T> {
    fn clone(&self) -> Table<T> {
        Table { root: self.root.clone(), len: self.len }
    }
}

impl<T> Default for Table<T> {
    fn default() -> Table<T> {
        Table { root: Arc::new([const { None }; FAN_OUT]), len: 0 }
    }
}

impl<T> Table<T> {
    fn get(&self, hash: u64, matches: impl Fn(&T) -> bool) -> Option<&T> {
        let (high, low) = places(hash);
        let bucket = self.root[high].as_ref()?[low].as_ref()?;
        bucket.iter().find(|entry| entry.hash == hash && matches(&entry.value)).map(|entry| &*entry.value)
    }

    fn put(&mut self, hash: u64, value: Arc<T>, matches: impl Fn(&T) -> bool) {
        let (high, low) = places(hash);
        let branch =
            Arc::make_mut(&mut self.root)[high].get_or_insert_with(|| Arc::new([const { None }; FAN_OUT]));
        let bucket = Arc::make_mut(branch)[low].get_or_insert_with(|| Arc::new(Vec::with_capacity(1)));
        let bucket = Arc::make_mut(bucket);
        match bucket.iter_mut().find(|entry| entry.hash == hash && matches(&entry.value)) {
            Some(entry) => entry.value = value,
            None => {
                bucket.reserve_exact(1);
                bucket.push(Entry { hash, value });
                self.len += 1;
            }
        }
    }

    fn remove(&mut self, hash: u64, matches: impl Fn(&T) -> bool) -> Option<Arc<T>> {
        self.get(hash, &matches)?;
        let (high, low) = places(hash);
        let branch = Arc::make_mut(Arc::make_mut(&mut self.root)[high].as_mut()?);
        let bucket = Arc::make_mut(branch[low].as_mut()?);
        let at = bucket.iter().position(|entry| entry.hash == hash && matches(&entry.value))?;
        let entry = bucket.swap_remove(at);
        if bucket.is_empty() {
            branch[low] = None;
        }
        self.len -= 1;
        Some(entry.value)
    }

    fn iter(&self) -> impl Iterator<Item = &T> {
        let branches = self.root.iter().flatten();
        branches
            .flat_map(|branch| branch.iter().flatten())
            .flat_map(|bucket| bucket.iter())
            .map(|entry| &*entry.value)
    }
}

fn places(hash: u64) -> (usize, usize) {
    ((hash >> 56) as usize, (hash >> 48 & 0xff) as usize)
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
