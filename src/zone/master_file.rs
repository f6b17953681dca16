//! Master files: a zone's records as text (RFC 1035 §5).
//!
//! The loader of static zones calls [`read`] with a function that reads included files, and so decides which files may be
//! included; it passes the records to [`super::contents`]. Reading finds all errors of a file at once, each with its
//! position and a hint, never panics, and keeps the limits below. No existing library has positions for all errors,
//! continues after an error, and supports `$INCLUDE`, `$GENERATE` and the less common types.
//!
//! | RFC | subject |
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

/// Largest number of records in one zone; a zone with more is refused.
pub const RECORDS_MAX: usize = 4_000_000;
/// Number of errors in a zone's files after which reading ends, and most warnings that a check returns.
pub const ERRORS_MAX: usize = 100;

// Limits of one zone: its files with included ones, the owners and data of its records, the records of one `$GENERATE`, the
// files in a chain of includes (the zone's own file counted), and its `$INCLUDE` directives. The limit of TTLs is RFC 2181's
// (§8).
const FILES_BYTES_MAX: usize = 256 * 1024 * 1024;
const RECORDS_BYTES_MAX: usize = 512 * 1024 * 1024;
const GENERATE_RECORDS_MAX: u32 = 65_536;
const INCLUDE_DEPTH_MAX: usize = 10;
const INCLUDES_MAX: usize = 1_000;
const TTL_SECONDS_MAX: u32 = i32::MAX as u32;

/// Reads the master file `text`, which is the content of `file`; names are relative to `origin`.
///
/// `load` is called with the path of each included file, a relative path already joined to the directory of the file that
/// includes it, and decides whether the file may be read. Returns either all records or all errors in the order of the file,
/// at most [`ERRORS_MAX`] errors.
///
/// A record without a TTL gets that of the last `$TTL`, else that of the record before it, else, if it is a SOA, its
/// minimum.
pub fn read(
    file: &Path,
    text: &[u8],
    origin: &Name,
    load: &mut dyn FnMut(&Path) -> std::io::Result<Vec<u8>>,
) -> Result<FileRecords, Vec<MasterFileError>> {
    reader::Reader::new(load).read(file, text, origin)
}

/// A value and the position in a file at which it starts.
#[derive(Clone, Debug, Eq, PartialEq)]
#[expect(missing_docs, reason = "the type's document explains both fields")]
pub struct Located<T> {
    pub value: T,
    pub place: Place,
}

/// Position in a file, displayed as `file:line:column`. Lines and columns count from 1; a column is one byte wide.
#[derive(Clone, Debug, Eq, PartialEq)]
#[expect(missing_docs, reason = "the type's document explains the fields")]
pub struct Place {
    pub file: Arc<Path>,
    pub line: u32,
    pub column: u32,
}

impl Place {
    pub(super) fn new(file: &Arc<Path>, spot: Spot) -> Place {
        Place { file: Arc::clone(file), line: spot.line, column: spot.column }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file.display(), self.line, self.column)
    }
}

/// Error or warning about a place in a master file. The message says what is wrong there and what would be right.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{place}: {message}")]
#[expect(missing_docs, reason = "the type's document explains both fields")]
pub struct MasterFileError {
    pub place: Place,
    pub message: String,
}
