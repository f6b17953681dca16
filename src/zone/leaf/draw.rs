//! The random draw of an answer's instances and their order.
//!
//! All ordered samples of up to eight instances are equally likely. Bounded random numbers are taken from one random word by
//! repeated widening multiplication (Brackett-Rozinsky and Lemire, "Batched Ranged Random Integer Generation", 2024): the
//! high half of the product is the number, and the low half is the rest of the word. If the product of the bounds is p, no
//! probability is off by more than p / 2^64; p is at most 2^32 here, so that is at most 2^-32.

use super::{ANSWER_RECORDS_MAX, FewIndexes, HostRef, Leaf, LeafType, SetRef};

/// Limit on the records of a multivalue answer (Cloud Map, RoutingPolicy MULTIVALUE).
pub const MULTIVALUE_RECORDS_MAX: usize = 8;

/// Largest number of instances that are shuffled. Of more instances, indexes are drawn one after the other.
const SHUFFLED_MAX: usize = 16;

/// Indexes among the members of a set. Only the drawn ones at the start have a meaning.
type Indexes = [u32; SHUFFLED_MAX];
/// Room for the indexes of the largest answer.
pub(super) type DrawnIndexes = [u32; ANSWER_RECORDS_MAX];

const SHUFFLED_IN_ORDER: Indexes = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];
pub(super) const IN_ORDER: DrawnIndexes = in_order();

const fn in_order() -> DrawnIndexes {
    let mut indexes = [0; ANSWER_RECORDS_MAX];
    let mut at = 0;
    while at < indexes.len() {
        indexes[at] = at as u32;
        at += 1;
    }
    indexes
}

/// The records that were drawn for one answer, with their TTL in seconds. Their type is that of the query, or CNAME if an
/// alias was drawn.
#[expect(missing_docs, reason = "the type's document explains the fields")]
pub struct Drawn<'a> {
    pub(super) leaf: &'a Leaf,
    pub rtype: LeafType,
    pub ttl: u32,
    pub(super) set: SetRef,
    pub(super) indexes: DrawnIndexes,
    pub(super) len: usize,
}

impl<'a> Drawn<'a> {
    /// Number of instances that were drawn, at most [`ANSWER_RECORDS_MAX`].
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    pub(in crate::zone) fn leaf(&self) -> &'a Leaf {
        self.leaf
    }

    /// True if no instance was drawn, so that there is no answer.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The drawn instances in the order in which the answer has them.
    #[inline]
    pub fn hosts(&self) -> impl Iterator<Item = HostRef<'a>> + '_ {
        self.indexes.iter().take(self.len).map(|index| self.leaf.host(self.leaf.member(self.set, *index)))
    }
}

/// Draws up to eight indexes below `count`, and returns their number. `indexes` must be [`IN_ORDER`].
#[inline]
pub(super) fn draw(count: u32, random: &mut fastrand::Rng, indexes: &mut DrawnIndexes) -> usize {
    match indexes.first_chunk_mut() {
        Some(indexes) => draw_multivalue(count, random, indexes),
        None => 0,
    }
}

#[inline]
fn draw_multivalue(count: u32, random: &mut fastrand::Rng, indexes: &mut Indexes) -> usize {
    match count as usize {
        few @ 0..=SHUFFLED_MAX => shuffle(few, random, indexes),
        _ => draw_one_by_one(count, random, indexes),
    }
    MULTIVALUE_RECORDS_MAX.min(count as usize)
}

#[inline(never)]
pub(super) fn draw_few(count: u32, random: &mut fastrand::Rng) -> FewIndexes {
    let mut indexes = SHUFFLED_IN_ORDER;
    draw_multivalue(count, random, &mut indexes);
    std::array::from_fn(|at| indexes[at])
}

pub(super) const FEW_IN_ORDER: FewIndexes = [0, 1, 2, 3, 4, 5, 6, 7];

/// Shuffles the first `count` items, at most eight, like [`draw`] shuffles indexes.
#[inline(always)]
pub(super) fn shuffle_few<T: Copy>(
    count: u32,
    random: &mut fastrand::Rng,
    items: &mut [T; MULTIVALUE_RECORDS_MAX],
) {
    let word = random.u64(..);
    match count as usize {
        // With a constant count, the loop needs neither conditions nor bounds checks.
        MULTIVALUE_RECORDS_MAX => shuffle_by(word, MULTIVALUE_RECORDS_MAX, items),
        few => shuffle_by(word, few, items),
    }
}

/// Performs up to eight steps of a Fisher-Yates shuffle with one random word. That suffices, since the product of the bounds
/// is at most 16 * 15 * .. * 9, below 2^29.
#[inline]
fn shuffle(count: usize, random: &mut fastrand::Rng, indexes: &mut Indexes) {
    shuffle_by(random.u64(..), count, indexes);
}

#[inline(always)]
fn shuffle_by<T: Copy, const N: usize>(mut word: u64, count: usize, items: &mut [T; N]) {
    // The last item has only one position left, and items behind the first eight are not part of an answer.
    for at in 0..count.min(N).saturating_sub(1).min(MULTIVALUE_RECORDS_MAX) {
        let other = at + bounded(&mut word, (count - at) as u32) as usize;
        items.swap(at, other % N);
    }
}

/// Draws indexes one after the other, and repeats a draw of an index that was drawn before: so all ordered samples are
/// equally likely.
fn draw_one_by_one(count: u32, random: &mut fastrand::Rng, indexes: &mut Indexes) {
    let per_word = match count {
        0..=0x100 => 4,
        0x101..=0x1_0000 => 2,
        _ => 1,
    };
    // `u32::MAX` marks a free element, because indexes are below `count`.
    let mut drawn = [u32::MAX; MULTIVALUE_RECORDS_MAX];
    let mut len = 0;
    while len < MULTIVALUE_RECORDS_MAX {
        let mut word = random.u64(..);
        for _ in 0..per_word {
            let index = bounded(&mut word, count);
            // A fold over all eight elements has no branches, unlike a search.
            let is_known = drawn.iter().fold(false, |is_known, other| is_known | (*other == index));
            if !is_known && len < MULTIVALUE_RECORDS_MAX {
                drawn[len] = index;
                len += 1;
            }
        }
    }
    indexes[..MULTIVALUE_RECORDS_MAX].copy_from_slice(&drawn);
}

/// Takes a number below `bound` from a random word, which becomes the rest of it.
#[inline]
fn bounded(word: &mut u64, bound: u32) -> u32 {
    let wide = u128::from(*word) * u128::from(bound);
    *word = wide as u64;
    (wide >> 64) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn indexes(count: u32, random: &mut fastrand::Rng) -> (DrawnIndexes, usize) {
        let mut indexes = IN_ORDER;
        let len = draw(count, random, &mut indexes);
        (indexes, len)
    }

    /// Chi-square test of a uniform distribution, in which one in 30,000 uniform generators would fail.
    fn assert_even(counts: &[u32], degrees_of_freedom: f64, what: &str) {
        let expected = counts.iter().map(|count| f64::from(*count)).sum::<f64>() / counts.len() as f64;
        let deviation = |count: &u32| (f64::from(*count) - expected).powi(2) / expected;
        let chi_square: f64 = counts.iter().map(deviation).sum();
        let limit = degrees_of_freedom + 4.0 * (2.0 * degrees_of_freedom).sqrt() + 8.0;
        assert!(chi_square < limit, "chi-square {chi_square} of {degrees_of_freedom}: {what}");
    }

    #[test]
    fn each_instance_is_equally_likely_at_each_position() {
        let mut random = fastrand::Rng::with_seed(1);
        for count in [1, 2, 3, 7, 8, 9, 12, 16, 17, 20, 64, 256, 258, 1000, 65_536, 65_540, 1_000_000] {
            // Many instances are counted in up to 64 groups of equal size.
            let groups = (1..=64).rev().find(|groups| count % groups == 0).unwrap_or(1);
            let mut counts = vec![0u32; groups as usize * MULTIVALUE_RECORDS_MAX];
            let mut drawn_len = 0;
            for _ in 0..20_000 {
                let (indexes, len) = indexes(count, &mut random);
                let mut drawn = indexes[..len].to_vec();
                for (at, index) in drawn.iter().enumerate() {
                    let group = u64::from(*index) * u64::from(groups) / u64::from(count);
                    counts[at * groups as usize + group as usize] += 1;
                }
                drawn.sort_unstable();
                drawn.dedup();
                assert!(drawn.len() == len && drawn.iter().all(|index| *index < count));
                drawn_len = len;
            }
            assert_eq!(drawn_len, MULTIVALUE_RECORDS_MAX.min(count as usize));
            for (at, counts) in counts.chunks(groups as usize).take(drawn_len).enumerate() {
                assert_even(counts, f64::from(groups - 1), &format!("{count} instances, position {at}"));
            }
        }
    }

    #[test]
    fn each_order_is_equally_likely() {
        let mut random = fastrand::Rng::with_seed(2);
        for count in [3, 8, 11, 16, 17, 20] {
            let mut counts = vec![0u32; count * count * count];
            let rounds = 60 * counts.len();
            for _ in 0..rounds {
                let (indexes, _) = indexes(count as u32, &mut random);
                let at = indexes[..3].iter().fold(0, |at, index| at * count + *index as usize);
                counts[at] += 1;
            }
            let possible: Vec<u32> = (0..counts.len())
                .filter(|at| {
                    let (one, two, three) = (at / count / count, at / count % count, at % count);
                    one != two && two != three && one != three
                })
                .map(|at| counts[at])
                .collect();
            assert_eq!(possible.iter().sum::<u32>() as usize, rounds);
            assert_even(&possible, possible.len() as f64 - 1.0, &format!("{count} instances"));
        }
    }

    #[test]
    fn each_shuffle_of_six_is_equally_likely() {
        let mut random = fastrand::Rng::with_seed(3);
        let mut counts = std::collections::HashMap::new();
        for _ in 0..72_000 {
            *counts.entry(indexes(6, &mut random).0[..6].to_vec()).or_insert(0) += 1;
        }
        let counts: Vec<u32> = counts.into_values().collect();
        assert_eq!(counts.len(), 720);
        assert_even(&counts, 719.0, "six instances");
    }
}
