//! A leaf: the compiled, health-filtered answer data of one service.
//!
//! A leaf is immutable and swapped as a whole. What may be answered was decided when it was built, so a
//! query never looks at health; which of it is answered, and in which order, is drawn for each query.
//!
//! Everything that a query reads is in one piece of memory, in the order in which it is read, because at a
//! million instances each piece costs a cache miss, which is more than all instructions of an answer:
//!
//! | part | octets each | content |
//! | --- | --- | --- |
//! | sets | 16 | type, TTL, number of members, where their places are (0: all hosts) |
//! | hosts | 12, or 28 when some host has IPv6 | where its labels are and their length, flags, port, addresses |
//! | members | 4 | the places of the hosts that have a record, for each set that not all are in |
//! | labels | | of each host's name, each with its length octet |
//!
//! Ports and addresses are in network order, other numbers little-endian.

mod draw;
mod source;

use std::cmp::Ordering;

use super::{Name, RecordType};

pub use draw::{Drawn, MULTIVALUE_RECORDS_MAX};
pub use source::{HostSource, LeafSource};

/// Where the newest leaf of a service is found. It is loaded while a view of the snapshot is held, and only then: a leaf
/// that was swapped out is freed when the views are gone that were held.
#[expect(clippy::disallowed_types, reason = "the snapshot's writer retires what is swapped out of it")]
pub type LeafCell = arc_swap::ArcSwap<Leaf>;

const SET_OCTETS: usize = 16;
const HOST_OCTETS: usize = 12;
const IPV6_OCTETS: usize = 16;
/// Where a host's IPv4 address is in its octets.
const IPV4_AT: usize = 8;
const IPV4_OCTETS: usize = 4;

/// What a host has.
mod flag {
    pub(super) const IPV4: u8 = 1;
    pub(super) const IPV6: u8 = 2;
    pub(super) const TARGET: u8 = 4;
}

/// The answers of one service.
#[derive(Debug)]
pub struct Leaf {
    /// As the module's doc says. Hosts are in order of their labels in lower case; those without a name come first.
    data: Box<[u8]>,
    extra: Option<Box<Extra>>,
    tally: Tally,
    instance_ttl: u32,
    set_count: u8,
    /// Octets from host to host.
    stride: u8,
    selection: Selection,
    has_dotted_names: bool,
    /// Whether no label has an upper-case letter: then octets compare as names do.
    is_lower: bool,
}

/// What few services have.
#[derive(Debug, Default)]
struct Extra {
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

/// The records of one type in a leaf; it means nothing to another leaf.
#[derive(Clone, Copy, Debug)]
pub struct SetRef {
    /// The type.
    pub rtype: RecordType,
    /// Seconds.
    pub ttl: u32,
    count: u32,
    /// Where the members' places are; 0 when every host is a member.
    members_at: u32,
}

/// TTL of an alias in seconds: the service's own does not apply (Cloud Map), and 60 is what AWS's load
/// balancers have.
pub const ALIAS_TTL: u32 = 60;

impl Leaf {
    /// How many instances there are, and how many may be answered.
    pub fn tally(&self) -> Tally {
        self.tally
    }

    /// How many instances one answer names.
    pub fn selection(&self) -> Selection {
        self.selection
    }

    /// The TTL of an instance's own address records in seconds.
    #[inline]
    pub fn instance_ttl(&self) -> u32 {
        self.instance_ttl
    }

    /// Whether the service is answered with a canonical name.
    pub fn is_cname(&self) -> bool {
        self.set(RecordType::CNAME).is_some()
    }

    /// What a query for this type is answered from: records of the type, or an alias in their place; `None` when there
    /// is nothing to answer with.
    #[inline]
    pub fn set_of(&self, rtype: RecordType) -> Option<SetRef> {
        self.set(rtype).filter(|set| set.count > 0 || !self.aliases_of(rtype).is_empty())
    }

    /// The same, when no instance is an alias or has a canonical name; the inner `None` means that there is no answer.
    /// The outer one means that [`Leaf::set_of`] has to tell.
    #[inline]
    pub fn plain_set(&self, rtype: RecordType) -> Option<Option<SetRef>> {
        self.extra.is_none().then(|| self.set(rtype).filter(|set| set.count > 0))
    }

    /// Whether a query for this type has an answer: records of the type, or an alias in their place.
    #[inline]
    pub fn answers(&self, rtype: RecordType) -> bool {
        self.set_of(rtype).is_some()
    }

    /// The types that have an answer.
    pub fn types(&self) -> impl Iterator<Item = RecordType> + '_ {
        self.sets().map(|set| set.rtype).filter(|rtype| self.answers(*rtype))
    }

    /// Draws the answer to a query for this type: each instance with the same chance, in random order.
    #[inline]
    pub fn draw(&self, rtype: RecordType, random: &mut fastrand::Rng) -> Drawn<'_> {
        let none = SetRef { rtype, ttl: 0, count: 0, members_at: 0 };
        self.draw_set(self.set(rtype).unwrap_or(none), random)
    }

    /// The same for a set that [`Leaf::set_of`] found in this leaf.
    #[inline]
    pub fn draw_set(&self, set: SetRef, random: &mut fastrand::Rng) -> Drawn<'_> {
        if self.selection == Selection::One || set.count == 0 {
            return self.draw_one(set, random);
        }
        let mut drawn = self.not_drawn(set);
        drawn.len = draw::draw(set.count, random, &mut drawn.places);
        drawn
    }

    /// One record or alias. An alias is always alone: it is answered as a CNAME.
    fn draw_one(&self, set: SetRef, random: &mut fastrand::Rng) -> Drawn<'_> {
        let mut drawn = self.not_drawn(set);
        let aliases = self.aliases_of(set.rtype);
        let population = set.count as usize + aliases.len();
        if population == 0 {
            return drawn;
        }
        let at = random.usize(..population);
        drawn.len = 1;
        match at.checked_sub(set.count as usize) {
            None => drawn.places[0] = at as u32,
            Some(alias) => {
                drawn.rtype = RecordType::CNAME;
                drawn.ttl = ALIAS_TTL;
                drawn.set.members_at = 0;
                drawn.places[0] = aliases[alias];
            }
        }
        drawn
    }

    #[inline]
    fn not_drawn(&self, set: SetRef) -> Drawn<'_> {
        Drawn { leaf: self, rtype: set.rtype, ttl: set.ttl, set, places: draw::IN_ORDER, len: 0 }
    }

    /// Every record of a type, in the leaf's order.
    pub fn all(&self, rtype: RecordType) -> impl Iterator<Item = HostRef<'_>> {
        let set = self.set(rtype);
        let hosts = self.hosts();
        let of_set = move |set: SetRef| (0..set.count).map(move |at| hosts.host(hosts.member(set, at)));
        set.into_iter().flat_map(of_set)
    }

    /// The instances that are aliases: what is answered for A and AAAA, where the service has those types, is a CNAME
    /// with [`ALIAS_TTL`].
    pub fn aliases(&self) -> impl Iterator<Item = HostRef<'_>> {
        let aliases = self.extra.iter().flat_map(|extra| extra.aliases.iter());
        aliases.map(|at| self.host(*at))
    }

    /// The TTL of a type's records, when the service has any such.
    pub fn ttl(&self, rtype: RecordType) -> Option<u32> {
        self.set(rtype).map(|set| set.ttl)
    }

    /// The instances that have this name below the service's: labels in lower case, each with its length
    /// octet. More than one when ids differ in case alone.
    pub fn named(&self, labels: &[u8]) -> impl Iterator<Item = HostRef<'_>> {
        let (mut start, mut end) = (0, self.tally.instances);
        while start < end {
            let middle = start + (end - start) / 2;
            match self.cmp_labels(self.host(middle), labels) {
                Ordering::Less => start = middle + 1,
                _ => end = middle,
            }
        }
        let rest = (start..self.tally.instances).map(|at| self.host(at));
        rest.take_while(move |host| self.cmp_labels(*host, labels).is_eq())
    }

    /// Every instance that has a name.
    pub fn all_named(&self) -> impl Iterator<Item = HostRef<'_>> {
        let hosts = (0..self.tally.instances).map(|at| self.host(at));
        hosts.filter(|host| !host.labels().is_empty())
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

    #[inline]
    fn set(&self, rtype: RecordType) -> Option<SetRef> {
        self.sets().find(|set| set.rtype == rtype)
    }

    #[inline]
    fn sets(&self) -> impl Iterator<Item = SetRef> + '_ {
        let sets = self.data[..self.set_count as usize * SET_OCTETS].as_chunks::<SET_OCTETS>().0;
        sets.iter().map(|octets| {
            let number =
                |at: usize| u32::from_le_bytes([octets[at], octets[at + 1], octets[at + 2], octets[at + 3]]);
            let rtype = RecordType(u16::from_le_bytes([octets[0], octets[1]]));
            SetRef { rtype, ttl: number(4), count: number(8), members_at: number(12) }
        })
    }

    #[inline]
    fn host(&self, at: u32) -> HostRef<'_> {
        self.hosts().host(at)
    }

    #[inline]
    fn hosts(&self) -> Hosts<'_> {
        let start = self.set_count as usize * SET_OCTETS;
        Hosts { leaf: self, data: &self.data, start, stride: self.stride as usize }
    }

    fn aliases_of(&self, rtype: RecordType) -> &[u32] {
        match (&self.extra, rtype) {
            (Some(extra), RecordType::A | RecordType::AAAA) => &extra.aliases,
            _ => &[],
        }
    }

    fn cmp_labels(&self, host: HostRef<'_>, lower_labels: &[u8]) -> Ordering {
        match self.is_lower {
            true => host.labels().cmp(lower_labels),
            false => lower(host.labels()).cmp(lower_labels.iter().copied()),
        }
    }
}

/// The hosts of a leaf, with what finds them at hand: a loop that writes an answer need not read it again.
#[derive(Clone, Copy)]
struct Hosts<'a> {
    leaf: &'a Leaf,
    data: &'a [u8],
    start: usize,
    stride: usize,
}

impl<'a> Hosts<'a> {
    /// The place of a set's member among the hosts.
    #[inline]
    fn member(self, set: SetRef, at: u32) -> u32 {
        match set.members_at as usize {
            0 => at,
            members_at => u32::from_le_bytes(*octets(self.data, members_at + 4 * at as usize)),
        }
    }

    #[inline]
    fn host(self, at: u32) -> HostRef<'a> {
        let start = self.start + self.stride * at as usize;
        HostRef { leaf: self.leaf, octets: octets(self.data, start), at }
    }
}

/// The octets of a part, which is as long as the leaf says.
#[inline]
fn octets<const N: usize>(data: &[u8], at: usize) -> &[u8; N] {
    data[at..].first_chunk().expect("a leaf's data has all of its parts")
}

/// One instance of a leaf.
#[derive(Clone, Copy)]
pub struct HostRef<'a> {
    leaf: &'a Leaf,
    octets: &'a [u8; HOST_OCTETS],
    at: u32,
}

impl<'a> HostRef<'a> {
    /// The labels of its name below the service's, each with its length octet.
    #[inline]
    pub fn labels(self) -> &'a [u8] {
        let [a, b, c, d, len, ..] = *self.octets;
        let start = u32::from_le_bytes([a, b, c, d]) as usize;
        &self.leaf.data[start..start + len as usize]
    }

    /// Its IPv4 address.
    #[inline]
    pub fn ipv4(self) -> Option<[u8; 4]> {
        let [.., a, b, c, d] = *self.octets;
        self.has(flag::IPV4).then_some([a, b, c, d])
    }

    /// Its IPv6 address.
    #[inline]
    pub fn ipv6(self) -> Option<[u8; 16]> {
        if !self.has(flag::IPV6) {
            return None;
        }
        let hosts = self.leaf.hosts();
        Some(*octets(hosts.data, hosts.start + hosts.stride * self.at as usize + HOST_OCTETS))
    }

    /// Its port; 0 when it has none.
    #[inline]
    pub fn port(self) -> u16 {
        u16::from_be_bytes([self.octets[6], self.octets[7]])
    }

    /// Its canonical name or alias.
    pub fn target(self) -> Option<&'a Name> {
        let targets = &self.leaf.extra.as_ref().filter(|_| self.has(flag::TARGET))?.targets;
        let at = targets.binary_search_by_key(&self.at, |(at, _)| *at).ok()?;
        Some(&targets[at].1)
    }

    /// Whether it has an address, and so a name of its own.
    #[inline]
    pub fn has_address(self) -> bool {
        self.has(flag::IPV4 | flag::IPV6)
    }

    #[inline]
    fn has(self, flags: u8) -> bool {
        self.octets[5] & flags != 0
    }
}

fn lower(octets: &[u8]) -> impl Iterator<Item = u8> + '_ {
    octets.iter().map(u8::to_ascii_lowercase)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

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
