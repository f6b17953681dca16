//! Records of a zone, checked against each other and grouped into rrsets.
//!
//! Who calls it: the loader of static zones, with what [`super::master_file`] read. It promises that an rrset has one
//! TTL and no record twice, that owners are in canonical order and inside the zone, and that the rules below hold; so
//! the lookup need not expect anything else. All errors are found at once.
//!
//! | RFC | what |
//! | --- | --- |
//! | 1035 §5.2 | one SOA, at the apex |
//! | 1034 §4.2.1, §3.6.2 | name servers at the apex; data below a zone cut is not the zone's |
//! | 2181 §5.2, §10.1 | one TTL in an rrset; a CNAME stands alone |
//! | 6672 §2.4 | one DNAME at a name, and nothing below it |

use std::net::Ipv4Addr;
use std::path::Path;

use super::master_file::{ERRORS_MAX, Located, MasterFileError, Place};
use super::presentation::Spot;
use super::{Name, Record, RecordType, Rrset};

/// Most octets of one rrset in a message, each record with an owner of two octets; more could never be sent.
pub const RRSET_OCTETS_MAX: usize = 65_535 - 512;
/// Octets of a record beside its data when its owner is compressed.
const RECORD_HEAD_OCTETS: usize = 12;

/// The rrsets of a zone, or of what is added to one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Contents {
    /// The rrsets, by owner in canonical order (RFC 4034 §6.1), then by type.
    pub rrsets: Vec<OwnedRrset>,
    /// What looks wrong but can be served, in the order of the file, at most [`ERRORS_MAX`].
    pub warnings: Vec<MasterFileError>,
}

/// An rrset with its owner.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct OwnedRrset {
    /// The owner, written as at its first record.
    pub owner: Name,
    /// The records.
    pub rrset: Rrset,
    /// Where the first record is.
    pub place: Place,
}

impl Contents {
    /// A whole zone: it has one SOA and name servers at its apex. `file` is named when something is missing.
    pub fn whole(
        origin: &Name,
        file: &Path,
        records: Vec<Located<Record>>,
    ) -> Result<Contents, Vec<MasterFileError>> {
        let mut check = Check::new(origin, true);
        for (rtype, example) in
            [(RecordType::SOA, "SOA ns hostmaster 1 1h 10m 1d 5m"), (RecordType::NS, "NS ns")]
        {
            let is_there = |record: &Record| record.rtype == rtype && record.owner == *origin;
            if !records.iter().any(|located| is_there(&located.value)) {
                let start = Place::new(&file.into(), Spot { line: 1, column: 1 });
                check.error(
                    &start,
                    format!("the zone {origin} has no {rtype} at its apex; add one, as in `@ {example}`"),
                );
            }
        }
        check.contents(records)
    }

    /// Records that are added to a zone whose SOA and name servers come from elsewhere.
    pub fn overlay(origin: &Name, records: Vec<Located<Record>>) -> Result<Contents, Vec<MasterFileError>> {
        Check::new(origin, false).contents(records)
    }
}

/// What has been found while going through the names in canonical order, parents before their children.
struct Check<'a> {
    origin: &'a Name,
    is_whole: bool,
    errors: Vec<MasterFileError>,
    warnings: Vec<MasterFileError>,
}

/// All records of one type at one name.
type Group<'r> = &'r [Located<Record>];

impl<'a> Check<'a> {
    fn new(origin: &'a Name, is_whole: bool) -> Check<'a> {
        Check { origin, is_whole, errors: Vec::new(), warnings: Vec::new() }
    }

    fn error(&mut self, place: &Place, message: impl Into<String>) {
        self.errors.push(MasterFileError { place: place.clone(), message: message.into() });
    }

    fn warning(&mut self, place: &Place, message: impl Into<String>) {
        self.warnings.push(MasterFileError { place: place.clone(), message: message.into() });
    }

    fn contents(mut self, mut records: Vec<Located<Record>>) -> Result<Contents, Vec<MasterFileError>> {
        // The sort is stable: records of an rrset stay in the order of the file.
        records.sort_by_cached_key(|located| (canonical_key(&located.value.owner), located.value.rtype));
        let mut rrsets = Vec::new();
        let mut cut: Option<&Name> = None;
        let mut dname: Option<&Located<Record>> = None;
        for node in records.chunk_by(|a, b| a.value.owner == b.value.owner) {
            let owner = &node[0].value.owner;
            if !owner.is_at_or_below(self.origin) {
                for located in node {
                    let message = format!(
                        "{owner} is not in the zone {}; a name without a final dot is relative to the origin",
                        self.origin
                    );
                    self.error(&located.place, message);
                }
                continue;
            }
            let groups: Vec<Group<'_>> = node.chunk_by(|a, b| a.value.rtype == b.value.rtype).collect();
            cut = cut.filter(|cut| owner.is_at_or_below(cut));
            dname = dname.filter(|dname| owner.is_at_or_below(&dname.value.owner));
            if let Some(dname) = dname {
                for located in node {
                    let message = format!(
                        "{owner} is below the DNAME at {} ({}); nothing may be there (RFC 6672 §2.4)",
                        dname.value.owner, dname.place
                    );
                    self.error(&located.place, message);
                }
            }
            self.node(&groups, cut);
            cut = cut.or_else(|| {
                of_type(&groups, RecordType::NS).map(|_| owner).filter(|owner| *owner != self.origin)
            });
            dname = dname.or_else(|| of_type(&groups, RecordType::DNAME).map(|group| &group[0]));
            for group in &groups {
                rrsets.extend(self.rrset(group));
            }
        }
        if self.errors.is_empty() {
            Ok(Contents { rrsets, warnings: in_file_order(self.warnings) })
        } else {
            Err(in_file_order(self.errors))
        }
    }

    /// Checks the types at one name against each other; `cut` is the zone cut that the name is below, if any.
    fn node(&mut self, groups: &[Group<'_>], cut: Option<&Name>) {
        let owner = &groups[0][0].value.owner;
        let is_apex = owner == self.origin;
        for group in groups {
            let first = &group[0];
            let rtype = first.value.rtype;
            let distinct = group.iter().find(|located| located.value.rdata != first.value.rdata);
            match rtype {
                RecordType::SOA if !is_apex => {
                    self.error(&first.place, format!("a SOA may only be at the apex, {}", self.origin));
                }
                RecordType::SOA | RecordType::NS if is_apex && !self.is_whole => {
                    let message = format!("the zone {owner} has its own {rtype}; take this one out");
                    self.error(&first.place, message);
                }
                RecordType::CNAME if is_apex => {
                    let message = "a CNAME cannot be at the apex of a zone (RFC 1912 §2.4); write A and AAAA, or HTTPS with priority 0";
                    self.error(&first.place, message);
                }
                RecordType::CNAME => self.alone(first, groups),
                RecordType::DS if is_apex => {
                    self.warning(
                        &first.place,
                        "a DS at the apex belongs to the parent zone; it is never asked for here",
                    );
                }
                RecordType::DS if of_type(groups, RecordType::NS).is_none() => {
                    self.warning(
                        &first.place,
                        format!("{owner} has a DS but no NS: nothing is delegated there"),
                    );
                }
                _ => {}
            }
            if let (RecordType::SOA | RecordType::CNAME | RecordType::DNAME, Some(second)) = (rtype, distinct)
            {
                let message =
                    format!("{owner} has a second {rtype}; only one is allowed (the first: {})", first.place);
                self.error(&second.place, message);
            }
            let is_at_cut = !is_apex && of_type(groups, RecordType::NS).is_some();
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
                self.warning(&first.place, message);
            }
            for located in *group {
                self.target(located);
            }
        }
    }

    /// A CNAME stands alone, but for the records of DNSSEC about it.
    fn alone(&mut self, cname: &Located<Record>, groups: &[Group<'_>]) {
        let allowed =
            [RecordType::CNAME, RecordType::RRSIG, RecordType::NSEC, RecordType::SIG, RecordType::KEY];
        let other = groups.iter().map(|group| &group[0]).find(|other| !allowed.contains(&other.value.rtype));
        if let Some(other) = other {
            let message = format!(
                "{} has a CNAME and also {} ({}); a CNAME must stand alone (RFC 2181 §10.1)",
                cname.value.owner, other.value.rtype, other.place
            );
            self.error(&cname.place, message);
        }
    }

    /// Warns of an address where a host's name must stand.
    fn target(&mut self, located: &Located<Record>) {
        let Record { rtype, rdata, .. } = &located.value;
        let skipped = match *rtype {
            RecordType::NS => 0,
            RecordType::MX => 2,
            RecordType::SRV => 6,
            _ => return,
        };
        let Some(target) = rdata.get(skipped..).and_then(|wire| Name::from_wire(wire).ok()) else {
            return;
        };
        let origin_labels = if target.is_at_or_below(self.origin) { self.origin.label_count() } else { 0 };
        let labels = target.label_count();
        let first_four = target.labels().take(4).collect::<Vec<_>>().join(&b'.');
        let is_address = std::str::from_utf8(&first_four).is_ok_and(|text| text.parse::<Ipv4Addr>().is_ok());
        if is_address && (labels == 4 || labels == 4 + origin_labels) {
            let message = format!(
                "the {rtype} names an address, {target}; it needs the name of a host that has the address"
            );
            self.warning(&located.place, message);
        }
    }

    fn rrset(&mut self, group: Group<'_>) -> Option<OwnedRrset> {
        let first = &group[0];
        let Record { owner, rtype, .. } = &first.value;
        let ttl = group.iter().map(|located| located.value.ttl).min()?;
        // Signatures at one name belong to rrsets of several types, each with its own TTL.
        if !matches!(*rtype, RecordType::RRSIG | RecordType::SIG)
            && let Some(other) = group.iter().find(|located| located.value.ttl != first.value.ttl)
        {
            let message = format!(
                "the {rtype} records of {owner} have different TTLs; {ttl} is used for all (RFC 2181 §5.2)"
            );
            self.warning(&other.place, message);
        }
        let rrset = Rrset::new(*rtype, ttl, group.iter().map(|located| &*located.value.rdata));
        let octets =
            |rrset: &Rrset| rrset.rdatas().map(|rdata| rdata.len() + RECORD_HEAD_OCTETS).sum::<usize>();
        let Some(rrset) = rrset.filter(|rrset| octets(rrset) <= RRSET_OCTETS_MAX) else {
            let message = format!(
                "the {rtype} records of {owner} are over {RRSET_OCTETS_MAX} octets: no message can carry them"
            );
            self.error(&first.place, message);
            return None;
        };
        Some(OwnedRrset { owner: owner.clone(), rrset, place: first.place.clone() })
    }
}

fn of_type<'r>(groups: &[Group<'r>], rtype: RecordType) -> Option<Group<'r>> {
    groups.iter().find(|group| group[0].value.rtype == rtype).copied()
}

fn in_file_order(mut errors: Vec<MasterFileError>) -> Vec<MasterFileError> {
    errors.sort_by(|a, b| {
        let key = |error: &MasterFileError| (error.place.line, error.place.column);
        a.place.file.cmp(&b.place.file).then(key(a).cmp(&key(b)))
    });
    errors.truncate(ERRORS_MAX);
    errors
}

/// Octets that sort as the names do: labels from the right in lower case, each ended by a 0; the octets 0 and 1 are
/// written as 1 1 and 1 2, so that an end sorts before them.
fn canonical_key(name: &Name) -> Box<[u8]> {
    let labels: Vec<&[u8]> = name.labels().collect();
    let mut key = Vec::with_capacity(name.as_wire().len());
    for label in labels.into_iter().rev() {
        for octet in label {
            match octet.to_ascii_lowercase() {
                low @ (0 | 1) => key.extend_from_slice(&[1, low + 1]),
                octet => key.push(octet),
            }
        }
        key.push(0);
    }
    key.into()
}

#[cfg(test)]
mod tests;
