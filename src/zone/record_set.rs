//! The records of an answer.
//!
//! [`Records`] refers to the records that a lookup found, and a [`RecordSet`] is the selection of them that one answer
//! contains. Messages, the explanation of an answer, and tests use this one selection.

use super::leaf::{Data, Drawn, Host, HostRef, LeafType, UNHEALTHY_TTL_MAX};
use super::{Leaf, RecordType, Records, Rrset, Selection};

/// Choice among the records that an answer could contain.
pub enum Choice<'r> {
    /// The records of one answer, drawn with these random numbers.
    Draw(&'r mut fastrand::Rng),
    /// All records that could be drawn, in a fixed order, for explanations and tests.
    All,
}

/// Records of one owner that one answer contains.
pub struct RecordSet<'v> {
    source: Source<'v>,
    serial: u32,
}

#[expect(clippy::large_enum_variant, reason = "the answer path allocates nothing")]
enum Source<'v> {
    /// An rrset, rotated so that the record with this index is the first.
    Rrset(&'v Rrset, usize),
    Rrsets(&'v [Rrset]),
    Drawn(Drawn<'v>),
    Leaf(&'v Leaf, LeafType),
    /// Addresses of the instances with a name, of one type, or of both if `rtype` is `None`.
    Instance {
        leaf: &'v Leaf,
        rtype: Option<LeafType>,
        labels: &'v [u8],
    },
    One {
        ttl: u32,
        data: Data<'v>,
    },
}

impl<'v> RecordSet<'v> {
    /// Selects among the records that a lookup found. `owner` is their owner in wire form, and `serial` that of its zone.
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

    /// Creates a set that consists of this record.
    pub fn one(ttl: u32, data: Data<'v>) -> RecordSet<'v> {
        RecordSet { source: Source::One { ttl, data }, serial: 0 }
    }

    /// Calls `record` with the TTL in seconds and the data of each record, until it returns false.
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
                let aliases =
                    aliases.filter_map(|host| Some((leaf.alias_ttl(), host.data(LeafType::Cname)?)));
                let _ = own.chain(aliases).all(|(ttl, data)| record(ttl, data));
            }
            Source::Instance { leaf, rtype, labels } => {
                let ttl = if leaf.is_unhealthy(labels) {
                    leaf.instance_ttl().min(UNHEALTHY_TTL_MAX)
                } else {
                    leaf.instance_ttl()
                };
                each_address(leaf, *rtype, labels, |data| record(ttl, data));
            }
            Source::One { ttl, data } => {
                record(*ttl, *data);
            }
        }
    }

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

    /// Calls `address` for each address of the instances that SRV records of the set point to: with the index of the SRV
    /// record, the labels of the address's owner below the set's owner ([`Data::target_labels`]), the TTL in seconds, and
    /// the data.
    pub fn each_target(&self, mut address: impl FnMut(usize, &[u8], u32, Data<'_>)) {
        let mut each = |leaf: &Leaf, rtype: LeafType, hosts: &mut dyn Iterator<Item = HostRef<'_>>| {
            for (number, host) in hosts.enumerate() {
                let Some(labels) = host.data(rtype).and_then(|data| data.target_labels()) else { continue };
                let ttl = leaf.answered_ttl(host);
                for data in LeafType::ADDRESSES.into_iter().filter_map(|rtype| host.data(rtype)) {
                    address(number, labels, ttl, data);
                }
            }
        };
        match &self.source {
            Source::Drawn(drawn) => each(drawn.leaf(), drawn.rtype, &mut drawn.hosts()),
            Source::Leaf(leaf, rtype) => each(leaf, *rtype, &mut leaf.all(*rtype)),
            Source::Rrset(..) | Source::Rrsets(_) | Source::Instance { .. } | Source::One { .. } => {}
        }
    }

    /// Number of records in the set, which are counted at each call.
    pub fn len(&self) -> usize {
        let mut len = 0;
        self.each(|_, _| {
            len += 1;
            true
        });
        len
    }

    /// True if the set has no records.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The canonical name in wire form, with which the resolution continues. `None` for a set without one, and for a set of
    /// all records that could be drawn if it has several.
    pub fn canonical_name(&self) -> Option<&[u8]> {
        match &self.source {
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
        }
    }
}

/// Index of the record with which an rrset begins in one answer. All records are equally likely.
fn first_record(rrset: &Rrset, choice: &mut Choice<'_>) -> usize {
    match choice {
        Choice::Draw(random) if rrset.len() > 1 => random.usize(..rrset.len()),
        Choice::Draw(_) | Choice::All => 0,
    }
}

/// Limit on the records of a type in one answer: a name may have only one canonical name (RFC 2181 §10.1).
fn records_max(rtype: LeafType) -> usize {
    if rtype == LeafType::Cname { 1 } else { usize::MAX }
}

/// The aliases that could be drawn instead of a record of this type. An alias is drawn only if it is the whole answer.
fn aliases_drawn(leaf: &Leaf, rtype: LeafType) -> impl Iterator<Item = HostRef<'_>> {
    let has_own = leaf.all(rtype).next().is_some();
    let is_drawn = rtype.is_address() && (!has_own || leaf.selection() == Selection::One);
    leaf.aliases(rtype).filter(move |_| is_drawn)
}

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
