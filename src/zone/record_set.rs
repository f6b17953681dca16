//! Records that a name is answered with, as data.
//!
//! [`Records`] says where a lookup found records; [`RecordSet`] is what of them one answer has. It is made here alone, and
//! read by the writer of messages, by the explanation of an answer, and by tests.

use super::leaf::{ALIAS_TTL, Data, Drawn, Host, HostRef, LeafType};
use super::{Leaf, RecordType, Records, Rrset, Selection};

/// Choice among the records that could be answered.
pub enum Choice<'r> {
    /// Those of one answer, drawn with these random numbers.
    Draw(&'r mut fastrand::Rng),
    /// All of them, in their own order: for people who want to know what may be drawn.
    All,
}

/// Records of one owner.
pub struct RecordSet<'v> {
    source: Source<'v>,
    serial: u32,
}

enum Source<'v> {
    /// An rrset, its records in turn from the one with this number on.
    Rrset(&'v Rrset, usize),
    /// All rrsets of a name.
    Rrsets(&'v [Rrset]),
    /// Records of instances that were drawn.
    Drawn(Drawn<'v>),
    /// All records of a type that may be drawn.
    Leaf(&'v Leaf, LeafType),
    /// Addresses of the instances that have a name, of one type or of both.
    Instance { leaf: &'v Leaf, rtype: Option<LeafType>, labels: &'v [u8] },
    /// One record.
    One { ttl: u32, data: Data<'v> },
}

impl<'v> RecordSet<'v> {
    /// Selects of the records that a lookup found. `owner` is their owner in wire form, and `serial` that of its zone.
    pub fn new(
        records: &Records<'v>,
        owner: &'v [u8],
        serial: u32,
        choice: &mut Choice<'_>,
    ) -> RecordSet<'v> {
        let source = match (records, choice) {
            (Records::Rrset(rrset), choice) => Source::Rrset(rrset, first_record(rrset, choice)),
            (Records::Any(node), Choice::All) => Source::Rrsets(node.rrsets()),
            // One rrset is enough for ANY (RFC 8482 §4.1).
            (Records::Any(node), choice) => match node.rrsets().first() {
                Some(rrset) => Source::Rrset(rrset, first_record(rrset, choice)),
                None => Source::Rrsets(&[]),
            },
            (Records::Leaf(leaf, rtype), Choice::Draw(random)) => Source::Drawn(leaf.draw(*rtype, random)),
            (Records::Leaf(leaf, rtype), Choice::All) => Source::Leaf(leaf, *rtype),
            (Records::Instance { leaf, rtype, prefix_len }, _) => {
                Source::Instance { leaf, rtype: *rtype, labels: &owner[..*prefix_len] }
            }
        };
        RecordSet { source, serial }
    }

    /// A set of one record.
    pub fn one(ttl: u32, data: Data<'v>) -> RecordSet<'v> {
        RecordSet { source: Source::One { ttl, data }, serial: 0 }
    }

    /// Hands over the TTL in seconds and the data of each record, until `record` returns false.
    pub fn each(&self, mut record: impl FnMut(u32, Data<'_>) -> bool) {
        match &self.source {
            Source::Rrset(rrset, first) => {
                let in_turn = rrset.rdatas().skip(*first).chain(rrset.rdatas().take(*first));
                self.each_of(rrset, in_turn, &mut record);
            }
            Source::Rrsets(rrsets) => {
                let _ = rrsets.iter().all(|rrset| self.each_of(rrset, rrset.rdatas(), &mut record));
            }
            Source::Drawn(drawn) => {
                let records = drawn.hosts().filter_map(|host| host.data(drawn.rtype));
                let _ = records.take(records_max(drawn.rtype)).all(|data| record(drawn.ttl, data));
            }
            Source::Leaf(leaf, rtype) => {
                let ttl = leaf.ttl(*rtype).unwrap_or(0);
                let own = leaf.all(*rtype).filter_map(|host| Some((ttl, host.data(*rtype)?)));
                let aliases = aliases_drawn(leaf, *rtype);
                let aliases = aliases.filter_map(|host| Some((ALIAS_TTL, host.data(LeafType::Cname)?)));
                let _ = own.chain(aliases).all(|(ttl, data)| record(ttl, data));
            }
            Source::Instance { leaf, rtype, labels } => {
                each_address(leaf, *rtype, labels, |data| record(leaf.instance_ttl(), data));
            }
            Source::One { ttl, data } => {
                record(*ttl, *data);
            }
        }
    }

    /// Hands over the records of an rrset. Returns false if `record` did so.
    fn each_of<'d>(
        &self,
        rrset: &Rrset,
        mut rdatas: impl Iterator<Item = &'d [u8]>,
        record: &mut impl FnMut(u32, Data<'_>) -> bool,
    ) -> bool {
        rdatas.all(|rdata| {
            let data = match rrset.rtype {
                RecordType::SOA => Data::Soa { rdata, serial: self.serial },
                rtype => Data::Stored { rtype, rdata },
            };
            record(rrset.ttl, data)
        })
    }

    /// Hands over the addresses of the names that the records point to, where these are names of instances: the number of
    /// the record, the TTL in seconds and the data. The owner is below the set's own, with the labels of
    /// [`Data::target_labels`].
    pub fn each_target(&self, mut address: impl FnMut(usize, &[u8], u32, Data<'_>)) {
        let mut each = |leaf: &Leaf, rtype: LeafType, hosts: &mut dyn Iterator<Item = HostRef<'_>>| {
            for (number, host) in hosts.enumerate() {
                let Some(labels) = host.data(rtype).and_then(|data| data.target_labels()) else { continue };
                for data in LeafType::ADDRESSES.into_iter().filter_map(|rtype| host.data(rtype)) {
                    address(number, labels, leaf.instance_ttl(), data);
                }
            }
        };
        match &self.source {
            Source::Drawn(drawn) => each(drawn.leaf(), drawn.rtype, &mut drawn.hosts()),
            Source::Leaf(leaf, rtype) => each(leaf, *rtype, &mut leaf.all(*rtype)),
            Source::Rrset(..) | Source::Rrsets(_) | Source::Instance { .. } | Source::One { .. } => {}
        }
    }

    /// Number of the records.
    pub fn len(&self) -> usize {
        let mut len = 0;
        self.each(|_, _| {
            len += 1;
            true
        });
        len
    }

    /// True for a set without records.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The only canonical name in the set, in wire form: the name that an answer goes on with.
    pub fn canonical_name(&self) -> Option<&[u8]> {
        let single = match &self.source {
            Source::Rrset(rrset, _) if rrset.rtype == RecordType::CNAME => rrset.rdatas().next(),
            Source::Drawn(drawn) if drawn.rtype == LeafType::Cname => {
                drawn.hosts().find_map(Host::target).map(|name| name.as_wire())
            }
            Source::Leaf(leaf, rtype) => {
                let own = leaf.all(*rtype).filter(|_| *rtype == LeafType::Cname);
                let mut names = own.chain(aliases_drawn(leaf, *rtype)).filter_map(Host::target);
                let name = names.next().filter(|_| names.next().is_none() && self.len() == 1);
                name.map(|name| name.as_wire())
            }
            Source::One { data, .. } => data.canonical_name(),
            Source::Rrset(..) | Source::Rrsets(_) | Source::Drawn(_) | Source::Instance { .. } => None,
        };
        single
    }
}

/// The record that an rrset begins with in one answer: each has the same chance.
fn first_record(rrset: &Rrset, choice: &mut Choice<'_>) -> usize {
    match choice {
        Choice::Draw(random) if rrset.len() > 1 => random.usize(..rrset.len()),
        Choice::Draw(_) | Choice::All => 0,
    }
}

/// Most records of a type in one answer, if there is a rule: a name has one canonical name (RFC 2181 §10.1).
fn records_max(rtype: LeafType) -> usize {
    match rtype {
        LeafType::Cname => 1,
        LeafType::A | LeafType::Aaaa | LeafType::Srv => usize::MAX,
    }
}

/// The aliases that may be drawn in place of a record of this type. An alias is answered alone.
fn aliases_drawn(leaf: &Leaf, rtype: LeafType) -> impl Iterator<Item = HostRef<'_>> {
    let has_own = leaf.all(rtype).next().is_some();
    let is_drawn = rtype.is_address() && (!has_own || leaf.selection() == Selection::One);
    leaf.aliases().filter(move |_| is_drawn)
}

/// Hands over the addresses of the instances with a name, equal ones once (RFC 2181 §5), until `address` returns false.
fn each_address(
    leaf: &Leaf,
    rtype: Option<LeafType>,
    labels: &[u8],
    mut address: impl FnMut(Data<'_>) -> bool,
) {
    for (at, host) in leaf.named(labels).enumerate() {
        for own in LeafType::ADDRESSES.into_iter().filter(|own| rtype.is_none_or(|rtype| rtype == *own)) {
            let Some(data) = host.data(own) else { continue };
            let is_new = !leaf.named(labels).take(at).any(|earlier| earlier.data(own) == Some(data));
            if is_new && !address(data) {
                return;
            }
        }
    }
}
