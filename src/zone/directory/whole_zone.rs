//! All names of a zone at once.
//!
//! A zone file with a million records would copy a path of the table for each of them, and change the name above each of
//! them. In canonical order (RFC 4034 §6.1) a name is followed by all that is below it, so one pass over the owners
//! finds the empty non-terminals and counts what is directly below each name; the table is then written once.

use std::sync::Arc;

use super::rrsets::Rrsets;
use super::{LogCell, NOT_PLAIN, Node, NodeName, WILDCARD_LABEL, label_count};
use crate::zone::{Name, NameRef, Rrset, query_name::name_hash};

/// A name that has been reached; what is below it is not complete yet.
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

/// The nodes of a zone without services, with their hashes: those of the owners, of all names between them and the
/// apex, and of the apex. The owners are in canonical order, each once.
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
            name: NodeName::new(&lower),
            zone,
            apex_labels,
            service_in: NOT_PLAIN,
            closes_in: NOT_PLAIN,
            children: name.children,
            has_wildcard: name.has_wildcard,
            is_apex: name.name == apex,
            rrsets: name.rrsets,
            leaf: LogCell::new(None),
        };
        node.settle();
        nodes.push((name_hash(&lower), Arc::new(node)));
    });
    nodes
}

/// The hashes of the nodes that [`nodes`] makes of these owners.
pub(super) fn hashes<'a>(apex: &'a Name, owners: impl Iterator<Item = NameRef<'a>>) -> Vec<u64> {
    let mut hashes = Vec::with_capacity(owners.size_hint().0);
    let owners = owners.map(|owner| (owner, Rrsets::None));
    each_name(apex.as_name_ref(), owners, |name| {
        hashes.push(name_hash(&name.name.as_wire().to_ascii_lowercase()));
    });
    hashes
}

/// Hands over each name when all that is below it is known.
fn each_name<'a>(
    apex: NameRef<'a>,
    owners: impl Iterator<Item = (NameRef<'a>, Rrsets)>,
    mut complete: impl FnMut(Open<'a>),
) {
    let mut last = Open::new(apex);
    // The names above the last one, the apex first.
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
