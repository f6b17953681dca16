//! Words to wire form, field by field.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use super::layout::{Field, Kind};
use super::{RDATA_OCTETS_MAX, encoding, location, svcb};
use crate::zone::presentation::{STRING_OCTETS_MAX, TextError, Word, Words, seconds};
use crate::zone::{Name, RecordType};

/// Mnemonics of DNSSEC algorithms (RFC 4034 §A.1, RFC 5702, RFC 6605, RFC 8080).
const ALGORITHMS: &[(&str, u8)] = &[
    ("RSAMD5", 1),
    ("DH", 2),
    ("DSA", 3),
    ("RSASHA1", 5),
    ("DSA-NSEC3-SHA1", 6),
    ("RSASHA1-NSEC3-SHA1", 7),
    ("RSASHA256", 8),
    ("RSASHA512", 10),
    ("ECDSAP256SHA256", 13),
    ("ECDSAP384SHA384", 14),
    ("ED25519", 15),
    ("ED448", 16),
    ("INDIRECT", 252),
    ("PRIVATEDNS", 253),
    ("PRIVATEOID", 254),
];

/// Reads the fields of a known type.
pub(super) fn known(
    rtype: RecordType,
    fields: &[Field],
    words: &mut Words<'_, '_>,
    origin: &Name,
) -> Result<Vec<u8>, TextError> {
    let mut wire = Vec::with_capacity(32);
    for (name, kind) in fields {
        field(&format!("{name} of the {rtype} record"), *kind, words, origin, &mut wire)?;
    }
    Ok(wire)
}

/// Reads `\# n hex` (RFC 3597 §5).
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
        Kind::Algorithm => {
            let word = words.next_bare(what)?;
            let known = ALGORITHMS.iter().find(|(mnemonic, _)| word.is(mnemonic));
            wire.push(match known {
                Some((_, number)) => *number,
                None => number(word, u8::MAX.into(), what)? as u8,
            });
        }
        Kind::Moment => {
            let word = words.next_bare(what)?;
            let value = match encoding::from_calendar(word.raw) {
                Some(value) => value,
                None => number(word, u32::MAX.into(), &format!("{what} (YYYYMMDDHHmmSS or seconds)"))? as u32,
            };
            wire.extend_from_slice(&value.to_be_bytes());
        }
        Kind::Type => {
            let rtype = words.next_bare(what)?.record_type()?;
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
        Kind::Base64 => {
            let first = words.clone().next_bare(what)?;
            let octets = encoding::from_base64(&joined(words.rest()));
            wire.extend_from_slice(&octets.ok_or_else(|| {
                first.error(format!("{what} must be base64 with its padding, not `{}`", first.shown()))
            })?);
        }
        Kind::Types => types(words.rest(), wire)?,
        Kind::Location => location::read(words, wire)?,
        Kind::Parameters => svcb::read(words.rest(), wire)?,
    }
    Ok(())
}

/// A decimal number from 0 to `max`.
fn number(word: &Word<'_>, max: u64, what: &str) -> Result<u64, TextError> {
    let digits =
        std::str::from_utf8(word.raw).ok().filter(|text| text.bytes().all(|octet| octet.is_ascii_digit()));
    digits
        .and_then(|text| text.parse().ok())
        .filter(|value| *value <= max)
        .ok_or_else(|| word.error(format!("{what} must be a number from 0 to {max}, not `{}`", word.shown())))
}

fn address<T: FromStr>(word: &Word<'_>, what: &str, example: &str) -> Result<T, TextError> {
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

/// A type bitmap: a window, a length and up to 32 octets for each window with a type in it.
fn types(words: &[Word<'_>], wire: &mut Vec<u8>) -> Result<(), TextError> {
    let mut numbers =
        words.iter().map(|word| Ok(word.record_type()?.0)).collect::<Result<Vec<u16>, TextError>>()?;
    numbers.sort_unstable();
    for window in numbers.chunk_by(|a, b| a >> 8 == b >> 8) {
        let mut bits = [0u8; 32];
        let mut len = 0;
        for number in window {
            let low = usize::from(number & 0xff);
            bits[low / 8] |= 0x80 >> (low % 8);
            len = low / 8 + 1;
        }
        wire.extend_from_slice(&[(window[0] >> 8) as u8, len as u8]);
        wire.extend_from_slice(&bits[..len]);
    }
    Ok(())
}
