//! Writer of a reply's sections, which compresses names and stops at the length limit.
//!
//! A record that does not fit marks the reply as full. The caller then returns to a [`Checkpoint`], or to the end of the
//! last counted record. Names are compressed wherever RFC 3597 §4 permits it: they point to suffixes of the question's name
//! and of earlier names, of which a [`CompressionTable`] keeps the first [`SUFFIXES_MAX`].

use crate::wire::{Class, HEADER_OCTETS, Pointer};
use crate::zone::{
    Negative, QueryName, RecordType,
    leaf::{Data, DataWriter},
};

use super::resolve::{Owner, Section};

const SUFFIXES_MAX: usize = 64;
/// Limit on the pointers that a client follows to read one name. Go's resolver gives up after 10, dnspython after 16.
const HOPS_MAX: u8 = 8;
/// Length in bytes of a record's type, class, TTL and data length (RFC 1035 §3.2.1).
const FIXED_OCTETS: usize = 10;
pub(super) const POINTED_OCTETS: usize = 2 + FIXED_OCTETS;

/// Suffixes of the names in a message that later names can point to (RFC 1035 §4.1.4), with their hashes and the number of
/// further pointers (`hops`) that a client follows to read them. `name` is a buffer, which is `None` while it is in use.
pub(super) struct CompressionTable {
    hashes: [u64; SUFFIXES_MAX],
    pointers: [Pointer; SUFFIXES_MAX],
    hops: [u8; SUFFIXES_MAX],
    len: usize,
    has_question: bool,
    name: Option<Box<QueryName>>,
}

impl Default for CompressionTable {
    fn default() -> CompressionTable {
        CompressionTable {
            hashes: [0; SUFFIXES_MAX],
            pointers: [Pointer::QUESTION; SUFFIXES_MAX],
            hops: [0; SUFFIXES_MAX],
            len: 0,
            has_question: false,
            name: Some(Box::default()),
        }
    }
}

impl CompressionTable {
    fn push(&mut self, hash: u64, offset: usize, hops: u8) {
        if self.len < SUFFIXES_MAX
            && let Some(pointer) = Pointer::to(offset)
        {
            self.hashes[self.len] = hash;
            self.pointers[self.len] = pointer;
            self.hops[self.len] = hops;
            self.len += 1;
        }
    }
}

#[derive(Clone, Copy)]
pub(super) struct Checkpoint {
    at: usize,
    counts: [u16; 3],
    suffixes: usize,
}

/// Writer of a reply into a buffer. `at` is the offset of the next byte. Records have to stop at `end`, which leaves space
/// for the OPT record.
pub(super) struct Writer<'b> {
    out: &'b mut [u8],
    at: usize,
    end: usize,
    counted_end: usize,
    counts: [u16; 3],
    is_full: bool,
    has_question: bool,
    question: &'b QueryName,
    compression: &'b mut CompressionTable,
}

impl<'b> Writer<'b> {
    /// Writes the bytes of the question behind the space for the header, which is written last. Records may fill `out` up to
    /// `end`.
    pub(super) fn new(
        out: &'b mut [u8],
        end: usize,
        question: &'b QueryName,
        question_octets: &[u8],
        compression: &'b mut CompressionTable,
    ) -> Writer<'b> {
        compression.len = 0;
        compression.has_question = false;
        let has_question = !question_octets.is_empty();
        let (at, counts) = (HEADER_OCTETS, [0; 3]);
        let mut writer = Writer {
            out,
            at,
            end,
            counted_end: at,
            counts,
            is_full: false,
            has_question,
            question,
            compression,
        };
        writer.put(question_octets);
        writer.counted_end = writer.at;
        writer
    }

    pub(super) fn at(&self) -> usize {
        self.at
    }

    pub(super) fn is_full(&self) -> bool {
        self.is_full
    }

    pub(super) fn has_question(&self) -> bool {
        self.has_question
    }

    pub(super) fn counts(&self) -> [u16; 3] {
        self.counts
    }

    pub(super) fn checkpoint(&self) -> Checkpoint {
        Checkpoint { at: self.at, counts: self.counts, suffixes: self.compression.len }
    }

    pub(super) fn reset(&mut self, checkpoint: Checkpoint) {
        self.at = checkpoint.at;
        self.counted_end = checkpoint.at;
        self.counts = checkpoint.counts;
        self.compression.len = checkpoint.suffixes;
        self.compression.has_question &= checkpoint.suffixes > 0;
        self.is_full = false;
    }

    /// The next `len` bytes, which the caller fills. If they do not fit, `None`, and the reply is marked as full.
    pub(super) fn room(&mut self, len: usize) -> Option<&mut [u8]> {
        let (start, end) = (self.at, self.at + len);
        match self.out.get_mut(start..end).filter(|_| end <= self.end) {
            Some(room) => {
                self.at = end;
                Some(room)
            }
            None => {
                self.is_full = true;
                None
            }
        }
    }

    pub(super) fn count(&mut self, section: Section) {
        if !self.is_full {
            self.counts[section as usize] += 1;
            self.counted_end = self.at;
        }
    }

    /// Removes the bytes of a record that did not fit. No record can be written afterwards.
    #[cold]
    pub(super) fn remove_uncounted(&mut self) {
        self.at = self.counted_end;
    }

    /// Pointer to an owner that is the question's name or an ancestor of it, except the root.
    fn pointer_to(&self, owner: Owner<'_>) -> Option<Pointer> {
        let is_root = owner.skipped == owner.name.label_count();
        let is_in_question = owner.is_question && !is_root;
        is_in_question.then(|| Pointer::to(HEADER_OCTETS + owner.name.start(owner.skipped))).flatten()
    }

    /// Writes an owner, and returns the offset in the message at which its name can be read.
    pub(super) fn owner(&mut self, owner: Owner<'_>) -> usize {
        match self.pointer_to(owner) {
            Some(pointer) => {
                self.put(&pointer.to_wire());
                pointer.offset()
            }
            None if owner.skipped == 0 => self.known_name(owner.name, owner.name.as_wire()),
            None => self.name(owner.as_wire()),
        }
    }

    /// Writes a record behind its owner: type, class, TTL, and the data with its length. `owner` is the owner's name, which
    /// ends the target in the data of an SRV record.
    pub(super) fn record(&mut self, owner: &[u8], ttl: u32, data: &Data<'_>) {
        let mut fixed = [0; FIXED_OCTETS];
        fixed[..2].copy_from_slice(&data.record_type().0.to_be_bytes());
        fixed[2..4].copy_from_slice(&data.class().0.to_be_bytes());
        fixed[4..8].copy_from_slice(&ttl.to_be_bytes());
        self.put(&fixed);
        let start = self.at;
        data.write(owner, self);
        self.set_data_length(start);
    }

    /// Writes the SOA of a negative answer behind its owner; its names point to `apex`, the apex's name in the message.
    /// Returns false if it does not fit, or if the message has no apex that a pointer reaches.
    pub(super) fn soa(&mut self, soa: &Negative, serial: u32, apex: Option<Pointer>) -> bool {
        self.put(&pointed(Pointer::QUESTION, RecordType::SOA, soa.ttl, soa.rdata_len())[2..]);
        let written = match (self.room(soa.rdata_len()), apex) {
            (Some(room), Some(apex)) => soa.write(apex, serial, room),
            _ => None,
        };
        written.is_some()
    }

    fn set_data_length(&mut self, start: usize) {
        if !self.is_full {
            let len = (self.at - start) as u16;
            self.out[start - 2..start].copy_from_slice(&len.to_be_bytes());
        }
    }

    /// Writes a name that may be compressed, and returns the offset at which it can be read.
    pub(super) fn name(&mut self, wire: &[u8]) -> usize {
        let Some(mut name) = self.compression.name.take() else { return self.at };
        let at = match name.set(wire) {
            Ok(()) => self.known_name(&name, wire),
            // Unreachable, because all names in the directory are valid.
            Err(_) => self.at,
        };
        self.compression.name = Some(name);
        at
    }

    /// Writes a name whose bytes are `wire`, which keeps the case of its letters, and returns the offset at which it can be
    /// read.
    pub(super) fn known_name(&mut self, name: &QueryName, wire: &[u8]) -> usize {
        if !self.compression.has_question {
            self.compression.has_question = true;
            for label in 0..self.question.label_count() {
                let offset = HEADER_OCTETS + self.question.start(label);
                self.compression.push(self.question.suffix_hash(label), offset, 0);
            }
        }
        let start = self.at;
        let labels = name.label_count();
        let found = (0..labels).find_map(|label| Some((label, self.find(name, label)?)));
        let (written, hops) = found.map_or((labels, 0), |(label, (_, hops))| (label, hops + 1));
        for label in 0..written {
            self.compression.push(name.suffix_hash(label), start + name.start(label), hops);
        }
        match found {
            Some((label, (pointer, _))) => {
                self.put(&wire[..name.start(label)]);
                self.put(&pointer.to_wire());
                if label == 0 { pointer.offset() } else { start }
            }
            None => {
                self.put(wire);
                start
            }
        }
    }

    /// Pointer to a suffix of the name in the message, and the number of further pointers that a client follows to read it.
    fn find(&self, name: &QueryName, label: usize) -> Option<(Pointer, u8)> {
        let hash = name.suffix_hash(label);
        let same = self.compression.hashes[..self.compression.len]
            .iter()
            .enumerate()
            .filter(|(_, other)| **other == hash);
        let mut known = same.map(|(at, _)| (self.compression.pointers[at], self.compression.hops[at]));
        known
            .find(|(pointer, hops)| *hops < HOPS_MAX && self.is_name_at(pointer.offset(), name.suffix(label)))
    }

    /// True if the name at `at` equals this one, ignoring case. The table has hashes only, which may collide.
    fn is_name_at(&self, mut at: usize, mut suffix: &[u8]) -> bool {
        loop {
            match (self.out[..self.at].get(at).copied(), suffix[0]) {
                (Some(high @ Pointer::FIRST_OCTET_MIN..), _) => {
                    let Some(low) = self.out.get(at + 1) else { return false };
                    let Some(pointer) = Pointer::read([high, *low]) else { return false };
                    at = pointer.offset();
                }
                (Some(len), other) if len == other => {
                    if len == 0 {
                        return true;
                    }
                    let end = 1 + usize::from(len);
                    let label = self.out[..self.at].get(at..at + end);
                    if !label.is_some_and(|label| label.eq_ignore_ascii_case(&suffix[..end])) {
                        return false;
                    }
                    at += end;
                    suffix = &suffix[end..];
                }
                _ => return false,
            }
        }
    }

    /// Ends the records, and returns the whole buffer and the offset of their end, for the OPT record and the header.
    pub(super) fn finish(self) -> (&'b mut [u8], usize) {
        (self.out, self.at)
    }
}

impl DataWriter for Writer<'_> {
    fn put(&mut self, bytes: &[u8]) {
        if let Some(room) = self.room(bytes.len()) {
            room.copy_from_slice(bytes);
        }
    }

    fn compressible_name(&mut self, name: &[u8]) {
        self.name(name);
    }
}

/// Bytes of a record of class IN before its data, with a pointer as owner and `len` as the length of the data.
pub(super) fn pointed(owner: Pointer, rtype: RecordType, ttl: u32, len: usize) -> [u8; POINTED_OCTETS] {
    let all = u128::from(owner.value()) << 112
        | u128::from(rtype.0) << 96
        | u128::from(Class::IN.0) << 80
        | u128::from(ttl) << 48
        | (len as u128 & 0xffff) << 32;
    let mut octets = [0; POINTED_OCTETS];
    octets.copy_from_slice(&all.to_be_bytes()[..POINTED_OCTETS]);
    octets
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zone::Name;

    /// The name at an offset of a message, and the number of pointers that are followed to read it.
    fn read(message: &[u8], mut at: usize) -> (Vec<u8>, u8) {
        let (mut wire, mut hops) = (Vec::new(), 0);
        loop {
            match message[at] {
                high @ Pointer::FIRST_OCTET_MIN.. => {
                    hops += 1;
                    at = Pointer::read([high, message[at + 1]]).unwrap().offset();
                }
                len => {
                    let end = at + 1 + usize::from(len);
                    wire.extend_from_slice(&message[at..end]);
                    at = end;
                    if len == 0 {
                        return (wire, hops);
                    }
                }
            }
        }
    }

    #[test]
    fn names_below_each_other_need_few_pointers_to_be_read() {
        let (mut out, mut compression) = ([0; 4096], CompressionTable::default());
        let question = QueryName::from(&"q.test".parse::<Name>().unwrap());
        let mut writer =
            Writer::new(&mut out, 4096, &question, b"\x01q\x04test\0\0\x01\0\x01", &mut compression);
        let mut names = Vec::new();
        let mut name: Name = "test".parse().unwrap();
        for number in 0..30 {
            name = name.child(format!("n{number}").as_bytes()).unwrap();
            for _ in 0..2 {
                names.push((writer.at(), name.clone()));
                writer.name(name.as_wire());
            }
        }
        let (message, end) = writer.finish();
        let mut hops_most = 0;
        for (at, name) in names {
            let (wire, hops) = read(message, at);
            assert_eq!(wire, name.as_wire());
            hops_most = hops_most.max(hops);
        }
        assert_eq!(hops_most, HOPS_MAX);
        assert!(end < 2_500, "{end} octets");
    }
}
