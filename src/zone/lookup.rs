//! The lookup: from a name and a type to what the zone says of them.
//!
//! RFC 1034 §4.3.2 with wildcards (RFC 4592), DNAME (RFC 6672), empty non-terminals (RFC 8020) and zone
//! cuts (RFC 2181 §6). One step: whoever asks follows canonical names. Nothing is allocated or copied;
//! what is found borrows from the directory, or holds the leaf that it was found in.

use std::sync::Arc;

use arc_swap::Guard;

use super::{
    QueryName, RecordType, Rrset,
    directory::{Directory, Node, Zone},
    leaf::Leaf,
};

/// A leaf that stays as it is while it is held. Hold it for one answer, never across a wait.
pub type LeafGuard = Guard<Arc<Leaf>>;

/// What a zone says of a name and a type.
pub enum Found<'v> {
    /// Records of the type asked for, or all of them for ANY.
    Answer(Records<'v>),
    /// The name is an alias: a CNAME record, and the type asked for is another.
    Alias(Records<'v>),
    /// A name above has a DNAME record; that name is the one asked for without its first `skipped` labels.
    Redirect {
        /// Labels of the name asked for that are below the DNAME's owner.
        skipped: usize,
        /// The DNAME record.
        rrset: &'v Rrset,
    },
    /// The name is in a zone below, whose name is the one asked for without its first `skipped` labels.
    Referral {
        /// Labels of the name asked for that are below the cut.
        skipped: usize,
        /// The NS records at the cut.
        ns: &'v Rrset,
        /// The cut itself.
        node: &'v Node,
    },
    /// The name exists, without records of the type (RFC 2308 §2.2). The leaf is there when the name is a service.
    NoData(Option<LeafGuard>),
    /// The name does not exist (RFC 2308 §2.1).
    NoName,
}

/// Records of one owner, wherever they are kept.
pub enum Records<'v> {
    /// From a zone file, or of the apex.
    Rrset(&'v Rrset),
    /// All that a node has from zone files; the answer to ANY picks of it.
    Any(&'v Node),
    /// Records of this type of a service, to be drawn.
    Leaf(LeafGuard, RecordType),
    /// The addresses of the instances whose labels below the service's name are the first octets of the
    /// name asked for, up to `prefix_len`.
    Instance {
        /// The service's leaf.
        leaf: LeafGuard,
        /// A, AAAA or ANY.
        rtype: RecordType,
        /// How many octets of the name asked for are the instance's labels.
        prefix_len: usize,
    },
}

/// Looks a name up in a zone that it is in.
pub fn lookup<'v>(
    directory: &'v Directory,
    zone: &'v Zone,
    name: &QueryName,
    rtype: RecordType,
) -> Found<'v> {
    let apex_skipped = name.label_count() - zone.apex.label_count();
    let closest =
        (0..=apex_skipped).find_map(|skipped| Some((skipped, directory.node(zone, name, skipped)?)));
    // The apex exists as long as its zone does.
    let Some((skipped, node)) = closest else { return Found::NoName };
    if zone.has_cuts
        && let Some(found) = cut(directory, zone, name, rtype, skipped, apex_skipped)
    {
        return found;
    }
    if skipped == 0 {
        return at_node(node, rtype);
    }
    if let Some(cell) = &node.leaf
        && let Some(found) = instance(cell.load(), name, skipped, rtype)
    {
        return found;
    }
    match node.has_wildcard().then(|| directory.wildcard(zone, name, skipped)).flatten() {
        Some(wildcard) => at_node(wildcard, rtype),
        None => Found::NoName,
    }
}

/// The topmost zone cut or DNAME between the apex and the deepest node there is, if there is one.
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
            // DS belongs to the side above the cut (RFC 4035 §3.1.4.1).
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

/// What a node has of a type.
fn at_node(node: &Node, rtype: RecordType) -> Found<'_> {
    if rtype == RecordType::ANY && !node.rrsets.is_empty() {
        return Found::Answer(Records::Any(node));
    }
    if let Some(rrset) = node.rrset(rtype) {
        return Found::Answer(Records::Rrset(rrset));
    }
    if let Some(rrset) = node.rrset(RecordType::CNAME) {
        return Found::Alias(Records::Rrset(rrset));
    }
    let Some(cell) = &node.leaf else { return Found::NoData(None) };
    let leaf = cell.load();
    let rtype = match rtype {
        RecordType::ANY => leaf.types().next().unwrap_or(RecordType::ANY),
        rtype => rtype,
    };
    if leaf.answers(rtype) {
        return Found::Answer(Records::Leaf(leaf, rtype));
    }
    if leaf.answers(RecordType::CNAME) {
        return Found::Alias(Records::Leaf(leaf, RecordType::CNAME));
    }
    Found::NoData(Some(leaf))
}

/// What the name of an instance has: `id.service.namespace`.
fn instance<'v>(leaf: LeafGuard, name: &QueryName, skipped: usize, rtype: RecordType) -> Option<Found<'v>> {
    let labels = name.prefix(skipped);
    let (mut exists, mut answers) = (false, false);
    for host in leaf.named(labels).filter(|host| host.has_address()) {
        exists = true;
        answers |= match rtype {
            RecordType::A => host.ipv4().is_some(),
            RecordType::AAAA => host.ipv6().is_some(),
            RecordType::ANY => true,
            _ => false,
        };
    }
    if answers {
        let prefix_len = labels.len();
        return Some(Found::Answer(Records::Instance { leaf, rtype, prefix_len }));
    }
    (exists || leaf.has_names_below(labels)).then_some(Found::NoData(None))
}
