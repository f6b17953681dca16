//! Resolution: one query from its name to the last record, over as many lookups as it takes.

use crate::zone::{
    Directory, Found, LeafGuard, Name, QueryName, RecordType, Records, Rrset, Zone, lookup,
    name::NAME_OCTETS_MAX,
};

/// Most canonical names that one answer follows. Longer chains, and loops, end there with what was found.
pub const CHAIN_LINKS_MAX: usize = 32;

/// Takes the records of a reply, section by section, in order. Owners are names in lower case, in wire form.
pub trait Sink {
    /// Records for the answer section. When what was answered is an alias, and not what was asked for, its
    /// target is returned, uncompressed.
    fn answer(&mut self, zone: &Zone, owner: &QueryName, records: &Records<'_>) -> Option<Name>;
    /// A CNAME that a DNAME makes (RFC 6672 §3.1).
    fn synthesized(&mut self, owner: &QueryName, target: &Name, ttl: u32);
    /// The zone's SOA for the authority section, with the TTL of negative answers (RFC 2308 §3).
    fn negative(&mut self, zone: &Zone, soa: &Rrset, ttl: u32);
    /// The NS records of a zone cut for the authority section.
    fn referral(&mut self, owner: &QueryName, ns: &Rrset);
    /// Addresses for the additional section.
    fn additional(&mut self, owner: &QueryName, records: &Records<'_>);
}

/// How a resolution ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Ending {
    /// There is an answer, or a name without one.
    NoError {
        /// Whether the first owner is ours: not for a referral.
        authoritative: bool,
        /// Instances of a service that has nothing to answer, because none is healthy.
        withheld: Option<u32>,
    },
    /// The name, or the last one of a chain, does not exist.
    NoName,
    /// The name that a DNAME makes is too long (RFC 6672 §2.2).
    NameTooLong,
    /// The name is in no zone of ours.
    NotAuthoritative,
}

/// Resolves a name and type; `sink` gets the records.
pub fn resolve<S: Sink>(directory: &Directory, name: &QueryName, rtype: RecordType, sink: &mut S) -> Ending {
    let Some(zone) = responsible(directory, name, rtype) else { return Ending::NotAuthoritative };
    let mut name = name.clone();
    let mut seen = Vec::new();
    let mut dnames: Vec<&Rrset> = Vec::new();
    loop {
        let done = Ending::NoError { authoritative: true, withheld: None };
        let target = match lookup(directory, zone, &name, rtype) {
            // No record is in a reply twice (RFC 2181 §5).
            Found::Answer(Records::Rrset(rrset)) if is_one_of(rrset, &dnames) => return done,
            Found::Answer(Records::Any(node)) if node.rrsets.iter().any(|own| is_one_of(own, &dnames)) => {
                return done;
            }
            Found::Answer(records) => match sink.answer(zone, &name, &records) {
                None => {
                    if let Records::Rrset(rrset) = &records {
                        additionals(directory, zone, &name, rrset, sink);
                    }
                    return done;
                }
                target => target,
            },
            Found::Alias(records) => sink.answer(zone, &name, &records),
            Found::Redirect { skipped, rrset } => {
                if !is_one_of(rrset, &dnames) {
                    sink.answer(zone, &suffix(&name, skipped), &Records::Rrset(rrset));
                    dnames.push(rrset);
                }
                match substitute(&name, skipped, rrset) {
                    Some(target) => {
                        sink.synthesized(&name, &target, rrset.ttl);
                        Some(target)
                    }
                    None => return Ending::NameTooLong,
                }
            }
            Found::Referral { skipped, ns, .. } => {
                let owner = suffix(&name, skipped);
                sink.referral(&owner, ns);
                additionals(directory, zone, &owner, ns, sink);
                return Ending::NoError { authoritative: !seen.is_empty(), withheld: None };
            }
            Found::NoData(leaf) => {
                negative(directory, zone, sink);
                return Ending::NoError { authoritative: true, withheld: leaf.as_ref().and_then(withheld) };
            }
            Found::NoName => {
                negative(directory, zone, sink);
                return Ending::NoName;
            }
        };
        let Some(target) = target else { return done };
        seen.push(name);
        name = QueryName::from(&target);
        // A name of another zone is another server's to answer, also when that server is us.
        let is_here = directory.zone_of(&name).is_some_and(|other| std::ptr::eq(other, zone));
        let is_loop = seen.iter().any(|earlier| earlier.as_wire() == name.as_wire());
        if !is_here || is_loop || seen.len() >= CHAIN_LINKS_MAX {
            return done;
        }
    }
}

/// The zone that answers. DS at an apex belongs to the zone above, when that one is ours and has the cut, and
/// the cut is not itself below another one (RFC 4035 §3.1.4.1).
fn responsible<'v>(directory: &'v Directory, name: &QueryName, rtype: RecordType) -> Option<&'v Zone> {
    let zone = directory.zone_of(name)?;
    if rtype == RecordType::DS && name.label_count() > 0 && zone.apex.as_wire() == name.as_wire() {
        let above = directory.zone_of(&suffix(name, 1));
        let has_cut = |above: &&Zone| {
            directory.node(above, name, 0).is_some_and(|node| node.rrset(RecordType::NS).is_some())
                && matches!(lookup(directory, above, name, rtype), Found::Answer(_) | Found::NoData(_))
        };
        return above.filter(has_cut).or(Some(zone));
    }
    Some(zone)
}

/// The SOA with the TTL of negative answers: the smaller of its own TTL and its MINIMUM (RFC 2308 §5).
fn negative<S: Sink>(directory: &Directory, zone: &Zone, sink: &mut S) {
    let apex = QueryName::from(&zone.apex);
    let soa = directory.node(zone, &apex, 0).and_then(|node| node.rrset(RecordType::SOA));
    if let Some(soa) = soa {
        let minimum = soa.rdatas().next().and_then(|rdata| rdata.last_chunk::<4>().copied());
        sink.negative(zone, soa, soa.ttl.min(minimum.map_or(soa.ttl, u32::from_be_bytes)));
    }
}

/// The addresses of the names that records point to, as far as they are in the zone.
fn additionals<S: Sink>(directory: &Directory, zone: &Zone, owner: &QueryName, rrset: &Rrset, sink: &mut S) {
    let mut seen: Vec<QueryName> = Vec::new();
    for rdata in rrset.rdatas() {
        let target = match target_of(rrset.rtype, rdata).map(QueryName::read) {
            // SVCB, HTTPS: the root stands for the owner in ServiceMode (RFC 9460 §2.5).
            Some(Ok(target)) if target.label_count() == 0 && is_service_binding(rrset.rtype) => owner.clone(),
            Some(Ok(target)) => target,
            _ => continue,
        };
        let is_here = directory.zone_of(&target).is_some_and(|other| std::ptr::eq(other, zone));
        // At most one look for each name, and no more than there is room for.
        let is_new = !seen.iter().any(|other| other.as_wire() == target.as_wire());
        if !is_here || !is_new || seen.len() >= CHAIN_LINKS_MAX {
            continue;
        }
        for rtype in [RecordType::A, RecordType::AAAA] {
            match lookup(directory, zone, &target, rtype) {
                Found::Answer(records) => sink.additional(&target, &records),
                // Glue: addresses below a cut are not ours, but known (RFC 1034 §4.2.1).
                Found::Referral { .. } => {
                    let node = directory.node(zone, &target, 0);
                    if let Some(glue) = node.and_then(|node| node.rrset(rtype)) {
                        sink.additional(&target, &Records::Rrset(glue));
                    }
                }
                _ => {}
            }
        }
        seen.push(target);
    }
}

/// The name that a record's data points to, where its addresses are worth adding.
fn target_of(rtype: RecordType, rdata: &[u8]) -> Option<&[u8]> {
    match rtype {
        RecordType::NS => Some(rdata),
        RecordType::MX | RecordType::SVCB | RecordType::HTTPS | RecordType::AFSDB | RecordType::KX => {
            rdata.get(2..)
        }
        RecordType::SRV => rdata.get(6..),
        _ => None,
    }
}

fn is_service_binding(rtype: RecordType) -> bool {
    matches!(rtype, RecordType::SVCB | RecordType::HTTPS)
}

/// How many instances of a service are withheld, when all are.
fn withheld(leaf: &LeafGuard) -> Option<u32> {
    let tally = leaf.tally();
    (tally.instances > 0 && tally.served == 0).then_some(tally.instances)
}

fn suffix(name: &QueryName, skipped: usize) -> QueryName {
    // A suffix of a valid name is a valid name.
    QueryName::read(name.suffix(skipped)).unwrap_or_else(|_| name.clone())
}

fn is_one_of(rrset: &Rrset, others: &[&Rrset]) -> bool {
    others.iter().any(|other| std::ptr::eq(*other, rrset))
}

/// The name with the DNAME's owner replaced by its target; `None` when that is too long.
fn substitute(name: &QueryName, skipped: usize, dname: &Rrset) -> Option<Name> {
    let target = dname.rdatas().next()?;
    let prefix = name.prefix(skipped);
    if prefix.len() + target.len() > NAME_OCTETS_MAX {
        return None;
    }
    Name::from_wire(&[prefix, target].concat()).ok()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    /// The owners and types that are sent, section by section.
    #[derive(Default)]
    struct Owners {
        answers: Vec<String>,
        negative: Vec<String>,
        referral: Vec<String>,
    }

    impl Sink for Owners {
        fn answer(&mut self, _zone: &Zone, owner: &QueryName, records: &Records<'_>) -> Option<Name> {
            let Records::Rrset(rrset) = records else { panic!("zone files have rrsets") };
            self.answers.push(format!("{} {}", shown(owner), rrset.rtype));
            None
        }

        fn synthesized(&mut self, owner: &QueryName, _target: &Name, _ttl: u32) {
            self.answers.push(format!("{} CNAME", shown(owner)));
        }

        fn negative(&mut self, zone: &Zone, _soa: &Rrset, _ttl: u32) {
            self.negative.push(zone.apex.to_string());
        }

        fn referral(&mut self, owner: &QueryName, _ns: &Rrset) {
            self.referral.push(shown(owner));
        }

        fn additional(&mut self, _owner: &QueryName, _records: &Records<'_>) {}
    }

    fn shown(name: &QueryName) -> String {
        Name::from_wire(name.as_wire()).unwrap().to_string()
    }

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    /// An owner, a type and the name in the data.
    type Line = (&'static str, RecordType, &'static str);

    fn directory(zones: &[(&str, &[Line])]) -> Directory {
        let mut directory = Directory::default();
        for (apex, records) in zones {
            directory.put_zone(&name(apex), Arc::default(), true);
            let soa = Rrset::new(RecordType::SOA, 60, [&[0; 22][..]]).unwrap();
            directory.set_rrsets(&name(apex), &name(apex), vec![soa]);
            for (owner, rtype, target) in *records {
                let rrset = Rrset::new(*rtype, 60, [name(target).as_wire()]).unwrap();
                directory.set_rrsets(&name(apex), &name(owner), vec![rrset]);
            }
        }
        directory
    }

    fn resolved(directory: &Directory, asked: &str, rtype: RecordType) -> Owners {
        let mut owners = Owners::default();
        resolve(directory, &QueryName::from(&name(asked)), rtype, &mut owners);
        owners
    }

    #[test]
    fn a_dname_that_is_met_again_is_sent_once() {
        // RFC 2181 §5: equal records are suppressed. Here each name leads further down, and into the DNAME again.
        let directory = directory(&[("test", &[("d.test", RecordType::DNAME, "test")])]);
        let owners = resolved(&directory, "x.d.d.test", RecordType::A);
        assert_eq!(owners.answers, ["d.test. DNAME", "x.d.d.test. CNAME", "x.d.test. CNAME"]);
        let owners = resolved(&directory, "d.d.test", RecordType::DNAME);
        assert_eq!(owners.answers, ["d.test. DNAME", "d.d.test. CNAME"]);
    }

    #[test]
    fn ds_at_an_apex_is_the_parents_only_where_the_parent_delegates() {
        // RFC 4035 §3.1.4.1. What is below a cut is not the zone's, whatever its file has there.
        let child: (&str, &[_]) = ("c.b.test", &[]);
        for (parents, answering) in [
            (&[("c.b.test", RecordType::NS, "ns.out")][..], "test."),
            (&[("b.test", RecordType::NS, "ns.out"), ("c.b.test", RecordType::NS, "ns.out")], "c.b.test."),
            (&[], "c.b.test."),
        ] {
            let owners = resolved(&directory(&[("test", parents), child]), "c.b.test", RecordType::DS);
            assert_eq!((owners.negative, owners.referral), (vec![answering.to_string()], vec![]));
        }
    }
}
