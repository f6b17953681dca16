//! Answers of the directory, converted to the model's types.

use cloudmap_dns::dns::resolve::{Ending, Owner, Scratch, Section, Sink, resolve};
use cloudmap_dns::zone::leaf::{Data, Host, HostRef, LeafType, MULTIVALUE_RECORDS_MAX};
use cloudmap_dns::zone::{
    Choice, Directory, Found, Leaf, Negative, QueryName, RecordSet, RecordType, Records, Rrset, Selection,
    Zone, lookup,
};

use super::model::{Outcome, Reply, Set, Step, labels_of, text};

pub(crate) fn step(directory: &Directory, zone: &Zone, name: &QueryName, rtype: RecordType) -> Step {
    let suffix = |skipped: usize| text(&labels_of(name.suffix(skipped)));
    match lookup(directory, zone, name, rtype) {
        Found::Answer(records) => Step::Answer(expand(name, &records)),
        Found::Alias(records) => Step::Alias(expand(name, &records)),
        Found::Redirect { skipped, rrset } => {
            assert_eq!(rrset.rtype, RecordType::DNAME);
            Step::Redirect(suffix(skipped))
        }
        Found::Referral { skipped, ns, node } => {
            assert_eq!((ns.rtype, node.name()), (RecordType::NS, name.suffix(skipped)));
            Step::Referral(suffix(skipped))
        }
        Found::NoData(_) => Step::NoData,
        Found::NoName => Step::NoName,
    }
}

pub(crate) fn reply(directory: &Directory, name: &QueryName, rtype: RecordType) -> Reply {
    let reply = Reply {
        outcome: Outcome::NotAuthoritative,
        answers: Vec::new(),
        negative: None,
        referral: Set::new(),
        additional: Set::new(),
    };
    let mut sink = Collector { reply };
    let ending = resolve(directory, name, rtype, &mut Scratch::default(), Choice::All, &mut sink);
    sink.reply.outcome = match ending {
        Ending::NoError { authoritative, .. } => Outcome::NoError { authoritative },
        Ending::NoName => Outcome::NoName,
        Ending::NameTooLong => Outcome::NameTooLong,
        Ending::NotAuthoritative => Outcome::NotAuthoritative,
    };
    sink.reply
}

struct Collector {
    reply: Reply,
}

impl Sink for Collector {
    fn records(&mut self, section: Section, owner: Owner<'_>, records: &RecordSet<'_>) {
        let mut set = Set::new();
        records.each(|ttl, data| {
            // The model has targets in lower case, and the SOA as its zone file has it, without the server's serial.
            let rdata = match data {
                Data::Soa { rdata, .. } => rdata.to_vec(),
                Data::Srv { .. } => {
                    let wire = data.to_wire(owner.as_wire());
                    let (numbers, target) = wire.split_at(6);
                    [numbers, &target.to_ascii_lowercase()].concat()
                }
                data => data.to_wire(owner.as_wire()),
            };
            set.insert((name_text(&query_name(owner)), data.record_type(), ttl, rdata));
            true
        });
        match section {
            Section::Answer => self.reply.answers.push(set),
            Section::Authority => self.reply.referral = set,
            Section::Additional => self.reply.additional.extend(set),
        }
    }

    fn targets(&mut self, _owner: Owner<'_>, _records: &RecordSet<'_>) {}

    fn negative(&mut self, zone: &Zone, owner: Owner<'_>, soa: &Negative) {
        assert_eq!(owner.as_wire(), zone.apex.as_wire());
        assert_eq!(self.reply.negative, None, "one SOA is enough");
        self.reply.negative = Some((text(&labels_of(zone.apex.as_wire())), soa.ttl));
    }
}

fn query_name(owner: Owner<'_>) -> QueryName {
    QueryName::read(owner.as_wire()).unwrap()
}

fn name_text(name: &QueryName) -> String {
    text(&labels_of(name.as_wire()))
}

fn rrset_records(owner: &QueryName, rrset: &Rrset) -> Set {
    rrset.rdatas().map(|rdata| (name_text(owner), rrset.rtype, rrset.ttl, rdata.to_vec())).collect()
}

/// All records that an answer may contain. The server sends a random part of a service's records.
fn expand(name: &QueryName, records: &Records<'_>) -> Set {
    match records {
        Records::Rrset(rrset) => rrset_records(name, rrset),
        Records::Any(node) => node.rrsets().iter().flat_map(|rrset| rrset_records(name, rrset)).collect(),
        Records::Leaf(leaf, rtype) => expand_leaf(name, leaf, *rtype),
        Records::Instance { leaf, rtype, prefix_len } => {
            let mut set = Set::new();
            for host in leaf.named(&name.as_wire()[..*prefix_len]) {
                let mut add = |rtype, octets: &[u8]| {
                    set.insert((name_text(name), rtype, leaf.instance_ttl(), octets.to_vec()));
                };
                if let Some(octets) = host.ipv4().filter(|_| *rtype != Some(LeafType::Aaaa)) {
                    add(RecordType::A, &octets);
                }
                if let Some(octets) = host.ipv6().filter(|_| *rtype != Some(LeafType::A)) {
                    add(RecordType::AAAA, &octets);
                }
            }
            set
        }
    }
}

/// All of a service's records of a type. Also draws once, as an answer does, and checks that the draw is a part of the right
/// size.
fn expand_leaf(name: &QueryName, leaf: &Leaf, rtype: LeafType) -> Set {
    let records = |rtype: LeafType, ttl: u32, hosts: &mut dyn Iterator<Item = HostRef<'_>>| {
        hosts
            .map(|host| {
                let rdata = match rtype {
                    LeafType::A => host.ipv4().unwrap().to_vec(),
                    LeafType::Aaaa => host.ipv6().unwrap().to_vec(),
                    LeafType::Srv => {
                        let target = [host.labels(), name.as_wire()].concat().to_ascii_lowercase();
                        [&[0, 1, 0, 1][..], &host.port().unwrap().to_be_bytes(), &target].concat()
                    }
                    LeafType::Cname => host.target().unwrap().as_wire().to_vec(),
                };
                (name_text(name), rtype.record_type(), ttl, rdata)
            })
            .collect::<Vec<_>>()
    };
    let all = records(rtype, leaf.ttl(rtype).unwrap(), &mut leaf.all(rtype));
    let drawn = leaf.draw(rtype, &mut fastrand::Rng::with_seed(all.len() as u64));
    let part = records(drawn.rtype, drawn.ttl, &mut drawn.hosts());
    let set: Set = all.iter().cloned().collect();
    assert_eq!(set.len(), all.len(), "no record twice");
    if drawn.rtype != rtype {
        assert_eq!((part.len(), drawn.rtype), (1, LeafType::Cname));
        return part.into_iter().collect();
    }
    let wanted = match leaf.selection() {
        Selection::One => 1,
        Selection::Multivalue => MULTIVALUE_RECORDS_MAX.min(all.len()),
    };
    assert_eq!(part.iter().collect::<std::collections::BTreeSet<_>>().len(), wanted);
    assert!(part.iter().all(|record| set.contains(record)));
    set
}
