//! Resolution: one query from its name to the last record, over as many lookups as it takes.
//!
//! Nothing is allocated: the names of a chain are kept in a [`Scratch`] that its owner uses again and again.

use crate::zone::{
    Choice, Directory, Found, Leaf, LeafType, Name, Negative, QueryName, RecordSet, RecordType, Records,
    Rrset, Zone, leaf::Data, lookup, name::NAME_OCTETS_MAX,
};

/// Most canonical names that one answer follows. Longer chains, and loops, end there with what was found.
pub const CHAIN_LINKS_MAX: usize = 32;

/// A section of records in a message (RFC 1035 §4.1).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Section {
    /// Records that answer the question.
    Answer,
    /// Name servers of a referral, or the SOA of a negative answer.
    Authority,
    /// Addresses of names that other records point to.
    Additional,
}

/// Receives the records of a reply, section by section, in their order.
pub trait Sink {
    /// Records of one owner for a section. Those of the additional section are addresses of a name that the records before
    /// them point to; a reply has all of these or none.
    fn records(&mut self, section: Section, owner: Owner<'_>, records: &RecordSet<'_>);

    /// The addresses that an SRV record of the set handed over last points to, each an additional record by itself. They
    /// are below the set's owner, see [`RecordSet::each_target`].
    fn targets(&mut self, owner: Owner<'_>, records: &RecordSet<'_>);

    /// The zone's SOA for the authority section (RFC 2308 §3). The owner is its apex.
    fn negative(&mut self, zone: &Zone, owner: Owner<'_>, soa: &Negative);

    /// A name was looked up, the one that was asked for first; its records follow.
    fn looked_up(&mut self, zone: &Zone, owner: Owner<'_>, found: &Found<'_>) {
        let _ = (zone, owner, found);
    }

    /// The answer ends at this canonical name, which is not looked up.
    fn ends_at(&mut self, name: &QueryName, why: EndOfChain) {
        let _ = (name, why);
    }
}

/// Reason for which a canonical name is not followed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum EndOfChain {
    /// It is in no zone here, or in another one than the question's name.
    OtherZone,
    /// It was looked up before.
    Loop,
    /// It is the name after [`CHAIN_LINKS_MAX`] others.
    TooLong,
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

/// Resolves a name and type; `sink` receives the records, of which `choice` says whether they are drawn.
pub fn resolve<S: Sink>(
    directory: &Directory,
    question: &QueryName,
    rtype: RecordType,
    scratch: &mut Scratch,
    choice: Choice<'_>,
    sink: &mut S,
) -> Ending {
    let Some(zone) = responsible(directory, question, rtype) else { return Ending::NotAuthoritative };
    scratch.chain.clear();
    let [first, second] = &mut scratch.links;
    let chain = &mut scratch.chain;
    let mut resolution = Resolution { directory, zone, rtype, chain, choice, sink };
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
    choice: Choice<'s>,
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
        let found = lookup(directory, zone, owner.name, rtype);
        self.sink.looked_up(zone, owner, &found);
        match found {
            Found::Answer(records) => {
                if self.is_sent(&records) {
                    return Step::End(ANSWERED);
                }
                if self.answer(owner, &records, next) {
                    return Step::Follow;
                }
                if let Records::Rrset(rrset) = &records {
                    self.additionals(owner, rrset, next);
                }
                Step::End(ANSWERED)
            }
            Found::Alias(records) => {
                if self.answer(owner, &records, next) {
                    Step::Follow
                } else {
                    Step::End(ANSWERED)
                }
            }
            Found::Redirect { skipped, rrset } => self.redirect(owner, skipped, rrset, next),
            Found::Referral { skipped, ns, .. } => {
                let cut = owner.above(skipped);
                let set = self.select(&Records::Rrset(ns), cut);
                self.sink.records(Section::Authority, cut, &set);
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

    fn select<'a>(&mut self, records: &Records<'a>, owner: Owner<'a>) -> RecordSet<'a> {
        RecordSet::new(records, owner.as_wire(), self.zone.serial(), &mut self.choice)
    }

    /// Answers with records. Returns true if they are an alias and something else was asked for: then `next` has become
    /// the canonical name.
    fn answer(&mut self, owner: Owner<'_>, records: &Records<'_>, next: &mut QueryName) -> bool {
        let set = self.select(records, owner);
        self.sink.records(Section::Answer, owner, &set);
        self.sink.targets(owner, &set);
        let is_wanted_itself = matches!(self.rtype, RecordType::CNAME | RecordType::ANY);
        !is_wanted_itself && set.canonical_name().is_some_and(|name| next.set(name).is_ok())
    }

    /// Goes on from name to name.
    #[cold]
    fn follow(&mut self, question: &QueryName, first: &mut QueryName, second: &mut QueryName) -> Ending {
        self.chain.push(question);
        let (mut name, mut next) = (first, second);
        loop {
            // A name of another zone is another server's to answer, also when that server is us.
            let is_here = self.directory.zone_of(name).is_some_and(|other| std::ptr::eq(other, self.zone));
            let end = if !is_here {
                Some(EndOfChain::OtherZone)
            } else if self.chain.has(name) {
                Some(EndOfChain::Loop)
            } else if !self.chain.push(name) {
                Some(EndOfChain::TooLong)
            } else {
                None
            };
            if let Some(why) = end {
                self.sink.ends_at(name, why);
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
            let set = self.select(&Records::Rrset(rrset), owner.above(skipped));
            self.sink.records(Section::Answer, owner.above(skipped), &set);
            self.chain.push_dname(rrset);
        }
        let mut room = [0; NAME_OCTETS_MAX];
        match substitute(owner.name, skipped, rrset, &mut room) {
            Some(target) if next.set(target).is_ok() => {
                let made = RecordSet::one(rrset.ttl, Data::Cname(target));
                self.sink.records(Section::Answer, owner, &made);
                // Who asks for a CNAME has one now: BIND, Knot and NSD end here, as with a CNAME that is no synthesis.
                if self.rtype == RecordType::CNAME { Step::End(ANSWERED) } else { Step::Follow }
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
            for rtype in LeafType::ADDRESSES {
                self.addresses(target, rtype);
            }
        }
    }

    fn addresses(&mut self, target: &QueryName, rtype: LeafType) {
        let records = match lookup(self.directory, self.zone, target, rtype.record_type()) {
            Found::Answer(records) => records,
            // Glue: addresses below a cut are not ours, but known (RFC 1034 §4.2.1).
            Found::Referral { .. } => {
                let node = self.directory.node(self.zone, target, 0);
                match node.and_then(|node| node.rrset(rtype.record_type())) {
                    Some(glue) => Records::Rrset(glue),
                    None => return,
                }
            }
            Found::Alias(_) | Found::Redirect { .. } | Found::NoData(_) | Found::NoName => return,
        };
        let owner = Owner { name: target, skipped: 0, is_question: false };
        let set = self.select(&records, owner);
        // An alias that was drawn is no address.
        if set.canonical_name().is_none() {
            self.sink.records(Section::Additional, owner, &set);
        }
    }
}

/// The zone that answers. DS at an apex belongs to the zone above, when that one is ours and has the cut, and
/// the cut is not itself below another one (RFC 4035 §3.1.4.1).
fn responsible<'v>(directory: &'v Directory, name: &QueryName, rtype: RecordType) -> Option<&'v Zone> {
    let zone = directory.zone_of(name)?;
    let is_ds_at_apex =
        rtype == RecordType::DS && name.label_count() > 0 && zone.apex.as_wire() == name.as_wire();
    Some(if is_ds_at_apex { parent_of(directory, zone, name) } else { zone })
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
        fn records(&mut self, section: Section, owner: Owner<'_>, records: &RecordSet<'_>) {
            let mut rtype = None;
            records.each(|_, data| {
                rtype = Some(data.record_type());
                true
            });
            match section {
                Section::Answer => self.answers.push(format!("{} {}", shown(owner), rtype.unwrap())),
                Section::Authority => self.referral.push(shown(owner)),
                Section::Additional => {}
            }
        }

        fn targets(&mut self, _: Owner<'_>, _: &RecordSet<'_>) {}

        fn negative(&mut self, zone: &Zone, owner: Owner<'_>, _soa: &Negative) {
            assert_eq!(owner.as_wire(), zone.apex.as_wire());
            self.negative.push(zone.apex.to_string());
        }
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
        let question = QueryName::from(&name(asked));
        resolve(directory, &question, rtype, &mut Scratch::default(), Choice::All, &mut owners);
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
