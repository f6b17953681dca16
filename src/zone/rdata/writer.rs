//! Wire form to text, field by field; also the check that octets are valid data of a type.

use super::layout::{Kind, fields};
use super::octets::Octets;
use super::{encoding, location, svcb};
use crate::zone::presentation::quote;
use crate::zone::{Name, RecordType};

/// The data of a known type as text; `None` when the type is not known or the octets are not valid for it.
pub(super) fn known(rtype: RecordType, rdata: &[u8]) -> Option<String> {
    let mut rest = Octets(rdata);
    let mut pieces = Vec::new();
    for (_, kind) in fields(rtype)? {
        let piece = field(*kind, &mut rest)?;
        if !piece.is_empty() {
            pieces.push(piece);
        }
    }
    rest.0.is_empty().then(|| pieces.join(" "))
}

/// `\# n hex` (RFC 3597 §5).
pub(super) fn generic(rdata: &[u8]) -> String {
    match rdata {
        [] => r"\# 0".into(),
        _ => format!(r"\# {} {}", rdata.len(), encoding::to_hex(rdata)),
    }
}

fn field(kind: Kind, octets: &mut Octets<'_>) -> Option<String> {
    Some(match kind {
        Kind::Name => {
            let len = Name::wire_len(octets.0).ok()?;
            Name::from_wire(octets.take(len)?).ok()?.to_string()
        }
        Kind::U8 | Kind::Algorithm => octets.array::<1>()?[0].to_string(),
        Kind::U16 => octets.u16()?.to_string(),
        Kind::U32 | Kind::Seconds | Kind::Moment => octets.u32()?.to_string(),
        Kind::Type => RecordType(octets.u16()?).to_string(),
        Kind::Ipv4 => std::net::Ipv4Addr::from(octets.array::<4>()?).to_string(),
        Kind::Ipv6 => std::net::Ipv6Addr::from(octets.array::<16>()?).to_string(),
        Kind::String => quote(octets.string()?),
        Kind::Strings => {
            let mut strings = vec![quote(octets.string()?)];
            while !octets.0.is_empty() {
                strings.push(quote(octets.string()?));
            }
            strings.join(" ")
        }
        Kind::Tag => {
            let tag = octets.string()?;
            if tag.is_empty() || !tag.iter().all(u8::is_ascii_alphanumeric) {
                return None;
            }
            String::from_utf8_lossy(tag).into_owned()
        }
        Kind::Text => quote(octets.rest()),
        Kind::FullText => quote(Some(octets.rest()).filter(|rest| !rest.is_empty())?),
        Kind::Hex => encoding::to_hex(Some(octets.rest()).filter(|rest| !rest.is_empty())?),
        Kind::Base64 => encoding::to_base64(Some(octets.rest()).filter(|rest| !rest.is_empty())?),
        Kind::Types => types(octets)?,
        Kind::Location => location::show(octets)?,
        Kind::Parameters => svcb::show(octets)?,
    })
}

/// Windows must ascend, and each ends in an octet that is not zero (RFC 4034 §4.1.2).
fn types(octets: &mut Octets<'_>) -> Option<String> {
    let mut types = Vec::new();
    let mut last = None;
    while !octets.0.is_empty() {
        let [window] = octets.array()?;
        let bits = octets.string()?;
        if last.is_some_and(|last| last >= window) || bits.len() > 32 || *bits.last()? == 0 {
            return None;
        }
        last = Some(window);
        for (at, octet) in bits.iter().enumerate() {
            let set = (0..8u16).filter(|bit| octet & (0x80 >> bit) != 0);
            types.extend(
                set.map(|bit| RecordType(u16::from(window) << 8 | (at as u16 * 8 + bit)).to_string()),
            );
        }
    }
    Some(types.join(" "))
}
