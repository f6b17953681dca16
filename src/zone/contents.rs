//! Records of a zone, checked against each other and grouped into rrsets.
//!
//! The loader of static zones calls this with the records that [`super::master_file`] read. The checks guarantee that all
//! owners are inside the zone and that the rules below hold, and an rrset has one TTL and no duplicate record, so that the
//! lookup need not handle anything else. All errors are found in one run.
//!
//! | RFC | rule |
//! | --- | --- |
//! | 1035 §5.2 | one SOA, at the apex |
//! | 1034 §4.2.1, §3.6.2 | name servers at the apex; data below a zone cut is not the zone's |
//! | 2181 §5.2, §10.1 | one TTL in an rrset; a CNAME stands alone |
//! | 6672 §2.4 | one DNAME at a name, and nothing below it |

use std::net::Ipv4Addr;
use std::path::Path;

use super::file_records::{FileRecords, PackedRecord};
use super::master_file::{ERRORS_MAX, Located, MasterFileError, Place};
use super::presentation::Spot;
use super::{Name, NameRef, Record, RecordType, Rrset};

/// Largest rrset that fits in a DNS message, in bytes, if each owner is a compression pointer of two bytes. The 512 bytes
/// that are left in the message are for its other parts.
pub const RRSET_OCTETS_MAX: usize = 65_535 - 512;
/// Bytes of a record without its data if its owner is a compression pointer (RFC 1035 §4.1.3).
const RECORD_HEAD_OCTETS: usize = 12;
/// Number of collected errors or warnings at which all but the first [`ERRORS_MAX`] of the file are dropped.
const COLLECTED_MAX: usize = 16 * ERRORS_MAX;

/// The records of a zone or of an overlay on one, by owner in canonical order (RFC 4034 §6.1), then by type.
#[derive(Clone, Debug, Default)]
pub struct Contents {
    records: FileRecords,
}

/// All records of one owner; there is at least one.
#[derive(Clone, Copy)]
pub struct OwnerRecords<'c> {
    records: &'c FileRecords,
    entries: &'c [PackedRecord],
}

/// An rrset and its owner, in the case in which the owner's first record has it.
#[derive(Clone, Debug, Eq, PartialEq)]
#[expect(missing_docs, reason = "the type's document explains both fields")]
pub struct OwnedRrset {
    pub owner: Name,
    pub rrset: Rrset,
}

/// Result of a check: warnings about records that are served nevertheless, or errors, because of which none is served. Both
/// are in the order of the file, at most [`ERRORS_MAX`] of them.
pub type Checked = Result<Vec<MasterFileError>, Vec<MasterFileError>>;

impl Contents {
    /// Sorts the records of a zone, but does not check them.
    pub fn new(mut records: FileRecords) -> Contents {
        records.sort();
        Contents { records }
    }

    /// Checks a whole zone, which must have one SOA and name servers at its apex. Errors about missing records name `file`.
    pub fn check_whole(&self, origin: &Name, file: &Path) -> Checked {
        let mut check = Check::new(origin, true);
        for (rtype, example) in
            [(RecordType::SOA, "SOA ns hostmaster 1 1h 10m 1d 5m"), (RecordType::NS, "NS ns")]
        {
            if !self.at(origin).is_some_and(|apex| apex.has(rtype)) {
                let start = Place::new(&file.into(), Spot { line: 1, column: 1 });
                check.error(
                    &start,
                    format!("the zone {origin} has no {rtype} at its apex; add one, as in `@ {example}`"),
                );
            }
        }
        check.contents(self)
    }

    /// Checks an overlay: records that are added to a zone whose SOA and name servers are not in the file.
    pub fn check_overlay(&self, origin: &Name) -> Checked {
        Check::new(origin, false).contents(self)
    }

    /// Number of records in the files, duplicates included.
    pub fn record_count(&self) -> usize {
        self.records.len()
    }

    /// True for contents without records, such as those of a zone whose file was removed.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// True if a record of any owner has this type.
    pub fn has_type(&self, rtype: RecordType) -> bool {
        self.records.packed().iter().any(|record| record.rtype == rtype)
    }

    /// All rrsets, by owner in canonical order, then by type. In unchecked contents, an rrset that is too large for [`Rrset`]
    /// is left out.
    pub fn rrsets(&self) -> impl Iterator<Item = OwnedRrset> {
        self.owners().flat_map(OwnerRecords::groups).filter_map(|group| {
            let owner = self.records.owner(&group.entries[0]).to_name();
            Some(OwnedRrset { owner, rrset: group.rrset()? })
        })
    }

    /// The owners with their records, in canonical order.
    pub fn owners(&self) -> impl Iterator<Item = OwnerRecords<'_>> {
        let records = &self.records;
        let nodes = records.packed().chunk_by(|a, b| records.owner(a) == records.owner(b));
        nodes.map(move |entries| OwnerRecords { records, entries })
    }

    /// The records of this owner, in upper or lower case.
    pub fn at(&self, owner: &Name) -> Option<OwnerRecords<'_>> {
        let (records, owner) = (&self.records, owner.as_name_ref());
        let entries = records.packed();
        let start = entries.partition_point(|entry| records.owner(entry) < owner);
        let len = entries[start..].iter().take_while(|entry| records.owner(entry) == owner).count();
        (len > 0).then(|| OwnerRecords { records, entries: &entries[start..start + len] })
    }

    /// Splits the contents: all records but those of `owner` with one of these types, and the records that were left out.
    pub fn without(&self, owner: &Name, types: &[RecordType]) -> (Contents, Vec<Located<Record>>) {
        let name = owner.as_name_ref();
        let is_left_out =
            |entry: &PackedRecord| types.contains(&entry.rtype) && self.records.owner(entry) == name;
        let left_out = self.records.filtered(is_left_out);
        let rest = self.records.filtered(|entry| !is_left_out(entry));
        (Contents { records: rest }, left_out.iter().collect())
    }
}

impl<'c> OwnerRecords<'c> {
    /// The owner, in the case in which its first record has it.
    pub fn owner(self) -> NameRef<'c> {
        self.records.owner(&self.entries[0])
    }

    /// The position of the owner's first record in its file.
    pub fn place(self) -> Place {
        self.records.place(&self.entries[0])
    }

    /// The rrsets, by type. In unchecked contents, an rrset that is too large for [`Rrset`] is left out.
    pub fn rrsets(self) -> impl Iterator<Item = Rrset> {
        self.groups().filter_map(Group::rrset)
    }

    /// The types of the records, each once, in ascending order.
    pub fn types(self) -> impl Iterator<Item = RecordType> {
        self.groups().map(Group::rtype)
    }

    /// True if there are records of this type.
    pub fn has(self, rtype: RecordType) -> bool {
        self.of_type(rtype).is_some()
    }

    fn groups(self) -> impl Iterator<Item = Group<'c>> {
        let groups = self.entries.chunk_by(|a, b| a.rtype == b.rtype);
        groups.map(move |entries| Group { records: self.records, entries })
    }

    fn of_type(self, rtype: RecordType) -> Option<Group<'c>> {
        self.groups().find(|group| group.rtype() == rtype)
    }
}

/// All records of one owner and type, as they are in the files: an rrset before TTLs are equal and duplicates removed. There
/// is at least one.
#[derive(Clone, Copy)]
struct Group<'c> {
    records: &'c FileRecords,
    entries: &'c [PackedRecord],
}

impl<'c> Group<'c> {
    fn rtype(self) -> RecordType {
        self.entries[0].rtype
    }

    fn first(self) -> Place {
        self.place(&self.entries[0])
    }

    fn place(self, entry: &PackedRecord) -> Place {
        self.records.place(entry)
    }

    fn distinct(self) -> Option<&'c PackedRecord> {
        let first = self.records.rdata(&self.entries[0]);
        self.entries.iter().find(|entry| self.records.rdata(entry) != first)
    }

    fn rrset(self) -> Option<Rrset> {
        let ttl = self.entries.iter().map(|entry| entry.ttl).min()?;
        Rrset::new(self.rtype(), ttl, self.entries.iter().map(|entry| self.records.rdata(entry)))
    }
}

/// A check visits the names in canonical order, so that a zone cut or DNAME comes before the names below it.
struct Check<'a> {
    origin: &'a Name,
    is_whole: bool,
    errors: Vec<MasterFileError>,
    warnings: Vec<MasterFileError>,
}

impl<'a> Check<'a> {
    fn new(origin: &'a Name, is_whole: bool) -> Check<'a> {
        Check { origin, is_whole, errors: Vec::new(), warnings: Vec::new() }
    }

    fn error(&mut self, place: &Place, message: impl Into<String>) {
        self.errors.push(MasterFileError { place: place.clone(), message: message.into() });
        if self.errors.len() == COLLECTED_MAX {
            self.errors = in_file_order(std::mem::take(&mut self.errors));
        }
    }

    fn warning(&mut self, place: &Place, message: impl Into<String>) {
        self.warnings.push(MasterFileError { place: place.clone(), message: message.into() });
        if self.warnings.len() == COLLECTED_MAX {
            self.warnings = in_file_order(std::mem::take(&mut self.warnings));
        }
    }

    fn contents(mut self, contents: &Contents) -> Checked {
        let origin = self.origin.as_name_ref();
        let mut cut: Option<NameRef<'_>> = None;
        let mut dname: Option<(NameRef<'_>, Place)> = None;
        for node in contents.owners() {
            let owner = node.owner();
            if !owner.is_at_or_below(origin) {
                for entry in node.entries {
                    let message = format!(
                        "{owner} is not in the zone {origin}; a name without a final dot is relative to the origin"
                    );
                    self.error(&node.records.place(entry), message);
                }
                continue;
            }
            cut = cut.filter(|cut| owner.is_at_or_below(*cut));
            dname = dname.filter(|(dname, _)| owner.is_at_or_below(*dname));
            if let Some((dname, place)) = &dname {
                for entry in node.entries {
                    let message = format!(
                        "{owner} is below the DNAME at {dname} ({place}); nothing may be there (RFC 6672 §2.4)"
                    );
                    self.error(&node.records.place(entry), message);
                }
            }
            self.owner(node, cut);
            cut = cut.or_else(|| Some(owner).filter(|owner| node.has(RecordType::NS) && *owner != origin));
            dname = dname.or_else(|| node.of_type(RecordType::DNAME).map(|group| (owner, group.first())));
            node.groups().for_each(|group| self.rrset(owner, group));
        }
        if self.errors.is_empty() {
            Ok(in_file_order(self.warnings))
        } else {
            Err(in_file_order(self.errors))
        }
    }

    /// `cut` is the zone cut that the owner is below, if any.
    fn owner(&mut self, node: OwnerRecords<'_>, cut: Option<NameRef<'_>>) {
        let owner = node.owner();
        let is_apex = owner == self.origin.as_name_ref();
        let is_at_cut = !is_apex && node.has(RecordType::NS);
        for group in node.groups() {
            let rtype = group.rtype();
            match rtype {
                RecordType::SOA if !is_apex => {
                    self.error(&group.first(), format!("a SOA may only be at the apex, {}", self.origin));
                }
                RecordType::SOA | RecordType::NS if is_apex && !self.is_whole => {
                    let message = format!("the zone {owner} has its own {rtype}; take this one out");
                    self.error(&group.first(), message);
                }
                RecordType::CNAME if is_apex => {
                    let message = "a CNAME cannot be at the apex of a zone (RFC 1912 §2.4); write A and AAAA, or HTTPS with priority 0";
                    self.error(&group.first(), message);
                }
                RecordType::CNAME => self.cname(group, node),
                RecordType::DS if is_apex => {
                    self.warning(
                        &group.first(),
                        "a DS at the apex belongs to the parent zone; it is never asked for here",
                    );
                }
                RecordType::DS if !is_at_cut => {
                    self.warning(
                        &group.first(),
                        format!("{owner} has a DS but no NS: nothing is delegated there"),
                    );
                }
                _ => {}
            }
            if matches!(rtype, RecordType::SOA | RecordType::CNAME | RecordType::DNAME)
                && let Some(second) = group.distinct()
            {
                let first = group.first();
                let message =
                    format!("{owner} has a second {rtype}; only one is allowed (the first: {first})");
                self.error(&group.place(second), message);
            }
            let belongs = match rtype {
                RecordType::A | RecordType::AAAA => true,
                RecordType::NS | RecordType::DS | RecordType::NSEC | RecordType::RRSIG => cut.is_none(),
                _ => cut.is_none() && !is_at_cut,
            };
            if !belongs {
                let message = format!(
                    "this {rtype} is never served: the name is delegated at {}, and only addresses count there",
                    cut.unwrap_or(owner)
                );
                self.warning(&group.first(), message);
            }
            group.entries.iter().for_each(|entry| self.target(group, entry));
        }
    }

    /// Fails if the owner of a CNAME has other records than DNSSEC's (RFC 2181 §10.1, RFC 4034 §3 and §4).
    fn cname(&mut self, cname: Group<'_>, node: OwnerRecords<'_>) {
        let allowed =
            [RecordType::CNAME, RecordType::RRSIG, RecordType::NSEC, RecordType::SIG, RecordType::KEY];
        if let Some(other) = node.groups().find(|other| !allowed.contains(&other.rtype())) {
            let message = format!(
                "{} has a CNAME and also {} ({}); a CNAME must stand alone (RFC 2181 §10.1)",
                node.owner(),
                other.rtype(),
                other.first()
            );
            self.error(&cname.first(), message);
        }
    }

    /// Warns about an IPv4 address in place of a host name, as in `MX 10 192.0.2.1`.
    fn target(&mut self, group: Group<'_>, entry: &PackedRecord) {
        let rtype = entry.rtype;
        let skipped = match rtype {
            RecordType::NS => 0,
            RecordType::MX => 2,
            RecordType::SRV => 6,
            _ => return,
        };
        let target = group.records.rdata(entry).get(skipped..);
        let Some(target) = target.and_then(|wire| Name::from_wire(wire).ok()) else { return };
        let origin_labels = if target.is_at_or_below(self.origin) { self.origin.label_count() } else { 0 };
        let labels = target.label_count();
        let first_four = target.labels().take(4).collect::<Vec<_>>().join(&b'.');
        let is_address = std::str::from_utf8(&first_four).is_ok_and(|text| text.parse::<Ipv4Addr>().is_ok());
        if is_address && (labels == 4 || labels == 4 + origin_labels) {
            let message = format!(
                "the {rtype} names an address, {target}; it needs the name of a host that has the address"
            );
            self.warning(&group.place(entry), message);
        }
    }

    fn rrset(&mut self, owner: NameRef<'_>, group: Group<'_>) {
        if let [only] = group.entries
            && group.records.rdata(only).len() + RECORD_HEAD_OCTETS <= RRSET_OCTETS_MAX
        {
            return;
        }
        let rtype = group.rtype();
        // Signatures of one owner cover rrsets of several types, and have the TTLs of these.
        if !matches!(rtype, RecordType::RRSIG | RecordType::SIG)
            && let Some(other) = group.entries.iter().find(|entry| entry.ttl != group.entries[0].ttl)
        {
            let ttl = group.entries.iter().map(|entry| entry.ttl).min().unwrap_or_default();
            let message = format!(
                "the {rtype} records of {owner} have different TTLs; {ttl} is used for all (RFC 2181 §5.2)"
            );
            self.warning(&group.place(other), message);
        }
        let octets =
            |rrset: &Rrset| rrset.rdatas().map(|rdata| rdata.len() + RECORD_HEAD_OCTETS).sum::<usize>();
        if group.rrset().filter(|rrset| octets(rrset) <= RRSET_OCTETS_MAX).is_none() {
            let message = format!(
                "the {rtype} records of {owner} are over {RRSET_OCTETS_MAX} bytes: no message can carry them"
            );
            self.error(&group.first(), message);
        }
    }
}

fn in_file_order(mut errors: Vec<MasterFileError>) -> Vec<MasterFileError> {
    errors.sort_by(|a, b| {
        let key = |error: &MasterFileError| (error.place.line, error.place.column);
        a.place.file.cmp(&b.place.file).then(key(a).cmp(&key(b)))
    });
    errors.truncate(ERRORS_MAX);
    errors
}

#[cfg(test)]
mod tests;
