//! Reader of record data: converts words to wire form, field by field.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use super::layout::{Field, Kind};
use super::mnemonics::{self, code, key_flags};
use super::{RDATA_OCTETS_MAX, bitmap, encoding, gateway, hip, location, network, nsec3, prefix, svcb};
use crate::zone::presentation::{STRING_OCTETS_MAX, TextError, Word, Words, seconds};
use crate::zone::{Name, RecordType};

pub(super) fn known(
    rtype: RecordType,
    fields: &[Field],
    words: &mut Words<'_, '_>,
    origin: &Name,
) -> Result<Vec<u8>, TextError> {
    missing_name(rtype, fields, words)?;
    let mut wire = Vec::with_capacity(32);
    for (name, kind) in fields {
        let (at_field, len) = (words.clone(), wire.len());
        if field(name, *kind, words, origin, &mut wire).is_err() {
            // The field's full name is formatted only for an error, for which the field is read again.
            *words = at_field;
            wire.truncate(len);
            field(&format!("{name} of the {rtype} record"), *kind, words, origin, &mut wire)?;
        }
    }
    Ok(wire)
}

/// Fails if words are missing and a number is at the position of a name. The user then left out the name, and an error about
/// the last number would mislead.
fn missing_name(rtype: RecordType, fields: &[Field], words: &Words<'_, '_>) -> Result<(), TextError> {
    let given = words.clone().rest();
    let is_number = |kind: Kind| matches!(kind, Kind::U8 | Kind::U16 | Kind::U32 | Kind::Seconds);
    if given.len() >= fields.len() || !fields.iter().all(|(_, kind)| *kind == Kind::Name || is_number(*kind))
    {
        return Ok(());
    }
    let numbers_from = fields.iter().rposition(|(_, kind)| *kind == Kind::Name).map_or(0, |last| last + 1);
    let left_out = fields[..numbers_from].iter().zip(given).find(|((_, kind), word)| {
        *kind == Kind::Name && numbers_from < fields.len() && seconds(word.raw).is_some()
    });
    match left_out {
        None => Ok(()),
        Some(((name, _), word)) => {
            Err(word.error(format!("{name} of the {rtype} record is missing before `{}`", word.shown())))
        }
    }
}

/// Reads data of any type in the form `\# n hex` (RFC 3597 §5).
pub(super) fn generic(words: &mut Words<'_, '_>) -> Result<Vec<u8>, TextError> {
    words.next("the data")?;
    let word = words.next_bare("the number of octets")?;
    let len = number(word, RDATA_OCTETS_MAX as u64, "the number of octets")? as usize;
    let octets = hex(words.rest(), "the data")?;
    if octets.len() != len {
        return Err(word.error(format!("{len} octets are announced, but {} follow", octets.len())));
    }
    Ok(octets)
}

fn field(
    what: &str,
    kind: Kind,
    words: &mut Words<'_, '_>,
    origin: &Name,
    wire: &mut Vec<u8>,
) -> Result<(), TextError> {
    match kind {
        Kind::Name => wire.extend_from_slice(words.next_bare(what)?.name(origin, what)?.as_wire()),
        Kind::U8 => wire.push(number(words.next_bare(what)?, u8::MAX.into(), what)? as u8),
        Kind::U16 => {
            let value = number(words.next_bare(what)?, u16::MAX.into(), what)? as u16;
            wire.extend_from_slice(&value.to_be_bytes());
        }
        Kind::U32 => {
            let value = number(words.next_bare(what)?, u32::MAX.into(), what)? as u32;
            wire.extend_from_slice(&value.to_be_bytes());
        }
        Kind::Seconds => {
            let word = words.next_bare(what)?;
            let value = seconds(word.raw).and_then(|value| u32::try_from(value).ok()).ok_or_else(|| {
                word.error(format!(
                    "{what} must be seconds up to {} or a time such as 1h30m, not `{}`",
                    u32::MAX,
                    word.shown()
                ))
            })?;
            wire.extend_from_slice(&value.to_be_bytes());
        }
        Kind::Code8(known) => wire.push(code(words.next_bare(what)?, known, u8::MAX.into(), what)? as u8),
        Kind::Code16(known) => {
            let value = code(words.next_bare(what)?, known, u16::MAX, what)?;
            wire.extend_from_slice(&value.to_be_bytes());
        }
        Kind::KeyFlags => wire.extend_from_slice(&key_flags(words.next_bare(what)?, what)?.to_be_bytes()),
        Kind::NoKeyFlags => {
            let word = words.next_bare(what)?;
            if key_flags(word, what)? != 0 {
                return Err(word.error(format!("{what} must be 0, not `{}`", word.shown())));
            }
            wire.extend_from_slice(&[0, 0]);
        }
        Kind::Moment | Kind::Date => {
            let word = words.next_bare(what)?;
            let value = match encoding::from_calendar(word.raw) {
                Some(value) => value,
                None => number(word, u32::MAX.into(), &format!("{what} (YYYYMMDDHHmmSS or seconds)"))? as u32,
            };
            wire.extend_from_slice(&value.to_be_bytes());
        }
        Kind::Type => {
            let rtype = bitmap::type_or_number(words.next_bare(what)?, what)?;
            wire.extend_from_slice(&rtype.0.to_be_bytes());
        }
        Kind::Ipv4 => {
            wire.extend_from_slice(&address::<Ipv4Addr>(words.next_bare(what)?, what, "192.0.2.1")?.octets());
        }
        Kind::Ipv6 => {
            wire.extend_from_slice(
                &address::<Ipv6Addr>(words.next_bare(what)?, what, "2001:db8::1")?.octets(),
            );
        }
        Kind::String => string(words.next(what)?, what, wire)?,
        Kind::OptionalString => {
            if words.peek().is_some() {
                string(words.next(what)?, what, wire)?;
            }
        }
        Kind::Strings => {
            string(words.next(what)?, what, wire)?;
            for word in words.rest() {
                string(word, what, wire)?;
            }
        }
        Kind::Tag => {
            let word = words.next_bare(what)?;
            let is_tag =
                word.raw.len() <= STRING_OCTETS_MAX && word.raw.iter().all(u8::is_ascii_alphanumeric);
            if !is_tag {
                return Err(word.error(format!(
                    "{what} must be letters and digits, such as issue, not `{}`",
                    word.shown()
                )));
            }
            string(word, what, wire)?;
        }
        Kind::Text => wire.extend_from_slice(&words.next(what)?.unescaped()?),
        Kind::FullText => {
            let word = words.next(what)?;
            if word.raw.is_empty() {
                return Err(word.error(format!("{what} must not be empty")));
            }
            wire.extend_from_slice(&word.unescaped()?);
        }
        Kind::Hex => {
            words.clone().next_bare(what)?;
            wire.extend_from_slice(&hex(words.rest(), what)?);
        }
        Kind::HexOrNone => wire.extend_from_slice(&hex(words.rest(), what)?),
        Kind::Base64 => base64(words, what, wire)?,
        Kind::Base64OrNone => {
            if words.peek().is_some() {
                base64(words, what, wire)?;
            }
        }
        Kind::Base64OrDash => match words.clone().rest() {
            [dash] if dash.is("-") => {
                words.rest();
            }
            _ => base64(words, what, wire)?,
        },
        Kind::PublicKey => {
            let flags = wire.first_chunk().map_or(0, |flags| u16::from_be_bytes(*flags));
            if !mnemonics::is_without_key(flags) {
                base64(words, what, wire)?;
            }
        }
        Kind::Types => bitmap::types(words.rest(), wire)?,
        Kind::LowTypes => bitmap::low_types(words.rest(), what, wire)?,
        Kind::Ports => bitmap::ports(words.rest(), what, wire)?,
        Kind::X121 => network::x121(words.next(what)?, what, wire)?,
        Kind::Nsap => network::nsap(words.next_bare(what)?, what, wire)?,
        Kind::Atm => network::atm(words.next_bare(what)?, what, wire)?,
        Kind::Eui48 => network::eui::<6>(words.next_bare(what)?, what, wire)?,
        Kind::Eui64 => network::eui::<8>(words.next_bare(what)?, what, wire)?,
        Kind::Locator => network::locator(words.next_bare(what)?, what, wire)?,
        Kind::GatewayType => wire.push(gateway::gateway_type(words.next_bare(what)?, what)?),
        Kind::Discovery => wire.push(gateway::discovery(words.next_bare(what)?, what)?),
        Kind::RelayType => {
            let relay = gateway::gateway_type(words.next_bare(what)?, what)?;
            if let Some(flag) = wire.last_mut() {
                *flag |= relay;
            }
        }
        Kind::Gateway => gateway::gateway(words.next_bare(what)?, what, origin, wire)?,
        Kind::Salt => nsec3::salt(words.next_bare(what)?, what, wire)?,
        Kind::NameHash => nsec3::hash(words.next_bare(what)?, what, wire)?,
        Kind::AddressInParts => prefix::address_in_parts(words, origin, wire)?,
        Kind::Prefixes => prefix::list(words.rest(), wire)?,
        Kind::HostIdentity => hip::read(words, origin, wire)?,
        Kind::Location => location::read(words, wire)?,
        Kind::Parameters => svcb::read(words.rest(), wire)?,
    }
    Ok(())
}

pub(super) fn number(word: &Word<'_>, max: u64, what: &str) -> Result<u64, TextError> {
    let digits =
        std::str::from_utf8(word.raw).ok().filter(|text| text.bytes().all(|octet| octet.is_ascii_digit()));
    digits
        .and_then(|text| text.parse().ok())
        .filter(|value| *value <= max)
        .ok_or_else(|| word.error(format!("{what} must be a number from 0 to {max}, not `{}`", word.shown())))
}

pub(super) fn address<T: FromStr>(word: &Word<'_>, what: &str, example: &str) -> Result<T, TextError> {
    std::str::from_utf8(word.raw).ok().and_then(|text| text.parse().ok()).ok_or_else(|| {
        word.error(format!("{what} must be an address such as {example}, not `{}`", word.shown()))
    })
}

fn string(word: &Word<'_>, what: &str, wire: &mut Vec<u8>) -> Result<(), TextError> {
    let octets = word.unescaped()?;
    let len = u8::try_from(octets.len()).map_err(|_| {
        word.error(format!(
            "{what} has a string of {} octets; cut it into quoted strings of at most {STRING_OCTETS_MAX}",
            octets.len()
        ))
    })?;
    wire.push(len);
    wire.extend_from_slice(&octets);
    Ok(())
}

fn base64(words: &mut Words<'_, '_>, what: &str, wire: &mut Vec<u8>) -> Result<(), TextError> {
    let first = words.clone().next_bare(what)?;
    let octets = encoding::from_base64(&joined(words.rest()));
    wire.extend_from_slice(&octets.ok_or_else(|| {
        first.error(format!("{what} must be base64 with its padding, not `{}`", first.shown()))
    })?);
    Ok(())
}

fn joined(words: &[Word<'_>]) -> Vec<u8> {
    words.iter().flat_map(|word| word.raw).copied().collect()
}

fn hex(words: &[Word<'_>], what: &str) -> Result<Vec<u8>, TextError> {
    let wrong = words.iter().find(|word| word.quoted || !word.raw.iter().all(u8::is_ascii_hexdigit));
    if let Some(word) = wrong {
        return Err(word.error(format!("{what} must be hex digits, not `{}`", word.shown())));
    }
    match (encoding::from_hex(&joined(words)), words.first()) {
        (Some(octets), _) => Ok(octets),
        (None, Some(word)) => Err(word.error(format!("{what} must be an even number of hex digits"))),
        (None, None) => Ok(Vec::new()),
    }
}
