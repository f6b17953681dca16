//! Nodes of a whole zone, made in one pass.
//!
//! If the records of a large zone file were added one by one, each would copy a path of the table and the node above it. In
//! canonical order (RFC 4034 §6.1) a name is followed by all names below it, so one pass over the owners finds the empty
//! non-terminals and counts the children of each name. The table is then written once.

use std::sync::Arc;

use super::rrsets::Rrsets;
use super::{LogCell, NO_FAST_PATH, Node, NodeName, WILDCARD_LABEL, label_count, lasting};
use crate::zone::{Name, NameRef, Rrset, query_name::name_hash};

/// A name whose names below have not all been seen yet.
struct Open<'a> {
    name: NameRef<'a>,
    rrsets: Rrsets,
    children: u32,
    has_wildcard: bool,
}

impl<'a> Open<'a> {
    fn new(name: NameRef<'a>) -> Open<'a> {
        Open { name, rrsets: Rrsets::None, children: 0, has_wildcard: false }
    }
}

/// Makes the nodes of a zone without services, with their hashes: one for the apex, for each owner, and for each name
/// between them. The owners must be in canonical order, each once.
pub(super) fn nodes<'a>(
    zone: u32,
    apex: &'a Name,
    owners: impl Iterator<Item = (NameRef<'a>, impl IntoIterator<Item = Rrset>)>,
) -> Vec<(u64, Arc<Node>)> {
    let (apex_labels, apex) = (label_count(apex.as_wire()), apex.as_name_ref());
    let mut nodes = Vec::with_capacity(owners.size_hint().0);
    let owners = owners.map(|(owner, rrsets)| (owner, rrsets.into_iter().collect()));
    each_name(apex, owners, |name| {
        let lower = name.name.as_wire().to_ascii_lowercase();
        let mut node = Node {
            lasting_zone: lasting(zone),
            name: NodeName::new(&lower),
            zone,
            apex_labels,
            apex_labels_if_service: NO_FAST_PATH,
            apex_labels_if_closest: NO_FAST_PATH,
            children: name.children,
            has_wildcard: name.has_wildcard,
            is_apex: name.name == apex,
            rrsets: name.rrsets,
            leaf: LogCell::new(None),
        };
        node.update_derived();
        nodes.push((name_hash(&lower), Arc::new(node)));
    });
    nodes
}

pub(super) fn hashes<'a>(apex: &'a Name, owners: impl Iterator<Item = NameRef<'a>>) -> Vec<u64> {
    let mut hashes = Vec::with_capacity(owners.size_hint().0);
    let owners = owners.map(|owner| (owner, Rrsets::None));
    each_name(apex.as_name_ref(), owners, |name| {
        hashes.push(name_hash(&name.name.as_wire().to_ascii_lowercase()));
    });
    hashes
}

fn each_name<'a>(
    apex: NameRef<'a>,
    owners: impl Iterator<Item = (NameRef<'a>, Rrsets)>,
    mut complete: impl FnMut(Open<'a>),
) {
    let mut last = Open::new(apex);
    let mut above: Vec<Open<'a>> = Vec::new();
    for (owner, rrsets) in owners {
        debug_assert!(owner.is_at_or_below(apex), "{owner} is not in {apex}");
        while !owner.is_at_or_below(last.name)
            && let Some(parent) = above.pop()
        {
            complete(std::mem::replace(&mut last, parent));
        }
        let depth = owner.as_wire().len() - last.name.as_wire().len();
        let mut missing: Vec<NameRef<'a>> = std::iter::successors(Some(owner), |name| name.parent())
            .take_while(|name| name.as_wire().len() > owner.as_wire().len() - depth)
            .collect();
        while let Some(name) = missing.pop() {
            last.children += 1;
            last.has_wildcard |= name.as_wire().starts_with(WILDCARD_LABEL);
            above.push(std::mem::replace(&mut last, Open::new(name)));
        }
        last.rrsets = rrsets;
    }
    complete(last);
    above.into_iter().rev().for_each(complete);
}
