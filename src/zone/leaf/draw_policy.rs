//! Draws of services whose policies differ from Cloud Map's: answers with another limit than eight, weights, and ranks.
//!
//! Few services have such a policy, so it is in a separate allocation, and queries for other services only test a bit.

use super::{
    Drawn, Leaf, LeafType, SetRef, Traits,
    draw::{DrawnIndexes, IN_ORDER},
};

/// Limit on the records of an answer that a policy can set. It bounds the memory of an answer that is being made.
pub const ANSWER_RECORDS_MAX: usize = 64;

/// Draw policy of a leaf: the limit on the records of an answer, the weight of each host (empty if all are 1), and the draw
/// of each set in the order of the leaf's sets.
#[derive(Clone, Debug)]
pub(super) struct DrawPolicy {
    pub(super) records_max: u8,
    pub(super) weights: Box<[u8]>,
    pub(super) sets: Box<[SetDraw]>,
}

/// Draw of the records of one type. `certain` members at the start of the set are in every answer, because they rank before
/// the others. `aliases` can be drawn instead of a record. `sums` are the running sums of the weights of the members and
/// then of the aliases; they are empty if all weights are equal.
#[derive(Clone, Debug)]
pub(super) struct SetDraw {
    pub(super) rtype: LeafType,
    pub(super) certain: u32,
    pub(super) aliases: Box<[u32]>,
    pub(super) sums: Box<[u64]>,
}

impl DrawPolicy {
    pub(super) fn of_set(&self, rtype: LeafType) -> Option<&SetDraw> {
        self.sets.iter().find(|set| set.rtype == rtype)
    }
}

impl Leaf {
    #[inline]
    pub(super) fn draw_policy(&self) -> Option<&DrawPolicy> {
        if !self.traits.has(Traits::HAS_DRAW_POLICY) {
            return None;
        }
        self.extra.as_ref()?.draw_policy.as_ref()
    }

    /// Limit on the records of an answer to a query for the service.
    pub fn records_max(&self) -> usize {
        self.draw_policy().map_or(super::MULTIVALUE_RECORDS_MAX, |policy| policy.records_max.into())
    }

    /// Number of the hosts of [`Leaf::all`], from the first, that every answer has, because they rank before the others.
    pub fn certain(&self, rtype: LeafType) -> usize {
        self.draw_policy().and_then(|policy| policy.of_set(rtype)).map_or(0, |set| set.certain as usize)
    }

    pub(super) fn weight(&self, host: u32) -> u8 {
        let weights = self.draw_policy().map_or(&[][..], |policy| &policy.weights);
        weights.get(host as usize).copied().unwrap_or(1)
    }

    #[cold]
    #[inline(never)]
    pub(super) fn draw_by_policy<'l>(
        &'l self,
        policy: &'l DrawPolicy,
        set: SetRef,
        random: &mut fastrand::Rng,
    ) -> Drawn<'l> {
        let draw = policy.of_set(set.rtype);
        if self.traits.has(Traits::DRAWS_ONE) || set.count == 0 {
            let sums = draw.map_or(&[][..], |draw| &draw.sums);
            return self.draw_one(set, sums, random);
        }
        let mut drawn = self.not_drawn(set);
        let len = set.count.min(policy.records_max.into());
        let certain = draw.map_or(0, |draw| draw.certain).min(len);
        sample(certain, set.count, len - certain, random, &mut drawn.indexes);
        drawn.len = len as usize;
        random.shuffle(&mut drawn.indexes[..len as usize]);
        drawn
    }
}

/// Position of a random number below the last of the running sums: each position is as likely as its share.
pub(super) fn weighted(sums: &[u64], random: &mut fastrand::Rng) -> usize {
    let total = sums.last().copied().unwrap_or(1);
    let number = random.u64(..total.max(1));
    sums.partition_point(|sum| *sum <= number)
}

/// Puts `wanted` different indexes from `first` up to below `count` behind the first `first` ones, which stay in order. All
/// samples are equally likely (Floyd's algorithm; Bentley, "Programming Pearls: A Sample of Brilliance", 1987).
fn sample(first: u32, count: u32, wanted: u32, random: &mut fastrand::Rng, indexes: &mut DrawnIndexes) {
    *indexes = IN_ORDER;
    let first_at = first as usize;
    for (at, last) in (first_at..).zip(count - wanted..count) {
        let index = random.u32(first..=last);
        let is_new = !indexes[first_at..at].contains(&index);
        indexes[at] = if is_new { index } else { last };
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn every_sample_is_equally_likely_behind_the_first_indexes() {
        let mut random = fastrand::Rng::with_seed(1);
        let mut counts: HashMap<Vec<u32>, u32> = HashMap::new();
        for _ in 0..20_000 {
            let mut indexes = IN_ORDER;
            sample(2, 7, 3, &mut random, &mut indexes);
            assert_eq!(indexes[..2], [0, 1]);
            let mut drawn = indexes[2..5].to_vec();
            drawn.sort_unstable();
            *counts.entry(drawn).or_default() += 1;
        }
        // Five choose three samples; the deviation of each count is 42.
        assert_eq!(counts.len(), 10);
        assert!(counts.values().all(|count| count.abs_diff(2_000) < 250), "{counts:?}");
    }

    #[test]
    fn a_position_is_as_likely_as_its_share() {
        let mut random = fastrand::Rng::with_seed(1);
        let mut counts = [0u32; 4];
        (0..10_000).for_each(|_| counts[weighted(&[1, 1, 4, 10], &mut random)] += 1);
        assert_eq!(counts[1], 0);
        for (count, expected) in [(counts[0], 1_000u32), (counts[2], 3_000), (counts[3], 6_000)] {
            assert!(count.abs_diff(expected) < 250, "{counts:?}");
        }
    }
}
