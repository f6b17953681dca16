//! Explanation of a query's resolution: its steps in words, and all records that its answer could contain.
//!
//! It calls the [`resolve`] that answers queries, with all records that could be drawn instead of those of one draw, and
//! describes the calls that the resolution makes to its sink.

use crate::dns::resolve::{CHAIN_LINKS_MAX, EndOfChain, Ending, Owner, Scratch, Section, Sink, resolve};
use crate::zone::leaf::{Host, HostRef};
use crate::zone::records::{closest, negative_soa, node_name};
use crate::zone::{
    Choice, Directory, Found, Leaf, LeafType, Name, Negative, Node, QueryName, Record, RecordSet, RecordType,
    Records, Rrset, Selection, Zone,
};

use super::RECORDS_LISTED_MAX;

/// Explanation of an answer: a line for each name that was looked up (`steps`), the services among these names without
/// duplicates, the response code with an optional remark, remarks on the records (`notes`), and the sections.
pub(super) struct Walk {
    pub(super) steps: Vec<String>,
    pub(super) services: Vec<Name>,
    pub(super) rcode: String,
    pub(super) notes: Vec<String>,
    pub(super) answer: Part,
    pub(super) authority: Part,
    pub(super) additional: Part,
}

/// One section: its first [`RECORDS_LISTED_MAX`] records in master-file form, and the number of all of its records.
#[derive(Default)]
pub(super) struct Part {
    pub(super) lines: Vec<String>,
    pub(super) count: usize,
}

impl Part {
    fn put(&mut self, record: &Record) {
        self.count += 1;
        if self.lines.len() < RECORDS_LISTED_MAX {
            self.lines.push(record.to_string());
        }
    }
}

impl Walk {
    pub(super) fn new(directory: &Directory, name: &Name, rtype: RecordType) -> Walk {
        let walk = Walk {
            steps: Vec::new(),
            services: Vec::new(),
            rcode: "NOERROR".into(),
            notes: Vec::new(),
            answer: Part::default(),
            authority: Part::default(),
            additional: Part::default(),
        };
        let mut walker = Walker { directory, question: name, rtype, walk };
        let question = QueryName::from(name);
        let mut scratch = Scratch::default();
        let ending = resolve(directory, &question, rtype, &mut scratch, Choice::All, &mut walker);
        walker.end(ending)
    }
}

struct Walker<'v> {
    directory: &'v Directory,
    question: &'v Name,
    rtype: RecordType,
    walk: Walk,
}

impl Walker<'_> {
    fn end(self, ending: Ending) -> Walk {
        let mut walk = self.walk;
        match ending {
            Ending::NoError { .. } => {}
            Ending::NoName => walk.rcode = "NXDOMAIN".into(),
            Ending::NameTooLong => walk.rcode = "YXDOMAIN".into(),
            Ending::NotAuthoritative => walk.rcode = "REFUSED".into(),
        }
        walk
    }

    fn shown(&self, owner: Owner<'_>) -> Name {
        if owner.is_question && owner.skipped == 0 { self.question.clone() } else { name_of(owner.as_wire()) }
    }

    fn step(&mut self, text: String) {
        self.walk.steps.push(text);
    }

    fn part(&mut self, section: Section) -> &mut Part {
        match section {
            Section::Answer => &mut self.walk.answer,
            Section::Authority => &mut self.walk.authority,
            Section::Additional => &mut self.walk.additional,
        }
    }

    /// Describes the records that a lookup found at a name; `by` mentions the wildcard that provides them, if any.
    fn answer(&mut self, name: &Name, records: &Records<'_>, by: &str, owner: &Name) {
        match records {
            Records::Rrset(rrset) => {
                self.step(format!("{name}: {}{by}", counted(rrset.len(), rrset.rtype)));
            }
            Records::Any(node) => {
                let types: Vec<_> = node.rrsets().iter().map(|rrset| rrset.rtype.to_string()).collect();
                self.step(format!("{name}: has {}{by}", types.join(", ")));
                if types.len() > 1 {
                    self.walk.notes.push("one of these sets (RFC 8482):".into());
                }
            }
            Records::Instance { .. } => {
                self.step(format!("{name}: an instance of the service {owner}, whatever its health"));
            }
            Records::Leaf(leaf, rtype) => self.draw(name, leaf, *rtype, by),
        }
    }

    fn draw(&mut self, name: &Name, leaf: &Leaf, rtype: LeafType, by: &str) {
        let own = leaf.all(rtype).count();
        let aliases = leaf.aliases(rtype).count();
        if rtype == LeafType::Cname {
            return self.canonical_names(name, leaf.all(rtype), by);
        }
        if own == 0 {
            return self.canonical_names(name, leaf.aliases(rtype), by);
        }
        let text = counted(own, rtype.record_type());
        self.step(format!("{name}: a service with {text} to answer{by}"));
        // An alias is drawn only if it is the whole answer.
        let draws_one = leaf.selection() == Selection::One || own == 1;
        let count = own + if draws_one { aliases } else { 0 };
        if draws_one && count > 1 {
            self.walk.notes.push(format!("1 of {count}, drawn for each query:"));
        } else if count > leaf.records_max() {
            let (most, certain) = (leaf.records_max(), leaf.certain(rtype));
            let always = if certain > 0 { format!(", always the first {certain}") } else { String::new() };
            self.walk.notes.push(format!("up to {most} of {count}, drawn for each query{always}:"));
        }
    }

    fn canonical_names<'l>(&mut self, name: &Name, hosts: impl Iterator<Item = HostRef<'l>>, by: &str) {
        let targets: Vec<&Name> = hosts.filter_map(Host::target).collect();
        if let [target] = targets[..] {
            return self.step(format!("{name}: the service's canonical name{by}, to {target}"));
        }
        let count = targets.len();
        self.step(format!("{name}: a service with {count} canonical names to answer{by}"));
        let note = format!("1 of {count}, drawn for each query, and followed while it is in the zone:");
        self.walk.notes.push(note);
    }

    fn redirect(&mut self, owner: Owner<'_>, skipped: usize, rrset: &Rrset) {
        let name = self.shown(owner);
        let dname = name_of(owner.name.suffix(skipped));
        let target = rrset.rdatas().next().map(name_of).unwrap_or_else(Name::root);
        let made = Name::from_labels(name.labels().take(skipped).chain(target.labels()));
        self.step(match made {
            Ok(made) => format!("{name}: the DNAME at {dname}, to {made}"),
            Err(_) => format!("{name}: the DNAME at {dname} makes a name that is too long"),
        });
    }
}

impl Sink for Walker<'_> {
    fn looked_up(&mut self, zone: &Zone, owner: Owner<'_>, found: &Found<'_>) {
        let name = self.shown(owner);
        let Some((skipped, node)) = closest(self.directory, zone, owner.name) else { return };
        let is_instance = skipped > 0 && is_instance(self.directory, node, owner.name.prefix(skipped));
        let has_wildcard = skipped > 0 && node.has_wildcard() && !is_instance;
        let wildcard = self.directory.wildcard(zone, owner.name, skipped).filter(|_| has_wildcard);
        let by = wildcard.map(|wildcard| format!(", by the wildcard {}", node_name(wildcard)));
        let by = by.unwrap_or_default();
        let answering = wildcard.unwrap_or(node);
        let answering_name = node_name(answering);
        if answering.is_service() && !self.walk.services.contains(&answering_name) {
            self.walk.services.push(answering_name.clone());
        }
        match found {
            Found::Answer(records) => self.answer(&name, records, &by, &answering_name),
            Found::Alias(Records::Rrset(rrset)) => {
                let target = rrset.rdatas().next().map(name_of).unwrap_or_else(Name::root);
                self.step(format!("{name}: a CNAME record{by}, to {target}"));
            }
            Found::Alias(records) => self.answer(&name, records, &by, &answering_name),
            Found::Redirect { skipped, rrset } => self.redirect(owner, *skipped, rrset),
            Found::Referral { skipped, .. } => {
                let cut = name_of(owner.name.suffix(*skipped));
                self.step(format!("{name}: a referral to the name servers of {cut}"));
                // AA refers to the name of the question (RFC 1035 §4.1.1).
                let text = if owner.is_question {
                    "NOERROR, not authoritative: a referral"
                } else {
                    "NOERROR, then a referral"
                };
                self.walk.rcode = text.into();
            }
            Found::NoData(leaf) => {
                let rtype = self.rtype;
                let why = if is_instance {
                    format!("an instance has this name or one below it, and no {rtype} record there")
                } else {
                    no_data(answering, *leaf, rtype)
                };
                self.step(format!("{name}: {why}{by}"));
                self.walk.rcode = "NOERROR without records of the type (NODATA)".into();
            }
            Found::NoName => {
                let closest = node_name(node);
                self.step(format!("{name}: does not exist; the closest name that does is {closest}"));
            }
        }
    }

    fn ends_at(&mut self, name: &QueryName, why: EndOfChain) {
        let shown = name_of(name.as_wire());
        self.step(match (why, self.directory.zone_of(name)) {
            (EndOfChain::OtherZone, Some(other)) => {
                format!("{shown} is in another zone here, {}: the answer ends here", other.apex)
            }
            (EndOfChain::OtherZone, None) => format!("{shown} is in no zone here: the answer ends here"),
            (EndOfChain::Loop, _) => format!("{shown} was there before, a loop: the answer ends here"),
            (EndOfChain::TooLong, _) => {
                format!("{shown}: not followed after {CHAIN_LINKS_MAX} names: the answer ends here")
            }
        });
    }

    fn records(&mut self, section: Section, owner: Owner<'_>, records: &RecordSet<'_>) {
        let name = self.shown(owner);
        let part = self.part(section);
        records.each(|ttl, data| {
            let rdata = data.to_wire(owner.as_wire()).into();
            part.put(&Record { owner: name.clone(), rtype: data.record_type(), ttl, rdata });
            true
        });
    }

    fn targets(&mut self, owner: Owner<'_>, records: &RecordSet<'_>) {
        records.each_target(|_, labels, ttl, data| {
            let target = [labels, owner.as_wire()].concat();
            let (owner, rdata) = (name_of(&target), data.to_wire(&target).into());
            self.walk.additional.put(&Record { owner, rtype: data.record_type(), ttl, rdata });
        });
    }

    fn negative(&mut self, zone: &Zone, _owner: Owner<'_>, _soa: &Negative) {
        let Some(soa) = negative_soa(self.directory, zone) else { return };
        for rdata in soa.rdatas() {
            let (owner, rtype, ttl) = (zone.apex.clone(), soa.rtype, soa.ttl);
            self.walk.authority.put(&Record { owner, rtype, ttl, rdata: rdata.into() });
        }
    }
}

/// Parses a name in wire form. Names from the directory are always valid; an invalid one would become the root's name.
fn name_of(wire: &[u8]) -> Name {
    Name::from_wire(wire).unwrap_or_else(|_| Name::root())
}

/// True if the labels below a service's name are an instance's name or an ancestor of one, which excludes wildcards.
fn is_instance(directory: &Directory, service: &Node, labels: &[u8]) -> bool {
    directory.leaf(service).is_some_and(|leaf| leaf.has_names_at_or_below(labels))
}

fn no_data(node: &Node, leaf: Option<&Leaf>, rtype: RecordType) -> String {
    if let Some(leaf) = leaf {
        let tally = leaf.tally();
        let has_type = LeafType::of(rtype).is_some_and(|rtype| leaf.ttl(rtype).is_some());
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
