//! Record data: presentation format to wire form and back.
//!
//! Who calls it: `master_file` reads with [`read`], `record` and `write` show with [`rdata_text`]. It promises
//! that what it shows reads back to the same octets, that data of a known type is valid wire data of that
//! type, also when it came as `\# n hex`, and that wire data which is not valid is shown as `\# n hex`.
//!
//! | RFC | types |
//! | --- | --- |
//! | 1035 | A NS CNAME SOA PTR HINFO MX TXT |
//! | 1183, 1876, 2230 | RP AFSDB, LOC, KX |
//! | 2782, 3403, 7553 | SRV, NAPTR, URI |
//! | 3596, 3597 | AAAA, unknown types and `\#` |
//! | 4034, 7344, 7477 | DS DNSKEY RRSIG NSEC, CDS CDNSKEY, CSYNC |
//! | 4255, 6698, 7929, 8162 | SSHFP, TLSA, OPENPGPKEY, SMIMEA |
//! | 6672, 7208, 8659, 8976 | DNAME, SPF, CAA, ZONEMD |
//! | 9460, 9461, 9540 | SVCB HTTPS |

mod encoding;
mod layout;
mod location;
mod octets;
mod reader;
mod svcb;
#[cfg(test)]
mod tests;
mod writer;

use super::presentation::{TextError, Words};
use super::{Name, RecordType};

/// Longest record data, in octets (RFC 1035 §3.2.1: a length of 16 bits).
pub const RDATA_OCTETS_MAX: usize = 65_535;

/// Reads all words that are left as data of type `rtype`, or as `\# n hex` for any type; relative names end in
/// `origin`. A known type in `\#` form must be valid data of that type.
pub fn read(rtype: RecordType, words: &mut Words<'_, '_>, origin: &Name) -> Result<Box<[u8]>, TextError> {
    let Some(first) = words.peek() else {
        return Err(TextError::new(words.end(), format!("the data of the {rtype} record is missing")));
    };
    let rdata = if first.is(r"\#") {
        let rdata = reader::generic(words)?;
        if layout::fields(rtype).is_some() && writer::known(rtype, &rdata).is_none() {
            return Err(first.error(format!("the octets are not valid data of type {rtype}")));
        }
        rdata
    } else {
        let Some(fields) = layout::fields(rtype) else {
            return Err(first.error(format!(
                r"data of type {rtype} must be written as `\#`, the number of octets, and the octets in hex"
            )));
        };
        reader::known(rtype, fields, words, origin)?
    };
    words.finish()?;
    if rdata.len() > RDATA_OCTETS_MAX {
        return Err(first.error(format!("the data is {} octets, over {RDATA_OCTETS_MAX}", rdata.len())));
    }
    Ok(rdata.into())
}

/// The data in presentation format, names absolute; `\# n hex` for unknown types and invalid data.
pub fn rdata_text(rtype: RecordType, rdata: &[u8]) -> String {
    writer::known(rtype, rdata).unwrap_or_else(|| writer::generic(rdata))
}

/// Whether the octets are valid data of the type, names uncompressed; any data of an unknown type is.
pub fn is_valid(rtype: RecordType, rdata: &[u8]) -> bool {
    match layout::fields(rtype) {
        None => rdata.len() <= RDATA_OCTETS_MAX,
        Some(_) => writer::known(rtype, rdata).is_some(),
    }
}
