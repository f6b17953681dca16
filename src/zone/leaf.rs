//! A leaf: the compiled, health-filtered answer data of one service.
//!
//! A leaf is immutable and replaced as a whole. Health was applied when it was built, so a query does not examine it. The
//! instances of an answer and their order are drawn for each query.
//!
//! All data that a query reads is in one block of memory, in the order in which it is read: with a million instances each
//! further block costs a cache miss, which takes longer than all instructions of an answer.
//!
//! | part | bytes each | content |
//! | --- | --- | --- |
//! | sets | 8 | type, number of the list of members (0: all hosts are members), TTL |
//! | lists | 8 | number of members, offset of their indexes |
//! | hosts | 4 mostly | the fields in which hosts differ, see below |
//! | members | 4 | indexes of the hosts that have a record, for each set that does not include all hosts |
//! | labels | | labels of the hosts' names, each with its length byte |
//!
//! Most hosts of a service have an equal port, names of equal length, and one address each. Fields that are equal for all
//! hosts are stored once. Each host has bytes only for the fields that differ, in this order: IPv4 address (4), offset and
//! length of its labels (4 and 1), port (2), flags (1), IPv6 address (16). Ports and addresses are in network byte order,
//! other numbers little-endian.

mod draw;
mod draw_policy;
mod host;
mod record;
mod source;

use std::cmp::Ordering;

use super::Name;

pub use draw::{Drawn, MULTIVALUE_RECORDS_MAX};
pub use draw_policy::ANSWER_RECORDS_MAX;
pub use host::{HostRef, UniformHosts};
pub use record::{Data, DataWriter, Host, LeafType, SOA_NUMBERS_OCTETS};
pub use source::{HostSource, LeafSource};

const HEAD_OCTETS: usize = 8;
const IPV4_OCTETS: usize = 4;

const CACHE_LINE_BYTES: usize = 64;
/// Lengths in bytes of the start of a leaf's data that usually contains the addresses of eight instances, and their names.
const ADDRESSES_BYTES: usize = 96;
const NAMES_BYTES: usize = 448;

/// The answers of one service. `data` is the block of memory that the module's document describes. Its hosts are sorted by
/// their labels in lower case, so that those without a name come first.
#[derive(Clone, Debug)]
pub struct Leaf {
    data: Box<[u8]>,
    extra: Option<Box<Extra>>,
    tally: Tally,
    set_count: u8,
    head_count: u8,
    hosts: host::Layout,
    traits: Traits,
}

/// Properties of a leaf as bits, which queries test instead of computing them. `IS_LOWER`: no label has an upper-case
/// letter, so that names can be compared byte by byte. `DRAWS_IPV4S`: the IPv4 addresses are adjacent, because hosts differ
/// in no other field, and the selection is [`Selection::Multivalue`]. `HAS_CANONICAL_NAMES`: at least one host is an alias
/// or has a canonical name. `HAS_DRAW_POLICY`: the extra data has a draw policy. `ANSWERS_UNHEALTHY`: an UNHEALTHY host can be
/// in an answer.
#[derive(Clone, Copy, Debug, Default)]
struct Traits(u8);

impl Traits {
    const DRAWS_ONE: u8 = 1;
    const HAS_DOTTED_NAMES: u8 = 2;
    const IS_LOWER: u8 = 4;
    const DRAWS_IPV4S: u8 = 8;
    const HAS_CANONICAL_NAMES: u8 = 16;
    const HAS_DRAW_POLICY: u8 = 32;
    const ANSWERS_UNHEALTHY: u8 = 64;

    #[inline]
    fn has(self, bits: u8) -> bool {
        self.0 & bits != 0
    }
}

/// Data that few services have, in a separate allocation: canonical names and aliases, sorted by the index of their host;
/// the indexes of the hosts that are aliases and answer queries for A and AAAA; and the sorted names, in lower case, of
/// hosts that are no targets of SRV records; the draw policy; the sorted indexes of the hosts that are UNHEALTHY; and the limit on
/// the TTLs.
#[derive(Clone, Debug, Default)]
struct Extra {
    targets: Box<[(u32, Name)]>,
    aliases: Box<[u32]>,
    own_names: Box<[(Box<[u8]>, u32)]>,
    draw_policy: Option<draw_policy::DrawPolicy>,
    unhealthy: Box<[u32]>,
    settling: Option<SettlingTtl>,
}

/// Limit on the TTLs of answers, in seconds, and the configured TTLs of the types that the limit replaces.
#[derive(Clone, Debug)]
struct SettlingTtl {
    ttl_max: u32,
    configured: Box<[(LeafType, u32)]>,
}

/// Limit in seconds on the TTL of the addresses at the own name of an UNHEALTHY instance. Clients hold such names as targets
/// of SRV records, so they keep resolving, but nobody should hold the addresses for long.
pub const UNHEALTHY_TTL_MAX: u32 = 5;

/// Number of instances that one answer contains, which Cloud Map's routing policy determines: up to eight in random order,
/// or one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(missing_docs, reason = "the type's document explains the variants")]
pub enum Selection {
    Multivalue,
    One,
}

/// Number of all instances, and number of those that health permits in answers.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[expect(missing_docs, reason = "the type's document explains the fields")]
pub struct Tally {
    pub instances: u32,
    pub served: u32,
}

/// Indexes of the hosts of one answer; elements behind the number of hosts are unused.
pub type FewIndexes = [u32; MULTIVALUE_RECORDS_MAX];
/// IPv4 addresses of one answer in network byte order; elements behind the number of addresses are unused.
pub type FewAddresses = [[u8; 4]; MULTIVALUE_RECORDS_MAX];

/// Reference to the records of one type in a leaf, with their TTL in seconds. It is valid for that leaf only. `members_at`
/// is the offset of the members' indexes, or 0 if all hosts are members.
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "the type's document explains the fields")]
pub struct SetRef {
    pub rtype: LeafType,
    pub ttl: u32,
    count: u32,
    members_at: u32,
}

/// Types whose TTL is that of the address records at an instance's own name; the first one of the service counts.
const INSTANCE_TTL_TYPES: [LeafType; 3] = [LeafType::Srv, LeafType::A, LeafType::Aaaa];

/// TTL of an alias in seconds. Cloud Map does not apply the service's TTL to aliases, and AWS's load balancers use 60.
pub const ALIAS_TTL: u32 = 60;

impl Leaf {
    /// Number of all instances, and number of those that health permits in answers.
    pub fn tally(&self) -> Tally {
        self.tally
    }

    /// True if there are instances, and health permits none of them in answers.
    #[inline]
    pub fn withholds_all(&self) -> bool {
        self.tally.served == 0 && self.tally.instances > 0
    }

    /// Reads a byte of each cache line that an answer for this type needs, or of the first ones if there are many instances.
    /// The result has no meaning; it keeps the compiler from removing the reads.
    pub(super) fn touch(&self, rtype: LeafType) -> u8 {
        let wanted = if rtype.has_targets() { NAMES_BYTES } else { ADDRESSES_BYTES };
        let wanted = &self.data[..wanted.min(self.data.len())];
        let last = wanted.last().copied().unwrap_or_default();
        wanted.iter().step_by(CACHE_LINE_BYTES).fold(last, |read, byte| read ^ byte)
    }

    /// Number of instances that one answer contains.
    pub fn selection(&self) -> Selection {
        if self.traits.has(Traits::DRAWS_ONE) { Selection::One } else { Selection::Multivalue }
    }

    /// TTL in seconds of the address records at an instance's own name in answers: that of the service's SRV, A or AAAA
    /// records.
    pub fn instance_ttl(&self) -> u32 {
        INSTANCE_TTL_TYPES.into_iter().find_map(|rtype| self.ttl(rtype)).unwrap_or(0)
    }

    /// Configured TTL in seconds of the address records at an instance's own name.
    pub fn configured_instance_ttl(&self) -> u32 {
        INSTANCE_TTL_TYPES.into_iter().find_map(|rtype| self.configured_ttl(rtype)).unwrap_or(0)
    }

    /// TTL in seconds with which a host's addresses are answered beside a record that points to it.
    pub fn answered_ttl(&self, host: HostRef<'_>) -> u32 {
        let is_limited = self.unhealthy().is_some_and(|all| host.is_among(all));
        if is_limited { self.instance_ttl().min(UNHEALTHY_TTL_MAX) } else { self.instance_ttl() }
    }

    /// True if an instance of this name, which is given as for [`Leaf::named`], is UNHEALTHY.
    pub fn is_unhealthy(&self, labels: &[u8]) -> bool {
        self.unhealthy().is_some_and(|all| self.named(labels).any(|host| host.is_among(all)))
    }

    fn unhealthy(&self) -> Option<&[u32]> {
        self.extra.as_ref().map(|extra| &*extra.unhealthy).filter(|all| !all.is_empty())
    }

    /// True if the service has CNAME records.
    pub fn is_cname(&self) -> bool {
        self.set(LeafType::Cname).is_some()
    }

    /// Records that answer a query for this type, which may be an alias instead of records of the type. `None` if there is
    /// no answer.
    #[inline]
    pub fn set_of(&self, rtype: LeafType) -> Option<SetRef> {
        self.set(rtype).filter(|set| set.count > 0 || !self.aliases_of(rtype).is_empty())
    }

    /// Cheaper version of [`Leaf::set_of`] for leaves without aliases, canonical names, a draw policy and UNHEALTHY hosts in
    /// answers, and `None` for all others. The inner `None` means that there is no answer.
    #[inline(always)]
    pub fn fast_set(&self, rtype: LeafType) -> Option<Option<SetRef>> {
        if self.traits.has(Traits::HAS_CANONICAL_NAMES | Traits::HAS_DRAW_POLICY | Traits::ANSWERS_UNHEALTHY)
        {
            return None;
        }
        let sets = self.data.get(..self.set_count as usize * HEAD_OCTETS)?;
        match self.find_set(sets, rtype) {
            Some(set) if set.count > 0 => Some(Some(set)),
            _ => Some(None),
        }
    }

    /// True if a query for this type has an answer: records of the type, or an alias instead of them.
    #[inline]
    pub fn answers(&self, rtype: LeafType) -> bool {
        self.set_of(rtype).is_some()
    }

    /// Types whose queries have an answer, in the order of the service's record types.
    pub fn types(&self) -> impl Iterator<Item = LeafType> + '_ {
        let sets = self.octets_of_sets().as_chunks::<HEAD_OCTETS>().0.iter();
        let types = sets.filter_map(|set| {
            let number = u16::from_le_bytes([set[0], set[1]]);
            LeafType::ALL.into_iter().find(|rtype| *rtype as u16 == number)
        });
        types.filter(|rtype| self.answers(*rtype))
    }

    /// Draws the answer to a query for this type. All instances are equally likely unless the service has a draw policy, and
    /// their order is random.
    #[inline]
    pub fn draw(&self, rtype: LeafType, random: &mut fastrand::Rng) -> Drawn<'_> {
        let none = SetRef { rtype, ttl: 0, count: 0, members_at: 0 };
        let set = self.set(rtype).unwrap_or(none);
        if self.traits.has(Traits::DRAWS_ONE | Traits::HAS_DRAW_POLICY) || set.count == 0 {
            return match self.draw_policy() {
                Some(policy) => self.draw_by_policy(policy, set, random),
                None => self.draw_one(set, &[], random),
            };
        }
        let mut drawn = self.not_drawn(set);
        drawn.len = draw::draw(set.count, random, &mut drawn.indexes);
        drawn
    }

    /// Draws hosts of a set from [`Leaf::fast_set`], and returns their indexes and their number.
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

    /// Draws A records of a set from [`Leaf::fast_set`], and returns their addresses and their number.
    #[inline(always)]
    pub fn draw_ipv4s(&self, set: SetRef, random: &mut fastrand::Rng) -> (FewAddresses, usize) {
        // Adjacent addresses are shuffled themselves, without their indexes.
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

    /// Draws one record or one alias, which is answered as a CNAME and cannot be combined with other records. `sums` are
    /// the running sums of their weights, or empty if all are equal.
    fn draw_one(&self, set: SetRef, sums: &[u64], random: &mut fastrand::Rng) -> Drawn<'_> {
        let mut drawn = self.not_drawn(set);
        let aliases = self.aliases_of(set.rtype);
        let population = set.count as usize + aliases.len();
        if population == 0 {
            return drawn;
        }
        let at = match sums {
            [] => random.u32(..population as u32) as usize,
            sums => draw_policy::weighted(sums, random).min(population - 1),
        };
        drawn.len = 1;
        match at.checked_sub(set.count as usize) {
            None => drawn.indexes[0] = at as u32,
            Some(alias) => {
                drawn.rtype = LeafType::Cname;
                drawn.ttl = self.alias_ttl();
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

    /// All hosts that have a record of a type, in the leaf's order.
    pub fn all(&self, rtype: LeafType) -> impl Iterator<Item = HostRef<'_>> {
        let set = self.set(rtype);
        let of_set = move |set: SetRef| (0..set.count).map(move |at| self.host(self.member(set, at)));
        set.into_iter().flat_map(of_set)
    }

    /// The instances that are aliases. They answer queries for A and AAAA, if the service has those types, with a CNAME
    /// record whose TTL is [`ALIAS_TTL`].
    pub fn aliases(&self, rtype: LeafType) -> impl Iterator<Item = HostRef<'_>> {
        self.aliases_of(rtype).iter().map(|at| self.host(*at))
    }

    /// Configured TTL of a type's records in seconds; `None` if the service has no record of the type.
    pub fn configured_ttl(&self, rtype: LeafType) -> Option<u32> {
        match self.settling() {
            Some(settling) => {
                settling.configured.iter().find(|(other, _)| *other == rtype).map(|(_, ttl)| *ttl)
            }
            None => self.ttl(rtype),
        }
    }

    /// TTL of an alias in answers, in seconds.
    pub fn alias_ttl(&self) -> u32 {
        self.settling().map_or(ALIAS_TTL, |settling| settling.ttl_max.min(ALIAS_TTL))
    }

    fn settling(&self) -> Option<&SettlingTtl> {
        self.extra.as_ref()?.settling.as_ref()
    }

    /// TTL of a type's records in answers, in seconds; `None` if the service has no record of the type.
    pub fn ttl(&self, rtype: LeafType) -> Option<u32> {
        self.set(rtype).map(|set| set.ttl)
    }

    /// The instances that have this name below the service's, which is given as labels in lower case, each with its length
    /// byte. A leaf can have several, although the names of Cloud Map's instances are distinct.
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

    /// The names of all instances that have one, as labels in any case: first the sorted targets of SRV records, then the
    /// sorted names of instances whose ids are no host names.
    pub fn all_named(&self) -> impl Iterator<Item = (&[u8], HostRef<'_>)> {
        let hosts = (0..self.tally.instances).map(|at| self.host(at));
        let targets = hosts.map(|host| (host.labels(), host)).filter(|(labels, _)| !labels.is_empty());
        targets.chain(self.own_names().iter().map(|(labels, at)| (&**labels, self.host(*at))))
    }

    fn own_names(&self) -> &[(Box<[u8]>, u32)] {
        self.extra.as_ref().map_or(&[], |extra| &extra.own_names)
    }

    /// True if an instance with an address has this name, or a name below it.
    pub fn has_names_at_or_below(&self, labels: &[u8]) -> bool {
        self.named(labels).any(HostRef::has_address) || self.has_names_below(labels)
    }

    /// True if an instance with a dotted id has a name below this one, which makes this an empty non-terminal (RFC 8020).
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

    /// Number of indexes in a list, and their offset. Lists are numbered from 1.
    #[inline(never)]
    fn list(&self, number: usize) -> (u32, u32) {
        let at = (self.set_count as usize + number - 1) * HEAD_OCTETS;
        let numbers: &[u8; HEAD_OCTETS] = octets(&self.data, at);
        let [count, at] = [0, 4].map(|at| u32::from_le_bytes(*octets(numbers, at)));
        (count, at)
    }

    #[inline]
    fn member(&self, set: SetRef, at: u32) -> u32 {
        match set.members_at as usize {
            0 => at,
            members_at => u32::from_le_bytes(*octets(&self.data, members_at + 4 * at as usize)),
        }
    }

    /// The host with an index that [`Leaf::draw_hosts`] returned.
    #[inline(always)]
    pub fn host(&self, at: u32) -> HostRef<'_> {
        HostRef::new(self, at)
    }

    /// The hosts of a leaf in which, as in most, all hosts have only an IPv4 address, an equal port, and names of equal
    /// length; `None` for other leaves.
    #[inline(always)]
    pub fn uniform_hosts(&self) -> Option<UniformHosts<'_>> {
        self.hosts.uniform(&self.data, self.hosts_at())
    }

    #[inline(always)]
    fn hosts_at(&self) -> usize {
        self.head_count as usize * HEAD_OCTETS
    }

    fn aliases_of(&self, rtype: LeafType) -> &[u32] {
        match &self.extra {
            Some(extra) if rtype.is_address() => match &extra.draw_policy {
                Some(policy) => policy.of_set(rtype).map_or(&[], |set| &set.aliases),
                None => &extra.aliases,
            },
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
        Leaf::new(LeafSource {
            records: vec![(LeafType::A, 60), (LeafType::Srv, 30)],
            ttl_max: None,
            selection,
            records_max: 8,
            hosts,
        })
    }

    fn drawn(leaf: &Leaf, random: &mut fastrand::Rng) -> Vec<u32> {
        leaf.draw(LeafType::A, random)
            .hosts()
            .filter_map(|host| host.ipv4())
            .map(u32::from_be_bytes)
            .collect()
    }

    #[test]
    fn leaf_has_no_padding() {
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
    fn a_limit_on_ttls_is_for_answers_alone() {
        let target: Name = "lb.example.".parse().unwrap();
        let alias = HostSource { target: Some(target), served: true, ..HostSource::default() };
        for (ttl_max, expected) in [(None, [60, 30, 30, 60]), (Some(40), [40, 30, 30, 40]), (Some(0), [0; 4])]
        {
            let leaf = Leaf::new(LeafSource {
                records: vec![(LeafType::A, 60), (LeafType::Srv, 30)],
                ttl_max,
                selection: Selection::Multivalue,
                records_max: 8,
                hosts: vec![alias.clone()],
            });
            let answered = [leaf.ttl(LeafType::A).unwrap(), leaf.ttl(LeafType::Srv).unwrap()];
            assert_eq!([answered[0], answered[1], leaf.instance_ttl(), leaf.alias_ttl()], expected);
            assert_eq!(leaf.draw(LeafType::A, &mut fastrand::Rng::new()).ttl, expected[3]);
            let configured = [leaf.configured_ttl(LeafType::A), leaf.configured_ttl(LeafType::Srv)];
            assert_eq!((configured, leaf.configured_instance_ttl()), ([Some(60), Some(30)], 30));
            assert_eq!(leaf.configured_ttl(LeafType::Cname), None);
        }
    }

    #[test]
    fn alias_is_answered_as_a_single_cname() {
        let target: Name = "lb.example.".parse().unwrap();
        let alias = HostSource { target: Some(target.clone()), served: true, ..HostSource::default() };
        let leaf = Leaf::new(LeafSource {
            records: vec![(LeafType::A, 5)],
            ttl_max: None,
            selection: Selection::One,
            records_max: 8,
            hosts: vec![alias],
        });
        assert!(leaf.answers(LeafType::A) && !leaf.answers(LeafType::Srv));
        let mut random = fastrand::Rng::with_seed(5);
        let drawn = leaf.draw(LeafType::A, &mut random);
        assert_eq!((drawn.rtype, drawn.ttl), (LeafType::Cname, ALIAS_TTL));
        assert_eq!(drawn.hosts().next().and_then(HostRef::target), Some(&target));
    }

    /// Shares of the draws in which each host of a leaf is, in per cent.
    fn shares(leaf: &Leaf, hosts: u32) -> Vec<u32> {
        let mut random = fastrand::Rng::with_seed(6);
        let mut counts = vec![0; hosts as usize];
        for _ in 0..10_000 {
            drawn(leaf, &mut random).iter().for_each(|address| counts[(address & 0xff) as usize] += 1);
        }
        counts.iter().map(|count| (count + 50) / 100).collect()
    }

    fn leaf_of(selection: Selection, records_max: u8, ranks: &[u8], weights: &[u8]) -> Leaf {
        let mut hosts = hosts(ranks.len() as u32);
        for ((host, rank), weight) in hosts.iter_mut().zip(ranks).zip(weights) {
            (host.rank, host.weight) = (*rank, *weight);
        }
        let records = vec![(LeafType::A, 60), (LeafType::Srv, 30)];
        Leaf::new(LeafSource { records, ttl_max: None, selection, records_max, hosts })
    }

    #[test]
    fn answers_have_as_many_records_as_the_limit_allows() {
        for records_max in [1, 3, 8, 20, 64] {
            let leaf = leaf_of(Selection::Multivalue, records_max, &[0; 100], &[1; 100]);
            let mut drawn = drawn(&leaf, &mut fastrand::Rng::with_seed(7));
            drawn.sort_unstable();
            drawn.dedup();
            assert_eq!(drawn.len(), usize::from(records_max));
        }
    }

    #[test]
    fn hosts_of_a_higher_rank_fill_what_is_left_of_an_answer() {
        let ranks = [2, 0, 1, 1, 1, 0, 2];
        let leaf = |records_max| leaf_of(Selection::Multivalue, records_max, &ranks, &[1; 7]);
        assert_eq!(shares(&leaf(2), 7), [0, 100, 0, 0, 0, 100, 0]);
        let four = shares(&leaf(4), 7);
        assert_eq!([four[0], four[1], four[5], four[6]], [0, 100, 100, 0]);
        assert!(four[2..5].iter().all(|share| share.abs_diff(67) < 3), "{four:?}");
        assert_eq!(shares(&leaf(8), 7), [100; 7]);
        let one = shares(&leaf_of(Selection::One, 8, &ranks, &[1; 7]), 7);
        assert_eq!(one[1] + one[5], 100, "{one:?}");
        assert!(one[1].abs_diff(50) < 3, "{one:?}");
    }

    #[test]
    fn weights_decide_which_host_is_drawn_and_are_in_srv_records() {
        let leaf = leaf_of(Selection::One, 8, &[0; 3], &[1, 2, 7]);
        let drawn = shares(&leaf, 3);
        assert!(
            drawn.iter().zip([10, 20, 70]).all(|(share, wanted)| share.abs_diff(wanted) < 3),
            "{drawn:?}"
        );
        let weights: Vec<_> = leaf.all(LeafType::Srv).map(Host::weight).collect();
        assert_eq!(weights, [1, 2, 7]);
        let leaf = leaf_of(Selection::Multivalue, 8, &[0; 3], &[1, 2, 7]);
        assert_eq!(shares(&leaf, 3), [100; 3]);
        assert!(leaf.fast_set(LeafType::Srv).is_none());
    }

    #[test]
    fn alias_is_drawn_by_its_weight_and_rank() {
        let target: Name = "lb.example.".parse().unwrap();
        let mut sources = hosts(2);
        sources[1] = HostSource { target: Some(target), weight: 3, ..sources[1].clone() };
        sources[1].ipv4 = None;
        let draw = |sources: &[HostSource]| {
            let records = vec![(LeafType::A, 60)];
            let source = LeafSource {
                records,
                ttl_max: None,
                selection: Selection::One,
                records_max: 8,
                hosts: sources.to_vec(),
            };
            let leaf = Leaf::new(source);
            let mut random = fastrand::Rng::with_seed(8);
            let draws = (0..1_000).map(|_| leaf.draw(LeafType::A, &mut random).rtype);
            draws.filter(|rtype| *rtype == LeafType::Cname).count()
        };
        assert!(draw(&sources).abs_diff(750) < 50);
        sources[1].rank = 1;
        assert_eq!(draw(&sources), 0);
        sources[0].served = false;
        assert_eq!(draw(&sources), 1_000);
    }
}
