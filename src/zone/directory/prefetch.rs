//! Prefetch of the memory that the lookups of several queries will read.
//!
//! Among a hundred thousand names, nearly every step of a lookup is a cache miss, and each step depends on the one before.
//! The misses of different queries can overlap, so each step is done here for all queries before the next step. The only
//! effect is that the lookups that follow find their memory in the CPU's cache, so the prefetch is optional.

use super::Directory;
use crate::zone::{LeafType, query_name::hash_of_first};

const NAMES_MAX: usize = 8;

/// Names and types that will be looked up soon, at most eight.
pub struct Prefetch {
    questions: [Question; NAMES_MAX],
    len: usize,
}

#[derive(Clone, Copy)]
struct Question {
    hash: u64,
    rtype: Option<LeafType>,
}

impl Default for Prefetch {
    fn default() -> Prefetch {
        Prefetch { questions: [Question { hash: 0, rtype: None }; NAMES_MAX], len: 0 }
    }
}

impl Prefetch {
    /// Adds the name in the first `len` bytes of `wire` and the type of its query, unless the list is full. `wire` must have
    /// at least eight bytes, which is more than a short name has.
    #[inline]
    pub fn add(&mut self, wire: &[u8], len: usize, rtype: Option<LeafType>) {
        if let (Some(hash), Some(free)) = (hash_of_first(wire, len), self.questions.get_mut(self.len)) {
            *free = Question { hash, rtype };
            self.len += 1;
        }
    }

    /// True if no further name can be added before [`Directory::prefetch`].
    pub fn is_full(&self) -> bool {
        self.len == NAMES_MAX
    }
}

impl Directory {
    /// Loads the nodes and leaves of all names in the list into the CPU's cache, and empties the list.
    pub fn prefetch(&self, list: &mut Prefetch) {
        let hashes = list.questions.map(|question| question.hash);
        let nodes = self.nodes.get_by_hash(&hashes, std::mem::take(&mut list.len));
        let leaves = nodes.map(|node| node.and_then(|node| self.leaf(node)));
        let read = leaves
            .iter()
            .zip(&list.questions)
            .filter_map(|(leaf, question)| Some(leaf.as_ref()?.touch(question.rtype?)))
            .fold(0, |read, octet| read ^ octet);
        std::hint::black_box(read);
    }
}
