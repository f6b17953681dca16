//! Bitmaps of record types (RFC 4034 §4.1.2, RFC 2535 §5.2) and of ports (RFC 1035 §3.4.2).

use super::mnemonics::{SERVICES, code};
use super::octets::Octets;
use super::reader::number;
use crate::zone::RecordType;
use crate::zone::presentation::{TextError, Word};

const PORTS_OCTETS_MAX: usize = 65_536 / 8;
const LOW_TYPES_OCTETS_MAX: usize = 128 / 8;

/// Reads types into windows of 256 types (RFC 4034 §4.1.2): each is its number, a length, and a bitmap of up to 32 octets.
pub(super) fn types(words: &[Word<'_>], wire: &mut Vec<u8>) -> Result<(), TextError> {
    let mut numbers =
        words.iter().map(|word| Ok(word.record_type()?.0)).collect::<Result<Vec<u16>, TextError>>()?;
    numbers.sort_unstable();
    for window in numbers.chunk_by(|a, b| a >> 8 == b >> 8) {
        let bits = bitmap(window.iter().map(|number| number & 0xff));
        wire.extend_from_slice(&[(window[0] >> 8) as u8, bits.len() as u8]);
        wire.extend_from_slice(&bits);
    }
    Ok(())
}

/// Shows types. `None` unless the windows are in ascending order and end in an octet that is not zero (RFC 4034 §4.1.2).
pub(super) fn show_types(octets: &mut Octets<'_>) -> Option<String> {
    let mut types = Vec::new();
    let mut last = None;
    while !octets.0.is_empty() {
        let [window] = octets.array()?;
        let bits = octets.string()?;
        if last.is_some_and(|last| last >= window) || bits.len() > 32 || *bits.last()? == 0 {
            return None;
        }
        last = Some(window);
        types.extend(numbers(bits).map(|low| RecordType(u16::from(window) << 8 | low).to_string()));
    }
    Some(types.join(" "))
}

pub(super) fn low_types(words: &[Word<'_>], what: &str, wire: &mut Vec<u8>) -> Result<(), TextError> {
    let numbers = words.iter().map(|word| {
        let rtype = type_or_number(word, what)?;
        Some(rtype.0).filter(|number| (1..=127).contains(number)).ok_or_else(|| {
            word.error(format!("{what} must be from 1 to 127, not `{}` ({})", word.shown(), rtype.0))
        })
    });
    wire.extend_from_slice(&bitmap(numbers.collect::<Result<Vec<u16>, TextError>>()?.into_iter()));
    Ok(())
}

/// Shows the types of one bitmap. `None` if the bit of type 0 is set, which announces another format (RFC 2535 §5.2).
pub(super) fn show_low_types(octets: &mut Octets<'_>) -> Option<String> {
    let bits = octets.rest();
    if bits.len() > LOW_TYPES_OCTETS_MAX
        || bits.last() == Some(&0)
        || bits.first().is_some_and(|bits| bits & 0x80 != 0)
    {
        return None;
    }
    Some(numbers(bits).map(|number| RecordType(number).to_string()).collect::<Vec<_>>().join(" "))
}

pub(super) fn ports(words: &[Word<'_>], what: &str, wire: &mut Vec<u8>) -> Result<(), TextError> {
    let ports = words.iter().map(|word| code(word, SERVICES, u16::MAX, what));
    wire.extend_from_slice(&bitmap(ports.collect::<Result<Vec<u16>, TextError>>()?.into_iter()));
    Ok(())
}

pub(super) fn show_ports(octets: &mut Octets<'_>) -> Option<String> {
    let bits = octets.rest();
    if bits.len() > PORTS_OCTETS_MAX || bits.last() == Some(&0) {
        return None;
    }
    Some(numbers(bits).map(|port| port.to_string()).collect::<Vec<_>>().join(" "))
}

pub(super) fn type_or_number(word: &Word<'_>, what: &str) -> Result<RecordType, TextError> {
    word.record_type().or_else(|error| match number(word, u16::MAX.into(), what) {
        Ok(number) => Ok(RecordType(number as u16)),
        Err(_) => Err(error),
    })
}

/// Makes a bitmap in which the highest bit of the first octet is for number 0, and the last octet is not zero.
fn bitmap(numbers: impl Iterator<Item = u16>) -> Vec<u8> {
    let mut bits = Vec::new();
    for number in numbers {
        let at = usize::from(number / 8);
        if bits.len() <= at {
            bits.resize(at + 1, 0);
        }
        bits[at] |= 0x80 >> (number % 8);
    }
    bits
}

fn numbers(bits: &[u8]) -> impl Iterator<Item = u16> {
    (0u16..).zip(bits).flat_map(|(at, octet)| {
        (0..8u16).filter(move |bit| octet & (0x80 >> bit) != 0).map(move |bit| at * 8 + bit)
    })
}
