//! Record data: presentation format to wire form and back.
//!
//! `master_file` reads with `read`; `record` and `write` make text with [`rdata_text`]. Text that is made here reads back to
//! equal data. Data of a known type that was read is valid for that type, also if it was written as `\# n hex`, and wire data
//! that is not valid is shown as `\# n hex`.
//!
//! | RFC | types |
//! | --- | --- |
//! | 1035 | A NS CNAME SOA PTR HINFO MX TXT MB MG MR MINFO WKS NULL |
//! | 1183, 1876, 2230 | RP AFSDB X25 ISDN RT, LOC, KX |
//! | 1706, 1712, 2163 | NSAP NSAP-PTR, GPOS, PX |
//! | 2535 | KEY SIG NXT |
//! | 2782, 3403, 7553 | SRV, NAPTR, URI |
//! | 2874, 3123, 4025 | A6, APL, IPSECKEY |
//! | 3596, 3597 | AAAA, unknown types and `\#` |
//! | 4034, 7344, 7477 | DS DNSKEY RRSIG NSEC, CDS CDNSKEY, CSYNC |
//! | 4255, 6698, 7929, 8162 | SSHFP, TLSA, OPENPGPKEY, SMIMEA |
//! | 4398, 4701, 8005 | CERT, DHCID, HIP |
//! | 4431, 5155, 9859 | DLV, NSEC3 NSEC3PARAM, DSYNC |
//! | 6672, 7208, 8659, 8976 | DNAME, SPF, CAA, ZONEMD |
//! | 6742, 7043, 8777 | NID L32 L64 LP, EUI48 EUI64, AMTRELAY |
//! | 9460, 9461, 9540 | SVCB HTTPS |
//! | 9606, 9886 | RESINFO, HHIT BRID |
//!
//! Types without an RFC that BIND 9.18 reads are read as BIND reads them: ATMA AVC DOA EID NIMLOC NINFO RKEY SINK TA
//! TALINK WALLET, and its own KEYDATA; NULL, UINFO, UID, GID and UNSPEC as `\#` alone.

mod bitmap;
mod encoding;
mod gateway;
mod hip;
mod layout;
mod location;
mod mnemonics;
mod network;
mod nsec3;
mod octets;
mod prefix;
mod reader;
mod svcb;
#[cfg(test)]
mod tests;
mod writer;

use super::presentation::{TextError, Words};
use super::{Name, RecordType};

/// Longest record data, in octets (RFC 1035 §3.2.1: a length of 16 bits).
pub const RDATA_OCTETS_MAX: usize = 65_535;

enum Shown {
    Text(String),
    Generic,
}

/// Reads all words that are left as data of type `rtype`, or as `\# n hex` for any type. Names are relative to `origin`. Data
/// of a known type in `\#` form must be valid for that type. MD and MF are obsolete and refused (RFC 1035 §3.3.4, §3.3.5).
pub(super) fn read(
    rtype: RecordType,
    words: &mut Words<'_, '_>,
    origin: &Name,
) -> Result<Box<[u8]>, TextError> {
    let start = words.peek().map_or(words.end(), |first| first.at);
    if let Some(successor) = layout::successor(rtype) {
        return Err(TextError::new(start, format!("{rtype} is obsolete; write {successor} (RFC 1035 §3.3)")));
    }
    let rdata = match (words.peek(), layout::fields(rtype)) {
        (None, _) if !layout::may_be_empty(rtype) => {
            return Err(TextError::new(start, format!("the data of the {rtype} record is missing")));
        }
        (Some(first), fields) if first.is(r"\#") => {
            let rdata = reader::generic(words)?;
            if fields.is_some() && writer::known(rtype, &rdata).is_none() {
                return Err(first.error(format!("the octets are not valid data of type {rtype}")));
            }
            rdata
        }
        (_, Some(fields)) => reader::known(rtype, fields, words, origin)?,
        (_, None) => {
            let message = format!(
                r"data of type {rtype} must be written as `\#`, the number of octets, and the octets in hex"
            );
            return Err(TextError::new(start, message));
        }
    };
    words.finish()?;
    if rdata.len() > RDATA_OCTETS_MAX {
        let message = format!("the data is {} octets, over {RDATA_OCTETS_MAX}", rdata.len());
        return Err(TextError::new(start, message));
    }
    Ok(rdata.into())
}

/// The data in presentation format with absolute names, or as `\# n hex` if the type is unknown, or if the data is invalid or
/// has no other text form.
pub fn rdata_text(rtype: RecordType, rdata: &[u8]) -> String {
    match writer::known(rtype, rdata) {
        Some(Shown::Text(text)) => text,
        Some(Shown::Generic) | None => writer::generic(rdata),
    }
}

/// True if the data is valid for the type, and its names are not compressed. All data of unknown types is valid; no data of
/// MD and MF is, which are obsolete.
pub fn is_valid(rtype: RecordType, rdata: &[u8]) -> bool {
    match layout::fields(rtype) {
        None => rdata.len() <= RDATA_OCTETS_MAX && layout::successor(rtype).is_none(),
        Some(_) => writer::known(rtype, rdata).is_some(),
    }
}
