//! Reading ahead: the memory that several queries need, fetched together.
//!
//! Among a hundred thousand names nearly every step of a lookup waits for memory, and each step for the one before. What
//! different queries wait for can come at the same time: here each step is made for all of them before the next one.
//! Nothing comes of it but that a lookup soon after finds its memory in the cache.

use super::{Directory, Node, node_hash};
use crate::zone::{LeafCell, LeafGuard, QueryName};

/// Names that are read ahead together: as many as loads of leaves are cheap at a time (`arc_swap` has eight fast places
/// for each thread).
const AHEAD_NAMES: usize = 8;

/// Names that will be looked up.
#[derive(Default)]
pub struct Ahead {
    hashes: [u64; AHEAD_NAMES],
    len: usize,
}

impl Ahead {
    /// Whether there is room for no more.
    pub fn is_full(&self) -> bool {
        self.len == AHEAD_NAMES
    }
}

impl Directory {
    /// Notes a name, when it is in a zone and there is room.
    pub fn note(&self, name: &QueryName, ahead: &mut Ahead) {
        if let (Some(zone), Some(hash)) = (self.zone_of(name), ahead.hashes.get_mut(ahead.len)) {
            *hash = node_hash(zone.number, name.suffix_hash(0));
            ahead.len += 1;
        }
    }

    /// Reads what lookups of the names that were noted will read, and forgets them.
    pub fn read_ahead(&self, ahead: &mut Ahead) {
        let nodes = self.nodes.get_by_hash(&ahead.hashes, std::mem::take(&mut ahead.len));
        let cells: [Option<&LeafCell>; AHEAD_NAMES] = nodes.map(|node| node.and_then(leaf_of));
        let leaves: [Option<LeafGuard>; AHEAD_NAMES] = cells.map(|cell| cell.map(|cell| cell.load()));
        let read = leaves.iter().flatten().fold(0, |read, leaf| read ^ leaf.read());
        std::hint::black_box(read);
    }
}

fn leaf_of(node: &Node) -> Option<&LeafCell> {
    node.leaf.as_ref()
}
