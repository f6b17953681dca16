//! Resolution: one query from its name to the last record, over as many lookups as it takes.
//!
//! Nothing is allocated: the names of a chain are kept in a [`Scratch`] that its owner uses again and again.

use crate::zone::{
    Directory, Found, Leaf, Name, Negative, QueryName, RecordType, Records, Rrset, Zone, lookup,
    name::NAME_OCTETS_MAX,
};

/// Most canonical names that one answer follows. Longer chains, and loops, end there with what was found.
pub const CHAIN_LINKS_MAX: usize = 32;

/// Takes the records of a reply, section by section, in order.
pub trait Sink {
    /// Records for the answer section. Whether what was answered is an alias, and not what was asked for: then `target`
    /// has become the name that it stands for.
    fn answer(
        &mut self,
        zone: &Zone,
        owner: Owner<'_>,
        records: &Records<'_>,
        target: &mut QueryName,
    ) -> bool;
    /// A CNAME that a DNAME makes (RFC 6672 §3.1). Its target is in wire form, as it is written.
    fn synthesized(&mut self, owner: Owner<'_>, target: &[u8], ttl: u32);
    /// The zone's SOA for the authority section (RFC 2308 §3). The owner is its apex.
    fn negative(&mut self, zone: &Zone, owner: Owner<'_>, soa: &Negative);
    /// The NS records of a zone cut for the authority section.
    fn referral(&mut self, owner: Owner<'_>, ns: &Rrset);
    /// Addresses for the additional section.
    fn additional(&mut self, owner: &QueryName, records: &Records<'_>);
}

/// The owner of records: a name that was looked up, or one above it.
#[derive(Clone, Copy)]
pub struct Owner<'a> {
    /// The name that was looked up.
    pub name: &'a QueryName,
    /// How many of its first labels the owner is without.
    pub skipped: usize,
    /// Whether the name is the one that was asked for.
    pub is_question: bool,
}

impl<'a> Owner<'a> {
    /// The owner in lower case, in wire form.
    pub fn as_wire(self) -> &'a [u8] {
        self.name.suffix(self.skipped)
    }

    fn above(self, skipped: usize) -> Owner<'a> {
        Owner { skipped, ..self }
    }
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

const ANSWERED: Ending = Ending::NoError { authoritative: true, withheld: None };

/// Room for the names of one resolution, to be used again for the next one.
pub struct Scratch {
    /// The name that is looked up after the question, and the one after that.
    links: [QueryName; 2],
    chain: Chain,
}

/// The names that were looked up, and the DNAME records that were sent.
struct Chain {
    /// Each name's length, then the name.
    names: [[u8; NAME_OCTETS_MAX + 1]; CHAIN_LINKS_MAX],
    len: usize,
    /// Where in memory they are: enough to tell them apart while the directory is held.
    dnames: [usize; CHAIN_LINKS_MAX],
    dnames_len: usize,
}

impl Default for Scratch {
    fn default() -> Scratch {
        Scratch {
            links: [QueryName::default(), QueryName::default()],
            chain: Chain {
                names: [[0; NAME_OCTETS_MAX + 1]; CHAIN_LINKS_MAX],
                len: 0,
                dnames: [0; CHAIN_LINKS_MAX],
                dnames_len: 0,
            },
        }
    }
}

impl Chain {
    fn clear(&mut self) {
        self.len = 0;
        self.dnames_len = 0;
    }

    /// Whether there was room for one more.
    fn push(&mut self, name: &QueryName) -> bool {
        let Some(entry) = self.names.get_mut(self.len) else { return false };
        let wire = name.as_wire();
        entry[0] = wire.len() as u8;
        entry[1..=wire.len()].copy_from_slice(wire);
        self.len += 1;
        true
    }

    fn has(&self, name: &QueryName) -> bool {
        self.names[..self.len].iter().any(|entry| entry[1..=entry[0] as usize] == *name.as_wire())
    }

    fn has_dname(&self, rrset: &Rrset) -> bool {
        self.dnames[..self.dnames_len].contains(&std::ptr::from_ref(rrset).addr())
    }

    fn push_dname(&mut self, rrset: &Rrset) {
        if let Some(entry) = self.dnames.get_mut(self.dnames_len) {
            *entry = std::ptr::from_ref(rrset).addr();
            self.dnames_len += 1;
        }
    }
}

/// Resolves a name and type; `sink` gets the records.
pub fn resolve<S: Sink>(
    directory: &Directory,
    question: &QueryName,
    rtype: RecordType,
    scratch: &mut Scratch,
    sink: &mut S,
) -> Ending {
    let Some(zone) = responsible(directory, question, rtype) else { return Ending::NotAuthoritative };
    scratch.chain.clear();
    let [first, second] = &mut scratch.links;
    let mut resolution = Resolution { directory, zone, rtype, chain: &mut scratch.chain, sink };
    let owner = Owner { name: question, skipped: 0, is_question: true };
    match resolution.step(owner, first) {
        Step::End(ending) => ending,
        Step::Follow => resolution.follow(question, first, second),
    }
}

/// One resolution on its way.
struct Resolution<'v, 's, S> {
    directory: &'v Directory,
    zone: &'v Zone,
    rtype: RecordType,
    chain: &'s mut Chain,
    sink: &'s mut S,
}

enum Step {
    End(Ending),
    /// The next name is known.
    Follow,
}

impl<S: Sink> Resolution<'_, '_, S> {
    /// Looks one name up. `next` becomes the name to go on with.
    fn step(&mut self, owner: Owner<'_>, next: &mut QueryName) -> Step {
        let Resolution { directory, zone, rtype, .. } = *self;
        match lookup(directory, zone, owner.name, rtype) {
            Found::Answer(records) => {
                if self.is_sent(&records) {
                    return Step::End(ANSWERED);
                }
                if self.sink.answer(zone, owner, &records, next) {
                    return Step::Follow;
                }
                if let Records::Rrset(rrset) = &records {
                    self.additionals(owner, rrset, next);
                }
                Step::End(ANSWERED)
            }
            Found::Alias(records) => match self.sink.answer(zone, owner, &records, next) {
                true => Step::Follow,
                false => Step::End(ANSWERED),
            },
            Found::Redirect { skipped, rrset } => self.redirect(owner, skipped, rrset, next),
            Found::Referral { skipped, ns, .. } => {
                let cut = owner.above(skipped);
                self.sink.referral(cut, ns);
                self.additionals(cut, ns, next);
                Step::End(Ending::NoError { authoritative: !owner.is_question, withheld: None })
            }
            Found::NoData(leaf) => {
                self.negative(owner);
                let withheld = leaf.and_then(withheld);
                Step::End(Ending::NoError { authoritative: true, withheld })
            }
            Found::NoName => {
                self.negative(owner);
                Step::End(Ending::NoName)
            }
        }
    }

    /// Goes on from name to name.
    #[cold]
    fn follow(&mut self, question: &QueryName, first: &mut QueryName, second: &mut QueryName) -> Ending {
        self.chain.push(question);
        let (mut name, mut next) = (first, second);
        loop {
            // A name of another zone is another server's to answer, also when that server is us.
            let is_here = self.directory.zone_of(name).is_some_and(|other| std::ptr::eq(other, self.zone));
            if !is_here || self.chain.has(name) || !self.chain.push(name) {
                return ANSWERED;
            }
            let owner = Owner { name, skipped: 0, is_question: false };
            match self.step(owner, next) {
                Step::End(ending) => return ending,
                Step::Follow => std::mem::swap(&mut name, &mut next),
            }
        }
    }

    /// No record is in a reply twice (RFC 2181 §5): a DNAME may be met again.
    fn is_sent(&self, records: &Records<'_>) -> bool {
        match records {
            _ if self.chain.dnames_len == 0 => false,
            Records::Rrset(rrset) => self.chain.has_dname(rrset),
            Records::Any(node) => node.rrsets().iter().any(|own| self.chain.has_dname(own)),
            _ => false,
        }
    }

    #[cold]
    fn redirect(&mut self, owner: Owner<'_>, skipped: usize, rrset: &Rrset, next: &mut QueryName) -> Step {
        if !self.chain.has_dname(rrset) {
            self.sink.answer(self.zone, owner.above(skipped), &Records::Rrset(rrset), next);
            self.chain.push_dname(rrset);
        }
        let mut room = [0; NAME_OCTETS_MAX];
        match substitute(owner.name, skipped, rrset, &mut room) {
            Some(target) if next.set(target).is_ok() => {
                self.sink.synthesized(owner, target, rrset.ttl);
                // Who asks for a CNAME has one now: BIND, Knot and NSD end here, as with a CNAME that is no synthesis.
                match self.rtype {
                    RecordType::CNAME => Step::End(ANSWERED),
                    _ => Step::Follow,
                }
            }
            _ => Step::End(Ending::NameTooLong),
        }
    }

    fn negative(&mut self, owner: Owner<'_>) {
        if let Some(soa) = self.zone.soa() {
            let skipped = owner.name.label_count() - self.zone.apex.label_count();
            self.sink.negative(self.zone, owner.above(skipped), soa);
        }
    }

    /// The addresses of the names that records point to, as far as they are in the zone. At most one look for each name,
    /// and no more than a reply could have room for.
    fn additionals(&mut self, owner: Owner<'_>, rrset: &Rrset, target: &mut QueryName) {
        if !has_target(rrset.rtype) {
            return;
        }
        let targets = || rrset.rdatas().filter_map(|rdata| target_of(rrset.rtype, rdata));
        for (at, wire) in targets().enumerate().take(CHAIN_LINKS_MAX) {
            let is_new = !targets().take(at).any(|earlier| earlier.eq_ignore_ascii_case(wire));
            if !is_new || target.set(wire).is_err() {
                continue;
            }
            // SVCB, HTTPS: the root stands for the owner in ServiceMode (RFC 9460 §2.5).
            if target.label_count() == 0 && is_service_binding(rrset.rtype) {
                target.set_suffix(owner.name, owner.skipped);
            }
            if !self.directory.zone_of(target).is_some_and(|other| std::ptr::eq(other, self.zone)) {
                continue;
            }
            for rtype in [RecordType::A, RecordType::AAAA] {
                self.addresses(target, rtype);
            }
        }
    }

    fn addresses(&mut self, target: &QueryName, rtype: RecordType) {
        match lookup(self.directory, self.zone, target, rtype) {
            Found::Answer(records) => self.sink.additional(target, &records),
            // Glue: addresses below a cut are not ours, but known (RFC 1034 §4.2.1).
            Found::Referral { .. } => {
                let node = self.directory.node(self.zone, target, 0);
                if let Some(glue) = node.and_then(|node| node.rrset(rtype)) {
                    self.sink.additional(target, &Records::Rrset(glue));
                }
            }
            _ => {}
        }
    }
}

/// The zone that answers. DS at an apex belongs to the zone above, when that one is ours and has the cut, and
/// the cut is not itself below another one (RFC 4035 §3.1.4.1).
fn responsible<'v>(directory: &'v Directory, name: &QueryName, rtype: RecordType) -> Option<&'v Zone> {
    let zone = directory.zone_of(name)?;
    match rtype == RecordType::DS && name.label_count() > 0 && zone.apex.as_wire() == name.as_wire() {
        true => Some(parent_of(directory, zone, name)),
        false => Some(zone),
    }
}

#[cold]
fn parent_of<'v>(directory: &'v Directory, zone: &'v Zone, apex: &QueryName) -> &'v Zone {
    let mut parent = QueryName::default();
    parent.set_suffix(apex, 1);
    let has_cut = |above: &&Zone| {
        directory.node(above, apex, 0).is_some_and(|node| node.rrset(RecordType::NS).is_some())
            && matches!(lookup(directory, above, apex, RecordType::DS), Found::Answer(_) | Found::NoData(_))
    };
    directory.zone_of(&parent).filter(has_cut).unwrap_or(zone)
}

fn has_target(rtype: RecordType) -> bool {
    matches!(rtype, RecordType::NS | RecordType::MX | RecordType::AFSDB | RecordType::KX | RecordType::SRV)
        || is_service_binding(rtype)
}

/// The name that a record's data points to, where its addresses are worth adding.
fn target_of(rtype: RecordType, rdata: &[u8]) -> Option<&[u8]> {
    match rtype {
        RecordType::NS => Some(rdata),
        RecordType::MX | RecordType::AFSDB | RecordType::KX => rdata.get(2..),
        RecordType::SVCB | RecordType::HTTPS => {
            let rest = rdata.get(2..)?;
            // Parameters follow. In AliasMode the root says that there is no service (RFC 9460 §2.5.1).
            let target = rest.get(..Name::wire_len(rest).ok()?)?;
            (target != [0] || rdata[..2] != [0, 0]).then_some(target)
        }
        RecordType::SRV => rdata.get(6..),
        _ => None,
    }
}

fn is_service_binding(rtype: RecordType) -> bool {
    matches!(rtype, RecordType::SVCB | RecordType::HTTPS)
}

/// How many instances of a service are withheld, when all are.
fn withheld(leaf: &Leaf) -> Option<u32> {
    let tally = leaf.tally();
    (tally.instances > 0 && tally.served == 0).then_some(tally.instances)
}

/// The name with the DNAME's owner replaced by its target; `None` when that is too long.
fn substitute<'r>(
    name: &QueryName,
    skipped: usize,
    dname: &Rrset,
    room: &'r mut [u8; NAME_OCTETS_MAX],
) -> Option<&'r [u8]> {
    let target = dname.rdatas().next()?;
    let prefix = name.prefix(skipped);
    let wire = room.get_mut(..prefix.len() + target.len())?;
    let (front, back) = wire.split_at_mut(prefix.len());
    front.copy_from_slice(prefix);
    back.copy_from_slice(target);
    Some(wire)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::zone::DirectoryWriter;

    /// The owners and types that are sent, section by section.
    #[derive(Default)]
    struct Owners {
        answers: Vec<String>,
        negative: Vec<String>,
        referral: Vec<String>,
    }

    impl Sink for Owners {
        fn answer(&mut self, _: &Zone, owner: Owner<'_>, records: &Records<'_>, _: &mut QueryName) -> bool {
            let Records::Rrset(rrset) = records else { panic!("zone files have rrsets") };
            self.answers.push(format!("{} {}", shown(owner), rrset.rtype));
            false
        }

        fn synthesized(&mut self, owner: Owner<'_>, _target: &[u8], _ttl: u32) {
            self.answers.push(format!("{} CNAME", shown(owner)));
        }

        fn negative(&mut self, zone: &Zone, owner: Owner<'_>, _soa: &Negative) {
            assert_eq!(owner.as_wire(), zone.apex.as_wire());
            self.negative.push(zone.apex.to_string());
        }

        fn referral(&mut self, owner: Owner<'_>, _ns: &Rrset) {
            self.referral.push(shown(owner));
        }

        fn additional(&mut self, _owner: &QueryName, _records: &Records<'_>) {}
    }

    fn shown(owner: Owner<'_>) -> String {
        Name::from_wire(owner.as_wire()).unwrap().to_string()
    }

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    /// An owner, a type and the name in the data.
    type Line = (&'static str, RecordType, &'static str);

    fn directory(zones: &[(&str, &[Line])]) -> DirectoryWriter {
        let mut directory = DirectoryWriter::default();
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
        resolve(directory, &QueryName::from(&name(asked)), rtype, &mut Scratch::default(), &mut owners);
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
        let owners = resolved(&directory, "x.d.d.test", RecordType::CNAME);
        assert_eq!(owners.answers, ["d.test. DNAME", "x.d.d.test. CNAME"]);
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
