//! Octets as text: hex (RFC 4648 §8) and base64 (RFC 4648 §4), and calendar time.

use std::fmt::Write as _;

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// The octets of hex digits in either case; `None` for other text or an odd number of digits.
pub(super) fn from_hex(text: &[u8]) -> Option<Vec<u8>> {
    let digit = |octet: u8| (octet as char).to_digit(16).map(|digit| digit as u8);
    let (pairs, odd) = text.as_chunks::<2>();
    if !odd.is_empty() {
        return None;
    }
    pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect()
}

/// Upper-case hex digits.
pub(super) fn to_hex(octets: &[u8]) -> String {
    octets.iter().fold(String::with_capacity(octets.len() * 2), |mut text, octet| {
        // Writing to a String cannot fail.
        write!(text, "{octet:02X}").unwrap_or_default();
        text
    })
}

/// The octets of base64 text with its padding; `None` for anything that [`to_base64`] would not write.
pub(super) fn from_base64(text: &[u8]) -> Option<Vec<u8>> {
    let (groups, odd) = text.as_chunks::<4>();
    if !odd.is_empty() {
        return None;
    }
    let mut octets = Vec::with_capacity(groups.len() * 3);
    for (at, group) in groups.iter().enumerate() {
        let padding = group.iter().rev().take_while(|octet| **octet == b'=').count();
        if padding > 2 || (padding > 0 && at + 1 < groups.len()) {
            return None;
        }
        let mut bits = 0u32;
        for octet in &group[..4 - padding] {
            bits = bits << 6 | u32::from(base64_digit(*octet)?);
        }
        bits <<= 6 * padding;
        let [_, group @ ..] = bits.to_be_bytes();
        let (kept, cut) = group.split_at(3 - padding);
        if cut.iter().any(|octet| *octet != 0) {
            return None;
        }
        octets.extend_from_slice(kept);
    }
    Some(octets)
}

fn base64_digit(octet: u8) -> Option<u8> {
    match octet {
        b'A'..=b'Z' => Some(octet - b'A'),
        b'a'..=b'z' => Some(octet - b'a' + 26),
        b'0'..=b'9' => Some(octet - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    }
}

/// Base64 with padding.
pub(super) fn to_base64(octets: &[u8]) -> String {
    let mut text = String::with_capacity(octets.len().div_ceil(3) * 4);
    for group in octets.chunks(3) {
        let mut padded = [0; 4];
        padded[1..=group.len()].copy_from_slice(group);
        let bits = u32::from_be_bytes(padded);
        for at in 0..4 {
            let digit = BASE64[(bits >> (18 - 6 * at)) as usize & 63] as char;
            text.push(if at > group.len() { '=' } else { digit });
        }
    }
    text
}

/// Seconds since 1970, in 32 bits that wrap (RFC 4034 §3.1.5), of `YYYYMMDDHHmmSS`.
pub(super) fn from_calendar(text: &[u8]) -> Option<u32> {
    if text.len() != 14 || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = |from: usize, to: usize| {
        text[from..to].iter().fold(0u64, |n, digit| n * 10 + u64::from(digit - b'0'))
    };
    let (year, month, day) = (number(0, 4), number(4, 6), number(6, 8));
    let (hour, minute, second) = (number(8, 10), number(10, 12), number(12, 14));
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days_in = [31, if leap { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let month_at = usize::try_from(month).ok()?.checked_sub(1)?;
    if year < 1970 || !(1..=*days_in.get(month_at)?).contains(&day) || hour > 23 || minute > 59 || second > 60
    {
        return None;
    }
    let leap_days = |years: u64| years / 4 - years / 100 + years / 400;
    let days = (year - 1970) * 365 + leap_days(year - 1) - leap_days(1969)
        + days_in[..month_at].iter().sum::<u64>()
        + day
        - 1;
    // The field is a serial number: it wraps in the year 2106.
    Some((days * 86_400 + hour * 3_600 + minute * 60 + second) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn calendar_time_is_seconds_since_1970() {
        for (text, seconds) in [
            ("19700101000000", Some(0)),
            ("20000229120000", Some(951_825_600)),
            ("20030322173103", Some(1_048_354_263)),
            ("20230229000000", None),
            ("20231301000000", None),
            ("20230001000000", None),
            ("2023", None),
        ] {
            assert_eq!(from_calendar(text.as_bytes()), seconds, "{text}");
        }
    }

    #[test]
    fn base64_is_as_in_rfc_4648() {
        for (octets, text) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")]
        {
            assert_eq!(to_base64(octets.as_bytes()), text);
            assert_eq!(from_base64(text.as_bytes()).unwrap(), octets.as_bytes());
        }
        for bad in ["Z", "Zg", "Zh==", "Z===", "====", "Zg==Zg==", "Zm9-"] {
            assert_eq!(from_base64(bad.as_bytes()), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn octets_round_trip(octets in proptest::collection::vec(any::<u8>(), 0..40)) {
            prop_assert_eq!(from_base64(to_base64(&octets).as_bytes()), Some(octets.clone()));
            prop_assert_eq!(from_hex(to_hex(&octets).as_bytes()), Some(octets));
        }
    }
}
