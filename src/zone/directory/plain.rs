//! The lookup of what is nearly always asked for, without what hardly any zone has.

use super::{Directory, Node, Zone, label_count, number_hash};
use crate::zone::{
    LeafCell, QueryName,
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
        /// The service's leaf.
        cell: &'v LeafCell,
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
            let cell = node.leaf.as_ref().filter(|_| node.rrsets.is_none())?;
            return self.is_alone(node, wire, name).then_some(Plain::Service { node, cell });
        }
        let mut start = 0;
        for _ in 0..NEW_LABELS_MAX {
            let label = usize::from(*wire.get(start)?);
            if label == 0 || label > LABEL_OCTETS_MAX {
                return None;
            }
            start += 1 + label;
            let rest = len.checked_sub(start)?;
            let Some(closest) = self.node_hashed(&wire[start..], rest)? else { continue };
            closest.is_named_in_lower(&wire[start..start + rest]).then_some(())?;
            let is_bare =
                closest.leaf.is_none() && !closest.has_wildcard && self.services_with_names_below == 0;
            let is_plain = len <= NAME_OCTETS_MAX && is_bare && self.is_alone(closest, wire, name);
            return is_plain.then_some(Plain::NoName { closest });
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
        self.numbered.first(number_hash(node.zone)).filter(|zone| zone.number == node.zone)
    }

    /// Whether no zone below the node's has a say in the name, and no cut. The root is not usual.
    #[inline(always)]
    fn is_alone(&self, node: &Node, wire: &[u8], name: &mut QueryName) -> bool {
        node.apex_labels > 0
            && (node.apex_labels == self.deepest || self.has_no_deeper_zone(node, wire, name))
            && (self.zones_with_cuts == 0 || self.zone_of_node(node).is_some_and(|zone| !zone.has_cuts))
    }

    /// Whether the name is in no zone that has more labels than the node's.
    #[inline(never)]
    fn has_no_deeper_zone(&self, node: &Node, wire: &[u8], name: &mut QueryName) -> bool {
        // Nearly always there is no zone with as many labels as the name has, or one less.
        let labels = u32::from(label_count(wire));
        let reached = self.depth_mask & u128::MAX.unbounded_shr((u128::BITS - 1).saturating_sub(labels));
        let deeper = reached & u128::MAX.unbounded_shl(u32::from(node.apex_labels) + 1);
        deeper == 0
            || name.set(wire).is_ok() && self.zone_of(name).is_some_and(|zone| zone.number == node.zone)
    }
}
