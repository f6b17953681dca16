//! The model: a zone is a flat list of records, and every question is answered by scanning it.
//!
//! It follows RFC 1034 §4.3.2, RFC 4592 §3.3, RFC 6672 §3.2, RFC 8020, RFC 2308 and RFC 4035 §3.1.4.1, and the mapping of
//! Cloud Map services to records. Names are labels in lower case, the leftmost first.

use std::collections::{BTreeSet, HashSet};

use cloudmap_dns::dns::resolve::CHAIN_LINKS_MAX;
use cloudmap_dns::zone::{HostSource, RecordType, Selection};

pub(crate) type Labels = Vec<String>;

/// A record in the form in which model and server are compared: owner, type, TTL, data.
pub(crate) type ComparedRecord = (String, RecordType, u32, Vec<u8>);
pub(crate) type Set = BTreeSet<ComparedRecord>;

#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) owner: Labels,
    pub(crate) rtype: RecordType,
    pub(crate) ttl: u32,
    pub(crate) rdata: Vec<u8>,
}

#[derive(Clone, Debug)]
pub(crate) struct Service {
    pub(crate) name: Labels,
    pub(crate) records: Vec<(RecordType, u32)>,
    pub(crate) selection: Selection,
    pub(crate) hosts: Vec<HostSource>,
}

#[derive(Clone, Debug)]
pub(crate) struct Zone {
    pub(crate) apex: Labels,
    pub(crate) records: Vec<Record>,
    pub(crate) services: Vec<Service>,
    /// All names that exist: owners of records, and their ancestors up to the apex (RFC 8020, RFC 4592 §2.2.2).
    existing: HashSet<Labels>,
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Step {
    Answer(Set),
    Alias(Set),
    Redirect(String),
    Referral(String),
    NoData,
    NoName,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Outcome {
    NoError { authoritative: bool },
    NoName,
    NameTooLong,
    NotAuthoritative,
}

/// A whole reply. `answers` has a set for each link of the chain; the order of records within a set has no meaning.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Reply {
    pub(crate) outcome: Outcome,
    pub(crate) answers: Vec<Set>,
    pub(crate) negative: Option<(String, u32)>,
    pub(crate) referral: Set,
    pub(crate) additional: Set,
}

pub(crate) fn text(labels: &[String]) -> String {
    labels.iter().map(|label| format!("{label}.")).collect::<String>()
}

pub(crate) fn labels_of(wire: &[u8]) -> Labels {
    let mut labels = Vec::new();
    let mut rest = wire;
    while let Some((len, tail)) = rest.split_first().filter(|(len, _)| **len > 0) {
        let (label, tail) = tail.split_at(*len as usize);
        labels.push(String::from_utf8_lossy(label).to_lowercase());
        rest = tail;
    }
    labels
}

fn wire_len(labels: &[String]) -> usize {
    labels.iter().map(|label| label.len() + 1).sum::<usize>() + 1
}

fn wire(labels: &[String]) -> Vec<u8> {
    let mut wire = Vec::new();
    for label in labels {
        wire.push(label.len() as u8);
        wire.extend_from_slice(label.as_bytes());
    }
    wire.push(0);
    wire
}

/// The names at which an instance's addresses are served: the target of its SRV record, and its own name if it differs.
fn instance_names(host: &HostSource, service: &Service) -> impl Iterator<Item = Labels> {
    let has_address = host.ipv4.is_some() || host.ipv6.is_some();
    let below = |labels: &[u8]| labels_of(&[labels, &[0]].concat());
    let names = [below(&host.labels), below(&host.own_labels)].into_iter();
    let service = service.name.clone();
    names
        .filter(move |below| has_address && !below.is_empty())
        .map(move |below| [below, service.clone()].concat())
}

fn target_name(host: &HostSource, service: &Service) -> Option<Labels> {
    instance_names(host, service).next().filter(|_| !host.labels.is_empty())
}

impl Service {
    fn ttl(&self, rtype: RecordType) -> Option<u32> {
        self.records.iter().find(|(other, _)| *other == rtype).map(|(_, ttl)| *ttl)
    }

    /// The records at the service's own name, of those instances only that are served (by their health).
    fn at_name(&self, rtype: RecordType) -> Set {
        let owner = text(&self.name);
        let Some(ttl) = self.ttl(rtype) else { return Set::new() };
        let served = self.hosts.iter().filter(|host| host.served);
        let rdata = |host: &HostSource| match rtype {
            RecordType::A => host.ipv4.map(|address| address.octets().to_vec()),
            RecordType::AAAA => host.ipv6.map(|address| address.octets().to_vec()),
            RecordType::SRV => {
                let target = wire(&target_name(host, self)?);
                Some([&[0, 1, 0, 1], &host.port?.to_be_bytes()[..], &target].concat())
            }
            _ => host.target.as_ref().map(|target| target.as_wire().to_vec()),
        };
        served.filter_map(|host| Some((owner.clone(), rtype, ttl, rdata(host)?))).collect()
    }

    /// The alias (AWS_ALIAS_DNS_NAME) of a service with A or AAAA records, which is served as a CNAME.
    fn alias(&self, rtype: RecordType) -> Set {
        let is_address = matches!(rtype, RecordType::A | RecordType::AAAA);
        if !is_address || self.ttl(rtype).is_none() || self.ttl(RecordType::CNAME).is_some() {
            return Set::new();
        }
        let is_alias = |host: &&HostSource| host.served && host.ipv4.is_none() && host.ipv6.is_none();
        let targets = self.hosts.iter().filter(is_alias).filter_map(|host| host.target.as_ref());
        let rdata = |target: &cloudmap_dns::zone::Name| target.as_wire().to_vec();
        targets.map(|target| (text(&self.name), RecordType::CNAME, 60, rdata(target))).collect()
    }

    fn instance(&self, name: &[String], rtype: RecordType) -> Set {
        let ttl =
            [RecordType::SRV, RecordType::A, RecordType::AAAA].iter().find_map(|rtype| self.ttl(*rtype));
        let mut set = Set::new();
        for host in self.hosts.iter().filter(|host| instance_names(host, self).any(|own| own == name)) {
            let mut add = |rtype, octets: &[u8]| {
                set.insert((text(name), rtype, ttl.unwrap_or(0), octets.to_vec()));
            };
            if let Some(address) = host.ipv4.filter(|_| matches!(rtype, RecordType::A | RecordType::ANY)) {
                add(RecordType::A, &address.octets());
            }
            if let Some(address) = host.ipv6.filter(|_| matches!(rtype, RecordType::AAAA | RecordType::ANY)) {
                add(RecordType::AAAA, &address.octets());
            }
        }
        set
    }
}

impl Zone {
    pub(crate) fn new(apex: Labels, records: Vec<Record>, mut services: Vec<Service>) -> Zone {
        services.sort_by_key(|service| std::cmp::Reverse(service.name.len()));
        let instances = services
            .iter()
            .flat_map(|service| service.hosts.iter().flat_map(|host| instance_names(host, service)));
        let mut existing = HashSet::new();
        let owners = records.iter().map(|record| record.owner.clone());
        for owner in owners.chain(services.iter().map(|service| service.name.clone())).chain(instances) {
            existing.extend((0..=owner.len() - apex.len()).map(|skipped| owner[skipped..].to_vec()));
        }
        Zone { apex, records, services, existing }
    }

    /// The rrset of a type at a name. All records get the lowest TTL of them (RFC 2181 §5.2).
    pub(crate) fn rrset(&self, name: &[String], rtype: RecordType) -> Set {
        let records = || self.records.iter().filter(|record| record.owner == name && record.rtype == rtype);
        let ttl = records().map(|record| record.ttl).min().unwrap_or(0);
        records().map(|record| (text(name), rtype, ttl, record.rdata.clone())).collect()
    }

    fn has(&self, name: &[String], rtype: RecordType) -> bool {
        self.records.iter().any(|record| record.owner == name && record.rtype == rtype)
    }

    /// True if the name is a zone cut of this zone and not below another cut or a DNAME, which would occlude it.
    fn is_visible_cut(&self, name: &[String]) -> bool {
        let above = 1..=name.len().saturating_sub(self.apex.len());
        let hides = |above: &[String]| {
            self.has(above, RecordType::DNAME) || (above != self.apex && self.has(above, RecordType::NS))
        };
        name != self.apex
            && self.has(name, RecordType::NS)
            && !above.into_iter().any(|skipped| hides(&name[skipped..]))
    }

    /// RFC 1034 §4.3.2, step 3, from the apex down, label by label.
    pub(crate) fn step(&self, name: &[String], rtype: RecordType) -> Step {
        for skipped in (0..=name.len() - self.apex.len()).rev() {
            let here = &name[skipped..];
            let is_parents_question = skipped == 0 && rtype == RecordType::DS;
            if here != self.apex && self.has(here, RecordType::NS) && !is_parents_question {
                return Step::Referral(text(here));
            }
            if skipped > 0 && self.has(here, RecordType::DNAME) {
                return Step::Redirect(text(here));
            }
        }
        if self.existing.contains(name) {
            return self.at(name, name, rtype);
        }
        // RFC 4592 §3.3.1: the closest encloser is the longest existing ancestor; the source of synthesis is `*` below it.
        let closest =
            (1..=name.len()).map(|skipped| &name[skipped..]).find(|name| self.existing.contains(*name));
        let source = [&["*".to_string()], closest.unwrap_or_default()].concat();
        if self.existing.contains(&source) { self.at(&source, name, rtype) } else { Step::NoName }
    }

    /// Looks up an existing name, and returns its records with the owner `asked`. At one name, records of zone files take
    /// precedence over services, services over other services' instances, and instances of the closest service over others.
    fn at(&self, name: &[String], asked: &[String], rtype: RecordType) -> Step {
        let service = self.services.iter().find(|service| service.name == name);
        let at_service = |rtype| {
            let sets = |service: &Service| [service.at_name(rtype), service.alias(rtype)];
            service.into_iter().flat_map(sets).find(|set| !set.is_empty()).unwrap_or_default()
        };
        let instances = |rtype| self.services.iter().map(move |service| service.instance(name, rtype));
        let renamed = |set: Set| {
            set.into_iter().map(|(_, rtype, ttl, rdata)| (text(asked), rtype, ttl, rdata)).collect()
        };
        if rtype == RecordType::ANY {
            let records = self.records.iter().filter(|record| record.owner == name);
            let mut all: Set = records.flat_map(|record| self.rrset(name, record.rtype)).collect();
            for rtype in [RecordType::A, RecordType::AAAA, RecordType::SRV, RecordType::CNAME] {
                all.extend(at_service(rtype));
            }
            all.extend(instances(rtype).flatten());
            return if all.is_empty() { Step::NoData } else { Step::Answer(renamed(all)) };
        }
        // RFC 1034 §3.6.2: an alias answers every type that the name does not have itself.
        for set_of in [&|rtype| self.rrset(name, rtype), &at_service as &dyn Fn(RecordType) -> Set] {
            let (own, alias) = (set_of(rtype), set_of(RecordType::CNAME));
            if !own.is_empty() {
                return Step::Answer(renamed(own));
            }
            if !alias.is_empty() {
                return Step::Alias(renamed(alias));
            }
        }
        match instances(rtype).find(|set| !set.is_empty()) {
            Some(set) => Step::Answer(renamed(set)),
            None => Step::NoData,
        }
    }
}

pub(crate) fn zone_of<'z>(zones: &'z [Zone], name: &[String]) -> Option<&'z Zone> {
    zones.iter().filter(|zone| name.ends_with(&zone.apex)).max_by_key(|zone| zone.apex.len())
}

/// Answers a question from all zones (RFC 1034 §4.3.2, all steps).
pub(crate) fn resolve(zones: &[Zone], name: &[String], rtype: RecordType) -> Reply {
    let mut reply = Reply {
        outcome: Outcome::NotAuthoritative,
        answers: Vec::new(),
        negative: None,
        referral: Set::new(),
        additional: Set::new(),
    };
    let Some(mut zone) = zone_of(zones, name) else { return reply };
    // RFC 4035 §3.1.4.1: the parent zone answers DS, if it is served here and has a visible cut at the name.
    if rtype == RecordType::DS && name == zone.apex && !name.is_empty() {
        zone = zone_of(zones, &name[1..]).filter(|above| above.is_visible_cut(name)).unwrap_or(zone);
    }
    let mut name = name.to_vec();
    let mut asked = vec![name.clone()];
    reply.outcome = Outcome::NoError { authoritative: true };
    loop {
        let target = match zone.step(&name, rtype) {
            Step::Answer(set) => {
                let is_alias = rtype != RecordType::ANY && rtype != RecordType::CNAME;
                let target = set.first().filter(|record| is_alias && record.1 == RecordType::CNAME);
                let target = target.map(|record| labels_of(&record.3));
                if target.is_none() && rtype != RecordType::ANY {
                    additional(zones, zone, &set, &mut reply.additional);
                }
                // RFC 2181 §5: no record is twice in a reply. A DNAME of the chain may be in the answer to ANY too.
                if reply.answers.iter().all(|earlier| earlier.is_disjoint(&set)) {
                    reply.answers.push(set);
                }
                let Some(target) = target else { return reply };
                target
            }
            Step::Alias(set) => {
                let target = set.first().map(|record| labels_of(&record.3)).unwrap_or_default();
                reply.answers.push(set);
                target
            }
            Step::Redirect(owner) => {
                let skipped = (0..).find(|skipped| text(&name[*skipped..]) == owner).unwrap_or(0);
                let dname = zone.rrset(&name[skipped..], RecordType::DNAME);
                let (ttl, rdata) =
                    dname.first().map(|record| (record.2, record.3.clone())).unwrap_or_default();
                if !reply.answers.contains(&dname) {
                    reply.answers.push(dname);
                }
                let target = [&name[..skipped], &labels_of(&rdata)].concat();
                if wire_len(&target) > 255 {
                    reply.outcome = Outcome::NameTooLong;
                    return reply;
                }
                let data = [&wire(&name[..skipped])[..wire_len(&name[..skipped]) - 1], &rdata].concat();
                reply.answers.push(Set::from([(text(&name), RecordType::CNAME, ttl, data)]));
                if rtype == RecordType::CNAME {
                    return reply;
                }
                target
            }
            Step::Referral(owner) => {
                let skipped = (0..).find(|skipped| text(&name[*skipped..]) == owner).unwrap_or(0);
                reply.referral = zone.rrset(&name[skipped..], RecordType::NS);
                additional(zones, zone, &reply.referral, &mut reply.additional);
                reply.outcome = Outcome::NoError { authoritative: asked.len() > 1 };
                return reply;
            }
            step => {
                if step == Step::NoName {
                    reply.outcome = Outcome::NoName;
                }
                // RFC 2308 §5: the smaller of the SOA's TTL and its MINIMUM.
                reply.negative = zone.rrset(&zone.apex, RecordType::SOA).first().map(|soa| {
                    let minimum = soa.3.last_chunk::<4>().map_or(0, |octets| u32::from_be_bytes(*octets));
                    (text(&zone.apex), soa.2.min(minimum))
                });
                return reply;
            }
        };
        // The chain ends where it leaves the zone, forms a loop or reaches the limit; the reply has the links so far.
        let is_here = zone_of(zones, &target).is_some_and(|other| other.apex == zone.apex);
        if !is_here || asked.contains(&target) || asked.len() >= CHAIN_LINKS_MAX {
            return reply;
        }
        asked.push(target.clone());
        name = target;
    }
}

/// Adds the addresses of the hosts that the records name, glue included, if they are in the zone (RFC 1034 §4.3.2, step 6).
fn additional(zones: &[Zone], zone: &Zone, set: &Set, sink: &mut Set) {
    for (owner, rtype, _, rdata) in set {
        // A service's own SRV records get no addresses here: those of the drawn instances are written with the answer.
        if *rtype == RecordType::SRV && zone.services.iter().any(|service| text(&service.name) == *owner) {
            continue;
        }
        let target = match *rtype {
            RecordType::NS => labels_of(rdata),
            RecordType::MX => labels_of(&rdata[2..]),
            RecordType::SRV => labels_of(&rdata[6..]),
            // RFC 9460 §2.5: the root as the target means the owner name.
            RecordType::HTTPS => match labels_of(&rdata[2..]) {
                target if target.is_empty() => owner.split_terminator('.').map(str::to_string).collect(),
                target => target,
            },
            _ => continue,
        };
        if zone_of(zones, &target).is_none_or(|other| other.apex != zone.apex) {
            continue;
        }
        for rtype in [RecordType::A, RecordType::AAAA] {
            match zone.step(&target, rtype) {
                Step::Answer(set) => sink.extend(set.into_iter().filter(|record| record.1 == rtype)),
                Step::Referral(_) => sink.extend(zone.rrset(&target, rtype)),
                _ => {}
            }
        }
    }
}
