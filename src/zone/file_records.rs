//! Records of zone files in packed form.
//!
//! A zone can have a million records, and is read again while it is served. Its records are therefore in one buffer, with a
//! header of 24 bytes each beside owner and data, and no allocation for a single record.
//!
//! The master file reader adds records; [`super::contents`] sorts and checks them.

use std::path::Path;
use std::sync::Arc;

use super::master_file::{Located, Place};
use super::name_ref::LabelStarts;
use super::presentation::Spot;
use super::{Name, NameRef, Record, RecordType};

/// Records with their positions in files, in the order in which they were added until they are sorted. `bytes` is the owner
/// and data of one record after the other.
#[derive(Clone, Debug, Default)]
pub struct FileRecords {
    bytes: Vec<u8>,
    records: Vec<PackedRecord>,
    files: Vec<Arc<Path>>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct FileNumber(u16);

/// Header of a record, with the position of its owner and data in the buffer, and of the record in its file. The data
/// follows the owner at `start`, which the reader's limits keep below 2^32.
#[derive(Clone, Copy, Debug)]
pub(super) struct PackedRecord {
    start: u32,
    pub(super) ttl: u32,
    line: u32,
    column: u32,
    rdata_len: u16,
    pub(super) rtype: RecordType,
    file: u16,
    owner_len: u8,
}

impl FileRecords {
    pub(super) fn add_file(&mut self, file: Arc<Path>) -> FileNumber {
        self.files.push(file);
        FileNumber((self.files.len() - 1) as u16)
    }

    /// Adds a record of class IN that starts at `spot` of `file`. The caller keeps the limits: less than 4 GiB of owners and
    /// data in total, and less than 64 KiB of data in one record.
    pub(super) fn push(
        &mut self,
        owner: &Name,
        rtype: RecordType,
        ttl: u32,
        rdata: &[u8],
        (file, spot): (FileNumber, Spot),
    ) {
        debug_assert!(self.bytes.len() <= u32::MAX as usize && rdata.len() <= u16::MAX.into());
        self.records.push(PackedRecord {
            start: self.bytes.len() as u32,
            ttl,
            line: spot.line,
            column: spot.column,
            rdata_len: rdata.len() as u16,
            rtype,
            file: file.0,
            owner_len: owner.as_wire().len() as u8,
        });
        self.bytes.extend_from_slice(owner.as_wire());
        self.bytes.extend_from_slice(rdata);
    }

    /// Number of records in all files, duplicates included.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// True for files without records, which is no error: an overlay may be empty.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Copies of the records, in their current order.
    pub fn iter(&self) -> impl Iterator<Item = Located<Record>> {
        self.records.iter().map(|record| self.located(record))
    }

    pub(super) fn packed(&self) -> &[PackedRecord] {
        &self.records
    }

    pub(super) fn owner(&self, record: &PackedRecord) -> NameRef<'_> {
        let start = record.start as usize;
        NameRef::new(&self.bytes[start..start + record.owner_len as usize])
    }

    pub(super) fn rdata(&self, record: &PackedRecord) -> &[u8] {
        let start = record.start as usize + record.owner_len as usize;
        &self.bytes[start..start + record.rdata_len as usize]
    }

    pub(super) fn place(&self, record: &PackedRecord) -> Place {
        let spot = Spot { line: record.line, column: record.column };
        Place::new(&self.files[record.file as usize], spot)
    }

    fn located(&self, record: &PackedRecord) -> Located<Record> {
        let value = Record {
            owner: self.owner(record).to_name(),
            rtype: record.rtype,
            ttl: record.ttl,
            rdata: self.rdata(record).into(),
        };
        Located { value, place: self.place(record) }
    }

    pub(super) fn filtered(&self, is_wanted: impl Fn(&PackedRecord) -> bool) -> FileRecords {
        let mut records = FileRecords { files: self.files.clone(), ..FileRecords::default() };
        for record in self.records.iter().filter(|record| is_wanted(record)) {
            let start = record.start as usize;
            let end = start + record.owner_len as usize + record.rdata_len as usize;
            records.records.push(PackedRecord { start: records.bytes.len() as u32, ..*record });
            records.bytes.extend_from_slice(&self.bytes[start..end]);
        }
        records
    }

    /// Sorts the records by owner in canonical order (RFC 4034 §6.1), then by type. Records of an rrset keep their order.
    pub(super) fn sort(&mut self) {
        self.bytes.shrink_to_fit();
        self.records.shrink_to_fit();
        let in_order =
            |a: &PackedRecord, b: &PackedRecord| (self.owner(a), a.rtype) <= (self.owner(b), b.rtype);
        if self.records.is_sorted_by(in_order) {
            return;
        }
        // A number made of the first bytes that the names do not have in common decides nearly all comparisons, and the stable
        // sort uses sorted runs, of which most files consist.
        let shared = self.shared_labels();
        let mut keyed: Vec<(KeyStart, u32)> = self
            .records
            .iter()
            .zip(0..)
            .map(|(record, at)| (key_start(self.owner(record), shared), at))
            .collect();
        keyed.sort_by(|(a_key, a_at), (b_key, b_at)| {
            a_key.cmp(b_key).then_with(|| {
                let (a, b) = (&self.records[*a_at as usize], &self.records[*b_at as usize]);
                (self.owner(a), a.rtype).cmp(&(self.owner(b), b.rtype))
            })
        });
        self.records = keyed.into_iter().map(|(_, at)| self.records[at as usize]).collect();
    }

    fn shared_labels(&self) -> usize {
        let Some(first) = self.records.first() else { return 0 };
        let mut shared = self.owner(first);
        for record in &self.records {
            let owner = self.owner(record);
            while !owner.is_at_or_below(shared) {
                // The root is above all names, so the loop ends there at the latest.
                shared = shared.parent().unwrap_or(shared);
            }
        }
        shared.labels().count()
    }
}

impl FromIterator<Located<Record>> for FileRecords {
    fn from_iter<I: IntoIterator<Item = Located<Record>>>(records: I) -> FileRecords {
        let mut all = FileRecords::default();
        for Located { value, place } in records {
            let known = all.files.iter().rposition(|file| *file == place.file);
            let file = known.map_or_else(|| all.add_file(place.file), |known| FileNumber(known as u16));
            let spot = Spot { line: place.line, column: place.column };
            all.push(&value.owner, value.rtype, value.ttl, &value.rdata, (file, spot));
        }
        all
    }
}

/// First bytes of a name's sort key, as big-endian numbers. Names with equal numbers need a comparison of all labels.
type KeyStart = (u64, u32);
const KEY_START_BYTES: usize = 12;

/// The first bytes of a name's sort key: its labels from the right in lower case, without the last `shared` ones.
fn key_start(name: NameRef<'_>, shared: usize) -> KeyStart {
    let (mut key, mut len) = ([0; KEY_START_BYTES], 0);
    'labels: for label in LabelStarts::of(name).labels().skip(shared) {
        // Each label ends with a 0. Bytes 0 and 1 of the label are escaped with a 1, which keeps the order of labels.
        for octet in label {
            let octet = octet.to_ascii_lowercase();
            let bytes = if octet <= 1 { &[1, octet + 1][..] } else { &[octet][..] };
            for byte in bytes {
                let Some(room) = key.get_mut(len) else { break 'labels };
                *room = *byte;
                len += 1;
            }
        }
        len += 1;
    }
    let [a, b, c, d, e, f, g, h, rest @ ..] = key;
    (u64::from_be_bytes([a, b, c, d, e, f, g, h]), u32::from_be_bytes(rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn records_are_sorted_by_owner_and_type_and_keep_their_order_otherwise(
            owners in proptest::collection::vec(
                (proptest::collection::vec(proptest::collection::vec(0u8..4, 1..6), 0..4), 1u16..4), 0..40
            ),
            suffix in any::<bool>(),
        ) {
            let suffix: &[&[u8]] = if suffix { &[b"x", b"test"] } else { &[] };
            let mut records = FileRecords::default();
            let file = records.add_file(Path::new("f").into());
            let mut expected = Vec::new();
            for ((labels, rtype), line) in owners.iter().zip(1..) {
                let labels = labels.iter().map(|label| &label[..]).chain(suffix.iter().copied());
                let owner = Name::from_labels(labels).unwrap();
                records.push(&owner, RecordType(*rtype), 60, &[1, 2], (file, Spot { line, column: 1 }));
                expected.push((owner, RecordType(*rtype), line));
            }
            expected.sort();
            records.sort();
            let sorted = records.iter().map(|found| (found.value.owner, found.value.rtype, found.place.line));
            prop_assert_eq!(sorted.collect::<Vec<_>>(), expected);
        }
    }
}
