//! A zone as it is served, as a master file.
//!
//! A file says less than the server: it can't draw eight of many, and can't have canonical names beside other data. So
//! every record that could be answered is there, and what a file can't have is a comment.

use crate::zone::leaf::{ALIAS_TTL, HostRef};
use crate::zone::record::Record;
use crate::zone::write::write_zone;
use crate::zone::{Directory, Found, Leaf, Name, Node, QueryName, RecordType, Records, Rrset, Zone, lookup};

use super::records::{instance_name, live_soa, node_name, rdata};
use super::{Admin, namespace_line, namespace_of, zones_listed};

/// Records of one file. At this many it is some 60 MiB of text.
const RECORDS_MAX: usize = 1_000_000;
/// Octets of one file; what asks for it takes 64 MiB.
const OCTETS_MAX: usize = 60 << 20;
/// Comments for what a file can't have.
const COMMENTS_MAX: usize = 1_000;
/// Records of one rrset that is made here; more become another of the same owner and type.
const RRSET_RECORDS_MAX: usize = 60_000;

/// Why there is no file.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
pub(super) enum LiveZoneError {
    /// Some name that is no zone's.
    #[error("there is no zone {name}; {hint}")]
    NoZone {
        /// The name.
        name: Name,
        /// What there is instead.
        hint: String,
    },
    /// Too much to hold in one answer.
    #[error("the zone {0} is too large to be shown: more than {RECORDS_MAX} records or {OCTETS_MAX} octets")]
    TooLarge(Name),
}

/// The zone with this apex as a master file that reads back.
pub(super) fn live_zone(admin: &Admin, apex: &Name) -> Result<String, LiveZoneError> {
    let directory = std::sync::Arc::clone(&admin.snapshot.view());
    let Some(zone) = directory.zone(apex) else {
        let hint = match directory.zone_of(&QueryName::from(apex)) {
            Some(zone) => format!("the name is in the zone {}", zone.apex),
            None => zones_listed(&directory),
        };
        return Err(LiveZoneError::NoZone { name: apex.clone(), hint });
    };
    let mut contents = Contents {
        directory: &directory,
        zone,
        rrsets: Vec::new(),
        records: 0,
        comments: Vec::new(),
        left_out: 0,
    };
    for node in directory.nodes(zone) {
        contents.put_node(node)?;
    }
    let state = admin.registry.state();
    let source = match namespace_of(&state, &zone.apex) {
        Some(namespace) => namespace_line(namespace),
        None => "zone file".into(),
    };
    let text = contents.text(&source);
    match text.len() > OCTETS_MAX {
        true => Err(LiveZoneError::TooLarge(zone.apex.clone())),
        false => Ok(text),
    }
}

struct Contents<'v> {
    directory: &'v Directory,
    zone: &'v Zone,
    rrsets: Vec<(Name, Rrset)>,
    records: usize,
    comments: Vec<String>,
    /// Comments that are over the limit.
    left_out: usize,
}

impl Contents<'_> {
    fn put_node(&mut self, node: &Node) -> Result<(), LiveZoneError> {
        let owner = node_name(node);
        for rrset in node.rrsets.iter() {
            let is_apex_soa = rrset.rtype == RecordType::SOA && owner == self.zone.apex;
            let live = is_apex_soa.then(|| live_soa(self.directory, self.zone)).flatten();
            self.put(&owner, live.unwrap_or_else(|| rrset.clone()))?;
        }
        let Some(cell) = &node.leaf else { return Ok(()) };
        let leaf = cell.load_full();
        if self.zone.has_cuts
            && let Found::Referral { .. } | Found::Redirect { .. } = self.found(&owner)
        {
            self.comment(format!("the service {owner} is hidden by a zone cut or a DNAME above it"));
            return Ok(());
        }
        self.put_service(&owner, &leaf, !node.rrsets.is_empty())?;
        self.put_instances(&owner, &leaf)
    }

    /// The records at a service's name.
    fn put_service(&mut self, owner: &Name, leaf: &Leaf, has_records: bool) -> Result<(), LiveZoneError> {
        let mut has_data = has_records;
        for rtype in leaf.types().filter(|rtype| *rtype != RecordType::CNAME) {
            let rdatas: Vec<_> = leaf.all(rtype).filter_map(|host| rdata(host, rtype, owner)).collect();
            has_data |= !rdatas.is_empty();
            self.put_all(owner, rtype, leaf.ttl(rtype).unwrap_or(0), &rdatas)?;
        }
        let (ttl, hosts): (_, Vec<HostRef<'_>>) = match leaf.ttl(RecordType::CNAME) {
            Some(ttl) => (ttl, leaf.all(RecordType::CNAME).collect()),
            None => (ALIAS_TTL, leaf.aliases().collect()),
        };
        for data in hosts.into_iter().filter_map(|host| rdata(host, RecordType::CNAME, owner)) {
            if has_data {
                let record = self.record_text(owner, RecordType::CNAME, ttl, &data);
                self.comment(format!("{record} ; drawn beside what else the name has; a file can't say so"));
            } else {
                // A second canonical name can't be beside this one (RFC 2181 §10.1).
                has_data = true;
                self.put_all(owner, RecordType::CNAME, ttl, &[data])?;
            }
        }
        Ok(())
    }

    /// The records at the names of a service's instances, whatever their health.
    fn put_instances(&mut self, service: &Name, leaf: &Leaf) -> Result<(), LiveZoneError> {
        // Those of equal names, ids in different case, are neighbours.
        let hosts: Vec<HostRef<'_>> = leaf.all_named().filter(|host| host.has_address()).collect();
        for same in hosts.chunk_by(|a, b| a.labels().eq_ignore_ascii_case(b.labels())) {
            let Some(name) = same.first().and_then(|host| instance_name(*host, service)) else { continue };
            let is_answered =
                matches!(self.found(&name), Found::Answer(Records::Instance { .. })) && !name.is_wildcard();
            for rtype in [RecordType::A, RecordType::AAAA] {
                let rdatas: Vec<_> = same.iter().filter_map(|host| rdata(*host, rtype, service)).collect();
                if is_answered {
                    self.put_all(&name, rtype, leaf.instance_ttl(), &rdatas)?;
                    continue;
                }
                for data in rdatas {
                    let record = self.record_text(&name, rtype, leaf.instance_ttl(), &data);
                    let why = match name.is_wildcard() {
                        true => "answered for this very name alone; in a file it would be a wildcard",
                        false => "not answered: other records are at the name or hide it",
                    };
                    self.comment(format!("{record} ; {why}"));
                }
            }
        }
        Ok(())
    }

    fn found(&self, name: &Name) -> Found<'_> {
        lookup(self.directory, self.zone, &QueryName::from(name), RecordType::ANY)
    }

    fn put_all(
        &mut self,
        owner: &Name,
        rtype: RecordType,
        ttl: u32,
        rdatas: &[Vec<u8>],
    ) -> Result<(), LiveZoneError> {
        for part in rdatas.chunks(RRSET_RECORDS_MAX) {
            if let Some(rrset) = Rrset::new(rtype, ttl, part.iter().map(Vec::as_slice)) {
                self.put(owner, rrset)?;
            }
        }
        Ok(())
    }

    fn put(&mut self, owner: &Name, rrset: Rrset) -> Result<(), LiveZoneError> {
        self.records += rrset.len();
        if self.records > RECORDS_MAX {
            return Err(LiveZoneError::TooLarge(self.zone.apex.clone()));
        }
        self.rrsets.push((owner.clone(), rrset));
        Ok(())
    }

    fn record_text(&self, owner: &Name, rtype: RecordType, ttl: u32, data: &[u8]) -> String {
        Record { owner: owner.clone(), rtype, ttl, rdata: data.into() }.to_string()
    }

    fn comment(&mut self, text: String) {
        match self.comments.len() < COMMENTS_MAX {
            true => self.comments.push(text),
            false => self.left_out += 1,
        }
    }

    fn text(&self, source: &str) -> String {
        let (apex, serial, records) = (&self.zone.apex, self.zone.serial(), self.records);
        let mut text = format!("; {apex} as it is served: {source}, serial {serial}, {records} records\n");
        text.push_str(&write_zone(apex, self.rrsets.iter().map(|(owner, rrset)| (owner, rrset))));
        for comment in &self.comments {
            text.push_str(&format!("; {comment}\n"));
        }
        if self.left_out > 0 {
            text.push_str(&format!("; … and {} more such records\n", self.left_out));
        }
        text
    }
}
