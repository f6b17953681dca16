//! Cursor over the data of a record in wire form.

use crate::zone::Name;

/// The part of the data that is not read yet. Each method removes a field from its front; `None` if the data is too short.
pub(super) struct Octets<'a>(pub(super) &'a [u8]);

impl<'a> Octets<'a> {
    pub(super) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (array, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*array)
    }

    pub(super) fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    /// A character string (RFC 1035 §3.3): a length octet, and as many octets as it says.
    pub(super) fn string(&mut self) -> Option<&'a [u8]> {
        let [len] = self.array()?;
        self.take(len.into())
    }

    /// `None` also for a compressed name.
    pub(super) fn name(&mut self) -> Option<Name> {
        let len = Name::wire_len(self.0).ok()?;
        Name::from_wire(self.take(len)?).ok()
    }

    pub(super) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }
}
