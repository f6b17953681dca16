//! The octets of a record's data, taken from the front.

use crate::zone::Name;

/// What is left of the data.
pub(super) struct Octets<'a>(pub(super) &'a [u8]);

impl<'a> Octets<'a> {
    /// The next `N` octets.
    pub(super) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (array, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*array)
    }

    /// The next `len` octets.
    pub(super) fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    /// A number of 16 bits.
    pub(super) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    /// A number of 32 bits.
    pub(super) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    /// A length octet and that many octets.
    pub(super) fn string(&mut self) -> Option<&'a [u8]> {
        let [len] = self.array()?;
        self.take(len.into())
    }

    /// A domain name in wire form, which must not be compressed.
    pub(super) fn name(&mut self) -> Option<Name> {
        let len = Name::wire_len(self.0).ok()?;
        Name::from_wire(self.take(len)?).ok()
    }

    /// All that is left.
    pub(super) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }
}
