//! The lookup of what is nearly always asked for, without what hardly any zone has.

use super::{Directory, Zone};
use crate::zone::{LeafCell, QueryName};

/// What there is of a name, when it is this simple.
pub enum Plain<'v> {
    /// The name is a service's, and there is nothing else at it. Its zone's apex is the name without its first
    /// `apex_skipped` labels.
    Service {
        /// The zone.
        zone: &'v Zone,
        /// Labels of the name that are below the apex.
        apex_skipped: usize,
        /// The service's leaf.
        cell: &'v LeafCell,
    },
    /// The name does not exist (RFC 2308 §2.1): no wildcard, instance, cut or alias is above it either.
    NoName {
        /// The zone.
        zone: &'v Zone,
        /// Labels of the name that are below the apex.
        apex_skipped: usize,
    },
}

impl Directory {
    /// What there is of a name; `None` when it is in no zone, or when [`crate::zone::lookup()`] has to tell.
    #[inline]
    pub fn plain(&self, name: &QueryName) -> Option<Plain<'_>> {
        let labels = name.label_count();
        // The longest apex first. Those with more labels than a word has bits, and the root, are not usual.
        if labels >= u64::BITS as usize || self.depth_mask >> u64::BITS != 0 {
            return None;
        }
        let mut depths = self.depth_mask as u64 & !1 & (u64::MAX >> (u64::BITS as usize - 1 - labels));
        let (zone, apex_skipped) = loop {
            let depth = depths.checked_ilog2()?;
            let skipped = labels - depth as usize;
            if let Some(zone) = self.zone_at(name, skipped) {
                break (zone, skipped);
            }
            depths ^= 1 << depth;
        };
        if zone.has_cuts {
            return None;
        }
        if let Some(node) = self.node(zone, name, 0) {
            let cell = node.leaf.as_ref().filter(|_| node.rrsets.is_empty())?;
            return Some(Plain::Service { zone, apex_skipped, cell });
        }
        // The apex exists as long as its zone does.
        let closest = (1..=apex_skipped).find_map(|skipped| self.node(zone, name, skipped))?;
        let is_alone = closest.leaf.is_none() && !closest.has_wildcard && self.services_with_names_below == 0;
        is_alone.then_some(Plain::NoName { zone, apex_skipped })
    }
}
