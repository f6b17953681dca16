//! All records of a zone, as a file or a transfer can have them.
//!
//! A file says less than the server: it can't draw eight of many, and can't have canonical names beside other data. So
//! every record that could be answered is there, and what can't be is told apart.
//!
//! Who calls it: zone transfers, and the admin port's zone as a master file; both walk one version of the zone.

use super::leaf::{ALIAS_TTL, Host, HostRef, LeafType};
use super::records::{name_below, node_name, soa_with_serial};
use super::{
    Directory, Found, HeldLeaf, Leaf, LogNumber, Name, Node, QueryName, Record, RecordType, Rrset, Zone,
    lookup,
};

/// Records of one rrset that is made here; more become another of the same owner and type.
const RRSET_RECORDS_MAX: usize = 60_000;

/// Takes the records.
pub trait Sink {
    /// Why no more are wanted.
    type Error;

    /// Records of one owner and type, in no order of owners. Those of one owner come one after the other.
    fn rrset(&mut self, owner: &Name, rrset: &Rrset) -> Result<(), Self::Error>;

    /// Something that is known but can't be among a zone's records; `text` says what and why, in one line.
    fn left_out(&mut self, text: impl FnOnce() -> String) {
        drop(text);
    }
}

/// The newest leaves of a zone's services, in the order in which [`walk`] wants them.
pub fn services(directory: &Directory, zone: &Zone) -> impl Iterator<Item = LogNumber> {
    directory.nodes(zone).filter_map(Node::leaf_number)
}

/// A zone whose services stand as `leaves` say, one for each of [`services`], and whose SOA has this serial. Leaves of the
/// directory are not looked at.
pub struct ZoneContents<'v> {
    /// Zones and names.
    pub directory: &'v Directory,
    /// The zone.
    pub zone: &'v Zone,
    /// See [`services`].
    pub leaves: &'v [HeldLeaf],
    /// Of the SOA.
    pub serial: u32,
    /// Whether a query for an instance's name and a type finds the instance, for names that something else may be at or
    /// above.
    pub is_answered: &'v dyn Fn(&QueryName, RecordType) -> bool,
}

/// Walks a zone.
pub fn walk<S: Sink>(contents: ZoneContents<'_>, sink: &mut S) -> Result<(), S::Error> {
    let ZoneContents { directory, zone, leaves, serial, is_answered } = contents;
    let mut leaves = leaves.iter();
    let mut walk = Walk { directory, zone, is_answered, sink };
    for node in directory.nodes(zone) {
        let owner = node_name(node);
        walk.put_rrsets(&owner, node, serial)?;
        if node.is_service()
            && let Some(leaf) = leaves.next().and_then(HeldLeaf::get)
        {
            walk.put_leaf(&owner, node, leaf)?;
        }
    }
    Ok(())
}

struct Walk<'v, S> {
    directory: &'v Directory,
    zone: &'v Zone,
    is_answered: &'v dyn Fn(&QueryName, RecordType) -> bool,
    sink: &'v mut S,
}

impl<S: Sink> Walk<'_, S> {
    fn put_rrsets(&mut self, owner: &Name, node: &Node, serial: u32) -> Result<(), S::Error> {
        for rrset in node.rrsets().iter() {
            let is_apex_soa = rrset.rtype == RecordType::SOA && *owner == self.zone.apex;
            let soa = is_apex_soa.then(|| soa_with_serial(self.directory, self.zone, serial)).flatten();
            self.sink.rrset(owner, soa.as_ref().unwrap_or(rrset))?;
        }
        Ok(())
    }

    fn put_leaf(&mut self, owner: &Name, node: &Node, leaf: &Leaf) -> Result<(), S::Error> {
        if self.zone.has_cuts && self.is_cut_off(owner) {
            let text = || format!("the service {owner} is hidden by a zone cut or a DNAME above it");
            self.sink.left_out(text);
            return Ok(());
        }
        self.put_service(owner, leaf, !node.rrsets().is_empty())?;
        self.put_instances(owner, leaf)
    }

    /// The records at a service's name.
    fn put_service(&mut self, owner: &Name, leaf: &Leaf, has_records: bool) -> Result<(), S::Error> {
        let mut has_data = has_records;
        for rtype in leaf.types().filter(|rtype| *rtype != LeafType::Cname) {
            let rdatas: Vec<_> = leaf.all(rtype).filter_map(|host| rdata(host, rtype, owner)).collect();
            has_data |= !rdatas.is_empty();
            self.put_all(owner, rtype.record_type(), leaf.ttl(rtype).unwrap_or(0), &rdatas)?;
        }
        let (ttl, hosts): (_, Vec<HostRef<'_>>) = match leaf.ttl(LeafType::Cname) {
            Some(ttl) => (ttl, leaf.all(LeafType::Cname).collect()),
            None => (ALIAS_TTL, leaf.aliases().collect()),
        };
        for data in hosts.into_iter().filter_map(|host| rdata(host, LeafType::Cname, owner)) {
            if has_data {
                let text = || {
                    let record = record_text(owner, RecordType::CNAME, ttl, &data);
                    format!("{record} ; drawn beside what else the name has; a file can't say so")
                };
                self.sink.left_out(text);
            } else {
                // A second canonical name can't be beside this one (RFC 2181 §10.1).
                has_data = true;
                self.put_all(owner, RecordType::CNAME, ttl, &[data])?;
            }
        }
        Ok(())
    }

    /// The records at the names of a service's instances, whatever their health.
    fn put_instances(&mut self, service: &Name, leaf: &Leaf) -> Result<(), S::Error> {
        let mut hosts: Vec<(&[u8], HostRef<'_>)> =
            leaf.all_named().filter(|(_, host)| host.has_address()).collect();
        // Equal names become neighbours; nearly always they are in order already.
        let lower = |labels: &[u8]| labels.to_ascii_lowercase();
        if !hosts.is_sorted_by(|(one, _), (other, _)| lower(one) <= lower(other)) {
            hosts.sort_by_cached_key(|(labels, _)| lower(labels));
        }
        for same in hosts.chunk_by(|(one, _), (other, _)| one.eq_ignore_ascii_case(other)) {
            let Some(name) = same.first().and_then(|(labels, _)| name_below(labels, service)) else {
                continue;
            };
            for rtype in LeafType::ADDRESSES {
                let rdatas: Vec<_> =
                    same.iter().filter_map(|(_, host)| rdata(*host, rtype, service)).collect();
                let rtype = rtype.record_type();
                if rdatas.is_empty() {
                    continue;
                }
                let why = match name.is_wildcard() {
                    true => "answered for this very name alone; in a file it would be a wildcard",
                    false if !self.is_answered(&name, service, rtype) => {
                        "not answered: other records are at the name or hide it"
                    }
                    false => {
                        self.put_all(&name, rtype, leaf.instance_ttl(), &rdatas)?;
                        continue;
                    }
                };
                for data in rdatas {
                    let record = || record_text(&name, rtype, leaf.instance_ttl(), &data);
                    self.sink.left_out(|| format!("{} ; {why}", record()));
                }
            }
        }
        Ok(())
    }

    /// Whether the instance's address is what a query for its name finds. It is where the closest name of the table is
    /// the service's own; the lookup itself tells in the other, rare cases.
    fn is_answered(&self, instance: &Name, service: &Name, rtype: RecordType) -> bool {
        if !self.directory.has_names_below_services() {
            return true;
        }
        let name = QueryName::from(instance);
        let between = name.label_count() - service.label_count();
        (0..between).all(|skipped| self.directory.node(self.zone, &name, skipped).is_none())
            || (self.is_answered)(&name, rtype)
    }

    /// Whether the name is at or below a zone cut, or below a DNAME.
    fn is_cut_off(&self, name: &Name) -> bool {
        let found = lookup(self.directory, self.zone, &QueryName::from(name), RecordType::ANY);
        matches!(found, Found::Referral { .. } | Found::Redirect { .. })
    }

    fn put_all(
        &mut self,
        owner: &Name,
        rtype: RecordType,
        ttl: u32,
        rdatas: &[Vec<u8>],
    ) -> Result<(), S::Error> {
        for part in rdatas.chunks(RRSET_RECORDS_MAX) {
            if let Some(rrset) = Rrset::new(rtype, ttl, part.iter().map(Vec::as_slice)) {
                self.sink.rrset(owner, &rrset)?;
            }
        }
        Ok(())
    }
}

/// Data of an instance's record in the service at `owner`, in wire form.
fn rdata(host: HostRef<'_>, rtype: LeafType, owner: &Name) -> Option<Vec<u8>> {
    host.data(rtype).map(|data| data.to_wire(owner.as_wire()))
}

fn record_text(owner: &Name, rtype: RecordType, ttl: u32, data: &[u8]) -> String {
    Record { owner: owner.clone(), rtype, ttl, rdata: data.into() }.to_string()
}
