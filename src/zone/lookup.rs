//! The lookup of a name and a type in a zone.
//!
//! It implements one step of RFC 1034 §4.3.2, with wildcards (RFC 4592), DNAME (RFC 6672), empty non-terminals (RFC 8020)
//! and zone cuts (RFC 2181 §6). The caller follows canonical names. Nothing is allocated or copied: the result borrows from
//! the directory.

use std::ops::Range;

use super::{
    QueryName, RecordType, Rrset,
    directory::{Directory, Node, Zone},
    leaf::{Host, Leaf, LeafType},
};

/// Result of a lookup of a name and a type.
#[expect(missing_docs, reason = "the variants' documents explain the fields")]
pub enum Found<'v> {
    /// Records of the query's type, or of all types for ANY.
    Answer(Records<'v>),
    /// A CNAME record, for a query of another type.
    Alias(Records<'v>),
    /// The DNAME record `rrset` of an ancestor, which is the name without its first `skipped` labels.
    Redirect { skipped: usize, rrset: &'v Rrset },
    /// The NS records of a zone cut at or above the name. The cut is at `node`, whose name is the query's name without its
    /// first `skipped` labels.
    Referral { skipped: usize, ns: &'v Rrset, node: &'v Node },
    /// The name exists, but has no records of the type (RFC 2308 §2.2). The leaf is present if the name is a service.
    NoData(Option<&'v Leaf>),
    /// The name does not exist (RFC 2308 §2.1).
    NoName,
}

/// Reference to the records of one owner, which zone files or instances provide.
#[expect(missing_docs, reason = "the variants' documents explain the fields")]
pub enum Records<'v> {
    /// Records from a zone file, or generated ones of the apex.
    Rrset(&'v Rrset),
    /// All rrsets of a node, of which the answer to ANY has one.
    Any(&'v Node),
    /// Records of one type of a service, from which those of the answer are drawn.
    Leaf(&'v Leaf, LeafType),
    /// Addresses at an instance's own name, of one type, or of both if `rtype` is `None`. The first `prefix_len` bytes of
    /// the query's name are the instance's labels below the service's name.
    Instance { leaf: &'v Leaf, rtype: Option<LeafType>, prefix_len: usize },
}

/// Looks up a name in a zone that contains it.
pub fn lookup<'v>(
    directory: &'v Directory,
    zone: &'v Zone,
    name: &QueryName,
    rtype: RecordType,
) -> Found<'v> {
    let apex_skipped = name.label_count() - zone.apex.label_count();
    let closest =
        (0..=apex_skipped).find_map(|skipped| Some((skipped, directory.node(zone, name, skipped)?)));
    // There is always a closest node, because a zone's apex has one.
    let Some((skipped, node)) = closest else { return Found::NoName };
    if zone.has_cuts
        && let Some(found) = cut(directory, zone, name, rtype, skipped, apex_skipped)
    {
        return found;
    }
    // Names of instances have no nodes, so that one may be below a service farther up than the closest node.
    let end = if directory.has_names_below_services() { apex_skipped } else { skipped };
    let above = skipped + 1..end + 1;
    if skipped == 0 {
        return match at_node(directory, node, rtype) {
            Found::NoData(leaf) => match instance_above(directory, zone, name, above, rtype) {
                Some(answer @ Found::Answer(_)) => answer,
                _ => Found::NoData(leaf),
            },
            found => found,
        };
    }
    let own = directory.leaf(node).and_then(|leaf| instance(leaf, name, skipped, rtype));
    if let Some(found @ Found::Answer(_)) = own {
        return found;
    }
    if let Some(found) = instance_above(directory, zone, name, above, rtype).or(own) {
        return found;
    }
    let wildcard = node.has_wildcard().then(|| directory.wildcard(zone, name, skipped)).flatten();
    match wildcard.filter(|_| !is_below_instance(directory, zone, name, skipped, apex_skipped)) {
        Some(wildcard) => at_node(directory, wildcard, rtype),
        None => Found::NoName,
    }
}

/// The topmost zone cut or DNAME between the apex and the deepest existing node.
fn cut<'v>(
    directory: &'v Directory,
    zone: &'v Zone,
    name: &QueryName,
    rtype: RecordType,
    deepest: usize,
    apex_skipped: usize,
) -> Option<Found<'v>> {
    for skipped in (deepest..=apex_skipped).rev() {
        let Some(node) = directory.node(zone, name, skipped) else { continue };
        if skipped < apex_skipped
            && let Some(ns) = node.rrset(RecordType::NS)
        {
            // DS belongs to the parent side of the cut (RFC 4035 §3.1.4.1).
            if skipped == 0 && rtype == RecordType::DS {
                return None;
            }
            return Some(Found::Referral { skipped, ns, node });
        }
        if skipped > 0
            && let Some(rrset) = node.rrset(RecordType::DNAME)
        {
            return Some(Found::Redirect { skipped, rrset });
        }
    }
    None
}

fn at_node<'v>(directory: &'v Directory, node: &'v Node, rtype: RecordType) -> Found<'v> {
    if rtype == RecordType::ANY && !node.rrsets().is_empty() {
        return Found::Answer(Records::Any(node));
    }
    if let Some(rrset) = node.rrset(rtype) {
        return Found::Answer(Records::Rrset(rrset));
    }
    if let Some(rrset) = node.rrset(RecordType::CNAME) {
        return Found::Alias(Records::Rrset(rrset));
    }
    let Some(leaf) = directory.leaf(node) else { return Found::NoData(None) };
    let rtype = if rtype == RecordType::ANY { leaf.types().next() } else { LeafType::of(rtype) };
    if let Some(rtype) = rtype.filter(|rtype| leaf.answers(*rtype)) {
        return Found::Answer(Records::Leaf(leaf, rtype));
    }
    if leaf.answers(LeafType::Cname) {
        return Found::Alias(Records::Leaf(leaf, LeafType::Cname));
    }
    Found::NoData(Some(leaf))
}

fn instance_above<'v>(
    directory: &'v Directory,
    zone: &'v Zone,
    name: &QueryName,
    ancestors: Range<usize>,
    rtype: RecordType,
) -> Option<Found<'v>> {
    let mut exists = false;
    for skipped in ancestors {
        let node = directory.node(zone, name, skipped);
        let Some(leaf) = node.and_then(|node| directory.leaf(node)) else { continue };
        match instance(leaf, name, skipped, rtype) {
            Some(answer @ Found::Answer(_)) => return Some(answer),
            found => exists |= found.is_some(),
        }
    }
    exists.then_some(Found::NoData(None))
}

/// True if an instance's name is between the query's name and its deepest node. Then the instance's name is the closest
/// encloser, which has no wildcard below it (RFC 4592 §3.3.1).
fn is_below_instance(
    directory: &Directory,
    zone: &Zone,
    name: &QueryName,
    deepest: usize,
    apex_skipped: usize,
) -> bool {
    (deepest..=apex_skipped).any(|skipped| {
        let node = directory.node(zone, name, skipped);
        let Some(leaf) = node.and_then(|node| directory.leaf(node)) else { return false };
        (1..deepest).any(|between| {
            let labels = &name.prefix(skipped)[name.prefix(between).len()..];
            leaf.has_names_at_or_below(labels)
        })
    })
}

fn instance<'v>(leaf: &'v Leaf, name: &QueryName, skipped: usize, rtype: RecordType) -> Option<Found<'v>> {
    let labels = name.prefix(skipped);
    let is_any = rtype == RecordType::ANY;
    let rtype = LeafType::of(rtype).filter(|rtype| rtype.is_address());
    let (mut exists, mut answers) = (false, false);
    for host in leaf.named(labels).filter(|host| host.has_address()) {
        exists = true;
        answers |= is_any || rtype.is_some_and(|rtype| host.data(rtype).is_some());
    }
    if answers {
        let prefix_len = labels.len();
        return Some(Found::Answer(Records::Instance { leaf, rtype, prefix_len }));
    }
    (exists || leaf.has_names_below(labels)).then_some(Found::NoData(None))
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::sync::Arc;

    use super::*;
    use crate::zone::{DirectoryWriter, HostSource, LeafSource, Name, Rrset, Selection};

    const APEX: &str = "svc.local";

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    /// A zone with a TXT record at each of `texts`, and with these services, each with the ids of its instances.
    fn zone(texts: &[&str], services: &[(&str, &[&str])]) -> DirectoryWriter {
        let mut directory = DirectoryWriter::default();
        directory.put_zone(&name(APEX), Arc::default(), false);
        for owner in texts {
            let text = Rrset::new(RecordType::TXT, 60, [&b"\x01x"[..]]).unwrap();
            directory.set_rrsets(&name(APEX), &name(owner), vec![text]);
        }
        for (service, instances) in services {
            let host = |id: &&str| HostSource {
                labels: name(id).as_wire().strip_suffix(&[0]).unwrap().to_vec(),
                ipv4: Some(Ipv4Addr::LOCALHOST),
                port: Some(80),
                served: true,
                ..HostSource::default()
            };
            let leaf = Leaf::new(LeafSource {
                records: vec![(LeafType::Srv, 60)],
                selection: Selection::Multivalue,
                ttl_max: None,
                records_max: 8,
                hosts: instances.iter().map(host).collect(),
            });
            directory.set_leaf(&name(APEX), &name(service), Some(leaf));
        }
        directory
    }

    fn found(directory: &Directory, asked: &str, rtype: RecordType) -> &'static str {
        let zone = directory.zone(&name(APEX)).unwrap();
        match lookup(directory, zone, &QueryName::from(&name(asked)), rtype) {
            Found::Answer(_) => "answer",
            Found::Alias(_) | Found::Redirect { .. } | Found::Referral { .. } => "elsewhere",
            Found::NoData(_) => "no data",
            Found::NoName => "no name",
        }
    }

    #[test]
    fn instances_are_found_although_nodes_share_or_hide_their_names() {
        let directory = zone(
            &["text.web.svc.local"],
            &[
                ("web.svc.local", &["api", "i.v1", "text"]),
                ("v1.web.svc.local", &["other"]),
                ("_tcp.api.web.svc.local", &[]),
            ],
        );
        for (asked, rtype, expected) in [
            // The first name also has a node, an empty non-terminal; the next are also below another service; the last also
            // has records of a zone file.
            ("api.web.svc.local", RecordType::A, "answer"),
            ("api.web.svc.local", RecordType::AAAA, "no data"),
            ("i.v1.web.svc.local", RecordType::A, "answer"),
            ("other.v1.web.svc.local", RecordType::A, "answer"),
            ("none.v1.web.svc.local", RecordType::A, "no name"),
            ("text.web.svc.local", RecordType::A, "answer"),
            ("text.web.svc.local", RecordType::TXT, "answer"),
        ] {
            assert_eq!(found(&directory, asked, rtype), expected, "{asked} {rtype}");
        }
    }

    #[test]
    fn instance_is_the_closest_encloser_of_names_below_it() {
        let directory = zone(&["*.web.svc.local"], &[("web.svc.local", &["i", "i.dotted"])]);
        for (asked, expected) in [
            ("x.web.svc.local", "answer"),
            ("x.y.web.svc.local", "answer"),
            ("i.web.svc.local", "no data"),
            ("x.i.web.svc.local", "no name"),
            ("x.dotted.web.svc.local", "no name"),
            ("x.i.dotted.web.svc.local", "no name"),
        ] {
            assert_eq!(found(&directory, asked, RecordType::TXT), expected, "{asked}");
        }
    }
}
