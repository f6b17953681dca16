//! A leaf: the compiled, health-filtered answer data of one service.
//!
//! A leaf is immutable and swapped as a whole. What may be answered was decided when it was built, so a
//! query never looks at health; which of it is answered, and in which order, is drawn for each query.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use super::{Name, RecordType};

/// Most records of a multivalue answer (Cloud Map, RoutingPolicy MULTIVALUE).
pub const MULTIVALUE_RECORDS_MAX: usize = 8;

/// Where the newest leaf of a service is found. It is loaded while a view of the snapshot is held, and only then: a leaf
/// that was swapped out is freed when the views are gone that were held.
#[expect(clippy::disallowed_types, reason = "the snapshot's writer retires what is swapped out of it")]
pub type LeafCell = arc_swap::ArcSwap<Leaf>;

/// The answers of one service.
#[derive(Debug)]
pub struct Leaf {
    /// In order of their labels in lower case; those without a name come first.
    hosts: Box<[Host]>,
    /// The labels of all hosts' names below the service's, each with its length octet.
    labels: Box<[u8]>,
    /// One for each record type that the service has.
    sets: Box<[Set]>,
    extra: Option<Box<Extra>>,
    selection: Selection,
    instance_ttl: u32,
    has_dotted_names: bool,
    tally: Tally,
}

/// One instance.
#[derive(Clone, Copy, Debug)]
struct Host {
    labels_start: u32,
    labels_len: u8,
    has_ipv4: bool,
    port: u16,
    ipv4: [u8; 4],
}

/// The records of one type.
#[derive(Debug)]
struct Set {
    rtype: RecordType,
    ttl: u32,
    members: Members,
}

/// Which hosts have a record.
#[derive(Debug)]
enum Members {
    /// Every host; the usual case, which costs no memory.
    All,
    /// The hosts at these places.
    Some(Box<[u32]>),
}

/// What few services have.
#[derive(Debug, Default)]
struct Extra {
    /// By host, in order.
    ipv6: Box<[(u32, [u8; 16])]>,
    /// Canonical names and aliases, by host, in order.
    targets: Box<[(u32, Name)]>,
    /// Hosts that are aliases and stand for A and AAAA.
    aliases: Box<[u32]>,
}

/// How many instances one answer names.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Selection {
    /// Up to eight, in random order.
    Multivalue,
    /// One.
    One,
}

/// How many instances there are, and how many of them may be answered.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Tally {
    /// All instances.
    pub instances: u32,
    /// Those that health lets through.
    pub served: u32,
}

/// What a leaf is built from.
#[derive(Clone, Debug)]
pub struct LeafSource {
    /// The record types that the service has, with their TTLs in seconds.
    pub records: Vec<(RecordType, u32)>,
    /// How many instances one answer names.
    pub selection: Selection,
    /// Every instance.
    pub hosts: Vec<HostSource>,
}

/// One instance of a [`LeafSource`].
#[derive(Clone, Debug, Default)]
pub struct HostSource {
    /// The labels of its name below the service's, each with its length octet; empty when it has no name.
    pub labels: Vec<u8>,
    /// Its IPv4 address.
    pub ipv4: Option<Ipv4Addr>,
    /// Its IPv6 address.
    pub ipv6: Option<Ipv6Addr>,
    /// Its port.
    pub port: Option<u16>,
    /// Its canonical name, or its alias in a service that has no CNAME record.
    pub target: Option<Name>,
    /// Whether health lets it through.
    pub served: bool,
}

/// TTL of an alias in seconds: the service's own does not apply (Cloud Map), and 60 is what AWS's load
/// balancers have.
pub const ALIAS_TTL: u32 = 60;

impl Leaf {
    /// Compiles the answers of a service.
    pub fn new(source: LeafSource) -> Leaf {
        let LeafSource { records, selection, hosts: mut sources } = source;
        let tally = Tally {
            instances: sources.len() as u32,
            served: sources.iter().filter(|host| host.served).count() as u32,
        };
        // Ids come in order: nearly always there is nothing to do.
        sources.sort_by(|one, other| lower(&one.labels).cmp(lower(&other.labels)));
        let mut labels = Vec::with_capacity(sources.iter().map(|host| host.labels.len()).sum());
        let hosts: Box<[Host]> = sources
            .iter()
            .map(|host| {
                let labels_start = labels.len() as u32;
                labels.extend_from_slice(&host.labels);
                Host {
                    labels_start,
                    labels_len: host.labels.len() as u8,
                    has_ipv4: host.ipv4.is_some(),
                    port: host.port.unwrap_or(0),
                    ipv4: host.ipv4.map_or([0; 4], |address| address.octets()),
                }
            })
            .collect();
        let has_cname = records.iter().any(|(rtype, _)| *rtype == RecordType::CNAME);
        let sets = records.iter().map(|(rtype, ttl)| Set {
            rtype: *rtype,
            ttl: *ttl,
            members: members(*rtype, &sources),
        });
        let ttl_of = |wanted| records.iter().find(|(rtype, _)| *rtype == wanted).map(|(_, ttl)| *ttl);
        let instance_ttl = [RecordType::SRV, RecordType::A, RecordType::AAAA].into_iter().find_map(ttl_of);
        Leaf {
            sets: sets.collect(),
            extra: extra(&sources, has_cname),
            selection,
            instance_ttl: instance_ttl.unwrap_or(0),
            has_dotted_names: sources.iter().any(|host| is_dotted(&host.labels)),
            tally,
            hosts,
            labels: labels.into(),
        }
    }

    /// How many instances there are, and how many may be answered.
    pub fn tally(&self) -> Tally {
        self.tally
    }

    /// How many instances one answer names.
    pub fn selection(&self) -> Selection {
        self.selection
    }

    /// The TTL of an instance's own address records in seconds.
    pub fn instance_ttl(&self) -> u32 {
        self.instance_ttl
    }

    /// Whether the service is answered with a canonical name.
    pub fn is_cname(&self) -> bool {
        self.set(RecordType::CNAME).is_some()
    }

    /// Whether a query for this type has an answer: records of the type, or an alias in their place.
    pub fn answers(&self, rtype: RecordType) -> bool {
        let is_address = matches!(rtype, RecordType::A | RecordType::AAAA);
        let has_alias = || self.extra.as_ref().is_some_and(|extra| !extra.aliases.is_empty());
        match self.set(rtype) {
            Some(set) => set.len(self) > 0 || (is_address && has_alias()),
            None => false,
        }
    }

    /// The types that have an answer.
    pub fn types(&self) -> impl Iterator<Item = RecordType> + '_ {
        self.sets.iter().map(|set| set.rtype).filter(|rtype| self.answers(*rtype))
    }

    /// Draws the answer to a query for this type: each instance with the same chance, in random order.
    pub fn draw(&self, rtype: RecordType, random: &mut fastrand::Rng) -> Drawn<'_> {
        let mut drawn = Drawn { leaf: self, rtype, ttl: 0, hosts: [0; MULTIVALUE_RECORDS_MAX], len: 0 };
        let Some(set) = self.set(rtype) else { return drawn };
        drawn.ttl = set.ttl;
        let aliases = self.aliases_of(rtype);
        let count = set.len(self);
        let population = count + aliases.len();
        if population == 0 {
            return drawn;
        }
        let wanted = match self.selection {
            Selection::One => 1,
            // An alias is always alone: it is answered as a CNAME.
            Selection::Multivalue if count == 0 => 1,
            Selection::Multivalue => MULTIVALUE_RECORDS_MAX.min(count),
        };
        if wanted == 1 {
            let at = random.usize(..population);
            drawn.len = 1;
            drawn.hosts[0] = match at.checked_sub(count) {
                None => set.member(at),
                Some(alias) => {
                    drawn.rtype = RecordType::CNAME;
                    drawn.ttl = ALIAS_TTL;
                    aliases[alias]
                }
            };
            return drawn;
        }
        // Floyd's sample of `wanted` places out of `count`, then a shuffle: uniform, without allocation.
        for (at, top) in (count - wanted..count).enumerate() {
            let place = random.usize(..=top);
            let host = set.member(place);
            drawn.hosts[at] = match drawn.hosts[..at].contains(&host) {
                true => set.member(top),
                false => host,
            };
        }
        drawn.len = wanted;
        random.shuffle(&mut drawn.hosts[..wanted]);
        drawn
    }

    /// Every record of a type, in the leaf's order.
    pub fn all(&self, rtype: RecordType) -> impl Iterator<Item = HostRef<'_>> {
        let set = self.set(rtype);
        let count = set.map_or(0, |set| set.len(self));
        (0..count).filter_map(move |at| Some(HostRef { leaf: self, at: set?.member(at) }))
    }

    /// The instances that are aliases: what is answered for A and AAAA, where the service has those types, is a CNAME
    /// with [`ALIAS_TTL`].
    pub fn aliases(&self) -> impl Iterator<Item = HostRef<'_>> {
        let aliases = self.extra.iter().flat_map(|extra| extra.aliases.iter());
        aliases.map(|at| HostRef { leaf: self, at: *at })
    }

    /// The TTL of a type's records, when the service has any such.
    pub fn ttl(&self, rtype: RecordType) -> Option<u32> {
        self.set(rtype).map(|set| set.ttl)
    }

    /// The instances that have this name below the service's: labels in lower case, each with its length
    /// octet. More than one when ids differ in case alone.
    pub fn named(&self, labels: &[u8]) -> impl Iterator<Item = HostRef<'_>> {
        let start = self
            .hosts
            .partition_point(|host| lower(self.labels_of(host)).cmp(labels.iter().copied()).is_lt());
        let same = self.hosts[start..]
            .iter()
            .take_while(|host| self.labels_of(host).eq_ignore_ascii_case(labels))
            .count();
        (start..start + same).map(|at| HostRef { leaf: self, at: at as u32 })
    }

    /// Every instance that has a name.
    pub fn all_named(&self) -> impl Iterator<Item = HostRef<'_>> {
        let hosts = self.hosts.iter().enumerate().filter(|(_, host)| host.labels_len > 0);
        hosts.map(|(at, _)| HostRef { leaf: self, at: at as u32 })
    }

    /// Whether some instance's name is below this one (an empty non-terminal, RFC 8020): dotted ids.
    pub fn has_names_below(&self, labels: &[u8]) -> bool {
        let is_below = |host: HostRef<'_>| {
            let mut rest = host.labels();
            while rest.len() > labels.len() {
                rest = &rest[1 + rest[0] as usize..];
                if rest.eq_ignore_ascii_case(labels) && host.has_address() {
                    return true;
                }
            }
            false
        };
        self.has_dotted_names && self.all_named().any(is_below)
    }

    fn set(&self, rtype: RecordType) -> Option<&Set> {
        self.sets.iter().find(|set| set.rtype == rtype)
    }

    fn aliases_of(&self, rtype: RecordType) -> &[u32] {
        match (&self.extra, rtype) {
            (Some(extra), RecordType::A | RecordType::AAAA) => &extra.aliases,
            _ => &[],
        }
    }

    fn labels_of(&self, host: &Host) -> &[u8] {
        let start = host.labels_start as usize;
        &self.labels[start..start + host.labels_len as usize]
    }
}

impl Set {
    fn len(&self, leaf: &Leaf) -> usize {
        match &self.members {
            Members::All => leaf.hosts.len(),
            Members::Some(places) => places.len(),
        }
    }

    fn member(&self, at: usize) -> u32 {
        match &self.members {
            Members::All => at as u32,
            Members::Some(places) => places[at],
        }
    }
}

/// The records that were drawn for one answer.
pub struct Drawn<'a> {
    leaf: &'a Leaf,
    /// The type asked for, or CNAME when an alias was drawn.
    pub rtype: RecordType,
    /// Seconds.
    pub ttl: u32,
    hosts: [u32; MULTIVALUE_RECORDS_MAX],
    len: usize,
}

impl<'a> Drawn<'a> {
    /// The instances, at most eight.
    pub fn hosts(&self) -> impl Iterator<Item = HostRef<'a>> + '_ {
        self.hosts[..self.len].iter().map(|at| HostRef { leaf: self.leaf, at: *at })
    }
}

/// One instance of a leaf.
#[derive(Clone, Copy)]
pub struct HostRef<'a> {
    leaf: &'a Leaf,
    at: u32,
}

impl<'a> HostRef<'a> {
    /// The labels of its name below the service's, each with its length octet.
    pub fn labels(self) -> &'a [u8] {
        self.leaf.labels_of(self.host())
    }

    /// Its IPv4 address.
    pub fn ipv4(self) -> Option<[u8; 4]> {
        let host = self.host();
        host.has_ipv4.then_some(host.ipv4)
    }

    /// Its IPv6 address.
    pub fn ipv6(self) -> Option<[u8; 16]> {
        let addresses = &self.leaf.extra.as_ref()?.ipv6;
        let at = addresses.binary_search_by_key(&self.at, |(at, _)| *at).ok()?;
        Some(addresses[at].1)
    }

    /// Its port; 0 when it has none.
    pub fn port(self) -> u16 {
        self.host().port
    }

    /// Its canonical name or alias.
    pub fn target(self) -> Option<&'a Name> {
        let targets = &self.leaf.extra.as_ref()?.targets;
        let at = targets.binary_search_by_key(&self.at, |(at, _)| *at).ok()?;
        Some(&targets[at].1)
    }

    /// Whether it has an address, and so a name of its own.
    pub fn has_address(self) -> bool {
        self.ipv4().is_some() || self.ipv6().is_some()
    }

    fn host(self) -> &'a Host {
        &self.leaf.hosts[self.at as usize]
    }
}

/// The hosts that have a record of this type; of equal records one (RFC 2181 §5).
fn members(rtype: RecordType, sources: &[HostSource]) -> Members {
    let served = sources.iter().enumerate().filter(|(_, host)| host.served);
    let mut places: Vec<u32> = match rtype {
        RecordType::A => first_of_each(served.filter_map(|(at, host)| Some((host.ipv4?, at as u32)))),
        RecordType::AAAA => first_of_each(served.filter_map(|(at, host)| Some((host.ipv6?, at as u32)))),
        RecordType::SRV => first_of_each(served.filter_map(|(at, host)| {
            let is_reachable = !host.labels.is_empty() && (host.ipv4.is_some() || host.ipv6.is_some());
            // Names that are equal but for case are beside each other: the first of them stands for all.
            let equal = sources[..at].iter().rev();
            let same = equal.take_while(|other| other.labels.eq_ignore_ascii_case(&host.labels)).count();
            Some(((at - same, host.port.filter(|_| is_reachable)?), at as u32))
        })),
        _ => first_of_each(served.filter_map(|(at, host)| Some((host.target.as_ref()?, at as u32)))),
    };
    places.sort_unstable();
    match places.len() == sources.len() {
        true => Members::All,
        false => Members::Some(places.into()),
    }
}

/// The place of the first of each group of equal keys.
fn first_of_each<K: Ord>(keys: impl Iterator<Item = (K, u32)>) -> Vec<u32> {
    let mut keys: Vec<(K, u32)> = keys.collect();
    keys.sort_unstable();
    keys.dedup_by(|later, earlier| later.0 == earlier.0);
    keys.into_iter().map(|(_, at)| at).collect()
}

fn extra(sources: &[HostSource], has_cname: bool) -> Option<Box<Extra>> {
    let with_place = || sources.iter().enumerate().map(|(at, host)| (at as u32, host));
    let ipv6: Box<[_]> = with_place().filter_map(|(at, host)| Some((at, host.ipv6?.octets()))).collect();
    let targets: Box<[_]> = with_place().filter_map(|(at, host)| Some((at, host.target.clone()?))).collect();
    if ipv6.is_empty() && targets.is_empty() {
        return None;
    }
    let is_alias = |host: &HostSource| {
        host.target.is_some() && host.served && host.ipv4.is_none() && host.ipv6.is_none()
    };
    let aliases = with_place().filter(|(_, host)| !has_cname && is_alias(host)).map(|(at, _)| at).collect();
    Some(Box::new(Extra { ipv6, targets, aliases }))
}

fn is_dotted(labels: &[u8]) -> bool {
    labels.first().is_some_and(|len| 1 + *len as usize != labels.len())
}

fn lower(octets: &[u8]) -> impl Iterator<Item = u8> + '_ {
    octets.iter().map(u8::to_ascii_lowercase)
}

/// A cell with its first leaf.
pub fn leaf_cell(leaf: Leaf) -> Arc<LeafCell> {
    Arc::new(LeafCell::from_pointee(leaf))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(count: u32) -> Vec<HostSource> {
        (0..count)
            .map(|at| HostSource {
                labels: format!("\x04i{at:03}").into_bytes(),
                ipv4: Some(Ipv4Addr::from_bits(0x0a00_0000 + at)),
                port: Some(8080),
                served: true,
                ..HostSource::default()
            })
            .collect()
    }

    fn leaf(selection: Selection, hosts: Vec<HostSource>) -> Leaf {
        Leaf::new(LeafSource { records: vec![(RecordType::A, 60), (RecordType::SRV, 30)], selection, hosts })
    }

    fn drawn(leaf: &Leaf, random: &mut fastrand::Rng) -> Vec<u32> {
        leaf.draw(RecordType::A, random)
            .hosts()
            .filter_map(|host| host.ipv4())
            .map(u32::from_be_bytes)
            .collect()
    }

    #[test]
    fn a_multivalue_answer_is_eight_different_instances_each_equally_likely_in_each_place() {
        let leaf = leaf(Selection::Multivalue, hosts(20));
        let mut random = fastrand::Rng::with_seed(1);
        let rounds = 20_000;
        let mut counts = vec![[0u32; MULTIVALUE_RECORDS_MAX]; 20];
        for _ in 0..rounds {
            let mut answer = drawn(&leaf, &mut random);
            for (place, address) in answer.iter().enumerate() {
                counts[(address & 0xff) as usize][place] += 1;
            }
            answer.sort_unstable();
            answer.dedup();
            assert_eq!(answer.len(), MULTIVALUE_RECORDS_MAX);
        }
        // Chi-square over 20 instances x 8 places; 159 degrees of freedom, 99.99 % below 233.
        let expected = f64::from(rounds) / 20.0;
        let chi_square: f64 =
            counts.iter().flatten().map(|count| (f64::from(*count) - expected).powi(2) / expected).sum();
        assert!(chi_square < 233.0, "chi-square {chi_square}");
    }

    #[test]
    fn few_instances_are_all_answered_and_weighted_answers_one() {
        let mut random = fastrand::Rng::with_seed(2);
        let mut all = drawn(&leaf(Selection::Multivalue, hosts(3)), &mut random);
        all.sort_unstable();
        assert_eq!(all, [0x0a00_0000, 0x0a00_0001, 0x0a00_0002]);
        let one = leaf(Selection::One, hosts(3));
        let mut seen: Vec<_> = (0..200).flat_map(|_| drawn(&one, &mut random)).collect();
        assert_eq!(seen.len(), 200);
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), 3);
    }

    #[test]
    fn unhealthy_instances_are_never_drawn_but_keep_their_names() {
        let mut sources = hosts(3);
        sources[1].served = false;
        let leaf = leaf(Selection::Multivalue, sources);
        let mut random = fastrand::Rng::with_seed(3);
        assert!((0..100).all(|_| !drawn(&leaf, &mut random).contains(&0x0a00_0001)));
        assert_eq!(leaf.named(b"\x04i001").count(), 1);
        assert_eq!(leaf.named(b"\x04i009").count(), 0);
        assert_eq!(leaf.tally(), Tally { instances: 3, served: 2 });
    }

    #[test]
    fn names_are_found_whatever_their_case_and_dotted_ones_make_empty_non_terminals() {
        let mut sources = hosts(1);
        sources[0].labels = b"\x01A\x01B".to_vec();
        let leaf = leaf(Selection::Multivalue, sources);
        assert_eq!(leaf.named(b"\x01a\x01b").next().map(HostRef::labels), Some(&b"\x01A\x01B"[..]));
        assert!(leaf.has_names_below(b"\x01b"));
        assert!(!leaf.has_names_below(b"\x01a"));
        assert!(!leaf.has_names_below(b"\x01a\x01b"));
    }

    #[test]
    fn equal_addresses_are_one_record() {
        let mut sources = hosts(2);
        sources[1].ipv4 = sources[0].ipv4;
        let leaf = leaf(Selection::Multivalue, sources);
        assert_eq!(drawn(&leaf, &mut fastrand::Rng::with_seed(4)).len(), 1);
        assert_eq!(leaf.all(RecordType::SRV).count(), 2);
    }

    #[test]
    fn an_alias_is_answered_alone_as_a_canonical_name() {
        let target: Name = "lb.example.".parse().unwrap();
        let alias = HostSource { target: Some(target.clone()), served: true, ..HostSource::default() };
        let leaf = Leaf::new(LeafSource {
            records: vec![(RecordType::A, 5)],
            selection: Selection::One,
            hosts: vec![alias],
        });
        assert!(leaf.answers(RecordType::A) && !leaf.answers(RecordType::SRV));
        let mut random = fastrand::Rng::with_seed(5);
        let drawn = leaf.draw(RecordType::A, &mut random);
        assert_eq!((drawn.rtype, drawn.ttl), (RecordType::CNAME, ALIAS_TTL));
        assert_eq!(drawn.hosts().next().and_then(HostRef::target), Some(&target));
    }
}
