//! One version of a zone: its names, and what its services stood at, at one moment.
//!
//! Names are in the directory, which is immutable; services are not: each leaf is swapped by itself, while a walk goes on.
//! A version is therefore a double collection: all leaves are taken, and then looked at again. When none has changed and
//! the serial is the one that was read before, the leaves all stood like this together at the moment between, and so did
//! the names:
//!
//! - The writer swaps the leaves of a batch, then publishes the directory, then moves serials on. A serial that did not
//!   move means that at most one batch, still under way, touches the zone meanwhile.
//! - If that batch published a directory after ours was taken, it had swapped all its leaves before, so our leaves and our
//!   directory stood together just before it was published.
//!
//! A version may thus hold a part of a batch, as any query at that moment does. The serial is never ahead of the contents:
//! it was read before they were, and everything that it stands for had been published. So a secondary that takes a version
//! with a part of the next batch learns of a later serial, and never rests on contents that are older than their serial.
//!
//! A zone that changes all the time has no quiet moment. After a few attempts the last collection is taken with the serial
//! that was read before it: each service is of one moment, services among themselves are as close as the walk was fast,
//! and a later serial follows.

use std::sync::Arc;

use crate::zone::walk::{Sink, Standing, services, walk};
use crate::zone::{
    Directory, Found, HeldLeaf, Name, QueryName, RecordType, Records, Rrset, Zone, lookup,
    records::soa_with_serial,
};

use super::Snapshot;

/// Attempts to find a moment at which the zone does not change.
const ATTEMPTS_MAX: usize = 5;

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
    /// The zone with this apex; nothing where there is none. This goes through all names of all zones, twice for each
    /// attempt, and takes no lock.
    pub fn zone_version(self: &Arc<Snapshot>, apex: &Name) -> Option<ZoneVersion> {
        let mut attempts = 0;
        loop {
            let first = self.view();
            let before = first.zone(apex)?.clone();
            let serial = before.serial();
            let directory = self.view();
            let zone = directory.zone(apex)?.clone();
            let standing = services(&directory, &zone);
            let leaves: Vec<HeldLeaf> = standing.filter_map(|number| directory.hold_leaf(number)).collect();
            let is_same = services(&directory, &zone).eq(leaves.iter().map(HeldLeaf::number));
            // A zone that was removed and made again has another serial's place.
            let is_quiet = is_same && zone.serial() == serial && Arc::ptr_eq(&zone.serial, &before.serial);
            attempts += 1;
            if is_quiet || attempts == ATTEMPTS_MAX {
                let directory = directory.without_leaves();
                return Some(ZoneVersion { snapshot: self.clone(), directory, zone, leaves, serial });
            }
        }
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
