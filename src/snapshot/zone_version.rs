//! One version of a zone: its names, and what its services stood at, at one moment.
//!
//! Names are in the directory, which is immutable; services are not: each leaf is replaced by itself, while a walk goes
//! on. A version therefore takes all leaves of the zone, and its serial, between two changes of the snapshot: equal serials
//! of a zone mean equal contents.

use std::sync::Arc;

use crate::zone::walk::{Sink, Standing, services, walk};
use crate::zone::{
    Directory, Found, HeldLeaf, Name, QueryName, RecordType, Records, Rrset, Zone, lookup,
    records::soa_with_serial,
};

use super::Snapshot;

/// A zone at one moment. It keeps what it names alive, is meant to be dropped soon, and then frees what nobody else has.
pub struct ZoneVersion {
    snapshot: Arc<Snapshot>,
    /// Without leaves: those that change while this is held are of no concern here.
    directory: Directory,
    zone: Zone,
    /// In the order of [`services`].
    leaves: Vec<HeldLeaf>,
    serial: u32,
}

impl Snapshot {
    /// The zone with this apex; nothing where there is none. This goes through all names of all zones. While changes
    /// follow each other without a pause, the next one waits for it; and it waits for serials that are not durable yet.
    pub fn zone_version(self: &Arc<Snapshot>, apex: &Name) -> Option<ZoneVersion> {
        self.moments.read(|| {
            let directory = self.view();
            let zone = directory.zone(apex)?.clone();
            let leaves: Vec<HeldLeaf> =
                services(&directory, &zone).filter_map(|number| directory.hold_leaf(number)).collect();
            let serial = zone.serial();
            let directory = directory.without_leaves();
            Some(ZoneVersion { snapshot: self.clone(), directory, zone, leaves, serial })
        })
    }
}

impl ZoneVersion {
    /// The zone's name, in lower case.
    pub fn apex(&self) -> &Name {
        &self.zone.apex
    }

    /// The SOA's serial.
    pub fn serial(&self) -> u32 {
        self.serial
    }

    /// The SOA record.
    pub fn soa(&self) -> Option<Rrset> {
        soa_with_serial(&self.directory, &self.zone, self.serial)
    }

    /// Gives all records to `sink`, the SOA somewhere among them.
    pub fn walk<S: Sink>(&self, sink: &mut S) -> Result<(), S::Error> {
        let is_answered = |name: &QueryName, rtype| self.is_instance_answered(name, rtype);
        let standing = Standing {
            directory: &self.directory,
            zone: &self.zone,
            leaves: &self.leaves,
            serial: self.serial,
            is_answered: &is_answered,
        };
        walk(standing, sink)
    }

    /// Whether a query finds an instance now. What is in the way of one are names, which are as this version has them, but
    /// which of two services a name is an instance of depends on both.
    fn is_instance_answered(&self, name: &QueryName, rtype: RecordType) -> bool {
        let directory = self.snapshot.view();
        let Some(zone) = directory.zone(&self.zone.apex) else { return false };
        matches!(lookup(&directory, zone, name, rtype), Found::Answer(Records::Instance { .. }))
    }
}
