//! Master files: a zone's records as text (RFC 1035 §5).
//!
//! Who calls it: the loader of static zones, with a function that reads files, so that it decides what may be
//! included; the records go on to [`super::contents`]. It promises to find all errors of a file at once, each with
//! its place and with what would be right, never to panic, and to hold no more than the limits below. The reader
//! is our own because a place for every error, reading on after an error, `$INCLUDE`, `$GENERATE` and the less
//! common types are needed together.
//!
//! | RFC | what |
//! | --- | --- |
//! | 1035 §5 | entries, `$ORIGIN`, `$INCLUDE` |
//! | 2181 §8 | TTLs up to 2^31-1 |
//! | 2308 §4 | `$TTL` |
//! | 3597 §5 | `TYPEn`, `CLASSn`, `\#` |
//!
//! `$GENERATE` and times such as `1h30m` follow BIND 9. Only class IN is read.

mod generate;
mod reader;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use super::Name;
use super::file_records::FileRecords;
use super::presentation::Spot;

/// Most octets of all files of one zone together.
pub const FILES_OCTETS_MAX: usize = 256 * 1024 * 1024;
/// Most records of one zone.
pub const RECORDS_MAX: usize = 4_000_000;
/// Most octets of owners and data of one zone's records together.
pub const RECORDS_OCTETS_MAX: usize = 512 * 1024 * 1024;
/// Most records of one `$GENERATE`.
pub const GENERATE_RECORDS_MAX: u32 = 65_536;
/// Most files that include each other in one chain.
pub const INCLUDE_DEPTH_MAX: usize = 10;
/// Most `$INCLUDE` directives that are followed for one zone.
pub const INCLUDES_MAX: usize = 1_000;
/// Most errors that are collected; reading ends there.
pub const ERRORS_MAX: usize = 100;
/// Largest TTL, in seconds (RFC 2181 §8).
pub const TTL_SECONDS_MAX: u32 = i32::MAX as u32;

/// Reads the master file `text`, which came from `file`; names are relative to `origin`.
///
/// `load` gets the path of each included file, relative ones already joined to the directory of the file that
/// includes them; it decides which files may be read. Either all records in the order of the file come back, or all
/// errors in the order of the file, at most [`ERRORS_MAX`].
///
/// A record without a TTL has that of the last `$TTL`, else that of the record before it, else, when it is a SOA,
/// its minimum.
pub fn read(
    file: &Path,
    text: &[u8],
    origin: &Name,
    load: &mut dyn FnMut(&Path) -> std::io::Result<Vec<u8>>,
) -> Result<FileRecords, Vec<MasterFileError>> {
    reader::Reader::new(load).read(file, text, origin)
}

/// A value and the place that it was read from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Located<T> {
    /// The value.
    pub value: T,
    /// Where it starts.
    pub place: Place,
}

/// A place in a file.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Place {
    /// The file.
    pub file: Arc<Path>,
    /// The line, from 1.
    pub line: u32,
    /// The octet in the line, from 1.
    pub column: u32,
}

impl Place {
    /// The place of `spot` in `file`.
    pub fn new(file: &Arc<Path>, spot: Spot) -> Place {
        Place { file: Arc::clone(file), line: spot.line, column: spot.column }
    }
}

/// `file:line:column`.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file.display(), self.line, self.column)
    }
}

/// What is wrong in a master file, or what looks wrong.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{place}: {message}")]
pub struct MasterFileError {
    /// Where.
    pub place: Place,
    /// What is wrong and what would be right.
    pub message: String,
}
