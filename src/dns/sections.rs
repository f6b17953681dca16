//! The records of a reply, written as they are found.

use crate::zone::{
    Leaf, Negative, QueryName, RecordType, Records, Rrset, Zone,
    leaf::{Drawn, HostRef, MULTIVALUE_RECORDS_MAX},
};

use super::resolve::{Owner, Sink};
use super::writer::{POINTED_OCTETS, Section, Writer, pointed};

/// Octets of an SOA's data from its serial on (RFC 1035 §3.3.13).
const SOA_NUMBERS_OCTETS: usize = 20;
/// Priority and weight of every SRV record (Cloud Map: both are 1).
const SRV_PRIORITY_WEIGHT: [u8; 4] = [0, 1, 0, 1];

/// Whether what was found has room.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Fit {
    /// All of it, or all but additional records that nobody needs.
    Whole,
    /// Addresses are missing without which a referral can't be followed (RFC 9471 §3).
    WithoutGlue,
    /// Records of the answer or authority section are missing, from the first one on that has no room.
    Cut,
}

/// Writes what a resolution finds.
pub(super) struct Sections<'w, 'b> {
    pub(super) writer: Writer<'b>,
    pub(super) rtype: RecordType,
    pub(super) random: &'w mut fastrand::Rng,
    pub(super) fit: Fit,
    pub(super) is_referral: bool,
}

impl Sections<'_, '_> {
    /// The records of one rrset; which comes first is left to chance. The SOA has the zone's serial.
    fn rrset(&mut self, section: Section, owner: Owner<'_>, rrset: &Rrset, serial: Option<u32>) {
        let len = rrset.len();
        let first = if len > 1 { self.random.usize(..len) } else { 0 };
        for rdata in rrset.rdatas().skip(first).chain(rrset.rdatas().take(first)) {
            self.writer.owner(owner);
            self.writer.kind(rrset.rtype, rrset.ttl);
            self.writer.rdata(rrset.rtype, rdata);
            if self.writer.is_full() {
                return;
            }
            if let Some(serial) = serial.filter(|_| rrset.rtype == RecordType::SOA) {
                self.writer.patch(self.writer.at() - SOA_NUMBERS_OCTETS, &serial.to_be_bytes());
            }
            self.writer.count(section);
        }
    }

    /// The records of a service that were drawn. When that is an alias, `target` becomes what it stands for.
    fn drawn(
        &mut self,
        section: Section,
        owner: Owner<'_>,
        leaf: &Leaf,
        drawn: &Drawn<'_>,
        target: &mut QueryName,
    ) -> bool {
        match drawn.rtype {
            RecordType::A => {
                for octets in drawn.hosts().filter_map(HostRef::ipv4) {
                    self.address(section, owner, RecordType::A, drawn.ttl, &octets);
                }
            }
            RecordType::AAAA => {
                for octets in drawn.hosts().filter_map(HostRef::ipv6) {
                    self.address(section, owner, RecordType::AAAA, drawn.ttl, &octets);
                }
            }
            RecordType::SRV => self.srv(section, owner, leaf, drawn),
            RecordType::CNAME => {
                // A name has one canonical name (RFC 2181 §10.1).
                let Some(name) = drawn.hosts().find_map(HostRef::target) else { return false };
                self.writer.owner(owner);
                self.writer.kind(RecordType::CNAME, drawn.ttl);
                self.writer.rdata(RecordType::CNAME, name.as_wire());
                self.writer.count(section);
                return target.set(name.as_wire()).is_ok();
            }
            _ => {}
        }
        false
    }

    fn address(&mut self, section: Section, owner: Owner<'_>, rtype: RecordType, ttl: u32, octets: &[u8]) {
        match self.writer.pointer_to(owner) {
            Some(pointer) => self.pointed(pointer, rtype, ttl, octets),
            None => {
                self.writer.owner(owner);
                self.writer.fixed(rtype, ttl, octets.len());
                self.writer.put(octets);
            }
        }
        self.writer.count(section);
    }

    /// A record whose owner is a pointer.
    fn pointed(&mut self, pointer: u16, rtype: RecordType, ttl: u32, data: &[u8]) {
        if let Some(room) = self.writer.room(POINTED_OCTETS + data.len()) {
            let (head, tail) = room.split_at_mut(POINTED_OCTETS);
            head.copy_from_slice(&pointed(pointer, rtype, ttl, data.len()));
            tail.copy_from_slice(data);
        }
    }

    /// SRV records, their targets uncompressed (RFC 2782), and the addresses of all targets.
    fn srv(&mut self, section: Section, owner: Owner<'_>, leaf: &Leaf, drawn: &Drawn<'_>) {
        let service = owner.as_wire();
        let mut targets = [0; MULTIVALUE_RECORDS_MAX];
        for (host, target) in drawn.hosts().zip(&mut targets) {
            let labels = host.labels();
            self.writer.owner(owner);
            self.writer.fixed(RecordType::SRV, drawn.ttl, 6 + labels.len() + service.len());
            let [high, low] = host.port().to_be_bytes();
            let [p0, p1, w0, w1] = SRV_PRIORITY_WEIGHT;
            self.writer.put(&[p0, p1, w0, w1, high, low]);
            *target = self.writer.at();
            self.writer.put(labels);
            self.writer.put(service);
            self.writer.count(section);
        }
        if self.writer.is_full() {
            return;
        }
        let ttl = leaf.instance_ttl();
        for (host, target) in drawn.hosts().zip(targets) {
            if let Some(octets) = host.ipv4() {
                self.target_address(target, host, service, RecordType::A, ttl, &octets);
            }
            if let Some(octets) = host.ipv6() {
                self.target_address(target, host, service, RecordType::AAAA, ttl, &octets);
            }
        }
    }

    /// The address of an SRV record's target, which stands at `target`; left out where there is no room.
    fn target_address(
        &mut self,
        target: usize,
        host: HostRef<'_>,
        service: &[u8],
        rtype: RecordType,
        ttl: u32,
        octets: &[u8],
    ) {
        let mark = self.writer.mark();
        if target < 0x4000 {
            self.pointed(0xc000 | target as u16, rtype, ttl, octets);
        } else {
            self.writer.put(host.labels());
            self.writer.put(service);
            self.writer.fixed(rtype, ttl, octets.len());
            self.writer.put(octets);
        }
        match self.writer.is_full() {
            true => self.writer.reset(mark),
            false => self.writer.count(Section::Additional),
        }
    }

    /// The addresses of the instances that have a name; equal ones once (RFC 2181 §5).
    fn instances(
        &mut self,
        section: Section,
        owner: Owner<'_>,
        leaf: &Leaf,
        rtype: RecordType,
        labels: &[u8],
    ) {
        let ttl = leaf.instance_ttl();
        for (at, host) in leaf.named(labels).enumerate() {
            let earlier = || leaf.named(labels).take(at);
            let wants = |wanted| rtype == wanted || rtype == RecordType::ANY;
            if let Some(octets) = host.ipv4().filter(|_| wants(RecordType::A))
                && !earlier().any(|other| other.ipv4() == Some(octets))
            {
                self.address(section, owner, RecordType::A, ttl, &octets);
            }
            if let Some(octets) = host.ipv6().filter(|_| wants(RecordType::AAAA))
                && !earlier().any(|other| other.ipv6() == Some(octets))
            {
                self.address(section, owner, RecordType::AAAA, ttl, &octets);
            }
        }
    }

    fn records(
        &mut self,
        section: Section,
        owner: Owner<'_>,
        records: &Records<'_>,
        serial: Option<u32>,
        target: &mut QueryName,
    ) -> bool {
        match records {
            Records::Rrset(rrset) => {
                self.rrset(section, owner, rrset, serial);
                rrset.rtype == RecordType::CNAME
                    && rrset.rdatas().next().is_some_and(|rdata| target.set(rdata).is_ok())
            }
            // One rrset is enough for ANY (RFC 8482 §4.1).
            Records::Any(node) => {
                if let Some(rrset) = node.rrsets().first() {
                    self.rrset(section, owner, rrset, serial);
                }
                false
            }
            Records::Leaf(leaf, rtype) => {
                let drawn = leaf.draw(*rtype, self.random);
                self.drawn(section, owner, leaf, &drawn, target)
            }
            Records::Instance { leaf, rtype, prefix_len } => {
                let labels = &owner.as_wire()[..*prefix_len];
                self.instances(section, owner, leaf, *rtype, labels);
                false
            }
        }
    }

    /// Something of the answer or authority section may have no room.
    fn check(&mut self) {
        if self.writer.is_full() {
            self.fit = Fit::Cut;
        }
    }
}

impl Sink for Sections<'_, '_> {
    fn answer(
        &mut self,
        zone: &Zone,
        owner: Owner<'_>,
        records: &Records<'_>,
        target: &mut QueryName,
    ) -> bool {
        let is_alias = self.records(Section::Answer, owner, records, Some(zone.serial()), target);
        self.check();
        is_alias && !matches!(self.rtype, RecordType::CNAME | RecordType::ANY)
    }

    fn synthesized(&mut self, owner: Owner<'_>, target: &[u8], ttl: u32) {
        self.writer.owner(owner);
        self.writer.kind(RecordType::CNAME, ttl);
        self.writer.rdata(RecordType::CNAME, target);
        self.writer.count(Section::Answer);
        self.check();
    }

    fn negative(&mut self, zone: &Zone, owner: Owner<'_>, soa: &Negative) {
        let apex_at = self.writer.owner(owner);
        self.writer.fixed(RecordType::SOA, soa.ttl, soa.rdata_len());
        if let Some(room) = self.writer.room(soa.rdata_len()) {
            let written = match u16::try_from(apex_at) {
                Ok(apex_at @ ..0x4000) => soa.write(apex_at, zone.serial(), room),
                _ => None,
            };
            if written.is_none() {
                self.fit = Fit::Cut;
                return;
            }
        }
        self.writer.count(Section::Authority);
        self.check();
    }

    fn referral(&mut self, owner: Owner<'_>, ns: &Rrset) {
        self.is_referral = true;
        self.rrset(Section::Authority, owner, ns, None);
        self.check();
    }

    fn additional(&mut self, owner: &QueryName, records: &Records<'_>) {
        if self.fit != Fit::Whole {
            return;
        }
        let owner = Owner { name: owner, skipped: 0, is_question: false };
        let mark = self.writer.mark();
        match records {
            Records::Leaf(leaf, rtype) => {
                let drawn = leaf.draw(*rtype, self.random);
                // An alias is no address.
                if drawn.rtype == *rtype {
                    self.drawn(Section::Additional, owner, leaf, &drawn, &mut QueryName::default());
                }
            }
            Records::Rrset(rrset) => self.rrset(Section::Additional, owner, rrset, None),
            Records::Instance { leaf, rtype, prefix_len } => {
                self.instances(Section::Additional, owner, leaf, *rtype, &owner.as_wire()[..*prefix_len]);
            }
            Records::Any(_) => {}
        }
        if self.writer.is_full() {
            self.writer.reset(mark);
            if self.is_referral {
                self.fit = Fit::WithoutGlue;
            }
        }
    }
}
