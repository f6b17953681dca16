//! One resource record of a zone file (RFC 1035 §3.2), as [`super::contents`] returns it and tests compare it.

use std::fmt;

use super::rdata::rdata_text;
use super::{Name, RecordType};

/// One record of class IN. It is displayed as one line of a master file.
#[derive(Clone, Debug, Eq, PartialEq)]
#[expect(missing_docs, reason = "owner and type are the fields of RFC 1035 §3.2.1")]
pub struct Record {
    pub owner: Name,
    pub rtype: RecordType,
    /// Seconds for which a resolver may cache the record, at most 2^31-1 (RFC 2181 §8).
    pub ttl: u32,
    /// The data in wire form. Names in it are uncompressed and keep their case.
    pub rdata: Box<[u8]>,
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Record { owner, rtype, ttl, rdata } = self;
        write!(f, "{owner} {ttl} IN {rtype} {}", rdata_text(*rtype, rdata))
    }
}
