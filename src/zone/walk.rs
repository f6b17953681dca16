//! All records of a zone, for zone transfers and zone files.
//!
//! A zone file cannot express everything that this server answers: neither a draw of eight among many records, nor CNAME
//! records beside other data. So the walk passes every record that an answer could have, and reports those that a zone may
//! not contain separately.
//!
//! Used by zone transfers, and by the admin port for its export of a zone as a master file; both walk one version of the
//! zone.

use super::leaf::{ALIAS_TTL, Host, HostRef, LeafType};
use super::records::{name_below, node_name, soa_with_serial};
use super::{
    Directory, Found, HeldLeaf, Leaf, LogNumber, Name, Node, QueryName, Record, RecordType, Rrset, Zone,
    lookup,
};

/// Limit on the records of an rrset that is made here. A service with more has several rrsets of one owner and type.
const RRSET_RECORDS_MAX: usize = 60_000;

/// Receives the records of a zone.
pub trait Sink {
    /// Reason for which the sink ends the walk.
    type Error;

    /// Receives records of one owner and type. Owners are in no order, but the rrsets of one owner follow each other.
    fn rrset(&mut self, owner: &Name, rrset: &Rrset) -> Result<(), Self::Error>;

    /// Receives a description, in one line, of a record that can't be part of a zone, with the reason.
    fn left_out(&mut self, text: impl FnOnce() -> String) {
        drop(text);
    }
}

/// The newest leaves of a zone's services, in the order of [`ZoneContents::leaves`].
pub fn services(directory: &Directory, zone: &Zone) -> impl Iterator<Item = LogNumber> {
    directory.nodes(zone).filter_map(Node::leaf_number)
}

/// One version of a zone: its nodes, the leaves of its services, and the serial of its SOA.
#[expect(missing_docs, reason = "the type's document explains the other fields")]
pub struct ZoneContents<'v> {
    pub directory: &'v Directory,
    pub zone: &'v Zone,
    /// Leaves of the services in the order of [`services`], which replace those of the directory.
    pub leaves: &'v [HeldLeaf],
    pub serial: u32,
    /// Returns true if a query for an instance's name and a type finds the instance. It is called for names that other
    /// records may hide.
    pub is_answered: &'v dyn Fn(&QueryName, RecordType) -> bool,
}

/// Passes all records of a version of a zone to `sink`.
///
/// # Errors
///
/// The first one that the sink returns, which ends the walk.
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

    fn put_service(&mut self, owner: &Name, leaf: &Leaf, has_records: bool) -> Result<(), S::Error> {
        let mut has_data = has_records;
        for rtype in leaf.types().filter(|rtype| *rtype != LeafType::Cname) {
            let rdatas: Vec<_> = leaf.all(rtype).filter_map(|host| rdata(host, rtype, owner)).collect();
            has_data |= !rdatas.is_empty();
            self.put_all(owner, rtype.record_type(), leaf.configured_ttl(rtype).unwrap_or(0), &rdatas)?;
        }
        let (ttl, hosts): (_, Vec<HostRef<'_>>) = match leaf.configured_ttl(LeafType::Cname) {
            Some(ttl) => (ttl, leaf.all(LeafType::Cname).collect()),
            None => (ALIAS_TTL, aliases(leaf)),
        };
        for data in hosts.into_iter().filter_map(|host| rdata(host, LeafType::Cname, owner)) {
            if has_data {
                let text = || {
                    let record = record_text(owner, RecordType::CNAME, ttl, &data);
                    format!("{record} ; an alternative to other records, which a zone file can't express")
                };
                self.sink.left_out(text);
            } else {
                // No other record may be at the owner of a CNAME record, not even a second CNAME (RFC 2181 §10.1).
                has_data = true;
                self.put_all(owner, RecordType::CNAME, ttl, &[data])?;
            }
        }
        Ok(())
    }

    /// Addresses at the names of instances do not depend on health.
    fn put_instances(&mut self, service: &Name, leaf: &Leaf) -> Result<(), S::Error> {
        let mut hosts: Vec<(&[u8], HostRef<'_>)> =
            leaf.all_named().filter(|(_, host)| host.has_address()).collect();
        // Sorting makes equal names adjacent; the names are nearly always sorted already.
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
                let why = if name.is_wildcard() {
                    "answered for this exact name only; in a zone file it would be a wildcard"
                } else if !self.is_answered(&name, service, rtype) {
                    "not answered, because other records are at the name or hide it"
                } else {
                    self.put_all(&name, rtype, leaf.configured_instance_ttl(), &rdatas)?;
                    continue;
                };
                for data in rdatas {
                    let record = || record_text(&name, rtype, leaf.configured_instance_ttl(), &data);
                    self.sink.left_out(|| format!("{} ; {why}", record()));
                }
            }
        }
        Ok(())
    }

    /// True if a query for the instance's name finds its address. That is certain if the closest node is the service's own;
    /// the other, rare cases need a lookup.
    fn is_answered(&self, instance: &Name, service: &Name, rtype: RecordType) -> bool {
        if !self.directory.has_names_below_services() {
            return true;
        }
        let name = QueryName::from(instance);
        let between = name.label_count() - service.label_count();
        (0..between).all(|skipped| self.directory.node(self.zone, &name, skipped).is_none())
            || (self.is_answered)(&name, rtype)
    }

    /// True if the name is at or below a zone cut, or below a DNAME.
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

/// The aliases of a service, which are equal for both types of addresses unless the types have other ranks.
fn aliases(leaf: &Leaf) -> Vec<HostRef<'_>> {
    let aliases = LeafType::ADDRESSES.into_iter().map(|rtype| leaf.aliases(rtype).collect::<Vec<_>>());
    aliases.max_by_key(Vec::len).unwrap_or_default()
}

fn rdata(host: HostRef<'_>, rtype: LeafType, owner: &Name) -> Option<Vec<u8>> {
    host.data(rtype).map(|data| data.to_wire(owner.as_wire()))
}

fn record_text(owner: &Name, rtype: RecordType, ttl: u32, data: &[u8]) -> String {
    Record { owner: owner.clone(), rtype, ttl, rdata: data.into() }.to_string()
}
