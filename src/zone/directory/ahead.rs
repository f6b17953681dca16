//! Reading ahead: the memory that several queries need, fetched together.
//!
//! Among a hundred thousand names nearly every step of a lookup waits for memory, and each step for the one before. What
//! different queries wait for can come at the same time: here each step is made for all of them before the next one.
//! Nothing comes of it but that a lookup soon after finds its memory in the cache.

use super::Directory;
use crate::zone::{LeafType, query_name::hash_of_first};

/// Names that are read ahead together.
const AHEAD_NAMES: usize = 8;

/// Names that will be looked up.
pub struct Ahead {
    names: [Asked; AHEAD_NAMES],
    len: usize,
}

#[derive(Clone, Copy)]
struct Asked {
    hash: u64,
    rtype: Option<LeafType>,
}

impl Default for Ahead {
    fn default() -> Ahead {
        Ahead { names: [Asked { hash: 0, rtype: None }; AHEAD_NAMES], len: 0 }
    }
}

impl Ahead {
    /// Notes the name that the first `len` octets of `wire` are, and the type that is asked for, when there is room. Other
    /// octets have to follow the name.
    #[inline]
    pub fn note(&mut self, wire: &[u8], len: usize, rtype: Option<LeafType>) {
        if let (Some(hash), Some(room)) = (hash_of_first(wire, len), self.names.get_mut(self.len)) {
            *room = Asked { hash, rtype };
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
        let hashes = ahead.names.map(|asked| asked.hash);
        let nodes = self.nodes.get_by_hash(&hashes, std::mem::take(&mut ahead.len));
        let leaves = nodes.map(|node| node.and_then(|node| self.leaf(node)));
        let read = leaves
            .iter()
            .zip(&ahead.names)
            .filter_map(|(leaf, asked)| Some(leaf.as_ref()?.read(asked.rtype?)))
            .fold(0, |read, octet| read ^ octet);
        std::hint::black_box(read);
    }
}
