//! One resource record.
//!
//! Who calls it: the master file reader makes records, `contents` groups them. RFC 1035 §3.2.

use std::fmt;

use super::rdata::rdata_text;
use super::{Name, RecordType};

/// One record of class IN.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Record {
    /// The name that the record belongs to.
    pub owner: Name,
    /// The type.
    pub rtype: RecordType,
    /// Seconds that an answer may be kept; at most 2^31-1 (RFC 2181 §8).
    pub ttl: u32,
    /// The data in wire form; names in it are uncompressed and keep their case.
    pub rdata: Box<[u8]>,
}

/// One line of a master file.
impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Record { owner, rtype, ttl, rdata } = self;
        write!(f, "{owner} {ttl} IN {rtype} {}", rdata_text(*rtype, rdata))
    }
}
