//! A consistent version of a whole zone, for transfers and for the records that are shown to operators.
//!
//! The names of a zone are in the directory, which is immutable. Its leaves are not: each one may be replaced during a walk.
//! Therefore a version reads all leaves of the zone and the zone's serial between two changes of the snapshot, so that equal
//! serials of a zone mean equal contents.

use std::sync::Arc;

use crate::zone::walk::{Sink, ZoneContents, services, walk};
use crate::zone::{
    Directory, Found, HeldLeaf, Name, QueryName, RecordType, Records, Rrset, Zone, lookup,
    records::soa_with_serial,
};

use super::Snapshot;

/// A zone with the leaves and the serial that it had between two changes. It keeps this data in memory, so drop it soon.
/// Its directory lacks leaves of its own, so that those of other zones can be freed when they are replaced.
pub struct ZoneVersion {
    snapshot: Arc<Snapshot>,
    directory: Directory,
    zone: Zone,
    leaves: Vec<HeldLeaf>,
    serial: u32,
}

impl Snapshot {
    /// Returns a version of the zone with this apex; `None` if there is none. It goes through all names of all zones. If
    /// changes follow each other without a pause, the next change waits for it. It waits for serials to become durable.
    pub fn zone_version(self: &Arc<Snapshot>, apex: &Name) -> Option<ZoneVersion> {
        self.sequence_lock.read(|| {
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
    /// Name of the zone, in lower case.
    pub fn apex(&self) -> &Name {
        &self.zone.apex
    }

    /// Serial of the SOA record, which belongs to exactly these contents.
    pub fn serial(&self) -> u32 {
        self.serial
    }

    /// SOA record with this version's serial; `None` if the zone has none.
    pub fn soa(&self) -> Option<Rrset> {
        soa_with_serial(&self.directory, &self.zone, self.serial)
    }

    /// Passes all records of the zone to `sink`, the SOA somewhere among them.
    pub fn walk<S: Sink>(&self, sink: &mut S) -> Result<(), S::Error> {
        let is_answered = |name: &QueryName, rtype| self.is_instance_answered(name, rtype);
        let contents = ZoneContents {
            directory: &self.directory,
            zone: &self.zone,
            leaves: &self.leaves,
            serial: self.serial,
            is_answered: &is_answered,
        };
        walk(contents, sink)
    }

    /// Returns true if a query for this name finds an instance now. Names that could hide the instance are in this version,
    /// but of two services that claim a name for an instance, the leaves of both decide.
    fn is_instance_answered(&self, name: &QueryName, rtype: RecordType) -> bool {
        let directory = self.snapshot.view();
        let Some(zone) = directory.zone(&self.zone.apex) else { return false };
        matches!(lookup(&directory, zone, name, rtype), Found::Answer(Records::Instance { .. }))
    }
}
