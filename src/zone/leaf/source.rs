//! Construction of a leaf: the input, and the selection of the hosts that have a record of each type.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::{
    Data, Extra, HEAD_OCTETS, Host, Leaf, LeafType, MULTIVALUE_RECORDS_MAX, Selection, SettlingTtl, Tally,
    Traits,
    draw_policy::{DrawPolicy, SetDraw},
    host::{Layout, Parts, flag},
    lower,
};
use crate::zone::Name;

/// Record types and instances of a service, from which [`Leaf::new`] builds a leaf.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the type's document explains the other fields")]
pub struct LeafSource {
    /// Types of the service's records, each once, with their TTLs in seconds.
    pub records: Vec<(LeafType, u32)>,
    /// Largest TTL in answers; zone transfers have those of the records.
    pub ttl_max: Option<u32>,
    pub selection: Selection,
    /// Limit on the records of a multivalue answer, from 1 to [`ANSWER_RECORDS_MAX`](super::ANSWER_RECORDS_MAX).
    pub records_max: u8,
    pub hosts: Vec<HostSource>,
}

/// Attributes of one instance, from which its records are made.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the other fields are named after the attributes")]
pub struct HostSource {
    /// Labels of the name that SRV records point to, below the service's name, each with its length byte. Empty for an
    /// instance without such a name.
    pub labels: Vec<u8>,
    /// Labels of the instance's own name if SRV records do not point to it, else empty.
    pub own_labels: Vec<u8>,
    pub ipv4: Option<Ipv4Addr>,
    pub ipv6: Option<Ipv6Addr>,
    pub port: Option<u16>,
    /// Canonical name of the instance, or its alias in a service without CNAME records.
    pub target: Option<Name>,
    /// True if health permits the instance in answers to queries for the service.
    pub served: bool,
    /// True if the instance is UNHEALTHY, which limits the TTL of its own name.
    pub is_unhealthy: bool,
    /// Rank among the service's hosts: an answer has one of a rank only after all hosts of lower ranks.
    pub rank: u8,
    /// Weight in answers with one instance, and of the SRV record.
    pub weight: u8,
}

impl Default for HostSource {
    fn default() -> HostSource {
        HostSource {
            labels: Vec::new(),
            own_labels: Vec::new(),
            ipv4: None,
            ipv6: None,
            port: None,
            target: None,
            served: false,
            is_unhealthy: false,
            rank: 0,
            weight: 1,
        }
    }
}

impl Leaf {
    /// Builds the leaf of a service in the format that the module's document describes.
    pub fn new(source: LeafSource) -> Leaf {
        let LeafSource { records, ttl_max, selection, records_max, hosts: mut sources } = source;
        // Instances are passed in the order of their ids, so that they are nearly always sorted already.
        sources.sort_by(|one, other| lower(&one.labels).cmp(lower(&other.labels)));
        let limit = (selection != Selection::One).then_some(usize::from(records_max));
        let has_cname = records.iter().any(|(rtype, _)| *rtype == LeafType::Cname);
        let aliases = if has_cname { Vec::new() } else { aliases(&sources) };
        let (members, draws): (Vec<_>, Vec<_>) =
            records.iter().map(|(rtype, _)| members(*rtype, &sources, &aliases, limit)).unzip();
        let labels_len: usize = sources.iter().map(|host| host.labels.len()).sum();
        let members_len: usize = members.iter().flatten().map(|indexes| indexes.len() * 4).sum();
        let mut layout = Layout::new(sources.iter().map(parts));
        let list_count = members.iter().flatten().count();
        let hosts_at = (records.len() + list_count) * HEAD_OCTETS;
        let members_at = hosts_at + sources.len() * layout.stride();
        let labels_at = members_at + members_len;
        layout.set_labels_at(labels_at);
        let mut data = Vec::with_capacity(labels_at + labels_len);

        let mut list = 0u16;
        for ((rtype, ttl), indexes) in records.iter().zip(&members) {
            list += u16::from(indexes.is_some());
            data.extend_from_slice(&(*rtype as u16).to_le_bytes());
            data.extend_from_slice(&indexes.as_ref().map_or(0, |_| list).to_le_bytes());
            data.extend_from_slice(&ttl_max.map_or(*ttl, |most| most.min(*ttl)).to_le_bytes());
        }
        let mut indexes_at = members_at as u32;
        for indexes in members.iter().flatten() {
            data.extend_from_slice(&(indexes.len() as u32).to_le_bytes());
            data.extend_from_slice(&indexes_at.to_le_bytes());
            indexes_at += 4 * indexes.len() as u32;
        }
        let mut label_at = labels_at;
        for host in &sources {
            layout.write(&parts(host), label_at, &mut data);
            label_at += host.labels.len();
        }
        for index in members.iter().flatten().flatten() {
            data.extend_from_slice(&index.to_le_bytes());
        }
        sources.iter().for_each(|host| data.extend_from_slice(&host.labels));

        let tally = Tally {
            instances: sources.len() as u32,
            served: sources.iter().filter(|host| host.served).count() as u32,
        };
        let count = |members: &Option<Vec<u32>>| members.as_ref().map_or(sources.len(), Vec::len);
        let counts = members.iter().map(count);
        let draw_policy = draw_policy(draws, counts, limit, aliases.len(), &sources);
        let bit = |is_set, bit| if is_set { bit } else { 0 };
        let has_dotted = |host: &HostSource| is_dotted(&host.labels) || is_dotted(&host.own_labels);
        let traits = bit(selection == Selection::One, Traits::DRAWS_ONE)
            | bit(sources.iter().any(has_dotted), Traits::HAS_DOTTED_NAMES)
            | bit(sources.iter().any(|host| host.target.is_some()), Traits::HAS_CANONICAL_NAMES)
            | bit(!data[labels_at..].iter().any(u8::is_ascii_uppercase), Traits::IS_LOWER)
            | bit(selection != Selection::One && layout.is_ipv4_alone(), Traits::DRAWS_IPV4S)
            | bit(draw_policy.is_some(), Traits::HAS_DRAW_POLICY)
            | bit(served(&sources).any(|(_, host)| host.is_unhealthy), Traits::ANSWERS_UNHEALTHY);
        Leaf {
            data: data.into(),
            extra: extra(&sources, aliases, draw_policy, ttl_max.map(|most| (most, &*records))),
            set_count: records.len() as u8,
            head_count: (records.len() + list_count) as u8,
            hosts: layout,
            traits: Traits(traits),
            tally,
        }
    }
}

fn parts(host: &HostSource) -> Parts<'_> {
    Parts {
        labels: &host.labels,
        ipv4: host.ipv4.map(|address| address.octets()),
        ipv6: host.ipv6.map(|address| address.octets()),
        port: host.port.unwrap_or(0),
        flags: flags(host),
    }
}

fn flags(host: &HostSource) -> u8 {
    let flag = |is_set, flag| if is_set { flag } else { 0 };
    flag(host.port.is_some(), flag::PORT)
        | flag(host.ipv4.is_some(), flag::IPV4)
        | flag(host.ipv6.is_some(), flag::IPV6)
        | flag(host.target.is_some(), flag::TARGET)
}

/// Indexes of the hosts whose records can be in an answer to a query for this type, or `None` if those are all hosts, and
/// the draw among them. `limit` is that on the records of an answer, or `None` if one is drawn. Of duplicate records only the first counts (RFC 2181 §5); the case of names is ignored.
fn members(
    rtype: LeafType,
    sources: &[HostSource],
    aliases: &[u32],
    limit: Option<usize>,
) -> (Option<Vec<u32>>, SetDraw) {
    let rank = |at: u32| sources[at as usize].rank;
    let mut records: Vec<(Data<'_>, u32)> =
        served(sources).filter_map(|(at, host)| Some((host.data(rtype)?, at))).collect();
    records.sort_unstable_by(|(one, at), (other, other_at)| {
        one.compare(other).then_with(|| (rank(*at), at).cmp(&(rank(*other_at), other_at)))
    });
    records.dedup_by(|(later, _), (earlier, _)| later.compare(earlier).is_eq());
    let mut indexes: Vec<u32> = records.into_iter().map(|(_, at)| at).collect();
    indexes.sort_unstable_by_key(|at| (rank(*at), *at));
    let aliases = if rtype.is_address() { aliases } else { &[] };
    let mut draw = SetDraw { rtype, certain: 0, aliases: aliases.into(), sums: Box::default() };
    match limit {
        Some(limit) if !indexes.is_empty() => {
            let mut end = 0;
            for ranked in indexes.chunk_by(|one, other| rank(*one) == rank(*other)) {
                if end < limit {
                    draw.certain = end as u32;
                    end += ranked.len();
                }
            }
            indexes.truncate(end);
        }
        _ => draw_one(&mut indexes, &mut draw, sources),
    }
    let is_all = indexes.len() == sources.len() && draw.certain == 0;
    (Some(indexes).filter(|_| !is_all), draw)
}

/// Limits a draw of one record or alias to those of the lowest rank, and determines the running sums of their weights.
fn draw_one(indexes: &mut Vec<u32>, draw: &mut SetDraw, sources: &[HostSource]) {
    let host = |at: &u32| &sources[*at as usize];
    let lowest = indexes.iter().chain(&draw.aliases).map(|at| host(at).rank).min();
    indexes.retain(|at| Some(host(at).rank) == lowest);
    draw.aliases = draw.aliases.iter().copied().filter(|at| Some(host(at).rank) == lowest).collect();
    let weights = || indexes.iter().chain(&draw.aliases).map(|at| host(at).weight);
    if weights().any(|weight| Some(weight) != weights().next()) {
        let mut sum = 0;
        draw.sums = weights()
            .map(|weight| {
                sum += u64::from(weight);
                sum
            })
            .collect();
    }
}

/// The draw policy, which only a leaf has that is not drawn as on Cloud Map. `counts` are those of the sets' members.
fn draw_policy(
    draws: Vec<SetDraw>,
    mut counts: impl Iterator<Item = usize>,
    limit: Option<usize>,
    alias_count: usize,
    sources: &[HostSource],
) -> Option<DrawPolicy> {
    let has_weights = served(sources).any(|(_, host)| host.weight != 1);
    let differs = |draw: &SetDraw| {
        draw.certain > 0
            || !draw.sums.is_empty()
            || (draw.rtype.is_address() && draw.aliases.len() != alias_count)
            || (draw.rtype.has_targets() && has_weights)
    };
    let limit = limit.unwrap_or(MULTIVALUE_RECORDS_MAX);
    let is_limited =
        limit != MULTIVALUE_RECORDS_MAX && counts.any(|count| count > limit.min(MULTIVALUE_RECORDS_MAX));
    (is_limited || draws.iter().any(differs)).then(|| DrawPolicy {
        records_max: limit as u8,
        weights: if has_weights { sources.iter().map(|host| host.weight).collect() } else { Box::default() },
        sets: draws.into(),
    })
}

/// Served hosts with their indexes.
fn served(sources: &[HostSource]) -> impl Iterator<Item = (u32, &HostSource)> {
    (0..).zip(sources).filter(|(_, host)| host.served)
}

fn aliases(sources: &[HostSource]) -> Vec<u32> {
    let aliases = served(sources).filter(|(_, host)| host.target.is_some() && !host.has_address());
    aliases.map(|(at, _)| at).collect()
}

impl<'a> Host<'a> for &'a HostSource {
    fn labels(self) -> &'a [u8] {
        &self.labels
    }

    fn ipv4(self) -> Option<[u8; 4]> {
        self.ipv4.map(|address| address.octets())
    }

    fn ipv6(self) -> Option<[u8; 16]> {
        self.ipv6.map(|address| address.octets())
    }

    fn port(self) -> Option<u16> {
        self.port
    }

    fn weight(self) -> u8 {
        self.weight
    }

    fn target(self) -> Option<&'a Name> {
        self.target.as_ref()
    }
}

fn extra(
    sources: &[HostSource],
    aliases: Vec<u32>,
    draw_policy: Option<DrawPolicy>,
    settling: Option<(u32, &[(LeafType, u32)])>,
) -> Option<Box<Extra>> {
    let with_index = || sources.iter().enumerate().map(|(at, host)| (at as u32, host));
    let targets: Box<[_]> = with_index().filter_map(|(at, host)| Some((at, host.target.clone()?))).collect();
    let own_names = with_index().filter(|(_, host)| !host.own_labels.is_empty());
    let mut own_names: Box<[_]> =
        own_names.map(|(at, host)| (host.own_labels.to_ascii_lowercase().into(), at)).collect();
    own_names.sort_unstable();
    let unhealthy: Box<[_]> = with_index().filter(|(_, host)| host.is_unhealthy).map(|(at, _)| at).collect();
    let settling = settling.map(|(ttl_max, records)| SettlingTtl { ttl_max, configured: records.into() });
    if targets.is_empty()
        && own_names.is_empty()
        && draw_policy.is_none()
        && unhealthy.is_empty()
        && settling.is_none()
    {
        return None;
    }
    Some(Box::new(Extra { targets, aliases: aliases.into(), own_names, draw_policy, unhealthy, settling }))
}

fn is_dotted(labels: &[u8]) -> bool {
    labels.first().is_some_and(|len| 1 + *len as usize != labels.len())
}
