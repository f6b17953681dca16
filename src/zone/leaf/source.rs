//! Construction of a leaf: the input, and the selection of the hosts that have a record of each type.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::{
    Data, Extra, HEAD_OCTETS, Host, Leaf, LeafType, Selection, Tally, Traits,
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
    pub selection: Selection,
    pub hosts: Vec<HostSource>,
}

/// Attributes of one instance, from which its records are made.
#[derive(Clone, Debug, Default)]
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
}

impl Leaf {
    /// Builds the leaf of a service in the format that the module's document describes.
    pub fn new(source: LeafSource) -> Leaf {
        let LeafSource { records, selection, hosts: mut sources } = source;
        // Instances are passed in the order of their ids, so that they are nearly always sorted already.
        sources.sort_by(|one, other| lower(&one.labels).cmp(lower(&other.labels)));
        let members: Vec<_> = records.iter().map(|(rtype, _)| members(*rtype, &sources)).collect();
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
            data.extend_from_slice(&ttl.to_le_bytes());
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
        let bit = |is_set, bit| if is_set { bit } else { 0 };
        let has_dotted = |host: &HostSource| is_dotted(&host.labels) || is_dotted(&host.own_labels);
        let traits = bit(selection == Selection::One, Traits::DRAWS_ONE)
            | bit(sources.iter().any(has_dotted), Traits::HAS_DOTTED_NAMES)
            | bit(sources.iter().any(|host| host.target.is_some()), Traits::HAS_CANONICAL_NAMES)
            | bit(!data[labels_at..].iter().any(u8::is_ascii_uppercase), Traits::IS_LOWER)
            | bit(selection != Selection::One && layout.is_ipv4_alone(), Traits::DRAWS_IPV4S);
        Leaf {
            data: data.into(),
            extra: extra(&sources, records.iter().any(|(rtype, _)| *rtype == LeafType::Cname)),
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

/// Indexes of the hosts that have a record of this type, or `None` if all have one. Of duplicate records only the first
/// counts (RFC 2181 §5); the case of names is ignored.
fn members(rtype: LeafType, sources: &[HostSource]) -> Option<Vec<u32>> {
    let mut records: Vec<(Data<'_>, u32)> = (0..)
        .zip(sources)
        .filter(|(_, host)| host.served)
        .filter_map(|(at, host)| Some((host.data(rtype)?, at)))
        .collect();
    records.sort_unstable_by(|(one, at), (other, other_at)| one.compare(other).then(at.cmp(other_at)));
    records.dedup_by(|(later, _), (earlier, _)| later.compare(earlier).is_eq());
    if records.len() == sources.len() {
        return None;
    }
    let mut indexes: Vec<u32> = records.into_iter().map(|(_, at)| at).collect();
    indexes.sort_unstable();
    Some(indexes)
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

    fn target(self) -> Option<&'a Name> {
        self.target.as_ref()
    }
}

fn extra(sources: &[HostSource], has_cname: bool) -> Option<Box<Extra>> {
    let with_index = || sources.iter().enumerate().map(|(at, host)| (at as u32, host));
    let targets: Box<[_]> = with_index().filter_map(|(at, host)| Some((at, host.target.clone()?))).collect();
    let own_names = with_index().filter(|(_, host)| !host.own_labels.is_empty());
    let mut own_names: Box<[_]> =
        own_names.map(|(at, host)| (host.own_labels.to_ascii_lowercase().into(), at)).collect();
    own_names.sort_unstable();
    if targets.is_empty() && own_names.is_empty() {
        return None;
    }
    let is_alias = |host: &HostSource| host.target.is_some() && host.served && !host.has_address();
    let aliases = with_index().filter(|(_, host)| !has_cname && is_alias(host)).map(|(at, _)| at).collect();
    Some(Box::new(Extra { targets, aliases, own_names }))
}

fn is_dotted(labels: &[u8]) -> bool {
    labels.first().is_some_and(|len| 1 + *len as usize != labels.len())
}
