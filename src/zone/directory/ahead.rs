//! Reading ahead: the memory that several queries need, fetched together.
//!
//! Among a hundred thousand names nearly every step of a lookup waits for memory, and each step for the one before. What
//! different queries wait for can come at the same time: here each step is made for all of them before the next one.
//! Nothing comes of it but that a lookup soon after finds its memory in the cache.

use super::Directory;
use crate::zone::{Leaf, Name, query_name::hash_of_first};

/// Names that are read ahead together.
const AHEAD_NAMES: usize = 8;

/// Names that will be looked up.
#[derive(Default)]
pub struct Ahead {
    hashes: [u64; AHEAD_NAMES],
    len: usize,
}

impl Ahead {
    /// Notes the name at the start of `wire`, when there is one, and room. Octets have to follow it.
    pub fn note(&mut self, wire: &[u8]) {
        let hash = Name::wire_len(wire).ok().and_then(|len| hash_of_first(wire, len));
        if let (Some(hash), Some(room)) = (hash, self.hashes.get_mut(self.len)) {
            *room = hash;
            self.len += 1;
        }
    }

    /// Whether there is room for no more.
    pub fn is_full(&self) -> bool {
        self.len == AHEAD_NAMES
    }
}

impl Directory {
    /// Reads what lookups of the names that were noted will read, and forgets them.
    pub fn read_ahead(&self, ahead: &mut Ahead) {
        let nodes = self.nodes.get_by_hash(&ahead.hashes, std::mem::take(&mut ahead.len));
        let leaves: [Option<&Leaf>; AHEAD_NAMES] = nodes.map(|node| node.and_then(|node| self.leaf(node)));
        let read = leaves.iter().flatten().fold(0, |read, leaf| read ^ leaf.read());
        std::hint::black_box(read);
    }
}
