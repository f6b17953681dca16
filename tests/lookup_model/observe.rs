//! Answers of the directory, converted to the model's types.

use cloudmap_dns::dns::resolve::{Ending, Owner, Scratch, Sink, resolve};
use cloudmap_dns::zone::leaf::MULTIVALUE_RECORDS_MAX;
use cloudmap_dns::zone::{
    Directory, Found, Leaf, Negative, QueryName, RecordType, Records, Rrset, Selection, Zone, lookup,
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
    let mut sink = Collector { rtype, reply };
    let ending = resolve(directory, name, rtype, &mut Scratch::default(), &mut sink);
    sink.reply.outcome = match ending {
        Ending::NoError { authoritative, .. } => Outcome::NoError { authoritative },
        Ending::NoName => Outcome::NoName,
        Ending::NameTooLong => Outcome::NameTooLong,
        Ending::NotAuthoritative => Outcome::NotAuthoritative,
    };
    sink.reply
}

struct Collector {
    rtype: RecordType,
    reply: Reply,
}

impl Sink for Collector {
    fn answer(
        &mut self,
        _zone: &Zone,
        owner: Owner<'_>,
        records: &Records<'_>,
        target: &mut QueryName,
    ) -> bool {
        let set = expand(&query_name(owner), records);
        let is_asked_for = matches!(self.rtype, RecordType::CNAME | RecordType::ANY);
        let alias = set.first().filter(|record| record.1 == RecordType::CNAME && !is_asked_for);
        let is_alias = alias.is_some_and(|record| target.set(&record.3).is_ok());
        self.reply.answers.push(set);
        is_alias
    }

    fn synthesized(&mut self, owner: Owner<'_>, target: &[u8], ttl: u32) {
        let record = (name_text(&query_name(owner)), RecordType::CNAME, ttl, target.to_vec());
        self.reply.answers.push(Set::from([record]));
    }

    fn negative(&mut self, zone: &Zone, owner: Owner<'_>, soa: &Negative) {
        assert_eq!(owner.as_wire(), zone.apex.as_wire());
        assert_eq!(self.reply.negative, None, "one SOA is enough");
        self.reply.negative = Some((text(&labels_of(zone.apex.as_wire())), soa.ttl));
    }

    fn referral(&mut self, owner: Owner<'_>, ns: &Rrset) {
        self.reply.referral = rrset_records(&query_name(owner), ns);
    }

    fn additional(&mut self, owner: &QueryName, records: &Records<'_>) {
        let addresses = expand(owner, records).into_iter();
        self.reply
            .additional
            .extend(addresses.filter(|record| matches!(record.1, RecordType::A | RecordType::AAAA)));
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
                if let Some(octets) = host.ipv4().filter(|_| *rtype != RecordType::AAAA) {
                    add(RecordType::A, &octets);
                }
                if let Some(octets) = host.ipv6().filter(|_| *rtype != RecordType::A) {
                    add(RecordType::AAAA, &octets);
                }
            }
            set
        }
    }
}

/// All of a service's records of a type. Also draws once, as an answer does, and checks that the draw is a part of the right
/// size.
fn expand_leaf(name: &QueryName, leaf: &Leaf, rtype: RecordType) -> Set {
    let records = |rtype: RecordType,
                   ttl: u32,
                   hosts: &mut dyn Iterator<Item = cloudmap_dns::zone::leaf::HostRef<'_>>| {
        hosts
            .map(|host| {
                let rdata = match rtype {
                    RecordType::A => host.ipv4().unwrap().to_vec(),
                    RecordType::AAAA => host.ipv6().unwrap().to_vec(),
                    RecordType::SRV => {
                        let target = [host.labels(), name.as_wire()].concat().to_ascii_lowercase();
                        [&[0, 1, 0, 1][..], &host.port().to_be_bytes(), &target].concat()
                    }
                    _ => host.target().unwrap().as_wire().to_vec(),
                };
                (name_text(name), rtype, ttl, rdata)
            })
            .collect::<Vec<_>>()
    };
    let all = records(rtype, leaf.ttl(rtype).unwrap(), &mut leaf.all(rtype));
    let drawn = leaf.draw(rtype, &mut fastrand::Rng::with_seed(all.len() as u64));
    let part = records(drawn.rtype, drawn.ttl, &mut drawn.hosts());
    let set: Set = all.iter().cloned().collect();
    assert_eq!(set.len(), all.len(), "no record twice");
    if drawn.rtype != rtype {
        assert_eq!((part.len(), drawn.rtype), (1, RecordType::CNAME));
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
