//! The name of one query, prepared for lookups of the name and its suffixes.
//!
//! The hash of a name is computed from the right, 16 octets at a time. The intermediate values are kept, so that the hash of
//! each suffix takes at most one more step. The hash ignores the case of letters, so that the fast path can hash the octets
//! of a query without lowering them first.

use super::name::{LABEL_OCTETS_MAX, LABELS_MAX, NAME_OCTETS_MAX, Name, NameError};

/// A query's name in lower case, with the positions of its suffixes and the intermediate values of their hashes.
///
/// Suffix 0 is the whole name, suffix [`QueryName::label_count`] the root. The value is reused from query to query: setting it
/// writes only as much memory as the name needs, and the rest of the arrays contains leftovers.
#[derive(Clone)]
pub struct QueryName {
    wire: [u8; QUERY_NAME_OCTETS],
    len: u8,
    label_count: u8,
    starts: [u8; LABELS_MAX + 1],
    hashes: [u64; NAME_OCTETS_MAX / BLOCK_OCTETS + 1],
}

const BLOCK_OCTETS: usize = 2 * WORD_OCTETS;
const WORD_OCTETS: usize = 8;
/// Size for the longest name, and for a word that begins at its last octet.
const QUERY_NAME_OCTETS: usize = NAME_OCTETS_MAX + WORD_OCTETS;

impl QueryName {
    /// Reads the uncompressed name at the start of `wire`; its wire length is the length of [`QueryName::as_wire`].
    pub fn read(wire: &[u8]) -> Result<QueryName, NameError> {
        let mut name = QueryName::default();
        name.set(wire)?;
        Ok(name)
    }

    /// Sets the name to the uncompressed one at the start of `wire`, or to the root after an error.
    pub fn set(&mut self, wire: &[u8]) -> Result<(), NameError> {
        let walked = walk(wire, &mut self.starts);
        match walked {
            Ok((labels, len)) => {
                self.label_count = labels;
                self.set_octets(wire, len);
            }
            Err(_) => self.set_root(),
        }
        walked.map(|_| ())
    }

    fn set_octets(&mut self, wire: &[u8], len: usize) {
        // Length octets are below 64 and therefore no letters, so the conversion does not change them.
        self.wire[..len].copy_from_slice(&wire[..len]);
        self.wire[..len].make_ascii_lowercase();
        self.len = len as u8;
        let mut hash = HASH_SEED;
        let blocks = self.wire[..len].as_rchunks::<BLOCK_OCTETS>().1;
        for (block, kept) in blocks.iter().rev().zip(&mut self.hashes[1..]) {
            hash = extend_hash(hash, block);
            *kept = hash;
        }
    }

    #[cold]
    fn set_root(&mut self) {
        (self.label_count, self.starts[0]) = (0, 0);
        self.set_octets(&[0], 1);
    }

    /// Sets the name to `name` without its first `labels` labels.
    pub fn set_suffix(&mut self, name: &QueryName, labels: usize) {
        let rest = name.label_count() - labels;
        let start = name.starts[labels];
        self.wire[..name.len as usize - start as usize].copy_from_slice(name.suffix(labels));
        self.len = name.len - start;
        self.label_count = rest as u8;
        for label in 0..=rest {
            self.starts[label] = name.starts[label + labels] - start;
        }
        let blocks = self.len as usize / BLOCK_OCTETS;
        self.hashes[..=blocks].copy_from_slice(&name.hashes[..=blocks]);
    }

    /// The whole name in lower case, in wire form with the root label.
    #[inline]
    pub fn as_wire(&self) -> &[u8] {
        &self.wire[..self.len as usize]
    }

    /// Number of labels, without the root label.
    #[inline]
    pub fn label_count(&self) -> usize {
        self.label_count as usize
    }

    /// The name without its first `labels` labels, in wire form.
    #[inline]
    pub fn suffix(&self, labels: usize) -> &[u8] {
        &self.wire[self.start(labels)..self.len as usize]
    }

    /// Position of [`QueryName::suffix`] within [`QueryName::as_wire`].
    #[inline]
    pub fn start(&self, labels: usize) -> usize {
        self.starts[labels] as usize
    }

    /// The first `labels` labels in wire form, without a root label.
    pub fn prefix(&self, labels: usize) -> &[u8] {
        &self.wire[..self.start(labels)]
    }

    /// The hash of [`QueryName::suffix`], equal to [`name_hash`] of that name.
    #[inline]
    pub fn suffix_hash(&self, labels: usize) -> u64 {
        let start = self.start(labels);
        let len = (self.len as usize).saturating_sub(start);
        finish_hash(self.hashes[len / BLOCK_OCTETS], &self.wire[start..], len).unwrap_or_default()
    }
}

/// Checks the name at the start of `wire` and stores the position of each label in `starts`, the root's too. Returns the
/// number of labels without the root, and the length of the name.
fn walk(wire: &[u8], starts: &mut [u8; LABELS_MAX + 1]) -> Result<(u8, usize), NameError> {
    let (mut at, mut labels) = (0, 0);
    let longest = &wire[..wire.len().min(NAME_OCTETS_MAX)];
    while let Some(len) = longest.get(at) {
        starts[labels & LABELS_MAX] = at as u8;
        match *len {
            0 => return Ok((labels as u8, at + 1)),
            len if len as usize > LABEL_OCTETS_MAX => return Err(NameError::BadWire),
            len => at += 1 + len as usize,
        }
        labels += 1;
    }
    Err(if at < NAME_OCTETS_MAX { NameError::BadWire } else { NameError::NameTooLong })
}

impl Default for QueryName {
    fn default() -> QueryName {
        let mut root = QueryName {
            wire: [0; QUERY_NAME_OCTETS],
            len: 0,
            label_count: 0,
            starts: [0; LABELS_MAX + 1],
            hashes: [HASH_SEED; NAME_OCTETS_MAX / BLOCK_OCTETS + 1],
        };
        root.set_root();
        root
    }
}

impl From<&Name> for QueryName {
    fn from(name: &Name) -> QueryName {
        QueryName::read(name.as_wire()).expect("a Name holds a valid wire name")
    }
}

/// Two odd constants with scattered bits, from the fraction of pi in hex.
const HASH_SEED: u64 = 0x243f_6a88_85a3_08d3;
const HASH_MULTIPLIER: u64 = 0x1319_8a2e_0370_7345;

/// The hash of a wire name, which ignores the case of letters. It is not keyed against crafted collisions, because names are
/// added by the API and by zone files alone.
pub fn name_hash(wire: &[u8]) -> u64 {
    hash_of_first(wire, wire.len()).unwrap_or_else(|| {
        // The hash reads whole words, and this name is shorter than one.
        let mut word = [0; WORD_OCTETS];
        word[..wire.len()].copy_from_slice(wire);
        hash_of_first(&word, wire.len()).unwrap_or_default()
    })
}

/// [`name_hash`] of the first `len` octets of `wire`. `None` if `wire` is shorter than that, or shorter than a word.
#[inline(always)]
pub(super) fn hash_of_first(wire: &[u8], len: usize) -> Option<u64> {
    let blocks = wire.get(..len)?.as_rchunks::<BLOCK_OCTETS>().1;
    let hash = blocks.iter().rev().fold(HASH_SEED, extend_hash);
    finish_hash(hash, wire, len)
}

#[inline(always)]
fn extend_hash(hash: u64, block: &[u8; BLOCK_OCTETS]) -> u64 {
    let [one, other] = [0, WORD_OCTETS].map(|at| word_at(block, at).unwrap_or_default());
    fold(hash ^ one, HASH_MULTIPLIER ^ other)
}

#[inline(always)]
fn finish_hash(hash: u64, wire: &[u8], len: usize) -> Option<u64> {
    let octets = len % BLOCK_OCTETS;
    let one = word_at(wire, 0)?;
    Some(match octets {
        0 => hash,
        1..WORD_OCTETS => fold(hash ^ one & u64::MAX >> (u64::BITS as usize - 8 * octets), HASH_MULTIPLIER),
        // The two words overlap unless there are 16 octets, which is harmless.
        _ => fold(hash ^ one, HASH_MULTIPLIER ^ word_at(wire, octets - WORD_OCTETS)?),
    })
}

/// Eight octets without the bit that distinguishes upper and lower case. Octets that are no letters lose the bit too, which
/// makes some more names collide but never gives equal names different hashes.
#[inline(always)]
fn word_at(wire: &[u8], at: usize) -> Option<u64> {
    let word = wire.get(at..)?.first_chunk()?;
    Some(u64::from_le_bytes(*word) & !0x2020_2020_2020_2020)
}

/// Multiplies to 128 bits and combines both halves, so that every input bit affects high and low output bits.
#[inline(always)]
fn fold(one: u64, other: u64) -> u64 {
    let wide = u128::from(one) * u128::from(other);
    (wide as u64) ^ ((wide >> 64) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_suffix_hash_equals_the_hash_of_that_name(
            labels in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..20), 0..12),
            behind in proptest::collection::vec(any::<u8>(), 8..20),
        ) {
            let name = Name::from_labels(labels.iter().map(|label| &label[..])).unwrap();
            let query = QueryName::from(&name);
            let lower = name.to_lower();
            prop_assert_eq!(query.as_wire(), lower.as_wire());
            for label in 0..=query.label_count() {
                prop_assert_eq!(query.suffix_hash(label), name_hash(query.suffix(label)));
            }
            let sent = [name.as_wire(), &behind].concat();
            prop_assert_eq!(hash_of_first(&sent, name.as_wire().len()), Some(query.suffix_hash(0)));
            let mut suffix = QueryName::default();
            for label in 0..=query.label_count() {
                suffix.set_suffix(&query, label);
                prop_assert_eq!(suffix.as_wire(), query.suffix(label));
                for below in 0..=suffix.label_count() {
                    prop_assert_eq!(suffix.suffix_hash(below), query.suffix_hash(label + below));
                }
            }
        }

        #[test]
        fn any_bytes_are_read_or_refused(wire in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(query) = QueryName::read(&wire) {
                prop_assert!(query.as_wire().len() <= NAME_OCTETS_MAX);
            }
        }
    }
}
