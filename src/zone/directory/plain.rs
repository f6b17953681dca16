//! The lookup of what is nearly always asked for, without what hardly any zone has.

use super::{Directory, NOT_PLAIN, Node, Zone, label_count};
use crate::zone::{
    QueryName,
    name::{LABEL_OCTETS_MAX, NAME_OCTETS_MAX},
    query_name::hash_of_first,
};

/// Labels above which a name's closest encloser is looked for; more are not usual.
const NEW_LABELS_MAX: usize = 4;

/// What there is of a name, when it is this simple. The zone is that of the node ([`Directory::zone_of_node`]).
pub enum Plain<'v> {
    /// The name is a service's, and there is nothing else at it.
    Service {
        /// The service's node.
        node: &'v Node,
    },
    /// The name does not exist (RFC 2308 §2.1): no wildcard, instance, cut or alias is above it either.
    NoName {
        /// The closest name that exists (RFC 4592 §3.3.1).
        closest: &'v Node,
    },
}

impl Directory {
    /// What there is of the name that the first `len` octets of `wire` are, in upper or lower case. `None` when they are no
    /// name, when it is in no zone, or when [`crate::zone::lookup()`] has to tell. Octets have to follow, so that there
    /// are eight at least. `name` may become this name.
    #[inline(always)]
    pub fn plain(&self, wire: &[u8], len: usize, name: &mut QueryName) -> Option<Plain<'_>> {
        // What equals a name is one: nobody has to look at the labels.
        if let Some(node) = self.node_hashed(wire, len)? {
            node.is_named_in_lower(&wire[..len]).then_some(())?;
            let is_plain = node.service_in == self.plain_labels
                || node.service_in != NOT_PLAIN && self.is_alone(node, wire, name);
            return is_plain.then_some(Plain::Service { node });
        }
        let (start, above) = self.above(wire, len, 0)?;
        let (start, closest) = match above {
            Some(closest) => (start, closest),
            None => self.farther_above(wire, len, start)?,
        };
        closest.is_named_in_lower(wire.get(start..len)?).then_some(())?;
        let is_plain = closest.closes_in == self.plain_labels_of_no_names
            || closest.closes_in != NOT_PLAIN
                && self.services_with_names_below == 0
                && self.is_alone(closest, wire, name);
        (is_plain && len <= NAME_OCTETS_MAX).then_some(Plain::NoName { closest })
    }

    /// Where the name without one more label begins, and its node, when there is one.
    #[inline(always)]
    fn above(&self, wire: &[u8], len: usize, start: usize) -> Option<(usize, Option<&Node>)> {
        let label = usize::from(*wire.get(start)?);
        if label == 0 || label > LABEL_OCTETS_MAX {
            return None;
        }
        let start = start + 1 + label;
        Some((start, self.node_hashed(wire.get(start..)?, len.checked_sub(start)?)?))
    }

    #[inline(never)]
    fn farther_above(&self, wire: &[u8], len: usize, mut start: usize) -> Option<(usize, &Node)> {
        for _ in 1..NEW_LABELS_MAX {
            let (above, node) = self.above(wire, len, start)?;
            start = above;
            if let Some(node) = node {
                return Some((start, node));
            }
        }
        None
    }

    /// A node whose name has the hash of the first `len` octets, and so nearly always is their name; the outer `None` when
    /// there are not so many.
    #[inline(always)]
    fn node_hashed(&self, wire: &[u8], len: usize) -> Option<Option<&Node>> {
        Some(self.nodes.first(hash_of_first(wire, len)?))
    }

    /// The zone of a node.
    #[inline(always)]
    pub fn zone_of_node(&self, node: &Node) -> Option<&Zone> {
        self.numbered.get(node.zone)
    }

    /// Whether no zone below the node's has a say in the name, and no cut.
    #[inline(never)]
    fn is_alone(&self, node: &Node, wire: &[u8], name: &mut QueryName) -> bool {
        (node.apex_labels == self.deepest || self.has_no_deeper_zone(node, wire, name))
            && (self.zones_with_cuts == 0 || self.zone_of_node(node).is_some_and(|zone| !zone.has_cuts))
    }

    /// Whether the name is in no zone that has more labels than the node's.
    fn has_no_deeper_zone(&self, node: &Node, wire: &[u8], name: &mut QueryName) -> bool {
        // Nearly always there is no zone with as many labels as the name has, or one less.
        let labels = u32::from(label_count(wire));
        let reached = self.depth_mask & u128::MAX.unbounded_shr((u128::BITS - 1).saturating_sub(labels));
        let deeper = reached & u128::MAX.unbounded_shl(u32::from(node.apex_labels) + 1);
        deeper == 0
            || name.set(wire).is_ok() && self.zone_of(name).is_some_and(|zone| zone.number == node.zone)
    }
}
