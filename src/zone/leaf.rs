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
//! | sets | 8 | type, number of the members' list (0: all hosts are members), TTL |
//! | lists | 8 | how many members there are, and where their indexes are |
//! | hosts | 4 mostly | what they differ in, see below |
//! | members | 4 | the indexes of the hosts that have a record, for each set that not all are in |
//! | labels | | of each host's name, each with its length octet |
//!
//! Hosts of a service are much alike: the same port, names of the same length, one address each. What they have in
//! common is kept once; a host has octets only for what differs, in this order: IPv4 address (4), where its labels are
//! and how long (4 and 1), port (2), flags (1), IPv6 address (16). Ports and addresses are in network order, other
//! numbers little-endian.

mod draw;
mod host;
mod record;
mod source;

use std::cmp::Ordering;

use super::Name;

pub use draw::{Drawn, MULTIVALUE_RECORDS_MAX};
pub use host::{HostRef, UniformHosts};
pub use record::{Data, DataWriter, Host, LeafType, SOA_NUMBERS_OCTETS};
pub use source::{HostSource, LeafSource};

/// Octets of a set, and of a list.
const HEAD_OCTETS: usize = 8;
const IPV4_OCTETS: usize = 4;

/// Octets that come from memory together.
const CACHE_LINE_OCTETS: usize = 64;
/// Octets in which eight instances mostly have their addresses, and their names too.
const ADDRESSES_OCTETS: usize = 96;
const NAMES_OCTETS: usize = 448;

/// The answers of one service.
#[derive(Clone, Debug)]
pub struct Leaf {
    /// As the module's doc says. Hosts are in order of their labels in lower case; those without a name come first.
    data: Box<[u8]>,
    extra: Option<Box<Extra>>,
    tally: Tally,
    set_count: u8,
    /// How many sets and lists there are.
    head_count: u8,
    hosts: host::Layout,
    traits: Traits,
}

/// What is true of a leaf, as bits.
#[derive(Clone, Copy, Debug, Default)]
struct Traits(u8);

impl Traits {
    /// One answer names one instance.
    const DRAWS_ONE: u8 = 1;
    const HAS_DOTTED_NAMES: u8 = 2;
    /// No label has an upper-case letter: then octets compare as names do.
    const IS_LOWER: u8 = 4;
    /// Hosts are their IPv4 addresses, one beside the other, and one answer names several.
    const DRAWS_IPV4S: u8 = 8;
    /// Some host is an alias or has a canonical name.
    const HAS_CANONICAL_NAMES: u8 = 16;

    #[inline]
    fn has(self, bits: u8) -> bool {
        self.0 & bits != 0
    }
}

/// What few services have.
#[derive(Clone, Debug, Default)]
struct Extra {
    /// Canonical names and aliases, by host, in order.
    targets: Box<[(u32, Name)]>,
    /// Hosts that are aliases and stand for A and AAAA.
    aliases: Box<[u32]>,
    /// Names of hosts that are no targets of SRV records: their labels in lower case, in order.
    own_names: Box<[(Box<[u8]>, u32)]>,
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

/// Indexes of hosts, and IPv4 addresses: as many as an answer has, of which the first ones count.
pub type FewIndexes = [u32; MULTIVALUE_RECORDS_MAX];
/// See [`FewIndexes`].
pub type FewAddresses = [[u8; 4]; MULTIVALUE_RECORDS_MAX];

/// The records of one type in a leaf; it means nothing to another leaf.
#[derive(Clone, Copy, Debug)]
pub struct SetRef {
    /// The type.
    pub rtype: LeafType,
    /// Seconds.
    pub ttl: u32,
    count: u32,
    /// Where the members' indexes are; 0 when every host is a member.
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

    /// Whether there are instances, and none may be answered.
    #[inline]
    pub fn withholds_all(&self) -> bool {
        self.tally.served == 0 && self.tally.instances > 0
    }

    /// Reads a part of each cache line that an answer for this type needs: of many instances, those of the first ones.
    pub(super) fn touch(&self, rtype: LeafType) -> u8 {
        let wanted = match rtype {
            LeafType::A | LeafType::Aaaa | LeafType::Cname => ADDRESSES_OCTETS,
            LeafType::Srv => NAMES_OCTETS,
        };
        let wanted = &self.data[..wanted.min(self.data.len())];
        let last = wanted.last().copied().unwrap_or_default();
        wanted.iter().step_by(CACHE_LINE_OCTETS).fold(last, |read, octet| read ^ octet)
    }

    /// How many instances one answer names.
    pub fn selection(&self) -> Selection {
        if self.traits.has(Traits::DRAWS_ONE) { Selection::One } else { Selection::Multivalue }
    }

    /// The TTL of an instance's own address records in seconds.
    pub fn instance_ttl(&self) -> u32 {
        let own = [LeafType::Srv, LeafType::A, LeafType::Aaaa].into_iter();
        own.filter_map(|rtype| self.ttl(rtype)).next().unwrap_or(0)
    }

    /// Whether the service is answered with a canonical name.
    pub fn is_cname(&self) -> bool {
        self.set(LeafType::Cname).is_some()
    }

    /// What a query for this type is answered from: records of the type, or an alias in their index; `None` when there
    /// is nothing to answer with.
    #[inline]
    pub fn set_of(&self, rtype: LeafType) -> Option<SetRef> {
        self.set(rtype).filter(|set| set.count > 0 || !self.aliases_of(rtype).is_empty())
    }

    /// The same, when no instance is an alias or has a canonical name; the inner `None` means that there is no answer.
    /// The outer one means that [`Leaf::set_of`] has to tell.
    #[inline(always)]
    pub fn fast_set(&self, rtype: LeafType) -> Option<Option<SetRef>> {
        if self.traits.has(Traits::HAS_CANONICAL_NAMES) {
            return None;
        }
        let sets = self.data.get(..self.set_count as usize * HEAD_OCTETS)?;
        match self.find_set(sets, rtype) {
            Some(set) if set.count > 0 => Some(Some(set)),
            _ => Some(None),
        }
    }

    /// Whether a query for this type has an answer: records of the type, or an alias in their index.
    #[inline]
    pub fn answers(&self, rtype: LeafType) -> bool {
        self.set_of(rtype).is_some()
    }

    /// Types that have an answer, in the order of the service's records.
    pub fn types(&self) -> impl Iterator<Item = LeafType> + '_ {
        let sets = self.octets_of_sets().as_chunks::<HEAD_OCTETS>().0.iter();
        let types = sets.filter_map(|set| {
            let number = u16::from_le_bytes([set[0], set[1]]);
            LeafType::ALL.into_iter().find(|rtype| *rtype as u16 == number)
        });
        types.filter(|rtype| self.answers(*rtype))
    }

    /// Draws the answer to a query for this type: each instance with the same chance, in random order.
    #[inline]
    pub fn draw(&self, rtype: LeafType, random: &mut fastrand::Rng) -> Drawn<'_> {
        let none = SetRef { rtype, ttl: 0, count: 0, members_at: 0 };
        let set = self.set(rtype).unwrap_or(none);
        if self.traits.has(Traits::DRAWS_ONE) || set.count == 0 {
            return self.draw_one(set, random);
        }
        let mut drawn = self.not_drawn(set);
        drawn.len = draw::draw(set.count, random, &mut drawn.indexes);
        drawn
    }

    /// Draws hosts of a set, when no instance is an alias: their indexes, of which the first ones count, and how many.
    #[inline(always)]
    pub fn draw_hosts(&self, set: SetRef, random: &mut fastrand::Rng) -> (FewIndexes, usize) {
        let (mut indexes, len) = match set.count {
            count if self.traits.has(Traits::DRAWS_ONE) => {
                ([random.u32(..count.max(1)), 0, 0, 0, 0, 0, 0, 0], count.min(1) as usize)
            }
            count if count as usize <= MULTIVALUE_RECORDS_MAX => {
                let mut indexes = draw::FEW_IN_ORDER;
                draw::shuffle_few(count, random, &mut indexes);
                (indexes, count as usize)
            }
            count => (draw::draw_few(count, random), MULTIVALUE_RECORDS_MAX),
        };
        if set.members_at > 0 {
            indexes[..len].iter_mut().for_each(|index| *index = self.member(set, *index));
        }
        (indexes, len)
    }

    /// The same of a set of A records: their data, in network order.
    #[inline(always)]
    pub fn draw_ipv4s(&self, set: SetRef, random: &mut fastrand::Rng) -> (FewAddresses, usize) {
        // Addresses that are beside each other are shuffled themselves.
        let is_direct = set.members_at == 0
            && set.count as usize <= MULTIVALUE_RECORDS_MAX
            && self.traits.has(Traits::DRAWS_IPV4S);
        let hosts_at = self.hosts_at();
        match self.data.get(hosts_at..hosts_at + IPV4_OCTETS * MULTIVALUE_RECORDS_MAX) {
            Some(addresses) if is_direct => {
                let mut drawn = FewAddresses::default();
                let addresses = addresses.as_chunks::<IPV4_OCTETS>().0;
                drawn.iter_mut().zip(addresses).for_each(|(drawn, address)| *drawn = *address);
                draw::shuffle_few(set.count, random, &mut drawn);
                (drawn, set.count as usize)
            }
            _ => self.gather_ipv4s(set.count, set.members_at, random),
        }
    }

    #[inline(never)]
    fn gather_ipv4s(&self, count: u32, members_at: u32, random: &mut fastrand::Rng) -> (FewAddresses, usize) {
        let mut drawn = FewAddresses::default();
        let (indexes, len) =
            self.draw_hosts(SetRef { rtype: LeafType::A, ttl: 0, count, members_at }, random);
        for (drawn, index) in drawn.iter_mut().zip(indexes).take(len) {
            *drawn = self.host(index).ipv4().unwrap_or_default();
        }
        (drawn, len)
    }

    /// One record or alias. An alias is always alone: it is answered as a CNAME.
    fn draw_one(&self, set: SetRef, random: &mut fastrand::Rng) -> Drawn<'_> {
        let mut drawn = self.not_drawn(set);
        let aliases = self.aliases_of(set.rtype);
        let population = set.count as usize + aliases.len();
        if population == 0 {
            return drawn;
        }
        let at = random.u32(..population as u32) as usize;
        drawn.len = 1;
        match at.checked_sub(set.count as usize) {
            None => drawn.indexes[0] = at as u32,
            Some(alias) => {
                drawn.rtype = LeafType::Cname;
                drawn.ttl = ALIAS_TTL;
                drawn.set.members_at = 0;
                drawn.indexes[0] = aliases[alias];
            }
        }
        drawn
    }

    #[inline]
    fn not_drawn(&self, set: SetRef) -> Drawn<'_> {
        Drawn { leaf: self, rtype: set.rtype, ttl: set.ttl, set, indexes: draw::IN_ORDER, len: 0 }
    }

    /// Every record of a type, in the leaf's order.
    pub fn all(&self, rtype: LeafType) -> impl Iterator<Item = HostRef<'_>> {
        let set = self.set(rtype);
        let of_set = move |set: SetRef| (0..set.count).map(move |at| self.host(self.member(set, at)));
        set.into_iter().flat_map(of_set)
    }

    /// The instances that are aliases: what is answered for A and AAAA, where the service has those types, is a CNAME
    /// with [`ALIAS_TTL`].
    pub fn aliases(&self) -> impl Iterator<Item = HostRef<'_>> {
        let aliases = self.extra.iter().flat_map(|extra| extra.aliases.iter());
        aliases.map(|at| self.host(*at))
    }

    /// The TTL of a type's records, when the service has any such.
    pub fn ttl(&self, rtype: LeafType) -> Option<u32> {
        self.set(rtype).map(|set| set.ttl)
    }

    /// The instances that have this name below the service's: labels in lower case, each with its length
    /// octet. A leaf can have several, although names of Cloud Map's instances are distinct.
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
        let own_names = self.own_names();
        let own_start = own_names.partition_point(|(own, _)| **own < *labels);
        let own = own_names[own_start..].iter().take_while(move |(own, _)| **own == *labels);
        rest.take_while(move |host| self.cmp_labels(*host, labels).is_eq())
            .chain(own.map(|(_, at)| self.host(*at)))
    }

    /// The names of all instances that have one, as labels in any case, in order: the targets of SRV records, and after
    /// them the names of ids that are no host names.
    pub fn all_named(&self) -> impl Iterator<Item = (&[u8], HostRef<'_>)> {
        let hosts = (0..self.tally.instances).map(|at| self.host(at));
        let targets = hosts.map(|host| (host.labels(), host)).filter(|(labels, _)| !labels.is_empty());
        targets.chain(self.own_names().iter().map(|(labels, at)| (&**labels, self.host(*at))))
    }

    fn own_names(&self) -> &[(Box<[u8]>, u32)] {
        self.extra.as_ref().map_or(&[], |extra| &extra.own_names)
    }

    /// Whether some instance's name is this one, or below it.
    pub fn has_names_at_or_below(&self, labels: &[u8]) -> bool {
        self.named(labels).any(HostRef::has_address) || self.has_names_below(labels)
    }

    /// Whether some instance's name is below this one (an empty non-terminal, RFC 8020): dotted ids.
    pub fn has_names_below(&self, labels: &[u8]) -> bool {
        let is_below = |(name, host): (&[u8], HostRef<'_>)| {
            let mut rest = name;
            while rest.len() > labels.len() {
                rest = &rest[1 + rest[0] as usize..];
                if rest.eq_ignore_ascii_case(labels) && host.has_address() {
                    return true;
                }
            }
            false
        };
        self.traits.has(Traits::HAS_DOTTED_NAMES) && self.all_named().any(is_below)
    }

    #[inline(always)]
    fn set(&self, rtype: LeafType) -> Option<SetRef> {
        self.find_set(self.octets_of_sets(), rtype)
    }

    #[inline(always)]
    fn find_set(&self, sets: &[u8], rtype: LeafType) -> Option<SetRef> {
        let wanted = (rtype as u16).to_le_bytes();
        Some(self.read_set(rtype, sets.as_chunks().0.iter().find(|octets| octets[..2] == wanted)?))
    }

    #[inline(always)]
    fn octets_of_sets(&self) -> &[u8] {
        self.data.get(..self.set_count as usize * HEAD_OCTETS).unwrap_or_default()
    }

    #[inline(always)]
    fn read_set(&self, rtype: LeafType, &[_, _, l0, l1, ttl @ ..]: &[u8; HEAD_OCTETS]) -> SetRef {
        let ttl = u32::from_le_bytes(ttl);
        let (count, members_at) = match u16::from_le_bytes([l0, l1]) {
            0 => (self.tally.instances, 0),
            list => self.list(list.into()),
        };
        SetRef { rtype, ttl, count, members_at }
    }

    /// How many indexes a list has, and where they are. The first list's number is 1.
    #[inline(never)]
    fn list(&self, number: usize) -> (u32, u32) {
        let at = (self.set_count as usize + number - 1) * HEAD_OCTETS;
        let numbers: &[u8; HEAD_OCTETS] = octets(&self.data, at);
        let [count, at] = [0, 4].map(|at| u32::from_le_bytes(*octets(numbers, at)));
        (count, at)
    }

    /// The index of a set's member among the hosts.
    #[inline]
    fn member(&self, set: SetRef, at: u32) -> u32 {
        match set.members_at as usize {
            0 => at,
            members_at => u32::from_le_bytes(*octets(&self.data, members_at + 4 * at as usize)),
        }
    }

    /// The host at this index, which [`Leaf::draw_hosts`] has told.
    #[inline(always)]
    pub fn host(&self, at: u32) -> HostRef<'_> {
        HostRef::new(self, at)
    }

    /// What is needed of the hosts when they are as alike as nearly always: all have an IPv4 address, only one, the same
    /// port, and names of the same length.
    #[inline(always)]
    pub fn uniform_hosts(&self) -> Option<UniformHosts<'_>> {
        self.hosts.uniform(&self.data, self.hosts_at())
    }

    /// Where the hosts are.
    #[inline(always)]
    fn hosts_at(&self) -> usize {
        self.head_count as usize * HEAD_OCTETS
    }

    fn aliases_of(&self, rtype: LeafType) -> &[u32] {
        match &self.extra {
            Some(extra) if rtype.is_address() => &extra.aliases,
            _ => &[],
        }
    }

    fn cmp_labels(&self, host: HostRef<'_>, lower_labels: &[u8]) -> Ordering {
        if self.traits.has(Traits::IS_LOWER) {
            host.labels().cmp(lower_labels)
        } else {
            lower(host.labels()).cmp(lower_labels.iter().copied())
        }
    }
}

/// The octets of a part, which is as long as the leaf says.
#[inline(always)]
fn octets<const N: usize>(data: &[u8], at: usize) -> &[u8; N] {
    data[at..].first_chunk().expect("a leaf's data has all of its parts")
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
        Leaf::new(LeafSource { records: vec![(LeafType::A, 60), (LeafType::Srv, 30)], selection, hosts })
    }

    fn drawn(leaf: &Leaf, random: &mut fastrand::Rng) -> Vec<u32> {
        leaf.draw(LeafType::A, random)
            .hosts()
            .filter_map(|host| host.ipv4())
            .map(u32::from_be_bytes)
            .collect()
    }

    #[test]
    fn a_leaf_has_no_gaps() {
        assert_eq!(size_of::<Leaf>(), 48);
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
    fn own_names_that_are_no_targets_are_found_and_never_written_as_targets() {
        let mut sources = hosts(3);
        sources[1].labels = b"\x0ca-b-00000000".to_vec();
        sources[1].own_labels = b"\x03A_b\x01C".to_vec();
        // Its own name is its only one.
        sources[2].labels = Vec::new();
        sources[2].own_labels = b"\x02_x".to_vec();
        let leaf = leaf(Selection::Multivalue, sources);
        let address =
            |labels: &[u8]| leaf.named(labels).map(|host| host.ipv4().unwrap()[3]).collect::<Vec<_>>();
        assert_eq!((address(b"\x03a_b\x01c"), address(b"\x0ca-b-00000000")), (vec![1], vec![1]));
        assert_eq!(
            (address(b"\x02_x"), address(b"\x04i000"), address(b"\x02_y")),
            (vec![2], vec![0], vec![])
        );
        assert!(leaf.has_names_below(b"\x01c") && leaf.has_names_at_or_below(b"\x02_x"));
        assert_eq!(leaf.all_named().count(), 4);
        let targets: Vec<_> = leaf.all(LeafType::Srv).map(HostRef::labels).collect();
        assert_eq!(targets, [&b"\x04i000"[..], b"\x0ca-b-00000000"]);
        // It is no reason to leave the shortest way to an answer.
        assert!(leaf.fast_set(LeafType::A).is_some());
    }

    #[test]
    fn equal_addresses_are_one_record() {
        let mut sources = hosts(2);
        sources[1].ipv4 = sources[0].ipv4;
        let leaf = leaf(Selection::Multivalue, sources);
        assert_eq!(drawn(&leaf, &mut fastrand::Rng::with_seed(4)).len(), 1);
        assert_eq!(leaf.all(LeafType::Srv).count(), 2);
    }

    #[test]
    fn an_alias_is_answered_alone_as_a_canonical_name() {
        let target: Name = "lb.example.".parse().unwrap();
        let alias = HostSource { target: Some(target.clone()), served: true, ..HostSource::default() };
        let leaf = Leaf::new(LeafSource {
            records: vec![(LeafType::A, 5)],
            selection: Selection::One,
            hosts: vec![alias],
        });
        assert!(leaf.answers(LeafType::A) && !leaf.answers(LeafType::Srv));
        let mut random = fastrand::Rng::with_seed(5);
        let drawn = leaf.draw(LeafType::A, &mut random);
        assert_eq!((drawn.rtype, drawn.ttl), (LeafType::Cname, ALIAS_TTL));
        assert_eq!(drawn.hosts().next().and_then(HostRef::target), Some(&target));
    }
}
