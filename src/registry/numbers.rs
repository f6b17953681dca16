//! Numbers that are given without being stored: blocks of them are reserved first.
//!
//! A change of a watched instance takes a number and costs no commit. After a restart no such number may come back: a
//! zone's serial and a service's revision only grow. So before the first of a block is given, the end of the block is
//! stored as the last number. Ends of blocks are multiples of [`BLOCK_NUMBERS`], and from the first one on every commit
//! stores the end of the newest block: that is how a start knows, from the last number alone, that numbers below it may
//! have been given that nothing else tells of. It goes on after that number, and takes it for the revision of every
//! service. A store that happens to end at a multiple without that loses nothing by it.

use super::{change::Change, port::Group};

/// Numbers that one commit reserves.
const BLOCK_NUMBERS: u64 = 65_536;

/// What is reserved; nothing until a number was given that is not stored.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Reserved(Option<u64>);

impl Reserved {
    /// What an earlier run reserved, told by the last number that it stored.
    pub(super) fn found(sequence: u64) -> Reserved {
        Reserved((sequence > 0 && sequence.is_multiple_of(BLOCK_NUMBERS)).then_some(sequence))
    }

    /// Whether an earlier run, or this one, gave numbers that are not stored.
    pub(super) fn is_any(self) -> bool {
        self.0.is_some()
    }

    /// What has to be reserved when `sequence` is the last number given; `is_passing` is whether some of the numbers up
    /// to it are not stored.
    pub(super) fn for_numbers_up_to(self, sequence: u64, is_passing: bool) -> Reserved {
        match self.0 {
            None if !is_passing => self,
            Some(end) if sequence <= end => self,
            _ => Reserved(Some(sequence.div_ceil(BLOCK_NUMBERS) * BLOCK_NUMBERS)),
        }
    }

    /// What every commit stores beside its changes: the last number is that of the block, whatever the changes say.
    pub(super) fn group(self) -> Option<Group> {
        self.0.map(|end| vec![Change::PutSequence(end)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_reserved_before_a_number_is_given_that_is_not_stored() {
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
    fn a_start_knows_a_reservation_by_the_last_number() {
        for (sequence, is_any) in [(0, false), (1, false), (65_536, true), (65_537, false), (131_072, true)] {
            assert_eq!(Reserved::found(sequence).is_any(), is_any, "{sequence}");
        }
    }
}
