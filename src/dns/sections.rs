//! The sections of a reply: writes records as a resolution finds them, and leaves out those that do not fit as RFC 2181 §9
//! requires.

use crate::wire::Pointer;
use crate::zone::{
    Negative, RecordSet, Zone,
    leaf::{ANSWER_RECORDS_MAX, Data, DataWriter},
};

use super::resolve::{Owner, Section, Sink};
use super::writer::Writer;

/// Records that did not fit into the reply, which decide on TC: none, or only additional records that no client depends on;
/// glue addresses, without which a referral can't be followed (RFC 9471 §3); or records of the answer or authority section,
/// from the first one that did not fit.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Fit {
    Whole,
    WithoutGlue,
    Cut,
}

/// Sections under construction. `targets` are the message offsets of the target names in the last set of SRV records, to
/// which additional records point.
pub(super) struct Sections<'b> {
    pub(super) writer: Writer<'b>,
    pub(super) fit: Fit,
    is_referral: bool,
    targets: [u16; ANSWER_RECORDS_MAX],
}

impl<'b> Sections<'b> {
    pub(super) fn new(writer: Writer<'b>) -> Sections<'b> {
        Sections { writer, fit: Fit::Whole, is_referral: false, targets: [0; ANSWER_RECORDS_MAX] }
    }

    fn write(&mut self, section: Section, owner: Owner<'_>, records: &RecordSet<'_>) {
        let mut targets = self.targets.iter_mut();
        records.each(|ttl, data| {
            self.writer.owner(owner);
            self.writer.record(owner.as_wire(), ttl, &data);
            if let (Some(labels), Some(target)) = (data.target_labels(), targets.next()) {
                let at = self.writer.at().saturating_sub(labels.len() + owner.as_wire().len());
                // A message has at most 65,535 bytes.
                *target = u16::try_from(at).unwrap_or(u16::MAX);
            }
            self.writer.count(section);
            !self.writer.is_full()
        });
    }

    fn target(&mut self, service: &[u8], number: usize, labels: &[u8], ttl: u32, data: &Data<'_>) {
        let checkpoint = self.writer.checkpoint();
        match self.targets.get(number).and_then(|offset| Pointer::to((*offset).into())) {
            Some(pointer) => self.writer.put(&pointer.to_wire()),
            None => {
                self.writer.put(labels);
                self.writer.put(service);
            }
        }
        self.writer.record(service, ttl, data);
        if self.writer.is_full() {
            self.writer.reset(checkpoint);
        } else {
            self.writer.count(Section::Additional);
        }
    }
}

impl Sink for Sections<'_> {
    fn records(&mut self, section: Section, owner: Owner<'_>, records: &RecordSet<'_>) {
        match section {
            Section::Answer | Section::Authority => {
                self.is_referral |= section == Section::Authority;
                self.write(section, owner, records);
                if self.writer.is_full() {
                    self.fit = Fit::Cut;
                }
            }
            Section::Additional if self.fit != Fit::Whole => {}
            Section::Additional => {
                let checkpoint = self.writer.checkpoint();
                self.write(section, owner, records);
                if self.writer.is_full() {
                    self.writer.reset(checkpoint);
                    if self.is_referral {
                        self.fit = Fit::WithoutGlue;
                    }
                }
            }
        }
    }

    fn targets(&mut self, owner: Owner<'_>, records: &RecordSet<'_>) {
        if self.fit == Fit::Whole {
            records.each_target(|number, labels, ttl, data| {
                self.target(owner.as_wire(), number, labels, ttl, &data);
            });
        }
    }

    fn negative(&mut self, zone: &Zone, owner: Owner<'_>, soa: &Negative) {
        let apex = Pointer::to(self.writer.owner(owner));
        if self.writer.soa(soa, zone.serial(), apex) {
            self.writer.count(Section::Authority);
        } else {
            self.fit = Fit::Cut;
        }
    }
}
