//! Text encodings of record data: hex, base64 and base32hex (RFC 4648), and calendar time (RFC 4034 §3.2).

use data_encoding::{BASE32_DNSSEC, BASE64, HEXUPPER, HEXUPPER_PERMISSIVE};
use jiff::{Timestamp, civil::DateTime, tz::TimeZone};

pub(super) fn from_hex(text: &[u8]) -> Option<Vec<u8>> {
    HEXUPPER_PERMISSIVE.decode(text).ok()
}

pub(super) fn to_hex(octets: &[u8]) -> String {
    HEXUPPER.encode(octets)
}

/// Decodes base64 with padding. `None` for any text that [`to_base64`] would not write.
pub(super) fn from_base64(text: &[u8]) -> Option<Vec<u8>> {
    // The library accepts a concatenation of padded texts, which the comparison excludes.
    BASE64.decode(text).ok().filter(|octets| to_base64(octets).as_bytes() == text)
}

pub(super) fn to_base64(octets: &[u8]) -> String {
    BASE64.encode(octets)
}

/// Decodes base32hex in either case, without padding, in which hashes of names are written (RFC 5155 §3.3).
pub(super) fn from_base32hex(text: &[u8]) -> Option<Vec<u8>> {
    BASE32_DNSSEC.decode(text).ok()
}

/// Reads `N` groups of hex digits with `separator` between them. A group has one to `digits` digits; `digits` is at most four.
pub(super) fn from_hex_groups<const N: usize>(
    text: &[u8],
    separator: char,
    digits: usize,
) -> Option<[u16; N]> {
    let group = |text: &str| {
        let is_hex = text.len() <= digits && text.bytes().all(|digit| digit.is_ascii_hexdigit());
        u16::from_str_radix(text, 16).ok().filter(|_| is_hex)
    };
    let groups: Vec<u16> =
        std::str::from_utf8(text).ok()?.split(separator).map(group).collect::<Option<_>>()?;
    groups.try_into().ok()
}

pub(super) fn to_base32hex(octets: &[u8]) -> String {
    BASE32_DNSSEC.encode(octets)
}

const CALENDAR: &str = "%Y%m%d%H%M%S";

/// Reads `YYYYMMDDHHmmSS` as seconds since 1970, in 32 bits that wrap around in the year 2106: the field is compared as a
/// serial number (RFC 4034 §3.1.5).
pub(super) fn from_calendar(text: &[u8]) -> Option<u32> {
    if text.len() != 14 || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let moment = DateTime::strptime(CALENDAR, text).ok()?.to_zoned(TimeZone::UTC).ok()?;
    let seconds = u64::try_from(moment.timestamp().as_second()).ok()?;
    // The library reads a leap second as the second before it.
    Some((seconds + u64::from(text.ends_with(b"60"))) as u32)
}

pub(super) fn to_calendar(seconds: u32) -> Option<String> {
    let moment = Timestamp::from_second(seconds.into()).ok()?;
    Some(moment.strftime(CALENDAR).to_string())
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
            ("20161231235960", Some(1_483_228_800)),
            ("20161231235961", None),
            ("19691231235959", None),
            ("21060207062816", Some(0)),
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

    #[test]
    fn base32hex_is_as_in_rfc_4648_without_padding() {
        for (octets, text) in [("", ""), ("f", "co"), ("foob", "cpnmuog"), ("foobar", "cpnmuoj1e8")] {
            assert_eq!(to_base32hex(octets.as_bytes()), text);
            assert_eq!(from_base32hex(text.to_uppercase().as_bytes()).unwrap(), octets.as_bytes());
        }
        for bad in ["c", "cp=", "c8======", "cw"] {
            assert_eq!(from_base32hex(bad.as_bytes()), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn calendar_time_round_trips(seconds in any::<u32>()) {
            prop_assert_eq!(from_calendar(to_calendar(seconds).unwrap().as_bytes()), Some(seconds));
        }

        #[test]
        fn octets_round_trip(octets in proptest::collection::vec(any::<u8>(), 0..40)) {
            prop_assert_eq!(from_base64(to_base64(&octets).as_bytes()), Some(octets.clone()));
            prop_assert_eq!(from_base32hex(to_base32hex(&octets).as_bytes()), Some(octets.clone()));
            prop_assert_eq!(from_hex(to_hex(&octets).as_bytes()), Some(octets));
        }
    }
}
