//! Reservation of numbers for changes that are not stored.
//!
//! A change of a watched instance takes a number but is not committed. No such number may be given again after a restart,
//! because a zone's serial and a service's revision must only grow. Therefore numbers are reserved in blocks: before the
//! first number of a block is given, the block's end is stored as the last number. Ends of blocks are multiples of
//! [`BLOCK_NUMBERS`], and from the first reservation on every commit stores the end of the newest block. So at a start, a
//! last number that is such a multiple means that unknown numbers below it may have been given. The registry then continues
//! after that number, and raises the revision of every service to it. If the last number is a multiple by chance, this
//! does no harm.

use super::{change::Change, port::Group};

const BLOCK_NUMBERS: u64 = 65_536;

/// End of the newest reserved block; `None` until the first change that is not stored takes a number.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Reserved(Option<u64>);

impl Reserved {
    /// The reservation of an earlier run, recognised by the last number that it stored.
    pub(super) fn found(sequence: u64) -> Reserved {
        Reserved((sequence > 0 && sequence.is_multiple_of(BLOCK_NUMBERS)).then_some(sequence))
    }

    /// Returns true if this run or an earlier one may have given numbers that are not stored.
    pub(super) fn is_any(self) -> bool {
        self.0.is_some()
    }

    /// The reservation that is needed to give numbers up to `sequence`. `has_unstored` is true if changes that are not
    /// stored take some of them.
    pub(super) fn for_numbers_up_to(self, sequence: u64, has_unstored: bool) -> Reserved {
        match self.0 {
            None if !has_unstored => self,
            Some(end) if sequence <= end => self,
            _ => Reserved(Some(sequence.div_ceil(BLOCK_NUMBERS) * BLOCK_NUMBERS)),
        }
    }

    /// Every commit needs this group, which makes the end of the block the last number whatever the changes say.
    pub(super) fn group(self) -> Option<Group> {
        self.0.map(|end| vec![Change::PutSequence(end)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_reserved_until_a_change_that_is_not_stored_takes_a_number() {
        let none = Reserved::default();
        assert_eq!(none.for_numbers_up_to(100_000, false), none);
        assert!(none.group().is_none());
        let first = none.for_numbers_up_to(7, true);
        assert_eq!(first, Reserved(Some(65_536)));
        assert_eq!(none.for_numbers_up_to(65_536, true), first);
        assert_eq!(first.for_numbers_up_to(65_536, true), first);
        assert_eq!(first.for_numbers_up_to(65_537, false), Reserved(Some(131_072)));
    }

    #[test]
    fn reservation_of_an_earlier_run_is_recognised_by_the_last_number() {
        for (sequence, is_any) in [(0, false), (1, false), (65_536, true), (65_537, false), (131_072, true)] {
            assert_eq!(Reserved::found(sequence).is_any(), is_any, "{sequence}");
        }
    }
}
