//! Numbers of the state: those of etcd's writes, and what the registry knows of them. `registry/numbering.rs` explains
//! why all replicas come to the same ones.

use std::collections::BTreeMap;

use crate::model::NamespaceId;
use crate::registry::{Change, Numbering};

/// Numbers that are known so far. The configured `offset` is added to every resourceVersion. `of_write` is the
/// number of the write that is being applied; 0 if the servers cannot all know it. `floor` is the number of the
/// last renumbering of everything, offset included. `drained_numbering` is the one that the registry got with the
/// last drain.
#[derive(Default)]
pub(super) struct Numbers {
    pub(super) offset: u64,
    pub(super) sequence: u64,
    pub(super) of_write: u64,
    floor: u64,
    serials: BTreeMap<NamespaceId, u64>,
    drained_sequence: u64,
    drained_numbering: Option<Numbering>,
}

impl Numbers {
    pub(super) fn set_offset(&mut self, offset: u64) {
        self.offset = self.offset.max(offset);
    }

    pub(super) fn raise_sequence(&mut self, number: u64) {
        self.sequence = self.sequence.max(number);
    }

    pub(super) fn raise_floor(&mut self, number: u64) {
        self.floor = self.floor.max(number);
    }

    /// Records that etcd's numbers have reached `version`, which becomes the number of the write that is being applied; 0
    /// if it has none.
    pub(super) fn observe(&mut self, version: u64) {
        self.of_write = 0;
        if version > 0 {
            self.of_write = version + self.offset;
            self.raise_sequence(self.of_write);
        }
    }

    pub(super) fn raise_serial(&mut self, namespace: NamespaceId, number: u64) {
        let serial = self.serials.entry(namespace).or_insert(0);
        *serial = number.max(*serial);
    }

    /// Returns true if [`Numbers::drain`] would add changes other than the sequence number alone.
    pub(super) fn has_changes(&self) -> bool {
        !self.serials.is_empty() || self.drained_numbering != Some(self.numbering())
    }

    pub(super) fn drain(&mut self, changes: &mut Vec<Change>) {
        if self.sequence > self.drained_sequence {
            self.drained_sequence = self.sequence;
            changes.push(Change::PutSequence(self.sequence));
        }
        let serials = std::mem::take(&mut self.serials).into_iter();
        changes.extend(serials.map(|(namespace, number)| Change::PutSerial(namespace, number)));
        if self.drained_numbering != Some(self.numbering()) {
            self.drained_numbering = Some(self.numbering());
            // First, because new resources start with these numbers.
            changes.insert(0, Change::PutNumbering(self.numbering()));
        }
    }

    fn numbering(&self) -> Numbering {
        Numbering { offset: self.offset, floor: self.floor }
    }
}
