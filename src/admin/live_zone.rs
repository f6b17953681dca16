//! A zone as it is served, as a master file.
//!
//! Every record that could be answered is there, and what a file can't have is a comment.

use crate::snapshot::ZoneVersion;
use crate::zone::walk::Sink;
use crate::zone::write::write_zone;
use crate::zone::{Name, QueryName, Rrset};

use super::{Admin, namespace_line, namespace_of, zones_listed};

/// Records of one file. At this many it is some 60 MiB of text.
const RECORDS_MAX: usize = 1_000_000;
/// Octets of one file; what asks for it takes 64 MiB.
const OCTETS_MAX: usize = 60 << 20;
/// Comments for what a file can't have.
const COMMENTS_MAX: usize = 1_000;

/// Why there is no file.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
pub(super) enum LiveZoneError {
    /// Some name that is no zone's.
    #[error("there is no zone {name}; {hint}")]
    NoZone {
        /// The name.
        name: Name,
        /// What there is instead.
        hint: String,
    },
    /// Too much to hold in one answer.
    #[error("the zone {0} is too large to be shown: more than {RECORDS_MAX} records or {OCTETS_MAX} octets")]
    TooLarge(Name),
}

/// The zone with this apex as a master file that reads back.
pub(super) fn live_zone(admin: &Admin, apex: &Name) -> Result<String, LiveZoneError> {
    let Some(version) = admin.snapshot.zone_version(apex) else {
        let directory = admin.snapshot.view();
        let hint = match directory.zone_of(&QueryName::from(apex)) {
            Some(zone) => format!("the name is in the zone {}", zone.apex),
            None => zones_listed(&directory),
        };
        return Err(LiveZoneError::NoZone { name: apex.clone(), hint });
    };
    let mut contents = Contents::default();
    let too_large = |TooLarge| LiveZoneError::TooLarge(version.apex().clone());
    version.walk(&mut contents).map_err(too_large)?;
    let state = admin.registry.state();
    let source = match namespace_of(&state, version.apex()) {
        Some(namespace) => namespace_line(namespace),
        None => "zone file".into(),
    };
    let text = contents.text(&version, &source);
    match text.len() > OCTETS_MAX {
        true => Err(too_large(TooLarge)),
        false => Ok(text),
    }
}

/// More than one answer may hold.
struct TooLarge;

#[derive(Default)]
struct Contents {
    rrsets: Vec<(Name, Rrset)>,
    records: usize,
    comments: Vec<String>,
    /// Comments that are over the limit.
    left_out: usize,
}

impl Sink for Contents {
    type Error = TooLarge;

    fn rrset(&mut self, owner: &Name, rrset: &Rrset) -> Result<(), TooLarge> {
        self.records += rrset.len();
        if self.records > RECORDS_MAX {
            return Err(TooLarge);
        }
        self.rrsets.push((owner.clone(), rrset.clone()));
        Ok(())
    }

    fn left_out(&mut self, text: impl FnOnce() -> String) {
        match self.comments.len() < COMMENTS_MAX {
            true => self.comments.push(text()),
            false => self.left_out += 1,
        }
    }
}

impl Contents {
    fn text(&self, version: &ZoneVersion, source: &str) -> String {
        let (apex, serial, records) = (version.apex(), version.serial(), self.records);
        let mut text = format!("; {apex} as it is served: {source}, serial {serial}, {records} records\n");
        text.push_str(&write_zone(apex, self.rrsets.iter().map(|(owner, rrset)| (owner, rrset))));
        for comment in &self.comments {
            text.push_str(&format!("; {comment}\n"));
        }
        if self.left_out > 0 {
            text.push_str(&format!("; … and {} more such records\n", self.left_out));
        }
        text
    }
}
