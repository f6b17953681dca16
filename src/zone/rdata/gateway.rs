//! Gateways of IPSECKEY (RFC 4025 §2.5) and relays of AMTRELAY (RFC 8777 §4.2): nothing, an address or a name.
//!
//! The type of both is in the second octet of the data, which comes before the gateway or relay. The highest bit of
//! AMTRELAY's octet is the discovery flag.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::Shown;
use super::octets::Octets;
use super::reader::{address, number};
use crate::zone::Name;
use crate::zone::presentation::{TextError, Word};

const TYPE_MAX: u8 = 3;
const DISCOVERY: u8 = 0x80;

pub(super) fn gateway_type(word: &Word<'_>, what: &str) -> Result<u8, TextError> {
    number(word, TYPE_MAX.into(), what).map(|value| value as u8).map_err(|_| {
        word.error(format!(
            "{what} must be 0 (no gateway), 1 (IPv4 address), 2 (IPv6 address) or 3 (name), not `{}`",
            word.shown()
        ))
    })
}

pub(super) fn show_gateway_type(octets: &mut Octets<'_>) -> Option<String> {
    let [value] = octets.array()?;
    (value <= TYPE_MAX).then(|| value.to_string())
}

/// Reads the discovery flag, 0 or 1, into the octet to which the type is added afterwards.
pub(super) fn discovery(word: &Word<'_>, what: &str) -> Result<u8, TextError> {
    Ok(if number(word, 1, what)? == 1 { DISCOVERY } else { 0 })
}

/// Shows the discovery flag and the type from one octet. An unknown type has no text form.
pub(super) fn show_discovery_and_type(octets: &mut Octets<'_>) -> Option<Shown> {
    let [value] = octets.array()?;
    let (flag, relay) = (u8::from(value & DISCOVERY != 0), value & !DISCOVERY);
    Some(if relay > TYPE_MAX { Shown::Generic } else { Shown::Text(format!("{flag} {relay}")) })
}

pub(super) fn gateway(
    word: &Word<'_>,
    what: &str,
    origin: &Name,
    wire: &mut Vec<u8>,
) -> Result<(), TextError> {
    match kind(wire) {
        Some(0) if word.is(".") => {}
        Some(1) => wire.extend_from_slice(&address::<Ipv4Addr>(word, what, "192.0.2.1")?.octets()),
        Some(2) => wire.extend_from_slice(&address::<Ipv6Addr>(word, what, "2001:db8::1")?.octets()),
        Some(3) => wire.extend_from_slice(word.name(origin, what)?.as_wire()),
        _ => {
            return Err(word.error(format!("{what} must be `.` where the type is 0, not `{}`", word.shown())));
        }
    }
    Ok(())
}

pub(super) fn show(before: &[u8], octets: &mut Octets<'_>) -> Option<Shown> {
    Some(Shown::Text(match kind(before)? {
        0 => ".".into(),
        1 => Ipv4Addr::from(octets.array::<4>()?).to_string(),
        2 => Ipv6Addr::from(octets.array::<16>()?).to_string(),
        3 => octets.name()?.to_string(),
        _ => {
            octets.rest();
            return Some(Shown::Generic);
        }
    }))
}

fn kind(before: &[u8]) -> Option<u8> {
    before.get(1).map(|octet| octet & !DISCOVERY)
}
