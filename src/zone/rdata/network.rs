//! Addresses other than IP: X.121, NSAP, ATM, EUI-48, EUI-64, and the locators of ILNP.

use std::fmt::Write as _;

use super::octets::Octets;
use super::{Shown, encoding};
use crate::zone::presentation::{STRING_OCTETS_MAX, TextError, Word, quote};

const X121_DIGITS_MIN: usize = 4;
/// Formats of addresses in ATMA records (ATM Forum, "ATM Name System", §5.1): AESA in hex, and E.164 in digits.
const AESA: u8 = 0;
const E164: u8 = 1;

/// Reads an X.121 address of at least four digits into a character string (X25 records, RFC 1183 §3.1).
pub(super) fn x121(word: &Word<'_>, what: &str, wire: &mut Vec<u8>) -> Result<(), TextError> {
    if !is_x121(word.raw) {
        return Err(word.error(format!(
            "{what} must be {X121_DIGITS_MIN} to {STRING_OCTETS_MAX} digits, not `{}`",
            word.shown()
        )));
    }
    wire.push(word.raw.len() as u8);
    wire.extend_from_slice(word.raw);
    Ok(())
}

pub(super) fn show_x121(octets: &mut Octets<'_>) -> Option<String> {
    octets.string().filter(|digits| is_x121(digits)).map(quote)
}

fn is_x121(text: &[u8]) -> bool {
    (X121_DIGITS_MIN..=STRING_OCTETS_MAX).contains(&text.len()) && text.iter().all(u8::is_ascii_digit)
}

/// Reads `0x` and hex digits, with dots anywhere between them (NSAP records, RFC 1706 §6).
pub(super) fn nsap(word: &Word<'_>, what: &str, wire: &mut Vec<u8>) -> Result<(), TextError> {
    let digits = word.raw.strip_prefix(b"0x").or_else(|| word.raw.strip_prefix(b"0X"));
    let octets = digits.and_then(|digits| {
        let digits: Vec<u8> = digits.iter().copied().filter(|octet| *octet != b'.').collect();
        encoding::from_hex(&digits).filter(|octets| !octets.is_empty())
    });
    wire.extend_from_slice(&octets.ok_or_else(|| {
        word.error(format!(
            "{what} must be 0x and an even number of hex digits, as in 0x47.0005.80, not `{}`",
            word.shown()
        ))
    })?);
    Ok(())
}

pub(super) fn show_nsap(octets: &mut Octets<'_>) -> Option<String> {
    let address = octets.rest();
    (!address.is_empty()).then(|| format!("0x{}", encoding::to_hex(address)))
}

/// Reads hex digits, or `+` and decimal digits, with single dots between them (ATMA records). Other formats have no text form.
pub(super) fn atm(word: &Word<'_>, what: &str, wire: &mut Vec<u8>) -> Result<(), TextError> {
    let digits = |text: &[u8]| {
        let groups: Vec<&[u8]> = text.split(|octet| *octet == b'.').collect();
        groups.iter().all(|group| !group.is_empty()).then(|| groups.concat())
    };
    let (format, address) = match word.raw {
        [b'+', text @ ..] => (E164, digits(text).filter(|digits| digits.iter().all(u8::is_ascii_digit))),
        text => (AESA, digits(text).and_then(|digits| encoding::from_hex(&digits))),
    };
    let address = address.ok_or_else(|| {
        word.error(format!(
            "{what} must be an even number of hex digits, or + and decimal digits, single dots between them, not `{}`",
            word.shown()
        ))
    })?;
    wire.push(format);
    wire.extend_from_slice(&address);
    Ok(())
}

pub(super) fn show_atm(octets: &mut Octets<'_>) -> Option<Shown> {
    let [format] = octets.array()?;
    let address = Some(octets.rest()).filter(|address| !address.is_empty())?;
    Some(match format {
        AESA => Shown::Text(encoding::to_hex(address)),
        E164 if !address.iter().all(u8::is_ascii_digit) => return None,
        E164 => Shown::Text(format!("+{}", String::from_utf8_lossy(address))),
        _ => Shown::Generic,
    })
}

/// Reads `N` octets in hex with `-` between them (EUI48 and EUI64 records, RFC 7043 §3.2 and §4.2). As in BIND 9.18, the
/// leading zero of an octet may be left out.
pub(super) fn eui<const N: usize>(word: &Word<'_>, what: &str, wire: &mut Vec<u8>) -> Result<(), TextError> {
    let octets = encoding::from_hex_groups::<N>(word.raw, '-', 2).ok_or_else(|| {
        let example = ["00-00-5e-00-53-2a", "00-00-5e-ef-10-00-00-2a"][usize::from(N == 8)];
        word.error(format!("{what} must be {N} octets in hex, as in {example}, not `{}`", word.shown()))
    })?;
    wire.extend(octets.map(|octet| octet as u8));
    Ok(())
}

pub(super) fn show_eui<const N: usize>(octets: &mut Octets<'_>) -> Option<String> {
    let address: [u8; N] = octets.array()?;
    let mut text = String::with_capacity(3 * N);
    for (at, octet) in address.iter().enumerate() {
        // Writing to a String cannot fail.
        write!(text, "{}{octet:02x}", if at > 0 { "-" } else { "" }).unwrap_or_default();
    }
    Some(text)
}

/// Reads four groups of up to four hex digits with colons between them (NID and L64 records, RFC 6742 §2.1.2 and §2.3.2).
pub(super) fn locator(word: &Word<'_>, what: &str, wire: &mut Vec<u8>) -> Result<(), TextError> {
    let groups = encoding::from_hex_groups::<4>(word.raw, ':', 4).ok_or_else(|| {
        word.error(format!(
            "{what} must be four groups of up to four hex digits, as in 14:4fff:ff20:ee64, not `{}`",
            word.shown()
        ))
    })?;
    wire.extend(groups.into_iter().flat_map(u16::to_be_bytes));
    Ok(())
}

pub(super) fn show_locator(octets: &mut Octets<'_>) -> Option<String> {
    let groups = [octets.u16()?, octets.u16()?, octets.u16()?, octets.u16()?];
    Some(groups.map(|group| format!("{group:x}")).join(":"))
}
