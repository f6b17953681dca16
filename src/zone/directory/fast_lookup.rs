//! Fast lookup for the common case: a service's own name, or a name that does not exist, in zones without cuts.
//!
//! It is optional, as is the short path in [`crate::dns`] that uses it: [`crate::zone::lookup()`] handles these names too.

use super::{Directory, NO_FAST_PATH, Node, Zone, label_count};
use crate::zone::{
    QueryName,
    name::{LABEL_OCTETS_MAX, NAME_OCTETS_MAX},
    query_name::hash_of_first,
};

/// Labels between a missing name and its closest encloser up to which the fast lookup searches; more are unusual.
const MISSING_LABELS_MAX: usize = 4;

/// Result of the fast lookup: the name is that of the service at `node` and has no other records, or the name does not
/// exist (RFC 2308 §2.1), and no wildcard, instance, zone cut or DNAME above it makes up an answer. `closest` is its
/// closest encloser, the closest ancestor that exists (RFC 4592 §3.3.1). The zone that answers is that of the node
/// ([`Directory::zone_of_node`]).
#[expect(missing_docs, reason = "the type's document explains them")]
pub enum FastLookup<'v> {
    Service { node: &'v Node },
    NoName { closest: &'v Node },
}

impl Directory {
    /// Looks up the name in the first `len` bytes of `wire`, in upper or lower case. `None` if they are not a name, if no
    /// zone has it, or if [`crate::zone::lookup()`] has to decide. `wire` must have at least eight bytes, which is more than
    /// a short name has. `name` is scratch space that may be set to this name.
    #[inline(always)]
    pub fn fast_lookup(&self, wire: &[u8], len: usize, name: &mut QueryName) -> Option<FastLookup<'_>> {
        // Bytes that equal a node's name are a valid name, so its labels need no check.
        if let Some(node) = self.node_hashed(wire, len)? {
            node.is_named_in_lower(&wire[..len]).then_some(())?;
            let is_fast = node.apex_labels_if_service == self.deepest_uncut
                || node.apex_labels_if_service != NO_FAST_PATH && self.is_in_zone_of(node, wire, name);
            return is_fast.then_some(FastLookup::Service { node });
        }
        let (start, above) = self.above(wire, len, 0)?;
        let (start, closest) = match above {
            Some(closest) => (start, closest),
            None => self.farther_above(wire, len, start)?,
        };
        closest.is_named_in_lower(wire.get(start..len)?).then_some(())?;
        let is_fast = closest.apex_labels_if_closest == self.deepest_uncut_flat
            || closest.apex_labels_if_closest != NO_FAST_PATH
                && self.services_with_names_below == 0
                && self.is_in_zone_of(closest, wire, name);
        (is_fast && len <= NAME_OCTETS_MAX).then_some(FastLookup::NoName { closest })
    }

    /// Skips the label at `start`; returns the position of the next label, and the node of the name that begins there.
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
        for _ in 1..MISSING_LABELS_MAX {
            let (above, node) = self.above(wire, len, start)?;
            start = above;
            if let Some(node) = node {
                return Some((start, node));
            }
        }
        None
    }

    /// A node whose name has the hash of the first `len` bytes; hashes rarely collide, and callers compare the names. The
    /// outer `None` if `wire` is too short.
    #[inline(always)]
    fn node_hashed(&self, wire: &[u8], len: usize) -> Option<Option<&Node>> {
        Some(self.nodes.first(hash_of_first(wire, len)?))
    }

    /// The zone that contains `node`, a node of this directory.
    #[inline(always)]
    pub fn zone_of_node(&self, node: &Node) -> Option<&Zone> {
        self.zones_by_number.get(node.zone)
    }

    /// True if the node's zone answers for the name: no zone with a longer apex contains it, and the node's zone has no
    /// cuts.
    #[inline(never)]
    fn is_in_zone_of(&self, node: &Node, wire: &[u8], name: &mut QueryName) -> bool {
        (node.apex_labels == self.deepest || self.has_no_deeper_zone(node, wire, name))
            && (self.zones_with_cuts == 0 || self.zone_of_node(node).is_some_and(|zone| !zone.has_cuts))
    }

    fn has_no_deeper_zone(&self, node: &Node, wire: &[u8], name: &mut QueryName) -> bool {
        // Usually no apex has as many labels as the name, or one less, and the masks alone decide.
        let labels = u32::from(label_count(wire));
        let reached = self.depth_mask & u128::MAX.unbounded_shr((u128::BITS - 1).saturating_sub(labels));
        let deeper = reached & u128::MAX.unbounded_shl(u32::from(node.apex_labels) + 1);
        deeper == 0
            || name.set(wire).is_ok() && self.zone_of(name).is_some_and(|zone| zone.number == node.zone)
    }
}
