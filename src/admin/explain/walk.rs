//! The lookup step by step, and the answer that comes of it. Of additional records, those of services and of referrals
//! are shown.

use std::collections::HashSet;

use crate::zone::leaf::{ALIAS_TTL, HostRef, MULTIVALUE_RECORDS_MAX};
use crate::zone::record::Record;
use crate::zone::{
    Directory, Found, Leaf, Name, Node, QueryName, RecordType, Records, Rrset, Selection, Zone, lookup,
};

use super::RECORDS_LISTED_MAX;
use crate::zone::records::{closest, live_soa, negative_soa, node_name, rdata, target_name};

/// Names that are followed here. The server may follow more.
const STEPS_MAX: usize = 16;
/// The types of addresses.
const ADDRESSES: [RecordType; 2] = [RecordType::A, RecordType::AAAA];

/// How an answer comes about.
pub(super) struct Walk {
    /// One line for each name that was looked up.
    pub(super) steps: Vec<String>,
    /// The names of the services on the way, each once.
    pub(super) services: Vec<Name>,
    /// The response code, and what is to be said with it.
    pub(super) rcode: String,
    /// What the records don't say.
    pub(super) notes: Vec<String>,
    pub(super) answer: Part,
    pub(super) authority: Part,
    pub(super) additional: Part,
}

/// The records of one part of the answer in master-file form.
#[derive(Default)]
pub(super) struct Part {
    /// The first of them.
    pub(super) lines: Vec<String>,
    /// How many there are.
    pub(super) count: usize,
}

/// One name that is looked up.
struct Step<'v, 'n> {
    directory: &'v Directory,
    zone: &'v Zone,
    name: &'n Name,
    query: &'n QueryName,
    /// The node that has what is answered, or the closest one.
    owner: Name,
    /// What to say of the wildcard that it is.
    by: String,
}

impl Walk {
    /// Looks a name of the zone up, and follows canonical names for as long as they stay in it.
    pub(super) fn follow(directory: &Directory, zone: &Zone, name: &Name, rtype: RecordType) -> Walk {
        let mut walk = Walk {
            steps: Vec::new(),
            services: Vec::new(),
            rcode: "NOERROR".into(),
            notes: Vec::new(),
            answer: Part::default(),
            authority: Part::default(),
            additional: Part::default(),
        };
        let mut seen = HashSet::new();
        let mut current = name.clone();
        loop {
            let query = QueryName::from(&current);
            match directory.zone_of(&query) {
                Some(other) if other.apex == zone.apex => {}
                // The first name was found to be this zone's to answer, also for DS above a zone cut.
                _ if seen.is_empty() => {}
                other => {
                    let place = other.map_or("in no zone here".into(), |other| {
                        format!("in the zone {}, which is answered by itself", other.apex)
                    });
                    walk.steps.push(format!("{current} is {place}: the answer ends here"));
                    return walk;
                }
            }
            if !seen.insert(current.clone()) {
                walk.steps.push(format!("{current} was there before, a loop: the answer ends here"));
                return walk;
            }
            if seen.len() > STEPS_MAX {
                walk.steps.push(format!("{current}: not followed here, after {STEPS_MAX} names"));
                walk.notes.push("the first part of a long chain; ask DNS for all of it:".into());
                return walk;
            }
            match walk.step(directory, zone, &current, &query, rtype) {
                Some(next) => current = next,
                None => return walk,
            }
        }
    }

    /// Looks one name up, and says which one is next.
    fn step(
        &mut self,
        directory: &Directory,
        zone: &Zone,
        name: &Name,
        query: &QueryName,
        rtype: RecordType,
    ) -> Option<Name> {
        let (skipped, node) = closest(directory, zone, query)?;
        let is_instance = skipped > 0 && is_instance(directory, node, query.prefix(skipped));
        let wildcard = match skipped > 0 && node.has_wildcard() && !is_instance {
            true => directory.wildcard(zone, query, skipped),
            false => None,
        };
        let owner = wildcard.unwrap_or(node);
        let by = wildcard.map(|wildcard| format!(", by the wildcard {}", node_name(wildcard)));
        let step = Step { directory, zone, name, query, owner: node_name(owner), by: by.unwrap_or_default() };
        if owner.is_service() && !self.services.contains(&step.owner) {
            self.services.push(step.owner.clone());
        }
        match lookup(directory, zone, query, rtype) {
            Found::Answer(records) => self.answer(&step, records),
            Found::Alias(Records::Rrset(rrset)) => {
                put_rrset(&mut self.answer, name, rrset);
                let target = rrset.rdatas().next().and_then(|data| Name::from_wire(data).ok())?;
                self.follow_to(&step, "a CNAME record", target)
            }
            Found::Alias(Records::Leaf(leaf, _)) => {
                let ttl = leaf.ttl(RecordType::CNAME).unwrap_or(0);
                let hosts: Vec<_> = leaf.all(RecordType::CNAME).collect();
                self.canonical_names(&step, ttl, &hosts)
            }
            // No other kind of records is an alias.
            Found::Alias(_) => None,
            Found::Redirect { skipped, rrset } => self.redirect(&step, skipped, rrset),
            Found::Referral { skipped, ns, .. } => self.referral(&step, skipped, ns),
            Found::NoData(leaf) => {
                let why = match is_instance {
                    true => format!("an instance has this name or one below it, and no {rtype} record there"),
                    false => no_data(owner, leaf, rtype),
                };
                self.steps.push(format!("{name}: {why}{}", step.by));
                self.rcode = "NOERROR without records of the type (NODATA)".into();
                self.negative(&step)
            }
            Found::NoName => {
                let closest = node_name(node);
                self.steps.push(format!("{name}: does not exist; the closest name that does is {closest}"));
                self.rcode = "NXDOMAIN".into();
                self.negative(&step)
            }
        }
    }

    fn answer(&mut self, step: &Step<'_, '_>, records: Records<'_>) -> Option<Name> {
        let Step { name, owner, by, .. } = step;
        match records {
            Records::Rrset(rrset) => {
                self.steps.push(format!("{name}: {}{by}", counted(rrset.len(), rrset.rtype)));
                self.put_live(step, rrset);
            }
            Records::Any(node) => {
                let types: Vec<_> = node.rrsets().iter().map(|rrset| rrset.rtype.to_string()).collect();
                self.steps.push(format!("{name}: has {}{by}", types.join(", ")));
                if types.len() > 1 {
                    self.notes.push("one of these sets (RFC 8482):".into());
                }
                node.rrsets().iter().for_each(|rrset| self.put_live(step, rrset));
            }
            Records::Instance { leaf, rtype, prefix_len } => {
                self.steps.push(format!("{name}: an instance of the service {owner}, whatever its health"));
                for host in leaf.named(&step.query.as_wire()[..prefix_len]) {
                    for each in ADDRESSES.into_iter().filter(|each| [*each, RecordType::ANY].contains(&rtype))
                    {
                        put(&mut self.answer, name, each, leaf.instance_ttl(), rdata(host, each, owner));
                    }
                }
            }
            Records::Leaf(leaf, rtype) => return self.draw(step, leaf, rtype),
        }
        None
    }

    /// All that may be drawn of a service.
    fn draw(&mut self, step: &Step<'_, '_>, leaf: &Leaf, rtype: RecordType) -> Option<Name> {
        let Step { name, owner, by, .. } = step;
        let hosts: Vec<_> = leaf.all(rtype).collect();
        let aliases: Vec<_> = leaf.aliases().filter(|_| ADDRESSES.contains(&rtype)).collect();
        if hosts.is_empty() {
            return self.canonical_names(step, ALIAS_TTL, &aliases);
        }
        self.steps.push(format!("{name}: a service with {} to answer{by}", counted(hosts.len(), rtype)));
        // An alias is only ever drawn alone.
        let draws_one = leaf.selection() == Selection::One || hosts.len() == 1;
        let count = hosts.len() + if draws_one { aliases.len() } else { 0 };
        if draws_one && count > 1 {
            self.notes.push(format!("1 of {count}, drawn for each query:"));
        } else if count > MULTIVALUE_RECORDS_MAX {
            self.notes.push(format!("up to {MULTIVALUE_RECORDS_MAX} of {count}, drawn for each query:"));
        }
        let ttl = leaf.ttl(rtype).unwrap_or(0);
        for host in hosts {
            put(&mut self.answer, name, rtype, ttl, rdata(host, rtype, owner));
            if rtype == RecordType::SRV
                && let Some(target) = target_name(host, owner)
            {
                for each in ADDRESSES {
                    put(&mut self.additional, &target, each, leaf.instance_ttl(), rdata(host, each, owner));
                }
            }
        }
        for alias in aliases.into_iter().filter(|_| draws_one) {
            let data = rdata(alias, RecordType::CNAME, owner);
            put(&mut self.answer, name, RecordType::CNAME, ALIAS_TTL, data);
        }
        None
    }

    /// Canonical names of a service, of which an answer has one. It is followed here when there is no other.
    fn canonical_names(&mut self, step: &Step<'_, '_>, ttl: u32, hosts: &[HostRef<'_>]) -> Option<Name> {
        let Step { name, owner, by, .. } = step;
        for host in hosts {
            put(&mut self.answer, name, RecordType::CNAME, ttl, rdata(*host, RecordType::CNAME, owner));
        }
        if let [host] = hosts {
            return self.follow_to(step, "the service's canonical name", host.target()?.clone());
        }
        let count = hosts.len();
        self.steps.push(format!("{name}: a service with {count} canonical names to answer{by}"));
        self.notes.push(format!("1 of {count}, drawn for each query, and followed while it is in the zone:"));
        None
    }

    fn follow_to(&mut self, step: &Step<'_, '_>, what: &str, target: Name) -> Option<Name> {
        self.steps.push(format!("{}: {what}{}, to {target}", step.name, step.by));
        Some(target)
    }

    /// The name below a DNAME, below the DNAME's target instead (RFC 6672 §3.1).
    fn redirect(&mut self, step: &Step<'_, '_>, skipped: usize, rrset: &Rrset) -> Option<Name> {
        let owner = Name::from_wire(step.query.suffix(skipped)).ok()?;
        put_rrset(&mut self.answer, &owner, rrset);
        let target = rrset.rdatas().next().and_then(|data| Name::from_wire(data).ok())?;
        let Ok(next) = Name::from_labels(step.name.labels().take(skipped).chain(target.labels())) else {
            self.steps.push(format!("{}: the DNAME at {owner} makes a name that is too long", step.name));
            self.rcode = "YXDOMAIN".into();
            return None;
        };
        put(&mut self.answer, step.name, RecordType::CNAME, rrset.ttl, Some(next.as_wire().to_vec()));
        self.steps.push(format!("{}: the DNAME at {owner}, to {next}", step.name));
        Some(next)
    }

    fn referral(&mut self, step: &Step<'_, '_>, skipped: usize, ns: &Rrset) -> Option<Name> {
        let cut = Name::from_wire(step.query.suffix(skipped)).ok()?;
        self.steps.push(format!("{}: a referral to the name servers of {cut}", step.name));
        // Authority is that of the first name (RFC 1035 §4.1.1).
        let is_first = self.answer.count == 0;
        self.rcode =
            if is_first { "NOERROR, not authoritative: a referral" } else { "NOERROR, then a referral" }
                .into();
        put_rrset(&mut self.authority, &cut, ns);
        for server in ns.rdatas().filter_map(|data| Name::from_wire(data).ok()) {
            let node = step.directory.node(step.zone, &QueryName::from(&server), 0);
            for rrset in ADDRESSES.into_iter().filter_map(|rtype| node?.rrset(rtype)) {
                put_rrset(&mut self.additional, &server, rrset);
            }
        }
        None
    }

    fn negative(&mut self, step: &Step<'_, '_>) -> Option<Name> {
        if let Some(soa) = negative_soa(step.directory, step.zone) {
            put_rrset(&mut self.authority, &step.zone.apex, &soa);
        }
        None
    }

    /// Records of a node; of the zone's SOA those that are live.
    fn put_live(&mut self, step: &Step<'_, '_>, rrset: &Rrset) {
        let is_live = rrset.rtype == RecordType::SOA && step.owner == step.zone.apex;
        let live = is_live.then(|| live_soa(step.directory, step.zone)).flatten();
        put_rrset(&mut self.answer, step.name, live.as_ref().unwrap_or(rrset));
    }
}

/// Whether the labels below a service's name are an instance's name or above one, so that no wildcard is asked.
fn is_instance(directory: &Directory, service: &Node, labels: &[u8]) -> bool {
    directory.leaf(service).is_some_and(|leaf| leaf.has_names_at_or_below(labels))
}

/// Why a name has nothing of a type.
fn no_data(node: &Node, leaf: Option<&Leaf>, rtype: RecordType) -> String {
    if let Some(leaf) = leaf {
        let (tally, has_type) = (leaf.tally(), leaf.ttl(rtype).is_some());
        return match (has_type, tally.instances) {
            (false, _) => format!("a service that has no {rtype} records"),
            (true, 0) => "a service without instances".into(),
            (true, instances) => format!(
                "a service with nothing to answer: of {instances} instance{}, health lets {} through",
                if instances == 1 { "" } else { "s" },
                tally.served
            ),
        };
    }
    if node.is_empty_non_terminal() {
        return "the name exists only because there are names below it".into();
    }
    let types: Vec<_> = node.rrsets().iter().map(|rrset| rrset.rtype.to_string()).collect();
    format!("no {rtype} record; the name has {}", types.join(", "))
}

fn counted(count: usize, rtype: RecordType) -> String {
    format!("{count} {rtype} record{}", if count == 1 { "" } else { "s" })
}

fn put_rrset(part: &mut Part, owner: &Name, rrset: &Rrset) {
    for data in rrset.rdatas() {
        put(part, owner, rrset.rtype, rrset.ttl, Some(data.to_vec()));
    }
}

fn put(part: &mut Part, owner: &Name, rtype: RecordType, ttl: u32, data: Option<Vec<u8>>) {
    let Some(data) = data else { return };
    part.count += 1;
    if part.lines.len() < RECORDS_LISTED_MAX {
        let record = Record { owner: owner.clone(), rtype, ttl, rdata: data.into() };
        part.lines.push(record.to_string());
    }
}
