//! A persistent hash table, whose unchanged parts the directory's versions share.
//!
//! The table is a tree with 64 branches on each level. The two upper levels are full arrays; below them are tries that
//! store only existing branches (Bagwell, "Ideal Hash Trees", 2001). Clones share all memory. A change copies one array on
//! each level, a few KiB in total, and nothing of what no other version shares. An entry is stored at the first level on
//! which no other entry has its index, so that from a thousand names to millions a probe reads one or two cache lines that
//! are rarely in the cache, and then the value.

use std::sync::Arc;

const BITS: u32 = 6;
const FAN_OUT: usize = 1 << BITS;

/// Values by a 64-bit hash, which several values may have in common.
pub(super) struct Table<T> {
    root: Arc<[Arc<[Slot<T>; FAN_OUT]>; FAN_OUT]>,
    len: usize,
}

enum Slot<T> {
    Entry { hash: u64, value: Arc<T> },
    Branch(Branch<T>),
}

/// A trie node: the slots of the indices that occur at this level, in order. Bit `n` of `bitmap` is set if index `n` has a
/// slot; it is 0 if the slots are entries with one hash, or in an empty slot of the upper levels.
struct Branch<T> {
    bitmap: u64,
    slots: Arc<[Slot<T>]>,
}

/// Most slots that [`Branch::first`] compares one by one, which is faster than counting bits.
const FEW_SLOTS: usize = 4;

const TRIE_SHIFT: u32 = u64::BITS - 3 * BITS;

impl<T> Table<T> {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn get(&self, hash: u64, matches: impl Fn(&T) -> bool) -> Option<&T> {
        let (high, low) = upper_indices(hash);
        match &self.root[high][low] {
            Slot::Branch(branch) => branch.get(hash, matches),
            entry => entry.value(hash, &matches),
        }
    }

    /// The first value with this hash. It is nearly always the only one, but the caller must compare it.
    #[inline(always)]
    pub(super) fn first(&self, hash: u64) -> Option<&T> {
        let (high, low) = upper_indices(hash);
        match &self.root[high][low] {
            Slot::Entry { hash: own, value } => (*own == hash).then_some(value),
            Slot::Branch(branch) if branch.slots.is_empty() => None,
            Slot::Branch(branch) => branch.first(hash),
        }
    }

    /// The first values with each of the first `len` hashes. Each step is done for all hashes before the next step, so that
    /// their cache misses overlap.
    pub(super) fn get_by_hash<const N: usize>(&self, hashes: &[u64; N], len: usize) -> [Option<&T>; N] {
        let mut slots: [Option<&Slot<T>>; N] = std::array::from_fn(|at| {
            let (high, low) = upper_indices(hashes[at]);
            (at < len).then(|| &self.root[high][low])
        });
        let mut shift = TRIE_SHIFT;
        let mut has_branches = true;
        while has_branches {
            has_branches = false;
            for (slot, hash) in slots.iter_mut().zip(hashes) {
                if let Some(Slot::Branch(branch)) = *slot {
                    let bit = bit(*hash, shift);
                    *slot = if branch.bitmap & bit == 0 {
                        None
                    } else {
                        branch.slots.get(branch.slot_index(bit))
                    };
                    has_branches |= slot.is_some();
                }
            }
            shift = shift.saturating_sub(BITS);
        }
        std::array::from_fn(|at| slots[at]?.value(hashes[at], &|_: &T| true))
    }

    pub(super) fn put(&mut self, hash: u64, value: Arc<T>, matches: impl Fn(&T) -> bool) {
        let is_new = self.slot_mut(hash).put(TRIE_SHIFT, hash, value, &matches);
        self.len += usize::from(is_new);
    }

    pub(super) fn remove(&mut self, hash: u64, matches: impl Fn(&T) -> bool) -> Option<Arc<T>> {
        self.get(hash, &matches)?;
        let removed = self.slot_mut(hash).remove(TRIE_SHIFT, hash, &matches)?;
        self.len -= 1;
        Some(removed)
    }

    /// Removes the values for which `is_old` holds, all of which must have one of the `old` hashes, and adds the `new` values,
    /// which must not match any value that stays. Each of the 4,096 tries that contains one of the hashes is rebuilt once.
    pub(super) fn replace(
        &mut self,
        mut old: Vec<u64>,
        mut new: Vec<(u64, Arc<T>)>,
        is_old: impl Fn(&T) -> bool,
    ) {
        old.sort_unstable();
        new.sort_unstable_by_key(|(hash, _)| *hash);
        let (mut old, mut new) = (old.into_iter().peekable(), new.into_iter().peekable());
        let mut part = Vec::new();
        while let Some(hash) = old.peek().copied().into_iter().chain(new.peek().map(|(hash, _)| *hash)).min()
        {
            let is_here = |other: u64| upper_indices(other) == upper_indices(hash);
            while old.next_if(|old| is_here(*old)).is_some() {}
            let slot = self.slot_mut(hash);
            let mut before = 0;
            slot.each(&mut |hash, value| {
                before += 1;
                if !is_old(value) {
                    part.push((hash, value.clone()));
                }
            });
            while let Some(entry) = new.next_if(|(hash, _)| is_here(*hash)) {
                part.push(entry);
            }
            part.sort_unstable_by_key(|(hash, _)| *hash);
            let count = part.len();
            *slot = Slot::of(&mut part.drain(..), count, TRIE_SHIFT);
            self.len = self.len + count - before;
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.root.iter().flat_map(|slots| {
            let mut levels = vec![slots.iter()];
            std::iter::from_fn(move || {
                loop {
                    match levels.last_mut()?.next() {
                        None => drop(levels.pop()),
                        Some(Slot::Branch(below)) => levels.push(below.slots.iter()),
                        Some(Slot::Entry { value, .. }) => return Some(&**value),
                    }
                }
            })
        })
    }

    fn slot_mut(&mut self, hash: u64) -> &mut Slot<T> {
        let (high, low) = upper_indices(hash);
        &mut Arc::make_mut(&mut Arc::make_mut(&mut self.root)[high])[low]
    }
}

impl<T> Branch<T> {
    #[inline(always)]
    fn first(&self, hash: u64) -> Option<&T> {
        if self.slots.len() > FEW_SLOTS {
            return self.first_of_many(hash);
        }
        let mut has_branches = false;
        for slot in self.slots.iter() {
            match slot {
                Slot::Entry { hash: own, value } if *own == hash => return Some(value),
                Slot::Entry { .. } => {}
                Slot::Branch(_) => has_branches = true,
            }
        }
        if has_branches { self.first_of_many(hash) } else { None }
    }

    #[inline(never)]
    fn first_of_many(&self, hash: u64) -> Option<&T> {
        self.get(hash, |_| true)
    }

    #[inline]
    fn get(&self, hash: u64, matches: impl Fn(&T) -> bool) -> Option<&T> {
        let (mut branch, mut shift) = (self, TRIE_SHIFT);
        loop {
            let bit = bit(hash, shift);
            if branch.bitmap & bit == 0 {
                if branch.bitmap != 0 {
                    return None;
                }
                // The slots are entries with equal hashes. Such branches are rare.
                return branch.slots.iter().find_map(|slot| slot.value(hash, &matches));
            }
            match branch.slots.get(branch.slot_index(bit))? {
                Slot::Branch(below) => branch = below,
                entry => return entry.value(hash, &matches),
            }
            shift = shift.saturating_sub(BITS);
        }
    }

    #[inline]
    fn slot_index(&self, bit: u64) -> usize {
        (self.bitmap & (bit - 1)).count_ones() as usize
    }

    fn put(&mut self, shift: u32, hash: u64, value: Arc<T>, matches: &impl Fn(&T) -> bool) -> bool {
        if self.bitmap == 0 {
            return self.put_among_equal_hashes(shift, hash, value, matches);
        }
        let bit = bit(hash, shift);
        let at = self.slot_index(bit);
        if self.bitmap & bit == 0 {
            self.slots = inserted(&self.slots, at, Slot::Entry { hash, value });
            self.bitmap |= bit;
            return true;
        }
        Arc::make_mut(&mut self.slots)[at].put(shift.saturating_sub(BITS), hash, value, matches)
    }

    fn put_among_equal_hashes(
        &mut self,
        shift: u32,
        hash: u64,
        value: Arc<T>,
        matches: &impl Fn(&T) -> bool,
    ) -> bool {
        let own = self.slots.iter().find_map(Slot::hash).unwrap_or(hash);
        if own != hash {
            let below = Slot::Branch(self.clone());
            *self = Branch { bitmap: bit(own, shift), slots: Arc::new([below]) };
            return self.put(shift, hash, value, matches);
        }
        let entry = Slot::Entry { hash, value };
        match self.slots.iter().position(|slot| slot.value(hash, matches).is_some()) {
            Some(at) => {
                Arc::make_mut(&mut self.slots)[at] = entry;
                false
            }
            None => {
                self.slots = inserted(&self.slots, self.slots.len(), entry);
                true
            }
        }
    }

    fn remove(&mut self, shift: u32, hash: u64, matches: &impl Fn(&T) -> bool) -> Option<Arc<T>> {
        let bit = bit(hash, shift);
        let at = if self.bitmap & bit == 0 {
            self.slots.iter().position(|slot| slot.value(hash, matches).is_some())?
        } else {
            self.slot_index(bit)
        };
        let slot = &mut Arc::make_mut(&mut self.slots)[at];
        let removed = slot.remove(shift.saturating_sub(BITS), hash, matches)?;
        if slot.is_empty() {
            let (before, after) = (&self.slots[..at], &self.slots[at + 1..]);
            self.slots = before.iter().chain(after).cloned().collect();
            self.bitmap &= !bit;
        }
        Some(removed)
    }
}

impl<T> Slot<T> {
    fn empty() -> Slot<T> {
        Slot::Branch(Branch { bitmap: 0, slots: Arc::default() })
    }

    fn is_empty(&self) -> bool {
        matches!(self, Slot::Branch(branch) if branch.slots.is_empty())
    }

    /// Adds a value or replaces the one that matches; returns true if it was added.
    fn put(&mut self, shift: u32, hash: u64, value: Arc<T>, matches: &impl Fn(&T) -> bool) -> bool {
        match self {
            _ if self.is_empty() => {
                *self = Slot::Entry { hash, value };
                true
            }
            Slot::Branch(branch) => branch.put(shift, hash, value, matches),
            Slot::Entry { hash: own, value: old } if *own == hash && matches(old) => {
                *old = value;
                false
            }
            Slot::Entry { hash: own, .. } => {
                // Both entries move one level down, or into one branch if their hashes are equal.
                let bitmap = if *own == hash { 0 } else { bit(*own, shift) };
                let mut branch = Branch { bitmap, slots: Arc::new([self.clone()]) };
                branch.put(shift, hash, value, matches);
                *self = Slot::Branch(branch);
                true
            }
        }
    }

    fn remove(&mut self, shift: u32, hash: u64, matches: &impl Fn(&T) -> bool) -> Option<Arc<T>> {
        match self {
            Slot::Branch(branch) => {
                let removed = branch.remove(shift, hash, matches)?;
                // The shape must not depend on removed entries, so a branch of a single entry becomes that entry.
                if let [entry @ Slot::Entry { .. }] = &*branch.slots {
                    *self = entry.clone();
                }
                Some(removed)
            }
            Slot::Entry { value, .. } => {
                let removed = value.clone();
                *self = Slot::empty();
                Some(removed)
            }
        }
    }

    /// Makes the slot of the next `count` entries, which must be sorted by hash.
    fn of(entries: &mut std::vec::Drain<'_, (u64, Arc<T>)>, count: usize, shift: u32) -> Slot<T> {
        let next = &entries.as_slice()[..count];
        let (Some((first, _)), Some((last, _))) = (next.first(), next.last()) else { return Slot::empty() };
        let entry = |(hash, value)| Slot::Entry { hash, value };
        if first == last {
            return match count {
                1 => entries.next().map_or_else(Slot::empty, entry),
                _ => Slot::Branch(Branch { bitmap: 0, slots: entries.take(count).map(entry).collect() }),
            };
        }
        let mut bitmap = 0;
        let mut counts = Vec::with_capacity(FAN_OUT);
        for below in next.chunk_by(|(one, _), (other, _)| bit(*one, shift) == bit(*other, shift)) {
            bitmap |= bit(below[0].0, shift);
            counts.push(below.len());
        }
        let slots = counts.into_iter().map(|count| Slot::of(entries, count, shift.saturating_sub(BITS)));
        Slot::Branch(Branch { bitmap, slots: slots.collect() })
    }

    fn each(&self, visit: &mut impl FnMut(u64, &Arc<T>)) {
        match self {
            Slot::Entry { hash, value } => visit(*hash, value),
            Slot::Branch(branch) => branch.slots.iter().for_each(|slot| slot.each(visit)),
        }
    }

    fn hash(&self) -> Option<u64> {
        match self {
            Slot::Entry { hash, .. } => Some(*hash),
            Slot::Branch(_) => None,
        }
    }

    #[inline(always)]
    fn value(&self, wanted: u64, matches: &impl Fn(&T) -> bool) -> Option<&T> {
        match self {
            Slot::Entry { hash, value } if *hash == wanted && matches(value) => Some(value),
            _ => None,
        }
    }
}

impl<T> Clone for Table<T> {
    fn clone(&self) -> Table<T> {
        Table { root: self.root.clone(), len: self.len }
    }
}

impl<T> Clone for Branch<T> {
    fn clone(&self) -> Branch<T> {
        Branch { bitmap: self.bitmap, slots: self.slots.clone() }
    }
}

impl<T> Clone for Slot<T> {
    fn clone(&self) -> Slot<T> {
        match self {
            Slot::Entry { hash, value } => Slot::Entry { hash: *hash, value: value.clone() },
            Slot::Branch(branch) => Slot::Branch(branch.clone()),
        }
    }
}

impl<T> Default for Table<T> {
    fn default() -> Table<T> {
        let slots = Arc::new(std::array::from_fn(|_| Slot::empty()));
        Table { root: Arc::new(std::array::from_fn(|_| slots.clone())), len: 0 }
    }
}

#[inline(always)]
fn upper_indices(hash: u64) -> (usize, usize) {
    let index = |shift: u32| (hash >> shift) as usize % FAN_OUT;
    (index(u64::BITS - BITS), index(u64::BITS - 2 * BITS))
}

/// The bit of a hash's index at the level of `shift`. 64 is no multiple of 6, so the index of the last level, with shift 0,
/// has some bits in common with the level above.
fn bit(hash: u64, shift: u32) -> u64 {
    1 << (hash >> shift & (FAN_OUT as u64 - 1))
}

fn inserted<T>(slots: &[Slot<T>], at: usize, slot: Slot<T>) -> Arc<[Slot<T>]> {
    let (before, after) = slots.split_at(at);
    before.iter().cloned().chain([slot]).chain(after.iter().cloned()).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// Hashes that share branches: equal ones, ones that differ in their last bits or in one bit, and scattered ones.
    fn hash_of(key: u64) -> u64 {
        match key % 4 {
            0 => 0x1234_5678_9abc_def0,
            1 => 0x1234_5678_9abc_def0 + key / 4 % 16,
            2 => 0x1234_5678_9abc_def0 ^ 1 << (key / 4 % 64),
            _ => key.wrapping_mul(0x9e37_79b9_7f4a_7c15),
        }
    }

    /// The shape of a slot as text, to show that it depends on the table's contents alone and not on past changes.
    fn structure<T>(slot: &Slot<T>) -> String {
        match slot {
            Slot::Entry { hash, .. } => format!("{hash:x}"),
            Slot::Branch(Branch { bitmap, slots }) => {
                let mut below: Vec<_> = slots.iter().map(structure).collect();
                if *bitmap == 0 {
                    below.sort();
                }
                format!("{bitmap:x}({})", below.join(" "))
            }
        }
    }

    #[test]
    fn replacing_many_values_at_once_makes_the_table_that_single_changes_make() {
        let mut random = fastrand::Rng::with_seed(3);
        let (mut one_by_one, mut at_once) = (Table::default(), Table::default());
        for key in 1_000..1_300u64 {
            one_by_one.put(hash_of(key), Arc::new((key, 0)), |value| value.0 == key);
            at_once.put(hash_of(key), Arc::new((key, 0)), |value| value.0 == key);
        }
        let mut old = Vec::new();
        for step in 1..60u32 {
            let before = at_once.clone();
            let shown = contents(&before);
            let most = random.u64(..400);
            let new: Vec<u64> = (0..most).filter(|_| random.u8(..3) > 0).collect();
            old.iter().for_each(|key| drop(one_by_one.remove(hash_of(*key), |value| value.0 == *key)));
            let entries = new.iter().map(|key| (hash_of(*key), Arc::new((*key, step))));
            entries.clone().for_each(|(hash, value)| {
                let key = value.0;
                one_by_one.put(hash, value, |value| value.0 == key);
            });
            at_once.replace(old.iter().map(|key| hash_of(*key)).collect(), entries.collect(), |value| {
                value.0 < 1_000
            });
            assert_eq!(contents(&at_once), contents(&one_by_one));
            assert_eq!(contents(&before), shown);
            let slots = |table: &Table<_>| -> Vec<String> {
                table.root.iter().flat_map(|slots| slots.iter().map(structure)).collect()
            };
            let mut never_changed = Table::default();
            for (key, value) in contents(&at_once) {
                never_changed.put(hash_of(key), Arc::new((key, value)), |value| value.0 == key);
            }
            assert_eq!(slots(&at_once), slots(&never_changed));
            old = new;
        }
    }

    fn contents(table: &Table<(u64, u32)>) -> BTreeMap<u64, u32> {
        let contents: BTreeMap<_, _> = table.iter().copied().collect();
        assert_eq!(table.iter().count(), contents.len());
        assert_eq!(table.len(), contents.len());
        contents
    }

    #[test]
    fn random_changes_keep_the_table_equal_to_a_map() {
        let mut random = fastrand::Rng::with_seed(1);
        let mut table = Table::default();
        let mut model = BTreeMap::new();
        let mut versions = Vec::new();
        for step in 0..20_000u32 {
            let key = random.u64(..400);
            let matches = |value: &(u64, u32)| value.0 == key;
            if random.u32(..20_000) > step {
                table.put(hash_of(key), Arc::new((key, step)), matches);
                model.insert(key, step);
            } else {
                let removed = table.remove(hash_of(key), matches);
                assert_eq!(removed.map(|value| value.1), model.remove(&key));
            }
            let asked = random.u64(..400);
            let found = table.get(hash_of(asked), |value| value.0 == asked);
            assert_eq!(found.map(|value| &value.1), model.get(&asked));
            if step % 1000 == 0 {
                assert_eq!(contents(&table), model);
                versions.push((table.clone(), model.clone()));
            }
        }
        for key in 0..400 {
            table.remove(hash_of(key), |value| value.0 == key);
        }
        assert_eq!((table.len(), table.iter().count()), (0, 0));
        assert!(table.root.iter().flat_map(|slots| slots.iter()).all(Slot::is_empty));
        for (version, model) in versions {
            assert_eq!(contents(&version), model);
        }
    }
}
