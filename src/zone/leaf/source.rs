//! What a leaf is built from, and how: which hosts have a record of each type.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::{Extra, HOST_OCTETS, IPV6_OCTETS, Leaf, SET_OCTETS, Selection, Tally, flag, lower};
use crate::zone::{Name, RecordType};

/// What a leaf is built from.
#[derive(Clone, Debug)]
pub struct LeafSource {
    /// The record types that the service has, each once, with their TTLs in seconds; at most 255.
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

impl Leaf {
    /// Compiles the answers of a service.
    pub fn new(source: LeafSource) -> Leaf {
        let LeafSource { records, selection, hosts: mut sources } = source;
        // Ids come in order: nearly always there is nothing to do.
        sources.sort_by(|one, other| lower(&one.labels).cmp(lower(&other.labels)));
        let members: Vec<_> = records.iter().map(|(rtype, _)| members(*rtype, &sources)).collect();
        let labels_len: usize = sources.iter().map(|host| host.labels.len()).sum();
        let members_len: usize = members.iter().flatten().map(|places| places.len() * 4).sum();
        let has_ipv6 = sources.iter().any(|host| host.ipv6.is_some());
        let stride = HOST_OCTETS + if has_ipv6 { IPV6_OCTETS } else { 0 };
        let hosts_at = records.len() * SET_OCTETS;
        let members_at = hosts_at + sources.len() * stride;
        let labels_at = members_at + members_len;
        let mut data = Vec::with_capacity(labels_at + labels_len);

        let mut places_at = members_at as u32;
        for ((rtype, ttl), places) in records.iter().zip(&members) {
            // The hosts are never at 0: the sets are before them.
            let (count, at) = places.as_ref().map_or((sources.len(), 0), |places| (places.len(), places_at));
            data.extend_from_slice(&rtype.0.to_le_bytes());
            data.extend_from_slice(&[0; 2]);
            data.extend_from_slice(&ttl.to_le_bytes());
            data.extend_from_slice(&(count as u32).to_le_bytes());
            data.extend_from_slice(&at.to_le_bytes());
            places_at += places.as_ref().map_or(0, |places| 4 * places.len() as u32);
        }
        let mut label_at = labels_at as u32;
        for host in &sources {
            data.extend_from_slice(&label_at.to_le_bytes());
            data.push(host.labels.len() as u8);
            data.push(flags(host));
            data.extend_from_slice(&host.port.unwrap_or(0).to_be_bytes());
            data.extend_from_slice(&host.ipv4.map_or([0; 4], |address| address.octets()));
            if has_ipv6 {
                data.extend_from_slice(&host.ipv6.map_or([0; IPV6_OCTETS], |address| address.octets()));
            }
            label_at += host.labels.len() as u32;
        }
        for place in members.iter().flatten().flatten() {
            data.extend_from_slice(&place.to_le_bytes());
        }
        sources.iter().for_each(|host| data.extend_from_slice(&host.labels));

        let ttl_of = |wanted| records.iter().find(|(rtype, _)| *rtype == wanted).map(|(_, ttl)| *ttl);
        let instance_ttl = [RecordType::SRV, RecordType::A, RecordType::AAAA].into_iter().find_map(ttl_of);
        let tally = Tally {
            instances: sources.len() as u32,
            served: sources.iter().filter(|host| host.served).count() as u32,
        };
        Leaf {
            is_lower: !data[labels_at..].iter().any(u8::is_ascii_uppercase),
            data: data.into(),
            extra: extra(&sources, ttl_of(RecordType::CNAME).is_some()),
            set_count: records.len() as u8,
            stride: stride as u8,
            selection,
            instance_ttl: instance_ttl.unwrap_or(0),
            has_dotted_names: sources.iter().any(|host| is_dotted(&host.labels)),
            tally,
        }
    }
}

fn flags(host: &HostSource) -> u8 {
    let flag = |is_set, flag| if is_set { flag } else { 0 };
    flag(host.ipv4.is_some(), flag::IPV4)
        | flag(host.ipv6.is_some(), flag::IPV6)
        | flag(host.target.is_some(), flag::TARGET)
}

/// The hosts that have a record of this type, or nothing when all do; of equal records one (RFC 2181 §5).
fn members(rtype: RecordType, sources: &[HostSource]) -> Option<Vec<u32>> {
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
    if places.len() == sources.len() {
        return None;
    }
    places.sort_unstable();
    Some(places)
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
    let targets: Box<[_]> = with_place().filter_map(|(at, host)| Some((at, host.target.clone()?))).collect();
    if targets.is_empty() {
        return None;
    }
    let is_alias = |host: &HostSource| {
        host.target.is_some() && host.served && host.ipv4.is_none() && host.ipv6.is_none()
    };
    let aliases = with_place().filter(|(_, host)| !has_cname && is_alias(host)).map(|(at, _)| at).collect();
    Some(Box::new(Extra { targets, aliases }))
}

fn is_dotted(labels: &[u8]) -> bool {
    labels.first().is_some_and(|len| 1 + *len as usize != labels.len())
}
