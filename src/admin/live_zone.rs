//! Writes a served zone as a master file.
//!
//! The file has every record that DNS may answer with. Records that a master file cannot express become comments.

use crate::snapshot::ZoneVersion;
use crate::zone::walk::Sink;
use crate::zone::write::write_zone;
use crate::zone::{Name, QueryName, Rrset};

use super::{Admin, namespace_line, namespace_of, zones_listed};

/// Most records of one file, which then has about 60 MiB of text.
const RECORDS_MAX: usize = 1_000_000;
/// Longest file in bytes. The command `zone` accepts a response of 64 MiB with its headers.
const BYTES_MAX: usize = 60 << 20;
const COMMENTS_MAX: usize = 1_000;

#[derive(Debug, Eq, PartialEq, thiserror::Error)]
pub(super) enum LiveZoneError {
    #[error("there is no zone {name}; {hint}")]
    NoZone { name: Name, hint: String },
    #[error("the zone {0} is too large to be shown: more than {RECORDS_MAX} records or {BYTES_MAX} bytes")]
    TooLarge(Name),
}

/// Returns the zone with this apex as a master file, which this server can load as a zone file.
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
    if text.len() > BYTES_MAX { Err(too_large(TooLarge)) } else { Ok(text) }
}

struct TooLarge;

#[derive(Default)]
struct Contents {
    rrsets: Vec<(Name, Rrset)>,
    records: usize,
    comments: Vec<String>,
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
        if self.comments.len() < COMMENTS_MAX {
            self.comments.push(text());
        } else {
            self.left_out += 1;
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
