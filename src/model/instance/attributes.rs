//! Attributes in packed form, and the numbers that the most frequent keys have in it.

use std::collections::BTreeMap;

use super::{
    AVAILABILITY_ZONE, AWS_ALIAS_DNS_NAME, AWS_EC2_INSTANCE_ID, AWS_INIT_HEALTH_STATUS, AWS_INSTANCE_CNAME,
    AWS_INSTANCE_IPV4, AWS_INSTANCE_IPV6, AWS_INSTANCE_PORT,
};

/// Keys that are packed as a number: those of Cloud Map, and those that ECS gives to its instances. A number is part of the
/// stored form, so it never changes, and is never given to another key.
const KEY_NUMBERS: [(&str, u8); 12] = [
    (AWS_INSTANCE_IPV4, 0),
    (AWS_INSTANCE_IPV6, 1),
    (AWS_INSTANCE_PORT, 2),
    (AWS_INSTANCE_CNAME, 3),
    (AWS_ALIAS_DNS_NAME, 4),
    (AWS_EC2_INSTANCE_ID, 5),
    (AWS_INIT_HEALTH_STATUS, 6),
    (AVAILABILITY_ZONE, 7),
    ("REGION", 8),
    ("ECS_SERVICE_NAME", 9),
    ("ECS_CLUSTER_NAME", 10),
    ("ECS_TASK_DEFINITION_FAMILY", 11),
];
/// The beginning of what follows the attributes of an instance. No key has this number.
pub(super) const DETAILS_KEY: [u8; 2] = [0, 255];

/// Attributes of an instance in packed form, in order of their keys.
///
/// Each pair is the key's length (one byte) and the key, or 0 and the key's number in `KEY_NUMBERS`; then the value's length
/// (two bytes, big endian) and the value.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Attributes(pub(super) Box<[u8]>);

impl Attributes {
    /// Packs a map. `None` when a key is empty or longer than 255 bytes, or a value longer than 65,535.
    pub fn new(map: &BTreeMap<String, String>) -> Option<Attributes> {
        let mut packed = Vec::with_capacity(map.iter().map(|(key, value)| key.len() + value.len() + 3).sum());
        for (key, value) in map {
            match KEY_NUMBERS.iter().find(|(known, _)| known == key) {
                Some((_, number)) => packed.extend_from_slice(&[0, *number]),
                None => {
                    packed.push(u8::try_from(key.len()).ok().filter(|len| *len > 0)?);
                    packed.extend_from_slice(key.as_bytes());
                }
            }
            packed.extend_from_slice(&u16::try_from(value.len()).ok()?.to_be_bytes());
            packed.extend_from_slice(value.as_bytes());
        }
        Some(Attributes(packed.into()))
    }

    /// All pairs, in order of their keys.
    pub fn pairs(&self) -> AttributePairs<'_> {
        AttributePairs(&self.0)
    }

    /// The value of the attribute `key`.
    pub fn get(&self, key: &str) -> Option<&str> {
        find(&self.0, key)
    }

    /// Checks that attributes can be read, and returns the bytes behind them: the details of an instance.
    pub(super) fn check(mut packed: &[u8]) -> Option<&[u8]> {
        while !packed.is_empty() && !packed.starts_with(&DETAILS_KEY) {
            let (key, value, rest) = split_pair(packed)?;
            std::str::from_utf8(key.bytes()?).ok()?;
            std::str::from_utf8(value).ok()?;
            packed = rest;
        }
        Some(packed)
    }
}

/// Iterator over an instance's attributes, in order of their keys.
#[derive(Clone, Debug)]
pub struct AttributePairs<'a>(pub(super) &'a [u8]);

impl<'a> Iterator for AttributePairs<'a> {
    type Item = (&'a str, &'a str);

    fn next(&mut self) -> Option<(&'a str, &'a str)> {
        let (key, value, rest) = split_pair(self.0)?;
        self.0 = rest;
        Some((text(key.bytes()?), text(value)))
    }
}

/// Key of an attribute in packed form.
#[derive(Clone, Copy)]
pub(super) enum PackedKey<'a> {
    Number(u8),
    Text(&'a [u8]),
}

impl<'a> PackedKey<'a> {
    /// The key itself; `None` for a number that has none.
    fn bytes(self) -> Option<&'a [u8]> {
        match self {
            PackedKey::Number(number) => {
                KEY_NUMBERS.iter().find(|(_, known)| *known == number).map(|(key, _)| key.as_bytes())
            }
            PackedKey::Text(key) => Some(key),
        }
    }
}

/// Splits the first attribute off: its key, its value, and the rest. `None` at the end of the attributes.
pub(super) fn split_pair(packed: &[u8]) -> Option<(PackedKey<'_>, &[u8], &[u8])> {
    let (key, rest) = match packed {
        [0, number, ..] if [0, *number] == DETAILS_KEY => return None,
        [0, number, rest @ ..] => (PackedKey::Number(*number), rest),
        [len, rest @ ..] => {
            let (key, rest) = rest.split_at_checked(*len as usize)?;
            (PackedKey::Text(key), rest)
        }
        [] => return None,
    };
    let (value_len, rest) = rest.split_first_chunk::<2>()?;
    let (value, rest) = rest.split_at_checked(u16::from_be_bytes(*value_len) as usize)?;
    Some((key, value, rest))
}

/// Finds the value of a key. The other attributes are skipped without a look at their texts.
pub(super) fn find<'a>(mut packed: &'a [u8], wanted: &str) -> Option<&'a str> {
    let wanted_number = KEY_NUMBERS.iter().find(|(key, _)| *key == wanted).map(|(_, number)| *number);
    while let Some((key, value, rest)) = split_pair(packed) {
        let is_wanted = match key {
            PackedKey::Number(number) => Some(number) == wanted_number,
            PackedKey::Text(key) => key == wanted.as_bytes(),
        };
        if is_wanted {
            return Some(text(value));
        }
        packed = rest;
    }
    None
}

/// Packed bytes are always UTF-8: they come from a `&str`, or [`Attributes::check`] checked them.
pub(super) fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::OWN_KEYS;
    use super::*;

    #[test]
    fn stored_key_numbers_keep_their_meaning() {
        // A row of version 0.1.0: 0, the key's number, the value's length and the value.
        let stored = b"\0\x07\0\x01z\0\x06\0\x07HEALTHY\0\x02\0\x0280";
        let pairs: Vec<_> = AttributePairs(stored).collect();
        let expected =
            [("AVAILABILITY_ZONE", "z"), (AWS_INIT_HEALTH_STATUS, "HEALTHY"), (AWS_INSTANCE_PORT, "80")];
        assert_eq!(pairs, expected);
        let numbers: std::collections::BTreeSet<u8> = KEY_NUMBERS.iter().map(|(_, number)| *number).collect();
        assert_eq!(numbers.len(), KEY_NUMBERS.len());
        assert!(OWN_KEYS.iter().all(|own| KEY_NUMBERS.iter().any(|(key, _)| key == own)));
    }
}
