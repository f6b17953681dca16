//! Writer of record data: converts wire form to text, field by field, and checks thereby that data is valid for its type.

use super::layout::{Kind, fields};
use super::octets::Octets;
use super::{Shown, bitmap, encoding, gateway, hip, location, mnemonics, network, nsec3, prefix, svcb};
use crate::zone::RecordType;
use crate::zone::presentation::quote;

pub(super) fn known(rtype: RecordType, rdata: &[u8]) -> Option<Shown> {
    if rtype == RecordType::KEYDATA {
        // The type's number is from the private range, so other software may use it for other data.
        return Some(Shown::Generic);
    }
    let mut rest = Octets(rdata);
    let mut pieces = Vec::new();
    let mut is_generic = false;
    for (_, kind) in fields(rtype)? {
        let before = &rdata[..rdata.len() - rest.0.len()];
        match field(*kind, before, &mut rest)? {
            Shown::Text(piece) if piece.is_empty() => {}
            Shown::Text(piece) => pieces.push(piece),
            Shown::Generic => is_generic = true,
        }
    }
    if !rest.0.is_empty() {
        return None;
    }
    // An empty text would look like a record whose data was left out by mistake.
    Some(if is_generic || pieces.is_empty() { Shown::Generic } else { Shown::Text(pieces.join(" ")) })
}

pub(super) fn generic(rdata: &[u8]) -> String {
    match rdata {
        [] => r"\# 0".into(),
        _ => format!(r"\# {} {}", rdata.len(), encoding::to_hex(rdata)),
    }
}

/// `before` is the data before the field, in which some formats have their type or flags.
fn field(kind: Kind, before: &[u8], octets: &mut Octets<'_>) -> Option<Shown> {
    Some(Shown::Text(match kind {
        Kind::Name => octets.name()?.to_string(),
        Kind::U8 | Kind::Code8(_) => octets.array::<1>()?[0].to_string(),
        Kind::U16 | Kind::Code16(_) | Kind::KeyFlags => octets.u16()?.to_string(),
        Kind::NoKeyFlags => Some(octets.u16()?).filter(|flags| *flags == 0)?.to_string(),
        Kind::U32 | Kind::Seconds | Kind::Moment => octets.u32()?.to_string(),
        Kind::Date => encoding::to_calendar(octets.u32()?)?,
        Kind::Type => RecordType(octets.u16()?).to_string(),
        Kind::Ipv4 => std::net::Ipv4Addr::from(octets.array::<4>()?).to_string(),
        Kind::Ipv6 => std::net::Ipv6Addr::from(octets.array::<16>()?).to_string(),
        Kind::String => quote(octets.string()?),
        Kind::OptionalString if octets.0.is_empty() => String::new(),
        Kind::OptionalString => quote(octets.string()?),
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
        Kind::FullText => quote(rest(octets)?),
        Kind::Hex => encoding::to_hex(rest(octets)?),
        Kind::HexOrNone => encoding::to_hex(octets.rest()),
        Kind::Base64 => encoding::to_base64(rest(octets)?),
        Kind::Base64OrNone => encoding::to_base64(octets.rest()),
        Kind::Base64OrDash if octets.0.is_empty() => "-".into(),
        Kind::Base64OrDash => encoding::to_base64(octets.rest()),
        Kind::PublicKey => {
            let flags = before.first_chunk().map(|flags| u16::from_be_bytes(*flags))?;
            if mnemonics::is_without_key(flags) { String::new() } else { encoding::to_base64(rest(octets)?) }
        }
        Kind::Types => bitmap::show_types(octets)?,
        Kind::LowTypes => bitmap::show_low_types(octets)?,
        Kind::Ports => bitmap::show_ports(octets)?,
        Kind::X121 => network::show_x121(octets)?,
        Kind::Nsap => network::show_nsap(octets)?,
        Kind::Atm => return network::show_atm(octets),
        Kind::Eui48 => network::show_eui::<6>(octets)?,
        Kind::Eui64 => network::show_eui::<8>(octets)?,
        Kind::Locator => network::show_locator(octets)?,
        Kind::GatewayType => gateway::show_gateway_type(octets)?,
        // Relay type and flag are in one octet, so `RelayType` shows both.
        Kind::Discovery => String::new(),
        Kind::RelayType => return gateway::show_discovery_and_type(octets),
        Kind::Gateway => return gateway::show(before, octets),
        Kind::Salt => nsec3::show_salt(octets)?,
        Kind::NameHash => nsec3::show_hash(before, octets)?,
        Kind::AddressInParts => prefix::show_address_in_parts(octets)?,
        Kind::Prefixes => return prefix::show_list(octets),
        Kind::HostIdentity => hip::show(octets)?,
        Kind::Location => location::show(octets)?,
        Kind::Parameters => svcb::show(octets)?,
    }))
}

fn rest<'a>(octets: &mut Octets<'a>) -> Option<&'a [u8]> {
    Some(octets.rest()).filter(|rest| !rest.is_empty())
}
