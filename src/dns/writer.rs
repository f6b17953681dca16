//! Writing a reply: sections in order, names compressed, and room for no more than may be sent.
//!
//! A record that does not fit marks the reply as full; whoever writes then goes back to a [`Mark`], or to the end of the
//! last record that was counted. Names are compressed
//! wherever they may be (RFC 3597 §4): the question's suffixes first, and up to [`ANCHORS_MAX`] others.

use crate::zone::{Name, QueryName, RecordType};

use super::query::{CLASS_IN, HEADER_OCTETS};
use super::resolve::Owner;

/// Suffixes of names that a later one can point to.
const ANCHORS_MAX: usize = 64;
/// Most pointers that are followed to read one name. Go's resolver gives up after 10, dnspython after 16.
const HOPS_MAX: u8 = 8;
/// Compression pointers reach offsets below this one (RFC 1035 §4.1.4).
const POINTERS_END: usize = 1 << 14;
/// Octets of a record between its owner and its data.
const FIXED_OCTETS: usize = 10;
/// Octets of a record whose owner is a pointer, before its data.
pub(super) const POINTED_OCTETS: usize = 2 + FIXED_OCTETS;

/// A section of records.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Section {
    Answer,
    Authority,
    Additional,
}

/// Names in the message that others can point to, by the hashes of their suffixes.
pub(super) struct Anchors {
    hashes: [u64; ANCHORS_MAX],
    offsets: [u16; ANCHORS_MAX],
    /// How many pointers are followed to read each.
    hops: [u8; ANCHORS_MAX],
    len: usize,
    has_question: bool,
    /// Room for a name that is being written; taken meanwhile.
    name: Option<Box<QueryName>>,
}

impl Default for Anchors {
    fn default() -> Anchors {
        Anchors {
            hashes: [0; ANCHORS_MAX],
            offsets: [0; ANCHORS_MAX],
            hops: [0; ANCHORS_MAX],
            len: 0,
            has_question: false,
            name: Some(Box::default()),
        }
    }
}

impl Anchors {
    fn push(&mut self, hash: u64, offset: usize, hops: u8) {
        if self.len < ANCHORS_MAX && offset < POINTERS_END {
            self.hashes[self.len] = hash;
            self.offsets[self.len] = offset as u16;
            self.hops[self.len] = hops;
            self.len += 1;
        }
    }
}

/// A place to go back to.
#[derive(Clone, Copy)]
pub(super) struct Mark {
    at: usize,
    counts: [u16; 3],
    anchors: usize,
}

/// A reply on its way.
pub(super) struct Writer<'b> {
    out: &'b mut [u8],
    at: usize,
    /// Where records have to end.
    end: usize,
    /// The offset behind the last record that was counted.
    counted_end: usize,
    counts: [u16; 3],
    is_full: bool,
    has_question: bool,
    question: &'b QueryName,
    anchors: &'b mut Anchors,
}

impl<'b> Writer<'b> {
    /// Begins behind the header, which is written last, with the question's octets. Records may fill `out` up to `end`.
    pub(super) fn new(
        out: &'b mut [u8],
        end: usize,
        question: &'b QueryName,
        question_octets: &[u8],
        anchors: &'b mut Anchors,
    ) -> Writer<'b> {
        anchors.len = 0;
        anchors.has_question = false;
        let has_question = !question_octets.is_empty();
        let (at, counts) = (HEADER_OCTETS, [0; 3]);
        let mut writer =
            Writer { out, at, end, counted_end: at, counts, is_full: false, has_question, question, anchors };
        writer.put(question_octets);
        writer.counted_end = writer.at;
        writer
    }

    /// Where the next octet goes.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    pub(super) fn is_full(&self) -> bool {
        self.is_full
    }

    pub(super) fn has_question(&self) -> bool {
        self.has_question
    }

    /// How many records each section has.
    pub(super) fn counts(&self) -> [u16; 3] {
        self.counts
    }

    pub(super) fn mark(&self) -> Mark {
        Mark { at: self.at, counts: self.counts, anchors: self.anchors.len }
    }

    /// Forgets what was written since.
    pub(super) fn reset(&mut self, mark: Mark) {
        self.at = mark.at;
        self.counted_end = mark.at;
        self.counts = mark.counts;
        self.anchors.len = mark.anchors;
        self.anchors.has_question &= mark.anchors > 0;
        self.is_full = false;
    }

    /// Room for `len` octets that follow, which the caller fills.
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

    pub(super) fn put(&mut self, octets: &[u8]) {
        if let Some(room) = self.room(octets.len()) {
            room.copy_from_slice(octets);
        }
    }

    /// Counts the record that ends here, unless it or one before it did not fit.
    pub(super) fn count(&mut self, section: Section) {
        if !self.is_full {
            self.counts[section as usize] += 1;
            self.counted_end = self.at;
        }
    }

    /// Removes everything behind the last record that was counted. No record can follow it.
    #[cold]
    pub(super) fn remove_uncounted(&mut self) {
        self.at = self.counted_end;
    }

    /// The pointer that an owner is written as, where the message has the name already and can be pointed to.
    pub(super) fn pointer_to(&self, owner: Owner<'_>) -> Option<u16> {
        let is_root = owner.skipped == owner.name.label_count();
        (owner.is_question && !is_root)
            .then(|| 0xc000 | (HEADER_OCTETS + owner.name.start(owner.skipped)) as u16)
    }

    /// Writes an owner, and tells where in the message its name can be read.
    pub(super) fn owner(&mut self, owner: Owner<'_>) -> usize {
        match self.pointer_to(owner) {
            Some(pointer) => {
                self.put(&pointer.to_be_bytes());
                usize::from(pointer & 0x3fff)
            }
            None if owner.skipped == 0 => self.known_name(owner.name, owner.name.as_wire()),
            None => self.name(owner.as_wire()),
        }
    }

    /// Writes type, class IN, TTL and the length of the data.
    pub(super) fn fixed(&mut self, rtype: RecordType, ttl: u32, len: usize) {
        self.put(&fixed(rtype, ttl, len));
    }

    /// Writes a name of a record's data, which may point elsewhere, and tells where it can be read.
    pub(super) fn name(&mut self, wire: &[u8]) -> usize {
        let Some(mut name) = self.anchors.name.take() else { return self.at };
        let at = match name.set(wire) {
            Ok(()) => self.known_name(&name, wire),
            // Names of ours are valid.
            Err(_) => self.at,
        };
        self.anchors.name = Some(name);
        at
    }

    /// Writes a name whose octets are `wire`, in whatever case.
    pub(super) fn known_name(&mut self, name: &QueryName, wire: &[u8]) -> usize {
        if !self.anchors.has_question {
            self.anchors.has_question = true;
            for label in 0..self.question.label_count() {
                let offset = HEADER_OCTETS + self.question.start(label);
                self.anchors.push(self.question.suffix_hash(label), offset, 0);
            }
        }
        let start = self.at;
        let labels = name.label_count();
        let found = (0..labels).find_map(|label| Some((label, self.find(name, label)?)));
        let (written, hops) = found.map_or((labels, 0), |(label, (_, hops))| (label, hops + 1));
        for label in 0..written {
            self.anchors.push(name.suffix_hash(label), start + name.start(label), hops);
        }
        match found {
            Some((label, (offset, _))) => {
                self.put(&wire[..name.start(label)]);
                self.put(&(0xc000 | offset).to_be_bytes());
                if label == 0 { usize::from(offset) } else { start }
            }
            None => {
                self.put(wire);
                start
            }
        }
    }

    /// Where a suffix of the name can be read, and by following how many pointers.
    fn find(&self, name: &QueryName, label: usize) -> Option<(u16, u8)> {
        let hash = name.suffix_hash(label);
        let same =
            self.anchors.hashes[..self.anchors.len].iter().enumerate().filter(|(_, other)| **other == hash);
        let mut places = same.map(|(at, _)| (self.anchors.offsets[at], self.anchors.hops[at]));
        places.find(|(offset, hops)| *hops < HOPS_MAX && self.reads(usize::from(*offset), name.suffix(label)))
    }

    /// Whether the name at `at` is this one, whatever its case.
    fn reads(&self, mut at: usize, mut suffix: &[u8]) -> bool {
        loop {
            match (self.out[..self.at].get(at).copied(), suffix[0]) {
                (Some(high @ 0xc0..), _) => {
                    let Some(low) = self.out.get(at + 1) else { return false };
                    at = usize::from(u16::from_be_bytes([high & 0x3f, *low]));
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

    /// Writes a record's data of wire form, its length before it; names of the oldest types are compressed.
    pub(super) fn rdata(&mut self, rtype: RecordType, rdata: &[u8]) {
        let length_at = self.at;
        self.put(&[0; 2]);
        match rtype {
            RecordType::NS | RecordType::CNAME | RecordType::PTR => {
                self.name(rdata);
            }
            RecordType::MX if rdata.len() > 2 => {
                self.put(&rdata[..2]);
                self.name(&rdata[2..]);
            }
            RecordType::SOA => {
                let mname = Name::wire_len(rdata).unwrap_or(rdata.len());
                let rname = Name::wire_len(&rdata[mname..]).unwrap_or(rdata.len() - mname);
                self.name(&rdata[..mname]);
                self.name(&rdata[mname..mname + rname]);
                self.put(&rdata[mname + rname..]);
            }
            _ => self.put(rdata),
        }
        if !self.is_full {
            let len = (self.at - length_at - 2) as u16;
            self.out[length_at..length_at + 2].copy_from_slice(&len.to_be_bytes());
        }
    }

    /// Writes type, class IN and TTL.
    pub(super) fn kind(&mut self, rtype: RecordType, ttl: u32) {
        self.put(&fixed(rtype, ttl, 0)[..8]);
    }

    /// Replaces what was written at `at`.
    pub(super) fn patch(&mut self, at: usize, octets: &[u8]) {
        if let Some(room) = self.out.get_mut(at..at + octets.len()) {
            room.copy_from_slice(octets);
        }
    }

    /// Ends the records: what follows may fill the whole buffer. Gives the buffer back, and where the records end.
    pub(super) fn finish(self) -> (&'b mut [u8], usize) {
        (self.out, self.at)
    }
}

/// Type, class IN, TTL and the length of the data.
fn fixed(rtype: RecordType, ttl: u32, len: usize) -> [u8; FIXED_OCTETS] {
    let mut octets = [0; FIXED_OCTETS];
    octets.copy_from_slice(&pointed(0, rtype, ttl, len)[2..]);
    octets
}

/// A pointer as owner, type, class IN, TTL and the length of the data.
pub(super) fn pointed(pointer: u16, rtype: RecordType, ttl: u32, len: usize) -> [u8; POINTED_OCTETS] {
    let all = (pointer as u128) << 112
        | u128::from(rtype.0) << 96
        | u128::from(CLASS_IN) << 80
        | u128::from(ttl) << 48
        | (len as u128 & 0xffff) << 32;
    let mut octets = [0; POINTED_OCTETS];
    octets.copy_from_slice(&all.to_be_bytes()[..POINTED_OCTETS]);
    octets
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The name at a place of a message, and how many pointers are followed to read it.
    fn read(message: &[u8], mut at: usize) -> (Vec<u8>, u8) {
        let (mut wire, mut hops) = (Vec::new(), 0);
        loop {
            match message[at] {
                high @ 0xc0.. => {
                    hops += 1;
                    at = usize::from(high & 0x3f) << 8 | usize::from(message[at + 1]);
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
    fn names_that_grow_out_of_each_other_are_read_by_following_few_pointers() {
        let (mut out, mut anchors) = ([0; 4096], Anchors::default());
        let question = QueryName::from(&"q.test".parse::<Name>().unwrap());
        let mut writer = Writer::new(&mut out, 4096, &question, b"\x01q\x04test\0\0\x01\0\x01", &mut anchors);
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
