//! Address prefixes: lists of them (APL, RFC 3123), and addresses whose prefix is another name's (A6, RFC 2874).

use std::net::{Ipv4Addr, Ipv6Addr};

use super::Shown;
use super::octets::Octets;
use super::reader::{address, number};
use crate::zone::Name;
use crate::zone::presentation::{TextError, Word, Words};

const IPV4: u16 = 1;
const IPV6: u16 = 2;
const NEGATION: u8 = 0x80;

/// Reads prefixes as `[!]family:address/length` (RFC 3123 §5); there may be none. The wire form has the negation flag in the
/// octet of the address's length, and omits zeros at the end of the address (§4).
pub(super) fn list(words: &[Word<'_>], wire: &mut Vec<u8>) -> Result<(), TextError> {
    for word in words {
        let item = item(word).ok_or_else(|| {
            word.error(format!(
                "a prefix of the APL record must be as in 1:192.0.2.0/24, 2:2001:db8::/32 or !1:192.0.2.1/32, not `{}`",
                word.shown()
            ))
        })?;
        wire.extend_from_slice(&item);
    }
    Ok(())
}

fn item(word: &Word<'_>) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(word.raw).ok()?;
    let (flag, text) = text.strip_prefix('!').map_or((0, text), |text| (NEGATION, text));
    let (family, text) = text.split_once(':')?;
    let (address, length) = text.split_once('/')?;
    let digits = |text: &str| text.bytes().all(|digit| digit.is_ascii_digit());
    let family: u16 = family.parse().ok().filter(|_| digits(family))?;
    let length: u8 = length.parse().ok().filter(|_| digits(length))?;
    let (octets, length_max) = match family {
        IPV4 => (address.parse::<Ipv4Addr>().ok()?.octets().to_vec(), 32),
        IPV6 => (address.parse::<Ipv6Addr>().ok()?.octets().to_vec(), 128),
        _ => return None,
    };
    let kept = octets.iter().rposition(|octet| *octet != 0).map_or(0, |last| last + 1);
    let head = [&family.to_be_bytes()[..], &[length, flag | kept as u8]].concat();
    (length <= length_max).then(|| [&head, &octets[..kept]].concat())
}

pub(super) fn show_list(octets: &mut Octets<'_>) -> Option<Shown> {
    let mut items = Vec::new();
    let mut is_generic = false;
    while !octets.0.is_empty() {
        let family = octets.u16()?;
        let [length, flag_and_size] = octets.array()?;
        let negation = if flag_and_size & NEGATION == 0 { "" } else { "!" };
        let part = octets.take(usize::from(flag_and_size & !NEGATION))?;
        if part.last() == Some(&0) {
            return None;
        }
        let (address, length_max) = match family {
            IPV4 => (Ipv4Addr::from(padded::<4>(part)?).to_string(), 32),
            IPV6 => (Ipv6Addr::from(padded::<16>(part)?).to_string(), 128),
            _ => {
                is_generic = true;
                continue;
            }
        };
        if length > length_max {
            return None;
        }
        items.push(format!("{negation}{family}:{address}/{length}"));
    }
    Some(if is_generic { Shown::Generic } else { Shown::Text(items.join(" ")) })
}

fn padded<const N: usize>(part: &[u8]) -> Option<[u8; N]> {
    let mut octets = [0; N];
    octets.get_mut(..part.len())?.copy_from_slice(part);
    Some(octets)
}

/// Reads the length of the prefix in bits, the address with the prefix's bits ignored, and the name that has the prefix.
pub(super) fn address_in_parts(
    words: &mut Words<'_, '_>,
    origin: &Name,
    wire: &mut Vec<u8>,
) -> Result<(), TextError> {
    let what = "the prefix length of the A6 record";
    let length = number(words.next_bare(what)?, 128, what)? as u8;
    wire.push(length);
    if length < 128 {
        let what = "the address suffix of the A6 record";
        let mut octets = address::<Ipv6Addr>(words.next_bare(what)?, what, "::1")?.octets();
        let first = usize::from(length / 8);
        octets[first] &= mask(length);
        wire.extend_from_slice(&octets[first..]);
    }
    if length > 0 {
        let what = "the prefix name of the A6 record";
        wire.extend_from_slice(words.next_bare(what)?.name(origin, what)?.as_wire());
    }
    Ok(())
}

/// Shows an address in parts. `None` unless the bits of the prefix are zero.
pub(super) fn show_address_in_parts(octets: &mut Octets<'_>) -> Option<String> {
    let [length] = octets.array()?;
    let mut pieces = vec![length.to_string()];
    if length < 128 {
        let mut address = [0; 16];
        let first = usize::from(length / 8);
        address[first..].copy_from_slice(octets.take(16 - first)?);
        if address[first] & !mask(length) != 0 {
            return None;
        }
        pieces.push(Ipv6Addr::from(address).to_string());
    }
    if length > 0 {
        pieces.push(octets.name()?.to_string());
    }
    (length <= 128).then(|| pieces.join(" "))
}

fn mask(length: u8) -> u8 {
    0xff >> (length % 8)
}
