//! Resolution: the lookups for one query, which follow canonical names and collect additional records.
//!
//! Nothing is allocated: the names of a CNAME chain are kept in a [`Scratch`] that its owner reuses for every query.

use crate::zone::{
    Choice, Directory, Found, Leaf, LeafType, Name, Negative, QueryName, RecordSet, RecordType, Records,
    Rrset, Zone, leaf::Data, lookup, name::NAME_OCTETS_MAX,
};

/// Limit on the canonical names that one answer follows. A longer chain ends there, with the records found up to it.
pub const CHAIN_LINKS_MAX: usize = 32;

/// Section of a message (RFC 1035 §4.1): the answer, the name servers of a referral or the SOA of a negative answer, and the
/// addresses of names that other records point to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(missing_docs, reason = "the type's document explains the variants")]
pub enum Section {
    Answer,
    Authority,
    Additional,
}

/// Receives the records of a reply, section by section, in their order.
pub trait Sink {
    /// Adds the records of one owner to a section. Those for the additional section are addresses of a name that earlier
    /// records point to; a reply has all of them or none.
    fn records(&mut self, section: Section, owner: Owner<'_>, records: &RecordSet<'_>);

    /// Adds the addresses of the targets of the SRV records in the last set to the additional section, each of which may be
    /// left out separately. Their owners are below the set's owner, see [`RecordSet::each_target`].
    fn targets(&mut self, owner: Owner<'_>, records: &RecordSet<'_>);

    /// Adds the zone's SOA to the authority section of a negative answer (RFC 2308 §3). The owner is the apex.
    fn negative(&mut self, zone: &Zone, owner: Owner<'_>, soa: &Negative);

    /// Reports the result of a lookup before its records are added. The first call is for the name of the question.
    fn looked_up(&mut self, zone: &Zone, owner: Owner<'_>, found: &Found<'_>) {
        let _ = (zone, owner, found);
    }

    /// Reports that the answer ends at this canonical name without a lookup of it.
    fn ends_at(&mut self, name: &QueryName, why: EndOfChain) {
        let _ = (name, why);
    }
}

/// Reason for which a canonical name is not followed: it is in no zone of this server or in another zone than the question's
/// name, it is already part of the chain, or the chain already has [`CHAIN_LINKS_MAX`] names.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(missing_docs, reason = "the type's document explains the variants")]
pub enum EndOfChain {
    OtherZone,
    Loop,
    TooLong,
}

/// Owner of records: the name that was looked up, without its first `skipped` labels. `is_question` is true if `name` is the
/// name of the question, and false for a name that records point to.
#[derive(Clone, Copy)]
#[expect(missing_docs, reason = "the type's document explains the fields")]
pub struct Owner<'a> {
    pub name: &'a QueryName,
    pub skipped: usize,
    pub is_question: bool,
}

impl<'a> Owner<'a> {
    /// The owner's name in wire form, in lower case.
    pub fn as_wire(self) -> &'a [u8] {
        self.name.suffix(self.skipped)
    }

    fn above(self, skipped: usize) -> Owner<'a> {
        Owner { skipped, ..self }
    }
}

/// Result of a resolution, from which the response code and the AA flag follow.
///
/// Either the name exists, with or without records of the type, or it is in a delegated zone; `authoritative` is false if
/// the question's name is in one, and `note` is for the client. Or the name,
/// or the last name of a chain, does not exist; the name that a DNAME record makes is too long (RFC 6672 §2.2); or the name
/// is in no zone of this server.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(missing_docs, reason = "the type's document explains the variants")]
pub enum Ending {
    NoError { authoritative: bool, note: Option<Note> },
    NoName,
    NameTooLong,
    NotAuthoritative,
}

const ANSWERED: Ending = Ending::NoError { authoritative: true, note: None };

/// Fact about health that a reply reports as an extended error (RFC 8914): the number of instances of a service without
/// one to answer, or that the name is that of an UNHEALTHY instance.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(missing_docs, reason = "the type's document explains the variants")]
pub enum Note {
    Withheld(u32),
    UnhealthyInstance,
}

/// Buffers for the names of a resolution, which are reused for the next one.
pub struct Scratch {
    links: [QueryName; 2],
    chain: Chain,
}

/// The names that were looked up, in wire form after a byte with their length, and the memory addresses of the DNAME records
/// that were sent, which identify them as long as the directory is borrowed.
struct Chain {
    names: [[u8; NAME_OCTETS_MAX + 1]; CHAIN_LINKS_MAX],
    len: usize,
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

/// Resolves a name and type. `sink` receives the records: those that `choice` draws, or all that could be drawn.
pub fn resolve<S: Sink>(
    directory: &Directory,
    question: &QueryName,
    rtype: RecordType,
    scratch: &mut Scratch,
    choice: Choice<'_>,
    sink: &mut S,
) -> Ending {
    match responsible(directory, question, rtype) {
        None => Ending::NotAuthoritative,
        Some(zone) => resolve_in(directory, zone, question, rtype, scratch, choice, sink),
    }
}

/// [`resolve`] in the zone that is [`responsible`] for the question.
pub(super) fn resolve_in<S: Sink>(
    directory: &Directory,
    zone: &Zone,
    question: &QueryName,
    rtype: RecordType,
    scratch: &mut Scratch,
    choice: Choice<'_>,
    sink: &mut S,
) -> Ending {
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
    Follow,
}

impl<S: Sink> Resolution<'_, '_, S> {
    /// Looks up one name and adds its records. Sets `next` to the canonical name if the result is [`Step::Follow`].
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
                let note = match records {
                    Records::Instance { leaf, prefix_len, .. } => {
                        leaf.is_unhealthy(&owner.as_wire()[..prefix_len]).then_some(Note::UnhealthyInstance)
                    }
                    Records::Rrset(_) | Records::Any(_) | Records::Leaf(..) => None,
                };
                Step::End(Ending::NoError { authoritative: true, note })
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
                Step::End(Ending::NoError { authoritative: !owner.is_question, note: None })
            }
            Found::NoData(leaf) => {
                self.negative(owner);
                let note = leaf.and_then(withheld);
                Step::End(Ending::NoError { authoritative: true, note })
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

    /// Adds records to the answer. If they are an alias that has to be followed, sets `next` to the canonical name and
    /// returns true.
    fn answer(&mut self, owner: Owner<'_>, records: &Records<'_>, next: &mut QueryName) -> bool {
        let set = self.select(records, owner);
        self.sink.records(Section::Answer, owner, &set);
        self.sink.targets(owner, &set);
        let is_wanted_itself = matches!(self.rtype, RecordType::CNAME | RecordType::ANY);
        !is_wanted_itself && set.canonical_name().is_some_and(|name| next.set(name).is_ok())
    }

    #[cold]
    fn follow(&mut self, question: &QueryName, first: &mut QueryName, second: &mut QueryName) -> Ending {
        self.chain.push(question);
        let (mut name, mut next) = (first, second);
        loop {
            // Names in other zones are not followed, even if this server has the zone: the client's resolver asks for them.
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

    /// True if the records include a DNAME that the reply already has. No record may be in a reply twice (RFC 2181 §5), and
    /// a chain can pass one DNAME several times.
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
                // A query for CNAME is answered by the synthesised record and not followed, as BIND, Knot and NSD do.
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

    /// Adds the addresses of the names that records point to, if they are in the zone. There is one lookup for each name,
    /// and at most [`CHAIN_LINKS_MAX`] of them, because the addresses of more would not fit into a reply.
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
            // In ServiceMode of SVCB and HTTPS records, the root as target means the owner (RFC 9460 §2.5.2).
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
            // Glue: addresses below a zone cut that the zone file contains without authority (RFC 1034 §4.2.1).
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
        // The draw may have chosen an alias, which is no address record.
        if set.canonical_name().is_none() {
            self.sink.records(Section::Additional, owner, &set);
        }
    }
}

/// The zone that answers. DS at an apex belongs to the parent zone, if this server has it, it contains the zone cut, and the
/// cut is not itself below another one (RFC 4035 §3.1.4.1).
pub(super) fn responsible<'v>(
    directory: &'v Directory,
    name: &QueryName,
    rtype: RecordType,
) -> Option<&'v Zone> {
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

fn target_of(rtype: RecordType, rdata: &[u8]) -> Option<&[u8]> {
    match rtype {
        RecordType::NS => Some(rdata),
        RecordType::MX | RecordType::AFSDB | RecordType::KX => rdata.get(2..),
        RecordType::SVCB | RecordType::HTTPS => {
            let rest = rdata.get(2..)?;
            // Parameters follow the name. In AliasMode the root means that there is no service (RFC 9460 §2.5.1).
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

fn withheld(leaf: &Leaf) -> Option<Note> {
    let tally = leaf.tally();
    (tally.instances > 0 && tally.served == 0).then_some(Note::Withheld(tally.instances))
}

/// Replaces the DNAME's owner at the end of a name by the DNAME's target. `None` if the new name is too long (RFC 6672
/// §2.2).
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
    fn dname_that_a_chain_passes_twice_is_sent_once() {
        // RFC 2181 §5: duplicates are suppressed. Each name that this DNAME makes is again below the DNAME.
        let directory = directory(&[("test", &[("d.test", RecordType::DNAME, "test")])]);
        let owners = resolved(&directory, "x.d.d.test", RecordType::A);
        assert_eq!(owners.answers, ["d.test. DNAME", "x.d.d.test. CNAME", "x.d.test. CNAME"]);
        let owners = resolved(&directory, "d.d.test", RecordType::DNAME);
        assert_eq!(owners.answers, ["d.test. DNAME", "d.d.test. CNAME"]);
        let owners = resolved(&directory, "x.d.d.test", RecordType::CNAME);
        assert_eq!(owners.answers, ["d.test. DNAME", "x.d.d.test. CNAME"]);
    }

    #[test]
    fn parent_zone_answers_ds_at_an_apex_only_if_it_delegates_the_zone() {
        // RFC 4035 §3.1.4.1. Names below a cut do not belong to the zone, even if its file has records there.
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
